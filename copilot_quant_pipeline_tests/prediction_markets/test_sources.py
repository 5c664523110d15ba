"""Claims about what a run makes of a venue's answers: which days are lost, and what a market settled at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.prediction_markets.sources import MarketSources
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.tables import PRICES
from copilot_quant_pipeline_tests.prediction_markets.loopback import Answer, Loopback, answer

NOW = datetime(2026, 3, 13, 21, tzinfo=UTC)
HOUR = 3600
# A draw that opened on the 1st, had its first price on the 5th, none on the 7th, and ended on the 10th.
RECORD = {
    "id": "1",
    "slug": "draw",
    "conditionId": "0x1",
    "question": "Who?",
    "outcomes": '["A", "B"]',
    "outcomePrices": '["0.5", "0.5"]',
    "clobTokenIds": '["11", "12"]',
    "volume": "7.5",
    "startDate": "2026-03-01T00:00:00Z",
    "closed": True,
    "closedTime": "2026-03-10 18:00:00+00",
    "umaResolutionStatus": "resolved",
}
PRICED = (5, 6, 8, 9)


def history(start: int, end: int) -> list[dict[str, Any]]:
    hours = range(start // HOUR * HOUR, end, HOUR)
    return [{"t": at + 7, "p": 0.5} for at in hours if datetime.fromtimestamp(at, UTC).day in PRICED]


def batch(query: dict[str, list[str]], sent: Any) -> Answer:
    return answer(200, {"history": {token: history(sent["start_ts"], sent["end_ts"]) for token in sent["markets"]}})


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[MarketSources]:
    with Loopback() as venue:
        venue.answers = [answer(404, {"error": "not found"})]
        venue.routes |= {
            "/markets/slug/draw": lambda query, sent: answer(200, json.dumps(RECORD)),
            "/markets/1": lambda query, sent: answer(200, json.dumps(RECORD)),
            "/batch-prices-history": batch,
            "/v2/prices-history": lambda query, sent: answer(200, {"data": None}),
        }
        settings = Settings(home=tmp_path, markets_start=date(2026, 1, 1), pinned_now=NOW, source="live")
        yield MarketSources.reached_by(settings.with_venues_at(venue.url))


def reasons(sources: MarketSources, first: int, last: int) -> list[str | None]:
    days = tuple(date(2026, 3, day) for day in range(first, last + 1))
    harvest = sources.harvest_prices(Rectangle(days, ("polymarket:draw",)), refresh=True, backfill=None)
    sources.warehouse.settle_harvest(PRICES, harvest, run_id=f"{first}-{last}")
    return [row["reason"] for row in harvest.cells.sort_by("date").to_pylist()]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (3, 4, ["no_price"] * 2),
        (7, 7, ["missing_at_source"]),
        (10, 11, ["no_price", "closed"]),
        (1, 8, [*["no_price"] * 4, None, None, "missing_at_source", None]),
    ],
)
def test_a_few_asked_days_are_judged_by_the_whole_life(
    sources: MarketSources, first: int, last: int, expected: list[str | None]
) -> None:
    assert reasons(sources, first, last) == expected
    stored = sources.warehouse.read("select distinct date from prediction_markets.prices").column("date").to_pylist()
    assert {day.day for day in stored} == {day for day in PRICED if first <= day <= last}


def test_a_day_between_stored_ones_is_asked_for_alone(sources: MarketSources) -> None:
    reasons(sources, 5, 8)
    before = sources.venue("polymarket").traffic.requests
    assert reasons(sources, 7, 7) == ["missing_at_source"]
    # Two tokens, one window: every grain of both services.
    assert sources.venue("polymarket").traffic.requests - before <= 8


def test_a_draw_is_told_as_a_half_each_on_every_day(sources: MarketSources) -> None:
    reasons(sources, 1, 10)
    told = sources.warehouse.read("select distinct outcome, settlement from prediction_markets.daily order by outcome")
    assert told.to_pylist() == [{"outcome": name, "settlement": Decimal("0.5")} for name in "AB"]
    assert sources.warehouse.read("select count(*) as n from prediction_markets.daily").to_pylist() == [{"n": 8}]


def test_a_key_that_is_another_name_of_a_market_gets_no_market_of_its_own(sources: MarketSources) -> None:
    asked = Rectangle((date(2026, 3, 5),), ("polymarket:1",))  # as somebody may put it on the axis in Dagit
    harvest = sources.harvest_prices(asked, refresh=True, backfill=None)
    (cell,) = harvest.cells.to_pylist()
    assert (cell["outcome"], cell["reason"]) == ("failed", "unknown_market")
    assert "polymarket:draw" in cell["detail"]
    assert sources.warehouse.read("from prediction_markets.markets").num_rows == 0
