"""Which of the newest cells to ask for: pure decisions, made at a tick of a schedule or a sensor.

Here: the newest sessions and days that are not in yet, and keys that are new on an axis.
Not here: ticks and runs (schedules.py, newcomers.py), gaps of the past (healing).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from copilot_quant_pipeline.calendar import NEW_YORK, is_session, last_completed_session
from copilot_quant_pipeline.grid.axes import sessions_between
from copilot_quant_pipeline.grid.cells import Cell, Rectangle, plan_runs
from copilot_quant_pipeline.settings import Settings

# A short answer of the venue reaches back this far (equities/fetch.py), so a machine that was off catches up with
# the same one request a symbol. What lies further back is a gap like any other.
CATCH_UP = timedelta(days=7)

# So far back a day of the markets' grid that was not over when it was read is read again.
CATCH_UP_MARKETS = timedelta(days=30)


@dataclass(frozen=True)
class Nothing:
    """There is nothing to ask for, and why."""

    why: str


def newest_sessions(tick: datetime, settings: Settings) -> list[date]:
    """The sessions of the axis in the last week that were completed at `tick` (aware), ascending."""
    last = last_completed_session(tick)
    return sessions_between(settings, last - CATCH_UP, last)


def plan_sessions(
    sessions: Sequence[date], symbols: Sequence[str], outcomes: Mapping[Cell, str]
) -> Rectangle | Nothing:
    """The cells to ask for in one run: of the last of `sessions`, and of those before it that nobody has asked for.

    `sessions` ascend and end with the last completed one, `symbols` are the axis in its order, `outcomes` are the
    cells of both that were asked for. Only blank cells are a reason to ask; red ones are healed.
    """
    if not symbols:
        return Nothing("No symbol is on the axis yet; the list of members puts them there.")
    if not sessions:
        return Nothing("The grid begins later: no session of it is completed.")
    dates = _since(sessions, max((cell.date for cell in outcomes), default=None))
    blank = [n for n, symbol in enumerate(symbols) if any(Cell(day, symbol) not in outcomes for day in dates)]
    if not blank:
        return Nothing(_all_asked(dates[-1], outcomes))
    return Rectangle(dates, tuple(symbols[blank[0] : blank[-1] + 1]))


def plan_days(today: date, start: date, newest_asked: date | None, markets: Sequence[str]) -> Rectangle | Nothing:
    """Today and yesterday (UTC) of all `markets`, and what was missed: from the newest day that was asked for on.

    That day is read again, because it was not over then. No day lies before `start`.
    """
    if not markets:
        return Nothing("No market is on the axis yet; the catalog puts them there.")
    yesterday = today - timedelta(days=1)
    missed = max(newest_asked or yesterday, today - CATCH_UP_MARKETS)
    first = max(start, min(yesterday, missed))
    if first > today:
        return Nothing("The markets' grid begins later.")
    days = tuple(first + timedelta(days=n) for n in range((today - first).days + 1))
    return Rectangle(days, tuple(markets))


def plan_newcomers(dates: Sequence[date], axis: Sequence[str], asked: Collection[str], largest: int) -> list[Rectangle]:
    """Runs over all of `dates` that hold exactly the keys of `axis` that were never asked for."""
    known = set(asked)
    return plan_runs([Cell(day, key) for key in axis if key not in known for day in dates], dates, axis, largest)


def why_no_session(tick: datetime) -> str:
    """What a morning's skip reason says first: that there was no session the day before, where there was none."""
    yesterday = tick.astimezone(NEW_YORK).date() - timedelta(days=1)
    return "" if is_session(yesterday) else f"The exchange was closed on {yesterday:%A} {yesterday}. "


def utc_day(instant: datetime) -> date:
    """The UTC day of an aware instant."""
    return instant.astimezone(UTC).date()


def _since(sessions: Sequence[date], newest_asked: date | None) -> tuple[date, ...]:
    """The last session, and with it those that lie after the newest one that was asked for."""
    if newest_asked is None:
        return (sessions[-1],)
    return tuple(day for day in sessions if day > newest_asked) or (sessions[-1],)


def _all_asked(session: date, outcomes: Mapping[Cell, str]) -> str:
    failed = sum(cell.date == session and outcome == "failed" for cell, outcome in outcomes.items())
    if failed:
        return f"Every cell of {session:%A} {session} was asked for; the {failed:,} that failed are left to healing."
    return f"Every cell of {session:%A} {session} is settled."
