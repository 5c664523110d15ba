"""Whether an answer is of the company whose bars are stored, or of another one that was given its ticker.

Here: the judgement of one answer, what becomes of the asked cells by it, and of those of the companies before.
Not here: what is stored of companies (warehouse/instruments.py), asking (fetch.py), an answer that says by itself
that it is of something else (chart.py).

A new life begins only with a whole history that two sessions' answers tell alike: it starts after the last bar stored,
and so does the listing that Yahoo tells. One that overlaps stored bars, or was listed before, is a short answer.
"""
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.calendar import last_completed_session
from copilot_quant_pipeline.equities.bars import SettledBars, settle_span
from copilot_quant_pipeline.equities.chart import VendorBars
from copilot_quant_pipeline.errors import AnotherInstrument
from copilot_quant_pipeline.grid.cells import Rectangle, Span
from copilot_quant_pipeline.warehouse.fetch_result import CELLS, Compared, Harvest, SeenAgain, Sighting
from copilot_quant_pipeline.warehouse.instruments import Life, Question, note_sightings, read_lives
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    import numpy.typing as npt

# Prices that differ by more than this, of the stored ones, on more than this share of the common sessions.
DIFFERS_BY = 0.20
ON_MORE_THAN = 0.5

# Fewer than this many differing sessions tell nothing of a company.
FEWEST = 4

# What one split makes of prices is one factor, several splits a few. Quotes are rounded, so factors are so near.
ONE_FACTOR = 2e-4
SAME_AS_BEFORE = 1e-5
MOSTLY = 0.9


@dataclass(frozen=True)
class Judged:
    """An answer as far as it may be believed: without what is of companies before; None where it waits.

    `whole` is whether its beginning is the history's.
    """

    answer: VendorBars | None
    life: Life
    sighting: Sighting | None = None
    whole: bool = False


def is_whole(answer: VendorBars, grid_start: date) -> bool:
    """Whether an answer is of all the grid's time, so that its beginning is the history's."""
    return answer.start <= grid_start


def is_tail_of_another(answer: VendorBars, life: Life) -> bool:
    """Whether only a whole history can tell if the tail is of the same company.

    It was listed after the last bar stored, or it has that bar at another price.
    """
    return _is_listed_later(answer, life) or _has_other_price(answer, life)


def _is_listed_later(answer: VendorBars, life: Life) -> bool:
    listed = answer.first_trade_date
    return life.last_bar is not None and listed is not None and listed > life.last_bar


def _has_other_price(answer: VendorBars, life: Life) -> bool:
    """Whether the last bar stored has a close that differs from the stored one by more than 20 %, as traded."""
    if life.last_bar is None or life.last_close is None:
        return False
    dates = answer.bars.column("date").to_numpy()
    at = np.flatnonzero(dates == np.datetime64(life.last_bar))
    if len(at) == 0:
        return False
    splits = answer.bars.column("split_ratio").to_numpy()[at[-1] + 1 :]
    came = answer.bars.column("close").to_numpy()[at[-1]] * np.prod(splits)
    return bool(abs(came - life.last_close) > DIFFERS_BY * life.last_close)


def judge(answer: VendorBars, life: Life, *, whole: bool) -> Judged:
    """What may be believed of `answer`, given what is stored."""
    begins, asked, last = _begins(answer), life.asked("another_life"), life.last_bar
    after_all = last is not None and (begins is None or begins > last)
    if asked and after_all and answer.first_trade_date is None:
        # It does not say when it was listed, which contradicts nothing.
        return Judged(None, life)
    if not _is_listed_later(answer, life) or life.is_same("another_life", begins, answer.first_trade_date):
        return _own(answer, life, whole=whole)
    if not whole or begins is None:
        return Judged(None, life)
    if last is None or begins <= last:
        return _own(answer, life, whole=whole)
    sighting = _sighting(answer, begins, last, asked)
    if sighting.verdict == "asked":
        return Judged(None, life, sighting)
    new = Life(after=last, first_bar=begins)
    return Judged(_since(answer, last), new, sighting, whole)


def _own(answer: VendorBars, life: Life, *, whole: bool) -> Judged:
    asked = life.asked("another_life")
    withdrawn = Sighting(answer.symbol, "another_life", "same", answer.fetched_at) if asked else None
    return Judged(_since(answer, life.after), life, withdrawn, whole)


def _sighting(answer: VendorBars, begins: date, last: date, asked: Question | None) -> Sighting:
    """That of a history which begins after the last bar; it stands where an earlier session's answer said the same."""
    listed = answer.first_trade_date
    agrees = asked is not None and (asked.begins, asked.listed) == (begins, listed)
    proven = agrees and asked is not None and _session(asked.seen_at) < _session(answer.fetched_at)
    detail = f"its history begins {begins} (listed {listed}), after the last bar stored, of {last}"
    verdict: Literal["another", "asked"] = "another" if proven else "asked"
    return Sighting(answer.symbol, "another_life", verdict, answer.fetched_at, begins, listed, last, detail)


def _session(instant: datetime) -> date:
    return last_completed_session(instant)


def _begins(answer: VendorBars) -> date | None:
    bars = answer.bars
    priced = bars.filter(pc.is_valid(bars.column("close")))
    begins: date | None = priced.column("date")[0].as_py() if priced.num_rows else None
    return begins


def _since(answer: VendorBars, after: date | None) -> VendorBars:
    if after is None:
        return answer
    bars = answer.bars.filter(pc.greater(answer.bars.column("date"), pa.scalar(after, pa.date32())))
    return replace(answer, bars=bars, start=max(answer.start, after + timedelta(days=1)))


def settle_judged(span: Span, judged: Judged, *, now: datetime, source: str) -> SettledBars:
    """What each asked cell becomes: by the answer, or red where it waits; between two companies `delisted`.

    Cells up to the last day of a company before are red here; `with_stored` gives them back.
    """
    if judged.answer is None:
        detail = judged.sighting.detail if judged.sighting else "listed after the last bar stored"
        why = f"{span.key}: another company? {detail}; it is stored once another session's answer says the same"
        return settle_span(span, AnotherInstrument(why), now=now, source=source)
    settled = settle_span(span, judged.answer, now=now, source=source, known_from=judged.life.first_bar)
    after = judged.life.after
    return settled if after is None else replace(settled, cells=_divided(settled.cells, after, span.key))


def _divided(cells: pa.Table, after: date, key: str) -> pa.Table:
    """The cells of a symbol that named another company up to the day `after`."""
    before = pc.less_equal(cells.column("date"), pa.scalar(after, pa.date32()))
    between = pc.and_(pc.invert(before), pc.fill_null(pc.equal(cells.column("reason"), "not_listed"), False))
    was = f"{key} named another company until {after}"
    columns = {
        "outcome": pc.if_else(before, "failed", cells.column("outcome")),
        "reason": pc.case_when(
            pc.make_struct(before, between), AnotherInstrument.reason, "delisted", cells.column("reason")
        ),
        "detail": pc.if_else(pc.or_(before, between), was, cells.column("detail")),
    }
    return pa.table([columns.get(name, cells.column(name)) for name in CELLS.names], schema=CELLS)


def harvest_within_lives(
    warehouse: Warehouse,
    cells: Rectangle,
    harvest: Callable[[Rectangle, Mapping[str, Life]], Harvest],
    *,
    source: str,
) -> Harvest:
    """What `harvest` brings of the cells, without what is, or may be, of another company than the one stored.

    What is asked and what is found out of companies is kept before anything else is.
    """
    lives = read_lives(warehouse, cells.keys)
    brought = judged_harvest(warehouse, harvest(cells, lives), lives, source=source)
    until = _believed_until(brought, lives)
    held = {symbol: day for symbol, day in until.items() if day >= cells.dates[0]}
    return with_stored(warehouse, brought, held, cells) if held else brought


def judged_harvest(warehouse: Warehouse, brought: Harvest, lives: Mapping[str, Life], *, source: str) -> Harvest:
    """`brought` without histories of other prices; what it says of companies is kept."""
    said = without_other_histories(warehouse, brought, lives)
    note_sightings(warehouse, said.sightings, source=source)
    return said


def _believed_until(brought: Harvest, lives: Mapping[str, Life]) -> dict[str, date]:
    """By symbol until when what is stored is nothing that the venue's answer is about."""
    until = {symbol: life.after for symbol, life in lives.items() if life.after}
    until |= {one.symbol: one.after for one in brought.sightings if one.after}
    asked = {one.symbol for one in brought.sightings if (one.kind, one.verdict) == ("another_history", "asked")}
    answered = {one.symbol for one in brought.sightings if one.verdict == "same"}
    waiting = {symbol for symbol, life in lives.items() if life.is_questioned} - answered
    return {**until, **dict.fromkeys(waiting - until.keys(), date.max), **dict.fromkeys(asked, date.max)}


def with_stored(warehouse: Warehouse, brought: Harvest, until: Mapping[str, date], cells: Rectangle) -> Harvest:
    """The red cells of symbols up to a day each: those whose bars are stored, or that were settled, stay settled."""
    bound = {"symbols": list(until), "days": list(until.values()), "first": cells.dates[0], "last": cells.dates[-1]}
    with warehouse.connect_read_only() as connection:
        connection.register("brought", brought.cells)
        back = connection.execute(_BACK, {**bound, "reason": AnotherInstrument.reason}).to_arrow_table().cast(CELLS)
        connection.register("back", back)
        rows = connection.execute(_ROWS_BACK).to_arrow_table().select(BARS.names).cast(BARS.arrow)
        others = connection.execute("from brought anti join back using (date, key)").to_arrow_table()
    return replace(
        brought,
        cells=pa.concat_tables([others.select(CELLS.names).cast(CELLS), back]),
        rows=pa.concat_tables([brought.rows, rows]),
    )


_BACK = """
with until as (select unnest($symbols::varchar[]) as key, unnest($days::date[]) as day),
known as (
    select date, key, reason, detail from ops.coverage semi join until using (key)
    where grid = 'equities' and outcome = 'settled' and rows = 0 and date between $first and $last
    union all
    select date, symbol, null, null from equities.bars
    where symbol in (select key from until) and date between $first and $last
)
select b.date, b.key, 'settled' as outcome, any_value(k.reason) as reason, any_value(k.detail) as detail,
    any_value(b.fetched_at) as fetched_at
from brought b join until u using (key) join known k on k.date = b.date and k.key = b.key
where b.reason = $reason and b.date <= u.day
group by b.date, b.key
"""

_ROWS_BACK = """
select s.* from equities.bars s join back b on b.date = s.date and b.key = s.symbol
"""


def without_other_histories(warehouse: Warehouse, brought: Harvest, lives: Mapping[str, Life]) -> Harvest:
    """`brought` without the symbols whose whole history has other prices than the stored ones, which are asked about.

    A symbol that is asked about is held until a whole history agrees with what is stored, or a person has decided.
    """
    waiting = {symbol for symbol, life in lives.items() if life.asked("another_history")}
    looked_at = {one.symbol: one for one in brought.sightings if one.kind == "another_history"}
    found = {one.symbol: one for one in _compared(warehouse, brought, lives, looked_at)}
    other = {symbol for symbol, one in found.items() if one.verdict == "asked"}
    others = [one for one in brought.sightings if one.kind != "another_history"]
    said = replace(brought, sightings=(*others, *(one for key, one in found.items() if key in other | waiting)))
    held = other | (waiting - found.keys())
    return _without(said, held, found, lives) if held else said


def _compared(
    warehouse: Warehouse, brought: Harvest, lives: Mapping[str, Life], looked_at: Mapping[str, Sighting]
) -> list[Sighting]:
    """What each whole history says once its closes are compared with the stored ones."""
    if not looked_at:
        return []
    columns = ["symbol", "date", "close"]
    seen = brought.seen_again.rows if brought.seen_again else BARS.arrow.empty_table()
    with warehouse.connect_read_only() as connection:
        connection.register("came", pa.concat_tables([seen.select(columns), brought.rows.select(columns)]))
        answer = connection.execute(_COMPARED, {"symbols": list(looked_at), "by": DIFFERS_BY}).to_arrow_table()
    rows = {row["symbol"]: row for row in answer.to_pylist()}
    return [_said(one, lives[symbol], rows.get(symbol)) for symbol, one in looked_at.items()]


_COMPARED = """
select c.symbol, min(c.date) as first, count(*) as common,
    list(c.close / s.close order by c.date) filter (abs(c.close - s.close) > $by * s.close) as factors,
    arg_min({'date': c.date, 'stored': s.close, 'came': c.close}, c.date)
        filter (abs(c.close - s.close) > $by * s.close) as example
from came c join equities.bars s on s.symbol = c.symbol and s.date = c.date
where c.symbol in (select unnest($symbols::varchar[]))
group by c.symbol
"""


def _said(same: Sighting, life: Life, row: Mapping[str, Any] | None) -> Sighting:
    factors = np.array((row and row["factors"]) or [], dtype=np.float64)
    if row is None or len(factors) <= ON_MORE_THAN * row["common"] or not is_of_another(factors):
        return same
    if life.is_same("another_history", row["first"], None):
        return same
    shown = "{date}: stored {stored}, came {came}".format(**row["example"])
    detail = f"{len(factors):,} of {row['common']:,} closes differ by more than 20 % and not by one factor ({shown})"
    return replace(same, verdict="asked", begins=row["first"], detail=detail)


def is_of_another(factors: npt.NDArray[np.float64]) -> bool:
    """Whether prices that differ by these factors, by date, are of another company rather than divided otherwise."""
    if len(factors) < FEWEST:
        return False
    one = np.mean(np.abs(factors / np.median(factors) - 1) <= ONE_FACTOR)
    steady = np.mean(np.abs(factors[1:] / factors[:-1] - 1) <= SAME_AS_BEFORE)
    return bool(one < MOSTLY and steady < MOSTLY)


def _without(brought: Harvest, held: set[str], found: Mapping[str, Sighting], lives: Mapping[str, Life]) -> Harvest:
    """`brought` with all cells of the symbols `held` red, and nothing else of them."""
    names = pa.array(sorted(held), pa.string())

    def others(table: pa.Table, column: str) -> pa.Table:
        return table.filter(pc.invert(pc.is_in(table.column(column), names)))

    why = {symbol: _why_held(symbol, found, lives) for symbol in held}
    of_held = brought.cells.filter(pc.is_in(brought.cells.column("key"), names))
    red = [
        {**cell, "outcome": "failed", "reason": AnotherInstrument.reason, "detail": why[cell["key"]]}
        for cell in of_held.to_pylist()
    ]
    seen, compared = brought.seen_again, brought.compared
    return replace(
        brought,
        cells=pa.concat_tables([others(brought.cells, "key"), pa.Table.from_pylist(red, CELLS)]),
        rows=others(brought.rows, "symbol"),
        actions=others(brought.actions or ACTIONS.arrow.empty_table(), "symbol"),
        seen_again=SeenAgain(others(seen.rows, "symbol"), others(seen.windows, "key")) if seen else None,
        compared=Compared(others(compared.rows, "key"), others(compared.windows, "key")) if compared else None,
    )


def _why_held(symbol: str, found: Mapping[str, Sighting], lives: Mapping[str, Life]) -> str:
    asked = lives[symbol].asked("another_history") if symbol in lives else None
    detail = found[symbol].detail if symbol in found else asked.detail if asked else ""
    return f"{symbol}: another instrument? {detail}; copilot-quant instruments separate|join decides"
