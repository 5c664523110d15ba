"""The statements that settle cells, to be run inside one transaction.

Here: SQL from a table's declaration: which stored rows are replaced, what becomes of each cell, what is
recorded.
Not here: opening, locking and the transaction itself (warehouse/warehouse.py).

The frames `asked` (CELLS) and `incoming` (rows of the table) are registered beforehand. Names written into
statements are declared ones; values are bound.
"""
# ruff: noqa: S608

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from copilot_quant_pipeline.warehouse.harvest import GIVEN_UP, OUT_OF_REACH_FOR, PASSING, TRIED_FOR, TRIES
from copilot_quant_pipeline.warehouse.tables import Column, GridTable

# Yahoo's prices are float32: undoing one more split moves them by about 1e-7, which is no news.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class RowCounts:
    """What became of the rows that came; where only notes changed a row counts as unchanged."""

    inserted: int
    restated: int
    unchanged: int


def settle_rows(connection: duckdb.DuckDBPyConnection, table: GridTable, run_id: str) -> RowCounts:
    """Replace the stored rows that differ, add the new ones, record what changed in value."""
    connection.execute(_filled(table))
    connection.execute(_replaced(table))
    connection.execute(_restatements(table), {"run_id": run_id})
    connection.execute(f"delete from {table.qualified} where rowid in (select stored_rowid from replaced)")
    written = _number(connection, _insertion(table))
    came = _number(connection, "select count(*) from incoming")
    inserted = written - _number(connection, "select count(*) from replaced where came")
    still_there = _number(connection, "select count(*) from replaced where came and restated")
    restated = _number(connection, "select count(*) from replaced where restated")
    return RowCounts(inserted=inserted, restated=restated, unchanged=came - inserted - still_there)


def settle_actions(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the actions in the frame `told` to those that are stored; one that differs replaces its own key's."""
    connection.execute(_FORGET_ACTIONS)
    connection.execute(_INSERT_ACTIONS)


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


def _number(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    (number,) = connection.execute(statement).fetchone() or (0,)
    return int(number)


def _values(table: GridTable) -> list[Column]:
    return [column for column in table.columns if column.kind == "value" and column.name not in table.key]


def _differs(column: Column) -> str:
    old, new = f's."{column.name}"', f'i."{column.name}"'
    if column.type != pa.float64():
        return f"{old} is distinct from {new}"
    near = f"abs({old} - {new}) <= {TOLERANCE} * greatest(abs({old}), abs({new}))"
    return f"not coalesce({near}, {old} is null and {new} is null)"


def _any_differs(columns: list[Column]) -> str:
    return " or ".join(f"({_differs(column)})" for column in columns) or "false"


def _same_key(table: GridTable) -> str:
    return " and ".join(f's."{name}" is not distinct from i."{name}"' for name in table.key)


def _filled(table: GridTable) -> str:
    return f"""
        create temp table filled as
        select "{table.date_column}" as date, "{table.key_column}" as key, cast(count(*) as integer) as rows
        from incoming group by all
    """


def _replaced(table: GridTable) -> str:
    values = _values(table)
    notes = [column for column in table.columns if column.kind == "note"]
    here = f'i."{table.key[0]}" is not null'
    # s and i are kept as structs, so that what is written about the frames holds of this table too.
    return f"""
        create temp table replaced as
        select s.rowid as stored_rowid, s, i, {here} as came, not came or {_any_differs(values)} as restated
        from {table.qualified} s
        join filled f on s."{table.date_column}" = f.date and s."{table.key_column}" = f.key
        left join incoming i on {_same_key(table)}
        where not ({here}) or {_any_differs(values + notes)}
    """


def _restatements(table: GridTable) -> str:
    changes = " union all ".join(
        f"""
        select
            s."{table.date_column}" as date, s."{table.key_column}" as key, '{column.name}' as "column",
            cast(s."{column.name}" as varchar) as old, cast(i."{column.name}" as varchar) as new
        from replaced where restated and ({_differs(column)})
        """
        for column in _values(table)
    )
    return f"""
        insert into ops.restatements by name
        select '{table.schema}.{table.name}' as "table", c.*, a.fetched_at as seen_at, $run_id as run_id
        from ({changes}) c join asked a using (date, key)
    """


def _insertion(table: GridTable) -> str:
    names = ", ".join(f'i."{name}"' for name in table.names)
    return f"""
        insert into {table.qualified} by name
        select {names} from incoming i anti join {table.qualified} s on {_same_key(table)}
    """


def _kept(table: GridTable) -> str:
    return f"""
        create temp table kept as
        select s."{table.date_column}" as date, s."{table.key_column}" as key, cast(count(*) as integer) as
        rows from {table.qualified} s semi join (from asked anti join filled using (date, key)) a
            on s."{table.date_column}" = a.date and s."{table.key_column}" = a.key
        group by all
    """


_FORGET_ACTIONS = """
    delete from equities.actions a using told t
    where a.symbol = t.symbol and a.date = t.date
        and (a.dividend is distinct from t.dividend or a.split_ratio is distinct from t.split_ratio)
"""

_INSERT_ACTIONS = "insert into equities.actions by name from told anti join equities.actions using (symbol, date)"

# An answer without rows where rows are stored is the vendor's loss, not the truth about the cell. A cell that was given
# up stays so until it is settled, whoever asks.
_OUTCOMES = """
    create temp table outcomes as
    with told as (
        select
            a.date, a.key, a.fetched_at,
            a.outcome = 'settled' and f.rows is null and k.rows is not null as vanished,
            vanished or a.outcome = 'failed' as failed,
            case when vanished then 'vanished_at_source' else a.reason end as cause,
            case when vanished then coalesce(a.detail, 'answered ' || a.reason) else a.detail end as answer,
            coalesce(f.rows, k.rows, 0) as rows
        from asked a
        left join filled f using (date, key)
        left join kept k using (date, key)
    ), counted as (
        select
            t.*,
            case when failed then coalesce(c.attempts, 0) + 1 else 0 end as attempts,
            case when failed then coalesce(c.passing, 0) + cast(list_contains($passing, cause) as integer) else 0 end
                as passing,
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
                or attempts >= $tries and fetched_at - failing_since >= $out_of_reach_for
            ) as given_up,
            strftime(failing_since, '%Y-%m-%d %H:%M UTC') as since,
            concat(cause, ', ', attempts, ' tries since ', since, ': ' || answer) as epitaph
        from counted
    )
    select
        date, key, fetched_at, rows, attempts, passing, failing_since, reason_since,
        case when failed then 'failed' else 'settled' end as outcome,
        case when given_up then $given_up else cause end as reason,
        case when given_up then epitaph else answer end as detail
    from judged
"""

# What the statement above gives up by.
_PATIENCE = {
    "passing": list(PASSING),
    "given_up": GIVEN_UP,
    "tries": TRIES,
    "tried_for": TRIED_FOR,
    "out_of_reach_for": OUT_OF_REACH_FOR,
}

_FORGET_COVERAGE = """
    delete from ops.coverage c using outcomes o where c.grid = $grid and c.date = o.date and c.key = o.key
"""

_INSERT_COVERAGE = """
    insert into ops.coverage by name
    select $grid as grid, date, key, outcome, rows, reason, detail, attempts, passing, failing_since, reason_since,
        fetched_at, $run_id as run_id
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
        $restated as restated, $requests as requests, $retries as retries
    from outcomes
"""
