from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from copilot_quant_pipeline.warehouse.tables import BARS, TABLES, VIEWS, InvalidRowsError, Table, View
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import MON, TUE, bar, bars


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"close": 0.0}, "close must meet close > 0"),
        ({"low": -3.0}, "low must meet low > 0"),
        ({"high": math.nan}, "high must be finite"),
        ({"open": math.inf}, "open must be finite"),
        ({"split_ratio": 0.0}, "split_ratio must meet"),
        ({"volume": -1}, "volume must meet volume >= 0"),
        ({"quality": "fine"}, "quality must meet"),
        ({"close": None}, "close must be given"),
        ({"symbol": ""}, "symbol must meet"),
    ],
)
def test_a_bad_value_is_refused_with_its_column_and_key(change: dict[str, Any], named: str) -> None:
    rows = pa.Table.from_pylist([bar(MON, "GOOD"), {**bar(TUE, "BAD"), **change}], schema=_nullable())
    with pytest.raises(InvalidRowsError) as refused:
        BARS.validated(rows)
    assert named in str(refused.value)
    assert "2024-03-26" in str(refused.value)
    assert "GOOD" not in str(refused.value)


def test_a_key_that_comes_twice_is_refused() -> None:
    with pytest.raises(InvalidRowsError, match=r"\(date, symbol\) must be unique; broken by 2024-03-25 AAPL$"):
        BARS.validated(bars(bar(MON, "AAPL"), bar(MON, "AAPL", 101.0), bar(MON, "MSFT")))


def test_many_offenders_are_counted_not_all_spelled_out() -> None:
    with pytest.raises(InvalidRowsError, match="and 15 more"):
        BARS.validated(bars(*(bar(MON, f"S{n:02d}", close=-1.0) for n in range(20))))


def test_missing_and_unknown_columns_are_refused() -> None:
    with pytest.raises(InvalidRowsError, match="has the columns"):
        BARS.validated(bars(bar(MON, "AAPL")).drop_columns(["volume"]))


def test_a_fractional_volume_is_refused() -> None:
    rows = bars(bar(MON, "AAPL"))
    rows = rows.set_column(rows.column_names.index("volume"), "volume", pa.array([1.5]))
    with pytest.raises(InvalidRowsError, match="volume must be bigint"):
        BARS.validated(rows)


def test_columns_may_come_in_any_order() -> None:
    rows = bars(bar(MON, "AAPL"))
    assert BARS.validated(rows.select(sorted(rows.column_names))).to_pylist() == rows.to_pylist()


@pytest.mark.parametrize("declared", [*TABLES, *VIEWS], ids=lambda declared: declared.name)
def test_what_is_declared_is_what_a_file_has(declared: Table | View, tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    columns = warehouse.read(
        "select column_name, lower(data_type), is_nullable from duckdb_columns()"
        " where schema_name = $schema and table_name = $name order by column_index",
        {"schema": declared.schema, "name": declared.name},
    ).to_pylist()
    of_views = isinstance(declared, View)
    assert [tuple(column.values()) for column in columns] == [
        (column.name, column.type, column.nullable or of_views) for column in declared.described
    ]


def _nullable() -> pa.Schema:
    return pa.schema([pa.field(field.name, field.type) for field in BARS.arrow])
