"""The coverage report: how complete and how fresh both grids are, as an asset that Dagit shows.

Here: putting the numbers, tables and pictures of coverage into metadata.
Not here: counting (warehouse/coverage.py), what to do about a gap.

No `from __future__ import annotations` here: Dagster reads the annotations of an asset's parameters.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from copilot_quant_pipeline.grid.axes import AXIS_OF, days_on_axis, keys_on_axis, sessions_on_axis
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.coverage import read_coverage_by_key, read_coverage_picture, read_progress
from copilot_quant_pipeline.warehouse.warehouse import Warehouse


def build_report(settings: Settings) -> dg.AssetsDefinition:
    """The asset `coverage_report` on the axes that `settings` give."""

    @dg.asset(group_name="upkeep", kinds={"duckdb"}, deps=["equity_bars", "prediction_market_prices"])
    def coverage_report(
        context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> dg.MaterializeResult[None]:
        """How complete and how fresh both grids are: in numbers, per symbol and market, and as a picture by month.

        It reads `ops.coverage`, the state of every cell ever asked for; the report is in this asset's metadata.
        """
        axes = {"equities": sessions_on_axis(settings), "markets": days_on_axis(settings)}
        reports = (
            _report(warehouse, grid, dates, keys_on_axis(context.instance, AXIS_OF[grid]))
            for grid, dates in axes.items()
            if dates
        )
        return dg.MaterializeResult(metadata={name: value for report in reports for name, value in report.items()})

    return coverage_report


def _report(warehouse: Warehouse, grid: str, dates: Sequence[date], keys: Sequence[str]) -> Mapping[str, Any]:
    progress = read_progress(warehouse, grid, dates, keys)
    by_key = [
        dg.TableRecord({name: _shown(value) for name, value in row.items()})
        for row in read_coverage_by_key(warehouse, grid).to_pylist()
    ]
    report: dict[str, Any] = {
        "settled": progress.settled,
        "of these coarse, asked again": progress.coarse,
        "failed": progress.failed,
        "missing": progress.missing,
        "freshness": progress.freshness,
        "newest date": str(progress.newest),
        "picture": dg.MetadataValue.md(read_coverage_picture(warehouse, grid)),
    }
    if by_key:  # Dagster refuses a table without rows
        report["by key"] = dg.MetadataValue.table(by_key)
    return {f"{grid}: {name}": value for name, value in report.items()}


def _shown(value: object) -> str | int:
    return value if isinstance(value, int) else str(value or "")
