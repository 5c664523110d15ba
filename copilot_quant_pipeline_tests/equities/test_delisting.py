"""Claims about symbols that Yahoo no longer knows: when that is believed, and what their cells become."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.fetch_result import CELLS
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline_tests.upkeep.healing_world import CHART, World, open_world

NOW = datetime(2024, 3, 22, 11, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WEEK = sessions_in_range(date(2024, 3, 18), date(2024, 3, 21))
GONE, THERE = "ABT", "ABBV"


@pytest.fixture
def world(unused: Settings) -> Iterator[World]:
    """Two symbols with bars to Wednesday, as asked on Thursday; one is gone on Friday."""
    with open_world(unused, NOW - DAY) as world:
        world.settle((THERE, GONE), WEEK[:-1])
        world.now = NOW
        world.venues.pin_clock(NOW)
        world.venues.fault("delisted", symbol=GONE)
        yield world


def _cells(world: World, symbol: str = GONE) -> dict[date, tuple[str, str | None]]:
    rows = world.warehouse.coverage("equities", [symbol]).to_pylist()
    return {row["date"]: (row["outcome"], row["reason"]) for row in rows}


def test_looks_of_two_sessions_are_not_believed(world: World) -> None:
    world.settle((THERE, GONE), WEEK[-1:])
    world.now += 3 * DAY  # Monday morning: Friday's session is over
    world.settle((THERE, GONE), WEEK[-1:])
    assert _cells(world)[WEEK[-1]] == ("failed", "unknown_symbol")
    assert _cells(world, THERE)[WEEK[-1]] == ("settled", None)


def test_healing_finds_it_out_by_itself(world: World) -> None:
    world.settle((THERE, GONE), WEEK[-1:])
    world.let_pass(4 * DAY, every=12 * HOUR)  # to Tuesday
    assert world.red() == {}
    assert _cells(world)[WEEK[-1]] == ("settled", "delisted")


def test_its_last_bar_which_nobody_will_revise_is_final(world: World) -> None:
    finals = f"select date from equities.bars where symbol = '{GONE}' and confirmed_at is null"  # noqa: S608
    assert world.warehouse.read(finals).to_pylist() == [{"date": WEEK[-2]}]
    world.settle((THERE, GONE), WEEK[-2:])
    assert _cells(world)[WEEK[-2]] == ("failed", "unknown_symbol")
    for days in (3, 1):
        world.now += days * DAY
        world.settle((THERE, GONE), WEEK[-2:])
    assert world.red() == {}
    assert world.warehouse.read(finals).num_rows == 0
    assert world.warehouse.read("from ops.restatements").num_rows == 0


def test_looks_of_three_sessions_settle_it_from_the_session_after_its_last_bar_on(world: World) -> None:
    for days in (0, 3, 1):
        world.now += days * DAY
        world.settle((THERE, GONE), WEEK[-1:])
    assert _cells(world) == {**dict.fromkeys(WEEK[:-1], ("settled", None)), WEEK[-1]: ("settled", "delisted")}
    # Its later sessions follow without asking.
    world.venues.reset_requests()
    world.now += DAY
    friday = date(2024, 3, 22)
    world.settle((THERE, GONE), [friday])
    assert _cells(world)[friday] == ("settled", "delisted")
    assert world.venues.requests()[CHART] == 1  # for the other symbol


def test_after_a_week_it_is_asked_for_again_and_what_was_taken_for_delisted_heals(world: World) -> None:
    for days in (0, 3, 1):
        world.now += days * DAY
        world.settle((THERE, GONE), WEEK[-1:])
    world.venues.clear_faults()
    world.let_pass(6 * DAY, every=DAY)
    missed = {WEEK[-1], *sessions_in_range(date(2024, 3, 22), date(2024, 3, 28))}
    assert {day for day, cell in _cells(world).items() if cell == ("settled", "delisted")} == missed
    world.let_pass(6 * DAY, every=DAY / 2)  # to the Sunday after Easter
    assert list(_cells(world)) == sessions_in_range(WEEK[0], date(2024, 4, 5))
    assert set(_cells(world).values()) == {("settled", None)}


def test_a_symbol_that_never_had_a_bar_stays_unknown(world: World) -> None:
    for _ in range(3):
        world.settle(("ZZZZ",), WEEK[-1:])
        world.now += DAY
    assert _cells(world, "ZZZZ") == {WEEK[-1]: ("failed", "unknown_symbol")}


def test_another_answer_between_the_two_tries_starts_anew(world: World) -> None:
    world.settle((GONE,), WEEK[-1:])
    world.now += 12 * HOUR
    world.venues.clear_faults()
    world.venues.fault("lost_session", dates=[WEEK[-1].isoformat()])
    world.settle((GONE,), WEEK[-2:])  # Wednesday is there again, Thursday is missing
    world.venues.fault("delisted", symbol=GONE)
    for days in (3, 1):
        world.now += days * DAY
        world.settle((GONE,), WEEK[-1:])
        assert _cells(world)[WEEK[-1]] == ("failed", "unknown_symbol")
    world.now += DAY
    world.settle((GONE,), WEEK[-1:])
    assert _cells(world)[WEEK[-1]] == ("settled", "delisted")


def test_while_yahoo_knows_none_of_them_none_is_delisted_and_all_heal_once_it_is_back(world: World) -> None:
    world.venues.fault("delisted")
    world.settle((THERE, GONE), WEEK[-1:])
    world.let_pass(6 * DAY, every=12 * HOUR)  # to Thursday
    asked = sessions_in_range(WEEK[-1], date(2024, 3, 27))
    assert world.red() == {(day, key): "unavailable" for day in asked for key in (THERE, GONE)}
    world.venues.clear_faults()
    world.let_pass(DAY, every=12 * HOUR)
    assert world.red() == {}
    assert set(_cells(world).values()) | set(_cells(world, THERE).values()) == {("settled", None)}
    assert world.warehouse.read("from equities.unknown_looks").num_rows == 0


def test_what_an_earlier_version_took_for_delisted_in_an_outage_is_asked_for_again(world: World) -> None:
    for key in (THERE, GONE):
        cell = {"date": WEEK[-1], "key": key, "outcome": "settled", "reason": "delisted", "fetched_at": NOW}
        cells = pa.Table.from_pylist([cell], CELLS)
        world.warehouse.settle(BARS, cells, BARS.arrow.empty_table(), run_id="of old")
    world.venues.clear_faults()
    world.tick()
    assert world.red() == {}
    assert _cells(world)[WEEK[-1]] == _cells(world, THERE)[WEEK[-1]] == ("settled", None)
