"""Claims about a home on a disk: odd paths, disks that are away, broken files, sizes, what is kept and for how long."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from copilot_quant_pipeline_tests.cli.conftest import Desk, expect_one_line
from copilot_quant_pipeline_tests.conftest import NOW

AAPL = ("backfill", "equities", "--symbols", "AAPL", "--start", "2024-03-25")


@pytest.mark.parametrize("file", ["history/runs/index.db", "history/runs.db", "schedules/schedules.db"])
def test_a_broken_file_of_dagsters_is_named_with_what_to_do_and_left_alone(desk: Desk, file: str) -> None:
    broken = desk.settings.dagster_home / file
    for wal in broken.parent.glob(f"{broken.name}-*"):
        wal.unlink()
    broken.write_bytes(b"no database" * 1000)
    for command in (("status",), AAPL, ("reconcile",)):
        expect_one_line(desk.run(*command), str(broken), "put a backup in its place", "reconcile")
    assert broken.read_bytes() == b"no database" * 1000


PARTS = ["warehouse.duckdb", "dagster/history/runs/index.db", "dagster", "landing", "logs", "source"]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_on_a_disk_that_is_not_mounted_is_refused_and_nothing_takes_its_place(desk: Desk, part: str) -> None:
    link = desk.settings.home / part
    elsewhere = desk.settings.home.parent / "disk" / link.name
    if link.exists():
        link.rename(link.with_name("away"))
    link.symlink_to(elsewhere)
    expect_one_line(desk.run(*AAPL), str(link), "mount the disk")
    assert link.is_symlink()
    elsewhere.parent.mkdir()
    expect_one_line(desk.run(*AAPL), str(link), "mount the disk")
    assert list(elsewhere.parent.iterdir()) == []


def test_a_home_on_a_disk_that_is_not_mounted_is_refused_by_every_command(new_desk: Desk) -> None:
    link = new_desk.settings.home.parent / "link"
    link.symlink_to(new_desk.settings.home.parent / "disk")
    for home in (link, link / "home"):
        for command in (("status",), AAPL, ("alerts", "list"), ("ui",), ("quarantine", "list")):
            expect_one_line(new_desk.run(*command, "--home", str(home)), str(link), "mount the disk")
    assert not link.exists()


@pytest.mark.parametrize("name", ["a?b", "a*b", "[ab]", "x" * 200 + "/" + "y" * 240])
def test_a_home_whose_path_something_cannot_use_is_refused_before_anything_is_made(new_desk: Desk, name: str) -> None:
    home = new_desk.settings.home.parent / "odd" / name
    for command in (("status",), AAPL, ("ui",)):
        expect_one_line(new_desk.run(*command, "--home", str(home)), "--home")
    assert not home.parent.exists()


def test_a_home_of_an_odd_path_works(new_desk: Desk, tmp_path: Path) -> None:
    home = tmp_path / "a %20%#;\"c'" / "ü{x}$\\"
    assert new_desk.run(*AAPL, "--home", str(home)).code == 0
    status = json.loads(new_desk.run("status", "--home", str(home), "--json").out)
    assert status["grids"][0]["settled"] > 0
    assert new_desk.run("reconcile", "--home", str(home)).code == 0
    assert new_desk.run("export", "csv", "--home", str(home), "--out", str(home / "out")).code == 0


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ("drop table ops.warnings", "ops.warnings"),
        ("drop table ops.schema_version", "ops.schema_version"),
        ("drop view equities.lives", "equities.lives"),
        ("alter table ops.coverage drop column detail", "ops.coverage.detail"),
    ],
)
def test_what_is_missing_from_the_warehouse_is_named_with_what_to_do(desk: Desk, change: str, lacking: str) -> None:
    desk.run(*AAPL)
    with duckdb.connect(desk.settings.warehouse_path) as connection:
        connection.execute(change)
    expect_one_line(desk.run(*AAPL, "--refresh"), f"lacks {lacking},", "put a backup in its place")


def test_the_status_tells_what_each_part_takes_and_how_it_grows(new_desk: Desk) -> None:
    def sizes() -> dict[str, Any]:
        return {size["part"]: size for size in json.loads(new_desk.run("status", "--json").out)["sizes"]}

    new_desk.run(*AAPL)
    before = sizes()
    assert {part for part, size in before.items() if size["bytes"]} >= {"warehouse", "landing", "logs"}
    assert before["logs"]["growth"] is None
    (new_desk.settings.logs_path / "more.log").write_bytes(b"x" * 1000)
    assert (sizes()["logs"]["growth"], sizes()["landing"]["growth"]) == (1000, 0)
    assert "Dagster's databases" in new_desk.run("status").out


def test_pruning_takes_old_logs_and_responses(new_desk: Desk) -> None:
    new_desk.run(*AAPL)
    (kept,) = new_desk.settings.landing_path.rglob("*.parquet")
    (log,) = new_desk.settings.logs_path.glob("*.log")
    long_ago = (NOW - timedelta(days=91)).timestamp()
    for file in (kept, log):
        os.utime(file, (long_ago, long_ago))
    said = new_desk.run("prune")
    assert "1 command logs, 1 kept responses" in said.out, said
    assert not kept.exists()
    assert not log.exists()
