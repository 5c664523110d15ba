"""Claims about what comes page by page: every list ends, keeps what it has shown, and says where it is not whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from copilot_quant_pipeline.errors import Malformed, Rejected, Unavailable, VendorError
from copilot_quant_pipeline.prediction_markets import manifold
from copilot_quant_pipeline.prediction_markets.kalshi import Kalshi
from copilot_quant_pipeline.prediction_markets.manifold import Manifold
from copilot_quant_pipeline.prediction_markets.metaculus import Metaculus
from copilot_quant_pipeline.prediction_markets.pages import Page, Paging, read_whole
from copilot_quant_pipeline.prediction_markets.polymarket import Polymarket
from copilot_quant_pipeline.prediction_markets.venue import Market, MarketQuery, Venue
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline_tests.prediction_markets.loopback import Answer, Loopback, answer

NOW = datetime(2026, 3, 13, 21, tzinfo=UTC)
FREELY = RetryPolicy(RequestRate(100_000))
V2 = "/trade-api/v2"


@pytest.fixture
def stub() -> Iterator[Loopback]:
    with Loopback() as running:
        running.answers = [answer(404, {"error": "no such route"})]
        yield running


def polymarket_record(number: int) -> dict[str, Any]:
    outcomes = {"outcomes": '["Yes", "No"]', "clobTokenIds": json.dumps([f"{number}1", f"{number}2"])}
    return {"id": str(number), "slug": f"m-{number}", "conditionId": hex(number), "question": "Rain?", **outcomes}


def kalshi_record(number: int) -> dict[str, Any]:
    market = {"ticker": f"KX-{number}-A", "event_ticker": f"KX-{number}", "status": "active", "title": "Rain?"}
    event = {"event_ticker": f"KX-{number}", "series_ticker": "KXS", "title": "Rain?", "category": "Weather"}
    return event | {"markets": [market]}


def manifold_record(number: int) -> dict[str, Any]:
    record = {"id": f"m{number}", "slug": f"m-{number}", "question": "Rain?", "outcomeType": "BINARY"}
    return record | {"createdTime": 1_770_000_000_000, "isResolved": False}


def metaculus_record(number: int) -> dict[str, Any]:
    return {"id": number, "title": "Rain?", "question": {"type": "binary", "status": "open"}}


# Of each list: the client, its path, its record and page (of records and the number of the next page), and what is
# asked for.
Make = Callable[[str], Venue]
Pager = Callable[[list[dict[str, Any]], int | None], Any]


def next_link(page: int | None) -> str | None:
    return None if page is None else f"https://elsewhere.example/api/posts/?limit=100&offset={page}"


LISTS: dict[str, tuple[Make, str, Callable[[int], dict[str, Any]], Pager, MarketQuery]] = {
    "polymarket": (
        lambda url: Polymarket(url, url, url, clock=lambda: NOW, wait=lambda _: 0.0),
        "/markets/keyset",
        polymarket_record,
        lambda records, page: {"markets": records, **({} if page is None else {"next_cursor": f"c{page}"})},
        MarketQuery(with_ended=False),
    ),
    "polymarket by tag": (
        lambda url: Polymarket(url, url, url, clock=lambda: NOW, wait=lambda _: 0.0),
        "/events/keyset",
        lambda number: {"id": f"e{number}", "slug": f"e-{number}", "markets": [polymarket_record(number)]},
        lambda records, page: {"events": records, **({} if page is None else {"next_cursor": f"c{page}"})},
        MarketQuery(categories=("weather",), with_ended=False),
    ),
    "kalshi": (
        lambda url: Kalshi(url, policy=FREELY, wait=lambda _: 0.0),
        f"{V2}/events",
        kalshi_record,
        lambda records, page: {"events": records, "cursor": "" if page is None else f"c{page}"},
        MarketQuery(with_ended=False),
    ),
    "metaculus": (
        lambda url: Metaculus(url, token="hush", policy=FREELY, wait=lambda _: 0.0),  # noqa: S106
        "/api/posts/",
        metaculus_record,
        lambda records, page: {"results": records, "next": next_link(page)},
        MarketQuery(with_ended=False),
    ),
    "manifold": (
        lambda url: Manifold(url, clock=lambda: NOW, policy=FREELY, wait=lambda _: 0.0),
        "/v0/markets",
        manifold_record,
        lambda records, page: records if page is not None else [],
        MarketQuery(with_ended=False),
    ),
    "manifold by topic": (
        lambda url: Manifold(url, clock=lambda: NOW, policy=FREELY, wait=lambda _: 0.0),
        "/v0/search-markets",
        manifold_record,
        lambda records, page: records if page is not None else [],
        MarketQuery(categories=("weather",), with_ended=False),
    ),
}


class _List:
    """A list of `name` on the loopback server that gives the `pages` (numbers of records) one after the other.

    After the last one it ends, or goes on as `then` answers.
    """

    def __init__(self, stub: Loopback, name: str, pages: list[list[int]], then: Callable[[int], Answer] | None = None):
        make, path, self.record, self.page, self.query = LISTS[name]
        self.venue = make(stub.url)
        self.pages, self.then = pages, then
        self.turn = count()
        self.asked = 0
        stub.routes[path] = self._answer
        if name.startswith("manifold"):
            for number in range(50):
                stub.routes[f"/v0/market/m{number}"] = lambda _, __, number=number: answer(200, manifold_record(number))

    def _answer(self, _: dict[str, list[str]], __: Any) -> Answer:
        place, self.asked = next(self.turn), self.asked + 1
        assert place < 40, "it would go on for ever"
        if place >= len(self.pages) and self.then:
            return self.then(place)
        return self.told(self.pages[place] if place < len(self.pages) else [], place)

    def told(self, numbers: list[int], place: int, *, more: bool | None = None) -> Answer:
        goes_on = more if more is not None else place + 1 < len(self.pages) or self.then is not None
        # Manifold's lists end with an empty page.
        goes_on |= bool(numbers) and isinstance(self.page([], None), list)
        return answer(200, self.page([self.record(number) for number in numbers], place + 1 if goes_on else None))

    def read(self) -> tuple[list[int], tuple[str, ...]]:
        catalog = self.venue.fetch_markets(self.query)
        numbers = [int("".join(filter(str.isdigit, market.id))) for market in catalog.markets]
        return sorted(numbers), catalog.incomplete


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_repeats_with_a_new_cursor_each_time_ends_after_three_pages_without_news(
    stub: Loopback, name: str
) -> None:
    # In another order each time, so that what is taken from its end differs, too.
    orders = [[1, 2, 3], [2, 3, 1], [3, 1, 2], [2, 1, 3], [1, 3, 2]]
    listed = _List(stub, name, [], lambda place: listed.told(orders[place % 5], place, more=True))
    numbers, incomplete = listed.read()
    assert numbers == [1, 2, 3]
    assert len(incomplete) == 1
    assert "runs in a circle" in incomplete[0]
    assert listed.asked <= 4


@pytest.mark.parametrize("name", LISTS)
def test_pages_that_overlap_are_read_to_the_end(stub: Loopback, name: str) -> None:
    listed = _List(stub, name, [[1, 2], [2, 1], [1, 2, 3], [3, 4]])
    assert listed.read() == ([1, 2, 3, 4], ())


@pytest.mark.parametrize("name", [name for name in LISTS if not name.startswith("manifold")])
def test_empty_pages_with_a_cursor_are_not_the_last_unless_three_come_in_a_row(stub: Loopback, name: str) -> None:
    assert _List(stub, name, [[1], [], [], [2]]).read() == ([1, 2], ())
    numbers, incomplete = _List(stub, name, [[1], [], [], [], [2]]).read()
    assert numbers == [1]
    assert "3 pages in a row" in incomplete[0]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    "trouble", [answer(500), answer(403, "<html>Attention Required</html>"), answer(200, "<html>")]
)
def test_a_list_that_ends_with_an_error_on_a_later_page_keeps_what_it_has_shown(
    stub: Loopback, name: str, trouble: Answer
) -> None:
    listed = _List(stub, name, [[1, 2], [3]], lambda place: trouble)
    numbers, incomplete = listed.read()
    assert numbers == [1, 2, 3]
    assert len(incomplete) == 1


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_does_not_begin_is_the_venues_error(stub: Loopback, name: str) -> None:
    with pytest.raises(Unavailable):
        _List(stub, name, [], lambda place: answer(503)).read()


def test_one_category_that_does_not_answer_leaves_the_others(stub: Loopback) -> None:
    venue = LISTS["polymarket by tag"][0](stub.url)
    page = {"events": [{"id": "e1", "markets": [polymarket_record(1)]}]}
    stub.routes["/events/keyset"] = lambda query, _: (
        answer(500) if query["tag_slug"] == ["crypto"] else answer(200, page)
    )
    catalog = venue.fetch_markets(MarketQuery(categories=("crypto", "weather"), with_ended=False))
    assert [market.id for market in catalog.markets] == ["1"]
    assert not catalog.complete


def pages_of(several: list[tuple[list[int], int | None] | VendorError]) -> Callable[[int | None], Page[int, int]]:
    def fetch(_: int | None) -> Page[int, int]:
        page = several.pop(0)
        if isinstance(page, VendorError):
            raise page
        return Page(*page)

    return fetch


def test_a_cursor_that_repeats_an_earlier_one_ends_its_list() -> None:
    paging = Paging()
    pages = paging.read(pages_of([([1], 1), ([2], 2), ([3], 1)]), str, "the list")
    assert [one for page in pages for one in page] == [1, 2, 3]
    assert "the cursor '1' came twice" in paging.incomplete[0]


def test_a_list_whose_cursor_is_no_longer_taken_is_begun_anew_and_shows_nothing_twice() -> None:
    again: list[tuple[list[int], int | None] | VendorError] = [([1], 1), ([2], 2), ([3], 3), ([4], 4)]
    paging = Paging()
    pages = paging.read(pages_of([*again, Rejected("expired"), *again, ([5], None)]), str, "the list")
    assert [one for page in pages for one in page] == [1, 2, 3, 4, 5]
    assert not paging.incomplete


def test_what_is_of_use_as_a_whole_only_fails_as_a_whole() -> None:
    with pytest.raises(Unavailable):
        list(read_whole(pages_of([([1], 1), Unavailable("down")]), str, "the history"))
    with pytest.raises(Malformed, match="circle"):
        list(read_whole(pages_of([([1], cursor) for cursor in range(9)]), str, "the history"))


# Histories


def bet(number: int, at: datetime) -> dict[str, Any]:
    return {"id": f"b{number}", "createdTime": int(at.timestamp() * 1000), "probBefore": 0.4, "probAfter": 0.5}


def manifold_market(stub: Loopback) -> tuple[Manifold, Market]:
    venue = Manifold(stub.url, clock=lambda: NOW, policy=FREELY, wait=lambda _: 0.0)
    stub.routes["/v0/slug/m-1"] = lambda _, __: answer(200, manifold_record(1))
    return venue, venue.fetch_market("m-1")


def test_bets_that_come_again_whatever_is_asked_for_are_no_history(
    stub: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifold, "PAGE", 8)
    venue, market = manifold_market(stub)
    bets = [bet(number, NOW - timedelta(hours=number)) for number in range(1, 9)]
    stub.routes["/v0/bets"] = lambda query, _: answer(200, bets)
    with pytest.raises(Malformed, match="circle"):
        venue.fetch_prices(market, NOW - timedelta(days=1), NOW)


def test_a_history_of_bets_that_ends_with_an_error_is_none(stub: Loopback) -> None:
    venue, market = manifold_market(stub)
    bets = [bet(number, NOW - timedelta(hours=number)) for number in range(1, 9)]
    end = int(NOW.timestamp() * 1000)
    stub.routes["/v0/bets"] = lambda query, _: answer(200, bets) if query["beforeTime"] == [str(end)] else answer(500)
    with pytest.raises(Unavailable):
        venue.fetch_prices(market, NOW - timedelta(days=1), NOW)


def test_a_history_of_the_newer_service_that_repeats_is_none(stub: Loopback) -> None:
    venue = Polymarket(stub.url, stub.url, stub.url, clock=lambda: NOW, wait=lambda _: 0.0)
    turn = count()
    points = [{"timestamp": int((NOW - timedelta(hours=4)).timestamp()), "price": 0.5, "resolution_seconds": 3600}]

    def repeats(_: dict[str, list[str]], __: Any) -> Answer:
        more = {"has_more": True, "next_cursor": f"c{next(turn)}"}
        return answer(200, {"data": points, "pagination": more})

    stub.routes["/v2/prices-history"] = repeats
    stub.routes["/markets/1"] = lambda _, __: answer(200, polymarket_record(1) | {"volume": "5"})
    with pytest.raises(VendorError):
        venue.fetch_prices(venue.fetch_market("1"), NOW - timedelta(days=1), NOW)
    assert next(turn) < 40
