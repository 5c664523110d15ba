from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from copilot_quant_pipeline.warehouse.tables import BARS, MEMBERS, InvalidRowsError
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import FETCHED, MON, bar, bars


def _members(*symbols: str) -> pa.Table:
    rows = [{"symbol": symbol, "source": "list", "read_at": FETCHED, "first_seen_at": FETCHED} for symbol in symbols]
    return pa.Table.from_pylist(rows, schema=MEMBERS.arrow)


def test_a_new_list_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    assert warehouse.replace(MEMBERS, _members("A", "B")) == 2
    assert warehouse.replace(MEMBERS, _members("B", "C", "D")) == 3
    symbols = warehouse.read("select symbol from equities.members order by symbol")
    assert symbols.column(0).to_pylist() == ["B", "C", "D"]


def test_an_empty_or_broken_list_leaves_the_last_good_one(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    warehouse.replace(MEMBERS, _members("A", "B"))
    with pytest.raises(InvalidRowsError, match="erase"):
        warehouse.replace(MEMBERS, _members())
    with pytest.raises(InvalidRowsError, match="unique"):
        warehouse.replace(MEMBERS, _members("C", "C"))
    assert warehouse.read("from equities.members").num_rows == 2


def test_a_grid_table_cannot_be_replaced(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="settle its cells"):
        Warehouse(tmp_path / "warehouse.duckdb").replace(BARS, bars(bar(MON, "AAPL")))
