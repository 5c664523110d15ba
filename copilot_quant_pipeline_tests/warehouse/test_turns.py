"""Processes and threads that want the file at once; all of them real."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import filelock
import pytest

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import MON, TUE, bar, settle_bars, stored

REPO = Path(__file__).parents[2]

SETTLE = """
import sys
from pathlib import Path
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import MON, bar, settle_bars
warehouse = Warehouse(Path(sys.argv[1]), lock_timeout=60.0)
for n in range(5):
    settle_bars(warehouse, bar(MON, f"{sys.argv[2]}{n}"), bar(MON, "SHARED", 100.0 + n), run_id=sys.argv[2])
"""

HOLD = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("open", flush=True)
sys.stdin.readline()
connection.close()
"""


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb", lock_timeout=60.0)


def _python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=REPO, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@contextmanager
def _held(path: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the file open, as the duckdb command would, until it is sent a line."""
    with _python(HOLD, str(path), how) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        yield holder


def test_processes_that_settle_at_once_all_get_through(warehouse: Warehouse) -> None:
    seen = [0]
    with _python(SETTLE, str(warehouse.path), "A") as one, _python(SETTLE, str(warehouse.path), "B") as two:
        while one.poll() is None or two.poll() is None:
            seen.append(warehouse.read("from equities.bars").num_rows)
    assert (one.returncode, two.returncode) == (0, 0)
    assert seen == sorted(seen)
    expected = [f"{name}{n}" for name in "AB" for n in range(5)] + ["SHARED"]
    assert [symbol for _, symbol, _ in stored(warehouse)] == expected


def test_threads_that_settle_and_read_at_once_all_get_through(warehouse: Warehouse) -> None:
    problems: list[BaseException] = []

    def settle(name: str) -> None:
        try:
            for n in range(4):
                settle_bars(warehouse, bar(MON, f"{name}{n}"), run_id=name)
                assert warehouse.read("from equities.bars").num_rows > n
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=settle, args=(name,)) for name in "ABC"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(stored(warehouse)) == 12


@pytest.mark.parametrize("how", ["read", "write"])
def test_who_has_the_file_open_is_named_when_patience_ends(warehouse: Warehouse, how: str) -> None:
    settle_bars(warehouse, bar(MON, "AAPL"))
    hasty = Warehouse(warehouse.path, lock_timeout=0.3)
    with _held(warehouse.path, how) as holder, pytest.raises(UserError) as refused:
        settle_bars(hasty, bar(TUE, "AAPL"))
    what = "has been reading" if how == "read" else "has been writing to"
    for part in (f"PID {holder.pid}", f"{what} {warehouse.path}", "0.3 s", "COPILOT_QUANT_LOCK_TIMEOUT"):
        assert part in str(refused.value)
    assert len(stored(warehouse)) == 1


def test_a_reader_waits_until_a_foreign_writer_is_gone(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "AAPL"))
    with _held(warehouse.path, "write") as holder:
        with pytest.raises(UserError, match="another process has been writing"):
            Warehouse(warehouse.path, lock_timeout=0.3).read("select 1")
        release = threading.Timer(0.5, lambda: holder.communicate("go\n"))
        release.start()
        assert warehouse.read("from equities.bars").num_rows == 1
        release.join()


def test_readers_may_read_together(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "AAPL"))
    with _held(warehouse.path, "read"), warehouse.connect_read_only() as outer:
        assert outer.execute("select count(*) from equities.bars").fetchall() == [(1,)]
        assert Warehouse(warehouse.path, lock_timeout=1.0).read("from equities.bars").num_rows == 1


def test_a_writer_of_this_process_waits_for_its_reader(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "AAPL"))
    with (
        duckdb.connect(warehouse.path, read_only=True),
        pytest.raises(UserError, match="more than 0.2 s"),
    ):
        settle_bars(Warehouse(warehouse.path, lock_timeout=0.2), bar(TUE, "AAPL"))
    assert settle_bars(warehouse, bar(TUE, "AAPL")).inserted == 1


def test_who_reads_within_a_read_waits_for_no_writer_who_waits_for_that(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"))
    with _python(SETTLE, str(warehouse.path), "W") as writer:
        with warehouse.held():
            while not _has_turn(warehouse.path):
                assert writer.poll() is None
            assert len(stored(warehouse)) == 1
            with warehouse.connect_read_only() as one, warehouse.connect_read_only() as other:
                assert one.execute("from equities.bars").fetchall() == other.execute("from equities.bars").fetchall()
        assert writer.wait(60) == 0
    assert len(stored(warehouse)) == 7


def _has_turn(path: Path) -> bool:
    """Whether another process has the turn at the file."""
    try:
        with filelock.FileLock(f"{path}.lock").acquire(timeout=0.01):
            return False
    except filelock.Timeout:
        return True


def test_who_reads_cannot_write_meanwhile(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"))
    with warehouse.held(), pytest.raises(RuntimeError, match="is being read by whoever wants to write it"):
        settle_bars(warehouse, bar(TUE, "A"))
    settle_bars(warehouse, bar(TUE, "A"))
    assert len(stored(warehouse)) == 2
