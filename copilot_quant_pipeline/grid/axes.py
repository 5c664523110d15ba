"""The axes of each grid, as Dagster partitions.

Here: one definition per axis and how a cell is written as a partition key.
Not here: which cells were asked for (grid/runs.py) or settled (warehouse).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

import dagster as dg

from copilot_quant_pipeline.calendar import NEW_YORK, holidays, last_known_date, sessions_in_range
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.grid.keys import MARKET as MARKET
from copilot_quant_pipeline.grid.keys import SYMBOL as SYMBOL
from copilot_quant_pipeline.grid.keys import judge_key
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.closures import read_closures

DATE = "date"
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

# The second axis of each grid.
AXIS_OF = {"equities": SYMBOL, "markets": MARKET}

# The assets whose cells the grids show, by the names Dagit has for them.
GRID_ASSETS = frozenset({"equity_bars", "prediction_market_prices"})

markets_axis = dg.DynamicPartitionsDefinition(name=MARKET)
symbols_axis = dg.DynamicPartitionsDefinition(name=SYMBOL)


def sessions_axis(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Exchange sessions from the grid's start; a session appears at the following New York midnight.

    Holidays are known to the end of next year, so the axis is redefined once a year; days on which the exchange turned
    out to be closed are no sessions, unless some symbol has a bar of them (warehouse/closures.py). There is no
    `end_offset`: with exclusions it would show a future session on weekends and holidays (dagster #33551).
    """
    # Datetimes must be naive local midnights: aware ones are relabelled, others match nothing.
    closures = read_closures(settings)
    days = {*holidays(settings.equities_start, last_known_date()), *closures.off}.difference(closures.kept)
    closed = [datetime.combine(day, time()) for day in sorted(days)]
    return dg.DailyPartitionsDefinition(
        start_date=settings.equities_start.isoformat(),
        end_date=_pinned_end(settings),
        timezone=str(NEW_YORK),
        exclusions=["0 0 * * 6", "0 0 * * 0", *closed],
    )


def _pinned_end(settings: Settings) -> str | None:
    if settings.pinned_now is None:
        return None
    return settings.pinned_now.astimezone(NEW_YORK).date().isoformat()


def equities_grid(settings: Settings) -> dg.MultiPartitionsDefinition:
    """Sessions × symbols; a key is written `2024-01-02|AAPL`."""
    return dg.MultiPartitionsDefinition({DATE: sessions_axis(settings), SYMBOL: symbols_axis})


def sessions_on_axis(settings: Settings) -> list[date]:
    """The sessions that are on the axis now, ascending: those whose New York day is over."""
    yesterday = settings.now().astimezone(NEW_YORK).date() - timedelta(days=1)
    return sessions_between(settings, settings.equities_start, yesterday)


def sessions_between(settings: Settings, first: date, last: date) -> list[date]:
    """The sessions of the axis from `first` to `last`, both included, ascending, be they over or not."""
    closures, first = read_closures(settings), max(first, settings.equities_start)
    days = {*sessions_in_range(first, last), *(day for day in closures.kept if first <= day <= last)}
    return sorted(days.difference(closures.off))


def days_axis(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Every UTC day from the grid's start to today, which is there while it lasts."""
    start = settings.markets_start.isoformat()
    if settings.pinned_now is None:
        return dg.DailyPartitionsDefinition(start_date=start, timezone="UTC", end_offset=1)
    tomorrow = settings.pinned_now.date() + timedelta(days=1)
    return dg.DailyPartitionsDefinition(start_date=start, end_date=tomorrow.isoformat(), timezone="UTC")


def markets_grid(settings: Settings) -> dg.MultiPartitionsDefinition:
    """UTC days × markets; a key is written `2024-11-05|kalshi:KXFED-24NOV-T4.75`."""
    return dg.MultiPartitionsDefinition({DATE: days_axis(settings), MARKET: markets_axis})


def days_on_axis(settings: Settings) -> list[date]:
    """The UTC days that are on the axis now, ascending, today included."""
    days = (settings.now().date() - settings.markets_start).days + 1
    return [settings.markets_start + timedelta(days=n) for n in range(days)]


def keys_on_axis(instance: dg.DagsterInstance, axis: str) -> list[str]:
    """The keys on an axis, in its order, without those that can be none."""
    return [key for key in instance.get_dynamic_partitions(axis) if judge_key(axis, key) is None]


class BadKey(NamedTuple):
    """What is wrong with a key and what to write instead; when it was put on its axis, aware UTC."""

    wrong: str
    put_at: datetime


def bad_keys(instance: dg.DagsterInstance, axis: str) -> dict[str, BadKey]:
    """What somebody has put on an axis that can be no key of it."""
    read_all = getattr(instance.event_log_storage, "get_put_on_axis", None)
    # Another event-log storage does not say when.
    put: Mapping[str, datetime] = (
        read_all(axis) if read_all else dict.fromkeys(instance.get_dynamic_partitions(axis), EARLIEST)
    )
    judged = ((key, judge_key(axis, key), at) for key, at in put.items())
    return {key: BadKey(wrong, at) for key, wrong, at in judged if wrong}


def partition_key(cell: Cell) -> str:
    """The cell as Dagster writes it."""
    return f"{cell.date.isoformat()}|{cell.key}"
