"""Which of the platform's sensors a test's daemon evaluates: each is on by default, and would act in every world."""

from __future__ import annotations

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext


def leave_only(instance: dg.DagsterInstance, daemon: WorkspaceProcessContext, *sensors: str) -> None:
    """Switch every other sensor of the daemon's code locations off, as a user does in Dagit."""
    for location in daemon.create_request_context().code_locations:
        for repository in location.get_repositories().values():
            for sensor in repository.get_sensors():
                if sensor.name not in sensors:
                    instance.stop_sensor(sensor.get_remote_origin_id(), sensor.selector_id, sensor)
