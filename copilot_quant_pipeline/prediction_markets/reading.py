"""What the smaller venues have in common when their JSON becomes the protocol's values.

Here: probabilities, quantities, instants, hourly points as a table, catalogs in which one market is broken.
Not here: any venue's fields. Polymarket and Kalshi, which send several shapes of each, read theirs themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import pyarrow as pa

from copilot_quant_pipeline.errors import Malformed, NotFound, Rejected
from copilot_quant_pipeline.prediction_markets.venue import POINTS, Broken, Catalog, Market, Outcome

T = TypeVar("T")
R = TypeVar("R")

SIX_DIGITS = Decimal("0.000001")
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


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
        Malformed: Not a finite number.
    """
    if value is None:
        return None
    # Without a point JSON numbers come as int; NaN and Infinity, which are no JSON, as float.
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not Decimal(value).is_finite():
        raise Malformed(f"{value!r} is no number")
    return Decimal(value).quantize(SIX_DIGITS)


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
        raise Malformed(f"{value!r} is no instant") from None
    return instant.astimezone(UTC)


def _whole_microseconds(value: Any, unit: timedelta) -> timedelta:
    microseconds = Decimal(value) * (unit // timedelta(microseconds=1))
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


def parsed(parse: Callable[[T], R], record: T) -> R:
    """What `parse` makes of a venue's record.

    Raises:
        Malformed: A field is missing or of another kind.
    """
    try:
        return parse(record)
    except KeyError as error:
        raise Malformed(f"{error} is missing") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise Malformed(f"not as expected ({error})") from None


def gather(venue: str, names: Iterable[T], fetch: Callable[[T], Market]) -> Catalog:
    """The market of each name, once; one that is not known, not offered or broken is named with the reason.

    Raises:
        VendorError: The venue could not be asked.
    """
    markets: dict[str, Market] = {}
    broken: list[Broken] = []
    for name in names:
        try:
            market = fetch(name)
            markets[market.id] = market
        except (Malformed, NotFound, Rejected) as error:
            broken.append(Broken(venue, named(name), str(error), unknown=isinstance(error, NotFound)))
    return Catalog(tuple(markets.values()), tuple(broken))


def named(record: Any) -> str:
    """What to call a record that cannot be read."""
    if isinstance(record, dict):
        return next((str(record[field]) for field in ("id", "slug", "question", "title") if record.get(field)), "?")
    return str(record)[:80]


def hourly(market: Market, points: Iterable[Point], start: datetime, end: datetime) -> pa.Table:
    """The last point of each outcome and hour with start <= at < end; of one instant's the one given last."""
    last: dict[tuple[str, datetime], Point] = {}
    for point in points:
        hour = (point.outcome, point.stamped_at.replace(minute=0, second=0, microsecond=0))
        if start <= point.stamped_at < end and (hour not in last or last[hour].stamped_at <= point.stamped_at):
            last[hour] = point
    place = {outcome.name: number for number, outcome in enumerate(market.outcomes)}
    rows = sorted(last.values(), key=lambda point: (place[point.outcome], point.stamped_at))
    return pa.Table.from_pylist([asdict(point) for point in rows], schema=POINTS)
