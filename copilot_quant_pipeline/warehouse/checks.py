"""What is wrong with what is stored: the questions of the asset checks, each one query.

Here: reads that find stale, blank, impossible and contradictory data, with how many there are and the first few.
Not here: what counts as too late or too much (upkeep/checks.py), progress in numbers (coverage.py).

Rows come as `Findings`, newest first, because what is newest is looked at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.warehouse.oddities import KINDS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

# So many are told by name.
SHOWN = 20


@dataclass(frozen=True)
class Findings:
    """How many rows a question found, and the first few in words."""

    count: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class OpenMarket:
    """A market that can be traded: when its newest point was, and when its venue last answered for it (aware UTC)."""

    key: str
    newest_point: datetime | None
    answered_at: datetime | None


_UNSETTLED = """
    select k.key, c.outcome, coalesce(c.reason, '') as reason
    from (select unnest($keys::varchar[]) as key) k
    left join ops.coverage c on c.grid = $grid and c.date = $day and c.key = k.key
    where c.outcome is distinct from 'settled' order by c.outcome nulls last, k.key
"""


def read_unsettled(warehouse: Warehouse, grid: str, day: date, keys: Sequence[str]) -> Findings:
    """Which of `keys` have no settled cell on `day`: the failed ones with their reason, then the blank ones."""
    rows = warehouse.read(_UNSETTLED, {"grid": grid, "day": day, "keys": list(keys)}).to_pylist()
    return _found(f"{row['key']}: {row['reason'] or row['outcome'] or 'not asked for'}" for row in rows)


_OPEN_MARKETS = """
    select m.market, p.newest_point, c.answered_at
    from prediction_markets.markets m
    left join (
        select market, max(stamped_at) as newest_point from prediction_markets.prices group by market
    ) p using (market)
    left join (
        select key as market, max(fetched_at) as answered_at from ops.coverage
        where grid = 'markets' and outcome = 'settled' group by key
    ) c using (market)
    where m.venue = $venue and m.status = 'open' and list_contains($markets::varchar[], m.market)
        and coalesce(m.opened_at <= $now, true) and coalesce(m.closes_at > $now, true)
    order by p.newest_point nulls first, m.market
"""


def read_open_markets(warehouse: Warehouse, venue: str, markets: Sequence[str], now: datetime) -> list[OpenMarket]:
    """Those of `markets` that are of `venue` and open at `now`; whoever is longest without a point comes first."""
    answer = warehouse.read(_OPEN_MARKETS, {"venue": venue, "markets": list(markets), "now": now})
    return [OpenMarket(row["market"], row["newest_point"], row["answered_at"]) for row in answer.to_pylist()]


def read_members_read_at(warehouse: Warehouse) -> datetime | None:
    """When the list of members was last read, aware UTC; None where it never was."""
    (row,) = warehouse.read("select max(read_at) as read_at from equities.members").to_pylist()
    read_at: datetime | None = row["read_at"]
    return read_at


# A market has cells to the day it closed, a symbol to the newest.
_BLANK = """
    with axis as (select unnest($dates::date[]) as date),
    lives as (
        select c.key, min(c.date) filter (where c.outcome = 'settled') as first, any_value(m.closed) as closed
        from ops.coverage c left join (
            select market, closes_at::date as closed from prediction_markets.markets
            where status in ('closed', 'resolved', 'gone')
        ) m on $grid = 'markets' and m.market = c.key
        where c.grid = $grid and c.key in (select unnest($keys::varchar[]))
        group by c.key
    )
    select a.date, l.key
    from lives l join axis a on a.date >= l.first and a.date <= coalesce(l.closed, a.date)
    anti join (select date, key from ops.coverage where grid = $grid) c on c.key = l.key and c.date = a.date
    order by a.date desc, l.key
"""


def read_blank(warehouse: Warehouse, grid: str, dates: Sequence[date], keys: Sequence[str]) -> Findings:
    """The cells of `dates` and `keys` nobody asked for, though one before them is settled, inside a market's life."""
    return _cells(warehouse, _BLANK, {"grid": grid, "dates": list(dates), "keys": list(keys)})


_IMPOSSIBLE = """
    with sessions as (select unnest($sessions::date[]) as date)
    select date, symbol as key, 'is no session' as what from equities.bars anti join sessions using (date)
    union all
    select date, symbol, format('open {} high {} low {} close {} volume {}', open, high, low, close, volume)
    from equities.bars
    where not (isfinite(open) and isfinite(high) and isfinite(low) and isfinite(close)
            and least(open, high, low, close) > 0 and volume >= 0)
        or quality = 'ok' and (high < low * (1 - 1e-6)
            or least(open, close) < low * (1 - 1e-6) or greatest(open, close) > high * (1 + 1e-6))
    union all
    select date, symbol, 'has ' || count(*) || ' bars' from equities.bars group by date, symbol having count(*) > 1
    order by date desc, key
"""

_MALFORMED = """
    select date, key, coalesce(detail, '') as what from ops.coverage
    where grid = 'equities' and outcome = 'failed' and reason = 'malformed_bar' order by date desc, key
"""


def read_impossible_bars(warehouse: Warehouse, sessions: Sequence[date]) -> Findings:
    """Stored bars that cannot be: off `sessions`, without a price, with low above high though not marked so, twice."""
    return _cells(warehouse, _IMPOSSIBLE, {"sessions": list(sessions)})


def read_malformed_cells(warehouse: Warehouse) -> Findings:
    """Cells that are red because the venue's bar cannot be one; nothing is stored of it."""
    return _cells(warehouse, _MALFORMED)


def count_marked_inconsistent(warehouse: Warehouse) -> int:
    """How many stored bars carry the mark that open or close lies outside low..high at the source."""
    (row,) = warehouse.read("select count(*) as n from equities.bars where quality = 'ohlc_inconsistent'").to_pylist()
    return int(row["n"])


# A provisional bar is left out: the venue adds the newest session's actions overnight.
_CONTRADICTIONS = """
    select b.date, b.symbol as key, format('bar: dividend {}, split {}; told: dividend {}, split {}',
        b.dividend, b.split_ratio, coalesce(a.dividend, 0), coalesce(a.split_ratio, 1)) as what
    from equities.bars b left join equities.actions a using (symbol, date)
    where b.confirmed_at is not null
        and (b.dividend <> 0 or b.split_ratio <> 1 or a.symbol is not null)
        and (abs(b.dividend - coalesce(a.dividend, 0)) > 1e-4 * greatest(b.dividend, coalesce(a.dividend, 0))
            or abs(b.split_ratio - coalesce(a.split_ratio, 1)) > 1e-4 * b.split_ratio)
    order by b.date desc, key
"""

_WARNINGS = """
    select kind, date, key, said as what from ops.warnings
    where over_at is null and acknowledged_at is null order by date desc, key
"""

_BAD_ADJUSTED = """
    select date, symbol as key, 'adj_close ' || coalesce(adj_close::varchar, 'is missing') as what
    from equities.adjusted_bars
    where not coalesce(adj_close > 0 and isfinite(adj_close) and close > 0 and isfinite(close), false)
    order by date desc, key
"""


def read_contradicting_actions(warehouse: Warehouse) -> Findings:
    """Final bars whose dividend or split is not what `equities.actions` tells of that session."""
    return _cells(warehouse, _CONTRADICTIONS)


def read_open_warnings(warehouse: Warehouse) -> dict[str, Findings]:
    """What a person should look at and has not acknowledged, by kind (warehouse/oddities.py says which)."""
    rows = warehouse.read(_WARNINGS)
    return {kind: _shown(rows.filter(pc.field("kind") == kind)) for kind in KINDS}


def read_bad_adjusted(warehouse: Warehouse) -> Findings:
    """Rows of the adjusted view without a finite price above 0."""
    return _cells(warehouse, _BAD_ADJUSTED)


def _cells(warehouse: Warehouse, question: str, parameters: dict[str, Any] | None = None) -> Findings:
    """What a question for cells found."""
    return _shown(warehouse.read(question, parameters or {}))


def _shown(answer: pa.Table) -> Findings:
    first = answer.slice(0, SHOWN).to_pylist()
    return Findings(answer.num_rows, tuple(_told(Cell(row["date"], row["key"]), row.get("what")) for row in first))


def _told(cell: Cell, what: str | None) -> str:
    return f"{cell.date} {cell.key}: {what}" if what else f"{cell.date} {cell.key}"


def _found(lines: Any) -> Findings:
    told = tuple(lines)
    return Findings(len(told), told[:SHOWN])
