"""Claims about days that come coarsely while a service that may have them finer does not answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tenacity import wait_none

from copilot_quant_pipeline.grid.axes import days_on_axis
from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.landing import Landing
from copilot_quant_pipeline.prediction_markets.sources import MarketSources
from copilot_quant_pipeline.retry_policy import RetryPolicy
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.healing import MARKETS, extent_of, look_for_gaps
from copilot_quant_pipeline.warehouse.catalog import read_settled_lives
from copilot_quant_pipeline.warehouse.coverage import read_progress
from copilot_quant_pipeline.warehouse.tables import PRICES
from copilot_quant_pipeline_tests.prediction_markets.loopback import Answer, Loopback, answer

NOW = datetime(2026, 3, 13, 21, tzinfo=UTC)
KEY, DAY, HOUR = "polymarket:draw", date(2026, 3, 11), 3600
RECORD = {
    "id": "1",
    "slug": "draw",
    "conditionId": "0x1",
    "question": "Who?",
    "outcomes": '["A", "B"]',
    "clobTokenIds": '["11", "12"]',
    "volume": "7.5",
    "active": True,
    "acceptingOrders": True,
    "startDate": "2026-01-01T00:00:00Z",
}
DOWN = [answer(500, {"error": "internal"}), answer(200, "<html>checking</html>"), answer(429, {"error": "slow down"})]
EMPTY = answer(200, {"data": None})


@dataclass
class World:
    """One market at a venue whose services tell so many points a day each, or answer in some other way."""

    venue: Loopback
    settings: Settings
    clob: dict[str, int] | Answer = None
    data: int | Answer = None
    record: dict[str, Any] = field(default_factory=lambda: dict(RECORD))
    runs: int = 0
    until: int = 0

    def ask(
        self, *days: date, after: timedelta = timedelta(), refresh: bool = False
    ) -> dict[date, tuple[str, str | None]]:
        """What becomes of the days' cells."""
        settings = replace(self.settings, pinned_now=NOW + after)
        self.until = int(settings.now().timestamp())
        sources = MarketSources.reached_by(settings)
        harvest = sources.harvest_prices(Rectangle(days, (KEY,)), refresh=refresh, backfill=None)
        self.runs += 1
        sources.warehouse.settle_harvest(PRICES, harvest, run_id=str(self.runs))
        return {row["date"]: (row["reason"] or row["outcome"], row["detail"]) for row in harvest.cells.to_pylist()}

    def gaps(self, after: timedelta) -> int:
        """How many cells are asked for again by then."""
        settings = replace(self.settings, pinned_now=NOW + after)
        sources = MarketSources.reached_by(settings)
        extent = extent_of(MARKETS, settings, [KEY], patient=False)
        assert extent is not None
        found = look_for_gaps(sources.warehouse, extent, now=settings.now(), limit=999).gaps.cells
        asked = sources.warehouse.coverage("markets").column("date").to_pylist()
        return len({cell.date for cell in found}.intersection(asked))

    @property
    def coarse(self) -> int:
        """How many cells `status` counts so."""
        warehouse = MarketSources.reached_by(self.settings).warehouse
        return read_progress(warehouse, "markets", days_on_axis(self.settings)).coarse

    def stored(self) -> list[dict[str, Any]]:
        sources = MarketSources.reached_by(self.settings)
        return sources.warehouse.read("from prediction_markets.prices order by outcome, stamped_at").to_pylist()

    def _history(self, token: str, start: int, end: int) -> list[dict[str, Any]]:
        points = self.clob[token]  # type: ignore[call-overload, index]
        if not points:
            return []
        every = 24 * HOUR // points
        return [
            {"t": at + 41, "p": 0.5}
            for at in range(start // every * every, end, every)
            if start <= at + 41 < min(end, self.until)
        ]

    def batch(self, query: dict[str, list[str]], sent: Any) -> Answer:
        if not isinstance(self.clob, dict):
            return self.clob
        told = {token: self._history(token, sent["start_ts"], sent["end_ts"]) for token in sent["markets"]}
        return answer(200, {"history": told})

    def single(self, query: dict[str, list[str]], sent: Any) -> Answer:
        if not isinstance(self.clob, dict):
            return self.clob
        start, end = int(query["startTs"][0]), int(query["endTs"][0])
        return answer(200, {"history": self._history(query["market"][0], start, end)})

    def newer(self, query: dict[str, list[str]], sent: Any) -> Answer:
        if not isinstance(self.data, int):
            return self.data
        bucket = max(int(query["bucket_seconds"][0]), 24 * HOUR // self.data)
        times = range(int(query["start"][0]) // bucket * bucket, min(int(query["end"][0]), self.until), bucket)
        told = [{"timestamp": at, "price": 0.5, "resolution_seconds": bucket} for at in times]
        return answer(200, {"data": told, "pagination": {"has_more": False}})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Loopback() as venue:
        venue.answers = [answer(404, {"error": "not found"})]
        settings = Settings(home=tmp_path, markets_start=date(2026, 1, 1), pinned_now=NOW, source="live")
        made = World(venue, settings.with_venues_at(venue.url))
        venue.routes |= {
            "/markets/slug/draw": lambda query, sent: answer(200, json.dumps(made.record)),
            "/batch-prices-history": made.batch,
            "/prices-history": made.single,
            "/v2/prices-history": made.newer,
        }
        yield made


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "wait", wait_none())


@pytest.mark.parametrize("down", DOWN)
def test_a_thin_day_is_settled_and_asked_for_until_the_other_service_has_answered(world: World, down: Answer) -> None:
    world.clob, world.data = {"11": 2, "12": 2}, down
    assert world.ask(DAY) == {DAY: ("settled", "coarse: 2 points a day")}
    assert world.coarse == 1
    # It waits as a failed cell does, and the longer the more often it was tried.
    assert [world.gaps(timedelta(minutes=wait)) for wait in (9, 10)] == [0, 1]
    assert world.ask(DAY, after=timedelta(minutes=10)) == {DAY: ("settled", "coarse: 2 points a day")}
    assert [world.gaps(timedelta(minutes=10 + wait)) for wait in (39, 40)] == [0, 1]
    # The answer of then, which landed a moment ago, does not serve it.
    world.data = 24
    assert world.ask(DAY, after=timedelta(minutes=50)) == {DAY: ("settled", None)}
    assert (world.gaps(timedelta(days=5)), world.coarse) == (0, 0)
    assert {(row["service"], row["grain_seconds"], row["stamp"]) for row in world.stored()} == {
        ("data-api", HOUR, "begins")
    }
    assert len(world.stored()) == 48


def test_it_is_no_gap_once_the_finer_grain_is_kept_no_more(world: World) -> None:
    world.clob, world.data = {"11": 2, "12": 2}, DOWN[0]
    world.ask(DAY)
    assert [world.gaps(timedelta(days=days)) for days in (80, 95)] == [1, 0]


@pytest.mark.parametrize("data", [EMPTY, 2, 1, answer(404, {"error": "no such token"})])
def test_a_day_that_no_service_has_finer_is_final(world: World, data: Any) -> None:
    world.clob, world.data = {"11": 1, "12": 2}, data
    assert world.ask(DAY) == {DAY: ("settled", None)}
    assert world.gaps(timedelta(days=1)) == 0


def test_what_clob_has_lost_is_had_at_the_finest_grain_that_is_kept(world: World) -> None:
    world.clob, world.data = {"11": 0, "12": 0}, 24
    assert world.ask(DAY) == {DAY: ("settled", None)}
    told = {(row["service"], row["grain_seconds"], row["stamp"]) for row in world.stored()}
    assert (len(world.stored()), told) == (48, {("data-api", HOUR, "begins")})


def test_one_thin_outcome_is_enough(world: World) -> None:
    world.clob, world.data = {"11": 24, "12": 3}, DOWN[0]
    assert world.ask(DAY) == {DAY: ("settled", "coarse: 3 points a day")}
    world.data = 24
    world.ask(DAY, after=timedelta(hours=1))
    assert len(world.stored()) == 48


def test_what_the_newer_service_filled_coarsely_is_had_from_clob_once_that_answers(world: World) -> None:
    world.clob, world.data = DOWN[0], 8
    assert world.ask(DAY) == {DAY: ("settled", "coarse: 8 points a day")}
    assert {row["grain_seconds"] for row in world.stored()} == {3 * HOUR}
    # Nobody says for how long CLOB keeps hours.
    assert world.gaps(timedelta(days=200)) == 1
    world.clob = {"11": 24, "12": 24}
    assert world.ask(DAY, after=timedelta(hours=1)) == {DAY: ("settled", None)}
    assert {(row["service"], row["stamp"]) for row in world.stored()} == {("clob", "instant")}
    history = MarketSources.reached_by(world.settings).warehouse.read("from prediction_markets.prices_history")
    assert history.num_rows == 16


def test_what_was_kept_before_it_came_coarsely_refines_nothing(world: World) -> None:
    world.clob, world.data = {"11": 1, "12": 1}, EMPTY
    assert world.ask(DAY) == {DAY: ("settled", None)}
    world.clob, world.data = DOWN[0], 8
    assert world.ask(DAY, after=timedelta(hours=1), refresh=True) == {DAY: ("settled", "coarse: 8 points a day")}
    world.clob = {"11": 24, "12": 24}
    assert world.ask(DAY, after=timedelta(hours=2)) == {DAY: ("settled", None)}
    assert len(world.stored()) == 48


def test_a_market_stays_on_the_axis_until_its_days_are_had_finer_or_can_be_no_more(world: World) -> None:
    world.record |= {"closed": True, "closedTime": "2026-03-11 12:00:00+00"}
    world.clob, world.data = {"11": 2, "12": 2}, DOWN[0]
    warehouse = MarketSources.reached_by(world.settings).warehouse
    assert world.ask(DAY) == {DAY: ("settled", "coarse: 2 points a day")}
    lives = [read_settled_lives(warehouse, DAY, DAY + timedelta(days=days)) for days in (90, 91)]
    assert lives == [set(), {KEY}]
    # It is refined though it has ended.
    world.data = 24
    assert world.ask(DAY, after=timedelta(hours=1)) == {DAY: ("settled", None)}
    assert read_settled_lives(warehouse, DAY, DAY) == {KEY}


def test_an_outage_takes_no_finer_points_away(world: World) -> None:
    today = NOW.date()
    world.clob, world.data = {"11": 24, "12": 24}, DOWN[0]
    assert world.ask(today) == {today: ("settled", None)}
    assert len(world.stored()) == 2 * 21
    # The day is over and read to its end, by less than was known of it.
    world.clob = {"11": 2, "12": 2}
    assert world.ask(today, after=timedelta(hours=4)) == {today: ("settled", "coarse: 21 points a day")}
    assert len(world.stored()) == 2 * 21
    world.data = 24
    assert world.ask(today, after=timedelta(hours=5)) == {today: ("settled", None)}
    assert len(world.stored()) == 48


def test_windows_in_an_outage_are_not_taken_for_a_quiet_market(world: World) -> None:
    # More windows than it takes to call a market quiet.
    days = tuple(date(2026, 1, 1) + timedelta(days=n) for n in range(70))
    world.clob, world.data = {"11": 2, "12": 2}, DOWN[0]
    assert set(world.ask(*days).values()) == {("settled", "coarse: 2 points a day")}
    assert world.gaps(timedelta(hours=1)) == world.coarse == 70
    assert Landing(world.settings.landing_path).read("POLYMARKET-PRICES", KEY) is None
