"""Cells, spans and rectangles of a grid, as plain values, and the decisions made on them.

Here: pure functions from cells to what to ask a vendor and what to run.
Not here: Dagster's partitions (grid/axes.py, grid/runs.py), stored coverage (warehouse).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np

from copilot_quant_pipeline.grid.covering import plan_cover


class Cell(NamedTuple):
    """One date of one symbol or market."""

    date: date
    key: str


@dataclass(frozen=True)
class Span:
    """The cells asked of one key: one request to the vendor. `dates` ascend and are not empty."""

    key: str
    dates: tuple[date, ...]

    @property
    def start(self) -> date:
        """The first date."""
        return self.dates[0]

    @property
    def end(self) -> date:
        """The last date, included."""
        return self.dates[-1]


@dataclass(frozen=True)
class Rectangle:
    """Every pairing of `dates` (ascending) with `keys` (in the axis' order): what one run settles."""

    dates: tuple[date, ...]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.dates) * len(self.keys)

    def __iter__(self) -> Iterator[Cell]:
        return (Cell(day, key) for key in self.keys for day in self.dates)


def plan_fetches(cells: Iterable[Cell]) -> list[Span]:
    """One span per key, keys in the order they first come, dates ascending and each once."""
    dates: dict[str, set[date]] = {}
    for day, key in cells:
        dates.setdefault(key, set()).add(day)
    return [Span(key, tuple(sorted(days))) for key, days in dates.items()]


def plan_runs(cells: Iterable[Cell], dates: Sequence[date], keys: Sequence[str], largest: int) -> list[Rectangle]:
    """The fewest rectangles that hold `cells` and no other, each at most `largest` cells, newest dates first.

    A Dagster run takes a range, which is the bounding box of two corners on the axes, so a rectangle's dates must
    follow each other in `dates` and its keys in `keys` (the axes' own order). Cells off the axes are not planned.

    Rectangles overlap only where that makes fewer of them, as lost sessions and lost symbols that cross do. Before
    `largest` cuts, they are as few as possible where the cells lie simply, and nearly so elsewhere (grid/covering.py).
    """
    column = {day: n for n, day in enumerate(dates)}
    row = {key: n for n, key in enumerate(keys)}
    wanted = np.zeros((len(keys), len(dates)), dtype=bool)
    on_axes = [(row[key], column[day]) for day, key in cells if day in column and key in row]
    if on_axes:
        wanted[tuple(np.array(on_axes).T)] = True
    rectangles = [
        Rectangle(tuple(dates[d] for d in box.columns), tuple(keys[k] for k in box.rows)) for box in plan_cover(wanted)
    ]
    pieces = [piece for rectangle in rectangles for piece in _split(rectangle, largest)]
    return sorted(pieces, key=lambda piece: (-piece.dates[-1].toordinal(), row[piece.keys[0]]))


def _split(rectangle: Rectangle, largest: int) -> Iterator[Rectangle]:
    """Pieces of at most `largest` cells, by keys first: a vendor is asked once per key."""
    width = min(len(rectangle.dates), largest)
    height = max(1, largest // width)
    for k in range(0, len(rectangle.keys), height):
        for d in range(0, len(rectangle.dates), width):
            yield Rectangle(rectangle.dates[d : d + width], rectangle.keys[k : k + height])
