"""Claims about what somebody puts on an axis, or takes off it, by hand: Dagit takes any text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date

import dagster as dg
import pytest

from copilot_quant_pipeline.alerts.dagster_problems import find_bad_keys
from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL, bad_keys
from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.grid.runs import range_tags
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline_tests.cli.conftest import Desk

BAD_SYMBOLS = ["aapl", " MSFT", "AB|CD", "ААPL", "A" * 300]  # noqa: RUF001
BAD_MARKETS = ["foo", "kalshi:", "KALSHI:X", "kalshi:a b", "kalshi:a|b"]


@pytest.fixture
def instance(desk: Desk) -> Iterator[dg.DagsterInstance]:
    with open_instance(desk.settings.dagster_home, capture_output=False) as instance:
        yield instance


def keys_asked(desk: Desk) -> set[str]:
    return set(desk.warehouse.read("select distinct key from ops.coverage").column("key").to_pylist())


def test_a_key_that_can_be_none_gets_no_cells_and_stops_no_other(desk: Desk, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions(SYMBOL, [*BAD_SYMBOLS[:2], "AAPL", *BAD_SYMBOLS[2:], "MSFT"])
    instance.add_dynamic_partitions(MARKET, BAD_MARKETS)
    updated = desk.run("update", "equities")
    assert updated.code == 0, updated
    assert desk.run("update", "markets", "--limit", "1", "--venue", "kalshi").code == 0
    assert desk.run("heal").code == 0
    asked = keys_asked(desk)
    assert {"AAPL", "MSFT"} < asked
    assert asked.isdisjoint([*BAD_SYMBOLS, *BAD_MARKETS])
    for said in (updated.out, status := desk.run("status").out):
        assert "passed over: 'aapl' is no key of a symbol: write AAPL" in said
        assert "passed over: ' MSFT' is no key of a symbol: write MSFT" in said
        assert "'AB|CD' is no symbol: write capitals and digits" in said
    assert "'KALSHI:X' is no key of a market: write kalshi:X" in status
    assert len(json.loads(desk.run("status", "--json").out)["bad keys"]) == len([*BAD_SYMBOLS, *BAD_MARKETS])
    symbols, markets = find_bad_keys(instance)
    assert "'aapl' is no key of a symbol: write AAPL" in symbols.examples
    assert "'foo' is no market" in " ".join(markets.examples)
    # A run of one such cell alone says what is wrong; one of a range that holds some does all others.
    job = build_definitions(desk.settings).resolve_implicit_global_asset_job_def()
    bars = [dg.AssetKey("equity_bars")]
    tags = {"dagster/partition": "2024-03-27|aapl"}
    alone = job.execute_in_process(instance=instance, asset_selection=bars, tags=tags, raise_on_error=False)
    assert not alone.success
    around = range_tags(Rectangle((date(2024, 3, 27),), ("AAPL", "MSFT")))
    assert job.execute_in_process(instance=instance, asset_selection=bars, tags=around).success
    assert keys_asked(desk) == asked
    # `reconcile` takes them off.
    assert desk.run("reconcile").code == 0
    assert not bad_keys(instance, SYMBOL)
    assert not bad_keys(instance, MARKET)
    assert find_bad_keys(instance) == []
    assert "passed over" not in desk.run("status").out


def test_a_key_that_somebody_took_off_the_axis_is_missed_by_nobody(desk: Desk, instance: dg.DagsterInstance) -> None:
    assert desk.run("backfill", "equities", "--symbols", "AAPL", "--start", "2024-03-25").code == 0
    assert desk.run(
        "backfill", "equities", "--symbols", "MSFT,ZZZZ", "--start", "2024-03-25", "--end", "2024-03-26"
    ).code
    assert json.loads(desk.run("status", "--json").out)["grids"][0]["freshness"] == "stale"
    for key in ("MSFT", "ZZZZ"):
        instance.delete_dynamic_partition(SYMBOL, key)
    (equities, _) = json.loads(desk.run("status", "--json").out)["grids"]
    assert (equities["freshness"], equities["keys"], equities["off_axis"]) == ("fresh", 1, 2)
    assert (equities["failed"], equities["missing"]) == (0, 0)
    assert "equities: 2 keys with cells are no longer on the axis" in desk.run("status").out
    assert "no gap is due" in desk.run("heal").out
