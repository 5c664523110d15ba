"""Claims about `copilot-quant export`: what it writes and tells, and how it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from copilot_quant_pipeline_tests.cli.conftest import Desk

BACKFILL = ("backfill", "equities", "--symbols", "AAPL,BRK.B", "--start", "2024-03-25")


def test_an_export_tells_what_it_wrote_and_where(desk: Desk, tmp_path: Path) -> None:
    desk.run(*BACKFILL)
    said = desk.run("export", "csv", "--out", str(tmp_path / "out"), "--symbols", "AAPL", "--start", "2024-03-26")
    assert said.code == 0, said
    assert all(word in said.out for word in ("bars.csv", "coverage.csv", str(tmp_path / "out")))
    with (tmp_path / "out" / "bars.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["symbol"], row["date"]) for row in rows] == [
        ("AAPL", "2024-03-26"),
        ("AAPL", "2024-03-27"),
        ("AAPL", "2024-03-28"),
    ]


def test_json_is_all_that_is_printed(desk: Desk, tmp_path: Path) -> None:
    desk.run(*BACKFILL)
    said = desk.run("export", "sqlite", "--out", str(tmp_path), "--tables", "bars,coverage", "--json")
    exported = json.loads(said.out)["exported"]
    assert [(one["table"], one["rows"]) for one in exported] == [("bars", 8), ("coverage", 8)]
    assert all(Path(one["path"]).exists() for one in exported)
    assert said.err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("excel", "--out", "out"), "csv, parquet, sqlite"),
        (("csv",), "--out"),
        (("csv", "--out", "out", "--tables", "everything"), "adjusted_bars"),
        (("csv", "--out", "out", "--symbols", "A|B"), "not a symbol"),
        (("csv", "--out", "out", "--start", "soon"), "2024-01-31"),
        (("csv", "--out", "out", "--start", "2024-02-01", "--end", "2024-01-31"), "swap"),
        (("csv", "--out", "out"), "nothing is stored"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = desk.run("export", *arguments)
    assert (said.code, said.err.count("\n"), said.out) == (2, 1, ""), said
    assert words in said.err
    assert not (tmp_path / "out").exists()
