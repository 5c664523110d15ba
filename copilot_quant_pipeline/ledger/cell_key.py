"""One partition key for many cells, so that one Dagster event can say something of all of them.

Here: that key. Not here: building events with it (recording.py), storing them (events.py, sqlite.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from dagster import MultiPartitionKey


class Cells(MultiPartitionKey):
    """The last of some cells, standing for all of them until the event that names it is stored.

    `are_in_log`: whether the run's own log shows them, too, or only the grid does.
    """

    cells: tuple[MultiPartitionKey, ...]
    are_in_log: bool

    @classmethod
    def of(cls, cells: Iterable[MultiPartitionKey], *, are_in_log: bool = True) -> Cells:
        """One key for all of `cells` (at least one), which it keeps in order, each once."""
        ordered = tuple(sorted(set(cells)))
        key = cls(ordered[-1].keys_by_dimension)
        key.cells = ordered
        key.are_in_log = are_in_log
        return key

    def __reduce__(self) -> tuple[Callable[[Mapping[str, str]], MultiPartitionKey], tuple[Mapping[str, str]]]:
        # Only the process that stores the event needs the others; whoever it is sent to gets a plain key.
        return MultiPartitionKey, (self.keys_by_dimension,)
