"""Claims about the planner: it covers exactly what is wanted, with few boxes, newest first, always the same ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from copilot_quant_pipeline.grid.cells import Cell, Rectangle, plan_runs
from copilot_quant_pipeline.grid.covering import Box, plan_cover

Place = tuple[int, int]

FIRST = date(2020, 1, 1)


def _matrix(places: Iterable[Place], height: int, width: int) -> np.ndarray:
    matrix = np.zeros((height, width), dtype=bool)
    for row, column in places:
        matrix[row, column] = True
    return matrix


@st.composite
def grids(draw: st.DrawFn, highest: int, widest: int) -> np.ndarray:
    """Any matrix; full ones with holes as often as empty ones with marks."""
    height, width = draw(st.integers(1, highest)), draw(st.integers(1, widest))
    some = draw(st.sets(st.tuples(st.integers(0, height - 1), st.integers(0, width - 1))))
    matrix = _matrix(some, height, width)
    return ~matrix if draw(st.booleans()) else matrix


def _held(boxes: Iterable[Box]) -> Counter[Place]:
    return Counter((row, column) for box in boxes for row in box.rows for column in box.columns)


def _wanted(matrix: np.ndarray) -> set[Place]:
    return {(int(row), int(column)) for row, column in zip(*np.nonzero(matrix), strict=True)}


def _optimum(wanted: frozenset[Place]) -> int:
    """The fewest boxes, by trying: through the first uncovered place, every box that fits, one more box at a time."""

    @cache
    def through(place: Place) -> tuple[frozenset[Place], ...]:
        rows, columns = ({p[axis] for p in wanted} for axis in (0, 1))
        sides = [(a, b, c, d) for a in rows for b in rows for c in columns for d in columns]
        boxes = {
            frozenset((r, k) for r in range(a, b + 1) for k in range(c, d + 1))
            for a, b, c, d in sides
            if a <= place[0] <= b and c <= place[1] <= d
        }
        fitting = [box for box in boxes if box <= wanted]
        return tuple(box for box in fitting if not any(box < other for other in fitting))

    @cache
    def coverable(left: frozenset[Place], boxes: int) -> bool:
        if not left:
            return True
        return boxes > 0 and any(coverable(left - box, boxes - 1) for box in through(min(left)))

    count = 0
    while not coverable(wanted, count):
        count += 1
    return count


@given(grids(12, 12))
def test_boxes_cover_exactly_what_is_wanted(matrix: np.ndarray) -> None:
    assert set(_held(plan_cover(matrix))) == _wanted(matrix)


@settings(max_examples=150, deadline=None)
@given(grids(5, 5))
def test_a_small_grid_takes_as_few_boxes_as_any_cover_could(matrix: np.ndarray) -> None:
    assert len(plan_cover(matrix)) == _optimum(frozenset(_wanted(matrix)))


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([0.5, 0.7, 0.8]))
def test_scattered_holes_take_at_most_half_as_many_boxes_again_as_the_best_cover(random, share: float) -> None:  # type: ignore[no-untyped-def]
    matrix = np.array([[random.random() < share for _ in range(7)] for _ in range(6)])
    assert len(plan_cover(matrix)) <= 1.5 * _optimum(frozenset(_wanted(matrix)))


@given(grids(10, 10))
def test_there_are_never_more_boxes_than_stretches_along_either_side(matrix: np.ndarray) -> None:
    wanted = _wanted(matrix)
    along = sum((row, column - 1) not in wanted for row, column in wanted)
    across = sum((row - 1, column) not in wanted for row, column in wanted)
    assert len(plan_cover(matrix)) <= min(along, across)


@given(grids(10, 10))
def test_no_box_could_be_left_out(matrix: np.ndarray) -> None:
    boxes = plan_cover(matrix)
    times = _held(boxes)
    assert all(any(times[place] == 1 for place in _held([box])) for box in boxes)


@given(grids(8, 8))
def test_the_same_matrix_gives_the_same_boxes(matrix: np.ndarray) -> None:
    assert plan_cover(matrix) == plan_cover(matrix.copy())


def test_a_lost_session_and_a_lost_symbol_are_two_runs_though_they_cross() -> None:
    dates = [FIRST + timedelta(days=n) for n in range(9)]
    keys = [f"S{n}" for n in range(9)]
    lost = {Cell(dates[4], key) for key in keys} | {Cell(day, "S3") for day in dates}
    runs = plan_runs(lost, dates, keys, 1_000)
    assert {cell for run in runs for cell in run} == lost
    assert len(runs) == 2


def test_boxes_do_not_overlap_where_that_saves_none() -> None:
    # An L can be two boxes that overlap in the corner, or two that do not.
    boxes = plan_cover(_matrix([(0, 0), (1, 0), (2, 0), (2, 1), (2, 2)], 3, 3))
    assert max(_held(boxes).values()) == 1
    assert len(boxes) == 2


def test_a_ring_around_a_hole_is_four_runs() -> None:
    ring = np.ones((5, 5), dtype=bool)
    ring[2, 2] = False
    assert len(plan_cover(ring)) == 4


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 5))), st.integers(1, 20))
def test_runs_come_newest_first_and_are_never_too_large(places: set[Place], largest: int) -> None:
    dates = [FIRST + timedelta(days=n) for n in range(8)]
    keys = [f"S{n}" for n in range(6)]
    runs = plan_runs({Cell(dates[d], keys[k]) for d, k in places}, dates, keys, largest)
    assert [run.dates[-1] for run in runs] == sorted((run.dates[-1] for run in runs), reverse=True)
    assert all(len(run) <= largest for run in runs)


def test_half_a_million_cells_are_planned_with_their_holes() -> None:
    # 500 symbols x 1,250 sessions: a symbol in ten begins late, some sessions are lost, some cells are there already.
    random = np.random.default_rng(7)
    matrix = np.ones((500, 1_250), dtype=bool)
    for late in range(0, 500, 10):
        matrix[late, : int(random.integers(1_000))] = False
    matrix[random.integers(0, 500, 1_000), random.integers(0, 1_250, 1_000)] = False
    covered = np.zeros_like(matrix)
    boxes = plan_cover(matrix)
    for box in boxes:
        covered[box.rows.start : box.rows.stop, box.columns.start : box.columns.stop] = True
    assert (covered == matrix).all()
    assert len(boxes) < 3 * 1_050


def test_a_checkerboard_of_fifty_thousand_is_as_many_boxes() -> None:
    board = np.indices((320, 320)).sum(axis=0) % 2 == 0
    assert len(plan_cover(board)) == board.sum()


def test_the_whole_grid_is_one_run() -> None:
    dates = tuple(FIRST + timedelta(days=n) for n in range(1_250))
    keys = tuple(f"S{n}" for n in range(500))
    whole = Rectangle(dates, keys)
    assert plan_runs(whole, dates, keys, 1_000_000) == [whole]
