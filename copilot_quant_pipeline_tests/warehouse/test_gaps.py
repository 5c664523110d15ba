"""Claims about what is a gap: a failed cell, or a blank one inside what was ever asked for; never more."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.warehouse.catalog import record_markets
from copilot_quant_pipeline.warehouse.coverage import read_provisional
from copilot_quant_pipeline.warehouse.gaps import Busy, Extent, read_gaps, read_tries
from copilot_quant_pipeline.warehouse.tables import BARS, MARKETS, PRICES
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import bar, bars, cell, cells

DAYS = [date(2024, 3, day) for day in (18, 19, 20, 21, 22)]
KEYS = ["Z", "A", "B"]
MARKET = "kalshi:X"


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb")


def _settle(warehouse: Warehouse, *asked: dict[str, Any]) -> None:
    rows = [bar(one["date"], one["key"]) for one in asked if one["outcome"] == "settled" and not one["reason"]]
    warehouse.settle(BARS, cells(*asked), bars(*rows), run_id="run")


def _gaps(
    warehouse: Warehouse,
    *,
    keys: list[str] = KEYS,
    until: date = DAYS[-1],
    busy: Collection[Busy] = (),
    limit: int = 100,
    grid: str = "equities",
) -> list[Cell]:
    extent = Extent(grid, keys, DAYS, until)
    return list(read_gaps(warehouse, extent, list(read_tries(warehouse, extent)), busy, limit).cells)


def test_blank_cells_after_the_first_settled_one_are_gaps_and_those_before_are_not(warehouse: Warehouse) -> None:
    _settle(warehouse, cell(DAYS[1], "A"), cell(DAYS[3], "A"))
    assert _gaps(warehouse) == [Cell(DAYS[4], "A"), Cell(DAYS[2], "A")]


def test_a_red_cell_is_a_gap_wherever_it_lies_and_opens_no_others(warehouse: Warehouse) -> None:
    _settle(warehouse, cell(DAYS[1], "A", "failed", "unavailable"))
    assert _gaps(warehouse) == [Cell(DAYS[1], "A")]


def test_a_symbol_never_asked_for_has_no_gaps(warehouse: Warehouse) -> None:
    _settle(warehouse, *(cell(day, "A") for day in DAYS))
    assert _gaps(warehouse) == []


def test_keys_and_dates_off_the_axes_have_no_gaps(warehouse: Warehouse) -> None:
    holiday = cell(date(2024, 3, 17), "A", "failed", "unavailable")
    _settle(warehouse, cell(DAYS[3], "GONE"), cell(DAYS[1], "GONE", "failed", "unavailable"), holiday)
    assert _gaps(warehouse) == []


def test_blank_cells_count_up_to_a_date_and_red_ones_beyond(warehouse: Warehouse) -> None:
    _settle(warehouse, cell(DAYS[1], "A"), cell(DAYS[1], "B"), cell(DAYS[4], "B", "failed", "unavailable"))
    assert _gaps(warehouse, until=DAYS[2]) == [Cell(DAYS[4], "B"), Cell(DAYS[2], "A"), Cell(DAYS[2], "B")]


def test_gaps_come_newest_first_in_the_order_of_the_axis_and_no_more_than_asked(warehouse: Warehouse) -> None:
    _settle(warehouse, *(cell(DAYS[3], key) for key in KEYS), cell(DAYS[0], "A", "failed", "unavailable"))
    assert _gaps(warehouse, limit=2) == [Cell(DAYS[4], "Z"), Cell(DAYS[4], "A")]


def test_cells_somebody_asks_for_are_left_out(warehouse: Warehouse) -> None:
    _settle(warehouse, *(cell(DAYS[2], key) for key in KEYS))
    busy = [Busy(Cell(DAYS[3], "A"), Cell(DAYS[4], "B")), Busy(Cell(DAYS[0], "GONE"), Cell(DAYS[4], "B"))]
    assert _gaps(warehouse, busy=busy) == [Cell(DAYS[4], "Z"), Cell(DAYS[3], "Z")]


def test_only_histories_that_are_due_are_read(warehouse: Warehouse) -> None:
    _settle(warehouse, cell(DAYS[0], "A", "failed", "unavailable"), cell(DAYS[0], "B", "failed", "missing_at_source"))
    extent = Extent("equities", KEYS, DAYS, DAYS[-1])
    due = [tries for tries in read_tries(warehouse, extent) if tries.reason == "unavailable"]
    assert read_gaps(warehouse, extent, due, (), 10).cells == (Cell(DAYS[0], "A"),)
    assert read_gaps(warehouse, extent, (), (), 10).cells == ()


@pytest.mark.parametrize(
    ("status", "last"), [("closed", DAYS[3]), ("open", DAYS[4])], ids=["closed", "open past its announced close"]
)
def test_a_markets_gaps_lie_inside_its_life(warehouse: Warehouse, status: str, last: date) -> None:
    _record_market(warehouse, opened_at=datetime(2024, 3, 19, 9, tzinfo=UTC), status=status)
    asked = cells(cell(DAYS[0], MARKET, reason="not_open"))
    warehouse.settle(PRICES, asked, PRICES.arrow.empty_table(), run_id="run")
    newest_first = [day for day in reversed(DAYS) if DAYS[1] <= day <= last]
    assert _gaps(warehouse, keys=[MARKET], grid="markets") == [Cell(day, MARKET) for day in newest_first]


def test_a_markets_day_that_was_read_before_it_was_over_is_a_gap_until_it_is_read_again(warehouse: Warehouse) -> None:
    _record_market(warehouse, opened_at=datetime(2024, 3, 18, tzinfo=UTC), status="open")

    def settle(day: date, at: datetime) -> None:
        asked = cells(cell(day, MARKET, reason="no_trade", fetched_at=at))
        warehouse.settle(PRICES, asked, PRICES.arrow.empty_table(), run_id="run")

    for day in DAYS:
        settle(day, datetime(2024, 3, 20, 23, 59, tzinfo=UTC) if day == DAYS[2] else datetime(2024, 3, 23, tzinfo=UTC))
    assert _gaps(warehouse, keys=[MARKET], grid="markets") == [Cell(DAYS[2], MARKET)]
    assert _gaps(warehouse, keys=[MARKET], grid="markets", until=DAYS[1]) == []
    settle(DAYS[2], datetime(2024, 3, 21, tzinfo=UTC))
    assert _gaps(warehouse, keys=[MARKET], grid="markets") == []


@pytest.mark.parametrize(
    ("reason", "life", "gap"),
    [
        ("closed", {"status": "resolved"}, False),
        ("closed", {"status": "open"}, True),
        ("closed", {"status": "closed", "closes_at": datetime(2024, 3, 22, 1, tzinfo=UTC)}, True),
        ("delisted", {"status": "gone"}, False),
        ("delisted", {"status": "open"}, True),
        ("not_open", {"status": "open", "opened_at": datetime(2024, 3, 23, tzinfo=UTC)}, False),
        ("not_open", {"status": "open", "opened_at": datetime(2024, 3, 22, 9, tzinfo=UTC)}, True),
    ],
)
def test_a_cell_settled_by_a_life_its_market_turned_out_not_to_have_is_a_gap(
    warehouse: Warehouse, reason: str, life: dict[str, Any], gap: bool
) -> None:
    _record_market(warehouse, **life)
    asked = cells(cell(DAYS[4], MARKET, reason=reason, fetched_at=datetime(2024, 3, 25, tzinfo=UTC)))
    warehouse.settle(PRICES, asked, PRICES.arrow.empty_table(), run_id="run")
    assert (_gaps(warehouse, keys=[MARKET], grid="markets") == [Cell(DAYS[4], MARKET)]) is gap
    assert (read_provisional(warehouse, "markets", DAYS[4]) == {Cell(DAYS[4], MARKET)}) is gap


def test_a_markets_cells_outside_a_life_that_was_moved_since_are_gaps(warehouse: Warehouse) -> None:
    def gaps_of_life(opened: datetime, closes: datetime, status: str) -> list[Cell]:
        _record_market(warehouse, opened_at=opened, closes_at=closes, status=status)
        return _gaps(warehouse, keys=[MARKET], grid="markets")

    reasons = ("not_open", "not_open", "no_trade", "closed", "closed")
    late = datetime(2024, 3, 23, tzinfo=UTC)
    asked = [cell(day, MARKET, reason=why, fetched_at=late) for day, why in zip(DAYS, reasons, strict=True)]
    warehouse.settle(PRICES, cells(*asked), PRICES.arrow.empty_table(), run_id="run")
    noon, midnight = datetime(2024, 3, 20, 12, tzinfo=UTC), datetime(2024, 3, 21, tzinfo=UTC)
    assert gaps_of_life(noon, midnight, "closed") == []
    assert gaps_of_life(noon, datetime(2024, 3, 21, 0, 1, tzinfo=UTC), "closed") == [Cell(DAYS[3], MARKET)]
    assert gaps_of_life(noon, late, "open") == [Cell(DAYS[4], MARKET), Cell(DAYS[3], MARKET)]
    assert gaps_of_life(datetime(2024, 3, 19, 23, tzinfo=UTC), midnight, "resolved") == [Cell(DAYS[1], MARKET)]


def test_a_result_that_is_taken_back_makes_its_day_and_those_since_gaps(warehouse: Warehouse) -> None:
    end, seen = datetime(2024, 3, 20, 15, tzinfo=UTC), datetime(2024, 3, 21, 1, tzinfo=UTC)
    opened = datetime(2024, 3, 1, tzinfo=UTC)
    _record_market(warehouse, status="resolved", result="Yes", opened_at=opened, closes_at=end, last_seen_at=seen)
    asked_at = datetime(2024, 3, 27, tzinfo=UTC)
    reasons = ("no_trade", "no_trade", "no_trade", "closed", "closed")
    asked = [cell(day, MARKET, reason=why, fetched_at=asked_at) for day, why in zip(DAYS, reasons, strict=True)]
    warehouse.settle(PRICES, cells(*asked), PRICES.arrow.empty_table(), run_id="run")
    assert _gaps(warehouse, keys=[MARKET], grid="markets") == []
    again = datetime(2024, 3, 28, tzinfo=UTC)
    _record_market(
        warehouse, status="open", opened_at=opened, closes_at=datetime(2024, 4, 9, tzinfo=UTC), last_seen_at=again
    )
    assert {one.date for one in _gaps(warehouse, keys=[MARKET], grid="markets")} == set(DAYS[2:])
    _record_market(warehouse, status="resolved", result="No", opened_at=opened, closes_at=end, last_seen_at=again)
    changes = warehouse.read(
        "select status, result from prediction_markets.market_changes order by seen_at"
    ).to_pylist()
    assert [(row["status"], row["result"]) for row in changes] == [
        ("resolved", "Yes"),
        ("open", None),
        ("resolved", "No"),
    ]


def _record_market(warehouse: Warehouse, **facts: Any) -> None:
    now = datetime(2024, 3, 22, tzinfo=UTC)
    plain = {field.name: "" for field in MARKETS.arrow if not field.nullable and field.type == pa.string()}
    known = {"market": MARKET, "venue": "kalshi", "closes_at": datetime(2024, 3, 21, 15, tzinfo=UTC)}
    row = {
        **plain,
        **known,
        "outcomes": "[]",
        "facts": "{}",
        "listed_at": now,
        "first_seen_at": now,
        "last_seen_at": now,
        **facts,
    }
    record_markets(warehouse, pa.Table.from_pylist([row], MARKETS.arrow))


def test_what_was_given_up_before_its_symbol_was_found_delisted_is_a_gap_once(warehouse: Warehouse) -> None:
    def given_up() -> list[Cell]:
        extent = Extent("equities", KEYS, DAYS, DAYS[-1])
        return list(read_gaps(warehouse, extent, (), (), 10).cells)

    _settle(warehouse, *(cell(day, "A") for day in DAYS[:2]))
    for tries in range(8):
        at = datetime(2024, 3, 22 + tries // 2, 12 * (tries % 2), tzinfo=UTC)
        _settle(warehouse, cell(DAYS[2], "A", "failed", "missing_at_source", fetched_at=at))
    found_at = datetime(2024, 3, 29, tzinfo=UTC)
    gone = [cell(day, "A", reason="delisted", fetched_at=found_at) for day in DAYS[3:]]
    _settle(warehouse, *gone)
    assert given_up() == [Cell(DAYS[2], "A")]
    later = datetime(2024, 3, 30, tzinfo=UTC)
    _settle(warehouse, cell(DAYS[2], "A", "failed", "missing_at_source", fetched_at=later))
    assert given_up() == []


def test_what_was_taken_for_delisted_is_a_gap_once_later_bars_come(warehouse: Warehouse) -> None:
    _settle(warehouse, cell(DAYS[0], "A"), *(cell(day, "A", reason="delisted") for day in DAYS[1:4]))
    assert _gaps(warehouse, until=DAYS[3]) == []
    _settle(warehouse, cell(DAYS[4], "A"))
    assert _gaps(warehouse) == [Cell(day, "A") for day in (DAYS[3], DAYS[2], DAYS[1])]
    _settle(warehouse, *(cell(day, "A") for day in DAYS[1:4]))
    assert _gaps(warehouse) == []
