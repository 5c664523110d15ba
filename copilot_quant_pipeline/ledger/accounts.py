"""Runs that owe an account of their cells: from when these are planned until the run has said what became of each.

Here: the table of open accounts beside the index of events, and the statements on it.
Not here: what is done about a run that ended owing one (upkeep/accounts.py), events (events, sqlite).

A run that is killed, interrupted or cannot write ends without an account. Among a hundred thousand finished runs it is
found by its row here, not by looking at each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from dagster import AssetKey
from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_TABLE = "copilot_quant_accounts"
_IS_THERE = text(f"select 1 from sqlite_master where type = 'table' and name = '{_TABLE}'")  # noqa: S608 ours
_MAKE = text(
    f"create table if not exists {_TABLE}"
    " (run_id text not null, asset_key text not null, primary key (run_id, asset_key)) without rowid"
)
_OPEN = text(f"insert or ignore into {_TABLE} values (:run, :asset)")  # noqa: S608 ours
_CLOSE = text(f"delete from {_TABLE} where run_id = :run and asset_key = coalesce(:asset, asset_key)")  # noqa: S608 ours
_ALL = text(f"select run_id, asset_key from {_TABLE} where run_id <> '' order by run_id, asset_key")  # noqa: S608 ours
# A row of no run says that runs of the version before, which noted nothing, have been looked for.
_ARE_OF_BEFORE_FOUND = text(f"select 1 from {_TABLE} where run_id = ''")  # noqa: S608 ours
_OF_BEFORE_FOUND = text(f"insert or ignore into {_TABLE} values ('', '')")  # noqa: S608 ours

# A cell is owed by the run that was the last to be asked for it, until something is painted.
_IS_LAST = """
    not exists (
        select 1 from event_logs newer
        where newer.asset_key = planned.asset_key and newer.partition = planned.partition and newer.id > planned.id
            and newer.dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_MATERIALIZATION_PLANNED')
    )
"""
_OWED = text(
    f"""
    select planned.partition, planned.id, coalesce((
        select older.dagster_event_type = 'ASSET_MATERIALIZATION' from event_logs older
        where older.asset_key = planned.asset_key and older.partition = planned.partition and older.id < planned.id
            and older.dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_MATERIALIZATION_PLANNED')
        order by older.id desc limit 1
    ), false) as was_green
    from event_logs planned
    where planned.run_id = :run and planned.asset_key = :asset and planned.partition is not null
        and planned.dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED' and {_IS_LAST}
    """  # noqa: S608 ours
)
_OPEN_OF_BEFORE = text(
    f"""
    insert or ignore into {_TABLE}
    select distinct planned.run_id, planned.asset_key from event_logs planned
    where planned.asset_key in (select value from json_each(:assets)) and planned.partition is not null
        and planned.dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED' and {_IS_LAST}
    """  # noqa: S608 ours
)


class Account(NamedTuple):
    """What a run owes: an account of its cells of an asset."""

    run_id: str
    asset: AssetKey


class Owed(NamedTuple):
    """A cell whose newest attempt is a run's.

    Its partition key, the id of the event that planned it, and whether by the event before that it is green.
    """

    cell: str
    planned: int
    was_green: bool


def open_account(conn: Connection, account: Account) -> None:
    """Note that a run owes an account."""
    conn.execute(_MAKE)
    conn.execute(_OPEN, {"run": account.run_id, "asset": account.asset.to_string()})


def close_account(conn: Connection, run_id: str, asset: AssetKey | None = None) -> None:
    """Note that a run has said what became of each of its cells, of all its assets unless one is named."""
    if conn.execute(_IS_THERE).first():
        conn.execute(_CLOSE, {"run": run_id, "asset": asset.to_string() if asset else None})


def read_accounts(conn: Connection, assets: Iterable[AssetKey]) -> list[Account]:
    """All open accounts.

    In a home of the version before, which noted none, they are those of runs that are the last to have been asked for
    some cell of `assets`: that is looked for once.
    """
    conn.execute(_MAKE)
    if not conn.execute(_ARE_OF_BEFORE_FOUND).first():
        conn.execute(_OPEN_OF_BEFORE, {"assets": json.dumps([asset.to_string() for asset in assets])})
        conn.execute(_OF_BEFORE_FOUND)
    found = ((run_id, AssetKey.from_db_string(asset)) for run_id, asset in conn.execute(_ALL))
    return [Account(run_id, asset) for run_id, asset in found if asset]


def read_owed(conn: Connection, account: Account) -> list[Owed]:
    """The cells that an account is owed of."""
    asked = {"run": account.run_id, "asset": account.asset.to_string()}
    return [Owed(cell, planned, bool(was_green)) for cell, planned, was_green in conn.execute(_OWED, asked)]
