"""The choice of histories that are read again."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.equities.verification import PARTS, part_of_week, plan_part

symbols = st.sets(st.text("ABCDEFG.", min_size=1, max_size=5))
days = st.dates(date(2020, 1, 1), date(2060, 1, 1))


@given(symbols)
def test_every_symbol_has_one_part(names: set[str]) -> None:
    parts = [plan_part(names, part) for part in range(PARTS)]
    assert sorted(symbol for part in parts for symbol in part) == sorted(names)


@given(symbols, symbols)
def test_other_symbols_do_not_move_one_to_another_part(names: set[str], others: set[str]) -> None:
    for part in range(PARTS):
        assert set(plan_part(names, part)) == set(plan_part(names | others, part)) & names


@given(days)
def test_in_sixteen_weeks_every_part_has_its_turn_whatever_year_ends_between(day: date) -> None:
    assert {part_of_week(day + timedelta(weeks=week)) for week in range(PARTS)} == set(range(PARTS))


@given(days)
def test_a_week_is_one_part_from_monday_to_sunday(day: date) -> None:
    monday = day - timedelta(days=day.weekday())
    assert len({part_of_week(monday + timedelta(days=n)) for n in range(7)}) == 1
    assert part_of_week(monday) != part_of_week(monday - timedelta(days=1))
