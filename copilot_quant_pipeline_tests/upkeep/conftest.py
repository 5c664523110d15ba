"""The platform left to itself: a home with its venues, and Dagster's own daemon loops turned by hand.

Here: a world whose clock is set, and what its daemon does then: the real scheduler and sensor loops, real runs.
Not here: backfills launched from Dagit (backfills/conftest.py).
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime

import dagster as dg
import pytest
from dagster._core.instance_for_test import instance_for_test
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.remote_representation.external import RemoteRepository, RemoteSchedule
from dagster._core.scheduler.instigation import InstigatorTick
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget, freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.freshness import FreshnessDaemon
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs
from dagster._utils.error import SerializableErrorInfo

from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL
from copilot_quant_pipeline.home import prepare_home
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.backfill import run_in_process
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.automation import leave_only, shipped_but_synchronous

DAEMON_WARNINGS = [
    # Dagster's own reading of a schedule, when it loads code in this process.
    pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning"),
]

CHART = "/v8/finance/chart/{symbol}"

_LOCATION = """
from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.settings import Settings

defs = build_definitions(Settings.from_environment({environment!r}))
"""


@dataclass
class Platform:
    """One home, its venues and its daemon; nothing happens but at the instants a test names."""

    settings: Settings
    venues: Sandbox
    instance: dg.DagsterInstance

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse_path, self.settings.lock_timeout)

    def follow(self, *symbols: str) -> None:
        self.instance.add_dynamic_partitions(SYMBOL, list(symbols))

    def follow_markets(self, *markets: str) -> None:
        self.instance.add_dynamic_partitions(MARKET, list(markets))

    @contextmanager
    def daemon(self, now: datetime) -> Iterator[WorkspaceProcessContext]:
        """The daemon of a machine whose clock says `now`; its code is loaded anew, as after a start."""
        self.set_clock(now)
        location = self.settings.home.parent / f"location_{now:%Y%m%d%H%M%S}.py"
        location.write_text(_LOCATION.format(environment=self.settings.environment()))
        target = LoadableTargetOrigin(executable_path=sys.executable, python_file=str(location))
        workspace = InProcessTestWorkspaceLoadTarget(InProcessCodeLocationOrigin(target))
        with freeze_time(now), WorkspaceProcessContext(self.instance, workspace) as context:
            yield context

    def start(self, now: datetime, *schedules: str) -> None:
        """Start the platform with only these schedules switched on; what is due from now on is done by `tick`."""
        with self.daemon(now) as context:
            for schedule in _schedules(context):
                if schedule.name not in schedules:
                    self.instance.stop_schedule(schedule.get_remote_origin_id(), schedule.selector_id, schedule)
            self._turn(launch_scheduled_runs(context, logging.getLogger(__name__), now, {}))

    def tick(self, now: datetime, *, waiting: bool = False) -> list[dg.DagsterRun]:
        """Let the scheduler do what is due at `now`; the runs it made, first to last, executed unless `waiting`."""
        before = {run.run_id for run in self.instance.get_runs()}
        with self.daemon(now) as context:
            self._turn(launch_scheduled_runs(context, logging.getLogger(__name__), now, {}))
            if not waiting:
                self._dequeue(context)
        return self._runs_but(before)

    def run_what_waits(self, now: datetime) -> None:
        """Let the queue's runs run, oldest first."""
        with self.daemon(now) as context:
            self._dequeue(context)

    def look(self, now: datetime, *sensors: str, waiting: bool = False) -> list[dg.DagsterRun]:
        """Let `sensors` look at `now`, and no others; the runs they made, executed unless `waiting`."""
        before = {run.run_id for run in self.instance.get_runs()}
        with self.daemon(now) as context:
            leave_only(self.instance, context, *sensors)
            self._turn(execute_sensor_iteration(context, logging.getLogger(__name__), None, None))
            if not waiting:
                self._dequeue(context)
        return self._runs_but(before)

    def colours(self, now: datetime) -> Mapping[str, str]:
        """What the freshness daemon makes of each asset that was ever materialized."""
        with self.daemon(now) as context:
            self._turn(FreshnessDaemon().run_iteration(context))
            keys = context.create_request_context().asset_graph.get_all_asset_keys()
            states = self.instance.get_freshness_state_records(list(keys))
        told = {key.to_user_string(): state.freshness_state.value for key, state in states.items()}
        return {name: state for name, state in told.items() if state not in ("UNKNOWN", "NOT_APPLICABLE")}

    def ticks(self, now: datetime, name: str) -> Sequence[InstigatorTick]:
        """All ticks of a schedule so far, newest first."""
        with self.daemon(now) as context:
            (schedule,) = (one for one in _schedules(context) if one.name == name)
            return self.instance.get_ticks(schedule.get_remote_origin_id(), schedule.selector_id)

    def set_clock(self, now: datetime) -> None:
        """The instant of the venues and of what `update` starts."""
        self.venues.pin_clock(now)
        self.settings = replace(self.settings, pinned_now=now)

    def settle(self, first: str, last: str) -> None:
        """What a user settles meanwhile: the cells between two corners of the equities' grid."""
        job = build_definitions(self.settings).resolve_implicit_global_asset_job_def()
        corners = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        run_in_process(job, self.instance, "equity_bars", corners)

    @contextmanager
    def updating(self, what: str) -> Iterator[subprocess.Popen[str]]:
        """What a user does at the same time, in a process of its own."""
        command = [sys.executable, "-m", "copilot_quant_pipeline.cli", "update", what]
        environment = {**os.environ, **self.settings.environment()}
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def wait_for(self, route: str) -> None:
        """Wait until a venue is asked."""
        for _ in range(600):
            if route in self.venues.requests():
                return
            time.sleep(0.05)
        raise AssertionError(f"nobody asked for {route}")

    def status_of(self, run: dg.DagsterRun) -> dg.DagsterRunStatus:
        """A run's status by now."""
        known = self.instance.get_run_by_id(run.run_id)
        assert known is not None
        return known.status

    def outcomes(self, grid: str = "equities") -> Mapping[tuple[date, str], str]:
        rows = self.warehouse.coverage(grid).to_pylist()
        return {(row["date"], row["key"]): row["reason"] or row["outcome"] for row in rows}

    def _runs_but(self, before: set[str]) -> list[dg.DagsterRun]:
        return [run for run in reversed(self.instance.get_runs()) if run.run_id not in before]

    def _dequeue(self, context: WorkspaceProcessContext) -> None:
        daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)
        while self.instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])):
            self._turn(daemon.run_iteration(context))

    def _turn(self, loop: Iterator[object]) -> None:
        for said in loop:
            if isinstance(said, SerializableErrorInfo):
                raise AssertionError(said.to_string())


def box(run: dg.DagsterRun) -> tuple[str, str]:
    """The corners of a run's cells."""
    return run.tags["dagster/asset_partition_range_start"], run.tags["dagster/asset_partition_range_end"]


def assets(run: dg.DagsterRun) -> set[str]:
    return {key.to_user_string() for key in run.asset_selection or ()}


def _schedules(context: WorkspaceProcessContext) -> Sequence[RemoteSchedule]:
    return list(_repository(context).get_schedules())


def _repository(context: WorkspaceProcessContext) -> RemoteRepository:
    (entry,) = context.create_request_context().get_code_location_entries().values()
    assert entry.code_location, entry.load_error
    (repository,) = entry.code_location.get_repositories().values()
    return repository


@pytest.fixture
def platform(unused: Settings) -> Iterator[Platform]:
    with Sandbox(now=unused.pinned_now) as venues:
        settings = unused.with_venues_at(venues.url)
        prepare_home(settings)
        with instance_for_test(temp_dir=str(settings.dagster_home), overrides=shipped_but_synchronous()) as instance:
            yield Platform(settings, venues, instance)


@pytest.fixture
def small(platform: Platform) -> Platform:
    """A platform that follows the two largest markets of Kalshi."""
    platform.settings = replace(platform.settings, markets_venues=("kalshi",), markets_top=2)
    return platform
