from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copilot_quant_pipeline.calendar import is_session
from copilot_quant_pipeline.sandbox.hours import opens_of, trading_days
from copilot_quant_pipeline.sandbox.listings import all_listings
from copilot_quant_pipeline.sandbox.market import SimulatedEquities, _walk
from copilot_quant_pipeline.sandbox.series import as_ratio, later_splits, shown

MARKET = SimulatedEquities(seed=7)
SYMBOLS = st.sampled_from(sorted(MARKET.listings))
ONE_OF_EACH = ["AAPL", "NVDA", "GE", "HON", "ODFL", "NWS", "KVUE", "SIVB", "BRK.B", "SPY"]


@given(SYMBOLS)
@settings(max_examples=60, deadline=None)
def test_every_bar_is_one_that_could_have_been_traded(symbol: str) -> None:
    bars = MARKET.truth(symbol)
    prices = np.stack([bars.open, bars.high, bars.low, bars.close])
    assert np.array_equal(prices, np.round(prices, 2))
    assert (prices > 0).all()
    assert (bars.high == prices.max(axis=0)).all()
    assert (bars.low == prices.min(axis=0)).all()
    assert (bars.volume == np.rint(bars.volume)).all()
    assert (bars.volume >= 0).all()
    assert (bars.dividend < bars.close / 10).all()


@given(SYMBOLS, st.integers(1, 3000), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_longer_calendar_never_changes_the_past(symbol: str, sessions: int, seed: int) -> None:
    listing = MARKET.listings[symbol]
    short = _walk(listing, trading_days()[:sessions], seed)
    long = _walk(listing, trading_days(), seed).rows(0, sessions)
    for column in ("open", "high", "low", "close", "dividend"):
        assert np.array_equal(getattr(short, column), getattr(long, column)), column


@pytest.mark.parametrize("symbol", ONE_OF_EACH)
def test_the_same_seed_gives_the_same_market_and_another_seed_another(symbol: str) -> None:
    assert np.array_equal(SimulatedEquities(7).truth(symbol).close, MARKET.truth(symbol).close)
    assert not np.array_equal(SimulatedEquities(8).truth(symbol).close, MARKET.truth(symbol).close)


@given(SYMBOLS, st.dates(date(2015, 1, 2), date(2026, 12, 31)))
@settings(max_examples=60, deadline=None)
def test_undoing_later_splits_gives_back_what_was_traded(symbol: str, through: date) -> None:
    bars = MARKET.truth(symbol, through)
    if not len(bars):
        return
    series = shown(symbol, symbol, bars, opens_of(bars.date))
    later = later_splits(bars.split)
    for column in ("open", "high", "low", "close"):
        assert np.array_equal(np.round(getattr(series, column) * later, 2), getattr(bars, column)), column
    assert np.array_equal(np.rint(series.volume / later), bars.volume)


@given(st.sampled_from(["0.125", "1.061", "1.5", "50", "1.005328"]))
def test_a_split_is_written_as_the_fraction_its_decimals_mean(decimal: str) -> None:
    assert float(as_ratio(float(decimal))) == float(decimal)


def test_the_index_has_about_five_hundred_members_at_any_time() -> None:
    for year in range(2016, 2027):
        assert 480 <= len(MARKET.members(date(year, 6, 1))) <= 520
    assert len(MARKET.members(date(2026, 11, 1))) == 503


def test_every_listing_split_and_departure_happens_on_a_session() -> None:
    for listing in all_listings().values():
        days = [listing.first_session, *listing.splits, *filter(None, [listing.last_session])]
        assert all(is_session(day) for day in days), listing


def test_the_market_has_every_kind_of_company() -> None:
    assert MARKET.truth("KVUE").date[0] == np.datetime64("2023-05-04")
    assert MARKET.truth("SIVB").date[-1] == np.datetime64("2023-03-09")
    assert set(MARKET.truth("GE").split) == {1.0, 0.125}
    assert set(MARKET.truth("HON").split) == {1.0, 1.061}
    idle = MARKET.truth("NWS").volume == 0
    assert 20 < idle.sum() < 500
    thin = MARKET.truth("NWS")
    assert (thin.open[idle] == thin.close[idle]).all()
    payers = sum(bool(MARKET.truth(symbol).dividend.any()) for symbol in MARKET.listings)
    assert payers > 350
    assert 35 <= np.count_nonzero(MARKET.truth("HON", date(2025, 12, 31)).dividend) <= 45
