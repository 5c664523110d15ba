"""Claims about a backfill of prediction markets launched from Dagit, run by Dagster's own backfill daemon."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
import pytest

from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.grid.axes import MARKET
from copilot_quant_pipeline_tests.backfills.conftest import DAEMON_WARNINGS, World

pytestmark = DAEMON_WARNINGS

PRICES = dg.AssetKey("prediction_market_prices")
DAYS = [date(2024, 3, 20) + timedelta(days=n) for n in range(5)]


@pytest.fixture(scope="module")
def markets(world: World) -> Sequence[str]:
    """The markets that the catalog has put on the axis."""
    job = build_definitions(world.settings).resolve_implicit_global_asset_job_def()
    config = {"ops": {"prediction_markets": {"config": {"venues": ["kalshi", "polymarket"], "top": 2}}}}
    listed = job.execute_in_process(
        instance=world.instance, asset_selection=[dg.AssetKey("prediction_markets")], run_config=config
    )
    assert listed.success
    return world.instance.get_dynamic_partitions(MARKET)


@pytest.fixture(scope="module")
def settled(world: World, markets: Sequence[str]) -> Sequence[str]:
    """The cells of their days, settled by a backfill."""
    keys = [f"{day}|{market}" for day in DAYS for market in markets]
    backfill = world.launch(keys, asset=PRICES)
    assert backfill.status.value == "COMPLETED_SUCCESS"
    return keys


def test_the_catalog_puts_markets_on_the_axis_and_a_backfill_settles_their_days(
    world: World, markets: Sequence[str], settled: Sequence[str]
) -> None:
    assert len(markets) == 4
    keys = list(settled)
    assert set(keys) <= set(world.instance.get_materialized_partitions(PRICES))
    stored = world.warehouse.read("select distinct date, market from prediction_markets.prices").to_pylist()
    assert {f"{row['date']}|{row['market']}" for row in stored} <= set(keys)
    world.venues.reset_requests()
    world.launch(keys, asset=PRICES)
    assert world.venues.requests() == {}  # each market's life was asked for once, and is kept


def test_a_backfill_asks_once_for_a_market_with_lost_days_and_for_one_that_is_not_known(
    world: World, markets: Sequence[str]
) -> None:
    lost, *_ = [key for key in markets if key.startswith("polymarket:")]
    world.instance.add_dynamic_partitions(MARKET, ["kalshi:NOSUCH"])
    world.venues.fault("polymarket_no_history", symbol=lost.removeprefix("polymarket:"))
    days = [DAYS[-1] + timedelta(days=n) for n in range(1, 4)]
    keys = [f"{day}|{market}" for day in days for market in (lost, "kalshi:NOSUCH")]
    config = {"ops": {"prediction_market_prices": {"config": {"refresh": True}}}}

    def requests_of_one_backfill() -> dict[str, int]:
        world.venues.reset_requests()
        backfill = world.launch(keys, config, asset=PRICES)
        assert len(world.runs_of(backfill)) > 1
        return world.venues.requests()

    asked = requests_of_one_backfill()
    assert asked["/trade-api/v2/markets/{ticker}"] == 1
    assert asked["/trade-api/v2/historical/markets/{ticker}"] == 1
    failed = "select distinct key, reason from ops.coverage where date in (select unnest($days::date[])) order by key"
    assert world.warehouse.read(failed, {"days": days}).to_pylist() == [
        {"key": "kalshi:NOSUCH", "reason": "unknown_market"},
        {"key": lost, "reason": "missing_at_source"},
    ]
    # What was refused then counts for nothing now: the same is asked for again, once.
    assert requests_of_one_backfill() == asked


@pytest.mark.usefixtures("settled")
def test_the_checks_pass_on_what_was_settled(world: World) -> None:
    job = build_definitions(world.settings).resolve_implicit_global_asset_job_def()
    checks = job.asset_layer.asset_graph.get_check_keys_for_assets({PRICES})
    result = job.get_subset(asset_selection=set(), asset_check_selection=checks).execute_in_process(
        instance=world.instance
    )
    assert result.success
    evaluations = result.get_asset_check_evaluations()
    assert len(evaluations) == 5
    assert all(evaluation.passed for evaluation in evaluations)
