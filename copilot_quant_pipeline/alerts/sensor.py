"""The sensor `alerts`: every minute one look at everything, and what it did as its tick's words.

Here: the sensor, and the sources it looks at.
Not here: what is looked for (cell_problems.py, dagster_problems.py), what is told (cycle.py).

No `from __future__ import annotations` here: Dagster reads the annotations of a sensor's parameters.
"""

from collections.abc import Callable, Sequence

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from copilot_quant_pipeline.alerts.cell_problems import WAREHOUSE, find_in_warehouse
from copilot_quant_pipeline.alerts.cycle import Looked, ProblemsFound, look, tell
from copilot_quant_pipeline.alerts.dagster_problems import (
    AXES,
    CHECKS,
    FRESHNESS,
    find_bad_keys,
    find_failed_checks,
    find_finished_runs,
    find_stale_assets,
)
from copilot_quant_pipeline.alerts.incidents import Trouble
from copilot_quant_pipeline.alerts.run_problems import RUNS, note_runs, run_trouble
from copilot_quant_pipeline.alerts.store import AlertState
from copilot_quant_pipeline.grid.axes import keys_on_axis
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.healing import GRIDS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

# Dagster ends a tick after 60 s: a warehouse that is being written for longer is looked at in the next one.
LOCK_TIMEOUT = 5.0


def build_alerts(settings: Settings) -> dg.SensorDefinition:
    """The sensor for `settings`, running unless somebody stops it."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Tells the channels of COPILOT_QUANT_ALERT_URLS what is wrong, once per incident, and once that it is over:"
            " runs that failed, red cells, cells given up, changed values that wait for a decision, what may be"
            " wrong at the source, failed checks, stale assets, keys that can be none."
            " The words of a tick say what it told and what is open."
        ),
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        graph = _graph_of(context)
        try:
            return dg.SkipReason(tell(settings, lambda book: find(settings, context.instance, graph, book)))
        except OSError as error:
            # Without its book it would tell the same every minute.
            return dg.SkipReason(
                f"Nothing was told: the book of alerts below {settings.home} cannot be used ({error})."
            )

    return alerts


def _graph_of(context: dg.SensorEvaluationContext) -> AssetGraph:
    repository = context.repository_def
    if repository is None:
        raise dg.DagsterInvariantViolationError("the sensor alerts needs to know its repository")
    return repository.asset_graph


def find(settings: Settings, instance: dg.DagsterInstance, graph: AssetGraph, book: AlertState) -> ProblemsFound:
    """Everything that is wrong now, of the assets and checks of `graph`."""
    keys = graph.get_all_asset_keys()
    runs: list[Looked] = []
    sources: dict[str, Callable[[], Sequence[Trouble]]] = {
        WAREHOUSE: lambda: find_in_warehouse(
            Warehouse(settings.warehouse_path, min(settings.lock_timeout, LOCK_TIMEOUT)), _on_axes(instance)
        ),
        RUNS: lambda: _find_failed_runs(instance, [key.to_user_string() for key in keys], book, runs.append),
        CHECKS: lambda: find_failed_checks(instance, graph.asset_check_keys),
        FRESHNESS: lambda: find_stale_assets(instance, keys),
        AXES: lambda: find_bad_keys(instance),
    }
    troubles, unseen = look(sources, settings.now())
    return ProblemsFound(tuple(troubles), frozenset(unseen), runs[0] if runs else None)


def _on_axes(instance: dg.DagsterInstance) -> dict[str, frozenset[str]]:
    """By grid the keys on its axis; none of a grid whose axis is empty, as after Dagster's folder was lost."""
    keys = {grid.name: frozenset(keys_on_axis(instance, grid.axis)) for grid in GRIDS}
    return {grid: on_axis for grid, on_axis in keys.items() if on_axis}


def _find_failed_runs(
    instance: dg.DagsterInstance, assets: Sequence[str], book: AlertState, note: Callable[[Looked], None]
) -> list[Trouble]:
    finished, until, at = find_finished_runs(instance, book, assets)
    failures = note_runs(book.failures, finished)
    note(Looked(failures, until, at))
    return [run_trouble(failure) for failure in failures.values()]
