"""Changes that wait in quarantine, and a person's decision about them.

Here: reading what waits, accepting and rejecting it.
Not here: what is put there (warehouse/doubts.py), the command (cli/quarantine.py).
"""
# ruff: noqa: S608

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import duckdb

from copilot_quant_pipeline.warehouse.comparing import differs
from copilot_quant_pipeline.warehouse.doubts import row_of_json
from copilot_quant_pipeline.warehouse.history import keep_replaced
from copilot_quant_pipeline.warehouse.oddities import warn_of_all_bars
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS, Table
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

STATES = ("waiting", "accepted", "rejected", "withdrawn")
_TABLES: tuple[Table, ...] = (BARS, ACTIONS)


@dataclass(frozen=True)
class Proposal:
    """One row a venue says otherwise than it is stored, and what became of that.

    `changes` gives each value that differs as (stored, proposed); stored values of a row that is not are None. Instants
    are aware UTC.
    """

    table: str
    date: date
    key: str
    changes: Mapping[str, tuple[Any, Any]]
    seen_at: datetime
    run_id: str
    state: str
    decided_at: datetime | None


@dataclass(frozen=True)
class Choice:
    """Which proposals are meant: of these symbols and this date; None is any."""

    keys: Collection[str] | None = None
    on: date | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """The values `_CHOSEN` binds."""
        return {"keys": None if self.keys is None else list(self.keys), "on": self.on}


def read_proposals(warehouse: Warehouse, choice: Choice, states: Sequence[str] = ("waiting",)) -> list[Proposal]:
    """The proposals meant that are in one of `states`, by symbol, date and when they were seen.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    rows = warehouse.read(
        f"from ops.quarantine where {_CHOSEN} and state in (select unnest($states))"
        ' order by key, date, "table", seen_at',
        {**choice.parameters, "states": list(states)},
    )
    return [_proposal(row) for row in rows.to_pylist()]


def accept(warehouse: Warehouse, choice: Choice, *, now: datetime) -> int:
    """Store what waits, record it as restated by the runs that saw it, in one transaction; gives how many rows.

    Raises:
        UserError: The warehouse cannot be opened or written.
    """
    with warehouse.transaction() as connection:
        for table in _TABLES:
            _store(connection, table, choice, now)
        warn_of_all_bars(connection, choice.keys, now)
        return _decide(connection, choice, "accepted", now)


def reject(warehouse: Warehouse, choice: Choice, *, now: datetime) -> int:
    """Leave what is stored as it is and never ask about the same change again; gives how many rows.

    Raises:
        UserError: The warehouse cannot be opened or written.
    """
    with warehouse.transaction() as connection:
        return _decide(connection, choice, "rejected", now)


_CHOSEN = "($keys::varchar[] is null or key in (select unnest($keys::varchar[]))) and ($on::date is null or date = $on)"


def _proposal(row: Mapping[str, Any]) -> Proposal:
    table = next(table for table in _TABLES if row["table"] == f"{table.schema}.{table.name}")
    old, new = json.loads(row["old"]) if row["old"] else {}, json.loads(row["new"])
    pairs = {column.name: (old.get(column.name), new[column.name]) for column in table.values}
    changes = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    shown = {name: row[name] for name in ("table", "date", "key", "seen_at", "run_id", "state", "decided_at")}
    return Proposal(changes=changes, **shown)


def _store(connection: duckdb.DuckDBPyConnection, table: Table, choice: Choice, now: datetime) -> None:
    name, names = f"{table.schema}.{table.name}", ", ".join(f'i."{column}"' for column in table.names)
    connection.execute(
        f"""
        create or replace temp table accepted as
        with waiting as (
            -- What a person accepts is known since then.
            select struct_update({row_of_json(table, "new")}, first_seen_at := $now::timestamptz) as i, seen_at, run_id
            from ops.quarantine
            where "table" = '{name}' and state = 'waiting' and {_CHOSEN}
        )
        select s.rowid as stored_rowid, s, i, seen_at, run_id
        from waiting left join {table.qualified} s on s.date = i.date and s.symbol = i.symbol
        """,
        {**choice.parameters, "now": now},
    )
    for column in table.values:
        connection.execute(f"""
            insert into ops.restatements by name
            select '{name}' as "table", i.date as date, i.symbol as key, '{column.name}' as "column",
                cast(s."{column.name}" as varchar) as old, cast(i."{column.name}" as varchar) as new, seen_at, run_id
            from accepted where {differs(column)}
        """)
    connection.execute(keep_replaced(table, "accepted"))
    connection.execute(f"delete from {table.qualified} where rowid in (select stored_rowid from accepted)")
    connection.execute(f"insert into {table.qualified} by name select {names} from accepted")


def _decide(connection: duckdb.DuckDBPyConnection, choice: Choice, state: str, now: datetime) -> int:
    (count,) = connection.execute(
        f"update ops.quarantine set state = $state, decided_at = $now where state = 'waiting' and {_CHOSEN}",
        {**choice.parameters, "state": state, "now": now},
    ).fetchone() or (0,)
    return int(count)
