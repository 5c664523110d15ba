"""Claims about Kalshi's client, against the sandbox over real HTTP: catalog, prices, tiers, and what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from copilot_quant_pipeline.errors import Malformed, NotFound, RateLimited, Unavailable, VendorError
from copilot_quant_pipeline.prediction_markets.kalshi import GIVE_UP_AFTER, POLICY, THREADS, Kalshi
from copilot_quant_pipeline.prediction_markets.kalshi_windows import MAX_TICKERS, life_within
from copilot_quant_pipeline.prediction_markets.venue import POINTS, Market, MarketQuery
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.kalshi_candles import is_missing
from copilot_quant_pipeline.sandbox.markets import SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline_tests.prediction_markets.loopback import Answer, Loopback, answer

NOW = datetime(2026, 3, 13, 21, 0, tzinfo=UTC)
SEED = 7
UNPACED = RetryPolicy(RequestRate(100_000))

SIMULATED = SimulatedMarkets(SEED)
LISTED = SIMULATED.listed("kalshi", NOW)
CUTOFF = NOW.replace(hour=0) - timedelta(days=90)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(now=NOW, seed=SEED) as running:
        yield running


@pytest.fixture
def kalshi(sandbox: Sandbox) -> Kalshi:
    return client_of(sandbox)


def client_of(sandbox: Sandbox) -> Kalshi:
    return Kalshi(sandbox.url, policy=UNPACED, wait=lambda _: 0.0)


def some(that: Callable[[SimulatedMarket], bool], count: int) -> list[SimulatedMarket]:
    found = [market for market in LISTED if market.volume and that(market)]
    assert len(found) >= count
    return found[:count]


def is_archived(market: SimulatedMarket) -> bool:
    return market.resolved_at < CUTOFF


def is_open(market: SimulatedMarket) -> bool:
    return market.status_at(NOW) == "open" and market.opened_at < NOW - timedelta(days=10)


def is_settled_lately(market: SimulatedMarket) -> bool:
    return CUTOFF <= market.resolved_at <= NOW


def table(found: pa.Table | VendorError) -> pa.Table:
    assert isinstance(found, pa.Table), found
    return found


def expect_truth(points: pa.Table, market: SimulatedMarket, start: datetime, end: datetime) -> None:
    """The points are what was traded, hour by hour, of both outcomes."""
    truth = SIMULATED.prices(market, start, min(end, NOW + timedelta(seconds=1)))
    kept = ~is_missing(market, truth)
    assert len(truth.at[kept])
    yes = points.filter(pa.compute.equal(points["outcome"], "Yes"))
    no = points.filter(pa.compute.equal(points["outcome"], "No"))
    assert points.schema.equals(POINTS)
    assert points["outcome"].to_pylist() == ["Yes"] * len(yes) + ["No"] * len(no)
    seconds = yes["stamped_at"].cast(pa.int64()).to_numpy() // 10**6
    assert seconds.tolist() == truth.at[kept].tolist()
    assert no["stamped_at"].equals(yes["stamped_at"])
    traded = truth.volume[kept] > 0
    expected = [
        Decimal(f"{price:.3f}") if is_traded else None
        for price, is_traded in zip(truth.probability[kept], traded, strict=True)
    ]
    assert yes["price"].to_pylist() == expected
    assert no["price"].to_pylist() == [None if price is None else 1 - price for price in expected]
    assert yes["volume"].to_pylist() == [Decimal(f"{volume:.2f}") for volume in truth.volume[kept]]
    assert set(points["price_kind"].to_pylist()) == {"trade"}


def test_the_catalog_has_every_market_of_both_tiers_once(sandbox: Sandbox, kalshi: Kalshi) -> None:
    catalog = kalshi.fetch_markets(MarketQuery())
    by_id = {market.id: market for market in catalog.markets}
    assert len(by_id) == len(catalog.markets)
    assert set(by_id) == {market.ticker for market in LISTED}
    assert catalog.broken == ()
    for market in LISTED:
        seen = by_id[market.ticker]
        assert seen.status == market.status_at(NOW)
        assert (seen.event, seen.series, seen.category) == (market.event, market.series, market.category)
        assert (seen.opened_at, seen.closes_at) == (market.opened_at, market.ends_at(NOW))
        assert seen.result == (("Yes", "No")[market.winner] if seen.status == "resolved" else None)
    volumes = [market.volume or 0 for market in catalog.markets]
    assert volumes == sorted(volumes, reverse=True)


def test_open_markets_can_be_listed_alone_without_the_historical_tier(sandbox: Sandbox, kalshi: Kalshi) -> None:
    catalog = kalshi.fetch_markets(MarketQuery(with_ended=False))
    assert {market.status for market in catalog.markets} <= {"open", "unopened"}
    assert {market.ticker for market in LISTED if market.status_at(NOW) == "open"} <= {
        market.id for market in catalog.markets
    }
    assert not [route for route in sandbox.requests() if "historical" in route]


def test_a_category_is_listed_with_its_archived_markets_series_by_series(sandbox: Sandbox, kalshi: Kalshi) -> None:
    catalog = kalshi.fetch_markets(MarketQuery(categories=("Weather",)))
    assert {market.id for market in catalog.markets} == {each.ticker for each in LISTED if each.category == "weather"}
    assert sandbox.requests()["/trade-api/v2/historical/markets"] == 2


def test_the_largest_by_volume_are_kept_by_a_limit(kalshi: Kalshi) -> None:
    every = kalshi.fetch_markets(MarketQuery(categories=("crypto",))).markets
    assert kalshi.fetch_markets(MarketQuery(categories=("crypto",), limit=7)).markets == every[:7]


def test_an_unknown_category_is_answered_with_those_there_are(kalshi: Kalshi) -> None:
    with pytest.raises(NotFound, match=r"no category gardening; it has crypto, economics, politics, sports, weather"):
        kalshi.fetch_markets(MarketQuery(categories=("gardening",)))


def test_named_markets_come_from_whichever_tier_and_the_unknown_are_named(kalshi: Kalshi) -> None:
    (archived,), (live,) = some(is_archived, 1), some(is_open, 1)
    odd = ("KX UNKNOWN", "540817", "../markets", "A|B", "", "KXÜ-%2F?x=1", "0x12ab")
    catalog = kalshi.fetch_markets(MarketQuery(ids=(archived.ticker, live.ticker, *odd)))
    assert {market.id for market in catalog.markets} == {archived.ticker, live.ticker}
    assert {each.id for each in catalog.broken} == set(odd)
    assert all("kalshi" in each.why for each in catalog.broken)


def test_one_market_is_found_in_either_tier_with_its_event_and_series(kalshi: Kalshi) -> None:
    for (simulated,) in (some(is_archived, 1), some(is_open, 1)):
        market = kalshi.fetch_market(simulated.ticker)
        assert market.key == f"kalshi:{simulated.ticker}"
        assert (market.event, market.series, market.category) == (simulated.event, simulated.series, simulated.category)
    with pytest.raises(NotFound):
        kalshi.fetch_market("KXNONE-1")


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda one: one.event, "that is an event: name one of its markets"),
        (lambda one: one.ticker.lower(), "its tickers are in capitals"),
        (lambda one: f"{one.ticker}X", "live or historical$"),
    ],
)
def test_an_unknown_name_is_told_in_one_line_with_what_may_be_meant(
    kalshi: Kalshi, change: Callable[[SimulatedMarket], str], hint: str
) -> None:
    (simulated,) = some(is_open, 1)
    (broken,) = kalshi.fetch_markets(MarketQuery(ids=(change(simulated),))).broken
    assert broken.unknown
    assert re.search(f"^kalshi knows no market {re.escape(change(simulated))}, .*{hint}", broken.why)


def test_named_markets_need_no_request_for_events_that_were_listed(sandbox: Sandbox, kalshi: Kalshi) -> None:
    kalshi.fetch_markets(MarketQuery(with_ended=False))
    kalshi.fetch_markets(MarketQuery(ids=tuple(market.ticker for market in some(is_open, 20))))
    assert "/trade-api/v2/events/{event}" not in sandbox.requests()


def test_events_without_a_category_have_their_series_asked_for_at_once() -> None:
    def series(query: dict[str, list[str]], sent: object) -> Answer:
        return answer(200, {"series": [{"ticker": f"S{n}", "category": "Sports"} for n in range(9)]})

    def events(query: dict[str, list[str]], sent: object) -> Answer:
        listed = [
            {"event_ticker": f"E{n}", "series_ticker": f"S{n}", "title": "?", "markets": [_record(f"M{n}", f"E{n}")]}
            for n in range(9)
        ]
        return answer(200, {"events": listed, "cursor": ""})

    with Loopback() as venue:
        venue.answers = [answer(404, {"error": {"code": "not_found", "message": "not found"}})]
        venue.routes |= {"/trade-api/v2/events": events, "/trade-api/v2/series": series}
        found = Kalshi(venue.url, policy=UNPACED, wait=lambda _: 0.0).fetch_markets(MarketQuery(with_ended=False))
        assert [market.category for market in found.markets] == ["sports"] * 9
        assert [path for _, path, *_ in venue.requests] == ["/trade-api/v2/events", "/trade-api/v2/series"]


def test_markets_are_listed_beside_their_events_where_they_are_not_nested_in_them() -> None:
    def events(query: dict[str, list[str]], sent: object) -> Answer:
        listed = [
            {"event_ticker": f"E{n}", "series_ticker": f"S{n}", "title": "?", "category": "AB"[n % 2]} for n in range(9)
        ]
        return answer(200, {"events": listed, "cursor": ""})

    def markets(query: dict[str, list[str]], sent: object) -> Answer:
        assert (query["mve_filter"], query["status"]) == (["exclude"], ["open"])
        first = int(query.get("cursor", ["0"])[0])
        page = [_record(f"M{n}", f"E{n}") for n in range(first, min(first + 4, 9))]
        return answer(200, {"markets": page, "cursor": str(first + 4) if first < 8 else ""})

    with Loopback() as venue:
        venue.routes |= {"/trade-api/v2/events": events, "/trade-api/v2/markets": markets}
        kalshi = Kalshi(venue.url, policy=UNPACED, wait=lambda _: 0.0)
        found = kalshi.fetch_markets(MarketQuery(with_ended=False)).markets
        assert [(one.id, one.series) for one in found] == [(f"M{n}", f"S{n}") for n in range(9)]
        some = kalshi.fetch_markets(MarketQuery(categories=("b",), with_ended=False)).markets
        assert [one.id for one in some] == ["M1", "M3", "M5", "M7"]


def test_a_list_that_is_null_is_empty_and_one_that_is_absent_is_malformed() -> None:
    market = Market("kalshi", "M1", "M1", "?", None, (), None, None, "open", series="S1")
    with Loopback() as venue:
        kalshi = Kalshi(venue.url, policy=UNPACED, wait=lambda _: 0.0)
        for body, expected in (({"events": None, "cursor": ""}, 0), ({"ticker": "M1", "candlesticks": None}, 0)):
            venue.answers = [answer(200, body)]
            if "events" in body:
                assert len(kalshi.fetch_markets(MarketQuery(with_ended=False)).markets) == expected
            else:
                assert kalshi.fetch_prices(market, NOW - timedelta(days=1), NOW).num_rows == expected
        venue.answers = [answer(200, {"cursor": ""})]
        with pytest.raises(Malformed):
            kalshi.fetch_markets(MarketQuery(with_ended=False))


def _record(ticker: str, event: str) -> dict[str, str]:
    return {"ticker": ticker, "event_ticker": event, "status": "active", "title": "?", "volume_fp": "1.00"}


def test_a_cursor_that_loops_ends_an_incomplete_list(sandbox: Sandbox, kalshi: Kalshi) -> None:
    sandbox.fault("kalshi_cursor_loop")
    catalog = kalshi.fetch_markets(MarketQuery())
    assert catalog.markets
    assert "/events runs in a circle" in catalog.incomplete[0]


def test_a_cursor_that_expired_begins_the_list_anew_and_loses_nothing(sandbox: Sandbox, kalshi: Kalshi) -> None:
    sandbox.fault("kalshi_cursor_expired", times=1)
    catalog = kalshi.fetch_markets(MarketQuery())
    assert {market.id for market in catalog.markets} == {market.ticker for market in LISTED}


@pytest.mark.parametrize("how", ["status", "time", "no_ticker"])
def test_one_broken_market_on_a_page_is_named_and_the_others_kept(sandbox: Sandbox, kalshi: Kalshi, how: str) -> None:
    (bad,) = some(is_open, 1)
    sandbox.fault("kalshi_broken_market", symbol=bad.ticker, how=how)
    catalog = kalshi.fetch_markets(MarketQuery())
    assert {market.id for market in catalog.markets} == {market.ticker for market in LISTED} - {bad.ticker}
    (broken,) = catalog.broken
    assert broken.id == (bad.event if how == "no_ticker" else bad.ticker)


def market_of(kalshi: Kalshi, simulated: SimulatedMarket) -> Market:
    return kalshi.fetch_market(simulated.ticker)


@pytest.mark.parametrize("which", [is_open, is_settled_lately, is_archived])
def test_prices_are_what_was_traded_in_either_tier(kalshi: Kalshi, which: Callable[[SimulatedMarket], bool]) -> None:
    for simulated in some(which, 3):
        start, end = simulated.opened_at, simulated.closes_at + timedelta(hours=2)
        expect_truth(kalshi.fetch_prices(market_of(kalshi, simulated), start, end), simulated, start, end)


def test_a_life_longer_than_one_window_is_whole(sandbox: Sandbox, kalshi: Kalshi) -> None:
    (simulated,) = some(lambda market: is_archived(market) and len(market.hours) > 10_001, 1)
    market = market_of(kalshi, simulated)
    start, end = simulated.opened_at, simulated.closes_at + timedelta(hours=1)
    expect_truth(kalshi.fetch_prices(market, start, end), simulated, start, end)
    assert sandbox.requests()["/trade-api/v2/historical/markets/{ticker}/candlesticks"] >= 3


def test_integer_cents_give_the_same_prices(sandbox: Sandbox, kalshi: Kalshi) -> None:
    (simulated,) = some(lambda market: is_open(market) and market.tick == 0.01, 1)
    market, start = market_of(kalshi, simulated), NOW - timedelta(days=9)
    now = kalshi.fetch_prices(market, start, NOW)
    sandbox.fault("kalshi_cents")
    before = kalshi.fetch_prices(market, start, NOW)
    names = ["outcome", "stamped_at", "price", "open", "high", "low", "bid", "ask"]
    assert before.select(names).equals(now.select(names))


def test_an_end_is_not_included_and_a_start_is(kalshi: Kalshi) -> None:
    (simulated,) = some(lambda market: is_open(market) and market.quiet < 0.1, 1)
    start = NOW - timedelta(hours=5)
    at = kalshi.fetch_prices(market_of(kalshi, simulated), start, NOW)["stamped_at"].to_pylist()
    assert min(at) >= start
    assert max(at) < NOW


def test_many_markets_are_asked_for_in_few_requests_and_give_the_same(sandbox: Sandbox, kalshi: Kalshi) -> None:
    simulated = [*some(is_open, 30), *some(is_settled_lately, 10), *some(is_archived, 5)]
    markets = kalshi.fetch_markets(MarketQuery(ids=tuple(market.ticker for market in simulated))).markets
    sandbox.reset_requests()
    start = NOW - timedelta(days=60)
    found = kalshi.fetch_prices_of(markets, start, NOW)
    assert set(found) == {market.key for market in markets}
    assert sandbox.requests()["/trade-api/v2/markets/candlesticks"] <= 12
    for one in simulated[:30]:
        expect_truth(table(found[f"kalshi:{one.ticker}"]), one, start, NOW)
    alone = {market.key: kalshi.fetch_prices(market, start, NOW) for market in markets}
    assert all(table(found[key]).equals(alone[key]) for key in alone)


def test_a_market_that_moved_to_the_historical_tier_is_found_there(sandbox: Sandbox, kalshi: Kalshi) -> None:
    (simulated,) = some(lambda market: is_settled_lately(market) and len(market.hours) > 50, 1)
    day_before = simulated.closes_at - timedelta(days=1)
    sandbox.pin_clock(day_before)
    seen_open = market_of(kalshi, simulated)
    assert seen_open.status == "open"
    sandbox.pin_clock(simulated.resolved_at + timedelta(days=100))
    later, start = client_of(sandbox), simulated.opened_at
    end = simulated.closes_at + timedelta(hours=1)
    expect_truth(later.fetch_prices(seen_open, start, end), simulated, start, end)
    expect_truth(table(later.fetch_prices_of([seen_open], start, end)[seen_open.key]), simulated, start, end)
    assert market_of(later, simulated).status == "resolved"


def test_a_market_its_venue_deleted_fails_alone(sandbox: Sandbox, kalshi: Kalshi) -> None:
    one, other = [market_of(kalshi, simulated) for simulated in some(is_open, 2)]
    sandbox.fault("kalshi_gone", symbol=one.id)
    found = kalshi.fetch_prices_of([one, other], NOW - timedelta(days=5), NOW)
    assert isinstance(found[one.key], NotFound)
    assert table(found[other.key]).num_rows
    with pytest.raises(NotFound):
        kalshi.fetch_prices(one, NOW - timedelta(days=5), NOW)


@pytest.mark.parametrize("how", ["outside", "nan", "milliseconds"])
def test_a_bad_candle_fails_its_market_with_a_reason_and_no_other(sandbox: Sandbox, kalshi: Kalshi, how: str) -> None:
    one, other = [market_of(kalshi, simulated) for simulated in some(is_open, 2)]
    sandbox.fault("kalshi_bad_candle", symbol=one.id, how=how)
    found = kalshi.fetch_prices_of([one, other], NOW - timedelta(days=5), NOW)
    refused = found[one.key]
    assert isinstance(refused, Malformed)
    assert one.id in str(refused)
    assert table(found[other.key]).num_rows


def test_a_quiet_market_has_its_empty_book_and_no_price(kalshi: Kalshi) -> None:
    simulated = next(each for each in LISTED if not each.volume and is_open(each))
    points = kalshi.fetch_prices(market_of(kalshi, simulated), NOW - timedelta(days=2), NOW)
    assert points["price"].null_count == points.num_rows > 0
    assert set(points["bid"].to_pylist()) == {Decimal(0)}
    assert set(points["ask"].to_pylist()) == {Decimal(1)}


def test_a_market_without_its_series_is_asked_for_in_a_batch(sandbox: Sandbox, kalshi: Kalshi) -> None:
    (simulated,) = some(is_open, 1)
    market, start = market_of(kalshi, simulated), NOW - timedelta(days=2)
    alone = replace(market, series=None)
    assert kalshi.fetch_prices(alone, start, NOW).equals(kalshi.fetch_prices(market, start, NOW))
    assert sandbox.requests()["/trade-api/v2/markets/candlesticks"] == 1


def test_a_span_before_the_market_opened_asks_nothing(sandbox: Sandbox, kalshi: Kalshi) -> None:
    (simulated,) = some(is_open, 1)
    market = market_of(kalshi, simulated)
    sandbox.reset_requests()
    early = simulated.opened_at - timedelta(days=30)
    assert kalshi.fetch_prices(market, early, early + timedelta(days=5)).equals(POINTS.empty_table())
    assert kalshi.fetch_prices_of([market], early, early)[market.key].num_rows == 0  # type: ignore[union-attr]
    assert sandbox.requests() == {}


def test_a_burst_of_429_is_waited_out(sandbox: Sandbox, kalshi: Kalshi) -> None:
    (simulated,) = some(is_open, 1)
    market = market_of(kalshi, simulated)
    sandbox.fault("rate_limit", venue="kalshi", times=3)
    assert kalshi.fetch_prices(market, NOW - timedelta(days=2), NOW).num_rows
    assert kalshi.traffic.retries == 3


def test_a_429_without_end_is_told_in_kalshis_words(sandbox: Sandbox, kalshi: Kalshi) -> None:
    sandbox.fault("rate_limit", venue="kalshi")
    with pytest.raises(RateLimited, match="too many requests") as refused:
        kalshi.fetch_markets(MarketQuery())
    assert refused.value.retry_after is None


def test_a_venue_that_is_down_fails_every_market_after_few_requests(sandbox: Sandbox, kalshi: Kalshi) -> None:
    markets = kalshi.fetch_markets(MarketQuery(with_ended=False)).markets[:100]
    sandbox.reset_requests()
    sandbox.fault("kalshi_down")
    found = kalshi.fetch_prices_of(markets, NOW - timedelta(days=60), NOW)
    assert len(found) == 100
    assert all(isinstance(each, Unavailable) for each in found.values())
    assert sum(sandbox.requests().values()) <= 5 * (GIVE_UP_AFTER + THREADS)


@pytest.mark.parametrize("kind", ["html", "truncated"])
def test_an_answer_that_is_no_json_is_malformed(sandbox: Sandbox, kalshi: Kalshi, kind: str) -> None:
    sandbox.fault(kind, venue="kalshi")
    with pytest.raises(Malformed):
        kalshi.fetch_market(LISTED[0].ticker)


def test_an_address_where_nobody_answers_is_unavailable() -> None:
    nobody = Kalshi("http://127.0.0.1:9", policy=UNPACED, wait=lambda _: 0.0)
    with pytest.raises(Unavailable, match="kalshi cannot be reached"):
        nobody.fetch_market("KXFED-1")


def test_without_a_cutoff_the_live_tier_is_asked_first(sandbox: Sandbox, kalshi: Kalshi) -> None:
    (simulated,) = some(is_archived, 1)
    market = market_of(kalshi, simulated)
    start, end = simulated.opened_at, simulated.opened_at + timedelta(days=2)
    sandbox.fault("truncated", venue="kalshi", times=5)
    expect_truth(kalshi.fetch_prices(market, start, end), simulated, start, end)
    assert sandbox.requests()["/trade-api/v2/series/{series}/markets/{ticker}/candlesticks"] == 1


def test_asked_hours_lie_within_the_life_that_the_sandbox_gave() -> None:
    simulated = some(is_archived, 1)[0]
    market = Market("kalshi", "T", "T", "?", None, (), simulated.opened_at, simulated.closes_at, "resolved")
    start, end = life_within(market, datetime(2020, 1, 1, tzinfo=UTC), NOW)
    assert np.all((simulated.hours >= start.timestamp()) & (simulated.hours < end.timestamp()))


@pytest.mark.parametrize("rate", [POLICY.rate, RequestRate(1), RequestRate(4), RequestRate(16, 60), UNPACED.rate])
def test_a_whole_batch_is_paced_at_any_rate_and_the_next_has_to_wait(rate: RequestRate) -> None:
    billing = Kalshi("http://127.0.0.1:9", policy=RetryPolicy(rate))._billing
    assert billing.try_acquire("kalshi", weight=MAX_TICKERS)
    slow = rate.requests / rate.seconds <= POLICY.rate.requests
    assert not (slow and billing.try_acquire("kalshi", weight=1, blocking=False))
