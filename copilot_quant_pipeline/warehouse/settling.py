"""The statements that settle cells, to be run inside one transaction.

Here: SQL from a table's declaration: which stored rows are replaced, what becomes of each cell, what is
recorded.
Not here: when rows differ (warehouse/comparison.py), which changes are not believed (warehouse/plausibility.py),
opening, locking and the transaction itself (warehouse/warehouse.py).

The frames `asked` (CELLS), `incoming` (rows of the table), `seen` (rows of other dates), `windows` (WINDOWS), `told`
(ACTIONS), `looks` (UNKNOWN_LOOKS) and `refinable` (COARSE) are registered beforehand. Names written into statements are
declared ones; values are bound.
"""
# ruff: noqa: S608

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from copilot_quant_pipeline.warehouse.comparison import any_differs, differs
from copilot_quant_pipeline.warehouse.fetch_result import GIVEN_UP, PASSING
from copilot_quant_pipeline.warehouse.history import keep_replaced, renewed
from copilot_quant_pipeline.warehouse.patience import PATIENCE
from copilot_quant_pipeline.warehouse.plausibility import hold_bars, judge_actions, record_doubts
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS, Column, GridTable


@dataclass(frozen=True)
class RowCounts:
    """What became of the rows that came; where only notes changed a row counts as unchanged."""

    inserted: int
    restated: int
    unchanged: int
    lost: int


def settle_rows(connection: duckdb.DuckDBPyConnection, table: GridTable, run_id: str) -> RowCounts:
    """Replace the stored rows that differ, add the new ones of asked cells, record what changed in value."""
    if table is BARS:
        judge_actions(connection)
    connection.execute(_filled(table))
    connection.execute(_changed(table))
    if table is BARS:
        hold_bars(connection)
    lost = _number(connection, _lost(table))
    connection.execute(_restatements(table), {"run_id": run_id})
    connection.execute(keep_replaced(table, "(from changed where restated and not held)"))
    connection.execute(
        f"delete from {table.qualified} where rowid in (select stored_rowid from changed where not held)"
    )
    connection.execute(_insertion_of_changed(table))
    inserted = _number(connection, _insertion(table))
    return _counts(connection, inserted, lost)


def settle_actions(connection: duckdb.DuckDBPyConnection, run_id: str) -> int:
    """Store the actions that are believed, after `settle_rows`; gives how many rows of a settle of bars wait.

    What venues change of sessions they had answered for before is recorded as restated.
    """
    for column in ACTIONS.values:
        connection.execute(_restated_action(column), {"run_id": run_id})
    connection.execute(keep_replaced(ACTIONS, "acted"))
    connection.execute("delete from equities.actions where rowid in (select stored_rowid from acted)")
    names = ", ".join(f"i.{name}" for name in ACTIONS.names)
    connection.execute(f"insert into equities.actions by name select {names} from acted")
    return record_doubts(connection, run_id)


def settle_looks(connection: duckdb.DuckDBPyConnection) -> None:
    """Remember the looks in `looks` that found a symbol unknown; an answer of any other kind ends what came before."""
    connection.execute(_FORGET_LOOKS)
    connection.execute(_INSERT_LOOKS)


def settle_coverage(connection: duckdb.DuckDBPyConnection, table: GridTable, run_id: str) -> pa.Table:
    """Say what became of each cell, after `settle_rows`; gives cells as in `CELLS`, by key and date."""
    grid = {"grid": table.grid}
    connection.execute(_kept(table))
    connection.execute(_OUTCOMES, {**grid, **_PATIENCE})
    connection.execute(_FORGET_COVERAGE, grid)
    connection.execute(_INSERT_COVERAGE, {**grid, "run_id": run_id})
    cells = "select date, key, outcome, reason, detail, fetched_at from outcomes order by key, date"
    return connection.execute(cells).to_arrow_table()


def record_run(connection: duckdb.DuckDBPyConnection, values: dict[str, Any]) -> None:
    """Write the run's row of `ops.run_summary` in place of an earlier one, after `settle_coverage`."""
    run = {name: values[name] for name in ("run_id", "grid")}
    connection.execute("delete from ops.run_summary where run_id = $run_id and grid = $grid", run)
    connection.execute(_INSERT_SUMMARY, values)


_FORGET_LOOKS = """
    delete from equities.unknown_looks where symbol not in (select symbol from looks) and symbol in (
        select key from asked
        where outcome = 'settled' and reason is distinct from 'delisted'
            or reason in ('missing_at_source', 'malformed_bar')
        union select key from windows
    )
"""

_INSERT_LOOKS = """
    insert into equities.unknown_looks by name
    from looks anti join equities.unknown_looks using (symbol, session)
"""


def _counts(connection: duckdb.DuckDBPyConnection, inserted: int, lost: int) -> RowCounts:
    counts = connection.execute(_COUNTS).fetchone() or (0, 0, 0)
    came, still_there, restated = (int(number) for number in counts)
    return RowCounts(inserted, restated, came - inserted - still_there, lost)


def _number(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    (number,) = connection.execute(statement).fetchone() or (0,)
    return int(number)


def _same_key(table: GridTable) -> str:
    return " and ".join(f's."{name}" is not distinct from i."{name}"' for name in table.key)


def _filled(table: GridTable) -> str:
    return f"""
        create temp table filled as
        select "{table.date_column}" as date, "{table.key_column}" as key, cast(count(*) as integer) as rows
        from incoming group by all
    """


def _changed(table: GridTable) -> str:
    here = f'i."{table.key[0]}" is not null'
    restated, rewritten = any_differs(table.values), any_differs(table.values + table.notes)
    # s and i are kept as structs, so that what is written about the frames holds of this table too.
    return f"""
        create temp table changed as
        select s.rowid as stored_rowid, s, i, true as asked, {here} as came, not came or {restated} as restated,
            a.fetched_at as seen_at, false as held
        from {table.qualified} s
        join filled f on s."{table.date_column}" = f.date and s."{table.key_column}" = f.key
        join asked a on s."{table.date_column}" = a.date and s."{table.key_column}" = a.key
        left join incoming i on {_same_key(table)}
        where not ({here}) or {rewritten}
        union all
        select s.rowid, s, i, false, true, {restated}, w.fetched_at, false
        from {table.qualified} s join seen i on {_same_key(table)} join windows w on w.key = i."{table.key_column}"
        where {rewritten}
    """


def _lost(table: GridTable) -> str:
    return f"""
        select count(*) from (
            select s."{table.date_column}" as date, s."{table.key_column}" as key
            from {table.qualified} s
            join windows w on s."{table.key_column}" = w.key and s."{table.date_column}" between w.start and w.end
            anti join seen i on {_same_key(table)}
        ) anti join asked using (date, key)
    """


def _restatements(table: GridTable) -> str:
    changes = " union all ".join(
        f"""
        select
            s."{table.date_column}" as date, s."{table.key_column}" as key, '{column.name}' as "column",
            cast(s."{column.name}" as varchar) as old, cast(i."{column.name}" as varchar) as new, seen_at
        from changed where restated and not held and ({differs(column)})
        """
        for column in table.values
    )
    return f"""
        insert into ops.restatements by name
        select '{table.schema}.{table.name}' as "table", c.*, $run_id as run_id from ({changes}) c
    """


def _insertion(table: GridTable) -> str:
    names = ", ".join(f'i."{name}"' for name in table.names)
    return f"""
        insert into {table.qualified} by name
        select {names} from incoming i anti join {table.qualified} s on {_same_key(table)}
    """


def _insertion_of_changed(table: GridTable) -> str:
    columns = ", ".join(renewed(column) for column in table.columns)
    return f"insert into {table.qualified} by name select {columns} from changed where came and not held"


def _restated_action(column: Column) -> str:
    none = "1.0" if column.name == "split_ratio" else "0.0"
    return f"""
        insert into ops.restatements by name
        select 'equities.actions' as "table", i.date as date, i.symbol as key, '{column.name}' as "column",
            coalesce(cast(s."{column.name}" as varchar), '{none}') as old,
            cast(i."{column.name}" as varchar) as new, seen_at, $run_id as run_id
        from acted where restated and coalesce(s."{column.name}", {none}) is distinct from i."{column.name}"
    """


def _kept(table: GridTable) -> str:
    return f"""
        create temp table kept as
        select s."{table.date_column}" as date, s."{table.key_column}" as key, cast(count(*) as integer) as
        rows from {table.qualified} s semi join (from asked anti join filled using (date, key)) a
            on s."{table.date_column}" = a.date and s."{table.key_column}" = a.key
        group by all
    """


# What is held is neither inserted nor unchanged.
_COUNTS = """
    select
        (select count(*) from incoming),
        count(*) filter (where asked and came and restated),
        count(*) filter (where restated and not held)
    from changed
"""

# An answer without rows where rows are stored is the vendor's loss, not the truth about the cell. A cell that was given
# up stays so until it is settled, whoever asks.
_OUTCOMES = """
    create temp table outcomes as
    with told as (
        select
            a.date, a.key, a.fetched_at,
            k.rows is not null and (a.outcome = 'settled' and f.rows is null or a.reason = 'missing_at_source')
                as vanished,
            vanished or a.outcome = 'failed' as failed,
            case when vanished then 'vanished_at_source' else a.reason end as cause,
            coalesce(a.detail, case when not vanished then r.detail
                when a.outcome = 'settled' then 'answered ' || a.reason end) as answer,
            coalesce(f.rows, k.rows, 0) as rows,
            case when f.rows is not null then r.finer_until end as finer_until
        from asked a
        left join filled f using (date, key)
        left join kept k using (date, key)
        left join refinable r using (date, key)
    ), counted as (
        select
            t.*,
            -- Tries of one kind are counted: those that failed, or those that brought a coarse answer.
            case when failed = (c.outcome = 'failed') then c.attempts else 0 end as tried,
            case when failed = (c.outcome = 'failed') then c.passing else 0 end as passed,
            case when failed or t.finer_until is not null then tried + 1 else 0 end as attempts,
            case when failed then passed + cast(list_contains($passing, cause) as integer) else 0 end as passing,
            case when failed then coalesce(c.failing_since, t.fetched_at) end as failing_since,
            case when failed and c.outcome = 'failed' and c.reason = cause then c.reason_since
                when failed then t.fetched_at end as reason_since,
            coalesce(c.reason = $given_up, false) as was_given_up
        from told t left join (from ops.coverage where grid = $grid) c using (date, key)
    ), judged as (
        select
            *,
            failed and (
                was_given_up
                or attempts - passing >= $tries and fetched_at - failing_since >= $tried_for
                or list_contains($passing, cause) and attempts >= $tries
                    and fetched_at - failing_since >= $out_of_reach_for
            ) as given_up,
            strftime(failing_since, '%Y-%m-%d %H:%M UTC') as since,
            concat(cause, ', ', attempts, ' tries since ', since, ': ' || answer) as epitaph
        from counted
    )
    select
        date, key, fetched_at, rows, attempts, passing, failing_since, reason_since, finer_until,
        case when failed then 'failed' else 'settled' end as outcome,
        case when given_up then $given_up else cause end as reason,
        case when given_up then epitaph else answer end as detail
    from judged
"""

# What the statement above gives up by.
_PATIENCE = {
    "passing": list(PASSING),
    "given_up": GIVEN_UP,
    "tries": PATIENCE.tries,
    "tried_for": PATIENCE.tried_for,
    "out_of_reach_for": PATIENCE.out_of_reach_for,
}

_FORGET_COVERAGE = """
    delete from ops.coverage c using outcomes o where c.grid = $grid and c.date = o.date and c.key = o.key
"""

_INSERT_COVERAGE = """
    insert into ops.coverage by name
    select $grid as grid, date, key, outcome, rows, reason, detail, attempts, passing, failing_since, reason_since,
        fetched_at, $run_id as run_id, finer_until
    from outcomes
"""

_INSERT_SUMMARY = """
    insert into ops.run_summary by name
    select
        $run_id as run_id, $grid as grid, $started_at as started_at,
        $seconds as seconds,
        count(*) as asked,
        count(*) filter (where outcome = 'settled') as settled,
        count(*) filter (where outcome = 'failed') as failed,
        count(*) filter (where outcome = 'settled' and rows = 0) as empty,
        (select count(*) from incoming) as rows,
        $restated as restated, $quarantined as quarantined, $lost as lost, $requests as requests, $retries as retries
    from outcomes
"""
