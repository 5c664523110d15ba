"""Claims about the checks on stored prices: what they find, and what of the store each run has them look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from copilot_quant_pipeline.prediction_markets.checks import CHECKS, Made, broken_rows, plan_check
from copilot_quant_pipeline.prediction_markets.sources import catalog_rows
from copilot_quant_pipeline.prediction_markets.venue import Market, Outcome
from copilot_quant_pipeline.warehouse.catalog import record_markets
from copilot_quant_pipeline.warehouse.fetch_result import CELLS
from copilot_quant_pipeline.warehouse.tables import PRICES
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

DAY = date(2024, 3, 5)
AT = datetime(2024, 3, 5, 9, tzinfo=UTC)
MARKET = Market("kalshi", "A", "A", "?", None, (Outcome("Yes"), Outcome("No")), AT, AT + timedelta(hours=9), "open")


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb")


def store(warehouse: Warehouse, market: Market, run: str, *prices: tuple[str, float, datetime]) -> None:
    """One day of a market, settled by a run."""
    row = dict.fromkeys(PRICES.names) | {"market": market.key, "source": "test", "first_seen_at": AT}
    rows = [
        {**row, "date": DAY, "outcome": outcome, "price": Decimal(str(price)), "stamped_at": at, "price_kind": "trade"}
        for outcome, price, at in prices
    ]
    cell = {"date": DAY, "key": market.key, "outcome": "settled", "reason": None, "detail": None, "fetched_at": AT}
    record_markets(warehouse, catalog_rows([market], AT, "test"))
    cells, stored = pa.Table.from_pylist([cell], CELLS), pa.Table.from_pylist(rows, PRICES.arrow)
    warehouse.settle(PRICES, cells, stored, run_id=run)


def found(warehouse: Warehouse, markets: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
    broken = broken_rows(warehouse, CHECKS, markets)
    return {check.name: one.markets for check, one in zip(CHECKS, broken, strict=True) if one.rows}


def test_what_holds_breaks_nothing(warehouse: Warehouse) -> None:
    assert found(warehouse) == {}
    store(warehouse, MARKET, "one", ("Yes", 0.3, AT), ("No", 0.7, AT))
    assert found(warehouse) == {}


def test_each_claim_finds_what_breaks_it(warehouse: Warehouse) -> None:
    early, late = AT - timedelta(days=2), AT + timedelta(days=2)
    closed = replace(MARKET, status="closed")
    store(warehouse, closed, "one", ("Yes", 0.3, AT), ("No", 0.9, AT), ("Yes", 0.3, early), ("Yes", 0.3, late))
    resolved = replace(MARKET, id="B", slug="B", status="resolved", result="No")
    store(warehouse, resolved, "two", ("Yes", 0.9, AT))
    assert found(warehouse) == {
        "outcomes_of_a_binary_market_sum_to_one": (MARKET.key,),
        "no_points_outside_a_markets_life": (MARKET.key,),
        "resolved_markets_end_at_their_outcome": (resolved.key,),
    }
    assert broken_rows(warehouse)[2].rows == 2
    assert found(warehouse, [resolved.key]) == {"resolved_markets_end_at_their_outcome": (resolved.key,)}


def test_a_market_that_is_open_may_be_so_for_longer_than_announced(warehouse: Warehouse) -> None:
    store(warehouse, MARKET, "one", ("Yes", 0.3, AT + timedelta(days=20)))
    assert found(warehouse) == {}


@pytest.mark.parametrize("column", ["price", "open", "high", "low", "bid", "ask"])
@pytest.mark.parametrize("value", ["1.000001", "-0.000001"])
def test_whatever_is_no_probability_is_found(warehouse: Warehouse, column: str, value: str) -> None:
    store(warehouse, MARKET, "one", ("Yes", 0.3, AT))
    assert found(warehouse) == {}
    with warehouse.transaction() as connection:
        connection.execute(f'update prediction_markets.prices set "{column}" = {value}')  # noqa: S608 ours
    for markets in (None, [MARKET.key]):
        assert found(warehouse, markets) == {"prices_are_probabilities": (MARKET.key,)}


def test_a_run_has_looked_at_what_was_stored_since_and_what_was_broken_then(warehouse: Warehouse) -> None:
    others = [replace(MARKET, id=name, slug=name) for name in "BCD"]
    for market in (MARKET, *others):
        store(warehouse, market, f"run of {market.id}", ("Yes", 0.3, AT))
    ended = "select run_id, started_at + to_seconds(seconds) as done from ops.run_summary"
    done = {row["run_id"]: row["done"] for row in warehouse.read(ended).to_pylist()}
    made = Made(done["run of B"] + timedelta(microseconds=1), broken=())
    assert sorted(plan_check(warehouse, "run of D", [made]) or []) == ["kalshi:C", "kalshi:D"]
    broken = replace(made, broken=("kalshi:A",))
    assert sorted(plan_check(warehouse, "run of D", [made, broken]) or []) == ["kalshi:A", "kalshi:C", "kalshi:D"]


def test_checks_made_on_their_own_or_for_the_first_time_look_at_all(warehouse: Warehouse) -> None:
    store(warehouse, MARKET, "one", ("Yes", 0.3, AT))
    made = Made(AT, broken=())
    assert plan_check(warehouse, "a run that stored nothing", [made]) is None
    assert plan_check(warehouse, "one", [made, None]) is None
    assert plan_check(warehouse, "one", [made]) == [MARKET.key]


@pytest.mark.parametrize(
    ("market", "worth"),
    [
        (replace(MARKET, status="resolved", result="No"), {"Yes": 0, "No": 1}),
        (
            replace(MARKET, status="resolved", facts={"settlement": "0.3700"}),
            {"Yes": Decimal("0.37"), "No": Decimal("0.63")},
        ),
        (replace(MARKET, status="resolved"), {"Yes": None, "No": None}),
        (replace(MARKET, facts={"settlement": "0.3700"}), {"Yes": None, "No": None}),
    ],
)
def test_the_daily_view_tells_what_each_outcome_settled_at(
    warehouse: Warehouse, market: Market, worth: dict[str, Decimal | int | None]
) -> None:
    store(warehouse, market, "one", ("Yes", 0.3, AT), ("No", 0.7, AT))
    rows = warehouse.read("select outcome, settlement from prediction_markets.daily").to_pylist()
    assert {row["outcome"]: row["settlement"] for row in rows} == worth
