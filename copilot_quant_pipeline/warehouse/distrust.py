"""Cells that were recorded while our clock was ahead: what is later than their venue's own clock is a gap again.

Here: finding and marking them in the coverage, by what a venue's clock says now.
Not here: whose clock says what (vendor_clock.py), the picture (io_manager.py), asking again.

What is stored of such cells stays as it is. By our own clock alone nothing is marked: it may be the one that is wrong.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.vendor_clock import TOLERANCE
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

DISTRUSTED = "distrusted"
# So that the cells are due at once, whatever they waited for.
_BEFORE = timedelta(days=1)

_LATER = """
    select date, key from ops.coverage
    where grid = $grid and fetched_at > $after and ($grid = 'equities' or split_part(key, ':', 1) = $venue)
    order by date, key
"""

_MARK = """
    update ops.coverage set
        outcome = 'failed', reason = $reason, attempts = 0, passing = 0, finer_until = null,
        detail = 'recorded at ' || strftime(fetched_at at time zone 'UTC', '%Y-%m-%d %H:%M')
            || ' UTC, which the clock of ' || $venue || ' has not reached',
        failing_since = $at, reason_since = $at, fetched_at = $at
    where grid = $grid and fetched_at > $after and ($grid = 'equities' or split_part(key, ':', 1) = $venue)
"""

_NEWEST = """
    select date, key from ops.coverage
    where grid = $grid and fetched_at > $after
    qualify row_number() over (partition by if($grid = 'equities', '', split_part(key, ':', 1)) order by date desc) = 1
    order by date, key
"""


def read_later(warehouse: Warehouse, grid: str, venue: str, now: datetime) -> list[Cell]:
    """The cells of `venue` that were recorded more than the tolerance after `now`, its own clock's."""
    found = warehouse.read(_LATER, {"grid": grid, "venue": venue, "after": now + TOLERANCE})
    return [Cell(row["date"], row["key"]) for row in found.to_pylist()]


def distrust(warehouse: Warehouse, grid: str, venue: str, now: datetime) -> None:
    """Mark the cells of `venue` that were recorded more than the tolerance after `now`, its own clock's.

    Raises:
        UserError: The file cannot be opened or written.
    """
    bound = {"grid": grid, "venue": venue, "after": now + TOLERANCE}
    with warehouse.transaction() as connection:
        connection.execute(_MARK, {**bound, "at": now - _BEFORE, "reason": DISTRUSTED})


def read_suspects(warehouse: Warehouse, grid: str, now: datetime) -> list[Cell]:
    """The newest cell of each venue that was recorded later than it is by our clock, `now`: their venues can tell."""
    found = warehouse.read(_NEWEST, {"grid": grid, "after": now + TOLERANCE})
    return [Cell(row["date"], row["key"]) for row in found.to_pylist()]
