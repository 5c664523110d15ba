"""Claims about which markets get cells."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.prediction_markets.following import (
    NOW_CALLED,
    FollowRule,
    keep_keys,
    keep_outcomes,
    plan_followed,
    plan_keys,
    plan_retired,
)
from copilot_quant_pipeline.prediction_markets.venue import BrokenRecord, Market, Outcome

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


def test_what_is_gone_leaves_the_axis_as_what_closed() -> None:
    gone = replace(SMALL, status="gone", closes_at=NOW)
    keys = {"kalshi:A"}
    assert plan_retired([gone], keys, keys, NOW + timedelta(days=31), timedelta(days=30)) == ["kalshi:A"]


def test_a_renamed_market_keeps_its_key_and_says_what_it_is_called_now() -> None:
    (kept,) = keep_keys([replace(OTHER, slug="new-name")], [OTHER])
    assert (kept.key, kept.facts) == (OTHER.key, {NOW_CALLED: "new-name"})
    assert keep_keys([OTHER], [kept]) == [OTHER]  # called as before once more


def test_another_market_under_a_known_name_goes_by_its_id() -> None:
    (kept,) = keep_keys([replace(OTHER, id="77")], [OTHER])
    assert kept.key == "polymarket:77"


def test_what_a_market_belongs_to_stays_known_when_its_venue_does_not_say_it_any_more() -> None:
    full = replace(SMALL, event="E", series="S")
    assert keep_keys([replace(SMALL, category=None)], [full]) == [full]
    assert keep_keys([replace(SMALL, category="sports")], [full])[0].category == "sports"


def _with(**outcomes: str) -> Market:
    return replace(OTHER, outcomes=tuple(Outcome(name, token) for name, token in outcomes.items()))


def test_a_contract_that_joins_a_yes_no_market_does_not_make_its_no_a_yes() -> None:
    pair, contracts = _with(Yes="7", No="7"), _with(Alice="7", Bob="8")
    assert isinstance(keep_outcomes(contracts, pair), BrokenRecord)
    assert isinstance(keep_outcomes(pair, contracts), BrokenRecord)


def test_outcomes_may_join_leave_or_get_their_first_token() -> None:
    known = _with(A="1", B="2")
    for described in (_with(A="1", B="2", C="3"), _with(B="2"), _with(B="2", A="1")):
        assert keep_outcomes(described, known) == described
    assert keep_outcomes(known, _with(A="", B="")) == known
    assert keep_outcomes(known, None) == known


@given(st.permutations("123"), st.permutations("ABC"))
def test_a_token_keeps_its_outcome_or_the_record_is_broken(tokens: list[str], names: list[str]) -> None:
    known = _with(A="1", B="2", C="3")
    kept = keep_outcomes(_with(**dict(zip(names, tokens, strict=True))), known)
    is_same = dict(zip(names, tokens, strict=True)) == {"A": "1", "B": "2", "C": "3"}
    assert isinstance(kept, Market) is is_same


def test_a_number_is_a_markets_id_before_it_is_an_outcomes() -> None:
    first, second = replace(OTHER, id="7", slug="x", outcomes=_with(Yes="8").outcomes), replace(OTHER, id="8", slug="y")
    assert plan_keys([second, first], ["polymarket:8"]) == {"polymarket:8": "polymarket:y"}
    assert plan_keys([first], ["polymarket:8"]) == {"polymarket:8": "polymarket:8"}


slugs = st.sampled_from("abcd")
markets = st.builds(lambda number, slug: replace(OTHER, id=str(number), slug=slug), st.integers(0, 5), slugs)


@given(st.lists(st.lists(markets, unique_by=lambda one: one.id), max_size=4))
def test_keys_never_change_and_are_never_shared(listings: list[list[Market]]) -> None:
    known: dict[str, Market] = {}
    for listing in listings:
        # No venue lists two markets under one name at a time.
        shown = list({one.slug: one for one in listing}.values())
        for market in keep_keys(shown, known.values()):
            assert known.get(market.id, market).key == market.key
            known[market.id] = market
        assert len({one.key for one in known.values()}) == len(known)


def test_a_market_is_meant_by_its_key_its_id_or_what_it_is_called_now() -> None:
    renamed = replace(OTHER, facts={NOW_CALLED: "e", "condition_id": "0xf"})
    names = ("polymarket:d", "polymarket:A", "polymarket:e", "polymarket:0xf", "polymarket:other", "kalshi:d")
    assert plan_keys([renamed], names) == {
        **dict.fromkeys(names[:4], "polymarket:d"),
        "polymarket:other": "polymarket:other",
        "kalshi:d": "kalshi:d",
    }
