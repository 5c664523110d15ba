from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.migrations import UPGRADES, migrate, read_version
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline.warehouse.warnings import WarningChoice, read_warnings
from copilot_quant_pipeline_tests.warehouse.world import MON, bar, settle_bars, stored

VERSION_2 = Path(__file__).parent / "version_2.sql"
NEWEST = len(UPGRADES) + 1


def test_a_file_without_our_tables_gets_them_when_read(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    duckdb.connect(path).close()
    assert stored(Warehouse(path)) == []
    with duckdb.connect(path) as connection:
        assert read_version(connection) == NEWEST


def test_a_file_of_the_first_version_keeps_its_rows_and_gets_the_newest_views(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(VERSION_2.read_text())
        connection.execute("update ops.schema_version set version = 1")
        connection.execute("create or replace view prediction_markets.daily as select 1 as old")
    warehouse = Warehouse(path)
    settle_bars(warehouse, bar(MON, "AAPL"))
    assert "settlement" in warehouse.read("from prediction_markets.daily").column_names
    with duckdb.connect(path) as connection:
        assert read_version(connection) == NEWEST


def test_what_was_doubtful_before_warnings_were_kept_is_found_by_the_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(VERSION_2.read_text())
        for day, close, final in (("25", 100.0, True), ("26", 10.0, True), ("27", 100.0, False)):
            prices = f"{close}, {close}, {close}, {close}, 1, 0, 1, {final}, 'ok', 'x', '2024-03-28 00:00:00+00'"
            connection.execute(f"insert into equities.bars values ('2024-03-{day}', 'AAPL', {prices})")  # noqa: S608
    assert [one.id for one in read_warnings(Warehouse(path), WarningChoice())] == ["jump:AAPL:2024-03-26"]


def test_upgrades_run_in_order_and_once() -> None:
    upgrades = (["create table ops.added (n integer)"], ["insert into ops.added values (7)"])
    with duckdb.connect() as connection:
        migrate(connection, ())
        for _ in range(2):
            migrate(connection, upgrades)
        assert read_version(connection) == 3
        assert connection.execute("from ops.added").fetchall() == [(7,)]


def test_an_upgrade_that_breaks_leaves_the_old_version() -> None:
    with duckdb.connect() as connection:
        migrate(connection, ())
        with pytest.raises(duckdb.ParserException):
            migrate(connection, (["create table ops.added (n integer)", "this is no sql"],))
        assert read_version(connection) == 1
        with pytest.raises(duckdb.CatalogException):
            connection.execute("from ops.added")


def test_a_newer_file_is_neither_read_nor_written(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "AAPL"))
    with duckdb.connect(warehouse.path) as connection:
        connection.execute("insert into ops.schema_version values (99, now())")
    with pytest.raises(UserError, match=f"schema version 99, this program knows {NEWEST}: upgrade"):
        warehouse.read("from equities.bars")
    with pytest.raises(UserError, match="upgrade"):
        settle_bars(warehouse, bar(MON, "MSFT"))
    with duckdb.connect(warehouse.path) as connection:
        assert connection.execute("select symbol from equities.bars").fetchall() == [("AAPL",)]
