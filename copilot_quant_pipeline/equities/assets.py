"""The equities assets: membership, bars and adjusted bars.

Here: one sentence per asset, joining the rooms; what Dagit shows of them.
Not here: how Yahoo or Wikipedia is read, how bars are judged, how anything is stored.

No `from __future__ import annotations` here: Dagster reads the annotations of an asset's parameters.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
import pyarrow as pa
from dagster_duckdb import DuckDBResource

from copilot_quant_pipeline.calendar import NEW_YORK
from copilot_quant_pipeline.equities.delisting import harvest_with_delisted, told_as_outage
from copilot_quant_pipeline.equities.fetch import Reread
from copilot_quant_pipeline.equities.lives import harvest_within_lives, judged_harvest
from copilot_quant_pipeline.equities.sources import EquitySources
from copilot_quant_pipeline.equities.universe import current_symbols, merge_members
from copilot_quant_pipeline.equities.verification import part_of_week, plan_part
from copilot_quant_pipeline.errors import NotFound
from copilot_quant_pipeline.grid.axes import SYMBOL, equities_grid, keys_on_axis
from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.grid.runs import backfill_of, cells_of_run
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.coverage import read_settled_empty, read_stored_beside, read_stored_symbols
from copilot_quant_pipeline.warehouse.fetch_result import Harvest
from copilot_quant_pipeline.warehouse.instruments import Life, name_instruments, read_lives
from copilot_quant_pipeline.warehouse.io_manager import described, paint_refuted, summary_of, take_back_later
from copilot_quant_pipeline.warehouse.tables import ADJUSTED_BARS, BARS, MEMBERS
from copilot_quant_pipeline.warehouse.warehouse import SettleResult, Warehouse
from copilot_quant_pipeline.warehouse.warnings import note_list

GROUP = "equities"

# Raise it when the same answer of a venue would be stored differently.
CODE_VERSION = "1"


class BarsConfig(dg.Config):
    """What the launch dialog's run config takes: `refresh: true` asks again for cells that are settled."""

    refresh: bool = False


def build_equities(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of the equities grid, on the axes that `settings` give."""
    return [sp500_members, _equity_bars(settings), adjusted_bars, _history_verified(settings)]


@dg.asset(group_name=GROUP, kinds={"wikipedia", "duckdb"}, pool="wikipedia", metadata=described(MEMBERS))
def sp500_members(
    context: dg.AssetExecutionContext,
    equity_sources: dg.ResourceParam[EquitySources],
    warehouse: dg.ResourceParam[Warehouse],
) -> pa.Table:
    """Who is and was in the S&P 500, one row per symbol and spell, from Wikipedia's list and its changes.

    New symbols are added to the symbol axis; a symbol that leaves the index stays on it. A page that does not hold
    480 to 520 members is refused, and the last good list stays; what the page no longer tells is kept, and a symbol
    that takes another's place with its join date and security takes over its spell.
    """
    page = equity_sources.fetch_members()
    merged = merge_members(page, warehouse.read(f"from {MEMBERS.qualified}"))
    now: datetime = page.column("read_at")[0].as_py()
    if merged.lost:
        context.log.warning(merged.lost)
    note_list(warehouse, merged.lost, now=now, run_id=context.run.run_id)
    for rename in merged.renames:
        context.log.info(f"{rename.new} is what {rename.old} is called since {rename.day}")
    name_instruments(warehouse, merged.renames, source=page.column("source")[0].as_py(), now=now)
    context.instance.add_dynamic_partitions(SYMBOL, current_symbols(merged.members))
    return merged.members


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
        warehouse: dg.ResourceParam[Warehouse],
    ) -> dg.MaterializeResult[Harvest]:
        """Daily bars as traded: the prices and share counts of the day, with the day's dividend and split.

        A cell is green once Yahoo has answered and the answer is stored: a bar, or the reason why there is none
        (`not_listed`, `delisted`). A session that Yahoo should have and has not, a bar that cannot be one and a symbol
        it does not know are red, each with its reason in `ops.coverage`.

        What an answer brings besides the asked cells is compared with what is stored: bars become final, changed
        values are restated, and changes too large to be believed wait in `ops.quarantine`.
        """
        backfill = backfill_of(context)

        def asked(cells: Rectangle, lives: Mapping[str, Life]) -> Harvest:
            with warehouse.held():
                beside, empty = read_stored_beside(warehouse, cells), read_settled_empty(warehouse, cells.keys)
            return equity_sources.harvest_bars(
                cells,
                refresh=config.refresh,
                backfill=backfill,
                stored_beside=beside,
                settled_empty=empty,
                lives=lives,
            )

        def harvested(cells: Rectangle) -> Harvest:
            return harvest_within_lives(warehouse, cells, asked, source=equity_sources.bars_source)

        cells = cells_of_run(context, grid)
        axis = keys_on_axis(context.instance, SYMBOL)
        harvest = harvest_with_delisted(
            warehouse, cells, harvested, now=settings.now(), refresh=config.refresh, axis=axis
        )
        harvest = equity_sources.without_future(harvest)
        if (by_yahoo := equity_sources.clock()) and (
            told := take_back_later(context.instance, warehouse, context.asset_key, BARS.grid, {"yahoo": by_yahoo})
        ):
            context.log.warning("; ".join(told))
        # What a venue says can change without any change of ours, so every run's data are a version of their own.
        return dg.MaterializeResult(value=harvest, data_version=dg.DataVersion(context.run.run_id[:8]))

    return equity_bars


@dg.asset(group_name=GROUP, kinds={"duckdb", "view"}, deps=["equity_bars"], metadata=described(ADJUSTED_BARS))
def adjusted_bars(duckdb: DuckDBResource) -> dg.MaterializeResult[None]:
    """Bars in the newest shares with a total-return close: a view, so it always follows from bars and actions.

    There is nothing to store. Materializing it computes all of it once and tells what it holds.
    """
    return dg.MaterializeResult(metadata=summary_of(ADJUSTED_BARS, "symbol", duckdb))


class VerifyConfig(dg.Config):
    """Which histories to read again: these symbols, or a part (0 to 15), or by default the part whose week it is."""

    symbols: list[str] = []
    part: int | None = None


def _history_verified(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(group_name=GROUP, kinds={"yahoo", "duckdb"}, deps=["equity_bars"], pool="yahoo")
    def history_verified(
        context: dg.AssetExecutionContext,
        config: VerifyConfig,
        equity_sources: dg.ResourceParam[EquitySources],
        warehouse: dg.ResourceParam[Warehouse],
    ) -> dg.MaterializeResult[None]:
        """The stored bars of a sixteenth of the symbols, compared with their whole history as the venue tells it now.

        Each week another sixteenth. What changed is restated or waits in `ops.quarantine`, as in any run; no cell is
        recorded anew, and a bar the venue no longer has is counted and kept.
        """
        symbols = _verified(settings, config, read_stored_symbols(warehouse))
        lives = read_lives(warehouse, symbols)
        reread = equity_sources.reread_histories(symbols, lives)
        harvest = judged_harvest(warehouse, reread.harvest, lives, source=equity_sources.bars_source)
        settled = warehouse.settle_harvest(BARS, harvest, run_id=context.run.run_id)
        paint_refuted(
            context.op_execution_context.get_step_execution_context(), dg.AssetKey("equity_bars"), BARS, settled
        )
        unknown = [symbol for symbol, error in reread.refused.items() if isinstance(error, NotFound)]
        axis = keys_on_axis(context.instance, SYMBOL)
        outage = told_as_outage(warehouse, unknown, axis, settings.now()) if unknown else None
        _expect_all_read(reread, outage, metadata := _verification(reread, settled))
        return dg.MaterializeResult(metadata=metadata)

    return history_verified


def _verified(settings: Settings, config: VerifyConfig, stored: Sequence[str]) -> Sequence[str]:
    if config.symbols:
        return [symbol for symbol in stored if symbol in config.symbols]
    today = settings.now().astimezone(NEW_YORK).date()
    return plan_part(stored, part_of_week(today) if config.part is None else config.part)


def _expect_all_read(reread: Reread, outage: str | None, metadata: Mapping[str, Any]) -> None:
    """A symbol the venue no longer knows is told only; one that could not be asked fails the run, as an outage does."""
    unread = [error for error in reread.refused.values() if error.transient or (outage and isinstance(error, NotFound))]
    if unread:
        told = "; ".join([*([outage] if outage else []), *(str(error) for error in unread[:20])])
        raise dg.Failure(f"{len(unread)} histories cannot be had: {told}", metadata=metadata, allow_retries=False)


def _verification(reread: Reread, settled: SettleResult) -> dict[str, Any]:
    seen = reread.harvest.seen_again
    refused = [dg.TableRecord({"symbol": key, "why": str(error)}) for key, error in reread.refused.items()]
    return {
        "symbols": seen.windows.num_rows if seen else 0,
        "bars seen": seen.rows.num_rows if seen else 0,
        "restated": settled.restated,
        "quarantined": settled.quarantined,
        "lost at the source": settled.lost,
        "no longer without rows": settled.refuted.num_rows,
        "requests": reread.harvest.requests,
        **({"refused": dg.MetadataValue.table(refused)} if refused else {}),
    }
