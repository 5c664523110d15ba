"""Claims about what Dagit shows beside the grids: the coverage report and the views, after both grids were settled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg

from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.grid.axes import SYMBOL
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.upkeep.backfill import run_in_process
from copilot_quant_pipeline_tests.cli.conftest import Desk

DAYS = ("--start", "2024-03-25", "--end", "2024-03-28")


def materialized(desk: Desk, *assets: str) -> list[Mapping[str, Any]]:
    """What each asset tells once it is materialized."""
    job = build_definitions(desk.settings).resolve_implicit_global_asset_job_def()
    told = []
    with open_instance(desk.settings.dagster_home) as instance:
        for asset in assets:
            run_in_process(job, instance, asset, {})
            event = instance.get_latest_materialization_event(dg.AssetKey(asset))
            assert event is not None
            assert event.asset_materialization is not None
            metadata = event.asset_materialization.metadata
            told.append({name: getattr(value, "records", value.value) for name, value in metadata.items()})
    return told


def test_the_report_and_the_views_tell_what_both_grids_hold(desk: Desk) -> None:
    assert desk.run("backfill", "equities", "--symbols", "AAPL,KO,ZZZZ", *DAYS).code == 1
    assert desk.run("backfill", "markets", "--venue", "kalshi", "--limit", "1", *DAYS).code == 0
    report, bars, daily = materialized(desk, "coverage_report", "adjusted_bars", "prediction_market_daily")
    equities = {name: report[f"equities: {name}"] for name in ("settled", "failed", "missing", "freshness")}
    assert equities == {"settled": 8, "failed": 4, "missing": 0, "freshness": "stale"}
    assert (report["markets: settled"], report["markets: newest date"]) == (4, "2024-03-28")
    assert "8 settled, 4 failed" in report["equities: picture"]
    by_key = [record.data for record in report["equities: by key"]]
    assert [(row["key"], row["settled"], row["failed"]) for row in by_key] == [
        ("ZZZZ", 0, 4),
        ("AAPL", 4, 0),
        ("KO", 4, 0),
    ]
    assert (bars["dagster/row_count"], bars["symbols"], bars["newest date"]) == (8, 2, "2024-03-28")
    assert (daily["dagster/row_count"], daily["markets"]) == (8, 1)


def test_of_a_symbol_that_was_taken_off_the_axis_the_report_counts_what_is_settled_only(desk: Desk) -> None:
    assert desk.run("backfill", "equities", "--symbols", "KO,ZZZZ", *DAYS).code == 1
    with open_instance(desk.settings.dagster_home) as instance:
        instance.delete_dynamic_partition(SYMBOL, "ZZZZ")
    (report,) = materialized(desk, "coverage_report")
    (status,) = (grid for grid in json.loads(desk.run("status", "--json").out)["grids"] if grid["grid"] == "equities")
    for name in ("settled", "failed", "missing", "freshness"):
        assert report[f"equities: {name}"] == status[name], name
    assert (status["settled"], status["failed"]) == (4, 0)


def test_the_report_of_an_empty_home_says_so(desk: Desk) -> None:
    assert desk.run("backfill", "equities", "--symbols", "AAPL", *DAYS).code == 0
    (report,) = materialized(desk, "coverage_report")
    assert (report["markets: settled"], report["markets: freshness"]) == (0, "empty")
    assert "nothing was asked for yet" in report["markets: picture"]
