"""Claims about a session that never happened: it is asked about once, and leaves the axis when somebody says so."""

from __future__ import annotations

import json
from datetime import date

from copilot_quant_pipeline.alerts.cell_problems import find_in_warehouse
from copilot_quant_pipeline.grid.axes import sessions_axis, sessions_on_axis
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.cli.conftest import Desk

MOURNED, TRADED = date(2024, 3, 26), date(2024, 3, 27)


def test_a_session_without_any_bar_is_asked_about_and_leaves_the_axis_with_its_coverage(desk: Desk) -> None:
    desk.venues.fault("lost_session", dates=[str(MOURNED)])
    assert desk.run("backfill", "equities", "--symbols", "AAPL,MSFT", "--start", "2024-03-20").code == 1
    assert f"no symbol has a bar of {MOURNED} (2 cells): was the exchange closed?" in desk.run("status").out
    (trouble,) = find_in_warehouse(desk.warehouse)
    assert trouble.key == f"closed/equity_bars/{MOURNED}"

    # Of the other date there are bars.
    desk.set({"COPILOT_QUANT_CLOSED": f"{TRADED},{MOURNED}"})
    said = desk.run("heal", "--force")
    assert said.code == 0
    assert "no gap is due" in said.out
    assert f"{MOURNED} is off the axis" in said.err
    assert f"{TRADED} stays on the axis though the exchange is said to have been closed: it has 2 bars" in said.err
    covered = desk.warehouse.coverage("equities").column("date").to_pylist()
    assert MOURNED not in covered
    assert TRADED in covered
    settings = Settings.from_environment()
    assert MOURNED not in sessions_on_axis(settings)
    assert sessions_axis(settings).get_partition_keys() == [str(day) for day in sessions_on_axis(settings)]
    assert find_in_warehouse(desk.warehouse) == []
    equities = json.loads(desk.run("status", "--json").out)["grids"][0]
    assert (equities["failed"], equities["missing"], equities["freshness"]) == (0, 0, "fresh")
