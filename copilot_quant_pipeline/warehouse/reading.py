"""Reading the warehouse: as pandas frames, for research, and any table of values as of an instant.

Here: a few functions that give a user what they compute with.
Not here: writing, free SQL (`Warehouse.read` and `Warehouse.connect_read_only`), progress of the grids.

>>> import tempfile
>>> from datetime import UTC, date, datetime
>>> from pathlib import Path
>>> import pyarrow as pa
>>> from copilot_quant_pipeline.warehouse.fetch_result import CELLS
>>> from copilot_quant_pipeline.warehouse.tables import BARS
>>> now = datetime(2024, 6, 11, 22, tzinfo=UTC)
>>> days = [date(2024, 6, 7), date(2024, 6, 10)]
>>> cells = pa.Table.from_pylist(
...     [{"date": day, "key": "NVDA", "outcome": "settled", "fetched_at": now} for day in days],
...     schema=CELLS,
... )
>>> bar = {"symbol": "NVDA", "dividend": 0.0, "split_ratio": 1.0, "confirmed_at": now, "quality": "ok"}
>>> before = {"open": 1200.0, "high": 1217.0, "low": 1180.0, "close": 1210.0, "volume": 41}
>>> after = {"open": 120.0, "high": 123.0, "low": 117.0, "close": 121.8, "volume": 314, "split_ratio": 10.0}
>>> rows = [
...     {"date": day, "source": "example", "first_seen_at": now, **bar, **prices}
...     for day, prices in zip(days, (before, after), strict=True)
... ]
>>> home = tempfile.TemporaryDirectory()
>>> path = Path(home.name) / "warehouse.duckdb"
>>> bars = pa.Table.from_pylist(rows, schema=BARS.arrow)
>>> stored = Warehouse(path).settle(BARS, cells, bars, run_id="example")

As traded, and in today's shares:

>>> read_bars(path, ["NVDA"])[["date", "close", "volume", "split_ratio"]]
        date   close  volume  split_ratio
0 2024-06-07  1210.0      41          1.0
1 2024-06-10   121.8     314         10.0
>>> read_bars(path, ["NVDA"], adjusted=True)[["date", "close", "volume", "adj_close"]]
        date  close  volume  adj_close
0 2024-06-07  121.0     410      121.0
1 2024-06-10  121.8     314      121.8
>>> read_closes(path, start=date(2024, 6, 10))  # doctest: +NORMALIZE_WHITESPACE
symbol       NVDA
date
2024-06-10  121.8
>>> home.cleanup()
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from copilot_quant_pipeline.warehouse.history import FIRST_VERSION_WITH_HISTORY, as_of
from copilot_quant_pipeline.warehouse.tables import VALUES, Table
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    import pandas as pd


def read_bars(
    warehouse: Warehouse | Path | str,
    symbols: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    *,
    adjusted: bool = False,
) -> pd.DataFrame:
    """Daily bars by symbol and date; `start` and `end` are included, None is no limit.

    As traded, with dividend and split_ratio; or `adjusted`: prices and volume in the newest shares, with the
    total-return `adj_close`. `date` is the New York session, a datetime64 without time zone; prices are in
    USD. Of two chosen symbols that are names of one company (`equities.instruments`) each day has the bar of the one
    that was valid.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    chosen = {"symbols": None if symbols is None else list(symbols), "start": start, "end": end}
    frame: pd.DataFrame = _opened(warehouse).read(_ADJUSTED if adjusted else _AS_TRADED, chosen).to_pandas()
    return frame


def read_closes(
    warehouse: Warehouse | Path | str,
    symbols: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
) -> pd.DataFrame:
    """Total-return closes, one row a session and one column a symbol, NaN where there is no bar.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    bars = read_bars(warehouse, symbols, start, end, adjusted=True)
    return bars.pivot_table(index="date", columns="symbol", values="adj_close")


def read_members(warehouse: Warehouse | Path | str, on: date | None = None) -> pd.DataFrame:
    """S&P 500 membership intervals by symbol: those that hold on a day, or all.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    frame: pd.DataFrame = _opened(warehouse).read(_MEMBERS, {"on": on}).to_pandas()
    return frame


def _opened(warehouse: Warehouse | Path | str) -> Warehouse:
    return warehouse if isinstance(warehouse, Warehouse) else Warehouse(Path(warehouse))


# Adjusting needs every later action: the dates limit what is shown, the symbols also what is computed. Where two of the
# chosen symbols are names of one company and both have a bar of a day, the name that was valid that day is shown.
_CHOSEN = """
    with renamed as (
        from equities.lives l semi join (
            select instrument from equities.lives group by instrument having count(distinct symbol) > 1
        ) using (instrument)
    ), named as (
        select b.date, b.symbol, r.instrument,
            b.date between coalesce(r.valid_from, b.date) and coalesce(r.valid_until, b.date) as is_valid
        from equities.bars b join renamed r on r.symbol = b.symbol and b.date between r.since and r.until
        where $symbols::varchar[] is null or list_contains($symbols::varchar[], b.symbol)
    ), superseded as (
        select date, symbol from named n
        where not is_valid and exists (
            from named o where o.date = n.date and o.instrument = n.instrument and o.is_valid and o.symbol <> n.symbol
        )
    )
    select bars.* replace (date::timestamp as date)
    from equities.bars as bars anti join superseded using (symbol, date)
    where ($symbols::varchar[] is null or list_contains($symbols::varchar[], symbol))
        and ($start::date is null or date >= $start::date)
        and ($end::date is null or date <= $end::date)
    order by symbol, date
"""

_AS_TRADED = _CHOSEN
_ADJUSTED = _CHOSEN.replace("equities.bars as bars", "equities.adjusted_bars as bars")

_MEMBERS = """
    select * from equities.members
    where $on::date is null
        or (coalesce(member_from <= $on::date, true) and coalesce(member_to >= $on::date, true))
    order by symbol, member_from
"""


def read_as_of(warehouse: Warehouse, table: Table, instant: datetime) -> pa.Table:
    """The rows of one of `VALUES` as they stood at `instant` (aware), in declared columns, by key.

    Raises:
        ValueError: The table keeps no history.
        UserError: The warehouse cannot be opened.
    """
    if table not in VALUES:
        raise ValueError(f"{table.schema}.{table.name} keeps no history")
    by_key = ", ".join(f'"{name}" nulls first' for name in table.key)
    return warehouse.read(f"from ({as_of(table)}) order by {by_key}", {"as_of": instant}).cast(table.arrow)


def read_history_begins(warehouse: Warehouse) -> datetime | None:
    """Since when what is replaced is kept, aware UTC: what was replaced before is not known; None without a file."""
    answer = warehouse.read(
        "select min(applied_at) as begins from ops.schema_version where version >= $version",
        {"version": FIRST_VERSION_WITH_HISTORY},
    )
    begins: datetime | None = answer.to_pylist()[0]["begins"]
    return begins
