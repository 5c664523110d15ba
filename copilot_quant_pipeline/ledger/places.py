"""Where Dagster's SQLite files of a home are, and how they are opened, whatever the home is called.

Here: the storages of runs and of schedules that dagster.yaml names, how a path is written as a URL, kept connections;
no text comes into these files with a secret in it.
Not here: the event log (sqlite.py).

Dagster writes a path into a URL as it is; SQLAlchemy reads `%20` in it as a blank and what follows a `?` as options.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sql import ALEMBIC_SCRIPTS_LOCATION, AlembicVersion, create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.links import expect_mounted
from copilot_quant_pipeline.process import begin_process
from copilot_quant_pipeline.redaction import presentable_json

# What else than letters a path may have as it is; both ends of a URL agree on these.
_AS_IT_IS = "/ !\"#$&'()*+,;:=@[]{}<>|\\^`~"


def url_of(base_dir: str, name: str) -> str:
    """The URL of an SQLite file, in the place of Dagster's `create_db_conn_string`."""
    path = expect_mounted(Path(base_dir).absolute() / f"{name}.db")
    return f"sqlite:///{''.join(c if not c.isascii() else quote(c, safe=_AS_IT_IS) for c in str(path))}"


def versions_of(config: Config, connection: Connection) -> AlembicVersion:
    """A file's version and the newest, in the place of Dagster's `check_alembic_revision`."""
    return MigrationContext.configure(connection).get_current_revision(), newest_version(_location(config))


def _location(config: Config) -> str:
    return str(config.get_main_option("script_location"))


@lru_cache
def newest_version(location: str = ALEMBIC_SCRIPTS_LOCATION) -> str:
    """The newest version of Dagster's tables: scripts are run to find it, 80 of them, so once a process.

    Raises:
        RuntimeError: Another Dagster than the one this was written for.
    """
    config = Config()
    config.set_main_option("script_location", location)
    version = ScriptDirectory.from_config(config).get_current_head()
    if version is None:
        raise RuntimeError("This Dagster does not tell the version of its tables.")
    return version


for _module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
    setattr(_module, "create_db_conn_string", url_of)  # noqa: B010 the module's own name for it is not exported
    setattr(_module, "check_alembic_revision", versions_of)  # noqa: B010


def kept_engine(owner: object, url: str) -> Engine:
    """An engine for one file that keeps a connection between uses, until its owner is gone.

    Dagster's own opens the file anew each time; whoever closes it last has SQLite write all of its log into it.
    """
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=-1,
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
    )
    weakref.finalize(owner, engine.dispose)
    _kept.add(engine)
    return engine


def _forget_connections() -> None:
    for engine in _kept:
        engine.dispose(close=False)


# SQLite's connections do not survive a fork.
_kept: weakref.WeakSet[Engine] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget_connections)


@sqlalchemy_event.listens_for(Engine, "before_cursor_execute", retval=True)
def _safe_to_store(
    _conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, executemany: bool
) -> tuple[str, Any]:
    """Make every text that Dagster is about to store presentable: messages, stack traces, tags, cursors, ticks.

    Dagster's own statements are upper-case. Ours bring a run's cells, whose documents hold words of ours alone. The
    keys of an axis stay as they are.
    """
    if not statement.startswith(("INSERT", "UPDATE")) or "dynamic_partitions" in statement:
        return statement, parameters
    if executemany:
        return statement, [_safe_row(row) for row in parameters]
    return statement, _safe_row(parameters)


def _safe_row(row: Any) -> Any:
    if isinstance(row, dict):
        return {name: presentable_json(value) if isinstance(value, str) else value for name, value in row.items()}
    return tuple(presentable_json(value) if isinstance(value, str) else value for value in row)


def dagster_home(base_dir: str) -> Path:
    """What a relative `base_dir` starts from; Path() for an absolute one.

    Raises:
        UserError: DAGSTER_HOME is not set.
    """
    if Path(base_dir).is_absolute():
        return Path()
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise UserError(f"base_dir {base_dir!r} in dagster.yaml is relative: set DAGSTER_HOME to what it starts from.")
    return Path(home)


class _Kept:
    """Opens a storage's file once."""

    _conn_string: str

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection in a transaction, which is committed at the end."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @cached_property
    def _engine(self) -> Engine:
        return kept_engine(self, self._conn_string)


class HomeRunStorage(_Kept, SqliteRunStorage):
    """Dagster's SQLite storage of runs; a relative `base_dir` is meant from DAGSTER_HOME."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> HomeRunStorage:
        """What Dagster calls to build the storage that dagster.yaml names."""
        # Every process of Dagster's comes by here, also those that load no code of ours.
        begin_process()
        base_dir = config_value["base_dir"]
        return cls.from_local(str(dagster_home(base_dir) / base_dir), inst_data)


class HomeScheduleStorage(_Kept, SqliteScheduleStorage):
    """Dagster's SQLite storage of schedules and sensors; a relative `base_dir` is meant from DAGSTER_HOME."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> HomeScheduleStorage:
        """What Dagster calls to build the storage that dagster.yaml names."""
        base_dir = config_value["base_dir"]
        # Dagster's own says that it gives one of its own class.
        return cls.from_local(str(dagster_home(base_dir) / base_dir), inst_data)  # type: ignore[return-value]
