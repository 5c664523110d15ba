from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline_tests.sandbox.conftest import NOW, YahooClient, chart, result, seconds

COLUMNS = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Volume": "volume"}


@pytest.fixture
def frame(recorded: Path) -> Path:
    return recorded / "yahoo/daily_2016_2026.parquet"


@pytest.fixture
def sandbox(frame: Path) -> Iterator[Sandbox]:
    with Sandbox(recorded=frame, now=NOW) as running:
        yield running


def test_every_recorded_value_is_served_exactly(sandbox: Sandbox, frame: Path) -> None:
    rows = pd.read_parquet(frame)
    for symbol, recorded_rows in rows.groupby("Symbol"):
        found = result(chart(sandbox, str(symbol)))
        quote, adjusted = found["indicators"]["quote"][0], found["indicators"]["adjclose"][0]["adjclose"]
        for column, name in COLUMNS.items():
            assert np.array_equal(quote[name], recorded_rows[column].astype(float)), (symbol, column)
        assert np.array_equal(adjusted, recorded_rows["Adj Close"].astype(float)), symbol
        splits = [e["numerator"] / e["denominator"] for e in found.get("events", {}).get("splits", {}).values()]
        assert splits == recorded_rows["Stock Splits"][lambda ratio: ratio != 0].tolist(), symbol
        paid = [e["amount"] for e in found.get("events", {}).get("dividends", {}).values()]
        assert paid == recorded_rows["Dividends"][lambda amount: amount != 0].tolist(), symbol


@pytest.mark.parametrize("symbol", ["AMCR", "BF-B", "DD", "NVDA", "PLTR"])
def test_the_real_client_gives_the_recorded_frame_back(
    sandbox: Sandbox, yahoo: YahooClient, frame: Path, symbol: str
) -> None:
    rows = pd.read_parquet(frame).query("Symbol == @symbol")
    history = yahoo.history(symbol)
    assert [stamp.date() for stamp in history.index] == rows["Date"].tolist()
    for column in [*COLUMNS, "Adj Close", "Dividends", "Stock Splits"]:
        np.testing.assert_array_equal(history[column], rows[column].astype(float), err_msg=column)


def test_a_symbol_that_starts_late_in_the_frame_is_taken_to_list_then(sandbox: Sandbox) -> None:
    assert result(chart(sandbox, "ABNB"))["meta"]["firstTradeDate"] == seconds("2020-12-10T14:30:00")
    assert result(chart(sandbox, "AAPL"))["meta"]["firstTradeDate"] < seconds("2016-03-14")
    before = {"period1": seconds("2016-01-04"), "period2": seconds("2016-03-01")}
    assert chart(sandbox, "ABNB", **before).status == 400
    assert result(chart(sandbox, "AAPL", **before))["indicators"] == {"quote": [{}]}
    assert chart(sandbox, "NOPE").status == 404


def test_todays_recorded_bar_is_stamped_with_the_last_trade(frame: Path) -> None:
    stamps = {}
    with Sandbox(recorded=frame, now=NOW) as sandbox:
        for at in ("2026-03-13T16:00:00", "2026-03-13T23:00:00", "2026-03-14T12:00:00"):
            sandbox.pin_clock(datetime.fromisoformat(f"{at}+00:00"))
            stamps[at] = result(chart(sandbox, "AAPL", range="5d"))["timestamp"][-1]
    assert stamps == {
        "2026-03-13T16:00:00": seconds("2026-03-13T16:00:00"),
        "2026-03-13T23:00:00": seconds("2026-03-13T20:00:01"),
        "2026-03-14T12:00:00": seconds("2026-03-13T13:30:00"),
    }


def test_frames_that_overlap_must_be_named(recorded: Path) -> None:
    with pytest.raises(UserError, match="both hold AAPL; name one of the files"):
        Sandbox(recorded=recorded / "yahoo")


def test_frames_of_different_symbols_are_merged(frame: Path, tmp_path: Path) -> None:
    rows = pd.read_parquet(frame)
    for symbol in ("KO", "PEP"):
        rows[rows["Symbol"] == symbol].to_parquet(tmp_path / f"{symbol}.parquet")
    pd.DataFrame({"unrelated": [1]}).to_parquet(tmp_path / "other.parquet")
    with Sandbox(recorded=tmp_path, now=NOW) as sandbox:
        assert [chart(sandbox, symbol).status for symbol in ("KO", "PEP", "AAPL")] == [200, 200, 404]


def test_an_older_vintage_without_actions_has_none(recorded: Path) -> None:
    with Sandbox(recorded=recorded / "yahoo/daily_as_seen_2020-01-10.parquet", now=NOW) as sandbox:
        assert "events" not in result(chart(sandbox, "AAPL"))


@pytest.mark.parametrize("name", ["nowhere", "empty", "broken.parquet"])
def test_a_place_without_frames_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="holds no recorded frame"):
        Sandbox(recorded=tmp_path / name)
