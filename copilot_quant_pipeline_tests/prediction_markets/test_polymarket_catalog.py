from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copilot_quant_pipeline.errors import Malformed
from copilot_quant_pipeline.prediction_markets.polymarket_catalog import (
    parse_events,
    parse_market,
    parse_markets,
    parse_page,
)
from copilot_quant_pipeline.prediction_markets.prices import settlements_of


def read(path: Path) -> Any:
    return json.loads(path.read_text(), parse_float=Decimal)


def record(**changes: Any) -> dict[str, Any]:
    plain = {
        "id": "1",
        "slug": "will-it-rain",
        "question": "Will it rain?",
        "outcomes": '["No", "Yes"]',
        "outcomePrices": '["0.4", "0.6"]',
        "clobTokenIds": '["11", "12"]',
        "active": True,
        "closed": False,
        "volume": "12.5",
        "startDate": "2025-05-02T15:48:10.582Z",
        "endDate": "2026-07-31T12:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z",
    }
    return {name: value for name, value in {**plain, **changes}.items() if value is not ...}


def test_the_recorded_page_of_open_markets(recorded: Path) -> None:
    page = parse_page(read(recorded / "polymarket/keyset/markets-keyset-limit-1.json"), "markets")
    assert page.after
    assert page.after.startswith("3CqzoHMPAqWjKOebnJ9W0")
    catalog = parse_markets(page.records)
    assert not catalog.broken
    (market,) = catalog.markets
    assert (market.id, market.slug, market.status) == ("540817", "new-rhianna-album-before-gta-vi-926", "open")
    assert market.category == "politics"
    assert market.event == "what-will-happen-before-gta-vi"
    assert market.volume == Decimal("858688.426815")
    assert [(one.name, one.token[:6]) for one in market.outcomes] == [("Yes", "980224"), ("No", "538315")]
    assert market.opened_at == datetime(2025, 5, 2, 15, 47, 45, tzinfo=UTC)
    assert market.closes_at == datetime(2026, 7, 31, 12, tzinfo=UTC)


def test_the_recorded_page_of_resolved_markets(recorded: Path) -> None:
    page = parse_page(read(recorded / "polymarket/keyset/resolved-markets-keyset-limit-1.json"), "markets")
    (market,) = parse_markets(page.records).markets
    assert (market.id, market.status, market.result) == ("240379", "resolved", "No")
    assert market.closes_at == datetime(2024, 7, 18, 0, 10, 37, 491895, tzinfo=UTC)
    assert market.volume == Decimal("490480.591708")
    assert market.category == "us-current-affairs"


def test_the_recorded_page_of_events(recorded: Path) -> None:
    page = parse_page(read(recorded / "polymarket/keyset/events-keyset-limit-1.json"), "events")
    catalog = parse_events(page.records)
    assert not catalog.broken
    found = {market.id: market for market in catalog.markets}
    assert {key: one.status for key, one in found.items()} == {
        "516950": "resolved",
        "678876": "resolved",
        "691547": "open",
        "1642124": "unopened",
    }
    assert {one.result for one in found.values()} == {"No", None}
    assert {(one.category, one.event) for one in found.values()} == {("crypto", "kraken-ipo-in-2025")}
    assert [one.token for one in found["1642124"].outcomes] == ["", ""]


@pytest.mark.parametrize(
    ("name", "status", "result", "outcomes"),
    [
        ("gamma_market.json", "open", None, ["Up", "Down"]),
        ("gamma_market_closed_binary_accepting_false.json", "resolved", "No", ["Yes", "No"]),
        # Closed at 1 and 0, still taking orders, and the oracle has not spoken.
        ("gamma_market_closed_binary_accepting_true.json", "closed", None, ["Yes", "No"]),
        ("gamma_market_closed_nonbinary_legacy.json", "closed", None, ["Long", "Short"]),
        ("gamma_market_closed_zero_zero_legacy.json", "closed", None, ["Yes", "No"]),
        ("gamma_market_sports_market_map_handicap.json", "resolved", "FaZe", ["FaZe", "illwill"]),
        ("gamma_market_sports_market_money_line.json", "resolved", "FaZe", ["FaZe", "illwill"]),
    ],
)
def test_every_recorded_legacy_market_is_read(
    recorded: Path, name: str, status: str, result: str | None, outcomes: list[str]
) -> None:
    sent = read(recorded / "polymarket/legacy_shapes" / name)
    market = parse_market(sent)
    assert (market.status, market.result) == (status, result)
    assert [one.name for one in market.outcomes] == outcomes
    assert [one.token for one in market.outcomes] == json.loads(sent["clobTokenIds"])
    assert market.opened_at
    assert market.closes_at


def test_the_recorded_series_is_read_from_the_event(recorded: Path) -> None:
    market = parse_market(read(recorded / "polymarket/legacy_shapes/gamma_market.json"))
    assert (market.event, market.series) == ("btc-updown-5m-1773307200", "btc-up-or-down-5m")


def test_the_recorded_bare_list_of_events_is_read(recorded: Path) -> None:
    sent = read(recorded / "polymarket/legacy_shapes/gamma_event.json")
    catalog = parse_events(sent)
    assert len(catalog.markets) + len(catalog.broken) == sum(len(event["markets"]) for event in sent)
    assert not catalog.broken
    assert {market.event for market in catalog.markets} == {"democratic-presidential-nominee-2028"}


def test_every_record_of_the_order_books_service_is_refused_by_name(recorded: Path) -> None:
    folder = recorded / "polymarket/legacy_shapes"
    sent = [
        *read(folder / "int_markets.json")["data"],
        read(folder / "clob_market_closed_binary_accepting_true.json"),
        read(folder / "clob_market_closed_binary_accepting_false.json"),
    ]
    catalog = parse_markets(sent)
    assert not catalog.markets
    assert [one.id for one in catalog.broken] == [one["market_slug"] for one in sent]
    assert all("order book's service" in one.why for one in catalog.broken)


@pytest.mark.parametrize("name", ["clob_book_response.json", "data_api_trades_response.json"])
def test_what_is_no_page_is_refused(recorded: Path, name: str) -> None:
    with pytest.raises(Malformed, match="page of markets is no list"):
        parse_page(read(recorded / "polymarket/legacy_shapes" / name), "markets")


def test_a_market_resolved_in_parts_says_what_they_are_worth() -> None:
    split = parse_market(record(closed=True, umaResolutionStatus="resolved", outcomePrices='["0.5", "0.5"]'))
    assert (split.result, split.facts["settlement"]) == (None, "0.5")
    assert "settlement" not in parse_market(record()).facts


@pytest.mark.parametrize(
    ("outcomes", "prices", "settled"),
    [
        (["Long", "Short"], ["0.37", "0.63"], ["0.37", "0.63"]),
        (["A", "B", "C"], ["0.3333", "0.3333", "0.3333"], ["0.333333", "0.333333", "0.333333"]),
        (["Yes", "No"], ["0.37", "0.63"], None),
        (["Long", "Short"], ["0", "0"], None),
    ],
)
def test_a_scalar_settles_where_it_ended_and_equal_parts_at_their_share(
    outcomes: list[str], prices: list[str], settled: list[str] | None
) -> None:
    told = {"outcomes": json.dumps(outcomes), "outcomePrices": json.dumps(prices)}
    tokens = json.dumps([str(number) for number in range(len(outcomes))])
    ended = parse_market(record(closed=True, umaResolutionStatus="resolved", clobTokenIds=tokens, **told))
    worth = settlements_of(ended)
    assert ended.status == ("resolved" if settled else "closed")
    assert (worth and [str(one) for one in worth.values()]) == settled


def test_outcomes_are_matched_by_position() -> None:
    sent = record(closed=True, umaResolutionStatus="resolved", outcomePrices='["0", "1"]')
    market = parse_market(sent)
    assert market.result == "Yes"
    assert {one.name: one.token for one in market.outcomes} == {"No": "11", "Yes": "12"}


@pytest.mark.parametrize(
    ("prices", "oracle", "status", "result"),
    [
        ('["1", "0"]', "resolved", "resolved", "No"),
        ('["0.5", "0.5"]', "resolved", "resolved", None),
        ('["0.9995", "0.0005"]', "resolved", "closed", None),
        ('["0", "0"]', "resolved", "closed", None),
        ('["1", "0"]', "proposed", "closed", None),
        ('["1", "0"]', ..., "closed", None),
        (..., "resolved", "closed", None),
    ],
)
def test_a_market_is_resolved_only_once_that_is_final(prices: Any, oracle: Any, status: str, result: str) -> None:
    market = parse_market(record(closed=True, outcomePrices=prices, umaResolutionStatus=oracle))
    assert (market.status, market.result) == (status, result)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"outcomes": '["Yes", "No'}, 'outcomes: \'["Yes", "No\' is no list in JSON'),
        ({"clobTokenIds": '["11"]'}, "2 outcomes, 1 tokens"),
        ({"outcomes": '["Yes", "Yes"]'}, "the same"),
        ({"outcomes": ...}, "0 outcomes"),
        ({"volume": "NaN"}, "volume: 'NaN' is no number"),
        ({"outcomePrices": '["NaN", "1"]'}, "'NaN' is no number"),
        ({"outcomePrices": '["1"]'}, "2 outcomes, 1 prices"),
        ({"id": ...}, "has no id"),
    ],
)
def test_a_broken_market_is_named_and_the_others_are_kept(changes: dict[str, Any], why: str) -> None:
    catalog = parse_markets([record(id="7", slug="fine"), record(**changes)])
    assert [market.slug for market in catalog.markets] == ["fine"]
    (broken,) = catalog.broken
    assert broken.id in ("1", "will-it-rain")
    assert why in broken.why


@pytest.mark.parametrize("slug", ["two words", "a|b", "a,b", "[a]", "", None])
def test_a_slug_that_no_key_can_hold_gives_way_to_the_id(slug: str | None) -> None:
    assert parse_market(record(slug=slug)).key == "polymarket:1"


def test_an_open_market_past_its_announced_end_has_none() -> None:
    assert parse_market(record(updatedAt="2026-08-01T00:00:00Z")).closes_at is None


def test_a_market_closed_ahead_of_its_announced_end_ended_when_last_changed() -> None:
    closed = {
        "closed": True,
        "closedTime": None,
        "endDate": "2026-12-31T00:00:00Z",
        "updatedAt": "2026-09-05T11:00:00Z",
    }
    assert parse_market(record(**closed)).closes_at == datetime(2026, 9, 5, 11, tzinfo=UTC)
    assert parse_market(record(**closed | {"updatedAt": None})).closes_at == datetime(2026, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize("page", [None, [], {}, {"markets": None}, "<html>"])
def test_a_page_that_is_none_is_malformed(page: Any) -> None:
    with pytest.raises(Malformed):
        parse_page(page, "markets")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.decimals() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


NAMES = (*record(), "closed", "umaResolutionStatus", "closedTime", "events", "tags", "category", "volumeNum")


@settings(deadline=None)
@given(
    st.lists(anything | st.dictionaries(st.sampled_from(NAMES), anything, max_size=3).map(lambda new: record(**new)))
)
def test_whatever_is_on_a_page_is_read_or_named(records: list[Any]) -> None:
    catalog = parse_markets(records)
    assert len(catalog.markets) + len(catalog.broken) == len(records)
    assert all(isinstance(market.event, str | None) for market in catalog.markets)
