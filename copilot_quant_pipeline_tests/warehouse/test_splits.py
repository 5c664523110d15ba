"""Claims about what bars show of the splits that came with them."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.warehouse.splits import SplitDispute, SplitTrace, trace_splits

DAYS = np.array(sessions_in_range(date(2024, 1, 2), date(2024, 3, 28)), dtype="datetime64[D]")
ratios = st.sampled_from([2.0, 4.0, 0.1, 0.125, 1.5, 20.0, 1.061, 1.0105, 3.0, 2 / 3])


def shown(disputes: list[tuple[int, float, float, bool]], stored: np.ndarray, noise: np.ndarray) -> SplitTrace:
    """What closes show of disputes: (where, told, known, divided) each; `noise` is the venue's other changes."""
    came = np.where(np.isnan(stored), 100.0, stored) * noise
    for at, told, known, divided in disputes:
        came[:at] *= 1.0 if divided else told / known
    given = [SplitDispute(DAYS[at].item(), told, known) for at, told, known, _ in disputes]
    return trace_splits(DAYS, stored, came, np.ones(len(DAYS), dtype=bool), given)


@given(st.data())
def test_whatever_was_divided_or_not_the_traded_prices_are_found_again(data: st.DataObject) -> None:
    places = sorted(data.draw(st.sets(st.integers(1, len(DAYS) - 1), min_size=1, max_size=3)))
    # The first bar before each split is stored, of the others some.
    known = set(data.draw(st.sets(st.integers(0, len(DAYS) - 1)))) | {at - 1 for at in places}
    stored = np.array([100.0 if at in known else np.nan for at in range(len(DAYS))])
    disputes = [(at, data.draw(ratios), 1.0, data.draw(st.booleans())) for at in places]
    if data.draw(st.booleans()):  # one that was known is no longer told
        at, told, _, divided = disputes[0]
        disputes[0] = (at, 1.0, told, divided)
    trace = shown(disputes, stored, np.ones(len(DAYS)))
    expected = np.ones(len(DAYS))
    for at, told, before, divided in disputes:
        expected[:at] *= 1.0 if divided else told / before
        assert trace.divided[DAYS[at].item()] is divided
    np.testing.assert_allclose(trace.factors, expected)


@pytest.mark.parametrize("stored_until", [10, 30])
def test_bars_between_two_splits_that_nobody_has_stored_are_told_by_those_before(stored_until: int) -> None:
    stored = np.array([100.0 if at < stored_until else np.nan for at in range(len(DAYS))])
    trace = shown([(30, 2.0, 1.0, False), (40, 4.0, 1.0, True)], stored, np.ones(len(DAYS)))
    assert [*trace.divided.values()] == [True, False]
    assert trace.factors.tolist() == [2.0] * 30 + [1.0] * (len(DAYS) - 30)


def test_a_history_that_is_divided_in_part_is_not_divided_and_each_bar_is_what_it_was() -> None:
    stored = np.full(len(DAYS), 100.0)
    stored[[5, 25]] = np.nan
    partly = np.where(np.arange(len(DAYS)) < 20, 1.0, 0.5)
    partly[40:] = 1.0
    trace = shown([(40, 2.0, 1.0, False)], stored, partly)
    assert trace.divided == {DAYS[40].item(): False}
    assert trace.factors.tolist() == [2.0] * 20 + [1.0] * (len(DAYS) - 20)
    assert trace.rescaling == {DAYS[40].item(): 1.0}


def test_without_a_stored_bar_before_it_nothing_tells_of_a_split() -> None:
    stored = np.full(len(DAYS), np.nan)
    stored[45:] = 100.0
    assert shown([(40, 2.0, 1.0, False)], stored, np.ones(len(DAYS))).divided == {DAYS[40].item(): None}


def test_bars_stored_in_old_shares_after_a_split_leave_it_open() -> None:
    noise = np.where(np.arange(len(DAYS)) >= 40, 0.5, 1.0)
    assert shown([(40, 2.0, 1.0, True)], np.full(len(DAYS), 100.0), noise).divided == {DAYS[40].item(): None}


@pytest.mark.parametrize(("after", "rescaling"), [(50.0, 1.0), (47.0, 1.0), (100.0, 2.0), (97.0, 2.0)])
def test_an_undivided_split_rescales_where_the_traded_prices_do_not_show_it(after: float, rescaling: float) -> None:
    stored = np.where(np.arange(len(DAYS)) < 40, 100.0, after)
    trace = shown([(40, 2.0, 1.0, False)], stored, np.ones(len(DAYS)))
    assert trace.rescaling == {DAYS[40].item(): rescaling}


def test_a_provisional_bar_tells_nothing_of_a_split_where_others_do() -> None:
    stored = np.full(len(DAYS), 100.0)
    stored[39] = 50.0  # divided before anybody told of it
    confirmed = np.arange(len(DAYS)) < 39
    trace = trace_splits(DAYS, stored, np.full(len(DAYS), 100.0), confirmed, [SplitDispute(DAYS[40].item(), 2.0, 1.0)])
    assert (trace.divided, set(trace.factors)) == ({DAYS[40].item(): True}, {1.0})
