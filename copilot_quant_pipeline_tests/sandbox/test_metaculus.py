from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.markets import SimulatedMarkets
from copilot_quant_pipeline_tests.sandbox.conftest import get

NOW = datetime(2024, 3, 29, 14, 0, tzinfo=UTC)
TRUTH = SimulatedMarkets(7)
LISTED = TRUTH.listed("metaculus", NOW)
ALIVE = next(one for one in LISTED if one.status_at(NOW) == "open" and one.volume and len(one.outcomes) > 2)


@pytest.fixture
def metaculus() -> Iterator[Sandbox]:
    with Sandbox(now=NOW) as sandbox:
        yield sandbox


def ask(url: str) -> tuple[int, Any, Any]:
    request = Request(url, headers={"Authorization": "Token anything"})  # noqa: S310
    try:
        with urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read()), answer.headers
    except HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read()), refused.headers


def posts(sandbox: Sandbox, **params: Any) -> list[dict[str, Any]]:
    """The posts of all pages."""
    found: list[dict[str, Any]] = []
    following: str | None = f"{sandbox.url}/api/posts/?{urlencode(params, doseq=True)}"
    while following:
        status, page, _ = ask(following)
        assert status == 200
        found += page["results"]
        following = page["next"]
    return found


def post(sandbox: Sandbox, number: str) -> dict[str, Any]:
    status, found, _ = ask(f"{sandbox.url}/api/posts/{number}/")
    assert status == 200
    return dict(found)


def history(sandbox: Sandbox, number: str) -> list[dict[str, Any]]:
    return list(post(sandbox, number)["question"]["aggregations"]["recency_weighted"]["history"])


def test_nobody_is_answered_without_a_token(metaculus: Sandbox) -> None:
    for path in ("/api/posts/", f"/api/posts/{ALIVE.id}/"):
        refused = get(metaculus.url + path)
        assert (refused.status, refused.json) == (401, {"detail": "Authentication credentials were not provided."})


def test_the_feed_is_paged_by_next(metaculus: Sandbox) -> None:
    found = posts(metaculus, limit=20, order_by="-forecasts_count")
    assert sorted(str(one["id"]) for one in found) == sorted(market.id for market in LISTED)
    counts = [one["forecasts_count"] for one in found]
    assert counts == sorted(counts, reverse=True)
    assert metaculus.requests() == {"/api/posts/": -(-len(LISTED) // 20)}


def test_the_feed_can_be_had_by_status_and_kind(metaculus: Sandbox) -> None:
    found = posts(metaculus, statuses=["closed", "resolved"], forecast_type=["binary"])
    expected = [
        one.id for one in LISTED if one.status_at(NOW) in ("closed", "resolved") and one.outcomes == ("Yes", "No")
    ]
    assert sorted(str(one["id"]) for one in found) == sorted(expected)


def test_a_question_goes_from_upcoming_to_its_resolution(metaculus: Sandbox) -> None:
    def told_at(instant: datetime) -> tuple[str, str | None]:
        metaculus.pin_clock(instant)
        question = post(metaculus, ALIVE.id)["question"]
        return question["status"], question["resolution"]

    metaculus.pin_clock(ALIVE.announced_at - timedelta(minutes=1))
    assert ask(f"{metaculus.url}/api/posts/{ALIVE.id}/")[:2] == (404, {"detail": "No Post matches the given query."})
    assert told_at(ALIVE.announced_at) == ("upcoming", None)
    assert told_at(ALIVE.opened_at) == ("open", None)
    assert told_at(ALIVE.closes_at) == ("closed", None)
    assert told_at(ALIVE.resolved_at) == ("resolved", ALIVE.outcomes[ALIVE.winner])


def test_a_history_is_in_one_piece_and_ends_at_the_clock(metaculus: Sandbox) -> None:
    found = history(metaculus, ALIVE.id)
    assert all(one["end_time"] == following["start_time"] for one, following in zip(found, found[1:], strict=False))
    assert ALIVE.opened_at.timestamp() <= found[0]["start_time"]
    assert found[-1]["end_time"] is None
    assert found[-1]["start_time"] <= NOW.timestamp()
    assert all(sum(one["centers"]) == pytest.approx(1, abs=0.05) for one in found)
    assert {len(one["centers"]) for one in found} == {len(ALIVE.outcomes)}
    assert all(one["question"]["aggregations"]["recency_weighted"]["history"] == [] for one in posts(metaculus))


def test_a_forecast_can_be_kept_back(metaculus: Sandbox) -> None:
    metaculus.fault("hidden", symbol=ALIVE.id, times=1)
    assert history(metaculus, ALIVE.id) == []
    assert history(metaculus, ALIVE.id) != []


def test_a_throttle_says_how_long(metaculus: Sandbox) -> None:
    metaculus.fault("rate_limit", venue="metaculus", times=1)
    status, body, headers = ask(f"{metaculus.url}/api/posts/")
    assert (status, headers["Retry-After"]) == (429, "1")
    assert body == {"detail": "Request was throttled. Expected available in 1 second."}


def test_metaculus_can_be_down(metaculus: Sandbox) -> None:
    metaculus.fault("down", venue="metaculus", times=1)
    assert ask(f"{metaculus.url}/api/posts/")[0] == 503
    assert ask(f"{metaculus.url}/api/posts/")[0] == 200
