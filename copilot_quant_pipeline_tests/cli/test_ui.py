"""Claims about `copilot-quant ui` as processes: what dies is started again or ends all, and an end leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

import dagster as dg
import psutil
import pytest
import requests
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
)
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from copilot_quant_pipeline.alerts.cycle import book_of
from copilot_quant_pipeline.alerts.dagster_problems import find_finished_runs
from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.grid.axes import SYMBOL
from copilot_quant_pipeline.hosting.presence import read_note
from copilot_quant_pipeline.hosting.programs import LOCATION
from copilot_quant_pipeline.hosting.ticks import newest_good_tick
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline_tests.alerts.conftest import Webhook, webhook  # noqa: F401 a fixture
from copilot_quant_pipeline_tests.cli.conftest import Desk

CHART = "/v8/finance/chart/{symbol}"
SYMBOLS = ["AAPL", "ABBV"]
OTHERS = ["ABT", "ADBE"]
# Each would act by itself, and slow the machine down; the sensor `alerts` stays on.
SENSORS = ("heal", "new_symbols", "new_markets")
SCHEDULES = (
    "checks_hourly",
    "equities_after_close",
    "prediction_markets_refresh",
    "universe_weekly",
    "report_daily",
    "verify_history",
    "ledger_pruned_weekly",
)
LAUNCH = """
mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""


@dataclass(frozen=True)
class Dagit:
    """A `ui` that is up on a desk."""

    desk: Desk
    process: subprocess.Popen[str]
    port: int

    def program(self, words: str) -> psutil.Process:
        """The one of its programs whose command line holds `words`."""
        (found,) = (child for child in self.programs() if words in " ".join(child.cmdline()))
        return found

    def programs(self) -> list[psutil.Process]:
        """Those of its programs that live."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def processes(self) -> list[psutil.Process]:
        """All that it has started, and what these have."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def answers(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{self.port}/server_info", timeout=10).ok
        return False

    def launch(self, symbols: Sequence[str] = SYMBOLS) -> str:
        """Have a run of one day started; it is under way once the venue has been asked. Its id."""
        asked = self.desk.venues.requests().get(CHART, 0)
        tags = {
            "dagster/asset_partition_range_start": f"2024-03-28|{symbols[0]}",
            "dagster/asset_partition_range_end": f"2024-03-28|{symbols[-1]}",
        }
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": "__repository__",
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": ["equity_bars"]}],
            "assetCheckSelection": [],
        }
        told = [{"key": key, "value": value} for key, value in tags.items()]
        params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": told}}
        query = {"query": LAUNCH, "variables": {"params": params}}
        answer = requests.post(f"http://127.0.0.1:{self.port}/graphql", json=query, timeout=60).json()
        run_id: str = answer["data"]["launchRun"]["run"]["runId"]
        _until(lambda: self.desk.venues.requests().get(CHART, 0) > asked)
        return run_id


@pytest.fixture
def port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def instance(desk: Desk) -> Iterator[dg.DagsterInstance]:
    """The instance of the desk's home, with symbols on the axis and nothing on but alerts."""
    with open_instance(desk.settings.dagster_home) as instance:
        instance.add_dynamic_partitions(SYMBOL, [*SYMBOLS, *OTHERS])
        for name in SENSORS:
            _switch_off(instance, name, InstigatorType.SENSOR, SensorInstigatorData())
        for name in SCHEDULES:
            _switch_off(instance, name, InstigatorType.SCHEDULE, ScheduleInstigatorData("0 0 * * *"))
        yield instance


def _switch_off(
    instance: dg.DagsterInstance,
    name: str,
    kind: InstigatorType,
    data: SensorInstigatorData | ScheduleInstigatorData,
) -> None:
    location = GrpcServerCodeLocationOrigin(host="localhost", socket="nowhere", location_name=LOCATION)
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), name)
    instance.add_instigator_state(InstigatorState(origin, kind, InstigatorStatus.STOPPED, data))


# An end takes ten seconds on a machine that does nothing else; here others run their claims beside it.
END = 60


def _until(what: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def _start(desk: Desk, port: int, *command: str) -> Dagit:
    process = desk.start("ui", "--port", str(port), command=command)
    dagit = Dagit(desk, process, port)
    _until(lambda: dagit.answers() or dagit.process.poll() is not None)
    assert dagit.process.poll() is None, dagit.process.communicate()
    return dagit


def _status(desk: Desk) -> tuple[str, dict[str, object]]:
    ui: dict[str, object] = json.loads(desk.run("status", "--json").out)["ui"]
    return desk.run("status").out, ui


def _painted(desk: Desk, instance: dg.DagsterInstance) -> tuple[set[str], set[str]]:
    """The cells that Dagit paints green, and those that it paints red."""
    bars = dg.AssetKey("equity_bars")
    grid = build_definitions(desk.settings).resolve_asset_graph().get(bars).partitions_def
    status = get_and_update_asset_status_cache_value(instance, bars, grid)
    if status is None:
        return set(), set()
    subsets = [getattr(status, f"get_{name}_subset")(instance, bars, grid) for name in ("materialized", "failed")]
    green, red = (set(subset.get_partition_keys()) for subset in subsets)
    return green - red, red


def _refused(desk: Desk, port: int) -> None:
    out, err = desk.start("ui", "--port", str(port)).communicate(timeout=60)
    assert (out, err.count("\n")) == ("", 1)
    assert f"Dagit is up on {desk.settings.home} already" in err


def _gone(processes: list[psutil.Process]) -> None:
    _, left = psutil.wait_procs(processes, timeout=END)
    assert left == []


def _ended(dagit: Dagit, all_of_it: list[psutil.Process]) -> tuple[str, str]:
    out, err = dagit.process.communicate(timeout=END)
    _gone(all_of_it)
    assert dagit.process.returncode == 0
    return out, err


def test_what_dies_is_started_again_and_a_killed_ui_takes_all_with_it(
    desk: Desk,
    instance: dg.DagsterInstance,
    port: int,
    webhook: Webhook,  # noqa: F811
) -> None:
    desk.environment["COPILOT_QUANT_HEARTBEAT_URL"] = f"http://127.0.0.1:{webhook.port}/beat"
    dagit = _start(desk, port)
    webserver = dagit.program("copilot_quant_pipeline.dagit")
    # Where alerts say that it is.
    assert webserver.environ()["COPILOT_QUANT_DAGIT_URL"] == f"http://127.0.0.1:{port}"

    # The process of the user's code, with a run under way: the run ends with it, and both are started again.
    desk.venues.fault("slow", seconds=60)
    first = dagit.launch()
    server = dagit.program("dagster api grpc")
    below = server.children(recursive=True)
    assert below
    server.kill()
    _gone(below)
    desk.venues.clear_faults()
    _until(lambda: instance.get_run_by_id(first).status == dg.DagsterRunStatus.FAILURE)  # type: ignore[union-attr]
    retried = dg.RunsFilter(tags={"dagster/parent_run_id": first}, statuses=[dg.DagsterRunStatus.SUCCESS])
    _until(lambda: instance.get_runs(filters=retried))
    assert dagit.program("dagster api grpc").pid != server.pid
    assert len(desk.warehouse.read("select * from equities.bars where date = date '2024-03-28'")) == len(SYMBOLS)

    # The daemon and the webserver.
    for words in ("copilot_quant_pipeline.dagit", "dagster._daemon"):
        dagit.program(words).kill()
    _until(lambda: len(dagit.programs()) == 3)
    _until(dagit.answers)
    assert webserver.pid != dagit.program("copilot_quant_pipeline.dagit").pid
    _refused(desk, port)
    _until(lambda: webhook.gets)
    said, ui = _status(desk)
    assert ui == {"up": True, "broken off": False, "trouble": None}
    assert f"ui: up at http://127.0.0.1:{port}" in said

    # The supervisor, with a run under way: nobody outlives it, and the next `ui` begins where it was.
    desk.venues.fault("slow", seconds=60)
    second = dagit.launch(OTHERS)
    all_of_it = dagit.processes()
    dagit.process.kill()
    _gone(all_of_it)
    _, err = dagit.process.communicate()
    for name in ("code server", "webserver", "daemon"):
        assert f"the {name} (process" in err
    said, ui = _status(desk)
    assert ui == {"up": False, "broken off": True, "trouble": None}
    assert "did not end in order" in said
    desk.venues.clear_faults()
    again = _start(desk, port)
    retried = dg.RunsFilter(tags={"dagster/parent_run_id": second}, statuses=[dg.DagsterRunStatus.SUCCESS])
    _until(lambda: instance.get_runs(filters=retried))
    again.process.terminate()
    _, err = again.process.communicate(timeout=END)
    assert "did not end in order" in err


def test_an_end_leaves_no_process_no_traceback_and_no_false_alert(
    desk: Desk, instance: dg.DagsterInstance, port: int
) -> None:
    dagit = _start(desk, port)
    desk.venues.fault("slow", seconds=60)
    run = dagit.launch()
    all_of_it = [psutil.Process(dagit.process.pid), *dagit.processes()]
    assert len(all_of_it) >= 5
    os.killpg(dagit.process.pid, signal.SIGINT)  # as a terminal does
    out, err = _ended(dagit, all_of_it)
    assert "Traceback" not in out + err
    assert "Stack Trace" not in out + err
    said, ui = _status(desk)
    assert ui == {"up": False, "broken off": False, "trouble": None}
    assert "ui:" not in said
    assert _painted(desk, instance) == (set(), set())  # neither green nor red: nobody has tried them
    # The run is not under way any more, it is started again, and nothing is told of it.
    (ended,) = instance.get_runs()
    assert (ended.run_id, ended.status, ended.tags["dagster/will_retry"]) == (run, dg.DagsterRunStatus.FAILURE, "true")
    book = book_of(desk.settings).read()
    found, _, _ = find_finished_runs(instance, book, ["equity_bars"])
    assert [one.failed for one in found] == [()]
    assert not book.incidents


# The same command, which waits for seconds where it would for minutes.
IMPATIENT = "import copilot_quant_pipeline.hosting.ticks as ticks; ticks.PATIENCE = 10.0;"
COMMAND = "from copilot_quant_pipeline.cli import main; main()"


def test_a_daemon_that_hangs_is_told_by_the_supervisor_and_ended_by_it(
    desk: Desk,
    instance: dg.DagsterInstance,
    port: int,
    webhook: Webhook,  # noqa: F811
) -> None:
    webhook.posts.clear()
    desk.environment["COPILOT_QUANT_ALERT_URLS"] = webhook.url
    dagit = _start(desk, port, sys.executable, "-c", IMPATIENT + COMMAND)
    _until(lambda: newest_good_tick(instance))  # it does not hold anything that others wait for then
    # Nothing but this is told of a daemon that neither works nor dies.
    dagit.program("dagster._daemon").suspend()
    _until(lambda: (note := read_note(desk.settings.home)) and note.trouble)
    _until(lambda: any("has had no good tick of a schedule or sensor" in title for title in webhook.titles))
    said, ui = _status(desk)
    assert "has had no good tick" in str(ui["trouble"])
    assert "has had no good tick" in said
    all_of_it = [psutil.Process(dagit.process.pid), *dagit.processes()]
    dagit.process.send_signal(signal.SIGHUP)  # as the end of a terminal does
    out, err = _ended(dagit, all_of_it)
    assert "Traceback" not in out + err
    assert "ui:" not in _status(desk)[0]
