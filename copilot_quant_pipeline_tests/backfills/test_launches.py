"""Claims about single runs: whoever launches one, it settles exactly the cells that were asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date

import pytest
from dagster_graphql.test.utils import execute_dagster_graphql, infer_job_selector

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.grid.axes import partition_key
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline_tests.backfills.conftest import DAEMON_WARNINGS, World

pytestmark = DAEMON_WARNINGS

# A Friday and a Tuesday, with a weekend and a holiday between them.
AROUND_A_HOLIDAY = sessions_in_range(date(2024, 1, 12), date(2024, 1, 16))
CHART = "/v8/finance/chart/{symbol}"

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""


def by_dagit(world: World, tags: dict[str, str]) -> None:
    """What the launch dialog sends where it launches one run instead of a backfill."""
    context = world.daemon.create_request_context()
    selector = infer_job_selector(context, "__ASSET_JOB", asset_selection=[{"path": ["equity_bars"]}])
    metadata = {"tags": [{"key": key, "value": value} for key, value in tags.items()]}
    params = {"selector": selector, "runConfigData": {}, "mode": "default", "executionMetadata": metadata}
    answer = execute_dagster_graphql(context, LAUNCH, {"params": params}).data["launchPipelineExecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer


def one_by_dagit(world: World, corners: Sequence[str]) -> None:
    day, symbol = corners[0].split("|")
    by_dagit(
        world,
        {"dagster/partition": corners[0], "dagster/partition/date": day, "dagster/partition/symbol": symbol},
    )


def many_by_dagit(world: World, corners: Sequence[str]) -> None:
    first, last = corners
    by_dagit(world, {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last})


def by_command(world: World, *arguments: str) -> None:
    location = world.settings.home.parent / "location.py"
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-f", str(location)]
    environment = {**os.environ, "DAGSTER_HOME": str(world.settings.dagster_home)}
    asked = [*command, "--select", "equity_bars", *arguments]
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def one_by_command(world: World, corners: Sequence[str]) -> None:
    by_command(world, "--partition", corners[0])


def many_by_command(world: World, corners: Sequence[str]) -> None:
    by_command(world, "--partition-range", "...".join(corners))


@pytest.mark.parametrize("launch", [one_by_dagit, one_by_command])
def test_one_cell(world: World, launch: Callable[[World, Sequence[str]], None]) -> None:
    symbols = world.fresh_symbols(1)
    cell = partition_key(Cell(AROUND_A_HOLIDAY[-1], symbols[0]))
    launch(world, [cell])
    assert world.green(symbols) == world.stored(symbols) == {cell}
    assert world.red(symbols) == set()
    assert world.venues.requests()[CHART] == 1


@pytest.mark.parametrize("launch", [many_by_dagit, many_by_command])
def test_a_rectangle(world: World, launch: Callable[[World, Sequence[str]], None]) -> None:
    symbols = world.fresh_symbols(2)
    keys = [partition_key(Cell(day, symbol)) for day in AROUND_A_HOLIDAY for symbol in symbols]
    launch(world, [keys[0], keys[-1]])
    assert world.green(symbols) == world.stored(symbols) == set(keys)
    assert world.red(symbols) == set()
    assert world.venues.requests()[CHART] == 2


def test_a_backfill_goes_on_when_a_symbol_joins_the_axis(world: World) -> None:
    symbols = world.fresh_symbols(2)
    keys = [partition_key(Cell(day, symbol)) for day in AROUND_A_HOLIDAY for symbol in symbols]
    backfill = world.requested(keys)
    world.instance.add_dynamic_partitions("symbol", ["JOINS"])
    assert world.completed(backfill).status.value == "COMPLETED_SUCCESS"
    assert world.green(symbols) == world.stored(symbols) == set(keys)
    assert world.green(["JOINS"]) == world.red(["JOINS"]) == set()
