"""How far each grid has come, read from coverage.

Here: counts of settled, failed and missing cells, freshness, and the picture of coverage by month.
Not here: what to do about a gap (upkeep), single rows (reading.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, TypedDict, cast

import pyarrow as pa

from copilot_quant_pipeline.grid.cells import Cell, Rectangle
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

# A grid is fresh when this share of its keys has the newest session.
FRESH_SHARE = 0.99

# A market's last date is the day it closed, a symbol's the axis' newest.
_COUNTS = """
with asked as (
    select
        c.key,
        min(c.date) as first,
        least($newest::date, coalesce(any_value(m.closed), $newest::date)) as last,
        count(*) filter (where c.outcome = 'settled') as settled,
        count(*) filter (where c.outcome = 'failed') as failed,
        count(*) filter (where c.outcome = 'settled' and c.finer_until >= $newest::date) as coarse,
        max(c.date) filter (where c.outcome = 'settled') as newest_settled,
        any_value(m.closed) is not null as has_ended
    from ops.coverage c left join (
        select market, closes_at::date as closed from prediction_markets.markets
        where status in ('closed', 'resolved', 'gone')
    ) m on $grid = 'markets' and m.market = c.key
    where c.grid = $grid and c.date <= $newest::date
    group by c.key
), judged as (
    select *, $on_axis::varchar[] is null or key in (select unnest($on_axis::varchar[])) as is_on_axis from asked
)
select
    coalesce(sum(settled), 0)::bigint as settled,
    coalesce(sum(failed) filter (where is_on_axis), 0)::bigint as failed,
    coalesce(sum(coarse) filter (where is_on_axis), 0)::bigint as coarse,
    coalesce(sum(greatest(0, (select count(*) from unnest($dates::date[]) as axis(day) where day between first and last)
        - settled - failed)) filter (where is_on_axis), 0)::bigint as missing,
    count(*) filter (where is_on_axis or has_ended) as keys,
    count(*) filter (where newest_settled >= last and (is_on_axis or has_ended)) as fresh_keys,
    count(*) filter (where not is_on_axis and not has_ended) as off_axis,
    max(newest_settled) as newest
from judged
"""


class RunTraffic(TypedDict):
    """What some runs brought: rows, changes of stored ones, requests to vendors, and how many of these were repeats."""

    rows: int
    restated: int
    quarantined: int
    requests: int
    retries: int


@dataclass(frozen=True)
class Progress:
    """How far a grid has come, in cells.

    `coarse` are settled ones that are asked for again, since a service that may have them finer did not answer.
    `missing` are cells nobody asked for that lie after their key's first asked one; `newest` is the newest date with
    a settled cell. `fresh`: 99 % of the keys have the newest date of the axis; `stale`: fewer; `empty`: no keys. Keys
    that somebody took off the axis count as `off_axis` and with their settled cells only. `restated` are stored rows
    whose values the venue has ever changed, `waiting` those whose change waits for a person.
    """

    grid: str
    settled: int
    failed: int
    coarse: int
    missing: int
    keys: int
    newest: date | None
    freshness: Literal["fresh", "stale", "empty"]
    restated: int = 0
    waiting: int = 0
    off_axis: int = 0


def read_progress(
    warehouse: Warehouse, grid: str, dates: Sequence[date], on_axis: Collection[str] | None = None
) -> Progress:
    """The progress of `grid`, whose date axis is `dates`, ascending and not empty; None is any key."""
    keys = None if on_axis is None else list(on_axis)
    asked = {"grid": grid, "newest": dates[-1], "dates": list(dates), "on_axis": keys}
    answer = warehouse.read(_COUNTS, asked)
    (row,) = answer.to_pylist()
    return Progress(
        grid=grid,
        settled=row["settled"],
        failed=row["failed"],
        coarse=row["coarse"],
        missing=row["missing"],
        keys=row["keys"],
        newest=row["newest"],
        freshness=_freshness(row["fresh_keys"], row["keys"]),
        off_axis=row["off_axis"],
        **_changes(warehouse, grid),
    )


class Changes(TypedDict):
    """Stored rows of a grid whose values the venue has ever changed, and those whose change waits for a person."""

    restated: int
    waiting: int


_SCHEMA_OF = {"equities": "equities", "markets": "prediction_markets"}

_CHANGES = """
select
    (select count(distinct ("table", date, key)) from ops.restatements where starts_with("table", $schema || '.'))
        as restated,
    (select count(*) from ops.quarantine where starts_with("table", $schema || '.') and state = 'waiting') as waiting
"""


def _changes(warehouse: Warehouse, grid: str) -> Changes:
    return cast("Changes", warehouse.read(_CHANGES, {"schema": _SCHEMA_OF[grid]}).to_pylist()[0])


def count_waiting(warehouse: Warehouse, grid: str) -> int:
    """How many changed rows of a grid wait for a person now."""
    return _changes(warehouse, grid)["waiting"]


def _freshness(fresh: int, keys: int) -> Literal["fresh", "stale", "empty"]:
    if keys == 0:
        return "empty"
    return "fresh" if fresh >= FRESH_SHARE * keys else "stale"


_BY_KEY = """
select
    key,
    count(*) filter (where outcome = 'settled') as settled,
    count(*) filter (where outcome = 'settled' and rows = 0) as empty,
    count(*) filter (where outcome = 'failed') as failed,
    min(date) filter (where rows > 0) as first_rows,
    max(date) filter (where rows > 0) as newest_rows,
    mode(reason) filter (where outcome = 'failed') as commonest_reason
from ops.coverage where grid = $grid group by key order by failed desc, key
"""

_BY_MONTH = """
select
    strftime(date, '%Y-%m') as month,
    count(*) filter (where outcome = 'settled') as settled,
    count(*) filter (where outcome = 'failed') as failed
from ops.coverage where grid = $grid group by month order by month desc
"""

_BAR = 30


def read_coverage_by_key(warehouse: Warehouse, grid: str) -> pa.Table:
    """One row per symbol or market: settled, empty and failed cells, first and newest date with rows; worst first."""
    return warehouse.read(_BY_KEY, {"grid": grid})


def read_coverage_picture(warehouse: Warehouse, grid: str) -> str:
    """Coverage by month as Markdown text, newest first: a bar of the asked cells, dark where settled."""
    months = warehouse.read(_BY_MONTH, {"grid": grid}).to_pylist()
    lines = [
        f"{row['month']}  {_bar(row['settled'], row['failed'])}  {row['settled']:,} settled"
        + (f", {row['failed']:,} failed" if row["failed"] else "")
        for row in months
    ]
    return "\n".join(["```", *(lines or ["nothing was asked for yet"]), "```"])


def _bar(settled: int, failed: int) -> str:
    # Rounded down, so that a bar is whole only where nothing failed.
    dark = _BAR * settled // (settled + failed)
    return "█" * dark + "░" * (_BAR - dark)


def read_traffic(warehouse: Warehouse, run_ids: Sequence[str]) -> RunTraffic:
    """What the runs brought and how often they asked, summed."""
    sums = ", ".join(f"coalesce(sum({name}), 0)::bigint as {name}" for name in RunTraffic.__annotations__)
    answer = warehouse.read(
        f"select {sums} from ops.run_summary where run_id in (select unnest($runs::varchar[]))",  # noqa: S608 our names
        {"runs": list(run_ids)},
    )
    return cast("RunTraffic", answer.to_pylist()[0])


def read_current_members(warehouse: Warehouse) -> tuple[str, ...]:
    """The symbols of today's S&P 500 as last read, ascending; empty where it never was."""
    answer = warehouse.read("select distinct symbol from equities.members where member_to is null order by symbol")
    return tuple(answer.column("symbol").to_pylist())


def read_stored_symbols(warehouse: Warehouse) -> tuple[str, ...]:
    """The symbols that have bars, ascending."""
    answer = warehouse.read("select distinct symbol from equities.bars order by symbol")
    return tuple(answer.column("symbol").to_pylist())


def read_stored_beside(warehouse: Warehouse, cells: Rectangle) -> frozenset[str]:
    """The symbols of `cells` that have bars on other dates, which an answer can confirm or change."""
    answer = warehouse.read(
        "select distinct symbol from equities.bars where symbol in (select unnest($symbols::varchar[]))"
        " and not date between $first and $last",
        {"symbols": list(cells.keys), "first": cells.dates[0], "last": cells.dates[-1]},
    )
    return frozenset(answer.column("symbol").to_pylist())


_EMPTY = """
    select date, key from ops.coverage
    where grid = $grid and outcome = 'settled' and rows = 0 and key in (select unnest($keys::varchar[]))
"""


def read_empty(warehouse: Warehouse, grid: str, keys: Sequence[str]) -> dict[str, frozenset[date]]:
    """By key the dates that are settled without rows, which an answer may refute; without keys that have none."""
    answer = warehouse.read(_EMPTY, {"grid": grid, "keys": list(keys)})
    dates: dict[str, set[date]] = {}
    for day, key in zip(*(answer.column(name).to_pylist() for name in ("date", "key")), strict=True):
        dates.setdefault(key, set()).add(day)
    return {key: frozenset(days) for key, days in dates.items()}


_COARSE = """
    select date, key, fetched_at from ops.coverage
    where grid = $grid and outcome = 'settled' and finer_until is not null and key in (select unnest($keys::varchar[]))
"""


def read_coarse(warehouse: Warehouse, grid: str, keys: Sequence[str]) -> dict[str, dict[date, datetime]]:
    """By key the dates that came coarsely, with when they were last asked for (aware UTC); without keys of none."""
    coarse: dict[str, dict[date, datetime]] = {}
    for row in warehouse.read(_COARSE, {"grid": grid, "keys": list(keys)}).to_pylist():
        coarse.setdefault(row["key"], {})[row["date"]] = row["fetched_at"]
    return coarse


_SETTLED_EMPTY = """
    select key, max(date) filter (reason = 'not_listed') as not_listed from ops.coverage
    where grid = 'equities' and outcome = 'settled' and rows = 0 and key in (select unnest($symbols::varchar[]))
    group by key
"""


def read_settled_empty(warehouse: Warehouse, symbols: Sequence[str]) -> dict[str, date | None]:
    """The symbols with sessions settled without a bar; for each the newest `not_listed` one, None where none is."""
    rows = warehouse.read(_SETTLED_EMPTY, {"symbols": list(symbols)}).to_pylist()
    return {row["key"]: row["not_listed"] for row in rows}


# The settled cells up to $newest that are not the last word: of a day that was not over when it was asked for, and
# those settled by a life their market turned out not to have: gone and back, closed and open again, opened before; of
# one whose end was taken back, the day on which it was thought to have ended too.
# Bars have none that must be asked for: the request for a later session brings a provisional one again.
PROVISIONAL = """
    select c.date, c.key
    from ops.coverage c left join prediction_markets.markets m on m.market = c.key
    left join (
        select market, (closes_at - interval 1 microsecond)::date as day, max(closes_at) as closes_at,
            min(seen_at) as since, max(until) as until
        from (
            select *, lead(seen_at) over (partition by market order by seen_at) as until
            from prediction_markets.market_changes
        )
        where status in ('closed', 'resolved', 'gone') and until is not null
        group by all
    ) ended on ended.market = c.key and ended.day = c.date
    where $grid = 'markets' and c.grid = $grid and c.outcome = 'settled' and c.date <= $newest::date and (
        c.fetched_at < c.date + interval 1 day
        or c.reason = 'delisted' and m.status <> 'gone'
        or c.fetched_at >= ended.since and c.fetched_at < ended.until
            and (m.status not in ('closed', 'resolved', 'gone') or m.closes_at > ended.closes_at)
        or c.reason in ('not_open', 'closed')
            and c.date >= coalesce(m.opened_at::date, c.date)
            -- What ends at midnight has no life on the day after.
            and c.date <= case when m.status in ('closed', 'resolved', 'gone')
                then (m.closes_at - interval 1 microsecond)::date else c.date end
    )
"""


# Those, and what came coarsely and may still be had finer.
_NOT_FINAL = f"""
    {PROVISIONAL} union
    select date, key from ops.coverage
    where grid = $grid and outcome = 'settled' and finer_until >= $newest::date and date <= $newest::date
"""  # noqa: S608 ours


def read_provisional(warehouse: Warehouse, grid: str, newest: date) -> set[Cell]:
    """The settled cells up to the date `newest` whose rows are not the last word and may be by now."""
    answer = warehouse.read(_NOT_FINAL, {"grid": grid, "newest": newest})
    return {Cell(row["date"], row["key"]) for row in answer.to_pylist()}


def read_newest_asked(warehouse: Warehouse, grid: str) -> date | None:
    """The newest date of which any cell of `grid` was asked for; None where none was."""
    answer = warehouse.read("select max(date) as newest from ops.coverage where grid = $grid", {"grid": grid})
    return cast("date | None", answer.to_pylist()[0]["newest"])


_CELLS_OF_OUTCOME = """
select date, key, run_id, reason
from ops.coverage
    semi join (select unnest($dates::date[]) as date) using (date)
    semi join (select unnest($keys::varchar[]) as key) using (key)
where grid = $grid and outcome = $outcome
order by run_id, reason, date, key
"""

# A market was on its axis from when it was first listed; of symbols that is not on record.
_KEYS_ASKED = """
select key
from (select distinct key from ops.coverage where grid = $grid)
    left join prediction_markets.markets on market = key
order by listed_at nulls last, key
"""


_CELLS = """
    select c.date, c.key, c.outcome, c.reason, c.detail, c.fetched_at, c.run_id, c.finer_until
    from ops.coverage c semi join cells using (date, key) where c.grid = $grid
"""


def read_cells(warehouse: Warehouse, grid: str, cells: Collection[Cell]) -> pa.Table:
    """The coverage of those of the cells that were asked for, and when they were by which run last."""
    dates, keys = zip(*cells, strict=True) if cells else ((), ())
    asked = pa.table({"date": pa.array(dates, pa.date32()), "key": pa.array(keys, pa.string())})
    with warehouse.connect_read_only() as connection:
        connection.register("cells", asked)
        return connection.execute(_CELLS, {"grid": grid}).to_arrow_table()


def read_settled_cells(warehouse: Warehouse, grid: str, dates: Sequence[date], keys: Sequence[str]) -> pa.Table:
    """The settled cells of these dates and keys: date, key, the run that asked last, the reason for no rows."""
    return _of_outcome(warehouse, "settled", grid, dates, keys)


def read_failed_cells(warehouse: Warehouse, grid: str, dates: Sequence[date], keys: Sequence[str]) -> pa.Table:
    """Likewise the failed ones, with the reason for that."""
    return _of_outcome(warehouse, "failed", grid, dates, keys)


def _of_outcome(warehouse: Warehouse, outcome: str, grid: str, dates: Sequence[date], keys: Sequence[str]) -> pa.Table:
    asked = {"outcome": outcome, "grid": grid, "dates": list(dates), "keys": list(keys)}
    return warehouse.read(_CELLS_OF_OUTCOME, asked)


def read_keys_asked(warehouse: Warehouse, grid: str) -> list[str]:
    """The symbols or markets any cell was ever asked of; markets as they were first listed, symbols by name."""
    answer = warehouse.read(_KEYS_ASKED, {"grid": grid})
    return list(answer.column("key").to_pylist())
