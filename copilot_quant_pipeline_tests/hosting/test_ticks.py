"""Claims about ticks: silence is measured awake, no clock can make it, and the heartbeat keeps its address."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorType, TickData, TickStatus
from dagster_shared.error import SerializableErrorInfo
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.hosting.ticks import Heartbeat, Silence, listened, newest_good_tick
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.alerts.conftest import Webhook, dead, webhook  # noqa: F401 fixtures

SECRET = "b1c2-s3cret"  # noqa: S105 a made-up one


@given(st.lists(st.floats(0, 5), max_size=50))
def test_silence_is_the_time_between_looks(steps: list[float]) -> None:
    silence = Silence(7)
    for step in steps:
        silence = listened(silence, 7, step)
    assert silence.seconds == pytest.approx(sum(steps))


@given(st.floats(0, 1e6), st.floats(-1e6, 1e9))
def test_sleep_and_set_clocks_are_no_silence(before: float, elapsed: float) -> None:
    after = listened(Silence(7, before), 7, elapsed)
    assert before <= after.seconds <= before + 10


def test_a_good_tick_ends_it() -> None:
    assert listened(Silence(7, 599), 8, 5) == Silence(8)


def test_good_is_a_tick_without_error_and_the_newest_is_not_told_by_its_time(unused: Settings) -> None:
    with open_instance(unused.dagster_home) as instance:
        assert newest_good_tick(instance) == 0
        _tick(instance, TickStatus.SKIPPED, at=2_000_000_000)  # of a clock that was ahead
        good = _tick(instance, TickStatus.SUCCESS, at=1_000_000_000)
        _tick(instance, TickStatus.FAILURE, at=1_000_000_001)
        _tick(instance, TickStatus.STARTED, at=1_000_000_002)
        assert newest_good_tick(instance) == good


def _tick(instance: dg.DagsterInstance, status: TickStatus, at: float) -> int:
    location = GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name="here")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), "alerts")
    error = SerializableErrorInfo("broken", [], None) if status == TickStatus.FAILURE else None
    told: dict[str, Any] = {"run_ids": [], "error": error, "selector_id": "alerts"}
    data = TickData(origin.get_id(), "alerts", InstigatorType.SENSOR, status, float(at), **told)
    return int(instance.create_tick(data).tick_id)


def test_a_heartbeat_that_is_not_answered_is_told_once_and_never_its_address(
    webhook: Webhook,  # noqa: F811
    dead: Webhook,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="copilot_quant_pipeline")
    answered = Heartbeat(f"http://127.0.0.1:{webhook.port}/{SECRET}")
    unanswered = Heartbeat(f"http://127.0.0.1:{dead.port}/{SECRET}")
    for expected in (1, 2):
        answered.send()
        _until(lambda expected=expected: len(webhook.gets) == expected)  # type: ignore[misc]
    assert not caplog.records
    for _ in range(5):
        unanswered.send()
        time.sleep(0.1)
    _until(lambda: caplog.records)
    webhook.status = 500
    answered.send()
    _until(lambda: len(caplog.records) == 2)
    webhook.status = 200
    answered.send()
    _until(lambda: len(caplog.records) == 3)
    refused, failed, again = (record.getMessage() for record in caplog.records)
    assert "COPILOT_QUANT_HEARTBEAT_URL did not answer well (ConnectionError)" in refused
    assert "HTTP 500" in failed
    assert "answers again" in again
    assert SECRET not in refused + failed


def _until(what: Callable[[], object]) -> None:
    for _ in range(500):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")
