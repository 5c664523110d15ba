"""One Dagster event for many cells: what an I/O manager calls to have its cells recorded.

Here: the ways to record the cells of a run, and cells beside them.
Not here: the partition key that stands for many cells (cell_key.py), how the ledger stores the cells of such an event
(events.py, sqlite.py), what the cells hold (warehouse).

Dagster builds, logs, formats and yields one event a cell, which costs far more than storing it. Here the
framework builds **one** event, with the tags and metadata it would give each cell, and the ledger stores it
once per cell. What Dagit and the daemon read is the same; only `ExecuteInProcessResult`, which is not read
back, shows one event.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dagster import AssetKey, AssetMaterialization, DagsterEvent, MultiPartitionKey, OutputContext
from dagster._core.definitions.partitions.subset.default import DefaultPartitionsSubset
from dagster._core.definitions.partitions.utils.multi import get_tags_from_multi_partition_key
from dagster._core.events import DagsterEventBatchMetadata
from dagster._core.execution.context.system import StepExecutionContext

from copilot_quant_pipeline.ledger.cell_key import Cells
from copilot_quant_pipeline.ledger.events import CellEvents
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage

Metadata = Mapping[str, Any]


def fold_cells(context: OutputContext, recorded: Collection[str] = ()) -> None:
    """Have the framework emit one event for all cells of a green run, which the ledger stores for each.

    Cells that `record_cells` has `recorded` already are left out; there must be others. To be called by an I/O
    manager's `handle_output` once the data of all cells are committed. Does nothing where one event cannot stand
    for all: another event-log storage, a single cell, metadata given for single cells.
    """
    if not (context.has_asset_partitions and _is_kept_by_ledger(context.step_context)):
        return
    keys = set(context.asset_partition_keys).difference(recorded)
    cells = _cells_among(keys)
    foldable = 1 < len(cells) == len(keys) or recorded
    if foldable and not _has_metadata_of_single_cells(context, keys):
        # There is no public way to tell the framework that all cells are dealt with. Should this attribute
        # ever get another name, nothing is lost: the framework then emits an event a cell, as it does
        # elsewhere.
        context._asset_partitions_subset = DefaultPartitionsSubset({Cells.of(cells)})


def record_cells(context: OutputContext, cells: Iterable[str], metadata: Metadata | None = None) -> None:
    """Record exactly `cells` as materialized, for a run of which other cells failed.

    To be called by an I/O manager's `handle_output` before it raises `Failure`; the events are stored when
    this returns. As with any explicitly logged materialization, there is no data-version tag.

    Raises:
        ValueError: A cell is not of this run.
    """
    wanted = set(cells)
    keys = sorted(key for key in context.asset_partition_keys if key in wanted)
    if len(keys) < len(wanted):
        raise ValueError(f"Not among the cells of this run: {', '.join(sorted(wanted.difference(keys))[:5])}")
    for event, batch in _events(context, keys, metadata):
        DagsterEvent.asset_materialization(context.step_context, event, batch)


def close_account(context: OutputContext) -> None:
    """Say that what became of each cell of this run is recorded, for a run of which some failed.

    To be called by an I/O manager's `handle_output` once `record_cells` has recorded the others, before it raises
    `Failure`. What a run that succeeds has recorded is known from that.
    """
    log = context.step_context.instance.event_log_storage
    if isinstance(log, GridEventLogStorage):
        log.close_account(context.run_id, context.asset_key)


def record_beside(
    step: StepExecutionContext,
    asset_key: AssetKey,
    cells: Sequence[MultiPartitionKey],
    metadata: Metadata | None = None,
) -> None:
    """Record `cells` as materialized that the run, of whatever asset, settled though it does not cover them."""
    if _is_kept_by_ledger(step):
        events = [materialization_of(asset_key, cells, metadata, are_in_log=False)] if cells else []
    else:
        events = [
            AssetMaterialization(
                asset_key, partition=cell, tags=get_tags_from_multi_partition_key(cell), metadata=metadata
            )
            for cell in cells
        ]
    for event in events:
        DagsterEvent.asset_materialization(step, event)


def materialization_of(
    asset_key: AssetKey,
    cells: Iterable[MultiPartitionKey],
    metadata: Metadata | None = None,
    tags: Mapping[str, str] | None = None,
    *,
    are_in_log: bool = True,
) -> AssetMaterialization:
    """One materialization for all of `cells`, to be reported to an instance whose event log is the ledger.

    The ledger stores it for each cell; any other storage would store it for the last only. Unless `are_in_log`, the
    grid shows the cells and the log of the run that records them does not.
    """
    key = Cells.of(cells, are_in_log=are_in_log)
    tags = {**(tags or {}), **get_tags_from_multi_partition_key(key)}
    return AssetMaterialization(asset_key, partition=key, tags=tags, metadata=metadata)


def _events(
    context: OutputContext, keys: Sequence[str], metadata: Metadata | None
) -> Iterator[tuple[AssetMaterialization, DagsterEventBatchMetadata | None]]:
    cells = _cells_among(keys)
    if 1 < len(cells) == len(keys) and _is_kept_by_ledger(context.step_context):
        yield materialization_of(context.asset_key, cells, metadata), None
        return
    for key in keys:
        tags = get_tags_from_multi_partition_key(key) if isinstance(key, MultiPartitionKey) else None
        event = AssetMaterialization(context.asset_key, partition=key, tags=tags, metadata=metadata)
        yield event, DagsterEventBatchMetadata(f"{context.run_id}:{context.step_key}", key is keys[-1])


def _cells_among(keys: Iterable[str]) -> list[MultiPartitionKey]:
    return [key for key in keys if isinstance(key, MultiPartitionKey)]


def _is_kept_by_ledger(step: StepExecutionContext) -> bool:
    return isinstance(step.instance.event_log_storage, CellEvents)


def _has_metadata_of_single_cells(context: OutputContext, keys: Iterable[str]) -> bool:
    given = context.step_context.get_asset_metadata
    return any(given(asset_key=context.asset_key, partition_key=key) for key in keys)
