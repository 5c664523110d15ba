"""Whether a warehouse file has every table and column that this program made in it.

Here: what is missing, told with what can be done about it.
Not here: files that are no warehouse at all (connections.py), versions (migrations.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.tables import TABLES, VIEWS, Table, View

_HERE = "select schema_name, table_name, column_name from duckdb_columns() where not internal"


@contextmanager
def missing_told(path: Path, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """While open, a statement that fails for want of something of ours is a line for the user.

    Raises:
        UserError: A table, a view or a column of ours is not in the file.
    """
    try:
        yield
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        if lacking := find_missing(connection):
            raise UserError(
                f"{path} lacks {', '.join(lacking[:3])}{' and more' if len(lacking) > 3 else ''}, which another program"
                " has taken away: put a backup in its place, or move it away and settle the grid again with"
                " copilot-quant backfill."
            ) from error
        raise


def find_missing(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The tables, views and columns that are declared and not there, as a person writes them."""
    with connection.cursor() as apart:  # what failed may have been in a transaction
        here = {tuple(map(str, row)) for row in apart.execute(_HERE).fetchall()}
    tables = {(schema, table) for schema, table, _ in here}
    lacking = []
    declared: list[Table | View] = [*TABLES, *VIEWS]
    for one in declared:
        if (one.schema, one.name) not in tables:
            lacking.append(f"{one.schema}.{one.name}")
            continue
        columns = (column.name for column in one.columns if (one.schema, one.name, column.name) not in here)
        lacking += [f"{one.schema}.{one.name}.{name}" for name in columns]
    return lacking
