"""Runs whose process ends with the `ui` that started them: which they are, and how they are ended.

Here: the runs of one code server, the mark that says that nothing was wrong with them.
Not here: runs whose process has died otherwise (instance.py), starting them again (Dagster's run retries).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.storage.tags import GRPC_INFO_TAG, HIDDEN_TAG_PREFIX

# On a run that ended because somebody ended `ui`, its own id: a retry carries the tags of the run before.
ENDED_TAG = f"{HIDDEN_TAG_PREFIX}copilot_quant/ended_with_ui"

ENDED_WITH_UI = "copilot-quant ui was ended while this run was under way."
SERVER_DIED = "The code server that had started this run died, and the run with it."
_UNDER_WAY = [DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


def runs_of_server(instance: DagsterInstance, socket: Path) -> set[str]:
    """The ids of the runs under way that the code server at `socket` has started."""
    runs = instance.get_runs(filters=RunsFilter(statuses=_UNDER_WAY))
    return {run.run_id for run in runs if _server_of(run) == str(socket)}


def runs_starting(instance: DagsterInstance) -> set[str]:
    """The ids of the runs that the daemon is having started; without a daemon none of them ever will be.

    Such a run does not say yet where, or still says where the run was that it is a retry of.
    """
    return {run.run_id for run in instance.get_runs(filters=RunsFilter(statuses=[DagsterRunStatus.STARTING]))}


def end_runs(instance: DagsterInstance, run_ids: Collection[str], why: str) -> None:
    """Have runs whose processes are gone fail, so that Dagster starts them again, and free their slots.

    A run that somebody was ending already is canceled.
    """
    for run_id in run_ids:
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            continue
        if why == ENDED_WITH_UI:
            instance.add_run_tags(run_id, {ENDED_TAG: run_id})
        if run.status == DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, why)
        else:
            instance.report_run_failed(run, why)
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def ended_with_ui(run: DagsterRun) -> bool:
    """Whether a run ended only because somebody ended `ui`."""
    return run.tags.get(ENDED_TAG) == run.run_id


def _server_of(run: DagsterRun) -> str | None:
    told = run.tags.get(GRPC_INFO_TAG)
    return json.loads(told).get("socket") if told else None
