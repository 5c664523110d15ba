from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from copilot_quant_pipeline.errors import Malformed, NotFound, RateLimited, Unavailable
from copilot_quant_pipeline.prediction_markets.polymarket import Polymarket
from copilot_quant_pipeline.prediction_markets.venue import POINTS, Market, MarketQuery, MissingAtSource
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.markets import SimulatedMarket, SimulatedMarkets

NOW = datetime(2025, 6, 1, 12, 30, tzinfo=UTC)
START = datetime(2025, 4, 2, tzinfo=UTC)
TRUTH = SimulatedMarkets(seed=7)
LISTED = TRUTH.listed("polymarket", NOW)


def living(count: int = 1) -> list[SimulatedMarket]:
    """Traded markets that live all the time from START to NOW."""
    found = [one for one in LISTED if one.volume and one.opened_at < START and one.closes_at > NOW]
    return found[:count]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(now=NOW) as running:
        yield running


@pytest.fixture
def venue(sandbox: Sandbox) -> Polymarket:
    return at(sandbox)


def at(sandbox: Sandbox, now: datetime = NOW) -> Polymarket:
    return Polymarket(sandbox.url, sandbox.url, sandbox.url, clock=lambda: now, wait=lambda _: 0.0)


def prices(table: pa.Table, outcome: str = "Yes") -> dict[int, Decimal]:
    rows = table.filter(pc.equal(table.column("outcome"), outcome)).to_pylist()
    return {int(row["stamped_at"].timestamp()) // 3600 * 3600: row["price"] for row in rows}


def true_prices(market: SimulatedMarket, start: datetime, end: datetime, outcome: int = 0) -> dict[int, Decimal]:
    hourly = TRUTH.prices(market, start, end, outcome)
    traded = hourly.volume > 0
    return {
        int(when): Decimal(str(price)).quantize(Decimal("0.000001"))
        for when, price in zip(hourly.at[traded], hourly.probability[traded], strict=True)
    }


def test_every_page_of_open_and_closed_markets_is_read(sandbox: Sandbox, venue: Polymarket) -> None:
    catalog = venue.fetch_markets(MarketQuery())
    assert not catalog.broken
    assert {market.id for market in catalog.markets} == {market.id for market in LISTED}
    assert sandbox.requests()["/markets/keyset"] >= len(LISTED) / 100
    statuses = {market.id: market.status for market in catalog.markets}
    assert statuses == {market.id: market.status_at(NOW) for market in LISTED}
    winners = {market.id: market.result for market in catalog.markets if market.status == "resolved"}
    assert winners == {one.id: one.outcomes[one.winner] for one in LISTED if one.status_at(NOW) == "resolved"}


def test_without_ended_ones_only_open_markets_are_asked_for(venue: Polymarket) -> None:
    catalog = venue.fetch_markets(MarketQuery(with_ended=False))
    assert {market.id for market in catalog.markets} == {
        market.id for market in LISTED if market.status_at(NOW) in ("unopened", "open")
    }


def test_a_limit_takes_the_largest_and_asks_no_further(sandbox: Sandbox, venue: Polymarket) -> None:
    catalog = venue.fetch_markets(MarketQuery(limit=20))
    largest = sorted(LISTED, key=lambda one: one.volume_at(NOW), reverse=True)[:20]
    assert [market.slug for market in catalog.markets] == [market.slug for market in largest]
    assert sandbox.requests() == {"/markets/keyset": 2}


@pytest.mark.parametrize(("word", "category"), [("crypto", "crypto"), ("Economics", "economy")])
def test_a_category_is_asked_for_by_its_tag(sandbox: Sandbox, venue: Polymarket, word: str, category: str) -> None:
    catalog = venue.fetch_markets(MarketQuery(categories=(word,)))
    assert {market.category for market in catalog.markets} == {category}
    assert {market.id for market in catalog.markets} == {one.id for one in LISTED if one.category == word.lower()}
    assert set(sandbox.requests()) == {"/events/keyset"}


def test_markets_are_found_by_id_slug_condition_and_token_and_others_are_named(venue: Polymarket) -> None:
    one, two, three = LISTED[:3]
    condition = venue.fetch_market(three.id).facts["condition_id"]
    token = venue.fetch_market(LISTED[3].id).outcomes[1].token
    unknown = ("KXFED-24NOV-T4.75", "odd /|? slug", "9" * 77)
    catalog = venue.fetch_markets(MarketQuery(ids=(one.id, two.slug, condition, token, *unknown)))
    assert {market.id for market in catalog.markets} == {one.id, two.id, three.id, LISTED[3].id}
    assert tuple(broken.id for broken in catalog.broken) == unknown
    assert "knows no market" in catalog.broken[0].why


def test_one_market_is_fetched_by_id_slug_condition_or_token(venue: Polymarket) -> None:
    market = venue.fetch_market(LISTED[0].slug)
    names = (LISTED[0].id, market.facts["condition_id"], *(outcome.token for outcome in market.outcomes))
    assert [venue.fetch_market(name) for name in names] == [market] * 4
    assert market.key == f"polymarket:{LISTED[0].slug}"


@pytest.mark.parametrize("name", ["KXFED-24NOV-T4.75", "odd /|?#% slug", "999999999", "0xabc", "ünï"])
def test_a_market_that_is_not_known_is_not_found(venue: Polymarket, name: str) -> None:
    with pytest.raises(NotFound):
        venue.fetch_market(name)


def test_a_deleted_market_is_not_found_and_a_renamed_one_keeps_its_id(sandbox: Sandbox, venue: Polymarket) -> None:
    gone, renamed = LISTED[0], LISTED[1]
    sandbox.fault("polymarket_deleted", symbol=gone.slug)
    sandbox.fault("polymarket_renamed", symbol=renamed.slug, slug="better-name")
    with pytest.raises(NotFound):
        venue.fetch_market(gone.id)
    assert venue.fetch_market("better-name").id == renamed.id == venue.fetch_market(renamed.id).id


def test_a_cursor_that_loops_ends_an_incomplete_list(sandbox: Sandbox, venue: Polymarket) -> None:
    sandbox.fault("polymarket_cursor_loop")
    catalog = venue.fetch_markets(MarketQuery())
    assert catalog.markets
    assert not catalog.complete
    assert all("/markets/keyset runs in a circle" in why for why in catalog.incomplete)


def test_a_listing_whose_cursor_expires_is_begun_anew(sandbox: Sandbox, venue: Polymarket) -> None:
    sandbox.fault("polymarket_cursor_expired", times=1)
    assert len(venue.fetch_markets(MarketQuery()).markets) == len(LISTED)
    sandbox.fault("polymarket_cursor_expired")
    catalog = venue.fetch_markets(MarketQuery())
    assert catalog.markets
    assert "after_cursor is invalid" in catalog.incomplete[0]


@pytest.mark.parametrize("how", ["cut", "no_id", "nan", "one_token"])
def test_one_broken_market_on_a_page_is_named_and_the_others_are_kept(
    sandbox: Sandbox, venue: Polymarket, how: str
) -> None:
    spoiled = living()[0]
    sandbox.fault("polymarket_broken_market", symbol=spoiled.slug, how=how)
    catalog = venue.fetch_markets(MarketQuery())
    (broken,) = catalog.broken
    assert broken.id in (spoiled.id, spoiled.slug)
    assert len(catalog.markets) == len(LISTED) - 1


def test_hourly_prices_of_both_outcomes_are_what_was_traded(venue: Polymarket) -> None:
    (truth,) = living()
    table = venue.fetch_prices(venue.fetch_market(truth.id), START, NOW)
    assert table.schema == POINTS
    for outcome, name in enumerate(truth.outcomes):
        assert prices(table, name) == true_prices(truth, START, NOW, outcome)
    assert set(table.column("price_kind").to_pylist()) == {"quote"}
    jitter = {row["stamped_at"].minute * 60 + row["stamped_at"].second for row in table.to_pylist()}
    assert jitter <= set(range(2, 55))
    assert len(jitter) > 10


def test_points_lie_within_what_is_asked_and_within_the_markets_life(venue: Polymarket) -> None:
    truth = next(one for one in LISTED if one.volume and one.status_at(NOW) == "resolved" and len(one.hours) > 500)
    table = venue.fetch_prices(venue.fetch_market(truth.id), truth.opened_at - timedelta(days=50), NOW)
    assert prices(table, truth.outcomes[0]) == true_prices(truth, truth.opened_at, NOW)
    start = truth.opened_at + timedelta(days=2)
    part = venue.fetch_prices(venue.fetch_market(truth.id), start, start + timedelta(days=1))
    assert all(start <= when < start + timedelta(days=1) for when in part.column("stamped_at").to_pylist())
    assert len(part)


def test_outside_a_markets_life_nothing_is_asked(sandbox: Sandbox, venue: Polymarket) -> None:
    market = venue.fetch_market(living()[0].id)
    sandbox.reset_requests()
    table = venue.fetch_prices(market, datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 3, 1, tzinfo=UTC))
    assert table.equals(POINTS.empty_table())
    assert sandbox.requests() == {}


def test_many_markets_share_requests_of_twenty_outcomes(sandbox: Sandbox, venue: Polymarket) -> None:
    markets = [venue.fetch_market(truth.id) for truth in living(30)]
    sandbox.reset_requests()
    answers = venue.fetch_prices_of(markets, START, NOW)
    # 60 outcomes in threes of 20; 61 days in five windows.
    assert sandbox.requests() == {"/batch-prices-history": 3 * 5}
    assert list(answers) == [market.key for market in markets]
    for truth, answer in zip(living(30), answers.values(), strict=True):
        assert isinstance(answer, pa.Table)
        assert prices(answer, truth.outcomes[0]) == true_prices(truth, START, NOW)


def test_without_the_batch_route_outcomes_are_asked_one_by_one(sandbox: Sandbox, venue: Polymarket) -> None:
    sandbox.fault("polymarket_no_batches")
    (truth,) = living()
    market = venue.fetch_market(truth.id)
    sandbox.reset_requests()
    table = venue.fetch_prices(market, NOW - timedelta(days=20), NOW)
    assert prices(table, truth.outcomes[0]) == true_prices(truth, NOW - timedelta(days=20), NOW)
    assert sandbox.requests()["/prices-history"] == 4


@pytest.mark.parametrize("status", [404, 410])
def test_once_clob_is_gone_the_data_api_gives_the_same_prices(sandbox: Sandbox, venue: Polymarket, status: int) -> None:
    sandbox.fault("polymarket_no_clob", status=status)
    (truth,) = living()
    table = venue.fetch_prices(venue.fetch_market(truth.id), START, NOW)
    assert prices(table, truth.outcomes[0]) == true_prices(truth, START, NOW)
    assert venue.traffic.retries == 0


def test_what_the_data_api_no_longer_has_hourly_comes_coarser(sandbox: Sandbox, venue: Polymarket) -> None:
    sandbox.fault("polymarket_no_clob")
    (truth,) = living()
    start = NOW - timedelta(days=300)
    table = venue.fetch_prices(venue.fetch_market(truth.id), start, start + timedelta(days=10))
    assert {when.hour % 3 for when in table.column("stamped_at").to_pylist()} == {0}
    assert len(prices(table, truth.outcomes[0])) in (80, 81)


def test_a_settlement_comes_as_such(sandbox: Sandbox, venue: Polymarket) -> None:
    sandbox.fault("polymarket_no_clob")
    resolved = [one for one in LISTED if one.volume and one.status_at(NOW) == "resolved"]
    truth = max(resolved, key=lambda one: one.closes_at)
    table = venue.fetch_prices(venue.fetch_market(truth.id), truth.closes_at - timedelta(days=2), NOW)
    settled = table.filter(pc.equal(table.column("price_kind"), "settlement")).to_pylist()
    assert {row["outcome"]: row["price"] for row in settled} == {
        name: int(outcome == truth.winner) for outcome, name in enumerate(truth.outcomes)
    }


def test_an_empty_answer_for_a_market_that_traded_is_tried_coarser(sandbox: Sandbox, venue: Polymarket) -> None:
    (truth,) = living()
    sandbox.fault("polymarket_no_history", symbol=truth.slug, grain=720)
    table = venue.fetch_prices(venue.fetch_market(truth.id), START, START + timedelta(days=10))
    assert {when.hour % 12 for when in table.column("stamped_at").to_pylist()} == {0}
    assert len(prices(table, truth.outcomes[0])) == 20


def test_a_market_that_traded_and_has_no_prices_anywhere_is_missing_at_source(
    sandbox: Sandbox, venue: Polymarket
) -> None:
    truth, other = living(2)
    sandbox.fault("polymarket_no_history", symbol=truth.slug)
    markets = [venue.fetch_market(one.id) for one in (truth, other)]
    answers = venue.fetch_prices_of(markets, START, START + timedelta(days=3))
    missing = answers[markets[0].key]
    assert isinstance(missing, MissingAtSource)
    assert missing.reason == "missing_at_source"
    assert "no price at any grain on 3 days of its life (2025-04-02, 2025-04-03, 2025-04-04)" in str(missing)
    assert isinstance(answers[markets[1].key], pa.Table)


def test_a_market_that_never_traded_may_have_no_prices(venue: Polymarket) -> None:
    silent = [one for one in LISTED if not one.volume and one.opened_at < START and one.closes_at > NOW]
    answers = venue.fetch_prices_of([venue.fetch_market(one.id) for one in silent], START, START + timedelta(days=2))
    assert silent
    assert all(isinstance(answer, pa.Table) for answer in answers.values())


@pytest.mark.parametrize(
    ("how", "why"), [("above_one", "1.07"), ("nan", "'NaN'"), ("milliseconds", "is in milliseconds")]
)
def test_a_bad_point_names_its_market_and_leaves_the_others(
    sandbox: Sandbox, venue: Polymarket, how: str, why: str
) -> None:
    truth, other = living(2)
    sandbox.fault("polymarket_bad_point", symbol=truth.slug, how=how)
    markets = [venue.fetch_market(one.id) for one in (truth, other)]
    answers = venue.fetch_prices_of(markets, START, START + timedelta(days=3))
    with pytest.raises(Malformed, match=f"polymarket:{truth.slug} .*{why}"):
        raise answers[markets[0].key]
    assert isinstance(answers[markets[1].key], pa.Table)


@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "truncated", "html", "drop"])
def test_a_passing_trouble_is_got_over(sandbox: Sandbox, venue: Polymarket, kind: str) -> None:
    (truth,) = living()
    market = venue.fetch_market(truth.id)
    sandbox.fault(kind, venue="polymarket", times=2)
    table = venue.fetch_prices(market, START, START + timedelta(days=3))
    assert prices(table, truth.outcomes[0]) == true_prices(truth, START, START + timedelta(days=3))
    assert venue.traffic.retries == 2


def test_a_lasting_rate_limit_and_a_venue_that_is_down_are_told_apart(sandbox: Sandbox, venue: Polymarket) -> None:
    sandbox.fault("rate_limit", venue="polymarket")
    with pytest.raises(RateLimited, match="error code: 1015"):
        venue.fetch_market("1")
    sandbox.fault("polymarket_down")
    with pytest.raises(Unavailable, match="503"):
        venue.fetch_markets(MarketQuery())


def test_a_venue_that_is_down_is_not_asked_for_every_window(sandbox: Sandbox, venue: Polymarket) -> None:
    markets = [venue.fetch_market(truth.id) for truth in living(30)]
    sandbox.fault("polymarket_down")
    sandbox.reset_requests()
    answers = venue.fetch_prices_of(markets, START, NOW)
    assert all(isinstance(answer, Unavailable) for answer in answers.values())
    assert sum(sandbox.requests().values()) <= 5 * 7


def test_queued_requests_are_waited_for(sandbox: Sandbox, venue: Polymarket) -> None:
    sandbox.fault("polymarket_queue", seconds=0.05)
    markets = [venue.fetch_market(truth.id) for truth in living(12)]
    answers = venue.fetch_prices_of(markets, NOW - timedelta(days=20), NOW)
    assert all(isinstance(answer, pa.Table) for answer in answers.values())
    assert venue.traffic.retries == 0


def test_the_recorded_markets_are_all_listed(recorded: Path) -> None:
    # That they backfill to the recorded points is claimed of the whole command: cli/test_recorded_markets.py.
    now = datetime(2024, 6, 1, tzinfo=UTC)
    with Sandbox(recorded=recorded / "yahoo/daily_2016_2026.parquet", now=now) as sandbox:
        catalog = at(sandbox, now).fetch_markets(MarketQuery())
    assert (len(catalog.markets), catalog.broken) == (92, ())


def test_facts_of_a_market_survive_json(venue: Polymarket) -> None:
    market: Market = venue.fetch_market(LISTED[0].id)
    assert json.loads(json.dumps(dict(market.facts))) == market.facts
