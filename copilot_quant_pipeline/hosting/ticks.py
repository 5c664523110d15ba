"""Ticks: whether the daemon still gets answers from schedules and sensors, and how long it has not.

Here: what counts as a good tick, silence measured in awake time, the call of an address after each good tick.
Not here: what is done about silence (supervisor.py).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace

import requests
from dagster import DagsterInstance
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.schedules.schema import JobTickTable
from dagster._core.storage.schedules.sql_schedule_storage import SqlScheduleStorage
from sqlalchemy import select

log = logging.getLogger(__name__)

# After so long without a good tick somebody is told, in seconds.
PATIENCE = 600.0

# Between two looks no more than this counts: a machine or process that was asleep has not been silent, in seconds.
_LONGEST_STEP = 10.0

# How long the address that is called after a good tick may take, in seconds.
_TIMEOUT = 10.0


@dataclass(frozen=True)
class Silence:
    """How long there has been no good tick.

    Attributes:
        newest: the id of the newest good tick known.
        seconds: awake time since it was seen, or since the start.
    """

    newest: int
    seconds: float = 0.0


def listened(silence: Silence, newest: int, elapsed: float) -> Silence:
    """The silence after another look, `elapsed` seconds after the one before by a clock that nobody sets."""
    if newest > silence.newest:
        return Silence(newest)
    return replace(silence, seconds=silence.seconds + min(max(elapsed, 0.0), _LONGEST_STEP))


def newest_good_tick(instance: DagsterInstance) -> int:
    """The id of the newest tick of any schedule or sensor that was evaluated without an error; 0 where there is none.

    By id, not by Dagster's own question for the newest, which goes by instants: a clock that was set back would look
    like silence.
    """
    storage = instance.schedule_storage
    if not isinstance(storage, SqlScheduleStorage):
        return 0
    good = JobTickTable.c.status.in_([TickStatus.SUCCESS.value, TickStatus.SKIPPED.value])
    newest = storage.execute(select(JobTickTable.c.id).where(good).order_by(JobTickTable.c.id.desc()).limit(1))
    return max((int(row[0]) for row in newest), default=0)


class Heartbeat:
    """Calls an address that notices when it is no longer called.

    Calls go out from a thread of their own, one at a time; what is said of a failure holds nothing of the address.
    """

    def __init__(self, url: str | None) -> None:
        """Call `url`; nothing where it is None."""
        self._url = url
        self._calling: threading.Thread | None = None
        self._failing = False

    def send(self) -> None:
        """Call it, unless the last call is still under way."""
        if self._url and not (self._calling and self._calling.is_alive()):
            self._calling = threading.Thread(target=self._call, args=(self._url,), name="heartbeat", daemon=True)
            self._calling.start()

    def _call(self, url: str) -> None:
        problem = _problem_of(url)
        if problem and not self._failing:
            log.warning("COPILOT_QUANT_HEARTBEAT_URL did not answer well (%s); told once, until it does again", problem)
        elif self._failing and not problem:
            log.warning("COPILOT_QUANT_HEARTBEAT_URL answers again")
        self._failing = problem is not None


def _problem_of(url: str) -> str | None:
    try:
        with requests.get(url, timeout=_TIMEOUT, stream=True) as answer:  # nobody reads what it says
            return None if answer.ok else f"HTTP {answer.status_code}"
    except Exception as error:  # its text would hold the address
        return type(error).__name__
