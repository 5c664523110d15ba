"""What a kept response is, and whether it is good enough for what is asked now.

Here: the value and the decision, both without I/O.
Not here: files (store.py), any vendor's format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Kept:
    """One vendor response: its table, the window that was asked, when, and small facts that came with it.

    `start` and `end` are included; `fetched_at` is aware UTC; `facts` must survive JSON.
    """

    payload: pa.Table
    start: date
    end: date
    fetched_at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)


def is_usable(
    kept: Kept, start: date, end: date, *, now: datetime, last_completed_close: datetime, ttl: timedelta
) -> bool:
    """Whether `kept` answers for `start` to `end` at `now`.

    It must cover those dates, be asked after the last completed session closed (before that it cannot hold
    that session's final bar), and lie within `ttl` of `now`, on either side: a pinned clock may go back.
    """
    covers = kept.start <= start and end <= kept.end
    return covers and kept.fetched_at >= last_completed_close and abs(now - kept.fetched_at) <= ttl
