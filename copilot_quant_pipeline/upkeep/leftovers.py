"""Files of a home that nobody needs any more: command logs, kept vendor responses, decided proposals.

Here: which of them are old enough to go, by the settings, and their deletion.
Not here: Dagster's own past (ledger/pruning.py), when it is done (retention.py), how large things are (sizes.py).

What is still needed stays, however old: a kept response for as long as it may answer, a proposal that waits for a
person or was rejected, which is how the same change is not asked about again.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.quarantine import forget_decided
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

# What landing (landing/store.py) makes: responses, those that could not be read, and what a killed process began.
_LANDED = ("*/*.parquet", "*/*.unreadable-*", "*/.*.part")


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
