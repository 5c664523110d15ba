"""What has to change of the cells of a run that ended without an account of them, planned on values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.grid.axes import partition_key
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.ledger.accounts import Owed
from copilot_quant_pipeline.upkeep.accounts import plan_settlement

RUN, BEFORE = "the-run", "a-run-before"
KEYS = [partition_key(Cell(date(2024, 1, 2), name)) for name in ("A", "B|C", "D")]
ROWS = st.none() | st.fixed_dictionaries(
    {
        "outcome": st.sampled_from(["settled", "failed"]),
        "reason": st.none(),
        "run_id": st.sampled_from([RUN, BEFORE]),
    }
)


def shown_before(row: Mapping[str, Any] | None) -> str:
    """What the events before the run show of a cell that it did not get to."""
    return "blank" if row is None else {"settled": "green", "failed": "red"}[row["outcome"]]


@given(st.fixed_dictionaries(dict.fromkeys(KEYS, ROWS)), st.booleans(), st.data())
def test_each_cell_is_shown_as_coverage_has_it(
    rows: dict[str, Mapping[str, Any] | None], was_interrupted: bool, data: st.DataObject
) -> None:
    before = {
        key: data.draw(st.sampled_from(["green", "red", "blank"]))
        if row and row["run_id"] == RUN
        else shown_before(row)
        for key, row in rows.items()
    }
    owed = [Owed(key, n, before[key] == "green") for n, key in enumerate(KEYS)]
    coverage = {key: row for key, row in rows.items() if row}
    plan = plan_settlement(owed, coverage, RUN, was_interrupted=was_interrupted)
    painted = {partition_key(cell) for cells in plan.paint.values() for cell in cells}
    assert not painted & plan.forget
    for key, row in rows.items():
        # An interrupted run has no cell red, and leaves green ones green.
        of_run = ("green" if before[key] == "green" else "blank") if was_interrupted and not plan.failed else "red"
        shown = "green" if key in painted else before[key] if key in plan.forget else of_run
        assert shown == shown_before(row), (key, row)
    assert plan.failed == (
        was_interrupted and any(row["outcome"] == "failed" and row["run_id"] == RUN for row in coverage.values())
    )


def test_a_cell_that_others_settled_is_painted_where_no_event_shows_it() -> None:
    row = {"outcome": "settled", "reason": "no_trade", "run_id": BEFORE}
    plan = plan_settlement([Owed(KEYS[0], 1, was_green=False)], {KEYS[0]: row}, RUN, was_interrupted=False)
    ((origin, cells),) = plan.paint.items()
    assert (origin, list(cells)) == ((BEFORE, "no_trade"), [Cell(date(2024, 1, 2), "A")])
