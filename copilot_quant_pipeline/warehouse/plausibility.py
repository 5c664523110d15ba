"""Changes of stored bars and actions that need a second look before they are believed.

Here: the statements that judge what came inside a settle's transaction, hold back what is not believed, and keep it as
proposals in quarantine.
Not here: which rows changed at all (warehouse/settling.py), what becomes of an action (warehouse/disputes.py), what a
person decides (warehouse/quarantine.py).

The frames are those of warehouse/settling.py. `judge_actions` runs before anything is compared: it makes the frames say
what is believed. `hold_bars` runs on the temporary table `changed`, of bars with the stored row `s` and the row `i`
that came. Both add to the temporary table `doubted`, which `record_doubts` puts into quarantine.
"""
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa

from copilot_quant_pipeline.warehouse.actions import Recalled
from copilot_quant_pipeline.warehouse.comparison import any_differs, differs
from copilot_quant_pipeline.warehouse.disputes import JUDGED, Closes, judge_dispute, session_of
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS, Column, Table

# A price that moves by more than this, of the stored one, is not believed; rounding alone does not make it more.
PRICE_CHANGE = 0.20

# Nor are changed prices of more than this share of a symbol's stored bars, where they are more than one: of a symbol
# with few bars a single correction is a large share, and still only that.
SHARE_OF_BARS = 0.05

# Nor volumes of as large a share of its final bars, and of at least so many, that change by one factor outside these.
MANY_VOLUMES = 20
VOLUME_FACTORS = (0.67, 1.5)

_PRICES = ("open", "high", "low", "close")
_PRICE_COLUMNS = tuple(BARS.column(name) for name in _PRICES)
_NOTES = tuple(column.name for column in BARS.notes)

_FACTORS = pa.schema([("symbol", pa.string()), ("date", pa.date32()), ("factor", pa.float64())])


def judge_actions(connection: duckdb.DuckDBPyConnection) -> None:
    """Decide on the dividends and splits that answers tell otherwise than they are known, before bars are compared.

    What is stored at once is in the temporary table `acted`. Of all others the frames of bars are made to say what is
    known: the bar of a split that waits has none, and bars that the venue has not divided by it, though they were
    stored as if it had, are what was traded.
    """
    connection.execute(_RECALLED)
    connection.execute(_SPANS)
    connection.execute(_DISPUTED)
    decided = _decide(connection)
    connection.register("judged_actions", decided.actions)
    connection.register("split_factors", decided.factors)
    connection.execute(_ACTED)
    connection.execute(_DOUBTED_ACTIONS)
    if decided.changes_bars:
        for frame in ("incoming", "seen"):
            mended = connection.execute(_mended(frame)).to_arrow_table()
            connection.register(frame, mended)


def hold_bars(connection: duckdb.DuckDBPyConnection) -> None:
    """Leave in `changed` what is believed, and mark as `held` the rows of which nothing else is left.

    Volumes that differ by rounding alone keep their stored number (`_SLACK`). Prices are not believed where one of the
    four moves by more than 20 %, where those of more than 5 % and more than one of a symbol's final bars change at
    once, and where they wait already with the same values; volumes where too many change by one factor. Prices and
    volume of a bar are decided apart. A change that was rejected before is dropped.
    """
    if connection.execute("from changed limit 1").fetchone() is None:
        return
    connection.execute(_SLACK)
    connection.execute(_MOVED)
    connection.execute(_FATES)
    connection.execute(_DOUBTED_BARS)
    # Made anew: DuckDB aborts the process when a struct is updated in place by way of a join.
    connection.execute("create temp table came as from changed")
    connection.execute(_BELIEVED)


def record_doubts(connection: duckdb.DuckDBPyConnection, run_id: str) -> int:
    """Put what is doubted into quarantine once, and withdraw what the venue says no longer; gives how many rows wait.

    Runs after the actions are stored.
    """
    (count,) = connection.execute("select count(*) from doubted where state = 'waiting'").fetchone() or (0,)
    (known,) = connection.execute("select count(*) from recalled").fetchone() or (0,)
    if count or known or connection.execute("from doubted limit 1").fetchone():
        for statement in (_STILL, _WITHDRAW, _FORGET_NOTICED, _RENEW):
            connection.execute(statement)
        connection.execute(_PROPOSE, {"run_id": run_id})
    return int(count)


def row_of_json(table: Table, text: str) -> str:
    """SQL for the row of `table` that the JSON in the column `text` stands for; what it does not name is null."""
    structure = ", ".join(f'"{column.name}": "{column.duckdb_type}"' for column in table.columns)
    return f"from_json({text}, '{{{structure}}}')"


@dataclass(frozen=True)
class _Decided:
    """`actions` in the schema `JUDGED`, and by how much bars came too high."""

    actions: pa.Table
    factors: pa.Table
    changes_bars: bool


def _decide(connection: duckdb.DuckDBPyConnection) -> _Decided:
    """What becomes of each row of `disputed` that is judged."""
    if connection.execute("from disputed where judged limit 1").fetchone() is None:
        return _Decided(JUDGED.empty_table(), _FACTORS.empty_table(), changes_bars=False)
    disputed = connection.execute("from disputed where judged order by symbol, date").to_arrow_table().to_pylist()
    recalled = _recalled_actions(connection)
    for row in disputed:
        row["recalled"] = recalled.get((row["symbol"], row["date"]), ())
    closes_of = _read_closes(connection, disputed)
    judged = [judge_dispute(row, closes_of[row["symbol"]]) for row in disputed]
    factors = pa.concat_tables([_factors(symbol, closes) for symbol, closes in closes_of.items()])
    changes_bars = factors.num_rows > 0 or any(
        (row["dividend_fate"], row["split_fate"]) != ("store", "store") for row in judged
    )
    return _Decided(pa.Table.from_pylist(judged, schema=JUDGED), factors, changes_bars)


def _read_closes(connection: duckdb.DuckDBPyConnection, disputed: Sequence[Mapping[str, Any]]) -> dict[str, Closes]:
    """By symbol; every one that has something to be judged has stored bars."""
    by_symbol: dict[str, list[Mapping[str, Any]]] = {}
    for row in disputed:
        by_symbol.setdefault(row["symbol"], []).append(row)
    found = connection.execute(_CLOSES).to_arrow_table()
    lists = {
        name: [one.values.to_numpy(zero_copy_only=False) for one in found.column(name)]
        for name in ("days", "stored", "came", "confirmed")
    }
    splits = [
        dict(zip(days or (), ratios or (), strict=True))
        for days, ratios in zip(*(found.column(name).to_pylist() for name in ("split_days", "ratios")), strict=True)
    ]
    columns = zip(found.column("symbol").to_pylist(), zip(*lists.values(), strict=True), splits, strict=True)
    return {symbol: Closes.of(arrays, split, by_symbol[symbol]) for symbol, arrays, split in columns}


def _factors(symbol: str, closes: Closes) -> pa.Table:
    """The bars that came too high, and by how much."""
    high = closes.trace.factors != 1
    columns = [pa.repeat(symbol, int(high.sum())), pa.array(closes.days[high], pa.date32())]
    return pa.table([*columns, pa.array(closes.trace.factors[high])], schema=_FACTORS)


def _recalled_actions(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, date], list[tuple[str, Recalled]]]:
    found: dict[tuple[str, date], list[tuple[str, Recalled]]] = {}
    for row in connection.execute(_RECALLED_ACTIONS).to_arrow_table().to_pylist():
        one = Recalled(row["state"], row["value"], session_of(row["seen_at"]), row["divided"])
        found.setdefault((row["key"], row["date"]), []).append((row["kind"], one))
    return found


def _mended(frame: str) -> str:
    """The bars of a frame with what is known of their actions, and as they were traded.

    A venue may have multiplied volumes by a split that it has not divided prices by.
    """
    prices = ", ".join(
        f"round(b.{name} / coalesce(f.factor, 1), 6 - cast(floor(log10(b.{name} / coalesce(f.factor, 1))) as integer))"
        f" as {name}"
        for name in _PRICES
    )
    return f"""
        select b.* from {frame} b
        anti join split_factors using (symbol, date) anti join judged_actions using (symbol, date)
        union all
        select b.* replace (
            {prices},
            case when f.factor is null or abs(b.volume - s.volume) < abs(b.volume * f.factor - s.volume) then b.volume
                else cast(round(b.volume * f.factor) as bigint) end as volume,
            coalesce(j.dividend, b.dividend) as dividend, coalesce(j.split_ratio, b.split_ratio) as split_ratio
        )
        from {frame} b left join split_factors f using (symbol, date) left join judged_actions j using (symbol, date)
        left join equities.bars s using (symbol, date)
        where f.symbol is not null or j.symbol is not null
    """


# What was ever proposed, or noticed, and not accepted.
_RECALLED = """
    create temp table recalled as
    select * from ops.quarantine where state in ('waiting', 'rejected', 'noticed')
"""

_RECALLED_ACTIONS = """
    select key, date, kind, state, divided, seen_at,
        cast(json_extract_string(new, case when kind = 'split' then '$.split_ratio' else '$.dividend' end) as double)
            as value
    from recalled where "table" = 'equities.actions' and kind in ('split', 'dividend')
"""

# Which dates an answer can tell of: from its first bar to where it was asked to. A short answer lacks nothing before.
_SPANS = """
    create temp table spans as
    with now_named as (
        -- No answer tells of a company that had the symbol before.
        select symbol, since from equities.lives where until = '9999-12-31'
    ), held as (
        select symbol, min(date) as first, max(date) as last, max(first_seen_at) as seen_at from (
            select symbol, date, first_seen_at from incoming union all select symbol, date, first_seen_at from seen
        ) left join now_named using (symbol) where date >= coalesce(since, date) group by symbol
    )
    select symbol, first, greatest(last, coalesce(w.end, last)) as last, seen_at
    from held left join windows w on w.key = symbol
"""

# The actions that answers tell otherwise than they are known, or no longer, and known splits by which the bars before
# them did not come divided. Judged are those that change what stored bars are worth; the others are of a history that
# nobody has seen before.
_DISPUTED = f"""
    create temp table disputed as
    with came as (
        select symbol, date, close from incoming union all select symbol, date, close from seen
    ), undivided as (
        select t.symbol, t.date from told t
        join came c on c.symbol = t.symbol and c.date between t.date - 7 and t.date - 1
        join equities.bars s on s.symbol = c.symbol and s.date = c.date
        where t.split_ratio <> 1 group by t.symbol, t.date
        having bool_or(abs(ln(c.close / s.close)) > 0.25 * abs(ln(t.split_ratio)))
    ), otherwise as (
        select t.symbol, t.date, t.dividend as told_dividend, t.split_ratio as told_split,
            coalesce(s.dividend, b.dividend, 0) as dividend, coalesce(s.split_ratio, b.split_ratio, 1) as split_ratio,
            s.rowid as stored_rowid, t.source, t.first_seen_at as seen_at
        from told t left join equities.actions s using (symbol, date) left join equities.bars b using (symbol, date)
        where s.symbol is null or {any_differs(ACTIONS.values, new="t")}
            or (t.symbol, t.date) in (select (symbol, date) from undivided)
        union all
        select s.symbol, s.date, 0.0, 1.0, s.dividend, s.split_ratio, s.rowid, s.source, p.seen_at
        from equities.actions s join spans p on p.symbol = s.symbol and s.date between p.first and p.last
        anti join told t on t.symbol = s.symbol and t.date = s.date
    ), stored as (
        -- Of one company: what another's bars were worth says nothing of its splits.
        select b.symbol, min(b.date) as first, max(b.date) as last,
            coalesce(any_value(l.since), '0001-01-01') as since, coalesce(any_value(l.until), '9999-12-31') as until
        from equities.bars b semi join otherwise using (symbol)
        left join equities.lives l on l.symbol = b.symbol and b.date between l.since and l.until
        group by b.symbol, l.since
    ), own as (
        select symbol, date from incoming semi join otherwise using (symbol, date)
        anti join equities.bars using (symbol, date)
    ), answered as (
        select date, key from ops.coverage where grid = 'equities'
            and (outcome = 'settled' or reason in ('missing_at_source', 'malformed_bar', 'vanished_at_source'))
    )
    select o.*, o.stored_rowid is not null or coalesce(k.first <= o.date, false) as judged,
        coalesce(k.first < o.date, false) as has_before, coalesce(o.date > k.last, true) as is_after_all,
        n.symbol is not null as has_new_bar, o.stored_rowid is not null or a.key is not null as restated
    from otherwise o left join stored k on k.symbol = o.symbol and o.date between k.since and k.until
    left join own n on n.symbol = o.symbol and n.date = o.date
    left join answered a on a.key = o.symbol and a.date = o.date
"""

# Of each symbol with an action to be judged its closes as stored and as they came, and all its splits.
_CLOSES = """
    with asked as (
        select distinct symbol from disputed where judged
    ), came as (
        select symbol, date, close from incoming semi join asked using (symbol)
        union all select symbol, date, close from seen semi join asked using (symbol)
    ), closes as (
        select symbol, coalesce(s.date, c.date) as date, s.close as stored, c.close as came,
            s.confirmed_at is not null as confirmed
        from (select symbol, date, close, confirmed_at from equities.bars semi join asked using (symbol)) s
        full join came c using (symbol, date)
    ), splits as (
        select symbol, list(date order by date) as split_days, list(split_ratio order by date) as ratios from (
            select symbol, date, split_ratio from told union
            select symbol, date, split_ratio from equities.actions anti join told using (symbol, date)
        ) semi join asked using (symbol) where split_ratio <> 1 group by symbol
    )
    select symbol, list(date order by date) as days,
        list(coalesce(stored, 'nan'::double) order by date) as stored,
        list(coalesce(came, 'nan'::double) order by date) as came, list(confirmed order by date) as confirmed,
        any_value(split_days) as split_days, any_value(ratios) as ratios
    from closes left join splits using (symbol) group by symbol
"""

_ACTION = ", ".join(f"'{name}': k.{name}" for name in ACTIONS.names)

# What is known of the disputed actions from now on, where that is not what is stored; `i` is the row to be stored.
_ACTED = f"""
    create temp table acted as
    with known as (
        select d.symbol, d.date,
            case when judged then j.dividend else d.told_dividend end as dividend,
            case when judged then j.split_ratio else d.told_split end as split_ratio,
            d.source, d.seen_at as first_seen_at, d.stored_rowid, d.restated
        from disputed d left join judged_actions j using (symbol, date)
    ), both_rows as (
        select k.stored_rowid, s, {{{_ACTION}}} as i, k.restated,
            k.first_seen_at as seen_at
        from known k left join equities.actions s on s.rowid = k.stored_rowid
    )
    select * from both_rows
    where ({any_differs(ACTIONS.values)}) and (stored_rowid is not null or i.dividend <> 0 or i.split_ratio <> 1)
"""


def _doubted_action(kind: str, column: str, told: str) -> str:
    return f"""
        select 'equities.actions' as "table", d.date, d.symbol as key, '{kind}' as kind,
            cast(json_object('{column}', d.{column}) as varchar) as old,
            cast(json_object('{column}', j.{told}) as varchar) as new,
            d.seen_at, case j.{kind}_fate when 'wait' then 'waiting' else 'noticed' end as state,
            {"j.divided" if kind == "split" else "null::boolean"} as divided,
            {"coalesce(j.factor, 1)" if kind == "split" else "null::double"} as factor,
            {"d.date" if kind == "split" else "null::date"} as split_day
        from judged_actions j join disputed d using (symbol, date) where j.{kind}_fate in ('wait', 'notice')
    """


_DOUBTED_ACTIONS = f"""
    create temp table doubted as
    {_doubted_action("split", "split_ratio", "told_split")}
    union all
    {_doubted_action("dividend", "dividend", "told_dividend")}
"""

# For each bar whose volume changed, how far rounding alone can have moved it. Yahoo multiplies volumes by every later
# split and rounds them to whole shares of today. Undone, a volume is off by half a share of the day of each answer, by
# the splits that were known when it was fetched, and by half a share of its own day, where a share of the former is
# more than one of the latter.
_SLACK = """
    create temp table slack as
    with splits as (
        select symbol, date, split_ratio, first_seen_at from told where split_ratio <> 1
        union all
        select symbol, date, split_ratio, first_seen_at from equities.actions anti join told using (symbol, date)
        where split_ratio <> 1
    ), known as (
        select symbol, date, p.split_ratio, coalesce(a.first_seen_at, p.first_seen_at) as known_at
        from splits p left join equities.actions a using (symbol, date)
    ), shares as (
        select c.stored_rowid,
            product(k.split_ratio) as now,
            coalesce(product(k.split_ratio) filter (where k.known_at <= c.s.first_seen_at), 1) as before
        from changed c join known k on k.symbol = c.s.symbol and k.date > c.s.date
        where c.s.volume <> c.i.volume
        group by c.stored_rowid
    )
    select stored_rowid,
        case when now < 1 then 0.5 / now + 0.5 else 0 end + case when before < 1 then 0.5 / before + 0.5 else 0 end
            + 1e-6 as shares
    from shares where now < 1 or before < 1
"""


def _near(column: Column) -> str:
    """Whether the value that came is what the recalled row `q.said` has."""
    return f"not ({differs(column, old='q.said', new='c.i')})"


# Of a bar that is stored in the shares before a split that waits, and came in those after it: that split's day.
_EXPLAINED = """(
    select max(j.date) from judged_actions j
    where j.symbol = d.s.symbol and j.date <= d.s.date and j.split_fate = 'wait'
        and abs(ln(d.i.close / d.s.close) + ln(j.told_split / j.split_ratio))
            <= 0.25 * abs(ln(j.told_split / j.split_ratio))
)"""

_MOVES = " or ".join(f"abs(i.{name} - s.{name}) > {PRICE_CHANGE * (1 + 1e-6)} * s.{name}" for name in _PRICES)

# The bars whose prices or volume changed; what was proposed before of the same values is said so.
_MOVED = f"""
    create temp table moved as
    with said as (
        select date, key, state, kind, {row_of_json(BARS, "new")} as said from recalled
        where "table" = 'equities.bars'
    ), differing as (
        select c.stored_rowid, c.s, c.i, c.seen_at, c.s.confirmed_at is not null as is_final,
            {any_differs(_PRICE_COLUMNS)} as prices_differ,
            ({differs(BARS.column("volume"))}) and abs(i.volume - s.volume) > coalesce(shares, 0) as volume_differs
        from changed c left join slack using (stored_rowid)
        where c.came
    )
    select c.*, ({_MOVES}) or split_day is not null as jumps,
        case when s.volume > 0 and i.volume > 0 then i.volume / s.volume end as ratio,
        exists (from said q where q.date = c.s.date and q.key = c.s.symbol and q.state = 'rejected'
            and q.kind <> 'volumes' and {" and ".join(map(_near, _PRICE_COLUMNS))}) as prices_rejected,
        exists (from said q where q.date = c.s.date and q.key = c.s.symbol and q.state = 'waiting'
            and q.kind <> 'volumes' and {" and ".join(map(_near, _PRICE_COLUMNS))}) as prices_wait,
        exists (from said q where q.date = c.s.date and q.key = c.s.symbol and q.state = 'rejected'
            and q.kind = 'volumes' and {_near(BARS.column("volume"))}) as volume_rejected,
        exists (from said q where q.date = c.s.date and q.key = c.s.symbol and q.state = 'waiting'
            and q.kind = 'volumes' and {_near(BARS.column("volume"))}) as volume_waits
    from (select d.*, {_EXPLAINED} as split_day from differing d) c
    where prices_differ or volume_differs
"""

_FATES = f"""
    create temp table fates as
    with stored as (
        select symbol, count(*) as bars, count(*) filter (where confirmed_at is not null) as finals
        from equities.bars semi join (select distinct s.symbol as symbol from moved) using (symbol) group by symbol
    ), many as (
        select s.symbol as symbol from moved join stored on stored.symbol = s.symbol
        where prices_differ and not prices_rejected and moved.is_final
        group by s.symbol, bars having count(*) > 1 and count(*) > {SHARE_OF_BARS} * bars
    ), scaled as (
        select s.symbol as symbol, stored_rowid, ratio from moved
        where volume_differs and not volume_rejected and is_final
            and (ratio < {VOLUME_FACTORS[0]} or ratio > {VOLUME_FACTORS[1]})
    ), common as (
        select symbol, median(ratio) as factor from scaled join (
            select symbol, mode(round(ln(ratio) * 50)) as bucket from scaled group by symbol
        ) using (symbol) where abs(round(ln(ratio) * 50) - bucket) <= 1 group by symbol
    ), alike as (
        select symbol, stored_rowid from scaled join common using (symbol) where abs(ratio / factor - 1) <= 0.01
    ), crowds as (
        select symbol from alike join stored using (symbol)
        group by symbol, finals having count(*) >= {MANY_VOLUMES} and count(*) > {SHARE_OF_BARS} * finals
    )
    select m.stored_rowid,
        case when not prices_differ then 'same' when prices_rejected then 'ignore'
            when jumps or prices_wait or m.is_final and m.s.symbol in (from many) then 'wait' else 'take' end as prices,
        case when not volume_differs then 'same' when volume_rejected then 'ignore'
            when volume_waits or stored_rowid in (select stored_rowid from alike semi join crowds using (symbol))
                then 'wait' else 'take' end as volume
    from moved m
"""


def _doubted_bars(kind: str, part: str, names: Sequence[str]) -> str:
    def told(row: str) -> str:
        pairs = ", ".join(f"'{name}', m.{row}.{name}" for name in names)
        return f"cast(json_object({pairs}) as varchar)"

    return f"""
        select {"m.split_day" if part == "prices" else "null::date"} as split_day,
            'equities.bars' as "table", m.s.date as date, m.s.symbol as key, '{kind}' as kind,
            {told("s")} as old, {told("i")} as new, m.seen_at, 'waiting' as state,
            null::boolean as divided, null::double as factor
        from moved m join fates f using (stored_rowid) where f.{part} = 'wait'
    """


_DOUBTED_BARS = f"""
    insert into doubted by name
    {_doubted_bars("prices", "prices", (*_PRICES, *_NOTES))}
    union all
    {_doubted_bars("volumes", "volume", ("volume",))}
"""


def _taken() -> str:
    """The row to be stored: of what is not believed, and of what differs by rounding alone, the stored values."""
    values = {
        name: f"case when f.prices = 'take' and {differs(BARS.column(name))} then i.{name} else s.{name} end"
        for name in _PRICES
    }
    values["volume"] = "case when f.volume = 'take' then i.volume else s.volume end"
    for name in ("dividend", "split_ratio"):
        values[name] = f"case when {differs(BARS.column(name))} then i.{name} else s.{name} end"
    for name in _NOTES:
        values[name] = f"case when f.prices in ('wait', 'ignore') then s.{name} else i.{name} end"
    return f"struct_update(i, {', '.join(f'{name} := {value}' for name, value in values.items())})"


_BELIEVED = f"""
    create or replace temp table changed as
    with taken as (
        select c.* replace (case when c.came then {_taken()} else c.i end as i),
            coalesce('wait' in (f.prices, f.volume), false) as waits
        from came c left join fates f using (stored_rowid)
    ), compared as (
        select * replace (not came or {any_differs(BARS.values)} as restated),
            not came or {any_differs(BARS.values + BARS.notes)} as rewritten
        from taken
    )
    select * exclude (waits, rewritten) replace (restated or waits and not rewritten as restated,
        waits and not rewritten as held)
    from compared where rewritten or waits
"""


def _is_same(column: str) -> str:
    """Whether what is doubted says the same of a column as what is on record; what it does not name is the same."""
    return f"(now.{column} is null or not ({differs(BARS.column(column), old='before', new='now')}))"


# What is doubted now and was on record already. The names of bars' columns cover those of actions.
_STILL = f"""
    create temp table still as
    with compared as (
        select q."table", q.date, q.key, q.kind, q.seen_at, q.proposal, q.state as was,
            d.state, d.divided, d.factor, d.split_day,
            {row_of_json(BARS, "q.new")} as before, {row_of_json(BARS, "d.new")} as now
        from recalled q join doubted d
            on d."table" = q."table" and d.date = q.date and d.key = q.key and d.kind = q.kind
        where q.state in ('waiting', 'noticed')
    )
    select * exclude (before, now) from compared
    where {" and ".join(map(_is_same, (*_PRICES, "volume", "dividend", "split_ratio")))}
"""

# What waits, was brought otherwise now, and so waits no longer. Stored is a split that the venue has shown meanwhile.
_WITHDRAW = """
    update ops.quarantine q set decided_at = b.seen_at,
        state = case when b.is_stored then 'resolved' else 'withdrawn' end
    from (
        select q."table", q.date, q.key, q.kind, q.seen_at as first_seen, p.seen_at,
            coalesce(q."table" = 'equities.actions'
                and abs(case when q.kind = 'split' then a.split_ratio else a.dividend end
                    / cast(json_extract_string(q.new, case when q.kind = 'split' then '$.split_ratio'
                        else '$.dividend' end) as double) - 1) < 1e-5, false) as is_stored
        from recalled q
        join spans p on p.symbol = q.key
        left join (
            select date, symbol, true as came from (
                select date, symbol from incoming union select date, symbol from seen
                union select date, symbol from told
            ) semi join (select key as symbol from recalled) using (symbol)
        ) c on c.symbol = q.key and c.date = q.date
        left join equities.actions a on a.symbol = q.key and a.date = q.date
        where q.state = 'waiting' and (c.came or q."table" = 'equities.actions' and q.date between p.first and p.last)
    ) b
    where q.state = 'waiting' and q."table" = b."table" and q.date = b.date and q.key = b.key
        and q.kind is not distinct from b.kind and q.seen_at = b.first_seen
        and not exists (from still s where s."table" = q."table" and s.date = q.date and s.key = q.key
            and s.kind = q.kind and s.seen_at = q.seen_at)
"""

# One answer lacked it and the next has it again.
_FORGET_NOTICED = """
    delete from ops.quarantine q using recalled r, spans p
    where q.state = 'noticed' and r.state = 'noticed' and p.symbol = r.key and r.date between p.first and p.last
        and (q."table", q.date, q.key, q.kind, q.seen_at) = (r."table", r.date, r.key, r.kind, r.seen_at)
        and not exists (from still s where s."table" = q."table" and s.date = q.date and s.key = q.key
            and s.kind = q.kind and s.seen_at = q.seen_at)
"""

_RENEW = """
    update ops.quarantine q set state = s.state, factor = s.factor
    from still s
    where q.state = s.was and q."table" = s."table" and q.date = s.date and q.key = s.key and q.kind = s.kind
        and q.seen_at = s.seen_at
        and (s.was = 'noticed' and s.state = 'waiting'
            or s.was = s.state and q.factor is distinct from s.factor)
"""

# Each price and each action is a proposal of its own; what is wrong with a symbol's volumes is one, and so are a split
# and the prices that go with it.
_MATTER = """case when kind = 'volumes' then key when split_day is not null then concat_ws('|', key, split_day)
    else concat_ws('|', "table", key, date, kind) end"""

_PROPOSE = f"""
    insert into ops.quarantine by name
    with numbered as (
        select d.*, {_MATTER} as matter
        from doubted d
    ), known as (
        select {_MATTER} as matter,
            max(proposal) as proposal
        from still group by matter
    )
    select "table", date, key, old, new, seen_at, $run_id as run_id, state, null::timestamptz as decided_at,
        coalesce(k.proposal, (select coalesce(max(proposal), 0) from ops.quarantine) + dense_rank() over (order by
            matter)) as proposal, kind, divided, factor
    from numbered left join known k using (matter)
    anti join still s on s."table" = numbered."table" and s.date = numbered.date and s.key = numbered.key
        and s.kind = numbered.kind
"""
