"""Which rows are stored for Dagster's own events: what every SQL event log of the grid has in common.

Here: one planned event for a whole run, one materialized event for many cells, batches of events, as rows.
Not here: the JSON of a row (documents), tables, files and transactions of one database (sqlite).

Everything else, any other event and any other mix of events, goes to Dagster's own storage untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from dagster import AssetKey, DagsterEventType, MultiPartitionKey
from dagster._core.definitions.partitions.utils.multi import get_tags_from_multi_partition_key
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster_shared.serdes import serialize_value

from copilot_quant_pipeline.ledger.cell_key import Cells
from copilot_quant_pipeline.ledger.documents import (
    are_alike,
    materialization,
    materialized_document,
    planned_document,
)

T = TypeVar("T")
MATERIALIZED = DagsterEventType.ASSET_MATERIALIZATION
PLANNED = DagsterEventType.ASSET_MATERIALIZATION_PLANNED

# One transaction a batch: large enough that its fixed cost is lost among the cells, small enough (half a
# second) that other processes get their turn well within SQLite's busy timeout of 30 s.
CELLS_A_BATCH = 5_000


class Row(NamedTuple):
    """One row of Dagster's `event_logs`; the columns have the table's names."""

    run_id: str
    event: str
    dagster_event_type: str
    timestamp: datetime
    step_key: str | None
    asset_key: str
    partition: str | None


@dataclass(frozen=True)
class EventBatch:
    """Rows of one run and one asset that are stored together or not at all.

    Attributes:
        rows: a row per cell, in the order of their storage ids.
        tags: the tags of each row that are indexed; empty for planned events.
        last: the event of the last row, from which the asset's own record is updated.
        are_in_log: whether the run's own log shows the rows, or has its own event for all of them.
    """

    rows: Sequence[Row]
    tags: Sequence[Mapping[str, str]]
    last: EventLogEntry
    are_in_log: bool


class CellEvents(SqlEventLogStorage):
    """Dagster's SQL event log, with many cells stored at once; a database's own storage completes it."""

    def _store_batch(self, batch: EventBatch) -> None:
        """Store all of the batch, or none of it."""
        raise NotImplementedError

    def _store_in_log(self, event: EventLogEntry) -> None:
        """Store an event in its run's own log only, for a database that keeps one apart; else do nothing."""
        raise NotImplementedError

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        """True: the creation of a run plans all of its cells in one event."""
        return True

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event as Dagster does; one that stands for many cells is stored for each of them."""
        planned, all_of = _planned_partitions(event), cells_of(event)
        if planned is not None:
            self._store_planned(event, planned)
        elif all_of:
            for some in chunks(all_of.cells, CELLS_A_BATCH):
                self._store_batch(self._cells_batch(event, some, are_in_log=all_of.are_in_log))
        else:
            super().store_event(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store materializations of one asset in one run at once, any other batch event by event."""
        if _are_cells_of_one_asset(events):
            self._store_batch(self._materialized_batch(events))
        else:
            super().store_event_batch(events)

    def get_asset_partitions_for_run(
        self, run_id: str, of_type: DagsterEventType | set[DagsterEventType] | None = None
    ) -> Mapping[AssetKey, set[str | None]]:
        """The partitions of a run's asset events, with those of the one event that plans them all."""
        found = {key: set(keys) for key, keys in super().get_asset_partitions_for_run(run_id, of_type).items()}
        wanted = {of_type} if isinstance(of_type, DagsterEventType) else of_type
        if not wanted or PLANNED in wanted:
            for event in self.get_logs_for_run(run_id, of_type=PLANNED):
                planned = _planned_partitions(event)
                if planned:
                    found[asset_of(event)] |= set(planned)
                    found[asset_of(event)].discard(None)
        return found

    def _store_planned(self, event: EventLogEntry, keys: Sequence[str]) -> None:
        if len(keys) == 1:
            super().store_event(_planned_for(event, keys[0]))
        elif keys:
            self._store_in_log(event)
            for some in chunks(keys, CELLS_A_BATCH):
                self._store_batch(self._planned_batch(event, some))

    def _planned_batch(self, event: EventLogEntry, keys: Sequence[str]) -> EventBatch:
        write = planned_document(event)
        row = self._row(event, "", None)
        rows = [row._replace(event=write(key), partition=key) for key in keys]
        return EventBatch(rows, (), _planned_for(event, keys[-1]), are_in_log=False)

    def _cells_batch(self, event: EventLogEntry, cells: Sequence[MultiPartitionKey], *, are_in_log: bool) -> EventBatch:
        write, row, at = materialized_document(event), self._row(event, "", None), event.timestamp
        shared, indexed = materialization(event).tags or {}, self._tags_for_asset_event(event)
        own = [get_tags_from_multi_partition_key(cell) for cell in cells]
        rows = [
            row._replace(event=write(cell, {**shared, **tags}, at), partition=cell)
            for cell, tags in zip(cells, own, strict=True)
        ]
        last = _materialized_for(event, cells[-1])
        return EventBatch(rows, [{**indexed, **tags} for tags in own], last, are_in_log)

    def _materialized_batch(self, events: Sequence[EventLogEntry]) -> EventBatch:
        write = _writer(events[0])
        rows = [self._row(event, write(event), materialization(event).partition) for event in events]
        tags = [self._tags_for_asset_event(event) for event in events]
        return EventBatch(rows, tags, events[-1], are_in_log=True)

    def _row(self, event: EventLogEntry, document: str, partition: str | None) -> Row:
        of = event.get_dagster_event()
        key = asset_of(event).to_string()
        at = datetime.fromtimestamp(event.timestamp, UTC).replace(tzinfo=None)
        return Row(event.run_id, document, of.event_type_value, at, of.step_key, key, partition or None)


def asset_of(event: EventLogEntry) -> AssetKey:
    """The asset that an event is of, where it is of one."""
    key = event.get_dagster_event().asset_key
    if key is None:
        raise ValueError("This event is of no asset.")
    return key


def _planned_partitions(event: EventLogEntry) -> list[str] | None:
    if event.dagster_event_type is not PLANNED:
        return None
    subset = event.get_dagster_event().partitions_subset
    return None if subset is None else sorted(subset.get_partition_keys())


def _planned_for(event: EventLogEntry, key: str) -> EventLogEntry:
    dagster_event = event.get_dagster_event()
    data = dagster_event.asset_materialization_planned_data._replace(partition=key, partitions_subset=None)
    return event._replace(dagster_event=dagster_event._replace(event_specific_data=data))


def cells_of(event: EventLogEntry) -> Cells | None:
    """The cells that a materialization stands for; None for any other event."""
    if event.dagster_event_type is not MATERIALIZED:
        return None
    partition = materialization(event).partition
    return partition if isinstance(partition, Cells) else None


def _materialized_for(event: EventLogEntry, cell: MultiPartitionKey) -> EventLogEntry:
    dagster_event, asset = event.get_dagster_event(), materialization(event)
    tags = {**(asset.tags or {}), **get_tags_from_multi_partition_key(cell)}
    data = dagster_event.step_materialization_data._replace(materialization=asset._replace(partition=cell, tags=tags))
    return event._replace(dagster_event=dagster_event._replace(event_specific_data=data))


def _are_cells_of_one_asset(events: Sequence[EventLogEntry]) -> bool:
    return bool(events) and all(
        event.dagster_event_type is MATERIALIZED
        and event.run_id == events[0].run_id
        and asset_of(event) == asset_of(events[0])
        and not cells_of(event)
        for event in events
    )


def _writer(first: EventLogEntry) -> Callable[[EventLogEntry], str]:
    write = materialized_document(first)

    def document(event: EventLogEntry) -> str:
        if not are_alike(event, first):
            return serialize_value(event)
        asset = materialization(event)
        return write(asset.partition, asset.tags, event.timestamp)

    return document


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in their order, at most `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
