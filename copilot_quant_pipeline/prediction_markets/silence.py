"""Whether a venue that says nothing of any market on a day was quiet that day, or is failing: pure decisions.

Here: which days are silent, which of these a later look settles, the cells of the others.
Not here: what a single market's silence means (prices.py), reading what is stored (sources.py).

A venue that answers with empty histories answers, and each market alone looks as if nobody traded. So a day that is
over and on which no market has a point of those that had some on each of the three days before (three such markets at
least) is not known: its silent cells are `unavailable`. Days that are silent themselves are passed over in looking
back, or the second day of an outage would be a fact. A look a day later or more that finds a day silent again, and
hears of a later day or finds all these markets ended, takes the silence as true: each cell is what it is by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.errors import Unavailable
from copilot_quant_pipeline.warehouse.fetch_result import CELLS

DAYS_BEFORE = 3
MARKETS = 3
AGAIN_AFTER = timedelta(days=1)

# How the details of such cells begin; a later look finds them by it.
SILENT = "silent day"

# What cells say of which nothing came.
QUIET = ("no_trade", "no_price", "missing_at_source")


@dataclass(frozen=True)
class Heard:
    """What is known of one venue's days once a look is done; dates are UTC.

    Attributes:
        priced: by day the markets with a stored point, those of this look included.
        ended: the day on which a market ended, of those that have.
        found: since when earlier looks found a day silent, aware UTC.
        told: the newest day of which this look brought a point of any market; None where it brought none.
        now: when the look was, aware UTC.
    """

    priced: Mapping[date, Collection[str]]
    ended: Mapping[str, date]
    found: Mapping[date, datetime]
    told: date | None
    now: datetime


def plan_silent(days: Collection[date], heard: Heard) -> frozenset[date]:
    """Those of the days whose silence is not believed yet."""
    silent = set(heard.found).difference(days)
    for day in sorted(days):
        markets = _fell_silent(day, heard, silent)
        if markets and not _is_true(day, markets, heard):
            silent.add(day)
    return frozenset(silent.intersection(days))


def days_before(day: date, silent: Collection[date]) -> list[date]:
    """The newest days before one that are not silent themselves."""
    found: list[date] = []
    while len(found) < DAYS_BEFORE:
        day -= timedelta(days=1)
        if day not in silent:
            found.append(day)
    return found


def _fell_silent(day: date, heard: Heard, silent: Collection[date]) -> frozenset[str]:
    """The markets that had points on each of the days before and none since; none where that says nothing."""
    if day >= heard.now.date():
        return frozenset()
    before = [set(heard.priced.get(one, ())) for one in days_before(day, silent)]
    markets = {one for one in set.intersection(*before) if heard.ended.get(one, day) >= day}
    if len(markets) < MARKETS or not markets.isdisjoint(heard.priced.get(day, ())):
        return frozenset()
    return frozenset(markets)


def _is_true(day: date, markets: Collection[str], heard: Heard) -> bool:
    since = heard.found.get(day)
    if since is None or heard.now - since < AGAIN_AFTER:
        return False
    return (heard.told is not None and heard.told > day) or all(one in heard.ended for one in markets)


def quiet_days(cells: pa.Table) -> frozenset[date]:
    """The days of cells (`CELLS`) of which nothing came."""
    return frozenset(cells.filter(_is_quiet(cells)).column("date").unique().to_pylist())


def with_silent(cells: pa.Table, silent: Collection[date], venue: str) -> pa.Table:
    """The cells (`CELLS`), quiet ones of `silent` days as the venue's failure."""
    at = pc.and_(_is_quiet(cells), pc.is_in(cells.column("date"), pa.array(sorted(silent), pa.date32())))
    why = f"{SILENT}: {venue} has no point of any market that had some on each of the {DAYS_BEFORE} days before"
    for name, value in (("outcome", "failed"), ("reason", Unavailable.reason), ("detail", why)):
        changed = pc.if_else(at, pa.scalar(value), cells.column(name))
        cells = cells.set_column(cells.column_names.index(name), CELLS.field(name), changed)
    return cells


def _is_quiet(cells: pa.Table) -> pa.ChunkedArray:
    return pc.is_in(cells.column("reason"), pa.array(QUIET, pa.string()))
