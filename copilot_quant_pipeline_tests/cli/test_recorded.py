"""Claims about real input: ten years of recorded Yahoo data through the command, the wire, the grid and the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.warnings import WarningChoice, read_warnings
from copilot_quant_pipeline_tests.cli.conftest import Desk, Said, open_desk

START, END = date(2016, 3, 14), date(2026, 3, 13)
PRICES = ["open", "high", "low", "close"]


@contextmanager
def _backfilled(home: Path, frame: Path, now: datetime, end: date) -> Iterator[tuple[Desk, Said]]:
    settings = Settings(home=home, equities_start=START, pinned_now=now)
    symbols = pd.read_parquet(frame, columns=["Symbol"])["Symbol"].unique()
    with Sandbox(recorded=frame, now=now) as venues, open_desk(settings, venues) as desk:
        said = desk.run("backfill", "equities", "--symbols", ",".join(symbols), "--end", str(end), "--json")
        yield desk, said


@pytest.fixture(scope="module")
def decade(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Said]]:
    frame = recorded / "yahoo" / "daily_2016_2026.parquet"
    with _backfilled(tmp_path_factory.mktemp("decade"), frame, datetime(2026, 3, 14, 14, tzinfo=UTC), END) as done:
        yield done


@pytest.fixture(scope="module")
def stored(decade: tuple[Desk, Said]) -> pd.DataFrame:
    """Every stored bar, with the product of its symbol's later splits."""
    bars = decade[0].warehouse.read("from equities.bars order by symbol, date").to_pandas()
    ratios = bars.iloc[::-1].groupby("symbol")["split_ratio"]
    bars["later"] = (ratios.cumprod() / bars["split_ratio"]).sort_index()
    return bars.set_index(["symbol", "date"])


@pytest.fixture(scope="module")
def sent(recorded: Path) -> pd.DataFrame:
    """The recorded frame under the platform's names."""
    frame = pd.read_parquet(recorded / "yahoo" / "daily_2016_2026.parquet")
    frame["symbol"] = frame["Symbol"].str.replace("-", ".")
    return frame.rename(columns={"Date": "date"}).set_index(["symbol", "date"]).sort_index()


def test_every_cell_is_settled_with_one_request_a_symbol(decade: tuple[Desk, Said], sent: pd.DataFrame) -> None:
    desk, said = decade
    assert said.code == 0, said
    assert desk.venues.requests()["/v8/finance/chart/{symbol}"] == 42
    outcomes = desk.warehouse.read(
        "select outcome, reason, count(*) as cells from ops.coverage group by all order by reason nulls first"
    ).to_pylist()
    assert outcomes == [
        {"outcome": "settled", "reason": None, "cells": len(sent)},
        {"outcome": "settled", "reason": "not_listed", "cells": 42 * 2515 - len(sent)},
    ]


def test_cells_before_the_first_bar_are_not_listed(decade: tuple[Desk, Said], sent: pd.DataFrame) -> None:
    coverage = decade[0].warehouse.coverage("equities", ["ABNB", "UBER", "PLTR"]).to_pandas()
    for symbol, cells in coverage.groupby("key"):
        first = sent.loc[symbol].index.min()
        assert set(cells[cells["reason"] == "not_listed"]["date"]) == {d for d in cells["date"] if d < first}


def test_as_traded_prices_give_back_the_recorded_ones(stored: pd.DataFrame, sent: pd.DataFrame) -> None:
    both = stored.join(sent)
    assert len(both) == len(sent)
    for ours, theirs in zip(PRICES, ["Open", "High", "Low", "Close"], strict=True):
        np.testing.assert_allclose(both[ours] / both["later"], both[theirs], rtol=1e-6)


def test_as_traded_volumes_give_back_the_recorded_ones(stored: pd.DataFrame, sent: pd.DataFrame) -> None:
    both = stored.join(sent)
    # Whole shares as traded: after a fractional or reverse split that is to half a share of that day.
    assert ((both["volume"] * both["later"] - both["Volume"]).abs() <= 0.5 * both["later"] + 1e-6).all()
    whole = both["later"] % 1 == 0
    assert (both["volume"] * both["later"])[whole].equals(both["Volume"][whole].astype(float))


def test_dividends_are_as_paid_on_the_day(stored: pd.DataFrame, sent: pd.DataFrame) -> None:
    both = stored.join(sent)
    np.testing.assert_allclose(both["dividend"], both["Dividends"] * both["later"], rtol=1e-6, atol=1e-12)
    apple = stored.loc["AAPL"]
    assert apple.loc[date(2020, 8, 7), "dividend"] == 0.82  # before the 4:1 split of 2020-08-31
    assert apple.loc[date(2020, 11, 6), "dividend"] == 0.205


def test_the_adjusted_view_agrees_with_yahoos_own(decade: tuple[Desk, Said], sent: pd.DataFrame) -> None:
    view = decade[0].warehouse.read("from equities.adjusted_bars").to_pandas().set_index(["symbol", "date"])
    both = view.join(sent)
    off = (both["adj_close"] / both["Adj Close"] - 1).abs()
    assert set(off[off > 1e-4].index) == {("AMCR", date(2017, 9, 1))}
    (warning,) = read_warnings(decade[0].warehouse, WarningChoice())
    assert (warning.id, round(warning.size, 4)) == ("adj_close:AMCR:2017-09-01", 1.0037)
    np.testing.assert_allclose(both["close"], both["Close"], rtol=1e-6)


def test_two_vintages_give_the_same_bars_where_only_splits_lie_between(
    stored: pd.DataFrame, recorded: Path, tmp_path: Path
) -> None:
    frame = recorded / "yahoo" / "daily_as_seen_2020-01-10.parquet"
    now = datetime(2020, 1, 11, 14, tzinfo=UTC)
    # The vintage's last bar was provisional when it was taken.
    with _backfilled(tmp_path, frame, now, date(2020, 1, 9)) as (desk, said):
        assert said.code == 0, said
        then = desk.warehouse.read("from equities.bars where date < '2020-01-09'").to_pandas()
    then = then.set_index(["symbol", "date"])
    for symbol in ("AAPL", "NVDA", "AMZN", "CMG"):
        today = stored.loc[symbol].reindex(then.loc[symbol].index)
        assert today[PRICES].equals(then.loc[symbol][PRICES])
        # Yahoo itself has revised the volume of a few days since.
        assert (today["volume"] != then.loc[symbol]["volume"]).sum() <= 5


def test_ge_differs_in_what_its_vintage_had_already_undone(
    stored: pd.DataFrame, recorded: Path, tmp_path: Path
) -> None:
    """GE's vintage has the 2019 spin-off's 1.04 in its prices but no event to undo it by, so earlier bars differ."""
    frame = recorded / "yahoo" / "daily_as_seen_2020-01-10.parquet"
    with _backfilled(tmp_path, frame, datetime(2020, 1, 11, 14, tzinfo=UTC), date(2020, 1, 8)) as (desk, _):
        then = desk.warehouse.read("from equities.bars where symbol = 'GE' order by date").to_pandas().set_index("date")
    ratio = stored.loc["GE"].reindex(then.index)["close"] / then["close"]
    before = then.index < date(2019, 2, 26)
    np.testing.assert_allclose(ratio[before], 1.04, rtol=1e-6)
    np.testing.assert_allclose(ratio[~before], 1.0, rtol=1e-6)
