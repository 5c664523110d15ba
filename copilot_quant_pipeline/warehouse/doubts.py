"""Changes of stored bars that need a second look before they are believed.

Here: which changes are none (rounding), which are too large to be believed (quarantine), and the statements that hold
those back inside a settle's transaction.
Not here: which rows changed at all (warehouse/settling.py), a person's decisions (warehouse/quarantine.py).

The temporary tables `changed` (of bars) and `acted` (of actions) hold the stored row `s` and the row `i` that came.
"""
# ruff: noqa: S608

from __future__ import annotations

import duckdb

from copilot_quant_pipeline.warehouse.comparing import TOLERANCE, any_differs, differs
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS, Table

# A price that moves by more than this, of the stored one, is not believed; rounding alone does not make it more.
PRICE_CHANGE = 0.20

# Nor are changes of more than this share of a symbol's stored bars, where they are more than one: of a symbol with few
# bars a single correction is a large share, and still only that.
SHARE_OF_BARS = 0.05

_PRICES = ("open", "high", "low", "close")


def forgive_rounding(connection: duckdb.DuckDBPyConnection) -> None:
    """Let volumes in `changed` that differ by rounding alone keep their stored number.

    Yahoo multiplies volumes by every later split and rounds them to whole shares of today. Undone, a volume is off by
    up to half a share of the day it was fetched on, which after a reverse split is several shares of the bar's own day.
    That holds of the stored number as of the new one, each by the splits that were known when it was fetched.
    """
    connection.execute(_SLACK)
    if connection.execute("from slack limit 1").fetchone() is None:
        return
    # Made anew: DuckDB aborts the process when a struct is updated in place by way of a join.
    connection.execute("create temp table came as from changed")
    connection.execute(_ROUNDED)
    connection.execute(f"delete from changed where not ({any_differs(BARS.values + BARS.notes)})")


def hold_bars(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Mark the rows of `changed` that are not believed as `held`, and put each in quarantine once.

    Not believed: a price that moves by more than 20 %; all final bars of a symbol of whose stored bars more than 5 %
    and more than one change (provisional ones are expected to, and neither count nor are held by it); what waits in
    quarantine with the same values already. A changed split of a symbol with bars like these waits with them: their
    prices were computed by it. A change that was rejected before is dropped. What waits and is no longer what the
    venue says is withdrawn.
    """
    _forget_rejected(connection, BARS, "changed")
    connection.execute(_BROUGHT)
    connection.execute(_DOUBTFUL)
    connection.execute("update changed set held = true where stored_rowid in (from doubtful)")
    connection.execute(_DOUBTED_SYMBOLS)
    connection.execute(
        f"update changed set held = true where restated and {_SPLIT_CHANGED} and s.symbol in (from doubted_symbols)"
    )
    _quarantine(connection, BARS, "changed", run_id)


def hold_actions(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Mark the rows of `acted` that go with held bars as `held`, and put each in quarantine once.

    They are those of a held bar's own date, and splits of a symbol with held bars: to believe a split whose prices are
    not believed would falsify every adjusted price before it.
    """
    _forget_rejected(connection, ACTIONS, "acted")
    connection.execute(_HOLD_ACTIONS)
    connection.execute("insert into brought select date, symbol, first_seen_at from told")
    _quarantine(connection, ACTIONS, "acted", run_id)


def row_of_json(table: Table, text: str) -> str:
    """SQL for the row of `table` that the JSON in the column `text` stands for."""
    structure = ", ".join(f'"{column.name}": "{column.duckdb_type}"' for column in table.columns)
    return f"from_json({text}, '{{{structure}}}')"


def _forget_rejected(connection: duckdb.DuckDBPyConnection, table: Table, changes: str) -> None:
    """Drop the changes that a person has rejected before; `recalled` keeps what was ever proposed and not accepted."""
    connection.execute(f"""
        create or replace temp table recalled as
        select date, key, state, {row_of_json(table, "new")} as said from ops.quarantine
        where "table" = '{_name(table)}' and state in ('waiting', 'rejected')
    """)
    same = _same_change(table)
    connection.execute(f"delete from {changes} c using recalled q where q.state = 'rejected' and {same}")


def _same_change(table: Table) -> str:
    """Whether the change `c` is what `q` proposed."""
    return f"{_key_of('c', 'i')} = (q.date, q.key) and not ({any_differs(table.values, old='q.said', new='c.i')})"


def _quarantine(connection: duckdb.DuckDBPyConnection, table: Table, changes: str, run_id: str) -> None:
    """Withdraw what waits and was brought otherwise now, then add what is held and does not wait yet."""
    waits = f"select c.* from {changes} c join recalled q on q.state = 'waiting' and {_same_change(table)} where c.held"
    connection.execute(f"create or replace temp table still_waiting as {waits}")
    connection.execute(f"""
        update ops.quarantine q set state = 'withdrawn', decided_at = b.seen_at from brought b
        where q."table" = '{_name(table)}' and q.state = 'waiting' and (b.date, b.key) = (q.date, q.key)
            and (q.date, q.key) not in (select {_key_of("w", "i")} from still_waiting w)
    """)
    connection.execute(
        f"""
        insert into ops.quarantine by name
        select '{_name(table)}' as "table", c.i.date as date, c.i.symbol as key,
            case when c.s.symbol is not null then cast(to_json(c.s) as varchar) end as old,
            cast(to_json(c.i) as varchar) as new,
            c.seen_at as seen_at, $run_id as run_id, 'waiting' as state, null as decided_at
        from {changes} c
        where c.held and {_key_of("c", "i")} not in (select {_key_of("w", "i")} from still_waiting w)
        """,
        {"run_id": run_id},
    )


def _name(table: Table) -> str:
    return f"{table.schema}.{table.name}"


def _key_of(alias: str, row: str) -> str:
    return f"({alias}.{row}.date, {alias}.{row}.symbol)"


# For each bar whose volume changed, how far rounding alone can have moved it: by half a share of the day of each answer
# and half a share of its own day, where a share of the former is more than one of the latter.
_SLACK = """
    create temp table slack as
    with splits as (
        select symbol, date, split_ratio, first_seen_at from told where split_ratio <> 1
        union all
        select symbol, date, split_ratio, first_seen_at from equities.actions anti join told using (symbol, date)
        where split_ratio <> 1
    ), known as (
        select symbol, date, p.split_ratio, coalesce(a.first_seen_at, p.first_seen_at) as known_at
        from splits p left join equities.actions a using (symbol, date)
    ), shares as (
        select c.stored_rowid,
            product(k.split_ratio) as now,
            coalesce(product(k.split_ratio) filter (where k.known_at <= c.s.first_seen_at), 1) as before
        from changed c join known k on k.symbol = c.s.symbol and k.date > c.s.date
        where c.s.volume <> c.i.volume
        group by c.stored_rowid
    )
    select stored_rowid,
        case when now < 1 then 0.5 / now + 0.5 else 0 end + case when before < 1 then 0.5 / before + 0.5 else 0 end
            + 1e-6 as shares
    from shares where now < 1 or before < 1
"""

_ROUNDED = f"""
    create or replace temp table changed as
    with rounded as (
        select c.* replace (
            case when abs(i.volume - s.volume) <= shares then struct_update(i, volume := s.volume) else i end as i
        )
        from came c left join slack using (stored_rowid)
    )
    select * replace ({any_differs(BARS.values)} as restated) from rounded
"""

_MOVES = " or ".join(f"abs(i.{name} - s.{name}) > {PRICE_CHANGE * (1 + TOLERANCE)} * s.{name}" for name in _PRICES)

_SPLIT_CHANGED = f"({differs(BARS.column('split_ratio'))})"

_DOUBTFUL = f"""
    create temp table doubtful as
    with counted as (
        select s.symbol as symbol, count(*) as restated from changed where restated and s.confirmed_at is not null
        group by all having count(*) > 1
    ), many as (
        select symbol from counted join (
            select symbol, count(*) as stored from equities.bars semi join counted using (symbol) group by symbol
        ) using (symbol) where restated > {SHARE_OF_BARS} * stored
    )
    select stored_rowid from changed
    where restated and ({_MOVES} or s.confirmed_at is not null and s.symbol in (select symbol from many))
    union
    select stored_rowid from changed c join recalled q on q.state = 'waiting' and {_same_change(BARS)}
    where restated and not ({_SPLIT_CHANGED})
"""

# Symbols with a bar that is held, or that waits and was not brought now.
_DOUBTED_SYMBOLS = """
    create temp table doubted_symbols as
    select s.symbol as symbol from changed where held
    union
    select key from (select date, key from recalled where state = 'waiting') anti join brought using (date, key)
"""

_BROUGHT = """
    create temp table brought as
    select date, symbol as key, first_seen_at as seen_at from incoming
    union all
    select date, symbol as key, first_seen_at as seen_at from seen
"""

_HOLD_ACTIONS = """
    update acted set held = true
    where (i.date, i.symbol) in (select (s.date, s.symbol) from changed where held)
        or i.split_ratio <> coalesce(s.split_ratio, 1) and i.symbol in (from doubted_symbols)
"""
