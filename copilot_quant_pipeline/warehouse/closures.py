"""Days on which the exchange turned out to be closed, or may have been: what is stored of them.

Here: which dates leave the axis, because somebody (or a newer calendar) says that the exchange was closed and no symbol
has a bar of them; which stay all the same; taking the coverage of those that leave; sessions of which no symbol has a
bar. Not here: the axis itself (grid/axes.py), who is told (cli, alerts).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from copilot_quant_pipeline.calendar import is_session
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.fetch_result import GIVEN_UP
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

# An axis is wanted by whoever shows or runs anything: it does not wait for long.
PATIENCE = 20.0


@dataclass(frozen=True)
class Closures:
    """What the axis of sessions differs by from the calendar.

    Attributes:
        off: dates that are said to be closed and on which no symbol has a bar.
        kept: dates that are said to be closed, by whom ever, and have bars: how many.
    """

    off: frozenset[date] = frozenset()
    kept: Mapping[date, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Barless:
    """A session that is over, of which no symbol has a bar, while later ones have come; times are aware UTC."""

    date: date
    cells: int
    since: datetime
    last: datetime


def read_closures(settings: Settings) -> Closures:
    """As the settings, the calendar and what is stored have it; a file that cannot be read keeps no date."""
    path = settings.warehouse_path
    stamp = (path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else None
    known = _known.get(path)
    if known is None or known[:2] != (stamp, settings.closed):
        known = _known[path] = (stamp, settings.closed, _closures(settings))
    return known[2]


# By warehouse what its file said when it was last looked at: an axis is asked for many times by each command.
_known: dict[Path, tuple[tuple[int, int] | None, tuple[date, ...], Closures]] = {}


def _closures(settings: Settings) -> Closures:
    closed = set(settings.closed)
    try:
        stored = (
            Warehouse(settings.warehouse_path, min(settings.lock_timeout, PATIENCE)).read(_BARS_BY_DATE).to_pylist()
        )
    except UserError as error:
        log.debug("the axis goes by the calendar: %s", error)
        stored = []
    kept = {row["date"]: row["bars"] for row in stored if _is_closed(row["date"], closed) and row["date"].weekday() < 5}
    return Closures(frozenset(closed.difference(kept)), kept)


def _is_closed(day: date, closed: set[date]) -> bool:
    return day in closed or not is_session(day)


_BARS_BY_DATE = "select date, count(*) as bars from equities.bars group by date order by date"


def drop_closed(warehouse: Warehouse, settings: Settings) -> dict[date, int]:
    """Take the coverage of dates that have left the axis, and log it; how many cells went of each.

    Raises:
        UserError: The warehouse cannot be read or written.
    """
    covered = warehouse.read(_COVERED, {"grid": "equities"}).column("date").to_pylist()
    kept, closed = read_closures(settings).kept, set(settings.closed)
    gone = [day for day in covered if _is_closed(day, closed) and day not in kept]
    if not gone:
        return {}
    with warehouse.transaction() as connection:
        cells = connection.execute(_CELLS_OF, {"dates": gone}).fetchall()
        connection.execute(_DROP, {"dates": [day for day, _ in cells]})
    for day, count in cells:
        log.warning("%s is off the axis, as the exchange was closed: %d cells without a bar went with it", day, count)
    return dict(cells)


_COVERED = "select distinct date from ops.coverage where grid = $grid order by date"

# Bars may have come since it was looked: what has some stays.
_CELLS_OF = """
    select date, count(*) from ops.coverage where grid = 'equities' and date in (select unnest($dates::date[]))
        and date not in (select date from equities.bars) group by date order by date
"""

_DROP = "delete from ops.coverage where grid = 'equities' and date in (select unnest($dates::date[]))"


def read_barless(warehouse: Warehouse) -> list[Barless]:
    """The sessions of which no symbol at all has a bar, and later ones have: was the exchange closed?"""
    return [Barless(**row) for row in warehouse.read(_BARLESS, {"given_up": GIVEN_UP}).to_pylist()]


_BARLESS = """
    with days as (
        select
            date,
            sum(rows) as rows,
            count(*) filter (outcome = 'failed') as cells,
            count(*) filter (outcome = 'failed' and (reason in ('missing_at_source', 'unknown_symbol')
                or reason = $given_up and starts_with(detail, 'missing_at_source'))) as explained,
            count(*) filter (reason in ('missing_at_source', $given_up)) as missing,
            min(coalesce(failing_since, fetched_at)) filter (outcome = 'failed') as since,
            max(fetched_at) filter (outcome = 'failed') as last
        from ops.coverage where grid = 'equities' group by date
    )
    select date, cells, since, last from days
    where rows = 0 and missing > 0 and explained = cells and date < (select max(date) from days where rows > 0)
        and date not in (select date from equities.bars)
    order by date
"""
