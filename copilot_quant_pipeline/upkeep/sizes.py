"""How many bytes each part of a home takes, and how fast it grows.

Here: the parts, measuring them, what earlier looks found.
Not here: making them smaller (retention.py, ledger/retention.py), how it is printed (cli).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.home import write_whole
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.quarantine import count_bytes
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

# Earlier looks are kept one a day, and growth is told since the oldest of them.
_LOOKS, _KEPT, _EVERY = "sizes.json", timedelta(days=7), timedelta(days=1)

Looks = Sequence[tuple[datetime, Mapping[str, int]]]


@dataclass(frozen=True)
class Size:
    """A part of the home.

    Attributes:
        bytes: what it takes now.
        growth: by how many bytes it has grown since `since`; None where nobody had looked before.
        since: an earlier look, aware UTC.
        per_day: the growth of one day, where that look was a day ago or more.
    """

    part: str
    bytes: int
    growth: int | None = None
    since: datetime | None = None
    per_day: int | None = None


def measure(settings: Settings, warehouse: Warehouse) -> list[Size]:
    """The parts of a home; the look is kept for the next one, where the home can be written.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    now, looks = settings.now(), _read_looks(settings.home)
    sizes = {**_on_disk(settings), "quarantine": count_bytes(warehouse)}
    with suppress(OSError, UserError):
        if settings.home.is_dir():
            _write_looks(settings.home, plan_looks(looks, now, sizes))
    return plan_growth(sizes, looks, now)


def plan_growth(sizes: Mapping[str, int], looks: Looks, now: datetime) -> list[Size]:
    """How the parts have grown since the oldest look."""
    earlier = [look for look in looks if look[0] <= now]
    if not earlier:
        return [Size(part, count) for part, count in sizes.items()]
    since, before = min(earlier, key=lambda look: look[0])
    days = (now - since) / timedelta(days=1)
    grown = {part: count - before.get(part, 0) for part, count in sizes.items()}
    return [
        Size(part, count, grown[part], since, round(grown[part] / days) if days >= 1 else None)
        for part, count in sizes.items()
    ]


def plan_looks(looks: Looks, now: datetime, sizes: Mapping[str, int]) -> Looks:
    """The looks to keep: one a day of the last week, and the newest of before if there is none."""
    known = sorted((look for look in looks if look[0] <= now), key=lambda look: look[0])
    if not known or now - known[-1][0] >= _EVERY:
        known.append((now, dict(sizes)))
    return [look for look in known if now - look[0] <= _KEPT] or known[-1:]


def _on_disk(settings: Settings) -> dict[str, int]:
    home, dagster = settings.home, settings.dagster_home
    output = dagster / "storage"
    return {
        "warehouse": _total(home.glob(f"{settings.warehouse_path.name}*")),
        "landing": _total([settings.landing_path]),
        "Dagster's databases": _total([dagster]) - _total([output]),
        "Dagster's output": _total([output]),
        "logs": _total([settings.logs_path]),
    }


def _total(paths: Iterator[Path] | Sequence[Path]) -> int:
    return sum(_size(path) for path in paths)


def _size(path: Path) -> int:
    """What a file or a folder takes, in bytes; a link to another disk is followed."""
    try:
        if not path.is_dir():
            return path.stat().st_size
        found = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    except OSError:
        return 0
    total = 0
    for file in found:
        with suppress(OSError):  # gone meanwhile
            total += file.stat().st_size
    return total


def _read_looks(home: Path) -> Looks:
    try:
        known = json.loads((home / _LOOKS).read_text())
        return [(datetime.fromisoformat(at), {str(k): int(n) for k, n in sizes.items()}) for at, sizes in known]
    except (OSError, ValueError, TypeError, AttributeError):
        return []


def _write_looks(home: Path, looks: Looks) -> None:
    write_whole(home / _LOOKS, json.dumps([(at.isoformat(), dict(sizes)) for at, sizes in looks]))
