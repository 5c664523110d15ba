"""Claims about `copilot-quant heal`, and about `update`, which heals afterwards."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pyarrow as pa

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.warehouse.fetch_result import CELLS
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline_tests.cli.conftest import Desk
from copilot_quant_pipeline_tests.conftest import NOW

CHART = "/v8/finance/chart/{symbol}"
LOST = "2024-01-18"


def _later(desk: Desk, **span: float) -> None:
    now = NOW + timedelta(**span)
    desk.set({"COPILOT_QUANT_NOW": now.isoformat()})
    desk.venues.pin_clock(now)


def _lose_a_session(desk: Desk) -> None:
    desk.venues.fault("lost_session", symbol="MSFT", dates=[LOST])
    assert desk.run("backfill", "equities", "--symbols", "AAPL,MSFT").code == 1


def test_a_failed_cell_heals_once_it_is_due(desk: Desk) -> None:
    _lose_a_session(desk)
    desk.venues.clear_faults()
    said = desk.run("heal")
    assert said.code == 0
    assert "no gap is due; 1 wait until 2024-03-29 14:10 UTC or later" in said.out
    _later(desk, minutes=10)
    said = desk.run("heal")
    assert said.code == 0, said
    assert "equities: 1 of 1 gaps healed" in said.out
    assert "markets: no gap is due" in said.out


def test_a_cell_that_fails_again_is_listed_and_the_exit_code_says_so(desk: Desk) -> None:
    _lose_a_session(desk)
    _later(desk, minutes=10)
    said = desk.run("heal", "--json")
    assert said.code == 1
    equities = json.loads(said.out)["equities"]
    assert (equities["asked"], equities["settled"], equities["runs"]) == (1, 0, 1)
    assert equities["failed"][0][:3] == [LOST, "MSFT", "missing_at_source"]


def test_force_does_not_wait(desk: Desk) -> None:
    _lose_a_session(desk)
    desk.venues.clear_faults()
    assert "1 of 1 gaps healed" in desk.run("heal", "--force").out


def test_force_asks_for_what_was_given_up(desk: Desk) -> None:
    _lose_a_session(desk)
    for hours in range(12, 96, 12):
        failed = {"date": date.fromisoformat(LOST), "key": "MSFT", "outcome": "failed", "reason": "missing_at_source"}
        tried = pa.Table.from_pylist([{**failed, "fetched_at": NOW + timedelta(hours=hours)}], CELLS)
        desk.warehouse.settle(BARS, tried, BARS.arrow.empty_table(), run_id=f"try {hours}")
    _later(desk, days=5)
    said = desk.run("heal")
    assert said.code == 0
    assert "1 were given up, copilot-quant heal --force asks again" in said.out
    desk.venues.clear_faults()
    assert "gaps healed" in desk.run("heal", "--force").out
    assert desk.warehouse.read("from ops.coverage where outcome = 'failed'").num_rows == 0


def test_sessions_left_out_between_what_was_asked_for_are_healed_in_one_run(desk: Desk) -> None:
    desk.run("backfill", "equities", "--symbols", "AAPL,MSFT", "--end", "2024-01-31")
    desk.run("backfill", "equities", "--symbols", "AAPL,MSFT", "--start", "2024-03-20")
    equities = json.loads(desk.run("heal", "--json").out)["equities"]
    february = sessions_in_range(date(2024, 2, 1), date(2024, 3, 19))
    assert (equities["settled"], equities["runs"]) == (2 * len(february), 1)


def test_markets_heal_within_their_lives(desk: Desk) -> None:
    command = ("backfill", "markets", "--limit", "2", "--venue", "kalshi")
    desk.run(*command, "--start", "2024-03-10", "--end", "2024-03-12")
    markets = json.loads(desk.run("heal", "--json").out)["markets"]
    assert markets["asked"] == markets["settled"] > 0
    again = json.loads(desk.run("heal", "--json").out)["markets"]
    assert again["asked"] == 0


def test_an_update_heals_older_gaps_unless_told_not_to(desk: Desk) -> None:
    _lose_a_session(desk)
    desk.venues.clear_faults()
    _later(desk, minutes=10)
    assert "gaps" not in desk.run("update", "equities", "--no-heal").out
    answer = json.loads(desk.run("update", "equities", "--json").out)
    assert (answer["healed"]["asked"], answer["healed"]["settled"]) == (1, 1)


def test_an_update_of_some_symbols_heals_these_alone(desk: Desk) -> None:
    _lose_a_session(desk)
    desk.venues.clear_faults()
    _later(desk, minutes=10)
    assert "no gap is due" in desk.run("update", "equities", "--symbols", "AAPL").out
    assert "1 of 1 gaps healed" in desk.run("update", "equities", "--symbols", "MSFT").out


def test_an_update_whose_older_gaps_fail_again_says_so(desk: Desk) -> None:
    _lose_a_session(desk)
    _later(desk, minutes=10)
    said = desk.run("update", "equities")
    assert said.code == 1
    assert "equities: 0 of 1 gaps healed" in said.out
    assert f"MSFT: missing_at_source, {LOST}" in said.out


def test_an_empty_home_has_nothing_to_heal(desk: Desk) -> None:
    said = desk.run("heal")
    assert said.code == 0
    assert said.out.count("no gap is due") == 2
