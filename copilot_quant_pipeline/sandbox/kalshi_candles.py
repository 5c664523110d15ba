"""Candles as Kalshi writes them: text, fast, in each of the shapes they have had.

Here: hourly and daily prices of the simulated markets as JSON.
Not here: which market and which window (kalshi.py), what was traded (markets.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from copilot_quant_pipeline.sandbox.markets import Floats, HourlyPrices, SimulatedMarket, SimulatedMarkets

HOUR, DAY = 3600, 86_400
LONGEST_DAY = timedelta(hours=25)
NEW_YORK = ZoneInfo("America/New_York")

# How a candle writes one price: `name` and the price in thousandths of a dollar, None for none.
Write = Callable[[str, int | None], str]

_DOLLARS = [f'"{thousandths / 1000:.4f}"' for thousandths in range(1001)]
_NAMES = ("close", "high", "low", "open")
_OF_TRADES = ("close", "high", "low", "mean", "open")


def _cents(name: str, price: int | None) -> str:
    if price is None:
        return f'"{name}":null'
    return f'"{name}":{round(price / 10)},"{name}_dollars":{_DOLLARS[price]}'


def _suffixed(name: str, price: int | None) -> str:
    return "" if price is None else f'"{name}_dollars":{_DOLLARS[price]}'


def _bare(name: str, price: int | None) -> str:
    return f'"{name}":{"null" if price is None else _DOLLARS[price]}'


# Until January 2026, live now, historical now.
SHAPES: Mapping[str, Write] = {"cents": _cents, "dollars": _suffixed, "historical": _bare}
_QUANTITIES = {
    "cents": '"volume":{:.0f},"open_interest":{:.0f}',
    "dollars": '"volume_fp":"{:.2f}","open_interest_fp":"{:.2f}"',
    "historical": '"volume":"{:.2f}","open_interest":"{:.2f}"',
}


def candles(
    markets: SimulatedMarkets, market: SimulatedMarket, first: int, last: int, shape: str, period: int = HOUR
) -> list[str]:
    """The market's candles of a `period` (`HOUR` or `DAY`) that end at `first` to `last`, both included, each as JSON.

    Times are unix seconds. Of the hours without a trade most have no price, only the book; some are missing altogether.
    """
    start, end = datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last + 1, UTC)
    if start >= end:
        return []
    prices = markets.prices(market, start if period == HOUR else start - LONGEST_DAY, end)
    prices = prices.of(~is_missing(market, prices))
    if period == DAY:
        prices = _days(prices, first, last)
    book = _books(market, prices, shape)
    trades = _trades(prices, shape)
    counted = map(_QUANTITIES[shape].format, prices.volume.tolist(), prices.open_interest.tolist())
    return [
        f'{{"end_period_ts":{at},{count},"price":{{{trade}}},{sides}}}'
        for at, count, trade, sides in zip(prices.at.tolist(), counted, trades, book, strict=True)
    ]


def _days(hours: HourlyPrices, first: int, last: int) -> HourlyPrices:
    """The days of these hours that end at `first` to `last`: 24 hours after New York's midnight, as was recorded.

    So the day after the clocks go back has 25 hours.
    """
    if not len(hours):
        return hours
    begins = datetime.fromtimestamp(int(hours.at[0]), NEW_YORK).date() - timedelta(days=2)
    midnights = [datetime.combine(begins + timedelta(days=day), time(), NEW_YORK) for day in range(_span_of(hours) + 5)]
    ends = np.array([int(midnight.timestamp()) + DAY for midnight in midnights])
    day_of = ends.searchsorted(hours.at)
    places = [np.flatnonzero(day_of == day) for day in np.unique(day_of) if first <= ends[day] <= last]
    days = [_day(hours, place, int(ends[day_of[place[0]]])) for place in places]
    return HourlyPrices(*(np.array(column) for column in zip(*days, strict=True))) if days else hours.of(slice(0))


def _span_of(hours: HourlyPrices) -> int:
    return int(hours.at[-1] - hours.at[0]) // DAY


def _day(hours: HourlyPrices, place: npt.NDArray[np.intp], end: int) -> tuple[float, ...]:
    """The values of one day's candle, in the order of `HourlyPrices`."""
    traded = place[hours.volume[place] > 0]
    told = traded if len(traded) else place
    return (
        end,
        hours.probability[told[-1]],
        hours.open[told[0]],
        hours.high[told].max(),
        hours.low[told].min(),
        hours.bid[place[-1]],
        hours.ask[place[-1]],
        hours.volume[place].sum(),
        hours.open_interest[place[-1]],
    )


def is_missing(market: SimulatedMarket, prices: HourlyPrices) -> npt.NDArray[np.bool_]:
    """Which hours have no candle: one in five of those without a trade."""
    missing: npt.NDArray[np.bool_] = (prices.volume == 0) & ((prices.at // 3600 + market.number) % 5 == 0)
    return missing


def _trades(prices: HourlyPrices, shape: str) -> list[str]:
    texts, untraded = _texts(shape)
    mean = (prices.high + prices.low) / 2
    columns = [_thousandths(each) for each in (prices.probability, prices.high, prices.low, mean, prices.open)]
    return [
        f"{texts[0][close]},{texts[1][high]},{texts[2][low]},{texts[3][middle]},{texts[4][before]}"
        if volume
        else untraded[before]
        for close, high, low, middle, before, volume in zip(*columns, prices.volume.tolist(), strict=True)
    ]


def _books(market: SimulatedMarket, prices: HourlyPrices, shape: str) -> list[str]:
    bids, asks = _thousandths(prices.bid), _thousandths(prices.ask)
    if not market.volume:
        bids, asks = [0] * len(prices), [1000] * len(prices)
    sides = _sides(shape)
    return [f'"yes_ask":{{{sides[ask]}}},"yes_bid":{{{sides[bid]}}}' for bid, ask in zip(bids, asks, strict=True)]


def _thousandths(prices: Floats) -> list[int]:
    thousandths: list[int] = np.rint(prices * 1000).astype(np.int64).tolist()
    return thousandths


@cache
def _texts(shape: str) -> tuple[list[list[str]], list[str]]:
    """Each price of a traded hour by its name, the open with the previous one; and all of an hour without a trade."""
    write = SHAPES[shape]
    traded = [[write(name, price) for price in range(1001)] for name in _OF_TRADES]
    previous = [write("previous", price) for price in range(1001)]
    traded[-1] = [f"{before},{same}" for before, same in zip(traded[-1], previous, strict=True)]
    nothing = [write(name, None) for name in _OF_TRADES]
    return traded, [",".join(filter(None, [*nothing, same])) for same in previous]


@cache
def _sides(shape: str) -> list[str]:
    return [",".join(SHAPES[shape](name, price) for name in _NAMES) for price in range(1001)]
