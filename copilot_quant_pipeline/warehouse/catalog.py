"""The catalog of prediction markets as it is stored: the newest description of each market, and its history.

Here: adding what venues list to what is known, and reading it back.
Not here: what a venue's description means (prediction_markets), prices (warehouse/settling.py).
"""

# ruff: noqa: S608 declared names

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Literal

import duckdb
import pyarrow as pa

from copilot_quant_pipeline.warehouse.comparison import any_differs
from copilot_quant_pipeline.warehouse.history import keep_replaced, renewed
from copilot_quant_pipeline.warehouse.tables import MARKETS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

ListedAs = Literal["open", "broken"]

# No two at one instant, though clocks may stand or go back: what is said later comes later.
_CHANGES = """
    insert into prediction_markets.market_changes by name
    select i.market, i.status, i.result, i.closes_at,
        greatest(seen_at, c.newest + interval 1 microsecond) as seen_at
    from described left join (
        select market, max(seen_at) as newest from prediction_markets.market_changes group by market
    ) c on c.market = i.market
    where s.market is null or i.status is distinct from s.status or i.result is distinct from s.result
        or i.closes_at is distinct from s.closes_at
"""

# When it was first listed stays.
_DESCRIBED = f"""
    create temp table described as
    select s, struct_update(i, listed_at := coalesce(s.listed_at, i.listed_at)) as i,
        s.market is null or {any_differs(MARKETS.values)} as restated, i.last_seen_at as seen_at
    from told i left join prediction_markets.markets s using (market)
"""

# What had not closed by itself ended when it was last seen.
_GONE = """
    create temp table described as
    select s, true as restated, $now::timestamptz as seen_at,
        struct_update(
            s, status := 'gone', first_seen_at := $now::timestamptz,
            closes_at := case status when 'closed' then coalesce(closes_at, last_seen_at) else last_seen_at end
        ) as i
    from prediction_markets.markets s
    where market in (select unnest($keys::varchar[])) and status <> 'gone'
"""

_REPLACE = (
    keep_replaced(MARKETS, "(from described where restated)"),
    "delete from prediction_markets.markets where market in (select i.market from described)",
    f"""
    insert into prediction_markets.markets by name
    select {", ".join(map(renewed, MARKETS.columns))} from described
    """,
)


def record_markets(warehouse: Warehouse, markets: pa.Table) -> int:
    """Add `markets` (`MARKETS` rows, each once) in one transaction; gives how many are new or changed their end.

    A market is kept for ever; when it was first listed stays; a change of status, result or announced end adds to
    its changes, and what a new description replaces is kept in its history.

    Raises:
        InvalidRowsError: A row breaks the declaration.
        UserError: The file cannot be opened or written.
    """
    told = MARKETS.validated(markets)
    with warehouse.transaction() as connection:
        connection.register("told", told)
        connection.execute(_DESCRIBED)
        return _replace(connection)


def record_gone(warehouse: Warehouse, keys: Sequence[str], now: datetime) -> list[str]:
    """Note that the venues of stored markets know them no more; gives those of which this is news, by key.

    All that is stored of them stays.

    Raises:
        UserError: The file cannot be opened or written.
    """
    if not keys:
        return []
    with warehouse.transaction() as connection:
        connection.execute(_GONE, {"keys": list(keys), "now": now})
        _replace(connection)
        return [key for (key,) in connection.execute("select i.market from described order by all").fetchall()]


def _replace(connection: duckdb.DuckDBPyConnection) -> int:
    """Put what is `described` in the place of what is stored; gives how many status, results or ends are news."""
    (changed,) = connection.execute(_CHANGES).fetchone() or (0,)
    for statement in _REPLACE:
        connection.execute(statement)
    return int(changed)


def read_markets(warehouse: Warehouse, keys: Sequence[str] | None = None) -> pa.Table:
    """The stored `MARKETS` rows of `keys` (None is all), by key."""
    return warehouse.read(
        "from prediction_markets.markets"
        " where $keys::varchar[] is null or market in (select unnest($keys::varchar[])) order by market",
        {"keys": None if keys is None else list(keys)},
    )


_FORGET_LISTED = """
    delete from prediction_markets.listed
    where venue = $venue and question = $question and state = $state and id not in (select unnest($ids::varchar[]))
"""
_ADD_LISTED = """
    insert into prediction_markets.listed by name
    select $venue as venue, $question as question, $state as state, id
    from (select distinct unnest($ids::varchar[]) as id) anti join (
        from prediction_markets.listed where venue = $venue and question = $question and state = $state
    ) using (id)
"""


def record_listed(warehouse: Warehouse, venue: str, question: str, shown: Mapping[ListedAs, Collection[str]]) -> None:
    """Note the ids that a venue's listing of a question has shown in each state, instead of those noted before.

    Raises:
        UserError: The file cannot be opened or written.
    """
    if not shown:
        return
    with warehouse.transaction() as connection:
        for state, ids in shown.items():
            bound = {"venue": venue, "question": question, "state": state, "ids": sorted(ids)}
            for statement in (_FORGET_LISTED, _ADD_LISTED):
                connection.execute(statement, bound)


def read_listed(warehouse: Warehouse, venue: str, question: str, state: ListedAs) -> frozenset[str]:
    """The ids that the venue's listing of this question was last noted to show as `state`; none where it never was."""
    found = warehouse.read(
        "select id from prediction_markets.listed where venue = $venue and question = $question and state = $state",
        {"venue": venue, "question": question, "state": state},
    )
    return frozenset(found.column("id").to_pylist())


_SETTLED_LIVES = """
    select m.market
    from prediction_markets.markets m join ops.coverage c on c.grid = 'markets' and c.key = m.market
    where m.closes_at is not null and m.status in ('closed', 'resolved', 'gone') and c.outcome = 'settled'
        and (c.finer_until is null or c.finer_until < $today::date)
        and c.date between greatest(coalesce(m.opened_at::date, $start::date), $start::date) and m.closes_at::date
    group by m.market, m.opened_at, m.closes_at
    having count(*) = datediff(
        'day', greatest(coalesce(m.opened_at::date, $start::date), $start::date), m.closes_at::date) + 1
"""


def read_settled_lives(warehouse: Warehouse, start: date, today: date) -> set[str]:
    """The markets every day of whose life (from the grid's `start` on) is settled, and will not be had finer."""
    return set(warehouse.read(_SETTLED_LIVES, {"start": start, "today": today}).column("market").to_pylist())
