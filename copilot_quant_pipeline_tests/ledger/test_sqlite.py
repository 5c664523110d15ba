"""Batches in SQLite's files: as large as they come, from two processes at once, whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEventType
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.exc import OperationalError

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.ledger import events
from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance
from copilot_quant_pipeline.ledger.recording import materialization_of
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage
from copilot_quant_pipeline_tests.ledger.small_grid import BARS, SYMBOLS, rectangle, run, stock_instance

SPAWN = multiprocessing.get_context("spawn")


def cells(days: int, symbols: int) -> list[dg.MultiPartitionKey]:
    dates = [(date(2020, 1, 1) + timedelta(days=day)).isoformat() for day in range(days)]
    return [dg.MultiPartitionKey({"date": day, "symbol": f"S{n}"}) for day in dates for n in range(symbols)]


def entry(keys: list[dg.MultiPartitionKey], run_id: str = "a-run") -> EventLogEntry:
    data = StepMaterializationData(materialization_of(BARS, keys))
    event = DagsterEvent("ASSET_MATERIALIZATION", "job", event_specific_data=data, step_key="bars")
    return EventLogEntry(None, 10, "", run_id, 1_700_000_000.25, "bars", "job", event)


def stored(instance: dg.DagsterInstance, shard: str, table: str = "event_logs") -> list[str]:
    """The partitions (or, of another table, the ids) stored in one of the files."""
    column = "partition" if table == "event_logs" else "id"
    log: Any = instance.event_log_storage
    with sqlite3.connect(log.path_for_shard(shard)) as conn:
        return [row[0] for row in conn.execute(f"select {column} from {table}")]  # noqa: S608


def record(home: Path, run_id: str, batches: int) -> None:
    with open_instance(home) as instance:
        for n in range(batches):
            instance.event_log_storage.store_event(entry(cells(days=10, symbols=20 + n), run_id))


def record_until_killed(home: Path) -> None:
    def die(self: object, conn: object, event: EventLogEntry, event_id: int) -> None:
        if event_id > 10:
            os.kill(os.getpid(), signal.SIGKILL)

    events.CELLS_A_BATCH = 10
    GridEventLogStorage._store_asset_event = die  # type: ignore[method-assign]
    with open_instance(home) as instance:
        instance.event_log_storage.store_event(entry(cells(days=5, symbols=5)))


def test_more_cells_than_fit_into_a_statement_are_stored_and_deleted(ledger: dg.DagsterInstance) -> None:
    keys = cells(days=110, symbols=300)
    log = ledger.event_log_storage
    log.store_event(entry(keys))
    assert log.get_materialized_partitions(BARS) == set(keys)
    assert len(stored(ledger, "index", "asset_event_tags")) == 2 * len(keys)
    log.delete_events("a-run")
    assert log.get_materialized_partitions(BARS) == set()
    assert stored(ledger, "index", "asset_event_tags") == []


def test_two_processes_that_record_at_once_both_get_through(ledger: dg.DagsterInstance) -> None:
    home = Path(ledger.root_directory)
    processes = [SPAWN.Process(target=record, args=(home, run_id, 8)) for run_id in ("one", "two")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    one, two = stored(ledger, "one"), stored(ledger, "two")
    assert len(one) == len(two) == sum(10 * (20 + n) for n in range(8))
    assert sorted(stored(ledger, "index")) == sorted(one + two)


def test_a_killed_process_leaves_whole_batches_only(ledger: dg.DagsterInstance) -> None:
    process = SPAWN.Process(target=record_until_killed, args=(Path(ledger.root_directory),))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    whole = [str(key) for key in cells(days=5, symbols=5)[:10]]
    assert stored(ledger, "a-run") == whole
    assert stored(ledger, "index") == whole
    assert len(stored(ledger, "index", "asset_event_tags")) == 2 * len(whole)


def test_a_batch_that_fails_midway_is_stored_event_by_event_and_none_twice(
    ledger: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = cells(days=2, symbols=3)
    store, failures = GridEventLogStorage._store_asset_event, iter([OSError("no space left")])

    def fail_once(self: GridEventLogStorage, *args: Any) -> None:
        for failure in failures:
            raise failure
        store(self, *args)

    monkeypatch.setattr(GridEventLogStorage, "_store_asset_event", fail_once)
    for key in keys:
        batch = DagsterEventBatchMetadata("batch", key == keys[-1])
        ledger.handle_new_event(entry([key]), batch_metadata=batch)
    assert "no space left" in capsys.readouterr().err
    assert sorted(stored(ledger, "a-run")) == sorted(stored(ledger, "index")) == sorted(keys)


def test_a_log_that_cannot_be_committed_costs_the_log_and_not_the_grid(
    ledger: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    def full(conn: object) -> None:
        raise OperationalError("commit", None, sqlite3.OperationalError("disk I/O error"))

    log = ledger.event_log_storage
    assert isinstance(log, GridEventLogStorage)
    log.store_event(entry(cells(1, 2)))
    sqlalchemy_event.listen(log._engine("a-run"), "commit", full)
    log.store_event(entry(cells(2, 2)))
    assert len(stored(ledger, "index")) == 2 + 4
    assert len(stored(ledger, "a-run")) == 2
    assert "the log of run a-run" in caplog.text


def test_a_home_begun_with_dagsters_own_storage_is_carried_on(tmp_path: Path) -> None:
    with stock_instance(tmp_path) as instance:
        instance.add_dynamic_partitions("symbol", SYMBOLS)
        before = run(instance, BARS, rectangle("2024-01-02|AAPL", "2024-01-03|AAPL"))
    (tmp_path / "dagster.yaml").unlink()
    install_instance_config(tmp_path)
    with open_instance(tmp_path) as instance:
        after = run(instance, BARS, rectangle("2024-01-03|AAPL", "2024-01-04|AAPL"))
        found = instance.fetch_materializations(BARS, limit=10).records
        assert {(record.run_id, record.partition_key) for record in found} == {
            *[(before, cell) for cell in ("2024-01-02|AAPL", "2024-01-03|AAPL")],
            *[(after, cell) for cell in ("2024-01-03|AAPL", "2024-01-04|AAPL")],
        }
        newest = instance.get_latest_materialization_event(BARS)
        assert newest is not None
        assert newest.run_id == after


def test_dagsters_own_storage_carries_on_a_home_of_ours(ledger: dg.DagsterInstance) -> None:
    runs = [run(ledger, BARS, rectangle("2024-01-02|AAPL", day)) for day in ("2024-01-03|MSFT", "2024-01-02|MSFT")]
    home = Path(ledger.root_directory)
    with stock_instance(home) as stock:
        assert len(stock.get_materialized_partitions(BARS)) == 6
        assert len(stock.all_logs(runs[0], of_type=DagsterEventType.ASSET_MATERIALIZATION)) == 6
        runs.append(run(stock, BARS, rectangle("2024-01-04|AAPL", "2024-01-04|MSFT")))
        stock.delete_run(runs[0])
        assert {record.run_id for record in stock.fetch_materializations(BARS, limit=10).records} == {*runs[1:]}
        stock.upgrade()
        stock.wipe_assets([BARS])
        assert stock.get_materialized_partitions(BARS) == set()


def test_the_batch_size_is_set_where_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, taken in [(None, "1000"), ("50", "50")]:
        monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
        if given:
            monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", given)
        GridEventLogStorage(str(tmp_path))
        assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == taken


def no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


def another_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "other"))


@pytest.mark.parametrize("home", [no_home, another_home])
def test_events_are_never_written_to_another_home(
    home: Callable[[pytest.MonkeyPatch, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home(monkeypatch, tmp_path)
    install_instance_config(tmp_path / "home")
    with pytest.raises(UserError, match="set DAGSTER_HOME"):
        dg.DagsterInstance.from_config(str(tmp_path / "home"))
