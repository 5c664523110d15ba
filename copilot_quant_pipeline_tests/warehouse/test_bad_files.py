from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import MON, TUE, WED, bar, settle_bars, stored


def test_reading_before_anything_is_stored_gives_empty_tables_and_makes_no_file(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "home" / "warehouse.duckdb")
    found = warehouse.read("from equities.bars")
    assert found.num_rows == 0
    assert found.schema.names == BARS.arrow.names
    assert found.schema.types == BARS.arrow.types
    assert warehouse.coverage("equities").num_rows == 0
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("content", [b"", b"not a database", b"x" * 50_000])
def test_what_is_no_duckdb_file_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "warehouse.duckdb"
    path.write_bytes(content)
    for attempt in (
        lambda: Warehouse(path).read("select 1"),
        lambda: settle_bars(Warehouse(path), bar(MON, "A")),
    ):
        with pytest.raises(UserError) as refused:
            attempt()
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)
    assert path.read_bytes() == content


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    whole = bytearray(warehouse.path.read_bytes())
    # Behind the three headers of 4 kB each; DuckDB keeps a checksum of every block.
    whole[12_300:] = bytes(len(whole) - 12_300)
    warehouse.path.write_bytes(whole)
    with pytest.raises(UserError, match="cannot be used as a DuckDB file .*[Cc]orrupt"):
        warehouse.read("from equities.bars")


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    warehouse = Warehouse(tmp_path / "file" / "home" / "warehouse.duckdb")
    with pytest.raises(UserError, match="cannot be written .*choose another home"):
        settle_bars(warehouse, bar(MON, "AAPL"))


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    monkeypatch.setattr("copilot_quant_pipeline.warehouse.connections._ROOM_BYTES", 1e18)
    with pytest.raises(UserError, match=r"the disk of .* is full .*MB are free.*make room"):
        settle_bars(warehouse, bar(TUE, "AAPL"))
    assert stored(warehouse) == [(MON, "AAPL", 100.0)]


def test_a_home_that_can_only_be_read_is_read(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    lock = tmp_path / "warehouse.duckdb.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()  # as good as forbidden: no lock can be taken here, not even by root
    assert warehouse.read("from equities.bars").num_rows == 1


def _killed(path: Path, *statements: str) -> bytes:
    """The log of a program that wrote this to the file and was killed."""
    code = (
        "import duckdb, os, signal, sys\n"
        "connection = duckdb.connect(sys.argv[1])\n"
        "for statement in sys.argv[2:]: connection.execute(statement)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path), *statements], check=False)
    return path.with_name(f"{path.name}.wal").read_bytes()


@pytest.fixture
def foreign(tmp_path: Path) -> dict[str, bytes]:
    """Logs that cannot be put into a warehouse in which the table `mine` is, by what is wrong with them."""
    duckdb.connect(tmp_path / "other.duckdb").close()
    log = _killed(tmp_path / "other.duckdb", "create table mine as select range as n from range(5000)")
    damaged = bytearray(log)
    damaged[len(log) // 2] ^= 255
    return {"of another file": log, "damaged": bytes(damaged)}


@pytest.mark.parametrize("wrong", ["of another file", "damaged"])
@pytest.mark.parametrize("reads", [True, False])
def test_a_log_that_cannot_be_put_into_the_file_is_laid_aside_and_told(
    tmp_path: Path, foreign: dict[str, bytes], caplog: pytest.LogCaptureFixture, wrong: str, reads: bool
) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    with duckdb.connect(warehouse.path) as connection:
        connection.execute("create table mine (n integer)")
    log = tmp_path / "warehouse.duckdb.wal"
    log.write_bytes(foreign[wrong])
    if not reads:
        settle_bars(warehouse, bar(TUE, "AAPL"))
    assert len(stored(warehouse)) == (1 if reads else 2)
    (aside,) = tmp_path.glob("warehouse.duckdb.wal.*")
    assert aside.read_bytes() == foreign[wrong]
    assert not log.exists()
    (told,) = caplog.messages
    assert f"laid aside as {aside.name}" in told
    settle_bars(warehouse, bar(WED, "AAPL"))
    assert len(caplog.messages) == 1


def test_a_log_that_can_be_put_into_the_file_is(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    _killed(warehouse.path, "create table mine as select 7 as n")
    assert warehouse.read("from mine").to_pylist() == [{"n": 7}]
    assert list(tmp_path.glob("warehouse.duckdb.wal*")) == []


@pytest.mark.parametrize("content", [b"", b"no log", bytes(range(256)) * 20])
def test_what_is_no_log_at_all_stops_nobody(tmp_path: Path, content: bytes) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    (tmp_path / "warehouse.duckdb.wal").write_bytes(content)
    settle_bars(warehouse, bar(TUE, "AAPL"))
    assert len(stored(warehouse)) == 2


def test_a_home_that_can_only_be_read_is_read_beside_a_foreign_log(tmp_path: Path, foreign: dict[str, bytes]) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    with duckdb.connect(warehouse.path) as connection:
        connection.execute("create table mine (n integer)")
    (log := tmp_path / "warehouse.duckdb.wal").write_bytes(foreign["of another file"])
    lock = tmp_path / "warehouse.duckdb.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    assert len(stored(warehouse)) == 1
    assert log.read_bytes() == foreign["of another file"]


def test_of_a_broken_file_the_log_stays_where_it_is(tmp_path: Path, foreign: dict[str, bytes]) -> None:
    path = tmp_path / "warehouse.duckdb"
    path.write_bytes(b"x" * 50_000)
    (log := tmp_path / "warehouse.duckdb.wal").write_bytes(foreign["damaged"])
    with pytest.raises(UserError, match="cannot be used as a DuckDB file"):
        Warehouse(path).read("select 1")
    assert log.exists()


def test_a_mistake_in_a_query_stays_duckdbs_own_error(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    with pytest.raises(duckdb.CatalogException):
        warehouse.read("from equities.nothing")


def test_a_query_cannot_write(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    with pytest.raises(duckdb.InvalidInputException, match="read-only"):
        warehouse.read("delete from equities.bars")


def test_a_python_variable_never_stands_in_for_a_table(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    bars_by_mistake = warehouse.read("from equities.bars")
    assert bars_by_mistake.num_rows == 1
    with pytest.raises(duckdb.CatalogException):
        warehouse.read("from bars_by_mistake")
