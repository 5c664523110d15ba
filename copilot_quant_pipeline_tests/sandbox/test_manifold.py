from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.markets import SimulatedMarkets
from copilot_quant_pipeline_tests.sandbox.conftest import Answer, get

NOW = datetime(2024, 3, 29, 14, 0, tzinfo=UTC)
TRUTH = SimulatedMarkets(7)
LISTED = [market for market in TRUTH.markets("manifold") if market.opened_at <= NOW]
ALIVE = next(one for one in LISTED if one.closes_at > NOW and one.volume and len(one.outcomes) > 2)


@pytest.fixture
def manifold() -> Iterator[Sandbox]:
    with Sandbox(now=NOW) as sandbox:
        yield sandbox


def ask(sandbox: Sandbox, path: str, **params: Any) -> Answer:
    return get(f"{sandbox.url}/v0/{path}", **params)


def bets(sandbox: Sandbox, **params: Any) -> list[dict[str, Any]]:
    answer = ask(sandbox, "bets", **{"contractId": ALIVE.id, "includeZeroShareRedemptions": "true", **params})
    assert answer.status == 200, answer
    return list(answer.json)


def milliseconds(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


def test_the_list_is_paged_from_behind_a_market_newest_first(manifold: Sandbox) -> None:
    first = ask(manifold, "markets", limit=30).json
    second = ask(manifold, "markets", limit=1000, before=first[-1]["id"]).json
    together = first + second
    assert {market["id"] for market in together} == {market.id for market in LISTED}
    created = [market["createdTime"] for market in together]
    assert created == sorted(created, reverse=True)
    assert ask(manifold, "markets", before=together[-1]["id"]).json == []
    assert ask(manifold, "markets", before="gone").status == 404


def test_a_market_is_listed_once_it_opens_and_resolved_in_the_end(manifold: Sandbox) -> None:
    market = next(one for one in LISTED if one.outcomes == ("Yes", "No"))
    manifold.pin_clock(market.opened_at - timedelta(minutes=1))
    assert ask(manifold, f"slug/{market.slug}").status == 404
    manifold.pin_clock(market.closes_at)
    assert not ask(manifold, f"slug/{market.slug}").json["isResolved"]
    manifold.pin_clock(market.resolved_at)
    found = ask(manifold, f"market/{market.id}").json
    assert found["resolution"] == ("YES", "NO")[market.winner]
    assert found["closeTime"] == milliseconds(market.closes_at)


def test_a_full_record_tells_answers_and_topics_and_a_list_does_not(manifold: Sandbox) -> None:
    full = ask(manifold, f"slug/{ALIVE.slug}").json
    assert [one["text"] for one in full["answers"]] == list(ALIVE.outcomes)
    assert full["groupSlugs"][0] == ALIVE.category
    assert sum(one["probability"] for one in full["answers"]) == pytest.approx(1, abs=0.05)
    found = {market["id"]: market for market in ask(manifold, "markets", limit=1000).json}
    assert not {"answers", "groupSlugs"} & set(found[ALIVE.id])


def test_search_is_by_topic_and_offset(manifold: Sandbox) -> None:
    pages = [ask(manifold, "search-markets", topicSlug="crypto", limit=20, offset=at).json for at in range(0, 200, 20)]
    ids = [market["id"] for page in pages for market in page]
    assert sorted(ids) == sorted(market.id for market in LISTED if market.category == "crypto")


def test_bets_come_newest_first_and_between_their_bounds(manifold: Sandbox) -> None:
    after, before = milliseconds(NOW - timedelta(days=1)), milliseconds(NOW)
    found = bets(manifold, afterTime=after, beforeTime=before)
    times = [bet["createdTime"] for bet in found]
    assert times == sorted(times, reverse=True)
    assert after < times[-1] <= times[0] < before
    assert len({bet["id"] for bet in found}) == len(found)
    newest, oldest = times[0], times[-1]
    inside = bets(manifold, afterTime=oldest, beforeTime=newest)
    assert inside == [bet for bet in found if oldest < bet["createdTime"] < newest]
    assert bets(manifold, afterTime=after, beforeTime=before, limit=10) == found[:10]


def test_nothing_after_the_clock_is_told(manifold: Sandbox) -> None:
    known = bets(manifold, afterTime=milliseconds(NOW - timedelta(days=2)))
    manifold.pin_clock(NOW - timedelta(days=1))
    earlier = bets(manifold, afterTime=milliseconds(NOW - timedelta(days=2)))
    assert earlier == [bet for bet in known if bet["createdTime"] <= milliseconds(NOW - timedelta(days=1))]


def test_answers_are_bet_on_at_one_instant_and_keep_summing_to_one(manifold: Sandbox) -> None:
    of: dict[int, list[float]] = {}
    for bet in bets(manifold, afterTime=milliseconds(NOW - timedelta(days=1))):
        of.setdefault(bet["createdTime"], []).append(bet["probAfter"])
    assert {len(prices) for prices in of.values()} == {len(ALIVE.outcomes)}
    assert all(sum(prices) == pytest.approx(1, abs=0.05) for prices in of.values())


def test_the_answers_that_a_bet_moves_are_told_only_where_that_is_asked_for(manifold: Sandbox) -> None:
    day = {"afterTime": milliseconds(NOW - timedelta(days=1))}
    every = bets(manifold, **day)
    assert any(bet["isRedemption"] and not bet["shares"] for bet in every)
    usual = bets(manifold, **day, includeZeroShareRedemptions="false")
    assert usual == [bet for bet in every if not bet["isRedemption"]]


@pytest.mark.parametrize(
    "params", [{"limit": 1001}, {"limit": -1}, {"contractID": "1"}], ids=["too many", "negative", "unknown"]
)
def test_what_the_schema_does_not_take_is_refused(manifold: Sandbox, params: dict[str, Any]) -> None:
    refused = ask(manifold, "bets", **params)
    assert (refused.status, refused.json["message"]) == (400, "Error validating request.")


def test_faults_hit_a_market_by_its_slug_or_everybody(manifold: Sandbox) -> None:
    manifold.fault("rate_limit", venue="manifold", symbol=ALIVE.slug, times=2)
    assert ask(manifold, "bets", contractId=ALIVE.id).json == {"message": "Too many requests"}
    assert ask(manifold, f"market/{ALIVE.id}").status == 429
    assert ask(manifold, f"slug/{ALIVE.slug}").status == 200
    manifold.fault("down", venue="manifold")
    assert ask(manifold, "markets").status == 503
    manifold.clear_faults()
    assert ask(manifold, "market/unknown").json == {"message": "Contract not found"}
