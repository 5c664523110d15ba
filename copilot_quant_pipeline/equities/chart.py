"""What Yahoo's chart v8 answers say: bars, and the errors it gives instead.

Here: pure reading of one answer, status and text, as sent.
Not here: asking (yahoo.py), undoing splits and judging bars (bars.py).

Why not the frame yfinance makes of the same answer: it moves a dividend or split whose session is lost to the
session before, drops the second bar of a date, writes 0 for a missing volume, and loses the HTTP status.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa

from copilot_quant_pipeline.errors import (
    DENIALS,
    BeforeFirstBar,
    Denied,
    Malformed,
    NotFound,
    RateLimited,
    Rejected,
    Unavailable,
    VendorError,
)

if TYPE_CHECKING:
    import numpy.typing as npt

_PRICES = ("open", "high", "low", "close")
_SENT = (*_PRICES, "adj_close", "volume")

BARS_AS_SENT = pa.schema(
    [("date", pa.date32()), *((name, pa.float64()) for name in (*_SENT, "dividend", "split_ratio"))]
)

_STATUS_OF_CODE = {"Not Found": 404, "Bad Request": 400, "Unprocessable Entity": 422}

# What reading an answer of any other shape can raise, however odd: a number too large, a folder for a time zone.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)


@dataclass(frozen=True)
class VendorBars:
    """Yahoo's answer for one symbol.

    Attributes:
        symbol: canonical.
        bars: `BARS_AS_SENT`, dates ascending: split-adjusted prices and volumes. A date whose bar Yahoo lost
            is absent or has nulls; it still carries its dividend and split. No split is 1.0.
        first_trade_date: when the symbol was listed, where Yahoo says so.
        start: first date asked for.
        end: last date asked for, included; no split after it is undone in `bars`, so it is the day of asking.
        fetched_at: when it was asked, aware UTC.
    """

    symbol: str
    bars: pa.Table
    first_trade_date: date | None
    start: date
    end: date
    fetched_at: datetime


def parse_chart(text: str, *, symbol: str, start: date, end: date, fetched_at: datetime) -> VendorBars:
    """The bars of a chart answer with status 200; an empty window has none.

    Raises:
        VendorError: The answer carries Yahoo's error, or (`Malformed`) is no daily chart.
    """
    chart = _read_json(text, symbol)
    if error := chart.get("error"):
        raise _error_within(error, text, symbol)
    try:
        result = chart["result"][0]
        meta = result["meta"]
        bars = _bars(result, meta, end)
        listed = _day(meta["firstTradeDate"], _zone(meta)) if meta.get("firstTradeDate") is not None else None
    except _UNREADABLE as error:
        raise Malformed(f"{symbol}: Yahoo's answer is no daily chart ({type(error).__name__}: {error})") from None
    return VendorBars(symbol, bars, listed, start, end, fetched_at)


def _error_within(error: Any, text: str, symbol: str) -> VendorError:
    """The error of an answer with status 200."""
    if not isinstance(error, dict):
        return Malformed(f"{symbol}: Yahoo's answer is an error without words: {_shortened(text)}")
    code = str(error.get("code"))
    if code in _STATUS_OF_CODE:
        return parse_error(_STATUS_OF_CODE[code], text, symbol=symbol)
    return Unavailable(f"{symbol}: Yahoo reports {code} ({error.get('description')})")


def parse_error(status: int, text: str, *, symbol: str, retry_after: float | None = None) -> VendorError:
    """The error that an answer with `status` 400 or more stands for."""
    if status == 429:
        return RateLimited(f"{symbol}: Yahoo asks for a pause (429)", retry_after)
    if status in DENIALS:
        return Denied(f"{symbol}: Yahoo answers {status}", status)
    said = _said(text, symbol, "Not Found" if status == 404 else None)
    if status >= 500 or (status == 404 and not said):
        # What Yahoo says of a symbol is in its own words; a page of anybody's is an outage, whatever its number.
        without = ", not in its own words" if status == 404 else ""
        return Unavailable(f"{symbol}: Yahoo answers {status}{without}", retry_after)
    if status == 404:
        return NotFound(f"{symbol}: Yahoo does not know this symbol ({said})")
    if not said:
        return Malformed(f"{symbol}: Yahoo answers {status} without saying why")
    if status == 400 and "Data doesn't exist" in said:
        return BeforeFirstBar(f"{symbol}: Yahoo has no bar in this window ({said})")
    return Rejected(f"{symbol}: Yahoo refuses the request ({status}: {said})")


def _said(text: str, symbol: str, code: str | None = None) -> str:
    """What Yahoo's own error body says; empty where the answer has none, or none of that `code`."""
    try:
        error = _read_json(text, symbol)["error"]
        if code and error.get("code", code) != code:
            return ""
        return str(error.get("description") or error.get("code") or "")
    except (Malformed, KeyError, AttributeError):
        return ""


def _read_json(text: str, symbol: str) -> dict[str, Any]:
    try:
        # Not a faster reader: Yahoo has sent the bare word Infinity, which only this one takes.
        chart = json.loads(text)["chart"]
    except (ValueError, KeyError, TypeError, RecursionError):
        chart = None
    if not isinstance(chart, dict):
        raise Malformed(f"{symbol}: Yahoo's answer is no chart: {_shortened(text)}")
    return chart


def _shortened(text: str) -> str:
    return repr(" ".join(text[:60].split()))


def _zone(meta: Mapping[str, Any]) -> ZoneInfo:
    name = meta.get("exchangeTimezoneName") or "America/New_York"
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        raise ValueError(f"time zone {name!r}") from None


def _day(stamp: float, zone: ZoneInfo) -> date:
    # Yahoo stamps a bar with the session's open. A stamp of exactly midnight UTC is a date and no instant: no
    # exchange west of Greenwich opens then, and east of it the local date is the same.
    return datetime.fromtimestamp(stamp, UTC if stamp % 86_400 == 0 else zone).date()


def _bars(result: Mapping[str, Any], meta: Mapping[str, Any], end: date) -> pa.Table:
    stamps = result.get("timestamp") or []
    if not stamps:
        return BARS_AS_SENT.empty_table()
    if meta.get("dataGranularity", "1d") != "1d":
        raise ValueError(f"bars of {meta['dataGranularity']}")
    zone = _zone(meta)
    dates = pa.array([_day(stamp, zone) for stamp in stamps], pa.date32()).to_numpy(zero_copy_only=False)
    wanted = _wanted(dates, stamps, end)
    sent = {name: column[wanted] for name, column in _columns(result["indicators"], len(stamps)).items()}
    return _with_events(dates[wanted], sent, result.get("events") or {}, zone, end)


def _wanted(dates: npt.NDArray[np.datetime64], stamps: Sequence[float], end: date) -> npt.NDArray[np.bool_]:
    # Yahoo often appends the latest price, whatever end was asked.
    wanted: npt.NDArray[np.bool_] = dates <= np.datetime64(end)
    # While the exchange is open today's bar comes twice: stamped with the open, as of some minutes ago, and live,
    # stamped with the last trade. The live one has the fuller volume (yfinance: fix_Yahoo_returning_live_separate).
    if len(dates) > 1 and dates[-1] == dates[-2] and stamps[-1] > stamps[-2]:
        wanted[-2] = False
    return wanted


def _columns(indicators: Mapping[str, Any], length: int) -> dict[str, npt.NDArray[np.float64]]:
    quote = indicators["quote"][0]
    lists = {name: quote[name] for name in (*_PRICES, "volume")}
    adjusted = indicators.get("adjclose") or [{}]
    lists["adj_close"] = adjusted[0].get("adjclose") or [None] * length
    columns = {name: np.array(lists[name], dtype=np.float64) for name in _SENT}
    for name, column in columns.items():
        if column.shape != (length,):
            raise ValueError(f"{length} timestamps, {column.size} values of {name}")
    return columns


def _with_events(
    dates: npt.NDArray[np.datetime64],
    sent: dict[str, npt.NDArray[np.float64]],
    events: Mapping[str, Any],
    zone: ZoneInfo,
    end: date,
) -> pa.Table:
    """Bars with their dividend and split; an event without a bar gets a row of its own, its prices null."""
    dividends, splits = _dividends(events, zone), _splits(events, zone)
    known = set(dates.tolist())
    barless = [day for day in {*dividends, *splits} if day not in known and day <= end]
    everywhere = np.concatenate([dates, np.array(barless, dtype="datetime64[D]")])
    order = np.argsort(everywhere, kind="stable")
    gap = np.full(len(barless), np.nan)
    ordered = everywhere[order]
    return pa.table(
        {
            "date": pa.array(ordered, pa.date32()),
            **{name: pa.array(np.concatenate([sent[name], gap])[order], from_pandas=True) for name in _SENT},
            "dividend": pa.array(_placed(ordered, dividends, 0.0)),
            "split_ratio": pa.array(_placed(ordered, splits, 1.0)),
        },
        schema=BARS_AS_SENT,
    )


def _placed(
    dates: npt.NDArray[np.datetime64], events: Mapping[date, float], otherwise: float
) -> npt.NDArray[np.float64]:
    column = np.full(len(dates), otherwise)
    for day, value in events.items():
        # Where a date comes twice only its first row carries the event: a split must not count twice.
        at = np.searchsorted(dates, np.datetime64(day))
        if at < len(dates) and dates[at] == np.datetime64(day):
            column[at] = value
    return column


def _dividends(events: Mapping[str, Any], zone: ZoneInfo) -> dict[date, float]:
    found: dict[date, float] = {}
    for event in (events.get("dividends") or {}).values():
        day = _day(event["date"], zone)
        found[day] = found.get(day, 0.0) + float(event["amount"])
    return found


def _splits(events: Mapping[str, Any], zone: ZoneInfo) -> dict[date, float]:
    found: dict[date, float] = {}
    for event in (events.get("splits") or {}).values():
        day = _day(event["date"], zone)
        found[day] = found.get(day, 1.0) * float(event["numerator"]) / float(event["denominator"])
    return found
