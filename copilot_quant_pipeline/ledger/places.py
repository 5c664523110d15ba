"""Where Dagster's SQLite files of a home are: runs and schedules, whatever the home is called.

Here: the storages of runs and of schedules that dagster.yaml names, and how a path is written as a URL; no text comes
into these files with a secret in it.
Not here: the event log (sqlite.py).

Dagster writes a path into a URL as it is; SQLAlchemy reads `%20` in it as a blank and what follows a `?` as options.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Engine

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.links import expect_mounted
from copilot_quant_pipeline.redaction import guard_process, presentable_json
from copilot_quant_pipeline.settings import hide_secrets

# What else than letters a path may have as it is; both ends of a URL agree on these.
_AS_IT_IS = "/ !\"#$&'()*+,;:=@[]{}<>|\\^`~"


def url_of(base_dir: str, name: str) -> str:
    """The URL of an SQLite file, in the place of Dagster's `create_db_conn_string`."""
    path = expect_mounted(Path(base_dir).absolute() / f"{name}.db")
    return f"sqlite:///{''.join(c if not c.isascii() else quote(c, safe=_AS_IT_IS) for c in str(path))}"


for _module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
    setattr(_module, "create_db_conn_string", url_of)  # noqa: B010 the module's own name for it is not exported


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


class HomeRunStorage(SqliteRunStorage):
    """Dagster's SQLite storage of runs; a relative `base_dir` is meant from DAGSTER_HOME."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> HomeRunStorage:
        """What Dagster calls to build the storage that dagster.yaml names."""
        # Every process of Dagster's comes by here, also those that load no code of ours.
        hide_secrets()
        guard_process()
        base_dir = config_value["base_dir"]
        return cls.from_local(str(dagster_home(base_dir) / base_dir), inst_data)


class HomeScheduleStorage(SqliteScheduleStorage):
    """Dagster's SQLite storage of schedules and sensors; a relative `base_dir` is meant from DAGSTER_HOME."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> HomeScheduleStorage:
        """What Dagster calls to build the storage that dagster.yaml names."""
        base_dir = config_value["base_dir"]
        # Dagster's own says that it gives one of its own class.
        return cls.from_local(str(dagster_home(base_dir) / base_dir), inst_data)  # type: ignore[return-value]
