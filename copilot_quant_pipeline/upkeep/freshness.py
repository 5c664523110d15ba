"""How fresh the stored data are: what Dagit's colour goes by, and the judgement of the freshness checks.

Here: freshness policies, and pure verdicts on equities, markets and the list of members.
Not here: the checks as Dagster has them (checks.py), the queries (warehouse/checks.py).

A `FreshnessPolicy` knows neither partitions nor holidays: any cell that was materialized counts, and a cron policy
would be wrong after every holiday. So policies are windows that no weekend outlasts, and the truth is in the checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import dagster as dg

from copilot_quant_pipeline.calendar import last_completed_session
from copilot_quant_pipeline.grid.axes import sessions_between
from copilot_quant_pipeline.prediction_markets.registry import semantics_of
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.checks import SHOWN, Findings, OpenMarket
from copilot_quant_pipeline.warehouse.coverage import FRESH_SHARE

# A session must be in so long after its close; until then the one before counts.
EQUITIES_DUE = timedelta(hours=12)
# Prices are read every 6 hours, and a run takes its time.
MARKETS_DUE = timedelta(hours=8)
# The list is read every 7 days.
UNIVERSE_DUE = timedelta(days=8)

POLICIES: Mapping[str, dg.FreshnessPolicy] = {
    # Runs are 96 hours apart over a weekend of three days (from Saturday to Wednesday, or from Friday to Tuesday), 97
    # where the clocks are set back, and take some minutes. Sunday's verification and healing only add to them.
    "equity_bars": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=100)),
    "sp500_members": dg.FreshnessPolicy.time_window(fail_window=UNIVERSE_DUE),
    # One refresh that fails is yellow, two are red.
    "prediction_markets": dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=14), warn_window=MARKETS_DUE),
    "prediction_market_prices": dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=14), warn_window=MARKETS_DUE
    ),
}


@dataclass(frozen=True)
class Verdict:
    """What a check says.

    Attributes:
        passed: whether all is well.
        said: in plain words, one sentence.
        numbers: what it counted.
        first: the first few offenders.
        soft: whether a failure is a warning only.
    """

    passed: bool
    said: str
    numbers: Mapping[str, int | float | str] = field(default_factory=dict)
    first: Sequence[str] = ()
    soft: bool = False


def with_policies(assets: Iterable[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The assets, those of POLICIES with their policy."""
    return [asset.map_asset_specs(_with_policy) for asset in assets]


def session_due(now: datetime, settings: Settings) -> date | None:
    """The session that must be in at `now`: the newest that closed 12 hours ago; None before the grid has one."""
    last = last_completed_session(now - EQUITIES_DUE)
    return next(reversed(sessions_between(settings, last - timedelta(days=31), last)), None)


def judge_equities(session: date | None, symbols: Sequence[str], whose: str, unsettled: Findings) -> Verdict:
    """Whether 99 % of `symbols` (named `whose` in the verdict) have a settled cell of `session`."""
    if session is None or not symbols:
        return Verdict(
            True, "Nothing is due yet: " + ("no symbol is followed." if session else "the grid begins later.")
        )
    settled = len(symbols) - unsettled.count
    return Verdict(
        passed=settled >= FRESH_SHARE * len(symbols),
        said=f"{settled:,} of {len(symbols):,} {whose} are settled for {session:%A} {session}, the session due by now.",
        numbers={"session": str(session), "asked of": len(symbols), "settled": settled, "not settled": unsettled.count},
        first=unsettled.first,
    )


def judge_venue(venue: str, markets: Sequence[OpenMarket], now: datetime) -> Verdict:
    """Whether the newest point of the venue's open markets is at most 8 hours old.

    One silent market says little, a silent venue does. A venue whose silence means that nothing happened, and that has
    answered since, may just be quiet: then it is a warning.
    """
    if not markets:
        return Verdict(True, f"No open market of {venue} is followed.", {"open markets": 0})
    newest = _latest(market.newest_point for market in markets)
    answered = _latest(market.answered_at for market in markets)
    silent = [market for market in markets if _is_late(market.newest_point, now)]
    age = f"{_hours(newest, now)} hours old" if newest else "missing: none was ever stored"
    return Verdict(
        passed=not _is_late(newest, now),
        said=f"The newest price of {venue}'s {len(markets):,} open markets is {age}.",
        numbers={
            "open markets": len(markets),
            "without a point in 8 hours": len(silent),
            "newest point": _instant(newest),
            "last answer": _instant(answered),
        },
        first=[f"{market.key}: {_instant(market.newest_point)}" for market in silent[:SHOWN]],
        soft=semantics_of(venue).silence == "no_trade" and not _is_late(answered, now),
    )


def judge_universe(read_at: datetime | None, now: datetime) -> Verdict:
    """Whether the list of members was read in the last 8 days; that it never was is a warning."""
    if read_at is None:
        said = "The list of members was never read: universe_weekly does so, or materialize sp500_members."
        return Verdict(False, said, soft=True)
    days = (now - read_at) / timedelta(days=1)
    said = f"The list of members was read {days:.1f} days ago."
    return Verdict(now - read_at <= UNIVERSE_DUE, said, {"read at": _instant(read_at), "days since": round(days, 1)})


def _with_policy(spec: dg.AssetSpec) -> dg.AssetSpec:
    policy = POLICIES.get(spec.key.to_user_string())
    return spec.replace_attributes(freshness_policy=policy) if policy else spec


def _is_late(instant: datetime | None, now: datetime) -> bool:
    return instant is None or now - instant > MARKETS_DUE


def _instant(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else "none"


def _hours(instant: datetime, now: datetime) -> float:
    return round((now - instant) / timedelta(hours=1), 1)


def _latest(instants: Iterable[datetime | None]) -> datetime | None:
    return max((instant for instant in instants if instant), default=None)
