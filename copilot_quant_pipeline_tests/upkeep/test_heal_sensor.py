"""Claims about healing without a user: what the sensor makes of venues that lose sessions, refuse or are down."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.grid.cells import Cell, Rectangle
from copilot_quant_pipeline.grid.runs import range_tags
from copilot_quant_pipeline.ledger.run_lives import PROCESS_TAG
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.healing import HEAL_TAG
from copilot_quant_pipeline_tests.upkeep.healing_world import BARS, CHART, World, open_world

SYMBOLS = ("ABBV", "ABT", "ADBE", "ADP")
# A Friday, an hour after the schedule of 06:00 New York; the newest session is Thursday's.
FRIDAY = datetime(2024, 3, 22, 11, 0, tzinfo=UTC)
WEEK = sessions_in_range(date(2024, 3, 18), date(2024, 3, 21))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def world(unused: Settings) -> Iterator[World]:
    with open_world(unused, FRIDAY) as world:
        yield world


def test_sessions_lost_for_two_days_heal_when_they_are_back(world: World) -> None:
    world.venues.fault("lost_session", dates=["2024-03-20", "2024-03-21"])
    world.settle(SYMBOLS, WEEK)
    assert set(world.red().values()) == {"missing_at_source"}
    assert len(world.red()) == 2 * len(SYMBOLS)
    world.venues.reset_requests()
    world.let_pass(HOUR)
    world.let_pass(3 * HOUR, every=HOUR / 2)
    world.let_pass(44 * HOUR, every=4 * HOUR)
    assert len(world.red()) == 2 * len(SYMBOLS)
    world.venues.clear_faults()
    world.let_pass(DAY, every=4 * HOUR)
    assert world.red() == {}
    # Friday's session, which no schedule has asked for in this world, is settled as well.
    assert world.settled() == len(SYMBOLS) * (len(WEEK) + 1)
    # After 10 min, 50 min, 3.5 h, 14 h, a day and a half and two and a half; and in its night for Friday.
    assert [round((at - FRIDAY) / HOUR) for at in world.asked_at] == [0, 1, 4, 16, 20, 40, 64]
    # A request a symbol and try, two where only the whole history tells.
    assert world.venues.requests()[CHART] <= 2 * len(SYMBOLS) * len(world.asked_at)


def test_a_session_that_never_comes_is_given_up_at_the_eighth_try_and_not_asked_for_again(world: World) -> None:
    world.venues.fault("lost_session", dates=["2024-03-21"])
    world.settle(SYMBOLS[:2], WEEK)
    world.let_pass(HOUR)
    world.let_pass(3 * HOUR, every=HOUR / 2)
    world.let_pass(78 * HOUR, every=2 * HOUR)
    tried = "select distinct reason, attempts from ops.coverage where date = '2024-03-21'"
    assert world.warehouse.read(tried).to_pylist() == [{"reason": "missing_at_source", "attempts": 7}]
    world.let_pass(6 * HOUR, every=2 * HOUR)
    given_up = [{"reason": "given_up", "attempts": 8}]
    assert world.warehouse.read(tried).to_pylist() == given_up
    assert world.now - FRIDAY < 4 * DAY
    asked = len(world.asked_at)
    world.let_pass(2 * DAY, every=4 * HOUR)
    assert world.warehouse.read(tried).to_pylist() == given_up
    assert len(world.asked_at) == asked + 2  # for the two sessions since
    assert set(world.red().values()) == {"given_up"}


def test_a_venue_that_says_429_for_an_hour_is_asked_gently_and_heals(world: World) -> None:
    world.venues.fault("rate_limit")
    world.settle(SYMBOLS, WEEK)
    assert set(world.red().values()) == {"rate_limited"}
    world.venues.reset_requests()
    world.let_pass(HOUR)
    # Two tries; in each the circuit breaker ends what is left.
    assert len(world.asked_at) == 2
    assert world.venues.requests()[CHART] <= 2 * 5 * len(SYMBOLS)
    world.venues.clear_faults()
    world.let_pass(HOUR)
    assert world.red() == {}
    assert world.settled() == len(SYMBOLS) * len(WEEK)


def test_a_venue_that_is_down_over_a_weekend_heals_within_the_hour_it_is_back(world: World) -> None:
    world.venues.fault("server_error")
    world.settle(SYMBOLS, WEEK)
    world.let_pass(2 * HOUR)
    assert len(world.asked_at) == 3  # after 10 min, 50 min, and then every hour
    world.let_pass(60 * HOUR, every=20 * HOUR)
    assert set(world.red().values()) == {"unavailable"}
    world.venues.clear_faults()
    world.let_pass(HOUR)
    assert world.red() == {}
    assert world.settled() == len(SYMBOLS) * len(WEEK)


def test_a_repeated_tick_asks_with_the_same_key_and_a_later_try_with_another(world: World) -> None:
    world.venues.fault("lost_session", dates=["2024-03-21"])
    world.settle(SYMBOLS, WEEK)
    world.now += timedelta(minutes=15)
    first, again = world.evaluate().run_requests, world.evaluate().run_requests
    assert first
    assert [request.run_key for request in first] == [request.run_key for request in again or ()]
    world.tick()
    world.now += HOUR
    assert [request.run_key for request in world.evaluate().run_requests or ()] != [r.run_key for r in first]


def test_while_earlier_healing_runs_nothing_is_asked_and_that_is_said(world: World) -> None:
    world.venues.fault("lost_session", dates=["2024-03-21"])
    world.settle(SYMBOLS, WEEK)
    world.now += HOUR
    with world.run_under_way(BARS, {HEAL_TAG: "equities"}):
        assert "earlier healing is queued or running" in world.tick()
    assert world.tick() == ""


def test_cells_that_another_run_is_asking_for_are_left_to_it(world: World) -> None:
    world.venues.fault("lost_session", dates=["2024-03-20", "2024-03-21"])
    world.settle(SYMBOLS, WEEK)
    world.now += HOUR
    tags = range_tags(Rectangle((date(2024, 3, 21),), SYMBOLS))
    with world.run_under_way(BARS, tags):
        (request,) = world.evaluate().run_requests or ()
    assert request.tags.items() >= range_tags(Rectangle((date(2024, 3, 20),), SYMBOLS)).items()


# Dagster's own call, when it plans a backfill.
@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")
def test_while_a_backfill_runs_its_grid_is_left_alone(world: World) -> None:
    world.venues.fault("lost_session", dates=["2024-03-21"])
    world.settle(SYMBOLS, WEEK)
    world.now += HOUR
    world.request_backfill(BARS, [f"2024-03-18|{symbol}" for symbol in SYMBOLS])
    assert "is running; what it leaves is healed after it" in world.tick()


def test_a_run_whose_process_died_does_not_stop_healing(world: World) -> None:
    world.venues.fault("lost_session", dates=["2024-03-21"])
    world.settle(SYMBOLS, WEEK)
    world.now += HOUR
    dead = {HEAL_TAG: "equities", PROCESS_TAG: f"{socket.gethostname()}:4194304:1.00"}
    with world.run_under_way(BARS, dead):
        assert world.tick() == ""
    assert world.asked_at == [world.now]


def test_a_tick_asks_for_the_newest_cells_and_no_more_than_the_setting_says(world: World) -> None:
    world.base = replace(world.base, heal_cells=6)
    world.venues.fault("lost_session", dates=[day.isoformat() for day in WEEK])
    world.settle(SYMBOLS, WEEK)
    world.now += HOUR
    world.tick()
    asked = world.warehouse.read("select date, key from ops.coverage where attempts = 2 order by date, key").to_pylist()
    newest = [Cell(WEEK[-2], "ABBV"), Cell(WEEK[-2], "ABT"), *(Cell(WEEK[-1], symbol) for symbol in SYMBOLS)]
    assert [Cell(**row) for row in asked] == newest


def test_a_home_nothing_was_asked_of_is_told_so(world: World) -> None:
    assert world.tick() == "equities: nothing was asked for yet; markets: nothing was asked for yet"


def test_the_reason_for_not_asking_says_when_the_next_try_is(world: World) -> None:
    world.venues.fault("lost_session", dates=["2024-03-21"])
    world.settle(SYMBOLS, WEEK)
    assert "4 wait until 2024-03-22 11:10 UTC or later" in world.tick()


def test_a_new_session_is_healed_an_hour_before_it_must_be_in(world: World) -> None:
    world.settle(SYMBOLS, WEEK[:-1])
    world.now = datetime(2024, 3, 22, 6, 50, tzinfo=UTC)  # Thursday's close was at 20:00
    assert "no gap is due" in world.tick()
    world.now = datetime(2024, 3, 22, 7, 0, tzinfo=UTC)
    assert world.tick() == ""
    assert world.settled() == len(SYMBOLS) * len(WEEK)
