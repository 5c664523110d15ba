"""What has to change for a grid to be true, planned on values."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ledger import SECONDS_TO_RECONCILE, measure_reconcile
from copilot_quant_pipeline.grid.axes import partition_key
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.ledger.grid_status import GridStatus
from copilot_quant_pipeline.upkeep.reconcile import Origin, plan_repaint

CELLS = st.builds(Cell, st.integers(1, 4).map(lambda day: date(2024, 1, day)), st.sampled_from(["A", "B|C", "D"]))
ORIGINS = st.builds(Origin, st.sampled_from(["r1", "r2"]), st.sampled_from([None, "no_trade"]))
KEYS = st.frozensets(CELLS.map(partition_key))


@given(st.dictionaries(CELLS, ORIGINS), KEYS, KEYS, KEYS, st.sets(st.sampled_from(["A", "B|C", "D"])))
def test_settled_cells_are_painted_and_others_wiped_exactly_once(
    settled: dict[Cell, Origin], green: frozenset[str], red: frozenset[str], under_way: frozenset[str], axis: set[str]
) -> None:
    picture = GridStatus(green - red, red, under_way)
    by_key = {partition_key(cell): (cell, origin) for cell, origin in settled.items()}
    plan = plan_repaint(by_key, picture, axis)
    painted = [partition_key(cell) for cells in plan.paint.values() for cell in cells]
    assert len(painted) == len(set(painted))
    assert all(settled[cell] == origin for origin, cells in plan.paint.items() for cell in cells)
    changeable = {key for key in by_key.keys() | green | red if key not in under_way}
    true = (picture.green | set(painted)) - set(plan.wipe)
    on_axis = {key for key in changeable if key.partition("|")[2] in axis}
    assert true & on_axis == on_axis & by_key.keys()
    assert not under_way.intersection(painted, plan.wipe)
    assert not under_way & {*painted, *plan.wipe}
    assert len(plan) == len(painted) + len(plan.wipe)


def test_the_benchmark_gives_a_lost_home_every_cell_back() -> None:
    first, again = measure_reconcile(sessions=2)
    assert (first.what, first.target) == ("reconcile 1,000 cells", SECONDS_TO_RECONCILE / 500)
    assert min(first.value, again.value) > 0
