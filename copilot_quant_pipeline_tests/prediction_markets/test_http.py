from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from tenacity import RetryCallState

from copilot_quant_pipeline import transport
from copilot_quant_pipeline.errors import (
    Denied,
    Malformed,
    NoSuchRoute,
    NotFound,
    RateLimited,
    Rejected,
    TooSlow,
    Unavailable,
    VendorError,
)
from copilot_quant_pipeline.prediction_markets.http import HttpClient
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline_tests.prediction_markets.loopback import Answer, Loopback, answer

FREELY = RetryPolicy(RequestRate(10_000))


@pytest.fixture
def venue() -> Iterator[Loopback]:
    with Loopback() as running:
        yield running


def client(venue: Loopback, wait: Callable[[RetryCallState], float] = lambda _: 0.0, **how: Any) -> HttpClient:
    return HttpClient("bazaar", venue.url + "/", FREELY, wait=wait, **how)


def test_numbers_with_a_point_are_exact(venue: Loopback) -> None:
    venue.answers = [answer(200, '{"price": 0.29, "small": 1e-7, "count": 12, "text": "0.10"}')]
    got = client(venue).get("/prices")
    assert got == {"price": Decimal("0.29"), "small": Decimal("1e-7"), "count": 12, "text": "0.10"}
    assert [type(value) for value in got.values()] == [Decimal, Decimal, int, str]


def test_parameters_that_are_none_are_left_out_and_lists_repeat_their_key(venue: Loopback) -> None:
    client(venue).get("/markets", {"cursor": None, "id": ["1", "2"], "limit": 100, "closed": "false"})
    method, path, query, _, headers = venue.requests[0]
    assert (method, path) == ("GET", "/markets")
    assert query == {"id": ["1", "2"], "limit": ["100"], "closed": ["false"]}
    assert headers["User-Agent"].startswith("copilot-quant-pipeline/")


def test_a_post_sends_its_body_as_json_and_a_clients_headers_go_with_every_request(venue: Loopback) -> None:
    client(venue, headers={"Authorization": "Token hush"}).post("/batch", {"markets": ["1"]})
    method, path, _, body, headers = venue.requests[0]
    assert (method, path, json.loads(body)) == ("POST", "/batch", {"markets": ["1"]})
    assert headers["Authorization"] == "Token hush"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "id is invalid"}, Rejected),
        (401, {"detail": "who are you"}, Denied),
        (404, {"message": "Contract not found"}, NotFound),
        (422, {"type": "validation error"}, Rejected),
        (451, "unavailable for legal reasons", Denied),
    ],
)
def test_a_refusal_is_told_in_the_venues_words_and_not_repeated(
    venue: Loopback, status: int, body: Any, kind: type[VendorError]
) -> None:
    venue.answers = [answer(status, body)]
    asking = client(venue)
    with pytest.raises(kind) as refused:
        asking.get("/markets/7")
    assert type(refused.value) is kind
    said = body if isinstance(body, str) else json.dumps(body)
    assert str(refused.value) == f"bazaar answers {status} to /markets/7: {said}"
    assert asking.traffic == Traffic(requests=1, retries=0)


@pytest.mark.parametrize(
    ("failing", "kind"),
    [
        (answer(429, {"error": "too many requests"}), RateLimited),
        (answer(500, "<html>oops</html>"), Unavailable),
        (answer(503), Unavailable),
        (answer(200, "<!DOCTYPE html>"), Malformed),
        (answer(200, '{"markets": [{"id": '), Malformed),
        (answer(200, ""), Malformed),
        (None, Unavailable),
    ],
    ids=["429", "500", "503", "html", "truncated", "empty", "dropped"],
)
def test_what_may_pass_is_repeated_and_counted(venue: Loopback, failing: Answer, kind: type[VendorError]) -> None:
    venue.answers = [failing, failing, answer(200, {"markets": []})]
    asking = client(venue)
    assert asking.get("/markets") == {"markets": []}
    assert asking.traffic == Traffic(requests=3, retries=2)
    venue.answers = [failing]
    with pytest.raises(kind):
        asking.get("/markets")
    assert asking.traffic == Traffic(requests=3 + FREELY.attempts, retries=2 + FREELY.attempts - 1)
    assert len(venue.requests) == 3 + FREELY.attempts


def test_a_venue_that_cannot_be_reached_is_unavailable() -> None:
    with Loopback() as gone:
        url = gone.url
    with pytest.raises(Unavailable, match="bazaar cannot be reached"):
        HttpClient("bazaar", url, FREELY, wait=lambda _: 0.0).get("/markets")


@pytest.mark.parametrize(
    ("asked", "own", "waited"),
    [
        ("3", 0.5, 3.0),
        ("1", 2.5, 2.5),
        ("-4", 0.5, 0.5),
        ("", 0.5, 0.5),
        ("soon", 0.5, 0.5),
        ("Wed, 21 Oct 2026 07:28:07 GMT", 0.5, 7.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.5, 0.5),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_that_the_venue_asks_for_is_the_least_that_is_waited(
    venue: Loopback, monkeypatch: pytest.MonkeyPatch, status: int, asked: str, own: float, waited: float
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    told = {"Retry-After": asked, "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    venue.answers = [answer(status, "slow down", **told), answer(200, [])]
    assert client(venue, wait=lambda _: own).get("/markets") == []
    assert slept == [waited]


def test_a_pause_beyond_patience_is_told_and_not_waited_for(venue: Loopback) -> None:
    venue.answers = [answer(429, "come back later", **{"Retry-After": str(RetryPolicy.longest_pause + 1)})]
    asking = client(venue)
    with pytest.raises(RateLimited) as refused:
        asking.get("/markets")
    assert refused.value.retry_after == RetryPolicy.longest_pause + 1
    assert asking.traffic == Traffic(requests=1, retries=0)


def test_a_packed_answer_is_unpacked_and_connections_are_kept(venue: Loopback) -> None:
    packed = gzip.compress(json.dumps({"names": ["ü"] * 90_000}, ensure_ascii=False).encode())
    venue.answers = [answer(200, packed, **{"Content-Encoding": "gzip", "Content-Type": "text/plain"})]
    asking = client(venue)
    assert [set(asking.get("/markets")["names"]) for _ in range(3)] == [{"ü"}] * 3
    assert venue.connections == 1


@pytest.mark.parametrize(
    "broken",
    [
        answer(200, b"no gzip", **{"Content-Encoding": "gzip"}),
        answer(200, '{"markets": [', **{"Content-Length": "500", "Connection": "close"}),
        answer(302, "", Location="/markets"),
        answer(408),
    ],
)
def test_an_answer_that_does_not_come_through_is_unavailable(venue: Loopback, broken: Answer) -> None:
    venue.answers = [broken]
    with pytest.raises(Unavailable):
        client(venue).get("/markets")


def test_a_redirect_is_followed(venue: Loopback) -> None:
    venue.answers = [answer(301, "", Location="/v2/markets"), answer(200, [1])]
    assert client(venue).get("/markets", {"limit": 5}) == [1]
    assert [path for _, path, _, _, _ in venue.requests] == ["/markets", "/v2/markets"]


@pytest.mark.parametrize("status", [405, 501])
def test_a_route_that_is_not_there_is_not_asked_again(venue: Loopback, status: int) -> None:
    venue.answers = [answer(status, "method not allowed")]
    asking = client(venue)
    with pytest.raises(NoSuchRoute):
        asking.post("/batch", {})
    assert asking.traffic == Traffic(requests=1, retries=0)


def test_an_answer_that_trickles_in_for_too_long_is_given_up(venue: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "DEADLINE", -1.0)
    venue.answers = [answer(200, [1])]
    with pytest.raises(TooSlow, match="bazaar is not through"):
        client(venue).get("/markets")
    assert len(venue.requests) == FREELY.few_attempts


def test_waits_grow_between_attempts(venue: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    venue.answers = [answer(503)]
    with pytest.raises(Unavailable):
        HttpClient("bazaar", venue.url, FREELY).get("/markets")
    # Exponential from half a second, with at most half a second of jitter on top.
    assert [base <= waited <= base + 0.5 for base, waited in zip((0.5, 1, 2, 4), slept, strict=True)] == [True] * 4


def test_waits_for_a_rate_limit_outlast_the_seconds_it_is_counted_over(
    venue: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    venue.answers = [answer(429)]
    with pytest.raises(RateLimited):
        HttpClient("bazaar", venue.url, FREELY).get("/markets")
    assert 10 < sum(slept) < 20


def test_threads_share_a_client(venue: Loopback) -> None:
    venue.answers = [answer(503), answer(503), answer(503), answer(200, {"ok": True})]
    asking = client(venue)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda number: asking.get("/markets", {"n": number}), range(40)))
    assert got == [{"ok": True}] * 40
    assert asking.traffic == Traffic(requests=43, retries=3)
    assert {query["n"][0] for _, _, query, _, _ in venue.requests} == {str(number) for number in range(40)}


def test_every_request_takes_a_permit_before_it_is_sent(venue: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    class Permits:
        def try_acquire(self, name: str) -> bool:
            happened.append("permit")
            return True

    asking = client(venue)
    monkeypatch.setattr(asking, "_limiter", Permits())
    taken = venue.take

    def noting(*request: Any) -> Answer:
        happened.append("request")
        return taken(*request)

    monkeypatch.setattr(venue, "take", noting)
    venue.answers = [answer(429), answer(200, [])]
    asking.get("/markets")
    asking.post("/batch", {})
    assert happened == ["permit", "request"] * 3


def test_a_request_beyond_the_pace_has_to_wait_for_its_permit(venue: Loopback) -> None:
    paced = HttpClient("bazaar", venue.url, RetryPolicy(RequestRate(2, 3600)))
    for _ in range(2):
        paced.get("/markets")
    assert paced._limiter.try_acquire("bazaar", blocking=False) is False
    assert len(venue.requests) == 2
