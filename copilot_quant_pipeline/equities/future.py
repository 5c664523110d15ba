"""What a harvest may say where our clock is ahead of Yahoo's: nothing of sessions that are not over, pure.

Here: that one decision, on whole columns.
Not here: whose clock says what (vendor_clock.py), what an answer makes of a cell (bars.py).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.calendar import NEW_YORK
from copilot_quant_pipeline.warehouse.fetch_result import CELLS, Harvest


def without_future(harvest: Harvest, by_yahoo: datetime, now: datetime) -> Harvest:
    """The harvest, its cells of the New York day at `by_yahoo` and later failed as `not_over`; `now` is by our clock.

    No cell was asked for after `by_yahoo`, and their bars are left out: a day that is not over has no last word.
    """
    today = pa.scalar(by_yahoo.astimezone(NEW_YORK).date(), pa.date32())
    future = pc.greater_equal(harvest.cells.column("date"), today)
    why = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, and Yahoo's {by_yahoo:%Y-%m-%d %H:%M}"
    told = {"outcome": "failed", "reason": "not_over", "detail": why}
    columns = {name: harvest.cells.column(name) for name in CELLS.names}
    columns |= {name: pc.if_else(future, text, columns[name]) for name, text in told.items()}
    stamp = pa.scalar(by_yahoo, CELLS.field("fetched_at").type)
    columns["fetched_at"] = pc.if_else(pc.greater(columns["fetched_at"], stamp), stamp, columns["fetched_at"])
    rows = harvest.rows.filter(pc.less(harvest.rows.column("date"), today))
    return replace(harvest, cells=pa.table(columns, schema=CELLS), rows=rows)
