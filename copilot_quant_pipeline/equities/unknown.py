"""Whether symbols that Yahoo does not know are delisted or Yahoo is failing: pure decisions.

Here: a symbol's standing, and what the standings of all say of each.
Not here: reading them and what becomes of cells (delisting.py), Dagster.

Yahoo says 404 for a symbol it has lost for an hour, for all of them when it is down, and for one that is gone. So one
alone is delisted only after looks of three sessions found it unknown, with no other answer between them; and none while
too many of those that are known turned unknown within three sessions of it. A symbol that never had a bar says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from copilot_quant_pipeline.calendar import next_session, sessions_apart

# Looks of so many different sessions find a symbol unknown before it is delisted.
SESSIONS = 3

# Symbols that turn unknown within so many sessions of each other turn so together.
TOGETHER = 3

# Yahoo is failing where more than this share and more than this number turn unknown together, or all of two or more.
SHARE, NUMBER = 0.02, 3

# For so long Yahoo is not asked again for the later sessions of a symbol. Then it may have a new life, or Yahoo had
# lost it for a while: its delisted cells are gaps once later bars come (warehouse/gaps.py).
DECIDED_FOR = timedelta(days=7)


@dataclass(frozen=True)
class Standing:
    """What is stored of a symbol that has bars.

    Attributes:
        last_bar: the newest date with a bar.
        looks: the sessions whose looks found it unknown, with no other answer since; ascending.
        delisted_at: when it was last asked for and counted as delisted, aware UTC; None where it is not.
    """

    last_bar: date
    looks: tuple[date, ...] = ()
    delisted_at: datetime | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether enough looks found it unknown; a warehouse of old may have it as delisted by fewer."""
        return len(self.looks) >= SESSIONS

    @property
    def is_counted(self) -> bool:
        """Whether it has its say on how many are unknown: all but the delisted ones."""
        return self.delisted_at is None

    @property
    def turned(self) -> date | None:
        """The session in which it was first found unknown, or, delisted, had no bar; None for a known one."""
        if self.delisted_at:
            return next_session(self.last_bar)
        return self.looks[0] if self.looks else None


def with_look(standing: Standing, session: date) -> Standing:
    """It was found unknown once more, in a look of `session`."""
    return replace(standing, looks=tuple(sorted({*standing.looks, session})))


def is_decided(standing: Standing, now: datetime) -> bool:
    """Whether its later sessions are delisted without asking."""
    return standing.delisted_at is not None and now - standing.delisted_at < DECIDED_FOR


def plan_outage(standings: Mapping[str, Standing]) -> frozenset[str]:
    """The symbols that are unknown now because Yahoo is failing; with them those that were delisted by such a failure.

    What was delisted by fewer looks than it takes now is judged once more, as if it were not.
    """
    doubted = {key: one for key, one in standings.items() if one.is_counted or not one.is_confirmed}
    revoked = {key for key in _together(doubted) if not standings[key].is_counted}
    return _together({key: one for key, one in standings.items() if one.is_counted or key in revoked})


def plan_delisted(standings: Mapping[str, Standing], unknown: Collection[str]) -> list[str]:
    """Those of the symbols found `unknown` just now, that look included, that are delisted."""
    outage = plan_outage(standings)
    return [
        key
        for key in unknown
        if key in standings
        and key not in outage
        and (standings[key].is_confirmed or standings[key].delisted_at is not None)
    ]


def _together(counted: Mapping[str, Standing]) -> frozenset[str]:
    """The unknown ones of which too many turned so together."""
    turned = {key: one.turned for key, one in counted.items()}
    days = [day for day in turned.values() if day is not None]
    near = {day: sum(sessions_apart(day, other) <= TOGETHER for other in days) for day in set(days)}
    failing = {day for day, number in near.items() if _is_failing(number, len(counted))}
    return frozenset(key for key, day in turned.items() if day in failing)


def _is_failing(unknown: int, counted: int) -> bool:
    return (unknown > SHARE * counted and unknown > NUMBER) or (unknown == counted and counted >= 2)
