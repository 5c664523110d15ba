"""The Dagster instance of a home: its configuration, opening it, and runs whose process has died.

Here: dagster.yaml put in place, the instance opened from it, dead runs ended and their slots given back.
Not here: how events are stored (sqlite), what runs do.
"""

from __future__ import annotations

import socket
from importlib import resources
from pathlib import Path

import filelock
import psutil
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.tags import HIDDEN_TAG_PREFIX

from copilot_quant_pipeline.home import write_whole
from copilot_quant_pipeline.ledger import troubles
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage

# Dagit shows no tag of this prefix: nobody who looks at the list of runs has a use for it.
PROCESS_TAG = f"{HIDDEN_TAG_PREFIX}copilot_quant/process"

_CONFIG = "dagster.yaml"
_OPENING = ".opening.lock"
NOTHING_CAPTURED = {
    "module": "dagster._core.storage.noop_compute_log_manager",
    "class": "NoOpComputeLogManager",
}
_OURS = "copilot_quant_pipeline.ledger."
_UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def install_instance_config(dagster_home: Path) -> Path:
    """Write the shipped dagster.yaml into `dagster_home`, unless a user has made theirs of it; its path."""
    shipped = resources.files(__package__).joinpath(_CONFIG).read_text(encoding="utf-8")
    installed = dagster_home / _CONFIG
    dagster_home.mkdir(parents=True, exist_ok=True)
    current = installed.read_text(encoding="utf-8") if installed.exists() else _first_line(shipped)
    if current != shipped and _first_line(current) == _first_line(shipped):
        write_whole(installed, shipped)
    return installed


def open_instance(dagster_home: Path, *, capture_output: bool = True) -> DagsterInstance:
    """The instance configured in `dagster_home`, a context manager; sets nothing in the environment.

    Without `capture_output` what a run in this process prints goes where this process prints: capturing it starts four
    more processes a run, through which a progress bar would go, and which Ctrl-C in a terminal has print stack traces.
    The ledger is opened in this home whatever DAGSTER_HOME says; a user's own event-log storage is respected.
    Processes that open a new home at once take turns, because Dagster's storages cannot create their tables together.
    """
    home = dagster_home.resolve()
    ref = InstanceRef.from_dir(str(home))
    overrides: dict[str, object] = {} if capture_output else {"compute_logs": NOTHING_CAPTURED}
    overrides |= _storages_in(home, ref)
    if overrides:
        ref = InstanceRef.from_dir(str(home), overrides=overrides)
    home.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(home / _OPENING):
        try:
            instance = DagsterInstance.from_ref(ref)
            # Storages are made when first asked for; asked for here, they are made under the lock.
            _ = instance.run_storage, instance.schedule_storage
            if isinstance(instance.event_log_storage, GridEventLogStorage):
                instance.event_log_storage.expect_whole()
        except Exception as error:
            if trouble := troubles.told(error):
                raise trouble from error
            raise
    return instance


def _storages_in(home: Path, ref: InstanceRef) -> dict[str, object]:
    """Those of a home's storages that are ours, with their folders below `home`."""
    named = {
        "event_log_storage": ref.event_storage_data,
        "run_storage": ref.run_storage_data,
        "schedule_storage": ref.schedule_storage_data,
    }
    ours = {name: data for name, data in named.items() if data and data.module_name.startswith(_OURS)}
    return {
        name: {
            "module": data.module_name,
            "class": data.class_name,
            "config": {"base_dir": str(home / str(data.config_dict["base_dir"]))},
        }
        for name, data in ours.items()
    }


def this_process() -> str:
    """What names this process in PROCESS_TAG, so that its runs can be ended should it die: host:pid:start."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def note_process(instance: DagsterInstance, run_id: str) -> None:
    """Have a run carry PROCESS_TAG, naming this process, unless it does; a retry carries the one of the run before."""
    run = instance.get_run_by_id(run_id)
    if run and not _is_of(run, run.tags.get(PROCESS_TAG, "")):
        instance.add_run_tags(run_id, {PROCESS_TAG: f"{this_process()}:{run_id}"})


def release_dead_runs(instance: DagsterInstance) -> list[str]:
    """Fail unfinished runs whose process on this host no longer lives, and free their slots; their run ids.

    A process killed outright leaves its run started for ever, and what the run claimed of a pool claimed.
    """
    runs = instance.get_runs(filters=RunsFilter(statuses=_UNFINISHED))
    tagged = [(run, run.tags.get(PROCESS_TAG, "")) for run in runs]
    dead = [run for run, process in tagged if _is_of(run, process) and _is_dead(process)]
    for run in dead:
        _release(instance, run)
    return [run.run_id for run in dead]


def _release(instance: DagsterInstance, run: DagsterRun) -> None:
    process = run.tags[PROCESS_TAG]
    instance.report_run_failed(run, f"The process of this run ({process}) has ended without finishing it.")
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _is_of(run: DagsterRun, process: str) -> bool:
    """Whether a tag tells of this run, not of the one that this is a retry of."""
    of = process.split(":")[3:]
    return process != "" and (of == [run.run_id] or (not of and run.parent_run_id is None))


def _is_dead(process: str) -> bool:
    host, pid, started = process.split(":")[:3]
    if host != socket.gethostname():
        return False
    try:
        # Another process may have been given the same pid; its start differs by more than rounding.
        return abs(psutil.Process(int(pid)).create_time() - float(started)) > 1
    except psutil.NoSuchProcess:
        return True


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
