"""The equities assets: membership, bars, adjusted bars and their coverage.

Here: one sentence per asset, joining the rooms; what Dagit shows of them.
Not here: how Yahoo or Wikipedia is read, how bars are judged, how anything is stored.

No `from __future__ import annotations` here: Dagster reads the annotations of an asset's parameters.
"""

import dagster as dg
import pyarrow as pa
from dagster_duckdb import DuckDBResource

from copilot_quant_pipeline.equities.sources import EquitySources
from copilot_quant_pipeline.equities.universe import current_symbols
from copilot_quant_pipeline.grid.axes import SYMBOL, equities_grid, sessions_on_axis
from copilot_quant_pipeline.grid.runs import backfill_of, cells_of_run
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.harvest import Harvest
from copilot_quant_pipeline.warehouse.io_manager import described, summary_of
from copilot_quant_pipeline.warehouse.progress import (
    read_coverage_by_key,
    read_coverage_picture,
    read_progress,
)
from copilot_quant_pipeline.warehouse.tables import ADJUSTED_BARS, BARS, MEMBERS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

GROUP = "equities"

# Raise it when the same answer of a venue would be stored differently.
CODE_VERSION = "1"


class BarsConfig(dg.Config):
    """What the launch dialog's run config takes: `refresh: true` asks again for cells that are settled."""

    refresh: bool = False


def build_equities(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of the equities grid, on the axes that `settings` give."""
    return [sp500_members, _equity_bars(settings), adjusted_bars, _coverage_report(settings)]


@dg.asset(group_name=GROUP, kinds={"wikipedia", "duckdb"}, pool="wikipedia", metadata=described(MEMBERS))
def sp500_members(context: dg.AssetExecutionContext, equity_sources: dg.ResourceParam[EquitySources]) -> pa.Table:
    """Who is and was in the S&P 500, one row per symbol and spell, from Wikipedia's list and its changes.

    New symbols are added to the symbol axis; a symbol that leaves the index stays on it. A page that does not hold
    480 to 520 members is refused, and the last good list stays.
    """
    members = equity_sources.fetch_members()
    context.instance.add_dynamic_partitions(SYMBOL, current_symbols(members))
    return members


def _equity_bars(settings: Settings) -> dg.AssetsDefinition:
    grid = equities_grid(settings)

    @dg.asset(
        group_name=GROUP,
        kinds={"yahoo", "duckdb"},
        partitions_def=grid,
        deps=[sp500_members],
        pool="yahoo",
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=described(BARS),
        code_version=CODE_VERSION,
    )
    def equity_bars(
        context: dg.AssetExecutionContext,
        config: BarsConfig,
        equity_sources: dg.ResourceParam[EquitySources],
    ) -> dg.MaterializeResult[Harvest]:
        """Daily bars as traded: the prices and share counts of the day, with the day's dividend and split.

        A cell is green once Yahoo has answered and the answer is stored: a bar, or the reason why there is none
        (`not_listed`). A session that Yahoo should have and has not, a bar that cannot be one and a symbol it does
        not know are red, each with its reason in `ops.coverage`.
        """
        harvest = equity_sources.harvest_bars(
            cells_of_run(context, grid), refresh=config.refresh, backfill=backfill_of(context)
        )
        # What a venue says can change without any change of ours, so every run's data are a version of their own.
        return dg.MaterializeResult(value=harvest, data_version=dg.DataVersion(context.run.run_id[:8]))

    return equity_bars


@dg.asset(group_name=GROUP, kinds={"duckdb", "view"}, deps=["equity_bars"], metadata=described(ADJUSTED_BARS))
def adjusted_bars(duckdb: DuckDBResource) -> dg.MaterializeResult[None]:
    """Bars in the newest shares with a total-return close: a view, so it always follows from bars and actions.

    There is nothing to store. Materializing it computes all of it once and tells what it holds.
    """
    return dg.MaterializeResult(metadata=summary_of(ADJUSTED_BARS, "symbol", duckdb))


def _coverage_report(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(group_name=GROUP, kinds={"duckdb"}, deps=["equity_bars"])
    def coverage_report(warehouse: dg.ResourceParam[Warehouse]) -> dg.MaterializeResult[None]:
        """How complete and how fresh the equities grid is: in numbers, per symbol and as a picture by month.

        It reads `ops.coverage`, the state of every cell ever asked for; the report is in this asset's metadata.
        """
        progress = read_progress(warehouse, "equities", sessions_on_axis(settings))
        by_symbol = read_coverage_by_key(warehouse, "equities").to_pylist()
        return dg.MaterializeResult(
            metadata={
                "settled": progress.settled,
                "failed": progress.failed,
                "missing": progress.missing,
                "freshness": progress.freshness,
                "newest session": str(progress.newest),
                "picture": dg.MetadataValue.md(read_coverage_picture(warehouse, "equities")),
                "by symbol": dg.MetadataValue.table(
                    [dg.TableRecord({name: _shown(value) for name, value in row.items()}) for row in by_symbol]
                ),
            }
        )

    return coverage_report


def _shown(value: object) -> str | int:
    return value if isinstance(value, int) else str(value or "")
