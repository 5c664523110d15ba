"""What the smaller venues have in common when their JSON becomes the protocol's values.

Here: probabilities, quantities, instants, hourly points as a table, catalogs in which one market is broken.
Not here: any venue's fields. Polymarket and Kalshi, which send several shapes of each, read theirs themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, TypeVar

import pyarrow as pa

from copilot_quant_pipeline.answers import SIX_DIGITS, bounded_number, shown
from copilot_quant_pipeline.errors import Denied, Malformed, NotFound, VendorError
from copilot_quant_pipeline.prediction_markets.shapes import EARLIEST, LATEST, named
from copilot_quant_pipeline.prediction_markets.venue import POINTS, BrokenRecord, Catalog, Market, Outcome, SpoiledDays
from copilot_quant_pipeline.retry_policy import FAILURES_IN_A_ROW

T = TypeVar("T")
R = TypeVar("R")

# One point is kept an hour, in seconds.
HOUR = 3600
# So many records in a row that are not answered for, and their venue is down; a few may be broken side by side.
UNANSWERED_IN_A_ROW = 10
# A record without a day spoils so many days between its neighbours at most: beyond them nothing was told anyway.
LONGEST_SPOILED = 400


@dataclass(frozen=True)
class Point:
    """A row of `POINTS` of a venue without candles."""

    outcome: str
    stamped_at: datetime
    price: Decimal | None
    price_kind: str
    bid: Decimal | None = None
    ask: Decimal | None = None


def read_probability(value: Any) -> Decimal | None:
    """A probability to six digits; None where there is none.

    Raises:
        Malformed: Not a number from 0 to 1.
    """
    number = read_quantity(value)
    if number is not None and not 0 <= number <= 1:
        raise Malformed(f"a price of {value} is no probability")
    return number


def read_quantity(value: Any) -> Decimal | None:
    """A number to six digits; None where there is none.

    Raises:
        Malformed: Not a finite number, or beyond what is stored.
    """
    if value is None:
        return None
    # Without a point JSON numbers come as int; NaN and Infinity, which are no JSON, as float.
    if not isinstance(value, int | Decimal):
        raise Malformed(f"{shown(value)} is no number")
    try:
        return bounded_number(value).quantize(SIX_DIGITS)
    except ValueError as error:
        raise Malformed(str(error)) from None


def read_instant(value: Any, *, unit: timedelta = timedelta(seconds=1)) -> datetime:
    """An aware UTC instant from ISO text with a time zone, or from a number of `unit`s since 1970.

    Raises:
        Malformed: Neither of both, or a year that only another unit can explain.
    """
    try:
        if isinstance(value, str):
            instant = datetime.fromisoformat(value)
        else:
            instant = datetime(1970, 1, 1, tzinfo=UTC) + _whole_microseconds(value, unit)
        if not EARLIEST <= instant < LATEST:
            raise ValueError
    except (TypeError, ValueError, ArithmeticError):
        raise Malformed(f"{shown(value)} is no instant") from None
    return instant.astimezone(UTC)


def _whole_microseconds(value: Any, unit: timedelta) -> timedelta:
    microseconds = bounded_number(value) * (unit // timedelta(microseconds=1))
    return timedelta(microseconds=int(microseconds))


def expect_distinct(outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """These outcomes, at least one and no two of a name.

    Raises:
        Malformed: They are not so.
    """
    names = [outcome.name for outcome in outcomes]
    if not names or len(set(names)) < len(names):
        raise Malformed(f"outcomes {names} are not told apart")
    return outcomes


def gather(venue: str, names: Iterable[T], fetch: Callable[[T, int | None], Market]) -> Catalog:
    """The market of each name, once; one that is not known, not offered or broken is named with the reason.

    So is one that is not answered for (a record that answers 500), unless nobody is. `fetch` takes how often a request
    may be sent: once, while the one before failed, else as its policy says (None). After some in a row no more are
    asked for, and the catalog is incomplete.

    Raises:
        VendorError: The venue could not be asked.
    """
    markets: dict[str, Market] = {}
    broken: list[BrokenRecord] = []
    failed: list[VendorError] = []
    for name in names:
        if is_down := _is_down(failed):
            break
        try:
            market = fetch(name, 1 if failed else None)
            markets[market.id], failed = market, []
        except VendorError as error:
            failed = [*failed, error] if error.transient and not isinstance(error, Malformed) else []
            passing = {"reason": error.reason} if error.transient else {}
            broken.append(BrokenRecord(venue, named(name), str(error), unknown=isinstance(error, NotFound), **passing))
    else:
        is_down = len(failed) == len(broken) > 1 and not markets
    if is_down and not markets:
        raise failed[0]
    left_out = (f"not all of its markets were asked for, after {failed[-1]}",) if is_down else ()
    return Catalog(tuple(markets.values()), tuple(broken), left_out)


def _is_down(failed: Sequence[VendorError]) -> bool:
    """Whether so many that were not answered for in a row mean the venue; a denial is its own already."""
    limit = FAILURES_IN_A_ROW if failed and isinstance(failed[-1], Denied) else UNANSWERED_IN_A_ROW
    return len(failed) >= limit


def hourly(
    market: Market, points: Iterable[Point], start: datetime, end: datetime, *, service: str | None = None
) -> pa.Table:
    """The last point of each outcome and hour with start <= at < end; of one instant's the one given last.

    A point stays at its own instant, which is when its price was known; `service` is what of the venue told them.
    """
    last: dict[tuple[str, datetime], Point] = {}
    for point in points:
        hour = (point.outcome, point.stamped_at.replace(minute=0, second=0, microsecond=0))
        if start <= point.stamped_at < end and (hour not in last or last[hour].stamped_at <= point.stamped_at):
            last[hour] = point
    place = {outcome.name: number for number, outcome in enumerate(market.outcomes)}
    # One that the market got since it was last described comes after the known ones.
    rows = sorted(
        last.values(), key=lambda point: (place.get(point.outcome, len(place)), point.outcome, point.stamped_at)
    )
    said = {"service": service, "grain_seconds": HOUR, "stamp": "instant"}
    return pa.Table.from_pylist([{**asdict(point), **said} for point in rows], schema=POINTS)


@dataclass(frozen=True)
class Faulty(Generic[R]):
    """A history of which some records cannot be read: the good ones, and what is wrong by UTC day."""

    good: Sequence[R]
    faults: Mapping[date, str]


def with_faults(records: Sequence[T], read: Callable[[T], R], stamp_of: Callable[[T], datetime]) -> Faulty[R]:
    """The records of a history, oldest first; one that cannot be read spoils its day.

    One that does not tell its day either lies between its neighbours, and spoils the days of both.

    Raises:
        Malformed: No day can be told for it.
    """
    good, faults = list[R](), dict[date, str]()
    for place, record in enumerate(records):
        try:
            good.append(read(record))
        except Malformed as error:
            days = _days_around(records, place, stamp_of)
            if not days:
                raise
            faults |= {day: faults.get(day, f"{error} on {day}") for day in days}
    return Faulty(good, faults)


def _days_around(records: Sequence[T], place: int, stamp_of: Callable[[T], datetime]) -> list[date]:
    own = _first_day([records[place]], stamp_of)
    if own:
        return [own]
    before, after = _first_day(records[:place][::-1], stamp_of), _first_day(records[place + 1 :], stamp_of)
    first, last = before or after, after or before
    if first is None or last is None:
        return []
    return [first + timedelta(days=n) for n in range(min((last - first).days, LONGEST_SPOILED) + 1)]


def _first_day(records: Sequence[T], stamp_of: Callable[[T], datetime]) -> date | None:
    for record in records:
        with suppress(Malformed):
            return stamp_of(record).date()
    return None


def spoiled_hours(
    market: Market,
    points: Iterable[Point],
    faults: Mapping[date, str],
    start: datetime,
    end: datetime,
    service: str,
) -> pa.Table:
    """As `hourly`, without the points of spoiled days.

    Raises:
        SpoiledDays: Some day of the window is; it carries the points of the others.
    """
    good = hourly(market, (one for one in points if one.stamped_at.date() not in faults), start, end, service=service)
    last = (end - timedelta(microseconds=1)).date()
    failed = {day: (Malformed.reason, why) for day, why in faults.items() if start.date() <= day <= last}
    if failed:
        raise SpoiledDays("; ".join(why for _, why in list(failed.values())[:2]), good, failed)
    return good
