"""The prediction-market assets: the catalog, prices, and daily prices.

Here: one sentence per asset, joining the rooms; what Dagit shows of them.
Not here: how a venue is read, what points become, how anything is stored.

No `from __future__ import annotations` here: Dagster reads the annotations of an asset's parameters.
"""

from dataclasses import replace
from datetime import timedelta

import dagster as dg
from dagster_duckdb import DuckDBResource

from copilot_quant_pipeline.errors import VendorError
from copilot_quant_pipeline.grid.axes import MARKET, markets_grid
from copilot_quant_pipeline.grid.runs import backfill_since, cells_of_run
from copilot_quant_pipeline.prediction_markets.following import FollowRule, plan_followed, plan_retired
from copilot_quant_pipeline.prediction_markets.sources import MarketSources, catalog_rows, read_catalog
from copilot_quant_pipeline.prediction_markets.venue import Market
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.catalog import read_settled_lives, record_markets
from copilot_quant_pipeline.warehouse.harvest import Harvest
from copilot_quant_pipeline.warehouse.io_manager import described, summary_of
from copilot_quant_pipeline.warehouse.tables import DAILY, MARKETS, PRICES
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

GROUP = "prediction_markets"

# Raise it when the same answer of a venue would be stored differently.
CODE_VERSION = "1"


class CatalogConfig(dg.Config):
    """Which markets to list and follow; what is left out is as the settings say."""

    venues: list[str] | None = None
    categories: list[str] | None = None
    top: int | None = None
    ids: list[str] = []


class PricesConfig(dg.Config):
    """What the launch dialog's run config takes: `refresh: true` asks again for cells that are settled."""

    refresh: bool = False


def build_prediction_markets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of the prediction markets' grid, on the axes that `settings` give."""
    return [_prediction_markets(settings), _prediction_market_prices(settings), prediction_market_daily]


def _prediction_markets(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(group_name=GROUP, kinds={"duckdb"}, pool="prediction_markets", metadata=described(MARKETS))
    def prediction_markets(
        context: dg.AssetExecutionContext,
        config: CatalogConfig,
        market_sources: dg.ResourceParam[MarketSources],
        warehouse: dg.ResourceParam[Warehouse],
    ) -> dg.MaterializeResult[None]:
        """Every market ever seen on a venue, as last described, with a history of its status and result.

        The followed ones (the largest of each venue and those named) are put on the market axis. One that left its
        venue's list stays here; one that closed long ago leaves the axis once its whole life is settled.
        """
        rule = _rule(settings, config)
        unresolved = _unresolved_on_axis(context.instance, warehouse, rule)
        found, trouble = _listed(market_sources, replace(rule, ids=(*rule.ids, *unresolved)))
        source = "venues" if settings.source == "live" else "venues (sandbox)"
        changed = record_markets(warehouse, catalog_rows(found, settings.now(), source)) if found else 0
        followed = plan_followed(found, rule)
        context.instance.add_dynamic_partitions(MARKET, [market.key for market in followed])
        retired = _retire(context.instance, warehouse, settings)
        if trouble:
            raise dg.Failure("; ".join(trouble), metadata={"markets": len(found)}, allow_retries=False)
        return dg.MaterializeResult(
            metadata={
                "markets seen": len(found),
                "new or changed": changed,
                "followed": len(followed),
                "left the axis": len(retired),
            }
        )

    return prediction_markets


def _rule(settings: Settings, config: CatalogConfig) -> FollowRule:
    return FollowRule(
        venues=settings.markets_venues if config.venues is None else tuple(config.venues),
        categories=settings.markets_categories if config.categories is None else tuple(config.categories),
        top=settings.markets_top if config.top is None else config.top,
        ids=(*settings.markets_ids, *config.ids),
    )


def _unresolved_on_axis(instance: dg.DagsterInstance, warehouse: Warehouse, rule: FollowRule) -> list[str]:
    """The followed markets of the rule's venues that have no final outcome yet: how they end must be seen."""
    on_axis = instance.get_dynamic_partitions(MARKET)
    return [
        market.key
        for market in read_catalog(warehouse, on_axis)
        if market.venue in rule.venues and market.status != "resolved" and market.key not in rule.ids
    ]


def _listed(sources: MarketSources, rule: FollowRule) -> tuple[list[Market], list[str]]:
    """What every venue lists, and what went wrong: a venue that is down or a market that is broken."""
    found: list[Market] = []
    trouble: list[str] = []
    for venue in dict.fromkeys((*rule.venues, *(key.partition(":")[0] for key in rule.ids))):
        try:
            catalog = sources.fetch_catalog(venue, rule)
        except VendorError as error:
            trouble.append(f"{venue}: {error.reason} ({error})")
            continue
        found += catalog.markets
        trouble += [f"{broken.venue} {broken.id} is broken: {broken.why}" for broken in catalog.broken]
    return found, trouble


def _retire(instance: dg.DagsterInstance, warehouse: Warehouse, settings: Settings) -> list[str]:
    on_axis = set(instance.get_dynamic_partitions(MARKET))
    retired = plan_retired(
        read_catalog(warehouse, sorted(on_axis)),
        on_axis,
        read_settled_lives(warehouse, settings.markets_start),
        settings.now(),
        timedelta(days=settings.markets_retire_days),
    )
    for key in retired:
        instance.delete_dynamic_partition(MARKET, key)
    return retired


def _prediction_market_prices(settings: Settings) -> dg.AssetsDefinition:
    grid = markets_grid(settings)

    @dg.asset(
        group_name=GROUP,
        kinds={"duckdb"},
        partitions_def=grid,
        deps=["prediction_markets"],
        pool="prediction_markets",
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=described(PRICES),
        code_version=CODE_VERSION,
    )
    def prediction_market_prices(
        context: dg.AssetExecutionContext,
        config: PricesConfig,
        market_sources: dg.ResourceParam[MarketSources],
    ) -> dg.MaterializeResult[Harvest]:
        """Hourly prices of every outcome of a market on a UTC day, as probabilities in exact decimal.

        Days before a market opened (`not_open`) and after it closed (`closed`) are green without asking its venue.
        Today's cell is provisional: it is read again until the day is over.
        """
        harvest = market_sources.harvest_prices(
            cells_of_run(context, grid), refresh=config.refresh, backfill_since=backfill_since(context)
        )
        # What a venue says can change without any change of ours, so every run's data are a version of their own.
        return dg.MaterializeResult(value=harvest, data_version=dg.DataVersion(context.run.run_id[:8]))

    return prediction_market_prices


@dg.asset(
    group_name=GROUP,
    kinds={"duckdb", "view"},
    deps=["prediction_market_prices", "prediction_markets"],
    metadata=described(DAILY),
)
def prediction_market_daily(duckdb: DuckDBResource) -> dg.MaterializeResult[None]:
    """Daily prices of every outcome on UTC days, and what it settled at: a view over the hourly prices.

    There is nothing to store. Materializing it computes all of it once and tells what it holds.
    """
    return dg.MaterializeResult(metadata=summary_of(DAILY, "market", duckdb))
