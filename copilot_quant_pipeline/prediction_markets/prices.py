"""What each asked cell becomes, given the points a venue answered with: pure.

Here: the days of a market's life, points assigned to UTC days, cells settled or failed.
Not here: asking (fetching.py and the venues), storing (warehouse).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.errors import NotFound, VendorError
from copilot_quant_pipeline.grid.cells import Span
from copilot_quant_pipeline.prediction_markets.following import ENDED
from copilot_quant_pipeline.prediction_markets.venue import SHORTEST_WITH_POINTS, Market, MissingAtSource
from copilot_quant_pipeline.warehouse.harvest import CELLS
from copilot_quant_pipeline.warehouse.tables import PRICES

# Whose points stand for the hour that ends at them: the last hour of a day is stamped with the next midnight.
VENUES_OF_CANDLES = frozenset({"kalshi"})

# Who tell of trades only: a silent day is one without any.
VENUES_OF_TRADES = VENUES_OF_CANDLES | {"manifold"}

# Who give prices as of now only: their history is what was asked for while it was today.
VENUES_WITHOUT_HISTORY = frozenset({"predictit"})


@dataclass(frozen=True)
class Settled:
    """Every cell of a span once (`CELLS`), and its rows (`PRICES`)."""

    cells: pa.Table
    rows: pa.Table


def days_of_life(market: Market, span: Span, today: date) -> tuple[date, ...]:
    """The asked days on which the market was open for at least a moment, up to today."""
    first = market.opened_at.date() if market.opened_at else date.min
    ended = market.closes_at if market.status in ENDED else None  # else it is announced only
    last = ended.date() if ended else today
    return tuple(day for day in span.dates if first <= day <= min(last, today))


def settle_span(
    span: Span, market: Market, answer: pa.Table | VendorError | None, *, now: datetime, source: str
) -> Settled:
    """What each asked cell becomes, every one exactly once.

    Days before the market opened are settled as `not_open`, days after it closed as `closed`, days since its venue
    knows it no more as `delisted`; they need no `answer`, which is None where nothing had to be asked. A day with
    points is settled with them. A day without any is `no_trade` where the venue tells of trades only, or the market
    never traded, or was hardly open that day; else failed as `missing_at_source`. A vendor's error fails the days that
    had to be asked for, except those it brings points of. Days before today of a venue that has no history are settled
    as `no_history`.
    """
    alive = set(days_of_life(market, span, now.astimezone(UTC).date()))
    points = answer.points if isinstance(answer, MissingAtSource) else answer
    rows = _rows(market, points, source, now) if isinstance(points, pa.Table) else PRICES.arrow.empty_table()
    with_rows = set(rows.column("date").unique().to_pylist())
    if not with_rows <= alive:
        rows = rows.filter(pc.is_in(rows.column("date"), pa.array(sorted(alive), pa.date32())))
    fates = [_fate(day, market, answer, alive, with_rows, now.astimezone(UTC)) for day in span.dates]
    cells = {
        "date": pa.array(span.dates, pa.date32()),
        "key": pa.repeat(market.key, len(span.dates)),
        "outcome": pa.array([outcome for outcome, _, _ in fates]),
        "reason": pa.array([reason for _, reason, _ in fates], pa.string()),
        "detail": pa.array([detail for _, _, detail in fates], pa.string()),
        "fetched_at": pa.repeat(pa.scalar(now, CELLS.field("fetched_at").type), len(span.dates)),
    }
    return Settled(pa.table(cells, schema=CELLS), rows)


def _fate(
    day: date,
    market: Market,
    answer: pa.Table | VendorError | None,
    alive: set[date],
    with_rows: set[date],
    now: datetime,
) -> tuple[str, str | None, str | None]:
    if day not in alive:
        return "settled", _why_not_alive(day, market), None
    if isinstance(answer, MissingAtSource) and day in answer.failed:
        return "failed", *answer.failed[day]
    if day in with_rows:
        return "settled", None, None
    if market.status == "gone" and isinstance(answer, VendorError) and _is_last_day(day, market):
        return "settled", "delisted", f"{market.venue} knew it until that day"
    if market.venue in VENUES_WITHOUT_HISTORY and day < now.date() and not getattr(answer, "transient", False):
        return (
            "settled",
            "no_history",
            f"{market.venue} gives no history: its prices begin when they are first asked for",
        )
    if isinstance(answer, VendorError):
        return "failed", "unknown_market" if isinstance(answer, NotFound) else answer.reason, str(answer)
    if market.venue in VENUES_OF_TRADES or not market.volume or _lived(day, market, now) < SHORTEST_WITH_POINTS:
        return "settled", "no_trade", None
    return "failed", "missing_at_source", f"{market.key} traded {market.volume} in all, and has no point on this day"


def _lived(day: date, market: Market, now: datetime) -> timedelta:
    """How much of the UTC day the market was open for by now."""
    start = datetime.combine(day, time(), UTC)
    ended = [market.closes_at] if market.closes_at and market.status in ENDED else []
    ends = [start + timedelta(days=1), now, *ended]
    return min(ends) - max(start, market.opened_at or start)


def _is_last_day(day: date, market: Market) -> bool:
    return market.closes_at is not None and day == market.closes_at.date()


def _why_not_alive(day: date, market: Market) -> str:
    if market.opened_at is not None and day < market.opened_at.date():
        return "not_open"
    return "delisted" if market.status == "gone" else "closed"


def _rows(market: Market, points: pa.Table, source: str, now: datetime) -> pa.Table:
    at = points.column("at")
    if market.venue in VENUES_OF_CANDLES:
        at = pc.subtract(at, pa.scalar(timedelta(microseconds=1)))
    count = points.num_rows
    columns = {
        **{name: points.column(name) for name in points.column_names},
        "date": pc.cast(pc.floor_temporal(at, unit="day"), pa.date32()),
        "market": pa.repeat(market.key, count),
        "source": pa.repeat(source, count),
        "fetched_at": pa.repeat(pa.scalar(now, pa.timestamp("us", tz="UTC")), count),
    }
    return pa.table([columns[name] for name in PRICES.names], schema=PRICES.arrow)
