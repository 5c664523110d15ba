"""What each asked cell becomes, and prices as they were on their day."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.equities.bars import SettledBars, round_to_quoted, settle_span, undo_later_splits
from copilot_quant_pipeline.equities.chart import BARS_AS_SENT, VendorBars
from copilot_quant_pipeline.errors import BeforeFirstBar, NotFound, RateLimited, VendorError
from copilot_quant_pipeline.grid.cells import Span
from copilot_quant_pipeline.warehouse.fetch_result import CELLS, EMPTY_REASONS, FAILURES
from copilot_quant_pipeline.warehouse.tables import BARS

NOW = datetime(2024, 3, 28, 22, tzinfo=UTC)
DAYS = sessions_in_range(date(2024, 3, 18), date(2024, 3, 28))
GOOD = {
    "open": 10.0,
    "high": 11.0,
    "low": 9.0,
    "close": 10.5,
    "volume": 100.0,
    "dividend": 0.0,
    "split_ratio": 1.0,
}


def answer(bars: list[dict[str, Any]], listed: date | None = None, start: date = date(2024, 1, 2)) -> VendorBars:
    """An answer with these bars, each `GOOD` but for what it says."""
    rows = [{**GOOD, "adj_close": 1.0, **bar} for bar in bars]
    return VendorBars("AAPL", pa.Table.from_pylist(rows, schema=BARS_AS_SENT), listed, start, NOW.date(), NOW)


def on(days: list[date], **changes: Any) -> list[dict[str, Any]]:
    return [{"date": day, **changes} for day in days]


def settled(given: VendorBars | VendorError, days: list[date] = DAYS) -> SettledBars:
    return settle_span(Span("AAPL", tuple(days)), given, now=NOW, source="yahoo")


def fates(outcome: SettledBars) -> list[str]:
    return [row["reason"] or row["outcome"] for row in outcome.cells.to_pylist()]


def test_good_bars_settle_their_cells() -> None:
    outcome = settled(answer(on(DAYS)))
    assert fates(outcome) == ["settled"] * len(DAYS)
    assert (outcome.cells.schema, outcome.rows.schema) == (CELLS, BARS.arrow)
    BARS.validated(outcome.rows)
    assert outcome.rows.to_pylist()[0] == {
        "date": DAYS[0],
        "symbol": "AAPL",
        **GOOD,
        "confirmed_at": NOW,
        "quality": "ok",
        "source": "yahoo",
        "first_seen_at": NOW,
    }


def test_only_what_was_asked_comes_back() -> None:
    outcome = settled(answer(on(DAYS)), [DAYS[2], DAYS[4]])
    assert outcome.cells.column("date").to_pylist() == outcome.rows.column("date").to_pylist() == [DAYS[2], DAYS[4]]


def test_a_bar_is_final_once_a_later_session_is_over() -> None:
    assert settled(answer(on(DAYS))).rows.column("confirmed_at").to_pylist() == [NOW] * (len(DAYS) - 1) + [None]


def test_dates_before_the_listing_are_settled_without_rows() -> None:
    outcome = settled(answer(on(DAYS[3:]), listed=DAYS[3]))
    assert fates(outcome) == ["not_listed"] * 3 + ["settled"] * (len(DAYS) - 3)
    assert outcome.rows.num_rows == len(DAYS) - 3


def test_where_yahoo_does_not_say_the_first_bar_of_a_longer_window_is_the_listing() -> None:
    assert fates(settled(answer(on(DAYS[3:])))) == ["not_listed"] * 3 + ["settled"] * (len(DAYS) - 3)


def test_a_listing_in_the_future_makes_the_empty_window_not_listed() -> None:
    assert set(fates(settled(answer([], listed=date(2024, 4, 2))))) == {"not_listed"}


def test_a_session_that_yahoo_lost_is_missing_at_the_source() -> None:
    first, second = on(DAYS[:2]), on(DAYS[3:])
    assert fates(settled(answer(first + second)))[2] == "missing_at_source"
    nulls = on([DAYS[2]], open=None, high=None, low=None, close=None, volume=None)
    outcome = settled(answer(first + nulls + second))
    assert fates(outcome)[2] == "missing_at_source"
    assert DAYS[2] not in outcome.rows.column("date").to_pylist()


def test_the_first_sessions_of_a_listed_symbol_are_missing_not_unlisted() -> None:
    assert fates(settled(answer(on(DAYS[2:]), listed=DAYS[0])))[:3] == ["missing_at_source"] * 2 + ["settled"]


def test_sessions_after_the_last_bar_are_missing_at_the_source() -> None:
    assert fates(settled(answer(on(DAYS[:-2]))))[-3:] == ["settled"] + ["missing_at_source"] * 2


def test_an_answer_without_anything_says_nothing_about_a_listing() -> None:
    assert set(fates(settled(answer([])))) == {"missing_at_source"}


IMPOSSIBLE = [
    {"open": None},
    {"close": math.inf},
    {"volume": None},
    {"volume": -1.0},
    {"volume": 1e30},
    {"low": -9.0},
    {"high": 0.0},
    {"close": 0.0},
    {"dividend": -0.5},
    {"dividend": math.inf},
]


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_an_impossible_bar_is_malformed_and_the_others_go_on(change: dict[str, Any]) -> None:
    bars = on(DAYS)
    bars[-1].update(change)
    outcome = settled(answer(bars))
    assert fates(outcome) == ["settled"] * (len(DAYS) - 1) + ["malformed_bar"]
    detail = outcome.cells.column("detail").to_pylist()
    assert detail[:-1] == [None] * (len(DAYS) - 1)
    for name, value in change.items():
        assert f"{name}={'nan' if value is None else repr(value)}" in detail[-1]


@pytest.mark.parametrize("ratio", [0.0, -4.0, math.inf, None])
def test_an_impossible_split_leaves_no_bar_before_it_that_could_be_trusted(ratio: float | None) -> None:
    bars = on(DAYS)
    bars[2]["split_ratio"] = ratio
    assert fates(settled(answer(bars))) == ["malformed_bar"] * 3 + ["settled"] * (len(DAYS) - 3)


def test_a_date_that_comes_twice_is_malformed_with_both_bars() -> None:
    outcome = settled(answer(on(DAYS[:2]) + on([DAYS[1]], close=10.7) + on(DAYS[2:])))
    assert fates(outcome) == ["settled", "malformed_bar"] + ["settled"] * (len(DAYS) - 2)
    assert "close=10.5 " in outcome.cells.column("detail")[1].as_py()
    assert "close=10.7 " in outcome.cells.column("detail")[1].as_py()


def test_a_bar_on_a_day_without_session_is_malformed_and_spoils_no_other() -> None:
    saturday = date(2024, 3, 23)
    bars = answer(sorted(on(DAYS) + on([saturday]), key=lambda bar: bar["date"]))
    assert fates(settled(bars, [saturday])) == ["malformed_bar"]
    assert set(fates(settled(bars))) == {"settled"}


def test_a_bar_without_volume_or_with_all_prices_equal_is_good() -> None:
    bars = on(DAYS, volume=0.0, open=10.0, high=10.0, low=10.0, close=10.0)
    assert set(fates(settled(answer(bars)))) == {"settled"}


@pytest.mark.parametrize(
    ("change", "quality"),
    [
        ({"close": 11.0 * (1 + 5e-7)}, "ok"),
        ({"close": 11.1}, "ohlc_inconsistent"),
        ({"open": 8.9}, "ohlc_inconsistent"),
        ({"high": 9.0, "low": 11.0}, "ohlc_inconsistent"),
    ],
)
def test_a_close_or_open_outside_the_range_is_stored_as_sent_and_marked(change: dict[str, Any], quality: str) -> None:
    rows = settled(answer(on(DAYS, **change))).rows
    assert set(rows.column("quality").to_pylist()) == {quality}
    for name, value in change.items():
        assert rows.column(name)[0].as_py() == pytest.approx(value, rel=5e-7)


@pytest.mark.parametrize("error", [NotFound("gone"), RateLimited("slow down"), BeforeFirstBar("not yet")])
def test_an_error_is_every_cells(error: VendorError) -> None:
    outcome = settled(error)
    assert fates(outcome) == [error.reason] * len(DAYS)
    assert set(outcome.cells.column("detail").to_pylist()) == {str(error)}
    assert outcome.rows.num_rows == 0
    assert (outcome.cells.schema, outcome.rows.schema) == (CELLS, BARS.arrow)


def test_a_split_and_a_spin_off_are_undone_for_the_days_before_them() -> None:
    bars = [
        {"date": DAYS[0], "dividend": 0.05},
        {"date": DAYS[1], "split_ratio": 4.0, "dividend": 0.1},
        {"date": DAYS[2], "split_ratio": 1.061},
        {"date": DAYS[3]},
    ]
    traded = undo_later_splits(answer(bars)).to_pylist()
    assert [row["close"] for row in traded] == [44.562, 11.1405, 10.5, 10.5]
    assert [row["volume"] for row in traded] == [24.0, 94.0, 100.0, 100.0]
    assert [row["dividend"] for row in traded] == [0.2122, 0.1061, 0.0, 0.0]


def test_a_split_on_a_lost_session_is_undone_all_the_same() -> None:
    lost = {
        "date": DAYS[1],
        "split_ratio": 2.0,
        "open": None,
        "high": None,
        "low": None,
        "close": None,
        "volume": None,
    }
    outcome = settled(answer([{"date": DAYS[0]}, lost, {"date": DAYS[2]}]), DAYS[:3])
    assert fates(outcome) == ["settled", "missing_at_source", "settled"]
    assert outcome.rows.column("close").to_pylist() == [21.0, 10.5]


prices = st.floats(1e-4, 1e6).map(lambda value: float(np.float32(value)))
ratios = st.sampled_from([1.0, 1.0, 1.0, 2.0, 4.0, 10.0, 0.125, 1.5, 1.061])


@given(st.lists(st.tuples(prices, ratios), min_size=1, max_size=len(DAYS)))
def test_redoing_the_splits_gives_back_what_was_sent(sent: list[tuple[float, float]]) -> None:
    bars = [
        {"date": day, "close": price, "volume": 1e6, "split_ratio": ratio}
        for day, (price, ratio) in zip(DAYS, sent, strict=False)
    ]
    traded = undo_later_splits(answer(bars)).to_pylist()
    for position, (price, _) in enumerate(sent):
        later = math.prod(ratio for _, ratio in sent[position + 1 :])
        assert traded[position]["close"] / later == pytest.approx(price, rel=1e-6)
        assert traded[position]["volume"] * later == pytest.approx(1e6, abs=later)


@given(st.lists(st.floats(1e-9, 1e12), min_size=2, max_size=50))
def test_rounding_keeps_order_and_stays_within_half_a_millionth(values: list[float]) -> None:
    ascending = np.sort(np.array(values))
    rounded = round_to_quoted(ascending)
    assert (np.diff(rounded) >= 0).all()
    np.testing.assert_allclose(rounded, ascending, rtol=5.0001e-7)


@given(st.integers(1, 99_999_99), st.integers(0, 4))
def test_a_quoted_price_comes_back_from_single_precision(digits: int, places: int) -> None:
    quoted = digits / 10**places
    assert round_to_quoted(np.array([float(np.float32(quoted))]))[0] == quoted


def test_zero_and_what_is_no_number_are_left_alone() -> None:
    odd = np.array([0.0, math.nan, math.inf, -math.inf, -1.23456789])
    np.testing.assert_array_equal(round_to_quoted(odd), [0.0, math.nan, math.inf, -math.inf, -1.234568])


values = st.one_of(st.none(), st.sampled_from([0.0, -1.0, math.inf, 8.0, 10.0, 12.0]))
bars_as_sent = st.lists(
    st.fixed_dictionaries(
        {"date": st.dates(date(2024, 3, 14), date(2024, 3, 28))},
        optional=dict.fromkeys(("open", "high", "low", "close", "volume", "split_ratio"), values),
    ),
    max_size=12,
)


@given(
    bars_as_sent,
    st.sets(st.dates(date(2024, 3, 14), date(2024, 3, 28)), min_size=1),
    st.one_of(st.none(), st.dates(date(2024, 3, 10), date(2024, 4, 1))),
    st.timedeltas(timedelta(0), timedelta(days=10)),
)
def test_every_asked_cell_comes_back_exactly_once_with_a_row_or_a_reason(
    bars: list[dict[str, Any]], asked: set[date], listed: date | None, start: timedelta
) -> None:
    given = answer(sorted(bars, key=lambda bar: bar["date"]), listed, date(2024, 3, 14) - start)
    outcome = settled(given, sorted(asked))
    cells = outcome.cells.to_pylist()
    assert [cell["date"] for cell in cells] == sorted(asked)
    for row in outcome.rows.to_pylist():
        numbers = [row[name] for name in GOOD]
        assert all(math.isfinite(number) and number >= 0 for number in numbers)
    with_row = {row["date"] for row in outcome.rows.to_pylist()}
    for cell in cells:
        if cell["outcome"] == "settled":
            assert (cell["date"] in with_row) == (cell["reason"] is None)
            assert cell["reason"] is None or cell["reason"] in EMPTY_REASONS
        else:
            assert cell["reason"] in FAILURES
            assert cell["date"] not in with_row
