from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.markets import SimulatedMarkets
from copilot_quant_pipeline_tests.sandbox.conftest import get

NOW = datetime(2024, 3, 29, 14, 0, tzinfo=UTC)
MARKETS = SimulatedMarkets(7).markets("predictit")
ALIVE = next(one for one in MARKETS if one.status_at(NOW) == "open" and one.outcomes == ("Yes", "No"))


@pytest.fixture
def predictit() -> Iterator[Sandbox]:
    with Sandbox(now=NOW) as sandbox:
        yield sandbox


def listed(sandbox: Sandbox) -> dict[str, Any]:
    records = get(f"{sandbox.url}/api/marketdata/all/").json["markets"]
    return {str(record["id"]): record for record in records}


def one(sandbox: Sandbox, number: str) -> Any:
    answer = get(f"{sandbox.url}/api/marketdata/markets/{number}")
    assert answer.status == 200
    return answer.json


def test_the_list_has_what_trades_or_waits_for_its_outcome(predictit: Sandbox) -> None:
    known = {market.id: market.status_at(NOW).title() for market in MARKETS if market.resolved_at > NOW}
    expected = {number: status for number, status in known.items() if status in ("Open", "Closed")}
    found = listed(predictit)
    assert {number: record["status"] for number, record in found.items()} == expected
    assert one(predictit, ALIVE.id) == found[ALIVE.id]


def test_a_yes_no_market_has_one_contract_and_others_one_an_outcome(predictit: Sandbox) -> None:
    found = listed(predictit)
    for market in MARKETS:
        if market.id in found:
            contracts = 1 if market.outcomes == ("Yes", "No") else len(market.outcomes)
            assert len(found[market.id]["contracts"]) == contracts


def test_what_is_resolved_or_never_was_is_null(predictit: Sandbox) -> None:
    assert one(predictit, "1") is None
    predictit.pin_clock(ALIVE.closes_at)
    assert one(predictit, ALIVE.id)["status"] == "Closed"
    predictit.pin_clock(ALIVE.resolved_at)
    assert one(predictit, ALIVE.id) is None
    assert ALIVE.id not in listed(predictit)


def test_prices_are_in_cents_and_yes_and_no_are_two_sides_of_one_book(predictit: Sandbox) -> None:
    contracts = [contract for record in listed(predictit).values() for contract in record["contracts"]]
    for contract in contracts:
        costs = [value for name, value in contract.items() if name.endswith(("Cost", "Price")) and value is not None]
        assert all(0 <= cost <= 1 and cost == round(cost, 2) for cost in costs)
        if contract["bestBuyYesCost"] is not None:
            assert contract["bestBuyYesCost"] >= contract["bestSellYesCost"]
            assert contract["bestBuyYesCost"] + contract["bestSellNoCost"] == pytest.approx(1, abs=0.011)
    assert any(contract["bestBuyYesCost"] is not None for contract in contracts)


def test_prices_are_as_of_the_clock(predictit: Sandbox) -> None:
    def seen() -> tuple[Any, Any]:
        record = one(predictit, ALIVE.id)
        return record["timeStamp"], [contract["lastTradePrice"] for contract in record["contracts"]]

    # New York's time, without saying so.
    assert seen()[0] == "2024-03-29T10:00:00"
    prices = set()
    for hours in range(48):
        predictit.pin_clock(NOW - timedelta(hours=hours))
        prices.add(tuple(seen()[1]))
    assert len(prices) > 1


def test_faults_hit_a_market_by_its_number_or_everybody(predictit: Sandbox) -> None:
    url = f"{predictit.url}/api/marketdata"
    predictit.fault("rate_limit", venue="predictit", symbol=ALIVE.id, times=1)
    assert get(f"{url}/all/").status == 200
    assert [get(f"{url}/markets/{ALIVE.id}").status for _ in range(2)] == [429, 200]
    predictit.fault("down", venue="predictit", times=1)
    assert [get(f"{url}/all/").status for _ in range(2)] == [503, 200]
