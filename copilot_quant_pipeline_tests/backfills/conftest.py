"""A small world with everything real: sandbox venues, a home, an instance with the ledger, Dagster's daemon loop."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.instance_for_test import instance_for_test
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._time import get_current_timestamp
from dagster._utils.error import SerializableErrorInfo

from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.grid.axes import SYMBOL, partition_key
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.home import prepare_home
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.automation import shipped_but_synchronous
from copilot_quant_pipeline_tests.conftest import NOW

DAEMON_WARNINGS = [
    # Runs are executed inside the daemon's event loop here, which a real launcher never does.
    pytest.mark.filterwarnings("ignore:coroutine 'BaseEventLoop.shutdown_asyncgens'"),
    # Dagster's own call, when it plans a backfill.
    pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning"),
]

BARS = dg.AssetKey("equity_bars")
SYMBOLS = [
    "ABBV",
    "ABT",
    "ADBE",
    "ADP",
    "AFL",
    "AMD",
    "AMGN",
    "AXP",
    "BA",
    "BAC",
    "BKNG",
    "BRK.B",
    "C",
    "CAT",
    "CL",
    "COP",
    "COST",
    "CRM",
    "CSCO",
    "CVX",
    "D",
    "DE",
    "DHR",
    "DUK",
]

_LOCATION = """
from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.settings import Settings

defs = build_definitions(Settings.from_environment({environment!r}))
"""


@dataclass(frozen=True)
class World:
    """One home with its venues; `launch` is what pressing Materialize in Dagit does, run to its end."""

    settings: Settings
    venues: Sandbox
    instance: dg.DagsterInstance
    daemon: WorkspaceProcessContext
    warehouse: Warehouse
    _unused: list[str]

    def launch(
        self, keys: Sequence[str], run_config: dict[str, object] | None = None, asset: dg.AssetKey = BARS
    ) -> PartitionBackfill:
        return self.completed(self.requested(keys, run_config, asset))

    def requested(
        self, keys: Sequence[str], run_config: dict[str, object] | None = None, asset: dg.AssetKey = BARS
    ) -> str:
        """A backfill that waits for the daemon; its id."""
        graph = self.daemon.create_request_context().asset_graph
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id=f"backfill-{len(self.instance.get_backfills())}",
            asset_graph=graph,
            partition_names=list(keys),
            asset_selection=[asset],
            backfill_timestamp=get_current_timestamp(),
            tags={},
            dynamic_partitions_store=self.instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=run_config,
        )
        self.instance.add_backfill(backfill)
        return backfill.backfill_id

    def completed(self, backfill_id: str) -> PartitionBackfill:
        for _ in range(60):
            for outcome in execute_backfill_iteration(self.daemon, logging.getLogger(__name__), None):
                if isinstance(outcome, SerializableErrorInfo):
                    raise AssertionError(outcome.to_string())
            backfill = self.instance.get_backfill(backfill_id)
            assert backfill is not None
            if backfill.status != BulkActionStatus.REQUESTED:
                return backfill
        raise AssertionError("the backfill did not end within 60 iterations of the daemon")

    def runs_of(self, backfill: PartitionBackfill) -> Sequence[dg.DagsterRun]:
        filters = dg.RunsFilter(tags={"dagster/backfill": backfill.backfill_id})
        return self.instance.get_runs(filters)

    def fresh_symbols(self, count: int) -> list[str]:
        """Neighbours on the axis that no other test uses: the tests of a module share one code server."""
        return [self._unused.pop(0) for _ in range(count)]

    def green(self, symbols: Sequence[str]) -> set[str]:
        """The cells of `symbols` that Dagit paints green: materialized, and not failed since."""
        return self._painted("get_materialized_subset", symbols) - self.red(symbols)

    def red(self, symbols: Sequence[str]) -> set[str]:
        """The cells of `symbols` that Dagit paints red."""
        return self._painted("get_failed_subset", symbols)

    def stored(self, symbols: Sequence[str]) -> set[str]:
        """The cells of `symbols` with a bar in the warehouse."""
        rows = self.warehouse.read("select date, symbol from equities.bars").to_pylist()
        keys = [partition_key(Cell(row["date"], row["symbol"])) for row in rows if row["symbol"] in symbols]
        assert len(keys) == len(set(keys))
        return set(keys)

    def reasons(self, symbols: Sequence[str]) -> dict[str, str]:
        """The reason of every cell of `symbols` that has one."""
        rows = self.warehouse.coverage("equities", symbols).to_pylist()
        return {partition_key(Cell(row["date"], row["key"])): row["reason"] for row in rows if row["reason"]}

    def _painted(self, subset: str, symbols: Sequence[str]) -> set[str]:
        grid = build_definitions(self.settings).resolve_asset_graph().get(BARS).partitions_def
        status = get_and_update_asset_status_cache_value(self.instance, BARS, grid)
        assert status is not None
        painted = getattr(status, subset)(self.instance, BARS, grid).expensively_compute_partition_keys()
        return {key for key in painted if key.partition("|")[2] in symbols}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    settings = Settings(home=folder / "home", equities_start=date(2024, 1, 2), pinned_now=NOW)
    with Sandbox(now=NOW) as venues:
        settings = settings.with_venues_at(venues.url)
        prepare_home(settings)
        location = folder / "location.py"
        location.write_text(_LOCATION.format(environment=settings.environment()))
        target = PythonFileTarget(str(location), None, None, None)
        with (
            instance_for_test(temp_dir=str(settings.dagster_home), overrides=unqueued()) as instance,
            create_test_daemon_workspace_context(target, instance) as daemon,
        ):
            instance.add_dynamic_partitions(SYMBOL, SYMBOLS)
            warehouse = Warehouse(settings.warehouse_path)
            yield World(settings, venues, instance, daemon, warehouse, list(SYMBOLS))


@pytest.fixture(autouse=True)
def without_faults(world: World) -> Iterator[None]:
    world.venues.reset_requests()
    yield
    world.venues.clear_faults()


def unqueued() -> dict[str, object]:
    """A synchronous instance whose runs do not pass through the queue."""
    shipped = shipped_but_synchronous()
    del shipped["concurrency"]["runs"]
    return {
        **shipped,
        "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
    }
