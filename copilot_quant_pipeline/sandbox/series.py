"""What Yahoo shows for one symbol at one instant, derived from what was traded.

Here: split and dividend adjustment by Yahoo's method, the provisional last bar, and the changes a fault makes
to shown bars.
Not here: where traded bars come from (market.py, recorded.py) and JSON (yahoo.py).

Yahoo divides every price by all splits after it and multiplies volumes likewise. `adjclose` is multiplied
besides by 1 - dividend / previous close for every later ex-date (checked against recorded series: equal to
7e-7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from copilot_quant_pipeline.sandbox.hours import close_seconds, open_seconds, opens_of
from copilot_quant_pipeline.sandbox.market import Days, Floats, TradedBars

PRICES = ("open", "high", "low", "close", "adjclose")


@dataclass(frozen=True)
class Series:
    """Shown bars of a symbol, ascending, with its events.

    `symbol` is in Yahoo's spelling (`BRK-B`); `at` and the keys of events are unix seconds; prices are
    float32 values widened to float64; NaN stands for null. `first_trade` is the open of the symbol's first
    session ever.
    """

    symbol: str
    name: str
    first_trade: int
    date: Days
    at: npt.NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    adjclose: Floats
    volume: Floats
    dividends: dict[int, float]
    splits: dict[int, Fraction]

    def __len__(self) -> int:
        return len(self.at)


def widen(prices: npt.NDArray[np.floating]) -> Floats:
    """Prices rounded to float32 and back, as Yahoo sends them."""
    return prices.astype(np.float32).astype(np.float64)


def later_splits(split: Floats) -> Floats:
    """For each bar the product of all splits on later bars."""
    return np.append(np.cumprod(split[:0:-1])[::-1], 1.0)


def total_return_factors(close: Floats, dividend: Floats) -> Floats:
    """For each bar what its close is multiplied by to give `adjclose`; both inputs are split-adjusted."""
    factors = 1 - dividend[1:] / close[:-1]
    return np.append(np.cumprod(factors[::-1])[::-1], 1.0)


def shown(symbol: str, name: str, bars: TradedBars, opens: npt.NDArray[np.int64]) -> Series:
    """What Yahoo makes of `bars` (at least one) when the last of them is the newest session."""
    later = later_splits(bars.split)
    dividend = np.round(bars.dividend / later, 6)
    close = bars.close / later
    paying = np.flatnonzero(dividend)
    splitting = np.flatnonzero(bars.split != 1)
    return Series(
        symbol=symbol,
        name=name,
        first_trade=int(opens[0]),
        date=bars.date,
        at=opens,
        open=widen(bars.open / later),
        high=widen(bars.high / later),
        low=widen(bars.low / later),
        close=widen(close),
        adjclose=widen(close * total_return_factors(close, dividend)),
        volume=np.rint(bars.volume * later),
        dividends=dict(zip(opens[paying].tolist(), dividend[paying].tolist(), strict=True)),
        splits={int(opens[i]): as_ratio(bars.split[i]) for i in splitting},
    )


def as_ratio(split: float) -> Fraction:
    """The small fraction that a split's decimal value stands for."""
    return Fraction(float(split)).limit_denominator(1_000_000)


def unfinished(bars: TradedBars, now: datetime) -> TradedBars:
    """`bars` with the last session as it stands at `now`: earlier trades only, part of its volume.

    Between the open and the close the price moves in a straight line.
    """
    session: date = bars.date[-1].item()
    opened, closed = open_seconds(session), close_seconds(session)
    elapsed = (now.timestamp() - opened) / (closed - opened)
    if elapsed >= 1:
        return bars
    last = np.round(bars.open[-1] + (bars.close[-1] - bars.open[-1]) * elapsed, 2)
    return replace(
        bars,
        high=_with_last(bars.high, max(bars.open[-1], last)),
        low=_with_last(bars.low, min(bars.open[-1], last)),
        close=_with_last(bars.close, last),
        volume=_with_last(bars.volume, np.floor(bars.volume[-1] * elapsed)),
    )


def _with_last(values: Floats, last: float) -> Floats:
    return np.append(values[:-1], last)


def last_trade(session: date, now: datetime) -> int:
    """When `session` last traded as of `now`: Yahoo stamps the closing trade one second after the close."""
    return min(int(now.timestamp()), close_seconds(session) + 1)


def stamped(series: Series, at: int) -> Series:
    """`series` with its last bar stamped `at`, as Yahoo does while that session's date lasts."""
    return replace(series, at=np.append(series.at[:-1], at))


def without_sessions(series: Series, days: Sequence[date]) -> Series:
    """`series` as when Yahoo has lost whole sessions; their events stay."""
    return _taken(series, np.flatnonzero(~np.isin(series.date, _days(days))))


def with_nulls(series: Series, days: Sequence[date]) -> Series:
    """`series` with nulls in place of the bars of `days`."""
    hit = np.isin(series.date, _days(days))
    columns = {name: np.where(hit, np.nan, getattr(series, name)) for name in (*PRICES, "volume")}
    return replace(series, **columns)  # type: ignore[arg-type]


def with_repeated(series: Series, days: Sequence[date]) -> Series:
    """`series` with each bar of `days` sent twice."""
    return _taken(series, np.repeat(np.arange(len(series)), 1 + np.isin(series.date, _days(days))))


def with_negative(series: Series, days: Sequence[date]) -> Series:
    """`series` with a negative close on `days`."""
    return replace(series, close=np.where(np.isin(series.date, _days(days)), -series.close, series.close))


def with_partial_nulls(series: Series, days: Sequence[date]) -> Series:
    """`series` without a close on `days`; the rest of the bar is there."""
    hit = np.isin(series.date, _days(days))
    return replace(series, close=np.where(hit, np.nan, series.close), adjclose=np.where(hit, np.nan, series.adjclose))


def with_inconsistent(series: Series, days: Sequence[date]) -> Series:
    """`series` with a high below the low on `days`."""
    return replace(series, high=np.where(np.isin(series.date, _days(days)), series.low * 0.9, series.high))


def with_off_session(series: Series, days: Sequence[date]) -> Series:
    """`series` with the bars of `days` stamped a day later: for a Friday that is a Saturday."""
    return replace(series, at=series.at + 86_400 * np.isin(series.date, _days(days)))


BAD_BARS = {
    "negative": with_negative,
    "partial_null": with_partial_nulls,
    "inconsistent": with_inconsistent,
    "duplicate": with_repeated,
    "off_session": with_off_session,
}


def corrected(series: Series, days: Sequence[date], factor: float) -> Series:
    """`series` with the prices and volumes of `days` multiplied by `factor`."""
    scale = np.where(np.isin(series.date, _days(days)), factor, 1.0)
    prices = {name: widen(getattr(series, name) * scale) for name in PRICES}
    return replace(series, **prices, volume=np.rint(series.volume * scale))  # type: ignore[arg-type]


def with_split(series: Series, session: date, ratio: Fraction) -> Series:
    """`series` after one more split at `session`: every shown price divided by it, later ones too."""
    at = open_seconds(session)
    prices = {name: widen(getattr(series, name) / float(ratio)) for name in PRICES}
    return replace(
        series,
        **prices,  # type: ignore[arg-type]
        volume=np.rint(series.volume * float(ratio)),
        dividends={key: round(amount / float(ratio), 6) for key, amount in series.dividends.items()},
        splits=dict(sorted({**series.splits, at: ratio}.items())),
    )


def _days(days: Sequence[date]) -> Days:
    return np.array(days, dtype="datetime64[D]")


def _taken(series: Series, positions: npt.NDArray[np.intp]) -> Series:
    names = ("date", "at", *PRICES, "volume")
    return replace(series, **{name: getattr(series, name)[positions] for name in names})


def from_columns(
    symbol: str, first_trade: int, days: Days, columns: dict[str, Floats], actions: tuple[Floats, Floats]
) -> Series:
    """A series served exactly as recorded; `actions` are dividends and split ratios per bar, 0 where none."""
    opens = opens_of(days)
    dividend, split = actions
    return Series(
        symbol=symbol,
        name=f"{symbol} (recorded)",
        first_trade=first_trade,
        date=days,
        at=opens,
        dividends={int(opens[i]): float(dividend[i]) for i in np.flatnonzero(dividend)},
        splits={int(opens[i]): as_ratio(split[i]) for i in np.flatnonzero(split)},
        **columns,
    )
