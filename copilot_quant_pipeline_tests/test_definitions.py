"""Claims about everything put together: nothing disappears, and what a user sees is described."""

from __future__ import annotations

import dagster as dg
import pytest

from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.settings import Settings

ASSETS = {
    "adjusted_bars": {"equity_bars"},
    "coverage_report": {"equity_bars", "prediction_market_prices"},
    "dagster_history": set(),
    "equity_bars": {"sp500_members"},
    "history_verified": {"equity_bars"},
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

SCHEDULES = {
    "equities_after_close",
    "prediction_markets_refresh",
    "universe_weekly",
    "verify_history",
    "report_daily",
    "checks_hourly",
    "ledger_pruned_weekly",
}
SENSORS = {"alerts", "ended_runs", "heal", "new_symbols", "new_markets"}
CHECKS = {
    "coverage_report": {"equities_fresh", "grid_complete"},
    "adjusted_bars": {"no_malformed_bars", "splits_and_dividends_consistent"},
    "sp500_members": {"universe_fresh"},
    "prediction_market_daily": {"grid_complete", "markets_fresh_kalshi", "markets_fresh_polymarket"},
    "prediction_market_prices": {
        "each_instant_once",
        "no_points_outside_a_markets_life",
        "outcomes_of_a_binary_market_sum_to_one",
        "prices_are_probabilities",
        "resolved_markets_end_at_their_outcome",
    },
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


def test_no_check_disappears_and_each_says_in_words_what_it_holds(graph: dg.AssetGraph) -> None:
    assert {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys} == {
        (asset, name) for asset, names in CHECKS.items() for name in names
    }
    for key in graph.asset_check_keys:
        described = graph.get(key).description
        assert described, key
        # Dagit shows a line that is set in as code.
        assert not any(line.startswith(" ") for line in described.splitlines()), key


def test_what_runs_by_itself_is_all_there_and_on_by_default(settings: Settings) -> None:
    repository = build_definitions(settings).get_repository_def()
    assert {schedule.name for schedule in repository.schedule_defs} == SCHEDULES
    assert {sensor.name for sensor in repository.sensor_defs} == SENSORS
    for automation in (*repository.schedule_defs, *repository.sensor_defs):
        assert automation.default_status.value == "RUNNING", automation.name
        assert automation.description
