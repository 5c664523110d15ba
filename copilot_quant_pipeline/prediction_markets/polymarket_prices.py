"""What Polymarket's two price histories say: CLOB's `/prices-history` and data-api v2's.

Here: pure reading of points, the windows to ask in, which days lack points, which of two histories has more of a day.
Not here: asking (polymarket.py), records of markets (polymarket_catalog.py).

What the price means is officially undefined (py-clob-client-v2#106): it may be a trade or a midpoint. It is called a
`quote`, the venue's own display price. Instants stay as sent.

What no answer says of a point, and somebody else has observed only, is in the constants CLOB, DATA and KEPT_FOR: of
which moment it is, and for how long its service has it so finely.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.answers import SIX_DIGITS, bounded_number, whole_number
from copilot_quant_pipeline.errors import Malformed
from copilot_quant_pipeline.prediction_markets.venue import (
    POINTS,
    PROBABILITY,
    SHORTEST_WITH_POINTS,
    Market,
    Outcome,
    Stamp,
)

# A window given by its bounds may be no longer; CLOB answers 400 else.
LONGEST_WINDOW = timedelta(days=15)
# Unix seconds of 2001 and of 5138; what lies a thousandfold higher is in milliseconds, all else no time at all.
FIRST_SECOND, LAST_SECOND, MILLI = 10**9, 10**11, 1000
# A day, in seconds; no service gives coarser points.
_LONGEST_GRAIN = 86_400
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

# A day with less than this share of the hours it was lived may be had finer elsewhere.
THIN = 0.25
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Service:
    """One of the two price histories; `stamp` is what of its bucket a point's time marks."""

    name: str
    stamp: Stamp


# CLOB's points are samples, with some seconds of jitter. Data-api's lie on the grain's full hours or minutes and are
# taken for the beginnings of buckets: the price may be of any moment up to the end of one.
CLOB, DATA = Service("clob", "instant"), Service("data-api", "begins")
# How long hourly points can be had; that CLOB loses them is seen with resolved markets, not with age.
KEPT_FOR: Mapping[str, timedelta | None] = {CLOB.name: None, DATA.name: timedelta(days=90)}

# `fault` says of a point that is none what is wrong with it, else null; its price is null.
HISTORY = pa.schema(
    [
        POINTS.field("stamped_at"),
        POINTS.field("price"),
        POINTS.field("price_kind"),
        *(POINTS.field(name) for name in ("service", "grain_seconds", "stamp")),
        pa.field("fault", pa.string()),
    ]
)


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

    @property
    def days(self) -> list[date]:
        """The UTC days it lies in."""
        last = (self.end - timedelta(microseconds=1)).date()
        return [self.start.date() + timedelta(days=n) for n in range((last - self.start.date()).days + 1)]


def life_of(market: Market) -> Stretch:
    """When the market can have prices; an open market trades past the end that was announced for it."""
    ended = market.status in ("closed", "resolved", "gone")
    closes = market.closes_at + timedelta(seconds=1) if ended and market.closes_at else None
    return Stretch(market.opened_at or _EARLIEST, closes or _LATEST)


def days_of(life: Stretch, asked: Stretch) -> Stretch:
    """The UTC days of a life, whole, within what is asked: prices are shown from before the start to past the end."""
    start = max(asked.start, _midnight(life.start))
    return Stretch(start, asked.end if life.end >= asked.end else min(asked.end, _midnight(life.end, after=True)))


def plan_windows(asked: Stretch) -> list[Stretch]:
    """The windows that cover `asked`, in order, none longer than the venue takes; no UTC day lies in two."""
    windows, start = [], asked.start
    while start < asked.end:
        windows.append(Stretch(start, min(_midnight(start) + LONGEST_WINDOW, asked.end)))
        start = windows[-1].end
    return windows


def gaps_in(history: pa.Table, lived: Stretch) -> list[Stretch]:
    """The UTC days, or the parts of them that were lived (aware UTC), without any good point or with a bad one."""
    good, bad = _counted(history)
    without = [part for part in _parts(lived) if part.start.date() in bad or part.start.date() not in good]
    return [one for one in without if one.start.date() in bad or one.end - one.start >= SHORTEST_WITH_POINTS]


def is_thin(history: pa.Table, lived: Stretch) -> bool:
    """Whether some day has far fewer points than hours in which it was lived."""
    return bool(_thin(history, lived))


def _thin(history: pa.Table, lived: Stretch) -> dict[date, int]:
    good, _ = _counted(_without_ends(history))
    hours = {part.start.date(): (part.end - part.start) / HOUR for part in _parts(lived)}
    return {day: good[day] for day, lasted in hours.items() if 0 < good.get(day, 0) < THIN * lasted}


def coarse_days(history: pa.Table, lived: Stretch) -> dict[date, int]:
    """The UTC days that might be had finer, with their number of good points: the thin, and those of a wider grain."""
    good, _ = _counted(_without_ends(history))
    wide = history.filter(pc.greater(history.column("grain_seconds"), HOUR // timedelta(seconds=1)))
    of_wide, _ = _counted(wide)
    lived_on = {part.start.date() for part in _parts(lived)}
    return _thin(history, lived) | {day: good[day] for day in of_wide.keys() & lived_on}


def _without_ends(history: pa.Table) -> pa.Table:
    """The prices: what a market settled at is none."""
    return history.filter(pc.not_equal(history.column("price_kind"), "settlement"))


def finer_until(day: date, silent: Collection[str]) -> date:
    """The last day on which the services that were `silent` of a day may still have its hours."""
    kept = [KEPT_FOR[service] for service in silent]
    return max((day + one if one else date.max) for one in kept)


def finer_of(known: pa.Table, other: pa.Table) -> pa.Table:
    """Each UTC day from the one that has more good points of it; `known` where both have as many and it has no bad one.

    A day with a bad point is not made good by fewer points. Settlements are kept from either.
    """
    (good, bad), (good_other, bad_other) = _counted(known), _counted(other)
    clean = {day: count for day, count in good_other.items() if day not in bad_other}
    better = {day for day, count in clean.items() if count > good.get(day, 0) - (day in bad)}
    of_known, of_other = _is_on(known, better), _is_on(other, better)
    settled = pc.equal(other.column("price_kind"), "settlement")
    return pa.concat_tables([known.filter(pc.invert(of_known)), other.filter(pc.or_(of_other, settled))])


def _counted(history: pa.Table) -> tuple[dict[date, int], dict[date, int]]:
    """Good and bad points by UTC day."""
    days = history.column("stamped_at").to_numpy().astype("datetime64[D]")
    is_bad = history.column("fault").is_valid().to_numpy()
    each = (np.unique(days[some], return_counts=True) for some in (~is_bad, is_bad))
    good, bad = (dict(zip(found.tolist(), counts.tolist(), strict=True)) for found, counts in each)
    return good, bad


def _is_on(history: pa.Table, days: Collection[date]) -> pa.Array:
    return pc.is_in(history.column("stamped_at").cast(pa.date32()), pa.array(sorted(days), pa.date32()))


def _parts(lived: Stretch) -> list[Stretch]:
    if not lived:
        return []
    starts = [datetime.combine(day, time(), UTC) for day in lived.days]
    return [Stretch(start, start + timedelta(days=1)).within(lived) for start in starts]


def parse_clob(points: Any, of: str, grain: int = 3600) -> pa.Table:
    """CLOB's points `{"t": unix seconds, "p": probability}` as `HISTORY`; `of` names market and outcome in errors.

    `grain` is how many seconds apart they were asked for.

    Raises:
        Malformed: They are no points, or it cannot be told of when one is.
    """
    seconds, prices = _columns(points, "t", "p", of)
    return _history(seconds, prices, [grain] * len(seconds), CLOB, of)


def parse_data(points: Any, of: str, grain: int = 3600) -> pa.Table:
    """Data-api v2's points likewise; one of no resolution is the market's settlement. Null means none.

    A point that does not say its resolution is of the asked `grain`.

    Raises:
        Malformed: As for `parse_clob`.
    """
    seconds, prices = _columns(points or [], "timestamp", "price", of)
    return _history(seconds, prices, [_resolution(point, grain) for point in points or []], DATA, of)


def _resolution(point: Mapping[str, Any], asked: int) -> int:
    try:
        return min(max(0, int(bounded_number(point["resolution_seconds"]))), _LONGEST_GRAIN)
    except (KeyError, TypeError, ValueError):
        return asked


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


def points_without(points: pa.Table, days: Collection[date]) -> pa.Table:
    """The points of other UTC days."""
    return points.filter(pc.invert(_is_on(points, days)))


def faults_in(histories: Mapping[Outcome, Sequence[pa.Table]]) -> dict[date, str]:
    """What is wrong with the first bad point of each UTC day that has one, whichever outcome's it is."""
    tables = [table for some in histories.values() for table in some if table.column("fault").null_count < len(table)]
    found: dict[date, str] = {}
    for table in tables:
        for row in table.filter(table.column("fault").is_valid()).to_pylist():
            found.setdefault(row["stamped_at"].date(), row["fault"])
    return dict(sorted(found.items()))


def inside(history: pa.Table, window: Stretch) -> pa.Table:
    """The points in a window: the venue's bounds are not said to be in or out."""
    at = history.column("stamped_at")
    low, high = (pa.scalar(bound, POINTS.field("stamped_at").type) for bound in (window.start, window.end))
    return history.filter(pc.and_(pc.greater_equal(at, low), pc.less(at, high)))


def _midnight(instant: datetime, *, after: bool = False) -> datetime:
    """The midnight that the instant's UTC day begins with, or the one that ends it."""
    start = instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return start + timedelta(days=1) if after and start != instant else start


def _nulls(field: pa.Field, like: pa.Table) -> pa.Array:
    return pa.nulls(len(like), field.type)


def _once_each(history: pa.Table) -> pa.Table:
    at = history.column("stamped_at").to_numpy().astype(np.int64)
    order = np.argsort(at, kind="stable")
    ordered = at[order]
    last = np.append(ordered[1:] != ordered[:-1], True) if len(ordered) else np.zeros(0, dtype=bool)
    return history.take(pa.array(order[last]))


def _columns(points: Any, time_name: str, price_name: str, of: str) -> tuple[list[Any], list[Any]]:
    try:
        return [point[time_name] for point in points], [point[price_name] for point in points]
    except (KeyError, TypeError):
        raise Malformed(f"{of}: not a list of points with {time_name} and {price_name}: {str(points)[:80]}") from None


def _history(seconds: list[Any], prices: list[Any], grains: list[int], service: Service, of: str) -> pa.Table:
    times = np.array([_time(second, of) for second in seconds], dtype=np.int64)
    in_milliseconds = times >= LAST_SECOND
    at = np.where(in_milliseconds, times // MILLI, times) * 1_000_000
    # Whoever tells the time in another unit than ever before may mean something else by the price, too.
    known = pc.if_else(pa.array(in_milliseconds), pa.scalar(None, PROBABILITY), _probabilities(prices))
    grain = pa.array(grains, HISTORY.field("grain_seconds").type)
    is_end = pc.equal(grain, 0)
    columns = [
        pa.array(at, HISTORY.field("stamped_at").type),
        known,
        pc.if_else(is_end, "settlement", "quote"),
        pa.repeat(service.name, len(at)),
        grain,
        pc.if_else(is_end, "instant", service.stamp),
        _faults(at, times, prices, known, of),
    ]
    return pa.table(columns, schema=HISTORY)


def _faults(at: Any, times: Any, prices: list[Any], known: pa.Array, of: str) -> pa.Array:
    if not known.null_count:
        return pa.nulls(len(at), pa.string())
    each = zip(known.is_valid().to_pylist(), at.tolist(), times.tolist(), prices, strict=True)
    said = (None if good else _fault(second, given, price, of) for good, second, given, price in each)
    return pa.array(list(said), pa.string())


def _fault(microsecond: int, given: int, price: Any, of: str) -> str:
    when = f"{datetime.fromtimestamp(microsecond / 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if given >= LAST_SECOND:
        return f"{of}: time {given} ({when}) is in milliseconds"
    return f"{of}: price {str(price)[:40]!r} of {when} is no probability"


def _time(given: Any, of: str) -> int:
    """A time in whole unix seconds, or milliseconds; it may be text, or with a point that nothing follows."""
    number = given if type(given) is int else _whole(given)
    if number is None or not any(FIRST_SECOND <= one < LAST_SECOND for one in (number, number // MILLI)):
        raise Malformed(f"{of}: time {str(given)[:40]!r} is not in unix seconds")
    return number


def _whole(given: Any) -> int | None:
    is_digits = isinstance(given, str) and given.isascii() and given.isdigit()
    with suppress(ValueError):
        return whole_number(given) if is_digits or isinstance(given, Decimal) else None
    return None


def _probabilities(prices: list[Any]) -> pa.Array:
    """Null where a price is no probability."""
    # There are few different prices among many points: each is looked at once.
    try:
        places = {price: place for place, price in enumerate(dict.fromkeys(prices))}
    except (TypeError, ValueError):
        return pa.array([_probability(price) for price in prices], PROBABILITY)
    different = pa.array([_probability(price) for price in places], PROBABILITY)
    return different.take(pa.array([places[price] for price in prices], pa.int64()))


def _probability(price: Any) -> Decimal | None:
    """A price as a number between 0 and 1; text is one where it says so; digits beyond those kept are rounded."""
    with suppress(ValueError):
        number = bounded_number(price)
        return number.quantize(SIX_DIGITS) if 0 <= number <= 1 else None
    return None
