"""Claims about `copilot-quant backfill|update equities` and `status`: what they settle and what they say."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta

import pytest

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline_tests.cli.conftest import Desk
from copilot_quant_pipeline_tests.conftest import NOW

CHART = "/v8/finance/chart/{symbol}"
SESSIONS = sessions_in_range(date(2024, 1, 2), date(2024, 3, 28))


def test_a_backfill_settles_the_whole_rectangle_with_one_request_a_symbol(desk: Desk) -> None:
    said = desk.run("backfill", "equities", "--symbols", "AAPL,brk-b")
    assert said.code == 0, said
    assert f"{2 * len(SESSIONS)} of {2 * len(SESSIONS)} cells settled" in said.out
    assert desk.venues.requests()[CHART] == 2
    stored = desk.warehouse.read("select symbol, count(*) as bars from equities.bars group by all order by all")
    assert stored.to_pylist() == [{"symbol": s, "bars": len(SESSIONS)} for s in ("AAPL", "BRK.B")]


def test_a_second_backfill_asks_nothing(desk: Desk) -> None:
    desk.run("backfill", "equities", "--symbols", "AAPL")
    desk.venues.reset_requests()
    said = desk.run("backfill", "equities", "--symbols", "AAPL")
    assert said.code == 0
    assert f"{len(SESSIONS)} were before" in said.out
    assert CHART not in desk.venues.requests()


def test_refresh_asks_again(desk: Desk) -> None:
    desk.run("backfill", "equities", "--symbols", "AAPL")
    desk.venues.reset_requests()
    assert desk.run("backfill", "equities", "--symbols", "AAPL", "--refresh").code == 0
    assert desk.venues.requests()[CHART] == 1


def test_start_and_end_bound_the_rectangle(desk: Desk) -> None:
    desk.run("backfill", "equities", "--symbols", "AAPL", "--start", "2024-01-13", "--end", "2024-01-20")
    days = desk.warehouse.read("select date from equities.bars order by date").column("date").to_pylist()
    assert days == sessions_in_range(date(2024, 1, 16), date(2024, 1, 19))


def test_without_symbols_the_whole_index_is_settled_also_when_a_list_is_refused_which_is_said_loudly(
    desk: Desk,
) -> None:
    said = desk.run("backfill", "equities", "--start", "2024-03-28", "--json")
    answer = json.loads(said.out)
    assert said.code == 0, said
    assert 480 <= answer["asked"] == answer["settled"] <= 520
    assert desk.venues.requests()[CHART] == answer["asked"]
    desk.venues.fault("universe_short")
    said = desk.run("backfill", "equities", "--start", "2024-03-27", "--json")
    assert said.code == 0
    assert json.loads(said.out)["asked"] >= 2 * 480
    assert "REFUSED" in said.err


def test_a_refused_list_with_none_before_is_an_error(desk: Desk) -> None:
    desk.venues.fault("universe_short")
    said = desk.run("backfill", "equities", "--start", "2024-03-28")
    assert said.code == 2
    assert "none was stored before" in said.err


def test_failed_cells_are_listed_with_reason_and_advice_and_the_others_settled(desk: Desk) -> None:
    desk.venues.fault("lost_session", symbol="MSFT", dates=["2024-01-18"])
    said = desk.run("backfill", "equities", "--symbols", "AAPL,MSFT,ZZZZ")
    assert said.code == 1
    assert "MSFT: missing_at_source, 2024-01-18" in said.out
    assert f"ZZZZ: unknown_symbol, {len(SESSIONS)} cells" in said.out
    assert "check the spelling" in said.out
    settled = desk.warehouse.read("select count(*) as n from ops.coverage where outcome = 'settled'")
    assert settled.to_pylist() == [{"n": 2 * len(SESSIONS) - 1}]


def test_a_failed_cell_is_asked_again_by_the_same_command(desk: Desk) -> None:
    desk.venues.fault("lost_session", symbol="MSFT", dates=["2024-01-18"])
    command = ("backfill", "equities", "--symbols", "MSFT", "--start", "2024-01-18", "--end", "2024-01-18")
    assert desk.run(*command).code == 1
    desk.venues.clear_faults()
    said = desk.run(*command)
    assert said.code == 0, said


def test_cells_before_a_symbol_was_listed_are_settled_as_not_listed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPILOT_QUANT_EQUITIES_START", "2023-04-03")
    said = desk.run("backfill", "equities", "--symbols", "KVUE", "--end", "2023-05-31")
    assert said.code == 0, said
    cells = desk.warehouse.coverage("equities").to_pylist()
    empty = [cell["date"] for cell in cells if cell["reason"] == "not_listed"]
    stored = [cell["date"] for cell in cells if cell["rows"] == 1]
    assert empty
    assert stored
    assert max(empty) < min(stored)


def test_an_update_settles_the_newest_sessions_and_asks_for_no_history_beside_stored_bars(desk: Desk) -> None:
    stored = "select distinct date from equities.bars order by date"
    desk.set({"COPILOT_QUANT_NOW": "2024-03-22T12:00:00+00:00"})
    assert desk.run("update", "equities", "--symbols", "AAPL,MSFT").code == 0
    assert desk.venues.requests()[CHART] == 2
    days = desk.warehouse.read(stored).column("date").to_pylist()
    assert days == sessions_in_range(date(2024, 3, 15), date(2024, 3, 21))
    folders = {path.parent.name for path in desk.settings.landing_path.rglob("*.parquet")}
    desk.set({"COPILOT_QUANT_NOW": NOW.isoformat()})
    desk.venues.reset_requests()
    assert desk.run("update", "equities").code == 0
    assert desk.venues.requests()[CHART] == 2
    assert {path.parent.name for path in desk.settings.landing_path.rglob("*.parquet")} - folders == {"YAHOO-TAIL"}
    days = desk.warehouse.read(stored).column("date").to_pylist()
    assert days == sessions_in_range(date(2024, 3, 15), date(2024, 3, 28))


def test_an_update_with_nothing_new_asks_nothing(desk: Desk) -> None:
    desk.run("backfill", "equities", "--symbols", "AAPL")
    desk.venues.reset_requests()
    assert desk.run("update", "equities").code == 0
    assert CHART not in desk.venues.requests()


def test_an_update_confirms_the_bars_of_the_session_before(desk: Desk) -> None:
    newest, before = date(2024, 3, 28), date(2024, 3, 27)
    at_the_close = {"COPILOT_QUANT_NOW": "2024-03-28T12:00:00+00:00"}
    finals = (
        "select date, confirmed_at is not null as is_final from equities.bars where date >= '2024-03-27' order by date"
    )
    desk.set(at_the_close)
    desk.run("update", "equities", "--symbols", "AAPL")
    assert desk.warehouse.read(finals).to_pylist() == [{"date": before, "is_final": False}]
    desk.set({"COPILOT_QUANT_NOW": "2024-03-29T14:00:00+00:00"})
    assert desk.run("update", "equities").code == 0
    assert desk.warehouse.read(finals).to_pylist() == [
        {"date": before, "is_final": True},
        {"date": newest, "is_final": False},
    ]


@pytest.mark.parametrize("asked", [["--start", "2024-01-02"], ["--end", "2024-03-15"]])
def test_a_split_on_a_session_that_was_lost_or_not_asked_for_still_adjusts_what_was_before(
    desk: Desk, asked: list[str]
) -> None:
    desk.venues.fault("lost_session", symbol="ODFL", dates=["2024-03-28"])  # the day of its 2:1 split
    desk.run("backfill", "equities", "--symbols", "ODFL", *asked)
    closes = desk.warehouse.read(
        "select b.close as traded, a.close as adjusted from equities.bars b join equities.adjusted_bars a"
        " using (symbol, date) where date = '2024-01-16'"
    ).to_pylist()[0]
    assert closes["adjusted"] == pytest.approx(closes["traded"] / 2)


def test_every_run_leaves_a_summary_row_and_a_log_file(desk: Desk) -> None:
    desk.run("backfill", "equities", "--symbols", "AAPL,ZZZZ")
    (row,) = desk.warehouse.read("from ops.run_summary").to_pylist()
    assert (row["asked"], row["settled"], row["failed"]) == (2 * len(SESSIONS), len(SESSIONS), len(SESSIONS))
    assert (row["rows"], row["empty"]) == (len(SESSIONS), 0)
    assert row["requests"] >= 2
    (log,) = desk.settings.logs_path.glob("*-backfill-equities.log")
    assert "unknown_symbol" in log.read_text()
    first, opened = log.read_text().split(maxsplit=1)[0], log.name.split("-")[0]
    written = datetime.fromisoformat(first) - datetime.strptime(opened, "%Y%m%dT%H%M%S.%f%z")
    assert -timedelta(milliseconds=1) <= written < timedelta(hours=1)


def test_status_counts_settled_failed_and_missing(desk: Desk) -> None:
    desk.run("backfill", "equities", "--symbols", "AAPL", "--end", "2024-01-31")
    desk.run("backfill", "equities", "--symbols", "ZZZZ", "--start", "2024-03-28")
    (grid, _) = json.loads(desk.run("status", "--json").out)["grids"]
    january = len(sessions_in_range(date(2024, 1, 2), date(2024, 1, 31)))
    assert (grid["settled"], grid["failed"], grid["keys"]) == (january, 1, 2)
    assert grid["missing"] == len(SESSIONS) - january
    assert grid["freshness"] == "stale"


def test_status_of_an_empty_home_says_so(desk: Desk) -> None:
    said = desk.run("status")
    assert said.code == 0
    assert "empty" in said.out


def test_status_tells_when_each_schedule_runs_next(desk: Desk) -> None:
    said = json.loads(desk.run("status", "--json").out)["schedules"]
    planned = {schedule["name"]: schedule["next"] for schedule in said}
    assert planned["equities_after_close"] == "2024-03-30T06:00:00-04:00"
    assert planned["prediction_markets_refresh"] == "2024-03-29T18:00:00+00:00"
    assert list(planned.values()) == sorted(planned.values(), key=datetime.fromisoformat)
    assert "Sat 2024-03-30 06:00 EDT" in desk.run("status").out
