"""Claims about the schedules, made by Dagster's own scheduler loop at instants that a test names."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import TickStatus
from filelock import FileLock

from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.equities.verification import part_of_week
from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL
from copilot_quant_pipeline.upkeep.schedules import TIMINGS
from copilot_quant_pipeline_tests.upkeep.conftest import CHART, DAEMON_WARNINGS, Platform, assets, box

pytestmark = DAEMON_WARNINGS
EQUITIES, MARKETS = "equities_after_close", "prediction_markets_refresh"


def new_york(month: int, day: int, hour: int = 6, minute: int = 0) -> datetime:
    """An instant of 2024."""
    return datetime(2024, month, day, hour, minute, tzinfo=ZoneInfo("America/New_York")).astimezone(UTC)


def why_skipped(platform: Platform, now: datetime) -> str:
    newest = platform.ticks(now, EQUITIES)[0]
    assert newest.status == TickStatus.SKIPPED
    return newest.skip_reason or ""


def test_over_a_weekend_each_session_is_asked_for_once_by_one_run_over_all_symbols(platform: Platform) -> None:
    platform.follow("AAPL", "MSFT", "NVDA")
    platform.start(new_york(3, 16, 1), EQUITIES)
    (saturday,) = platform.tick(new_york(3, 16))
    assert box(saturday) == ("2024-03-15|AAPL", "2024-03-15|NVDA")
    assert saturday.status == dg.DagsterRunStatus.SUCCESS
    assert set(platform.outcomes().values()) == {"settled"}
    assert platform.tick(new_york(3, 18, 23)) == []  # no tick on Sunday and Monday
    (tuesday,) = platform.tick(new_york(3, 19))
    assert box(tuesday) == ("2024-03-18|AAPL", "2024-03-18|NVDA")
    assert platform.venues.requests()[CHART] == 6


def test_after_a_monday_holiday_nothing_is_asked_and_the_tick_says_why(platform: Platform) -> None:
    platform.follow("AAPL")
    platform.start(new_york(1, 13, 1), EQUITIES)
    assert len(platform.tick(new_york(1, 13))) == 1
    assert platform.tick(new_york(1, 16)) == []
    assert why_skipped(platform, new_york(1, 16)) == (
        "The exchange was closed on Monday 2024-01-15. Every cell of Friday 2024-01-12 is settled."
    )
    (wednesday,) = platform.tick(new_york(1, 17))
    assert box(wednesday) == ("2024-01-16|AAPL", "2024-01-16|AAPL")


def test_a_half_day_is_a_session_like_any_other_and_the_holiday_after_it_none(platform: Platform) -> None:
    platform.follow("AAPL")
    platform.start(new_york(7, 4, 1), EQUITIES)
    (half_day,) = platform.tick(new_york(7, 4))
    assert box(half_day)[0] == "2024-07-03|AAPL"
    assert platform.tick(new_york(7, 5)) == []
    assert "closed on Thursday 2024-07-04" in why_skipped(platform, new_york(7, 5))


@pytest.mark.parametrize(("month", "saturday", "hours_of_utc"), [(3, 9, (11, 10)), (11, 2, (10, 11))])
def test_it_stays_six_in_new_york_when_the_clocks_change(
    platform: Platform, month: int, saturday: int, hours_of_utc: tuple[int, int]
) -> None:
    platform.follow("AAPL")
    platform.start(new_york(month, saturday, 1), EQUITIES)
    for days, hour in zip((0, 3), hours_of_utc, strict=True):
        due = datetime(2024, month, saturday, hour, tzinfo=UTC) + timedelta(days=days)
        assert platform.tick(due - timedelta(minutes=1)) == []
        assert len(platform.tick(due)) == 1
    assert platform.tick(due + timedelta(minutes=1)) == []


def test_a_machine_that_was_off_for_four_days_catches_up_once(platform: Platform) -> None:
    platform.follow("AAPL", "MSFT")
    platform.start(new_york(3, 19, 1), EQUITIES)
    platform.tick(new_york(3, 19))
    platform.venues.reset_requests()
    (caught_up,) = platform.tick(new_york(3, 23, 9))
    assert box(caught_up) == ("2024-03-19|AAPL", "2024-03-22|MSFT")
    assert len(platform.outcomes()) == 10
    assert platform.venues.requests()[CHART] == 2
    assert platform.tick(new_york(3, 23, 10)) == []


def test_red_cells_are_left_to_healing(platform: Platform) -> None:
    platform.follow("AAPL", "ZZZZ")
    platform.start(new_york(3, 29, 1), EQUITIES)
    platform.tick(new_york(3, 29))
    assert platform.outcomes()[date(2024, 3, 28), "ZZZZ"] == "unknown_symbol"
    assert platform.tick(new_york(3, 30)) == []
    assert why_skipped(platform, new_york(3, 30)) == (
        "The exchange was closed on Friday 2024-03-29. "
        "Every cell of Thursday 2024-03-28 was asked for; the 1 that failed are left to healing."
    )


def test_an_empty_axis_is_skipped_and_the_tick_says_why(platform: Platform) -> None:
    platform.start(new_york(3, 14, 1), EQUITIES)
    assert platform.tick(new_york(3, 14)) == []
    assert "No symbol is on the axis yet" in why_skipped(platform, new_york(3, 14))


def test_a_tick_that_is_repeated_and_a_second_daemon_make_no_second_run(platform: Platform) -> None:
    platform.follow("AAPL")
    platform.start(new_york(3, 14, 1), EQUITIES)
    (run,) = platform.tick(new_york(3, 14), waiting=True)
    assert platform.tick(new_york(3, 14), waiting=True) == []
    (interrupted,) = platform.ticks(new_york(3, 14), EQUITIES)
    platform.instance.update_tick(interrupted.with_status(TickStatus.STARTED))
    assert platform.tick(new_york(3, 14, 6, 5), waiting=True) == []
    assert platform.ticks(new_york(3, 14), EQUITIES)[0].run_ids == [run.run_id]


def test_cells_settled_while_a_scheduled_run_waited_are_not_asked_for_again(platform: Platform) -> None:
    platform.follow("AAPL", "MSFT")
    platform.start(new_york(3, 14, 1), EQUITIES)
    (waiting,) = platform.tick(new_york(3, 14), waiting=True)
    platform.settle("2024-03-13|AAPL", "2024-03-13|MSFT")
    platform.venues.reset_requests()
    platform.run_what_waits(new_york(3, 14))
    assert platform.status_of(waiting) == dg.DagsterRunStatus.SUCCESS
    assert CHART not in platform.venues.requests()


def test_a_user_and_a_schedule_at_once_ask_once_and_lose_nothing(platform: Platform) -> None:
    symbols = ("AAPL", "ABBV", "ABT", "ADBE", "AMD", "AMGN", "MSFT", "NVDA")
    platform.follow(*symbols)
    platform.start(new_york(3, 14, 1), EQUITIES)
    (scheduled,) = platform.tick(new_york(3, 14), waiting=True)
    platform.venues.fault("slow", seconds=0.2)
    with platform.updating("equities") as user:
        platform.wait_for(CHART)
        platform.run_what_waits(new_york(3, 14))  # while the user's run still asks
        said = user.communicate(timeout=60)
    assert user.returncode == 0, said
    assert platform.status_of(scheduled) == dg.DagsterRunStatus.SUCCESS
    assert platform.venues.requests()[CHART] == len(symbols)
    assert set(platform.outcomes().values()) == {"settled"}
    rows = platform.warehouse.read("select count(*) as n, count(distinct (symbol, date)) as d from equities.bars")
    assert rows.to_pylist()[0]["n"] == rows.to_pylist()[0]["d"] == len(platform.outcomes())
    assert "lock" not in "".join(said).lower()


def test_healing_and_the_schedule_that_both_catch_up_ask_once_and_lose_nothing(platform: Platform) -> None:
    symbols = ("AAPL", "MSFT", "NVDA")
    platform.follow(*symbols)
    platform.start(new_york(3, 19, 1), EQUITIES)
    platform.tick(new_york(3, 19))
    platform.venues.reset_requests()
    back = new_york(3, 23, 9)  # after four days without the machine
    (healing,) = platform.look(back, "heal", waiting=True)
    (scheduled,) = platform.tick(back, waiting=True)
    assert box(healing) == box(scheduled) == ("2024-03-19|AAPL", "2024-03-22|NVDA")
    platform.run_what_waits(back)
    assert {platform.status_of(run) for run in (healing, scheduled)} == {dg.DagsterRunStatus.SUCCESS}
    assert platform.venues.requests()[CHART] == len(symbols)
    assert set(platform.outcomes().values()) == {"settled"}
    assert len(platform.outcomes()) == 5 * len(symbols)


def test_a_tick_that_cannot_look_what_is_settled_asks(platform: Platform) -> None:
    platform.follow("AAPL")
    platform.settle("2024-03-13|AAPL", "2024-03-13|AAPL")
    platform.settings = replace(platform.settings, lock_timeout=0.1)
    platform.start(new_york(3, 14, 1), EQUITIES)
    with FileLock(f"{platform.settings.warehouse_path}.lock"):
        (run,) = platform.tick(new_york(3, 14), waiting=True)
    assert box(run) == ("2024-03-13|AAPL", "2024-03-13|AAPL")


def test_the_markets_are_listed_and_then_todays_and_yesterdays_cells_are_read(small: Platform) -> None:
    small.start(datetime(2024, 3, 20, 11, tzinfo=UTC), MARKETS)
    (only_the_catalog,) = small.tick(datetime(2024, 3, 20, 12, tzinfo=UTC))
    assert assets(only_the_catalog) == {"prediction_markets"}
    markets = small.instance.get_dynamic_partitions(MARKET)
    assert len(markets) == 2
    (catalog, prices) = small.tick(datetime(2024, 3, 20, 18, tzinfo=UTC))
    assert (assets(catalog), assets(prices)) == ({"prediction_markets"}, {"prediction_market_prices"})
    assert box(prices) == (f"2024-03-19|{markets[0]}", f"2024-03-20|{markets[-1]}")
    assert len(small.outcomes("markets")) == 4


def test_after_four_days_without_the_machine_the_markets_days_are_caught_up_by_one_run(small: Platform) -> None:
    small.start(datetime(2024, 3, 20, 11, tzinfo=UTC), MARKETS)
    small.tick(datetime(2024, 3, 20, 12, tzinfo=UTC))
    small.tick(datetime(2024, 3, 20, 18, tzinfo=UTC))
    back = datetime(2024, 3, 24, 19, tzinfo=UTC)
    (catalog, prices) = small.tick(back)
    assert (assets(catalog), assets(prices)) == ({"prediction_markets"}, {"prediction_market_prices"})
    markets = small.instance.get_dynamic_partitions(MARKET)
    # From the day on that was not over when it was read last.
    assert box(prices) == (f"2024-03-20|{markets[0]}", f"2024-03-24|{markets[-1]}")
    assert len(small.outcomes("markets")) == 2 * 6
    assert small.tick(back + timedelta(hours=1)) == []


def test_a_venue_that_is_down_fails_the_catalog_and_not_the_others_prices(small: Platform) -> None:
    small.settings = replace(small.settings, markets_venues=("kalshi", "manifold"))
    small.start(datetime(2024, 3, 20, 11, tzinfo=UTC), MARKETS)
    small.tick(datetime(2024, 3, 20, 12, tzinfo=UTC))
    small.venues.fault("server_error", venue="manifold", status=400)  # which is not worth repeating
    (catalog, prices) = small.tick(datetime(2024, 3, 20, 18, tzinfo=UTC))
    assert small.status_of(catalog) == dg.DagsterRunStatus.FAILURE
    outcomes = small.outcomes("markets")
    assert {outcome for (_, key), outcome in outcomes.items() if key.startswith("kalshi")} == {"settled"}
    assert {outcome for (_, key), outcome in outcomes.items() if key.startswith("manifold")} == {"rejected"}
    assert small.status_of(prices) == dg.DagsterRunStatus.FAILURE


def test_every_week_the_members_are_read_and_put_on_the_axis(platform: Platform) -> None:
    platform.start(new_york(3, 19, 1), "universe_weekly")
    (run,) = platform.tick(new_york(3, 19, 5))
    assert assets(run) == {"sp500_members"} or run.asset_selection is None
    assert len(platform.instance.get_dynamic_partitions(SYMBOL)) > 480
    assert platform.tick(new_york(3, 25)) == []


@pytest.mark.parametrize("looked_at", [new_york(3, 24, 22), new_york(3, 25, 9)])
def test_the_weeks_sixteenth_is_read_again_though_the_machine_was_off_that_night(
    platform: Platform, looked_at: datetime
) -> None:
    platform.start(new_york(3, 24, 20), "verify_history")
    (run,) = platform.tick(looked_at)
    assert run.status == dg.DagsterRunStatus.SUCCESS
    part = part_of_week(date(2024, 3, 24))
    assert run.run_config["ops"]["history_verified"]["config"] == {"part": part}
    assert part != part_of_week(date(2024, 3, 25))


def test_the_hourly_job_runs_all_checks_and_materializes_nothing(platform: Platform) -> None:
    platform.follow("AAPL", "ODFL")  # which was split on the 28th
    platform.start(new_york(3, 29, 7), "checks_hourly")
    platform.settle("2024-03-22|AAPL", "2024-03-28|ODFL")
    (run,) = platform.tick(new_york(3, 29, 7, 30))
    assert run.status == dg.DagsterRunStatus.SUCCESS
    events = [entry.dagster_event for entry in platform.instance.all_logs(run.run_id) if entry.dagster_event]
    assert dg.DagsterEventType.ASSET_MATERIALIZATION not in {event.event_type for event in events}
    checked = [
        event.asset_check_evaluation_data
        for event in events
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    known = build_definitions(platform.settings).resolve_asset_graph().asset_check_keys
    assert {evaluation.asset_check_key for evaluation in checked} == set(known)
    # Nobody has read the list of members in this home.
    assert [evaluation.check_name for evaluation in checked if not evaluation.passed] == ["universe_fresh"]


@pytest.mark.parametrize("stored", [("2024-03-27|AAPL", "2024-03-28|AAPL"), ()])
def test_the_daily_report_shows_what_is_stored_though_it_be_nothing(
    platform: Platform, stored: tuple[str, ...]
) -> None:
    platform.follow("AAPL")
    platform.start(new_york(3, 29, 7), "report_daily")
    if stored:
        platform.settle(*stored)
    (run,) = platform.tick(new_york(3, 29, 7, 30))
    assert run.status == dg.DagsterRunStatus.SUCCESS
    for asset in ("coverage_report", "adjusted_bars", "prediction_market_daily"):
        event = platform.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.run_id == run.run_id


@pytest.mark.parametrize(
    ("name", "now", "following"),
    [
        (EQUITIES, "2024-03-29T14:00+00:00", "2024-03-30T06:00-04:00"),
        (EQUITIES, "2024-03-09T12:00+00:00", "2024-03-12T06:00-04:00"),  # the clocks go forward on the 10th
        (EQUITIES, "2024-11-02T12:00+00:00", "2024-11-05T06:00-05:00"),  # and back on the 3rd
        (MARKETS, "2024-03-29T12:00+00:00", "2024-03-29T18:00+00:00"),
        ("universe_weekly", "2024-03-29T14:00+00:00", "2024-04-02T05:00-04:00"),
        ("verify_history", "2024-03-29T14:00+00:00", "2024-03-31T22:00-04:00"),
        ("report_daily", "2024-03-09T14:00+00:00", "2024-03-10T07:30-04:00"),
        ("checks_hourly", "2024-03-29T14:00+00:00", "2024-03-29T14:30+00:00"),
    ],
)
def test_when_each_schedule_runs_next(name: str, now: str, following: str) -> None:
    (timing,) = (timing for timing in TIMINGS if timing.name == name)
    assert timing.next_after(datetime.fromisoformat(now)) == datetime.fromisoformat(following)


def test_dagits_colour_outlasts_a_long_weekend_and_no_longer(platform: Platform) -> None:
    platform.follow("AAPL")
    platform.start(new_york(1, 13, 1), EQUITIES)
    platform.tick(new_york(1, 13))
    # Monday, the 15th, is a holiday: the next run is on Wednesday at 6.
    assert platform.colours(new_york(1, 17)) == {"equity_bars": "PASS"}
    assert platform.colours(new_york(1, 17, 11)) == {"equity_bars": "FAIL"}
