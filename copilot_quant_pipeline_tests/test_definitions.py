"""Claims about everything put together: nothing disappears, and what a user sees is described."""

from __future__ import annotations

import dagster as dg
import pytest

from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.settings import Settings

ASSETS = {
    "adjusted_bars": {"equity_bars"},
    "coverage_report": {"equity_bars"},
    "dagster_history": set(),
    "equity_bars": {"sp500_members"},
    "prediction_market_daily": {"prediction_market_prices", "prediction_markets"},
    "prediction_market_prices": {"prediction_markets"},
    "prediction_markets": set(),
    "sp500_members": set(),
}
TABLES = {
    "adjusted_bars": "equities.adjusted_bars",
    "equity_bars": "equities.bars",
    "prediction_market_daily": "prediction_markets.daily",
    "prediction_market_prices": "prediction_markets.prices",
    "prediction_markets": "prediction_markets.markets",
    "sp500_members": "equities.members",
}


@pytest.fixture
def graph(settings: Settings) -> dg.AssetGraph:
    return build_definitions(settings).resolve_asset_graph()


def test_nothing_disappears_from_the_lineage(graph: dg.AssetGraph) -> None:
    lineage = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert lineage == ASSETS


def test_every_asset_is_described_grouped_and_names_its_table(graph: dg.AssetGraph) -> None:
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description
        assert node.group_name in ("equities", "prediction_markets", "upkeep")
        name = key.to_user_string()
        assert node.metadata.get("dagster/table_name") == TABLES.get(name)
        assert ("dagster/column_schema" in node.metadata) is (name in TABLES)


def test_the_grid_is_a_run_per_line_and_one_run_at_a_time_asks_yahoo(graph: dg.AssetGraph) -> None:
    bars = graph.get(dg.AssetKey("equity_bars"))
    assert bars.backfill_policy == dg.BackfillPolicy.single_run()
    assert bars.pools == {"yahoo"}
    assert isinstance(bars.partitions_def, dg.MultiPartitionsDefinition)
    assert bars.partitions_def.partition_dimension_names == ["date", "symbol"]


def test_there_is_no_named_job(settings: Settings) -> None:
    # A backfill from a named job's page silently does only the first key (dagster #28861).
    jobs = build_definitions(settings).resolve_all_job_defs()
    assert [job.name for job in jobs if not job.name.startswith("__")] == []
