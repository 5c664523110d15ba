"""Troubles the warehouse knows of: red cells, cells given up, values that wait for a person or that one should look at.

Here: the questions to `ops.coverage`, `ops.quarantine` and `ops.warnings`, and their answers as troubles.
Not here: asking again (upkeep), deciding on a quarantined value, acknowledging a warning (the command).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from copilot_quant_pipeline.alerts.incidents import Trouble
from copilot_quant_pipeline.alerts.messages import counted, shortened, written
from copilot_quant_pipeline.equities.delisting import read_forgotten
from copilot_quant_pipeline.upkeep.healing import next_try_at
from copilot_quant_pipeline.warehouse.closures import Barless, read_barless
from copilot_quant_pipeline.warehouse.fetch_result import GIVEN_UP, PASSING
from copilot_quant_pipeline.warehouse.gaps import Tries
from copilot_quant_pipeline.warehouse.patience import PATIENCE
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

WAREHOUSE = "warehouse"
ASSET_OF_GRID = {"equities": "equity_bars", "markets": "prediction_market_prices"}
ASSET_OF_TABLE = {
    "equities.bars": "equity_bars",
    "equities.actions": "equity_bars",
    "prediction_markets.prices": "prediction_market_prices",
}

# How many lines an alert spells out.
SPELLED_OUT = 5

# Red cells of one grid, venue and cause are one incident: a venue that does not answer must not hide behind one symbol
# that it does not know.
_RED = """
with red as (
    select
        grid,
        if(grid = 'markets', split_part(key, ':', 1), 'yahoo') as venue,
        case
            when reason = $given_up then $given_up
            -- The first symbols that an outage hits are not known to be hit by one when they are stored.
            when list_contains($passing, reason) or reason = 'unknown_symbol' and list_contains($forgotten, key)
                then 'venue'
            else 'data'
        end as cause,
        key, date, reason, detail, attempts, passing,
        coalesce(failing_since, fetched_at) as failing_since,
        fetched_at
    from ops.coverage
    where outcome = 'failed' and not (grid = 'equities' and list_contains($barless::date[], date)
        and reason in ('missing_at_source', $given_up))
)
select
    grid, venue, cause, key, reason,
    arg_max(detail, date) as detail,
    count(*) as cells,
    min(date) as first,
    max(date) as newest,
    max(attempts) as attempts,
    min(failing_since) as since,
    max(fetched_at) as last,
    list(distinct {'reason': reason, 'attempts': attempts, 'passing': passing, 'fetched_at': fetched_at}) as tries
from red group by grid, venue, cause, key, reason
order by newest desc, cells desc, key, reason
"""

_WHAT = {
    GIVEN_UP: "has {cells} given up, of {venue}",
    "venue": "has {cells} that {fail}: {venue} does not answer as it should",
    "data": "has {cells} that {fail}: {venue} has not what it should have",
}

# Declared where restatements are; a warehouse without it has nothing to ask of a person.
_HAS_QUARANTINE = "select 1 from duckdb_tables() where schema_name = 'ops' and table_name = 'quarantine'"
_QUARANTINE = """
select
    "table",
    key,
    count(distinct date) as cells,
    min(date) as first,
    max(date) as newest,
    arg_min(old, seen_at) as old,
    arg_min(new, seen_at) as new,
    min(seen_at) as since,
    max(seen_at) as last
from ops.quarantine where state = 'waiting'
group by "table", key order by last desc, key
"""

# Who took over a ticker is told until a person joins the two, and who is asked about for as long as that waits.
_INSTRUMENTS = """
select symbol, seen_at as since, seen_again_at as last, false as begun, detail as said
from equities.instrument_questions where state = 'waiting'
union all
select symbol, first_seen_at, first_seen_at, true,
    concat('names another company from ', valid_from, ' on, the former one to ', former)
from (
    select *, lag(valid_until) over life as former, lag(instrument) over life as other
    from equities.instruments window life as (partition by symbol order by valid_from nulls first)
)
where other <> instrument
order by last desc, symbol
"""

_WARNINGS = """
    select key, date, said, first_seen_at from ops.warnings
    where over_at is null and acknowledged_at is null order by first_seen_at desc, date desc, key
"""

Row = Mapping[str, Any]


def find_in_warehouse(
    warehouse: Warehouse, on_axes: Mapping[str, Collection[str]] = MappingProxyType({})
) -> list[Trouble]:
    """What is wrong with cells, one trouble per grid, venue and cause.

    Cells of keys that somebody took off their axis (`on_axes`, by grid) are nobody's trouble any more.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    barless = read_barless(warehouse)
    words: dict[str, Any] = {
        "given_up": GIVEN_UP,
        "passing": list(PASSING),
        "forgotten": list(read_forgotten(warehouse)),
        "barless": [session.date for session in barless],
    }
    with warehouse.connect_read_only() as connection:
        red = connection.execute(_RED, words).to_arrow_table().to_pylist()
        has_quarantine = connection.execute(_HAS_QUARANTINE).fetchone() is not None
        waiting = connection.execute(_QUARANTINE).to_arrow_table().to_pylist() if has_quarantine else []
        named = connection.execute(_INSTRUMENTS).to_arrow_table().to_pylist()
        warnings = connection.execute(_WARNINGS).to_arrow_table().to_pylist()
    red = [row for row in red if row["key"] in on_axes.get(row["grid"], {row["key"]})]
    incidents = _grouped(red, lambda row: (row["grid"], row["venue"], row["cause"]))
    quarantined = _grouped(waiting, lambda row: _asset_of(row["table"]))
    companies = _grouped(named, lambda row: row["begun"])
    warned = [_warned(warnings)] if warnings else []
    return [
        *map(_red, incidents),
        *map(_quarantined, quarantined),
        *map(_barless, barless),
        *map(_companies, companies),
        *warned,
    ]


def _grouped(rows: Sequence[Row], by: Callable[[Row], object]) -> list[list[Row]]:
    groups: dict[object, list[Row]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    return list(groups.values())


def _asset_of(table: str) -> str:
    return ASSET_OF_TABLE.get(table, table)


def _red(rows: Sequence[Row]) -> Trouble:
    grid, venue, cause = (rows[0][name] for name in ("grid", "venue", "cause"))
    asset = ASSET_OF_GRID.get(grid, grid)
    cells = sum(row["cells"] for row in rows)
    return Trouble(
        key=f"cells/{asset}/{venue}/{cause}",
        source=WAREHOUSE,
        asset=asset,
        what=_WHAT[cause].format(cells=counted(cells, "cell"), fail="fails" if cells == 1 else "fail", venue=venue),
        since=min(row["since"] for row in rows),
        last=max(row["last"] for row in rows),
        examples=spelled_out([_example(row) for row in rows]),
        next_step=_next_step(cause, rows),
        page=f"/assets/{asset}?view=partitions",
        cells=cells,
        follows=tuple(f"cells/{asset}/{venue}/{c}" for c in ("venue", "data")) if cause == GIVEN_UP else (),
    )


def _example(row: Row) -> str:
    detail = f" ({shortened(row['detail'], 160)})" if row["detail"] else ""
    return f"{row['key']}, {_when(row)}: {row['reason']}{detail}"


def _when(row: Row) -> str:
    return str(row["first"]) if row["cells"] == 1 else f"{row['cells']:,} cells, {row['first']} to {row['newest']}"


def _next_step(cause: str, rows: Sequence[Row]) -> str:
    if cause == GIVEN_UP:
        return (
            "nothing by itself, but what was given up while the venue was out of reach is asked for again once it"
            " answers for other cells. The rest stays red; once you know why, `copilot-quant heal --force` asks anew."
        )
    tries = [next_try_at(Tries(**one)) for row in rows for one in row["tries"]]
    tried = max(row["attempts"] for row in rows)
    limit = (
        f"{PATIENCE.out_of_reach_for.days} days"
        if cause == "venue"
        else f"{PATIENCE.tries} tries over {PATIENCE.tried_for.days} days"
    )
    return (
        f"healing asks for them again from {written(min(at for at in tries if at))} on, waiting longer each time;"
        f" cells that go on failing are given up after {limit} (tried so far: {tried}). Their end is told."
    )


def _barless(session: Barless) -> Trouble:
    return Trouble(
        key=f"closed/equity_bars/{session.date}",
        source=WAREHOUSE,
        asset="equity_bars",
        what=f"has no bar of any symbol on {session.date}: was the exchange closed?",
        since=session.since,
        last=session.last,
        examples=(f"{session.date}: {counted(session.cells, 'cell')} failed, and later sessions have come",),
        next_step=(
            "healing asks for them again for some days. If the exchange was closed,"
            f" COPILOT_QUANT_CLOSED={session.date} takes the date off the axis, and these cells with it."
        ),
        page="/assets/equity_bars?view=partitions",
        cells=session.cells,
    )


def _quarantined(rows: Sequence[Row]) -> Trouble:
    asset = _asset_of(rows[0]["table"])
    cells = sum(row["cells"] for row in rows)
    return Trouble(
        key=f"quarantine/{asset}",
        source=WAREHOUSE,
        asset=asset,
        what=f"has {counted(cells, 'cell')} whose changed values wait for a decision",
        since=min(row["since"] for row in rows),
        last=max(row["last"] for row in rows),
        examples=spelled_out([_change(row) for row in rows]),
        next_step=(
            "nothing by itself. The old values stay until a person decides: `copilot-quant quarantine list` shows"
            " them, `accept` stores the new ones, `reject` keeps the old."
        ),
        page=f"/assets/{asset}?view=partitions",
        cells=cells,
        failure=False,
    )


def _companies(rows: Sequence[Row]) -> Trouble:
    begun, count = rows[0]["begun"], counted(len(rows), "symbol")
    if begun:
        what = f"has {count} given to another company"
        next_step = (
            "nothing. No split or dividend of one touches the other; `copilot-quant instruments join` makes them one"
            " again."
        )
    else:
        what = f"has {count} whose answers may be of another company"
        next_step = (
            "their answers are not stored until another session's says the same, or a person decides:"
            " `copilot-quant instruments list` shows them, `separate` and `join` decide."
        )
    return Trouble(
        key=f"instruments/{'begun' if begun else 'asked'}",
        source=WAREHOUSE,
        asset="equity_bars",
        what=what,
        since=min(row["since"] for row in rows),
        last=max(row["last"] for row in rows),
        examples=spelled_out([f"{row['symbol']}: {shortened(row['said'], 160)}" for row in rows]),
        next_step=next_step,
        page="/assets/equity_bars",
        failure=False,
    )


def _warned(rows: Sequence[Row]) -> Trouble:
    return Trouble(
        key="warnings/adjusted_bars",
        source=WAREHOUSE,
        asset="adjusted_bars",
        what=f"has {counted(len(rows), 'thing')} that may be wrong at the source",
        since=min(row["first_seen_at"] for row in rows),
        last=max(row["first_seen_at"] for row in rows),
        examples=spelled_out([f"{row['key']}, {row['date']}: {shortened(row['said'], 160)}" for row in rows]),
        next_step=(
            "nothing by itself, and each is told once. `copilot-quant warnings list` shows them, and"
            " `copilot-quant warnings acknowledge` says of one that it is right as it is."
        ),
        page="/assets/adjusted_bars?view=checks",
        failure=False,
    )


def _change(row: Row) -> str:
    old, new = (_values(row[name]) for name in ("old", "new"))
    changed = [f"{name} {old.get(name)} -> {value}" for name, value in new.items() if old.get(name) != value]
    return f"{row['key']}, {_when(row)}: {shortened(', '.join(changed), 160)}"


def _values(row: str | None) -> dict[str, Any]:
    """A quarantined row by column; what is no row, under a name of its own."""
    try:
        values = json.loads(row) if row else {}
    except ValueError:
        values = row
    return values if isinstance(values, dict) else {"value": values}


def spelled_out(lines: Sequence[str]) -> tuple[str, ...]:
    """The first few lines, and how many more there are."""
    more = len(lines) - SPELLED_OUT
    return (*lines[:SPELLED_OUT], f"and {more:,} more like these") if more > 0 else tuple(lines)
