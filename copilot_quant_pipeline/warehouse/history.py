"""What was known when: the history beside each table of values, and any of these tables as of an instant.

Here: the statements that keep what a transaction replaces, and the one that gives a table as of an instant.
Not here: which rows change (warehouse/settling.py, warehouse/catalog.py), reading (warehouse/reading.py).

A value stands from its row's `first_seen_at` until the `known_until` of its row in the history, that instant excluded.
A value that returns begins anew. What is said about values (notes) changes in place and has no history.
"""
# ruff: noqa: S608

from __future__ import annotations

from copilot_quant_pipeline.warehouse.comparison import any_differs
from copilot_quant_pipeline.warehouse.tables import FIRST_SEEN, KNOWN_UNTIL, Column, Table, history_of


def as_of(table: Table) -> str:
    """A query for the rows of one of `VALUES` as they stood at `$as_of`; what was set once later is null in it."""
    columns = ", ".join(_as_of(column) for column in table.columns)
    return f"""
        select {columns} from {table.qualified} where {FIRST_SEEN} <= $as_of
        union all
        select {columns} from {history_of(table).qualified} where {FIRST_SEEN} <= $as_of and $as_of < {KNOWN_UNTIL}
    """


FIRST_VERSION_WITH_HISTORY = 3


def keep_replaced(table: Table, changes: str) -> str:
    """A statement that keeps the stored rows `s` of `changes`: a relation of s, i (null where nothing comes), seen_at.

    It is executed before those rows are deleted.
    """
    old = ", ".join(f's."{name}" as "{name}"' for name in table.names)
    return f"""
        insert into {history_of(table).qualified} by name
        select {old}, {_replaced_at()} as {KNOWN_UNTIL} from {changes} where s."{table.key[0]}" is not null
    """


def renewed(column: Column) -> str:
    """What a changed row's column becomes, given s, i and whether it is `restated`: stamps go by the values."""
    name = f'"{column.name}"'
    if column.name == FIRST_SEEN:
        return f"case when restated then {_replaced_at()} else s.{name} end as {name}"
    if column.kind == "once":
        return f"case when restated then i.{name} else coalesce(s.{name}, i.{name}) end as {name}"
    return f"i.{name} as {name}"


def replace_statements(table: Table) -> list[str]:
    """The statements that put the rows of the frame `incoming` in the place of all rows of `table`.

    A row whose values are stored already keeps when they were first seen.
    """
    same = " and ".join(f's."{name}" is not distinct from i."{name}"' for name in table.key)
    columns = ", ".join(renewed(column) for column in table.columns)
    return [
        f"""
        create temp table replaced as
        select s, i, s."{FIRST_SEEN}" is null or i."{FIRST_SEEN}" is null or {any_differs(table.values)} as restated,
            (select max("{FIRST_SEEN}") from incoming) as seen_at
        from {table.qualified} s full join incoming i on {same}
        """,
        keep_replaced(table, f'(from replaced where restated and s."{FIRST_SEEN}" is not null)'),
        f"delete from {table.qualified}",
        f'insert into {table.qualified} by name select {columns} from replaced where i."{FIRST_SEEN}" is not null',
        "drop table replaced",
    ]


def _replaced_at() -> str:
    """When `i` replaces `s`: as it was first seen, never before what it replaces was."""
    # greatest() passes over nulls.
    return f'case when i."{FIRST_SEEN}" is null then seen_at else greatest(i."{FIRST_SEEN}", s."{FIRST_SEEN}") end'


def _as_of(column: Column) -> str:
    if column.kind == "once":
        return f'case when "{column.name}" <= $as_of then "{column.name}" end as "{column.name}"'
    return f'"{column.name}"'
