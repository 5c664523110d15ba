"""Whether the bars of an answer came divided by the splits it tells of.

Here: pure reading of one symbol's closes, as they came and as they are stored.
Not here: where these come from and what becomes of a split (warehouse/plausibility.py, warehouse/actions.py).

Bars are stored as traded, which undoes the splits that the same answer tells of. So a split that it tells of without
having divided the bars before it makes them come multiplied by it, and one that it no longer tells of makes them come
divided where they are divided still. Bars that were divided come as they are stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]
    Dates = npt.NDArray[np.datetime64]

# A bar tells for or against a split where it is nearer to what the one says than a quarter of the way to the other.
_NEAR = 0.25

# Of more splits without a stored bar between them no more than so many are taken to be wrong at once.
_MOST_TOGETHER = 3


@dataclass(frozen=True)
class SplitDispute:
    """A split of which an answer tells otherwise than is known; 1 is none.

    `is_undivided`: as an earlier answer showed it, which holds where this one has nothing that could tell.
    """

    day: date
    told: float
    known: float
    is_undivided: bool = False

    @property
    def ratio(self) -> float:
        """By how much the bars before it come too high where they were not divided."""
        return self.told / self.known


@dataclass(frozen=True)
class SplitTrace:
    """What an answer's bars show of disputed splits.

    Attributes:
        divided: by day whether the bars before it came divided as the answer tells; None where no bar can tell, or the
            stored bars after it are in old shares.
        factors: for each bar what its prices came multiplied by, as if they had been divided.
        rescaling: by day what all earlier prices are to be multiplied by if the split is accepted; 1 where the stored
            bars show the split themselves, so that they are right as they are.
    """

    divided: Mapping[date, bool | None]
    factors: Floats
    rescaling: Mapping[date, float]


def trace_splits(
    days: Dates, stored: Floats, came: Floats, confirmed: Flags, disputes: Sequence[SplitDispute]
) -> SplitTrace:
    """Read one symbol's closes: `days` ascending, `stored` NaN where no bar is stored, `came` as traded.

    From the newest split back. Where no bar between two splits is stored, those before the older one tell of both. A
    bar that is not `confirmed` may be revised for reasons of its own, and tells nothing where others do.
    """
    factors, moved = np.ones(len(days)), came / stored
    ordered = sorted(disputes, key=lambda dispute: dispute.day, reverse=True)
    divided: dict[date, bool | None] = dict.fromkeys((one.day for one in ordered), None)
    whole: dict[date, bool] = dict.fromkeys(divided, False)
    newer, pending = 1.0, list[SplitDispute]()
    for dispute, until in zip(ordered, [*(one.day for one in ordered), date.min][1:], strict=False):
        piece = (days < np.datetime64(dispute.day)) & (days >= np.datetime64(until))
        pending.append(dispute)
        if not np.isfinite(moved[piece]).any():
            continue
        sure = np.where(confirmed, moved, np.nan)[piece] / newer
        judged = _judged(sure if np.isfinite(sure).any() else moved[piece] / newer, pending)
        for one, verdict in judged.verdicts.items():
            divided[one.day], whole[one.day] = verdict, verdict is False and bool(judged.undivided.all())
        for one in pending:
            after = (days < np.datetime64(one.day)) & ~piece
            factors[after] *= one.ratio if judged.verdicts[one] is False and judged.is_mostly_undivided else 1.0
        factors[piece] *= np.where(judged.undivided, judged.ratio, 1.0)
        newer *= judged.ratio if judged.is_mostly_undivided else 1.0
        pending = []
    for one in (one for one in pending if one.is_undivided):
        divided[one.day] = False
        factors[days < np.datetime64(one.day)] *= one.ratio
    for one in ordered:
        if divided[one.day] and _is_divided_after(days, moved / factors, one):
            divided[one.day] = None
    prices = np.where(np.isnan(stored), came / factors, stored)
    rescaling = {one.day: _rescaling(days, prices, one, whole[one.day]) for one in ordered}
    return SplitTrace(divided, factors, rescaling)


def _is_divided_after(days: Dates, moved: Floats, dispute: SplitDispute) -> bool:
    """Whether bars from the split on are stored in old shares: what came of them is divided, too."""
    after = np.log(moved[days >= np.datetime64(dispute.day)])
    near = np.abs(after + math.log(dispute.ratio)) <= _NEAR * abs(math.log(dispute.ratio))
    return bool(near.any())


@dataclass(frozen=True)
class _Judged:
    """What bars tell of splits: each one's verdict, which bars came too high, and by what."""

    verdicts: Mapping[SplitDispute, bool | None]
    undivided: Flags
    ratio: float

    @property
    def is_mostly_undivided(self) -> bool:
        return bool(self.undivided.mean() > 0.5)


def _judged(moved: Floats, disputes: Sequence[SplitDispute]) -> _Judged:
    """What bars, NaN where none is stored, tell of `disputes`: by which of these they came too high."""
    nothing = _Judged(dict.fromkeys(disputes, None), np.zeros(len(moved), dtype=bool), 1.0)
    logs = np.log(moved)
    telling = np.flatnonzero(np.isfinite(logs))
    near = _NEAR * min(abs(math.log(one.ratio)) for one in disputes)
    on = np.abs(logs[telling]) <= near
    off = {
        chosen: np.abs(logs[telling] - sum(math.log(one.ratio) for one in chosen)) <= near
        for count in range(1, min(len(disputes), _MOST_TOGETHER) + 1)
        for chosen in combinations(disputes, count)
    }
    chosen = max(off, key=lambda some: int(off[some].sum()))
    if not off[chosen].any():
        return _Judged(dict.fromkeys(disputes, True), nothing.undivided, 1.0) if on.any() else nothing
    ratio = math.prod(one.ratio for one in chosen)
    # A bar that is not stored is like the nearest that is.
    undivided = (logs / math.log(ratio) > 0.5)[telling[_nearest(telling, len(moved))]]
    verdicts: dict[SplitDispute, bool | None] = {one: one not in chosen for one in disputes}
    return _Judged(verdicts, undivided, ratio)


def _nearest(places: npt.NDArray[np.intp], length: int) -> npt.NDArray[np.intp]:
    """For each of `length` positions which of `places`, ascending, is nearest."""
    every = np.arange(length)
    after = np.clip(np.searchsorted(places, every), 0, len(places) - 1)
    before = np.maximum(after - 1, 0)
    nearest: npt.NDArray[np.intp] = np.where(
        np.abs(places[before] - every) <= np.abs(places[after] - every), before, after
    )
    return nearest


def _rescaling(days: Dates, prices: Floats, dispute: SplitDispute, undivided: bool) -> float:
    """The ratio where no price was divided and the prices show no such split themselves, else 1."""
    at = int(np.searchsorted(days, np.datetime64(dispute.day)))
    if not undivided or at == 0 or at == len(days):
        return 1.0
    way = math.log(prices[at - 1] / prices[at] / dispute.known) / math.log(dispute.ratio)
    return 1.0 if way > 0.5 else dispute.ratio
