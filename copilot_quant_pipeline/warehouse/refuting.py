"""Green cells without rows that an answer turns out to have rows of: they are settled from that answer.

Here: finding them among what came beside the asked cells, and moving them to what was asked for.
Not here: storing them, which is done as of any asked cell (warehouse/settling.py), what a reason means (the venues).

That a cell has no rows (`not_listed`, `delisted`, `no_trade`, `no_price`, ..) is a claim about the venue, by where its
answers began and ended. An answer with rows there ends the claim, whatever was asked for.
"""
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import pyarrow as pa

from copilot_quant_pipeline.warehouse.tables import GridTable

REFUTED = pa.schema([("date", pa.date32()), ("key", pa.string())])

_REFUTED = """
    select c.date, c.key, any_value(w.fetched_at) as fetched_at
    from ops.coverage c
    join (select distinct "{date}" as date, "{key}" as key from seen) s using (date, key)
    join windows w on w.key = c.key
    where c.grid = $grid and c.outcome = 'settled' and c.rows = 0
    group by c.date, c.key order by c.key, c.date
"""


def with_refuted(
    connection: duckdb.DuckDBPyConnection, table: GridTable, frames: Mapping[str, pa.Table]
) -> tuple[dict[str, pa.Table], pa.Table]:
    """The registered `frames` of a settle, refuted cells as if they had been asked for; and these cells: date, key."""
    if not frames["seen"].num_rows:
        return dict(frames), REFUTED.empty_table()
    names = {"date": table.date_column, "key": table.key_column}
    refuted = connection.execute(_REFUTED.format(**names), {"grid": table.grid}).to_arrow_table()
    if not refuted.num_rows:
        return dict(frames), REFUTED.empty_table()
    connection.register("refuted", refuted)
    same = f'on r.date = s."{table.date_column}" and r.key = s."{table.key_column}"'
    return {
        **frames,
        "asked": _all_of(
            connection, frames["asked"], "select date, key, fetched_at, 'settled' as outcome from refuted"
        ),
        "incoming": _all_of(connection, frames["incoming"], f"select s.* from seen s semi join refuted r {same}"),
        "seen": _all_of(connection, frames["seen"].slice(0, 0), f"select s.* from seen s anti join refuted r {same}"),
    }, refuted.select(REFUTED.names).cast(REFUTED)


def _all_of(connection: duckdb.DuckDBPyConnection, frame: pa.Table, more: str) -> pa.Table:
    """The frame with the rows of a query below; a column that the query lacks is null there."""
    connection.register("frame", frame)
    both = f"select * from frame union all by name {more}"
    return connection.execute(both).to_arrow_table().select(frame.column_names).cast(frame.schema)
