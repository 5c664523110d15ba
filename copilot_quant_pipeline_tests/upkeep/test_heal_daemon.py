"""The sensor `heal` in Dagster's own sensor daemon: found in the code location, running by default, runs launched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance_for_test import instance_for_test
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.sensor import execute_sensor_iteration

from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.automation import leave_only
from copilot_quant_pipeline_tests.backfills.conftest import _LOCATION, DAEMON_WARNINGS, unqueued
from copilot_quant_pipeline_tests.upkeep.healing_world import BARS, World, open_world
from copilot_quant_pipeline_tests.upkeep.test_heal_sensor import FRIDAY, SYMBOLS, WEEK

pytestmark = DAEMON_WARNINGS


@pytest.fixture
def world(unused: Settings) -> Iterator[World]:
    with open_world(unused, FRIDAY) as world:
        yield world


def _iterate(daemon: WorkspaceProcessContext) -> None:
    with ThreadPoolExecutor() as pool:
        futures: dict[str, object] = {}
        list(execute_sensor_iteration(daemon, logging.getLogger(__name__), pool, None, futures))  # type: ignore[arg-type]
        for future in futures.values():
            future.result()  # type: ignore[attr-defined]


def test_the_daemon_runs_it_by_default_and_launches_its_runs(world: World, tmp_path: Path) -> None:
    world.venues.fault("lost_session", dates=["2024-03-20", "2024-03-21"])
    world.settle(SYMBOLS, WEEK)
    world.venues.clear_faults()
    location = tmp_path / "location.py"
    later = replace(world.settings, pinned_now=FRIDAY + timedelta(minutes=10))
    location.write_text(_LOCATION.format(environment=later.environment()))
    target = PythonFileTarget(str(location), None, None, None)
    with (
        instance_for_test(temp_dir=str(world.settings.dagster_home), overrides=unqueued()) as instance,
        create_test_daemon_workspace_context(target, instance) as daemon,
    ):
        leave_only(instance, daemon, "heal")
        _iterate(daemon)
        (run,) = instance.get_runs(filters=dg.RunsFilter(tags={"dagster/sensor_name": "heal"}))
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert run.asset_selection == {BARS}
        assert world.red() == {}
