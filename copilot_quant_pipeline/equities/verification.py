"""Which histories are read again in full, so that every stored bar is compared once in a while.

Here: the choice of symbols, a pure function of names and a date.
Not here: asking for them (fetch.py), comparing and storing (warehouse).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from datetime import date

# Every stored bar is compared once in so many weeks.
PARTS = 16


def part_of_week(day: date) -> int:
    """Whose turn it is in the week of `day` (Monday to Sunday), 0 to 15: each part once in sixteen weeks.

    ISO weeks counted on over new year, where their numbers begin again and some parts would wait longer.
    """
    return (day.toordinal() - 1) // 7 % PARTS


def plan_part(symbols: Iterable[str], part: int) -> tuple[str, ...]:
    """The symbols of a part, ascending; a symbol's part depends on its name alone."""
    return tuple(sorted(symbol for symbol in symbols if zlib.crc32(symbol.encode()) % PARTS == part))
