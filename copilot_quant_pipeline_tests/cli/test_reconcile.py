"""Claims about `copilot-quant reconcile` and `prune`: the grid in Dagit is the warehouse's picture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL
from copilot_quant_pipeline.ledger.grid_status import read_grid_status
from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep import reconcile
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.cli.conftest import Desk, open_desk
from copilot_quant_pipeline_tests.conftest import NOW

BARS, PRICES = dg.AssetKey("equity_bars"), dg.AssetKey("prediction_market_prices")
SESSIONS = 7
LOST = "2024-03-26|MSFT"
Colours = dict[str, tuple[set[str], set[str]]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Sandbox, Settings]]:
    """A home with settled and failed cells on both grids; each test gets a copy."""
    home = tmp_path_factory.mktemp("built") / "home"
    settings = Settings(home=home, pinned_now=NOW)
    with Sandbox(now=NOW) as venues, open_desk(settings, venues) as desk:
        venues.fault("lost_session", symbol="MSFT", dates=["2024-03-26"])
        assert desk.run("backfill", "equities", "--symbols", "MSFT,ZZZZ,AAPL", "--start", "2024-03-20").code == 1
        assert desk.run("backfill", "markets", "--venue", "kalshi", "--limit", "2", "--start", "2024-03-27").code == 0
        venues.clear_faults()
        yield home, venues, settings


@pytest.fixture
def full_desk(built: tuple[Path, Sandbox, Settings], tmp_path: Path) -> Iterator[Desk]:
    home, venues, _ = built
    shutil.copytree(home, tmp_path / "home")
    with open_desk(Settings(home=tmp_path / "home", pinned_now=NOW), venues) as desk:
        yield desk


def colours(desk: Desk) -> Colours:
    """The green and red cells of both grids, as Dagit's own status cache has them."""
    graph = build_definitions(desk.settings).resolve_asset_graph()
    with open_instance(desk.settings.dagster_home) as instance:
        return {asset.to_user_string(): _colours(instance, asset, graph) for asset in (BARS, PRICES)}


def _colours(instance: dg.DagsterInstance, asset: dg.AssetKey, graph: dg.AssetGraph) -> tuple[set[str], set[str]]:
    grid = graph.get(asset).partitions_def
    assert grid is not None
    status = get_and_update_asset_status_cache_value(instance, asset, grid)
    if status is None:
        return set(), set()
    red = set(status.deserialize_failed_partition_subsets(grid).get_partition_keys())
    return set(status.deserialize_materialized_partition_subsets(grid).get_partition_keys()) - red, red


def lose_dagster_home(desk: Desk) -> None:
    shutil.rmtree(desk.settings.dagster_home)


def unsettle(desk: Desk, symbol: str, day: str) -> None:
    """What a backup of the warehouse from before some cells were settled looks like."""
    with Warehouse(desk.settings.warehouse_path).transaction() as connection:
        connection.execute("delete from ops.coverage where key = ? and date = ?", [symbol, day])


def reconciled(desk: Desk) -> dict[str, dict[str, int]]:
    said = desk.run("reconcile", "--json")
    assert said.code == 0, said
    return {grid["grid"]: grid for grid in json.loads(said.out)["grids"]}


def test_a_lost_dagster_home_gets_the_same_green_cells(full_desk: Desk) -> None:
    before = colours(full_desk)
    assert LOST in before["equity_bars"][1]
    lose_dagster_home(full_desk)
    grids = reconciled(full_desk)
    after = colours(full_desk)
    assert {asset: green for asset, (green, _) in after.items()} == {
        asset: green for asset, (green, _) in before.items()
    }
    # Red cells are blank until healing asks again.
    assert {asset: red for asset, (_, red) in after.items()} == {
        "equity_bars": set(),
        "prediction_market_prices": set(),
    }
    assert grids["equities"]["painted"] == len(before["equity_bars"][0]) == 2 * SESSIONS - 1
    assert grids["markets"]["painted"] == len(before["prediction_market_prices"][0])


def test_symbols_come_back_by_name_and_markets_as_they_were_first_listed(full_desk: Desk) -> None:
    with open_instance(full_desk.settings.dagster_home) as instance:
        markets = instance.get_dynamic_partitions(MARKET)
    lose_dagster_home(full_desk)
    assert reconciled(full_desk)["equities"]["returned"] == 3
    with open_instance(full_desk.settings.dagster_home) as instance:
        assert list(instance.get_dynamic_partitions(SYMBOL)) == ["AAPL", "MSFT", "ZZZZ"]
        assert sorted(instance.get_dynamic_partitions(MARKET)) == sorted(markets)


def test_what_is_healed_after_a_loss_is_what_was_not_green(full_desk: Desk) -> None:
    lose_dagster_home(full_desk)
    reconciled(full_desk)
    full_desk.venues.reset_requests()
    said = full_desk.run("backfill", "equities", "--symbols", "AAPL,MSFT", "--start", "2024-03-20", "--json")
    assert said.code == 0
    assert json.loads(said.out)["already"] == 2 * SESSIONS - 1
    assert LOST in colours(full_desk)["equity_bars"][0]


def test_reconciling_what_agrees_changes_nothing(full_desk: Desk) -> None:
    before = colours(full_desk)
    with open_instance(full_desk.settings.dagster_home) as instance:
        runs = instance.get_runs_count()
    assert [grid["painted"] + grid["wiped"] for grid in reconciled(full_desk).values()] == [0, 0]
    assert colours(full_desk) == before
    with open_instance(full_desk.settings.dagster_home) as instance:
        assert instance.get_runs_count() == runs


def test_green_cells_that_are_not_settled_become_blank(full_desk: Desk) -> None:
    before = colours(full_desk)["equity_bars"]
    unsettle(full_desk, "AAPL", "2024-03-27")
    said = full_desk.run("reconcile")
    assert said.code == 0
    assert "asked anew" in said.out
    green, red = colours(full_desk)["equity_bars"]
    assert green == before[0] - {"2024-03-27|AAPL"}
    assert red == before[1]
    assert [grid["wiped"] for grid in reconciled(full_desk).values()] == [0, 0]


def test_a_red_cell_that_is_settled_after_all_becomes_green(full_desk: Desk) -> None:
    with Warehouse(full_desk.settings.warehouse_path).transaction() as connection:
        connection.execute(
            "update ops.coverage set outcome = 'settled', reason = 'not_listed'"
            " where key = 'MSFT' and outcome = 'failed'"
        )
    assert reconciled(full_desk)["equities"]["painted"] == 1
    green, red = colours(full_desk)["equity_bars"]
    assert LOST in green - red


def test_it_is_a_run_that_dagit_shows_and_whose_log_is_short(full_desk: Desk) -> None:
    lose_dagster_home(full_desk)
    reconciled(full_desk)
    with open_instance(full_desk.settings.dagster_home) as instance:
        (run,) = instance.get_runs()
        assert run.job_name == "reconcile"
        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert run.tags["copilot_quant/command"] == "reconcile"
        assert not instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        (record,) = instance.get_asset_records([BARS])
        assert record.asset_entry.last_run_id == run.run_id
        newest = instance.get_latest_materialization_event(BARS)
        assert newest is not None
        assert newest.asset_materialization is not None
        settled_by = full_desk.warehouse.coverage("equities", ["AAPL"]).column("run_id").to_pylist()[0]
        assert newest.asset_materialization.metadata["settled by"] == dg.MetadataValue.text(settled_by)
        assert newest.asset_materialization.tags is not None
        assert newest.asset_materialization.tags["dagster/data_version"] == settled_by[:8]


def test_an_interrupted_one_goes_on_from_there(full_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    before = colours(full_desk)["equity_bars"][0]
    lose_dagster_home(full_desk)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reconcile, "CELLS_AT_ONCE", 5)
    warehouse = full_desk.warehouse
    install_instance_config(full_desk.settings.dagster_home)
    with open_instance(full_desk.settings.dagster_home) as instance:
        with pytest.raises(KeyboardInterrupt):
            reconcile.reconcile(instance, warehouse, full_desk.settings, on_cells=interrupt)
        assert len(read_grid_status(instance, BARS).green) == 5
        (run,) = instance.get_runs()
        assert run.is_finished
    assert reconciled(full_desk)["equities"]["painted"] == len(before) - 5
    assert colours(full_desk)["equity_bars"][0] == before


def test_cells_of_a_run_under_way_are_left_to_it(full_desk: Desk) -> None:
    unsettle(full_desk, "AAPL", "2024-03-27")
    with open_instance(full_desk.settings.dagster_home) as instance:
        job = build_definitions(full_desk.settings).resolve_implicit_global_asset_job_def()
        cell = "2024-03-27|AAPL"
        tags = {"dagster/asset_partition_range_start": cell, "dagster/asset_partition_range_end": cell}
        begun = instance.create_run_for_job(job, asset_selection={BARS}, status=dg.DagsterRunStatus.STARTED, tags=tags)
        assert cell in read_grid_status(instance, BARS).under_way
        (equities, _) = reconcile.reconcile(instance, full_desk.warehouse, full_desk.settings)
        assert (equities.painted, equities.wiped, equities.left) == (0, 0, 0)
        instance.report_run_failed(begun)
        (equities, _) = reconcile.reconcile(instance, full_desk.warehouse, full_desk.settings)
        assert equities.wiped == 0
    assert cell in colours(full_desk)["equity_bars"][1]


def test_two_at_once_both_end_right(full_desk: Desk) -> None:
    before = colours(full_desk)
    lose_dagster_home(full_desk)
    for name, value in full_desk.settings.environment().items():
        full_desk.environment[name] = value
    both = [full_desk.start("reconcile") for _ in range(2)]
    for process in both:
        out, err = process.communicate()
        assert process.returncode == 0, (out, err)
    after = colours(full_desk)
    assert all(after[asset] == (green, set()) for asset, (green, _) in before.items())


def test_a_home_that_keeps_its_events_elsewhere_is_refused(full_desk: Desk) -> None:
    lose_dagster_home(full_desk)
    full_desk.settings.dagster_home.mkdir()
    (full_desk.settings.dagster_home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    said = full_desk.run("reconcile")
    assert said.code == 2
    assert "event_log_storage" in said.err


def test_reconcile_on_an_empty_home_says_so(desk: Desk) -> None:
    assert [grid["settled"] for grid in reconciled(desk).values()] == [0, 0]


def test_prune_tells_what_it_deleted(full_desk: Desk) -> None:
    said = full_desk.run("prune", "--json")
    assert said.code == 0
    assert json.loads(said.out)["runs"] == 0
    assert "0 superseded events" in full_desk.run("prune", "--keep-days", "30").out
    assert full_desk.run("prune", "--keep-days", "0").code == 2
