"""Whether a process lives: a lock that it holds and that the kernel gives back when it ends, however it ends.

Here: how a life is begun, ended and judged, and the kind of lock that does for one machine: a file for each life.
Not here: whose life a run's is (run_lives), names that the version before gave to processes (former).

A life is neither a host's name, which changes with a container, nor a pid, which is given again, nor a start time,
which moves with the clock. Several machines need another kind of lock (a database's): it has to do what `Lives` says.
"""

from __future__ import annotations

import fcntl
import os
import uuid
import weakref
from contextlib import closing, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol

from copilot_quant_pipeline.errors import UserError

_ENDING = ".life"


class ProcessLife(Protocol):
    """A life that this process has begun."""

    @property
    def name(self) -> str:
        """What others judge it by."""

    @property
    def is_held(self) -> bool:
        """Whether it is this process's: not ended, and not of the process that this one was forked from."""

    def end(self) -> None:
        """Give it back; it is over then, as if the process had ended."""


class Lives(Protocol):
    """Where lives are held."""

    def begin(self, what: str) -> ProcessLife:
        """A new life; `what` tells people whose it is, in a line."""

    def is_over(self, name: str) -> bool:
        """Whether nobody holds the life of this name any more."""

    def told(self, name: str) -> str:
        """Whose life it is, in a line for people; empty where that is not known."""

    def sweep(self) -> None:
        """Remove what lives that are over have left behind."""


@dataclass(eq=False)
class _HeldFile:
    name: str
    path: Path
    file: FileIO

    @property
    def is_held(self) -> bool:
        return not self.file.closed

    def end(self) -> None:
        if self.is_held:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            self.file.close()


@dataclass(frozen=True)
class FileLives:
    """Lives of one machine's processes: each a file in `folder`, locked for as long as it lasts.

    The lock is of the open file, which no program that this process starts inherits, and which a fork of it closes. A
    file that is gone, or that anybody can lock, is of a life that is over.
    """

    folder: Path

    def begin(self, what: str) -> ProcessLife:
        """A new life.

        Raises:
            UserError: The folder cannot be written.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = self._locked()
            while held is None:
                held = self._locked()
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be written ({error.strerror}): make it writable, or choose another home with"
                " --home DIR."
            ) from error
        with suppress(OSError):  # a full disk; it is for people only
            held.file.write(what.encode())
        _HELD.add(held)
        return held

    def is_over(self, name: str) -> bool:
        """Whether nobody holds it; a life whose file cannot be looked at is not judged to be over."""
        try:
            with closing(FileIO(self._path(name))) as file:
                return _can_be_locked(file)
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def told(self, name: str) -> str:
        """What its file says."""
        try:
            return self._path(name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def sweep(self) -> None:
        """Remove files of lives that are over."""
        for path in self.folder.glob(f"*{_ENDING}"):
            with suppress(OSError), closing(FileIO(path)) as file:
                if _can_be_locked(file):
                    path.unlink(missing_ok=True)

    def _locked(self) -> _HeldFile | None:
        """A new file, locked; None where somebody who swept came between its making and its locking."""
        name = uuid.uuid4().hex
        path = self._path(name)
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if not path.exists():
            file.close()
            return None
        return _HeldFile(name, path, file)

    def _path(self, name: str) -> Path:
        return self.folder / f"{Path(name).name}{_ENDING}"


def _can_be_locked(file: FileIO) -> bool:
    # Shared, so that two who look at once do not take each other for its holder.
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_HELD: weakref.WeakSet[_HeldFile] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """Let go of the lives of the process that this one was forked from, which must not outlast it."""
    for held in list(_HELD):
        held.file.close()


os.register_at_fork(after_in_child=_leave_to_parent)
