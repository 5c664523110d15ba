"""Claims about a clock that is wrong: ours is ahead of a venue's, as the Date of its answers tells, or is set back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import pytest
from tenacity import wait_none

from copilot_quant_pipeline.retry_policy import RetryPolicy
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.cli.conftest import Desk, open_desk
from copilot_quant_pipeline_tests.prediction_markets.five_venues import NOW, VENUES, FiveVenues

# The stand-ins have a month that ours is long past: to them our clock, which runs, is ahead.
CELLS = "select date, outcome, reason, fetched_at, key from ops.coverage order by all"
WITH_HISTORY = [venue for venue in VENUES if venue != "predictit"]


@pytest.fixture
def stand_in() -> Iterator[FiveVenues]:
    with FiveVenues(range(1, 3)) as running:
        running.date = NOW
        yield running


@pytest.fixture
def desk(unused: Settings, stand_in: FiveVenues, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(RetryPolicy, "wait", wait_none())
    with open_desk(unused, cast("Sandbox", stand_in)) as desk:
        desk.set({"COPILOT_QUANT_MARKETS_START": "2026-03-01", "COPILOT_QUANT_NOW": ""})
        yield desk


def backfill(desk: Desk, venue: str, *more: str) -> int:
    desk.set({"COPILOT_QUANT_MARKETS_VENUES": venue})
    return desk.run("backfill", "markets", "--start", "2026-03-10", "--end", "2026-03-20", *more).code


def cells(desk: Desk) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", desk.warehouse.read(CELLS).to_pylist())


@pytest.mark.parametrize("venue", VENUES)
def test_no_day_is_settled_that_is_not_over_by_the_venues_clock(desk: Desk, venue: str) -> None:
    assert backfill(desk, venue) == 1
    found = cells(desk)
    ahead = [cell for cell in found if cell["date"] > NOW.date()]
    assert {(cell["outcome"], cell["reason"]) for cell in ahead} == {("failed", "not_over")}
    assert {cell["date"] for cell in ahead} == {date(2026, 3, day) for day in range(14, 21)}
    assert {cell["outcome"] for cell in found if cell["date"] == NOW.date()} == {"settled"}
    assert max(cell["fetched_at"] for cell in found) < NOW + timedelta(hours=1)


@pytest.mark.parametrize("age", [True, False])
def test_an_answer_of_a_cache_or_without_a_date_bounds_nothing(desk: Desk, stand_in: FiveVenues, age: bool) -> None:
    stand_in.date = None
    if age:
        real = stand_in.take

        def aged(*asked: Any) -> Any:
            told = real(*asked)
            assert told is not None
            return *told[:2], {**told[2], "Age": "12", "Date": "Fri, 13 Mar 2026 21:00:00 GMT"}

        stand_in.take = aged  # type: ignore[method-assign]
    backfill(desk, "kalshi")
    assert "not_over" not in {cell["reason"] for cell in cells(desk)}


def test_what_was_recorded_by_a_clock_ahead_is_a_gap_again_and_told_and_heals(desk: Desk, stand_in: FiveVenues) -> None:
    stand_in.date = None
    backfill(desk, "kalshi")
    hurt = Counter(cell["outcome"] for cell in cells(desk))
    assert hurt["settled"]
    stand_in.date = NOW
    # Nothing is missing for this command, and any answer of the venue's tells.
    said = desk.run("update", "markets", "--no-heal")
    assert "recorded while this machine's clock was ahead" in said.out + said.err
    reasons = Counter(cell["reason"] for cell in cells(desk) if cell["date"] <= date(2026, 3, 20))
    assert reasons == {"distrusted": 22}
    assert backfill(desk, "kalshi") == 1
    healed = [cell for cell in cells(desk) if cell["date"] <= NOW.date()]
    assert {cell["outcome"] for cell in healed} == {"settled"}


def test_a_pinned_clock_distrusts_nothing(desk: Desk, stand_in: FiveVenues) -> None:
    desk.set({"COPILOT_QUANT_NOW": (NOW + timedelta(days=30)).isoformat()})
    assert backfill(desk, "kalshi") in (0, 1)
    desk.run("update", "markets")
    assert not {"not_over", "distrusted"} & {cell["reason"] for cell in cells(desk)}


def test_cells_later_than_our_own_clock_are_shown_to_their_venue_and_trusted_unless_it_says_otherwise(
    desk: Desk, stand_in: FiveVenues
) -> None:
    stand_in.date = None
    backfill(desk, "kalshi")
    later = datetime.now(UTC) + timedelta(days=20)
    with desk.warehouse.transaction() as connection:
        connection.execute("update ops.coverage set fetched_at = $at", {"at": later})
    asked = len(stand_in.requests)
    backfill(desk, "kalshi")
    assert len(stand_in.requests) > asked
    assert "distrusted" not in {cell["reason"] for cell in cells(desk)}
    with desk.warehouse.transaction() as connection:
        connection.execute("update ops.coverage set fetched_at = $at", {"at": later})
    stand_in.date = datetime.now(UTC)
    backfill(desk, "kalshi")
    assert max(cell["fetched_at"] for cell in cells(desk)) < later - timedelta(days=1)


def test_a_clock_set_back_wipes_no_cell_beyond_its_axis(desk: Desk, stand_in: FiveVenues) -> None:
    stand_in.date = None
    desk.set({"COPILOT_QUANT_NOW": NOW.isoformat(), "COPILOT_QUANT_MARKETS_VENUES": "kalshi"})
    assert desk.run("backfill", "markets", "--start", "2026-03-10").code == 0
    desk.set({"COPILOT_QUANT_NOW": (NOW - timedelta(days=1)).isoformat()})
    said = desk.run("reconcile")
    assert said.code == 0
    desk.set({"COPILOT_QUANT_NOW": NOW.isoformat()})
    again = desk.run("reconcile", "--json")
    assert '"painted": 0' in again.out
