"""Claims about green cells without rows: an answer that has rows there ends what was said, whatever was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from copilot_quant_pipeline.warehouse.fetch_result import WINDOWS, SeenAgain
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline.warehouse.warehouse import SettleResult, Warehouse
from copilot_quant_pipeline_tests.warehouse.world import FETCHED, MON, TUE, WED, bar, bars, cell, cells, stored


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb")


def _beside(*rows: dict[str, Any]) -> SeenAgain:
    window = {"key": "A", "start": MON, "end": WED, "fetched_at": FETCHED}
    return SeenAgain(bars(*rows), pa.Table.from_pylist([window], schema=WINDOWS))


def _look(warehouse: Warehouse, *rows: dict[str, Any]) -> SettleResult:
    asked, came = cells(cell(WED, "A")), bars(bar(WED, "A"))
    return warehouse.settle(BARS, asked, came, run_id="later", seen_again=_beside(*rows))


def _coverage(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    rows = warehouse.coverage("equities").select(["date", "outcome", "reason", "rows", "run_id"]).to_pylist()
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize("reason", ["not_listed", "delisted"])
def test_a_bar_beside_what_was_asked_settles_the_cell_that_had_a_reason_for_having_none(
    warehouse: Warehouse, reason: str
) -> None:
    warehouse.settle(BARS, cells(cell(MON, "A", reason=reason), cell(TUE, "A", reason=reason)), bars(), run_id="first")
    settled = _look(warehouse, bar(MON, "A", 101.0))
    assert settled.refuted.to_pylist() == [{"date": MON, "key": "A"}]
    assert [row["date"] for row in settled.cells.to_pylist()] == [WED]
    assert stored(warehouse) == [(MON, "A", 101.0), (WED, "A", 100.0)]
    assert _coverage(warehouse) == [
        (MON, "settled", None, 1, "later"),
        (TUE, "settled", reason, 0, "first"),
        (WED, "settled", None, 1, "later"),
    ]
    assert warehouse.read("from ops.restatements").num_rows == 0


def test_a_red_cell_and_one_nobody_asked_for_are_left_to_be_asked_for(warehouse: Warehouse) -> None:
    warehouse.settle(BARS, cells(cell(MON, "A", "failed", "missing_at_source")), bars(), run_id="first")
    assert _look(warehouse, bar(MON, "A"), bar(TUE, "A")).refuted.num_rows == 0
    assert stored(warehouse) == [(WED, "A", 100.0)]
