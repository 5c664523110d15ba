"""A run that Dagit launched and whose worker ended between data and events: its cells are shown as they are stored."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance_for_test import instance_for_test
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
from sqlalchemy.exc import OperationalError

from copilot_quant_pipeline.upkeep.accounts import settle_accounts
from copilot_quant_pipeline.warehouse.io_manager import GridIOManager
from copilot_quant_pipeline_tests.backfills.conftest import DAEMON_WARNINGS, World, unqueued
from copilot_quant_pipeline_tests.backfills.test_launches import many_by_dagit
from copilot_quant_pipeline_tests.ledger.test_run_lives import until

pytestmark = DAEMON_WARNINGS

_KILLED = """
import os, signal
from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.io_manager import GridIOManager

GridIOManager._record = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
defs = build_definitions(Settings.from_environment({environment!r}))
"""


def _no_room(*_: object, **__: object) -> None:
    raise OperationalError("insert", {}, OSError("database or disk is full"))


def _expect_as_stored(world: World, symbols: list[str], cells: set[str]) -> None:
    failed = set(world.reasons(symbols))
    assert world.stored(symbols) == cells - failed
    assert (world.green(symbols), world.red(symbols)) == (cells - failed, failed)


def test_a_dagit_backfill_that_meets_a_full_disk_is_shown_as_it_is_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = world.fresh_symbols(2)
    world.venues.fault("lost_session", symbol=symbols[0], dates=["2024-03-21"])
    cells = {f"2024-03-{day}|{symbol}" for day in (20, 21, 22) for symbol in symbols}
    with monkeypatch.context() as patch:
        patch.setattr(GridIOManager, "_record", _no_room)
        world.launch(sorted(cells))
    assert world.red(symbols) == cells
    before = world.instance.get_runs_count()
    assert settle_accounts(world.instance, world.warehouse) == len(cells) - 1
    assert settle_accounts(world.instance, world.warehouse) == 0
    assert world.instance.get_runs_count() == before
    _expect_as_stored(world, symbols, cells)
    # Asked for again, it is an ordinary cell.
    world.venues.clear_faults()
    world.launch([f"2024-03-21|{symbols[0]}"])
    assert world.green(symbols) == cells


def test_a_killed_worker_of_dagit_leaves_the_grid_as_it_is_stored(world: World, tmp_path: Path) -> None:
    symbols = world.fresh_symbols(2)
    cells = {f"2024-03-{day}|{symbol}" for day in (20, 21) for symbol in symbols}
    location = tmp_path / "killed.py"
    location.write_text(_KILLED.format(environment=world.settings.environment()))
    real = {
        "run_launcher": {"module": "dagster._core.launcher", "class": "DefaultRunLauncher"},
        "run_monitoring": {"enabled": True, "max_resume_run_attempts": 0},
    }
    with (
        instance_for_test(temp_dir=str(world.settings.dagster_home), overrides={**unqueued(), **real}) as instance,
        create_test_daemon_workspace_context(PythonFileTarget(str(location), None, None, None), instance) as daemon,
    ):
        many_by_dagit(replace(world, daemon=daemon), (min(cells), max(cells)))
        (run,) = instance.get_runs(limit=1)

        def ended() -> bool:
            list(execute_run_monitoring_iteration(daemon, logging.getLogger(__name__)))
            now = instance.get_run_by_id(run.run_id)
            return now is not None and now.status is dg.DagsterRunStatus.FAILURE

        until(ended)
    assert world.red(symbols) == cells
    settle_accounts(world.instance, world.warehouse)
    assert world.instance.event_log_storage.get_concurrency_info("yahoo").active_slot_count == 0
    _expect_as_stored(world, symbols, cells)
