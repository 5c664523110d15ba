"""Cells that somebody painted or wiped by hand: made the warehouse's picture again.

Here: which cells these are, what has to change, and that it is done, as far as one look of a sensor may take.
Not here: making a whole grid true (reconcile), finding what was done by hand (ledger/runless.py).

Dagit lets nobody do so (dagit/permissions.py); `dagster asset wipe` and scripts can. They leave events of no run.
"""

from __future__ import annotations

import logging
from itertools import islice

import dagster as dg
from dagster._core.definitions.partitions.subset.default import DefaultPartitionsSubset
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent

from copilot_quant_pipeline.grid.axes import partition_key
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.ledger.runless import Runless
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.reconcile import Canvas, Origin, Repaint, apply_repaint, canvases_of, run_recorded
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

# Painting these takes some ten seconds; of a larger grid that was wiped as a whole each look repaints as many.
CELLS_A_LOOK = 50_000


def repaint_runless(
    instance: dg.DagsterInstance, warehouse: Warehouse, settings: Settings, limit: int = CELLS_A_LOOK
) -> str | None:
    """Repaint what was done to cells by hand; in words what was done, None where nothing was.

    Raises:
        UserError: The warehouse cannot be read.
    """
    ledger = instance.event_log_storage
    if not isinstance(ledger, GridEventLogStorage):
        return None
    found = [(canvas, ledger.read_runless(canvas.asset)) for canvas in canvases_of(instance, warehouse, settings)]
    told = [_repaint(canvas, ledger, runless, limit) for canvas, runless in found if runless.reports or runless.wipes]
    return "; ".join(told) or None


def _repaint(canvas: Canvas, ledger: GridEventLogStorage, runless: Runless, limit: int) -> str:
    whole = canvas.plan() if runless.wiped is None else canvas.plan_of(runless.wiped | runless.reported)
    plan = first_of(whole, limit)
    if plan:
        run_recorded(canvas.instance, lambda context: apply_repaint(context, canvas, plan))
    left = len(whole) - len(plan)
    if not left:
        _redden(canvas, runless.wiped)
        # What was reported and is not settled is again what runs made of it.
        ledger.forget_runless(canvas.asset, runless)
    canvas.instance.wipe_asset_cached_status([canvas.asset])
    rest = f", {left:,} are left for the next look (copilot-quant reconcile does them at once)" if left else ""
    return f"{canvas.grid.name}: cells were reported or wiped by hand; {len(plan):,} are painted as stored{rest}"


def _redden(canvas: Canvas, wiped: frozenset[str] | None) -> None:
    """Have failed cells that were wiped be red again, by the runs in which they failed."""
    for origin, cells in canvas.failed_of(wiped).items():
        run = canvas.instance.get_run_by_id(origin.run_id)
        if run and run.status is dg.DagsterRunStatus.FAILURE:
            subset = DefaultPartitionsSubset({partition_key(cell) for cell in cells})
            planned = AssetMaterializationPlannedData(canvas.asset, partitions_subset=subset)
            event = DagsterEvent.build_asset_materialization_planned_event(run.job_name, canvas.grid.asset, planned)
            canvas.instance.report_dagster_event(event, run.run_id, logging.DEBUG)


def first_of(plan: Repaint, limit: int) -> Repaint:
    """As much of `plan` as changes at most `limit` cells."""
    wipe = plan.wipe[:limit]
    cells = ((origin, cell) for origin, some in plan.paint.items() for cell in some)
    paint: dict[Origin, list[Cell]] = {}
    for origin, cell in islice(cells, limit - len(wipe)):
        paint.setdefault(origin, []).append(cell)
    return Repaint(paint, wipe)
