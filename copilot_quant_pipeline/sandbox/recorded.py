"""Recorded Yahoo frames, served exactly as they were recorded.

Here: reading Parquet frames with the columns Symbol, Date, Open, High, Low, Close, Adj Close, Volume and,
where there are any, Dividends and Stock Splits; date is the New York session, prices are split-adjusted
float32.
Not here: the wire format.

A frame does not say when a symbol was first traded. A first bar later than the frame's first date is taken
for it; otherwise EARLIER_THAN_RECORDED stands for "some time before the recording".
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.sandbox.hours import open_seconds
from copilot_quant_pipeline.sandbox.series import Series, from_columns, widen

COLUMNS = {
    "open": "Open",
    "high": "High",
    "low": "Low",
    "close": "Close",
    "adjclose": "Adj Close",
    "volume": "Volume",
}
EARLIER_THAN_RECORDED = date(1990, 1, 2)


def read_recorded(source: Path) -> dict[str, Series]:
    """The series of every symbol in a frame, or in all the frames of a folder.

    Raises:
        UserError: There is no frame, or two frames of the folder hold the same symbol.
    """
    frames = _frames(source)
    if not frames:
        raise UserError(f"{source} holds no recorded frame; name a Parquet file or a folder with Yahoo's columns.")
    found: dict[str, tuple[Path, Series]] = {}
    for path in frames:
        for symbol, series in _read_frame(path).items():
            if symbol in found:
                raise UserError(f"{found[symbol][0].name} and {path.name} both hold {symbol}; name one of the files.")
            found[symbol] = (path, series)
    return {symbol: series for symbol, (_, series) in found.items()}


def _frames(source: Path) -> list[Path]:
    candidates = sorted(source.glob("*.parquet")) if source.is_dir() else [source] if source.is_file() else []
    return [path for path in candidates if _is_frame(path)]


def _is_frame(path: Path) -> bool:
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(path).names
    except pyarrow.ArrowInvalid:
        return False
    return {"Symbol", "Date", *COLUMNS.values()} <= set(names)


def _read_frame(path: Path) -> dict[str, Series]:
    import pandas as pd

    frame = pd.read_parquet(path)
    frame["Date"] = pd.to_datetime(frame["Date"])
    starts = frame["Date"].min().date()
    ordered = frame.sort_values(["Symbol", "Date"])
    return {str(symbol): _series(str(symbol), rows, starts) for symbol, rows in ordered.groupby("Symbol")}


def _series(symbol: str, rows: Any, starts: date) -> Series:
    days = rows["Date"].to_numpy().astype("datetime64[D]")
    first: date = days[0].item()
    columns = {name: widen(rows[column].to_numpy()) for name, column in COLUMNS.items() if name != "volume"}
    columns["volume"] = rows["Volume"].to_numpy(dtype=np.float64)
    nothing = np.zeros(len(days))
    actions = tuple(
        rows[name].to_numpy(dtype=np.float64) if name in rows else nothing for name in ("Dividends", "Stock Splits")
    )
    first_trade = open_seconds(first if first > starts else EARLIER_THAN_RECORDED)
    return from_columns(symbol, first_trade, days, columns, (actions[0], actions[1]))
