"""The catalog of prediction markets as it is stored: the newest description of each market, and its history.

Here: adding what venues list to what is known, and reading it back.
Not here: what a venue's description means (prediction_markets), prices (warehouse/settling.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import pyarrow as pa

from copilot_quant_pipeline.warehouse.tables import MARKETS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

_CHANGES = """
    insert into prediction_markets.market_changes by name
    select t.market, t.status, t.result, t.last_seen_at as seen_at
    from told t left join prediction_markets.markets m using (market)
    where m.market is null or t.status is distinct from m.status or t.result is distinct from m.result
"""

_KEEP_FIRST_SEEN = """
    create temp table known as
    select market, first_seen_at from prediction_markets.markets semi join told using (market)
"""

_FORGET = "delete from prediction_markets.markets using told where markets.market = told.market"

_INSERT = """
    insert into prediction_markets.markets by name
    select t.* replace (coalesce(k.first_seen_at, t.first_seen_at) as first_seen_at)
    from told t left join known k using (market)
"""


def record_markets(warehouse: Warehouse, markets: pa.Table) -> int:
    """Add `markets` (`MARKETS` rows, each once) in one transaction; gives how many changed status or are new.

    A market is kept for ever; when it was first seen stays; a change of status or result adds to its history.

    Raises:
        InvalidRowsError: A row breaks the declaration.
        UserError: The file cannot be opened or written.
    """
    told = MARKETS.validated(markets)
    with warehouse.transaction() as connection:
        connection.register("told", told)
        (changed,) = connection.execute(_CHANGES).fetchone() or (0,)
        for statement in (_KEEP_FIRST_SEEN, _FORGET, _INSERT):
            connection.execute(statement)
    return int(changed)


_NEWLY_GONE = """
    create temp table newly_gone as
    select market from prediction_markets.markets
    where market in (select unnest($keys::varchar[])) and status <> 'gone'
"""

_NOTE_GONE = """
    insert into prediction_markets.market_changes by name
    select market, 'gone' as status, result, $now as seen_at
    from prediction_markets.markets semi join newly_gone using (market)
"""

# What had not closed by itself ended when it was last seen.
_MARK_GONE = """
    update prediction_markets.markets
    set closes_at = case status when 'closed' then coalesce(closes_at, last_seen_at) else last_seen_at end,
        status = 'gone'
    where market in (from newly_gone)
"""


def record_gone(warehouse: Warehouse, keys: Sequence[str], now: datetime) -> list[str]:
    """Note that the venues of stored markets know them no more; gives those of which this is news, by key.

    All that is stored of them stays.

    Raises:
        UserError: The file cannot be opened or written.
    """
    with warehouse.transaction() as connection:
        connection.execute(_NEWLY_GONE, {"keys": list(keys)})
        connection.execute(_NOTE_GONE, {"now": now})
        connection.execute(_MARK_GONE)
        return [key for (key,) in connection.execute("from newly_gone order by market").fetchall()]


def read_markets(warehouse: Warehouse, keys: Sequence[str] | None = None) -> pa.Table:
    """The stored `MARKETS` rows of `keys` (None is all), by key."""
    return warehouse.read(
        "from prediction_markets.markets"
        " where $keys::varchar[] is null or market in (select unnest($keys::varchar[])) order by market",
        {"keys": None if keys is None else list(keys)},
    )


_SETTLED_LIVES = """
    select m.market
    from prediction_markets.markets m join ops.coverage c on c.grid = 'markets' and c.key = m.market
    where m.closes_at is not null and m.status in ('closed', 'resolved', 'gone') and c.outcome = 'settled'
        and c.date between greatest(coalesce(m.opened_at::date, $start::date), $start::date) and m.closes_at::date
    group by m.market, m.opened_at, m.closes_at
    having count(*) = datediff(
        'day', greatest(coalesce(m.opened_at::date, $start::date), $start::date), m.closes_at::date) + 1
"""


def read_settled_lives(warehouse: Warehouse, start: date) -> set[str]:
    """The markets every day of whose life (from the grid's `start` on) is settled."""
    return set(warehouse.read(_SETTLED_LIVES, {"start": start}).column("market").to_pylist())
