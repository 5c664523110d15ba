"""Claims about planning: what is asked of vendors and which runs settle which cells."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.grid.cells import Cell, Rectangle, plan_fetches, plan_runs

DATES = [date(2024, 1, 1) + timedelta(days=n) for n in range(6)]
KEYS = ["AAPL", "BRK.B", "MSFT", "NVDA", "XOM"]
cells_on_axes = st.sets(st.builds(Cell, st.sampled_from(DATES), st.sampled_from(KEYS)))
any_cells = st.lists(st.builds(Cell, st.dates(), st.text(min_size=1, max_size=3)))


@given(any_cells)
def test_every_asked_cell_is_in_exactly_one_span_and_none_is_invented(cells: list[Cell]) -> None:
    spans = plan_fetches(cells)
    planned = Counter(Cell(day, span.key) for span in spans for day in span.dates)
    assert planned == Counter(set(cells))
    assert len({span.key for span in spans}) == len(spans)
    assert all(list(span.dates) == sorted(span.dates) for span in spans)


@given(cells_on_axes, st.integers(1, 30))
def test_runs_hold_exactly_the_missing_cells(cells: set[Cell], largest: int) -> None:
    runs = plan_runs(cells, DATES, KEYS, largest)
    assert {cell for run in runs for cell in run} == cells
    assert all(len(run) <= largest for run in runs)


@given(cells_on_axes)
def test_the_sides_of_a_run_are_unbroken_on_the_axes(cells: set[Cell]) -> None:
    for run in plan_runs(cells, DATES, KEYS, 100):
        first_date, first_key = DATES.index(run.dates[0]), KEYS.index(run.keys[0])
        assert list(run.dates) == DATES[first_date : first_date + len(run.dates)]
        assert list(run.keys) == KEYS[first_key : first_key + len(run.keys)]


@given(cells_on_axes)
def test_there_are_never_more_runs_than_stretches_along_the_better_axis(cells: set[Cell]) -> None:
    def stretches(lines: list[list[int]]) -> int:
        return sum(1 for line in lines for n in line if n - 1 not in line)

    by_key = [[DATES.index(c.date) for c in cells if c.key == key] for key in KEYS]
    by_date = [[KEYS.index(c.key) for c in cells if c.date == day] for day in DATES]
    assert len(plan_runs(cells, DATES, KEYS, 100)) <= min(stretches(by_key), stretches(by_date))


def test_a_full_rectangle_is_one_run() -> None:
    whole = Rectangle(tuple(DATES), tuple(KEYS))
    assert plan_runs(whole, DATES, KEYS, 100) == [whole]


def test_a_large_rectangle_is_cut_along_keys_so_that_a_vendor_is_asked_once_per_key() -> None:
    runs = plan_runs(Rectangle(tuple(DATES), tuple(KEYS)), DATES, KEYS, 13)
    assert [run.keys for run in runs] == [("AAPL", "BRK.B"), ("MSFT", "NVDA"), ("XOM",)]
    assert {run.dates for run in runs} == {tuple(DATES)}


def test_newer_dates_are_settled_first() -> None:
    runs = plan_runs({Cell(DATES[0], "AAPL"), Cell(DATES[5], "XOM")}, DATES, KEYS, 10)
    assert [run.dates[0] for run in runs] == [DATES[5], DATES[0]]


def test_cells_off_the_axes_are_not_planned() -> None:
    assert plan_runs({Cell(date(1999, 1, 1), "AAPL"), Cell(DATES[0], "NONE")}, DATES, KEYS, 10) == []
