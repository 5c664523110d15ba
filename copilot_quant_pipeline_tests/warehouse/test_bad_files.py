from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import MON, TUE, bar, settle_bars, stored


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
