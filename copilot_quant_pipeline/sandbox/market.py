"""The simulated market: what was really traded, session by session.

Here: as-traded daily bars with dividends and splits, a pure function of seed, symbol and session.
Not here: what a vendor makes of them (series.py) and when a session opens (hours.py).

Random numbers are drawn session by session from the market's first session on, so a longer calendar extends a
symbol's past and never changes it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from datetime import date
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from copilot_quant_pipeline.sandbox.hours import trading_days
from copilot_quant_pipeline.sandbox.listings import NON_PAYERS, THINLY_TRADED, Listing, all_listings, trait

Floats = npt.NDArray[np.floating[Any]]
Days = npt.NDArray[np.datetime64]

DAILY_VOLATILITY = 0.013
DAILY_DRIFT = 0.0003
LOWEST_PRICE = 0.05


@dataclass(frozen=True)
class TradedBars:
    """Bars as traded, one row per session, ascending.

    `date` is datetime64[D]; prices are US dollars in whole cents as float64; `volume` whole shares as
    float64; `dividend` is dollars per share as paid on its ex-date, 0 where none; `split` is new shares per
    old share, 1 where none.
    """

    date: Days
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    dividend: Floats
    split: Floats

    def __len__(self) -> int:
        return len(self.date)

    def rows(self, start: int, end: int) -> Self:
        """The bars at positions `start` to `end` (exclusive)."""
        return type(self)(*(getattr(self, field.name)[start:end] for field in fields(self)))


class SimulatedEquities:
    """The simulated market of one seed."""

    def __init__(self, seed: int = 7) -> None:
        self.listings = all_listings()
        self._seed = seed
        self._bars = lru_cache(maxsize=1024)(self._simulate)

    def truth(self, symbol: str, through: date | None = None) -> TradedBars:
        """What was traded in `symbol` (`BRK.B`) through the session `through` (default: all known ones).

        Raises:
            KeyError: The market has no such symbol.
        """
        bars = self._bars(symbol)
        if through is None:
            return bars
        return bars.rows(0, int(np.searchsorted(bars.date, np.datetime64(through), side="right")))

    def members(self, day: date) -> list[Listing]:
        """The index's members on `day`, by symbol."""
        found = [listing for listing in self.listings.values() if listing.is_member(day)]
        return sorted(found, key=lambda listing: listing.symbol)

    def _simulate(self, symbol: str) -> TradedBars:
        listing = self.listings[symbol]
        bars = _walk(listing, trading_days(), self._seed)
        low = np.searchsorted(bars.date, np.datetime64(listing.first_session), side="left")
        high = len(bars)
        if listing.last_session:
            high = int(np.searchsorted(bars.date, np.datetime64(listing.last_session), side="right"))
        return bars.rows(int(low), high)


def _walk(listing: Listing, days: Days, seed: int) -> TradedBars:
    """A geometric random walk over `days`, divided by the splits so far and rounded to cents."""
    generator = np.random.default_rng([seed, zlib.crc32(listing.symbol.encode())])
    noise = generator.standard_normal((len(days), 6))
    if listing.symbol in THINLY_TRADED:
        noise[:, :4] *= (noise[:, 5] > -1.6)[:, np.newaxis]
    split = _splits(listing, days)
    level = _start_price(listing) / np.cumprod(split)
    growth = np.cumsum(DAILY_VOLATILITY * noise[:, 0] + DAILY_DRIFT * (noise[:, 0] != 0))
    before = np.concatenate(([0.0], growth[:-1]))
    opened = before + 0.004 * noise[:, 1]
    close = _cents(level * np.exp(growth))
    volume = _volumes(listing, noise[:, 4], split)
    volume[noise[:, 0] == 0] = 0
    return TradedBars(
        date=days,
        open=_cents(level * np.exp(opened)),
        high=_cents(level * np.exp(np.maximum(opened, growth) + 0.005 * np.abs(noise[:, 2]))),
        low=_cents(level * np.exp(np.minimum(opened, growth) - 0.005 * np.abs(noise[:, 3]))),
        close=close,
        volume=volume,
        dividend=_dividends(listing, days, close),
        split=split,
    )


def _cents(prices: Floats) -> Floats:
    return np.maximum(prices, LOWEST_PRICE).round(2)


def _start_price(listing: Listing) -> float:
    """A price that leaves a plausible one after all of the symbol's splits."""
    total = float(np.prod([float(ratio) for ratio in listing.splits.values()]))
    return (25 + trait(listing.symbol, "price", 200)) * float(total**0.8)


def _splits(listing: Listing, days: Days) -> Floats:
    split = np.ones(len(days))
    for day, ratio in listing.splits.items():
        split[days == np.datetime64(day)] = float(ratio)
    return split


def _volumes(listing: Listing, noise: Floats, split: Floats) -> Floats:
    """Whole shares; ahead of a reverse split whole lots, so that dividing by it leaves whole shares."""
    usual = 2e5 * (1 + trait(listing.symbol, "volume", 200))
    later = np.prod(split) / np.cumprod(split)
    lot = np.where(later < 1, np.round(1 / later), 1.0)
    return np.asarray(np.rint(usual * np.exp(0.35 * noise) / lot) * lot, dtype=np.float64)


def _dividends(listing: Listing, days: Days, close: Floats) -> Floats:
    """Quarterly cash, in whole cents of the previous close, for four companies in five."""
    dividend = np.zeros(len(days))
    symbol = listing.symbol
    if symbol in NON_PAYERS or trait(symbol, "pays", 5) == 0:
        return dividend
    months = days.astype("datetime64[M]").astype(int)
    first_of_month = np.flatnonzero(np.diff(months, prepend=months[0] - 1))
    paying = first_of_month[months[first_of_month] % 3 == trait(symbol, "quarter", 3)]
    ex_dates = paying + 3 + trait(symbol, "ex_date", 12)
    ex_dates = ex_dates[(ex_dates < len(days)) & (ex_dates > 0)]
    quarterly_yield = (5 + trait(symbol, "yield", 100)) / 10_000
    dividend[ex_dates] = np.maximum(np.round(close[ex_dates - 1] * quarterly_yield, 2), 0.01)
    return dividend
