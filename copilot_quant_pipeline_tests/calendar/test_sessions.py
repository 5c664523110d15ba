"""Claims about exchange sessions; the dates are New York's own, checked against the exchange's published hours."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from copilot_quant_pipeline import calendar


@pytest.mark.parametrize(
    ("day", "open_"),
    [
        (date(2024, 3, 28), True),
        (date(2024, 3, 29), False),  # Good Friday
        (date(2024, 3, 30), False),  # a Saturday
        (date(2018, 12, 5), False),  # a day of mourning
        (date(2024, 11, 29), True),  # a half-day
        (date(2022, 6, 20), False),  # Juneteenth, observed
        (date(2021, 6, 18), True),  # Juneteenth was no holiday yet
    ],
)
def test_sessions_are_the_days_the_exchange_opened(day: date, open_: bool) -> None:
    assert calendar.is_session(day) is open_


def test_sessions_in_a_range_include_both_ends() -> None:
    found = calendar.sessions_in_range(date(2024, 3, 28), date(2024, 4, 2))
    assert found == [date(2024, 3, 28), date(2024, 4, 1), date(2024, 4, 2)]


def test_a_range_without_sessions_is_empty() -> None:
    assert calendar.sessions_in_range(date(2024, 3, 29), date(2024, 3, 31)) == []


def test_neighbouring_sessions_skip_holidays_and_weekends() -> None:
    assert calendar.previous_session(date(2024, 4, 1)) == date(2024, 3, 28)
    assert calendar.next_session(date(2024, 3, 28)) == date(2024, 4, 1)
    assert calendar.previous_session(date(2001, 9, 17)) == date(2001, 9, 10)


@pytest.mark.parametrize(
    ("now", "session"),
    [
        (datetime(2024, 3, 28, 19, 59, 59, tzinfo=UTC), date(2024, 3, 27)),
        (datetime(2024, 3, 28, 20, 0, tzinfo=UTC), date(2024, 3, 28)),
        (datetime(2024, 1, 5, 20, 30, tzinfo=UTC), date(2024, 1, 4)),  # winter: the close is 21:00 UTC
        (datetime(2024, 11, 29, 18, 0, tzinfo=UTC), date(2024, 11, 29)),  # a half-day closes at 13:00
        (datetime(2024, 11, 29, 17, 59, tzinfo=UTC), date(2024, 11, 27)),
        (datetime(2024, 4, 1, 12, 0, tzinfo=UTC), date(2024, 3, 28)),  # the morning after a long weekend
    ],
)
def test_a_session_is_completed_once_its_close_has_passed(now: datetime, session: date) -> None:
    assert calendar.last_completed_session(now) == session


def test_the_close_of_a_day_without_a_session_is_refused() -> None:
    with pytest.raises(ValueError, match="no session"):
        calendar.session_close(date(2024, 3, 29))


def test_holidays_are_closed_weekdays_only() -> None:
    assert calendar.holidays(date(2024, 3, 25), date(2024, 5, 31)) == [date(2024, 3, 29), date(2024, 5, 27)]
