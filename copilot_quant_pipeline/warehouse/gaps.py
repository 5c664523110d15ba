"""The gaps of a grid as coverage tells them: what was tried and failed, what was left out, what is outdated.

Here: reading them, newest first, given which tries are to be repeated.
Not here: when a cell is tried again (upkeep/healing.py), which runs that takes (grid/cells.py).

A gap is a failed cell, or one never asked for that lies after its key's first settled cell (and, of a market, between
its opening and its close), or a market's cell that was settled while its day was not over, or by a life its market
turned out not to have, or one that was settled as delisted though rows of later dates came, or by a venue that was
failing, or one that came coarsely and may be had finer, which waits between its tries as a failed one does. A key never
asked for has no gaps, nor has a key or date that is not on the axes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.warehouse.coverage import PROVISIONAL
from copilot_quant_pipeline.warehouse.fetch_result import GIVEN_UP, PASSING
from copilot_quant_pipeline.warehouse.tables import UTC_TIME
from copilot_quant_pipeline.warehouse.warehouse import Warehouse


class Tries(NamedTuple):
    """What failed cells of the same history have in common; `passing` of the `attempts` said nothing about them.

    The reason is `coarse` of cells that are settled and may be had finer, which is no failed cell's reason.
    `is_back`: they were given up while their venue was out of reach, and it has answered for other cells since.
    """

    reason: str
    attempts: int
    passing: int
    fetched_at: datetime
    is_back: bool = False


@dataclass(frozen=True)
class Extent:
    """Where gaps are looked for.

    Attributes:
        grid: which grid.
        keys: its second axis, in the axis' order.
        dates: its date axis, ascending.
        blank_until: the last date on which a cell counts that nobody asked for, or that is outdated.
    """

    grid: str
    keys: Sequence[str]
    dates: Sequence[date]
    blank_until: date

    @property
    def bound(self) -> dict[str, Any]:
        """As parameters of a statement."""
        return {"grid": self.grid, "keys": list(self.keys), "dates": list(self.dates)}


class Busy(NamedTuple):
    """Cells that somebody is asking for already: every date and key between two corners, both included."""

    first: Cell
    last: Cell


@dataclass(frozen=True)
class Gaps:
    """The newest gaps, and how many there are in all."""

    cells: tuple[Cell, ...]
    total: int


def read_tries(warehouse: Warehouse, extent: Extent) -> dict[Tries, int]:
    """The histories of the failed cells and of those that may be had finer, each with the number of its cells."""
    bound = {**extent.bound, **_GIVEN_UP_WORDS, "newest": extent.blank_until}
    answer = warehouse.read(_TRIES, bound).to_pylist()
    return {Tries(*(row[name] for name in Tries._fields)): row["cells"] for row in answer}


def read_gaps(
    warehouse: Warehouse,
    extent: Extent,
    due: Collection[Tries],
    busy: Collection[Busy],
    limit: int,
    forgotten: Collection[str] = (),
) -> Gaps:
    """The failed cells whose history is `due`, the blank and the early ones, without `busy`: the newest `limit`.

    `forgotten` are keys that were taken for delisted while their venue was failing.
    """
    bound = {
        **extent.bound,
        "newest": extent.blank_until,
        "limit": limit,
        **_GIVEN_UP_WORDS,
        "forgotten": list(forgotten),
    }
    with warehouse.connect_read_only() as connection:
        connection.register("due", pa.Table.from_pylist([tries._asdict() for tries in due], _DUE))
        connection.register("busy", pa.Table.from_pylist([*_corners(busy, extent.keys)], _BUSY))
        answer = connection.execute(_GAPS, bound).to_arrow_table().to_pylist()
    return Gaps(tuple(Cell(row["date"], row["key"]) for row in answer), answer[0]["total"] if answer else 0)


def _corners(busy: Collection[Busy], keys: Sequence[str]) -> list[dict[str, Any]]:
    place = {key: n for n, key in enumerate(keys)}
    corners = [(both, place.get(both.first.key), place.get(both.last.key)) for both in busy]
    return [
        {"first": both.first.date, "last": both.last.date, "top": min(top, bottom), "bottom": max(top, bottom)}
        for both, top, bottom in corners
        if top is not None and bottom is not None
    ]


_DUE = pa.schema(
    [
        ("reason", pa.string()),
        ("attempts", pa.int32()),
        ("passing", pa.int32()),
        ("fetched_at", UTC_TIME),
        ("is_back", pa.bool_()),
    ]
)
_BUSY = pa.schema([("first", pa.date32()), ("last", pa.date32()), ("top", pa.int64()), ("bottom", pa.int64())])

_GIVEN_UP_WORDS = {"given_up": GIVEN_UP, "passing_reasons": list(PASSING)}

# What was tried and is to be tried again: failed cells, and coarse ones of days that are over. With whether they were
# given up for a reason that has passed: their venue has answered for others since. What a market's life alone settles
# is no answer.
_TRIED = """
    answered as (
        select if(grid = 'markets', split_part(key, ':', 1), 'yahoo') as venue, max(fetched_at) as at
        from ops.coverage
        where grid = $grid and outcome = 'settled'
            and (rows > 0 or reason in ('not_listed', 'no_trade', 'no_price')) group by all
    ), tried as (
        select c.* replace (coalesce(case when outcome = 'failed' then reason end, 'coarse') as reason),
            coalesce(outcome = 'failed' and reason = $given_up and fetched_at < a.at
                and list_contains($passing_reasons, split_part(coalesce(detail, ''), ',', 1)), false) as is_back
        from ops.coverage c
        left join answered a on a.venue = if(c.grid = 'markets', split_part(c.key, ':', 1), 'yahoo')
        where grid = $grid and (outcome = 'failed' or finer_until >= $newest::date and date <= $newest::date)
    )
"""

_TRIES = f"""
with {_TRIED}
select reason, attempts, passing, fetched_at, is_back, count(*) as cells
from tried
where key in (select unnest($keys::varchar[])) and date in (select unnest($dates::date[]))
group by all
order by all
"""  # noqa: S608 ours

_GAPS = f"""
with keys as (
    select unnest($keys::varchar[]) as key, generate_subscripts($keys::varchar[], 1) - 1 as place
), dates as (
    select unnest($dates::date[]) as date
), covered as (
    from ops.coverage where grid = $grid
), lives as (
    select
        c.key,
        greatest(min(c.date), any_value(m.opened_at)::date) as first,
        least($newest::date, any_value(m.closes_at)::date) as last
    from covered c semi join keys using (key)
    left join (
        select market, opened_at, case when status in ('closed', 'resolved', 'gone') then closes_at end as closes_at
        from prediction_markets.markets
    ) m on $grid = 'markets' and m.market = c.key
    where c.outcome = 'settled'
    group by c.key
), blank as (
    select d.date, l.key from lives l join dates d on d.date between l.first and l.last
    anti join covered c on c.date = d.date and c.key = l.key
), {_TRIED}, red as (
    select date, key from tried semi join due using (reason, attempts, passing, fetched_at, is_back)
), provisional as ({PROVISIONAL}), between as (
    -- After one company's last day and before the next one's first, as long as nobody has joined them.
    select symbol as key, valid_until as last, lead(valid_from) over (partition by symbol order by since) as next
    from equities.lives where $grid = 'equities'
), departed as (
    select key, max(fetched_at) filter (reason = 'delisted') as since, max(date) filter (rows > 0) as last_bar
    from covered c
    where not exists (from between b where b.key = c.key and c.date > b.last and c.date < b.next)
    group by key having since is not null
), explained as (
    -- Given up before its symbol was found to be delisted: that settles it.
    select c.date, c.key from covered c join departed d using (key)
    where c.reason = $given_up and c.fetched_at < d.since and c.date > d.last_bar
), revived as (
    -- It has rows of later dates, or its venue was failing: it had only been forgotten for a while.
    select c.date, c.key from covered c join departed d using (key)
    where c.reason = 'delisted' and (c.date < d.last_bar or list_contains($forgotten::varchar[], c.key))
        and not exists (from between b where b.key = c.key and c.date > b.last and c.date < b.next)
), gaps as (
    select date, key, place
    from (from blank union all from provisional union all from red union from explained union from revived)
    join keys using (key) semi join dates using (date)
    where not exists (
        from busy b where date between b.first and b.last and place between b.top and b.bottom
    )
)
select date, key, count(*) over () as total from gaps order by date desc, place limit $limit
"""  # noqa: S608 ours
