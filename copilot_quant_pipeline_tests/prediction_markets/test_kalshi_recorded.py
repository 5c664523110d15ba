"""Claims about real input: what was recorded of Kalshi, served over HTTP, is stored as it was recorded."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.prediction_markets.following import FollowRule
from copilot_quant_pipeline.prediction_markets.kalshi import Kalshi
from copilot_quant_pipeline.prediction_markets.sources import MarketSources, catalog_rows
from copilot_quant_pipeline.prediction_markets.venue import MarketQuery
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.catalog import record_markets
from copilot_quant_pipeline.warehouse.tables import PRICES
from copilot_quant_pipeline_tests.prediction_markets.loopback import Answer, Loopback, answer

API = "/trade-api/v2"
MARS = "KXELONMARS-99"
NEW_YORK = "KXHIGHNY-26JUN23-B78.5"
NOW = datetime(2026, 6, 30, tzinfo=UTC)


@pytest.fixture
def answers(recorded: Path) -> Path:
    return recorded / "kalshi"


@pytest.fixture
def venue() -> Iterator[Loopback]:
    with Loopback() as venue:
        venue.answers = [answer(404, {"error": {"code": "not_found", "message": "not found"}})]
        yield venue


@pytest.fixture
def sources(venue: Loopback, tmp_path: Path) -> MarketSources:
    settings = Settings(home=tmp_path, markets_start=date(2025, 8, 1), pinned_now=NOW, source="live")
    return MarketSources.reached_by(settings.with_venues_at(venue.url))


def response(file: Path) -> Any:
    return json.loads(file.read_text())["response"]


def within(candles: list[dict[str, Any]], query: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    first, last = int(query["start_ts"][0]), int(query["end_ts"][0])
    return [candle for candle in candles if first <= candle["end_period_ts"] <= last]


def always(body: Any) -> Callable[[dict[str, list[str]], Any], Answer]:
    return lambda query, sent: answer(200, body)


def list_and_store(sources: MarketSources, *ids: str) -> list[str]:
    catalog = sources.look("kalshi", FollowRule(("kalshi",), top=1000, ids=ids), (), ())
    assert not catalog.broken
    record_markets(sources.warehouse, catalog_rows(catalog.markets, NOW, "test"))
    return [market.key for market in catalog.markets]


def settle(sources: MarketSources, key: str, first: date, last: date) -> list[dict[str, Any]]:
    days = tuple(first + timedelta(days=day) for day in range((last - first).days + 1))
    harvest = sources.harvest_prices(Rectangle(days, (key,)), refresh=True, backfill=None)
    assert set(harvest.cells["outcome"].to_pylist()) == {"settled"}
    sources.warehouse.settle_harvest(PRICES, harvest, run_id="run")
    rows: list[dict[str, Any]] = sources.warehouse.read(
        "from prediction_markets.prices where market = $market order by outcome desc, stamped_at", {"market": key}
    ).to_pylist()
    return rows


def serve_events(venue: Loopback, answers: Path) -> None:
    recording = json.loads((answers / "pmvl_kalshi_events.json").read_text())
    # The recording's cursor leads on to pages that were not recorded.
    pages = {"": recording, recording["cursor"]: {"events": [], "cursor": ""}}
    venue.routes[f"{API}/events"] = lambda query, sent: answer(200, pages[query.get("cursor", [""])[0]])


@pytest.mark.parametrize("form", ["single", "batch", "event"])
def test_90_recorded_candles_are_stored_with_the_prices_their_cents_say(
    venue: Loopback, sources: MarketSources, answers: Path, form: str
) -> None:
    serve_events(venue, answers)
    candles: list[dict[str, Any]] = {
        "single": lambda: response(answers / "series_candlesticks_response.json")["candlesticks"],
        "batch": lambda: response(answers / "candlesticks_batch_response.json")["markets"][0]["candlesticks"],
        "event": lambda: response(answers / "event_candlesticks_response.json")["market_candlesticks"][0],
    }[form]()

    def batch(query: dict[str, list[str]], sent: Any) -> Answer:
        entry = {"market_ticker": MARS, "candlesticks": within(candles, query)}
        return answer(200, {"markets": [entry] if form == "batch" else []})

    def single(query: dict[str, list[str]], sent: Any) -> Answer:
        return answer(200, {"ticker": MARS, "candlesticks": within(candles, query)})

    venue.routes |= {
        f"{API}/markets/candlesticks": batch,
        f"{API}/series/KXELONMARS/markets/{MARS}/candlesticks": single,
    }
    list_and_store(sources)
    rows = settle(sources, f"kalshi:{MARS}", date(2025, 10, 1), date(2026, 1, 31))
    yes, no = rows[:90], rows[90:]
    assert len(yes) == len(no) == 90
    for candle, row, other in zip(candles, yes, no, strict=True):
        cents = candle["price"]["close"]
        assert row["stamped_at"] == other["stamped_at"] == datetime.fromtimestamp(candle["end_period_ts"], UTC)
        assert row["price"] == (None if cents is None else Decimal(cents) / 100)
        assert row["bid"] == Decimal(candle["yes_bid"]["close"]) / 100 == 1 - other["ask"]
        assert (row["volume"], row["open_interest"]) == (candle["volume"], candle["open_interest"])
        # New York's midnight is an hour of the UTC day that has begun.
        assert row["date"] == row["stamped_at"].date()


def test_24_recorded_hours_are_stored_on_the_utc_day_they_lie_in(
    venue: Loopback, sources: MarketSources, answers: Path
) -> None:
    with (answers / "jushoya_KXHIGHNY-26JUN23-B78.5_hourly_first24.csv").open() as file:
        hours = list(csv.DictReader(file))
    times = {"open_time": "2026-06-22T14:00:00Z", "close_time": "2026-06-24T04:59:00Z"}
    record = {"ticker": NEW_YORK, "event_ticker": "KXHIGHNY-26JUN23", "status": "finalized", "result": "no", **times}
    candles = [
        {
            "end_period_ts": int(datetime.fromisoformat(hour["ts_utc"]).timestamp()),
            "price": {"close": hour["last"] or None, "mean": hour["price_mean"] or None},
            "yes_bid": {"close": hour["yes_bid"], "low": hour["yes_bid_low"]},
            "yes_ask": {"close": hour["yes_ask"], "high": hour["yes_ask_high"]},
            "volume": hour["volume"],
            "open_interest": hour["open_interest"],
        }
        for hour in hours
    ]
    venue.routes |= {
        f"{API}/events": always({"events": [], "cursor": ""}),
        f"{API}/markets": always({"markets": [], "cursor": ""}),
        f"{API}/historical/markets/{NEW_YORK}": always({"market": record}),
        f"{API}/historical/markets/{NEW_YORK}/candlesticks": lambda query, sent: answer(
            200, {"ticker": NEW_YORK, "candlesticks": within(candles, query)}
        ),
    }
    (key,) = list_and_store(sources, f"kalshi:{NEW_YORK}")
    yes = settle(sources, key, date(2026, 6, 22), date(2026, 6, 24))[:24]
    assert [row["price"] for row in yes] == [Decimal(hour["last"]) if hour["last"] else None for hour in hours]
    assert [row["volume"] for row in yes] == [Decimal(hour["volume"]) for hour in hours]
    # The candle of midnight is the last hour of the 22nd.
    assert [row["date"].day for row in yes] == [22] * 10 + [23] * 14


def test_every_recorded_market_is_stored_but_combinations(
    venue: Loopback, sources: MarketSources, answers: Path
) -> None:
    serve_events(venue, answers)
    listed = response(answers / "markets_list_response.json")["markets"]
    newer = json.loads((answers / "drmanhattan_kalshi_markets.json").read_text())
    combinations = {record["ticker"]: record for record in (*listed, *newer)}
    for ticker, record in combinations.items():
        venue.routes[f"{API}/markets/{ticker}"] = always({"market": record})
    venue.routes[f"{API}/markets"] = always({"markets": listed, "cursor": ""})
    assert len(list_and_store(sources)) == 9
    # They are left out of lists; one that is named is had all the same.
    named = list_and_store(sources, *(f"kalshi:{record['ticker']}" for record in newer))
    assert set(named) >= {f"kalshi:{record['ticker']}" for record in newer}
    assert {row["status"] for row in sources.warehouse.read("from prediction_markets.markets").to_pylist()} == {"open"}


def test_471_recorded_fed_markets_are_stored_with_their_events_and_series(
    venue: Loopback, sources: MarketSources, answers: Path
) -> None:
    fed = json.loads((answers / "KXFED_tickers.json").read_text())
    records = [{**each, "ticker": each["market_ticker"]} for each in fed["markets"]]
    for event in fed["events"]:
        described = {"event": event | {"series_ticker": fed["series"], "category": "Economics"}, "markets": []}
        venue.routes[f"{API}/events/{event['event_ticker']}"] = always(described)

    def listed(tier: str) -> Callable[[dict[str, list[str]], Any], Answer]:
        of_tier = [each for each in records if (each["source"] == "historical") is (tier == "historical")]

        def respond(query: dict[str, list[str]], sent: Any) -> Answer:
            asked = query["tickers"][0].split(",")
            return answer(200, {"markets": [one for one in of_tier if one["ticker"] in asked], "cursor": ""})

        return respond

    venue.routes |= {f"{API}/markets": listed("live"), f"{API}/historical/markets": listed("historical")}
    client = Kalshi(venue.url, policy=RetryPolicy(RequestRate(100_000)))
    catalog = client.fetch_markets(MarketQuery(ids=tuple(each["ticker"] for each in records)))
    assert not catalog.broken
    record_markets(sources.warehouse, catalog_rows(catalog.markets, NOW, "test"))
    stored = sources.warehouse.read("from prediction_markets.markets").to_pylist()
    assert len(stored) == 471
    assert {(row["id"], row["event"], row["series"]) for row in stored} == {
        (each["ticker"], each["event_ticker"], "KXFED") for each in records
    }
    # Cut out of the ticker, the series of the older ones would be FED.
    assert sum(not row["id"].startswith("KXFED") for row in stored) > 100
    # Both tiers are asked for a hundred at once, and each event once.
    assert len(venue.requests) <= 5 + 4 + 5 + len(fed["events"])  # nor is a list of events served here
