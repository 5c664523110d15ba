"""Claims about what troubles of each of the five venues come to: command, wire, grid and file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
from tenacity import wait_none

from copilot_quant_pipeline.retry_policy import RetryPolicy
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.cli.conftest import Desk, open_desk
from copilot_quant_pipeline_tests.prediction_markets.five_venues import NOW, VENUES, FiveVenues
from copilot_quant_pipeline_tests.prediction_markets.loopback import answer

LISTS = ("/api/posts/", "/v0/markets", "/v2/events", "/markets/keyset", "/time", "/all/")


@pytest.fixture
def stand_in() -> Iterator[FiveVenues]:
    with FiveVenues(range(1, 5)) as running:
        yield running


@pytest.fixture
def desk(unused: Settings, stand_in: FiveVenues, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(RetryPolicy, "wait", wait_none())
    with open_desk(unused, cast("Sandbox", stand_in)) as desk:
        desk.set({"COPILOT_QUANT_MARKETS_START": "2026-03-01", "COPILOT_QUANT_NOW": NOW.isoformat()})
        yield desk


def rows(desk: Desk, query: str) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", desk.warehouse.read(query).to_pylist())


@pytest.mark.parametrize("venue", [venue for venue in VENUES if venue != "predictit"])
def test_one_followed_record_that_fails_is_named_and_the_others_go_on(
    desk: Desk, stand_in: FiveVenues, venue: str
) -> None:
    desk.set({"COPILOT_QUANT_MARKETS_VENUES": venue})
    assert desk.run("backfill", "markets", "--start", "2026-03-13").code == 0
    later = NOW + timedelta(hours=1)
    desk.set({"COPILOT_QUANT_NOW": later.isoformat()})
    bad = stand_in.key(venue, 2)
    stand_in.numbers.append(5)

    def fails(path: str, about: frozenset[int]) -> Any:
        # A batch that holds it fails; the list that shows it does not.
        is_listing = path.endswith(LISTS) and len(about) == len(stand_in.numbers)
        return answer(500) if 2 in about and not is_listing and path != "/" else False

    stand_in.fault = fails
    said = desk.run("update", "markets", "--no-heal")
    assert said.code == 1, said
    seen = {row["market"]: row["last_seen_at"] for row in rows(desk, "from prediction_markets.markets")}
    assert {key for key, at in seen.items() if at == later} >= {stand_in.key(venue, number) for number in (1, 3, 4, 5)}
    failed = "select distinct key from ops.coverage where outcome = 'failed'"
    assert {row["key"] for row in rows(desk, failed)} <= {bad}
    assert stand_in.key(venue, 5) in {row["key"] for row in rows(desk, "select key from ops.coverage")}


@pytest.mark.parametrize("venue", VENUES)
def test_a_venue_that_denies_everything_counts_as_no_try_costs_a_handful_and_heals_when_it_ends(
    desk: Desk, stand_in: FiveVenues, venue: str
) -> None:
    desk.set({"COPILOT_QUANT_MARKETS_VENUES": venue})
    assert desk.run("backfill", "markets", "--start", "2026-03-13").code == 0
    desk.set({"COPILOT_QUANT_NOW": (NOW + timedelta(days=1)).isoformat()})
    stand_in.fault = lambda path, about: answer(403, "<html>Attention Required</html>")
    stand_in.requests.clear()
    said = desk.run("update", "markets", "--no-heal")
    assert said.code == 1, said
    assert len(stand_in.requests) <= 40, [one[1] for one in stand_in.requests]
    red = rows(desk, "select distinct reason, attempts, passing from ops.coverage where outcome = 'failed'")
    assert red == [{"reason": "unavailable", "attempts": 1, "passing": 1}]
    stand_in.fault = lambda path, about: False
    desk.set({"COPILOT_QUANT_NOW": (NOW + timedelta(days=1, hours=2)).isoformat()})
    assert desk.run("update", "markets").code == 0
    assert rows(desk, "from ops.coverage where outcome = 'failed'") == []


@pytest.mark.parametrize("venue", VENUES)
def test_a_broken_record_that_nobody_follows_is_told_once_and_fails_nothing(
    desk: Desk, stand_in: FiveVenues, venue: str
) -> None:
    desk.set({"COPILOT_QUANT_MARKETS_VENUES": venue})
    stand_in.spoiled = {4}
    said = [desk.run("update", "markets", "--no-heal") for _ in range(2)]
    assert [one.code for one in said] == [0, 0], said
    name = stand_in.name(venue, 4)
    assert [f"{name} is broken" in one.err for one in said] == [True, False], said
    markets = {row["market"] for row in rows(desk, "select market from prediction_markets.markets")}
    assert markets == {stand_in.key(venue, number) for number in (1, 2, 3)}


@pytest.mark.parametrize("venue", [venue for venue in VENUES if venue != "predictit"])
def test_a_listing_that_breaks_off_is_told_keeps_what_it_has_shown_and_makes_nobody_gone(
    desk: Desk, stand_in: FiveVenues, venue: str
) -> None:
    desk.set({"COPILOT_QUANT_MARKETS_VENUES": venue})
    assert desk.run("update", "markets", "--no-heal").code == 0
    stand_in.breaks_off_after = 2
    said = desk.run("update", "markets", "--no-heal")
    assert said.code == 1, said
    assert "incomplete" in said.err
    statuses = {row["status"] for row in rows(desk, "select status from prediction_markets.markets")}
    assert statuses == {"open"}
    assert rows(desk, "from ops.coverage where outcome = 'failed'") == []


def test_a_venue_whose_setting_is_missing_is_not_asked_until_it_is_there(desk: Desk, stand_in: FiveVenues) -> None:
    live = {"COPILOT_QUANT_SOURCE": "live", "COPILOT_QUANT_MARKETS_VENUES": "metaculus"}
    desk.set(live | {"COPILOT_QUANT_METACULUS_TOKEN": "hush"})
    assert desk.run("backfill", "markets", "--start", "2026-03-13").code == 0
    stand_in.requests.clear()
    later = {"COPILOT_QUANT_NOW": (NOW + timedelta(days=1)).isoformat()}
    desk.set(later | {"COPILOT_QUANT_METACULUS_TOKEN": ""})
    assert desk.run("heal").code == 0
    said = desk.run("update", "markets", "--no-heal")
    assert (said.code, stand_in.requests) == (1, []), said
    assert "COPILOT_QUANT_METACULUS_TOKEN" in said.err + said.out
    red = rows(desk, "select distinct reason, attempts, passing from ops.coverage where outcome = 'failed'")
    assert red == [{"reason": "unavailable", "attempts": 1, "passing": 1}]
    desk.set({"COPILOT_QUANT_METACULUS_TOKEN": "hush"})
    assert desk.run("update", "markets").code == 0
    assert rows(desk, "from ops.coverage where outcome = 'failed'") == []


ODD_FIELDS: dict[str, dict[str, Any]] = {
    "polymarket": {"question": "Rain \ud83d?", "volumeNum": 1e30, "endDate": "9999-12-31T23:59:59-14:00"},
    "kalshi": {"event_ticker": ["KXE-2"], "volume_fp": "1e25", "close_time": "9999-12-31T23:59:59-14:00"},
    "manifold": {"id": "m2", "question": {"text": "Rain?"}, "volume": -1e29},
    "predictit": {"name": ["Rain?"], "contracts": 5},
    "metaculus": {"status": "\udfff", "open_time": "0000-00-00T00:00:00Z"},
}


@pytest.mark.parametrize("venue", VENUES)
def test_one_record_that_no_table_can_hold_costs_itself_and_no_other_venue_anything(
    desk: Desk, stand_in: FiveVenues, venue: str
) -> None:
    desk.set({"COPILOT_QUANT_METACULUS_TOKEN": "hush", "COPILOT_QUANT_MARKETS_VENUES": ",".join(VENUES)})
    stand_in.changes = {2: ODD_FIELDS[venue]}
    own = stand_in.client(venue)
    assert own.name == venue
    said = desk.run("backfill", "markets", "--start", "2026-03-13", "--json")
    stored = {row["market"] for row in rows(desk, "from prediction_markets.markets")}
    lost = {stand_in.key(one, number) for one in VENUES for number in (1, 2, 3, 4)} - stored
    assert lost <= {stand_in.key(one, 2) for one in VENUES}, said
    assert stand_in.key(venue, 2) in lost, said
    assert "Traceback" not in said.err


def test_an_undeclared_error_in_one_venues_reader_is_told_as_a_defect_and_ends_no_others_work(
    desk: Desk, stand_in: FiveVenues, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("nobody thought of it")

    monkeypatch.setattr("copilot_quant_pipeline.prediction_markets.kalshi.Kalshi._listed", breaks)
    desk.set({"COPILOT_QUANT_MARKETS_VENUES": "kalshi,polymarket"})
    said = desk.run("backfill", "markets", "--start", "2026-03-13")
    assert said.code == 1
    assert "kalshi: a defect of this program" in said.out + said.err, said
    stored = {row["market"] for row in rows(desk, "from prediction_markets.markets")}
    assert stored == {stand_in.key("polymarket", number) for number in (1, 2, 3, 4)}
