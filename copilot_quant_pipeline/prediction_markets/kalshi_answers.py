"""What Kalshi's answers say: markets, and candles in each of the three shapes they have had.

Here: pure reading of one record or one list of candles, as sent.
Not here: asking and paging (kalshi.py), what to ask in one request (kalshi_windows.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.answers import SIX_DIGITS, bounded_number, whole_number
from copilot_quant_pipeline.errors import Malformed
from copilot_quant_pipeline.grid.keys import is_slug
from copilot_quant_pipeline.prediction_markets.venue import POINTS, PROBABILITY, QUANTITY, Market, Outcome, Status

VENUE = "kalshi"
YES, NO = "Yes", "No"
# Its two tiers, and the seconds of the hour that every candle we ask for stands for and ends at its stamp.
LIVE, HISTORICAL = "live", "historical"
HOUR = 3600

# Until the outcome is final it can be disputed and amended.
_STATUSES: Mapping[str, Status] = {
    "initialized": "unopened",
    "inactive": "open",
    "active": "open",
    "closed": "closed",
    "determined": "closed",
    "disputed": "closed",
    "amended": "closed",
    "finalized": "resolved",
    # The words of the filter, should they come in a record.
    "unopened": "unopened",
    "open": "open",
    "paused": "open",
    "settled": "resolved",
}
_RESULTS = {"yes": YES, "no": NO, "scalar": None, "void": None, "": None}

# The Yes side, a row per candle; a null price is an hour without a trade. A bid of 0 is no bid, an ask of 1 no ask.
# `fault` says what is wrong with a candle that cannot be, else null; it has no values.
CANDLES = pa.schema(
    [
        pa.field("stamped_at", pa.timestamp("us", tz="UTC"), nullable=False),
        *(pa.field(name, PROBABILITY) for name in ("price", "open", "high", "low", "bid", "ask")),
        *(pa.field(name, QUANTITY) for name in ("volume", "open_interest")),
        pa.field("service", pa.string()),
        pa.field("fault", pa.string()),
    ]
)
# Where in a candle each probability lies.
_PLACES = {
    "price": ("price", "close"),
    "open": ("price", "open"),
    "high": ("price", "high"),
    "low": ("price", "low"),
    "bid": ("yes_bid", "close"),
    "ask": ("yes_ask", "close"),
}
_FIRST, _LAST = 1_400_000_000, 5_000_000_000
# What reading a value that is not as expected ends in.
_WRONG = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


class Unreadable(Malformed):
    """The answer came whole and is not Kalshi's format: asking again would bring the same."""

    transient = False


def is_ticker(text: str) -> bool:
    """Whether `text` can be a ticker, and with it part of a key on the grid's axis."""
    # A slash would make another path of its routes.
    return is_slug(text) and "/" not in text


def parse_market(record: Any, event: Mapping[str, Any]) -> Market:
    """A market's record; series, category and the event's title are in its event's, `{}` where that is not known.

    Raises:
        Unreadable: The record is none of a market.
    """
    try:
        return _market(record, event)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"{name_of(record)}: Kalshi's record is no market ({type(error).__name__}: {error})") from None


def name_of(record: Any) -> str:
    """What to call a record that may be broken."""
    return str(record.get("ticker") or record.get("event_ticker") or "?") if isinstance(record, Mapping) else "?"


def _market(record: Mapping[str, Any], event: Mapping[str, Any]) -> Market:
    ticker, status = record["ticker"], _STATUSES[record["status"]]
    if not is_ticker(ticker):
        raise ValueError(f"ticker {ticker!r}")
    result = _RESULTS[record.get("result") or ""]
    return Market(
        venue=VENUE,
        id=ticker,
        slug=ticker,
        title=_title(record, event),
        category=(event.get("category") or "").lower() or None,
        outcomes=(Outcome(YES), Outcome(NO)),
        opened_at=_instant(record.get("open_time")),
        closes_at=_instant(record.get("close_time")),
        status=status,
        result=result if status == "resolved" else None,
        volume=_quantity(record, "volume"),
        event=record.get("event_ticker") or None,
        series=event.get("series_ticker") or None,
        label=_label(record),
        event_title=event.get("title") or None,
        resolved_at=_settled_at(record) if status == "resolved" else None,
        facts=_facts(record),
    )


def _title(record: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    # Kalshi means to drop `title` from markets.
    parts = (event.get("title"), record.get("yes_sub_title"))
    return record.get("title") or ": ".join(part for part in parts if part) or str(record["ticker"])


def _settled_at(record: Mapping[str, Any]) -> datetime | None:
    with suppress(TypeError, ValueError, AttributeError):
        instant = _instant(record.get("settlement_ts"))
        return instant.replace(tzinfo=instant.tzinfo or UTC) if instant else None
    return None


def _label(record: Mapping[str, Any]) -> str | None:
    """What is said of Yes, such as a strike; `subtitle` is what older records call it."""
    return next((str(told) for told in (record.get("yes_sub_title"), record.get("subtitle")) if told), None)


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    facts = {
        "settled_at": record.get("settlement_ts"),
        "settlement": record.get("settlement_value_dollars") or as_dollars(record.get("settlement_value")),
        "type": record.get("market_type"),
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def _instant(text: str | None) -> datetime | None:
    # "0001-01-01T00:00:00Z" is Kalshi's word for never.
    if not text or text.startswith("0001-"):
        return None
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"time {text!r} without a zone")
    return instant.astimezone(UTC)


def _quantity(record: Mapping[str, Any], name: str) -> Decimal | None:
    sent = next((record[each] for each in (f"{name}_fp", name) if record.get(each) is not None), None)
    if sent is None:
        return None
    return bounded_number(sent).quantize(SIX_DIGITS)


def parse_candles(candles: Any, ticker: str, service: str = LIVE) -> pa.Table:
    """Candles of one market as `CANDLES`, in time, each instant once (its last), from the tier called `service`.

    Three shapes are read: whole cents next to `*_dollars` (until January 2026); only `*_dollars` and `*_fp`; dollars
    in text without a suffix (historical). So `close` is in cents where it is a number, in dollars where it is text.

    A candle with a value that does not parse, a price outside 0..1, or a time in milliseconds has a `fault` instead of
    values.

    Raises:
        Unreadable: They are no candles, or a time is neither in unix seconds nor in milliseconds.
    """
    try:
        stamps = _stamps(candles)
        at = np.where(stamps >= _LAST, stamps // 1000, stamps)
        _expect_seconds(at)
        instants = pa.array(at, pa.timestamp("s", tz="UTC")).cast(CANDLES.field("stamped_at").type)
    except _WRONG as error:
        raise Unreadable(f"{ticker}: Kalshi's candles cannot be read ({type(error).__name__}: {error})") from None
    try:
        _expect_seconds(stamps)
        said = pa.repeat(service, len(at))
        table = pa.table([instants, *_values(candles), said, pa.nulls(len(at), pa.string())], schema=CANDLES)
    except _WRONG:
        each = [_candle(candle, instants[n : n + 1], ticker, service) for n, candle in enumerate(candles)]
        table = pa.concat_tables(each)
    return table if np.all(np.diff(at) > 0) else table.take(_last_of_each(at))


def _values(candles: Sequence[Mapping[str, Any]]) -> list[pa.Array]:
    prices = [_probabilities(candles, *place) for place in _PLACES.values()]
    return [*prices, *(_quantities(candles, name) for name in ("volume", "open_interest"))]


def _candle(candle: Mapping[str, Any], at: pa.Array, ticker: str, service: str) -> pa.Table:
    """One candle, or what is wrong with it."""
    try:
        _expect_seconds(_stamps([candle]))
        return pa.table([at, *_values([candle]), pa.array([service]), pa.nulls(1, pa.string())], schema=CANDLES)
    except _WRONG as error:
        why = f"{ticker}: Kalshi's candle of {at[0].as_py():%Y-%m-%d %H:%M} UTC cannot be ({error})"
        given = {"stamped_at": at, "fault": pa.array([why])}
        return pa.table([given.get(field.name, pa.nulls(1, field.type)) for field in CANDLES], schema=CANDLES)


def _stamps(candles: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.int64]:
    stamps = [candle["end_period_ts"] for candle in candles]
    if any(isinstance(stamp, str) for stamp in stamps):
        stamps = [whole_number(stamp) for stamp in stamps]
    at: npt.NDArray[np.int64] = pa.array(stamps, pa.int64()).to_numpy(zero_copy_only=False)
    return at


def _expect_seconds(at: npt.NDArray[np.int64]) -> None:
    if len(at) and not (at.min() > _FIRST and at.max() < _LAST):
        raise ValueError(f"time {at.max() if at.max() >= _LAST else at.min()} is not in unix seconds")


def _last_of_each(at: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    _, last = np.unique(at[::-1], return_index=True)
    positions: npt.NDArray[np.intp] = len(at) - 1 - last
    return positions


def _probabilities(candles: Sequence[Mapping[str, Any]], side: str, name: str) -> pa.Array:
    in_dollars = f"{name}_dollars"
    sides = [candle.get(side) or {} for candle in candles]
    texts = [each.get(in_dollars) for each in sides]
    if None in texts:
        texts = [as_dollars(each.get(name)) if text is None else text for text, each in zip(texts, sides, strict=True)]
    column = _as_decimals(texts)
    bounds = pc.min_max(column)
    lowest, highest = bounds["min"].as_py(), bounds["max"].as_py()
    if lowest is not None and not (lowest >= 0 and highest <= 1):
        raise ValueError(f"{side} {highest if highest > 1 else lowest} is outside 0..1")
    return column


def _as_decimals(dollars: Sequence[Any]) -> pa.Array:
    """Dollars as sent in text, or in numbers with a point; digits beyond those kept are rounded."""
    with suppress(pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array(dollars, pa.string()).cast(PROBABILITY)
    return pa.array([None if each is None else _decimal(each) for each in dollars], PROBABILITY)


def _decimal(sent: Any) -> Decimal:
    if isinstance(sent, bool) or not isinstance(sent, str | int | Decimal) or not str(sent).strip():
        raise ValueError(f"{sent!r} is no price")
    return bounded_number(sent).quantize(SIX_DIGITS)


def as_dollars(sent: Any) -> str | None:
    """Dollars in exact text: of whole cents where a number was sent, as sent where it was text.

    >>> as_dollars(29), as_dollars("0.2900"), as_dollars(None)
    ('0.29', '0.2900', None)
    """
    if sent is None or isinstance(sent, str):
        return sent
    if isinstance(sent, bool) or not isinstance(sent, int):
        raise TypeError(f"{sent!r} is neither cents nor dollars")
    sign = "-" if sent < 0 else ""
    return f"{sign}{abs(sent) // 100}.{abs(sent) % 100:02d}"


def _quantities(candles: Sequence[Mapping[str, Any]], name: str) -> pa.Array:
    fixed_point = f"{name}_fp"
    sent = [candle.get(fixed_point) for candle in candles]
    if None in sent:
        sent = [candle.get(name) if text is None else text for text, candle in zip(sent, candles, strict=True)]
    column = pa.array([None if value is None else str(value) for value in sent], pa.string()).cast(QUANTITY)
    lowest = pc.min(column).as_py()
    if lowest is not None and lowest < 0:
        raise ValueError(f"{name} {lowest} is below 0")
    return column


def points(candles: Sequence[pa.Table]) -> pa.Table:
    """Both outcomes' points of a market's candles (`CANDLES`, windows in time), as `POINTS`: all of Yes, then of No.

    Kalshi prices Yes; No is its exact complement (1 - price, the book seen from the other side). What was traded and
    is held are contracts of a pair: they are told with Yes, and null with No, so that a sum counts them once.
    """
    every = pa.concat_tables([CANDLES.empty_table(), *candles])
    yes = every.filter(every["fault"].is_null())
    no = {"price": "price", "open": "open", "high": "low", "low": "high", "bid": "ask", "ask": "bid"}
    mirrored = {
        name: pc.subtract(pa.scalar(Decimal(1), PROBABILITY), yes[of]).cast(PROBABILITY) for name, of in no.items()
    }
    nothing = pa.nulls(len(yes), QUANTITY)
    unsaid = {"volume": nothing, "open_interest": nothing, "service": yes["service"], "fault": yes["fault"]}
    other = pa.table({"stamped_at": yes["stamped_at"], **mirrored, **unsaid}, schema=CANDLES)
    return pa.concat_tables([_of_outcome(YES, yes), _of_outcome(NO, other)]).combine_chunks()


def faults(candles: Sequence[pa.Table]) -> dict[date, str]:
    """What is wrong with the first bad candle of each UTC day that has one; a candle is of the hour before it."""
    every = pa.concat_tables([CANDLES.empty_table(), *candles])
    found: dict[date, str] = {}
    for row in every.filter(every["fault"].is_valid()).to_pylist():
        found.setdefault((row["stamped_at"] - timedelta(microseconds=1)).date(), row["fault"])
    return found


def points_without(found: pa.Table, days: Collection[date]) -> pa.Table:
    """The points (`POINTS`) of the hours of other UTC days."""
    of = pc.subtract(found["stamped_at"], pa.scalar(timedelta(microseconds=1))).cast(pa.date32(), safe=False)
    return found.filter(pc.invert(pc.is_in(of, pa.array(sorted(days), pa.date32()))))


def _of_outcome(outcome: str, candles: pa.Table) -> pa.Table:
    said = {"outcome": outcome, "price_kind": "trade", "grain_seconds": HOUR, "stamp": "ends"}
    columns = [
        pa.repeat(pa.scalar(said.get(field.name), field.type), len(candles))
        if field.name not in candles.column_names
        else candles[field.name]
        for field in POINTS
    ]
    return pa.table(columns, schema=POINTS)
