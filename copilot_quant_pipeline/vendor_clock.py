"""A vendor's own clock, as the `Date` of its answers tells it, and how far ours is ahead of it.

Here: hearing it, and an instant of ours held back by it.
Not here: where the present instant comes from (settings.py), what a held-back instant means for a cell (the rooms).

A machine whose clock is a month ahead would otherwise settle days that have not happened: nothing traded on them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# Clocks differ, and an answer takes its time.
TOLERANCE = timedelta(minutes=10)
_NOTHING = timedelta(0)


class VendorClock:
    """What one vendor's answers say of the time; thread-safe. Nothing is known before the first that says it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: tuple[datetime, float] | None = None

    def hear(self, headers: Mapping[str, str | None]) -> None:
        """Take note of an answer; one with an `Age` was made earlier, by a cache's clock or ours."""
        told = told_time(headers)
        if told is not None:
            with self._lock:
                self._told = told, time.monotonic()

    def now(self) -> datetime | None:
        """The present instant by the vendor's clock, aware UTC; None where it has not told."""
        with self._lock:
            if self._told is None:
                return None
            told, heard = self._told
        return told + timedelta(seconds=time.monotonic() - heard)

    def ahead(self, now: datetime | None = None) -> timedelta:
        """How far our clock is ahead of the vendor's; nothing where that is within the tolerance or not known."""
        theirs = self.now()
        difference = (now or datetime.now(UTC)) - theirs if theirs else _NOTHING
        return difference if difference > TOLERANCE else _NOTHING

    def held_back(self, instant: datetime) -> datetime:
        """An instant of our clock, as the vendor's clock would have it where ours is ahead."""
        return instant - self.ahead()


def told_time(headers: Mapping[str, str | None]) -> datetime | None:
    """The instant that an answer's `Date` tells, aware UTC; None where it has none or was not made just now."""
    if headers.get("Age") is not None:
        return None
    with suppress(ValueError, TypeError, OverflowError):
        told = parsedate_to_datetime(headers.get("Date") or "")
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).astimezone(UTC)
    return None
