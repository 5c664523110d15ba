"""Exchange sessions of New York (XNYS), over exchange_calendars.

Here: questions about sessions, their closes and holidays, in dates and aware UTC instants.
Not here: what is stored, what was asked for, Dagster.

Words as in exchange_calendars: a session is a day the exchange opens; it is completed once its close has passed.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

NEW_YORK = ZoneInfo("America/New_York")

# No grid starts before it: what exchange_calendars says of older holidays is not reliable (1962-01-01 is a session).
FIRST_DATE = date(1990, 1, 1)


@cache
def last_known_date() -> date:
    """The last date whose holidays are known: the end of next year."""
    return date(datetime.now(NEW_YORK).year + 1, 12, 31)


@cache
def _calendar() -> Any:
    import exchange_calendars

    return exchange_calendars.get_calendar("XNYS", start=FIRST_DATE.isoformat(), end=last_known_date().isoformat())


@cache
def _sessions() -> npt.NDArray[np.datetime64]:
    days: npt.NDArray[np.datetime64] = _calendar().sessions.values.astype("datetime64[D]")
    return days


@cache
def _closes() -> npt.NDArray[np.datetime64]:
    closes: npt.NDArray[np.datetime64] = _calendar().closes.dt.tz_convert(None).values.astype("datetime64[s]")
    return closes


def sessions_in_range(start: date, end: date) -> list[date]:
    """The sessions from `start` to `end`, both included, ascending."""
    import numpy as np

    days = _sessions()
    low = np.searchsorted(days, np.datetime64(start), side="left")
    high = np.searchsorted(days, np.datetime64(end), side="right")
    found: list[date] = days[low:high].tolist()
    return found


def is_session(day: date) -> bool:
    """Whether the exchange opens on `day`."""
    return sessions_in_range(day, day) == [day]


def previous_session(day: date) -> date:
    """The newest session before `day`."""
    return sessions_in_range(day - timedelta(days=14), day - timedelta(days=1))[-1]


def next_session(day: date) -> date:
    """The first session after `day`."""
    return sessions_in_range(day + timedelta(days=1), day + timedelta(days=14))[0]


def sessions_apart(one: date, other: date) -> int:
    """How many sessions lie between two days; 0 for the same one."""
    import numpy as np

    return abs(int(np.diff(np.searchsorted(_sessions(), np.array([one, other], "datetime64[D]")))[0]))


def session_close(session: date) -> datetime:
    """The instant `session` closes, aware UTC; half-days close early.

    Raises:
        ValueError: `session` is no session.
    """
    import numpy as np

    if not is_session(session):
        raise ValueError(f"{session} is no session of XNYS")
    close: datetime = _closes()[np.searchsorted(_sessions(), np.datetime64(session))].astype(datetime)
    return close.replace(tzinfo=UTC)


def last_completed_session(now: datetime) -> date:
    """The newest session whose close has passed at `now` (aware)."""
    import numpy as np

    moment = np.datetime64(now.astimezone(UTC).replace(tzinfo=None), "s")
    position = np.searchsorted(_closes(), moment, side="right") - 1
    session: date = _sessions()[position].astype(date)
    return session


def holidays(start: date, end: date) -> list[date]:
    """The weekdays from `start` to `end` on which the exchange stays closed, ascending."""
    open_days = set(sessions_in_range(start, end))
    days = (start + timedelta(days=n) for n in range((end - start).days + 1))
    return [day for day in days if day.weekday() < 5 and day not in open_days]
