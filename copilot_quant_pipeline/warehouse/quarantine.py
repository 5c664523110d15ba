"""Proposals that wait in quarantine, and a person's decision about them.

Here: reading what waits, accepting and rejecting it, and taking a rejection back.
Not here: what is put there (warehouse/plausibility.py), the command (cli/quarantine.py).

A proposal is decided as a whole: all rows of one number, with all that follows from them. Who names one of its rows
means all of it.
"""
# ruff: noqa: S608

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import duckdb

from copilot_quant_pipeline.warehouse.comparison import differs
from copilot_quant_pipeline.warehouse.history import keep_replaced
from copilot_quant_pipeline.warehouse.oddities import warn_of_all_bars
from copilot_quant_pipeline.warehouse.plausibility import row_of_json
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS, Table
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

STATES = ("waiting", "accepted", "rejected", "withdrawn", "resolved")
_TABLES: tuple[Table, ...] = (BARS, ACTIONS)


@dataclass(frozen=True)
class Proposal:
    """One row of a proposal: what a venue says otherwise than it is stored, and what became of that.

    `proposal` is the number of all that is decided together, `kind` is split, dividend, prices or volumes. `changes`
    gives each value that differs as (stored, proposed); stored values of a row that is not are None. Accepting a split
    whose `factor` is not 1 multiplies all earlier prices and dividends of the symbol by it, and divides the volumes.
    Instants are aware UTC.
    """

    proposal: int
    kind: str
    table: str
    date: date
    key: str
    changes: Mapping[str, tuple[Any, Any]]
    factor: float | None
    divided: bool | None
    seen_at: datetime
    run_id: str
    state: str
    decided_at: datetime | None


@dataclass(frozen=True)
class ProposalChoice:
    """Which proposals are meant: those with a row of these symbols, of this date, of these numbers; None is any."""

    keys: Collection[str] | None = None
    on: date | None = None
    numbers: Collection[int] | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """The values `_CHOSEN` binds."""
        keys, numbers = (None if given is None else list(given) for given in (self.keys, self.numbers))
        return {"keys": keys, "on": self.on, "numbers": numbers}


@dataclass(frozen=True)
class Waiting:
    """How much of one kind waits of one symbol: rows, proposals, their dates, and since when (aware UTC)."""

    key: str
    kind: str
    proposals: int
    rows: int
    first: date
    last: date
    since: datetime


def read_proposals(
    warehouse: Warehouse, choice: ProposalChoice, states: Sequence[str] = ("waiting",)
) -> list[Proposal]:
    """The rows of proposals meant that are in one of `states`, by symbol, date and when they were seen.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    rows = warehouse.read(
        f"from ops.quarantine where {_CHOSEN} and state in (select unnest($states))"
        ' order by key, date, "table", kind, seen_at',
        {**choice.parameters, "states": list(states)},
    )
    return [_proposal(row) for row in rows.to_pylist()]


def count_proposals(
    warehouse: Warehouse, choice: ProposalChoice, states: Sequence[str] = ("waiting",)
) -> list[Waiting]:
    """The same by symbol and kind, the symbols with most rows first.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    rows = warehouse.read(
        f"""
        select key, kind, count(distinct proposal) as proposals, count(*) as rows, min(date) as first,
            max(date) as last, min(seen_at) as since
        from ops.quarantine where {_CHOSEN} and state in (select unnest($states))
        group by key, kind order by sum(count(*)) over (partition by key) desc, key, kind
        """,
        {**choice.parameters, "states": list(states)},
    )
    return [Waiting(**row) for row in rows.to_pylist()]


def accept(warehouse: Warehouse, choice: ProposalChoice, *, now: datetime) -> int:
    """Store what waits, bars and actions in one transaction; gives how many rows of proposals were decided.

    What changes is recorded as restated by the runs that saw it, and is known since `now`.

    Raises:
        UserError: The warehouse cannot be opened or written.
    """
    with warehouse.transaction() as connection:
        connection.execute(_CHOSEN_ROWS, choice.parameters)
        for statement in (_BAR_PATCHES, _ACTION_PATCHES, _SCALES):
            connection.execute(statement)
        # Both are read before either is written: the bar of an action that is on no record tells what is known of it.
        for table, statement in ((BARS, _ACCEPTED_BARS), (ACTIONS, _ACCEPTED_ACTIONS)):
            connection.execute(f"create temp table {_accepted(table)} as {statement}", {"now": now})
        for table in _TABLES:
            _store(connection, table)
        warn_of_all_bars(connection, _symbols_chosen(connection), now)
        return _decide(connection, choice, ("waiting", "accepted"), now)


def reject(warehouse: Warehouse, choice: ProposalChoice, *, now: datetime) -> int:
    """Leave what is stored as it is and not ask about the same change again; gives how many rows.

    Raises:
        UserError: The warehouse cannot be opened or written.
    """
    with warehouse.transaction() as connection:
        return _decide(connection, choice, ("waiting", "rejected"), now)


def reopen(warehouse: Warehouse, choice: ProposalChoice, *, now: datetime) -> int:
    """Let what was rejected wait again, but for what another proposal asks about meanwhile; gives how many rows.

    Raises:
        UserError: The warehouse cannot be opened or written.
    """
    with warehouse.transaction() as connection:
        return _decide(connection, choice, ("rejected", "waiting"), None)


def forget_decided(warehouse: Warehouse, before: datetime) -> int:
    """Delete proposals decided before that, aware; gives how many rows.

    What waits, was only noticed or was rejected stays: plausibility.py compares with it. The newest number stays, too,
    so that none is given twice.

    Raises:
        UserError: The warehouse cannot be opened or written.
    """
    (found,) = warehouse.read(f"select count(*) as rows from ops.quarantine where {_OVER}", {"before": before})["rows"]
    if not found.as_py():
        return 0
    with warehouse.transaction() as connection:
        connection.execute(f"delete from ops.quarantine where {_OVER}", {"before": before})
    return int(found.as_py())


def count_bytes(warehouse: Warehouse) -> int:
    """What the stored and proposed values of all proposals take, as text, in bytes.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    texts = 'coalesce(strlen("old"::varchar), 0) + strlen("new"::varchar)'
    (total,) = warehouse.read(f"select coalesce(sum({texts}), 0)::bigint as total from ops.quarantine")["total"]
    return int(total.as_py())


_OVER = """
    decided_at < $before and proposal < (select max(proposal) from ops.quarantine)
    and proposal not in (
        select proposal from ops.quarantine
        where decided_at is null or decided_at >= $before or state in ('waiting', 'rejected', 'noticed')
    )
"""

_CHOSEN = """
    proposal in (
        select proposal from ops.quarantine
        where ($keys::varchar[] is null or key in (select unnest($keys::varchar[])))
            and ($on::date is null or date = $on)
            and ($numbers::bigint[] is null or proposal in (select unnest($numbers::bigint[])))
    )
"""


def _proposal(row: Mapping[str, Any]) -> Proposal:
    table = next(table for table in _TABLES if row["table"] == f"{table.schema}.{table.name}")
    old, new = json.loads(row["old"]) if row["old"] else {}, json.loads(row["new"])
    pairs = {column.name: (old.get(column.name), new[column.name]) for column in table.values if column.name in new}
    changes = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    shown = {name: value for name, value in row.items() if name not in ("old", "new")}
    return Proposal(changes=changes, **shown)


def _symbols_chosen(connection: duckdb.DuckDBPyConnection) -> list[str]:
    return [str(key) for (key,) in connection.execute("select distinct key from chosen").fetchall()]


def _accepted(table: Table) -> str:
    return f"accepted_{table.name}"


def _store(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    accepted, names = _accepted(table), ", ".join(f'i."{column}"' for column in table.names)
    for column in table.values:
        connection.execute(f"""
            insert into ops.restatements by name
            select '{table.schema}.{table.name}' as "table", coalesce(i.date, s.date) as date,
                coalesce(i.symbol, s.symbol) as key, '{column.name}' as "column",
                cast(s."{column.name}" as varchar) as old, cast(i."{column.name}" as varchar) as new, seen_at, run_id
            from {accepted} where {differs(column)}
        """)
    connection.execute(keep_replaced(table, accepted))
    connection.execute(f"delete from {table.qualified} where rowid in (select stored_rowid from {accepted})")
    connection.execute(
        f"insert into {table.qualified} by name select {names} from {accepted} where i.symbol is not null"
    )


def _decide(
    connection: duckdb.DuckDBPyConnection, choice: ProposalChoice, states: tuple[str, str], now: datetime | None
) -> int:
    before, after = states
    (count,) = connection.execute(
        f"""
        update ops.quarantine q set state = $after, decided_at = $now where state = $before and {_CHOSEN}
            and ($before = 'waiting' or not exists (
                from ops.quarantine o where o.state = 'waiting' and o."table" = q."table" and o.date = q.date
                    and o.key = q.key and o.kind = q.kind
            ))
        """,
        {**choice.parameters, "before": before, "after": after, "now": now},
    ).fetchone() or (0,)
    return int(count)


_CHOSEN_ROWS = f"""
    create temp table chosen as
    select q.*, {row_of_json(BARS, "old")} as before, {row_of_json(BARS, "new")} as after
    from ops.quarantine q where state = 'waiting' and {_CHOSEN}
"""


def _patched(names: Sequence[str]) -> str:
    """The values that proposals change; what they only name is null."""
    return ", ".join(
        f"any_value(case when after.{name} is distinct from before.{name} then after.{name} end) as {name}"
        for name in names
    )


_VALUES_AND_NOTES = [column.name for column in (*BARS.values, *BARS.notes)]

_BAR_PATCHES = f"""
    create temp table bar_patches as
    select date, key as symbol, min(run_id) as run_id, {_patched(_VALUES_AND_NOTES)}
    from chosen where "table" = 'equities.bars' group by date, key
"""

_ACTION_PATCHES = f"""
    create temp table action_patches as
    select date, key as symbol, min(run_id) as run_id, {_patched(["dividend", "split_ratio", "source"])}
    from chosen where "table" = 'equities.actions' group by date, key
"""

_SCALES = """
    create temp table scales as
    select c.key as symbol, coalesce(l.since, '0001-01-01') as since, c.date as until, c.factor, c.run_id
    from chosen c left join equities.lives l on l.symbol = c.key and c.date between l.since and l.until
    where c.factor <> 1
"""


def _scaled(value: str) -> str:
    """A value of seven digits times the scale of its row."""
    scaled = f"({value}) * coalesce(k.scale, 1)"
    digits = f"6 - cast(floor(log10({scaled})) as integer)"
    return f"case when k.scale is null or ({value}) = 0 then {value} else round({scaled}, {digits}) end"


def _accepted_bar() -> str:
    values = {name: _scaled(f"coalesce(p.{name}, s.{name})") for name in ("open", "high", "low", "close")} | {
        "volume": "cast(round(coalesce(p.volume, s.volume) / coalesce(k.scale, 1)) as bigint)",
        "dividend": _scaled("coalesce(a.dividend, p.dividend, s.dividend)"),
        "split_ratio": "coalesce(a.split_ratio, p.split_ratio, s.split_ratio)",
        **{column.name: f"coalesce(p.{column.name}, s.{column.name})" for column in BARS.notes},
        "first_seen_at": "$now::timestamptz",
    }
    return f"struct_update(s, {', '.join(f'{name} := {value}' for name, value in values.items())})"


_SCALED = """
    select s.rowid as id, product(factor) as scale, min(run_id) as run_id
    from {table} s join scales on scales.symbol = s.symbol
        and s.date >= scales.since and s.date < scales.until group by s.rowid
"""

_ACCEPTED_BARS = f"""
    select s.rowid as stored_rowid, s, {_accepted_bar()} as i, $now::timestamptz as seen_at,
        coalesce(p.run_id, a.run_id, k.run_id) as run_id
    from equities.bars s
    left join bar_patches p on p.symbol = s.symbol and p.date = s.date
    left join action_patches a on a.symbol = s.symbol and a.date = s.date
    left join ({_SCALED.format(table="equities.bars")}) k on k.id = s.rowid
    where p.symbol is not null or a.symbol is not null or k.id is not null
"""

# An action that nothing is left of goes.
_ACCEPTED_ACTIONS = f"""
    with known as (
        select symbol, date, a.run_id, s.rowid as stored_rowid, a.source,
            coalesce(a.dividend, s.dividend, b.dividend, 0) as dividend,
            coalesce(a.split_ratio, s.split_ratio, b.split_ratio, 1) as split_ratio, b.source as bar_source
        from equities.actions s full join action_patches a using (symbol, date)
        left join equities.bars b using (symbol, date)
    ), rescaled as (
        select n.*, k.scale, coalesce(n.run_id, k.run_id) as by_run, {_scaled("n.dividend")} as paid
        from known n left join ({_SCALED.format(table="equities.actions")}) k on k.id = n.stored_rowid
        where n.run_id is not null or k.id is not null and n.dividend <> 0
    )
    select r.stored_rowid, s,
        case when paid <> 0 or r.split_ratio <> 1 then {{
            'symbol': r.symbol, 'date': r.date, 'dividend': paid, 'split_ratio': r.split_ratio,
            'source': coalesce(s.source, r.source, r.bar_source, ''), 'first_seen_at': $now::timestamptz
        }} end as i,
        $now::timestamptz as seen_at, by_run as run_id
    from rescaled r left join equities.actions s on s.rowid = r.stored_rowid
"""
