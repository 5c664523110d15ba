"""Claims about runs that end with the `ui` that started them: which they are, and what becomes of each."""

from __future__ import annotations

import json
from pathlib import Path

from dagster import DagsterRunStatus
from dagster._core.storage.tags import GRPC_INFO_TAG, WILL_RETRY_TAG
from dagster._core.test_utils import create_run_for_test

from copilot_quant_pipeline.ledger.endings import (
    ENDED_WITH_UI,
    SERVER_DIED,
    end_runs,
    ended_with_ui,
    runs_of_server,
    runs_starting,
)
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.settings import Settings

HERE, THERE = (json.dumps({"host": "localhost", "socket": f"/tmp/{name}/code"}) for name in ("here", "there"))  # noqa: S108


def test_each_ends_as_it_was_and_only_those_of_the_server_do(unused: Settings) -> None:
    with open_instance(unused.dagster_home) as instance:

        def run(status: DagsterRunStatus, told: str) -> str:
            return create_run_for_test(instance, status=status, tags={GRPC_INFO_TAG: told}).run_id

        started, canceling = run(DagsterRunStatus.STARTED, HERE), run(DagsterRunStatus.CANCELING, HERE)
        over, elsewhere = run(DagsterRunStatus.SUCCESS, HERE), run(DagsterRunStatus.STARTED, THERE)
        starting, command = run(DagsterRunStatus.STARTING, THERE), create_run_for_test(instance).run_id
        of_server = runs_of_server(instance, Path("/tmp/here/code"))  # noqa: S108
        assert (of_server, runs_starting(instance)) == ({started, canceling}, {starting})
        end_runs(instance, of_server | {starting}, ENDED_WITH_UI)
        end_runs(instance, {elsewhere}, SERVER_DIED)
        runs = {one.run_id: one for one in instance.get_runs()}
        assert {run_id: one.status.value for run_id, one in runs.items()} == {
            started: "FAILURE",
            canceling: "CANCELED",
            starting: "FAILURE",
            elsewhere: "FAILURE",
            over: "SUCCESS",
            command: "NOT_STARTED",
        }
        # Nothing is wrong with a run that ended with `ui`, but with one that its code server took with it.
        assert runs[started].tags[WILL_RETRY_TAG] == "true"
        assert [ended_with_ui(runs[one]) for one in (started, starting, elsewhere)] == [True, True, False]
        # A retry carries the tags of the run that it is one of, and fails for reasons of its own.
        assert not ended_with_ui(create_run_for_test(instance, tags=dict(runs[started].tags)))
