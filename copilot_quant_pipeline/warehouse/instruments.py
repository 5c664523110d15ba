"""Which company each symbol names, as it is stored: their lives under a ticker, and what is asked about them.

Here: reading and writing `equities.instruments` and the questions about answers that may be of another company.
Not here: what an answer says (equities/lives.py), who is renamed by Wikipedia's page (equities/universe.py), commands.
"""
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol

import duckdb

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.fetch_result import Sighting
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

PERSON = "a person"


@dataclass(frozen=True)
class Question:
    """An answer that may be of another company; `kind` and `state` are those of `equities.instrument_questions`."""

    symbol: str
    kind: str
    begins: date
    listed: date | None
    detail: str
    seen_at: datetime
    seen_again_at: datetime
    state: str


@dataclass(frozen=True)
class Life:
    """What is stored of the company that a symbol names now.

    Attributes:
        after: the last day of the company that had the symbol before; its bars and all before are of others.
        first_bar: the first bar of this one; None where none is stored.
        last_bar: its last one.
        last_close: that bar's close, USD as traded.
        names: later symbols of the same company.
        questions: those that wait, and those that a person has answered with "the same".
    """

    after: date | None = None
    first_bar: date | None = None
    last_bar: date | None = None
    last_close: float | None = None
    names: frozenset[str] = frozenset()
    questions: tuple[Question, ...] = ()

    @property
    def is_questioned(self) -> bool:
        """Whether a question about it waits."""
        return any(question.state == "waiting" for question in self.questions)

    def asked(self, kind: str) -> Question | None:
        """The question of this kind that waits."""
        return next((one for one in self.questions if one.kind == kind and one.state == "waiting"), None)

    def is_same(self, kind: str, begins: date | None, listed: date | None) -> bool:
        """Whether a person has said of such an answer that it is of the same company."""
        return any(
            one.kind == kind and one.state == "same" and one.begins == begins and one.listed == listed
            for one in self.questions
        )


_LIVES = """
with asked as (select unnest($symbols::varchar[]) as symbol),
current as (
    select symbol, instrument, coalesce(valid_from, '-infinity') as named_from
    from equities.lives semi join asked using (symbol) where until = '9999-12-31'
), former as (
    select symbol, max(coalesce(valid_until, until)) as after from equities.lives semi join asked using (symbol)
    where until < '9999-12-31' group by symbol
), bars as (
    select b.symbol, min(b.date) as first_bar, max(b.date) as last_bar,
        arg_max(b.close, b.date) as last_close
    from equities.bars b semi join asked using (symbol) left join former f using (symbol)
    where f.after is null or b.date > f.after group by b.symbol
), renamed as (
    select c.symbol, list(distinct l.symbol) as names
    from current c join equities.lives l
        on l.instrument = c.instrument and l.symbol <> c.symbol and coalesce(l.valid_from, '-infinity') > c.named_from
    group by c.symbol
)
select a.symbol, f.after, b.first_bar, b.last_bar, b.last_close, coalesce(r.names, []) as names
from asked a left join former f using (symbol) left join bars b using (symbol) left join renamed r using (symbol)
"""

_INSTRUMENTS = """
select symbol, instrument, valid_from, valid_until, source from equities.instruments
order by symbol, valid_from nulls first
"""

_QUESTIONS = """
select symbol, kind, begins, listed, detail, seen_at, seen_again_at, state from equities.instrument_questions
where ($symbols::varchar[] is null or symbol in (select unnest($symbols::varchar[])))
    and state in (select unnest($states::varchar[]))
order by symbol, seen_at
"""


def read_lives(warehouse: Warehouse, symbols: Collection[str]) -> dict[str, Life]:
    """What is stored of the company that each of `symbols` names now.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    questions: dict[str, list[Question]] = {}
    for question in read_questions(warehouse, symbols, ("waiting", "same")):
        questions.setdefault(question.symbol, []).append(question)
    rows = warehouse.read(_LIVES, {"symbols": list(symbols)}).to_pylist()
    return {
        row["symbol"]: Life(
            row["after"],
            row["first_bar"],
            row["last_bar"],
            row["last_close"],
            frozenset(row["names"]),
            tuple(questions.get(row["symbol"], ())),
        )
        for row in rows
    }


def read_questions(
    warehouse: Warehouse, symbols: Collection[str] | None = None, states: Sequence[str] = ("waiting",)
) -> list[Question]:
    """The questions about `symbols` (None: all) in one of `states`, by symbol and time.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    chosen = {"symbols": None if symbols is None else list(symbols), "states": list(states)}
    return [Question(**row) for row in warehouse.read(_QUESTIONS, chosen).to_pylist()]


def read_instruments(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Which company each symbol names that has named several, or has another name: by symbol and first day.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    rows: list[dict[str, Any]] = warehouse.read(_INSTRUMENTS).to_pylist()
    return rows


def note_sightings(warehouse: Warehouse, sightings: Sequence[Sighting], *, source: str) -> None:
    """Keep what answers say of symbols in question: ask, begin the life of another company, or withdraw.

    Raises:
        UserError: The warehouse cannot be opened or written.
    """
    if not sightings:
        return
    with warehouse.transaction() as connection:
        for sighting in sightings:
            if sighting.verdict == "same":
                _decide(connection, sighting.symbol, "withdrawn", sighting.seen_at, kind=sighting.kind)
            else:
                _ask(connection, sighting)
            if sighting.verdict == "another" and sighting.begins and sighting.after:
                _begin(connection, sighting.symbol, sighting.after, sighting.begins, source, sighting.seen_at)
                _decide(connection, sighting.symbol, "another", sighting.seen_at)


def separate(warehouse: Warehouse, symbol: str, begins: date | None, *, now: datetime) -> date:
    """What a person says: from `begins` on (by default after the last bar) the symbol names another company; gives it.

    Raises:
        UserError: Nothing is stored of the symbol, or nothing before that day.
    """
    life, question = _asked_about(warehouse, symbol)
    if begins is None and question is None:
        raise UserError(f"nothing is asked about {symbol}; say with --from since when it names another company.")
    if begins is None:
        begins = question.begins if question and question.kind == "another_life" else None
    with warehouse.transaction() as connection:
        after = _last_bar_before(connection, symbol, begins, life.after)
        if after is None:
            before = f" before {begins}" if begins else ""
            raise UserError(f"no bar of {symbol} is stored{before} that is not told apart already.")
        begins = begins or after + timedelta(days=1)
        _begin(connection, symbol, after, begins, PERSON, now)
        _decide(connection, symbol, "another", now)
    return begins


def join(warehouse: Warehouse, symbol: str, *, now: datetime) -> None:
    """What a person says: all that the symbol ever named is one company.

    Raises:
        UserError: Nobody ever told its companies apart, or asked.
    """
    life, question = _asked_about(warehouse, symbol)
    if life.after is None and question is None:
        raise UserError(f"{symbol} has named one company only, and no other one is asked about.")
    with warehouse.transaction() as connection:
        _decide(connection, symbol, "same", now, of=("waiting", "another"))
        connection.execute(_JOIN, {"symbol": symbol, "person": PERSON, "now": now})
        connection.execute(_FORGET_LIVES, {"symbol": symbol, "now": now})


class Renaming(Protocol):
    """A new name of a company: from `day` on `new`, `old` before."""

    @property
    def old(self) -> str:
        """The symbol it had."""

    @property
    def new(self) -> str:
        """The symbol it has."""

    @property
    def day(self) -> date:
        """The first day of the new one."""


def name_instruments(warehouse: Warehouse, renames: Sequence[Renaming], *, source: str, now: datetime) -> None:
    """Both names of each company are one instrument: the old one to the day before, the new one from its day on.

    Raises:
        UserError: The warehouse cannot be opened or written.
    """
    if not renames:
        return
    with warehouse.transaction() as connection:
        for rename in renames:
            bound = {"old": rename.old, "new": rename.new}
            if connection.execute(_IS_NAMED, bound).fetchone() is None:
                connection.execute(_FIRST_NAME, {"symbol": rename.old, "source": source, "now": now})
                connection.execute(_OLD_NAME_ENDS, {"old": rename.old, "day": rename.day})
                connection.execute(_NEW_NAME, {**bound, "day": rename.day, "source": source, "now": now})


def _asked_about(warehouse: Warehouse, symbol: str) -> tuple[Life, Question | None]:
    life = read_lives(warehouse, [symbol])[symbol]
    if life.first_bar is None and life.after is None:
        raise UserError(f"no bar of {symbol} is stored; `copilot-quant instruments list` shows what is known.")
    return life, next((one for one in life.questions if one.state == "waiting"), None)


def _last_bar_before(
    connection: duckdb.DuckDBPyConnection, symbol: str, begins: date | None, after: date | None
) -> date | None:
    bound = {"symbol": symbol, "begins": begins, "after": after}
    last: date | None = (connection.execute(_LAST_BAR, bound).fetchone() or (None,))[0]
    return last


def _ask(connection: duckdb.DuckDBPyConnection, sighting: Sighting) -> None:
    asked = {
        "symbol": sighting.symbol,
        "kind": sighting.kind,
        "begins": sighting.begins,
        "listed": sighting.listed,
        "detail": sighting.detail,
        "at": sighting.seen_at,
    }
    if sighting.begins is None:
        return
    # Another beginning than before is another question.
    connection.execute(_WITHDRAW_OTHERS, {name: asked[name] for name in ("symbol", "kind", "begins", "listed", "at")})
    again = connection.execute(_ASK_AGAIN, asked).fetchone() or (0,)
    if again[0] == 0:
        connection.execute(_ASK, asked)


def _decide(
    connection: duckdb.DuckDBPyConnection,
    symbol: str,
    state: str,
    at: datetime,
    *,
    of: Sequence[str] = ("waiting",),
    kind: str | None = None,
) -> None:
    connection.execute(_DECIDE, {"symbol": symbol, "state": state, "at": at, "of": list(of), "kind": kind})


def _begin(
    connection: duckdb.DuckDBPyConnection, symbol: str, after: date, begins: date, source: str, at: datetime
) -> None:
    """The symbol's company ends with the day `after`, another one begins on `begins`."""
    bound: dict[str, Any] = {"symbol": symbol, "source": source, "now": at}
    connection.execute(_FIRST_NAME, bound)
    connection.execute(_END, {"symbol": symbol, "after": after})
    connection.execute(_BEGIN, {**bound, "begins": begins, "instrument": f"{symbol} {begins}"})


_LAST_BAR = """
    select max(date) from equities.bars
    where symbol = $symbol and ($begins::date is null or date < $begins::date)
        and ($after::date is null or date > $after::date)
"""

_WITHDRAW_OTHERS = """
    update equities.instrument_questions set state = 'withdrawn', decided_at = $at
    where symbol = $symbol and state = 'waiting' and kind = $kind
        and (begins <> $begins or listed is distinct from $listed)
"""

_ASK_AGAIN = """
    update equities.instrument_questions set seen_again_at = greatest(seen_again_at, $at), detail = $detail
    where symbol = $symbol and kind = $kind and state in ('waiting', 'same')
        and begins = $begins and listed is not distinct from $listed
"""

_ASK = """
    insert into equities.instrument_questions by name
    select $symbol as symbol, $kind as kind, $begins as begins, $listed as listed, $detail as detail, $at as seen_at,
        $at as seen_again_at, 'waiting' as state, null as decided_at
"""

_DECIDE = """
    update equities.instrument_questions set state = $state, decided_at = $at
    where symbol = $symbol and state in (select unnest($of::varchar[])) and coalesce(kind = $kind::varchar, true)
"""

# The company a symbol has named so far: itself, since ever.
_FIRST_NAME = """
    insert into equities.instruments by name
    select $symbol as symbol, $symbol as instrument, null as valid_from, null as valid_until, $source as source,
        $now as first_seen_at
    where $symbol not in (select symbol from equities.instruments)
"""

_END = """
    update equities.instruments set valid_until = $after
    where symbol = $symbol and coalesce(valid_until >= $after, true)
        and (symbol, valid_from) is not distinct from (
            select (symbol, valid_from) from equities.instruments where symbol = $symbol
            order by valid_from desc nulls last limit 1
        )
"""

_BEGIN = """
    insert into equities.instruments by name
    select $symbol as symbol, $instrument as instrument, $begins as valid_from, null as valid_until,
        $source as source, $now as first_seen_at
"""

_JOIN = """
    insert into equities.instruments by name
    select $symbol as symbol,
        coalesce(arg_min(instrument, coalesce(valid_from, '0001-01-01'::date)), $symbol) as instrument,
        case when bool_or(valid_from is null) then null else min(valid_from) end as valid_from,
        (list(valid_until order by valid_from desc nulls last))[1] as valid_until,
        $person as source, $now as first_seen_at
    from equities.instruments where symbol = $symbol
"""

_FORGET_LIVES = """
    delete from equities.instruments where symbol = $symbol and not (source = 'a person' and first_seen_at = $now)
"""

_IS_NAMED = """
    select 1 from equities.instruments o join equities.instruments n using (instrument)
    where o.symbol = $old and n.symbol = $new
"""

_OLD_NAME_ENDS = """
    update equities.instruments set valid_until = $day::date - 1 where symbol = $old and valid_until is null
"""

_NEW_NAME = """
    insert into equities.instruments by name
    select $new as symbol, arg_max(instrument, coalesce(valid_from, '0001-01-01'::date)) as instrument,
        $day as valid_from, null as valid_until, $source as source, $now as first_seen_at
    from equities.instruments where symbol = $old
"""
