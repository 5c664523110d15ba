"""The smallest warehouse world: cells and bars from a few words."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from copilot_quant_pipeline.warehouse.fetch_result import CELLS
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline.warehouse.warehouse import SettleResult, Warehouse

MON, TUE, WED = date(2024, 3, 25), date(2024, 3, 26), date(2024, 3, 27)
FETCHED = datetime(2024, 3, 28, 22, tzinfo=UTC)


def cell(day: date, key: str, outcome: str = "settled", reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"date": day, "key": key, "outcome": outcome, "reason": reason, "fetched_at": FETCHED, **more}


def bar(day: date, symbol: str, close: float = 100.0, **more: Any) -> dict[str, Any]:
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    actions = {"volume": 1000, "dividend": 0.0, "split_ratio": 1.0}
    notes = {"confirmed_at": FETCHED, "quality": "ok", "source": "yahoo", "first_seen_at": FETCHED}
    return {"date": day, "symbol": symbol, **prices, **actions, **notes, **more}


def cells(*given: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(given), schema=CELLS)


def bars(*given: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(given), schema=BARS.arrow)


def settle_bars(warehouse: Warehouse, *given: dict[str, Any], run_id: str = "run") -> SettleResult:
    asked = cells(*(cell(row["date"], row["symbol"]) for row in given))
    return warehouse.settle(BARS, asked, bars(*given), run_id=run_id)


def stored(warehouse: Warehouse, columns: Iterable[str] = ("date", "symbol", "close")) -> list[tuple[Any, ...]]:
    rows = warehouse.read("from equities.bars order by symbol, date").select(list(columns)).to_pylist()
    return [tuple(row.values()) for row in rows]
