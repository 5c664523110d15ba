from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from copilot_quant_pipeline.errors import Malformed, NotFound, RateLimited, Rejected, Unavailable
from copilot_quant_pipeline.prediction_markets import metaculus
from copilot_quant_pipeline.prediction_markets.metaculus import Metaculus, parse_market, parse_prices
from copilot_quant_pipeline.prediction_markets.venue import POINTS, MarketQuery, Outcome, SpoiledDays
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.markets import SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline_tests.conftest import NOW
from copilot_quant_pipeline_tests.prediction_markets.loopback import Loopback, answer

TRUTH = SimulatedMarkets(7)
LISTED = TRUTH.listed("metaculus", NOW)


def client(url: str) -> Metaculus:
    return Metaculus(url, token="hush", policy=RetryPolicy(RequestRate(10_000)), wait=lambda _: 0.0)  # noqa: S106


@pytest.fixture
def venue(sandbox: Sandbox) -> Metaculus:
    return client(sandbox.url)


def forecast(many: bool) -> SimulatedMarket:
    """A question that is being forecast, with two outcomes or with more."""
    forecasts = (one for one in LISTED if one.status_at(NOW) == "open" and one.volume)
    return next(one for one in forecasts if (len(one.outcomes) > 2) is many)


def changes(market: SimulatedMarket, outcome: int, start: datetime, end: datetime) -> list[tuple[datetime, Decimal]]:
    """When the community's forecast changed in each hour, and to what."""
    prices = TRUTH.prices(market, start, end + timedelta(hours=1), outcome)
    rows = zip(prices.at, prices.probability, prices.volume, strict=True)
    points = [
        (datetime.fromtimestamp(int(at), UTC) - timedelta(seconds=754.321), Decimal(str(round(float(price), 3))))
        for at, price, volume in rows
        if volume
    ]
    return [(at, price) for at, price in points if start <= at < end]


def of_outcome(table: pa.Table, name: str) -> list[tuple[datetime, Decimal]]:
    return [(row["stamped_at"], row["price"]) for row in table.to_pylist() if row["outcome"] == name]


def test_every_page_is_read_and_those_with_most_forecasts_come_first(
    venue: Metaculus, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metaculus, "PAGE", 20)
    markets = venue.fetch_markets(MarketQuery()).markets
    largest = sorted(LISTED, key=lambda market: -int(market.volume_at(NOW) / 100))
    assert [market.id for market in markets] == [market.id for market in largest]
    assert sandbox.requests() == {"/api/posts/": -(-len(LISTED) // 20)}


def test_no_more_pages_are_read_than_a_limit_needs(
    venue: Metaculus, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metaculus, "PAGE", 20)
    assert len(venue.fetch_markets(MarketQuery(limit=20)).markets) == 20
    assert sandbox.requests() == {"/api/posts/": 1}


def test_ended_questions_and_other_categories_are_left_out(venue: Metaculus) -> None:
    opened = venue.fetch_markets(MarketQuery(with_ended=False)).markets
    assert {market.id for market in opened} == {one.id for one in LISTED if one.status_at(NOW) in ("open", "unopened")}
    some = venue.fetch_markets(MarketQuery(categories=("Weather",))).markets
    assert {market.id for market in some} == {one.id for one in LISTED if one.category == "weather"}
    assert venue.fetch_markets(MarketQuery(categories=("gardening",))).markets == ()


def test_a_question_is_told_as_metaculus_has_it(venue: Metaculus) -> None:
    for truth in (forecast(many=False), forecast(many=True), next(one for one in LISTED if one.resolved_at < NOW)):
        market = venue.fetch_market(truth.id)
        assert (market.key, market.title) == (f"metaculus:{truth.id}", truth.title)
        assert tuple(outcome.name for outcome in market.outcomes) == truth.outcomes
        assert (market.category, market.status) == (truth.category, truth.status_at(NOW))
        assert (market.opened_at, market.closes_at) == (truth.opened_at, truth.ends_at(NOW))
        assert market.result == (truth.outcomes[truth.winner] if market.status == "resolved" else None)


@pytest.mark.parametrize("many", [False, True])
def test_prices_are_the_communitys_last_forecasts_of_each_hour(venue: Metaculus, many: bool) -> None:
    truth = forecast(many)
    start, end = NOW - timedelta(days=3, minutes=7), NOW - timedelta(minutes=7)
    table = venue.fetch_prices(venue.fetch_market(truth.id), start, end)
    assert table.schema == POINTS
    assert set(table["price_kind"].to_pylist()) == {"forecast"}
    for place, name in enumerate(truth.outcomes):
        assert of_outcome(table, name) == changes(truth, place, start, end)
    assert table.num_rows > 50


def test_a_question_nobody_forecast_has_no_points(venue: Metaculus) -> None:
    untouched = next(one for one in LISTED if not one.volume)
    assert venue.fetch_prices(venue.fetch_market(untouched.id), untouched.announced_at, NOW).num_rows == 0


def test_a_forecast_that_is_not_shown_is_a_refusal_and_not_an_empty_history(venue: Metaculus, sandbox: Sandbox) -> None:
    truth = forecast(many=False)
    sandbox.fault("hidden", symbol=truth.id)
    with pytest.raises(Rejected, match=f"does not show the community's forecast of {truth.id}"):
        venue.fetch_prices(venue.fetch_market(truth.id), NOW - timedelta(days=1), NOW)


def test_a_refused_account_is_told_in_metaculus_words() -> None:
    with Loopback() as stub:
        stub.answers = [answer(401, {"detail": "Invalid token."})]
        with pytest.raises(Rejected, match="401.*Invalid token"):
            client(stub.url).fetch_market("3530")


@pytest.mark.parametrize("name", ["1", "will-it-rain", "3530/../x"])
def test_a_question_that_is_not_known_is_not_found(venue: Metaculus, sandbox: Sandbox, name: str) -> None:
    catalog = venue.fetch_markets(MarketQuery(ids=(name, LISTED[0].id)))
    assert [market.id for market in catalog.markets] == [LISTED[0].id]
    assert [broken.id for broken in catalog.broken] == [name]
    with pytest.raises(NotFound):
        venue.fetch_market(name)


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "truncated", "html", "drop"])
def test_a_passing_fault_is_repeated(
    venue: Metaculus, sandbox: Sandbox, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    sandbox.fault(kind, venue="metaculus", symbol=LISTED[0].id, times=2)
    assert venue.fetch_market(LISTED[0].id).id == LISTED[0].id
    assert (venue.traffic.requests, venue.traffic.retries) == (3, 2)
    assert slept == ([1.0, 1.0] if kind == "rate_limit" else [0.0, 0.0])


def test_a_venue_that_is_down_is_told(venue: Metaculus, sandbox: Sandbox) -> None:
    sandbox.fault("down", venue="metaculus")
    with pytest.raises(Unavailable, match="metaculus"):
        venue.fetch_markets(MarketQuery())


def test_a_throttle_of_an_hour_is_told_at_once() -> None:
    throttled = {"detail": "Request was throttled. Expected available in 3540 seconds."}
    with Loopback() as stub:
        stub.answers = [answer(429, throttled, **{"Retry-After": "3540"})]
        with pytest.raises(RateLimited, match="3540 seconds"):
            client(stub.url).fetch_market("3530")
        assert len(stub.requests) == 1


def post(history: Any = (), *, post_changed: Any = None, **changed: Any) -> dict[str, Any]:
    question = {
        "type": "binary",
        "options": None,
        "status": "open",
        "open_time": "2024-01-01T00:00:00Z",
        "scheduled_close_time": "2024-12-31T00:00:00Z",
        "actual_close_time": None,
        "resolution": None,
        "aggregations": {"recency_weighted": {"history": history}, "unweighted": {"history": []}},
    }
    whole = {
        "id": 3530,
        "title": "Will it?",
        "projects": {"category": [{"slug": "Health"}]},
        "nr_forecasters": 12,
        "question": question | changed,
    }
    return {name: value for name, value in (whole | (post_changed or {})).items() if value is not ...}


@pytest.mark.parametrize(
    ("changed", "result"),
    [
        ({"resolution": "yes"}, "Yes"),
        ({"resolution": "no"}, "No"),
        ({"resolution": "annulled"}, None),
        ({"resolution": "ambiguous"}, None),
        ({"resolution": "B", "type": "multiple_choice", "options": ["A", "B"]}, "B"),
        ({"resolution": "annulled", "type": "multiple_choice", "options": ["A", "B"]}, None),
    ],
)
def test_only_an_outcome_that_came_true_is_a_result(changed: dict[str, Any], result: str | None) -> None:
    market = parse_market(post(status="resolved", **changed))
    assert (market.status, market.result) == ("resolved", result)


@pytest.mark.parametrize(
    ("broken", "error", "says"),
    [
        (post(type="numeric"), Rejected, "no question with probabilities"),
        (post(post_changed={"question": None}), Rejected, "no question with probabilities"),
        (post(post_changed={"title": ...}), Malformed, "title"),
        (post(open_time="2024-01-01"), Malformed, "2024-01-01"),
        (post(status="paused"), Malformed, "paused"),
        (post(type="multiple_choice", options=["A", "A"]), Malformed, "told apart"),
    ],
)
def test_a_post_that_cannot_be_read_says_why(broken: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        parse_market(broken)


def points(history: Any, **changed: Any) -> pa.Table:
    whole = post(history, **changed)
    return parse_prices(parse_market(whole), whole, NOW - timedelta(days=1), NOW)


AN_HOUR_AGO = int(NOW.timestamp()) - 3600


def test_a_questions_own_aggregation_is_read() -> None:
    ours = {"history": [{"start_time": AN_HOUR_AGO, "centers": [Decimal("0.3")]}]}
    table = points([], aggregations={"unweighted": ours}, default_aggregation_method="unweighted")
    assert table["price"].to_pylist() == [Decimal("0.3"), Decimal("0.7")]


@pytest.mark.parametrize(
    "entry",
    [
        {"start_time": AN_HOUR_AGO, "centers": [Decimal("1.2")]},
        {"start_time": AN_HOUR_AGO, "centers": ["NaN"]},
        {"start_time": AN_HOUR_AGO * 1000, "centers": [Decimal("0.2")]},
        {"start_time": AN_HOUR_AGO, "centers": None},
        {"start_time": AN_HOUR_AGO, "centers": []},
        {"centers": [Decimal("0.2")]},
    ],
)
def test_a_forecast_that_cannot_be_read_fails_its_question(entry: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        points([entry])


def test_a_forecast_of_a_width_that_never_was_fails_its_day_only() -> None:
    early = (NOW - timedelta(days=1)).isoformat()
    entries = [
        {"start_time": early, "centers": [Decimal("0.2"), Decimal("0.3"), Decimal("0.5")]},
        {"start_time": AN_HOUR_AGO, "centers": [Decimal("0.5"), Decimal("0.5")]},
    ]
    with pytest.raises(SpoiledDays, match="2 options of 3") as raised:
        points(entries, type="multiple_choice", options=["A", "B", "C"])
    assert list(raised.value.failed) == [NOW.date()]
    assert raised.value.points.num_rows == 3


EVER = {"type": "multiple_choice", "options": ["A", "C", "Other"], "all_options_ever": ["A", "B", "C", "Other"]}


def test_the_columns_of_a_forecast_are_all_options_ever_deleted_ones_too() -> None:
    entry = {"start_time": AN_HOUR_AGO, "centers": [Decimal("0.2"), None, Decimal("0.3"), Decimal("0.5")]}
    assert [outcome.name for outcome in parse_market(post(**EVER)).outcomes] == ["A", "B", "C", "Other"]
    rows = points([entry], **EVER).to_pylist()
    assert {row["outcome"]: row["price"] for row in rows} == {
        "A": Decimal("0.2"),
        "C": Decimal("0.3"),
        "Other": Decimal("0.5"),
    }


def test_forecasts_from_before_an_option_was_added_are_of_the_options_of_then() -> None:
    began, added = (NOW - timedelta(days=90)).isoformat(), (NOW - timedelta(hours=2)).isoformat()
    before = (NOW - timedelta(days=1)).isoformat()
    question = EVER | {"options_history": [[began, ["A", "B", "Other"]], [added, ["A", "B", "C", "Other"]]]}
    entries = [
        {"start_time": before, "centers": [Decimal("0.1"), Decimal("0.2"), Decimal("0.7")]},
        {"start_time": AN_HOUR_AGO, "centers": [Decimal("0.2"), None, Decimal("0.3"), Decimal("0.5")]},
    ]
    rows = points(entries, **question).to_pylist()
    told = {(row["stamped_at"].date(), row["outcome"]): row["price"] for row in rows}
    day, today = (NOW - timedelta(days=1)).date(), NOW.date()
    assert told == {
        (day, "A"): Decimal("0.1"),
        (day, "B"): Decimal("0.2"),
        (day, "Other"): Decimal("0.7"),
        (today, "A"): Decimal("0.2"),
        (today, "C"): Decimal("0.3"),
        (today, "Other"): Decimal("0.5"),
    }


def test_an_option_added_since_the_question_was_last_described_has_its_prices() -> None:
    entry = {"start_time": AN_HOUR_AGO, "centers": [Decimal("0.2"), Decimal("0.3"), Decimal("0.5")]}
    told = post([entry], type="multiple_choice", options=["A", "B", "Other"])
    known = replace(parse_market(told), outcomes=(Outcome("A"), Outcome("Other")))
    rows = parse_prices(known, told, NOW - timedelta(days=3), NOW).to_pylist()
    assert [row["outcome"] for row in rows] == ["A", "Other", "B"]


@pytest.mark.parametrize("history", [None, []])
def test_an_empty_history_of_a_question_with_forecasters_is_not_shown(history: Any) -> None:
    with pytest.raises(Rejected, match="2024-06-01"):
        points(history, cp_reveal_time="2024-06-01T00:00:00Z")


def test_a_broken_post_of_a_page_is_named_and_the_others_are_kept() -> None:
    page = {
        "next": None,
        "results": [post(post_changed={"id": 1, "projects": []}), post(), post(post_changed={"id": 2}, status="odd")],
    }
    with Loopback() as stub:
        stub.answers = [answer(200, page)]
        catalog = client(stub.url).fetch_markets(MarketQuery(categories=("health",)))
        headers = stub.requests[0][-1]
    assert [market.id for market in catalog.markets] == ["3530"]
    assert [broken.id for broken in catalog.broken] == ["2"]
    assert headers["Authorization"] == "Token hush"


def test_a_list_that_loops_is_told() -> None:
    with Loopback() as stub:
        stub.answers = [answer(200, {"next": "https://www.metaculus.com/api/posts/?offset=100", "results": [post()]})]
        catalog = client(stub.url).fetch_markets(MarketQuery())
    assert [market.id for market in catalog.markets] == ["3530"]
    assert "runs in a circle" in catalog.incomplete[0]


def test_a_foreign_answer_is_malformed() -> None:
    with Loopback() as stub:
        stub.answers = [answer(200, [])]
        with pytest.raises(Malformed, match="no list"):
            client(stub.url).fetch_markets(MarketQuery())
