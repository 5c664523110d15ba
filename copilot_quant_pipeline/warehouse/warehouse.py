"""The warehouse: settling cells, replacing unpartitioned tables, reading.

Here: the transactions, what they refuse, and reads.
Not here: declarations (warehouse/tables.py), statements (warehouse/settling.py), whose turn it is
(warehouse/connections.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.links import expect_mounted
from copilot_quant_pipeline.warehouse.connections import WarehouseFile, scratch, session
from copilot_quant_pipeline.warehouse.fetch_result import (
    ASKED,
    COARSE,
    FOUND,
    LOOKED,
    REFINABLE,
    WARNED,
    WINDOWS,
    Compared,
    Harvest,
    SeenAgain,
    with_safe_details,
)
from copilot_quant_pipeline.warehouse.history import replace_statements
from copilot_quant_pipeline.warehouse.migrations import is_older, migrate
from copilot_quant_pipeline.warehouse.oddities import warn_of_answers, warn_of_bars
from copilot_quant_pipeline.warehouse.refuting import REFUTED, with_refuted
from copilot_quant_pipeline.warehouse.settling import (
    record_run,
    settle_actions,
    settle_coverage,
    settle_looks,
    settle_rows,
)
from copilot_quant_pipeline.warehouse.tables import (
    ACTIONS,
    BARS,
    COVERAGE,
    UNKNOWN_LOOKS,
    GridTable,
    InvalidRowsError,
    Table,
)
from copilot_quant_pipeline.warehouse.wholeness import missing_told


@dataclass(frozen=True)
class SettleResult:
    """What a settle did.

    Attributes:
        cells: the final outcomes as in `CELLS`, by key and date; a cell that came back empty although rows
            of it are stored is failed here, with reason `vanished_at_source`.
        inserted: rows of keys that were not stored.
        restated: stored rows whose values changed, of asked cells and of those seen again.
        unchanged: rows of asked cells whose values were stored already.
        quarantined: stored rows whose change is not believed and waits for a person; they stay as they were.
        lost: stored rows of cells not asked for, which the venue's answers cover and no longer hold.
        refuted: cells not asked for that were settled without rows and of which rows came (date, key): they are
            settled with these.
    """

    cells: pa.Table
    inserted: int
    restated: int
    unchanged: int
    quarantined: int = 0
    lost: int = 0
    refuted: pa.Table = field(default_factory=REFUTED.empty_table)


class Warehouse:
    """The DuckDB file at `path`: made by the first write, open only while something is done with it.

    Any number of threads and processes may use it: writers take turns, readers come in between, and whoever
    waits for more than `lock_timeout` seconds gets a UserError. A thread must not write while it holds a read
    connection.
    """

    def __init__(self, path: Path, lock_timeout: float = 120.0) -> None:
        self.path = Path(path)
        self._gate = WarehouseFile(self.path, lock_timeout)

    def settle(
        self,
        table: GridTable,
        cells: pa.Table,
        rows: pa.Table,
        *,
        run_id: str,
        actions: pa.Table | None = None,
        seen_again: SeenAgain | None = None,
        coarse: pa.Table | None = None,
        compared: Compared | None = None,
        looks: pa.Table | None = None,
        started_at: datetime | None = None,
        requests: int = 0,
        retries: int = 0,
    ) -> SettleResult:
        """Store what a run brought in, in one transaction: rows, restatements, coverage, run summary.

        A failed cell keeps its rows; so does a settled cell that came back empty, which becomes failed.
        A row equal to the stored one is left alone. So is one that differs too much to be believed: the change
        waits in `ops.quarantine` (warehouse/plausibility.py says which). `seen_again` is compared in the same way with
        what is stored, and adds no rows, but to cells that are settled without any (warehouse/refuting.py). `actions`
        are added to `equities.actions`, or replace those of the same key. `looks` are added to
        `equities.unknown_looks`; any other answer for a symbol takes its looks away. What is doubtful in the bars near
        those that came, and in what `compared` tells, is noted in `ops.warnings`. `coarse` cells are gaps for as long
        as they may be had finer. The arguments are the parts of a `Harvest`.

        Raises:
            InvalidRowsError: A row breaks the table's declaration or belongs to no settled cell; a cell comes
                twice, has an unknown outcome or reason, or is settled without rows and without a reason.
            UserError: The file cannot be opened or written.
        """
        began = started_at or datetime.now(UTC)
        summary: dict[str, Any] = {
            "run_id": run_id,
            "grid": table.grid,
            "requests": requests,
            "retries": retries,
        }
        frames = _validated(table, cells, rows, actions, seen_again, looks) | _compared(compared)
        frames["refinable"] = REFINABLE.validated(coarse or COARSE.empty_table())
        at = _asked_at(frames) or began
        with self.transaction() as connection:
            _register(connection, frames)
            frames, refuted = with_refuted(connection, table, frames)
            _register(connection, frames)
            counts = settle_rows(connection, table, run_id)
            waiting = 0
            if table is BARS:
                waiting = settle_actions(connection, run_id)
                warn_of_bars(connection, at, run_id)
                warn_of_answers(connection, at, run_id)
                settle_looks(connection)
            final = settle_coverage(connection, table, run_id)
            summary |= {"restated": counts.restated, "quarantined": waiting, "lost": counts.lost}
            record_run(connection, {**summary, "started_at": began, "seconds": _seconds_since(began)})
        own = final.join(refuted, ["date", "key"], join_type="left anti") if refuted.num_rows else final
        return SettleResult(cells=own, refuted=refuted, quarantined=waiting, **asdict(counts))

    def settle_harvest(self, table: GridTable, harvest: Harvest, *, run_id: str) -> SettleResult:
        """`settle`, of all that a harvest holds."""
        return self.settle(
            table,
            harvest.cells,
            harvest.rows,
            run_id=run_id,
            actions=harvest.actions,
            seen_again=harvest.seen_again,
            coarse=harvest.coarse,
            compared=harvest.compared,
            looks=harvest.looks,
            started_at=harvest.started_at,
            requests=harvest.requests,
            retries=harvest.retries,
        )

    def replace(self, table: Table, rows: pa.Table) -> int:
        """Put `rows` in place of all rows of a table that is no grid's, in one transaction; gives how many.

        What they replace is kept in the table's history; values that stay the same stay first seen when they were.

        Raises:
            InvalidRowsError: There are no rows, or one breaks the table's declaration.
            UserError: The file cannot be opened or written.
        """
        if isinstance(table, GridTable):
            raise TypeError(f"{table.qualified} is a grid's: settle its cells")
        if rows.num_rows == 0:
            raise InvalidRowsError(f"{table.schema}.{table.name}: an empty table would erase what is stored")
        incoming = table.validated(rows)
        with self.transaction() as connection:
            connection.register("incoming", incoming)
            for statement in replace_statements(table):
                connection.execute(statement)
        return int(incoming.num_rows)

    def read(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pa.Table:
        """The answer to one query; times are UTC. Without a file every table is there and empty.

        Raises:
            UserError: The file cannot be opened.
            duckdb.Error: The query is wrong.
        """
        with self.connect_read_only() as connection:
            return connection.execute(sql, _bindable(parameters)).to_arrow_table()

    @contextmanager
    def connect_read_only(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for several queries on one state; be brief, writers wait for its end.

        Within it this thread's other reads are of the same state. They open nothing: whoever has the file open must not
        wait for a turn at it, which a writer may have who waits for the file.

        Raises:
            UserError: The file cannot be opened.
        """
        if (held := _open_here().get(self.path)) is not None:
            with session(held) as connection, missing_told(self.path, connection):
                yield connection
            return
        if not expect_mounted(self.path).exists():
            with session(_nothing()) as connection:
                yield connection
            return
        with ExitStack() as stack:
            connection = stack.enter_context(self._gate.to_read())
            if is_older(connection):
                stack.close()
                self._bring_up_to_date()
                connection = stack.enter_context(self._gate.to_read())
            stack.enter_context(missing_told(self.path, connection))
            _open_here()[self.path] = connection
            try:
                yield connection
            finally:
                del _open_here()[self.path]

    @contextmanager
    def held(self) -> Iterator[None]:
        """While open, all reads of this thread are of one state; each takes 0.02 ms to open the file instead of 9.

        For a few reads in a row and nothing else: who writes waits for its end, and this thread cannot write.
        """
        with self.connect_read_only():
            yield

    def coverage(
        self,
        grid: str,
        keys: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
    ) -> pa.Table:
        """The rows of `ops.coverage` by key and date; `start` and `end` are included, None is no limit."""
        chosen = {"grid": grid, "keys": None if keys is None else list(keys), "start": start, "end": end}
        return self.read(_COVERAGE, chosen)

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction of this room's own statements: all of it is stored, or nothing.

        Raises:
            UserError: The file cannot be opened or written.
        """
        with self._to_write() as connection, _transaction(connection):
            yield connection

    @contextmanager
    def _to_write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if self.path in _open_here():
            raise RuntimeError(f"{self.path} is being read by whoever wants to write it, and would be for ever")
        with self._gate.to_write() as connection, missing_told(self.path, connection):
            migrate(connection)
            yield connection

    def _bring_up_to_date(self) -> None:
        with self._to_write():
            pass


_COVERAGE = f"""
    select {", ".join(COVERAGE.names)} from ops.coverage
    where grid = $grid
        and ($keys::varchar[] is null or key in (select unnest($keys::varchar[])))
        and ($start::date is null or date >= $start::date)
        and ($end::date is null or date <= $end::date)
    order by key, date
"""  # noqa: S608 declared names

_CONTRADICTIONS = """
    select
        date, key,
        case
            when a.outcome is null then 'has rows and was not asked for'
            when a.outcome = 'failed' then 'failed and has rows'
            else 'is settled without rows and without a reason'
        end as problem
    from asked a full join (select distinct date, key, true as filled from incoming) i using (date, key)
    where filled and a.outcome is distinct from 'settled'
        or filled is null and a.outcome = 'settled' and a.reason is null
    order by all
    limit 5
"""


def _register(connection: duckdb.DuckDBPyConnection, frames: Mapping[str, pa.Table]) -> None:
    for name, frame in frames.items():
        connection.register(name, frame)


def _validated(
    table: GridTable,
    cells: pa.Table,
    rows: pa.Table,
    actions: pa.Table | None,
    seen_again: SeenAgain | None,
    looks: pa.Table | None,
) -> dict[str, pa.Table]:
    """The frames of warehouse/settling.py."""
    frames = {"asked": with_safe_details(ASKED.validated(cells)), "incoming": table.validated(rows)}
    _expect_belonging(table, frames["asked"], frames["incoming"])
    nothing = SeenAgain(table.arrow.empty_table(), WINDOWS.empty_table())
    seen = seen_again or nothing
    frames |= {"seen": table.validated(seen.rows), "windows": LOOKED.validated(seen.windows)}
    _expect_beside(table, frames["asked"], frames["seen"])
    frames["looks"] = UNKNOWN_LOOKS.validated(looks or UNKNOWN_LOOKS.arrow.empty_table())
    return {**frames, "told": ACTIONS.validated(actions or ACTIONS.arrow.empty_table())}


def _compared(compared: Compared | None) -> dict[str, pa.Table]:
    given = compared or Compared(WARNED.empty_table(), WINDOWS.empty_table())
    return {"warned": FOUND.validated(given.rows), "compared": LOOKED.validated(given.windows)}


def _asked_at(frames: Mapping[str, pa.Table]) -> datetime | None:
    """When the venue was asked last, by the platform's clock."""
    asked = [pc.max(frames[name].column("fetched_at")).as_py() for name in ("asked", "windows")]
    at: datetime | None = max((instant for instant in asked if instant), default=None)
    return at


def _seconds_since(instant: datetime) -> float:
    return (datetime.now(UTC) - instant).total_seconds()


def _expect_belonging(table: GridTable, asked: pa.Table, incoming: pa.Table) -> None:
    of_cells = incoming.select([table.date_column, table.key_column]).rename_columns(["date", "key"])
    with scratch() as connection:
        connection.register("asked", asked)
        connection.register("incoming", of_cells)
        wrong = connection.execute(_CONTRADICTIONS).fetchall()
    if wrong:
        shown = ", ".join(f"{day} {key} {problem}" for day, key, problem in wrong)
        raise InvalidRowsError(f"{table.schema}.{table.name}: cells and rows contradict each other: {shown}")


def _expect_beside(table: GridTable, asked: pa.Table, seen: pa.Table) -> None:
    keys = seen.select([table.date_column, table.key_column]).rename_columns(["date", "key"])
    if (
        keys.num_rows
        and (both := keys.join(asked.select(["date", "key"]), ["date", "key"], join_type="inner")).num_rows
    ):
        shown = ", ".join(f"{row['date']} {row['key']}" for row in both.slice(0, 5).to_pylist())
        raise InvalidRowsError(f"{table.schema}.{table.name}: asked for, and seen again beside what was asked: {shown}")


def _bindable(parameters: Sequence[Any] | Mapping[str, Any]) -> list[Any] | dict[str, Any]:
    return dict(parameters) if isinstance(parameters, Mapping) else list(parameters)


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


_threads = threading.local()


def _open_here() -> dict[Path, duckdb.DuckDBPyConnection]:
    """The files that this thread has open to read, each with its connection."""
    if not hasattr(_threads, "open"):
        _threads.open = {}
    found: dict[Path, duckdb.DuckDBPyConnection] = _threads.open
    return found


@cache
def _nothing() -> duckdb.DuckDBPyConnection:
    """All tables, empty, in memory; made once a process, as a new home is read many times before it has a file."""
    connection = duckdb.connect()
    migrate(connection)
    return connection
