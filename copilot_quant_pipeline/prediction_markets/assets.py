"""The prediction-market assets: the catalog, prices, and daily prices.

Here: one sentence per asset, joining the rooms; what Dagit shows of them.
Not here: how a venue is read, what points become, how anything is stored.

No `from __future__ import annotations` here: Dagster reads the annotations of an asset's parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from copilot_quant_pipeline.grid.axes import MARKET, keys_on_axis, markets_grid
from copilot_quant_pipeline.grid.runs import backfill_of, cells_of_run
from copilot_quant_pipeline.prediction_markets.following import (
    CHOSEN,
    FAULTS,
    NEWS,
    NOTES,
    NOW_CALLED,
    OUT_OF_REACH,
    WAITING,
    FollowRule,
    plan_followed,
    plan_keys,
    plan_retired,
)
from copilot_quant_pipeline.prediction_markets.looks import Look
from copilot_quant_pipeline.prediction_markets.sources import MarketSources, catalog_rows, read_catalog
from copilot_quant_pipeline.prediction_markets.venue import Market
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.catalog import read_settled_lives, record_gone, record_markets
from copilot_quant_pipeline.warehouse.fetch_result import Harvest
from copilot_quant_pipeline.warehouse.io_manager import described, summary_of, take_back_later
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
    with_ended: bool = False


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
        venue's list stays here; one that closed long ago leaves the axis once its whole life is settled. One that its
        venue renames stays under its key; one that its venue knows no more is told of once, and stays as it was.
        """
        known, axis = read_catalog(warehouse), keys_on_axis(context.instance, MARKET)
        rule = _rule(settings, config)
        seen = _seen(market_sources, _asked(rule, known, axis, settings), known, axis)
        taken_back = _take_back_later(context.instance, market_sources)
        source = "venues" if settings.source == "live" else "venues (sandbox)"
        changed = record_markets(warehouse, catalog_rows(seen.markets, settings.now(), source)) if seen.markets else 0
        gone = record_gone(warehouse, seen.gone, settings.now())
        followed = plan_followed(seen.markets, replace(rule, ids=tuple(plan_keys(seen.markets, rule.ids).values())))
        context.instance.add_dynamic_partitions(MARKET, [market.key for market in followed])
        retired = _retire(context.instance, warehouse, settings)
        news = [
            *seen.news,
            *taken_back,
            *(f"{key} is gone: its venue knows it no more; what is stored stays" for key in gone),
        ]
        told: dict[str, Any] = {
            CHOSEN: dg.MetadataValue.json([market.key for market in followed]),
            OUT_OF_REACH: dg.MetadataValue.json(seen.out_of_reach),
            WAITING: dg.MetadataValue.json(seen.waiting),
            FAULTS: dg.MetadataValue.json(seen.faults),
            NEWS: dg.MetadataValue.json(news),
            NOTES: dg.MetadataValue.json(seen.notes),
            "markets seen": len(seen.markets),
            "new or changed": changed,
            "followed": len(followed),
            "left the axis": len(retired),
            "broken and not followed": seen.broken,
            "renamed": sum(NOW_CALLED in market.facts for market in seen.markets),
        }
        if seen.faults or news:
            raise dg.Failure("; ".join([*seen.faults, *news]), metadata=told, allow_retries=False)
        return dg.MaterializeResult(metadata=told)

    return prediction_markets


def _rule(settings: Settings, config: CatalogConfig) -> FollowRule:
    return FollowRule(
        venues=settings.markets_venues if config.venues is None else tuple(config.venues),
        categories=settings.markets_categories if config.categories is None else tuple(config.categories),
        top=settings.markets_top if config.top is None else config.top,
        ids=(*settings.markets_ids, *config.ids),
        with_ended=config.with_ended,
    )


def _asked(rule: FollowRule, known: Sequence[Market], axis: Sequence[str], settings: Settings) -> FollowRule:
    """The rule, with all that must be asked for by name, as its venue knows it: by id, where that is known.

    To the markets the rule names come those on the axis, of its venues; of all venues where it lists those that are
    followed. How they end must be seen, and whether a result is taken back, listed or not.
    """
    keys, every = set(axis), set(settings.markets_venues) <= set(rule.venues)
    looked_at = [m.key for m in known if m.key in keys and (every or m.venue in rule.venues)]
    ids = {market.key: f"{market.venue}:{market.id}" for market in known}
    names = plan_keys(known, (*rule.ids, *looked_at)).values()
    return replace(rule, ids=tuple(dict.fromkeys(ids.get(key, key) for key in names)))


@dataclass
class _Seen:
    """What looks at the venues found, one after the other; `out_of_reach` are those whose listing could not be had."""

    markets: list[Market] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    waiting: dict[str, tuple[str, str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    news: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    out_of_reach: list[str] = field(default_factory=list)
    broken: int = 0

    def put(self, venue: str, look: Look) -> None:
        self.markets.extend({market.key: market for market in look.markets}.values())
        self.gone.extend(look.gone)
        self.waiting.update(look.waiting)
        self.faults.extend(look.faults)
        self.news.extend(look.news)
        self.notes.extend(look.notes)
        self.broken += len(look.broken)
        self.out_of_reach.extend([venue] if look.down else [])


def _seen(sources: MarketSources, rule: FollowRule, known: Sequence[Market], axis: Sequence[str]) -> _Seen:
    seen = _Seen()
    for venue in dict.fromkeys((*rule.venues, *(key.partition(":")[0] for key in rule.ids))):
        seen.put(venue, sources.look(venue, rule, known, axis))
    return seen


def _take_back_later(instance: dg.DagsterInstance, sources: MarketSources) -> list[str]:
    """In words the cells that become gaps again, by what the clocks of the venues that were asked say."""
    prices = dg.AssetKey("prediction_market_prices")
    return take_back_later(instance, sources.warehouse, prices, PRICES.grid, sources.clocks())


def _retire(instance: dg.DagsterInstance, warehouse: Warehouse, settings: Settings) -> list[str]:
    on_axis = set(keys_on_axis(instance, MARKET))
    retired = plan_retired(
        read_catalog(warehouse, sorted(on_axis)),
        on_axis,
        read_settled_lives(warehouse, settings.markets_start, settings.now().date()),
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
            cells_of_run(context, grid), refresh=config.refresh, backfill=backfill_of(context)
        )
        for told in _take_back_later(context.instance, market_sources):
            context.log.warning(told)
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
