"""The book: what was told, what waits to be delivered, and how far runs were looked at.

Here: its shape, its file in the home, whose turn it is to write it.
Not here: what is decided on it (incidents.py, run_problems.py, delivery.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path

import filelock
from pydantic import TypeAdapter, ValidationError

from copilot_quant_pipeline.alerts.incidents import Incident
from copilot_quant_pipeline.alerts.messages import Letter
from copilot_quant_pipeline.alerts.run_problems import RunFailure
from copilot_quant_pipeline.home import write_whole
from copilot_quant_pipeline.links import expect_mounted
from copilot_quant_pipeline.redaction import presentable_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlertState:
    """Everything that alerting remembers.

    Attributes:
        incidents: by key.
        failures: assets whose runs fail, by asset.
        looked_until: when the newest run that was looked at ended, by Dagster's clock; None before the first look.
        looked_at: the runs looked at that ended about then.
        waiting: by channel id, the letters it has not taken yet, oldest first.
    """

    incidents: dict[str, Incident] = field(default_factory=dict)
    failures: dict[str, RunFailure] = field(default_factory=dict)
    looked_until: datetime | None = None
    looked_at: tuple[str, ...] = ()
    waiting: dict[str, tuple[Letter, ...]] = field(default_factory=dict)


class BusyBookError(Exception):
    """Another process is telling what is wrong."""


@dataclass(frozen=True)
class BookFile:
    """The book of a home: one JSON file, replaced as a whole."""

    path: Path

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The right to read the book and write it back; nobody else has it meanwhile.

        Raises:
            BusyBookError: Somebody else has it.
            OSError: The folder cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(f"{self.path}.lock").acquire(blocking=False):
                yield
        except filelock.Timeout:
            raise BusyBookError from None

    def read(self) -> AlertState:
        """The book as last written; a new one where there is none or it cannot be read (it is then put aside)."""
        try:
            return _shape().validate_json(expect_mounted(self.path).read_bytes())
        except FileNotFoundError:
            return AlertState()
        except ValidationError:
            aside = self.path.with_suffix(".unreadable.json")
            self.path.replace(aside)
            log.warning("the book of alerts could not be read and is now %s; what is wrong is told anew", aside)
            return AlertState()

    def write(self, book: AlertState) -> None:
        """Put the book in place of the last one; whoever is interrupted leaves one or the other."""
        write_whole(self.path, presentable_json(_shape().dump_json(book, indent=1).decode()))


@cache
def _shape() -> TypeAdapter[AlertState]:
    return TypeAdapter(AlertState)
