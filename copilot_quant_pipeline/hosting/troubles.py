"""What a supervisor tells of `ui` itself, as troubles of the book of alerts.

Here: their words and sources. The sensor of alerts finds nothing there: its next tick tells that they are over.
Not here: when they are told (supervisor.py).
"""

from __future__ import annotations

from datetime import datetime

from copilot_quant_pipeline.alerts.incidents import Trouble

SILENCE, GIVEN_UP, DEATH = "ui/ticks", "ui/end", "ui/programs"

_PAGE = "/deployment/daemons"
_SUBJECT = "copilot-quant ui"


def silence(patience: float, now: datetime) -> Trouble:
    """No good tick for `patience` seconds."""
    return _trouble(
        SILENCE,
        f"has had no good tick of a schedule or sensor for {patience / 60:.0f} minutes",
        "its programs live and do not get on: nothing is updated, healed or told meanwhile",
        "nothing by itself: look at Dagit's page and at what copilot-quant ui has printed, and start it anew.",
        now,
    )


def death(program: str, ended: str, now: datetime) -> Trouble:
    """A program that has died and is started again."""
    what = f"has lost its {program} and starts it again"
    next_step = "it is started again; runs that it had under way are started again by Dagster."
    return _trouble(f"{DEATH}/{program}", what, ended, next_step, now, failure=False)


def given_up(why: str, now: datetime) -> Trouble:
    """A program that dies again and again, so that everything was ended."""
    next_step = "nothing by itself: mend the cause, then start copilot-quant ui again."
    return _trouble(GIVEN_UP, "has ended: it cannot be kept up", why, next_step, now)


def _trouble(key: str, what: str, example: str, next_step: str, now: datetime, *, failure: bool = True) -> Trouble:
    return Trouble(
        key=key,
        source=key,
        asset=_SUBJECT,
        what=what,
        since=now,
        last=now,
        examples=(example,),
        next_step=next_step,
        page=_PAGE,
        failure=failure,
    )
