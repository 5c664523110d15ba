"""What Polymarket's two price histories say: CLOB's `/prices-history` and data-api v2's.

Here: pure reading of points, the windows to ask in, and the error for prices that a market must have and has not.
Not here: asking (polymarket.py), records of markets (polymarket_catalog.py).

What the price means is officially undefined (py-clob-client-v2#106): it may be a trade or a midpoint. It is called a
`quote`, the venue's own display price. Instants carry seconds of jitter and stay as sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.errors import Malformed
from copilot_quant_pipeline.prediction_markets.venue import (
    POINTS,
    PROBABILITY,
    SHORTEST_WITH_POINTS,
    Market,
    Outcome,
)

# A window given by its bounds may be no longer; CLOB answers 400 else.
LONGEST_WINDOW = timedelta(days=15)
# Unix seconds of 2001 and of 5138: what lies outside is in milliseconds or no time at all.
FIRST_SECOND, LAST_SECOND = 10**9, 10**11
MICRO = Decimal("0.000001")
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

HISTORY = pa.schema([POINTS.field("at"), POINTS.field("price"), POINTS.field("price_kind")])


@dataclass(frozen=True)
class Stretch:
    """A span of time in aware UTC, `end` excluded."""

    start: datetime
    end: datetime

    def __bool__(self) -> bool:
        return self.start < self.end

    def within(self, other: Stretch) -> Stretch:
        """What both have in common."""
        return Stretch(max(self.start, other.start), min(self.end, other.end))


def life_of(market: Market) -> Stretch:
    """When the market can have prices; an open market trades past the end that was announced for it."""
    ended = market.status in ("closed", "resolved", "gone")
    closes = market.closes_at + timedelta(seconds=1) if ended and market.closes_at else None
    return Stretch(market.opened_at or _EARLIEST, closes or _LATEST)


def plan_windows(asked: Stretch) -> list[Stretch]:
    """The windows that cover `asked`, in order, none longer than the venue takes; no UTC day lies in two."""
    windows, start = [], asked.start
    while start < asked.end:
        windows.append(Stretch(start, min(_midnight(start) + LONGEST_WINDOW, asked.end)))
        start = windows[-1].end
    return windows


def gaps_in(history: pa.Table, lived: Stretch) -> list[Stretch]:
    """The UTC days, or the parts of them that were lived (aware UTC), without any point."""
    priced = np.unique(history.column("at").to_numpy().astype("datetime64[D]"))
    days = np.arange(np.datetime64(lived.start.date()), np.datetime64(lived.end.date() + timedelta(days=1)))
    empty = [datetime.combine(day, time(), UTC) for day in days[~np.isin(days, priced)].tolist()]
    parts = [Stretch(day, day + timedelta(days=1)).within(lived) for day in empty]
    return [part for part in parts if part.end - part.start >= SHORTEST_WITH_POINTS]


def parse_clob(points: Any, of: str) -> pa.Table:
    """CLOB's points `{"t": unix seconds, "p": probability}` as `HISTORY`; `of` names market and outcome in errors.

    Raises:
        Malformed: Naming the market and the value that is none.
    """
    seconds, prices = _columns(points, "t", "p", of)
    return _history(seconds, prices, ["quote"] * len(seconds), of)


def parse_data(points: Any, of: str) -> pa.Table:
    """Data-api v2's points likewise; one without a resolution is the market's settlement. Null means none.

    Raises:
        Malformed: As for `parse_clob`.
    """
    seconds, prices = _columns(points or [], "timestamp", "price", of)
    kinds = ["settlement" if point.get("resolution_seconds") == 0 else "quote" for point in points or []]
    return _history(seconds, prices, kinds, of)


def points_of(market: Market, histories: Mapping[Outcome, Sequence[pa.Table]]) -> pa.Table:
    """`POINTS` of the market: by outcome in the venue's order, then by time; of two at one instant the later sent."""
    pieces = []
    for outcome in market.outcomes:
        history = _once_each(pa.concat_tables([HISTORY.empty_table(), *histories.get(outcome, ())]))
        given = {name: history.column(name) for name in HISTORY.names}
        given["outcome"] = pa.array([outcome.name]).take(pa.array(np.zeros(len(history), dtype=np.int64)))
        columns = [given[field.name] if field.name in given else _nulls(field, history) for field in POINTS]
        pieces.append(pa.table(columns, schema=POINTS))
    return pa.concat_tables([POINTS.empty_table(), *pieces])


def inside(history: pa.Table, window: Stretch) -> pa.Table:
    """The points in a window: the venue's bounds are not said to be in or out."""
    at = history.column("at")
    low, high = (pa.scalar(bound, POINTS.field("at").type) for bound in (window.start, window.end))
    return history.filter(pc.and_(pc.greater_equal(at, low), pc.less(at, high)))


def _midnight(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _nulls(field: pa.Field, like: pa.Table) -> pa.Array:
    return pa.nulls(len(like), field.type)


def _once_each(history: pa.Table) -> pa.Table:
    at = history.column("at").to_numpy().astype(np.int64)
    order = np.argsort(at, kind="stable")
    ordered = at[order]
    last = np.append(ordered[1:] != ordered[:-1], True) if len(ordered) else np.zeros(0, dtype=bool)
    return history.take(pa.array(order[last]))


def _columns(points: Any, time_name: str, price_name: str, of: str) -> tuple[list[Any], list[Any]]:
    try:
        return [point[time_name] for point in points], [point[price_name] for point in points]
    except (KeyError, TypeError):
        raise Malformed(f"{of}: not a list of points with {time_name} and {price_name}: {str(points)[:80]}") from None


def _history(seconds: list[Any], prices: list[Any], kinds: list[str], of: str) -> pa.Table:
    at = np.array([_second(second, of) for second in seconds], dtype=np.int64) * 1_000_000
    columns = [pa.array(at, HISTORY.field("at").type), _probabilities(prices, of), pa.array(kinds, pa.string())]
    return pa.table(columns, schema=HISTORY)


def _second(given: Any, of: str) -> int:
    """A time in whole unix seconds; it may be written as text, or with a point that nothing follows."""
    is_whole = isinstance(given, Decimal) and given.is_finite() and given == int(given)
    is_digits = isinstance(given, str) and given.isascii() and given.isdigit()
    second = int(given) if is_whole or is_digits else given
    if type(second) is not int or not FIRST_SECOND <= second < LAST_SECOND:
        raise Malformed(f"{of}: time {str(given)[:40]!r} is not in unix seconds")
    return second


def _probabilities(prices: list[Any], of: str) -> pa.Array:
    # There are few different prices among many points: each is looked at once.
    try:
        places = {price: place for place, price in enumerate(dict.fromkeys(prices))}
    except TypeError:
        raise Malformed(f"{of}: prices are no numbers: {str(prices)[:80]}") from None
    different = pa.array([_probability(price, of) for price in places], PROBABILITY)
    return different.take(pa.array([places[price] for price in prices], pa.int64()))


def _probability(price: Any, of: str) -> Decimal:
    """A price as a number between 0 and 1; text is one where it says so; digits beyond those kept are rounded."""
    try:
        number = Decimal(str(price))
    except InvalidOperation:
        number = Decimal("nan")
    if isinstance(price, bool) or not number.is_finite() or not 0 <= number <= 1:
        raise Malformed(f"{of}: price {str(price)[:40]!r} is no probability")
    return number.quantize(MICRO)
