"""What each asked cell becomes, given the points a venue answered with: pure.

Here: the days of a market's life, points assigned to UTC days, cells settled or failed, what tells a lost day from one
that never had a price, what each outcome settled at.
Not here: asking (fetch.py and the venues), storing (warehouse).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.errors import NotFound, VendorError
from copilot_quant_pipeline.grid.cells import Span
from copilot_quant_pipeline.prediction_markets.following import ENDED
from copilot_quant_pipeline.prediction_markets.registry import semantics_of
from copilot_quant_pipeline.prediction_markets.venue import (
    POINTS,
    SHORTEST_WITH_POINTS,
    Coarse,
    Market,
    MissingAtSource,
    Semantics,
    Unrefined,
)
from copilot_quant_pipeline.warehouse.fetch_result import CELLS, COARSE
from copilot_quant_pipeline.warehouse.tables import PRICES


@dataclass(frozen=True)
class SettledPrices:
    """Every cell of a span once (`CELLS`), its rows (`PRICES`), and which cells may be had finer (`COARSE`)."""

    cells: pa.Table
    rows: pa.Table
    coarse: pa.Table = field(default_factory=COARSE.empty_table)


@dataclass(frozen=True)
class PriceEvidence:
    """What tells a day that was lost from one that never had a price.

    Attributes:
        looked: the first and the last UTC day that the answer covers.
        stored: the first and the last day with a stored price; None where there is none.
        since: the first day that anybody asks for.
    """

    looked: tuple[date, date]
    stored: tuple[date, date] | None = None
    since: date = date.min


def days_of_life(market: Market, span: Span, today: date) -> tuple[date, ...]:
    """The asked days on which the market was open for at least a moment, up to today."""
    first = market.opened_at.date() if market.opened_at else date.min
    return tuple(day for day in span.dates if first <= day <= last_day_of_life(market, today))


def settle_span(
    span: Span,
    market: Market,
    answer: pa.Table | VendorError | None,
    *,
    now: datetime,
    source: str,
    evidence: PriceEvidence | None = None,
) -> SettledPrices:
    """What each asked cell becomes, every one exactly once.

    Days before the market opened are settled as `not_open`, days after it closed as `closed`, days since its venue
    knows it no more as `delisted`; they need no `answer`, which is None where nothing had to be asked. A day with
    points of every outcome is settled with them. What one without any becomes is said by the venue's semantics:
    `no_trade` where nothing happened that is not told; where prices are shown every hour, `no_trade` of a market that
    never traded or was hardly open that day, `no_price` between its start and its first price ever, or between its last
    one and its end; else failed as `missing_at_source`, and so is one with points of some outcomes only. Where nothing
    is known of the silence it is always failed. A day whose points are few while a service that may have more did not
    answer is settled with them, and told as coarse. By default the `evidence` is the answer alone, to cover the asked
    days.

    A vendor's error fails the days that had to be asked for, except those it brings points of. Days before today of a
    venue that has no history are settled as `no_history`.
    """
    alive = set(days_of_life(market, span, now.astimezone(UTC).date()))
    rows = _rows(market, _points_of(answer), source, now)
    judge = _Judge(
        market, answer, now.astimezone(UTC), evidence or PriceEvidence((span.dates[0], span.dates[-1])), rows
    )
    fates = [judge.fate(day) if day in alive else ("settled", _why_not_alive(day, market), None) for day in span.dates]
    red = {day for day, (outcome, _, _) in zip(span.dates, fates, strict=True) if outcome == "failed"}
    green = alive - red
    if not judge.days.keys() <= green:
        rows = rows.filter(pc.is_in(rows.column("date"), pa.array(sorted(green), pa.date32())))
    cells = {
        "date": pa.array(span.dates, pa.date32()),
        "key": pa.repeat(span.key, len(span.dates)),
        "outcome": pa.array([outcome for outcome, _, _ in fates]),
        "reason": pa.array([reason for _, reason, _ in fates], pa.string()),
        "detail": pa.array([detail for _, _, detail in fates], pa.string()),
        "fetched_at": pa.repeat(pa.scalar(now, CELLS.field("fetched_at").type), len(span.dates)),
    }
    coarse = [
        {"date": day, "key": span.key, "finer_until": one.until, "detail": _of_few(one)}
        for day, one in judge.coarse.items()
        if day in green
    ]
    return SettledPrices(pa.table(cells, schema=CELLS), rows, pa.Table.from_pylist(coarse, COARSE))


def without_future(settled: SettledPrices, today: date, venue: str, now: datetime) -> SettledPrices:
    """The span's cells and rows, those of days after `today` failed: the venue's clock has that, and ours has `now`."""
    days = settled.cells.column("date")
    future = pc.greater(days, pa.scalar(today, pa.date32()))
    if not pc.any(future).as_py():
        return settled
    why = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, and {venue}'s is not past {today}"
    told = {"outcome": "failed", "reason": "not_over", "detail": why}
    columns = [
        pc.if_else(future, told[name], settled.cells.column(name)) if name in told else settled.cells.column(name)
        for name in CELLS.names
    ]
    kept = settled.rows.filter(pc.less_equal(settled.rows.column("date"), pa.scalar(today, pa.date32())))
    return replace(settled, cells=pa.table(columns, schema=CELLS), rows=kept)


def expects_more(
    span: Span, market: Market, answer: pa.Table | VendorError | None, evidence: PriceEvidence, now: datetime
) -> bool:
    """Whether some asked day may be lost or never have had a price, and only the rest of the market's life can tell."""
    if isinstance(answer, VendorError) and not isinstance(answer, MissingAtSource):
        return False
    judge = _Judge(market, answer, now.astimezone(UTC), evidence, _rows(market, _points_of(answer), "", now))
    return any(judge.is_open_question(day) for day in days_of_life(market, span, now.astimezone(UTC).date()))


def with_finer(
    told: pa.Table, stored: pa.Table, coarse: Mapping[date, Coarse]
) -> tuple[pa.Table, Mapping[date, Coarse]]:
    """The `told` points (`POINTS`), on coarse days the `stored` ones (`PRICES`) where they are more; and their numbers.

    A service that did not answer has not taken back what it said before.
    """
    days = told.column("stamped_at").cast(pa.date32(), safe=False)
    of_told, of_stored = _counts(days, told), _counts(stored.column("date"), stored)
    finer = {day: of_stored[day] for day in coarse if sum(of_stored.get(day, ())) > sum(of_told.get(day, ()))}
    kept = (
        stored.filter(pc.is_in(stored.column("date"), pa.array(list(finer), pa.date32())))
        .select(POINTS.names)
        .cast(POINTS)
    )
    others = told.filter(pc.invert(pc.is_in(days, pa.array(list(finer), pa.date32()))))
    return pa.concat_tables([others, kept]), {
        day: replace(one, points=min(finer.get(day, [one.points]))) for day, one in coarse.items()
    }


def _counts(days: pa.ChunkedArray, points: pa.Table) -> dict[date, list[int]]:
    """How many points there are of each outcome, by day."""
    each = (
        pa.table({"day": days, "outcome": points.column("outcome")})
        .group_by(["day", "outcome"])
        .aggregate([([], "count_all")])
    )
    counts: dict[date, list[int]] = {}
    for day, count in zip(each.column("day").to_pylist(), each.column("count_all").to_pylist(), strict=True):
        counts.setdefault(day, []).append(count)
    return counts


def days_told(market: Market, answer: object) -> set[date]:
    """The UTC days of which an answer brings points, be they asked for or not."""
    points = _points_of(answer)
    return set(_rows(market, points, "", _ANY_TIME).column("date").unique().to_pylist()) if points.num_rows else set()


def last_day_of_life(market: Market, today: date) -> date:
    """The UTC day on which the market ended, or today."""
    ended = _day_of_end(market) if market.status in ENDED else None  # else it is announced only
    return min(ended, today) if ended else today


def _day_of_end(market: Market) -> date | None:
    if market.closes_at is None:
        return None
    # The hour that ends at midnight is the last of the day before.
    candle = timedelta(microseconds=1) if semantics_of(market.venue).offers == "candles" else timedelta()
    return (market.closes_at - candle).date()


Fate = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class _Judge:
    """Says what one market's days in its life become; `rows` (`PRICES`) are what the answer brought."""

    market: Market
    answer: pa.Table | VendorError | None
    now: datetime
    evidence: PriceEvidence
    rows: pa.Table

    @cached_property
    def days(self) -> Mapping[date, frozenset[str]]:
        """The outcomes with points, by UTC day."""
        return _outcomes_by_day(self.rows)

    def fate(self, day: date) -> Fate:
        market, answer = self.market, self.answer
        if day in self._failed:
            return "failed", *self._failed[day]
        if day in self.days:
            lacking = self._lacking(day)
            few = _of_few(self.coarse.get(day))
            return ("failed", "missing_at_source", _of_some(market, lacking)) if lacking else ("settled", None, few)
        if market.status == "gone" and self._is_refused and _is_last_day(day, market):
            return "settled", "delisted", f"{market.venue} knew it until that day"
        if self._is_past(day) and not self._semantics.has_history and not getattr(answer, "transient", False):
            return "settled", "no_history", f"{market.venue} gives no history: its prices begin when first asked for"
        if isinstance(answer, VendorError) and not self._is_judged:
            return "failed", "unknown_market" if isinstance(answer, NotFound) else answer.reason, str(answer)
        return self._silent(day)

    def is_open_question(self, day: date) -> bool:
        """Whether nothing came of this day, and it is not known what lies before or after it."""
        known = day in self.days or day in self._failed
        return not known and self._can_miss(day) and self._is_judged and self._was_lost(day) is None

    @cached_property
    def _semantics(self) -> Semantics:
        return semantics_of(self.market.venue)

    def _is_past(self, day: date) -> bool:
        return day < self.now.date()

    @property
    def _failed(self) -> Mapping[date, tuple[str, str]]:
        """The days that something else is wrong with, by whoever says so."""
        return self.answer.failed if isinstance(self.answer, MissingAtSource) else {}

    @property
    def _is_judged(self) -> bool:
        """Whether days without points are to be told apart; what a venue has deleted is known by its name only."""
        return not self._is_refused or (isinstance(self.answer, MissingAtSource) and self.market.status != "gone")

    @property
    def _is_refused(self) -> bool:
        return isinstance(self.answer, VendorError) and not isinstance(self.answer, Unrefined)

    @cached_property
    def coarse(self) -> Mapping[date, Coarse]:
        """The days with points of which a service that did not answer may have more."""
        told = self.answer.coarse if isinstance(self.answer, MissingAtSource) else {}
        return {day: one for day, one in told.items() if day in self.days}

    def _silent(self, day: date) -> Fate:
        if self._semantics.silence == "unknown":
            why = f"{self.market.venue} says nothing of {self.market.key} on this day, and what that means is not known"
            return "failed", "missing_at_source", why
        if not self._can_miss(day) or (self._priced is None and self.market.volume is None):
            return "settled", "no_trade", None
        if self._was_lost(day) is False:
            return "settled", "no_price", f"{self.market.venue} has prices of it {self._extent} only"
        return "failed", "missing_at_source", self._loss(day)

    def _can_miss(self, day: date) -> bool:
        market = self.market
        lived_long = _lived(day, market, self.now) >= SHORTEST_WITH_POINTS
        return self._semantics.silence == "lost" and market.volume != 0 and lived_long

    def _lacking(self, day: date) -> list[str]:
        if not self._can_miss(day) or self.market.status == "gone":
            return []
        return [one.name for one in self.market.outcomes if one.token and one.name not in self.days[day]]

    def _was_lost(self, day: date) -> bool | None:
        """Whether the venue must have had a price; None where only the rest of the market's life can tell.

        One between two days with prices is lost. So is one after the last price of a market that is still open, and all
        of them where a market traded and there is no price at all.
        """
        ended = self.market.status in ENDED
        if self._priced is None:
            return True if not ended or (self._from_start and self._to_end) else None
        first, last = self._priced
        if day < first:
            return False if self._from_start else None
        if day > last and ended:
            return False if self._to_end else None
        return True

    @cached_property
    def _priced(self) -> tuple[date, date] | None:
        known = sorted({*self.days, *(self.evidence.stored or ())})
        return (known[0], known[-1]) if known else None

    @property
    def _from_start(self) -> bool:
        opened = self.market.opened_at
        return self.evidence.looked[0] <= max(opened.date() if opened else date.min, self.evidence.since)

    @property
    def _to_end(self) -> bool:
        return self.evidence.looked[1] >= last_day_of_life(self.market, self.now.date())

    @property
    def _extent(self) -> str:
        return " to ".join(map(str, self._priced or ()))

    def _loss(self, day: date) -> str:
        market = self.market
        if self._priced is None:
            return f"{market.key} traded {market.volume:.0f} in all, and {market.venue} has no price of it"
        if day > self._priced[1]:
            return f"{market.key} has no price after {self._priced[1]}, and has not ended by then"
        return f"{market.key} has prices {self._extent}, and none on this day"


_ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def _points_of(answer: object) -> pa.Table:
    points = answer.points if isinstance(answer, MissingAtSource) else answer
    return points if isinstance(points, pa.Table) else POINTS.empty_table()


def _outcomes_by_day(rows: pa.Table) -> dict[date, frozenset[str]]:
    pairs = rows.select(["date", "outcome"]).group_by(["date", "outcome"]).aggregate([])
    days: dict[date, set[str]] = {}
    for day, outcome in zip(*(pairs.column(name).to_pylist() for name in ("date", "outcome")), strict=True):
        days.setdefault(day, set()).add(outcome)
    return {day: frozenset(outcomes) for day, outcomes in days.items()}


def _of_some(market: Market, lacking: list[str]) -> str:
    return f"{market.venue} has prices of some outcomes of {market.key}, and none of {', '.join(lacking)} on this day"


def _of_few(coarse: Coarse | None) -> str | None:
    return f"coarse: {coarse.points} point{'' if coarse.points == 1 else 's'} a day" if coarse else None


def settlements_of(market: Market) -> dict[str, Decimal] | None:
    """What each outcome settled at, from 0 to 1; None where that is not final or the venue does not say.

    Of a market of two that settled in between, its venue tells what the first settled at; of one of several winners, or
    whose outcomes each have an end of their own, what each settled at (without those that are void). What is resolved
    without a winner and without that is void, or resolved in equal parts where that is what its venue means by it.
    """
    names = [outcome.name for outcome in market.outcomes]
    if market.result is not None:
        return {name: Decimal(name == market.result) for name in names}
    if market.status != "resolved":
        return None
    if told := {name: _probability(worth) for name, worth in (market.facts.get("settlements") or {}).items()}:
        return {name: worth for name, worth in told.items() if worth is not None}
    first = _probability(market.facts.get("settlement"))
    if first is not None and len(names) == 2:
        return {names[0]: first, names[1]: 1 - first}
    if semantics_of(market.venue).ends_unsaid == "in equal parts":
        return dict.fromkeys(names, (1 / Decimal(len(names))).quantize(Decimal("0.000001")))
    return None


def _probability(told: object) -> Decimal | None:
    try:
        number = Decimal(str(told))
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number <= 1 else None


def _lived(day: date, market: Market, now: datetime) -> timedelta:
    """How much of the UTC day the market was open for by now."""
    start = datetime.combine(day, time(), UTC)
    ended = [market.closes_at] if market.closes_at and market.status in ENDED else []
    ends = [start + timedelta(days=1), now, *ended]
    return min(ends) - max(start, market.opened_at or start)


def _is_last_day(day: date, market: Market) -> bool:
    return day == _day_of_end(market)


def _why_not_alive(day: date, market: Market) -> str:
    if market.opened_at is not None and day < market.opened_at.date():
        return "not_open"
    return "delisted" if market.status == "gone" else "closed"


def _rows(market: Market, points: pa.Table, source: str, now: datetime) -> pa.Table:
    at = points.column("stamped_at")
    if semantics_of(market.venue).offers == "candles":
        at = pc.subtract(at, pa.scalar(timedelta(microseconds=1)))
    count = points.num_rows
    columns = {
        **{name: points.column(name) for name in points.column_names},
        "date": pc.cast(pc.floor_temporal(at, unit="day"), pa.date32()),
        "market": pa.repeat(market.key, count),
        "source": pa.repeat(source, count),
        "first_seen_at": pa.repeat(pa.scalar(now, pa.timestamp("us", tz="UTC")), count),
    }
    return pa.table([columns[name] for name in PRICES.names], schema=PRICES.arrow)
