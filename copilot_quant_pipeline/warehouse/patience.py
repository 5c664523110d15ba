"""How long a cell that failed is asked for again: when next, and when it is given up.

Here: the one policy of it, which coverage (settling.py), healing (upkeep/healing.py), alerts and README go by.
Not here: what counts as a try of the cell (fetch_result.py), which cells are due (upkeep/healing.py), how often one
request is repeated (retry_policy.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Patience:
    """How long a cell that failed is asked for again.

    Attributes:
        tries: how many tries that say something about a cell it is given at least,
        tried_for: over at least how long, before it is given up.
        first_wait: before the first new try; `factor` times as long before each next one,
        longest_wait: at most, and
        longest_wait_for_venue: at most where the venue was out of reach, which may be back any minute.
        out_of_reach_for: how long a venue that is out of reach is asked again; these are no tries of the cell.
        left_after_close: how long after the close a new session is left to the schedules,
        left_of_a_day: and how long after a UTC day its markets are.
    """

    tries: int = 8
    tried_for: timedelta = timedelta(days=3)
    first_wait: timedelta = timedelta(minutes=10)
    factor: int = 4
    longest_wait: timedelta = timedelta(hours=24)
    longest_wait_for_venue: timedelta = timedelta(hours=1)
    out_of_reach_for: timedelta = timedelta(days=7)
    left_after_close: timedelta = timedelta(hours=11)
    left_of_a_day: timedelta = timedelta(hours=7)

    def wait_for_cell(self, tries: int) -> timedelta:
        """How long to wait after so many tries that said something about the cell."""
        return min(self._growing(tries), self.longest_wait)

    def wait_for_venue(self, passing: int) -> timedelta:
        """How long to wait after so many tries that found the venue out of reach."""
        return min(self._growing(passing), self.longest_wait_for_venue)

    def _growing(self, tries: int) -> timedelta:
        # Seven steps are beyond any longest wait; more would be beyond what a timedelta holds.
        return self.first_wait * int(self.factor ** min(max(tries, 1) - 1, 7))

    @property
    def waits(self) -> str:
        """When a cell is asked for again, in words."""
        return f"after {', '.join(_words(self.first_wait, self.factor, self.longest_wait))}, then daily"

    @property
    def waits_for_venue(self) -> str:
        """When a cell of a venue that was out of reach is asked for again, in words."""
        return f"after {', '.join(_words(self.first_wait, self.factor, self.longest_wait_for_venue))}, then hourly"

    @property
    def span(self) -> timedelta:
        """From the first failure to the last try."""
        return sum((self.wait_for_cell(tries) for tries in range(1, self.tries)), timedelta())


def _words(first: timedelta, factor: int, longest: timedelta) -> Iterator[str]:
    wait = first
    while wait < longest:
        yield f"{wait // timedelta(minutes=1)} min"
        wait *= factor


# Eight tries span 3.6 days, so that a session the venue has lost for two days heals, and one lost on a Friday before a
# holiday too. A new session is left alone until an hour before it must be in (upkeep/freshness.py): the later it is
# read, the closer to the last word.
PATIENCE = Patience()
