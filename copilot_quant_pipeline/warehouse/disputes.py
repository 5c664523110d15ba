"""What becomes of the dividends and splits that an answer tells otherwise than they are known, symbol by symbol.

Here: putting what closes show (warehouse/splits.py) to the rules (warehouse/actions.py): pure, on the rows of the
temporary table `disputed` (warehouse/plausibility.py), which are few.
Not here: statements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from copilot_quant_pipeline.calendar import is_session, last_completed_session
from copilot_quant_pipeline.warehouse.actions import Recalled, Told, is_same_dividend, judge_dividend, judge_split
from copilot_quant_pipeline.warehouse.splits import SplitDispute, SplitTrace, trace_splits

JUDGED = pa.schema(
    [
        ("symbol", pa.string()),
        ("date", pa.date32()),
        ("dividend", pa.float64()),
        ("split_ratio", pa.float64()),
        *((name, pa.string()) for name in ("dividend_fate", "split_fate")),
        *((name, pa.float64()) for name in ("told_dividend", "told_split")),
        ("divided", pa.bool_()),
        ("factor", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Closes:
    """One symbol's closes, its disputed splits and what closes show of them, and all its splits."""

    days: Any
    prices: Any
    trace: SplitTrace
    disputes: Sequence[SplitDispute]
    splits: Mapping[date, float]

    @classmethod
    def of(cls, arrays: Sequence[Any], splits: Mapping[date, float], disputed: Sequence[Mapping[str, Any]]) -> Closes:
        """`arrays` are days, closes as stored and as they came, NaN where there is none, and which are confirmed."""
        days, stored, came, confirmed = arrays
        disputes = [one for row in disputed if (one := _split_of(row))]
        trace = trace_splits(days, stored, came, confirmed, disputes)
        return cls(days, np.where(np.isnan(stored), came / trace.factors, stored), trace, disputes, splits)

    def price_before(self, day: date) -> float | None:
        """The last close before `day`."""
        at = int(np.searchsorted(self.days, np.datetime64(day)))
        return float(self.prices[at - 1]) if at else None

    def factor_at(self, day: date) -> float:
        """By how much a value of `day` came too high."""
        at = int(np.searchsorted(self.days, np.datetime64(day), side="right"))
        return float(self.trace.factors[at - 1]) if at else 1.0

    def open_at(self, day: date) -> float:
        """By how much a value of `day` came too high if no split was divided by of which no bar can tell."""
        return math.prod(one.ratio for one in self.disputes if one.day > day and self.trace.divided[one.day] is None)

    def later(self, day: date) -> float:
        """The product of all splits after `day`."""
        return math.prod(ratio for at, ratio in self.splits.items() if at > day)


def _split_of(row: Mapping[str, Any]) -> SplitDispute | None:
    """What bars may show of the split of a row of `disputed`: of one that is known, that they came undivided by it."""
    day, told, known = row["date"], row["told_split"], row["split_ratio"]
    if abs(told / known - 1) > 1e-6:
        before = (one for one in _of("split", row) if abs(one.value / told - 1) <= 1e-6)
        return SplitDispute(day, told, known, is_undivided=any(one.divided is False for one in before))
    return SplitDispute(day, told, 1.0) if abs(told - 1) > 1e-6 else None


def judge_dispute(row: Mapping[str, Any], closes: Closes) -> dict[str, Any]:
    """What becomes of an action that an answer tells otherwise than it is known, by column of `JUDGED`.

    `row` is of the temporary table `disputed`, with what is `recalled` of it.
    """
    day, known, known_split = row["date"], row["dividend"], row["split_ratio"]
    session = session_of(row["seen_at"])
    own = row["has_new_bar"] or (row["is_after_all"] and is_session(day))
    # Before the first stored bar there is nothing that a split could contradict.
    divided = closes.trace.divided.get(day) if row["has_before"] else True
    split = judge_split(
        Told(day, row["told_split"], known_split, session, own, divided=divided, recalled=_of("split", row))
    )
    later = closes.later(day)
    told = _undone(row["told_dividend"], known, later, (closes.factor_at(day), closes.open_at(day)))
    price = closes.price_before(day) if row["has_before"] else None
    ratio = row["told_split"] if split == "store" else known_split
    dividend = judge_dividend(
        Told(
            day,
            told,
            known,
            session,
            own,
            price=None if price is None else price / ratio,
            later=later,
            recalled=_of("dividend", row),
        )
    )
    return {
        "symbol": row["symbol"],
        "date": day,
        "dividend": told if dividend == "store" else known,
        "split_ratio": ratio,
        "dividend_fate": dividend,
        "split_fate": split,
        "told_dividend": told,
        "told_split": row["told_split"],
        "divided": divided,
        "factor": closes.trace.rescaling.get(day),
    }


def _undone(told: float, known: float, later: float, factors: tuple[float, float]) -> float:
    """A dividend as paid, where the bars beside it came too high by the first factor, and perhaps by the second."""
    sure, possible = factors
    if is_same_dividend(told, known, later):
        return told
    if possible != 1 and is_same_dividend(told / possible, known, later):
        return known
    return told if sure == 1 else float(f"{told / sure:.7g}")


def _of(kind: str, row: Mapping[str, Any]) -> list[Recalled]:
    return [one for of, one in row["recalled"] if of == kind]


@cache
def session_of(instant: datetime) -> date:
    """The last session that was completed at an instant (aware)."""
    return last_completed_session(instant)
