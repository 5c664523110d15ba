"""Runs that ended without saying what became of their cells: just these cells are painted as coverage has them.

Here: which runs these are, what has to change of their cells, and that it is done at once, without a run of its own.
Not here: making the whole grid true (reconcile), what a run notes of what it owes (ledger/accounts.py).

A run may be killed or interrupted between its data and its events, or meet a full disk; Dagit then shows all its cells
as failed, or as nothing. A run that failed naming the cells that did is no such run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._time import get_current_timestamp

from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.ledger.accounts import Account, Owed
from copilot_quant_pipeline.ledger.run_lives import is_alive, release_dead_runs
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage
from copilot_quant_pipeline.upkeep.healing import GRIDS, Grid
from copilot_quant_pipeline.upkeep.reconcile import Origin, painted
from copilot_quant_pipeline.warehouse.coverage import read_cells
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

_WITHOUT_ACCOUNT = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dataclass(frozen=True)
class Settlement:
    """What has to change of the cells of a run.

    Attributes:
        paint: the cells to paint green, by origin.
        forget: cells that are again what they were before the run was asked for them.
        failed: whether the run, which was interrupted, has stored cells that failed and therefore counts as failed.
    """

    paint: Mapping[Origin, Sequence[Cell]]
    forget: frozenset[str]
    failed: bool

    def __len__(self) -> int:
        return sum(map(len, self.paint.values())) + len(self.forget)


def plan_settlement(
    owed: Sequence[Owed], coverage: Mapping[str, Mapping[str, Any]], run_id: str, *, was_interrupted: bool
) -> Settlement:
    """What makes the cells that a run owes an account of what coverage says: settled ones green, failed ones red.

    A cell that the run did not get to is again what it was before, by the events before: green, red, or blank.

    Args:
        owed: the cells whose newest attempt is the run's.
        coverage: by partition key outcome, reason and the run that asked last; without cells never stored.
        run_id: the run.
        was_interrupted: whether it was, rather than failed.
    """
    rows = {one: coverage.get(one.cell) for one in owed}
    failed = was_interrupted and any(
        row and row["outcome"] == "failed" and row["run_id"] == run_id for row in rows.values()
    )
    paint: dict[Origin, list[Cell]] = {}
    forget = set()
    for one, row in rows.items():
        is_own = row is not None and row["run_id"] == run_id
        if row and row["outcome"] == "settled" and (is_own or not one.was_green):
            paint.setdefault(Origin(row["run_id"], row["reason"]), []).append(_cell(one.cell))
        elif not is_own and _is_shown_wrong(row, was_interrupted=was_interrupted, failed=failed):
            forget.add(one.cell)
    return Settlement(paint, frozenset(forget), failed)


def _is_shown_wrong(row: Mapping[str, Any] | None, *, was_interrupted: bool, failed: bool) -> bool:
    """Whether a cell that its run did not get to, `row` of coverage, is not shown as it was before.

    An interrupted run hides that a cell is red, a failed one has all its cells red.
    """
    if was_interrupted and not failed:
        return row is not None and row["outcome"] == "failed"
    return row is None or row["outcome"] == "settled"


def settle_accounts(instance: dg.DagsterInstance, warehouse: Warehouse) -> int:
    """End the runs of dead processes, free what they hold, and repaint the cells of which a run owes an account.

    Runs under way, and those of other processes that live, are left alone. How many cells changed.

    Raises:
        UserError: The warehouse cannot be read.
    """
    release_dead_runs(instance)
    ledger = instance.event_log_storage
    if not isinstance(ledger, GridEventLogStorage):
        return 0
    ledger.free_abandoned_slots()
    by_asset = {dg.AssetKey(grid.asset): grid for grid in GRIDS}
    changed = 0
    for account in ledger.read_accounts(by_asset):
        run = instance.get_run_by_id(account.run_id)
        if run and not _is_through(instance, run):
            continue
        if run and run.status in _WITHOUT_ACCOUNT and (grid := by_asset.get(account.asset)):
            changed += _settle(instance, ledger, warehouse, grid, account, run)
        ledger.close_account(*account)
    if changed:
        log.info("%d cells of runs that ended without an account of them are painted as stored", changed)
    return changed


def _is_through(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run writes no more: one that somebody cancelled by force does, until its process ends."""
    return run.is_finished and not (run.status is dg.DagsterRunStatus.CANCELED and is_alive(instance, run))


def _settle(
    instance: dg.DagsterInstance,
    ledger: GridEventLogStorage,
    warehouse: Warehouse,
    grid: Grid,
    account: Account,
    run: dg.DagsterRun,
) -> int:
    owed = ledger.read_owed(account)
    was_interrupted = run.status is dg.DagsterRunStatus.CANCELED
    plan = plan_settlement(owed, _coverage(warehouse, grid, owed), run.run_id, was_interrupted=was_interrupted)
    if plan.failed:
        instance.report_run_failed(run, "It was interrupted after it had stored its cells, some of which failed.")
    ledger.forget_owed(account, plan.forget)
    for origin, cells in plan.paint.items():
        ledger.paint_owed(_event(run, painted(account.asset, grid.axis, origin, cells)))
    if plan.failed or plan.forget:
        # Whoever was reading meanwhile may have stored what it saw.
        instance.wipe_asset_cached_status([account.asset])
    return len(plan)


def _coverage(warehouse: Warehouse, grid: Grid, owed: Sequence[Owed]) -> dict[str, Mapping[str, Any]]:
    rows = read_cells(warehouse, grid.name, [_cell(one.cell) for one in owed]).to_pylist() if owed else []
    return {f"{row['date']}|{row['key']}": row for row in rows}


def _event(run: dg.DagsterRun, materialization: dg.AssetMaterialization) -> EventLogEntry:
    """The event by which the run itself would have painted these cells."""
    event = DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        job_name=run.job_name,
        event_specific_data=StepMaterializationData(materialization, []),
    )
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=logging.INFO,
        user_message="",
        run_id=run.run_id,
        timestamp=get_current_timestamp(),
        step_key=None,
        job_name=run.job_name,
        dagster_event=event,
    )


def _cell(key: str) -> Cell:
    day, _, name = key.partition("|")
    return Cell(date.fromisoformat(day), name)
