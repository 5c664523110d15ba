"""The life that each run carries in a tag, and runs whose life is over though nobody has said that they ended.

Here: the tag, whether a run's process lives, ending the runs of processes that do not.
Not here: what a life is (life), the slots of a pool (sqlite), the cells of such runs (upkeep/accounts.py).
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.storage.tags import HIDDEN_TAG_PREFIX

from copilot_quant_pipeline.ledger.former import is_gone
from copilot_quant_pipeline.ledger.life import FileLives, Lives, ProcessLife

# Dagit shows no tag of this prefix: nobody who looks at the list of runs has a use for it.
PROCESS_TAG = f"{HIDDEN_TAG_PREFIX}copilot_quant/process"

# `life:<name>:<run id>`; the version before wrote `host:pid:start`, or that with `:<run id>`.
_LIFE = "life"
_FOLDER = "alive"

UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]

_begun: weakref.WeakKeyDictionary[DagsterInstance, ProcessLife] = weakref.WeakKeyDictionary()
_beginning = threading.Lock()


def lives_of(instance: DagsterInstance) -> Lives:
    """Where the lives of whoever works on an instance are held."""
    return FileLives(Path(instance.root_directory) / _FOLDER)


def this_process() -> str:
    """This process for people: its pid and what was typed, shortened."""
    typed = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return f"process {os.getpid()}: {typed if len(typed) <= 80 else f'{typed[:79]}…'}"


@contextmanager
def living(instance: DagsterInstance, run_id: str) -> Iterator[dict[str, str]]:
    """A life for one run that this process executes, over at the end of a `with`; the tags that the run carries."""
    life = lives_of(instance).begin(this_process())
    try:
        yield _tag(life, run_id)
    finally:
        life.end()


def note_process(instance: DagsterInstance, run_id: str) -> None:
    """Have a run that this process executes carry a life of it, unless it carries one; a retry carries its parent's."""
    run = instance.get_run_by_id(run_id)
    if run and not _is_of(run, run.tags.get(PROCESS_TAG, "")):
        instance.add_run_tags(run_id, _tag(_life_with(instance), run_id))


def is_over(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether the process that executes a run has ended; False where the run names none."""
    process = run.tags.get(PROCESS_TAG, "")
    return _is_of(run, process) and _has_ended(instance, process)


def is_alive(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether the process that executes a run lives; False where the run names none."""
    process = run.tags.get(PROCESS_TAG, "")
    return _is_of(run, process) and not _has_ended(instance, process)


def _has_ended(instance: DagsterInstance, process: str) -> bool:
    if process.startswith(f"{_LIFE}:"):
        return lives_of(instance).is_over(process.split(":")[1])
    return is_gone(process, Path(instance.root_directory).parent)


def told(instance: DagsterInstance, run_id: str) -> str:
    """A run and its process, for people."""
    run = instance.get_run_by_id(run_id)
    process = run.tags.get(PROCESS_TAG, "") if run else ""
    who = lives_of(instance).told(process.split(":")[1]) if process.startswith(f"{_LIFE}:") else ""
    return f"run {run_id[:8]} ({who})" if who else f"run {run_id[:8]}"


def release_dead_runs(instance: DagsterInstance) -> list[str]:
    """Fail unfinished runs whose process no longer lives, and free their slots; their run ids.

    A process killed outright leaves its run started for ever, and what the run claimed of a pool claimed.
    """
    runs = instance.get_runs(filters=RunsFilter(statuses=UNFINISHED))
    dead = [run for run in runs if is_over(instance, run)]
    for run in dead:
        release(instance, run)
    lives_of(instance).sweep()
    return [run.run_id for run in dead]


def release(instance: DagsterInstance, run: DagsterRun) -> None:
    """Fail a run whose process has ended, and free its slots."""
    instance.report_run_failed(run, "The process of this run has ended without finishing it.")
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _life_with(instance: DagsterInstance) -> ProcessLife:
    """The life of this process that lasts as long as it works with `instance`."""
    with _beginning:
        life = _begun.get(instance)
        if life is None or not life.is_held:
            life = _begun[instance] = lives_of(instance).begin(this_process())
            weakref.finalize(instance, life.end)
        return life


def _tag(life: ProcessLife, run_id: str) -> dict[str, str]:
    return {PROCESS_TAG: f"{_LIFE}:{life.name}:{run_id}"}


def _is_of(run: DagsterRun, process: str) -> bool:
    """Whether a tag tells of this run, not of the one that this is a retry of."""
    of = process.split(":")[2 if process.startswith(f"{_LIFE}:") else 3 :]
    return process != "" and (of == [run.run_id] or (not of and run.parent_run_id is None))
