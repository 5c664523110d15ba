"""What becomes of a dividend or split of which an answer tells otherwise than is known.

Here: the rules by which it is stored at once, waits for a person, or changes nothing yet: pure.
Not here: whether the bars before a split came divided (warehouse/splits.py), the statements
(warehouse/plausibility.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from copilot_quant_pipeline.calendar import is_session, sessions_in_range

# Yahoo is often late: what appears within so many sessions of its own is no surprise.
LATE_SESSIONS = 10

# A dividend above this share of the price before it waits.
DIVIDEND_SHARE = 0.05

# A split that waits since so many sessions is a person's to decide, even if the history is divided then.
RESOLVING_SESSIONS = 5

# How far rounding moves a dividend: of itself, and in the unit Yahoo sends, divided by later splits.
_DIVIDEND_TOLERANCE = 5e-6
_DIVIDEND_UNIT = 1e-6

Fate = Literal["same", "store", "wait", "ignore", "notice"]


@dataclass(frozen=True)
class Recalled:
    """What is on record of such a change: noticed once, waiting, or rejected by a person.

    `session` is the last one completed when it was first seen; `divided` whether the bars before a split came so.
    """

    state: Literal["noticed", "waiting", "rejected"]
    value: float
    session: date
    divided: bool | None = None


@dataclass(frozen=True)
class Told:
    """One value of an action, a dividend or a split ratio, as known and as an answer tells it.

    Attributes:
        day: the session it is of.
        told: what the answer says,
        known: what is stored; 0 is no dividend, 1 no split.
        session: the last session completed when it was asked for.
        own_bar: whether it comes with its session's first bar, or is of a session after all stored ones.
        price: of a dividend, the last close before it in shares of its day.
        later: the product of the splits after it.
        divided: of a split, whether the bars before it came divided by it; None where none can tell.
        recalled: what is on record of it.
    """

    day: date
    told: float
    known: float
    session: date
    own_bar: bool
    price: float | None = None
    later: float = 1.0
    divided: bool | None = None
    recalled: Sequence[Recalled] = ()

    @property
    def is_recent(self) -> bool:
        """Whether it is told with its own session or within ten sessions of it."""
        late = is_session(self.day) and len(sessions_in_range(self.day, self.session)) <= LATE_SESSIONS + 1
        return self.own_bar or late

    def in_states(self, state: str) -> list[Recalled]:
        """The same change as often as it is on record in `state`."""
        return [one for one in self.recalled if one.state == state and abs(one.value - self.told) <= 1e-4 * self.told]

    def in_state(self, state: str) -> Recalled | None:
        """The same change as it is on record in `state`."""
        return next(iter(self.in_states(state)), None)


def is_same_dividend(told: float, known: float, later: float = 1.0) -> bool:
    """Whether two amounts differ by no more than rounding, `later` being the product of the splits after them."""
    slack = _DIVIDEND_UNIT * max(later, 1.0)
    # A dividend that is there is never the same as none.
    return told == known or min(told, known) > 0 and abs(told - known) <= max(slack, _DIVIDEND_TOLERANCE * known)


def judge_dividend(one: Told) -> Fate:
    """What becomes of a dividend: one that appears soon and is no more than a twentieth of the price is stored."""
    if is_same_dividend(one.told, one.known, one.later):
        return "same"
    if one.told == 0:
        return _missing(one)
    if one.in_state("rejected"):
        return "ignore"
    appears = one.known == 0 and one.is_recent
    return "store" if appears and (one.price is None or one.told <= DIVIDEND_SHARE * one.price) else "wait"


def judge_split(one: Told) -> Fate:
    """What becomes of a split: one that appears soon and by which the bars before it were divided is stored."""
    if abs(one.told / one.known - 1) <= 1e-6:
        return "same"
    if one.told == 1:
        return _missing(one)
    rejected, waiting = one.in_states("rejected"), one.in_state("waiting")
    if rejected:
        # That the history is divided meanwhile is another question than the one that was answered.
        return "ignore" if bool(one.divided) in {bool(before.divided) for before in rejected} else "wait"
    if not one.divided:
        return "wait"
    if waiting and not waiting.divided:
        waited = len(sessions_in_range(waiting.session, one.session)) - 1
        return "store" if waited <= RESOLVING_SESSIONS else "wait"
    return "store" if one.is_recent else "wait"


def _missing(one: Told) -> Fate:
    """An action that one answer lacks changes nothing; that a second one of another session lacks it, too, waits."""
    if one.in_state("rejected"):
        return "ignore"
    if one.in_state("waiting"):
        return "wait"
    noticed = one.in_state("noticed")
    return "wait" if noticed and noticed.session != one.session else "notice"
