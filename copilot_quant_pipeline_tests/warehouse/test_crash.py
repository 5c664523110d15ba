from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import MON, TUE, bar, settle_bars, stored

# The first statement that follows rows and coverage stops the process where it is, in the open transaction.
STOPPED_IN_TRANSACTION = """
import sys, time
from pathlib import Path
from copilot_quant_pipeline.warehouse import warehouse
from copilot_quant_pipeline_tests.warehouse.world import MON, TUE, bar, settle_bars
def stop(connection, values):
    print(connection.execute("select count(*) from equities.bars").fetchone()[0], flush=True)
    time.sleep(600)
warehouse.record_run = stop
many = [bar(TUE, f"S{n:05d}") for n in range(20_000)]
settle_bars(warehouse.Warehouse(Path(sys.argv[1])), bar(MON, "AAPL", 50.0), *many)
"""


@pytest.mark.parametrize("already", [True, False])
def test_a_killed_settle_leaves_the_old_state(tmp_path: Path, already: bool) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb", lock_timeout=20.0)
    before = settle_bars(warehouse, bar(MON, "AAPL")) if already else None
    command = [sys.executable, "-c", STOPPED_IN_TRANSACTION, str(warehouse.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "20001\n"
        process.kill()
    assert stored(warehouse) == ([(MON, "AAPL", 100.0)] if before else [])
    assert warehouse.coverage("equities").num_rows == int(already)
    assert warehouse.read("from ops.restatements").num_rows == 0
    assert settle_bars(warehouse, bar(TUE, "AAPL")).inserted == 1


# `LOGGED` commits as DuckDB does by itself, into a log beside the file.
KILLED_AFTER_COMMIT = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from copilot_quant_pipeline.warehouse import connections, warehouse
from copilot_quant_pipeline_tests.warehouse.world import TUE, bar, settle_bars
transaction = warehouse._transaction
@contextmanager
def die_after(connection):
    with transaction(connection):
        yield
    os.kill(os.getpid(), signal.SIGKILL)
warehouse._transaction = die_after
if sys.argv[3:]:
    connections._NO_LOG = "set wal_autocheckpoint = '16MB'"
names = ["AAPL"] if len(sys.argv) < 3 else [f"S{n:06d}" for n in range(int(sys.argv[2]))]
settle_bars(warehouse.Warehouse(Path(sys.argv[1])), *[bar(TUE, name) for name in names])
"""


def settle_and_die(warehouse: Warehouse, *arguments: str) -> None:
    command = [sys.executable, "-c", KILLED_AFTER_COMMIT, str(warehouse.path), *arguments]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode < 0


def counted(warehouse: Warehouse) -> tuple[int, int]:
    (bars,) = warehouse.read("select count(close) as bars from equities.bars").to_pylist()
    return bars["bars"], warehouse.coverage("equities").num_rows


def test_what_was_committed_survives_a_kill_before_the_file_is_closed(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb", lock_timeout=20.0)
    settle_bars(warehouse, bar(MON, "AAPL"))
    settle_and_die(warehouse)
    assert [day for day, _, _ in stored(warehouse)] == [MON, TUE]
    assert warehouse.coverage("equities").num_rows == 2


# More rows than one of DuckDB's row groups holds are written into the file before the commit.
@pytest.mark.parametrize("cells", [("1", "130000"), ("130000", "260000")])
def test_settles_that_are_killed_one_after_the_other_are_all_stored_once(
    tmp_path: Path, cells: tuple[str, str]
) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb", lock_timeout=20.0)
    for number in cells:
        settle_and_die(warehouse, number)
    stored_once = int(cells[-1])
    assert counted(warehouse) == (stored_once, stored_once)
    assert settle_bars(warehouse, bar(MON, "AAPL")).inserted == 1
    assert counted(warehouse) == (stored_once + 1, stored_once + 1)


def test_what_a_killed_program_has_left_in_a_log_beside_the_file_is_read_whole(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb", lock_timeout=20.0)
    settle_and_die(warehouse, "1", "LOGGED")
    settle_and_die(warehouse, "130000", "LOGGED")
    assert (tmp_path / "warehouse.duckdb.wal").exists()
    assert counted(warehouse) == (130_000, 130_000)


def test_the_log_of_a_file_that_was_moved_away_is_not_added_to_the_new_one(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb", lock_timeout=20.0)
    settle_and_die(warehouse, "1", "LOGGED")
    warehouse.path.rename(tmp_path / "moved.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    assert stored(warehouse) == [(MON, "AAPL", 100.0)]
    (tmp_path / "warehouse.duckdb.wal.of-the-file-before").rename(tmp_path / "moved.duckdb.wal")
    assert [symbol for _, symbol, _ in stored(Warehouse(tmp_path / "moved.duckdb"))] == ["S000000"]
