"""Claims about which of the newest cells are asked for: pure, at any instant and for any axis."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.calendar import last_completed_session, sessions_in_range
from copilot_quant_pipeline.grid.cells import Cell, Rectangle
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.newest import (
    CATCH_UP,
    Nothing,
    newest_sessions,
    plan_days,
    plan_newcomers,
    plan_sessions,
)

WEEK = sessions_in_range(date(2024, 3, 18), date(2024, 3, 22))
SYMBOLS = ("A", "B", "C", "D")
START = date(2024, 1, 2)

outcomes = st.dictionaries(
    st.builds(Cell, st.sampled_from(WEEK), st.sampled_from(SYMBOLS)), st.sampled_from(["settled", "failed"])
)


@given(outcomes)
def test_every_blank_cell_of_the_last_session_is_asked_for(asked: dict[Cell, str]) -> None:
    planned = plan_sessions(WEEK, SYMBOLS, asked)
    blank = {Cell(WEEK[-1], symbol) for symbol in SYMBOLS} - asked.keys()
    if isinstance(planned, Nothing):
        assert not blank
    else:
        assert blank <= set(planned)
        assert blank


@given(outcomes)
def test_what_is_asked_for_is_one_box_on_the_axes_that_holds_no_session_asked_for_before(
    asked: dict[Cell, str],
) -> None:
    planned = plan_sessions(WEEK, SYMBOLS, asked)
    if isinstance(planned, Rectangle):
        assert planned.dates == tuple(WEEK[-len(planned.dates) :])
        at = SYMBOLS.index(planned.keys[0])
        assert planned.keys == SYMBOLS[at : at + len(planned.keys)]
        assert not {cell.date for cell in asked}.intersection(planned.dates[:-1])
        assert Cell(planned.dates[-1], planned.keys[0]) not in asked


def test_on_a_new_axis_only_the_last_session_is_asked_for() -> None:
    assert plan_sessions(WEEK, SYMBOLS, {}) == Rectangle((WEEK[-1],), SYMBOLS)


def test_a_symbol_that_joined_is_asked_for_alone_and_one_that_failed_not_at_all() -> None:
    asked = {Cell(WEEK[-1], "A"): "settled", Cell(WEEK[-1], "B"): "failed", Cell(WEEK[-1], "C"): "settled"}
    assert plan_sessions(WEEK, SYMBOLS, asked) == Rectangle((WEEK[-1],), ("D",))
    assert plan_sessions(WEEK, SYMBOLS[:3], asked) == Nothing(
        "Every cell of Friday 2024-03-22 was asked for; the 1 that failed are left to healing."
    )


@given(st.dates(date(2024, 1, 4), date(2026, 12, 31)), st.integers(0, 24 * 60 - 1))
def test_the_newest_sessions_end_with_the_last_completed_one(day: date, minute: int) -> None:
    now = datetime.combine(day, time(), UTC) + timedelta(minutes=minute)
    sessions = newest_sessions(now, Settings(home=Path("not there"), equities_start=START))
    last = last_completed_session(now)
    assert sessions == sessions_in_range(max(START, last - CATCH_UP), last)


@pytest.mark.parametrize(
    ("newest", "first"),
    [
        (None, date(2024, 3, 28)),
        (date(2024, 3, 29), date(2024, 3, 28)),
        (date(2024, 3, 28), date(2024, 3, 28)),
        (date(2024, 3, 25), date(2024, 3, 25)),  # off for four days: that day was not over
        (date(2023, 3, 25), date(2024, 2, 28)),  # and not for ever back
    ],
)
def test_the_markets_days_begin_with_yesterday_or_the_newest_day_that_was_asked_for(
    newest: date | None, first: date
) -> None:
    today = date(2024, 3, 29)
    planned = plan_days(today, START, newest, ("m",))
    assert isinstance(planned, Rectangle)
    assert planned.dates == tuple(first + timedelta(days=n) for n in range((today - first).days + 1))


def test_the_markets_days_stay_on_the_grid() -> None:
    assert plan_days(START, START, None, ("m",)) == Rectangle((START,), ("m",))
    assert isinstance(plan_days(START - timedelta(days=1), START, None, ("m",)), Nothing)
    assert isinstance(plan_days(START, START, None, ()), Nothing)


@given(st.sets(st.sampled_from(SYMBOLS)))
def test_exactly_the_newcomers_are_asked_for(known: set[str]) -> None:
    planned = plan_newcomers(WEEK[-2:], SYMBOLS, known, largest=100)
    cells = [cell for rectangle in planned for cell in rectangle]
    assert sorted(cells) == sorted(Cell(day, symbol) for day in WEEK[-2:] for symbol in set(SYMBOLS) - known)
