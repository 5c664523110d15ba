"""When the platform asks by itself: its schedules, all on by default.

Here: the times, what each tick asks for, and when the next one is.
Not here: which cells those are (newest.py), what the runs do (equities, prediction_markets), gaps (healing).

A schedule has a target, never a named job: a backfill from a named job's page does only the first key (dagster #28861).
A tick is judged by the time it was due, not by the clock, so that one that comes late asks for what it should have.

No `from __future__ import annotations` here: Dagster reads the annotations of a schedule's parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import dagster as dg

from copilot_quant_pipeline.calendar import NEW_YORK
from copilot_quant_pipeline.equities.verification import part_of_week
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL, keys_on_axis
from copilot_quant_pipeline.grid.cells import Cell, Rectangle
from copilot_quant_pipeline.grid.runs import range_tags
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.newest import (
    Nothing,
    newest_sessions,
    plan_days,
    plan_sessions,
    utc_day,
    why_no_session,
)
from copilot_quant_pipeline.warehouse.coverage import read_newest_asked
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

BARS, MEMBERS = dg.AssetKey("equity_bars"), dg.AssetKey("sp500_members")
PRICES, CATALOG = dg.AssetKey("prediction_market_prices"), dg.AssetKey("prediction_markets")
VERIFIED, HISTORY = dg.AssetKey("history_verified"), dg.AssetKey("dagster_history")
REPORTED = tuple(map(dg.AssetKey, ("coverage_report", "adjusted_bars", "prediction_market_daily")))

# Dagster gives the evaluation of a tick a minute.
PATIENCE = 30.0

Requests = Sequence[dg.RunRequest] | dg.SkipReason


@dataclass(frozen=True)
class Timing:
    """When a schedule runs, for Dagster and in words."""

    name: str
    cron: str
    timezone: str
    words: str

    def next_after(self, now: datetime) -> datetime:
        """The first tick after `now`, aware, in the schedule's time zone."""
        from dagster._utils.schedules import schedule_execution_time_iterator

        ticks = schedule_execution_time_iterator(now.timestamp(), self.cron, self.timezone)
        return next(tick for tick in ticks if tick > now)


EQUITIES_AFTER_CLOSE = Timing(
    "equities_after_close", "0 6 * * 2-6", "America/New_York", "06:00 New York, Tuesday to Saturday"
)
MARKETS_REFRESH = Timing("prediction_markets_refresh", "0 */6 * * *", "UTC", "00:00, 06:00, 12:00 and 18:00 UTC")
UNIVERSE_WEEKLY = Timing("universe_weekly", "0 5 * * 2", "America/New_York", "05:00 New York on Tuesdays")
VERIFY_HISTORY = Timing("verify_history", "0 22 * * 0", "America/New_York", "22:00 New York on Sundays")
# After the session's bars, before the exchange opens.
REPORT_DAILY = Timing("report_daily", "30 7 * * *", "America/New_York", "07:30 New York every day")
CHECKS_HOURLY = Timing("checks_hourly", "30 * * * *", "UTC", "half past every hour")
# Nothing else is planned then, and the exchange is closed.
LEDGER_PRUNED_WEEKLY = Timing("ledger_pruned_weekly", "0 4 * * 0", "America/New_York", "04:00 New York on Sundays")
TIMINGS = (
    EQUITIES_AFTER_CLOSE,
    MARKETS_REFRESH,
    UNIVERSE_WEEKLY,
    VERIFY_HISTORY,
    REPORT_DAILY,
    CHECKS_HOURLY,
    LEDGER_PRUNED_WEEKLY,
)


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """All schedules, on from the start."""
    return [
        _equities_after_close(settings),
        _prediction_markets_refresh(settings),
        _plain(UNIVERSE_WEEKLY, dg.AssetSelection.assets(MEMBERS), "Reads the list of the S&P 500's members anew."),
        _verify_history(),
        _plain(LEDGER_PRUNED_WEEKLY, dg.AssetSelection.assets(HISTORY), "Deletes what nothing on the grid stands on."),
        _plain(
            REPORT_DAILY,
            dg.AssetSelection.assets(*REPORTED),
            "Has Dagit show what is stored: the report and the views.",
        ),
        _plain(CHECKS_HOURLY, dg.AssetSelection.all_asset_checks(), "Runs all asset checks, and nothing else."),
    ]


def next_runs(now: datetime) -> list[tuple[Timing, datetime]]:
    """When each schedule runs next after `now` (aware), soonest first; while the daemon is up and it is switched on."""
    return sorted(((timing, timing.next_after(now)) for timing in TIMINGS), key=lambda planned: planned[1])


def request(asset: dg.AssetKey, key: str, rectangle: Rectangle | None = None) -> dg.RunRequest:
    """A run of `asset`, over `rectangle` where it has partitions; a second one of the same `key` is not made."""
    tags = range_tags(rectangle) if rectangle else {}
    return dg.RunRequest(run_key=f"{asset.to_user_string()} {key}", tags=tags, asset_selection=[asset])


def brief_warehouse(settings: Settings) -> Warehouse:
    """The warehouse for a tick, which must not wait long."""
    return Warehouse(settings.warehouse_path, min(settings.lock_timeout, PATIENCE))


def _equities_after_close(settings: Settings) -> dg.ScheduleDefinition:
    def requests(context: dg.ScheduleEvaluationContext) -> Requests:
        tick = context.scheduled_execution_time
        sessions = newest_sessions(tick, settings)
        symbols = keys_on_axis(context.instance, SYMBOL)
        planned = plan_sessions(sessions, symbols, _outcomes(context, settings, sessions, symbols))
        if isinstance(planned, Nothing):
            return dg.SkipReason(why_no_session(tick) + planned.why)
        return [request(BARS, tick.isoformat(), planned)]

    told = "The last completed session of every symbol, in one run, if somebody's cell of it is blank."
    return _schedule(EQUITIES_AFTER_CLOSE, dg.AssetSelection.assets(BARS), told, requests)


def _prediction_markets_refresh(settings: Settings) -> dg.ScheduleDefinition:
    def requests(context: dg.ScheduleEvaluationContext) -> Requests:
        tick = context.scheduled_execution_time
        markets = keys_on_axis(context.instance, MARKET)
        newest = _newest_asked(context, settings)
        planned = plan_days(utc_day(tick), settings.markets_start, newest, markets)
        # Two runs: a venue that is down fails the catalog's, which must not keep the others' prices from coming.
        prices = [] if isinstance(planned, Nothing) else [request(PRICES, tick.isoformat(), planned)]
        return [request(CATALOG, tick.isoformat()), *prices]

    told = "Lists the venues anew, then reads yesterday and today of every market on the axis."
    return _schedule(MARKETS_REFRESH, dg.AssetSelection.assets(CATALOG, PRICES), told, requests)


def _verify_history() -> dg.ScheduleDefinition:
    def requests(context: dg.ScheduleEvaluationContext) -> Requests:
        tick = context.scheduled_execution_time
        # By the clock, a tick that comes late would read the next week's part; its own would wait 32 weeks.
        config = {"part": part_of_week(tick.astimezone(NEW_YORK).date())}
        in_run = {"ops": {VERIFIED.to_user_string(): {"config": config}}}
        return [dg.RunRequest(run_key=tick.astimezone(UTC).isoformat(), run_config=in_run)]

    told = "Reads a sixteenth of all histories and compares."
    return _schedule(VERIFY_HISTORY, dg.AssetSelection.assets(VERIFIED), told, requests)


def _outcomes(
    context: dg.ScheduleEvaluationContext, settings: Settings, sessions: Sequence[date], symbols: Sequence[str]
) -> dict[Cell, str]:
    """What became of the cells that were asked for; none where the warehouse cannot tell now.

    Asking for cells that are settled costs a run that finds kept answers; not asking would cost a day.
    """
    if not (sessions and symbols):
        return {}
    try:
        coverage = brief_warehouse(settings).coverage("equities", symbols, sessions[0], sessions[-1])
    except UserError as error:
        context.log.warning(f"asking without having looked what is settled: {error}")
        return {}
    columns = (coverage.column(name).to_pylist() for name in ("date", "key", "outcome"))
    return {Cell(day, key): outcome for day, key, outcome in zip(*columns, strict=True)}


def _newest_asked(context: dg.ScheduleEvaluationContext, settings: Settings) -> date | None:
    try:
        return read_newest_asked(brief_warehouse(settings), "markets")
    except UserError as error:
        context.log.warning(f"asking without having looked what is settled: {error}")
        return None


def _plain(timing: Timing, target: dg.AssetSelection, told: str) -> dg.ScheduleDefinition:
    """A schedule every tick of which is one run of its whole target."""

    def requests(context: dg.ScheduleEvaluationContext) -> Requests:
        return [dg.RunRequest(run_key=context.scheduled_execution_time.astimezone(UTC).isoformat())]

    return _schedule(timing, target, told, requests)


def _schedule(
    timing: Timing,
    target: dg.AssetSelection,
    told: str,
    requests: Callable[[dg.ScheduleEvaluationContext], Requests],
) -> dg.ScheduleDefinition:
    scheduled = dg.schedule(
        name=timing.name,
        cron_schedule=timing.cron,
        execution_timezone=timing.timezone,
        description=f"{told} At {timing.words}.",
        target=target,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return scheduled(requests)
