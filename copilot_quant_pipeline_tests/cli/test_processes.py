"""Claims about commands as processes: two at once, interrupted, killed; nothing is lost and nothing is done twice."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from datetime import date

import pytest

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline_tests.cli.conftest import Desk

CHART = "/v8/finance/chart/{symbol}"
SYMBOLS = [
    "AAPL",
    "ABBV",
    "ABT",
    "ADBE",
    "ADP",
    "AFL",
    "AMD",
    "AMGN",
    "AXP",
    "BA",
    "BAC",
    "BKNG",
    "BRK.B",
    "C",
    "CAT",
    "CL",
    "COP",
    "COST",
    "CRM",
    "CSCO",
]
SESSIONS = sessions_in_range(date(2021, 1, 4), date(2024, 3, 28))
COMMAND = ("backfill", "equities", "--symbols", ",".join(SYMBOLS))


@pytest.fixture
def long_desk(desk: Desk) -> Desk:
    """A desk whose full rectangle takes several runs, at a venue that takes its time."""
    desk.environment["COPILOT_QUANT_EQUITIES_START"] = "2021-01-04"
    desk.venues.fault("slow", seconds=0.1)
    return desk


def _wait_until_asked(desk: Desk, times: int, process: subprocess.Popen[str]) -> None:
    while desk.venues.requests().get(CHART, 0) < times:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def _settled(desk: Desk) -> int:
    answer = desk.warehouse.read("select count(*) as n from ops.coverage where outcome = 'settled'")
    return int(answer.to_pylist()[0]["n"])


def _expect_everything_once(desk: Desk) -> None:
    bars = desk.warehouse.read(
        "select count(*) as bars, count(distinct (date, symbol)) as cells, min(date) as first from equities.bars"
    ).to_pylist()[0]
    assert bars["bars"] == bars["cells"] == _settled(desk) == len(SYMBOLS) * len(SESSIONS)
    assert bars["first"] == date(2021, 1, 4)


def test_two_commands_at_once_take_turns_and_ask_the_vendor_once_per_symbol(long_desk: Desk) -> None:
    first, second = long_desk.start(*COMMAND), long_desk.start(*COMMAND)
    for process in (first, second):
        out, err = process.communicate()
        assert process.returncode == 0, (out, err)
        assert "Traceback" not in err
        assert "locked" not in err
    assert long_desk.venues.requests()[CHART] == len(SYMBOLS)
    _expect_everything_once(long_desk)


def test_an_interrupted_backfill_keeps_what_it_settled_and_goes_on_from_there(long_desk: Desk) -> None:
    process = long_desk.start(*COMMAND)
    _wait_until_asked(long_desk, len(SYMBOLS) - 1, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all that the command started
    out, err = process.communicate()
    assert process.returncode == 130, (out, err)
    assert "goes on from there" in err
    assert "Traceback" not in err
    kept = _settled(long_desk)
    again = long_desk.start(*COMMAND)
    out, err = again.communicate()
    assert again.returncode == 0, (out, err)
    assert f"{kept:,} were before" in out
    _expect_everything_once(long_desk)
    # What was on its way when the signal came may be asked once more.
    assert long_desk.venues.requests()[CHART] <= len(SYMBOLS) + 8


def test_a_killed_backfill_loses_nothing_and_does_not_block_the_next(long_desk: Desk) -> None:
    process = long_desk.start(*COMMAND)
    _wait_until_asked(long_desk, len(SYMBOLS) // 2, process)
    process.kill()
    process.communicate()
    again = long_desk.start(*COMMAND)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, (out, err)
    _expect_everything_once(long_desk)


def test_help_loads_none_of_the_heavy_libraries() -> None:
    heavy = {"dagster", "pandas", "duckdb", "pyarrow", "exchange_calendars", "yfinance"}
    code = f"import sys, copilot_quant_pipeline.cli; print(*({heavy!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_a_proxy_of_the_machine_is_not_in_the_way_of_loopback(desk: Desk) -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        desk.environment.update(http_proxy=address, HTTP_PROXY=address)
        process = desk.start("backfill", "equities", "--start", "2024-03-28", "--symbols", "AAPL,BRK.B")
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert "2 of 2 cells settled" in out
