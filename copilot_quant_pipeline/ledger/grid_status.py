"""The grid as Dagit shows it, read at once: which cells are green, red or under way.

Here: the colours of one asset's cells, computed as Dagster's status cache does.
Not here: what is stored of a cell (warehouse), what to do where the two differ (upkeep/reconcile.py).

Dagster's cache tells the same, but for half a million cells it takes a minute to build and writes as it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dagster import AssetKey, DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.storage.dagster_run import FINISHED_STATUSES

# SQLite's limit is far above; Dagster's own readers ask for so many at a time.
_RUNS_A_QUERY = 100


@dataclass(frozen=True)
class GridStatus:
    """The cells of one asset, as their partition keys; a cell under way may be green or red as well."""

    green: frozenset[str]
    red: frozenset[str]
    under_way: frozenset[str]


def read_grid_status(instance: DagsterInstance, asset: AssetKey) -> GridStatus:
    """What Dagit shows of the cells of `asset`, those off its axes included."""
    log = instance.event_log_storage
    # Last, so that what is materialized meanwhile is green rather than blank.
    attempts = log.get_latest_asset_partition_materialization_attempts_without_materializations(asset)
    statuses = _statuses(instance, {run for run, _ in attempts.values()})
    red = frozenset(cell for cell, (run, _) in attempts.items() if statuses.get(run) is DagsterRunStatus.FAILURE)
    under_way = frozenset(cell for cell, (run, _) in attempts.items() if _is_unfinished(statuses.get(run)))
    return GridStatus(frozenset(log.get_materialized_partitions(asset)) - red, red, under_way)


def _statuses(instance: DagsterInstance, runs: Iterable[str]) -> Mapping[str, DagsterRunStatus]:
    asked = sorted(runs)
    found = [
        run
        for start in range(0, len(asked), _RUNS_A_QUERY)
        for run in instance.get_runs(RunsFilter(run_ids=asked[start : start + _RUNS_A_QUERY]))
    ]
    return {run.run_id: run.status for run in found}


def _is_unfinished(status: DagsterRunStatus | None) -> bool:
    return status is not None and status not in FINISHED_STATUSES
