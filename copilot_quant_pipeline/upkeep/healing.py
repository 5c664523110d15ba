"""Healing: what is missing is asked for again, by itself, without pestering a venue.

Here: when a failed cell is due, the gaps of a grid, and settling them in this process for the command.
Not here: the sensor (heal_sensor.py), which rectangles they make (grid/covering.py), giving a cell up, which is decided
as its failure is stored (warehouse/settling.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL, days_on_axis, sessions_on_axis
from copilot_quant_pipeline.grid.cells import Cell, Rectangle, plan_runs
from copilot_quant_pipeline.grid.runs import range_tags
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.backfill import LARGEST_RUN, FailedCell, Outcome, run_in_process
from copilot_quant_pipeline.warehouse.gaps import Busy, Extent, Gaps, Tries, read_gaps, read_tries
from copilot_quant_pipeline.warehouse.harvest import GIVEN_UP, PASSING
from copilot_quant_pipeline.warehouse.progress import read_traffic

if TYPE_CHECKING:
    import dagster as dg

    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

# Names the grid a run heals.
HEAL_TAG = "copilot_quant/heal"

# 10 min, 40 min, 160 min, 640 min, then daily: eight tries span 3.6 days, so that a session the venue has lost for two
# days heals, and one lost on a Friday before a holiday too.
FIRST_WAIT = timedelta(minutes=10)
FACTOR = 4
LONGEST_WAIT = timedelta(hours=24)

# A venue that was out of reach may be back any minute, and one that still is costs a few requests: see equities/brake.
LONGEST_WAIT_FOR_A_VENUE = timedelta(hours=1)


@dataclass(frozen=True)
class Grid:
    """A grid as it is healed: its name, its asset and the name of its second axis."""

    name: str
    asset: str
    axis: str


EQUITIES = Grid("equities", "equity_bars", SYMBOL)
MARKETS = Grid("markets", "prediction_market_prices", MARKET)
GRIDS = (EQUITIES, MARKETS)


@dataclass(frozen=True)
class Healing:
    """What there is to heal in a grid now.

    Attributes:
        gaps: the cells to ask for, at most the limit, and how many there are in all.
        tried_at: when the newest of those that failed was tried, aware UTC; None where none has.
        waiting: failed cells whose next try is yet to come,
        next_try_at: the first of these tries, aware UTC; None where nothing waits.
        given_up: failed cells that are not asked for any more.
    """

    gaps: Gaps
    tried_at: datetime | None
    waiting: int
    next_try_at: datetime | None
    given_up: int


def next_try_at(tries: Tries) -> datetime | None:
    """When failed cells of this history are due again, aware UTC; None once they were given up.

    The waiting grows with the tries that said something about the cell. After a try that said nothing it is an hour at
    most: when the venue is back its cells should not be the last to know.
    """
    if tries.reason == GIVEN_UP:
        return None
    if tries.reason in PASSING:
        return tries.fetched_at + min(_wait(tries.passing), LONGEST_WAIT_FOR_A_VENUE)
    return tries.fetched_at + min(_wait(tries.attempts - tries.passing), LONGEST_WAIT)


def _wait(tries: int) -> timedelta:
    # Seven steps are beyond any longest wait; more would be beyond what a timedelta holds.
    return FIRST_WAIT * int(FACTOR ** min(max(tries, 1) - 1, 7))


def plan_due(histories: Iterable[Tries], now: datetime) -> list[Tries]:
    """The histories whose cells are to be asked for at `now`."""
    return [tries for tries in histories if (at := next_try_at(tries)) is not None and at <= now]


def look_for_gaps(
    warehouse: Warehouse,
    extent: Extent,
    *,
    now: datetime,
    limit: int,
    busy: Collection[Busy] = (),
    force: bool = False,
) -> Healing:
    """What there is to heal; with `force` waiting cells and those given up are asked for, too.

    Raises:
        UserError: The warehouse cannot be read.
    """
    histories = read_tries(warehouse, extent)
    due = list(histories) if force else plan_due(histories, now)
    waiting = {tries: at for tries in histories if tries not in due and (at := next_try_at(tries))}
    return Healing(
        gaps=read_gaps(warehouse, extent, due, busy, limit),
        tried_at=max((tries.fetched_at for tries in due), default=None),
        waiting=sum(histories[tries] for tries in waiting),
        next_try_at=min(waiting.values(), default=None),
        given_up=sum(cells for tries, cells in histories.items() if tries.reason == GIVEN_UP and tries not in due),
    )


def extent_of(grid: Grid, settings: Settings, keys: Sequence[str], *, left_to_schedules: timedelta) -> Extent | None:
    """Where gaps of `grid` are looked for; None where it has no dates or keys.

    Failed cells count on every date. Blank ones count up to the last completed session, or UTC day, as it was
    `left_to_schedules` ago: asking for a new date first is a schedule's.
    """
    before = replace(settings, pinned_now=settings.now() - left_to_schedules)
    if grid is EQUITIES:
        dates, ripe = sessions_on_axis(settings), sessions_on_axis(before)
    else:
        dates, ripe = days_on_axis(settings), days_on_axis(before)[:-1]  # today is not over
    return Extent(grid.name, keys, dates, ripe[-1]) if keys and ripe else None


def heal(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    grid: Grid,
    extent: Extent,
    gaps: Gaps,
    on_run: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Settle the gaps in this process; `on_run` hears how many cells are through in all, as each run ends.

    `extent.keys` must be the whole axis, in its order. A cell of a crossing that two runs hold is asked for once.
    """
    started, runs, asked = time.monotonic(), list[str](), set(gaps.cells)
    left = set(asked)
    for rectangle in plan_runs(asked, extent.dates, extent.keys, LARGEST_RUN):
        # Another process, or the run before, may have settled these cells since they were planned.
        if not left.isdisjoint(rectangle) and not _is_settled(warehouse, grid, rectangle):
            tags = {**range_tags(rectangle), HEAL_TAG: grid.name}
            runs.append(run_in_process(job, instance, grid.asset, tags))
        left.difference_update(rectangle)
        on_run(len(asked) - len(left))
    failed = _failed(warehouse, grid, gaps.cells)
    return Outcome(
        asked=len(asked),
        already=0,
        settled=len(asked) - len(failed),
        failed=failed,
        runs=len(runs),
        seconds=time.monotonic() - started,
        **read_traffic(warehouse, runs),
    )


def _is_settled(warehouse: Warehouse, grid: Grid, rectangle: Rectangle) -> bool:
    coverage = warehouse.coverage(grid.name, rectangle.keys, rectangle.dates[0], rectangle.dates[-1]).to_pylist()
    settled = {Cell(row["date"], row["key"]) for row in coverage if row["outcome"] == "settled"}
    return settled.issuperset(rectangle)


def _failed(warehouse: Warehouse, grid: Grid, cells: Sequence[Cell]) -> tuple[FailedCell, ...]:
    """Those of the cells, newest first, that are not settled now, with their reasons."""
    if not cells:
        return ()
    keys = sorted({cell.key for cell in cells})
    dates = [cell.date for cell in cells]
    now = _by_cell(warehouse.coverage(grid.name, keys, min(dates), max(dates)).to_pylist())
    failures = ((cell, now.get(cell, {"outcome": None, "reason": "not_reached", "detail": None})) for cell in cells)
    return tuple(
        FailedCell(*cell, row["reason"], row["detail"]) for cell, row in failures if row["outcome"] != "settled"
    )


def _by_cell(rows: Iterable[Mapping[str, Any]]) -> dict[Cell, Mapping[str, Any]]:
    return {Cell(row["date"], row["key"]): row for row in rows}
