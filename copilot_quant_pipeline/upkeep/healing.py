"""Healing: what is missing is asked for again, by itself, without pestering a venue.

Here: when a failed cell is due, the gaps of a grid, and settling them in this process for the command.
Not here: the sensor (heal_sensor.py), which rectangles they make (grid/covering.py), giving a cell up, which is decided
as its failure is stored (warehouse/settling.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from copilot_quant_pipeline.calendar import last_completed_session
from copilot_quant_pipeline.equities.delisting import read_forgotten
from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL, days_on_axis, keys_on_axis, sessions_on_axis
from copilot_quant_pipeline.grid.cells import Cell, Rectangle, plan_runs
from copilot_quant_pipeline.grid.runs import corners_of_run, range_tags
from copilot_quant_pipeline.prediction_markets.registry import lacks_setting, venue_names
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.backfill import (
    LARGEST_RUN,
    BackfillResult,
    FailedCell,
    run_in_process,
    show_to_venue,
)
from copilot_quant_pipeline.warehouse.coverage import read_cells, read_traffic
from copilot_quant_pipeline.warehouse.distrust import read_suspects
from copilot_quant_pipeline.warehouse.fetch_result import GIVEN_UP, PASSING
from copilot_quant_pipeline.warehouse.gaps import Busy, Extent, Gaps, Tries, read_gaps, read_tries
from copilot_quant_pipeline.warehouse.patience import PATIENCE

if TYPE_CHECKING:
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

# Names the grid a run heals.
HEAL_TAG = "copilot_quant/heal"

_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


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
        waiting: failed or coarse cells whose next try is yet to come,
        next_try_at: the first of these tries, aware UTC; None where nothing waits.
        given_up: failed cells that are not asked for any more.
    """

    gaps: Gaps
    tried_at: datetime | None
    waiting: int
    next_try_at: datetime | None
    given_up: int


@dataclass(frozen=True)
class Healed:
    """What came of healing a grid.

    Attributes:
        grid: which.
        left: gaps that are due and were beyond the limit.
        waiting: failed cells that were not due,
        next_try_at: when the first of them is, aware UTC.
        given_up: failed cells that are asked for by hand only.
        outcome: what became of the cells asked for.
    """

    grid: str
    left: int
    waiting: int
    next_try_at: datetime | None
    given_up: int
    outcome: BackfillResult


def next_try_at(tries: Tries) -> datetime | None:
    """When failed cells of this history are due again, aware UTC; None once they were given up.

    Those given up while their venue was out of reach are due as soon as it has answered for other cells.

    The waiting grows with the tries that said something about the cell. After a try that said nothing it is an hour at
    most: when the venue is back its cells should not be the last to know.
    """
    if tries.reason == GIVEN_UP:
        return tries.fetched_at if tries.is_back else None
    if tries.reason in PASSING:
        return tries.fetched_at + PATIENCE.wait_for_venue(tries.passing)
    return tries.fetched_at + PATIENCE.wait_for_cell(tries.attempts - tries.passing)


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
    axis: Sequence[str] | None = None,
) -> Healing:
    """What there is to heal; with `force` waiting cells and those given up are asked for, too.

    How a venue is doing is judged over all keys of the `axis`, by default all that are stored.

    Raises:
        UserError: The warehouse cannot be read.
    """
    with warehouse.held():
        histories = read_tries(warehouse, extent)
        due = list(histories) if force else plan_due(histories, now)
        forgotten = read_forgotten(warehouse, axis) if extent.grid == EQUITIES.name else ()
        gaps = read_gaps(warehouse, extent, due, busy, limit, forgotten)
    waiting = {tries: at for tries in histories if tries not in due and (at := next_try_at(tries))}
    return Healing(
        gaps=gaps,
        tried_at=max((tries.fetched_at for tries in due), default=None),
        waiting=sum(histories[tries] for tries in waiting),
        next_try_at=min(waiting.values(), default=None),
        given_up=sum(cells for tries, cells in histories.items() if tries.reason == GIVEN_UP and tries not in due),
    )


def extent_of(grid: Grid, settings: Settings, keys: Sequence[str], *, patient: bool) -> Extent | None:
    """Where gaps of `grid` are looked for; None where it has no dates or keys.

    Failed cells count on every date. Blank ones count up to the last completed session, or UTC day; of a `patient`
    healer, once others have had their time to ask first. Markets of a venue whose setting is missing wait for it.
    """
    now = settings.now()
    if grid is EQUITIES:
        dates = sessions_on_axis(settings)
        blank_until = last_completed_session(now - (PATIENCE.left_after_close if patient else timedelta()))
    else:
        keys, dates = _askable(keys, settings), days_on_axis(settings)
        blank_until = (now - (PATIENCE.left_of_a_day if patient else timedelta())).date() - timedelta(days=1)
    return Extent(grid.name, keys, dates, min(blank_until, dates[-1])) if keys and dates else None


def _askable(keys: Sequence[str], settings: Settings) -> Sequence[str]:
    venues = {key.partition(":")[0] for key in keys} & set(venue_names())
    lacking = {name for name in venues if lacks_setting(name, settings)}
    return [key for key in keys if key.partition(":")[0] not in lacking] if lacking else keys


def heal_grid(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    grid: Grid,
    settings: Settings,
    *,
    only: Collection[str] = (),
    force: bool = False,
    on_plan: Callable[[int], None] = lambda _: None,
    on_run: Callable[[int], None] = lambda _: None,
) -> Healed:
    """Settle in this process what is due in `grid`, of the keys `only` where there are any; newest first.

    `on_plan` hears how many cells are asked for, `on_run` how many are through in all, as each run ends. Each run
    commits what it fetched before the next begins.

    Raises:
        UserError: The warehouse cannot be read or written.
    """
    axis = keys_on_axis(instance, grid.axis)
    keys = [key for key in axis if key in set(only)] if only else axis
    extent = extent_of(grid, settings, keys, patient=False)
    if extent is None:
        return Healed(grid.name, 0, 0, None, 0, _outcome(warehouse, grid, {}, [], settings.now(), 0.0))
    _show_suspects(job, instance, warehouse, grid, settings, extent)
    busy = cells_of(runs_under_way(instance, grid))
    found = look_for_gaps(
        warehouse, extent, now=settings.now(), limit=settings.heal_cells, busy=busy, force=force, axis=axis
    )
    on_plan(len(found.gaps.cells))
    started, since = time.monotonic(), settings.now()
    before = _last_runs(warehouse, grid, found.gaps.cells)
    planned = plan_runs(found.gaps.cells, extent.dates, axis, LARGEST_RUN[grid.name])
    runs = _run(job, instance, warehouse, grid, planned, before, on_run)
    outcome = _outcome(warehouse, grid, before, runs, since, time.monotonic() - started)
    left = found.gaps.total - len(found.gaps.cells)
    return Healed(grid.name, left, found.waiting, found.next_try_at, found.given_up, outcome)


def _show_suspects(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    grid: Grid,
    settings: Settings,
    extent: Extent,
) -> None:
    """Have the venues tell by their own clocks whether cells recorded later than now are to be trusted."""
    if settings.pinned_now is None:
        for cell in read_suspects(warehouse, grid.name, settings.now()):
            if cell.key in extent.keys and cell.date in extent.dates:
                show_to_venue(job, instance, grid.asset, cell)


def runs_under_way(instance: dg.DagsterInstance, grid: Grid) -> list[dg.DagsterRun]:
    """The runs of the grid's asset that are queued or running, whoever asked for them."""
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=_UNDER_WAY))
    return [run for run in runs if dg.AssetKey(grid.asset) in (run.asset_selection or ())]


def backfill_under_way(instance: dg.DagsterInstance, asset: dg.AssetKey) -> str | None:
    """The id of a backfill of `asset` that somebody launched in Dagit and that is not done."""
    running = instance.get_backfills(filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]))
    return next((one.backfill_id for one in running if asset in (one.asset_selection or ())), None)


def cells_of(runs: Iterable[dg.DagsterRun]) -> list[Busy]:
    """What these runs settle."""
    corners = (corners_of_run(run.tags) for run in runs)
    return [Busy(*both) for both in corners if both]


def _run(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    grid: Grid,
    rectangles: Sequence[Rectangle],
    before: Mapping[Cell, str | None],
    on_run: Callable[[int], None],
) -> list[str]:
    """Run the rectangles one after the other; the ids of the runs it took."""
    runs = []
    through: set[Cell] = set()
    for rectangle in rectangles:
        if not through.issuperset(rectangle) and _are_gaps_still(warehouse, grid, rectangle, before):
            tags = {**range_tags(rectangle), HEAL_TAG: grid.name}
            runs.append(run_in_process(job, instance, grid.asset, tags))
        through.update(rectangle)
        on_run(len(through))
    return runs


def _outcome(
    warehouse: Warehouse,
    grid: Grid,
    before: Mapping[Cell, str | None],
    runs: Sequence[str],
    since: datetime,
    seconds: float,
) -> BackfillResult:
    """What became of the gaps, which `before` gives with the runs that had asked for them last.

    Healed is what these `runs` asked for and settled, by answers since `since` or kept ones; not what another process
    did, nor what is delisted by what was known before, nor what came coarsely again.
    """
    now = _by_cell(warehouse, grid, before)
    nothing: dict[str, Any] = dict.fromkeys(("outcome", "run_id", "detail", "finer_until"))
    missing = {**nothing, "reason": "not_reached"}
    rows = {cell: now.get(cell, missing) for cell in before}
    elsewhere = sum(row["outcome"] == "settled" and not _is_healed(row, runs, since) for row in rows.values())
    failed = tuple(
        FailedCell(*cell, row["reason"], row["detail"]) for cell, row in rows.items() if row["outcome"] != "settled"
    )
    coarse = sum(row["run_id"] in runs and row["finer_until"] is not None for row in rows.values())
    return BackfillResult(
        asked=len(before) - elsewhere,
        already=elsewhere,
        settled=len(before) - elsewhere - len(failed) - coarse,
        coarse=coarse,
        failed=failed,
        runs=len(runs),
        seconds=seconds,
        **read_traffic(warehouse, runs),
    )


def _is_healed(row: Mapping[str, Any], runs: Collection[str], since: datetime) -> bool:
    return row["run_id"] in runs and (row["reason"] != "delisted" or row["fetched_at"] >= since)


def _last_runs(warehouse: Warehouse, grid: Grid, cells: Sequence[Cell]) -> dict[Cell, str | None]:
    """The cells, in their order, each with the run that asked for it last; None where none has."""
    asked = _by_cell(warehouse, grid, cells)
    return {cell: asked[cell]["run_id"] if cell in asked else None for cell in cells}


def _are_gaps_still(warehouse: Warehouse, grid: Grid, rectangle: Rectangle, before: Mapping[Cell, str | None]) -> bool:
    """Whether some cell is still what it was when it was planned, or failed: no other process has settled them all.

    That a cell is settled says nothing: one that is settled by what has turned out wrong is a gap, too.
    """
    now = _by_cell(warehouse, grid, list(rectangle))
    return any(
        cell not in now or now[cell]["outcome"] == "failed" or now[cell]["run_id"] == before.get(cell)
        for cell in rectangle
    )


def _by_cell(warehouse: Warehouse, grid: Grid, cells: Collection[Cell]) -> dict[Cell, Mapping[str, Any]]:
    """What coverage says of those of the cells that were asked for before."""
    rows = read_cells(warehouse, grid.name, cells).to_pylist()
    return {Cell(row["date"], row["key"]): row for row in rows}
