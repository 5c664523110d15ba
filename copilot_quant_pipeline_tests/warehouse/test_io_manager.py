"""Claims about the I/O manager inside real runs on the ledger: what becomes green, what is loaded downstream."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.grid.runs import range_tags
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.fetch_result import CELLS, Harvest
from copilot_quant_pipeline.warehouse.io_manager import GridIOManager, _failure, described
from copilot_quant_pipeline.warehouse.tables import BARS, MEMBERS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

DAYS = (date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 4))
SYMBOLS = ("AAPL", "MSFT")
ASSET = dg.AssetKey("bars")
FETCHED = datetime(2024, 2, 1, tzinfo=UTC)

GRID = dg.MultiPartitionsDefinition(
    {
        "date": dg.DailyPartitionsDefinition(start_date="2024-01-02", end_date="2024-01-05"),
        "symbol": dg.DynamicPartitionsDefinition(name="symbol"),
    }
)


def _harvest(fates: dict[tuple[date, str], str | None]) -> Harvest:
    """A bar for each cell whose fate is None; else the reason it is failed or empty for."""
    cells = [
        {
            "date": day,
            "key": symbol,
            "outcome": "failed" if fate == "missing_at_source" else "settled",
            "reason": fate,
            "detail": None,
            "fetched_at": FETCHED,
        }
        for (day, symbol), fate in fates.items()
    ]
    bar = {
        "open": 1.0,
        "high": 1.0,
        "low": 1.0,
        "close": 1.0,
        "volume": 1,
        "dividend": 0.0,
        "split_ratio": 1.0,
    }
    rest = {"confirmed_at": FETCHED, "quality": "ok", "source": "test", "first_seen_at": FETCHED}
    rows = [{"date": d, "symbol": s, **bar, **rest} for (d, s), fate in fates.items() if fate is None]
    return Harvest(pa.Table.from_pylist(cells, CELLS), pa.Table.from_pylist(rows, BARS.arrow))


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb")


@pytest.fixture
def instance(unused: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(unused.dagster_home, capture_output=False) as instance:
        instance.add_dynamic_partitions("symbol", list(SYMBOLS))
        yield instance


def _run(
    instance: dg.DagsterInstance, warehouse: Warehouse, fates: dict[tuple[date, str], str | None]
) -> dg.ExecuteInProcessResult:
    @dg.asset(name="bars", partitions_def=GRID, metadata=described(BARS))
    def bars() -> Harvest:
        return _harvest(fates)

    days = sorted({day for day, _ in fates})
    symbols = [symbol for symbol in SYMBOLS if symbol in {symbol for _, symbol in fates}]
    job = dg.Definitions([bars], resources={"io_manager": GridIOManager(warehouse)})
    return job.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        tags=range_tags(Rectangle(tuple(days), tuple(symbols))),
        raise_on_error=False,
    )


def _reasons_shown(instance: dg.DagsterInstance) -> dict[str, str | None]:
    """Each green cell, and the reason its newest materialization shows."""
    shown: dict[str, str | None] = {}
    for record in instance.fetch_materializations(ASSET, limit=100, ascending=True).records:
        event = record.asset_materialization
        assert event is not None
        assert event.partition is not None
        reason = event.metadata.get("reason")
        shown[event.partition] = str(reason.value) if reason else None
    return shown


def test_a_green_run_shows_each_cell_once_and_why_it_is_empty(
    instance: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    fates: dict[tuple[date, str], str | None] = {(day, symbol): None for day in DAYS for symbol in SYMBOLS}
    fates[DAYS[0], "MSFT"] = "not_listed"
    assert _run(instance, warehouse, fates).success
    assert _reasons_shown(instance) == {f"{day}|{symbol}": fate for (day, symbol), fate in fates.items()}
    assert len(instance.fetch_materializations(ASSET, limit=100).records) == len(fates)


def test_a_run_without_any_rows_is_green_and_says_why(instance: dg.DagsterInstance, warehouse: Warehouse) -> None:
    fates: dict[tuple[date, str], str | None] = {(day, "MSFT"): "not_listed" for day in DAYS}
    assert _run(instance, warehouse, fates).success
    assert _reasons_shown(instance) == {f"{day}|MSFT": "not_listed" for day in DAYS}


def test_a_single_cell_is_green(instance: dg.DagsterInstance, warehouse: Warehouse) -> None:
    assert _run(instance, warehouse, {(DAYS[0], "AAPL"): None}).success
    assert _reasons_shown(instance) == {f"{DAYS[0]}|AAPL": None}


def test_two_cells_with_different_reasons_are_each_recorded_once(
    instance: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    assert _run(instance, warehouse, {(DAYS[0], "AAPL"): None, (DAYS[1], "AAPL"): "no_trade"}).success
    assert _reasons_shown(instance) == {f"{DAYS[0]}|AAPL": None, f"{DAYS[1]}|AAPL": "no_trade"}
    assert len(instance.fetch_materializations(ASSET, limit=100).records) == 2


def test_failed_cells_are_not_green_and_the_run_names_them(instance: dg.DagsterInstance, warehouse: Warehouse) -> None:
    fates: dict[tuple[date, str], str | None] = {(day, symbol): None for day in DAYS for symbol in SYMBOLS}
    fates[DAYS[0], "AAPL"] = "not_listed"
    fates[DAYS[1], "MSFT"] = "missing_at_source"
    result = _run(instance, warehouse, fates)
    assert not result.success
    assert "2024-01-03 MSFT: missing_at_source" in str(result.failure_data_for_node("bars"))
    del fates[DAYS[1], "MSFT"]
    assert _reasons_shown(instance) == {f"{day}|{symbol}": fate for (day, symbol), fate in fates.items()}


def test_a_symbol_that_fails_a_hundred_times_hides_no_other() -> None:
    many = [date(2024, 1, 2) + timedelta(days=n) for n in range(100)]
    cells = [
        {**dict.fromkeys(CELLS.names), "date": day, "key": key, "outcome": "failed", "reason": reason}
        for key, reason, days in (("NOPE", "unknown_symbol", many), ("TSLA", "missing_at_source", many[:1]))
        for day in days
    ]
    told = _failure(pa.Table.from_pylist(cells, CELLS), 300, {}).description
    assert (told or "").splitlines() == [
        "101 of 300 cells failed, the others are settled.",
        "NOPE: unknown_symbol, 100 cells, 2024-01-02 to 2024-04-10",
        "2024-01-02 TSLA: missing_at_source",
    ]


def test_a_run_whose_cells_all_failed_stores_and_paints_nothing(
    instance: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    result = _run(instance, warehouse, {(day, "AAPL"): "missing_at_source" for day in DAYS})
    assert not result.success
    assert _reasons_shown(instance) == {}
    assert warehouse.read("from equities.bars").num_rows == 0


def test_an_asset_downstream_loads_the_rows_of_its_cells(instance: dg.DagsterInstance, warehouse: Warehouse) -> None:
    _run(instance, warehouse, {(day, symbol): None for day in DAYS for symbol in SYMBOLS})
    loaded: list[pd.DataFrame] = []
    upstream = dg.AssetSpec("bars", partitions_def=GRID, metadata=described(BARS)).with_io_manager_key("io_manager")

    @dg.asset(partitions_def=GRID)
    def closes(bars: pd.DataFrame) -> None:
        loaded.append(bars)

    job = dg.Definitions([upstream, closes], resources={"io_manager": GridIOManager(warehouse)})
    result = job.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, tags=range_tags(Rectangle(DAYS[:2], ("MSFT",))), raise_on_error=False
    )
    del result  # what `closes` returns has no table; only its loading is of interest
    (frame,) = loaded
    assert list(frame["symbol"]) == ["MSFT", "MSFT"]
    assert [day.isoformat() for day in pd.to_datetime(frame["date"]).dt.date] == [str(d) for d in DAYS[:2]]


def test_a_table_without_partitions_is_replaced_and_counted(instance: dg.DagsterInstance, warehouse: Warehouse) -> None:
    row = {"symbol": "AAPL", "name": "Apple", "sector": "IT", "member_from": None, "member_to": None}
    rows = pa.Table.from_pylist(
        [{**row, "source": "test", "read_at": FETCHED, "first_seen_at": FETCHED}], MEMBERS.arrow
    )

    @dg.asset(metadata=described(MEMBERS))
    def members() -> pa.Table:
        return rows

    job = dg.Definitions([members], resources={"io_manager": GridIOManager(warehouse)})
    assert job.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance).success
    assert warehouse.read("select symbol from equities.members").to_pylist() == [{"symbol": "AAPL"}]
