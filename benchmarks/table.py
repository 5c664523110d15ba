"""What every benchmark prints: one line a measurement, with what it may be at most.

Here: the line and the table. Not here: measuring.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Measured(NamedTuple):
    """One line of a benchmark's table; `target` is the most it may be, None where it is only told."""

    what: str
    value: float
    unit: str
    target: float | None = None


def print_table(title: str, rows: Iterable[Measured]) -> None:
    """Print the lines; what is over its target says so."""
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "measured", "at most", "", title=title)
    for what, value, unit, target in rows:
        verdict = "" if target is None else ("ok" if value <= target else "OVER")
        limit = "" if target is None else f"{target:,g} {unit}"
        table.add_row(what, f"{value:,.{_places(value)}f} {unit}", limit, verdict)
    Console(width=110).print(table)


def _places(value: float) -> int:
    return 0 if value == int(value) else 3 if abs(value) < 1 else 1
