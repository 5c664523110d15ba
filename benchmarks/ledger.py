"""What recording a cell costs: the ledger against Dagster's own event-log storage.

Here: real runs of a partitioned asset over a rectangle, in process, on a fresh home each.
Not here: vendors and warehouse (the asset brings nothing, the I/O manager stores nothing).

Run it: `python -m benchmarks.ledger`.
"""

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg

from benchmarks.table import Measured, print_table
from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance
from copilot_quant_pipeline.ledger.recording import fold_cells
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.reconcile import reconcile
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

SYMBOLS = [f"S{n:03}" for n in range(500)]
BARS = dg.AssetKey("equity_bars")

_dates = dg.DailyPartitionsDefinition(start_date="2020-01-01", end_date="2024-01-01")
_symbols = dg.DynamicPartitionsDefinition(name="symbol")


# Dagster's console log writes each event to stderr, which is none of the event log's cost.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
MS_A_CELL, BYTES_A_CELL, PART_OF_STOCK = 0.3, 5_000.0, 1 / 30
SECONDS_TO_RECONCILE = 180

_SETTLED = """
    insert into ops.coverage by name
    select 'equities' as grid, unnest($days::date[]) as date, key, 'settled' as outcome, 1 as rows, 0 as attempts,
        0 as passing, now() as fetched_at, md5((hash(key) % 40)::varchar) as run_id
    from (select unnest($symbols::varchar[]) as key)
"""


@dataclass(frozen=True)
class Recorded:
    """What recording a rectangle took.

    Attributes:
        cells: how many cells.
        seconds: from starting the run to its end, planned and materialized events and all else included.
        bytes: what all files of the event log grew by, after a checkpoint of their write-ahead logs.
    """

    cells: int
    seconds: float
    bytes: int

    @property
    def ms_a_cell(self) -> float:
        """Milliseconds a cell."""
        return self.seconds / self.cells * 1000

    @property
    def bytes_a_cell(self) -> float:
        """Bytes a cell."""
        return self.bytes / self.cells


class _StoresNothing(dg.IOManager):
    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        fold_cells(context)

    def load_input(self, context: dg.InputContext) -> None:
        raise NotImplementedError


@dg.asset(
    key=BARS,
    code_version="1",
    partitions_def=dg.MultiPartitionsDefinition({"date": _dates, "symbol": _symbols}),
)
def _equity_bars() -> int:
    return 0


_job = dg.Definitions(
    [_equity_bars], resources={"io_manager": _StoresNothing()}
).resolve_implicit_global_asset_job_def()


def measure_ledger(cells: int = 50_000, stock_cells: int = 5_000) -> list[Measured]:
    """Record `stock_cells` on both storages and `cells` on the ledger, each in one rectangle."""
    stock, same, large = record(stock_cells, stock=True), record(stock_cells), record(cells)
    few, many = f"{stock.cells:,} cells", f"{large.cells:,} cells"
    part = same.seconds / stock.seconds
    return [
        Measured(f"record a cell, Dagster's storage, {few}", stock.ms_a_cell, "ms", None),
        Measured(f"record a cell, ledger, {few}", same.ms_a_cell, "ms", None),
        Measured(f"ledger's time as part of Dagster's, {few}", part, "", PART_OF_STOCK),
        Measured(f"times faster, {few}", 1 / part, "", None),
        Measured(f"record a cell, ledger, {many}", large.ms_a_cell, "ms", MS_A_CELL),
        Measured(f"event log of a cell, Dagster's storage, {few}", stock.bytes_a_cell, "bytes", None),
        Measured(f"event log of a cell, ledger, {many}", large.bytes_a_cell, "bytes", BYTES_A_CELL),
    ]


def measure_reconcile(sessions: int = 1_000) -> list[Measured]:
    """Give a lost home its grid back: `sessions` dates of 500 symbols, settled by 40 runs; then find nothing to do."""
    with _home() as home:
        settings = Settings(home=home, equities_start=date(2015, 1, 2))
        warehouse = Warehouse(settings.warehouse_path)
        days = sessions_in_range(settings.equities_start, date(2025, 1, 1))[:sessions]
        with warehouse.transaction() as connection:
            connection.execute(_SETTLED, {"symbols": SYMBOLS, "days": days})
        install_instance_config(settings.dagster_home)
        with open_instance(settings.dagster_home) as instance:
            seconds, again = (_seconds(lambda: reconcile(instance, warehouse, settings)) for _ in range(2))
            painted = len(instance.get_materialized_partitions(BARS))
    return [
        Measured(f"reconcile {painted:,} cells", seconds, "s", SECONDS_TO_RECONCILE * painted / 500_000),
        Measured("  once more, nothing to do", again, "s"),
    ]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def record(cells: int, *, stock: bool = False) -> Recorded:
    """Record `cells` cells (a multiple of 500) in one run, on the ledger or on Dagster's own storage."""
    days = cells // len(SYMBOLS)
    dates = _dates.get_partition_keys()
    tags = {
        "dagster/asset_partition_range_start": f"{dates[0]}|{SYMBOLS[0]}",
        "dagster/asset_partition_range_end": f"{dates[days - 1]}|{SYMBOLS[-1]}",
    }
    with _home() as home, _instance(home, stock=stock) as instance:
        instance.add_dynamic_partitions("symbol", SYMBOLS)
        before = _size(home)
        started = time.perf_counter()
        _job.execute_in_process(instance=instance, asset_selection=[BARS], tags=tags, run_config=QUIET)
        seconds = time.perf_counter() - started
        recorded = len(instance.get_materialized_partitions(BARS))
        return Recorded(recorded, seconds, _size(home) - before)


@contextmanager
def _home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="copilot-quant-ledger-"))
    try:
        yield home
    finally:
        shutil.rmtree(home)


@contextmanager
def _instance(home: Path, *, stock: bool) -> Iterator[dg.DagsterInstance]:
    # Stock means as it comes: without the batch size that the ledger sets.
    os.environ.pop("DAGSTER_EVENT_BATCH_SIZE", None)
    if not stock:
        install_instance_config(home)
    with open_instance(home) as instance:
        yield instance


def _size(home: Path) -> int:
    files = sorted((home / "history" / "runs").glob("*.db"))
    for file in files:
        with sqlite3.connect(file) as conn:
            conn.execute("pragma wal_checkpoint(truncate)")
        conn.close()
    return sum(file.stat().st_size for file in (home / "history" / "runs").iterdir())


if __name__ == "__main__":
    print_table("The ledger", [*measure_ledger(), *measure_reconcile()])
