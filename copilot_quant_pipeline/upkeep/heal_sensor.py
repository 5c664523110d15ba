"""The sensor `heal`: every ten minutes the gaps that are due become runs.

Here: one tick: what is under way already, what is due, the runs asked for, or why none.
Not here: when a cell is due (healing.py), what a run does.

No `from __future__ import annotations` here: Dagster reads the annotations of a sensor's parameters.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import dagster as dg

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.grid.axes import keys_on_axis
from copilot_quant_pipeline.grid.cells import Rectangle, plan_runs
from copilot_quant_pipeline.grid.runs import range_tags
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.accounts import settle_accounts
from copilot_quant_pipeline.upkeep.backfill import LARGEST_RUN
from copilot_quant_pipeline.upkeep.healing import (
    GRIDS,
    HEAL_TAG,
    Grid,
    Healing,
    backfill_under_way,
    cells_of,
    extent_of,
    look_for_gaps,
    runs_under_way,
)
from copilot_quant_pipeline.upkeep.runless import repaint_runless
from copilot_quant_pipeline.warehouse.closures import drop_closed
from copilot_quant_pipeline.warehouse.patience import PATIENCE
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

EVERY = timedelta(minutes=10)

# A run under the daemon takes some seconds, so these are done within about one interval; more would block the queue.
RUNS_OF_A_TICK = 50

# A tick is to be over before Dagster's patience with it is.
LOCK_TIMEOUT = 20.0


def build_heal_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor for the grids of `settings`."""
    warehouse = Warehouse(settings.warehouse_path, min(settings.lock_timeout, LOCK_TIMEOUT))

    @dg.sensor(
        name="heal",
        # Not `target`, which makes a job of its own, and one job cannot have assets of two grids.
        asset_selection=[grid.asset for grid in GRIDS],
        minimum_interval_seconds=int(EVERY.total_seconds()),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Asks again for what failed, and for what was left out between a key's first settled cell and its last: "
            f"{PATIENCE.waits}; after {PATIENCE.tries} tries a cell is given up. Failures of the venue as a whole are "
            f"tried again {PATIENCE.waits_for_venue}, for {PATIENCE.out_of_reach_for.days} days."
        ),
    )
    def heal(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            settle_accounts(context.instance, warehouse)
        except UserError as error:
            context.log.info(f"cells of runs that ended without an account of them wait for the next tick ({error})")
        asked: list[dg.RunRequest] = []
        reasons = _repainted(context.instance, warehouse, settings)
        for grid in GRIDS:
            runs, reason = _plan_tick(context.instance, warehouse, grid, settings)
            asked += runs
            reasons.append(f"{grid.name}: {reason}")
        context.log.info("; ".join(reasons))
        return dg.SensorResult(run_requests=asked) if asked else dg.SkipReason("; ".join(reasons))

    return heal


def _repainted(instance: dg.DagsterInstance, warehouse: Warehouse, settings: Settings) -> list[str]:
    """What was made the warehouse's picture again, in words, if anything had to be."""
    try:
        told = repaint_runless(instance, warehouse, settings)
    except UserError as error:
        told = f"cells that were reported or wiped by hand wait for the next tick ({error})"
    return [told] if told else []


def _plan_tick(
    instance: dg.DagsterInstance, warehouse: Warehouse, grid: Grid, settings: Settings
) -> tuple[list[dg.RunRequest], str]:
    """The runs that heal `grid` now, and in words what is done or why nothing is."""
    under_way = runs_under_way(instance, grid)
    if waits_for := _in_the_way(instance, grid, under_way):
        return [], waits_for
    keys = keys_on_axis(instance, grid.axis)
    extent = extent_of(grid, settings, keys, patient=True)
    if extent is None:
        return [], "nothing was asked for yet"
    now, busy = settings.now(), cells_of(under_way)
    try:
        drop_closed(warehouse, settings)
        healing = look_for_gaps(warehouse, extent, now=now, limit=settings.heal_cells, busy=busy, axis=keys)
    except UserError as error:
        return [], f"the next tick looks again ({error})"
    runs = plan_runs(healing.gaps.cells, extent.dates, keys, LARGEST_RUN[grid.name])[:RUNS_OF_A_TICK]
    return [_request(grid, rectangle, healing, now) for rectangle in runs], _told(healing, len(runs))


def _in_the_way(instance: dg.DagsterInstance, grid: Grid, under_way: Sequence[dg.DagsterRun]) -> str | None:
    """What must end before `grid` is healed: an earlier healing, or a backfill, whose cells come by and by."""
    healing = [run.run_id[:8] for run in under_way if HEAL_TAG in run.tags]
    if healing:
        return f"earlier healing is queued or running ({', '.join(healing[:3])}); the next tick looks again"
    backfill = backfill_under_way(instance, dg.AssetKey(grid.asset))
    return f"backfill {backfill} is running; what it leaves is healed after it" if backfill else None


def _request(grid: Grid, rectangle: Rectangle, healing: Healing, now: datetime) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=_run_key(grid, rectangle, healing, now),
        asset_selection=[dg.AssetKey(grid.asset)],
        tags={**range_tags(rectangle), HEAL_TAG: grid.name},
    )


def _run_key(grid: Grid, rectangle: Rectangle, healing: Healing, now: datetime) -> str:
    """One key for the same cells after the same tries, so that a tick that is repeated asks once.

    The hour is for cells that stay blank because their run broke before it stored anything: they are asked again.
    """
    first, last = range_tags(rectangle).values()
    tried = f"{healing.tried_at:%Y-%m-%dT%H:%M:%S.%f}" if healing.tried_at else "never"
    return f"{grid.name} {first}..{last} tried {tried}, {now:%Y-%m-%dT%H}"


def _told(healing: Healing, runs: int) -> str:
    waiting = (
        f"{healing.waiting:,} wait until {healing.next_try_at:%Y-%m-%d %H:%M UTC} or later" if healing.waiting else ""
    )
    given_up = f"{healing.given_up:,} were given up" if healing.given_up else ""
    due = f"{healing.gaps.total:,} gaps are due, {runs} runs" if runs else "no gap is due"
    return ", ".join(part for part in (due, waiting, given_up) if part)
