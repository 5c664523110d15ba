"""What is kept of the past: superseded events and the runs that nothing on the grid stands on any more go.

Here: which runs go, whose logs get shorter, the order it is done in, disk space given back.
Not here: the statements on the index (old_events.py), when it is done (upkeep/retention.py).

What a user loses, `KEPT` after the fact: of a cell, all events but the newest of each kind; runs none of whose cells
are as they left them, with their logs and output; in the logs of the other runs, the cells that newer runs have
settled. The grid, every cell's newest event, its run and that run's log stay for ever.

Each step is done in turns of half a second and can be interrupted anywhere: the next time goes on from there.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from dagster import DagsterInstance, RunsFilter
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from sqlalchemy import text

from copilot_quant_pipeline.ledger.old_events import Horizon, find_superseded
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage

KEPT = timedelta(days=90)

# A run, as a file or folder is named after it.
_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_BUSY_SECONDS = 30.0
# 16 MB: a turn of a tenth of a second.
_PAGES_A_TURN = 1_000

_CELLS_OF_RUNS = """
    select run_id, sum(dagster_event_type = 'ASSET_MATERIALIZATION') from event_logs
    where asset_key is not null and dagster_event_type in
        ('ASSET_MATERIALIZATION', 'ASSET_MATERIALIZATION_PLANNED', 'ASSET_OBSERVATION')
    group by run_id
"""
# A check shows its newest evaluation and, while that is under way, the newest that ended.
_RUNS_OF_CHECKS = """
    select run_id from asset_check_executions where id in (
        select max(id) from asset_check_executions group by asset_key, check_name, partition
        union
        select max(id) from asset_check_executions where execution_status <> 'PLANNED'
        group by asset_key, check_name, partition
    )
"""
_FORGET_CHECKS = "delete from asset_check_executions where run_id in (select value from json_each(:runs))"
_CURRENT_CELLS = """
    select asset_key, partition from event_logs where run_id = :run and dagster_event_type = 'ASSET_MATERIALIZATION'
"""
_CELLS_IN_LOG = "select count(*) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'"
_SHORTEN = """
    delete from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION' and (asset_key, coalesce(partition, ''))
        not in (select json_extract(value, '$[0]'), coalesce(json_extract(value, '$[1]'), '') from json_each(?))
"""


class Runs(NamedTuple):
    """What becomes of old runs: `gone` are deleted, the logs of `shorter` lose the cells newer runs have settled."""

    gone: tuple[str, ...]
    shorter: tuple[str, ...]


@dataclass(frozen=True)
class Pruned:
    """What pruning took away, and what Dagster's home took on disk before and after, in bytes."""

    events: int
    runs: int
    logs: int
    files: int
    before: int
    after: int


def plan_runs_kept(
    old: Iterable[str], cells: Mapping[str, int], in_log: Mapping[str, int], needed: Collection[str]
) -> Runs:
    """What becomes of `old` runs.

    Args:
        old: finished runs from before the horizon.
        cells: of each run that any event of the index is from, how many of these are materializations.
        in_log: how many materializations the own log of a run has.
        needed: runs that are kept for another reason.
    """
    runs = list(old)
    gone = tuple(run for run in runs if run not in cells and run not in needed)
    shorter = tuple(run for run in runs if run in cells and in_log.get(run, 0) > cells[run])
    return Runs(gone, shorter)


def prune(instance: DagsterInstance, now: datetime, kept: timedelta = KEPT) -> Pruned:
    """Forget what is older than `kept` and that nothing Dagit shows of the grid, the checks and runs stands on.

    `now` is aware. Safe while other processes read and write; does nothing to a user's own event-log storage.
    """
    home = Path(instance.root_directory)
    before = size_on_disk(home)
    log = instance.event_log_storage
    if not isinstance(log, GridEventLogStorage):
        return Pruned(0, 0, 0, 0, before, before)
    horizon = Horizon(now.astimezone(UTC).replace(tzinfo=None), kept)
    with log.index_connection() as conn:
        superseded = find_superseded(conn, horizon)
    log.forget_events(superseded)
    runs = _plan(instance, log, horizon)
    _shorten(log, runs.shorter)
    _delete(instance, log, runs.gone)
    files = _delete_leftovers(instance, log, horizon)
    give_back_pages(Path(log.path_for_shard(INDEX_SHARD_NAME)))
    return Pruned(len(superseded), len(runs.gone), len(runs.shorter), files, before, size_on_disk(home))


def size_on_disk(folder: Path) -> int:
    """What a folder takes on disk, in bytes, its files' last blocks and the folders themselves included."""
    return sum(path.lstat().st_blocks * 512 for path in _existing([folder, *folder.rglob("*")]))


def give_back_pages(path: Path) -> None:
    """Shorten a file by its free pages, a turn at a time; one that was not made for it keeps them for new rows."""
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as conn:
        while _pragma(conn, "freelist_count") and _pragma(conn, "auto_vacuum"):
            conn.execute(f"pragma incremental_vacuum({_PAGES_A_TURN})").fetchall()
        # At once or not at all: whoever reads now would be waited for, and the next to close the file does it.
        conn.execute("pragma busy_timeout = 0")
        conn.execute("pragma wal_checkpoint(truncate)").fetchall()


def _plan(instance: DagsterInstance, log: GridEventLogStorage, horizon: Horizon) -> Runs:
    ended_before = RunsFilter(statuses=FINISHED_STATUSES, updated_before=horizon.begin.replace(tzinfo=UTC))
    old = [record.dagster_run.run_id for record in instance.get_run_records(ended_before)]
    with log.index_connection() as conn:
        cells = {run: int(count) for run, count in conn.execute(text(_CELLS_OF_RUNS))}
        needed = set(conn.execute(text(_RUNS_OF_CHECKS)).scalars())
    in_log = {run: _cells_in_log(Path(log.path_for_shard(run))) for run in old if run in cells}
    return plan_runs_kept(old, cells, in_log, needed)


def _cells_in_log(path: Path) -> int:
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as conn:
        return int(conn.execute(_CELLS_IN_LOG).fetchone()[0])


def _shorten(log: GridEventLogStorage, runs: Sequence[str]) -> None:
    for run in runs:
        with log.index_connection() as index:
            current = [list(row) for row in index.execute(text(_CURRENT_CELLS), {"run": run})]
        with closing(sqlite3.connect(log.path_for_shard(run), timeout=_BUSY_SECONDS, isolation_level=None)) as conn:
            conn.execute(_SHORTEN, (json.dumps(current),))
            conn.execute("vacuum")


def _delete(instance: DagsterInstance, log: GridEventLogStorage, runs: Sequence[str]) -> None:
    for run in runs:
        instance.delete_run(run)
        instance.compute_log_manager.delete_logs(prefix=[run])
        log.forget_log(run)
    with log.index_connection() as conn:
        conn.execute(text(_FORGET_CHECKS), {"runs": json.dumps(list(runs))})


def _delete_leftovers(instance: DagsterInstance, log: GridEventLogStorage, horizon: Horizon) -> int:
    """Delete what Dagster leaves behind once it is old: logs and output of runs a user has deleted, logs of ticks."""
    known = set(instance.get_run_ids())
    logs = Path(log.path_for_shard(INDEX_SHARD_NAME)).parent.glob("*.db")
    outputs = list(Path(instance.storage_directory()).glob("*"))
    of_runs = [path for path in (*logs, *outputs) if _RUN_ID.fullmatch(path.stem) and path.stem not in known]
    of_ticks = [path for folder in outputs if not _RUN_ID.fullmatch(folder.name) for path in folder.rglob("*.err")]
    old = [path for path in (*of_runs, *of_ticks) if _changed(path) < horizon.begin]
    for path in old:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix == ".db":
            log.forget_log(path.stem)
        else:
            path.unlink(missing_ok=True)
    return len(old)


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.lstat().st_mtime, UTC).replace(tzinfo=None)


def _existing(paths: Iterable[Path]) -> Iterator[Path]:
    # A file may be gone by the time it is looked at.
    return (path for path in paths if path.exists())


def _pragma(conn: sqlite3.Connection, name: str) -> int:
    return int(conn.execute(f"pragma {name}").fetchone()[0])
