"""Claims about failed runs: one incident per asset, ended by a later run of it, and none is missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.test_utils import freeze_time

from copilot_quant_pipeline.alerts.dagster_problems import find_finished_runs
from copilot_quant_pipeline.alerts.run_problems import FinishedRun, RunFailure, note_runs, run_trouble
from copilot_quant_pipeline.alerts.store import AlertState
from copilot_quant_pipeline_tests.conftest import NOW

FAILED = FinishedRun("run1", NOW, failed=(("a", "Malformed: no table"),))
AGAIN = FinishedRun("run2", NOW + timedelta(hours=1), failed=(("a", "Unavailable: 503"),))
SETTLED = FinishedRun("run3", NOW + timedelta(hours=2), settled=("a", "b"))


def test_several_failed_runs_of_an_asset_are_one_failure() -> None:
    failures = note_runs(note_runs({}, [FAILED]), [AGAIN])
    assert failures == {"a": RunFailure("a", "run2", "Unavailable: 503", NOW, AGAIN.ended_at, runs=2)}
    trouble = run_trouble(failures["a"])
    assert trouble.examples == ("run run2, the last of 2 runs in a row: Unavailable: 503",)
    assert trouble.page == "/runs/run2"


def test_a_later_run_that_settles_the_asset_ends_it() -> None:
    assert note_runs(note_runs({}, [FAILED]), [SETTLED]) == {}


def test_a_failure_that_was_over_before_anybody_looked_is_told_all_the_same() -> None:
    failures = note_runs({}, [FAILED, SETTLED])
    assert failures["a"].over
    assert note_runs(failures, []) == {}


def test_other_assets_end_nothing() -> None:
    failures = note_runs({}, [FAILED])
    assert note_runs(failures, [FinishedRun("run4", NOW, settled=("b",))]) == failures


def test_a_run_that_dagster_starts_again_is_told_so() -> None:
    failures = note_runs({}, [FinishedRun("run1", NOW, failed=(("a", "the process died"),), retried=True)])
    assert run_trouble(failures["a"]).next_step == "Dagster starts the run again by itself."


def test_the_first_look_goes_back_a_day_by_the_clock_that_runs_end_by() -> None:
    now = datetime(2031, 3, 29, 14, tzinfo=UTC)  # whatever instant the platform works at
    with dg.DagsterInstance.ephemeral() as instance:
        for hours in (25, 23):
            with freeze_time(now - timedelta(hours=hours)):
                run = instance.create_run_for_job(dg.define_asset_job("j").resolve(asset_graph=_one_asset()))
                instance.report_run_failed(run)
        with freeze_time(now):
            finished, until, at = find_finished_runs(instance, AlertState(), ["a"])
    assert [one.run_id for one in finished] == [run.run_id] == list(at)
    assert until == now - timedelta(hours=23)


def _one_asset() -> dg.AssetGraph:
    @dg.asset
    def a() -> None: ...

    return dg.Definitions([a]).resolve_asset_graph()
