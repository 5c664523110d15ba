"""Claims about cells that go on failing: what counts as a try, when one is given up, and that it is not for ever."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from copilot_quant_pipeline.upkeep.healing import plan_due
from copilot_quant_pipeline.warehouse.gaps import Extent, read_gaps, read_tries
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import FETCHED, MON, bar, bars, cell, cells, settle_bars, stored

# When healing tries a cell: 10 min, 40 min, 160 min, 640 min after one another, then daily.
MINUTES = (0, 10, 50, 210, 850, 850 + 1_440, 850 + 2 * 1_440, 850 + 3 * 1_440)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb")


def _try(warehouse: Warehouse, reason: str, minutes: Iterable[float]) -> dict[str, Any]:
    for after in minutes:
        failed = cell(MON, "A", "failed", reason, detail="why", fetched_at=FETCHED + timedelta(minutes=after))
        warehouse.settle(BARS, cells(failed), bars(), run_id="run")
    (row,) = warehouse.coverage("equities", ["A"]).to_pylist()
    return dict(row)


def test_a_cell_is_given_up_at_its_eighth_try_and_says_why(warehouse: Warehouse) -> None:
    assert _try(warehouse, "missing_at_source", MINUTES[:7])["reason"] == "missing_at_source"
    row = _try(warehouse, "missing_at_source", MINUTES[7:])
    assert (row["outcome"], row["reason"], row["attempts"]) == ("failed", "given_up", 8)
    assert row["detail"] == "missing_at_source, 8 tries since 2024-03-28 22:00 UTC: why"


def test_eight_tries_within_an_hour_are_too_few(warehouse: Warehouse) -> None:
    assert _try(warehouse, "missing_at_source", range(0, 60, 6))["reason"] == "missing_at_source"


def test_a_weekend_out_of_reach_uses_up_no_try(warehouse: Warehouse) -> None:
    row = _try(warehouse, "unavailable", [60.0 * hour for hour in range(0, 66, 6)])
    assert (row["reason"], row["attempts"], row["passing"]) == ("unavailable", 11, 11)
    back = 60.0 * 66
    assert _try(warehouse, "missing_at_source", [back + after for after in MINUTES[:7]])["reason"] != "given_up"
    assert _try(warehouse, "missing_at_source", [back + MINUTES[7]])["reason"] == "given_up"


def test_a_venue_out_of_reach_is_given_up_after_a_week(warehouse: Warehouse) -> None:
    days = [0.0, 60.0, *(1_440.0 * day for day in range(1, 7))]
    assert _try(warehouse, "rate_limited", days)["reason"] == "rate_limited"
    assert _try(warehouse, "rate_limited", [7 * 1_440.0])["reason"] == "given_up"


def test_the_first_true_answer_after_a_long_outage_is_not_the_last(warehouse: Warehouse) -> None:
    _try(warehouse, "unavailable", [0.0, 60.0, *(1_440.0 * day for day in range(1, 7))])
    assert _try(warehouse, "missing_at_source", [7 * 1_440.0])["reason"] == "missing_at_source"


def test_it_stays_given_up_until_it_is_settled(warehouse: Warehouse) -> None:
    _try(warehouse, "missing_at_source", MINUTES)
    row = _try(warehouse, "unavailable", [9_000])
    assert (row["reason"], row["attempts"]) == ("given_up", 9)
    assert row["detail"].startswith("unavailable, 9 tries")
    settle_bars(warehouse, bar(MON, "A"))
    (row,) = warehouse.coverage("equities", ["A"]).to_pylist()
    assert (row["outcome"], row["reason"], row["attempts"], row["passing"]) == ("settled", None, 0, 0)
    assert row["failing_since"] is row["reason_since"] is None
    assert len(stored(warehouse)) == 1


def test_a_change_of_reason_is_known_by_its_instant(warehouse: Warehouse) -> None:
    _try(warehouse, "missing_at_source", (0, 10))
    row = _try(warehouse, "unknown_symbol", (50, 210))
    assert row["failing_since"] == FETCHED
    assert row["reason_since"] == FETCHED + timedelta(minutes=50)


@pytest.mark.parametrize(("reason", "is_due"), [("unavailable", True), ("missing_at_source", False)])
def test_what_was_given_up_out_of_reach_is_due_once_the_venue_answers_for_another_cell(
    warehouse: Warehouse, reason: str, is_due: bool
) -> None:
    assert _try(warehouse, reason, [0.0, *(1_440.0 * day for day in range(1, 8))])["reason"] == "given_up"
    extent = Extent("equities", ["A", "B"], [MON], MON)

    def due() -> bool:
        (tries,) = read_tries(warehouse, extent)
        return bool(read_gaps(warehouse, extent, plan_due([tries], tries.fetched_at), (), 9).cells)

    for minutes, answered in ((7 * 1_440, False), (8 * 1_440, is_due)):
        # An answer of the same look says nothing new.
        at = FETCHED + timedelta(minutes=minutes)
        warehouse.settle(BARS, cells(cell(MON, "B", fetched_at=at)), bars(bar(MON, "B")), run_id="run")
        assert due() == answered
    _try(warehouse, reason, [9 * 1_440])
    assert not due()
