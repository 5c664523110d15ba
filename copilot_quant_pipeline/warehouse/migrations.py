"""Bringing a warehouse file to the version this program knows.

Here: the version, the creation of a new file, the ordered upgrades of older ones.
Not here: what the tables are (warehouse/tables.py), opening and locking (warehouse/connections.py).

A new file is created from the declarations, straight at the newest version. When a declaration changes,
append the statements that bring an existing file there to `UPGRADES`, which raises the version by one; views
are renewed with every upgrade.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.tables import TABLES, UNKNOWN_LOOKS, VIEWS

# UPGRADES[n] brings version n + 1 to version n + 2; one without statements has the views renewed.
UPGRADES: tuple[Sequence[str], ...] = ((), (UNKNOWN_LOOKS.ddl,))

_UNVERSIONED = 0


def read_version(connection: duckdb.DuckDBPyConnection) -> int:
    """The version of an open file; 0 where it has none of our tables."""
    known = "select 1 from duckdb_tables() where schema_name = 'ops' and table_name = 'schema_version'"
    if connection.execute(known).fetchone() is None:
        return _UNVERSIONED
    (version,) = connection.execute("select max(version) from ops.schema_version").fetchone() or (None,)
    return int(version or _UNVERSIONED)


def is_older(connection: duckdb.DuckDBPyConnection, upgrades: Sequence[Sequence[str]] = UPGRADES) -> bool:
    """Whether an open file has to be migrated before it can be read.

    Raises:
        UserError: It is of a newer version than this program knows.
    """
    version, newest = read_version(connection), len(upgrades) + 1
    if version > newest:
        raise UserError(
            f"the warehouse has schema version {version}, this program knows {newest}: "
            "upgrade copilot-quant-pipeline, or choose another home with COPILOT_QUANT_HOME."
        )
    return version < newest


def migrate(connection: duckdb.DuckDBPyConnection, upgrades: Sequence[Sequence[str]] = UPGRADES) -> None:
    """Bring an open file to the newest version, in one transaction.

    Raises:
        UserError: It is of a newer version than this program knows.
    """
    if not is_older(connection, upgrades):
        return
    connection.begin()
    try:
        for statement in _statements(read_version(connection), upgrades):
            connection.execute(statement)
        connection.execute("insert into ops.schema_version values ($version, now())", {"version": len(upgrades) + 1})
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _statements(version: int, upgrades: Sequence[Sequence[str]]) -> list[str]:
    views = [view.ddl for view in VIEWS]
    if version == _UNVERSIONED:
        schemas = sorted({table.schema for table in TABLES})
        return [f'create schema if not exists "{name}"' for name in schemas] + [t.ddl for t in TABLES] + views
    return [statement for upgrade in upgrades[version - 1 :] for statement in upgrade] + views
