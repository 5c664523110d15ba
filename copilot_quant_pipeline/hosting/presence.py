"""Whether a `ui` is up on a home, was killed on it, or ended in order.

Here: the lock that a `ui` holds, the one its programs hold, the note of how it is.
Not here: what it does (supervisor.py), how `status` words it (cli).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.home import write_whole

# Whoever asks whether a `ui` is up holds its lock for a moment.
_MOMENT = 1.0
# What a killed `ui` leaves behind ends by itself within this time (part.py), in seconds.
_REMAINS = 15.0


@dataclass(frozen=True)
class Note:
    """What a `ui` leaves in its home from its start until it ends in order.

    Attributes:
        pid: its process.
        address: where Dagit is served.
        since: when it started, aware UTC.
        folder: what its programs meet in.
        trouble: what is wrong with it, in a few words that follow `it`.
        ended: whether it ended itself because of that.
    """

    pid: int
    address: str
    since: datetime
    folder: Path
    trouble: str | None = None
    ended: bool = False


def lock_of_programs(home: Path) -> Path:
    """The file that each program of a `ui` holds while it lives."""
    return home / "ui.programs.lock"


@contextmanager
def holding(home: Path) -> Iterator[None]:
    """Be the only `ui` of the home while open; the kernel lets go when this process ends, however it ends.

    Raises:
        UserError: Another is up, or the programs of one that was killed do not end.
    """
    held = os.open(home / "ui.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _locked(held, fcntl.LOCK_EX, _MOMENT):
            raise UserError(f"Dagit is up on {home} already; use that one, or choose another home with --home.")
        _expect_no_remains(home)
        yield
    finally:
        os.close(held)


def _expect_no_remains(home: Path) -> None:
    path = lock_of_programs(home)
    programs = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _locked(programs, fcntl.LOCK_EX, _REMAINS):
            raise UserError(
                f"an earlier Dagit on {home} was killed and some of its processes have not ended; end those whose"
                f" command line holds {path}, then start this again."
            )
    finally:
        os.close(programs)


def is_up(home: Path) -> bool:
    """Whether a `ui` lives on the home."""
    try:
        held = os.open(home / "ui.lock", os.O_RDONLY)  # also for whoever may only read the home
    except OSError:
        return False
    try:
        return not _locked(held, fcntl.LOCK_SH, 0)
    finally:
        os.close(held)


def _locked(held: int, kind: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(held, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def write_note(home: Path, note: Note) -> None:
    """Leave it in the home, in place of an earlier one."""
    write_whole(_note_of(home), _shape().dump_json(note).decode())


def remove_note(home: Path) -> None:
    """Say that the `ui` of the home has ended in order."""
    _note_of(home).unlink(missing_ok=True)


def read_note(home: Path) -> Note | None:
    """What the `ui` that is up, or that did not end in order, has left; None where there is none."""
    with suppress(OSError, ValidationError):
        return _shape().validate_json(_note_of(home).read_bytes())
    return None


def _note_of(home: Path) -> Path:
    return home / "ui.json"


@cache
def _shape() -> TypeAdapter[Note]:
    return TypeAdapter(Note)
