from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from copilot_quant_pipeline.warehouse.fetch_result import WINDOWS, SeenAgain
from copilot_quant_pipeline.warehouse.quarantine import ProposalChoice, accept, read_proposals, reject
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import FETCHED, MON, TUE, bar, bars, cell, cells

Cell = tuple[date, str]

# What a venue may say of one cell: a bar with this close, a reason for none, or a failure. 150 is not believed of a bar
# stored as one of the others, nor they of it.
closes = st.sampled_from([100.0, 101.0, 150.0])
places = st.sampled_from([(day, key) for day in (MON, TUE) for key in "AB"])
answers = st.one_of(closes, st.sampled_from(["delisted", "no_trade"]), st.just("unavailable"))
# What was asked for, what came besides, and what a person says of what waits after that.
steps = st.tuples(
    st.dictionaries(places, answers), st.dictionaries(places, closes), st.sampled_from(["accept", "reject", None])
)
Step = tuple[dict[Cell, float | str], dict[Cell, float], str | None]


class Model:
    """What the warehouse should hold, kept as plainly as possible."""

    def __init__(self) -> None:
        self.rows: dict[Cell, float] = {}
        self.coverage: dict[Cell, tuple[str, int, str | None, int]] = {}
        self.restated: list[tuple[Cell, float, float]] = []
        self.waiting: dict[Cell, float] = {}
        self.rejected: set[tuple[Cell, float]] = set()

    def settle(self, harvest: dict[Cell, float | str], beside: dict[Cell, float]) -> None:
        # A green cell without rows is settled anew by an answer that has some.
        harvest = {place: close for place, close in beside.items() if self._is_green_and_empty(place)} | harvest
        seen = {place: close for place, close in beside.items() if place in self.rows and place not in harvest}
        told = seen | {place: answer for place, answer in harvest.items() if isinstance(answer, float)}
        changed = [key for (day, key), close in told.items() if self._is_change((day, key), close)]
        # Two of a symbol's bars are more than a twentieth of them: a symbol has two at most.
        many = {key for key in changed if changed.count(key) > 1}
        for place, close in seen.items():
            self._store(place, close, many)
        for place, answer in harvest.items():
            if isinstance(answer, float):
                self._store(place, answer, many)
                self.coverage[place] = ("settled", 1, None, 0)
            elif answer == "unavailable":
                self._fail(place, answer)
            elif place in self.rows:
                self._fail(place, "vanished_at_source")
            else:
                self.coverage[place] = ("settled", 0, answer, 0)

    def _is_green_and_empty(self, place: Cell) -> bool:
        return self.coverage.get(place, ("", 1))[:2] == ("settled", 0)

    def _is_change(self, place: Cell, close: float) -> bool:
        return self.rows.get(place, close) != close and (place, close) not in self.rejected

    def _store(self, place: Cell, close: float, many: set[str]) -> None:
        old = self.rows.get(place, close)
        waited = self.waiting.pop(place, None)
        if (place, close) in self.rejected:
            return
        if close != old and (abs(close - old) > 0.2 * old or place[1] in many or close == waited):
            self.waiting[place] = close
            return
        if close != old:
            self.restated.append((place, old, close))
        self.rows[place] = close

    def decide(self, decision: str | None) -> None:
        for place, close in self.waiting.items() if decision else ():
            if decision == "accept":
                self.restated.append((place, self.rows[place], close))
                self.rows[place] = close
            else:
                self.rejected.add((place, close))
        if decision:
            self.waiting = {}

    def _fail(self, place: Cell, reason: str) -> None:
        attempts = self.coverage[place][3] if place in self.coverage else 0
        self.coverage[place] = ("failed", int(place in self.rows), reason, attempts + 1)


@settings(max_examples=15, deadline=None)
@given(st.lists(steps, max_size=4))
def test_any_sequence_of_settles_leaves_what_the_model_holds(sequence: list[Step]) -> None:
    with TemporaryDirectory() as home:
        warehouse, model = Warehouse(Path(home) / "warehouse.duckdb"), Model()
        for number, (harvest, beside, decision) in enumerate(sequence):
            _settle(warehouse, harvest, beside, f"run {number}")
            model.settle(harvest, beside)
            _decide(warehouse, decision)
            model.decide(decision)
        assert sorted(_rows(warehouse)) == sorted((*place, close) for place, close in model.rows.items())
        assert dict(_coverage(warehouse)) == model.coverage
        assert sorted(_restated(warehouse)) == sorted(
            (*place, str(old), str(new)) for place, old, new in model.restated
        )
        assert _waiting(warehouse) == model.waiting


def _settle(warehouse: Warehouse, harvest: dict[Cell, float | str], beside: dict[Cell, float], run_id: str) -> None:
    asked, rows = [], []
    for (day, key), answer in harvest.items():
        if isinstance(answer, float):
            asked.append(cell(day, key))
            rows.append({**bar(day, key), "close": answer})
        else:
            asked.append(cell(day, key, "failed" if answer == "unavailable" else "settled", answer))
    others = [{**bar(*place), "close": close} for place, close in beside.items() if place not in harvest]
    windows = [{"key": key, "start": MON, "end": TUE, "fetched_at": FETCHED} for key in "AB"]
    seen = SeenAgain(bars(*others), pa.Table.from_pylist(windows, schema=WINDOWS))
    warehouse.settle(BARS, cells(*asked), bars(*rows), run_id=run_id, seen_again=seen)


def _decide(warehouse: Warehouse, decision: str | None) -> None:
    if decision:
        {"accept": accept, "reject": reject}[decision](warehouse, ProposalChoice(), now=FETCHED)


def _waiting(warehouse: Warehouse) -> dict[Cell, float]:
    found = read_proposals(warehouse, ProposalChoice())
    assert len({(proposal.date, proposal.key) for proposal in found}) == len(found)
    return {(proposal.date, proposal.key): proposal.changes["close"][1] for proposal in found}


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
