"""Claims about our adjusted closes against the venue's own: what breaks one answer is found by the other."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.equities.chart import BARS_AS_SENT, VendorBars
from copilot_quant_pipeline.equities.comparison import MOST_TOLD, compare_adjusted_closes
from copilot_quant_pipeline_tests.equities.conftest import as_sent

DAYS = sessions_in_range(date(2023, 1, 3), date(2023, 12, 29))
BROKEN, PAID = 150, 100


def answer(closes: np.ndarray, dividends: np.ndarray, theirs: np.ndarray | None = None) -> VendorBars:
    """An answer of a day after its last bar; the venue's adjusted closes follow from the others unless given."""
    n = len(closes)
    columns = dict.fromkeys(("open", "high", "low", "close"), closes)
    bars = {"date": DAYS[:n], **columns, "adj_close": adjusted(closes, dividends) if theirs is None else theirs}
    bars |= {"volume": np.full(n, 1000.0), "dividend": dividends, "split_ratio": np.ones(n)}
    fetched_at = datetime(2024, 1, 3, 12, tzinfo=UTC)
    return VendorBars("AAPL", pa.table(bars, schema=BARS_AS_SENT), None, DAYS[0], fetched_at.date(), fetched_at)


def adjusted(closes: np.ndarray, dividends: np.ndarray) -> np.ndarray:
    kept = 1 - np.append(dividends[1:] / closes[:-1], 0.0)
    return closes * np.cumprod(kept[::-1])[::-1]


def clean() -> tuple[np.ndarray, np.ndarray]:
    closes = 100 + np.arange(len(DAYS)) * 0.1
    dividends = np.zeros(len(DAYS))
    dividends[[PAID, 200]] = 0.4
    return closes, dividends


def found(broken: VendorBars) -> list[tuple[date, float]]:
    told, _ = compare_adjusted_closes(broken)
    return [(one.last, round(one.factor, 4)) for one in told]


def test_every_recorded_series_agrees_but_for_one_bar(frame: pd.DataFrame) -> None:
    """Of AMCR the recording lists one dividend twice; the bar between the two is off, and no other."""
    told = {symbol: found(as_sent(frame, symbol)) for symbol in frame["Symbol"].unique()}
    assert {symbol: these for symbol, these in told.items() if these} == {"AMCR": [(date(2017, 9, 1), 1.0037)]}


def test_what_is_wrong_in_the_bars_is_found_by_the_venues_own_closes() -> None:
    closes, dividends = clean()
    theirs = adjusted(closes, dividends)
    assert found(answer(closes, dividends)) == []
    times = closes.copy()
    times[BROKEN] *= 100
    assert found(answer(times, dividends, theirs)) == [(DAYS[BROKEN], 100.0)]
    paid = dividends.copy()
    paid[PAID] *= 100
    ((last, factor),) = found(answer(closes, paid, theirs))
    assert (last, factor < 0.7) == (DAYS[PAID - 1], True)
    undivided = closes.copy()  # a split that the bars before it do not show
    undivided[:BROKEN] *= 2
    assert found(answer(undivided, dividends, theirs))[-1][0] == DAYS[BROKEN - 1]
    forgotten = dividends.copy()
    forgotten[PAID] = 0
    assert found(answer(closes, forgotten, theirs)) == [(DAYS[PAID - 1], round(1 / (1 - 0.4 / closes[PAID - 1]), 4))]


def test_a_dividend_the_venue_has_not_adjusted_for_yet_is_no_difference() -> None:
    closes, dividends = clean()
    theirs = adjusted(closes, dividends)
    dividends[-3] = 0.4
    assert found(answer(closes, dividends, theirs)) == []
    dividends[-3] = 40.0
    assert [last for last, _ in found(answer(closes, dividends, theirs))] == [DAYS[-4]]


def test_what_comes_with_or_after_the_provisional_bar_moves_the_history_by_one_factor() -> None:
    closes, dividends = clean()
    whole = answer(closes, dividends, adjusted(closes, dividends) * 0.98)
    assert found(whole) == []
    provisional = replace(whole, fetched_at=datetime(2023, 12, 29, 23, tzinfo=UTC))
    wild = provisional.bars.set_column(5, "adj_close", pa.array([*(closes * 0.9)[:-1], 1.0]))
    told, compared = compare_adjusted_closes(replace(provisional, bars=wild))
    assert compared == (DAYS[0], DAYS[-2])
    assert all(one.last < DAYS[-2] for one in told)


def test_an_answer_without_adjusted_closes_says_nothing() -> None:
    closes, dividends = clean()
    assert compare_adjusted_closes(answer(closes, dividends, np.full(len(DAYS), np.nan))) == ([], None)
    assert compare_adjusted_closes(answer(closes[:0], dividends[:0])) == ([], None)
    assert compare_adjusted_closes(answer(closes[:1], dividends[:1])) == ([], None)


def test_closes_that_agree_nowhere_are_one_finding() -> None:
    closes, dividends = clean()
    (one,) = compare_adjusted_closes(answer(closes, dividends, closes * (1 + 0.1 * (np.arange(len(DAYS)) % 2))))[0]
    assert one.others > MOST_TOLD
    assert "nowhere" in one.said


@given(
    lost=st.sets(st.integers(0, len(DAYS) - 3), max_size=20),
    paid=st.dictionaries(st.integers(1, len(DAYS) - 1), st.floats(0.001, 0.9), max_size=8),
    scale=st.floats(0.01, 1e5),
)
def test_lost_sessions_dividends_and_any_price_level_are_no_difference(
    lost: set[int], paid: dict[int, float], scale: float
) -> None:
    closes, dividends = clean()
    dividends[:] = 0
    for day, share in paid.items():
        dividends[day] = share * closes[day - 1]
    # As the venue has it: what is paid on a lost session is paid on the close before it.
    theirs, before = np.ones(len(DAYS)), 1.0
    held = closes.copy()
    for day in range(len(DAYS) - 2, -1, -1):
        bar = max((n for n in range(day + 1) if n not in lost), default=None)
        before *= 1 - (dividends[day + 1] / closes[bar] if bar is not None else 0.0)
        theirs[day] = before
    held[list(lost)] = np.nan
    assert found(answer(held * scale, dividends * scale, held * scale * theirs)) == []


@pytest.mark.parametrize("close", [0.0, -1.0, np.inf, np.nan])
def test_a_bar_that_cannot_be_is_left_to_others(close: float) -> None:
    closes, dividends = clean()
    theirs = adjusted(closes, dividends)
    closes[BROKEN] = close
    assert found(answer(closes, dividends, theirs)) == []
