"""When the simulated exchange trades, in unix seconds.

Here: the sessions of the simulated market with their opens and closes as the arrays and numbers venues send.
Not here: the calendar's rules (calendar/), prices.
"""

from __future__ import annotations

from datetime import date, datetime, time
from functools import cache

import numpy as np
import numpy.typing as npt

from copilot_quant_pipeline.calendar import (
    NEW_YORK,
    is_session,
    last_known_date,
    session_close,
    sessions_in_range,
)
from copilot_quant_pipeline.sandbox.listings import FIRST_SESSION

OPEN = time(9, 30)
CLOSE = time(16)
PRE_MARKET_OPEN = time(4, 0)


@cache
def trading_days() -> npt.NDArray[np.datetime64]:
    """Every session of the simulated market, datetime64[D], to the end of the known calendar."""
    return np.array(sessions_in_range(FIRST_SESSION, last_known_date()), dtype="datetime64[D]")


def unix(day: date, at: time) -> int:
    """A New York wall-clock time as unix seconds."""
    return int(datetime.combine(day, at, NEW_YORK).timestamp())


@cache
def open_seconds(day: date) -> int:
    """When `day` opens, whether or not it is a session."""
    return unix(day, OPEN)


@cache
def close_seconds(session: date) -> int:
    """When `session` closes; half-days close early, a recorded day off the calendar at the usual time."""
    return int(session_close(session).timestamp()) if is_session(session) else unix(session, CLOSE)


def opens_of(days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int64]:
    """The opens of `days` in unix seconds."""
    return np.array([open_seconds(day) for day in days.tolist()], dtype=np.int64)


def current_session(now: datetime) -> date:
    """The newest session dated today or earlier in New York."""
    today = now.astimezone(NEW_YORK).date()
    days = trading_days()
    newest: date = days[np.searchsorted(days, np.datetime64(today), side="right") - 1].item()
    return newest
