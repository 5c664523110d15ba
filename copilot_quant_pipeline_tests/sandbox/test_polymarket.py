from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.markets import SimulatedMarkets
from copilot_quant_pipeline_tests.sandbox.conftest import Answer, get

NOW = datetime(2025, 6, 1, 12, 30, tzinfo=UTC)
DAY = 86_400
LISTED = SimulatedMarkets(seed=7).listed("polymarket", NOW)
OPEN = next(one for one in LISTED if one.volume and one.opened_at < NOW - timedelta(days=100) and one.closes_at > NOW)
RESOLVED = next(one for one in LISTED if one.volume and one.status_at(NOW) == "resolved" and len(one.hours) > 500)


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with Sandbox(now=NOW) as running:
        yield running


@pytest.fixture
def polymarket(shared: Sandbox) -> Iterator[Sandbox]:
    yield shared
    shared.clear_faults()


def page(sandbox: Sandbox, kind: str = "markets", **params: Any) -> Any:
    answer = get(f"{sandbox.url}/{kind}/keyset", **params)
    assert answer.status == 200, answer
    return answer.json


def token(sandbox: Sandbox, slug: str, outcome: int = 0) -> str:
    found: str = json.loads(get(f"{sandbox.url}/markets/slug/{slug}").json["clobTokenIds"])[outcome]
    return found


def clob(sandbox: Sandbox, **params: Any) -> Answer:
    return get(f"{sandbox.url}/prices-history", **params)


def data(sandbox: Sandbox, **params: Any) -> Answer:
    return get(f"{sandbox.url}/v2/prices-history", **params)


def seconds(instant: datetime) -> int:
    return int(instant.timestamp())


def same_shape(simulated: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Every simulated field is one Polymarket sends, of the same type."""
    numbers = (int, float)
    for name, value in simulated.items():
        assert name in recorded, name
        same_number = isinstance(value, numbers) and isinstance(recorded[name], numbers)
        assert same_number or type(value) is type(recorded[name]), name


def test_records_have_the_shape_of_recorded_ones(polymarket: Sandbox, recorded: Path) -> None:
    folder = recorded / "polymarket/keyset"
    opened = json.loads((folder / "markets-keyset-limit-1.json").read_text())
    resolved = json.loads((folder / "resolved-markets-keyset-limit-1.json").read_text())
    simulated = page(polymarket, limit=1, include_tag="true")
    assert set(simulated) == set(opened)
    assert simulated["$schema"] == opened["$schema"]
    event = opened["markets"][0]["events"][0] | {"series": []}
    same_shape(simulated["markets"][0] | {"events": []}, opened["markets"][0])
    same_shape(simulated["markets"][0]["events"][0], event)
    # And none is lacking that a client of the real service may count on.
    assert set(opened["markets"][0]) <= set(simulated["markets"][0])
    assert set(event) <= set(simulated["markets"][0]["events"][0])
    assert set(opened["markets"][0]["tags"][0]) <= set(simulated["markets"][0]["tags"][0])
    listed = json.loads((folder / "events-keyset-limit-1.json").read_text())["events"][0]
    assert set(listed) <= set(get(f"{polymarket.url}/events/keyset", limit=1).json["events"][0])
    (ended,) = page(polymarket, closed="true", id=RESOLVED.id)["markets"]
    same_shape(ended, opened["markets"][0] | resolved["markets"][0])


def test_resolved_markets_are_hidden_unless_closed_is_true(polymarket: Sandbox) -> None:
    assert page(polymarket, id=RESOLVED.id)["markets"] == []
    (found,) = page(polymarket, id=RESOLVED.id, closed="true")["markets"]
    assert found["umaResolutionStatus"] == "resolved"
    assert json.loads(found["outcomePrices"])[RESOLVED.winner] == "1"
    assert sorted(json.loads(found["outcomePrices"])) == ["0", "1"]


def test_pages_follow_the_cursor_until_there_is_none_and_hold_100_at_most(polymarket: Sandbox) -> None:
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        one = page(polymarket, closed="true", limit=1000, **cursor)
        seen += [market["id"] for market in one["markets"]]
        assert len(one["markets"]) <= 100
        if "next_cursor" not in one:
            break
        cursor = {"after_cursor": one["next_cursor"]}
    assert seen == [one.id for one in LISTED if one.status_at(NOW) in ("closed", "resolved")]


def test_a_cursor_is_tied_to_its_ordering_and_cannot_be_made_up(polymarket: Sandbox) -> None:
    cursor = page(polymarket, limit=5)["next_cursor"]
    url = f"{polymarket.url}/markets/keyset"
    for params in (
        {"after_cursor": cursor, "order": "volumeNum"},
        {"after_cursor": cursor[:-4]},
        {"after_cursor": "x"},
    ):
        refused = get(url, **params)
        assert refused.status == 422
        assert refused.json == {"type": "validation error", "error": "after_cursor is invalid"}


def test_order_is_in_camel_case_and_volume_sorts_as_text(polymarket: Sandbox) -> None:
    largest = page(polymarket, order="volumeNum", ascending="false", limit=30)["markets"]
    assert [one["volumeNum"] for one in largest] == sorted((one["volumeNum"] for one in largest), reverse=True)
    as_text = page(polymarket, order="volume", limit=30)["markets"]
    assert [one["volume"] for one in as_text] == sorted(one["volume"] for one in as_text)
    assert get(f"{polymarket.url}/markets/keyset", order="volume_num").status == 422


def test_filters_pick_markets(polymarket: Sandbox) -> None:
    first = OPEN.slug
    (one,) = page(polymarket, slug=first)["markets"]
    assert page(polymarket, condition_ids=one["conditionId"])["markets"] == [one]
    assert page(polymarket, clob_token_ids=token(polymarket, first, 1))["markets"] == [one]
    events = page(polymarket, "events", tag_slug="weather", limit=100)["events"]
    assert {tag["slug"] for event in events for tag in event["tags"]} == {"weather", "all", "simulated"}
    assert all(1 <= len(event["markets"]) <= 3 for event in events)


def test_one_market_is_found_by_id_or_slug(polymarket: Sandbox) -> None:
    url = f"{polymarket.url}/markets"
    assert get(f"{url}/{RESOLVED.id}").json == get(f"{url}/slug/{RESOLVED.slug}").json
    assert [get(f"{url}/{name}").status for name in ("123", "slug/nothing")] == [404, 404]
    refused = get(f"{url}/abc")
    assert (refused.status, refused.json) == (422, {"type": "validation error", "error": "id is invalid"})


def test_a_window_is_at_most_15_days(polymarket: Sandbox) -> None:
    known, end = token(polymarket, OPEN.slug), seconds(NOW)
    assert clob(polymarket, market=known, startTs=end - 15 * DAY, endTs=end, fidelity=60).json["history"]
    refused = clob(polymarket, market=known, startTs=end - 15 * DAY - 1, endTs=end, fidelity=60)
    assert refused.status == 400
    assert refused.json["error"] == "'startTs' and 'endTs' interval is too long"


@pytest.mark.parametrize(("interval", "least"), [("1m", 10), ("1w", 5)])
def test_preset_ranges_have_a_smallest_fidelity(polymarket: Sandbox, interval: str, least: int) -> None:
    known = token(polymarket, OPEN.slug)
    assert clob(polymarket, market=known, interval=interval, fidelity=least).json["history"]
    refused = clob(polymarket, market=known, interval=interval, fidelity=least - 1)
    assert refused.status == 400
    assert refused.json["error"] == f"minimum 'fidelity' for '{interval}' range is {least}"


def test_resolved_markets_have_no_fine_points_in_preset_ranges(polymarket: Sandbox) -> None:
    known, end = token(polymarket, RESOLVED.slug), seconds(RESOLVED.closes_at)
    assert clob(polymarket, market=known, interval="max", fidelity=60).json == {"history": []}
    assert clob(polymarket, market=known, interval="max", fidelity=720).json["history"]
    assert clob(polymarket, market=known, startTs=end - DAY, endTs=end, fidelity=60).json["history"]


def test_an_unknown_token_has_an_empty_history(polymarket: Sandbox) -> None:
    answer = clob(polymarket, market="123", startTs=1, endTs=2)
    assert (answer.status, answer.json) == (200, {"history": []})
    assert clob(polymarket, startTs=1, endTs=2).status == 400


def test_the_future_is_not_told(polymarket: Sandbox) -> None:
    sent = clob(polymarket, market=token(polymarket, OPEN.slug), startTs=seconds(NOW) - DAY, endTs=seconds(NOW) + DAY)
    assert max(point["t"] for point in sent.json["history"]) <= seconds(NOW)


def test_the_past_is_the_same_at_a_later_clock(polymarket: Sandbox) -> None:
    asked = {"startTs": seconds(NOW) - 10 * DAY, "endTs": seconds(NOW), "fidelity": 60}
    known = token(polymarket, OPEN.slug)
    before = clob(polymarket, market=known, **asked).json
    with Sandbox(now=NOW + timedelta(days=5)) as later:
        assert clob(later, market=known, **asked).json == before


def test_a_batch_answers_twenty_tokens_and_no_more(polymarket: Sandbox) -> None:
    url, end = f"{polymarket.url}/batch-prices-history", seconds(NOW)
    tokens = [token(polymarket, OPEN.slug, outcome) for outcome in (0, 1)]
    window = {"start_ts": end - DAY, "end_ts": end, "fidelity": 60}
    answer = get(url, method="POST", body={"markets": [*tokens, "123"], **window}).json["history"]
    assert answer["123"] == []
    for one in tokens:
        assert answer[one] == clob(polymarket, market=one, startTs=end - DAY, endTs=end, fidelity=60).json["history"]
    assert get(url, method="POST", body={"markets": ["1"] * 21, **window}).status == 400
    assert get(url, method="POST", body=[]).status == 400


def test_the_newer_history_comes_in_pages_with_its_end_excluded(polymarket: Sandbox) -> None:
    known, end = token(polymarket, OPEN.slug), seconds(NOW) // DAY * DAY
    asked = {"token_id": known, "start": end - 3 * DAY, "end": end, "bucket_seconds": 3600}
    whole = data(polymarket, **asked).json
    assert whole["pagination"] == {"limit": 1000, "offset": 0, "has_more": False, "next_cursor": None}
    assert all(end - 3 * DAY <= point["timestamp"] < end for point in whole["data"])
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        one = data(polymarket, **asked, limit=25, **cursor).json
        found += one["data"]
        if not one["pagination"]["has_more"]:
            break
        cursor = {"cursor": one["pagination"]["next_cursor"]}
    assert found == whole["data"]


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"start": 0}, "start"),
        ({"interval": "1w"}, "start"),
        ({"bucket_seconds": 30}, "bucket_seconds"),
        ({"start": seconds(NOW) - 16 * DAY}, "end"),
        ({"cursor": "x"}, "cursor"),
        ({"limit": 10_001}, "limit"),
    ],
)
def test_the_newer_history_names_what_it_refuses(polymarket: Sandbox, changes: dict[str, Any], parameter: str) -> None:
    asked = {"token_id": "1", "start": seconds(NOW) - DAY, "end": seconds(NOW)} | changes
    refused = data(polymarket, **asked)
    assert refused.status == 400
    assert refused.json["parameter"] == parameter
    assert {"error", "code", "retryable", "trace_id"} <= set(refused.json)


def test_the_newer_history_forgets_fine_points_and_knows_no_strangers(polymarket: Sandbox) -> None:
    known, start = token(polymarket, OPEN.slug), seconds(NOW) - 100 * DAY
    asked = {"token_id": known, "start": start, "end": start + DAY}
    assert data(polymarket, **asked, bucket_seconds=3600).json["data"] == []
    assert len(data(polymarket, **asked, bucket_seconds=10_800).json["data"]) == 8
    assert data(polymarket, **asked | {"token_id": "123"}).json["data"] is None


def test_a_resolved_market_ends_with_its_settlement(polymarket: Sandbox) -> None:
    known, end = token(polymarket, RESOLVED.slug, RESOLVED.winner), seconds(RESOLVED.closes_at)
    sent = data(polymarket, token_id=known, start=end - DAY, end=end + DAY, bucket_seconds=10_800).json["data"]
    assert sent[-1] == {"timestamp": end, "price": 1, "resolution_seconds": 0}


def test_each_service_refuses_in_its_own_words(polymarket: Sandbox) -> None:
    polymarket.fault("rate_limit", venue="polymarket", times=2)
    assert get(f"{polymarket.url}/markets/keyset").body == b"error code: 1015"
    assert data(polymarket, token_id="1", start=1).json["code"] == "rate_limited"  # noqa: S106
    polymarket.fault("polymarket_down", times=2)
    assert get(f"{polymarket.url}/markets/keyset").status == 503
    assert data(polymarket, token_id="1", start=1).json["retryable"] is True  # noqa: S106


def test_queued_requests_wait_for_each_other(polymarket: Sandbox) -> None:
    polymarket.fault("polymarket_queue", times=1, seconds=0.3)
    began = time.monotonic()
    assert page(polymarket)["markets"]
    assert time.monotonic() - began >= 0.3


def test_recorded_markets_are_served_beside_recorded_frames(recorded: Path) -> None:
    frames = recorded / "yahoo/daily_2016_2026.parquet"
    with Sandbox(recorded=frames, now=datetime(2024, 6, 1, tzinfo=UTC)) as sandbox:
        found = page(sandbox, closed="true", limit=100)["markets"]
        assert len(found) == 92
        known = json.loads(found[0]["clobTokenIds"])[0]
        asked = {"startTs": seconds(datetime(2023, 2, 22, tzinfo=UTC)), "fidelity": 60}
        sent = clob(sandbox, market=known, **asked, endTs=asked["startTs"] + 2 * DAY).json["history"]
        assert sent[0] == {"t": asked["startTs"] + 19, "p": 0.5}


def test_the_newer_history_ends_with_a_null_cursor_and_chooses_a_bucket_that_is_kept(polymarket: Sandbox) -> None:
    outcome = token(polymarket, OPEN.slug)
    whole = data(polymarket, token_id=outcome, interval="max").json
    assert whole["pagination"]["next_cursor"] is None
    assert {point["resolution_seconds"] for point in whole["data"]} == {43_200}
    long_ago = seconds(NOW - timedelta(days=200))
    old = data(polymarket, tokenId=outcome, start=long_ago, end=long_ago + 86_400).json["data"]
    assert {point["resolution_seconds"] for point in old} == {10_800}
    (newest,) = data(polymarket, token_id=outcome, as_of=seconds(NOW)).json["data"]
    assert newest == data(polymarket, token_id=outcome, interval="1d", bucketSeconds=60).json["data"][-1]
    refused = data(polymarket, token_id=outcome, interval="1d", offset=5)
    assert (refused.status, refused.json["code"]) == (400, "invalid_request")
