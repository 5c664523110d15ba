"""Claims about the simulated Kalshi: its filters, pages, tiers, caps, candle shapes, errors and faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.markets import SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline_tests.sandbox.conftest import NOW, Answer, get

MARKETS = SimulatedMarkets(7)
LISTED = MARKETS.listed("kalshi", NOW)
CUTOFF = NOW.replace(hour=0, minute=0, second=0) - timedelta(days=90)
ARCHIVED = next(market for market in LISTED if market.resolved_at < CUTOFF and market.volume)
OPEN = next(
    market
    for market in LISTED
    if market.status_at(NOW) == "open" and market.volume and market.opened_at < NOW - timedelta(days=30)
)
HOUR = 3600
BAD_REQUEST = {"error": {"code": "bad_request", "message": "bad request"}}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(now=NOW) as running:
        yield running


def ask(sandbox: Sandbox, path: str, **params: Any) -> Answer:
    return get(f"{sandbox.url}/trade-api/v2{path}", **params)


def body(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return answer.json


def pages(sandbox: Sandbox, path: str, name: str, **params: Any) -> list[Any]:
    records, cursor = [], ""
    while True:
        page = body(ask(sandbox, path, **params, **({"cursor": cursor} if cursor else {})))
        records += page[name]
        cursor = page["cursor"]
        if not cursor:
            return records


def span(days: float = 2, market: SimulatedMarket = OPEN) -> dict[str, int]:
    end = int(min(NOW, market.closes_at).timestamp())
    return {"start_ts": end - int(days * 24 * HOUR), "end_ts": end, "period_interval": 60}


def candles_path(market: SimulatedMarket) -> str:
    return f"/series/{market.series}/markets/{market.ticker}/candlesticks"


def test_the_pages_of_events_hold_every_event_and_its_live_markets(sandbox: Sandbox) -> None:
    events = pages(sandbox, "/events", "events", with_nested_markets="true", limit=50)
    assert {event["event_ticker"] for event in events} == {market.event for market in LISTED}
    nested = [market["ticker"] for event in events for market in event["markets"]]
    assert sorted(nested) == sorted(market.ticker for market in LISTED if market.resolved_at >= CUTOFF)


@pytest.mark.parametrize("limit", [0, 201, 1000, "many"])
def test_more_events_than_200_a_page_are_refused_as_recorded(sandbox: Sandbox, recorded: Path, limit: Any) -> None:
    answer = ask(sandbox, "/events", limit=limit)
    assert answer.status == 400
    assert answer.json == json.loads((recorded / "kalshi" / "kalshi_400_events_limit_1000.json").read_text())


def test_a_429_has_the_recorded_body(sandbox: Sandbox, recorded: Path) -> None:
    sandbox.fault("rate_limit", venue="kalshi")
    answer = ask(sandbox, "/events")
    assert (answer.status, answer.json) == (429, json.loads((recorded / "kalshi" / "kalshi_429.json").read_text()))


def test_exchange_status_and_series_look_as_recorded(sandbox: Sandbox, recorded: Path) -> None:
    status = json.loads((recorded / "kalshi" / "exchange_status_response.json").read_text())["response"]
    assert body(ask(sandbox, "/exchange/status")) == status
    series = json.loads((recorded / "kalshi" / "series_single_response.json").read_text())["response"]["series"]
    assert set(body(ask(sandbox, f"/series/{OPEN.series}"))["series"]) == set(series)


def test_markets_and_events_have_the_recorded_fields(sandbox: Sandbox, recorded: Path) -> None:
    recording = json.loads((recorded / "kalshi" / "pmvl_kalshi_events.json").read_text())["events"][0]
    answer = body(ask(sandbox, f"/events/{OPEN.event}", with_nested_markets="true"))
    assert set(answer["event"]) == set(recording)
    known = recording["markets"][0]
    nested = next(one for one in answer["event"]["markets"] if one["ticker"] == OPEN.ticker)
    for market in (nested, body(ask(sandbox, f"/markets/{OPEN.ticker}"))["market"]):
        assert set(market) - set(known) <= {"subtitle"}
        assert set(known) - set(market) <= {"early_close_condition"}
        assert all(isinstance(market[name], type(known[name])) for name in set(market) & set(known))


def test_an_open_markets_quote_is_that_of_its_last_candle(sandbox: Sandbox) -> None:
    market = body(ask(sandbox, f"/markets/{OPEN.ticker}"))["market"]
    last = body(ask(sandbox, candles_path(OPEN), **span()))["candlesticks"][-1]
    assert market["yes_bid_dollars"] == last["yes_bid"]["close_dollars"]
    assert Decimal(market["no_ask_dollars"]) == 1 - Decimal(market["yes_bid_dollars"])


def test_events_can_be_asked_for_by_their_tickers(sandbox: Sandbox) -> None:
    events = body(ask(sandbox, "/events", tickers=f"{OPEN.event},{ARCHIVED.event},KXNONE"))["events"]
    assert {event["event_ticker"] for event in events} == {OPEN.event, ARCHIVED.event}


def test_candles_have_the_recorded_fields(sandbox: Sandbox, recorded: Path) -> None:
    recording = json.loads((recorded / "kalshi" / "series_candlesticks_response.json").read_text())["response"]
    sandbox.fault("kalshi_cents", symbol=OPEN.ticker)
    candles = body(ask(sandbox, candles_path(OPEN), **span(days=30)))["candlesticks"]
    for traded in (True, False):
        sent, known = (
            next(one for one in some if bool(one["volume"]) is traded) for some in (candles, recording["candlesticks"])
        )
        assert set(sent) == set(known)
        assert all(set(sent[side]) == set(known[side]) for side in ("yes_bid", "yes_ask"))
        # Always null in the recording.
        assert set(known["price"]) - set(sent["price"]) == {"max", "min"}


def test_a_category_of_series_is_spelled_exactly(sandbox: Sandbox) -> None:
    assert len(body(ask(sandbox, "/series", category="Weather"))["series"]) == 2
    assert body(ask(sandbox, "/series", category="weather"))["series"] == []


def test_unfiltered_markets_are_mostly_combinations(sandbox: Sandbox) -> None:
    first = body(ask(sandbox, "/markets", limit=5))["markets"]
    assert all("mve_collection_ticker" in market for market in first)
    without = pages(sandbox, "/markets", "markets", limit=1000, mve_filter="exclude")
    assert {market["ticker"] for market in without} == {each.ticker for each in LISTED if each.resolved_at >= CUTOFF}
    only = pages(sandbox, "/markets", "markets", limit=1000, mve_filter="only")
    assert all("mve_selected_legs" in market for market in only)


def test_the_order_of_markets_is_not_stable(sandbox: Sandbox) -> None:
    orders = {
        tuple(each["ticker"] for each in body(ask(sandbox, "/markets", mve_filter="exclude"))["markets"])
        for _ in range(3)
    }
    assert len(orders) == 3
    assert len({frozenset(order) for order in orders}) == 1


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"status": "open"}, 200),
        ({"status": "open,closed"}, 400),
        ({"status": "active"}, 400),
        ({"min_close_ts": 1, "status": "closed"}, 200),
        ({"min_close_ts": 1}, 200),
        ({"min_close_ts": 1, "status": "open"}, 400),
        ({"min_close_ts": 1, "min_settled_ts": 1}, 400),
        ({"min_settled_ts": 1, "status": "settled"}, 200),
        ({"min_created_ts": 1, "status": "open"}, 200),
        ({"min_created_ts": 1, "status": "settled"}, 400),
        ({"min_updated_ts": 1, "mve_filter": "exclude", "series_ticker": OPEN.series}, 200),
        ({"min_updated_ts": 1, "event_ticker": OPEN.event}, 400),
        ({"mve_filter": "some"}, 400),
        ({"limit": 1001}, 400),
        ({"limit": 0}, 400),
        ({"cursor": "made-up"}, 400),
        ({"min_close_ts": "soon"}, 400),
    ],
)
def test_filters_of_markets_agree_or_are_refused(sandbox: Sandbox, params: dict[str, Any], status: int) -> None:
    answer = ask(sandbox, "/markets", **params)
    assert answer.status == status
    if status == 400:
        assert answer.json == BAD_REQUEST


def test_status_words_of_the_filter_and_of_the_response_differ(sandbox: Sandbox) -> None:
    for word, said in (("open", {"active"}), ("closed", {"closed", "determined"}), ("settled", {"finalized"})):
        found = pages(sandbox, "/markets", "markets", status=word, mve_filter="exclude")
        assert {market["status"] for market in found} <= said
        assert found


def test_a_market_settled_before_the_cutoff_is_known_to_the_historical_routes_only(sandbox: Sandbox) -> None:
    cutoff = body(ask(sandbox, "/historical/cutoff"))["market_settled_ts"]
    assert datetime.fromisoformat(cutoff) == CUTOFF
    for path in (f"/markets/{ARCHIVED.ticker}", candles_path(ARCHIVED)):
        answer = ask(sandbox, path, **span(market=ARCHIVED))
        assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")
    market = body(ask(sandbox, f"/historical/markets/{ARCHIVED.ticker}"))["market"]
    assert (market["status"], market["result"]) == ("finalized", ("yes", "no")[ARCHIVED.winner])
    assert ask(sandbox, f"/historical/markets/{OPEN.ticker}").status == 404
    assert body(ask(sandbox, f"/events/{ARCHIVED.event}"))["event"]["series_ticker"] == ARCHIVED.series


def test_historical_markets_are_paged_and_their_filters_exclude_each_other(sandbox: Sandbox) -> None:
    found = pages(sandbox, "/historical/markets", "markets", mve_filter="exclude", limit=300)
    assert {market["ticker"] for market in found} == {each.ticker for each in LISTED if each.resolved_at < CUTOFF}
    assert ask(sandbox, "/historical/markets", mve_filter="exclude", series_ticker=OPEN.series).status == 400
    named = body(ask(sandbox, "/historical/markets", tickers=f"{ARCHIVED.ticker},{OPEN.ticker}"))["markets"]
    assert [market["ticker"] for market in named] == [ARCHIVED.ticker]


def test_live_candles_are_dollars_and_historical_ones_have_no_suffix(sandbox: Sandbox) -> None:
    live = body(ask(sandbox, candles_path(OPEN), **span()))
    assert live["ticker"] == OPEN.ticker
    traded = next(each for each in live["candlesticks"] if float(each["volume_fp"]))
    assert set(traded) == {"end_period_ts", "price", "yes_bid", "yes_ask", "volume_fp", "open_interest_fp"}
    assert set(traded["yes_bid"]) == {"open_dollars", "high_dollars", "low_dollars", "close_dollars"}
    old = body(ask(sandbox, f"/historical/markets/{ARCHIVED.ticker}/candlesticks", **span(market=ARCHIVED)))
    candle = next(each for each in old["candlesticks"] if float(each["volume"]))
    assert all(isinstance(candle["price"][name], str) for name in ("open", "high", "low", "close", "previous"))
    assert set(candle) == {"end_period_ts", "price", "yes_bid", "yes_ask", "volume", "open_interest"}


def test_the_old_shape_has_cents_next_to_dollars(sandbox: Sandbox) -> None:
    sandbox.fault("kalshi_cents", symbol=OPEN.ticker)
    candles = body(ask(sandbox, candles_path(OPEN), **span()))["candlesticks"]
    candle = next(each for each in candles if each["volume"])
    assert candle["price"]["close"] == round(float(candle["price"]["close_dollars"]) * 100)
    assert all(isinstance(candle[name], int) for name in ("volume", "open_interest"))


def test_some_quiet_hours_have_no_price_and_some_no_candle(sandbox: Sandbox) -> None:
    asked = span(days=30)
    candles = body(ask(sandbox, candles_path(OPEN), **asked))["candlesticks"]
    untraded = [each for each in candles if "close_dollars" not in each["price"]]
    assert untraded
    assert all(set(each["price"]) == {"previous_dollars"} and each["volume_fp"] == "0.00" for each in untraded)
    assert len(candles) < (asked["end_ts"] - asked["start_ts"]) // HOUR + 1


def test_days_end_at_new_yorks_midnight_and_hold_their_hours(sandbox: Sandbox) -> None:
    # Over the change of clocks in November 2025: 04:00Z until the 3rd, then a step of 25 hours.
    first, last = datetime(2025, 10, 31, 4, tzinfo=UTC), datetime(2025, 11, 6, 5, tzinfo=UTC)
    market = next(
        one for one in LISTED if one.opened_at < first < last < one.closes_at and one.volume and one.resolved_at >= NOW
    )
    asked = {"start_ts": int(first.timestamp()), "end_ts": int(last.timestamp())}
    days = body(ask(sandbox, candles_path(market), **asked, period_interval=1440))["candlesticks"]
    ends = [datetime.fromtimestamp(day["end_period_ts"], UTC) for day in days]
    assert [(end.day, end.hour) for end in ends] == [(31, 4), (1, 4), (2, 4), (3, 4), (4, 5), (5, 5), (6, 5)]
    asked["start_ts"] -= 23 * HOUR
    hours = body(ask(sandbox, candles_path(market), **asked, period_interval=60))["candlesticks"]
    for before, day in zip([first - timedelta(days=1), *ends], days, strict=False):
        within = [one for one in hours if before.timestamp() < one["end_period_ts"] <= day["end_period_ts"]]
        traded = [one["price"] for one in within if "close_dollars" in one["price"]]
        assert Decimal(day["volume_fp"]) == sum(Decimal(one["volume_fp"]) for one in within)
        assert day["yes_bid"] == within[-1]["yes_bid"]
        assert day["open_interest_fp"] == within[-1]["open_interest_fp"]
        assert day["price"].get("close_dollars") == (traded[-1]["close_dollars"] if traded else None)
        assert day["price"].get("high_dollars") == max((one["high_dollars"] for one in traded), default=None)


def test_a_market_that_never_trades_has_an_empty_book(sandbox: Sandbox) -> None:
    quiet = next(each for each in LISTED if not each.volume and each.status_at(NOW) == "open")
    candles = body(ask(sandbox, candles_path(quiet), **span(market=quiet)))["candlesticks"]
    assert {(each["yes_bid"]["close_dollars"], each["yes_ask"]["close_dollars"]) for each in candles} == {
        ("0.0000", "1.0000")
    }


def test_both_ends_of_a_window_are_included_and_the_future_is_not(sandbox: Sandbox) -> None:
    end = int(NOW.timestamp())
    asked = {"start_ts": end - HOUR, "end_ts": end + 10 * HOUR, "period_interval": 60}
    busy = next(each for each in LISTED if each.quiet < 0.03 and each.volume and each.status_at(NOW) == "open")
    stamps = [each["end_period_ts"] for each in body(ask(sandbox, candles_path(busy), **asked))["candlesticks"]]
    assert stamps == [end - HOUR, end]


def test_more_candles_than_a_route_gives_are_refused_in_its_words(sandbox: Sandbox) -> None:
    for path in (candles_path(OPEN), f"/historical/markets/{ARCHIVED.ticker}/candlesticks"):
        assert ask(sandbox, path, start_ts=0, end_ts=5000 * HOUR, period_interval=60).status == 200
        answer = ask(sandbox, path, start_ts=0, end_ts=5001 * HOUR, period_interval=60)
        assert answer.status == 400
        said = "requested time range with candlesticks: 5001.000000, max candlesticks: 5000"
        assert answer.json["error"] == {"code": "bad_request", "message": "bad request", "details": said}
    batch = {"market_tickers": f"{OPEN.ticker},{ARCHIVED.ticker},X", "start_ts": 0, "period_interval": 60}
    answer = ask(sandbox, "/markets/candlesticks", end_ts=3334 * HOUR, **batch)
    said = "requested candlesticks across all markets: 10002, max candlesticks: 10000"
    assert answer.json["error"]["details"] == said
    assert ask(sandbox, "/markets/candlesticks", end_ts=3333 * HOUR, **batch).status == 200


@pytest.mark.parametrize(
    "wrong",
    [{"start_ts": "x"}, {"end_ts": 0}, {"period_interval": 7}, {"market_tickers": ""}, {"market_tickers": "A," * 101}],
)
def test_a_batch_that_is_asked_for_wrongly_is_a_bad_request(sandbox: Sandbox, wrong: dict[str, Any]) -> None:
    answer = ask(sandbox, "/markets/candlesticks", **{"market_tickers": OPEN.ticker, **span(), **wrong})
    assert (answer.status, answer.json) == (400, BAD_REQUEST)


def test_single_batch_and_event_say_the_same_and_a_batch_leaves_out_the_archived(sandbox: Sandbox) -> None:
    single = body(ask(sandbox, candles_path(OPEN), **span()))["candlesticks"]
    batch = body(ask(sandbox, "/markets/candlesticks", market_tickers=f"{ARCHIVED.ticker},{OPEN.ticker}", **span()))
    assert [(each["market_ticker"], each["candlesticks"]) for each in batch["markets"]] == [(OPEN.ticker, single)]
    event = body(ask(sandbox, f"/series/{OPEN.series}/events/{OPEN.event}/candlesticks", **span()))
    assert event["market_candlesticks"][event["market_tickers"].index(OPEN.ticker)] == single
    assert event["adjusted_end_ts"] == span()["end_ts"]


def test_too_long_a_window_of_an_event_is_cut_short_as_one_field_tells(sandbox: Sandbox) -> None:
    asked = span(days=300)
    event = body(ask(sandbox, f"/series/{OPEN.series}/events/{OPEN.event}/candlesticks", **asked))
    assert event["adjusted_end_ts"] < asked["end_ts"] or len(event["market_tickers"]) == 1
    assert sum(map(len, event["market_candlesticks"])) <= 5000


def test_a_series_that_is_not_the_markets_own_is_not_found(sandbox: Sandbox) -> None:
    assert ask(sandbox, f"/series/KXELSE/markets/{OPEN.ticker}/candlesticks", **span()).status == 404
    assert ask(sandbox, "/series/KXELSE").status == 404
    assert ask(sandbox, "/events/KXELSE-1").status == 404


def test_faults_of_the_data_hit_whom_they_are_meant_for(sandbox: Sandbox) -> None:
    sandbox.fault("kalshi_gone", symbol=OPEN.ticker)
    assert ask(sandbox, f"/markets/{OPEN.ticker}").status == 404
    sandbox.clear_faults()
    sandbox.fault("kalshi_bad_candle", symbol=OPEN.ticker, how="milliseconds")
    stamps = [each["end_period_ts"] for each in body(ask(sandbox, candles_path(OPEN), **span()))["candlesticks"]]
    assert sum(stamp > 10**12 for stamp in stamps) == 1


def test_a_venue_that_is_down_says_so_on_every_route(sandbox: Sandbox) -> None:
    sandbox.fault("kalshi_down")
    for path in ("/events", "/markets/candlesticks", "/historical/cutoff"):
        assert ask(sandbox, path).status == 503
    sandbox.clear_faults()
    assert ask(sandbox, "/historical/cutoff").status == 200


def test_what_is_past_is_the_same_for_a_later_clock(sandbox: Sandbox) -> None:
    before = body(ask(sandbox, candles_path(OPEN), **span()))
    sandbox.pin_clock((NOW + timedelta(days=3)).astimezone(UTC))
    assert body(ask(sandbox, candles_path(OPEN), **span())) == before
