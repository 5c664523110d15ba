"""What Yahoo's not knowing a symbol means: that it is delisted, or that Yahoo is failing; and what it makes of cells.

Here: reading what is stored of symbols that Yahoo did not know, and the cells of a harvest put right by the decision.
Not here: the decision itself (unknown.py), asking Yahoo (fetch.py), what any other answer means (bars.py), Dagster.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.calendar import last_completed_session
from copilot_quant_pipeline.equities.unknown import Standing, is_decided, plan_delisted, plan_outage, with_look
from copilot_quant_pipeline.errors import AnotherCurrency, AnotherInstrument, NotFound, Unavailable
from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.warehouse.fetch_result import CELLS, Harvest
from copilot_quant_pipeline.warehouse.tables import BARS, UNKNOWN_LOOKS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse


def harvest_with_delisted(
    warehouse: Warehouse,
    cells: Rectangle,
    harvest: Callable[[Rectangle], Harvest],
    *,
    now: datetime,
    refresh: bool,
    axis: Sequence[str] | None = None,
) -> Harvest:
    """What `harvest` brings of the cells, those of symbols that Yahoo does not know judged over the whole `axis`.

    From the session after its last bar on a delisted symbol's cells are `delisted`; a bar that is stored is final;
    sessions before it without a bar stay failed. Where an earlier run has decided it, Yahoo is not asked, unless to
    `refresh`. While Yahoo knows too many no more, all that it does not know is `unavailable`.
    """
    decided = {} if refresh else _decided(warehouse, cells, axis, now)
    brought = harvest(replace(cells, keys=tuple(key for key in cells.keys if key not in decided)))
    unknown = _unknown(brought.cells)
    if not (decided or unknown):
        return brought
    judged = _Judged(warehouse, axis, unknown, _answered(brought.cells)) if unknown else None
    gone = judged.delisted if judged else {}
    stored = _stored(warehouse, list(gone), cells, now)
    settled = [
        _cell(day, key, at, last_bar, stored.filter(pc.field("symbol") == key).column("date").to_pylist())
        for key, (at, last_bar) in {**decided, **gone}.items()
        for day in cells.dates
    ]
    others = brought.cells.filter(pc.invert(pc.is_in(brought.cells.column("key"), pa.array(list(gone), pa.string()))))
    return replace(
        brought,
        cells=pa.concat_tables([judged.passing(others) if judged else others, pa.Table.from_pylist(settled, CELLS)]),
        rows=pa.concat_tables([brought.rows, stored]),
        looks=judged.looks if judged else None,
    )


def told_as_outage(
    warehouse: Warehouse, unknown: Collection[str], axis: Sequence[str] | None, now: datetime
) -> str | None:
    """In words the outage by which Yahoo does not know some of the symbols at `now`; None where there is none."""
    judged = _Judged(warehouse, axis, dict.fromkeys(unknown, now))
    return None if judged.outage.isdisjoint(unknown) else judged.why


@dataclass(frozen=True)
class _Judged:
    """The symbols Yahoo did not know just now, by when it was asked, judged over what is stored of all on the axis.

    Those it `answered` for in the same look are known.
    """

    warehouse: Warehouse
    axis: Sequence[str] | None
    unknown: Mapping[str, datetime]
    answered: Collection[str] = ()

    @cached_property
    def _standings(self) -> dict[str, Standing]:
        standings = read_standings(self.warehouse, self.axis, also=self.unknown)
        standings |= {key: Standing(standings[key].last_bar) for key in self.answered if key in standings}
        for key, at in self.unknown.items():
            if key in standings:
                standings[key] = with_look(standings[key], last_completed_session(at))
        return standings

    @cached_property
    def outage(self) -> frozenset[str]:
        return plan_outage(self._standings)

    @property
    def delisted(self) -> dict[str, tuple[datetime, date]]:
        """When each that is delisted was asked for, and its last bar."""
        gone = plan_delisted(self._standings, self.unknown)
        return {key: (self.unknown[key], self._standings[key].last_bar) for key in gone}

    @property
    def looks(self) -> pa.Table:
        """What to remember of these looks (`UNKNOWN_LOOKS`), of symbols that have bars."""
        rows = [
            {"symbol": key, "session": last_completed_session(at), "seen_at": at}
            for key, at in self.unknown.items()
            if key in self._standings
        ]
        return pa.Table.from_pylist(rows, UNKNOWN_LOOKS.arrow)

    @property
    def why(self) -> str:
        """In words what is taken for an outage."""
        counted = sum(one.is_counted or key in self.outage for key, one in self._standings.items())
        missing = f"{len(self.outage):,} of {counted:,} symbols"
        return f"Yahoo no longer knows {missing}, all at once: it is failing, none is delisted"

    def passing(self, cells: pa.Table) -> pa.Table:
        """The cells, those of unknown symbols as the outage's if there is one: nothing is concluded from it."""
        if self.outage.isdisjoint(self.unknown):
            return cells
        is_unknown = pc.equal(pc.fill_null(cells.column("reason"), ""), NotFound.reason)
        for name, value in (("reason", Unavailable.reason), ("detail", self.why)):
            at = cells.column_names.index(name)
            changed = pc.if_else(is_unknown, pa.scalar(value), cells.column(name))
            cells = cells.set_column(at, CELLS.field(name), changed)
        return cells


def _decided(
    warehouse: Warehouse, cells: Rectangle, axis: Sequence[str] | None, now: datetime
) -> dict[str, tuple[datetime | None, date]]:
    """The symbols whose cells are delisted without asking: when they were found so, and their last bars."""
    if not warehouse.read(_ANY_DELISTED, {"symbols": list(cells.keys)}).num_rows:
        return {}
    standings = read_standings(warehouse, axis, also=cells.keys)
    outage = plan_outage(standings)
    return {
        key: (standings[key].delisted_at, standings[key].last_bar)
        for key in cells.keys
        if key in standings
        and key not in outage
        and is_decided(standings[key], now)
        and standings[key].last_bar < cells.dates[0]
    }


def _unknown(cells: pa.Table) -> dict[str, datetime]:
    """The symbols Yahoo did not know just now, and when it was asked."""
    failed = cells.filter(pc.field("reason") == NotFound.reason).group_by("key").aggregate([("fetched_at", "max")])
    return dict(zip(failed.column("key").to_pylist(), failed.column("fetched_at_max").to_pylist(), strict=True))


def _answered(cells: pa.Table) -> list[str]:
    """The symbols Yahoo said something of just now, be it that it lacks a session."""
    said = (pc.field("outcome") == "settled") | pc.field("reason").isin(
        ["missing_at_source", "malformed_bar", AnotherInstrument.reason, AnotherCurrency.reason]
    )
    answered: list[str] = cells.filter(said).column("key").unique().to_pylist()
    return answered


def _cell(day: date, key: str, asked_at: datetime | None, last_bar: date | None, stored: list[date]) -> dict[str, Any]:
    cell = {"date": day, "key": key, "outcome": "settled", "fetched_at": asked_at}
    if day in stored:
        return cell
    if last_bar is not None and day > last_bar:
        return {**cell, "reason": "delisted", "detail": f"Yahoo no longer knows {key}; its last bar is of {last_bar}"}
    return {**cell, "outcome": "failed", "reason": NotFound.reason, "detail": f"Yahoo no longer knows {key}"}


def _stored(warehouse: Warehouse, symbols: list[str], cells: Rectangle, now: datetime) -> pa.Table:
    """The stored bars of these cells, confirmed by now: nobody will revise them."""
    asked = {"symbols": symbols, "first": cells.dates[0], "last": cells.dates[-1], "now": now}
    return warehouse.read(_STORED, asked).select(BARS.names).cast(BARS.arrow)


_STORED = """
select * replace (coalesce(confirmed_at, $now) as confirmed_at) from equities.bars
where symbol in (select unnest($symbols::varchar[])) and date between $first and $last
"""

_ANY_DELISTED = """
select 1 from ops.coverage
where grid = 'equities' and reason = 'delisted' and key in (select unnest($symbols::varchar[])) limit 1
"""

_STANDINGS = """
with bars as (
    select symbol as key, max(date) as last_bar from equities.bars
    where $axis::varchar[] is null or symbol in (select unnest($axis::varchar[])) group by symbol
), answers as (
    select
        key,
        -- Bars that were confirmed in the same run carry the same instant.
        -- Those between two companies of one ticker are no sign that the later one has ended.
        max(fetched_at) filter (reason = 'delisted' and date > last_bar) as delisted_at,
        max(fetched_at) filter (outcome = 'settled' and reason is distinct from 'delisted') as answered_at
    from ops.coverage join bars using (key) where grid = 'equities' group by key
), looked as (
    select symbol as key, list(session order by session) as looks from equities.unknown_looks group by symbol
)
select
    key, last_bar,
    case when delisted_at >= coalesce(answered_at, '-infinity') then delisted_at end as delisted_at,
    coalesce(looks, []) as looks
from bars left join answers using (key) left join looked using (key)
"""


def read_standings(
    warehouse: Warehouse, axis: Sequence[str] | None = None, *, also: Iterable[str] = ()
) -> dict[str, Standing]:
    """By symbol what is stored of all that have bars, of the `axis` (None: wherever) and those named `also`."""
    wanted = None if axis is None else list({*axis, *also})
    rows = warehouse.read(_STANDINGS, {"axis": wanted}).to_pylist()
    return {row["key"]: Standing(row["last_bar"], tuple(row["looks"]), row["delisted_at"]) for row in rows}


def read_forgotten(warehouse: Warehouse, axis: Sequence[str] | None = None) -> frozenset[str]:
    """The symbols that Yahoo does not know now for its own failing, as far as what is stored can tell."""
    if not warehouse.read(_ANY_DOUBT).num_rows:
        return frozenset()
    return plan_outage(read_standings(warehouse, axis))


_ANY_DOUBT = """
select 1 from ops.coverage where grid = 'equities' and reason = 'delisted'
union all select 1 from equities.unknown_looks limit 1
"""
