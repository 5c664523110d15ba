"""Dagster's own SQLite storage is the oracle: the same runs give the same answers from the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEventType

from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage
from copilot_quant_pipeline_tests.ledger.answers import Answers
from copilot_quant_pipeline_tests.ledger.small_grid import BARS, DATES, MEMBERS, NIGHTS, rectangle, run

# Dagit still asks for planned events in this way.
pytestmark = pytest.mark.filterwarnings("ignore:Function `AssetMethods.fetch_planned:DeprecationWarning")

ALL = rectangle("2024-01-02|AAPL", "2024-01-05|MSFT")
Script = Callable[[dg.DagsterInstance], list[str]]


def one_of_each(instance: dg.DagsterInstance) -> list[str]:
    """A cell, a line, a rectangle, some cells failed, again, no partitions, a line of dates, all failed."""
    return [
        run(instance, BARS, cell="2024-01-02|AAPL"),
        run(instance, BARS, rectangle("2024-01-02|BRK.B", "2024-01-04|BRK.B")),
        run(instance, BARS, rectangle("2024-01-02|AAPL", "2024-01-03|BRK.B")),
        run(instance, BARS, ALL, fail=["2024-01-03|AAPL", "2024-01-05|MSFT"]),
        run(instance, BARS, rectangle("2024-01-03|AAPL", "2024-01-04|BRK.B"), noted=["2024-01-03|AAPL"]),
        run(instance, MEMBERS),
        run(instance, NIGHTS, rectangle(DATES[0], DATES[-1])),
        run(instance, BARS, rectangle("2024-01-04|MSFT", "2024-01-05|MSFT"), broken=["yes"]),
        run(instance, BARS, cell="2024-01-04|MSFT", fail=["2024-01-04|MSFT"]),
    ]


def wiped(instance: dg.DagsterInstance) -> list[str]:
    """All cells, wiped, then some of them anew."""
    first = run(instance, BARS, ALL)
    instance.wipe_assets([BARS])
    return [first, run(instance, BARS, rectangle("2024-01-02|AAPL", "2024-01-02|MSFT"))]


def wiped_to_the_last(instance: dg.DagsterInstance) -> list[str]:
    """All cells, then wiped."""
    runs = [run(instance, BARS, ALL), run(instance, MEMBERS)]
    instance.wipe_assets([BARS, MEMBERS])
    return runs


def deleted(instance: dg.DagsterInstance) -> list[str]:
    """A rectangle and one inside it, of which the first run is deleted."""
    gone = run(instance, BARS, ALL)
    left = run(instance, BARS, rectangle("2024-01-02|AAPL", "2024-01-03|AAPL"), fail=["2024-01-03|AAPL"])
    instance.delete_run(gone)
    return [left]


def changed_axis(instance: dg.DagsterInstance) -> list[str]:
    """A symbol leaves the axis and another comes while their cells are there."""
    first = run(instance, BARS, ALL)
    instance.delete_dynamic_partition("symbol", "MSFT")
    instance.add_dynamic_partitions("symbol", ["NVDA", "AAPL"])
    return [first, run(instance, BARS, rectangle("2024-01-02|AAPL", "2024-01-02|NVDA"))]


SCRIPTS = [one_of_each, wiped, wiped_to_the_last, deleted, changed_axis]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_same_runs_give_the_same_answers(
    script: Script, ledger: dg.DagsterInstance, stock: dg.DagsterInstance
) -> None:
    assert isinstance(ledger.event_log_storage, GridEventLogStorage)
    told, expected = (Answers(instance, script(instance)).all() for instance in (ledger, stock))
    assert told.keys() == expected.keys()
    for question, answer in expected.items():
        assert told[question] == answer, question


def test_what_is_asked_in_between_does_not_change_later_answers(
    ledger: dg.DagsterInstance, stock: dg.DagsterInstance
) -> None:
    def asked_twice(instance: dg.DagsterInstance) -> dict[str, Any]:
        runs = [run(instance, BARS, ALL, fail=["2024-01-03|AAPL"])]
        Answers(instance, runs).all()
        runs.append(run(instance, BARS, rectangle("2024-01-03|AAPL", "2024-01-04|AAPL")))
        return Answers(instance, runs).all()

    assert asked_twice(ledger) == asked_twice(stock)


def test_a_run_has_one_planned_event_in_its_own_log_and_one_a_cell_in_the_grid(
    ledger: dg.DagsterInstance,
) -> None:
    run_id = run(ledger, BARS, ALL)
    (planned,) = ledger.all_logs(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    subset = planned.get_dagster_event().partitions_subset
    assert subset is not None
    assert len(subset) == 12
    assert planned.get_dagster_event().partition is None
    in_grid = ledger.fetch_planned_materializations(BARS, limit=100).records
    assert sorted(record.partition_key or "" for record in in_grid) == sorted(subset.get_partition_keys())


def test_a_failed_cell_is_red_and_the_others_are_green(ledger: dg.DagsterInstance) -> None:
    run(ledger, BARS, ALL, fail=["2024-01-03|AAPL"])
    answers = Answers(ledger, []).all()
    green, red, in_progress = answers["status cache of bars"]
    assert red == ["2024-01-03|AAPL"]
    assert len(green) == 11
    assert in_progress == []
