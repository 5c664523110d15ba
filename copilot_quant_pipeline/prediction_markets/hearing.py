"""What a look hears of each venue's days, and its silent cells judged by that and by what is stored.

Here: gathering the days that answers tell of, reading the same of the warehouse, handing both to the decision.
Not here: the decision (silence.py), asking and settling (sources.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from copilot_quant_pipeline.prediction_markets.prices import SettledPrices, days_told
from copilot_quant_pipeline.prediction_markets.silence import (
    SILENT,
    Heard,
    days_before,
    plan_silent,
    quiet_days,
    with_silent,
)
from copilot_quant_pipeline.prediction_markets.venue import Market
from copilot_quant_pipeline.warehouse.warehouse import Warehouse


@dataclass
class Hearing:
    """One look: `hear` each answer, then have the pieces `judged`; `found` are the silent days of earlier looks."""

    warehouse: Warehouse
    now: datetime
    found: Mapping[str, Mapping[date, datetime]]
    held_back: Callable[[str, datetime], datetime] = lambda _, now: now
    _told: dict[str, dict[date, set[str]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        warehouse: Warehouse,
        now: datetime,
        held_back: Callable[[str, datetime], datetime] = lambda _, now: now,
    ) -> Hearing:
        """A look at `now` (aware), which is `held_back` by a venue's own clock."""
        found: dict[str, dict[date, datetime]] = {}
        for row in warehouse.read(_FOUND, {"silent": SILENT}).to_pylist():
            found.setdefault(row["venue"], {})[row["date"]] = row["since"]
        return cls(warehouse, now, found, held_back)

    def was_silent(self, market: Market, days: Iterable[date]) -> bool:
        """Whether an earlier look found the market's venue silent on some of these days."""
        return not self.found.get(market.venue, {}).keys().isdisjoint(days)

    def hear(self, market: Market, answer: object) -> None:
        """An answer for a market: its points, or an error that brings some."""
        days = self._told.setdefault(market.venue, {})
        for day in days_told(market, answer):
            days.setdefault(day, set()).add(market.key)

    def judged(self, pieces: Sequence[SettledPrices]) -> list[SettledPrices]:
        """The pieces, cells of which nothing came on a silent day of their venue as its failure."""
        silent = {venue: self._silent(venue, pieces) for venue in self._told}
        return [self._judged(piece, silent) for piece in pieces]

    def _silent(self, venue: str, pieces: Sequence[SettledPrices]) -> frozenset[date]:
        quiet = {day for piece in pieces if _venue_of(piece.cells) == venue for day in quiet_days(piece.cells)}
        return plan_silent(quiet, self._heard(venue, quiet)) if quiet else frozenset()

    def _heard(self, venue: str, days: Collection[date]) -> Heard:
        told, found = self._told[venue], self.found.get(venue, {})
        wanted = _days_to_know(days, found)
        priced: dict[date, set[str]] = {day: set(told.get(day, ())) for day in wanted}
        for row in self.warehouse.read(_PRICED, {"venue": venue, "days": list(wanted)}).to_pylist():
            priced[row["date"]].add(row["market"])
        ended = self.warehouse.read(_ENDED, {"venue": venue}).to_pylist()
        return Heard(
            priced=priced,
            ended={row["market"]: row["day"] for row in ended},
            found=found,
            told=max(told, default=None),
            now=self.held_back(venue, self.now),
        )

    def _judged(self, piece: SettledPrices, silent: Mapping[str, frozenset[date]]) -> SettledPrices:
        venue = _venue_of(piece.cells)
        days = silent.get(venue)
        return replace(piece, cells=with_silent(piece.cells, days, venue)) if days else piece


def _days_to_know(days: Collection[date], found: Collection[date]) -> set[date]:
    """These days and, of each, all that may turn out to be the three before it."""
    maybe_silent = {*days, *found}
    return {*days, *(one for day in days for silent in ((), maybe_silent) for one in days_before(day, silent))}


def _venue_of(cells: pa.Table) -> str:
    """The venue of a piece, whose cells are one market's."""
    key: Any = cells.column("key")[0].as_py() if cells.num_rows else ""
    return str(key).partition(":")[0]


# A cell that was given up says so before what its last try said.
_FOUND = """
    select split_part(key, ':', 1) as venue, date, min(coalesce(reason_since, fetched_at)) as since
    from ops.coverage where grid = 'markets' and outcome = 'failed' and contains(detail, $silent) group by all
"""

_PRICED = """
    select distinct date, market from prediction_markets.prices
    where split_part(market, ':', 1) = $venue and date in (select unnest($days::date[]))
"""

# What ends at midnight has no life on the day after.
_ENDED = """
    select market, (closes_at - interval 1 microsecond)::date as day from prediction_markets.markets
    where venue = $venue and status in ('closed', 'resolved', 'gone') and closes_at is not null
"""
