"""A daemon that a test turns by hand: its instance runs at once, its sensors are those the test names."""

from __future__ import annotations

from importlib import resources
from typing import Any

import dagster as dg
import yaml
from dagster._core.workspace.context import WorkspaceProcessContext

from copilot_quant_pipeline.ledger.instance import NOTHING_CAPTURED


def shipped_but_synchronous() -> dict[str, Any]:
    """The shipped instance, except that a run is executed where it is launched and what it prints is not kept."""
    shipped = yaml.safe_load(resources.files("copilot_quant_pipeline.ledger").joinpath("dagster.yaml").read_text())
    del shipped["run_monitoring"]
    return {
        **shipped,
        "compute_logs": NOTHING_CAPTURED,
        "run_launcher": {
            "module": "dagster._core.launcher.sync_in_memory_run_launcher",
            "class": "SyncInMemoryRunLauncher",
        },
    }


def leave_only(instance: dg.DagsterInstance, daemon: WorkspaceProcessContext, *sensors: str) -> None:
    """Switch every other sensor of the daemon's code locations off, as a user does in Dagit.

    Each is on by default, and would act in every world.
    """
    for location in daemon.create_request_context().code_locations:
        for repository in location.get_repositories().values():
            for sensor in repository.get_sensors():
                if sensor.name not in sensors:
                    instance.stop_sensor(sensor.get_remote_origin_id(), sensor.selector_id, sensor)
