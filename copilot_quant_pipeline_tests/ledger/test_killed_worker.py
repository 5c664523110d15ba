"""A run whose process is killed outright is failed, retried and its pool slot freed, by Dagster's own loops."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.instance_for_test import instance_for_test
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
from dagster._daemon.monitoring.concurrency import execute_concurrency_slots_iteration
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

# Dagster's own call, for a daemon that has no cursor yet.
pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")

log = logging.getLogger(__name__)

LOCATION = """
import os, pathlib, time
import dagster as dg

@dg.asset(pool="yahoo")
def slow(context: dg.AssetExecutionContext) -> None:
    pathlib.Path("{pid}").write_text(str(os.getpid()))
    time.sleep(0 if context.retry_number or context.run.parent_run_id else 60)

defs = dg.Definitions([slow], executor=dg.in_process_executor)
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[dg.DagsterInstance, WorkspaceProcessContext, Path]]:
    shipped = yaml.safe_load(resources.files("copilot_quant_pipeline.ledger").joinpath("dagster.yaml").read_text())
    shipped["run_monitoring"]["free_slots_after_run_end_seconds"] = 1
    shipped["run_coordinator"] = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
    del shipped["concurrency"]["runs"]
    location, pid = tmp_path / "location.py", tmp_path / "pid"
    location.write_text(LOCATION.format(pid=pid))
    (tmp_path / "home").mkdir()
    with (
        instance_for_test(temp_dir=str(tmp_path / "home"), overrides=shipped) as instance,
        create_test_daemon_workspace_context(PythonFileTarget(str(location), None, None, None), instance) as daemon,
    ):
        yield instance, daemon, pid


def until(what: Callable[[], object]) -> None:
    for _ in range(600):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within half a minute")


def launch(instance: dg.DagsterInstance, daemon: WorkspaceProcessContext) -> str:
    context = daemon.create_request_context()
    (entry,) = context.get_code_location_entries().values()
    assert entry.code_location is not None, entry.load_error
    (repository,) = entry.code_location.get_repositories().values()
    job = repository.get_full_job("__ASSET_JOB")
    plan = entry.code_location.get_execution_plan(job, {}, None, None, instance)
    run = instance.create_run(
        job_name=job.name,
        run_id=None,
        run_config=None,
        status=None,
        tags={},
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=None,
        execution_plan_snapshot=plan.execution_plan_snapshot,
        job_snapshot=job.job_snapshot,
        parent_job_snapshot=None,
        asset_selection=None,
        asset_check_selection=None,
        resolved_op_selection=None,
        op_selection=None,
        remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(),
        asset_graph=repository.asset_graph,
    )
    instance.launch_run(run.run_id, context)
    return run.run_id


def test_a_killed_run_is_failed_retried_and_its_slot_freed(
    world: tuple[dg.DagsterInstance, WorkspaceProcessContext, Path],
) -> None:
    instance, daemon, pid = world
    consumer = EventLogConsumerDaemon()
    list(consumer.run_iteration(daemon))
    killed = launch(instance, daemon)
    until(lambda: pid.exists() and pid.read_text())
    assert instance.event_log_storage.get_concurrency_info("yahoo").active_slot_count == 1
    os.kill(int(pid.read_text()), signal.SIGKILL)

    def ended() -> bool:
        list(execute_run_monitoring_iteration(daemon, log))
        run = instance.get_run_by_id(killed)
        return run is not None and run.status is dg.DagsterRunStatus.FAILURE

    until(ended)

    def freed() -> bool:
        list(execute_concurrency_slots_iteration(daemon, log))
        return instance.event_log_storage.get_concurrency_info("yahoo").active_slot_count == 0

    until(freed)
    list(consumer.run_iteration(daemon))
    (retry,) = [run for run in instance.get_runs() if run.run_id != killed]
    assert retry.parent_run_id == killed
    until(lambda: (run := instance.get_run_by_id(retry.run_id)) and run.is_finished)
    done = instance.get_run_by_id(retry.run_id)
    assert done is not None
    assert done.status is dg.DagsterRunStatus.SUCCESS
