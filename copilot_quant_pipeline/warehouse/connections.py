"""Opening the warehouse file: one writer at a time, readers briefly in between.

Here: turns, waiting, DuckDB's storage errors put into the user's words; connections to no file at all.
Not here: what is written or read (warehouse/warehouse.py), versions (warehouse/migrations.py).

DuckDB lets nobody, not even a reader, open a file another process has open for writing, and within one
process a file is open either for reading or for writing. So whoever wants to open it takes a turn at a lock
file beside it: a writer keeps its turn until it has closed, a reader only until it has opened, which is why
readers cannot starve a writer.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NoReturn, TypeVar

import duckdb
import filelock
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random

from copilot_quant_pipeline.errors import BusyError, UserError
from copilot_quant_pipeline.links import expect_mounted

T = TypeVar("T")

log = logging.getLogger(__name__)

# What DuckDB raises for a file it cannot read or write, as against a mistake in a statement.
_STORAGE_ERRORS = (
    duckdb.IOException,
    duckdb.SerializationException,
    duckdb.FatalException,
    duckdb.InternalException,
    duckdb.TransactionException,  # a commit that could not be written
)

# Half a million bars take less than this.
_ROOM_BYTES = 64_000_000

# Of every connection. Not connect(config=...): a file that is open with another config cannot be opened.
SESSION = ("set TimeZone = 'UTC'", "set python_enable_replacements = false")

# A commit goes into the file at once, not into DuckDB's log beside it: what two killed processes have left there,
# DuckDB 1.5 reads in part or twice, once there are more rows than a row group holds (122,880).
_NO_LOG = "set wal_autocheckpoint = '0KB'"


@contextmanager
def session(database: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """Another connection to an open database, with the settings of all; what is registered there ends with it."""
    with database.cursor() as connection:
        for setting in SESSION:
            connection.execute(setting)
        yield connection


def scratch() -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """A connection to no file, for rows that are not stored yet. Making a database takes 6 ms: it is one a process."""
    return session(_scratch())


@cache
def _scratch() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


class _BusyError(Exception):
    """Somebody else has the file; the message says who, where that is known."""


class _LogError(Exception):
    """The log beside the file cannot be put into it; the message says why."""


class BusyWarehouseError(BusyError):
    """It is the warehouse that somebody else has."""


@dataclass(frozen=True)
class WarehouseFile:
    """The way to one DuckDB file; `timeout` is how long to wait for others, in seconds."""

    path: Path
    timeout: float

    @contextmanager
    def to_read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to an existing file, closed at the end.

        Raises:
            UserError: Somebody wrote for longer than the timeout, or the file is no sound DuckDB file.
        """
        deadline = time.monotonic() + self.timeout
        try:
            turn = self._patiently(self._take_turn, deadline)
        except OSError:
            # Who may not write beside the file reads without a turn; turns are among those who can write.
            connection = self._patiently(self._connect_to_look, deadline)
        else:
            with turn:
                self._absorb_log(deadline)
                connection = self._patiently(self._connect_to_look, deadline)
        with self._used(connection):
            yield connection

    @contextmanager
    def to_write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that writes while nobody else has the file open; makes the file where there is none.

        Raises:
            UserError: As for reading, or the folder cannot be written, or the disk is full.
        """
        deadline = time.monotonic() + self.timeout
        expect_mounted(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            turn = self._patiently(self._take_turn, deadline)
        except OSError as error:
            raise UserError(
                f"{self.path.parent} cannot be written ({error.strerror}): "
                "make it writable, or choose another home with COPILOT_QUANT_HOME."
            ) from error
        with turn:
            self._expect_room()
            self._absorb_log(deadline)
            with self._used(self._patiently(self._connect_to_change, deadline)) as connection:
                yield connection

    def _take_turn(self) -> AbstractContextManager[object]:
        try:
            return filelock.FileLock(f"{self.path}.lock").acquire(blocking=False)
        except filelock.Timeout as error:
            raise _BusyError from error

    def _connect_to_look(self) -> duckdb.DuckDBPyConnection:
        try:
            return self._connect(self.path, read_only=True)
        except _LogError:
            # Only whoever may not lay the log aside comes here. DuckDB finds it whatever name leads to the file.
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(shutil.copyfile(self.path, Path(folder) / self.path.name))
                return self._connect(copy, read_only=True)

    def _connect_to_change(self) -> duckdb.DuckDBPyConnection:
        if not self.path.exists():
            self._create()
        return self._connect(self.path, read_only=False)

    def _connect(self, path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        try:
            connection = duckdb.connect(path, read_only=read_only)
        except duckdb.ConnectionException as error:  # this process has it open the other way round
            raise _BusyError from error
        except duckdb.Error as error:
            if "replaying WAL" in str(error):
                raise _LogError(str(error).splitlines()[0]) from error
            if not isinstance(error, _STORAGE_ERRORS):
                raise
            holder = re.search(r"Conflicting lock is held in .*?\(PID \d+\)", str(error))
            if holder is None:
                self._refuse(error)
            raise _BusyError(holder[0]) from error
        for setting in SESSION if read_only else (*SESSION, _NO_LOG):
            connection.execute(setting)
        return connection

    def _absorb_log(self, deadline: float) -> None:
        """Put into the file what another program that was killed has left in a log beside it.

        The platform's own commits are in the file already, so a log that cannot be put there is laid aside.
        """
        if not (self.path.exists() and self._log.exists()):
            return
        try:
            with self._used(self._patiently(self._connect_to_change, deadline)) as connection:
                connection.execute("checkpoint")
        except _LogError as error:
            with suppress(PermissionError):  # then it is read beside it
                self._lay_log_aside(str(error))

    def _lay_log_aside(self, why: str) -> None:
        aside = self._log.with_name(f"{self._log.name}.not-replayed-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
        self._log.replace(aside)
        try:
            with suppress(_BusyError):
                self._connect(self.path, read_only=True).close()
        except UserError:
            aside.replace(self._log)  # it is the file that is broken
            raise
        log.warning(
            "%s was left by another program and cannot be put into %s (%s): it is laid aside as %s; what the"
            " platform has stored is in the file.",
            self._log.name,
            self.path,
            why,
            aside.name,
        )

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{self.path.name}.wal")

    def _create(self) -> None:
        # DuckDB would add the log of a file that was moved away to the new one.
        if self._log.exists():
            self._log.replace(self._log.with_name(f"{self._log.name}.of-the-file-before"))
        # Moved into place when whole: whatever interrupts this, there is a sound file or none.
        new = self.path.with_name(f"{self.path.name}.new")
        new.unlink(missing_ok=True)
        duckdb.connect(new).close()
        new.replace(self.path)

    @contextmanager
    def _used(self, connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with connection:
                yield connection
        except _STORAGE_ERRORS as error:
            self._refuse(error)

    def _patiently(self, attempt: Callable[[], T], deadline: float) -> T:
        return Retrying(
            retry=retry_if_exception_type(_BusyError),
            wait=wait_random(0.01, 0.1),
            stop=lambda _: time.monotonic() > deadline,
            retry_error_callback=self._give_up,
        )(attempt)

    def _give_up(self, state: RetryCallState) -> NoReturn:
        busy = state.outcome.exception() if state.outcome else None
        who = f" ({busy})" if str(busy or "") else ""
        if state.fn == self._connect_to_change and self._can_be_read():
            raise BusyWarehouseError(
                f"another process has been reading {self.path} for more than {self.timeout:g} s{who}: "
                "close its connection, such as a notebook's, or raise COPILOT_QUANT_LOCK_TIMEOUT."
            ) from busy
        raise BusyWarehouseError(
            f"another process has been writing to {self.path} for more than {self.timeout:g} s{who}: "
            "wait for it or raise COPILOT_QUANT_LOCK_TIMEOUT."
        ) from busy

    def _can_be_read(self) -> bool:
        """Whether who has the file only reads it: others may then, too."""
        try:
            self._connect_to_look().close()
        except (_BusyError, _LogError, UserError, duckdb.Error):
            return False
        return True

    def _expect_room(self) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if free < _ROOM_BYTES:
            raise UserError(self._full(f"{free / 1e6:.0f} MB are free, {_ROOM_BYTES / 1e6:.0f} are needed"))

    def _full(self, reason: str) -> str:
        return f"the disk of {self.path} is full ({reason}): make room and ask again; what is stored stays."

    def _refuse(self, error: Exception) -> NoReturn:
        reason = str(error).splitlines()[0]
        if "No space left" in str(error):
            raise UserError(self._full(reason)) from error
        raise UserError(
            f"{self.path} cannot be used as a DuckDB file ({reason}): put a backup in its place and remove "
            f"{self._log.name} beside it, or move both away and settle the grid again."
        ) from error
