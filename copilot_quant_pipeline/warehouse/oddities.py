"""What is doubtful in what is stored and was never otherwise: the statements that find it and keep the book of it.

Here: SQL to be run inside one transaction, a settle's or a migration's: which bars are doubtful, what becomes of
`ops.warnings`.
Not here: changes of stored values (warehouse/plausibility.py), errors (warehouse/checks.py), what an answer contradicts
itself in (equities/comparison.py), reading and acknowledging (warehouse/warnings.py).

A finding is a row of `WARNED`, told once: it is open until a person acknowledges it or until it is no longer so, and is
asked about again only where its number is another by then.
"""
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import duckdb

# What each kind is, of several.
KINDS = {
    "split": "splits without a jump in price",
    "jump": "jumps in price without a split",
    "spike": "prices far from the others of their day",
    "dividend": "dividends of more than half the price",
    "price": "prices that nobody can have paid",
    "adj_close": "adjusted closes that differ from the venue's own",
}
_OF_ANSWERS = "adj_close"


def warn_of_bars(connection: duckdb.DuckDBPyConnection, at: datetime, run_id: str) -> None:
    """Judge the bars near those in `incoming` and `changed`, after `settle_rows` and in its transaction."""
    connection.execute(_NEAR)
    _judge(connection, at, run_id)


def warn_of_all_bars(connection: duckdb.DuckDBPyConnection, keys: Collection[str] | None, at: datetime) -> None:
    """Judge every stored bar, of these symbols or of all, in the caller's transaction."""
    connection.execute(_EVERY, {"keys": None if keys is None else list(keys)})
    _judge(connection, at, "")


def warn_of_answers(connection: duckdb.DuckDBPyConnection, at: datetime, run_id: str) -> None:
    """Note what the answers in `warned` contradict themselves in, and what no longer, as far as `compared` tells.

    What a symbol has in quarantine waits there: what is stored is not what the answer says.
    """
    connection.execute(_CONTRADICTED)
    _note(connection, (_OF_ANSWERS,), at, run_id)


def _judge(connection: duckdb.DuckDBPyConnection, at: datetime, run_id: str) -> None:
    connection.execute(_BARS_NEAR)
    connection.execute(_DOUBTFUL)
    _note(connection, [kind for kind in KINDS if kind != _OF_ANSWERS], at, run_id)


def _note(connection: duckdb.DuckDBPyConnection, kinds: Sequence[str], at: datetime, run_id: str) -> None:
    """Bring the book up to `found` as far as `judged` (key, first, last) reaches."""
    told = {"at": at, "run_id": run_id}
    connection.execute(_OVER, {"kinds": list(kinds), "at": at})
    if connection.execute("from found limit 1").fetchone() is None:
        return
    connection.execute(_STILL_SO, told)
    connection.execute(_NEW, told)


# Of the bars `near`, those `inside` are judged; the others are there for the ones that follow them.
#
# Spin-offs arrive as splits of a few percent, which any ordinary day hides, so only larger ones are asked for a jump;
# the price must lie nearer to what the split makes of it than to none, or to the split counted twice: within half of
# it. And 1.8 because a real fall overnight of 45 % is rarer in the S&P 500 than a split that a venue has forgotten.
# Nobody quotes a share of the index below a cent or above a million; the first such bar stands for those that follow
# it. A provisional bar is left out: the venue adds the newest session's actions overnight.
_DOUBTFUL = """
    create or replace temp table found as
    with beside as (
        select *, lag(close) over last as earlier, date - lag(date) over last <= 7 as follows
        from near window last as (partition by symbol order by date)
    ), sized as (
        select *, case when follows then earlier end as before, earlier not between 0.01 and 1e6 as unpaid
        from beside where inside and confirmed_at is not null
    )
    select
        case when split_ratio = 1 then 'jump' else 'split' end as kind, symbol as key, date,
        if(split_ratio = 1, '', 'split ' || split_ratio || ', and ')
            || format('the price went from {} to {}', before, open) as said,
        open * split_ratio / before as size
    from sized
    where case when split_ratio = 1 then abs(ln(open / before)) > ln(1.8)
        else abs(ln(split_ratio)) > ln(1.4) and abs(ln(open * split_ratio / before)) > abs(ln(split_ratio)) / 2 end
    union all
    select 'dividend', symbol, date, format('dividend {} on a price of {}', dividend, before), dividend / before
    from sized where dividend > before / 2
    union all
    select 'spike', symbol, date, format('open {} high {} low {} close {}', open, high, low, close), high / low
    from sized
    where greatest(high / greatest(open, close), least(open, close) / low, open / close, close / open) > 1.8
    union all
    select 'price', symbol, date, format('close {}', close), close
    from sized where close not between 0.01 and 1e6 and not coalesce(unpaid, false)
"""

_NEAR = """
    create or replace temp table judged as
    select symbol as key, min(date) - 10 as first, max(date) + 10 as last
    from (select symbol, date from incoming union all select s.symbol, s.date from changed) group by symbol
"""

_EVERY = """
    create or replace temp table judged as
    select distinct symbol as key, date '1900-01-01' as first, date '9999-12-31' as last
    from equities.bars where $keys::varchar[] is null or symbol in (select unnest($keys::varchar[]))
"""

# The dates by themselves, too, for DuckDB then reads no others.
_BARS_NEAR = """
    create or replace temp table near as
    select symbol, date, open, high, low, close, dividend, split_ratio, confirmed_at, date >= j.first as inside
    from equities.bars b join judged j on b.symbol = j.key and date between j.first - 10 and j.last
    where date between (select min(first) - 10 from judged) and (select max(last) from judged)
"""

_CONTRADICTED = """
    create or replace temp table judged as
    select key, start as first, "end" as last from compared
    anti join (select key from ops.quarantine where state = 'waiting') using (key);
    create or replace temp table found as from warned semi join judged using (key)
"""

_SAME = "w.kind = f.kind and w.key = f.key and w.date = f.date"

_OVER = f"""
    update ops.warnings w set over_at = $at from judged j
    where j.key = w.key and w.date between j.first and j.last and w.over_at is null
        and w.kind in (select unnest($kinds::varchar[])) and not exists (from found f where {_SAME})
"""

# What a person said holds while the number is the same, also of what was over meanwhile.
_STILL_SO = f"""
    update ops.warnings w set
        over_at = null,
        said = f.said,
        size = f.size,
        first_seen_at = case when w.over_at is null and {{same}} then w.first_seen_at else $at end,
        acknowledged_at = case when {{same}} then w.acknowledged_at end,
        run_id = case when w.over_at is null and {{same}} then w.run_id else $run_id end
    from found f where {_SAME} and (w.over_at is not null or w.said <> f.said or not {{same}})
""".format(same="(abs(w.size - f.size) <= 0.01 * abs(w.size))")

_NEW = f"""
    insert into ops.warnings by name
    select f.kind, f.key, f.date, f.said, f.size, $at as first_seen_at, null as acknowledged_at, null as over_at,
        $run_id as run_id
    from found f where not exists (from ops.warnings w where {_SAME})
"""
