"""Claims about a run inside the command: Ctrl-C is heard wherever it comes, and a failure stays the command's."""

import logging
import os
import signal
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import WILL_RETRY_TAG
from dagster._utils.interrupts import capture_interrupts

from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance
from copilot_quant_pipeline.upkeep.backfill import RUN_LOGGER, run_in_process


@dg.logger
def quiet(_context: dg.InitLoggerContext) -> logging.Logger:
    return logging.getLogger("quiet")


@dg.asset
def pressed_while_dagster_holds_it_back() -> None:
    with capture_interrupts():
        os.kill(os.getpid(), signal.SIGINT)


@dg.asset
def pressed_while_working() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@dg.asset
def left_in_peace() -> None:
    pass


@dg.asset
def broken() -> None:
    raise ZeroDivisionError


ASSETS = [pressed_while_dagster_holds_it_back, pressed_while_working, left_in_peace, broken]
JOB = dg.Definitions(assets=ASSETS, loggers={RUN_LOGGER: quiet}).resolve_implicit_global_asset_job_def()


@pytest.mark.parametrize("asset", ["pressed_while_dagster_holds_it_back", "pressed_while_working"])
def test_an_interrupt_is_never_lost_in_a_run(tmp_path: Path, asset: str) -> None:
    install_instance_config(tmp_path)
    with open_instance(tmp_path) as instance:
        with pytest.raises(KeyboardInterrupt):
            run_in_process(JOB, instance, asset, {})
        assert run_in_process(JOB, instance, "left_in_peace", {})


def test_a_daemon_does_not_start_a_failed_run_of_the_command_again(tmp_path: Path) -> None:
    install_instance_config(tmp_path)
    with open_instance(tmp_path) as instance:
        with pytest.raises(ZeroDivisionError):
            run_in_process(JOB, instance, "broken", {})
        (record,) = instance.get_run_records()
        assert record.dagster_run.status == dg.DagsterRunStatus.FAILURE
        assert record.dagster_run.tags.get(WILL_RETRY_TAG) == "false"
