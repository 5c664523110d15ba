"""The grid in Dagit made the warehouse's picture again: settled cells green, no other cell green.

Here: what differs between coverage and grid, and one Dagster run that puts it right, recorded in bulk.
Not here: asking a venue (red and blank cells are healed), what Dagit shows (ledger/grid_status.py), how cells are
stored.

It is what gives a lost Dagster home its grid back, and what a warehouse restored from a backup needs. What differs is
looked for anew after each pass: runs may settle cells meanwhile, and an interrupted reconcile goes on where it was.

No `from __future__ import annotations` here: Dagster reads the annotations of an op's parameters.
"""

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

import dagster as dg
import pyarrow as pa
from dagster._core.definitions.data_version import DATA_VERSION_IS_USER_PROVIDED_TAG, DATA_VERSION_TAG
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import DagsterEvent

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.grid.axes import (
    DATE,
    MARKET,
    SYMBOL,
    bad_keys,
    days_on_axis,
    keys_on_axis,
    partition_key,
    sessions_on_axis,
)
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.grid.keys import judge_key
from copilot_quant_pipeline.ledger.grid_status import GridStatus, read_grid_status
from copilot_quant_pipeline.ledger.recording import materialization_of
from copilot_quant_pipeline.ledger.run_lives import living
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage
from copilot_quant_pipeline.prediction_markets.following import plan_retired
from copilot_quant_pipeline.prediction_markets.sources import read_catalog
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.catalog import read_settled_lives
from copilot_quant_pipeline.warehouse.coverage import (
    read_current_members,
    read_failed_cells,
    read_keys_asked,
    read_settled_cells,
)
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

COMMAND_TAG = "copilot_quant/command"

# Cells change while they are looked at; what differs after so many looks is told.
PASSES = 3

# Cells an event stands for at most: how far apart two steps of the progress bar are.
CELLS_AT_ONCE = 10_000
# Wiping finds each cell's events one by one.
WIPED_AT_ONCE = 1_000

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class DatedGrid:
    """One grid: its name in coverage, its asset, its second axis, and its dates, ascending."""

    name: str
    asset: str
    axis: str
    dates: Sequence[date]


class Origin(NamedTuple):
    """What cells have in common that are painted at once: the run that settled them, and why they have no rows."""

    run_id: str
    reason: str | None


@dataclass(frozen=True)
class Repaint:
    """What has to change for a grid to be true: the cells to paint green, by origin, and the green ones to wipe."""

    paint: Mapping[Origin, Sequence[Cell]]
    wipe: Sequence[str]

    def __len__(self) -> int:
        return sum(map(len, self.paint.values())) + len(self.wipe)


@dataclass(frozen=True)
class Reconciled:
    """What came of it, in cells of one grid.

    Attributes:
        grid: its name.
        settled: cells that coverage has as settled and that lie on the axes.
        painted: of these, how many were made green.
        wiped: cells that were green and are not settled; they are blank now.
        returned: symbols or markets put back on their axis.
        taken_off: what was on it and can be no key.
        left: cells that still differ, as others kept changing them.
    """

    grid: str
    settled: int
    painted: int
    wiped: int
    returned: int
    taken_off: int
    left: int


def grids_of(settings: Settings) -> tuple[DatedGrid, ...]:
    """Both grids on the axes that `settings` give."""
    return (
        DatedGrid("equities", "equity_bars", SYMBOL, sessions_on_axis(settings)),
        DatedGrid("markets", "prediction_market_prices", MARKET, days_on_axis(settings)),
    )


def plan_repaint(
    settled: Mapping[str, tuple[Cell, Origin]], picture: GridStatus, on_axis: Collection[str], last: str = "9999-12-31"
) -> Repaint:
    """What has to change: cells of an unfinished run are left to it, green ones off the axes are not shown.

    Args:
        settled: the settled cells on the axes, by partition key.
        picture: what Dagit shows.
        on_axis: the keys of the grid's second axis.
        last: the last date of its axis, as it is written; what lies beyond is left as it is.
    """
    right = picture.green | picture.under_way
    paint: dict[Origin, list[Cell]] = {}
    for key, (cell, origin) in settled.items():
        if key not in right:
            paint.setdefault(origin, []).append(cell)
    unfounded = picture.green.difference(settled) - picture.under_way
    # A clock that was set back ends the axis sooner; what was stored beyond it is none the less.
    wipe = (key for key in unfounded if key.partition("|")[2] in on_axis and key.partition("|")[0] <= last)
    return Repaint(paint, sorted(wipe))


def reconcile(
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    settings: Settings,
    on_plan: Callable[[int], None] = lambda _: None,
    on_cells: Callable[[int], None] = lambda _: None,
) -> list[Reconciled]:
    """Make both grids the warehouse's picture; `on_plan` hears how many cells differ, `on_cells` of so many done.

    Raises:
        UserError: The warehouse cannot be read, or the home keeps its events elsewhere than in the ledger.
        KeyboardInterrupt: The user interrupted it; the same again goes on from there.
    """
    if not isinstance(instance.event_log_storage, GridEventLogStorage):
        raise UserError(
            f"{instance.root_directory}/dagster.yaml names an event-log storage of your own, which cells cannot be"
            " recorded in by hand: take event_log_storage out of it, or settle the cells again."
        )
    canvases = canvases_of(instance, warehouse, settings)
    returned = [canvas.return_keys(_keys_on_axis(warehouse, settings, canvas.grid)) for canvas in canvases]
    taken_off = [canvas.take_off_bad_keys() for canvas in canvases]
    plans = [canvas.plan() for canvas in canvases]
    done = [_Done() for _ in canvases]
    if any(map(len, plans)):
        on_plan(sum(map(len, plans)))
        run_recorded(instance, lambda context: _apply(context, canvases, plans, done, on_cells))
        plans = [canvas.plan() for canvas in canvases]
    return [
        Reconciled(canvas.grid.name, len(canvas.settled()), one.painted, one.wiped, back, off, len(plan))
        for canvas, one, back, off, plan in zip(canvases, done, returned, taken_off, plans, strict=True)
    ]


def canvases_of(instance: dg.DagsterInstance, warehouse: Warehouse, settings: Settings) -> "list[Canvas]":
    """Both grids with what is read and written of them."""
    return [Canvas(instance, warehouse, grid) for grid in grids_of(settings)]


@dataclass
class _Done:
    painted: int = 0
    wiped: int = 0


@dataclass(frozen=True)
class Canvas:
    """One grid with what is read and written of it."""

    instance: dg.DagsterInstance
    warehouse: Warehouse
    grid: DatedGrid

    @property
    def asset(self) -> dg.AssetKey:
        """Its asset."""
        return dg.AssetKey(self.grid.asset)

    def return_keys(self, keys: Sequence[str]) -> int:
        """Put keys back on the second axis; how many were missing."""
        on_axis = set(keys_on_axis(self.instance, self.grid.axis))
        missing = [key for key in keys if key not in on_axis]
        self.instance.add_dynamic_partitions(self.grid.axis, missing)
        return len(missing)

    def take_off_bad_keys(self) -> int:
        """Take what can be no key off the second axis; how many these were."""
        bad = bad_keys(self.instance, self.grid.axis)
        for key in bad:
            self.instance.delete_dynamic_partition(self.grid.axis, key)
        return len(bad)

    def settled(self) -> dict[str, tuple[Cell, Origin]]:
        """The settled cells on the axes, by partition key."""
        keys = keys_on_axis(self.instance, self.grid.axis)
        return {partition_key(cell): (cell, origin) for cell, origin in _rows(self._stored(keys))}

    def plan(self) -> Repaint:
        """What makes the grid true."""
        # The picture first: data are committed before they are shown, so what it has as green is settled by then.
        picture = read_grid_status(self.instance, self.asset)
        last = max(self.grid.dates).isoformat() if self.grid.dates else ""
        return plan_repaint(self.settled(), picture, set(keys_on_axis(self.instance, self.grid.axis)), last)

    def plan_of(self, cells: Collection[str]) -> Repaint:
        """What makes those of `cells` green that are settled, whatever they look like now."""
        stored = read_settled_cells(self.warehouse, self.grid.name, *self._axes_of(cells))
        return Repaint(_by_origin(stored, cells), ())

    def failed_of(self, cells: Collection[str] | None) -> Mapping[Origin, Sequence[Cell]]:
        """Those of `cells` (None: of all on the axes) that failed, by the run that asked last and the reason."""
        return _by_origin(read_failed_cells(self.warehouse, self.grid.name, *self._axes_of(cells)), cells)

    def _axes_of(self, cells: Collection[str] | None) -> tuple[Sequence[date], Sequence[str]]:
        on_axis = keys_on_axis(self.instance, self.grid.axis)
        if cells is None:
            return self.grid.dates, on_axis
        days, keys = ({cell.split("|", 1)[n] for cell in cells if "|" in cell} for n in (0, 1))
        return [day for day in self.grid.dates if day.isoformat() in days], [key for key in on_axis if key in keys]

    def _stored(self, keys: Sequence[str]) -> pa.Table:
        return read_settled_cells(self.warehouse, self.grid.name, self.grid.dates, keys)


def _keys_on_axis(warehouse: Warehouse, settings: Settings, grid: DatedGrid) -> list[str]:
    """The keys that belong on an axis: symbols ever asked for or listed, by name; markets still followed, by age."""
    sound = [key for key in read_keys_asked(warehouse, grid.name) if judge_key(grid.axis, key) is None]
    if grid.axis == SYMBOL:
        return sorted({*sound, *read_current_members(warehouse)})
    keep = timedelta(days=settings.markets_retire_days)
    lives = read_settled_lives(warehouse, settings.markets_start, settings.now().date())
    retired = set(plan_retired(read_catalog(warehouse, sound), sound, lives, settings.now(), keep))
    return [key for key in sound if key not in retired]


def _rows(stored: pa.Table) -> Iterator[tuple[Cell, Origin]]:
    columns = (stored.column(name).to_pylist() for name in ("date", "key", "run_id", "reason"))
    origins: dict[tuple[str, str | None], Origin] = {}
    for day, key, run_id, reason in zip(*columns, strict=True):
        yield Cell(day, key), origins.setdefault((run_id, reason), Origin(run_id, reason))


def _by_origin(stored: pa.Table, cells: Collection[str] | None) -> dict[Origin, list[Cell]]:
    found: dict[Origin, list[Cell]] = {}
    for cell, origin in _rows(stored):
        if cells is None or partition_key(cell) in cells:
            found.setdefault(origin, []).append(cell)
    return found


def _apply(
    context: dg.OpExecutionContext,
    canvases: Sequence[Canvas],
    plans: Sequence[Repaint],
    done: Sequence[_Done],
    on_cells: Callable[[int], None],
) -> None:
    for canvas, first, counts in zip(canvases, plans, done, strict=True):
        plan = first
        for _ in range(PASSES):
            if not plan:
                break
            counts.wiped += _wipe(canvas, plan.wipe, on_cells)
            counts.painted += _paint(context, canvas, plan.paint, on_cells)
            plan = canvas.plan()
        if counts.wiped:
            # Whoever was reading while they went may have stored what it saw.
            canvas.instance.wipe_asset_cached_status([canvas.asset])
        context.log.info(f"{canvas.grid.name}: {counts.painted:,} cells painted green, {counts.wiped:,} wiped")


def apply_repaint(context: dg.OpExecutionContext, canvas: Canvas, plan: Repaint) -> None:
    """Wipe and paint what `plan` says, once."""
    wiped = _wipe(canvas, plan.wipe, lambda _: None)
    painted = _paint(context, canvas, plan.paint, lambda _: None)
    context.log.info(f"{canvas.grid.name}: {painted:,} cells painted green, {wiped:,} wiped")


def _wipe(canvas: Canvas, keys: Sequence[str], on_cells: Callable[[int], None]) -> int:
    for start in range(0, len(keys), WIPED_AT_ONCE):
        some = keys[start : start + WIPED_AT_ONCE]
        # Not the instance, which would note that somebody wiped them by hand.
        canvas.instance.event_log_storage.wipe_asset_partitions(canvas.asset, some)
        on_cells(len(some))
    return len(keys)


def _paint(
    context: dg.OpExecutionContext,
    canvas: Canvas,
    paint: Mapping[Origin, Sequence[Cell]],
    on_cells: Callable[[int], None],
) -> int:
    for origin, cells in paint.items():
        for start in range(0, len(cells), CELLS_AT_ONCE):
            some = cells[start : start + CELLS_AT_ONCE]
            event = painted(canvas.asset, canvas.grid.axis, origin, some)
            DagsterEvent.asset_materialization(context.get_step_execution_context(), event)
            on_cells(len(some))
    return sum(map(len, paint.values()))


def painted(asset: dg.AssetKey, axis: str, origin: Origin, cells: Iterable[Cell]) -> dg.AssetMaterialization:
    """What makes cells of a common origin green, in the grid and not in the log of a run."""
    keys = [dg.MultiPartitionKey({DATE: cell.date.isoformat(), axis: cell.key}) for cell in cells]
    metadata: dict[str, Any] = {"settled by": origin.run_id, **({"reason": origin.reason} if origin.reason else {})}
    # As the run that settled them gave it.
    tags = {DATA_VERSION_TAG: origin.run_id[:8], DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
    return materialization_of(asset, keys, metadata, tags, are_in_log=False)


def run_recorded(instance: dg.DagsterInstance, work: Callable[[dg.OpExecutionContext], None]) -> None:
    """Do `work` as a run of a job that Dagit shows by the name of the command."""

    @dg.op(name="repaint", description="Cells that coverage has as settled become green, no other cell stays green.")
    def repaint(context: dg.OpExecutionContext) -> None:
        work(context)

    @dg.job(name="reconcile", executor_def=dg.in_process_executor)
    def job() -> None:
        repaint()

    run_id = str(uuid.uuid4())
    with living(instance, run_id) as tags:
        try:
            tags = {COMMAND_TAG: "reconcile", **tags}
            job.execute_in_process(instance=instance, tags=tags, run_config=_QUIET, run_id=run_id)
        except DagsterExecutionInterruptedError:
            raise KeyboardInterrupt from None
