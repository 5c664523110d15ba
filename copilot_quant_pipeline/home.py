"""The home folder: everything stored lives below it, and it belongs to one source for good.

Here: making a home ready, refusing one that cannot be used, the log file of a command.
Not here: what is in the warehouse, the landing or Dagster's own folder.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import filelock

from copilot_quant_pipeline.errors import BusyError, UserError
from copilot_quant_pipeline.links import expect_mounted
from copilot_quant_pipeline.settings import Settings

MARKER = "source"
_TOLD = ".wide-rights-told"


# What the user's shell gave this process; None before it was changed.
_umask: int | None = None


@contextmanager
def private() -> Iterator[None]:
    """While open, what this process and its children make is for its owner alone: folders 0700, files 0600."""
    global _umask
    before = os.umask(0o077)
    _umask = before if _umask is None else _umask
    try:
        yield
    finally:
        os.umask(before)
        _umask = None


@contextmanager
def as_the_user_makes_files() -> Iterator[None]:
    """While open, files are made with the rights that the user's shell gives them, for what other programs read."""
    before = os.umask(0o077)
    os.umask(before if _umask is None else _umask)
    try:
        yield
    finally:
        os.umask(before)


def wide_rights_once(home: Path) -> str | None:
    """What to tell of a home that others may look into; None where nobody may, or it was told before."""
    mode, marker = home.stat().st_mode & 0o777, home / _TOLD
    if not mode & 0o077 or marker.exists():
        return None
    with suppress(OSError):
        marker.touch()
    return (
        f"others on this machine may look into the home {home} ({mode:o}); its rights stay as they are:"
        f" chmod -R go= {shlex.quote(str(home))} keeps them out."
    )


def prepare_home(settings: Settings) -> None:
    """Create the home where it is missing and mark whose data it holds.

    Raises:
        UserError: It cannot be written, or it holds data of the other source.
    """
    home = settings.home
    marker = home / MARKER
    try:
        for folder in (home, settings.landing_path, settings.dagster_home, settings.logs_path):
            expect_mounted(folder).mkdir(parents=True, exist_ok=True)
        expect_mounted(settings.warehouse_path)
        with hold(home / f".{MARKER}.lock", settings.lock_timeout):  # two commands may make the home at once
            if not marker.exists():
                write_whole(marker, settings.source)
            owner = marker.read_text().strip()
    except OSError as error:
        raise UserError(
            f"the home {home} cannot be written ({error.strerror}); give another with --home DIR."
        ) from None
    if owner != settings.source:
        raise UserError(f"the home {home} holds {owner} data; give another with --home DIR, or write --source {owner}.")


def hold(lock: Path, timeout: float) -> AbstractContextManager[object]:
    """A lock file, taken until the end of a `with`; who cannot have it waits for `timeout` seconds.

    Raises:
        BusyError: Another process has had it for longer.
    """
    try:
        return filelock.FileLock(lock).acquire(timeout=timeout)
    except filelock.Timeout:
        raise BusyError(
            f"another process has held {lock} for more than {timeout:g} s: end it if it hangs, or run the same command"
            " again later."
        ) from None


def write_whole(path: Path, text: str) -> None:
    """Put `text` at `path` so that whoever reads it meanwhile finds the old text or the new, never a part."""
    expect_mounted(path)
    handle, name = tempfile.mkstemp(dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        if path.exists():  # rights that somebody gave it stay
            new.chmod(path.stat().st_mode & 0o777)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


@contextmanager
def logging_into(settings: Settings, command: str, *, verbose: bool) -> Iterator[Path]:
    """While open, send what the platform logs to a new file under `<home>/logs`, and warnings to the console.

    The file gets DEBUG and up; so does the console where `verbose`. What a run logs of its own failure, stack traces
    included, is for the file and for `verbose` only: the command lists the failed cells instead.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    path = settings.logs_path / f"{stamp}-{command}.log"
    console, file = logging.StreamHandler(), _LogFile(path)
    console.setLevel(logging.DEBUG if verbose else logging.WARNING)
    console.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    console.addFilter(lambda record: verbose or not record.name.endswith(".runs"))
    file.setFormatter(_in_utc("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s"))
    ours = logging.getLogger("copilot_quant_pipeline")
    before = ours.level
    ours.setLevel(logging.DEBUG)
    ours.addHandler(console)
    ours.addHandler(file)
    try:
        yield path
    finally:
        ours.removeHandler(console)
        ours.removeHandler(file)
        ours.setLevel(before)
        with suppress(OSError):
            file.close()


class _LogFile(logging.FileHandler):
    """A log that is no reason to fail, or to print where: a full disk is told by what was to be stored on it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 logging's own name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _in_utc(line: str) -> logging.Formatter:
    """Of lines whose time is UTC, as the file's name is: Python's own is the machine's, and does not say which."""
    formatter = logging.Formatter(line, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    return formatter
