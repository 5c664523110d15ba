"""Claims about the real webserver: a backfill launched through it settles its cells, and what its dialog offers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from typing import Any

import pytest
import requests

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.grid.axes import partition_key
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline_tests.backfills.conftest import DAEMON_WARNINGS, World

pytestmark = DAEMON_WARNINGS

SESSIONS = sessions_in_range(date(2024, 2, 1), date(2024, 2, 9))

LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


@pytest.fixture(scope="module")
def dagit(world: World) -> Iterator[str]:
    """The address of a real dagster-webserver on the world's home."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    location = world.settings.home.parent / "location.py"
    command = [
        sys.executable,
        "-m",
        "dagster_webserver",
        "-f",
        str(location),
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    environment = {**os.environ, "DAGSTER_HOME": str(world.settings.dagster_home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            _until_it_answers(server, address)
            yield address
        finally:
            server.terminate()


def _until_it_answers(server: subprocess.Popen[bytes], address: str) -> None:
    while server.poll() is None:
        try:
            requests.get(f"{address}/server_info", timeout=5).raise_for_status()
        except requests.RequestException:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the webserver ended before it answered")


def _ask(dagit: str, query: str, **variables: Any) -> Any:
    answer = requests.post(f"{dagit}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
    assert "errors" not in answer, answer
    return answer["data"]


def test_a_backfill_launched_through_the_webserver_settles_its_cells(world: World, dagit: str) -> None:
    symbols = world.fresh_symbols(2)
    world.venues.fault("lost_session", symbol=symbols[0], dates=["2024-02-05"])
    keys = [partition_key(Cell(day, symbol)) for day in SESSIONS for symbol in symbols]
    params = {"assetSelection": [{"path": ["equity_bars"]}], "partitionNames": keys}
    launched = _ask(dagit, LAUNCH, params=params)["launchPartitionBackfill"]
    backfill = world.completed(launched["backfillId"])
    lost = f"2024-02-05|{symbols[0]}"
    assert world.red(symbols) == {lost}
    assert world.green(symbols) == set(keys) - {lost}
    assert backfill.status.value == "COMPLETED_FAILED"


def test_the_launch_dialog_offers_to_refresh(dagit: str) -> None:
    query = """
    { assetNodeOrError(assetKey: {path: ["equity_bars"]}) { ... on AssetNode {
        configField { configType { ... on CompositeConfigType { fields { name } } } } } } }
    """
    node = _ask(dagit, query)["assetNodeOrError"]
    assert [field["name"] for field in node["configField"]["configType"]["fields"]] == ["refresh"]
