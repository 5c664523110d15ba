"""The platform's own past kept small: once a week, what nothing needs any more is deleted.

Here: the asset that tells in Dagit how large Dagster's home is; which command logs, kept vendor responses and decided
proposals are old enough to go, by the settings, and their deletion.
Not here: when it is made (schedules.py), what goes of Dagster's own past (ledger/retention.py), ticks (Dagster's own
retention, ledger/dagster.yaml), how large things are (sizes.py).

It is an asset, not a job, so that Dagit draws the sizes over time. What is still needed stays, however old: a kept
response for as long as it may answer, a proposal that waits for a person or was rejected, which is how the same change
is not asked about again.
No `from __future__ import annotations` here: Dagster reads the annotations of an asset's parameters.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from copilot_quant_pipeline.ledger.retention import prune
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.quarantine import forget_decided
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

GROUP = "upkeep"

# What landing (landing/store.py) makes: responses, those that could not be read, and what a killed process began.
_LANDED = ("*/*.parquet", "*/*.unreadable-*", "*/.*.part")


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


@dataclass(frozen=True)
class Cleared:
    """How many files of logs and of landing and how many rows of proposals went, and the bytes of the files."""

    logs: int
    landing: int
    proposals: int
    bytes: int


def clear_leftovers(settings: Settings, warehouse: Warehouse) -> Cleared:
    """Delete what is older than the settings say.

    Raises:
        UserError: The warehouse cannot be opened or written.
    """
    # A clock that is pinned ahead makes no file older than it is.
    now = min(settings.now(), datetime.now(UTC))
    of_landing = max(timedelta(days=settings.landing_days), settings.landing_ttl)
    logs = _delete(settings.logs_path.glob("*.log"), now - timedelta(days=settings.logs_days))
    landed = (path for pattern in _LANDED for path in settings.landing_path.glob(pattern))
    landing = _delete(landed, now - of_landing)
    proposals = forget_decided(warehouse, settings.now() - timedelta(days=settings.quarantine_days))
    return Cleared(len(logs), len(landing), proposals, sum(logs) + sum(landing))


def _delete(files: Iterable[Path], before: datetime) -> list[int]:
    """Delete the files last changed before that; their sizes in bytes."""
    sizes = []
    for path in files:
        with suppress(OSError):  # somebody else was faster, or has the right to it
            found = path.lstat()
            if found.st_mtime < before.timestamp():
                path.unlink()
                sizes.append(found.st_size)
    return sizes
