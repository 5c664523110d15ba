"""The platform's own memory kept small: once a week, what nothing in Dagit stands on any more is deleted.

Here: the asset that tells in Dagit how large Dagster's home is.
Not here: when it is made (schedules.py), what is deleted and what stays (ledger/pruning.py, leftovers.py), ticks
(Dagster's own retention, ledger/dagster.yaml).

It is an asset, not a job, so that Dagit draws the sizes over time.
No `from __future__ import annotations` here: Dagster reads the annotations of an asset's parameters.
"""

import dagster as dg

from copilot_quant_pipeline.ledger.pruning import prune
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.leftovers import clear_leftovers
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

GROUP = "upkeep"


def build_history(settings: Settings) -> dg.AssetsDefinition:
    """The asset `dagster_history`, pruned as of the settings' clock."""

    @dg.asset(group_name=GROUP, kinds={"sqlite"})
    def dagster_history(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """What Dagster keeps of the past: its event log, runs and their output; a materialization prunes them.

        Of every cell the newest events stay, with their run and its log. Superseded events of cells older than 90
        days are deleted, and runs of 90 days ago that no cell stands on. Ticks of schedules and sensors are purged by
        Dagster itself. So are command logs, kept vendor responses and decided proposals, by the settings.
        """
        warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
        cleared = clear_leftovers(settings, warehouse)
        pruned = prune(context.instance, settings.now())
        return dg.MaterializeResult(
            metadata={
                "MB on disk": dg.MetadataValue.float(round(pruned.after / 1e6, 1)),
                "MB before": dg.MetadataValue.float(round(pruned.before / 1e6, 1)),
                "superseded events deleted": pruned.events,
                "runs deleted": pruned.runs,
                "logs shortened": pruned.logs,
                "leftover files deleted": pruned.files,
                "command logs deleted": cleared.logs,
                "kept responses deleted": cleared.landing,
                "decided proposals deleted": cleared.proposals,
            }
        )

    return dagster_history
