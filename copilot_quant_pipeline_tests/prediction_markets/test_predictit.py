from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from copilot_quant_pipeline.errors import Malformed, NotFound, RateLimited, Rejected, Unavailable
from copilot_quant_pipeline.prediction_markets.predictit import PredictIt, parse_market, parse_prices
from copilot_quant_pipeline.prediction_markets.venue import POINTS, MarketQuery
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.markets import SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline_tests.conftest import NOW
from copilot_quant_pipeline_tests.prediction_markets.loopback import Loopback, answer

TODAY = datetime(2024, 3, 29, tzinfo=UTC)
DAY = timedelta(days=1)
TRUTH = SimulatedMarkets(7)
LISTED = [market for market in TRUTH.markets("predictit") if market.status_at(NOW) in ("open", "closed")]
MARKET = "/api/marketdata/markets/{number}"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def client(url: str, clock: Clock) -> PredictIt:
    return PredictIt(url, clock=clock, policy=RetryPolicy(RequestRate(10_000)), wait=lambda _: 0.0)


@pytest.fixture
def venue(sandbox: Sandbox, clock: Clock) -> PredictIt:
    return client(sandbox.url, clock)


def trading(many: bool) -> SimulatedMarket:
    return next(one for one in LISTED if one.closes_at > NOW and (len(one.outcomes) > 2) is many)


def cents(price: float) -> Decimal:
    return Decimal(str(round(float(price), 2)))


def test_what_is_listed_is_the_catalog(venue: PredictIt, sandbox: Sandbox) -> None:
    markets = venue.fetch_markets(MarketQuery()).markets
    assert [(market.id, market.status) for market in markets] == [(one.id, one.status_at(NOW)) for one in LISTED]
    opened = venue.fetch_markets(MarketQuery(with_ended=False, limit=5)).markets
    assert [market.id for market in opened] == [one.id for one in LISTED if one.status_at(NOW) == "open"][:5]
    assert venue.fetch_markets(MarketQuery(categories=("politics",))).markets == ()
    assert sandbox.requests() == {"/api/marketdata/all/": 1}


def test_one_contract_makes_a_yes_no_market_and_several_are_its_outcomes(venue: PredictIt) -> None:
    for truth in (trading(many=False), trading(many=True)):
        market = venue.fetch_market(truth.id)
        assert (market.key, market.title) == (f"predictit:{truth.id}", truth.title)
        assert tuple(outcome.name for outcome in market.outcomes) == truth.outcomes
        assert (market.opened_at, market.result, market.volume, market.category) == (None, None, None, None)


def test_prices_are_those_of_now(venue: PredictIt) -> None:
    for truth in (trading(many=False), trading(many=True)):
        table = venue.fetch_prices(venue.fetch_market(truth.id), TODAY - 3 * DAY, TODAY + DAY)
        assert table.schema == POINTS
        rows = table.to_pylist()
        assert [(row["outcome"], row["stamped_at"]) for row in rows] == [(name, NOW) for name in truth.outcomes]
        for place, row in enumerate(rows):
            last = TRUTH.prices(truth, NOW - timedelta(hours=1), NOW + timedelta(seconds=1), place)
            assert row["price"] == cents(last.probability[-1])
            assert (row["bid"], row["ask"]) == (cents(last.bid[-1]), cents(last.ask[-1]))
            assert row["price_kind"] == "trade"


def test_a_window_that_is_over_is_refused_as_there_is_no_history(venue: PredictIt, sandbox: Sandbox) -> None:
    market = venue.fetch_market(trading(many=False).id)
    sandbox.reset_requests()
    with pytest.raises(Rejected, match="gives no history.*2024-03-28 to 2024-03-29 is over") as refused:
        venue.fetch_prices(market, TODAY - DAY, TODAY)
    assert not refused.value.transient
    assert venue.fetch_prices(market, TODAY + DAY, TODAY + 2 * DAY).num_rows == 0
    assert sandbox.requests() == {}


def test_any_number_of_markets_costs_one_request_a_minute(venue: PredictIt, sandbox: Sandbox, clock: Clock) -> None:
    markets = venue.fetch_markets(MarketQuery(limit=20)).markets

    def instants() -> set[Any]:
        with ThreadPoolExecutor(4) as pool:
            tables = pool.map(lambda market: venue.fetch_prices(market, TODAY, TODAY + DAY), markets)
            return {at for table in tables for at in table["stamped_at"].to_pylist()}

    assert instants() == {NOW}
    clock.now = NOW + timedelta(seconds=59)
    assert instants() == {NOW}
    clock.now = NOW + timedelta(seconds=60)
    assert instants() == {NOW + timedelta(seconds=60)}
    assert sandbox.requests() == {"/api/marketdata/all/": 2}


@pytest.mark.parametrize("name", ["1", "will-it-rain", "7456/../x", ""])
def test_a_market_that_is_not_known_is_not_found(venue: PredictIt, sandbox: Sandbox, name: str) -> None:
    with pytest.raises(NotFound, match="knows no market"):
        venue.fetch_market(name)
    assert sandbox.requests().get(MARKET, 0) == name.isdecimal()


def test_a_market_that_left_the_list_is_not_found(venue: PredictIt, sandbox: Sandbox) -> None:
    gone = next(one for one in TRUTH.markets("predictit") if one.resolved_at < NOW)
    catalog = venue.fetch_markets(MarketQuery(ids=(gone.id, LISTED[0].id)))
    assert [market.id for market in catalog.markets] == [LISTED[0].id]
    assert [broken.id for broken in catalog.broken] == [gone.id]
    assert sandbox.requests() == {"/api/marketdata/all/": 1, MARKET: 1}


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "truncated", "html", "drop"])
def test_a_passing_fault_is_repeated(venue: PredictIt, sandbox: Sandbox, kind: str) -> None:
    sandbox.fault(kind, venue="predictit", times=2)
    assert len(venue.fetch_markets(MarketQuery()).markets) == len(LISTED)
    assert (venue.traffic.requests, venue.traffic.retries) == (3, 2)


@pytest.mark.parametrize(("fault", "error"), [("rate_limit", RateLimited), ("down", Unavailable)])
def test_a_lasting_fault_is_told(venue: PredictIt, sandbox: Sandbox, fault: str, error: type[Exception]) -> None:
    sandbox.fault(fault, venue="predictit")
    with pytest.raises(error, match="predictit"):
        venue.fetch_markets(MarketQuery())


def contract(number: int = 24914, **changed: Any) -> dict[str, Any]:
    whole = {
        "id": number,
        "dateEnd": "NA",
        "name": f"Candidate {number}",
        "status": "Open",
        "lastTradePrice": Decimal("0.77"),
        "bestBuyYesCost": Decimal("0.78"),
        "bestBuyNoCost": Decimal("0.23"),
        "bestSellYesCost": Decimal("0.77"),
        "bestSellNoCost": Decimal("0.22"),
    }
    return {name: value for name, value in (whole | changed).items() if value is not ...}


def record(*contracts: dict[str, Any], **changed: Any) -> dict[str, Any]:
    whole = {"id": 7085, "name": "Which party?", "status": "Open", "contracts": list(contracts or [contract()])}
    return {name: value for name, value in (whole | changed).items() if value is not ...}


def test_a_share_costs_the_ask_and_brings_the_bid() -> None:
    seen = record()
    yes, no = parse_prices(parse_market(seen), (NOW, seen), TODAY, TODAY + DAY).to_pylist()
    assert (yes["price"], yes["bid"], yes["ask"]) == (Decimal("0.77"), Decimal("0.77"), Decimal("0.78"))
    assert (no["price"], no["bid"], no["ask"]) == (Decimal("0.23"), Decimal("0.22"), Decimal("0.23"))


def test_where_nobody_offers_there_is_no_bid_or_ask() -> None:
    seen = record(contract(bestBuyYesCost=None, bestSellNoCost=None))
    yes, no = parse_prices(parse_market(seen), (NOW, seen), TODAY, TODAY + DAY).to_pylist()
    assert (yes["ask"], no["bid"]) == (None, None)


def test_a_close_is_new_yorks_time_and_known_only_if_every_contract_has_one() -> None:
    summer, winter = contract(1, dateEnd="2024-11-02T23:59:00"), contract(2, dateEnd="2024-11-04T23:59:00")
    assert parse_market(record(summer, winter)).closes_at == datetime(2024, 11, 5, 4, 59, tzinfo=UTC)
    assert parse_market(record(summer)).closes_at == datetime(2024, 11, 3, 3, 59, tzinfo=UTC)
    assert parse_market(record(summer, contract(3, dateEnd="N/A"))).closes_at is None


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (record(name=...), "name"),
        (record(contracts=[]), "told apart"),
        (record(contract(1, name="A"), contract(2, name="A")), "told apart"),
        (record(status="Paused"), "paused"),
        (record(contract(dateEnd="soon")), "not as expected"),
        ("a market", "no record"),
    ],
)
def test_a_market_that_cannot_be_read_says_why(broken: Any, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        parse_market(broken)


@pytest.mark.parametrize("price", [Decimal("1.01"), Decimal("-0.01"), 77, "NaN", ...])
def test_a_price_that_is_none_fails_its_market(price: Any) -> None:
    market = parse_market(record())
    with pytest.raises(Malformed):
        parse_prices(market, (NOW, record(contract(lastTradePrice=price))), TODAY, TODAY + DAY)


def test_a_market_that_lost_a_contract_is_malformed() -> None:
    market = parse_market(record(contract(1), contract(2)))
    with pytest.raises(Malformed, match="'2' is missing"):
        parse_prices(market, (NOW, record(contract(1), contract(3))), TODAY, TODAY + DAY)


def test_a_broken_market_of_the_list_is_named_and_the_others_are_kept(clock: Clock) -> None:
    # Bodies go over the wire as text, so prices are left out here.
    bare = {"dateEnd": "NA", "name": "A", "id": 1}
    good, bad = record(contracts=[bare]), record(id=7086, contracts=[bare], name=...)
    with Loopback() as stub:
        stub.answers = [answer(200, {"markets": [bad, good, {}]})]
        catalog = client(stub.url, clock).fetch_markets(MarketQuery())
    assert [market.id for market in catalog.markets] == ["7085"]
    assert [broken.id for broken in catalog.broken] == ["7086", "without a name"]


@pytest.mark.parametrize("foreign", [[], {"markets": None}, None])
def test_a_foreign_answer_is_malformed(clock: Clock, foreign: Any) -> None:
    with Loopback() as stub:
        stub.answers = [answer(200, "null" if foreign is None else foreign)]
        with pytest.raises(Malformed, match="no list"):
            client(stub.url, clock).fetch_markets(MarketQuery())
