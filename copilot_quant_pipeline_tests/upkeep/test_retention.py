"""Claims about the weekly pruning, run by Dagster's own scheduler loop."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance_for_test import instance_for_test
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget, freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._scheduler.scheduler import launch_scheduled_runs
from dagster._utils.error import SerializableErrorInfo

from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.home import prepare_home
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.schedules import HISTORY
from copilot_quant_pipeline_tests.backfills.conftest import unqueued

pytestmark = [
    # Dagster's own reading of a schedule, when it loads code in this process.
    pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning"),
    # A run is executed inside the loop here, which a real launcher never does.
    pytest.mark.filterwarnings("ignore:coroutine 'BaseEventLoop.shutdown_asyncgens'"),
]

LOCATION = """
from dagster import AssetSelection, Definitions
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.retention import build_history
from copilot_quant_pipeline.upkeep.schedules import build_schedules

settings = Settings.from_environment({environment!r})
weekly = [schedule for schedule in build_schedules(settings) if schedule.name == "ledger_pruned_weekly"]
defs = Definitions([build_history(settings)], schedules=weekly)
"""
SATURDAY = datetime(2026, 10, 31, 20, tzinfo=UTC)


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    prepare_home(settings)
    with instance_for_test(temp_dir=str(settings.dagster_home), overrides=unqueued()) as instance:
        yield instance


def tick(instance: dg.DagsterInstance, settings: Settings, now: datetime, location: Path) -> None:
    """What the scheduler daemon does at `now`, with code loaded anew."""
    location.write_text(LOCATION.format(environment=replace(settings, pinned_now=now).environment()))
    target = LoadableTargetOrigin(executable_path=sys.executable, python_file=str(location))
    workspace = InProcessTestWorkspaceLoadTarget(InProcessCodeLocationOrigin(target))
    with freeze_time(now), WorkspaceProcessContext(instance, workspace) as context:
        for error in launch_scheduled_runs(context, logging.getLogger(__name__), now, {}):
            assert not isinstance(error, SerializableErrorInfo), error


def test_it_runs_on_sunday_at_four_in_new_york_by_whatever_clock(
    instance: dg.DagsterInstance, settings: Settings, tmp_path: Path
) -> None:
    def runs_by(n: int, now: datetime) -> int:
        tick(instance, settings, now, tmp_path / f"location_{n}.py")
        return instance.get_runs_count()

    # The clocks go back in that night: four o'clock is 09:00 UTC then.
    times = [SATURDAY, SATURDAY + timedelta(hours=12, minutes=50), SATURDAY + timedelta(hours=13, minutes=5)]
    assert [runs_by(n, now) for n, now in enumerate(times)] == [0, 0, 1]
    (run,) = instance.get_runs()
    assert run.is_success
    assert run.job_name.endswith("ledger_pruned_weekly")


def test_the_sizes_are_told_in_dagit(settings: Settings) -> None:
    prepare_home(settings)
    job = build_definitions(settings).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, asset_selection=[HISTORY])
    (told,) = result.asset_materializations_for_node("dagster_history")
    assert {"MB on disk", "superseded events deleted", "runs deleted"} <= set(told.metadata)


def test_the_schedule_is_on_by_default_and_has_no_named_job(settings: Settings) -> None:
    (schedule,) = (one for one in build_definitions(settings).schedules or () if one.name == "ledger_pruned_weekly")
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule.job_name.startswith("__")
