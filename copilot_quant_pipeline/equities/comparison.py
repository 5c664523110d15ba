"""Our adjusted closes against those that the venue sends with the same answer.

Here: where the two disagree, bar by bar, and in words: pure, and vectorised because a backfill has 1.2 million bars.
Not here: what is done about it (warehouse/warnings.py), judging bars by themselves (bars.py).

Both follow from closes, dividends and splits; so a bar, a dividend or a split that was wrong from the first answer on,
which no stored value contradicts, shows itself by its own answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from copilot_quant_pipeline.calendar import last_completed_session
from copilot_quant_pipeline.equities.chart import VendorBars
from copilot_quant_pipeline.warehouse.fetch_result import WARNED

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Dates = npt.NDArray[np.datetime64]

# Relative. Single precision accounts for a millionth; of 1.24 million bars of the S&P 500 one is further off than this.
TOLERANCE = 1e-3

# The venue adjusts its closes for a dividend some days after it tells of it; of so many sessions, and so small a
# dividend, a close that is not adjusted at all says nothing.
LATE_SESSIONS = 10
LATE_DIVIDEND = 0.05
_UNADJUSTED = 1e-5

# Of so many of one symbol each is told by itself.
MOST_TOLD = 5


@dataclass(frozen=True)
class Disagreement:
    """Bars from `first` to `last` whose adjusted close is off by one and the same `factor`: ours by the venue's.

    `after` is the next bar, from which on the two agree better, and `dividend` what is told between them as a share of
    the price. `others` are those that it stands for.
    """

    first: date
    last: date
    factor: float
    after: date | None
    dividend: float
    others: int = 0

    @property
    def said(self) -> str:
        """What is found, in words."""
        bars = f"of {self.last}" if self.first == self.last else f"from {self.first} to {self.last}"
        if self.others:
            return f"adj_close {bars} follows the venue's own nowhere: it is up to {self.factor:.5g} x that"
        told = f"; a dividend of {self.dividend:.2%} of the price is told by {self.after}" if self.dividend else ""
        return f"adj_close {bars} is {self.factor:.5g} x the venue's own{told}"


def compare_adjusted_closes(answer: VendorBars) -> tuple[list[Disagreement], tuple[date, date] | None]:
    """Where our adjusted closes and the venue's differ by more than `TOLERANCE`, and what was compared; oldest first.

    Both are taken relative to the newest bar that a later session has confirmed: what comes after it moves all of the
    history by one factor, at the venue as here. Splits are in the closes as sent, and cancel. None where the answer
    holds no two bars with both.
    """
    dates, closes, theirs, dividends = _confirmed(answer)
    usable = np.flatnonzero((closes > 0) & np.isfinite(closes) & (theirs > 0) & np.isfinite(theirs))
    if len(usable) < 2:
        return [], None
    kept = _kept_shares(usable, closes, dividends)
    steps = _steps(closes[usable], theirs[usable], kept)
    off = np.append(np.cumprod(steps[::-1])[::-1], 1.0)
    found = [_told(dates[usable], off, kept, *bounds) for bounds in _segments(off, steps)]
    return _as_few(found), (dates[usable[0]].item(), dates[usable[-1]].item())


def disagreements(answer: VendorBars) -> tuple[pa.Table, tuple[date, date] | None]:
    """`compare_adjusted_closes` as rows of `WARNED`; each stands at the last bar that is off."""
    found, compared = compare_adjusted_closes(answer)
    rows = [
        {"kind": "adj_close", "key": answer.symbol, "date": one.last, "said": one.said, "size": one.factor}
        for one in found
    ]
    return pa.Table.from_pylist(rows, schema=WARNED), compared


def _confirmed(answer: VendorBars) -> tuple[Dates, Floats, Floats, Floats]:
    """Dates, closes, the venue's adjusted closes and dividends, as sent, of the sessions before the provisional one."""
    newest = np.datetime64(last_completed_session(answer.fetched_at))
    dates = answer.bars.column("date").to_numpy()
    kept = dates < newest
    columns = (answer.bars.column(name).to_numpy()[kept] for name in ("close", "adj_close", "dividend"))
    closes, theirs, dividends = (np.asarray(column, dtype=np.float64) for column in columns)
    return dates[kept], closes, theirs, dividends


def _kept_shares(usable: npt.NDArray[np.intp], closes: Floats, dividends: Floats) -> Floats:
    """For each usable bar but the last, which share of its close dividends leave until the next one."""
    kept = np.ones(len(usable) - 1)
    told = np.flatnonzero(np.isfinite(dividends) & (dividends > 0))
    before = np.searchsorted(usable, told, side="left") - 1
    inside = (before >= 0) & (before < len(kept))
    np.multiply.at(kept, before[inside], 1.0 - dividends[told[inside]] / closes[usable[before[inside]]])
    return kept


def _steps(closes: Floats, theirs: Floats, kept: Floats) -> Floats:
    """For each bar but the last: our factor from it to the next, by the venue's; 1 where the two agree."""
    of_venue = (theirs / closes)[:-1] / (theirs / closes)[1:]
    recent = np.arange(len(kept)) >= len(kept) - LATE_SESSIONS
    late = recent & (1.0 - kept <= LATE_DIVIDEND) & (np.abs(of_venue - 1.0) < _UNADJUSTED)
    # A dividend of the whole price and more leaves nothing, which has no ratio: it is off by as much as can be told.
    return np.where(late, 1.0, np.maximum(kept, 1e-9) / of_venue)


def _segments(off: Floats, steps: Floats) -> list[tuple[int, int]]:
    """The bars that are off, in runs that are off by the same: first and last of each, included."""
    wrong = np.abs(off - 1.0) > TOLERANCE
    same = wrong[:-1] & wrong[1:] & (np.abs(steps - 1.0) <= TOLERANCE)
    first = np.flatnonzero(wrong & ~np.append(False, same))
    last = np.flatnonzero(wrong & ~np.append(same, False))
    return list(zip(first.tolist(), last.tolist(), strict=True))


def _told(dates: Dates, off: Floats, kept: Floats, first: int, last: int) -> Disagreement:
    further = last + 1 < len(dates)
    return Disagreement(
        first=dates[first].item(),
        last=dates[last].item(),
        factor=float(off[last]),
        after=dates[last + 1].item() if further else None,
        dividend=1.0 - float(kept[last]) if further else 0.0,
    )


def _as_few(found: list[Disagreement]) -> list[Disagreement]:
    """All of them, or where they are many the furthest one in the place of all: that is one trouble, not hundreds."""
    if len(found) <= MOST_TOLD:
        return found
    worst = max(found, key=lambda one: abs(np.log(one.factor)))
    return [replace(worst, first=found[0].first, last=found[-1].last, others=len(found) - 1)]
