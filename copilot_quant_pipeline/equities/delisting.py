"""When a symbol that Yahoo no longer knows counts as delisted, and what that makes of its cells.

Here: the decision, and its cells put in place of the failed ones of a harvest.
Not here: asking Yahoo (fetching.py), what any other answer means (bars.py), Dagster.

Yahoo answers 404 for a symbol it has lost for an hour as for one that is gone. So it takes two tries a day apart that
agree, with no other answer between them; and a symbol of which a bar is stored: one that never had any never was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.errors import NotFound
from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.warehouse.harvest import CELLS, Harvest
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

# How far apart the two tries lie at least.
AGREES_AFTER = timedelta(hours=24)

# For so long Yahoo is not asked again for the later sessions of a symbol. Then it may have a new life, or Yahoo had
# lost it for a while: its delisted cells are gaps once later bars come (warehouse/gaps.py).
DECIDED_FOR = timedelta(days=7)


@dataclass(frozen=True)
class Doubt:
    """What is stored of a symbol that Yahoo did not know when it was last asked.

    Attributes:
        last_bar: the newest date with a bar; None where there never was one.
        unknown_since: the first of the tries that found it unknown, with no other answer since; aware UTC.
        delisted_at: when it was last asked for and counted as delisted, aware UTC.
    """

    last_bar: date | None
    unknown_since: datetime | None
    delisted_at: datetime | None

    def is_decided(self, now: datetime) -> bool:
        """Whether its later sessions are delisted without asking."""
        return self.delisted_at is not None and now - self.delisted_at < DECIDED_FOR

    def is_settled_by(self, unknown_at: datetime) -> bool:
        """Whether Yahoo's not knowing it once more, at `unknown_at`, settles that it is delisted."""
        if self.last_bar is None:
            return False
        agrees = self.unknown_since is not None and unknown_at - self.unknown_since >= AGREES_AFTER
        return agrees or self.delisted_at is not None


def harvest_with_delisted(
    warehouse: Warehouse, cells: Rectangle, harvest: Callable[[Rectangle], Harvest], *, now: datetime, refresh: bool
) -> Harvest:
    """What `harvest` brings of the cells, those of delisted symbols settled.

    From the session after its last bar on a delisted symbol's cells are `delisted`; a bar that is stored is final;
    sessions before it without a bar stay failed. Where an earlier run has decided it, Yahoo is not asked, unless to
    `refresh`.
    """
    doubts = read_doubts(warehouse, cells)
    decided = {
        key: doubt.delisted_at
        for key, doubt in doubts.items()
        if not refresh and doubt.is_decided(now) and doubt.last_bar is not None and doubt.last_bar < cells.dates[0]
    }
    brought = harvest(replace(cells, keys=tuple(key for key in cells.keys if key not in decided)))
    unknown = {key: at for key, at in _unknown(brought.cells) if key in doubts and doubts[key].is_settled_by(at)}
    if not (decided or unknown):
        return brought
    stored = _stored(warehouse, list(unknown), cells, now)
    settled = [
        _cell(day, key, at, doubts[key].last_bar, stored.filter(pc.field("symbol") == key).column("date").to_pylist())
        for key, at in {**decided, **unknown}.items()
        for day in cells.dates
    ]
    others = brought.cells.filter(
        pc.invert(pc.is_in(brought.cells.column("key"), pa.array(list(unknown), pa.string())))
    )
    return replace(
        brought,
        cells=pa.concat_tables([others, pa.Table.from_pylist(settled, CELLS)]),
        rows=pa.concat_tables([brought.rows, stored]),
    )


def _unknown(cells: pa.Table) -> Iterator[tuple[str, datetime]]:
    """The symbols Yahoo did not know just now, and when it was asked."""
    failed = cells.filter(pc.field("reason") == NotFound.reason).group_by("key").aggregate([("fetched_at", "max")])
    yield from zip(failed.column("key").to_pylist(), failed.column("fetched_at_max").to_pylist(), strict=True)


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

_DOUBTS = """
with asked as (
    from ops.coverage where grid = 'equities' and key in (select unnest($symbols::varchar[]))
), answered as (
    select key, max(fetched_at) as at from asked
    where outcome = 'settled' and reason is distinct from 'delisted' group by key
), last_bars as (
    select symbol as key, max(date) as last_bar from equities.bars
    where symbol in (select unnest($symbols::varchar[])) group by symbol
)
select
    c.key,
    any_value(l.last_bar) as last_bar,
    min(c.reason_since) filter (c.reason = $unknown and c.reason_since > coalesce(a.at, '-infinity')) as unknown_since,
    -- Bars that were confirmed in the same run carry the same instant.
    -- Cells between two companies of one ticker are no sign that the later one has ended.
    max(c.fetched_at) filter (
        c.reason = 'delisted' and c.fetched_at >= coalesce(a.at, '-infinity') and c.date > l.last_bar
    ) as delisted_at
from asked c left join answered a using (key) left join last_bars l using (key)
where c.reason in ($unknown, 'delisted')
group by c.key
"""


def read_doubts(warehouse: Warehouse, cells: Rectangle) -> dict[str, Doubt]:
    """By symbol of `cells` what is stored of those that Yahoo did not know once."""
    answer = warehouse.read(_DOUBTS, {"symbols": list(cells.keys), "unknown": NotFound.reason}).to_pylist()
    return {row["key"]: Doubt(row["last_bar"], row["unknown_since"], row["delisted_at"]) for row in answer}
