"""The fewest boxes that cover the marked places of a matrix: exactly on small shapes, nearly on large ones.

Here: the geometry alone, pure: which boxes, given a matrix of what is wanted.
Not here: dates, keys, the size of a run (grid/cells.py), what a gap is (upkeep/healing.py).

Covering with the fewest rectangles is NP-hard, so the work is made small first: neighbouring rows or columns that are
alike count as one, and what does not touch is solved apart. A whole rectangle, lost sessions that cross lost symbols
and scattered holes are then a handful of places each, and are solved exactly by branch and bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Wanted = npt.NDArray[np.bool_]

# Steps of exact search for one connected shape, and for all shapes of a plan together: some tenths of a second.
STEPS_OF_A_SHAPE = 3_000
STEPS_OF_A_PLAN = 30_000

# A shape of more places than this is not searched exactly, nor one with more maximal boxes.
PLACES_SEARCHED = 600
BOXES_SEARCHED = 600


class Box(NamedTuple):
    """Every pairing of `rows` with `columns`, both unbroken and not empty."""

    rows: range
    columns: range


def plan_cover(wanted: Wanted) -> list[Box]:
    """Boxes that hold every wanted place (rows x columns) and no other, as few as can be found.

    Boxes overlap only where that makes fewer of them. The same matrix always gives the same boxes.
    """
    if not wanted.any():
        return []
    steps = _Steps(STEPS_OF_A_PLAN)
    alike = _Alike.of(wanted)
    boxes = [box for shape in _shapes(alike.matrix) for box in _cover_shape(shape, steps)]
    return [alike.widened(box) for box in boxes]


@dataclass
class _Steps:
    """What is left of the search."""

    left: int


@dataclass(frozen=True)
class _Alike:
    """A matrix in which neighbouring rows and columns that are alike are one; where each begins in the original."""

    matrix: Wanted
    row_starts: Sequence[int]
    column_starts: Sequence[int]

    @classmethod
    def of(cls, wanted: Wanted) -> _Alike:
        rows, columns = _starts(wanted), _starts(wanted.T)
        ends = wanted.shape
        return cls(wanted[np.ix_(rows, columns)], [*rows.tolist(), ends[0]], [*columns.tolist(), ends[1]])

    def widened(self, box: Box) -> Box:
        rows, columns = self.row_starts, self.column_starts
        return Box(
            range(rows[box.rows.start], rows[box.rows.stop]),
            range(columns[box.columns.start], columns[box.columns.stop]),
        )


def _starts(matrix: Wanted) -> npt.NDArray[np.intp]:
    """The rows that differ from the one before."""
    return np.flatnonzero(np.append(True, (matrix[1:] != matrix[:-1]).any(axis=1)))


@dataclass(frozen=True)
class _Shape:
    """Wanted places that hang together, as stretches of each row."""

    stretches: Sequence[Box]

    @property
    def frame(self) -> Box:
        rows = [box.rows.start for box in self.stretches]
        first, last = min(box.columns.start for box in self.stretches), max(box.columns.stop for box in self.stretches)
        return Box(range(min(rows), max(rows) + 1), range(first, last))

    def matrix(self, frame: Box) -> Wanted:
        matrix = np.zeros((len(frame.rows), len(frame.columns)), dtype=bool)
        for box in self.stretches:
            at = box.columns.start - frame.columns.start
            matrix[box.rows.start - frame.rows.start, at : at + len(box.columns)] = True
        return matrix


def _shapes(matrix: Wanted) -> Iterator[_Shape]:
    """The shapes of a matrix: places hang together where they share an edge, and no box reaches further."""
    stretches: list[Box] = []
    leaders: list[int] = []
    above: list[int] = []
    for row, places in enumerate(matrix):
        here = []
        for columns in _stretches(places):
            here.append(len(stretches))
            leaders.append(len(stretches))
            stretches.append(Box(range(row, row + 1), columns))
        for upper, lower in _touching(stretches, above, here):
            leaders[_leader(leaders, upper)] = _leader(leaders, lower)
        above = here
    shapes: dict[int, list[Box]] = {}
    for number, box in enumerate(stretches):
        shapes.setdefault(_leader(leaders, number), []).append(box)
    return (_Shape(boxes) for boxes in shapes.values())


def _stretches(places: Wanted) -> list[range]:
    """The marked places of one row as unbroken ranges."""
    edges = np.flatnonzero(np.diff(places.astype(np.int8), prepend=0, append=0)).tolist()
    return [range(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _touching(stretches: Sequence[Box], above: Sequence[int], below: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The pairs of stretches of two neighbouring rows that share a column."""
    upper, lower = 0, 0
    while upper < len(above) and lower < len(below):
        one, other = stretches[above[upper]].columns, stretches[below[lower]].columns
        if one.start < other.stop and other.start < one.stop:
            yield above[upper], below[lower]
        if one.stop < other.stop:
            upper += 1
        else:
            lower += 1


def _leader(leaders: list[int], number: int) -> int:
    while leaders[number] != number:
        leaders[number] = leaders[leaders[number]]
        number = leaders[number]
    return number


def _cover_shape(shape: _Shape, steps: _Steps) -> list[Box]:
    if len(shape.stretches) == 1:
        return list(shape.stretches)
    frame = shape.frame
    # Rows that differ in the whole matrix may be alike in this part of it.
    alike = _Alike.of(shape.matrix(frame))
    row, column = frame.rows.start, frame.columns.start
    boxes = (alike.widened(box) for box in _cover(alike.matrix, steps))
    return [
        Box(
            range(box.rows.start + row, box.rows.stop + row),
            range(box.columns.start + column, box.columns.stop + column),
        )
        for box in boxes
    ]


def _cover(matrix: Wanted, steps: _Steps) -> list[Box]:
    """The smallest of some covers of one shape; at equal count those whose boxes do not overlap."""
    by_column = [Box(rows=box.columns, columns=box.rows) for box in _bands(matrix.T)]
    found = min(_bands(matrix), by_column, key=len)
    grown = _trimmed(matrix, _needed(matrix, _grown(matrix)))
    if len(grown) < len(found):
        found = grown
    better = _searched(matrix, len(found), steps)
    return _trimmed(matrix, better) if better else found


def _bands(matrix: Wanted) -> list[Box]:
    """The stretches of each row; alike rows are one already."""
    return [Box(range(row, row + 1), columns) for row, places in enumerate(matrix) for columns in _stretches(places)]


def _grown(matrix: Wanted) -> list[Box]:
    """A cover by maximal boxes: from each place not covered yet, in order, the one that covers most of what is left."""
    rows = _as_numbers(matrix)
    left = list(rows)
    boxes = []
    for row in range(len(rows)):
        while left[row]:
            box, stretch = _grown_from(rows, left, row, left[row] & -left[row])
            boxes.append(box)
            for covered in box.rows:
                left[covered] &= ~stretch
    return boxes


def _grown_from(rows: Sequence[int], left: Sequence[int], row: int, place: int) -> tuple[Box, int]:
    """Of the maximal boxes through `place` the one with most uncovered places; with its columns as a number."""
    best: tuple[int, Box, int] | None = None
    common, bottom = rows[row], row
    while bottom < len(rows) and (common := common & rows[bottom]) & place:
        stretch = _stretch_around(common, place)
        box = _as_tall_as_can_be(rows, row, bottom, stretch)
        gain = sum((left[covered] & stretch).bit_count() for covered in range(row, box.rows.stop))
        if best is None or gain > best[0]:
            best = gain, box, stretch
        # No box of this width ends between here and there.
        bottom = box.rows.stop
    if best is None:
        raise ValueError("the place is not wanted")
    return best[1:]


def _as_tall_as_can_be(rows: Sequence[int], top: int, bottom: int, stretch: int) -> Box:
    while top > 0 and rows[top - 1] & stretch == stretch:
        top -= 1
    while bottom + 1 < len(rows) and rows[bottom + 1] & stretch == stretch:
        bottom += 1
    start = (stretch & -stretch).bit_length() - 1
    return Box(range(top, bottom + 1), range(start, stretch.bit_length()))


def _stretch_around(number: int, place: int) -> int:
    """The unbroken ones of `number` around the single one `place`."""
    above = number + place  # carries through the ones from the place on
    ones_above = number & ~above & ~(place - 1)
    zeros_below = ~number & (place - 1)
    return (ones_above | place - 1) & ~((1 << zeros_below.bit_length()) - 1)


def _as_numbers(matrix: Wanted) -> list[int]:
    """Each row as a number whose bit n is column n."""
    packed = np.packbits(matrix, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def _needed(matrix: Wanted, boxes: Sequence[Box]) -> list[Box]:
    """The boxes without those whose places all lie in others, smallest first."""
    times = _times(matrix, boxes)
    kept = set(range(len(boxes)))
    for number in sorted(kept, key=lambda n: (len(boxes[n].rows) * len(boxes[n].columns), n)):
        part = _part(times, boxes[number])
        if part.min() > 1:
            part -= 1
            kept.remove(number)
    return [boxes[number] for number in sorted(kept)]


def _trimmed(matrix: Wanted, boxes: Sequence[Box]) -> list[Box]:
    """The boxes, each needed, cut back to where no other one is."""
    times = _times(matrix, boxes)
    trimmed = []
    for box in boxes:
        part = _part(times, box)
        alone = part == 1
        rows, columns = (np.flatnonzero(alone.any(axis=axis)) for axis in (1, 0))
        smaller = Box(
            range(box.rows.start + int(rows[0]), box.rows.start + int(rows[-1]) + 1),
            range(box.columns.start + int(columns[0]), box.columns.start + int(columns[-1]) + 1),
        )
        part -= 1
        _part(times, smaller)[:] += 1
        trimmed.append(smaller)
    return trimmed


def _times(matrix: Wanted, boxes: Iterable[Box]) -> npt.NDArray[np.int32]:
    """How many of the boxes hold each place."""
    times = np.zeros(matrix.shape, dtype=np.int32)
    for box in boxes:
        _part(times, box)[:] += 1
    return times


def _part(times: npt.NDArray[np.int32], box: Box) -> npt.NDArray[np.int32]:
    return times[box.rows.start : box.rows.stop, box.columns.start : box.columns.stop]


def _searched(matrix: Wanted, fewer_than: int, steps: _Steps) -> list[Box] | None:
    """The smallest cover of fewer boxes than that, if there is one and it is found within the steps."""
    if matrix.size > PLACES_SEARCHED:
        return None
    boxes = _maximal(_as_numbers(matrix))
    if len(boxes) > BOXES_SEARCHED:
        return None
    search = _Search([_places(box, matrix.shape[1]) for box in boxes], fewer_than, min(steps.left, STEPS_OF_A_SHAPE))
    chosen = search.run()
    steps.left -= search.steps_taken
    return None if chosen is None else [boxes[number] for number in chosen]


def _maximal(rows: Sequence[int]) -> list[Box]:
    """Every box that no other box contains."""
    boxes = []
    for top in range(len(rows)):
        common = rows[top]
        for bottom in range(top, len(rows)):
            common &= rows[bottom]
            left = common
            while left:
                stretch = _stretch_around(left, left & -left)
                left &= ~stretch
                box = _as_tall_as_can_be(rows, top, bottom, stretch)
                if box.rows == range(top, bottom + 1):
                    boxes.append(box)
    return boxes


def _places(box: Box, width: int) -> int:
    """The box as a number whose bit row x width + column is a place."""
    line = (1 << box.columns.stop) - (1 << box.columns.start)
    return sum(line << row * width for row in box.rows)


@dataclass
class _Search:
    """Branch and bound: which of `boxes` (numbers of places) cover all of them together."""

    boxes: Sequence[int]
    fewer_than: int
    steps: int
    steps_taken: int = 0
    _best: list[int] | None = None
    _through: dict[int, list[int]] = field(default_factory=dict)
    _reach: dict[int, int] = field(default_factory=dict)

    def run(self) -> list[int] | None:
        """The numbers of the boxes of the smallest cover found; None where none has fewer than asked."""
        everything = 0
        for number, box in enumerate(self.boxes):
            everything |= box
            for place in _ones(box):
                self._through.setdefault(place, []).append(number)
                self._reach[place] = self._reach.get(place, 0) | box
        # Few choices first: a place that only one box holds decides at once.
        self._through = dict(sorted(self._through.items(), key=lambda item: (len(item[1]), item[0])))
        self._descend(everything, [])
        return self._best

    def _descend(self, left: int, chosen: list[int]) -> None:
        if not left:
            self.fewer_than, self._best = len(chosen), list(chosen)
            return
        if self.steps_taken >= self.steps or len(chosen) + self._at_least(left) >= self.fewer_than:
            return
        self.steps_taken += 1
        place = next(place for place in self._through if left & place)
        for number in self._worth_trying(place, left):
            self._descend(left & ~self.boxes[number], [*chosen, number])

    def _at_least(self, left: int) -> int:
        """Places of which no box holds two: each needs a box of its own."""
        count = 0
        for place, reach in self._through_reach():
            if left & place:
                count += 1
                left &= ~reach
                if not left:
                    break
        return count

    def _through_reach(self) -> Iterator[tuple[int, int]]:
        return ((place, self._reach[place]) for place in self._through)

    def _worth_trying(self, place: int, left: int) -> list[int]:
        """The boxes through a place, most gain first, without those that gain no more than a part of another's."""
        tried: list[int] = []
        for number in sorted(self._through[place], key=lambda n: (-(self.boxes[n] & left).bit_count(), n)):
            gain = self.boxes[number] & left
            if not any(gain & ~self.boxes[other] == 0 for other in tried):
                tried.append(number)
        return tried


def _ones(number: int) -> Iterator[int]:
    while number:
        place = number & -number
        yield place
        number ^= place
