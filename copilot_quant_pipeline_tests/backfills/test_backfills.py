"""Claims about backfills launched from Dagit, run by Dagster's own backfill daemon."""

from __future__ import annotations

from datetime import date

from dagster._core.execution.plan.objects import UserFailureData

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.grid.axes import partition_key
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline_tests.backfills.conftest import DAEMON_WARNINGS, World

pytestmark = DAEMON_WARNINGS

REFRESH: dict[str, object] = {"ops": {"equity_bars": {"config": {"refresh": True}}}}
CHART = "/v8/finance/chart/{symbol}"
JANUARY = sessions_in_range(date(2024, 1, 10), date(2024, 1, 31))


def _keys(days: list[date], symbols: list[str]) -> list[str]:
    return [partition_key(Cell(day, symbol)) for day in days for symbol in symbols]


def test_a_rectangle_becomes_green_and_asks_the_vendor_once_per_symbol(world: World) -> None:
    symbols = world.fresh_symbols(3)
    keys = _keys(JANUARY, symbols)
    backfill = world.launch(keys)
    assert backfill.status.value == "COMPLETED_SUCCESS"
    assert len(world.runs_of(backfill)) == 3  # a run per line of the shorter side
    assert world.green(symbols) == world.stored(symbols) == set(keys)
    assert world.red(symbols) == set()
    assert world.venues.requests()[CHART] == 3


def test_a_rectangle_over_few_dates_asks_once_per_symbol_though_it_is_a_run_per_date(world: World) -> None:
    symbols = world.fresh_symbols(4)
    backfill = world.launch(_keys(JANUARY[-2:], symbols))
    assert len(world.runs_of(backfill)) == 2
    assert world.venues.requests()[CHART] == 4


def test_a_line_along_the_dates_is_one_run(world: World) -> None:
    symbols = world.fresh_symbols(1)
    keys = _keys(JANUARY, symbols)
    backfill = world.launch(keys)
    assert len(world.runs_of(backfill)) == 1
    assert world.green(symbols) == set(keys)


def test_a_line_along_the_symbols_is_one_run(world: World) -> None:
    symbols = world.fresh_symbols(4)
    keys = _keys(JANUARY[:1], symbols)
    backfill = world.launch(keys)
    assert len(world.runs_of(backfill)) == 1
    assert world.green(symbols) == set(keys)


def test_a_hole_stays_blank_until_it_is_asked_for_and_then_costs_no_request(world: World) -> None:
    symbols = world.fresh_symbols(1)
    hole = _keys([date(2024, 1, 18)], symbols)
    keys = _keys(JANUARY, symbols)
    world.launch([key for key in keys if key not in hole])
    assert world.green(symbols) == world.stored(symbols) == set(keys) - set(hole)
    world.venues.reset_requests()
    world.launch(hole)
    assert world.green(symbols) == world.stored(symbols) == set(keys)
    assert CHART not in world.venues.requests()


def test_one_lost_session_leaves_the_others_green(world: World) -> None:
    symbols = world.fresh_symbols(3)
    world.venues.fault("lost_session", symbol=symbols[1], dates=["2024-01-18"])
    keys = _keys(JANUARY, symbols)
    backfill = world.launch(keys)
    lost = f"2024-01-18|{symbols[1]}"
    assert backfill.status.value == "COMPLETED_FAILED"
    assert world.red(symbols) == {lost}
    assert world.green(symbols) == set(keys) - {lost}
    assert world.reasons(symbols) == {lost: "missing_at_source"}


def test_a_run_that_fails_names_its_failed_cells_and_their_reasons(world: World) -> None:
    symbols = world.fresh_symbols(3)
    world.venues.fault("lost_session", symbol=symbols[1], dates=["2024-01-18"])
    (run,) = world.runs_of(world.launch(_keys([date(2024, 1, 18)], symbols)))
    failure = _failure(world, run.run_id)
    assert failure.description is not None
    assert "1 of 3 cells failed" in failure.description
    assert f"2024-01-18 {symbols[1]}: missing_at_source" in failure.description
    (record,) = failure.metadata["cells"].records
    assert record.data["key"] == symbols[1]


def test_a_symbol_yahoo_does_not_know_is_red_and_the_others_are_green(world: World) -> None:
    symbols = [*world.fresh_symbols(1), "ZZZZ"]
    world.instance.add_dynamic_partitions("symbol", ["ZZZZ"])
    world.launch(_keys(JANUARY[:2], symbols))
    assert world.red(symbols) == set(_keys(JANUARY[:2], ["ZZZZ"]))
    assert world.green(symbols) == set(_keys(JANUARY[:2], symbols[:1]))
    assert set(world.reasons(symbols).values()) == {"unknown_symbol"}


def test_a_red_cell_becomes_green_once_the_venue_has_it(world: World) -> None:
    symbols = world.fresh_symbols(1)
    world.venues.fault("lost_session", symbol=symbols[0], dates=["2024-01-18"])
    world.launch(_keys(JANUARY, symbols))
    world.venues.clear_faults()
    world.launch(_keys([date(2024, 1, 18)], symbols))
    assert world.red(symbols) == set()
    assert world.green(symbols) == set(_keys(JANUARY, symbols))


def test_a_refresh_that_fails_keeps_what_is_stored(world: World) -> None:
    symbols = world.fresh_symbols(1)
    keys = _keys(JANUARY, symbols)
    world.launch(keys)
    world.venues.fault("delisted", symbol=symbols[0])
    world.launch(keys, REFRESH)
    assert world.red(symbols) == set(keys)
    assert world.stored(symbols) == set(keys)


def _failure(world: World, run_id: str) -> UserFailureData:
    for entry in world.instance.all_logs(run_id):
        if entry.dagster_event and entry.dagster_event.is_step_failure:
            data = entry.dagster_event.step_failure_data.user_failure_data
            assert data is not None
            return data
    raise AssertionError("the run has no failed step")
