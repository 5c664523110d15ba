"""The asset checks of upkeep: whether data are fresh, the grids complete, and the bars such as can be.

Here: each check as Dagster has it, what it looks at and how serious it is.
Not here: the judgement of freshness (freshness.py), the queries (warehouse/checks.py), who is told (alerts).

An error is something that is wrong; a warning something that a person should look at and that may be right.

A check hangs on an asset without partitions that is made of what it looks at. On the grids' own assets every run of a
backfill from Dagit, hundreds of them, would run it too, over everything that is stored and in the middle of the work.

No `from __future__ import annotations` here: Dagster reads the annotations of a check's parameters.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import dagster as dg

from copilot_quant_pipeline.calendar import FIRST_DATE, NEW_YORK, last_known_date, sessions_in_range
from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL, days_on_axis, keys_on_axis, sessions_on_axis
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.freshness import (
    Verdict,
    judge_equities,
    judge_universe,
    judge_venue,
    session_due,
)
from copilot_quant_pipeline.warehouse.checks import (
    SHOWN,
    Findings,
    count_marked_inconsistent,
    read_bad_adjusted,
    read_blank,
    read_contradicting_actions,
    read_impossible_bars,
    read_malformed_cells,
    read_members_read_at,
    read_open_markets,
    read_open_warnings,
    read_unsettled,
)
from copilot_quant_pipeline.warehouse.coverage import read_current_members
from copilot_quant_pipeline.warehouse.oddities import KINDS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

# A cell may stay blank so long after its date is over.
BLANK_FOR = timedelta(days=3)
# What it only warns of are the warnings that are stored, and told as these.
ACTIONS_CONSISTENT = "splits_and_dividends_consistent"


@dataclass(frozen=True)
class CheckInputs:
    """What a check looks at."""

    settings: Settings
    warehouse: Warehouse
    instance: dg.DagsterInstance

    @property
    def now(self) -> datetime:
        """The instant to judge at, aware UTC."""
        return self.settings.now()

    def axis(self, name: str) -> Sequence[str]:
        """The keys on an axis."""
        return keys_on_axis(self.instance, name)


Judge = Callable[[CheckInputs], Verdict]


def build_upkeep_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """All checks of this module; `markets_fresh_<venue>` once for each followed venue."""
    coverage, adjusted, daily = "coverage_report", "adjusted_bars", "prediction_market_daily"
    checks = [
        (coverage, "equities_fresh", _equities_fresh),
        (coverage, "grid_complete", _equities_complete),
        (adjusted, "no_malformed_bars", _no_malformed_bars),
        (adjusted, ACTIONS_CONSISTENT, _actions_consistent),
        ("sp500_members", "universe_fresh", _universe_fresh),
        (daily, "grid_complete", _markets_complete),
        *((daily, f"markets_fresh_{venue}", _fresh(venue)) for venue in followed_venues(settings)),
    ]
    return [_check(asset, name, judge, settings) for asset, name, judge in checks]


def followed_venues(settings: Settings) -> list[str]:
    """The venues whose markets the settings follow, by rule or by name."""
    named = (key.partition(":")[0] for key in settings.markets_ids)
    return list(dict.fromkeys((*settings.markets_venues, *named)))


def _equities_fresh(evidence: CheckInputs) -> Verdict:
    """The session that closed at least 12 hours ago is settled for 99 % of the S&P 500's members.

    Where no list of members was read yet, of the symbols on the axis; a member that somebody took off it is asked for
    by nobody. Weekends and holidays have no session.
    """
    session = session_due(evidence.now, evidence.settings)
    axis = evidence.axis(SYMBOL)
    known = set(axis) or None
    members = [member for member in read_current_members(evidence.warehouse) if known is None or member in known]
    symbols, whose = (members, "members") if members else (axis, "symbols on the axis")
    found = read_unsettled(evidence.warehouse, "equities", session, symbols) if session else Findings(0, ())
    return judge_equities(session, symbols, whose, found)


def _fresh(venue: str) -> Judge:
    def markets_fresh(evidence: CheckInputs) -> Verdict:
        markets = evidence.axis(MARKET)
        found = read_open_markets(evidence.warehouse, venue, markets, evidence.now)
        return judge_venue(venue, found, evidence.now)

    markets_fresh.__doc__ = f"The newest price of an open market of {venue} that is followed is at most 8 hours old."
    return markets_fresh


def _universe_fresh(evidence: CheckInputs) -> Verdict:
    """The list of the S&P 500's members was read within the last 8 days."""
    return judge_universe(read_members_read_at(evidence.warehouse), evidence.now)


def _equities_complete(evidence: CheckInputs) -> Verdict:
    """No session between a symbol's first settled one and 3 days ago was never asked for."""
    today = evidence.now.astimezone(NEW_YORK).date()
    return _complete(evidence, "equities", sessions_on_axis(evidence.settings), today, SYMBOL)


def _markets_complete(evidence: CheckInputs) -> Verdict:
    """No day of a market's life between its first settled one and 3 days ago was never asked for."""
    return _complete(evidence, "markets", days_on_axis(evidence.settings), evidence.now.date(), MARKET)


def _complete(evidence: CheckInputs, grid: str, dates: Sequence[date], today: date, axis: str) -> Verdict:
    # A date is over at its midnight, and old so much later.
    old = [day for day in dates if day + timedelta(days=1) + BLANK_FOR <= today]
    blank = read_blank(evidence.warehouse, grid, old, evidence.axis(axis))
    said = (
        f"{blank.count:,} cells that are older than 3 days were never asked for."
        if blank.count
        else "No cell is blank."
    )
    return Verdict(blank.count == 0, said, {"blank": blank.count}, blank.first)


def _no_malformed_bars(evidence: CheckInputs) -> Verdict:
    """No stored bar is impossible (an error), and no bar of the venue's had to be refused (a warning).

    A refused bar is a red cell that healing asks for again. Bars marked `ohlc_inconsistent` are counted only.
    """
    warehouse = evidence.warehouse
    stored = read_impossible_bars(warehouse, sessions_in_range(FIRST_DATE, last_known_date()))
    refused = read_malformed_cells(warehouse)
    marked = count_marked_inconsistent(warehouse)
    return _weighed(
        {"stored bars that cannot be": stored}, {"cells refused as malformed": refused}, {"marked inconsistent": marked}
    )


def _actions_consistent(evidence: CheckInputs) -> Verdict:
    """Bars, the actions told of and the adjusted prices agree.

    An error where a final bar's dividend or split is not the one told of, or an adjusted price cannot be. A warning
    for each thing that may be right and that nobody has acknowledged (`copilot-quant warnings list`): a split without
    its jump in price, a jump without a split, a dividend of more than half the price, an adjusted close that is not the
    venue's own, a price far from the others of its day or one that nobody can have paid.
    """
    warehouse = evidence.warehouse
    return _weighed(
        {
            "bars that contradict the actions": read_contradicting_actions(warehouse),
            "adjusted prices that cannot be": read_bad_adjusted(warehouse),
        },
        {KINDS[kind]: found for kind, found in read_open_warnings(warehouse).items()},
    )


def _weighed(
    wrong: dict[str, Findings], doubtful: dict[str, Findings], counted: dict[str, int] | None = None
) -> Verdict:
    """A failure where anything was found; soft where it is only doubtful."""
    everything = {**wrong, **doubtful}
    told = [f"{found.count:,} {what}" for what, found in everything.items() if found.count]
    return Verdict(
        passed=not told,
        said=f"Found {', '.join(told)}." if told else "Nothing is wrong.",
        numbers={**{what: found.count for what, found in everything.items()}, **(counted or {})},
        first=[line for found in everything.values() for line in found.first][:SHOWN],
        soft=not any(found.count for found in wrong.values()),
    )


def _check(asset: str, name: str, judge: Judge, settings: Settings) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset, name=name, description=inspect.getdoc(judge), required_resource_keys={"warehouse"})
    def checked(context) -> dg.AssetCheckResult:  # type: ignore[no-untyped-def]  # Dagster reads the annotation
        return _result(judge(CheckInputs(settings, context.resources.warehouse, context.instance)))

    return checked


def _result(verdict: Verdict) -> dg.AssetCheckResult:
    first = dg.MetadataValue.md("\n".join(f"- {line}" for line in verdict.first))
    return dg.AssetCheckResult(
        passed=verdict.passed,
        description=verdict.said,
        severity=dg.AssetCheckSeverity.WARN if verdict.soft else dg.AssetCheckSeverity.ERROR,
        metadata={**verdict.numbers, **({"first": first} if verdict.first else {})},
    )
