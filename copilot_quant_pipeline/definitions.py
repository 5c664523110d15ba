"""Everything put together: the assets, their resources and the policy that holds for all of them.

Here: assembly only. `defs` is what Dagster loads; tests and the command assemble variants with `build_definitions`.
Not here: any logic of a room.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from copilot_quant_pipeline.alerts.sensor import build_alerts
from copilot_quant_pipeline.equities.assets import build_equities
from copilot_quant_pipeline.equities.sources import EquitySources
from copilot_quant_pipeline.ledger.instance import be_patient
from copilot_quant_pipeline.ledger.run_lives import note_process
from copilot_quant_pipeline.ledger.turns import WaitLimits
from copilot_quant_pipeline.prediction_markets.assets import build_prediction_markets
from copilot_quant_pipeline.prediction_markets.checks import build_checks
from copilot_quant_pipeline.prediction_markets.sources import MarketSources
from copilot_quant_pipeline.process import begin_process
from copilot_quant_pipeline.settings import Settings, expect_proxies, keep_loopback_off_proxies
from copilot_quant_pipeline.upkeep.accounts_sensor import build_accounts_sensor
from copilot_quant_pipeline.upkeep.backfill import RUN_LOGGER
from copilot_quant_pipeline.upkeep.checks import build_upkeep_checks
from copilot_quant_pipeline.upkeep.freshness import with_policies
from copilot_quant_pipeline.upkeep.heal_sensor import build_heal_sensor
from copilot_quant_pipeline.upkeep.newcomers import build_newcomers
from copilot_quant_pipeline.upkeep.report import build_report
from copilot_quant_pipeline.upkeep.retention import build_history
from copilot_quant_pipeline.upkeep.schedules import build_schedules
from copilot_quant_pipeline.warehouse.io_manager import GridIOManager
from copilot_quant_pipeline.warehouse.warehouse import Warehouse


def build_definitions(settings: Settings, **resource_overrides: object) -> dg.Definitions:
    """The platform for `settings`; a resource given by name replaces the ordinary one."""
    with warnings.catch_warnings():
        # One run per line of the grid needs backfill policies, which are beta in every release so far.
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = with_policies([*build_equities(settings), *build_prediction_markets(settings), build_report(settings)])
    return dg.Definitions(
        assets=[*assets, build_history(settings)],
        asset_checks=[*build_checks(), *build_upkeep_checks(settings)],
        schedules=build_schedules(settings),
        sensors=[
            build_heal_sensor(settings),
            build_accounts_sensor(settings),
            *build_newcomers(settings),
            build_alerts(settings),
        ],
        resources={**_resources(settings), **resource_overrides},
        # A run is one step that mostly waits for a vendor: another process per step is only slower.
        executor=dg.in_process_executor,
        loggers={RUN_LOGGER: _quiet},
    )


def _resources(settings: Settings) -> Mapping[str, Any]:
    warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
    return {
        "io_manager": GridIOManager(warehouse),
        "warehouse": warehouse,
        "equity_sources": _opened(settings, EquitySources.reached_by),
        "market_sources": _opened(settings, MarketSources.reached_by),
        # For reading only: its own writing would bypass the lock and the one transaction of `Warehouse.settle`.
        "duckdb": DuckDBResource(database=str(settings.warehouse_path), connection_config={"access_mode": "READ_ONLY"}),
    }


def _opened(settings: Settings, reached_by: Callable[[Settings], object]) -> dg.ResourceDefinition:
    """Sources that are reached for the length of a run, with venues of the run's own where none are running."""

    def opened(context: dg.InitResourceContext) -> Iterator[object]:
        if context.instance and context.run:
            # Should the machine go down, whoever comes next can tell that this run has ended.
            note_process(context.instance, context.run.run_id)
            be_patient(context.instance, WaitLimits(settings.lock_timeout, settings.wait))
        with ExitStack() as stack:
            reached = settings
            if settings.needs_sandbox:
                # A deterministic market: every run that starts its own sees the same prices.
                from copilot_quant_pipeline.sandbox import Sandbox

                reached = settings.with_venues_at(stack.enter_context(Sandbox(now=settings.pinned_now)).url)
            yield reached_by(reached)

    return dg.ResourceDefinition(resource_fn=opened)


@dg.logger
def _quiet(_context: dg.InitLoggerContext) -> logging.Logger:
    """Hands a run's log to Python's logging, where the command sends it to its file, not to the console."""
    runs = logging.getLogger("copilot_quant_pipeline.runs")
    runs.setLevel(logging.INFO)
    return runs


begin_process()
expect_proxies()
keep_loopback_off_proxies()
defs = build_definitions(Settings.from_environment())
