"""Taking events out of the index over all runs without anybody noticing, and without an id being given twice.

Here: the statements that find superseded events and delete events with their tags.
Not here: when to do so (retention.py), a run's own log, events coming in (events.py, sqlite.py).

Dagster's readers ask for the newest event of each cell and kind, or for what came after a cursor. An event that a
newer one of its cell and kind follows is in neither answer; only lists of an asset's history lose it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dagster import AssetKey, DagsterEventType
from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# Of each cell (or asset without cells) and kind, the newest says what Dagit shows.
STATES = (
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.FRESHNESS_STATE_CHANGE,
)

# However old a cell is: what happened a moment ago may still be looked for, by its run or by whoever asked for it.
UNTOUCHED = timedelta(days=1)

# The highest id stays taken: SQLite would give it again, and cursors that have passed it would miss that event.
_TOMBSTONE = text(
    """
    update event_logs set dagster_event_type = 'ASSET_WIPED', asset_key = null, partition = null, run_id = ''
    where id = (select max(id) from event_logs) and id in (select value from json_each(:ids))
    """
)
_DELETE = text(
    """
    delete from event_logs
    where id in (select value from json_each(:ids)) and id < (select max(id) from event_logs)
    """
)
_DELETE_TAGS = text("delete from asset_event_tags where event_id in (select value from json_each(:ids))")

_SUPERSEDED = text(
    """
    select old.id from event_logs old
    where old.dagster_event_type in (select value from json_each(:states)) and old.asset_key is not null
        and old.timestamp < :touched
        and case when old.partition glob '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'
            then old.partition < :day else old.timestamp < :day end
        and exists (
            select 1 from event_logs newer
            where newer.asset_key = old.asset_key and newer.dagster_event_type = old.dagster_event_type
                and newer.partition is old.partition and newer.id > old.id
        )
    """
)

_OF_CELLS = text(
    """
    select id from event_logs
    where asset_key = :asset and dagster_event_type in (select value from json_each(:states))
        and partition in (select value from json_each(:cells))
    """
)
_FORGET_LAST = text(
    """
    update asset_keys set cached_status_data = null, last_materialization = case
        when json_extract(last_materialization, '$.storage_id') in (select value from json_each(:ids)) then null
        else last_materialization end
    where asset_key = :asset
    """
)


@dataclass(frozen=True)
class Horizon:
    """What is old: cells dated before `day` and, of assets without dates, events before it; `now` is naive UTC."""

    now: datetime
    kept: timedelta

    @property
    def day(self) -> str:
        """The first date that is not old, `2024-01-31`."""
        return self.begin.date().isoformat()

    @property
    def begin(self) -> datetime:
        """The instant before which events and runs are old, naive UTC."""
        return self.now - self.kept


def find_superseded(conn: Connection, horizon: Horizon) -> list[int]:
    """The ids of old events that a newer one of the same cell and kind follows, ascending."""
    asked = {"states": _listed(STATES), "day": horizon.day, "touched": str(horizon.now - UNTOUCHED)}
    return sorted(conn.execute(_SUPERSEDED, asked).scalars())


def find_events_of(conn: Connection, asset: AssetKey, cells: Iterable[str]) -> list[int]:
    """The ids of all events that say something of these cells."""
    asked = {"asset": asset.to_string(), "states": _listed(STATES), "cells": json.dumps(list(cells))}
    return sorted(conn.execute(_OF_CELLS, asked).scalars())


def forget(conn: Connection, ids: Sequence[int]) -> None:
    """Delete events of the index and their tags."""
    given = {"ids": json.dumps(list(ids))}
    for statement in (_DELETE_TAGS, _DELETE, _TOMBSTONE):
        conn.execute(statement, given)


def forget_last(conn: Connection, asset: AssetKey, ids: Sequence[int]) -> None:
    """Have an asset's own record rebuilt from the events that are left, once `ids` are deleted."""
    conn.execute(_FORGET_LAST, {"asset": asset.to_string(), "ids": json.dumps(list(ids))})


def _listed(states: Iterable[DagsterEventType]) -> str:
    return json.dumps([state.value for state in states])
