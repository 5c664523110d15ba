"""How many of Kalshi's hourly candles fit into one request, and how many markets.

Here: pure planning of windows and batches within the published caps.
Not here: asking (kalshi.py), what an answer says (kalshi_answers.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from copilot_quant_pipeline.prediction_markets.venue import Market

HOUR = 3600
MAX_PERIODS = 5_000
MAX_CANDLES = 10_000
# Kalshi takes 100; as each ticker counts against the rate limit, more at once would only wait longer for their turn.
MAX_TICKERS = 20


@dataclass(frozen=True)
class CandleWindow:
    """Candles that end at `first` to `last`, unix seconds on the hour, both included."""

    first: int
    last: int

    @property
    def periods(self) -> int:
        """How many hourly candles it can hold."""
        return (self.last - self.first) // HOUR + 1

    def with_other(self, other: CandleWindow) -> CandleWindow:
        """The smallest window that holds both."""
        return CandleWindow(min(self.first, other.first), max(self.last, other.last))


@dataclass(frozen=True)
class BatchRequest:
    """One request for several markets: `window` holds the window of each, all within the caps."""

    window: CandleWindow
    markets: tuple[tuple[str, CandleWindow], ...]


def plan_windows(start: datetime, end: datetime) -> list[CandleWindow]:
    """What to ask for to get every hour's candle with start <= at < end; nothing where there is none."""
    first, last = _hours(start, end)
    step = MAX_PERIODS * HOUR
    return [CandleWindow(at, min(at + step - HOUR, last)) for at in range(first, last + 1, step)]


def plan_batches(markets: Sequence[Market], start: datetime, end: datetime) -> list[BatchRequest]:
    """Batches that together hold, market by market, the hours from `start` to before `end` in which it lived."""
    pieces = ((window, market.id) for market in markets for window in plan_windows(*life_within(market, start, end)))
    return list(_packed(sorted(pieces, key=lambda piece: (piece[0].first, piece[0].last, piece[1]))))


def life_within(market: Market, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """`start` and `end` without the hours before the market opened and after the one in which it ended."""
    if market.opened_at:
        start = max(start, market.opened_at)
    # The end of an open market may be put off.
    if market.closes_at and market.status in ("closed", "resolved", "gone"):
        after = datetime.fromtimestamp(_up(market.closes_at.timestamp()) + 1, market.closes_at.tzinfo)
        end = min(end, after)
    return start, end


def _packed(pieces: Sequence[tuple[CandleWindow, str]]) -> Iterator[BatchRequest]:
    held: list[tuple[str, CandleWindow]] = []
    around = None
    for window, ticker in pieces:
        wider = around.with_other(window) if around else window
        if around and not _fits(wider, len(held) + 1):
            yield BatchRequest(around, tuple(held))
            held, wider = [], window
        held.append((ticker, window))
        around = wider
    if around:
        yield BatchRequest(around, tuple(held))


def _fits(window: CandleWindow, tickers: int) -> bool:
    candles = tickers * window.periods
    return tickers <= MAX_TICKERS and window.periods <= MAX_PERIODS and candles <= MAX_CANDLES


def _hours(start: datetime, end: datetime) -> tuple[int, int]:
    """The first and the last full hour with start <= hour < end, unix seconds."""
    return _up(start.timestamp()), _up(end.timestamp()) - HOUR


def _up(stamp: float) -> int:
    return int(-(-stamp // HOUR)) * HOUR
