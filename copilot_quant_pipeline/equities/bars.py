"""As-traded bars, and what each asked cell becomes given Yahoo's answer.

Here: undoing splits, judging bars, settling cells: pure, and vectorised because a backfill has 600,000 cells.
Not here: asking Yahoo (yahoo.py, fetch.py), storing (warehouse).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.calendar import last_completed_session, sessions_in_range
from copilot_quant_pipeline.equities.chart import SpoiledAction, VendorBars
from copilot_quant_pipeline.errors import AnotherCurrency, VendorError
from copilot_quant_pipeline.grid.cells import Span
from copilot_quant_pipeline.warehouse.fetch_result import CELLS
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]
    Dates = npt.NDArray[np.datetime64]
    Columns = Mapping[str, npt.NDArray[Any]]

_PRICES = ("open", "high", "low", "close")
_TRADED = (*_PRICES, "volume", "dividend", "split_ratio")

# How far open or close may lie outside low..high, relative: Yahoo's values are single-precision.
_SLACK = 1e-6

# Single precision holds 7 significant digits; rounding to them gives back what was quoted, so that two
# answers between which a split lies give the same bar to the last bit.
_DIGITS = 7

# Powers of ten to 22 are exact and a division rounds once: what comes out is the double nearest to the
# decimal.
_POWERS = np.array([float(10**power) for power in range(23)])

# Beyond this a float no longer counts single shares; no symbol trades a thousandth of it in a day.
_MOST_SHARES = 2.0**53

# What a cell can become, as positions in _OUTCOMES and _REASONS.
_GOOD, _NOT_LISTED, _MISSING, _MALFORMED, _CURRENCY = range(5)
_OUTCOMES = pa.array(["settled", "settled", "failed", "failed", "failed"])
_REASONS = pa.array([None, "not_listed", "missing_at_source", "malformed_bar", AnotherCurrency.reason], pa.string())
_QUALITIES = pa.array(["ohlc_inconsistent", "ok"])


@dataclass(frozen=True)
class SettledBars:
    """What an answer gives for a span.

    Every cell once (`CELLS`), the rows of those that have one (`BARS`), every action told of (`ACTIONS`).
    """

    cells: pa.Table
    rows: pa.Table
    actions: pa.Table


def undo_later_splits(answer: VendorBars) -> pa.Table:
    """The bars as traded on their day, in the shares and dollars of that day.

    Yahoo sends prices and dividends divided by every later split and volumes multiplied by them. A spin-off
    arrives as a fractional split (1.061) and is undone by the same rule. Columns as sent without `adj_close`;
    prices and dividends rounded to 7 significant digits (relative error up to 5e-7), volumes to whole shares.
    """
    traded = _as_traded(_sent(answer))
    return pa.table({name: pa.array(column, from_pandas=True) for name, column in traded.items()})


def settle_span(
    span: Span, answer: VendorBars | VendorError, *, now: datetime, source: str, known_from: date | None = None
) -> SettledBars:
    """What each asked cell becomes, every one exactly once.

    A good bar settles its cell, and so does a date before the symbol was listed (`not_listed`, no row). A
    session Yahoo should have and has not is `missing_at_source`; a bar that cannot be is `malformed_bar` with
    its numbers in `detail`; a vendor's error is every cell's. `now` is when that error came; bars carry their
    own instant. `rows` name `source` as the venue. From `known_from` on, the first bar stored, the symbol was listed,
    wherever this answer begins.
    """
    if isinstance(answer, VendorError):
        return SettledBars(_refused(span, answer, now), BARS.arrow.empty_table(), ACTIONS.arrow.empty_table())
    # Arrow reads Python's dates forty times faster than numpy does.
    asked = _days(span.dates)
    everything = _sent(answer)
    sent = _without_lost(everything)
    listed_from = _listed_from(answer, sent["date"], known_from)
    bars = _as_traded(_between(sent, asked[0], asked[-1]))
    at, count = _positions(bars["date"], asked)
    fates = _fates(bars, asked, at, count, listed_from)
    spoiled_by_currency = [day for day, why in answer.spoiled.items() if why.reason == AnotherCurrency.reason]
    fates[(fates == _MALFORMED) & np.isin(asked, _days(spoiled_by_currency))] = _CURRENCY
    good = fates == _GOOD
    return SettledBars(
        cells=_cells(span.key, asked, fates, _details(bars, at, count, fates, answer), answer.fetched_at),
        rows=_rows(span.key, {name: column[at[good]] for name, column in bars.items()}, answer.fetched_at, source),
        actions=_actions(span.key, everything, answer.fetched_at, source),
    )


def bars_beside(answer: VendorBars, asked: Sequence[date], *, source: str) -> pa.Table:
    """The sound bars of an answer's other sessions (`BARS`): what was not `asked`, as traded."""
    bars = _as_traded(_without_lost(_sent(answer)))
    dates = bars["date"]
    if len(dates) == 0:
        return BARS.arrow.empty_table()
    _, count = _positions(dates, dates)
    others = ~np.isin(dates, _days(asked))
    chosen = others & (count == 1) & _is_sound(bars) & np.isin(dates, _sessions(dates[0], dates[-1]))
    kept = {name: column[chosen] for name, column in bars.items()}
    return _rows(answer.symbol, kept, answer.fetched_at, source)


def actions_told(answer: VendorBars, *, source: str) -> pa.Table:
    """Every dividend and split an answer tells of (`ACTIONS`), as paid."""
    return _actions(answer.symbol, _sent(answer), answer.fetched_at, source)


def _days(days: Sequence[date]) -> Dates:
    found: Dates = pa.array(days, pa.date32()).to_numpy(zero_copy_only=False)
    return found


def round_to_quoted(values: Floats) -> Floats:
    """Values rounded to 7 significant digits, order kept; zero and what is not finite stay."""
    usable = np.isfinite(values) & (values != 0)
    magnitude = np.floor(np.log10(np.abs(values), where=usable, out=np.zeros_like(values))).astype(np.intp)
    places = np.clip(_DIGITS - 1 - magnitude, -22, 22)
    up, down = _POWERS[np.maximum(places, 0)], _POWERS[np.maximum(-places, 0)]
    return np.where(usable, np.rint(values * up / down) * down / up, values)


def _sent(answer: VendorBars) -> Columns:
    """The answer's columns, and for each row the product of all later splits."""
    names = (*_TRADED, "date")
    sent: dict[str, npt.NDArray[Any]] = {name: answer.bars.column(name).to_numpy() for name in names}
    return {**sent, "later": _later_splits(sent["split_ratio"])}


def _as_traded(sent: Columns) -> Columns:
    later = sent["later"]
    return {
        "date": sent["date"],
        **{name: round_to_quoted(sent[name] * later) for name in _PRICES},
        "volume": np.rint(sent["volume"] / later),
        "dividend": round_to_quoted(sent["dividend"] * later),
        "split_ratio": sent["split_ratio"],
    }


def _later_splits(ratios: Floats) -> Floats:
    """For each row the product of the split ratios of all rows after it.

    NaN before a ratio that cannot be: what was traded then is not known.
    """
    possible = np.where(np.isfinite(ratios) & (ratios > 0), ratios, np.nan)
    from_here = np.cumprod(possible[::-1])[::-1]
    return np.append(from_here[1:], 1.0)[: len(ratios)]


def _between(bars: Columns, start: np.datetime64, end: np.datetime64) -> Columns:
    """The bars from `start` to `end`, both included."""
    low = np.searchsorted(bars["date"], start, side="left")
    high = np.searchsorted(bars["date"], end, side="right")
    return {name: column[low:high] for name, column in bars.items()}


def _without_lost(bars: Columns) -> Columns:
    """The bars that have a price at all; a row of nulls is a lost session, its split already counted."""
    kept = ~np.logical_and.reduce([np.isnan(bars[name]) for name in _PRICES])
    return {name: column[kept] for name, column in bars.items()}


def _positions(dates: Dates, asked: Dates) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each asked date's first bar is, and how many it has."""
    first = np.searchsorted(dates, asked, side="left")
    return first, np.searchsorted(dates, asked, side="right") - first


def _fates(
    bars: Columns,
    asked: Dates,
    at: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    listed_from: np.datetime64,
) -> npt.NDArray[np.int8]:
    present = count > 0
    fates = np.where(asked < listed_from, _NOT_LISTED, _MISSING).astype(np.int8)
    sound = np.append(_is_sound(bars), False)
    good = present & (count == 1) & sound[np.where(present, at, -1)] & np.isin(asked, _sessions(asked[0], asked[-1]))
    fates[present] = np.where(good[present], _GOOD, _MALFORMED)
    return fates


def _listed_from(answer: VendorBars, dates: Dates, known_from: date | None) -> np.datetime64:
    """The first date of the symbol's listed life, as far as the answer tells."""
    known = list(dates[:1])
    if answer.first_trade_date:
        known.append(np.datetime64(answer.first_trade_date))
    if known_from:
        known.append(np.datetime64(known_from))
    # A window without a single bar and without a listing date says nothing about when the life began.
    return min(known, default=np.datetime64("0001-01-01"))


def _is_sound(bars: Columns) -> Flags:
    finite = np.logical_and.reduce([np.isfinite(bars[name]) for name in _TRADED])
    positive = np.logical_and.reduce([bars[name] > 0 for name in (*_PRICES, "split_ratio")])
    sound: Flags = (
        finite & positive & (bars["volume"] >= 0) & (bars["volume"] <= _MOST_SHARES) & (bars["dividend"] >= 0)
    )
    return sound


@lru_cache(maxsize=64)
def _sessions(start: np.datetime64, end: np.datetime64) -> Dates:
    return np.array(sessions_in_range(start.astype(date), end.astype(date)), dtype="datetime64[D]")


def _details(
    bars: Columns,
    at: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    fates: npt.NDArray[np.int8],
    answer: VendorBars,
) -> pa.Array:
    details: list[str | None] = [None] * len(fates)
    for cell in np.flatnonzero(fates >= _MALFORMED).tolist():
        rows = range(at[cell], at[cell] + count[cell])
        why = _why_spoiled(answer.spoiled, bars["date"][at[cell]].item())
        details[cell] = why or " and ".join(_numbers(bars, row) for row in rows)
    return pa.array(details, pa.string())


def _why_spoiled(spoiled: Mapping[date, SpoiledAction], day: date) -> str | None:
    """What is said of a session instead of its numbers: its own event, or a later split, cannot be read."""
    if day in spoiled:
        return spoiled[day].words
    split = min((later for later, why in spoiled.items() if later > day and why.hides_earlier), default=None)
    return f"{split} has {spoiled[split].words}" if split else None


def _numbers(bars: Columns, row: int) -> str:
    return f"{bars['date'][row]}: " + " ".join(f"{name}={float(bars[name][row])!r}" for name in _TRADED)


def _cells(key: str, asked: Dates, fates: npt.NDArray[np.int8], details: pa.Array, fetched_at: datetime) -> pa.Table:
    return pa.table(
        [
            pa.array(asked, pa.date32()),
            pa.repeat(key, len(asked)),
            _OUTCOMES.take(pa.array(fates)),
            _REASONS.take(pa.array(fates)),
            details,
            _stamps(fetched_at, len(asked)),
        ],
        schema=CELLS,
    )


def _refused(span: Span, error: VendorError, now: datetime) -> pa.Table:
    n = len(span.dates)
    columns = [
        pa.array(span.dates, pa.date32()),
        *(pa.repeat(text, n) for text in (span.key, "failed", error.reason, str(error))),
        _stamps(now, n),
    ]
    return pa.table(columns, schema=CELLS)


def _rows(key: str, bars: Columns, fetched_at: datetime, source: str) -> pa.Table:
    n = len(bars["date"])
    final = bars["date"] < np.datetime64(last_completed_session(fetched_at))
    columns = {
        **{name: pa.array(column) for name, column in bars.items()},
        "date": pa.array(bars["date"], pa.date32()),
        "symbol": pa.repeat(key, n),
        "volume": pa.array(bars["volume"].astype(np.int64)),
        "confirmed_at": pc.if_else(pa.array(final), _stamp(fetched_at), None),
        "quality": _QUALITIES.take(pa.array(_is_consistent(bars).astype(np.int8))),
        "source": pa.repeat(source, n),
        "first_seen_at": _stamps(fetched_at, n),
    }
    return pa.table([columns[name] for name in BARS.names], schema=BARS.arrow)


def _actions(key: str, sent: Columns, fetched_at: datetime, source: str) -> pa.Table:
    """Every dividend and split of the answer that can be one, as paid; its session may have no bar."""
    dividend, ratio = round_to_quoted(sent["dividend"] * sent["later"]), sent["split_ratio"]
    # The bars before it were divided by a split, whatever was paid on its day.
    dividend = np.where(np.isnan(sent["dividend"]) & (ratio != 1), 0.0, dividend)
    possible = np.isfinite(dividend) & (dividend >= 0) & np.isfinite(ratio) & (ratio > 0)
    told = possible & ((dividend != 0) | (ratio != 1))
    # Where a date comes twice its action is on the first.
    told &= np.append(True, sent["date"][1:] != sent["date"][:-1])[: len(told)]
    n = int(told.sum())
    columns = [
        pa.repeat(key, n),
        pa.array(sent["date"][told], pa.date32()),
        pa.array(dividend[told]),
        pa.array(ratio[told]),
        pa.repeat(source, n),
        _stamps(fetched_at, n),
    ]
    return pa.table(columns, schema=ACTIONS.arrow)


def _is_consistent(bars: Columns) -> Flags:
    low, high = bars["low"] * (1 - _SLACK), bars["high"] * (1 + _SLACK)
    inside: Flags = np.logical_and.reduce([(low <= bars[name]) & (bars[name] <= high) for name in ("open", "close")])
    return inside


def _stamps(instant: datetime, n: int) -> pa.Array:
    return pa.repeat(_stamp(instant), n)


def _stamp(instant: datetime) -> pa.Scalar:
    return pa.scalar(instant, CELLS.field("fetched_at").type)
