"""Claims about exports: what is stored reads back exactly, files are whole or absent, and nobody's file is lost."""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.redaction import hide
from copilot_quant_pipeline.warehouse.exports import DATABASE, EXPORTS, FORMATS, export
from copilot_quant_pipeline.warehouse.tables import BARS, PRICES
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import FETCHED, MON, TUE, WED, bar, cell, cells, settle_bars

AT = datetime(2024, 3, 26, 9, tzinfo=UTC)
# More digits than a float holds, a comma, a quote and a line break.
MARKET, OUTCOME, VOLUME = "kalshi:A", 'Yes, "or"\nno', Decimal("123456789012345678.000001")


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    warehouse = Warehouse(tmp_path / "home" / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "B", 400.1), bar(TUE, "B", 100.3, split_ratio=4.0), bar(MON, "BRK.B", 1 / 3))
    point = {
        "date": TUE,
        "market": MARKET,
        "outcome": OUTCOME,
        "stamped_at": AT,
        "price": Decimal("0.29"),
        "volume": VOLUME,
    }
    row = dict.fromkeys(PRICES.names) | point | {"price_kind": "trade", "source": "test", "first_seen_at": FETCHED}
    warehouse.settle(PRICES, cells(cell(TUE, MARKET)), pa.Table.from_pylist([row], PRICES.arrow), run_id="run")
    return warehouse


def read(out: Path, form: str, table: str) -> list[dict[str, Any]]:
    """The rows of an exported table as another program reads them."""
    if form == "parquet":
        rows: list[dict[str, Any]] = pq.read_table(out / f"{table}.parquet").to_pylist()
        return rows
    if form == "csv":
        with (out / f"{table}.csv").open(newline="") as file:
            return list(csv.DictReader(file))
    with closing(sqlite3.connect(out / DATABASE)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(f'select * from "{table}"')]  # noqa: S608


@pytest.mark.parametrize("form", FORMATS)
def test_every_table_is_there_with_its_columns_and_rows(warehouse: Warehouse, tmp_path: Path, form: str) -> None:
    written = {one.table: one for one in export(warehouse, form, tmp_path / "out")}
    assert {name: one.rows for name, one in written.items()} == {
        "bars": 3,
        "adjusted_bars": 3,
        "markets": 0,
        "prices": 1,
        "daily": 1,
        "lives": 0,
        "coverage": 4,
    }
    for name, one in written.items():
        assert one.path.exists()
        rows = read(tmp_path / "out", form, name)
        assert len(rows) == one.rows
        assert not rows or list(rows[0]) == EXPORTS[name].names


@pytest.mark.parametrize("form", ["csv", "sqlite"])
def test_decimals_and_times_are_text_that_says_exactly_what_is_stored(
    warehouse: Warehouse, tmp_path: Path, form: str
) -> None:
    export(warehouse, form, tmp_path)
    (point,) = read(tmp_path, form, "prices")
    assert (point["price"], Decimal(point["volume"]), point["stamped_at"]) == (
        "0.290000",
        VOLUME,
        "2024-03-26T09:00:00.000000Z",
    )
    assert (point["date"], point["outcome"]) == ("2024-03-26", OUTCOME)
    assert point["bid"] in ("", None)
    bars = read(tmp_path, form, "bars")
    assert [(row["symbol"], row["date"], float(row["close"])) for row in bars] == [
        ("B", "2024-03-25", 400.1),
        ("B", "2024-03-26", 100.3),
        ("BRK.B", "2024-03-25", 1 / 3),
    ]


def test_parquet_keeps_every_type(warehouse: Warehouse, tmp_path: Path) -> None:
    export(warehouse, "parquet", tmp_path)
    assert pq.read_schema(tmp_path / "prices.parquet").types == PRICES.arrow.types
    (point,) = read(tmp_path, "parquet", "prices")
    assert (point["price"], point["volume"], point["stamped_at"]) == (Decimal("0.290000"), VOLUME, AT)


def test_symbols_and_dates_choose_and_leave_out_what_has_no_symbols(warehouse: Warehouse, tmp_path: Path) -> None:
    written = export(warehouse, "csv", tmp_path, symbols=["B"], start=TUE, end=WED)
    assert [(one.table, one.rows) for one in written] == [
        ("bars", 1),
        ("adjusted_bars", 1),
        ("lives", 0),
        ("coverage", 1),
    ]
    # Adjusted by all that is stored, not by what is shown.
    export(warehouse, "csv", tmp_path, tables=["adjusted_bars"], symbols=["B"], end=MON)
    assert [float(row["close"]) for row in read(tmp_path, "csv", "adjusted_bars")] == [400.1 / 4]


@pytest.mark.parametrize("form", FORMATS)
def test_a_second_export_replaces_the_first_and_nothing_else(warehouse: Warehouse, tmp_path: Path, form: str) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    export(warehouse, form, tmp_path)
    settle_bars(warehouse, bar(WED, "B"))
    assert {one.table: one.rows for one in export(warehouse, form, tmp_path)}["bars"] == 4
    assert len(read(tmp_path, form, "bars")) == 4
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("content", [b"", b"date,symbol,mine\n1,2,3\n", b"SQLite format 3\0" + b"\0" * 100])
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_no_earlier_export_is_left_alone(
    warehouse: Warehouse, tmp_path: Path, form: str, content: bytes
) -> None:
    path = tmp_path / (DATABASE if form == "sqlite" else f"prices.{form}")
    path.write_bytes(content)
    with pytest.raises(UserError, match="no earlier export") as refused:
        export(warehouse, form, tmp_path)
    assert str(path) in str(refused.value)
    assert path.read_bytes() == content
    assert {there.name for there in tmp_path.iterdir()} == {"home", path.name}


def test_a_table_of_another_program_in_sqlite_is_left_alone(warehouse: Warehouse, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        database.execute("create table bars (mine)")
    with pytest.raises(UserError, match="no earlier export"):
        export(warehouse, "sqlite", tmp_path)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"form": "excel"}, "csv, parquet, sqlite"),
        ({"tables": ["bar"]}, "adjusted_bars"),
        ({"symbols": ["B", "ZZZ"]}, "backfill equities --symbols ZZZ"),
        ({"symbols": ["B"], "tables": ["prices"]}, "no symbol chooses"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_made(
    warehouse: Warehouse, tmp_path: Path, chosen: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        export(warehouse, out=tmp_path / "out", **{"form": "csv", **chosen})
    assert not (tmp_path / "out").exists()


def test_a_home_without_a_warehouse_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing is stored"):
        export(Warehouse(tmp_path / "home" / "warehouse.duckdb"), "csv", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        export(warehouse, "csv", tmp_path / "file" / "out")


# The limit on a file's size stands in for a full disk: both end a write in the middle.
_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.exports import export
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
warehouse, form, out = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    export(Warehouse(Path(warehouse)), form, Path(out))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("form", FORMATS)
def test_a_disk_that_fills_up_is_told_and_leaves_the_earlier_export(
    warehouse: Warehouse, tmp_path: Path, form: str
) -> None:
    out = tmp_path / "out"
    export(warehouse, form, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    settle_bars(warehouse, *(bar(MON + timedelta(days=n), "C", 1 / (n + 3)) for n in range(4000)))
    command = [sys.executable, "-c", _ON_A_FULL_DISK, str(warehouse.path), form, str(out)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"{out} cannot be written")
    assert said.count("\n") == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


FREE = ["=1+1", "+1", "-1", "@sum(a1)", "\t=1", "\r=1", "as it is, 'quoted'", "a=b"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("raw", [False, True])
def test_free_text_of_a_csv_is_no_formula_unless_raw_and_keys_stay(tmp_path: Path, form: str, raw: bool) -> None:
    warehouse = Warehouse(tmp_path / "home" / "warehouse.duckdb")
    rows = [cell(MON, f"-K{n}", "failed", "unavailable", detail=text) for n, text in enumerate(FREE)]
    warehouse.settle(PRICES, cells(*rows), PRICES.arrow.empty_table(), run_id="=run")
    stored = warehouse.coverage("markets").column("detail").to_pylist()
    export(warehouse, form, tmp_path, ["coverage"], raw=raw)
    guarded = [f"'{text}" if text[0] in "=+-@\t\r" else text for text in stored]
    exported = read(tmp_path, form, "coverage")
    assert [row["detail"] for row in exported] == (guarded if form == "csv" and not raw else stored)
    assert {(row["key"][:2], row["run_id"]) for row in exported} == {("-K", "=run")}


@pytest.mark.parametrize("form", FORMATS)
def test_a_secret_that_was_stored_before_it_was_one_is_not_exported(tmp_path: Path, form: str) -> None:
    warehouse = Warehouse(tmp_path / "home" / "warehouse.duckdb")
    asked = cells(cell(MON, "A", "failed", "unavailable", detail="no: pa55w0rd"))
    warehouse.settle(BARS, asked, BARS.arrow.empty_table(), run_id="run")
    hide(["pa55w0rd"])
    export(warehouse, form, tmp_path, ["coverage"])
    assert [row["detail"] for row in read(tmp_path, form, "coverage")] == ["no: ***"]


def test_what_killed_exports_have_left_goes_with_the_next_and_one_under_way_stays(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for name in ("killed", "of-the-version-before", "running", "beginning"):
        (out / f".export-{name}").mkdir(parents=True)
        (out / f".export-{name}" / "bars.csv").write_text("half")
    (out / ".export-killed" / ".lock").touch()
    os.utime(out / ".export-of-the-version-before", (0, 0))
    with filelock.FileLock(out / ".export-running" / ".lock"):
        export(warehouse, "csv", out, ["bars"])
        assert sorted(path.name for path in out.iterdir()) == [".export-beginning", ".export-running", "bars.csv"]


def test_dates_of_the_first_and_last_row_are_included(warehouse: Warehouse, tmp_path: Path) -> None:
    written = export(warehouse, "csv", tmp_path, tables=["bars", "prices"], start=MON, end=MON)
    assert [(one.table, one.rows) for one in written] == [("bars", 2), ("prices", 0)]
