from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import MON, TUE, bar, bars, cell, cells

Cell = tuple[date, str]

# What a venue may say of one cell: a bar with this close, a reason for none, or a failure.
answers = st.one_of(
    st.sampled_from([100.0, 101.0, 102.0]), st.sampled_from(["delisted", "no_trade"]), st.just("unavailable")
)
harvests = st.dictionaries(st.sampled_from([(day, key) for day in (MON, TUE) for key in "AB"]), answers)


class Model:
    """What the warehouse should hold, kept as plainly as possible."""

    def __init__(self) -> None:
        self.rows: dict[Cell, float] = {}
        self.coverage: dict[Cell, tuple[str, int, str | None, int]] = {}
        self.restated: list[tuple[Cell, float, float]] = []

    def settle(self, harvest: dict[Cell, float | str]) -> None:
        for place, answer in harvest.items():
            if isinstance(answer, float):
                self._store(place, answer)
                self.coverage[place] = ("settled", 1, None, 0)
            elif answer == "unavailable":
                self._fail(place, answer)
            elif place in self.rows:
                self._fail(place, "vanished_at_source")
            else:
                self.coverage[place] = ("settled", 0, answer, 0)

    def _store(self, place: Cell, close: float) -> None:
        if self.rows.get(place, close) != close:
            self.restated.append((place, self.rows[place], close))
        self.rows[place] = close

    def _fail(self, place: Cell, reason: str) -> None:
        attempts = self.coverage[place][3] if place in self.coverage else 0
        self.coverage[place] = ("failed", int(place in self.rows), reason, attempts + 1)


@settings(max_examples=20, deadline=None)
@given(st.lists(harvests, max_size=4))
def test_any_sequence_of_settles_leaves_what_the_model_holds(sequence: list[dict[Cell, float | str]]) -> None:
    with TemporaryDirectory() as home:
        warehouse, model = Warehouse(Path(home) / "warehouse.duckdb"), Model()
        for number, harvest in enumerate(sequence):
            _settle(warehouse, harvest, f"run {number}")
            model.settle(harvest)
        assert sorted(_rows(warehouse)) == sorted((*place, close) for place, close in model.rows.items())
        assert dict(_coverage(warehouse)) == model.coverage
        assert sorted(_restated(warehouse)) == sorted(
            (*place, str(old), str(new)) for place, old, new in model.restated
        )


def _settle(warehouse: Warehouse, harvest: dict[Cell, float | str], run_id: str) -> None:
    asked, rows = [], []
    for (day, key), answer in harvest.items():
        if isinstance(answer, float):
            asked.append(cell(day, key))
            rows.append({**bar(day, key), "close": answer})
        else:
            asked.append(cell(day, key, "failed" if answer == "unavailable" else "settled", answer))
    warehouse.settle(BARS, cells(*asked), bars(*rows), run_id=run_id)


def _rows(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    rows = warehouse.read("select date, symbol, close from equities.bars").to_pylist()
    return [tuple(row.values()) for row in rows]


def _coverage(warehouse: Warehouse) -> Iterator[tuple[Cell, tuple[str, int, str | None, int]]]:
    rows = warehouse.coverage("equities").to_pylist()
    assert len({(row["date"], row["key"]) for row in rows}) == len(rows)
    for row in rows:
        yield (row["date"], row["key"]), (row["outcome"], row["rows"], row["reason"], row["attempts"])


def _restated(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    rows = warehouse.read("select date, key, old, new from ops.restatements").to_pylist()
    return [tuple(row.values()) for row in rows]
