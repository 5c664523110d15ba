"""Claims about wrong usage: one line that says what to do, exit code 2, nothing asked and nothing lost."""

from __future__ import annotations

import socket
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import duckdb
import pytest

from copilot_quant_pipeline_tests.cli.conftest import Desk, expect_one_line

BACKFILL = ("backfill", "equities")
AAPL = (*BACKFILL, "--symbols", "AAPL")


@pytest.mark.parametrize("symbol", ["AA PL", "AAPL|MSFT", "[AAPL]", "", "TOOLONGSYMBOL", "AAPL;MSFT"])
def test_what_is_no_symbol_is_refused_with_what_to_write(desk: Desk, symbol: str) -> None:
    expect_one_line(desk.run(*BACKFILL, "--symbols", symbol), "not a symbol", "AAPL or BRK.B")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--start", "2024-03-01", "--end", "2024-02-01"), ("after", "swap")),
        (("--start", "2024-03-29"), ("after the newest date", "2024-03-28")),
        (("--start", "2030-01-01"), ("after the newest date", "2024-03-28")),
        (("--end", "2019-12-31"), ("before the grid's first date", "later")),
        (("--start", "2019-12-31"), ("before the grid", "COPILOT_QUANT_EQUITIES_START")),
        (("--end", "2030-01-01"), ("not over yet", "2024-03-28")),
        (("--start", "2024-03-30", "--end", "2024-03-31"), ("not over yet",)),
        (("--start", "2024-03-23", "--end", "2024-03-24"), ("closed", "session")),
        (("--start", "yesterday"), ("no date", "2024-01-31")),
        (("--symbols", "AAPL", "--universe", "sp500"), ("exclude",)),
        (("--universe", "dax"), ("sp500",)),
    ],
)
def test_an_impossible_rectangle_is_refused_with_what_to_write(
    desk: Desk, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    expect_one_line(desk.run(*BACKFILL, *arguments), *words)
    assert desk.venues.requests() == {}


@pytest.mark.parametrize(
    "arguments",
    [("backfil",), ("backfill", "equities", "--nonsense"), ("update", "equities", "--max-age-days", "x")],
)
def test_what_the_command_does_not_know_is_refused_in_one_line(desk: Desk, arguments: tuple[str, ...]) -> None:
    expect_one_line(desk.run(*arguments), "--help")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LANDING_TTL", "soon"),
        ("LOCK_TIMEOUT", "-1"),
        ("EQUITIES_START", "2020"),
        ("NOW", "noon"),
        ("SOURCE", "paper"),
    ],
)
def test_a_setting_that_does_not_parse_is_named(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"COPILOT_QUANT_{name}", value)
    expect_one_line(desk.run("status"), value)


def test_a_home_that_cannot_be_written_is_refused(desk: Desk, not_a_folder: Path) -> None:
    expect_one_line(desk.run(*AAPL, "--home", str(not_a_folder)), "cannot be written", "--home")


def test_sandbox_and_live_data_never_share_a_home(desk: Desk) -> None:
    assert desk.run(*AAPL).code == 0
    expect_one_line(desk.run(*AAPL, "--source", "live"), "holds sandbox data", "--home")


def test_a_warehouse_of_a_newer_version_is_left_alone(desk: Desk) -> None:
    desk.run(*AAPL)
    with duckdb.connect(desk.settings.warehouse_path) as connection:
        connection.execute("insert into ops.schema_version values (99, now())")
    desk.venues.reset_requests()
    for command in (("status",), (*AAPL, "--refresh"), BACKFILL, ("update", "equities"), ("heal",)):
        expect_one_line(desk.run(*command), "schema version 99", "upgrade")
    assert desk.venues.requests() == {}
    with duckdb.connect(desk.settings.warehouse_path, read_only=True) as connection:
        assert connection.execute("select count(*) > 0 from equities.bars").fetchone() == (True,)


def test_a_corrupted_warehouse_is_named_and_left_alone(new_desk: Desk) -> None:
    new_desk.settings.home.mkdir()
    new_desk.settings.warehouse_path.write_text("this is no database")
    for command in (("status",), AAPL):
        expect_one_line(new_desk.run(*command), str(new_desk.settings.warehouse_path))
    assert new_desk.settings.warehouse_path.read_text() == "this is no database"


def test_a_corrupted_landing_file_is_moved_aside_and_asked_again(desk: Desk) -> None:
    desk.run(*AAPL)
    (kept,) = desk.settings.landing_path.rglob("*.parquet")
    kept.write_bytes(b"rubbish")
    desk.warehouse.path.unlink()
    said = desk.run(*AAPL)
    assert said.code == 0, said
    assert "asked again" in said.err
    assert [path.read_bytes() for path in desk.settings.landing_path.rglob("*unreadable*")] == [b"rubbish"]


def test_verbose_shows_where_a_mistake_came_from(desk: Desk) -> None:
    said = desk.run(*BACKFILL, "--start", "2030-01-01", "--verbose")
    assert said.code == 2
    assert "Traceback" in said.err


def test_the_grid_may_not_start_in_the_future(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    later = replace(desk.settings, equities_start=desk.settings.equities_start.replace(year=2031))
    monkeypatch.setenv("COPILOT_QUANT_EQUITIES_START", later.environment()["COPILOT_QUANT_EQUITIES_START"])
    expect_one_line(desk.run(*AAPL), "grid starts on 2031")


@pytest.mark.parametrize("group", [(), ("backfill",), ("update",), ("alerts",), ("quarantine",)])
def test_a_group_without_a_command_shows_its_commands_each_in_a_whole_line(desk: Desk, group: tuple[str, ...]) -> None:
    said = desk.run(*group)
    assert said.code == 2
    _, _, commands = said.err.partition("Commands:\n")
    assert commands.count("\n") >= 2
    assert "..." not in commands


@pytest.mark.parametrize(
    "command", [("status",), ("alerts", "list"), ("quarantine", "list"), ("heal",), ("export", "csv", "--out", "x")]
)
def test_every_command_can_be_asked_to_show_where_it_broke(new_desk: Desk, command: tuple[str, ...]) -> None:
    new_desk.settings.home.mkdir()
    new_desk.settings.warehouse_path.write_text("this is no database")
    assert "No such option" not in new_desk.run(*command, "--verbose").err


def test_markets_of_a_day_to_come_are_refused_with_the_newest(desk: Desk) -> None:
    expect_one_line(desk.run("backfill", "markets", "--start", "2024-04-01"), "after the newest date", "2024-03-29")


def test_the_status_of_a_home_without_anything_says_so(new_desk: Desk) -> None:
    assert "nothing is stored there yet" in new_desk.run("status").out


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"])
def test_an_address_dagit_cannot_be_served_at_is_named_before_anything_is_started(new_desk: Desk, host: str) -> None:
    new_desk.set({"COPILOT_QUANT_TOKEN": "a-token-of-sixteen-letters"})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        expect_one_line(new_desk.run("ui", "--host", host, "--port", port), host, port, "--port")
    assert not new_desk.settings.home.exists()


def test_the_version_is_told(desk: Desk) -> None:
    said = desk.run("--version")
    assert (said.code, said.out) == (0, f"copilot-quant {version('copilot-quant-pipeline')}\n")
