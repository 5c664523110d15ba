"""Claims about texts in Dagster's files: what a run, an event, a tag, a heartbeat or a tick says holds no secret."""

from __future__ import annotations

import time

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorType, TickData, TickStatus
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._core.utils import make_new_run_id
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo

from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.redaction import hide
from copilot_quant_pipeline.settings import Settings

SECRET = "pa55-w0rd"  # noqa: S105


def _tell_everywhere(instance: dg.DagsterInstance) -> str:
    """Have each of Dagster's tables told a secret; the run that was."""
    error = SerializableErrorInfo(f"no {SECRET}", [f"line of {SECRET}\x1b[2J"], "ValueError")
    run = instance.add_run(
        dg.DagsterRun(job_name="job", run_id=make_new_run_id(), tags={"said": SECRET}, status=DagsterRunStatus.STARTED)
    )
    instance.report_engine_event(f"engine {SECRET}", run)
    instance.report_run_failed(run, f"failed {SECRET}")
    instance.add_run_tags(run.run_id, {"more": f"x {SECRET}"})
    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "SENSOR", "me", [error]))
    tick = TickData("origin", "heal", InstigatorType.SENSOR, TickStatus.FAILURE, time.time(), error=error)
    instance.create_tick(tick)
    return str(run.run_id)


def test_no_text_comes_into_dagsters_files_with_a_secret(unused: Settings) -> None:
    hide([SECRET])
    with open_instance(unused.dagster_home) as instance:
        run_id = _tell_everywhere(instance)
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert (run.tags["said"], run.tags["more"]) == ("***", "x ***")
        messages = [entry.message for entry in instance.all_logs(run_id)]
        assert any("engine ***" in message for message in messages)
        (tick,) = instance.get_ticks("origin", "origin")[:1] or [None]
        assert tick is None or (tick.error and tick.error.message) == "no ***"
    for file in unused.home.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert SECRET.encode() not in content, file
        assert b"\\u001b" not in content, file
