"""Dagster's own DuckDB resource, opened read-only on our file: sound for reading while nobody writes."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from dagster_duckdb import DuckDBResource

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import MON, TUE, bar, settle_bars


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb", lock_timeout=20.0)
    settle_bars(warehouse, bar(MON, "AAPL"))
    return warehouse


def _resource(warehouse: Warehouse) -> DuckDBResource:
    return DuckDBResource(database=str(warehouse.path), connection_config={"access_mode": "READ_ONLY"})


def test_it_reads_what_is_settled_and_cannot_write(warehouse: Warehouse) -> None:
    with _resource(warehouse).get_connection() as connection:
        assert connection.execute("select symbol, close from equities.adjusted_bars").fetchall() == [("AAPL", 100.0)]
        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            connection.execute("delete from equities.bars")
    assert settle_bars(warehouse, bar(TUE, "AAPL")).inserted == 1


def test_while_it_is_open_the_same_process_cannot_use_the_warehouse(warehouse: Warehouse) -> None:
    # All connections of a process to one file must have the same settings, and the resource has its own.
    with _resource(warehouse).get_connection(), pytest.raises(UserError, match="more than 0.2 s"):
        Warehouse(warehouse.path, lock_timeout=0.2).read("select 1")


def test_it_leaves_the_file_open_when_its_user_fails(warehouse: Warehouse) -> None:
    def read_and_fail() -> None:
        with _resource(warehouse).get_connection() as connection:
            leaked.append(connection)
            raise RuntimeError

    leaked: list[duckdb.DuckDBPyConnection] = []
    with pytest.raises(RuntimeError):
        read_and_fail()
    with pytest.raises(UserError, match="more than 0.2 s"):
        settle_bars(Warehouse(warehouse.path, lock_timeout=0.2), bar(TUE, "AAPL"))
    leaked[0].close()
