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


KILLED_AFTER_COMMIT = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from copilot_quant_pipeline.warehouse import warehouse
from copilot_quant_pipeline_tests.warehouse.world import TUE, bar, settle_bars
transaction = warehouse._transaction
@contextmanager
def die_after(connection):
    with transaction(connection):
        yield
    os.kill(os.getpid(), signal.SIGKILL)
warehouse._transaction = die_after
settle_bars(warehouse.Warehouse(Path(sys.argv[1])), bar(TUE, "AAPL"))
"""


def test_what_was_committed_survives_a_kill_before_the_file_is_closed(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb", lock_timeout=20.0)
    settle_bars(warehouse, bar(MON, "AAPL"))
    command = [sys.executable, "-c", KILLED_AFTER_COMMIT, str(warehouse.path)]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode < 0
    assert [day for day, _, _ in stored(warehouse)] == [MON, TUE]
    assert warehouse.coverage("equities").num_rows == 2
