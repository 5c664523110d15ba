"""Waiting for a turn at a pool: for how long, when it is told, and what is said.

Here: pure decisions on how long one has waited, and their words.
Not here: claiming and freeing slots (sqlite), whether who has one lives (run_lives).
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from copilot_quant_pipeline.errors import BusyError

# A turn takes seconds as a rule; who sits before a terminal begins to wonder after so many.
TOLD_AFTER = 5.0
TOLD_AGAIN_AFTER = 60.0


@dataclass(frozen=True)
class WaitLimits:
    """How long to wait for other processes, in seconds: for a lock file, and for a turn at a pool."""

    lock_timeout: float = 120.0
    wait: float = 7_200.0


PATIENT = WaitLimits()

# Of whoever opens an instance, whose storages Dagster makes.
PATIENCE: ContextVar[WaitLimits] = ContextVar("patience", default=PATIENT)


@dataclass
class Turn:
    """One step that waits for its turn at `pool` since an instant; instants are of one monotonic clock, in seconds."""

    pool: str
    since: float
    _told_at: float | None = field(default=None, init=False)

    def is_to_be_told(self, now: float) -> bool:
        """Whether to tell now that it waits; who asks tells."""
        last = self._told_at
        if now - self.since < TOLD_AFTER or (last is not None and now - last < TOLD_AGAIN_AFTER):
            return False
        self._told_at = now
        return True

    def told(self, now: float, holders: str, patience: WaitLimits) -> str:
        """What is told of it; `holders` is in words."""
        return (
            f"waiting for the pool {self.pool}, which one run at a time has: {holders}; for {now - self.since:.0f} s"
            f" so far, given up after {patience.wait:g} s (COPILOT_QUANT_WAIT)."
        )

    def is_given_up(self, now: float, patience: WaitLimits) -> bool:
        """Whether it has waited for as long as `patience` says."""
        return now - self.since >= patience.wait

    def busy(self, holders: str, patience: WaitLimits) -> BusyError:
        """What is raised where it is given up."""
        return BusyError(
            f"the pool {self.pool} was not free within {patience.wait:g} s: {holders}. Run the same command again"
            " later, end who has it if it hangs, or raise COPILOT_QUANT_WAIT."
        )
