"""Exports: what is stored, as CSV, Parquet or SQLite files that other programs read.

Here: which tables are exported and in which order, how values are written, which files may be replaced.
Not here: frames for research (warehouse/reading.py), what a user's options stand for (cli), backups: copy the DuckDB
file itself.

CSV and SQLite hold exact decimals and times as text, `0.290000` and `2024-01-02T22:00:00.000000Z`; Parquet holds them
as such. Times are UTC; the columns are those of warehouse/tables.py. In CSV a free text that a spreadsheet would take
for a formula begins with an apostrophe.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.links import expect_mounted
from copilot_quant_pipeline.redaction import redacted
from copilot_quant_pipeline.warehouse.tables import (
    ADJUSTED_BARS,
    BARS,
    COVERAGE,
    DAILY,
    LIVES,
    MARKETS,
    PRICES,
    UTC_TIME,
    Column,
    Table,
    View,
)
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

FORMATS = ("csv", "parquet", "sqlite")

# The one file of an export to SQLite, and what marks it as ours: "CQPx" in the place of its header for that.
DATABASE = "copilot-quant.sqlite"
_APPLICATION_ID = 0x43515078

# The folder in which an export is made, while whoever makes it holds the lock in it.
_MAKING, _LOCK = ".export-", ".lock"
_LONG = 3600.0

# What people wrote at a venue, and the beginnings that have a spreadsheet compute it. Keys and numbers stay.
_FREE_TEXT = frozenset({"title", "question", "label", "name", "detail", "event_title", "category", "description"})
_FORMULA = r"^[=+\-@\t\r]"

# How many rows are in memory at once on their way to SQLite.
_BATCH = 20_000


@dataclass(frozen=True)
class Export:
    """A table that can be exported; `key` tells its rows apart and is their order in the file."""

    table: Table | View
    key: tuple[str, ...]
    symbols: str | None = None  # the SQL condition that chooses symbols; None where rows have none

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its columns, in the order of the file."""
        return self.table.columns

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        return [column.name for column in self.columns]

    def query(self, *, as_text: bool, guarded: bool = False) -> str:
        """The rows of `$symbols` between `$start` and `$end`, null being no limit; `as_text` what has no other type.

        `guarded` free texts are no formulas. What `safe_details` says of a detail stands in its place.
        """
        conditions = [f"($symbols::varchar[] is null or {self.symbols or 'true'})"]
        for name, compare in (("start", ">="), ("end", "<=")):
            limit = f"date {compare} ${name}::date" if "date" in self.names else "true"
            conditions.append(f"(${name}::date is null or {limit})")
        columns = ", ".join(f'{_written(column, as_text, guarded)} as "{column.name}"' for column in self.columns)
        order = ", ".join(f'"{name}"' for name in self.key)
        source = f'"{self.table.schema}"."{self.table.name}"'
        return f"select {columns} from {source} where {' and '.join(conditions)} order by {order}"  # noqa: S608 declared


_OF_SYMBOL = "list_contains($symbols::varchar[], symbol)"
EXPORTS: Mapping[str, Export] = {
    "bars": Export(BARS, ("symbol", "date"), _OF_SYMBOL),
    "adjusted_bars": Export(ADJUSTED_BARS, ("symbol", "date"), _OF_SYMBOL),
    "lives": Export(LIVES, ("symbol", "since"), _OF_SYMBOL),
    "markets": Export(MARKETS, MARKETS.key),
    "prices": Export(PRICES, PRICES.key),
    "daily": Export(DAILY, ("market", "outcome", "date")),
    "coverage": Export(
        COVERAGE, ("grid", "key", "date"), "grid = 'equities' and list_contains($symbols::varchar[], key)"
    ),
}


@dataclass(frozen=True)
class Exported:
    """A table that was written, the file it is in, and its rows there."""

    table: str
    path: Path
    rows: int


def export(
    warehouse: Warehouse,
    form: str,
    out: Path,
    tables: Sequence[str] = (),
    symbols: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    *,
    raw: bool = False,
) -> list[Exported]:
    """Write `tables` (empty: all, or with `symbols` all that have any) in one of `FORMATS` into the folder `out`.

    CSV and Parquet are a file per table, SQLite is one file of them all. `start` and `end` are included and limit what
    has dates, which is all but `markets`; None is no limit. All tables are of one state of the warehouse. Files are
    moved into place once all are whole, and replace nothing but an earlier export. `raw` CSV holds free text as it is,
    formulas too.

    Raises:
        UserError: Nothing is stored, nothing was ever asked of a symbol, a format or table is not known, a table has no
            symbols, a file is in the way, or the folder cannot be written.
    """
    if form not in FORMATS:
        raise UserError(f"{form!r} is no format of an export; choose one of {', '.join(FORMATS)}.")
    chosen = _chosen(tables, with_symbols=symbols is not None)
    if not expect_mounted(warehouse.path).exists():
        raise UserError(f"nothing is stored at {warehouse.path} yet; settle cells first with copilot-quant backfill.")
    for name in chosen:
        _expect_replaceable(out / file_of(name, form), form, EXPORTS[name])
    limits = {"symbols": None if symbols is None else list(symbols), "start": start, "end": end}
    _expect_asked(warehouse, symbols or ())
    with _new_files(out) as folder:
        with warehouse.connect_read_only() as connection, _refusals_told(out, folder):
            rows = _copy(connection, folder, form, chosen, limits, raw=raw)
        with _refusals_told(out, folder):
            if form == "sqlite":
                _gather(folder, chosen)
            for name in {file_of(name, form) for name in chosen}:
                (folder / name).replace(out / name)
    return [Exported(name, out / file_of(name, form), count) for name, count in rows.items()]


def file_of(table: str, form: str) -> str:
    """The name of the file that holds an exported table."""
    return DATABASE if form == "sqlite" else f"{table}.{form}"


def _chosen(tables: Sequence[str], *, with_symbols: bool) -> list[str]:
    for name in tables:
        if name not in EXPORTS:
            raise UserError(f"table {name!r} is not exported; choose from {', '.join(EXPORTS)}.")
        if with_symbols and not EXPORTS[name].symbols:
            raise UserError(f"{name} holds markets, which no symbol chooses; leave out --symbols, or {name}.")
    return list(dict.fromkeys(tables)) or [name for name in EXPORTS if EXPORTS[name].symbols or not with_symbols]


def _expect_asked(warehouse: Warehouse, symbols: Sequence[str]) -> None:
    asked = warehouse.read("select distinct key from ops.coverage where grid = 'equities'")
    unknown = set(symbols) - set(asked.column("key").to_pylist())
    if unknown:
        first = min(unknown)
        raise UserError(f"nothing was ever asked of {first}; write copilot-quant backfill equities --symbols {first}.")


def _expect_replaceable(path: Path, form: str, export: Export) -> None:
    """What is at `path` is nothing, or such a file as is about to be written there."""
    try:
        there = path.exists() or path.is_symlink()
        if not there or (path.is_file() and _looks_exported(path, form, export)):
            return
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); choose another folder with --out DIR.") from None
    raise UserError(f"{path} is no earlier export; move it away, or choose another folder with --out DIR.")


def _looks_exported(path: Path, form: str, export: Export) -> bool:
    if form == "parquet":
        try:
            return bool(pq.read_schema(path).names == export.names)
        except pa.ArrowInvalid:
            return False
    with path.open("rb") as file:
        if form == "csv":
            header = ",".join(export.names).encode()
            return file.read(len(header) + 1) == header + b"\n"
        beginning = file.read(100)
    # https://www.sqlite.org/fileformat.html, 1.3: the application id is at offset 68.
    return beginning.startswith(b"SQLite format 3\0") and beginning[68:72] == _APPLICATION_ID.to_bytes(4, "big")


@contextmanager
def _new_files(out: Path) -> Iterator[Path]:
    """A folder inside `out` that goes at the end, so that what is made there can be moved into place at once.

    What killed exports have left goes first.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        folder = tempfile.TemporaryDirectory(prefix=_MAKING, dir=out)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}); choose another folder with --out DIR.") from None
    with folder as name, filelock.FileLock(Path(name) / _LOCK):
        yield Path(name)


def _remove_leftovers(out: Path) -> None:
    for left in out.glob(f"{_MAKING}*"):
        with suppress(filelock.Timeout, OSError):
            # One without a lock was made this moment by another export, or long ago by the version before.
            if (left / _LOCK).exists() or time.time() - left.stat().st_mtime > _LONG:
                with filelock.FileLock(left / _LOCK, blocking=False):
                    shutil.rmtree(left)


@contextmanager
def _refusals_told(out: Path, folder: Path) -> Iterator[None]:
    """What the disk says to a file below `folder`, in the user's words: DuckDB says it as it says that of its own."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise _unwritable(out, error) from error
    except duckdb.IOException as error:
        if str(folder) not in str(error):
            raise
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: Exception) -> UserError:
    why = str(error).splitlines()[0].rpartition(": ")[2]
    return UserError(f"{out} cannot be written ({why}); make room there, or choose another folder with --out DIR.")


def _copy(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    form: str,
    tables: Sequence[str],
    limits: Mapping[str, Any],
    *,
    raw: bool,
) -> dict[str, int]:
    """A CSV or Parquet file of each table, for SQLite a Parquet file of what it will hold; gives their rows."""
    rows = {}
    connection.register("safe_details", _safe_details(connection))
    guarded = form == "csv" and not raw
    options = "format csv, header" if form == "csv" else "format parquet"
    for name in tables:
        path = folder / (f"{name}.csv" if form == "csv" else f"{name}.parquet")
        query = EXPORTS[name].query(as_text=form != "parquet", guarded=guarded)
        statement = f"copy ({query}) to $path ({options})"
        (rows[name],) = connection.execute(statement, {**limits, "path": str(path)}).fetchone() or (0,)
    return rows


def _safe_details(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """The details that hold a secret, stored before it was known to be one, and what is told instead."""
    stored = connection.execute("select distinct detail from ops.coverage where detail is not null").fetchall()
    hidden = {said: told for (said,) in stored if (told := redacted(said)) != said}
    return pa.table({"said": pa.array(hidden.keys(), pa.string()), "told": pa.array(hidden.values(), pa.string())})


def _gather(folder: Path, tables: Sequence[str]) -> None:
    """One SQLite file in place of the Parquet files; it takes its time, while the warehouse is free for others."""
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as database:
        # Nobody sees this file before it is whole: it needs no journal, and no waiting for the disk.
        for pragma in ("journal_mode = off", "synchronous = off", f"application_id = {_APPLICATION_ID}"):
            database.execute(f"pragma {pragma}")
        for name in tables:
            part = folder / f"{name}.parquet"
            _fill(database, name, pq.ParquetFile(part))
            part.unlink()


def _fill(database: sqlite3.Connection, name: str, part: pq.ParquetFile) -> None:
    export = EXPORTS[name]
    columns = ", ".join(f'"{column.name}" {_sqlite_type(column)}' for column in export.columns)
    key = ", ".join(f'"{column}"' for column in export.key)
    database.execute(f'create table "{name}" ({columns}, primary key ({key})) without rowid')
    insert = f'insert into "{name}" values ({", ".join("?" * len(export.columns))})'  # noqa: S608 declared names
    database.execute("begin")
    for batch in part.iter_batches(_BATCH):
        database.executemany(insert, zip(*(column.to_pylist() for column in batch.columns), strict=True))
    database.execute("commit")


def _sqlite_type(column: Column) -> str:
    if pa.types.is_floating(column.type):
        return "real"
    return "integer" if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type) else "text"


def _written(column: Column, as_text: bool, guarded: bool) -> str:
    """A column's value as a file holds it."""
    name = f'"{column.name}"'
    if column.name == "detail":
        name = f"coalesce((select told from safe_details where said = {name}), {name})"  # noqa: S608 declared
    if guarded and column.name in _FREE_TEXT:
        return f"case when regexp_matches({name}, '{_FORMULA}') then chr(39) || {name} else {name} end"
    if as_text and column.type == UTC_TIME:
        # The same width in every row: who reads a column by the look of its first row reads all of it.
        return f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ')"
    if as_text and (pa.types.is_decimal(column.type) or pa.types.is_date(column.type)):
        return f"{name}::varchar"
    return name
