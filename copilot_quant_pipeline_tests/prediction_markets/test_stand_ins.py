"""Claims about stand-ins of Polymarket and Kalshi that keep to the published formats and to nothing of our sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from copilot_quant_pipeline.errors import Malformed, NotFound, RateLimited, Unavailable, VendorError
from copilot_quant_pipeline.prediction_markets.kalshi import Kalshi
from copilot_quant_pipeline.prediction_markets.polymarket import Polymarket
from copilot_quant_pipeline.prediction_markets.venue import (
    Interrupted,
    Market,
    MarketQuery,
    MissingAtSource,
    SpoiledDays,
)
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline_tests.prediction_markets.loopback import Answer, Loopback, answer

NOW = datetime(2026, 3, 13, 21, tzinfo=UTC)
START = datetime(2026, 3, 11, tzinfo=UTC)
HOUR = 3600
V2 = "/trade-api/v2"

Route = Callable[[dict[str, list[str]], Any], Answer]


@pytest.fixture
def venue() -> Iterator[Loopback]:
    with Loopback() as running:
        running.answers = [answer(404, {"error": "no such route"})]
        yield running


@pytest.fixture
def polymarket(venue: Loopback) -> Polymarket:
    return Polymarket(venue.url, venue.url, venue.url, clock=lambda: NOW, wait=lambda _: 0.0)


@pytest.fixture
def kalshi(venue: Loopback) -> Kalshi:
    return Kalshi(venue.url + V2, policy=RetryPolicy(RequestRate(100_000)), wait=lambda _: 0.0)


def always(status: int, body: Any = "", **headers: str) -> Route:
    return lambda query, sent: answer(status, body, **headers)


def asked(venue: Loopback, path: str) -> int:
    return sum(path == one for _, one, _, _, _ in venue.requests)


def table(found: pa.Table | VendorError) -> pa.Table:
    assert isinstance(found, pa.Table), found
    return found


# Polymarket


def gamma(number: int, volume: float, **changes: Any) -> dict[str, Any]:
    return {
        "id": str(number),
        "slug": f"market-{number}",
        "conditionId": hex(number),
        "question": "Rain?",
        "outcomes": '["Yes", "No"]',
        "clobTokenIds": json.dumps([f"{number}1", f"{number}2"]),
        "volumeNum": volume,
        "startDate": "2026-03-01T00:00:00Z",
        **changes,
    }


def keyset(pages: list[list[dict[str, Any]]]) -> Route:
    """Open markets in pages, whatever order or limit is asked for; there are no closed ones."""

    def listed(query: dict[str, list[str]], _: Any) -> Answer:
        if query["closed"] == ["true"]:
            return answer(200, {"markets": []})
        names = set(query.get("slug", [])) | set(query.get("id", [])) | set(query.get("condition_ids", []))
        if names:
            every = [one for page in pages for one in page if names & {one["slug"], one["id"], one["conditionId"]}]
            return answer(200, {"markets": every, "next_cursor": None})
        place = int(query.get("after_cursor", ["0"])[0])
        more = {"next_cursor": str(place + 1)} if place + 1 < len(pages) else {}
        return answer(200, {"markets": pages[place], **more})

    return listed


def test_a_short_or_empty_page_is_not_the_last(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes["/markets/keyset"] = keyset([[gamma(1, 9)], [], [gamma(2, 8)], []])
    catalog = polymarket.fetch_markets(MarketQuery(with_ended=False))
    assert [market.id for market in catalog.markets] == ["1", "2"]


def test_the_largest_are_found_though_the_venue_lists_in_another_order(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes["/markets/keyset"] = keyset([[gamma(1, 1), gamma(2, 5)], [gamma(3, 2), gamma(4, 9)]])
    catalog = polymarket.fetch_markets(MarketQuery(limit=2, with_ended=False))
    assert [market.id for market in catalog.markets] == ["4", "2"]


def test_markets_that_cannot_be_traded_yet_take_no_open_ones_place(venue: Loopback, polymarket: Polymarket) -> None:
    waiting = [gamma(number, 99, active=False) for number in (1, 2)]
    venue.routes["/markets/keyset"] = keyset([[*waiting, gamma(3, 5)], [gamma(4, 2)]])
    catalog = polymarket.fetch_markets(MarketQuery(limit=2, with_ended=False))
    assert [market.id for market in catalog.markets] == ["3", "4"]


def test_flags_and_numbers_may_come_as_text_and_what_is_optional_not_at_all(
    venue: Loopback, polymarket: Polymarket
) -> None:
    bare = {name: gamma(1, 1)[name] for name in ("id", "slug", "conditionId", "outcomes")} | {
        "tags": None,
        "events": [],
    }
    told = gamma(2, 1, closed="false", active="true", outcomes=["Yes", "No"], outcomePrices=[0.4, "0.6"])
    venue.routes["/markets/keyset"] = keyset([[bare, told | {"brandNew": {"a": [1]}}]])
    one, two = polymarket.fetch_markets(MarketQuery(with_ended=False)).markets
    assert (one.status, one.volume, one.category) == ("unopened", None, None)
    assert (two.status, two.volume) == ("open", Decimal(1))


@pytest.mark.parametrize("name", ["market-1", "1", "0x1"])
def test_one_market_is_found_where_only_the_lists_are_served(
    venue: Loopback, polymarket: Polymarket, name: str
) -> None:
    venue.routes["/markets/keyset"] = keyset([[gamma(1, 1)]])
    assert polymarket.fetch_market(name).id == "1"
    with pytest.raises(NotFound, match="knows no market"):
        polymarket.fetch_market("market-9")


def a_market(number: int = 1, **changes: Any) -> Market:
    from copilot_quant_pipeline.prediction_markets.polymarket_catalog import parse_market

    return parse_market(json.loads(json.dumps(gamma(number, 7.5)), parse_float=Decimal) | changes)


def hourly(start: int, end: int) -> list[dict[str, Any]]:
    return [{"t": at + 7, "p": 0.29} for at in range(start, end, HOUR)]


def single(query: dict[str, list[str]], _: Any) -> Answer:
    if query["market"][0].startswith("9"):
        return answer(404, {"error": "market not found"})
    return answer(200, {"history": hourly(int(query["startTs"][0]), int(query["endTs"][0]))})


@pytest.mark.parametrize("status", [404, 405, 501])
def test_without_a_batch_route_it_is_asked_for_once_only(venue: Loopback, polymarket: Polymarket, status: int) -> None:
    venue.routes |= {"/batch-prices-history": always(status, "no"), "/prices-history": single}
    for _ in range(2):
        points = polymarket.fetch_prices(a_market(), START, START + timedelta(days=1))
        assert set(points["price"].to_pylist()) == {Decimal("0.29")}
        assert points.num_rows == 48
    assert asked(venue, "/batch-prices-history") == 1


def test_one_token_that_clob_does_not_know_leaves_clob_to_the_others(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes |= {"/prices-history": single, "/v2/prices-history": always(200, {"data": None})}
    lost, good = a_market(9), a_market(1)
    found = polymarket.fetch_prices_of([lost, good], START, START + timedelta(days=1))
    assert isinstance(found[lost.key], VendorError)
    assert table(found[good.key]).num_rows == 48
    assert table(polymarket.fetch_prices_of([good], START, START + timedelta(days=1))[good.key]).num_rows == 48


def test_a_batch_may_leave_tokens_out_or_say_null(venue: Loopback, polymarket: Polymarket) -> None:
    def some(_: dict[str, list[str]], sent: Any) -> Answer:
        return answer(200, {"history": {"11": hourly(sent["start_ts"], sent["end_ts"]), "12": None}})

    venue.routes |= {"/batch-prices-history": some, "/v2/prices-history": always(200, {"data": None})}
    with pytest.raises(MissingAtSource) as missing:
        polymarket.fetch_prices(a_market(), START, START + timedelta(days=1))
    assert set(missing.value.points["outcome"].to_pylist()) == {"Yes"}


def test_null_is_an_empty_history(venue: Loopback, polymarket: Polymarket) -> None:
    empty = always(200, {"history": None})
    venue.routes |= {"/batch-prices-history": empty, "/prices-history": empty, "/v2/prices-history": always(200, {})}
    silent = a_market(volume="0", volumeNum=0)
    assert polymarket.fetch_prices(silent, START, START + timedelta(days=1)).num_rows == 0


def data_of(pages: int, last: dict[str, Any]) -> Route:
    def sent(query: dict[str, list[str]], _: Any) -> Answer:
        start, place = int(query["start"][0]), int(query.get("cursor", ["0"])[0])
        points = [
            {"timestamp": str(start + (place * 8 + n) * HOUR), "price": "0.29", "resolution_seconds": HOUR}
            for n in range(8)
        ]
        more = {"has_more": True, "next_cursor": str(place + 1)} if place + 1 < pages else last
        return answer(200, {"data": points, "pagination": more})

    return sent


def test_the_newer_history_is_read_to_its_last_page(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes["/v2/prices-history"] = data_of(3, {"has_more": False, "next_cursor": None})
    points = polymarket.fetch_prices(a_market(), START, START + timedelta(days=1))
    assert points.num_rows == 48


def test_more_without_a_cursor_is_no_end(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes["/v2/prices-history"] = data_of(1, {"has_more": True})
    with pytest.raises(Malformed, match="no cursor"):
        polymarket.fetch_prices(a_market(), START, START + timedelta(days=1))


# Days have 24 points an hour each, CLOB's seven seconds late.
DAY = timedelta(days=1)


def good(sent: Any) -> dict[str, Any]:
    return {token: hourly(sent["start_ts"], sent["end_ts"]) for token in sent["markets"]}


def batches_but(bad: str, trouble: Answer) -> Route:
    """Batches that one token breaks."""
    return lambda _, sent: trouble if bad in sent["markets"] else answer(200, {"history": good(sent)})


def singles_but(bad: str, trouble: Answer) -> Route:
    return lambda query, sent: trouble if query["market"] == [bad] else single(query, sent)


def data(every: int = 1) -> Route:
    """Points each so many hours, whatever is asked for."""

    def sent(query: dict[str, list[str]], _: Any) -> Answer:
        points = range(int(query["start"][0]), int(query["end"][0]), every * HOUR)
        return answer(200, {"data": [{"timestamp": at, "price": "0.29", "resolution_seconds": HOUR} for at in points]})

    return sent


NO_DATA = always(200, {"data": None})
TROUBLES = [
    answer(400, {"error": "invalid market"}),
    answer(500, {"error": "internal"}),
    answer(200, "<html>checking your browser</html>"),
    answer(200, {"history": None}),
]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_token_that_breaks_its_batch_leaves_clob_to_the_others(
    venue: Loopback, polymarket: Polymarket, trouble: Answer
) -> None:
    venue.routes["/batch-prices-history"] = batches_but("42", trouble)
    venue.routes["/prices-history"] = singles_but("42", trouble)
    venue.routes["/v2/prices-history"] = data(every=3)
    markets = [a_market(number) for number in (1, 4, 3)]
    found = polymarket.fetch_prices_of(markets, START - 30 * DAY, START)
    for fine in (markets[0], markets[2]):
        assert table(found[fine.key]).num_rows == 2 * 24 * 10
    # It has what the other service has of it.
    bad = table(found[markets[1].key])
    assert bad["outcome"].to_pylist().count("No") == 8 * 10


def test_who_broke_a_batch_is_kept_apart_from_the_next(venue: Loopback, polymarket: Polymarket) -> None:
    trouble = answer(400, {"error": "invalid market"})
    venue.routes["/batch-prices-history"] = batches_but("42", trouble)
    venue.routes |= {"/prices-history": singles_but("42", trouble), "/v2/prices-history": data()}
    one, other = a_market(1), a_market(4)
    for day in range(4):
        polymarket.fetch_prices_of([one, other], START + day * DAY / 2, START + (day + 1) * DAY / 2)
    assert asked(venue, "/batch-prices-history") == 4
    # Four by the batch that broke, then the one.
    assert asked(venue, "/prices-history") == 4 + 3


def test_a_batch_route_that_fails_by_itself_is_soon_asked_no_more(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes |= {"/batch-prices-history": always(500), "/prices-history": single}
    found = polymarket.fetch_prices_of([a_market()], START - 100 * DAY, START)
    assert table(found["polymarket:market-1"]).num_rows == 2 * 24 * 10
    venue.requests.clear()
    old = a_market(startDate="2025-01-01T00:00:00Z", acceptingOrdersTimestamp=None)
    assert table(polymarket.fetch_prices_of([old], START - 300 * DAY, START)[old.key]).num_rows == 2 * 24 * 300
    # By each of four threads, not in each of twenty windows.
    assert asked(venue, "/batch-prices-history") <= 4 * 5


@pytest.mark.parametrize("trouble", [answer(503, "down"), answer(200, "<html>"), None])
def test_the_newer_service_serves_while_clob_is_down(venue: Loopback, polymarket: Polymarket, trouble: Answer) -> None:
    venue.routes["/batch-prices-history"] = venue.routes["/prices-history"] = lambda query, sent: trouble
    venue.routes["/v2/prices-history"] = data()
    markets = [a_market(number) for number in range(1, 9)]
    found = polymarket.fetch_prices_of(markets, START - 10 * DAY, START)
    assert all(table(answer).num_rows == 2 * 24 * 10 for answer in found.values())
    assert asked(venue, "/batch-prices-history") + asked(venue, "/prices-history") <= 5 + 3 * 5


def test_days_that_nobody_answers_for_fail_and_the_others_do_not(venue: Loopback, polymarket: Polymarket) -> None:
    def from_the_eleventh(query: dict[str, list[str]], sent: Any) -> Answer:
        return answer(500) if sent["start_ts"] < START.timestamp() else answer(200, {"history": good(sent)})

    venue.routes["/batch-prices-history"] = from_the_eleventh
    venue.routes["/prices-history"] = always(500)
    old = a_market(startDate="2025-01-01T00:00:00Z", acceptingOrdersTimestamp=None)
    found = polymarket.fetch_prices_of([old], START - 15 * DAY, START + DAY)[old.key]
    assert isinstance(found, Interrupted)
    assert found.points.num_rows == 48
    assert {reason for reason, _ in found.failed.values()} == {"unavailable"}
    assert max(found.failed) < START.date()


def test_too_many_requests_are_not_answered_with_more(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes["/batch-prices-history"] = always(429)
    with pytest.raises(RateLimited):
        polymarket.fetch_prices(a_market(), START, START + DAY)
    assert len(venue.requests) == 5


def test_a_lasting_rate_limit_is_not_met_by_every_batch(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes["/batch-prices-history"] = always(429)
    old = [a_market(number, startDate="2025-01-01T00:00:00Z") for number in range(30)]
    found = polymarket.fetch_prices_of(old, START - 300 * DAY, START)
    assert {type(answer) for answer in found.values()} == {RateLimited}
    # Three of the sixty batches, five times each.
    assert len(venue.requests) == 3 * 5


def test_a_markets_points_do_not_depend_on_the_others_of_its_run(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes["/batch-prices-history"] = lambda _, sent: answer(200, {"history": good(sent)})
    late = a_market(1, startDate="2026-03-05T15:48:10Z")
    ended = a_market(2, closed=True, closedTime="2026-03-08 14:20:00+00", umaResolutionStatus="resolved")
    every = polymarket.fetch_prices_of([late, ended, a_market(3)], START - 10 * DAY, START + DAY)
    alone = {one.key: polymarket.fetch_prices(one, START - 10 * DAY, START + DAY) for one in (late, ended)}
    for key, points in alone.items():
        assert table(every[key]).equals(points)
    # The days on which it opened and ended are whole: prices are shown before the one and after the other.
    assert min(alone[late.key]["stamped_at"].to_pylist()) == datetime(2026, 3, 5, 0, 0, 7, tzinfo=UTC)
    assert max(alone[ended.key]["stamped_at"].to_pylist()) == datetime(2026, 3, 8, 23, 0, 7, tzinfo=UTC)


def coarse(query: dict[str, list[str]], sent: Any) -> Answer:
    return answer(200, {"history": {token: points[::12] for token, points in good(sent).items()}})


def test_a_day_with_few_points_is_tried_at_the_newer_service(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes |= {"/batch-prices-history": coarse, "/v2/prices-history": data()}
    points = polymarket.fetch_prices(a_market(), START, START + DAY)
    assert points.num_rows == 48
    venue.routes["/v2/prices-history"] = NO_DATA
    assert polymarket.fetch_prices(a_market(), START, START + DAY).num_rows == 4


def test_a_quiet_market_is_not_asked_for_in_every_window(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes |= {"/batch-prices-history": coarse, "/v2/prices-history": NO_DATA}
    old = a_market(startDate="2025-01-01T00:00:00Z", acceptingOrdersTimestamp=None)
    assert table(polymarket.fetch_prices_of([old], START - 300 * DAY, START)[old.key]).num_rows == 2 * 2 * 300
    assert asked(venue, "/v2/prices-history") == 2 * 2 * 2


def test_a_market_whose_volume_is_not_told_may_have_no_prices(venue: Loopback, polymarket: Polymarket) -> None:
    empty = always(200, {"history": {}})
    venue.routes |= {"/batch-prices-history": empty, "/prices-history": always(200, {"history": []})}
    venue.routes["/v2/prices-history"] = NO_DATA
    unsaid = a_market(volumeNum=None)
    assert unsaid.volume is None
    assert polymarket.fetch_prices(unsaid, START, START + DAY).num_rows == 0


def test_one_time_in_milliseconds_fails_its_day_only(venue: Loopback, polymarket: Polymarket) -> None:
    def spoiled(_: dict[str, list[str]], sent: Any) -> Answer:
        history = good(sent)
        history["12"][30]["t"] *= 1000
        return answer(200, {"history": history})

    venue.routes |= {"/batch-prices-history": spoiled, "/v2/prices-history": NO_DATA}
    with pytest.raises(SpoiledDays, match=r"time \d+ \(2026-03-11 06:00:07 UTC\) is in milliseconds") as raised:
        polymarket.fetch_prices(a_market(), START - DAY, START + 2 * DAY)
    assert list(raised.value.failed) == [START.date()]
    assert raised.value.points.num_rows == 48 * 2


@pytest.mark.parametrize("price", [-0.01, 1.001, "NaN", None])
def test_one_impossible_price_fails_its_day_only(venue: Loopback, polymarket: Polymarket, price: Any) -> None:
    def spoiled(_: dict[str, list[str]], sent: Any) -> Answer:
        history = good(sent)
        history["12"][30]["p"] = price
        return answer(200, {"history": history})

    venue.routes |= {"/batch-prices-history": spoiled, "/v2/prices-history": NO_DATA}
    found = polymarket.fetch_prices_of([a_market(1), a_market(2)], START - DAY, START + 2 * DAY)
    bad, fine = found["polymarket:market-1"], found["polymarket:market-2"]
    assert isinstance(bad, SpoiledDays)
    assert bad.points.num_rows == 48 * 2
    (day, (reason, why)) = bad.failed.popitem()
    assert (day, reason) == (START.date(), "malformed_response")
    assert f"price {str(price)!r} of 2026-03-11 06:00:07 UTC" in why
    assert table(fine).num_rows == 48 * 3
    # Where the other service has that day well, it is had from there; not for the price of most of its hours.
    venue.routes["/v2/prices-history"] = data(every=3)
    with pytest.raises(SpoiledDays):
        polymarket.fetch_prices(a_market(), START - DAY, START + 2 * DAY)
    venue.routes["/v2/prices-history"] = data()
    assert polymarket.fetch_prices(a_market(), START - DAY, START + 2 * DAY).num_rows == 48 * 3


def test_a_settlement_after_the_end_is_kept(venue: Loopback, polymarket: Polymarket) -> None:
    end = datetime(2026, 3, 11, 14, 20, tzinfo=UTC)

    def settled(query: dict[str, list[str]], _: Any) -> Answer:
        at = int(end.timestamp()) + 30
        before = [
            {"timestamp": one, "price": "0.9", "resolution_seconds": HOUR} for one in range(at - 9 * HOUR, at, HOUR)
        ]
        return answer(200, {"data": [*before, {"timestamp": at, "price": 1, "resolution_seconds": 0}]})

    venue.routes["/v2/prices-history"] = settled
    ended = a_market(closed=True, closedTime=end.isoformat(), umaResolutionStatus="resolved")
    points = polymarket.fetch_prices(ended, START, START + DAY)
    assert points["price_kind"].to_pylist().count("settlement") == 2


def test_without_a_batch_route_many_windows_ask_for_it_once(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes |= {"/batch-prices-history": always(405), "/prices-history": single}
    old = a_market(startDate="2025-01-01T00:00:00Z", acceptingOrdersTimestamp=None)
    polymarket.fetch_prices_of([old], START - 100 * DAY, START)
    assert asked(venue, "/batch-prices-history") == 1


# Kalshi

TICKER = "KXRAIN-26-T1"
RECORD = {"ticker": TICKER, "event_ticker": "KXRAIN-26", "status": "active", "title": "Rain?", "volume_fp": "7.50"}
EVENT = {"event_ticker": "KXRAIN-26", "series_ticker": "KXRAINS", "title": "Rain?", "category": "Weather"}
SERIES_CANDLES = f"{V2}/series/KXRAINS/markets/{TICKER}/candlesticks"
LATE_CANDLES = f"{V2}/historical/markets/{TICKER}/candlesticks"


def candles(query: dict[str, list[str]]) -> list[dict[str, Any]]:
    first, last = int(query["start_ts"][0]), int(query["end_ts"][0])
    return [
        {"end_period_ts": at, "price": {"close_dollars": "0.2900"} if at % (2 * HOUR) else {}, "volume_fp": "1.00"}
        for at in range(first, last + 1, HOUR)
    ]


def one_market(query: dict[str, list[str]], _: Any) -> Answer:
    return answer(200, {"ticker": TICKER, "candlesticks": candles(query)})


def kalshi_market(**changes: Any) -> Market:
    from copilot_quant_pipeline.prediction_markets.kalshi_answers import KalshiEvent, parse_market

    return parse_market(RECORD | changes, KalshiEvent(**EVENT))


@pytest.mark.parametrize("end", [{}, {"cursor": None}, {"cursor": ""}])
def test_a_list_ends_where_there_is_no_cursor(venue: Loopback, kalshi: Kalshi, end: dict[str, Any]) -> None:
    def listed(query: dict[str, list[str]], _: Any) -> Answer:
        if "cursor" in query:
            return answer(200, {"events": [EVENT | {"markets": [RECORD]}], **end})
        return answer(200, {"events": [], "cursor": "next"})

    venue.routes[f"{V2}/events"] = listed
    (market,) = kalshi.fetch_markets(MarketQuery(with_ended=False)).markets
    assert (market.id, market.series, market.category) == (TICKER, "KXRAINS", "weather")


def test_kalshis_markets_that_cannot_be_traded_yet_take_no_open_ones_place(venue: Loopback, kalshi: Kalshi) -> None:
    waiting = RECORD | {"ticker": "KXRAIN-26-T2", "status": "initialized", "volume_fp": "99.00"}
    venue.routes[f"{V2}/events"] = always(200, {"events": [EVENT | {"markets": [waiting, RECORD]}]})
    (market,) = kalshi.fetch_markets(MarketQuery(limit=1, with_ended=False)).markets
    assert market.id == TICKER


def test_a_nested_market_is_of_its_event_though_it_does_not_say_so(venue: Loopback, kalshi: Kalshi) -> None:
    bare = {name: RECORD[name] for name in ("ticker", "status", "title")}
    venue.routes[f"{V2}/events"] = always(200, {"events": [EVENT | {"markets": [bare, {"status": "active"}]}]})
    catalog = kalshi.fetch_markets(MarketQuery(with_ended=False))
    (market,) = catalog.markets
    assert (market.series, market.category, market.volume) == ("KXRAINS", "weather", None)
    assert len(catalog.broken) == 1


def test_named_markets_are_found_one_by_one_where_their_list_is_refused(venue: Loopback, kalshi: Kalshi) -> None:
    venue.routes[f"{V2}/markets"] = always(400, {"error": {"code": "bad_request", "message": "bad request"}})
    venue.routes[f"{V2}/markets/{TICKER}"] = always(200, {"market": RECORD})
    venue.routes[f"{V2}/events/KXRAIN-26"] = always(200, {"event": EVENT})
    catalog = kalshi.fetch_markets(MarketQuery(ids=(TICKER, "KXNOPE-1")))
    assert [market.id for market in catalog.markets] == [TICKER]
    assert [(one.id, one.unknown) for one in catalog.broken] == [("KXNOPE-1", True)]


@pytest.mark.parametrize("status", [404, 405])
def test_without_a_batch_route_each_market_is_asked_for(venue: Loopback, kalshi: Kalshi, status: int) -> None:
    venue.routes |= {f"{V2}/markets/candlesticks": always(status, "no"), SERIES_CANDLES: one_market}
    market = kalshi_market()
    points = table(kalshi.fetch_prices_of([market], START, START + timedelta(hours=6))[market.key])
    assert points["price"].to_pylist().count(Decimal("0.29")) == 3
    assert points["price"].null_count == 6


def test_a_batch_entry_without_its_candles_is_asked_for_alone(venue: Loopback, kalshi: Kalshi) -> None:
    entry = {"markets": [{"market_ticker": TICKER, "candlesticks": None}, None, {"market_ticker": "ELSE"}]}
    venue.routes |= {f"{V2}/markets/candlesticks": always(200, entry), SERIES_CANDLES: one_market}
    market = kalshi_market()
    assert table(kalshi.fetch_prices_of([market], START, START + timedelta(hours=6))[market.key]).num_rows == 12


@pytest.mark.parametrize("trouble", [answer(500), answer(200, "<html>"), answer(400)])
def test_a_market_that_breaks_its_batch_fails_alone(venue: Loopback, kalshi: Kalshi, trouble: Answer) -> None:
    bad = kalshi_market(ticker="KXRAIN-26-T2")
    venue.routes |= {f"{V2}/markets/candlesticks": lambda query, sent: trouble, SERIES_CANDLES: one_market}
    venue.routes[SERIES_CANDLES.replace(TICKER, bad.id)] = lambda query, sent: trouble
    found = kalshi.fetch_prices_of([kalshi_market(), bad], START, START + timedelta(hours=6))
    assert table(found[f"kalshi:{TICKER}"]).num_rows == 12
    assert isinstance(found[bad.key], VendorError)


@pytest.mark.parametrize("value", ["-0.0100", "1.0100", "NaN", ""])
def test_one_impossible_candle_fails_its_day_only(venue: Loopback, kalshi: Kalshi, value: str) -> None:
    def spoiled(query: dict[str, list[str]], _: Any) -> Answer:
        sent = candles(query)
        # The candle that ends at midnight is of the day before.
        sent[23]["yes_ask"] = {"close_dollars": value}
        return answer(200, {"markets": [{"market_ticker": TICKER, "candlesticks": sent}]})

    venue.routes[f"{V2}/markets/candlesticks"] = spoiled
    start = START + timedelta(seconds=1)
    found = kalshi.fetch_prices_of([kalshi_market()], start, start + timedelta(days=2))[f"kalshi:{TICKER}"]
    assert isinstance(found, SpoiledDays)
    assert found.points.num_rows == 48
    (day, (reason, why)) = found.failed.popitem()
    assert (day, reason) == (START.date(), "malformed_response")
    assert "2026-03-12 00:00 UTC" in why


@pytest.mark.parametrize("cutoff", [{}, {"market_settled_ts": None}, {"market_settled_ts": 1_700_000_000}, [], "soon"])
@pytest.mark.parametrize("settled", ["2025-01-02T03:04:05Z", "2025-01-02T03:04:05", "long ago"])
def test_a_cutoff_that_says_nothing_has_the_live_tier_asked_first(
    venue: Loopback, kalshi: Kalshi, cutoff: Any, settled: str
) -> None:
    venue.routes |= {f"{V2}/historical/cutoff": always(200, cutoff), LATE_CANDLES: one_market}
    market = kalshi_market(status="finalized", settlement_ts=settled)
    assert kalshi.fetch_prices(market, START, START + timedelta(hours=6)).num_rows == 12
    assert asked(venue, SERIES_CANDLES) == 1


def test_an_empty_live_answer_for_a_settled_market_falls_through(venue: Loopback, kalshi: Kalshi) -> None:
    nothing = always(200, {"ticker": TICKER, "candlesticks": []})
    venue.routes |= {SERIES_CANDLES: nothing, LATE_CANDLES: one_market}
    market = kalshi_market(status="finalized", settlement_ts="2026-03-12T00:00:00Z")
    assert kalshi.fetch_prices(market, START, START + timedelta(hours=6)).num_rows == 12


@pytest.mark.parametrize("live", [always(404), always(200, {"ticker": TICKER, "candlesticks": []})])
def test_a_settled_market_is_not_quiet_by_one_tier_while_the_other_does_not_answer(
    venue: Loopback, kalshi: Kalshi, live: Route
) -> None:
    batch = always(200, {"markets": [{"market_ticker": TICKER, "candlesticks": []}]})
    venue.routes |= {f"{V2}/markets/candlesticks": batch, SERIES_CANDLES: live, LATE_CANDLES: always(500)}
    venue.routes[f"{V2}/markets"] = always(200, {"markets": [], "cursor": ""})
    market = kalshi_market(status="finalized", settlement_ts="2026-03-12T00:00:00Z")
    found = kalshi.fetch_prices_of([market], START, START + timedelta(hours=6))
    assert isinstance(found[market.key], Unavailable)


@pytest.mark.parametrize("trouble", [answer(502, "<html>"), answer(429, {"error": "too many requests"})])
def test_a_trouble_that_passes_is_got_over(venue: Loopback, kalshi: Kalshi, trouble: Answer) -> None:
    troubles = [trouble, trouble]
    venue.routes[SERIES_CANDLES] = lambda query, sent: troubles.pop() if troubles else one_market(query, sent)
    assert kalshi.fetch_prices(kalshi_market(), START, START + timedelta(hours=6)).num_rows == 12
    assert kalshi.traffic.retries == 2
    venue.routes[SERIES_CANDLES] = always(503)
    with pytest.raises(Unavailable):
        kalshi.fetch_prices(kalshi_market(), START, START + timedelta(hours=6))


def test_recorded_pages_are_read_over_the_wire(recorded: Path, venue: Loopback, polymarket: Polymarket) -> None:
    page = (recorded / "polymarket/keyset/markets-keyset-limit-1.json").read_text()

    def listed(query: dict[str, list[str]], _: Any) -> Answer:
        return answer(200, page) if "after_cursor" not in query else answer(200, {"markets": []})

    venue.routes["/markets/keyset"] = listed
    (market,) = polymarket.fetch_markets(MarketQuery(with_ended=False)).markets
    assert (market.id, market.volume) == ("540817", Decimal("858688.426815"))


# Silence


def test_silent_days_of_many_markets_cost_few_requests(venue: Loopback, polymarket: Polymarket) -> None:
    venue.routes["/batch-prices-history"] = lambda _, sent: answer(200, {"history": dict.fromkeys(sent["markets"], [])})
    venue.routes |= {"/prices-history": always(200, {"history": []}), "/v2/prices-history": NO_DATA}
    silent = [a_market(number) for number in range(100, 244)]
    found = polymarket.fetch_prices_of(silent, START, START + DAY)
    assert {type(answer) for answer in found.values()} == {MissingAtSource}
    # 288 outcomes twenty at once, at two grains; one outcome of each market at the service that takes one at a time.
    assert len(venue.requests) <= 2 * 15 + 144


def test_a_silent_sibling_is_asked_for_where_the_other_outcome_has_prices(
    venue: Loopback, polymarket: Polymarket
) -> None:
    venue.routes["/batch-prices-history"] = lambda _, sent: answer(200, {"history": dict.fromkeys(sent["markets"], [])})
    venue.routes |= {"/prices-history": always(200, {"history": []}), "/v2/prices-history": data()}
    found = polymarket.fetch_prices_of([a_market(1), a_market(2)], START, START + DAY)
    assert {table(answer).num_rows for answer in found.values()} == {48}


@pytest.mark.parametrize("left_out", [True, False])
def test_quiet_markets_that_the_live_tier_knows_are_not_asked_for_one_by_one(
    venue: Loopback, kalshi: Kalshi, left_out: bool
) -> None:
    quiet = [replace(kalshi_market(), id=f"KXQ-{n}", slug=f"KXQ-{n}", series="KXQ") for n in range(185)]

    def candles(query: dict[str, list[str]], _: Any) -> Answer:
        tickers = [] if left_out else query["market_tickers"][0].split(",")
        return answer(200, {"markets": [{"market_ticker": one, "candlesticks": []} for one in tickers]})

    def listed(query: dict[str, list[str]], _: Any) -> Answer:
        records = [{"ticker": one} for one in query["tickers"][0].split(",") if one != "KXQ-7"]
        return answer(200, {"markets": records, "cursor": ""})

    venue.routes |= {f"{V2}/markets/candlesticks": candles, f"{V2}/markets": listed}
    found = kalshi.fetch_prices_of(quiet, START, START + 2 * DAY)
    assert {key for key, one in found.items() if isinstance(one, VendorError)} == {"kalshi:KXQ-7"}
    # Twenty at once, who is known a hundred at once, and who is not in both tiers.
    assert len(venue.requests) <= 10 + 2 + 3
