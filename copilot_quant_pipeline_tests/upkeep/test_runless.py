"""Claims about cells that somebody wiped or reported by hand: the sensor's next look makes them what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._cli.asset import asset_wipe_command
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.ledger.grid_status import GridStatus, read_grid_status
from copilot_quant_pipeline.ledger.instance import install_instance_config
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.reconcile import Origin, Repaint
from copilot_quant_pipeline.upkeep.runless import first_of, repaint_runless
from copilot_quant_pipeline_tests.upkeep.healing_world import BARS, World, open_world

SYMBOLS = ("ABBV", "ABT")
FRIDAY = datetime(2024, 3, 22, 11, 0, tzinfo=UTC)
WEEK = sessions_in_range(date(2024, 3, 18), date(2024, 3, 21))
LOST = "2024-03-21|ABBV"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("runless") / "home"
    settings = Settings(home=home, equities_start=date(2024, 3, 1), markets_start=date(2024, 3, 1))
    install_instance_config(settings.dagster_home)
    with open_world(settings, FRIDAY) as world:
        world.venues.fault("lost_session", symbol="ABBV", dates=["2024-03-21"])
        world.settle(SYMBOLS, WEEK)
        yield world


def _picture(world: World) -> GridStatus:
    return read_grid_status(world.instance, BARS)


def _wipe(world: World) -> None:
    """`dagster asset wipe`."""
    environment = {"DAGSTER_HOME": world.instance.root_directory}
    result = CliRunner().invoke(asset_wipe_command, ["equity_bars", "--noprompt"], env=environment)
    assert result.exit_code == 0, result.output


def _report(world: World, cell: str | None) -> None:
    world.instance.report_runless_asset_event(dg.AssetMaterialization(BARS, partition=cell))


def test_a_look_repaints_what_was_wiped_or_reported_and_the_next_has_nothing_to_do(world: World) -> None:
    before = _picture(world)
    assert (len(before.green), before.red) == (7, {LOST})
    for change in (
        lambda: _wipe(world),
        lambda: world.instance.wipe_asset_partitions(BARS, sorted(before.green)[:3]),
        lambda: [_report(world, cell) for cell in (LOST, "2024-03-15|ABT", "2024-03-18|ABT", "nonsense", None)],
    ):
        change()
        assert _picture(world) != before
        assert "cells were reported or wiped by hand" in (world.evaluate().skip_message or "")
        assert _picture(world) == before
        assert "by hand" not in (world.evaluate().skip_message or "")
        assert repaint_runless(world.instance, world.warehouse, world.settings) is None


def test_a_look_repaints_so_many_cells_and_the_next_goes_on(world: World) -> None:
    before = _picture(world)
    _wipe(world)
    told = [repaint_runless(world.instance, world.warehouse, world.settings, limit=3) or "" for _ in range(3)]
    assert ["are left" in one for one in told] == [True, True, False]
    assert _picture(world) == before


def test_what_reconcile_itself_wipes_is_not_taken_for_somebodys(world: World) -> None:
    from copilot_quant_pipeline.upkeep.reconcile import reconcile

    keys = dg.MultiPartitionKey({"date": "2024-03-15", "symbol": "ABT"})
    world.instance.report_runless_asset_event(dg.AssetMaterialization(BARS, partition=keys))
    assert [one.wiped for one in reconcile(world.instance, world.warehouse, world.settings)] == [1, 0]
    assert repaint_runless(world.instance, world.warehouse, world.settings) is None


@given(
    st.dictionaries(
        st.builds(Origin, st.sampled_from("ab"), st.none()),
        st.lists(st.builds(Cell, st.dates(), st.sampled_from("XY")), min_size=1, unique=True),
    ),
    st.lists(st.text(), unique=True),
    st.integers(1, 9),
)
def test_plans_are_cut_into_parts_that_make_the_whole(
    paint: dict[Origin, list[Cell]], wipe: list[str], limit: int
) -> None:
    plan = Repaint(paint, wipe)
    part = first_of(plan, limit)
    assert len(part) == min(limit, len(plan))
    assert set(part.wipe) <= set(wipe)
    assert all(set(cells) <= set(paint[origin]) for origin, cells in part.paint.items())
