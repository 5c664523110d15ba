"""The I/O manager between Dagster's assets and the warehouse.

Here: storing what an asset brings and telling Dagster exactly which cells are settled; loading cells for an asset
downstream; a table's declaration as Dagster shows it.
Not here: the transaction itself (warehouse.py), how events are recorded (ledger), what a reason means (the venues).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from dagster_duckdb import DuckDBResource

from copilot_quant_pipeline.grid.axes import AXIS_OF, DATE, partition_key
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.ledger.recording import close_account, fold_cells, record_beside, record_cells
from copilot_quant_pipeline.links import expect_mounted
from copilot_quant_pipeline.warehouse.distrust import distrust, read_later
from copilot_quant_pipeline.warehouse.fetch_result import Harvest
from copilot_quant_pipeline.warehouse.tables import TABLES, GridTable, Table, View
from copilot_quant_pipeline.warehouse.warehouse import SettleResult, Warehouse

_WIPED_AT_ONCE = 1_000
# A failure's text has this many lines; its metadata table holds all cells, up to what one event can carry.
SPELLED_OUT = 20
TABULATED = 20_000

# The metadata that tells a failure of cells, which are settled or red each by itself, from a run that broke.
FAILED_CELLS = "failed cells"


def described(table: Table | View) -> dict[str, Any]:
    """The metadata under which an asset names its table: Dagit shows its columns, the I/O manager stores there."""
    columns = [
        dg.TableColumn(
            column.name,
            column.type,
            description=column.description,
            constraints=dg.TableColumnConstraints(nullable=column.nullable),
        )
        for column in table.described
    ]
    return {
        "dagster/table_name": f"{table.schema}.{table.name}",
        "dagster/column_schema": dg.TableSchema(columns),
    }


def summary_of(view: View, key: str, duckdb: DuckDBResource) -> dict[str, Any]:
    """What a view holds, computed once, as metadata; `key` is its column of symbols or markets."""
    counts = f'select count(*), count(distinct "{key}"), min(date), max(date) from {view.schema}.{view.name}'  # noqa: S608
    rows, keys, first, newest = 0, 0, None, None
    if expect_mounted(Path(duckdb.database)).exists():  # a fresh home has none
        with duckdb.get_connection() as connection:
            rows, keys, first, newest = connection.execute(counts).fetchone() or (0, 0, None, None)
    return {"dagster/row_count": rows, f"{key}s": keys, "first date": str(first), "newest date": str(newest)}


def changes_told(settled: SettleResult) -> dict[str, int]:
    """What the run changed of stored rows, as metadata; what did not happen is not told, in each of many cells."""
    counts = {
        "restated": settled.restated,
        "quarantined": settled.quarantined,
        "lost at the source": settled.lost,
        "no longer without rows": settled.refuted.num_rows,
    }
    return {name: count for name, count in counts.items() if count}


def paint_refuted(step: Any, asset: dg.AssetKey, table: GridTable, settled: SettleResult) -> None:
    """Paint the cells that were settled besides those of the run, so that they no longer say why they have no rows."""
    axis = AXIS_OF[table.grid]
    cells = [
        dg.MultiPartitionKey({DATE: row["date"].isoformat(), axis: row["key"]}) for row in settled.refuted.to_pylist()
    ]
    record_beside(step, asset, cells)


def take_back_later(
    instance: dg.DagsterInstance, warehouse: Warehouse, asset: dg.AssetKey, grid: str, clocks: Mapping[str, datetime]
) -> list[str]:
    """Make gaps of the cells that were recorded later than it is by their venue's own clock; in words, by venue.

    Raises:
        UserError: The warehouse cannot be read or written.
    """
    told = []
    with warehouse.held():
        later = {venue: cells for venue, now in clocks.items() if (cells := read_later(warehouse, grid, venue, now))}
    for venue, cells in later.items():
        distrust(warehouse, grid, venue, clocks[venue])
        keys = [partition_key(cell) for cell in cells]
        for start in range(0, len(keys), _WIPED_AT_ONCE):
            instance.wipe_asset_partitions(asset, keys[start : start + _WIPED_AT_ONCE])
        told.append(
            f"{len(cells):,} cells of {venue} ({cells[0].date} to {cells[-1].date}) were recorded while this machine's"
            " clock was ahead of its clock: they are gaps again"
        )
    return told


class GridIOManager(dg.IOManager):
    """Stores a `Harvest` of cells, or a whole table for an asset without partitions, in the asset's own table.

    Data are committed before any event is written. Where cells failed, the settled ones are recorded exactly and the
    run fails naming the others, so that a cell is green only if it is settled.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def handle_output(self, context: dg.OutputContext, obj: Harvest | pa.Table) -> None:
        """Commit what the asset brought, then let exactly its settled cells become green.

        Raises:
            dg.Failure: Some cells failed; the others are stored and recorded.
        """
        table = _table_of(context.definition_metadata)
        if isinstance(table, GridTable):
            self._settle(context, table, obj)
        else:
            context.add_output_metadata({"dagster/row_count": self._warehouse.replace(table, obj)})

    def _settle(self, context: dg.OutputContext, table: GridTable, harvest: Harvest) -> None:
        settled = self._warehouse.settle_harvest(table, harvest, run_id=context.run_id)
        failed = settled.cells.filter(pc.field("outcome") == "failed")
        context.log.info(_told(settled, failed.num_rows, harvest))
        changes = changes_told(settled)
        # The asset's own key, as the output of a run with partitions has it.
        paint_refuted(context.step_context, context.asset_key, table, settled)
        self._record(context, settled.cells, changes, all_good=failed.num_rows == 0)
        if failed.num_rows:
            close_account(context)
            raise _failure(failed, settled.cells.num_rows, changes)

    def _record(
        self, context: dg.OutputContext, cells: pa.Table, changes: Mapping[str, int], *, all_good: bool
    ) -> None:
        """Have exactly the settled cells painted green, each with the reason why it has no rows, if so."""
        by_reason = _keys_by_reason(cells.filter(pc.field("outcome") == "settled"))
        # The framework records a green run's cells by itself, cheapest; the largest group is left to it.
        left = max(by_reason, key=lambda reason: len(by_reason[reason])) if all_good else None
        recorded: list[str] = []
        for reason, keys in by_reason.items():
            if not all_good or reason != left:
                record_cells(context, keys, {**changes, **_why_empty(reason)})
                recorded += keys
        if all_good:
            context.add_output_metadata({**changes, **_why_empty(left)})
            fold_cells(context, recorded)

    def load_input(self, context: dg.InputContext) -> pd.DataFrame | pa.Table:
        """The rows of the cells this run covers, or the whole table; pandas unless annotated as a pyarrow Table."""
        upstream = context.upstream_output
        if upstream is None:
            raise dg.DagsterInvariantViolationError("This I/O manager loads what an asset stored, nothing else.")
        table = _table_of(upstream.definition_metadata)
        if isinstance(table, GridTable) and context.has_asset_partitions:
            rows = self._read_cells(table, context.asset_partition_keys)
        else:
            rows = self._warehouse.read(f"from {table.qualified}")
        return rows if context.dagster_type.typing_type is pa.Table else rows.to_pandas()

    def _read_cells(self, table: GridTable, keys: Iterable[str]) -> pa.Table:
        dates, names = zip(*(key.split("|", 1) for key in keys), strict=True)
        return self._warehouse.read(
            # The identifiers are declared names; the cells are bound.
            f"""
            from {table.qualified} t
            semi join (select unnest($dates::date[]) as day, unnest($names) as name) c
                on t."{table.date_column}" = c.day and t."{table.key_column}" = c.name
            order by all
            """,  # noqa: S608
            {"dates": list(dates), "names": list(names)},
        )


def _table_of(metadata: Mapping[str, Any] | None) -> Table:
    name = (metadata or {}).get("dagster/table_name")
    for table in TABLES:
        if f"{table.schema}.{table.name}" == name:
            return table
    raise dg.DagsterInvariantViolationError(
        f"the asset's metadata names the table {name!r}, which is not declared in warehouse/tables.py"
    )


def _keys_by_reason(cells: pa.Table) -> dict[str | None, list[str]]:
    columns = (cells.column(name).to_pylist() for name in ("date", "key", "reason"))
    keys: dict[str | None, list[str]] = {}
    for day, key, reason in zip(*columns, strict=True):
        keys.setdefault(reason, []).append(partition_key(Cell(day, key)))
    return keys


def _why_empty(reason: str | None) -> dict[str, str]:
    return {"reason": reason} if reason else {}


def _told(settled: SettleResult, failed: int, harvest: Harvest) -> str:
    asked = settled.cells.num_rows
    return (
        f"{asked - failed:,} of {asked:,} cells settled; {settled.inserted:,} rows new, {settled.restated:,} restated,"
        f" {settled.unchanged:,} unchanged, {settled.quarantined:,} quarantined, {settled.lost:,} lost at the source;"
        f" {harvest.requests:,} requests, {harvest.retries:,} retries"
    )


def _failure(failed: pa.Table, asked: int, changes: Mapping[str, int]) -> dg.Failure:
    lines = _spelled_out(failed.to_pylist())
    return dg.Failure(
        f"{failed.num_rows:,} of {asked:,} cells failed, the others are settled.\n" + "\n".join(lines),
        metadata={
            **changes,
            FAILED_CELLS: failed.num_rows,
            "reasons": _counted(failed),
            "cells": _tabulated(failed.slice(0, TABULATED).to_pylist()),
        },
        allow_retries=False,
    )


def _spelled_out(failed: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line per cell; where they are many, one per key and reason, or one bad symbol would hide all others."""
    together: dict[Any, list[Any]] = {}
    for row in failed:
        own = row["date"] if len(failed) <= SPELLED_OUT else None
        together.setdefault((row["key"], _why(row), own), []).append(row["date"])
    lines = [
        f"{min(days)} {key}: {why}"
        if len(days) == 1
        else f"{key}: {why}, {len(days):,} cells, {min(days)} to {max(days)}"
        for (key, why, _), days in together.items()
    ]
    left = sum(len(days) for days in list(together.values())[SPELLED_OUT:])
    return [*lines[:SPELLED_OUT], *([f"and {left:,} more, in this failure's metadata"] if left else [])]


def _why(row: Mapping[str, Any]) -> str:
    return f"{row['reason']} ({row['detail']})" if row["detail"] else str(row["reason"])


def _counted(failed: pa.Table) -> dg.TableMetadataValue:
    counts = failed.group_by("reason").aggregate([("reason", "count")]).to_pylist()
    return dg.MetadataValue.table(
        [dg.TableRecord({"reason": row["reason"], "cells": row["reason_count"]}) for row in counts]
    )


def _tabulated(rows: Iterable[Mapping[str, Any]]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "date": str(row["date"]),
                    "key": row["key"],
                    "reason": row["reason"],
                    "detail": row["detail"] or "",
                }
            )
            for row in rows
        ]
    )
