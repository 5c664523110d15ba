"""Claims that hold of each of the five venues: a broken record, a denial, an outage cost what they must and no more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from copilot_quant_pipeline.errors import Denied, Unavailable, VendorError
from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.grid.keys import MARKET, judge_key
from copilot_quant_pipeline.prediction_markets import http, pages
from copilot_quant_pipeline.prediction_markets.following import FollowRule
from copilot_quant_pipeline.prediction_markets.looks import Known, look_at
from copilot_quant_pipeline.prediction_markets.sources import MarketSources
from copilot_quant_pipeline.prediction_markets.venue import MarketQuery
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.prediction_markets.five_venues import NOW, VENUES, FiveVenues
from copilot_quant_pipeline_tests.prediction_markets.loopback import answer

HTML = answer(403, "<html><title>Attention Required! | Cloudflare</title></html>")
TODAY = NOW.date()
LISTS = ("/api/posts/", "/v0/markets", "/v2/events", "/markets/keyset", "/time")


@pytest.fixture
def stand_in() -> Iterator[FiveVenues]:
    with FiveVenues() as running:
        yield running


def reached(stand_in: FiveVenues, home: Path) -> MarketSources:
    """The sources of a new process, with clients that do not pace themselves."""
    settings = Settings(home=home, markets_start=date(2026, 1, 1), pinned_now=NOW, source="live")
    sources = MarketSources.reached_by(settings)
    sources._made.update({venue: stand_in.client(venue) for venue in VENUES})
    return sources


@pytest.mark.parametrize("venue", VENUES)
def test_all_is_well_at_each(stand_in: FiveVenues, venue: str) -> None:
    client = stand_in.client(venue)
    names = tuple(stand_in.name(venue, number) for number in stand_in.numbers)
    for query in (MarketQuery(with_ended=False), MarketQuery(ids=names)):
        catalog = client.fetch_markets(query)
        assert {market.id for market in catalog.markets} == set(names)
        assert (catalog.broken, catalog.incomplete) == ((), ())


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("trouble", [answer(500), HTML, answer(451, "no"), None])
def test_a_record_that_fails_in_a_batch_of_ids_is_named_alone(
    stand_in: FiveVenues, venue: str, trouble: tuple[int, str, dict[str, str]] | None
) -> None:
    stand_in.fault = lambda path, about: trouble if 3 in about else False
    client = stand_in.client(venue)
    names = tuple(stand_in.name(venue, number) for number in stand_in.numbers)
    catalog = client.fetch_markets(MarketQuery(ids=names))
    bad = stand_in.name(venue, 3)
    assert {market.id for market in catalog.markets} == set(names) - {bad}
    assert [one.id for one in catalog.broken] == [bad]
    assert not catalog.broken[0].unknown


@pytest.mark.parametrize("venue", VENUES)
def test_four_records_side_by_side_that_fail_leave_the_others(stand_in: FiveVenues, venue: str) -> None:
    stand_in.numbers = list(range(1, 13))
    stand_in.fault = lambda path, about: answer(500) if about & {3, 4, 5, 6} else False
    names = tuple(stand_in.name(venue, number) for number in stand_in.numbers)
    catalog = stand_in.client(venue).fetch_markets(MarketQuery(ids=names))
    assert len(catalog.markets) == 8
    assert {one.id for one in catalog.broken} == {stand_in.name(venue, number) for number in (3, 4, 5, 6)}


def test_an_event_of_kalshi_that_fails_costs_its_market_no_place(stand_in: FiveVenues) -> None:
    stand_in.fault = lambda path, about: answer(500) if "/events" in path and 3 in about else False
    catalog = stand_in.client("kalshi").fetch_markets(MarketQuery(ids=tuple(f"KX-{number}" for number in range(1, 7))))
    assert len(catalog.markets) == 6
    assert [one.id for one in catalog.broken] == ["KXE-3"]


def test_a_market_of_manifolds_list_that_fails_is_named_alone(stand_in: FiveVenues) -> None:
    stand_in.fault = lambda path, about: answer(500) if path == "/v0/market/m3" else False
    catalog = stand_in.client("manifold").fetch_markets(MarketQuery(with_ended=False))
    assert len(catalog.markets) == 5
    assert [one.id for one in catalog.broken] == ["m3"]


@pytest.mark.parametrize(
    ("venue", "status"), [*((venue, 403) for venue in VENUES), ("kalshi", 401), ("kalshi", 407), ("metaculus", 451)]
)
def test_a_venue_that_denies_everything_is_out_of_reach_for_all_cells_and_asked_a_handful_of_times(
    stand_in: FiveVenues, tmp_path: Path, venue: str, status: int
) -> None:
    stand_in.numbers = list(range(1, 25))
    keys = [stand_in.key(venue, number) for number in stand_in.numbers]
    reached(stand_in, tmp_path).harvest_prices(Rectangle((TODAY,), keys), refresh=False, backfill=None)
    stand_in.requests.clear()
    stand_in.fault = lambda path, about: answer(status, "<html>denied</html>")
    asked = Rectangle((TODAY,), keys)
    # No clients of the run before.
    cells = reached(stand_in, tmp_path).harvest_prices(asked, refresh=True, backfill=None).cells.to_pylist()
    assert {(cell["outcome"], cell["reason"]) for cell in cells} == {("failed", "unavailable")}
    assert len(cells) == 24
    assert len(stand_in.requests) <= 12
    # It ends, and all is asked for again.
    stand_in.fault = lambda path, about: False
    cells = reached(stand_in, tmp_path).harvest_prices(asked, refresh=True, backfill=None).cells.to_pylist()
    assert {cell["outcome"] for cell in cells} == {"settled"}


@pytest.mark.parametrize("venue", VENUES)
def test_a_lone_cell_of_a_venue_that_denies_everything_is_no_records_fault(
    stand_in: FiveVenues, tmp_path: Path, venue: str
) -> None:
    key = stand_in.key(venue, 1)
    asked = Rectangle((TODAY,), (key,))
    reached(stand_in, tmp_path).harvest_prices(asked, refresh=False, backfill=None)
    stand_in.fault = lambda path, about: HTML
    (cell,) = reached(stand_in, tmp_path).harvest_prices(asked, refresh=True, backfill=None).cells.to_pylist()
    assert (cell["outcome"], cell["reason"]) == ("failed", "unavailable")
    assert "403" in cell["detail"]


@pytest.mark.parametrize("venue", ["kalshi", "manifold", "metaculus", "polymarket"])
def test_a_record_that_is_denied_while_others_are_answered_is_its_own(
    stand_in: FiveVenues, tmp_path: Path, venue: str
) -> None:
    keys = [stand_in.key(venue, number) for number in stand_in.numbers]
    asked = Rectangle((TODAY,), keys)
    reached(stand_in, tmp_path).harvest_prices(asked, refresh=False, backfill=None)
    stand_in.fault = lambda path, about: HTML if 3 in about and path != "/" and not path.endswith(LISTS) else False
    cells = reached(stand_in, tmp_path).harvest_prices(asked, refresh=True, backfill=None).cells.to_pylist()
    failed = {cell["key"]: cell["reason"] for cell in cells if cell["outcome"] == "failed"}
    assert failed == {stand_in.key(venue, 3): "rejected"}


@pytest.mark.parametrize(
    ("venue", "route"),
    [
        ("polymarket", "/batch-prices-history"),
        ("kalshi", "/markets/candlesticks"),
        ("predictit", "/api/marketdata/all/"),
    ],
)
def test_one_route_that_is_denied_is_gone_round(stand_in: FiveVenues, tmp_path: Path, venue: str, route: str) -> None:
    keys = [stand_in.key(venue, number) for number in stand_in.numbers]
    asked = Rectangle((TODAY,), keys)
    stand_in.fault = lambda path, about: answer(451, "no") if path.endswith(route) else False
    cells = reached(stand_in, tmp_path).harvest_prices(asked, refresh=True, backfill=None).cells.to_pylist()
    assert {cell["outcome"] for cell in cells} == {"settled"}


@pytest.mark.parametrize("venue", VENUES)
def test_a_venue_that_is_down_costs_few_requests(stand_in: FiveVenues, venue: str, tmp_path: Path) -> None:
    stand_in.numbers = list(range(1, 25))
    keys = [stand_in.key(venue, number) for number in stand_in.numbers]
    asked = Rectangle((TODAY,), keys)
    reached(stand_in, tmp_path).harvest_prices(asked, refresh=False, backfill=None)
    stand_in.requests.clear()
    stand_in.fault = lambda path, about: answer(503)
    cells = reached(stand_in, tmp_path).harvest_prices(asked, refresh=True, backfill=None).cells.to_pylist()
    assert {cell["reason"] for cell in cells} == {"unavailable"}
    assert len(stand_in.requests) <= 30


@pytest.mark.parametrize("venue", VENUES)
def test_a_venue_that_is_down_costs_few_requests_for_markets_not_described_before(
    stand_in: FiveVenues, venue: str, tmp_path: Path
) -> None:
    stand_in.numbers = list(range(1, 25))
    stand_in.fault = lambda path, about: answer(503)
    asked = Rectangle((TODAY,), [stand_in.key(venue, number) for number in stand_in.numbers])
    cells = reached(stand_in, tmp_path).harvest_prices(asked, refresh=True, backfill=None).cells.to_pylist()
    assert {cell["reason"] for cell in cells} == {"unavailable"}
    assert len(stand_in.requests) <= 30


# What is claimed of one venue elsewhere, at each.


def rule_of(stand_in: FiveVenues, venue: str, *numbers: int) -> FollowRule:
    return FollowRule((venue,), ids=tuple(f"{venue}:{stand_in.name(venue, number)}" for number in numbers))


@pytest.mark.parametrize("venue", VENUES)
def test_lists_that_are_cut_short_make_nothing_gone(stand_in: FiveVenues, venue: str) -> None:
    client = stand_in.client(venue)
    known = client.fetch_markets(MarketQuery(with_ended=False)).markets
    stand_in.most = 2
    look = look_at(stand_in.client(venue), rule_of(stand_in, venue, *stand_in.numbers), Known(known))
    assert look.gone == ()
    assert len(look.markets) == len(known)


@pytest.mark.parametrize("venue", VENUES)
def test_a_record_that_cannot_be_had_gets_no_key(stand_in: FiveVenues, venue: str) -> None:
    stand_in.fault = lambda path, about: answer(500) if 3 in about else False
    look = look_at(stand_in.client(venue), rule_of(stand_in, venue, 1, 3), Known())
    assert set(look.waiting) == {f"{venue}:{stand_in.name(venue, 3)}"}
    assert {market.key for market in look.markets} >= {stand_in.key(venue, 1)}


@pytest.mark.parametrize("venue", VENUES)
def test_a_listing_that_loses_many_is_told(stand_in: FiveVenues, venue: str) -> None:
    stand_in.numbers = list(range(1, 61))
    rule = FollowRule((venue,), top=1000)
    before = look_at(stand_in.client(venue), rule, Known())
    assert before.faults == ()
    assert len(before.shown or ()) == 60
    stand_in.most = 20
    # PredictIt's one list is all it has: who is not in it is asked for alone.
    after = look_at(stand_in.client(venue), rule, Known(before.markets, listed=before.shown or ()))
    assert after.shown is None
    assert any("has lost many" in fault for fault in after.faults)


@pytest.mark.parametrize("venue", VENUES)
def test_each_point_says_which_service_told_it_its_grain_and_what_its_stamp_marks(
    stand_in: FiveVenues, tmp_path: Path, venue: str
) -> None:
    asked = Rectangle((TODAY,), [stand_in.key(venue, 1)])
    rows = reached(stand_in, tmp_path).harvest_prices(asked, refresh=False, backfill=None).rows
    assert rows.num_rows
    for name in ("service", "grain_seconds", "stamp"):
        assert rows.column(name).null_count == 0
    assert set(rows.column("stamp").to_pylist()) == {"ends" if venue == "kalshi" else "instant"}


@pytest.mark.parametrize("venue", VENUES)
def test_a_result_that_is_taken_back_is_seen_where_a_venue_tells_of_results(stand_in: FiveVenues, venue: str) -> None:
    ended = {
        "polymarket": {"closed": True, "umaResolutionStatus": "resolved", "outcomePrices": '["1", "0"]'},
        "kalshi": {"status": "finalized", "result": "yes"},
        "manifold": {"isResolved": True, "resolution": "YES"},
        "predictit": {"status": "Closed"},
        "metaculus": {"status": "resolved", "resolution": "yes"},
    }[venue]
    rule, statuses = rule_of(stand_in, venue, 1), []
    for changed in ({}, ended, {}):
        stand_in.changes = {1: changed}
        (market,) = (one for one in look_at(stand_in.client(venue), rule, Known()).markets if one.id[-1] == "1")
        statuses.append((market.status, market.result))
    end = ("closed", None) if venue == "predictit" else ("resolved", "Yes")
    assert statuses == [("open", None), end, ("open", None)]


def test_a_denial_is_the_records_until_the_next_other_request_is_denied_too(stand_in: FiveVenues) -> None:
    client = http.HttpClient("bazaar", stand_in.url, RetryPolicy(RequestRate(1000)), wait=lambda _: 0.0)
    stand_in.fault = lambda path, about: HTML if "denied" in path else answer(200, {})

    def denied(path: str) -> Denied:
        with pytest.raises(Denied) as raised:
            client.get(path)
        return raised.value

    one, again = denied("/denied/1"), denied("/denied/1")
    assert not one.transient
    assert not again.transient
    client.get("/good")
    two = denied("/denied/2")
    assert not two.transient
    three = denied("/denied/3")
    assert two.transient
    assert three.transient
    assert two.reason == three.reason == Unavailable.reason
    assert isinstance(three, VendorError)
    assert not one.transient
    assert client.traffic.retries == 0


ODD_NAMES = (
    "a|b",
    "two\nlines",
    "a blank",
    "[x]",
    "a,b",
    "…",
    "x" * 201,
    "a\u202eb",
    "2024-01-01|AAPL",
    "\ud83d",
    "...",
)
FIELDS = {"polymarket": ("id", "slug"), "kalshi": ("ticker",), "manifold": ("id", "slug")}


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("odd", [*ODD_NAMES, {"id": 1}, [1, 2], ""], ids=ascii)
def test_no_record_of_any_venue_makes_a_key_that_the_axis_cannot_hold(
    stand_in: FiveVenues, venue: str, odd: object
) -> None:
    stand_in.changes = {3: dict.fromkeys(FIELDS.get(venue, ("id",)), odd)}
    found = look_at(stand_in.client(venue), FollowRule((venue,), top=100), Known())
    keys = {market.key for market in found.markets}
    assert [judge_key(MARKET, key) for key in keys if judge_key(MARKET, key)] == []
    assert keys >= {stand_in.key(venue, number) for number in stand_in.numbers if number != 3}


@pytest.mark.parametrize("venue", ["polymarket", "kalshi", "metaculus"])
def test_a_listing_that_never_ends_is_told_as_incomplete(
    stand_in: FiveVenues, venue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_PAGES", 1)
    stand_in.breaks_off_after = 2
    listed = stand_in.client(venue).fetch_markets(MarketQuery(with_ended=False))
    assert len(listed.markets) == 2
    assert any("has not ended after 1 pages" in why for why in listed.incomplete)
