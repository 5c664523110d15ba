from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from copilot_quant_pipeline.warehouse.tables import (
    BARS,
    MEMBERS,
    UTC_TIME,
    Column,
    GridTable,
    InvalidRowsError,
    history_of,
)
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import (
    FETCHED,
    MON,
    TUE,
    WED,
    bar,
    bars,
    cell,
    cells,
    settle_bars,
    stored,
)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "home" / "warehouse.duckdb", lock_timeout=20.0)


def test_rows_and_coverage_are_stored_together(warehouse: Warehouse) -> None:
    asked = cells(cell(MON, "AAPL"), cell(TUE, "AAPL", "failed", "missing_at_source", detail="no bar"))
    settled = warehouse.settle(BARS, asked, bars(bar(MON, "AAPL")), run_id="one")
    assert (settled.inserted, settled.restated, settled.unchanged) == (1, 0, 0)
    assert settled.cells.to_pylist() == asked.to_pylist()
    first, second = warehouse.coverage("equities").to_pylist()
    assert (first["outcome"], first["rows"], first["attempts"], first["run_id"]) == ("settled", 1, 0, "one")
    assert (second["outcome"], second["rows"], second["attempts"]) == ("failed", 0, 1)
    assert (second["reason"], second["detail"], second["fetched_at"]) == (
        "missing_at_source",
        "no bar",
        FETCHED,
    )


def test_a_settled_cell_without_rows_keeps_its_reason(warehouse: Warehouse) -> None:
    warehouse.settle(BARS, cells(cell(MON, "ABNB", reason="not_listed")), bars(), run_id="one")
    (row,) = warehouse.coverage("equities").to_pylist()
    assert (row["outcome"], row["rows"], row["reason"]) == ("settled", 0, "not_listed")


def test_settling_again_changes_nothing(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "AAPL"), run_id="one")
    later = bar(MON, "AAPL", first_seen_at=datetime(2024, 4, 1, tzinfo=UTC))
    again = settle_bars(warehouse, later, run_id="two")
    assert (again.inserted, again.restated, again.unchanged) == (0, 0, 1)
    assert stored(warehouse, ["close", "first_seen_at"]) == [(100.0, FETCHED)]
    assert warehouse.read("from ops.restatements").num_rows == 0


def test_a_changed_value_is_recorded_with_old_and_new(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "AAPL"), bar(MON, "MSFT"), run_id="one")
    changed = bar(MON, "AAPL", volume=1001, dividend=0.25)
    settled = settle_bars(warehouse, changed, bar(MON, "MSFT"), run_id="two")
    assert (settled.inserted, settled.restated, settled.unchanged) == (0, 1, 1)
    found = warehouse.read('select key, "column", old, new, run_id from ops.restatements order by "column"')
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        ("AAPL", "dividend", "0.0", "0.25", "two"),
        ("AAPL", "volume", "1000", "1001", "two"),
    ]
    assert stored(warehouse, ["symbol", "volume"]) == [("AAPL", 1001), ("MSFT", 1000)]


def test_a_change_by_rounding_is_no_restatement(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "AAPL", 100.0))
    assert settle_bars(warehouse, bar(MON, "AAPL", 100.0004)).unchanged == 1
    assert settle_bars(warehouse, bar(MON, "AAPL", 100.0006)).restated == 1
    assert stored(warehouse) == [(MON, "AAPL", 100.0006)]


def test_a_provisional_bar_becomes_final_without_a_restatement(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "AAPL", confirmed_at=None))
    settled = settle_bars(warehouse, bar(MON, "AAPL", confirmed_at=FETCHED))
    assert (settled.inserted, settled.restated, settled.unchanged) == (0, 0, 1)
    assert stored(warehouse, ["confirmed_at"]) == [(FETCHED,)]
    assert warehouse.read("from ops.restatements").num_rows == 0


def test_a_failed_cell_keeps_its_rows(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "AAPL"))
    for attempt in (1, 2):
        warehouse.settle(BARS, cells(cell(MON, "AAPL", "failed", "unavailable")), bars(), run_id="down")
        (row,) = warehouse.coverage("equities").to_pylist()
        assert (row["outcome"], row["rows"], row["attempts"]) == ("failed", 1, attempt)
    assert stored(warehouse) == [(MON, "AAPL", 100.0)]
    settle_bars(warehouse, bar(MON, "AAPL"))
    assert warehouse.coverage("equities").column("attempts").to_pylist() == [0]


def test_an_empty_answer_never_erases_rows(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "AAPL"), bar(TUE, "AAPL"))
    asked = cells(cell(MON, "AAPL", reason="delisted"), cell(WED, "AAPL", reason="delisted"))
    settled = warehouse.settle(BARS, asked, bars(), run_id="gone")
    monday, wednesday = settled.cells.to_pylist()
    assert (monday["outcome"], monday["reason"]) == ("failed", "vanished_at_source")
    assert monday["detail"] == "answered delisted"
    assert (wednesday["outcome"], wednesday["reason"]) == ("settled", "delisted")
    assert len(stored(warehouse)) == 2


def test_a_session_that_is_stored_and_that_the_venue_has_lost_since_has_vanished(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "AAPL"))
    lost = cells(cell(MON, "AAPL", "failed", "missing_at_source"), cell(TUE, "AAPL", "failed", "missing_at_source"))
    told = warehouse.settle(BARS, lost, bars(), run_id="lost").cells.to_pylist()
    assert [row["reason"] for row in told] == ["vanished_at_source", "missing_at_source"]
    assert len(stored(warehouse)) == 1


def test_other_cells_are_not_touched(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "AAPL"), bar(TUE, "AAPL"), bar(MON, "MSFT"))
    settle_bars(warehouse, bar(MON, "AAPL", 90.0))
    assert stored(warehouse) == [(MON, "AAPL", 90.0), (TUE, "AAPL", 100.0), (MON, "MSFT", 100.0)]


@pytest.mark.parametrize(
    ("asked", "rows", "told"),
    [
        (
            [cell(MON, "AAPL")],
            [bar(MON, "AAPL"), bar(TUE, "AAPL")],
            "2024-03-26 AAPL has rows and was not asked for",
        ),
        (
            [cell(MON, "AAPL", "failed", "unavailable")],
            [bar(MON, "AAPL")],
            "2024-03-25 AAPL failed and has rows",
        ),
        ([cell(MON, "AAPL")], [], "without a reason"),
        ([cell(MON, "AAPL", "failed")], [], "reason"),
        ([cell(MON, "AAPL", "failed", "because")], [], "reason"),
        ([cell(MON, "AAPL", "settled", "unavailable")], [], "reason"),
        ([cell(MON, "AAPL", "green")], [], "outcome"),
        ([cell(MON, "AAPL"), cell(MON, "AAPL")], [bar(MON, "AAPL")], "must be unique"),
    ],
)
def test_a_contradictory_harvest_is_refused_and_nothing_is_written(
    warehouse: Warehouse, asked: list[dict[str, object]], rows: list[dict[str, object]], told: str
) -> None:
    with pytest.raises(InvalidRowsError) as refused:
        warehouse.settle(BARS, cells(*asked), bars(*rows), run_id="one")
    assert told in str(refused.value)
    assert not warehouse.path.parent.exists()


def test_a_run_is_summed_up_once_however_often_it_settles(warehouse: Warehouse) -> None:
    began = datetime.now(UTC)
    for _ in range(2):
        asked = cells(
            cell(MON, "AAPL"),
            cell(MON, "ABNB", reason="not_listed"),
            cell(MON, "X", "failed", "unknown_symbol"),
        )
        warehouse.settle(BARS, asked, bars(bar(MON, "AAPL")), run_id="one", started_at=began, requests=3, retries=1)
    (row,) = warehouse.read("from ops.run_summary").to_pylist()
    assert row.pop("seconds") >= 0
    assert row == {
        "run_id": "one",
        "grid": "equities",
        "started_at": began,
        "asked": 3,
        "settled": 2,
        "failed": 1,
        "empty": 1,
        "rows": 1,
        "restated": 0,
        "quarantined": 0,
        "lost": 0,
        "requests": 3,
        "retries": 1,
    }


def test_coverage_is_chosen_by_key_and_date(warehouse: Warehouse) -> None:
    settle_bars(warehouse, *(bar(day, symbol) for day in (MON, TUE, WED) for symbol in ("A", "B", "C")))
    chosen = warehouse.coverage("equities", ["C", "A"], TUE, TUE)
    assert chosen.column("key").to_pylist() == ["A", "C"]
    assert warehouse.coverage("equities", start=TUE).num_rows == 6
    assert warehouse.coverage("equities", []).num_rows == 0
    assert warehouse.coverage("prediction_markets").num_rows == 0


POINTS = GridTable(
    schema="equities",
    name="points",
    description="Several rows a cell.",
    grid="points",
    key_column="market",
    key=("market", "stamped_at"),
    columns=(
        Column("date", pa.date32(), "Day."),
        Column("market", pa.string(), "Market."),
        Column("stamped_at", UTC_TIME, "Instant."),
        Column("price", pa.float64(), "Price."),
        Column("first_seen_at", UTC_TIME, "Since when.", kind="stamp"),
    ),
)


def test_a_cell_of_several_rows_is_replaced_as_a_whole(warehouse: Warehouse) -> None:
    warehouse.replace(MEMBERS, _member())
    with duckdb.connect(warehouse.path) as connection:
        connection.execute(POINTS.ddl)
        connection.execute(history_of(POINTS).ddl)
    one, two, three = (datetime(2024, 3, 25, hour, tzinfo=UTC) for hour in (1, 2, 3))
    asked = cells(cell(MON, "m"))
    warehouse.settle(POINTS, asked, _points({one: 0.1, two: 0.2}), run_id="one")
    settled = warehouse.settle(POINTS, asked, _points({two: 0.25, three: 0.3}), run_id="two")
    assert (settled.inserted, settled.restated, settled.unchanged) == (1, 2, 0)
    kept = warehouse.read("select stamped_at, price from equities.points order by all").to_pylist()
    assert kept == [{"stamped_at": two, "price": 0.25}, {"stamped_at": three, "price": 0.3}]
    changes = warehouse.read("select old, new from ops.restatements where \"column\" = 'price' order by old")
    assert changes.to_pylist() == [{"old": "0.1", "new": None}, {"old": "0.2", "new": "0.25"}]
    assert warehouse.coverage("points").column("rows").to_pylist() == [2]


def _points(prices: dict[datetime, float]) -> pa.Table:
    row = {"date": MON, "market": "m", "first_seen_at": FETCHED}
    rows = [{**row, "stamped_at": at, "price": price} for at, price in prices.items()]
    return pa.Table.from_pylist(rows, schema=POINTS.arrow)


def _member() -> pa.Table:
    row = {"symbol": "AAPL", "name": None, "sector": None, "member_from": None, "member_to": None}
    return pa.Table.from_pylist(
        [{**row, "source": "list", "read_at": FETCHED, "first_seen_at": FETCHED}], schema=MEMBERS.arrow
    )
