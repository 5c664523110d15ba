"""Claims about when a failed cell is asked for again: a function of what was tried, and of nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.upkeep.healing import next_try_at, plan_due
from copilot_quant_pipeline.warehouse.fetch_result import FAILURES, GIVEN_UP, PASSING
from copilot_quant_pipeline.warehouse.gaps import Tries

NOW = datetime(2024, 3, 22, 11, 0, tzinfo=UTC)

reasons = st.sampled_from(FAILURES)
histories = st.builds(
    lambda reason, telling, passing, ago: Tries(reason, telling + passing, passing, NOW - timedelta(minutes=ago)),
    reasons,
    st.integers(0, 50),
    st.integers(0, 500),
    st.integers(0, 10_000),
).filter(lambda tries: tries.attempts > 0)


def _waited(tries: Tries) -> timedelta:
    at = next_try_at(tries)
    assert at is not None
    return at - tries.fetched_at


def test_waiting_grows_from_ten_minutes_to_a_day() -> None:
    waits = [_waited(Tries("missing_at_source", n, 0, NOW)) / timedelta(minutes=1) for n in range(1, 8)]
    assert waits == [10, 40, 160, 640, 1_440, 1_440, 1_440]


def test_eight_tries_span_a_lost_long_weekend() -> None:
    waits = [_waited(Tries("missing_at_source", n, 0, NOW)) for n in range(1, 8)]
    assert sum(waits, timedelta()) > timedelta(days=3.5)


@pytest.mark.parametrize("reason", PASSING)
def test_a_venue_that_is_out_of_reach_is_tried_again_within_the_hour(reason: str) -> None:
    waits = [_waited(Tries(reason, n, n, NOW)) / timedelta(minutes=1) for n in (1, 2, 3, 100)]
    assert waits == [10, 40, 60, 60]


def test_tries_that_said_nothing_of_the_cell_do_not_lengthen_its_waiting() -> None:
    assert _waited(Tries("missing_at_source", 61, 60, NOW)) == timedelta(minutes=10)


@given(histories)
def test_nobody_waits_less_than_ten_minutes_or_more_than_a_day(tries: Tries) -> None:
    assert timedelta(minutes=10) <= _waited(tries) <= timedelta(hours=24)


@given(st.sets(histories), st.integers(0, 3_000))
def test_what_is_due_stays_due(tries: set[Tries], minutes: int) -> None:
    assert set(plan_due(tries, NOW)) <= set(plan_due(tries, NOW + timedelta(minutes=minutes)))


def test_what_was_given_up_is_never_due() -> None:
    assert plan_due([Tries(GIVEN_UP, 8, 0, NOW - timedelta(days=900))], NOW) == []
