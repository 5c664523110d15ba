"""The shipped configuration opens a real instance, and runs of dead processes are ended."""

from __future__ import annotations

import multiprocessing
import os
import time
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage
from copilot_quant_pipeline_tests.ledger.small_grid import BARS, job, rectangle, run

SPAWN = multiprocessing.get_context("spawn")


def test_everything_an_instance_writes_stays_under_its_home(
    shipped: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(shipped.root_directory)
    run(shipped, BARS, rectangle("2024-01-02|AAPL", "2024-01-03|AAPL"))
    log, outputs = shipped.event_log_storage, shipped.compute_log_manager
    assert isinstance(log, GridEventLogStorage)
    assert isinstance(outputs, LocalComputeLogManager)
    assert (home / "history" / "runs" / "index.db").exists()
    assert (home / "history" / "runs.db").exists()
    assert Path(shipped.storage_directory()).is_relative_to(home)
    assert Path(outputs.get_captured_local_path(["x"], "out")).is_relative_to(home)


@pytest.mark.parametrize("name", ["a%20b", "a b", "a#b", "a%3Fb%%25", "ü&=;'"])
def test_a_home_of_any_name_holds_its_files(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / name
    install_instance_config(home)
    with open_instance(home) as instance:
        instance.add_dynamic_partitions("symbol", ["AAPL"])
    # As Dagster's own processes open it.
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        assert instance.get_dynamic_partitions("symbol") == ["AAPL"]
        assert instance.get_runs_count() == 0
    files = ["history/runs.db", "history/runs/index.db", "schedules/schedules.db"]
    assert all((home / file).exists() for file in files)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_shipped_configuration_is_what_the_instance_runs_by(ledger: dg.DagsterInstance) -> None:
    assert ledger.get_concurrency_config().run_queue_config is not None
    assert ledger.get_concurrency_config().pool_config.default_pool_limit == 1
    assert ledger.run_retries_max_retries == 2
    assert not ledger.run_retries_retry_on_asset_or_op_failure
    assert not ledger.telemetry_enabled
    assert not ledger.nux_enabled
    assert ledger.run_monitoring_enabled
    assert ledger.run_monitoring_max_resume_run_attempts == 0
    assert ledger.run_monitoring_settings["free_slots_after_run_end_seconds"] == 10
    skipped = ledger.get_tick_retention_settings(InstigatorType.SENSOR)[TickStatus.SKIPPED]
    assert skipped == 3


def test_dagster_itself_opens_the_home_that_dagster_home_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_instance_config(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, GridEventLogStorage)
        assert instance.event_log_storage.path_for_shard("index") == str(tmp_path / "history/runs/index.db")


def test_another_dagster_home_does_not_lead_astray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "elsewhere"))
    install_instance_config(tmp_path / "home")
    with open_instance(tmp_path / "home") as instance:
        assert isinstance(instance.event_log_storage, GridEventLogStorage)
        assert Path(instance.event_log_storage.path_for_shard("index")).is_relative_to(tmp_path / "home")
    assert os.environ["DAGSTER_HOME"] == str(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_an_outdated_configuration_is_replaced_and_a_users_own_is_kept(tmp_path: Path) -> None:
    installed = install_instance_config(tmp_path / "new")
    shipped = installed.read_text()
    installed.write_text(shipped.replace("max_retries: 2", "max_retries: 7"))
    assert install_instance_config(tmp_path / "new").read_text() == shipped
    own = shipped.split("\n", 1)[1].replace("max_retries: 2", "max_retries: 7")
    installed.write_text(own)
    assert install_instance_config(tmp_path / "new").read_text() == own
    with open_instance(tmp_path / "new") as instance:
        assert instance.run_retries_max_retries == 7


def test_a_users_own_event_log_storage_is_respected(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    install_instance_config(tmp_path)
    with open_instance(tmp_path) as instance:
        assert not isinstance(instance.event_log_storage, GridEventLogStorage)


def open_and_leave(home: Path, together: Barrier, told: Connection) -> None:
    together.wait(60)
    install_instance_config(home)
    with open_instance(home) as instance:
        told.send(instance.get_runs_count())


def test_processes_that_open_a_new_home_at_once_all_find_it_whole(tmp_path: Path) -> None:
    together = SPAWN.Barrier(4)
    ours, theirs = SPAWN.Pipe(duplex=False)
    processes = [SPAWN.Process(target=open_and_leave, args=(tmp_path / "new", together, theirs)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert [ours.recv() for _ in processes] == [0] * 4


def follow_the_same(home: Path, together: Barrier) -> None:
    with open_instance(home) as instance:
        for n in range(30):
            together.wait(60)
            instance.add_dynamic_partitions("symbol", [f"S{n}K{key}" for key in range(20)])


def test_processes_that_add_the_same_keys_at_once_all_succeed(tmp_path: Path) -> None:
    install_instance_config(tmp_path)
    together = SPAWN.Barrier(3)
    processes = [SPAWN.Process(target=follow_the_same, args=(tmp_path, together)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    with open_instance(tmp_path) as instance:
        assert len(instance.get_dynamic_partitions("symbol")) == 30 * 20


def take_turns(home: Path, together: Barrier, told: Connection) -> None:
    with open_instance(home) as instance:
        log = instance.event_log_storage
        for _ in range(30):
            run_id = instance.create_run_for_job(job, status=DagsterRunStatus.STARTED).run_id
            together.wait(60)
            given_up = time.monotonic() + 60
            while not log.claim_concurrency_slot("yahoo", run_id, "bars").is_claimed:
                assert time.monotonic() < given_up
                time.sleep(0.001)
            begun = time.monotonic()
            time.sleep(0.001)
            told.send((begun, time.monotonic()))
            log.free_concurrency_slots_for_run(run_id)


def test_runs_that_come_at_once_have_a_pools_only_slot_one_after_the_other(ledger: dg.DagsterInstance) -> None:
    ledger.event_log_storage.set_concurrency_slots("yahoo", 1)
    together = SPAWN.Barrier(3)
    pipes = [SPAWN.Pipe(duplex=False) for _ in range(3)]
    processes = [
        SPAWN.Process(target=take_turns, args=(Path(ledger.root_directory), together, theirs)) for _, theirs in pipes
    ]
    for process in processes:
        process.start()
    turns = sorted(ours.recv() for ours, _ in pipes for _ in range(30))
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    assert all(ended < begun for (_, ended), (begun, _) in pairwise(turns))
    assert ledger.event_log_storage.get_concurrency_info("yahoo").active_slot_count == 0
