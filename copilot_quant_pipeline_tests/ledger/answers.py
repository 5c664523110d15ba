"""What an event log tells Dagit and the daemon, made comparable between two instances.

Run ids become their order, storage ids the event they name; times and process ids are left out. Within a
batch, cells have no order of their own, so lists of events are sorted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import dagster as dg
from dagster import AssetRecordsFilter, DagsterEventType
from dagster._core.event_api import EventLogRecord, EventRecordsFilter
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster_shared.serdes import serialize_value

from copilot_quant_pipeline_tests.ledger.small_grid import BARS, MEMBERS, NIGHTS, SYMBOLS, axis, grid

MATERIALIZED = DagsterEventType.ASSET_MATERIALIZATION
PLANNED = DagsterEventType.ASSET_MATERIALIZATION_PLANNED
OBSERVED = DagsterEventType.ASSET_OBSERVATION
STATES = (MATERIALIZED, PLANNED, OBSERVED)
PARTITIONS = {BARS: grid, NIGHTS: axis, MEMBERS: None}
CELL = "2024-01-03|AAPL"
TIMES = {"timestamp", "pid"}


@dataclass(frozen=True)
class Answers:
    """All that is asked of one instance whose runs are, in order, `runs`."""

    instance: dg.DagsterInstance
    runs: Sequence[str]

    def all(self) -> dict[str, Any]:
        """Every answer, by the question."""
        answers: dict[str, Any] = {}
        for key in PARTITIONS:
            for name, ask in self._of_asset().items():
                answers[f"{name} of {key.to_user_string()}"] = ask(key)
        for number, run_id in enumerate(self.runs):
            for name, ask_run in self._of_run().items():
                answers[f"{name} of run {number}"] = ask_run(run_id)
        return answers | self._of_instance()

    @property
    def log(self) -> Any:
        return self.instance.event_log_storage

    def _of_asset(self) -> Mapping[str, Callable[[dg.AssetKey], Any]]:
        return {
            "has_asset_key": self.log.has_asset_key,
            "get_materialized_partitions": self.log.get_materialized_partitions,
            "get_materialized_partitions by cursor": lambda key: [
                (self.log.get_materialized_partitions(key, after_cursor=at),
                 self.log.get_materialized_partitions(key, before_cursor=at + 1)) for at in self._boundaries
            ],
            "get_latest_storage_id_by_partition": self._latest_ids,
            "get_latest_tags_by_partition": self._latest_tags,
            "attempts without materializations": self._attempts,
            "get_event_tags_for_asset": lambda key: _sorted(self.log.get_event_tags_for_asset(key)),
            "tags of one cell": lambda key: _sorted(self.log.get_event_tags_for_asset(
                key, filter_tags={"dagster/partition/symbol": "AAPL"})),
            "get_asset_records": self._asset_record,
            "get_latest_materialization_events": lambda key: self._without_cell(
                self.log.get_latest_materialization_events([key]).get(key)),
            "get_event_records": lambda key: [self._by_filter(key, state) for state in STATES],
            "fetch": self._fetched,
            "get_latest_planned_materialization_info": lambda key: [
                self._planned_info(key, None), self._planned_info(key, CELL)],
            "get_asset_event_summary_records": self._summaries,
            "get_updated_data_version_partitions": lambda key: [
                self.log.get_updated_data_version_partitions(key, [CELL, "2024-01-02|MSFT"], at)
                for at in self._boundaries],
            "status cache": self._status,
            "checks": self._checks,
        }  # fmt: skip

    def _of_run(self) -> Mapping[str, Callable[[str], Any]]:
        return {
            "status": self._run_status,
            "get_logs_for_run": lambda run_id: self._log_of(self.log.get_logs_for_run(run_id)),
            "get_records_for_run": lambda run_id: [
                self._log_of(self._paged(run_id, ascending=ascending)) for ascending in (True, False)
            ],
            "get_logs_for_run of type": lambda run_id: [
                self._log_of(self.log.get_logs_for_run(run_id, of_type=state)) for state in STATES
            ],
            "get_asset_partitions_for_run": lambda run_id: [
                self.log.get_asset_partitions_for_run(run_id, of_type)
                for of_type in (None, *STATES, {*STATES})
            ],
            "get_asset_keys_for_run": lambda run_id: set(self.log.get_asset_keys_for_run(run_id)),
            "get_asset_event_summary_records": lambda run_id: [
                _sorted((summary.asset_key, summary.partition)
                        for summary in self.log.get_asset_event_summary_records(state, run_id=run_id))
                for state in STATES
            ],
            "get_stats_for_run": lambda run_id: self._stats(self.log.get_stats_for_run(run_id)),
            "get_step_stats_for_run": lambda run_id: [
                (stats.step_key, stats.status, stats.attempts, self._told(stats.materialization_events),
                 len(stats.expectation_results)) for stats in self.log.get_step_stats_for_run(run_id)
            ],
        }  # fmt: skip

    def _of_instance(self) -> dict[str, Any]:
        log = self.log
        return {
            "all_asset_keys": set(log.all_asset_keys()),
            "get_asset_keys": list(log.get_asset_keys(limit=2)),
            "dynamic partitions": log.get_dynamic_partitions("symbol"),
            "paginated": log.get_paginated_dynamic_partitions("symbol", limit=2, ascending=True).results,
            "has": [log.has_dynamic_partition("symbol", symbol) for symbol in [*SYMBOLS, "NONE"]],
            "existing": set(log.get_existing_dynamic_partitions("symbol", ["MSFT", "NONE"])),
            "run status changes": [
                self._name(record.run_id)
                for record in log.fetch_run_status_changes(DagsterEventType.RUN_SUCCESS, 100).records
            ],
            "get_logs_for_all_runs_by_log_id": self._told(
                event for state in STATES for event in log.get_logs_for_all_runs_by_log_id(-1, state).values()
            ),
        }

    def _asset_record(self, key: dg.AssetKey) -> Any:
        records = self.log.get_asset_records([key])
        return [
            (
                self._without_cell(record.asset_entry.last_materialization),
                self._name(record.asset_entry.last_run_id),
                self._named_by(record.asset_entry.last_materialization_storage_id, exact=False),
                record.asset_entry.asset_details is not None,
            )
            for record in records
        ]

    def _latest_ids(self, key: dg.AssetKey) -> Any:
        return [
            {
                partition: self._named_by(storage_id)
                for partition, storage_id in self.log.get_latest_storage_id_by_partition(
                    key, state, partitions=chosen
                ).items()
            }
            for state in STATES
            for chosen in (None, {CELL})
        ]

    def _latest_tags(self, key: dg.AssetKey) -> Any:
        names = ["dagster/data_version", "dagster/partition/date", "dagster/partition/symbol"]
        return [
            self.log.get_latest_tags_by_partition(key, state, names, asset_partitions=chosen, after_cursor=at)
            for state in (MATERIALIZED, OBSERVED)
            for chosen in (None, [CELL])
            for at in (None, *self._boundaries)
        ]

    def _attempts(self, key: dg.AssetKey) -> Any:
        ask = self.log.get_latest_asset_partition_materialization_attempts_without_materializations
        return [
            {
                cell: (self._name(run_id), self._named_by(storage_id))
                for cell, (run_id, storage_id) in ask(key, after_storage_id=at).items()
            }
            for at in (None, *self._boundaries)
        ]

    def _by_filter(self, key: dg.AssetKey, state: DagsterEventType) -> Any:
        def records(**given: Any) -> list[str]:
            limit = given.pop("limit", None)
            found = self.log.get_event_records(EventRecordsFilter(state, key, **given), limit=limit)
            return self._told(record.event_log_entry for record in found)

        return [
            records(),
            records(asset_partitions=[CELL]),
            records(asset_partitions=[CELL], limit=1),
            *[records(after_cursor=at) for at in self._boundaries],
            *[records(before_cursor=at + 1) for at in self._boundaries],
        ]

    def _fetched(self, key: dg.AssetKey) -> Any:
        fetches: list[Any] = [
            self.log.fetch_materializations,
            self.log.fetch_observations,
            self.instance.fetch_planned_materializations,
        ]
        # With a plain key, fetch_planned_materializations takes no notice of the cursor.
        filters = [AssetRecordsFilter(asset_key=key, asset_partitions=chosen) for chosen in (None, [CELL])]
        return [
            self._told(self._pages(fetch, of, ascending))
            for fetch in fetches
            for of in filters
            for ascending in (True, False)
        ]

    def _pages(self, fetch: Any, of: Any, ascending: bool) -> list[EventLogEntry]:
        events: list[EventLogEntry] = []
        page = fetch(of, limit=5, ascending=ascending)
        while page.records:
            events += [record.event_log_entry for record in page.records]
            page = fetch(of, limit=5, cursor=page.cursor, ascending=ascending)
        return events

    def _planned_info(self, key: dg.AssetKey, cell: str | None) -> Any:
        info = self.log.get_latest_planned_materialization_info(key, cell)
        return info and (self._name(info.run_id), self._named_by(info.storage_id, exact=bool(cell)))

    def _summaries(self, key: dg.AssetKey) -> Any:
        return [
            _sorted(
                (self._name(found.run_id), found.partition)
                for found in self.log.get_asset_event_summary_records(state, key, after_storage_id=at)
            )
            for state in STATES
            for at in (None, *self._boundaries)
        ]

    def _status(self, key: dg.AssetKey) -> Any:
        partitions = PARTITIONS[key]
        if partitions is None:
            return None
        value = get_and_update_asset_status_cache_value(self.instance, key, partitions)
        return value and [
            sorted(subset.get_partition_keys())
            for subset in (
                value.deserialize_materialized_partition_subsets(partitions),
                value.deserialize_failed_partition_subsets(partitions),
                value.deserialize_in_progress_partition_subsets(partitions),
            )
        ]

    def _checks(self, key: dg.AssetKey) -> Any:
        history = self.log.get_asset_check_execution_history(dg.AssetCheckKey(key, "is_full"), limit=10)
        return [(record.status, self._name(record.run_id)) for record in history]

    def _paged(self, run_id: str, *, ascending: bool) -> list[EventLogEntry]:
        records: list[EventLogRecord] = []
        page = self.log.get_records_for_run(run_id, limit=4, ascending=ascending)
        while page.records:
            records += page.records
            page = self.log.get_records_for_run(run_id, page.cursor, limit=4, ascending=ascending)
        return [record.event_log_entry for record in (records if ascending else reversed(records))]

    def _log_of(self, events: Sequence[EventLogEntry]) -> Any:
        """The steps of a run in their order, and what its asset events say."""
        steps = [step for step, _ in groupby((event.dagster_event_type, event.step_key) for event in events)]
        of_assets = ASSET_EVENTS | ASSET_CHECK_EVENTS
        return steps, self._told(event for event in events if event.dagster_event_type in of_assets)

    def _run_status(self, run_id: str) -> Any:
        found = self.instance.get_run_by_id(run_id)
        return found and (found.status, found.tags)

    def _stats(self, stats: Any) -> Any:
        return (stats.steps_succeeded, stats.steps_failed, stats.materializations, stats.expectations,
                stats.end_time is not None)  # fmt: skip

    @cached_property
    def _boundaries(self) -> list[int]:
        """The last storage ids of two runs that have asset events left, ascending."""
        last: dict[str, int] = {}
        for storage_id, event in sorted(self._by_id.items()):
            last[event.run_id] = storage_id
        ids = sorted(last.values())
        return ids[len(ids) // 3 :][:2]

    @cached_property
    def _by_id(self) -> Mapping[int, EventLogEntry]:
        return {
            record.storage_id: record.event_log_entry
            for state in STATES
            for record in self.log.get_event_records(EventRecordsFilter(state))
        }

    def _named_by(self, storage_id: int | None, *, exact: bool = True) -> str | None:
        if storage_id is None:
            return None
        event = self._by_id[storage_id]
        return self._told([event])[0] if exact else self._without_cell(event)

    def _without_cell(self, event: EventLogEntry | None) -> str | None:
        """An event of which only the run is known, as cells of a batch have no order."""
        return event and f"{event.dagster_event_type} {self._name(event.run_id)}"

    def _told(self, events: Iterable[EventLogEntry]) -> list[str]:
        return sorted(self._document(each) for event in events for each in _one_a_cell(event))

    def _document(self, event: EventLogEntry) -> str:
        text = serialize_value(event)
        for run_id in self.runs:
            text = text.replace(run_id, self._name(run_id))
        return json.dumps(_without_times(json.loads(text)), sort_keys=True)

    def _name(self, run_id: str | None) -> str:
        return f"run {self.runs.index(run_id)}" if run_id in self.runs else str(run_id)


def _one_a_cell(event: EventLogEntry) -> list[EventLogEntry]:
    """The intended difference: a run's own log has one planned event where Dagster's has one a cell."""
    dagster_event = event.dagster_event
    if dagster_event is None or dagster_event.partitions_subset is None:
        return [event]
    data = dagster_event.asset_materialization_planned_data
    return [
        event._replace(
            dagster_event=dagster_event._replace(
                event_specific_data=data._replace(partition=key, partitions_subset=None)
            )
        )
        for key in dagster_event.partitions_subset.get_partition_keys()
    ]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(item) for name, item in value.items() if name not in TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def _sorted(items: Iterable[Any]) -> list[Any]:
    return sorted(items, key=repr)
