"""Claims about which markets get cells."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from copilot_quant_pipeline.prediction_markets.following import FollowRule, plan_followed, plan_retired
from copilot_quant_pipeline.prediction_markets.venue import Market

NOW = datetime(2024, 6, 1, tzinfo=UTC)
SMALL = Market(
    venue="kalshi",
    id="A",
    slug="A",
    title="?",
    category="politics",
    outcomes=(),
    opened_at=None,
    closes_at=datetime(2024, 7, 1, tzinfo=UTC),
    status="open",
    volume=Decimal(1),
)
LARGE = replace(SMALL, id="B", slug="B", volume=Decimal(9), category="Sports")
ENDED = replace(SMALL, id="C", slug="C", volume=Decimal(99), status="resolved")
OTHER = replace(SMALL, venue="polymarket", slug="d")
ALL = [SMALL, LARGE, ENDED, OTHER]


def _keys(rule: FollowRule) -> list[str]:
    return [market.key for market in plan_followed(ALL, rule)]


def test_the_largest_open_markets_of_each_venue_are_followed() -> None:
    assert _keys(FollowRule(("kalshi",), top=1)) == ["kalshi:B"]
    assert _keys(FollowRule(("kalshi", "polymarket"), top=5)) == ["kalshi:B", "kalshi:A", "polymarket:d"]


def test_a_category_is_matched_whatever_its_case() -> None:
    assert _keys(FollowRule(("kalshi",), ("SPORTS",))) == ["kalshi:B"]


def test_any_word_that_a_venue_files_a_market_under_is_its_category() -> None:
    tagged = replace(OTHER, category="politics", facts={"tags": ["world", "elections", "economy"]})
    for word in ("politics", "Elections", "economics", "economy"):
        assert plan_followed([tagged], FollowRule(("polymarket",), (word,))) == [tagged]
    assert plan_followed([tagged], FollowRule(("polymarket",), ("sports",))) == []


def test_what_has_closed_or_is_not_yet_open_takes_no_place_among_the_largest() -> None:
    others = [replace(LARGE, id=word, slug=word, status=word) for word in ("closed", "unopened", "gone")]  # type: ignore[arg-type]
    assert plan_followed([*others, SMALL], FollowRule(("kalshi",), top=1)) == [SMALL]


def test_a_named_market_is_followed_though_it_ended_or_its_venue_is_not_asked() -> None:
    assert _keys(FollowRule((), ids=("kalshi:C", "polymarket:d"))) == ["kalshi:C", "polymarket:d"]


def test_a_market_leaves_the_axis_only_after_its_life_is_settled_and_some_time() -> None:
    keep, keys, ended = timedelta(days=30), {"kalshi:A"}, replace(SMALL, status="closed")
    later = NOW + timedelta(days=90)
    assert plan_retired([ended], keys, keys, later, keep) == ["kalshi:A"]
    assert plan_retired([ended], keys, set(), later, keep) == []
    assert plan_retired([ended], keys, keys, NOW, keep) == []
    assert plan_retired([ended], set(), keys, later, keep) == []
    assert plan_retired([SMALL], keys, keys, later, keep) == []  # an open market trades past its announced end
