"""A venue of one symbol whose mistakes are laid down: what it tells of splits, and what it has divided by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.equities.bars import actions_told, bars_beside, settle_span
from copilot_quant_pipeline.equities.chart import BARS_AS_SENT, VendorBars
from copilot_quant_pipeline.grid.cells import Span
from copilot_quant_pipeline.warehouse.fetch_result import CELLS, WINDOWS, SeenAgain
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline.warehouse.warehouse import SettleResult, Warehouse

SESSIONS = sessions_in_range(date(2023, 9, 1), date(2024, 6, 28))


@dataclass(frozen=True)
class Venue:
    """`traded` is the close of each session, `paid` dividends as paid; `told` splits, `divided` those applied.

    Without `divided` the history is divided by what is told, without `multiplied` volumes are multiplied by the same.
    `off` multiplies what a session shows of its price; `lost` sessions have no bar.
    """

    traded: dict[date, float] = field(default_factory=lambda: dict.fromkeys(SESSIONS, 100.0))
    paid: dict[date, float] = field(default_factory=dict)
    told: dict[date, float] = field(default_factory=dict)
    divided: dict[date, float] | None = None
    multiplied: dict[date, float] | None = None
    volume: float = 1e6
    off: dict[date, float] = field(default_factory=dict)
    lost: frozenset[date] = frozenset()
    symbol: str = "A"

    def but(self, **changes: Any) -> Venue:
        return replace(self, **changes)

    def answer(self, on: date, start: date = SESSIONS[0]) -> VendorBars:
        """The evening of session `on`, from `start` on."""
        divided = self.told if self.divided is None else self.divided
        multiplied = divided if self.multiplied is None else self.multiplied
        events = {*self.told, *self.paid}
        days = [
            day
            for day in sorted({*self.traded, *events})
            if start <= day <= on and (day in self.traded or day in events)
        ]
        later, more = (
            np.array([math.prod(ratio for day, ratio in splits.items() if one < day <= on) for one in days])
            for splits in (divided, multiplied)
        )
        shown = np.array(
            [
                math.nan if day in self.lost or day not in self.traded else self.traded[day] * self.off.get(day, 1.0)
                for day in days
            ]
        )
        prices = (shown / later).astype(np.float32).astype(np.float64)
        dividends = np.round(np.array([self.paid.get(day, 0.0) for day in days]) / later, 6)
        bars = pa.table(
            {
                "date": pa.array(days, pa.date32()),
                **dict.fromkeys(("open", "high", "low", "close", "adj_close"), pa.array(prices)),
                "volume": np.where(np.isnan(shown), np.nan, np.rint(self.volume * more)),
                "dividend": dividends,
                "split_ratio": np.array([self.told.get(day, 1.0) if day <= on else 1.0 for day in days]),
            },
            schema=BARS_AS_SENT,
        )
        return VendorBars(self.symbol, bars, None, start, on, datetime(on.year, on.month, on.day, 22, tzinfo=UTC))

    def settle(
        self, warehouse: Warehouse, on: date, *asked: date, start: date = SESSIONS[0], kept: bool = False
    ) -> SettleResult:
        """What an answer of session `on` makes of the `asked` sessions; a `kept` one tells of nothing beside them."""
        answer = self.answer(on, start)
        dates = tuple(asked)
        piece = settle_span(Span(self.symbol, dates), answer, now=answer.fetched_at, source="yahoo") if dates else None
        window = {"key": self.symbol, "start": start, "end": on, "fetched_at": answer.fetched_at}
        seen = SeenAgain(bars_beside(answer, dates, source="yahoo"), pa.Table.from_pylist([window], schema=WINDOWS))
        return warehouse.settle(
            BARS,
            piece.cells if piece else CELLS.empty_table(),
            piece.rows if piece else BARS.arrow.empty_table(),
            run_id=f"run of {on}",
            actions=piece.actions if piece else actions_told(answer, source="yahoo"),
            seen_again=None if kept else seen,
        )


def adjusted(warehouse: Warehouse, symbol: str = "A") -> dict[date, float]:
    rows = warehouse.read("select date, adj_close from equities.adjusted_bars where symbol = $s", {"s": symbol})
    return {row["date"]: row["adj_close"] for row in rows.to_pylist()}


def traded(warehouse: Warehouse, symbol: str = "A") -> dict[date, tuple[float, int, float, float]]:
    rows = warehouse.read(
        "select date, close, volume, dividend, split_ratio from equities.bars where symbol = $s", {"s": symbol}
    )
    return {row.pop("date"): tuple(row.values()) for row in rows.to_pylist()}


def actions(warehouse: Warehouse) -> dict[date, tuple[float, float]]:
    rows = warehouse.read("select date, dividend, split_ratio from equities.actions")
    return {row["date"]: (row["dividend"], row["split_ratio"]) for row in rows.to_pylist()}
