"""Which cells a Dagster run covers, and the tags that make a run cover a rectangle.

Here: the translation between a run's partition tags and a Rectangle.
Not here: deciding what to run (grid/cells.py), running it (cli, upkeep).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
    PARTITION_NAME_TAG,
)

from copilot_quant_pipeline.grid.axes import DATE, partition_key
from copilot_quant_pipeline.grid.cells import Cell, Rectangle
from copilot_quant_pipeline.grid.keys import judge_key
from copilot_quant_pipeline.landing import InBackfill


def range_tags(rectangle: Rectangle) -> dict[str, str]:
    """The run tags that target every cell of `rectangle`, and (its sides being unbroken) no other."""
    first = Cell(rectangle.dates[0], rectangle.keys[0])
    last = Cell(rectangle.dates[-1], rectangle.keys[-1])
    return {
        ASSET_PARTITION_RANGE_START_TAG: partition_key(first),
        ASSET_PARTITION_RANGE_END_TAG: partition_key(last),
    }


def cells_of_run(context: dg.AssetExecutionContext, grid: dg.MultiPartitionsDefinition) -> Rectangle:
    """The cells this run must settle: one, a line or a rectangle, from whichever page it was launched.

    They are exactly the cells Dagster itself counts as this run's, in the order of the axes.

    Raises:
        dg.Failure: The run was launched without partitions, or names a cell of what can be no key.
    """
    corners = corners_of_run(context.run.tags)
    if corners is None:
        raise dg.Failure(
            "This run names no cells. Launch it from the asset's partitions, or with `copilot-quant backfill`.",
            allow_retries=False,
        )
    first, last = corners
    (other,) = set(grid.partition_dimension_names) - {DATE}
    _expect_sound(other, first, last)
    with partition_loading_context(dynamic_partitions_store=context.instance):
        dates, keys = (
            grid.get_partitions_def_for_dimension(name).get_partition_keys_in_range(dg.PartitionKeyRange(low, high))
            for name, low, high in (
                (DATE, first.date.isoformat(), last.date.isoformat()),
                (other, first.key, last.key),
            )
        )
    return Rectangle(tuple(_dates(dates)), tuple(key for key in keys if judge_key(other, key) is None))


def _expect_sound(axis: str, *corners: Cell) -> None:
    """What names cells of something that can be no key asks for nothing that could be there."""
    for corner in corners:
        if wrong := judge_key(axis, corner.key):
            raise dg.Failure(f"This run asks for cells that cannot be: {wrong}.", allow_retries=False)


def corners_of_run(tags: Mapping[str, str]) -> tuple[Cell, Cell] | None:
    """The first and the last cell of the rectangle a run with these `tags` settles; None where they name no cells."""
    corners = _corners(tags)
    if corners is None:
        return None
    first, last = (corner.partition("|") for corner in corners)
    return Cell(date.fromisoformat(first[0]), first[2]), Cell(date.fromisoformat(last[0]), last[2])


def backfill_of(context: dg.AssetExecutionContext) -> InBackfill | None:
    """The Dagit backfill that this run is one of; None for a run of its own."""
    backfill_id = context.run.tags.get(BACKFILL_ID_TAG)
    backfill = context.instance.get_backfill(backfill_id) if backfill_id else None
    if backfill is None:
        return None
    return InBackfill(backfill.backfill_id, datetime.fromtimestamp(backfill.backfill_timestamp, UTC))


def _corners(tags: Mapping[str, str]) -> tuple[str, str] | None:
    # A range wins: a run of a backfill can carry the tag of one partition beside it.
    if ASSET_PARTITION_RANGE_START_TAG in tags:
        return tags[ASSET_PARTITION_RANGE_START_TAG], tags[ASSET_PARTITION_RANGE_END_TAG]
    if PARTITION_NAME_TAG in tags:
        return tags[PARTITION_NAME_TAG], tags[PARTITION_NAME_TAG]
    return None


def _dates(keys: Sequence[str]) -> list[date]:
    return [date.fromisoformat(key) for key in keys]
