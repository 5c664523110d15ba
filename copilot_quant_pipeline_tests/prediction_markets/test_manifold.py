from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from copilot_quant_pipeline.errors import Malformed, NotFound, RateLimited, Rejected, Unavailable
from copilot_quant_pipeline.prediction_markets import manifold
from copilot_quant_pipeline.prediction_markets.manifold import Manifold, parse_market, parse_prices
from copilot_quant_pipeline.prediction_markets.prices import settlements_of
from copilot_quant_pipeline.prediction_markets.venue import POINTS, Market, MarketQuery
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.markets import SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline_tests.conftest import NOW
from copilot_quant_pipeline_tests.prediction_markets.loopback import Loopback, answer

FREELY = RetryPolicy(RequestRate(10_000))
TRUTH = SimulatedMarkets(7)
LISTED = [market for market in TRUTH.markets("manifold") if market.opened_at <= NOW]


def client(url: str) -> Manifold:
    return Manifold(url, clock=lambda: NOW, policy=FREELY, wait=lambda _: 0.0)


@pytest.fixture
def venue(sandbox: Sandbox) -> Manifold:
    return client(sandbox.url)


def living(many: bool) -> SimulatedMarket:
    """A market that trades around NOW, with two outcomes or with more."""
    return next(one for one in LISTED if one.closes_at > NOW and one.volume and (len(one.outcomes) > 2) is many)


def traded(market: SimulatedMarket, outcome: int, start: datetime, end: datetime) -> list[tuple[datetime, Decimal]]:
    """When the last bet of each hour was, and the price after it."""
    prices = TRUTH.prices(market, start, end + timedelta(hours=1), outcome)
    rows = zip(prices.at, prices.probability, prices.volume, strict=True)
    points = [
        (datetime.fromtimestamp(int(at), UTC) - timedelta(seconds=754.321), Decimal(str(round(float(price), 3))))
        for at, price, volume in rows
        if volume
    ]
    return [(at, price) for at, price in points if max(start, market.opened_at) <= at < end]


def of_outcome(table: pa.Table, name: str) -> list[tuple[datetime, Decimal]]:
    return [(row["stamped_at"], row["price"]) for row in table.to_pylist() if row["outcome"] == name]


def test_the_largest_markets_are_listed_with_their_outcomes(venue: Manifold, sandbox: Sandbox) -> None:
    catalog = venue.fetch_markets(MarketQuery(limit=12))
    largest = sorted(LISTED, key=lambda market: -market.volume_at(NOW))[:12]
    assert [market.id for market in catalog.markets] == [market.id for market in largest]
    assert [tuple(outcome.name for outcome in market.outcomes) for market in catalog.markets] == [
        market.outcomes for market in largest
    ]
    assert catalog.broken == ()
    assert sandbox.requests() == {"/v0/markets": 2, "/v0/market/{name}": 12}


def test_a_market_is_told_as_manifold_has_it(venue: Manifold) -> None:
    for truth in (living(many=False), living(many=True), next(one for one in LISTED if one.resolved_at < NOW)):
        market = venue.fetch_market(truth.slug)
        assert market == venue.fetch_market(truth.id)
        assert market.key == f"manifold:{truth.slug}"
        assert market.title == f"{truth.title} (play money)"
        assert (market.category, market.status) == (truth.category, truth.status_at(NOW))
        assert (market.opened_at, market.closes_at) == (truth.opened_at, truth.ends_at(NOW))
        assert market.result == (truth.outcomes[truth.winner] if market.status == "resolved" else None)
        assert market.volume == Decimal(str(truth.volume_at(NOW)))


def test_every_page_of_the_list_is_read(venue: Manifold, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "PAGE", 20)
    some = venue.fetch_markets(MarketQuery(with_ended=False))
    assert {market.id for market in some.markets} == {one.id for one in LISTED if one.ends_at(NOW) > NOW}
    assert {market.status for market in some.markets} == {"open"}
    assert sandbox.requests()["/v0/markets"] == len(LISTED) // 20 + 2


def test_categories_are_manifolds_topics(venue: Manifold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "PAGE", 10)
    found = venue.fetch_markets(MarketQuery(categories=("weather", "crypto"), limit=30)).markets
    expected = [market for market in LISTED if market.category in ("weather", "crypto")]
    largest = sorted(expected, key=lambda market: -market.volume_at(NOW))[:30]
    assert [market.id for market in found] == [market.id for market in largest]
    assert venue.fetch_markets(MarketQuery(categories=("gardening",))).markets == ()


def test_markets_asked_by_name_come_and_the_unknown_is_named(venue: Manifold) -> None:
    one, other = LISTED[0], LISTED[1]
    catalog = venue.fetch_markets(MarketQuery(ids=(one.slug, "no such/thing?", other.id)))
    assert [market.id for market in catalog.markets] == [one.id, other.id]
    (broken,) = catalog.broken
    assert (broken.venue, broken.id) == ("manifold", "no such/thing?")
    assert "404" in broken.why


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("page", [13, 1000])
def test_prices_are_those_after_the_last_bet_of_each_hour(
    venue: Manifold, many: bool, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 13 bets a page cut through bets of one instant, which must not be lost.
    monkeypatch.setattr(manifold, "PAGE", page)
    truth = living(many)
    start, end = NOW - timedelta(days=3, minutes=7), NOW - timedelta(minutes=7)
    table = venue.fetch_prices(venue.fetch_market(truth.id), start, end)
    assert table.schema == POINTS
    assert set(table["price_kind"].to_pylist()) == {"trade"}
    for place, name in enumerate(truth.outcomes):
        assert of_outcome(table, name) == traded(truth, place, start, end)
    assert table.num_rows > 50


def test_yes_and_no_are_two_sides_of_each_bet(venue: Manifold) -> None:
    table = venue.fetch_prices(venue.fetch_market(living(many=False).id), NOW - timedelta(days=9), NOW)
    yes, no = of_outcome(table, "Yes"), of_outcome(table, "No")
    assert [at for at, _ in yes] == [at for at, _ in no]
    assert {one + other for (_, one), (_, other) in zip(yes, no, strict=True)} == {Decimal(1)}


def test_windows_that_adjoin_give_what_one_gives(venue: Manifold) -> None:
    market = venue.fetch_market(living(many=False).id)
    days = [NOW - timedelta(days=ago) for ago in (4, 3, 2, 1)]
    whole = of_outcome(venue.fetch_prices(market, days[0], days[-1]), "Yes")
    parts = [
        of_outcome(venue.fetch_prices(market, start, end), "Yes")
        for start, end in zip(days[:-1], days[1:], strict=True)
    ]
    assert whole == [point for part in parts for point in part]


def test_no_point_lies_outside_a_markets_life(venue: Manifold) -> None:
    truth = next(one for one in LISTED if one.resolved_at < NOW and one.volume)
    market = venue.fetch_market(truth.id)
    table = venue.fetch_prices(market, datetime(2023, 1, 1, tzinfo=UTC), NOW)
    times = table["stamped_at"].to_pylist()
    assert truth.opened_at <= min(times) <= max(times) <= truth.closes_at


def test_a_market_without_bets_has_no_points(venue: Manifold) -> None:
    untouched = next(one for one in LISTED if not one.volume)
    assert venue.fetch_prices(venue.fetch_market(untouched.id), untouched.opened_at, NOW).num_rows == 0


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "truncated", "html", "drop"])
def test_a_passing_fault_is_repeated(venue: Manifold, sandbox: Sandbox, kind: str) -> None:
    sandbox.fault(kind, venue="manifold", symbol=LISTED[0].slug, times=2)
    assert venue.fetch_market(LISTED[0].slug).id == LISTED[0].id
    assert (venue.traffic.requests, venue.traffic.retries) == (3, 2)


@pytest.mark.parametrize(("fault", "error"), [("rate_limit", RateLimited), ("down", Unavailable)])
def test_a_lasting_fault_is_told(venue: Manifold, sandbox: Sandbox, fault: str, error: type[Exception]) -> None:
    sandbox.fault(fault, venue="manifold")
    with pytest.raises(error, match="manifold"):
        venue.fetch_markets(MarketQuery(limit=1))


def record(**changed: Any) -> dict[str, Any]:
    whole = {
        "id": "EvIhzcJXwhL0HavaszD7",
        "createdTime": 1653850472294,
        "closeTime": 1653893940000,
        "question": "Will I write a new blog post today?",
        "slug": "will-i-write-a-new-blog-post-today",
        "outcomeType": "BINARY",
        "volume": 241,
        "isResolved": True,
        "resolution": "YES",
    }
    return {name: value for name, value in (whole | changed).items() if value is not ...}


ANSWERS = [{"id": "u0qN", "text": "Before 2025"}, {"id": "9ZlO", "text": "Later"}]


@pytest.mark.parametrize(
    ("changed", "result"),
    [
        ({}, "Yes"),
        ({"resolution": "NO"}, "No"),
        ({"resolution": "CANCEL"}, None),
        ({"resolution": "MKT", "resolutionProbability": Decimal("0.3")}, None),
        ({"outcomeType": "MULTIPLE_CHOICE", "answers": ANSWERS, "resolution": "9ZlO"}, "Later"),
        ({"outcomeType": "MULTIPLE_CHOICE", "answers": ANSWERS, "resolution": "CHOOSE_MULTIPLE"}, None),
    ],
)
def test_only_an_outcome_that_won_is_a_result(changed: dict[str, Any], result: str | None) -> None:
    market = parse_market(record(**changed), NOW)
    assert (market.status, market.result) == ("resolved", result)


def answers_of(*told: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": name, "text": name.upper(), **one} for name, one in zip("abc", told, strict=False)]


ONE_YES_ONE_NO = answers_of({"resolution": "YES"}, {"resolution": "YES"}, {"resolution": "NO"})
PARTS = answers_of(*({"resolution": "MKT", "resolutionProbability": Decimal(part)} for part in ("0.5", "0.5", "0")))
MANY = {"outcomeType": "MULTIPLE_CHOICE"}


@pytest.mark.parametrize(
    ("changed", "settled"),
    [
        ({"resolution": "MKT", "resolutionProbability": Decimal("0.37")}, {"Yes": "0.370000", "No": "0.630000"}),
        ({"resolution": "MKT", "resolutionProbability": 1}, {"Yes": "1", "No": "0"}),
        ({"resolution": "CANCEL", "resolutionProbability": Decimal("0.37")}, None),
        ({"resolution": "MKT"}, None),
        (
            MANY | {"answers": PARTS, "resolution": "CHOOSE_MULTIPLE"},
            {"A": "0.5", "B": "0.5", "C": "0"},
        ),
        (
            MANY | {"answers": answers_of({}, {}, {}), "resolution": "MKT", "resolutions": {"a": 50, "b": 50}},
            {"A": "0.5", "B": "0.5", "C": "0"},
        ),
        (
            MANY | {"answers": ONE_YES_ONE_NO, "resolution": ..., "shouldAnswersSumToOne": False},
            {"A": "1", "B": "1", "C": "0"},
        ),
        (
            MANY | {"answers": ONE_YES_ONE_NO, "resolution": "CHOOSE_MULTIPLE", "shouldAnswersSumToOne": True},
            {"A": "0.5", "B": "0.5", "C": "0"},
        ),
        (
            MANY | {"answers": answers_of({"resolution": "YES"}, {"resolution": "CANCEL"}, {"resolution": "NO"})},
            {"A": "1", "C": "0"},
        ),
        (MANY | {"answers": PARTS, "resolution": "CANCEL"}, None),
    ],
)
def test_every_end_settles_each_outcome_at_what_it_was_worth(
    changed: dict[str, Any], settled: dict[str, str] | None
) -> None:
    told = settlements_of(parse_market(record(**changed), NOW))
    assert (told and {name: Decimal(worth) for name, worth in told.items()}) == (
        settled and {name: Decimal(worth) for name, worth in settled.items()}
    )


def test_the_only_one_of_independent_answers_that_came_true_is_the_result() -> None:
    told = answers_of({"resolution": "NO"}, {"resolution": "YES"}, {"resolution": "NO"})
    market = parse_market(record(answers=told, resolution=..., shouldAnswersSumToOne=False, **MANY), NOW)
    assert market.result == "B"


def test_a_far_off_close_is_open_ended_and_a_passed_one_closes() -> None:
    unresolved = {"isResolved": False, "resolution": ...}
    assert parse_market(record(closeTime=253402300799000, **unresolved), NOW).closes_at is None
    assert parse_market(record(closeTime=..., **unresolved), NOW).status == "open"
    assert parse_market(record(**unresolved), NOW).status == "closed"


def test_a_slug_that_cannot_be_part_of_a_key_gives_way_to_the_id() -> None:
    assert parse_market(record(slug="will|it,rain"), NOW).key == "manifold:EvIhzcJXwhL0HavaszD7"


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"question": ...}, Malformed, "question"),
        ({"createdTime": 1653850472}, Malformed, "1653850472"),
        ({"volume": "NaN"}, Malformed, "NaN"),
        ({"outcomeType": "MULTIPLE_CHOICE", "answers": []}, Malformed, "told apart"),
        ({"outcomeType": "MULTIPLE_CHOICE", "answers": [ANSWERS[0]] * 2}, Malformed, "Before 2025"),
        ({"outcomeType": "POLL"}, Rejected, "POLL"),
    ],
)
def test_a_market_that_cannot_be_read_says_why(changed: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        parse_market(record(**changed), NOW)


@pytest.mark.parametrize(
    "bet",
    [
        {"createdTime": 1653850472294, "probAfter": Decimal("1.2")},
        {"createdTime": 1653850472294, "probAfter": "NaN"},
        {"createdTime": 1653850472, "probAfter": Decimal("0.2")},
        {"createdTime": 1653850472294},
    ],
)
def test_a_bet_that_cannot_be_read_fails_its_market(bet: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        parse_prices(parse_market(record(), NOW), [bet], datetime(2022, 5, 1, tzinfo=UTC), NOW)


def test_an_order_that_only_rests_is_no_trade() -> None:
    market = parse_market(record(), NOW)
    rests = {"createdTime": 1653850480000, "probBefore": Decimal("0.5"), "probAfter": Decimal("0.5"), "limitProb": 0}
    trade = {"createdTime": 1653850472294, "probBefore": Decimal("0.4"), "probAfter": Decimal("0.5")}
    points = parse_prices(market, [rests, trade], datetime(2022, 5, 1, tzinfo=UTC), NOW)
    assert [at.second for at in points["stamped_at"].to_pylist()] == [32, 32]


def test_a_broken_market_of_a_page_is_named_and_the_others_are_kept() -> None:
    good, bad = record(), record(id="b", slug="b", createdTime="yesterday", volume=900)
    with Loopback() as stub:
        stub.answers = [
            answer(200, [good, bad, {"question": "Nameless?", "volume": 1000}]),
            answer(200, []),
            answer(200, bad),
            answer(200, good),
        ]
        catalog = client(stub.url).fetch_markets(MarketQuery())
    assert [market.id for market in catalog.markets] == [good["id"]]
    assert [broken.id for broken in catalog.broken] == ["Nameless?", "b"]
    assert "yesterday" in catalog.broken[1].why


def test_a_list_that_loops_is_told() -> None:
    with Loopback() as stub:
        stub.answers = [answer(200, [record()])]
        catalog = client(stub.url).fetch_markets(MarketQuery())
    assert "runs in a circle" in catalog.incomplete[0]


def test_a_foreign_answer_is_malformed() -> None:
    with Loopback() as stub:
        stub.answers = [answer(200, {"markets": []})]
        with pytest.raises(Malformed, match="no list"):
            client(stub.url).fetch_markets(MarketQuery())


def test_a_market_that_is_gone_is_not_found(venue: Manifold) -> None:
    with pytest.raises(NotFound, match="Contract not found"):
        venue.fetch_market("will-it-be")


def test_a_deleted_market_has_no_bets_to_ask_for(venue: Manifold) -> None:
    gone: Market = parse_market(record(), NOW)
    assert venue.fetch_prices(gone, NOW - timedelta(days=1), NOW).num_rows == 0
