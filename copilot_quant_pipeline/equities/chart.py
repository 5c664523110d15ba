"""What Yahoo's chart v8 answers say: bars, and the errors it gives instead.

Here: pure reading of one answer, status and text, as sent.
Not here: asking (yahoo.py), undoing splits and judging bars (bars.py).

Why not the frame yfinance makes of the same answer: it moves a dividend or split whose session is lost to the
session before, drops the second bar of a date, writes 0 for a missing volume, and loses the HTTP status.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from copilot_quant_pipeline.answers import read_json
from copilot_quant_pipeline.equities.symbols import from_yahoo
from copilot_quant_pipeline.errors import (
    DENIALS,
    AnotherCurrency,
    AnotherInstrument,
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

log = logging.getLogger(__name__)

# What every bar of the platform is in, and where it traded.
CURRENCY = "USD"
_NEW_YORK = ZoneInfo("America/New_York")

_PRICES = ("open", "high", "low", "close")
_SENT = (*_PRICES, "adj_close", "volume")

BARS_AS_SENT = pa.schema(
    [("date", pa.date32()), *((name, pa.float64()) for name in (*_SENT, "dividend", "split_ratio"))]
)

_STATUS_OF_CODE = {"Not Found": 404, "Bad Request": 400, "Unprocessable Entity": 422}

# What reading an answer of any other shape can raise, however odd: a number too large, a folder for a time zone.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)


@dataclass(frozen=True)
class SpoiledAction:
    """Why a dividend or split is not known: the `reason` of its session's cell, and `words` that say what came.

    A split `hides_earlier` bars: what was traded before it is not known either.
    """

    reason: str
    words: str
    hides_earlier: bool = False


@dataclass(frozen=True)
class VendorBars:
    """Yahoo's answer for one symbol.

    Attributes:
        symbol: canonical.
        bars: `BARS_AS_SENT`, dates ascending: split-adjusted prices and volumes. A date whose bar Yahoo lost
            is absent or has nulls; it still carries its dividend and split. No split is 1.0, and NaN is a dividend
            or split that came and is not known.
        first_trade_date: when the symbol was listed, where Yahoo says so.
        start: first date asked for.
        end: last date asked for, included; no split after it is undone in `bars`, so it is the day of asking.
        fetched_at: when it was asked, aware UTC.
        spoiled: by date what came in place of a dividend or split that is NaN in `bars`.
    """

    symbol: str
    bars: pa.Table
    first_trade_date: date | None
    start: date
    end: date
    fetched_at: datetime
    spoiled: Mapping[date, SpoiledAction] = field(default_factory=dict)


def parse_chart(
    text: str, *, symbol: str, start: date, end: date, fetched_at: datetime, names: Collection[str] = ()
) -> VendorBars:
    """The bars of a chart answer with status 200; an empty window has none.

    `names` are later ones of the same instrument, under which Yahoo may answer. One dividend or split that cannot be
    read spoils itself only.

    Raises:
        VendorError: The answer carries Yahoo's error, is of something else (`AnotherInstrument`, `AnotherCurrency`), or
            (`Malformed`) is no daily chart.
    """
    chart = _read_json(text, symbol)
    if error := chart.get("error"):
        raise _error_within(error, text, symbol)
    try:
        result = chart["result"][0]
        meta = result["meta"]
        _expect_asked(meta, symbol, names)
        told = _told(result.get("events") or {}, symbol)
        bars = _bars(result, meta, told, end)
    except _UNREADABLE as error:
        raise Malformed(f"{symbol}: Yahoo's answer is no daily chart ({type(error).__name__}: {error})") from None
    return VendorBars(symbol, bars, _readable_day(meta.get("firstTradeDate")), start, end, fetched_at, told.spoiled)


def _expect_asked(meta: Mapping[str, Any], symbol: str, names: Collection[str]) -> None:
    """Refuse an answer that says it is of something else; what it does not say contradicts nothing.

    No list of exchanges: members trade on BTS, former ones on PNK.
    """
    said = {name: meta.get(name) for name in ("symbol", "exchangeTimezoneName", "currency")}
    came = said["symbol"]
    if came not in (None, "") and from_yahoo(str(came)) not in {symbol, from_yahoo(symbol), *names}:
        raise AnotherInstrument(f"{symbol}: Yahoo's answer is of {_shortened(str(came))}")
    zone = said["exchangeTimezoneName"]
    if zone not in (None, "", _NEW_YORK.key):
        raise AnotherInstrument(f"{symbol}: Yahoo's answer is of an exchange in {_shortened(str(zone))}, not New York")
    if said["currency"] not in (None, "", CURRENCY):
        raise AnotherCurrency(f"{symbol}: Yahoo's answer is in {_shortened(str(said['currency']))}, not {CURRENCY}")


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
        chart = read_json(text, exact=False)["chart"]
    except (ValueError, KeyError, TypeError):
        chart = None
    if not isinstance(chart, dict):
        raise Malformed(f"{symbol}: Yahoo's answer is no chart: {_shortened(text)}")
    return chart


def _shortened(text: str) -> str:
    return repr(" ".join(text[:60].split()))


def _day(stamp: float) -> date:
    # Yahoo stamps a bar with the session's open. A stamp of exactly midnight UTC is a date and no instant: no
    # exchange west of Greenwich opens then, and east of it the local date is the same.
    return datetime.fromtimestamp(stamp, UTC if stamp % 86_400 == 0 else _NEW_YORK).date()


def _readable_day(stamp: Any) -> date | None:
    try:
        # A zero is how a date that is not known is written.
        return None if isinstance(stamp, bool) or stamp == 0 else _day(stamp)
    except _UNREADABLE:
        return None


def _bars(result: Mapping[str, Any], meta: Mapping[str, Any], told: _Told, end: date) -> pa.Table:
    stamps = result.get("timestamp") or []
    if not stamps:
        return BARS_AS_SENT.empty_table()
    if meta.get("dataGranularity", "1d") != "1d":
        raise ValueError(f"bars of {meta['dataGranularity']}")
    dates = pa.array([_day(stamp) for stamp in stamps], pa.date32()).to_numpy(zero_copy_only=False)
    sent = _columns(result["indicators"], len(stamps))
    wanted = _wanted(dates, stamps, np.array([sent[name] > 0 for name in _PRICES]), end)
    return _with_events(dates[wanted], {name: column[wanted] for name, column in sent.items()}, told, end)


def _wanted(
    dates: npt.NDArray[np.datetime64], stamps: Sequence[float], priced: npt.NDArray[np.bool_], end: date
) -> npt.NDArray[np.bool_]:
    """Which rows are to be read; `priced` has a line for each price."""
    # Yahoo often appends the latest price, whatever end was asked.
    wanted: npt.NDArray[np.bool_] = dates <= np.datetime64(end)
    # An empty row of a date that has a bar, too, says nothing.
    wanted &= priced.any(axis=0) | ~np.isin(dates, dates[priced.any(axis=0)])
    # While the exchange is open today's bar comes twice: stamped with the open, as of some minutes ago, and live,
    # stamped with the last trade. The live one has the fuller volume (yfinance: fix_Yahoo_returning_live_separate).
    # A row of the next day may follow that is no bar yet.
    whole = np.flatnonzero(wanted & priced.all(axis=0))
    for row in np.flatnonzero(dates == dates[whole[-1]]).tolist() if len(whole) else []:
        wanted[row] &= row >= whole[-1] or stamps[row] >= stamps[whole[-1]]
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
    told: _Told,
    end: date,
) -> pa.Table:
    """Bars with their dividend and split; an event without a bar gets a row of its own, its prices null."""
    known = set(dates.tolist())
    barless = [day for day in {*told.dividends, *told.splits} if day not in known and day <= end]
    everywhere = np.concatenate([dates, np.array(barless, dtype="datetime64[D]")])
    order = np.argsort(everywhere, kind="stable")
    gap = np.full(len(barless), np.nan)
    ordered = everywhere[order]
    return pa.table(
        {
            "date": pa.array(ordered, pa.date32()),
            **{name: pa.array(np.concatenate([sent[name], gap])[order], from_pandas=True) for name in _SENT},
            "dividend": pa.array(_placed(ordered, told.dividends, 0.0)),
            "split_ratio": pa.array(_placed(ordered, told.splits, 1.0)),
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


@dataclass(frozen=True)
class _Told:
    """The dividends and splits of an answer by date, NaN where one is not known, and why it is not."""

    dividends: dict[date, float] = field(default_factory=dict)
    splits: dict[date, float] = field(default_factory=dict)
    spoiled: dict[date, SpoiledAction] = field(default_factory=dict)


def _told(events: Mapping[str, Any], symbol: str) -> _Told:
    told = _Told()
    for day, event in _dated(events.get("dividends")):
        if day is None:
            # No price depends on it, and no session can be named that lacks it.
            log.warning("%s: Yahoo tells of a dividend without a readable date: %s", symbol, _words(event))
            continue
        amount = _amount(event)
        told.dividends[day] = told.dividends.get(day, 0.0) + (amount if _is_dollars(event) else np.nan)
        if not _is_dollars(event):
            told.spoiled[day] = SpoiledAction(AnotherCurrency.reason, f"a dividend not in {CURRENCY}: {_words(event)}")
        elif np.isnan(amount):
            told.spoiled.setdefault(day, _unreadable("dividend", event))
    for day, event in _dated(events.get("splits")):
        if day is None:
            raise ValueError(f"a split of no day: {_words(event)}")
        ratio = _ratio(event)
        told.splits[day] = told.splits.get(day, 1.0) * ratio
        if np.isnan(ratio):
            told.spoiled[day] = _unreadable("split", event)
    return told


def _dated(events: Any) -> Iterator[tuple[date | None, Any]]:
    """Each event and its date: its own, or that of the key it comes under, if one can be read."""
    for key, event in dict(events or {}).items():
        own = _readable_day(event.get("date")) if isinstance(event, dict) else None
        day = own or (_readable_day(int(key)) if str(key).isdecimal() else None)
        yield day, event


def _is_dollars(event: Any) -> bool:
    return not isinstance(event, dict) or event.get("currency") in (None, "", CURRENCY)


def _amount(event: Any) -> float:
    """What is paid a share; NaN where that cannot be."""
    amount = _number(event, "amount")
    return amount if 0 <= amount < np.inf else np.nan


def _ratio(event: Any) -> float:
    """New shares per old share; NaN where that cannot be."""
    new, old = _number(event, "numerator"), _number(event, "denominator")
    ratio = new / old if old > 0 else np.nan
    return ratio if np.isfinite(ratio) and ratio > 0 else np.nan


def _number(event: Any, name: str) -> float:
    """A number of an event; NaN where it is none."""
    try:
        value = event[name]
        return np.nan if isinstance(value, bool) else float(value)
    except _UNREADABLE:
        return np.nan


def _unreadable(what: str, event: Any) -> SpoiledAction:
    return SpoiledAction("malformed_bar", f"a {what} that cannot be: {_words(event)}", hides_earlier=what == "split")


def _words(event: Any) -> str:
    return " ".join(repr(event).split())[:160]
