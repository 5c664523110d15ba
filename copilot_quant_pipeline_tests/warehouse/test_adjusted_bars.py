from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from copilot_quant_pipeline.warehouse.reading import read_bars
from copilot_quant_pipeline.warehouse.tables import BARS, UTC_TIME
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import FETCHED, MON, TUE, WED, bar, settle_bars

# Yahoo has one dividend of AMCR twice, on a day without trades and on the next: between the two its own
# adjclose moves a session late. Before and after it agrees.
ODD = ("AMCR", date(2017, 9, 1))


def test_a_split_divides_what_was_before_it(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "A", 400.0), bar(TUE, "A", 100.0, split_ratio=4.0), bar(WED, "A", 101.0))
    bars = read_bars(warehouse, adjusted=True)
    assert bars["close"].tolist() == [100.0, 100.0, 101.0]
    assert bars["adj_close"].tolist() == [100.0, 100.0, 101.0]
    assert bars["volume"].tolist() == [4000, 1000, 1000]


def test_a_dividend_lowers_what_was_before_it(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "A", 100.0), bar(TUE, "A", 99.0, dividend=1.0), bar(WED, "A", 99.0))
    assert read_bars(warehouse, adjusted=True)["adj_close"].tolist() == [99.0, 99.0, 99.0]


def test_a_dividend_paid_on_the_day_of_a_split_is_in_new_shares(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    settle_bars(warehouse, bar(MON, "A", 400.0), bar(TUE, "A", 99.0, split_ratio=4.0, dividend=1.0))
    assert read_bars(warehouse, adjusted=True)["adj_close"].tolist() == [99.0, 99.0]


@pytest.fixture(scope="module")
def yahoo(recorded: Path) -> pd.DataFrame:
    frame: pd.DataFrame = pq.read_table(recorded / "yahoo" / "daily_2016_2026.parquet").to_pandas()
    return frame.sort_values(["Symbol", "Date"], ignore_index=True)


@pytest.fixture(scope="module")
def compared(yahoo: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    warehouse = Warehouse(tmp_path_factory.mktemp("yahoo") / "warehouse.duckdb")
    rows = _as_traded(yahoo)
    asked = pa.table(
        {
            "date": rows["date"],
            "key": rows["symbol"],
            "outcome": pa.repeat("settled", len(rows)),
            "reason": pa.nulls(len(rows), pa.string()),
            "detail": pa.nulls(len(rows), pa.string()),
            "fetched_at": rows["first_seen_at"],
        }
    )
    warehouse.settle(BARS, asked, rows, run_id="recorded")
    return yahoo.join(read_bars(warehouse, adjusted=True))


def test_adjusted_closes_are_yahoos(compared: pd.DataFrame) -> None:
    off = (compared["adj_close"] / compared["Adj Close"].astype("float64") - 1).abs()
    beyond = compared[off > 1e-6]
    assert list(zip(beyond["Symbol"], beyond["Date"], strict=True)) == [ODD]


def test_spin_offs_are_fractional_splits_like_any_other(compared: pd.DataFrame) -> None:
    ratios = compared[compared["Stock Splits"] > 0].groupby("Symbol")["Stock Splits"].agg(list)
    assert ratios["T"] == [1.324]
    assert ratios["HON"] == pytest.approx([1.005328, 1.011, 1.032, 1.061])
    spun = compared[compared["Symbol"].isin(["HON", "DD", "GE", "T", "MMM", "PFE"])]
    assert (spun["adj_close"] / spun["Adj Close"].astype("float64") - 1).abs().max() < 1e-6


def test_adjusted_prices_and_volumes_are_yahoos(compared: pd.DataFrame) -> None:
    for column in ("Open", "High", "Low", "Close"):
        assert (compared[column.lower()] / compared[column].astype("float64") - 1).abs().max() < 1e-12
    # A reverse split with a fraction (GE) does not give whole shares back exactly.
    assert (compared["volume"] - compared["Volume"]).abs().max() <= 1


def _as_traded(yahoo: pd.DataFrame) -> pa.Table:
    ratio = yahoo["Stock Splits"].where(yahoo["Stock Splits"] > 0, 1.0)
    newest_first = ratio[::-1].groupby(yahoo["Symbol"][::-1])
    later = (newest_first.cumprod() / ratio)[yahoo.index]
    prices = {name.lower(): yahoo[name].astype("float64") * later for name in ("Open", "High", "Low", "Close")}
    columns = {
        "date": pa.array(yahoo["Date"], pa.date32()),
        "symbol": pa.array(yahoo["Symbol"], pa.string()),
        **{name: pa.array(values) for name, values in prices.items()},
        "volume": pa.array((yahoo["Volume"] / later).round().astype("int64")),
        "dividend": pa.array(yahoo["Dividends"] * later),
        "split_ratio": pa.array(ratio),
        "confirmed_at": pa.repeat(pa.scalar(FETCHED, UTC_TIME), len(yahoo)),
        "quality": pa.repeat("ok", len(yahoo)),
        "source": pa.repeat("yahoo", len(yahoo)),
        "first_seen_at": pa.repeat(pa.scalar(FETCHED, UTC_TIME), len(yahoo)),
    }
    return pa.table(columns)
