"""The Dagster instance of a home: its configuration, and opening it.

Here: dagster.yaml put in place, the instance opened from it.
Not here: how events are stored (sqlite), runs whose process has died (run_lives), what runs do.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef

from copilot_quant_pipeline.home import hold, write_whole
from copilot_quant_pipeline.ledger import troubles
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage
from copilot_quant_pipeline.ledger.turns import PATIENCE, PATIENT, WaitLimits

_CONFIG = "dagster.yaml"
_OPENING = ".opening.lock"
NOTHING_CAPTURED = {
    "module": "dagster._core.storage.noop_compute_log_manager",
    "class": "NoOpComputeLogManager",
}
_OURS = "copilot_quant_pipeline.ledger."


def install_instance_config(dagster_home: Path) -> Path:
    """Write the shipped dagster.yaml into `dagster_home`, unless a user has made theirs of it; its path."""
    shipped = resources.files(__package__).joinpath(_CONFIG).read_text(encoding="utf-8")
    installed = dagster_home / _CONFIG
    dagster_home.mkdir(parents=True, exist_ok=True)
    current = installed.read_text(encoding="utf-8") if installed.exists() else _first_line(shipped)
    if current != shipped and _first_line(current) == _first_line(shipped):
        write_whole(installed, shipped)
    return installed


def open_instance(
    dagster_home: Path, *, capture_output: bool = True, patience: WaitLimits = PATIENT
) -> DagsterInstance:
    """The instance configured in `dagster_home`, a context manager; sets nothing in the environment.

    Without `capture_output` what a run in this process prints goes where this process prints: capturing it starts four
    more processes a run, through which a progress bar would go, and which Ctrl-C in a terminal has print stack traces.
    The ledger is opened in this home whatever DAGSTER_HOME says; a user's own event-log storage is respected.
    Processes that open a new home at once take turns, because Dagster's storages cannot create their tables together.
    How long it waits for others, then and later, is `patience`.

    Raises:
        BusyError: Another process is opening it for longer than that.
    """
    home = dagster_home.resolve()
    ref = InstanceRef.from_dir(str(home))
    overrides: dict[str, object] = {} if capture_output else {"compute_logs": NOTHING_CAPTURED}
    overrides |= _storages_in(home, ref)
    if overrides:
        ref = InstanceRef.from_dir(str(home), overrides=overrides)
    home.mkdir(parents=True, exist_ok=True)
    with hold(home / _OPENING, patience.lock_timeout):
        waits = PATIENCE.set(patience)
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
        finally:
            PATIENCE.reset(waits)
    return instance


def be_patient(instance: DagsterInstance, patience: WaitLimits) -> None:
    """Have what this process does with the instance wait for other processes as `patience` says."""
    if isinstance(instance.event_log_storage, GridEventLogStorage):
        instance.event_log_storage.patience = patience


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


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
