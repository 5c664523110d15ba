"""Claims about troubles found in a real warehouse."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from copilot_quant_pipeline.alerts.cell_problems import find_in_warehouse
from copilot_quant_pipeline.alerts.incidents import plan_messages
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.connections import BusyWarehouseError
from copilot_quant_pipeline.warehouse.fetch_result import CELLS
from copilot_quant_pipeline.warehouse.tables import BARS, PRICES, GridTable
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline.warehouse.warnings import WarningChoice, acknowledge
from copilot_quant_pipeline_tests.conftest import NOW
from copilot_quant_pipeline_tests.warehouse.world import bar, settle_bars

DAYS = [date(2024, 3, 25), date(2024, 3, 26), date(2024, 3, 27)]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb", lock_timeout=0.2)


def _fail(
    warehouse: Warehouse, reasons: dict[str, str], at: datetime = NOW, days: list[date] = DAYS, table: GridTable = BARS
) -> None:
    cells = [
        {"date": day, "key": key, "outcome": "failed", "reason": reason, "detail": None, "fetched_at": at}
        for key, reason in reasons.items()
        for day in days
    ]
    rows = table.arrow.empty_table()
    warehouse.settle(table, pa.Table.from_pylist(cells, schema=CELLS), rows, run_id="run")


def test_a_home_without_a_warehouse_has_no_trouble(warehouse: Warehouse) -> None:
    assert find_in_warehouse(warehouse) == []


def test_a_venue_that_is_down_does_not_hide_behind_a_symbol_it_does_not_know(warehouse: Warehouse) -> None:
    _fail(warehouse, {"ZZZZ": "unknown_symbol"}, at=NOW - timedelta(days=2))
    _fail(warehouse, {"AAPL": "unavailable", "AMD": "rate_limited"})
    unknown, down = sorted(find_in_warehouse(warehouse), key=lambda trouble: trouble.cells)
    assert (unknown.key, unknown.cells) == ("cells/equity_bars/yahoo/data", 3)
    assert unknown.examples == ("ZZZZ, 3 cells, 2024-03-25 to 2024-03-27: unknown_symbol",)
    assert (down.key, down.cells, down.since, down.last) == ("cells/equity_bars/yahoo/venue", 6, NOW, NOW)


def test_each_venue_of_markets_is_an_incident_of_its_own(warehouse: Warehouse) -> None:
    _fail(warehouse, {"kalshi:A": "unavailable", "polymarket:b": "unavailable"}, table=PRICES)
    assert {trouble.key for trouble in find_in_warehouse(warehouse)} == {
        "cells/prediction_market_prices/kalshi/venue",
        "cells/prediction_market_prices/polymarket/venue",
    }


def test_only_the_first_few_are_spelled_out_and_the_rest_is_counted(warehouse: Warehouse) -> None:
    _fail(warehouse, dict.fromkeys((f"S{n}" for n in range(30)), "unavailable"), days=DAYS[:1])
    (trouble,) = find_in_warehouse(warehouse)
    assert trouble.what.startswith("has 30 cells that fail")
    assert trouble.examples[0] == "S0, 2024-03-25: unavailable"
    assert trouble.examples[5:] == ("and 25 more like these",)


def test_it_is_told_when_the_first_of_the_cells_is_asked_for_again(warehouse: Warehouse) -> None:
    _fail(warehouse, {"AAPL": "missing_at_source"}, at=NOW - timedelta(hours=1))
    _fail(warehouse, {"AAPL": "missing_at_source"})
    _fail(warehouse, {"AMD": "missing_at_source"}, at=NOW + timedelta(minutes=20))
    (trouble,) = find_in_warehouse(warehouse)
    assert "from 2024-03-29 14:30 UTC on" in trouble.next_step
    assert "so far: 2" in trouble.next_step


def test_cells_given_up_are_told_once_and_end_what_was_failing(warehouse: Warehouse) -> None:
    _fail(warehouse, {"AAPL": "missing_at_source"})
    _, incidents = plan_messages({}, find_in_warehouse(warehouse), (), NOW)
    with warehouse.transaction() as connection:
        connection.execute("update ops.coverage set reason = 'given_up', detail = 'missing_at_source, 8 tries'")
    messages, incidents = plan_messages(incidents, find_in_warehouse(warehouse), (), NOW + timedelta(hours=1))
    assert [(message.kind, message.trouble.what) for message in messages] == [
        ("opened", "has 3 cells given up, of yahoo"),
        ("ended", "has 3 cells that fail: yahoo has not what it should have"),
    ]
    given_up = messages[0].trouble
    assert given_up.examples == ("AAPL, 3 cells, 2024-03-25 to 2024-03-27: given_up (missing_at_source, 8 tries)",)
    assert "nothing by itself" in given_up.next_step
    for days in range(1, 9):
        messages, incidents = plan_messages(incidents, find_in_warehouse(warehouse), (), NOW + timedelta(days=days))
        assert messages == []


def test_quarantined_values_wait_for_a_person(warehouse: Warehouse) -> None:
    _fail(warehouse, {"AAPL": "unavailable"}, days=DAYS[:1])
    with warehouse.transaction() as connection:
        connection.execute(f"create table if not exists ops.quarantine ({_QUARANTINE})")
        for day, state in ((25, "waiting"), (26, "waiting"), (27, "accepted")):
            connection.execute(
                'insert into ops.quarantine ("table", date, key, old, new, seen_at, run_id, state)'
                " values ('equities.bars', $1, 'AAPL', $2, $3, $4, 'run', $5)",
                [date(2024, 3, day), '{"close": 100.0, "volume": 7}', '{"close": 25.0, "volume": 7}', NOW, state],
            )
    trouble = next(trouble for trouble in find_in_warehouse(warehouse) if trouble.key == "quarantine/equity_bars")
    assert trouble.what == "has 2 cells whose changed values wait for a decision"
    assert trouble.examples == ("AAPL, 2 cells, 2024-03-25 to 2024-03-26: close 100.0 -> 25.0",)
    assert "copilot-quant quarantine list" in trouble.next_step


_QUARANTINE = """
    "table" varchar, date date, key varchar, old varchar, new varchar,
    seen_at timestamp with time zone, run_id varchar, state varchar
"""


def test_what_may_be_wrong_at_the_source_is_told_once_and_over_once_it_is_acknowledged(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(DAYS[0], "AAPL", 100.0), bar(DAYS[1], "AAPL", 10.0))
    messages, incidents = plan_messages({}, find_in_warehouse(warehouse), (), NOW)
    assert [(message.kind, message.trouble.what) for message in messages] == [
        ("opened", "has 1 thing that may be wrong at the source")
    ]
    assert messages[0].trouble.examples == ("AAPL, 2024-03-26: the price went from 100.0 to 10.0",)
    assert not messages[0].trouble.failure
    for days in range(1, 9):
        messages, incidents = plan_messages(incidents, find_in_warehouse(warehouse), (), NOW + timedelta(days=days))
        assert messages == []
    acknowledge(warehouse, WarningChoice(keys=["AAPL"]), now=NOW)
    messages, _ = plan_messages(incidents, find_in_warehouse(warehouse), (), NOW + timedelta(days=9))
    assert [message.kind for message in messages] == ["recovered"]


def test_a_warehouse_that_is_being_written_is_told_from_one_that_is_broken(warehouse: Warehouse) -> None:
    _fail(warehouse, {"AAPL": "unavailable"})
    with warehouse.transaction(), pytest.raises(BusyWarehouseError):
        find_in_warehouse(Warehouse(warehouse.path, lock_timeout=0.2))
    warehouse.path.write_text("this is no database")
    with pytest.raises(UserError) as broken:
        find_in_warehouse(warehouse)
    assert not isinstance(broken.value, BusyWarehouseError)


def test_instants_are_aware_utc(warehouse: Warehouse) -> None:
    _fail(warehouse, {"AAPL": "unavailable"})
    (trouble,) = find_in_warehouse(warehouse)
    assert trouble.since.astimezone(UTC) == NOW
