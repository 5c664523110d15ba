"""What goes wrong with Dagster's SQLite files, in the user's words.

Here: which file an error is of, and what to do about it.
Not here: the same of the warehouse's file (warehouse/connections.py), who tells it (the command, alerts).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import DBAPIError

from copilot_quant_pipeline.errors import BusyError, UserError

_FILE = "sqlite_file"


class BusyLedgerError(BusyError):
    """Somebody else has had one of the files for longer than SQLite waits; nothing is wrong with it."""


class UnwritableLedgerError(UserError):
    """One of the files cannot be written for now: no room, no right to it, a disk that may only be read."""


@sqlalchemy_event.listens_for(Engine, "handle_error")
def _note_file(context: ExceptionContext) -> None:
    # Neither SQLite nor SQLAlchemy says which of a home's thousands of files it was.
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None and context.engine is not None:
            setattr(error, _FILE, context.engine.url.database)


def told(error: BaseException) -> UserError | None:
    """What a user can do about an error of an SQLite file, wherever in its causes it is; None of any other error."""
    found = [one for one in _causes(error) if isinstance(one, sqlite3.Error | DBAPIError)]
    if not found:
        return None
    file = next((str(path) for one in found if (path := getattr(one, _FILE, None))), "a file of Dagster's")
    reason = str(getattr(found[-1], "orig", None) or found[-1]).splitlines()[0]
    return _in_words(file, reason)


def _in_words(file: str, reason: str) -> UserError | None:
    if "locked" in reason:
        return BusyLedgerError(f"another process has held {file} for too long ({reason}): end it, or try again later.")
    if "is full" in reason or "disk I/O error" in reason:
        return UnwritableLedgerError(
            f"the disk of {file} is full ({reason}): make room and ask again; what is stored stays."
        )
    if "readonly" in reason or "unable to open" in reason:
        where = Path(file).parent
        return UnwritableLedgerError(
            f"{file} cannot be written ({reason}): make {where} writable, or choose another home."
        )
    if "not a database" in reason or "malformed" in reason or "no such" in reason or "encrypted" in reason:
        return UserError(
            f"{file} cannot be used as an SQLite file of Dagster's ({reason}): put a backup in its place, or move it"
            " away and run copilot-quant reconcile, which paints the grid from the warehouse."
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
