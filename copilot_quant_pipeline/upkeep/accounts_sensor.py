"""The sensor `ended_runs`: twice a minute, runs that ended without saying what became of their cells.

Here: one look, and what is said of it.
Not here: which runs these are and what is done about them (accounts.py), asking again for gaps (heal_sensor.py).

No `from __future__ import annotations` here: Dagster reads the annotations of a sensor's parameters.
"""

import dagster as dg

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.accounts import settle_accounts
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

SECONDS = 30

# Somebody writes; the next look is soon.
PATIENCE = 5.0


def build_accounts_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor for the grids of `settings`."""
    warehouse = Warehouse(settings.warehouse_path, min(settings.lock_timeout, PATIENCE))

    @dg.sensor(
        name="ended_runs",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Ends runs whose process was killed, frees what they held, and paints as they are stored the cells of runs"
            " that ended without saying what became of them. Starts no run."
        ),
    )
    def ended_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        try:
            changed = settle_accounts(context.instance, warehouse)
        except UserError as error:
            return dg.SkipReason(f"the next look goes on ({error})")
        return dg.SkipReason(f"{changed:,} cells are painted as they are stored" if changed else "no such run")

    return ended_runs
