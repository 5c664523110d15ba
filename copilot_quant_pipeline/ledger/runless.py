"""Events of a grid that no run has emitted: somebody reported cells by hand, or wiped them.

Here: the statements that find them, and what they say.
Not here: what is done about them (upkeep/runless.py), how they are stored.

Dagster stores reports in the index over all runs; what tells of wiping is in the log of the run without an id only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dagster import AssetKey
from dagster._core.events.log import EventLogEntry
from dagster._serdes import deserialize_value
from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_REPORTED = text(
    """
    select id, partition from event_logs
    where run_id = '' and asset_key = :asset and dagster_event_type = 'ASSET_MATERIALIZATION'
    """
)
_WIPED = text("select id, event from event_logs where asset_key = :asset and dagster_event_type = 'ASSET_WIPED'")
_FORGET_WIPED = text("delete from event_logs where id in (select value from json_each(:ids))")


@dataclass(frozen=True)
class Runless:
    """What was done to an asset's cells by hand.

    Attributes:
        reports: the events that report cells, as the index over all runs numbers them.
        reported: these cells, as partition keys.
        wipes: the events that tell of wiping, as the log of no run numbers them.
        wiped: the cells wiped; None is all.
    """

    reports: tuple[int, ...]
    reported: frozenset[str]
    wipes: tuple[int, ...]
    wiped: frozenset[str] | None


def read_reports(index: Connection, asset: AssetKey) -> dict[int, str | None]:
    """The events that report `asset` by hand, and the cell each reports, if any."""
    rows = index.execute(_REPORTED, {"asset": asset.to_string()})
    return {row.id: row.partition for row in rows}


def read_wipes(log_of_no_run: Connection, asset: AssetKey) -> dict[int, frozenset[str] | None]:
    """The events that tell of wiping `asset`, and the cells each wiped; None is all."""
    rows = log_of_no_run.execute(_WIPED, {"asset": asset.to_string()})
    return {row.id: _wiped_cells(row.event) for row in rows}


def runless_of(reports: Mapping[int, str | None], wipes: Mapping[int, frozenset[str] | None]) -> Runless:
    """Both together."""
    wiped = None if None in wipes.values() else frozenset(cell for cells in wipes.values() for cell in cells or ())
    return Runless(tuple(reports), frozenset(cell for cell in reports.values() if cell), tuple(wipes), wiped)


def forget_wipes(log_of_no_run: Connection, ids: Iterable[int]) -> None:
    """Delete what tells of wiping."""
    log_of_no_run.execute(_FORGET_WIPED, {"ids": json.dumps(list(ids))})


def _wiped_cells(document: str) -> frozenset[str] | None:
    data = deserialize_value(document, EventLogEntry).get_dagster_event().asset_wiped_data
    return None if data.partition_keys is None else frozenset(data.partition_keys)
