"""What the prediction-market assets draw from: the venues behind their landing, and the stored catalog.

Here: the clients of one run held together, a run's cells turned into requests and back into a harvest.
Not here: any venue (its own module), what points become (prices.py), Dagster, starting the simulated venues.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, partial
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from copilot_quant_pipeline.errors import Malformed, NotFound, Unavailable, UserError, VendorError
from copilot_quant_pipeline.grid.cells import Rectangle, Span, plan_fetches
from copilot_quant_pipeline.landing import InBackfill, Kept, Landing, is_usable, keep_refusal, read_refusal
from copilot_quant_pipeline.prediction_markets.following import FollowRule, expect_key, plan_keys
from copilot_quant_pipeline.prediction_markets.hearing import Hearing
from copilot_quant_pipeline.prediction_markets.looks import Known, Look, look_at
from copilot_quant_pipeline.prediction_markets.prices import (
    PriceEvidence,
    SettledPrices,
    days_of_life,
    days_told,
    expects_more,
    last_day_of_life,
    settle_span,
    settlements_of,
    with_finer,
    without_future,
)
from copilot_quant_pipeline.prediction_markets.registry import make_venue, semantics_of
from copilot_quant_pipeline.prediction_markets.shapes import declaring
from copilot_quant_pipeline.prediction_markets.venue import (
    POINTS,
    BrokenRecord,
    Market,
    MissingAtSource,
    Outcome,
    Venue,
    partial_answer,
)
from copilot_quant_pipeline.retry_policy import CircuitBreaker
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline.warehouse.catalog import ListedAs, read_listed, read_markets, record_listed, record_markets
from copilot_quant_pipeline.warehouse.coverage import read_coarse, read_empty
from copilot_quant_pipeline.warehouse.fetch_result import CELLS, COARSE, WINDOWS, Harvest, SeenAgain
from copilot_quant_pipeline.warehouse.tables import MARKETS, PRICES
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

# So many markets are asked for and held at once; their hourly points over a year are some hundred megabytes.
MARKETS_AT_ONCE = 50
# A market that is not known is not known on any day.
EVER = (date.min, date.max)
# A day that is not over is asked for again after this long.
PROVISIONAL_FOR = timedelta(hours=1)

# What a stored market has as its description has it.
_COLUMNS = (
    *("venue", "id", "slug", "title", "label", "category", "event", "event_title", "series"),
    *("opened_at", "closes_at", "status", "result", "resolved_at", "volume"),
)

# By market the first and the last UTC day with a stored price.
_Extents = Mapping[str, tuple[date, date]]
_EXTENTS = """
    select market, min(date) as first, max(date) as last from prediction_markets.prices
    where market in (select unnest($markets::varchar[])) group by market
"""


_STORED_ON = """
    from prediction_markets.prices where market = $market and date in (select unnest($days::date[]))
"""


@runtime_checkable
class _ManyAtOnce(Protocol):
    def fetch_prices_of(
        self, markets: Sequence[Market], start: datetime, end: datetime
    ) -> Mapping[str, pa.Table | VendorError]:
        """Points of many markets in few requests, by key."""


@dataclass(frozen=True)
class _Ask:
    """One market of a run: the asked cells, and those of them that lie in its life."""

    span: Span
    market: Market
    days: tuple[date, ...]
    # An earlier look found the venue silent on some of them: it is to be asked, and of later days, too.
    was_silent: bool = False
    # When some of them last came coarsely; what was kept before does not refine them.
    coarse_at: datetime | None = None


@dataclass(frozen=True)
class _Answer:
    """What a venue said of a market's prices on the days from the first to the last of `looked`."""

    found: pa.Table | VendorError
    looked: tuple[date, date]


@dataclass(frozen=True)
class MarketSources:
    """The venues as `settings` reach them; each client is made when it is first asked, one for the whole process.

    `on_cells` hears how many cells are through, as each batch of markets is.
    """

    settings: Settings
    warehouse: Warehouse
    landing: Landing
    on_cells: Callable[[int], None] = lambda _: None
    _made: dict[str, Venue] = field(default_factory=dict)
    _breakers: dict[str, CircuitBreaker] = field(default_factory=dict)

    @classmethod
    def reached_by(cls, settings: Settings, on_cells: Callable[[int], None] = lambda _: None) -> MarketSources:
        """The sources at the addresses in `settings`; nothing is asked yet."""
        warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
        return cls(settings, warehouse, Landing(settings.landing_path), on_cells)

    def venue(self, name: str) -> Venue:
        """A venue's client.

        Raises:
            UserError: There is no such venue, or it needs a setting that is absent.
        """
        if name not in self._made:
            self._made[name] = make_venue(name, self.settings)
        return self._made[name]

    def _reached(self, name: str) -> Venue:
        """As `venue`; an absent setting is a refusal of what is asked of this venue, and of no other."""
        try:
            return self.venue(name)
        except UserError as error:
            # It is not asked, which says nothing about the cell.
            raise Unavailable(f"not asked: {error}") from None

    def look(self, venue: str, rule: FollowRule, markets: Sequence[Market], followed: Collection[str]) -> Look:
        """What a venue lists of the rule's categories and says of each market the rule names.

        `markets` are all that are stored, `followed` the keys of those on the axis.
        """
        try:
            client = self.venue(venue)
        except UserError as error:
            waiting = {f"{venue}:{name}": (Unavailable.reason, f"not asked: {error}") for name in rule.names_at(venue)}
            have = {market.key for market in markets}
            names = {name: why for name, why in waiting.items() if plan_keys(markets, [name])[name] not in have}
            return Look(waiting=names, news=(f"{venue}: {error}",))
        question = json.dumps([sorted(rule.categories), rule.top, rule.with_ended])
        with self.warehouse.held():
            listed, broken = (read_listed(self.warehouse, venue, question, state) for state in ("open", "broken"))
        try:
            look = declaring(venue, look_at)(client, rule, Known(markets, followed, listed, broken))
        except VendorError as error:
            return Look(faults=(str(error),), down=error)
        shown: dict[ListedAs, frozenset[str]] = {}
        if look.shown is not None and look.shown != listed:
            shown["open"] = look.shown
        if look.down is None and venue in rule.venues and look.broken != broken:
            shown["broken"] = look.broken
        record_listed(self.warehouse, venue, question, shown)
        return look

    def harvest_prices(self, cells: Rectangle, *, refresh: bool, backfill: InBackfill | None) -> Harvest:
        """Every asked cell settled or failed, and the points that came; one venue's trouble leaves the others."""
        started_at, before = datetime.now(UTC), self._traffic()
        for breaker in self._breakers.values():
            breaker.begin()
        spans = plan_fetches(cells)
        markets = self._markets(spans, backfill)
        pieces = [_unknown(span, markets[span.key], self._now) for span in spans if not _is_known(markets[span.key])]
        hearing, beside = Hearing.of(self.warehouse, self._now, self.held_back), list[SettledPrices]()
        coarse = read_coarse(self.warehouse, PRICES.grid, [span.key for span in spans])
        asks = [
            self._ask(span, market, hearing, coarse.get(span.key, {}))
            for span in spans
            if isinstance(market := markets[span.key], Market)
        ]
        for some in _by_venue(asks):
            # What is asked before midnight and stored after it is not that day's last word.
            stored, asked_at = self._stored(some), self._now
            answers = self._answers(some, stored, refresh=refresh, backfill=backfill)
            beside += self._refuting(some, answers, stored, asked_at)
            for ask in some:
                hearing.hear(ask.market, answers[ask.market.key].found if ask.market.key in answers else None)
            # Taken out one by one: points and rows of all of them at once would need twice the memory.
            pieces += [self._settled(ask, answers.pop(ask.market.key, None), stored, asked_at) for ask in some]
            self.on_cells(sum(len(ask.span.dates) for ask in some))
        pieces = hearing.judged(pieces)
        refuting = pa.concat_tables([PRICES.arrow.empty_table(), *(piece.rows for piece in beside)])
        traffic = self._traffic()
        return Harvest(
            cells=pa.concat_tables([CELLS.empty_table(), *(piece.cells for piece in pieces)]),
            rows=pa.concat_tables([PRICES.arrow.empty_table(), *(piece.rows for piece in pieces)]),
            coarse=pa.concat_tables([COARSE.empty_table(), *(piece.coarse for piece in (*pieces, *beside))]),
            seen_again=SeenAgain(refuting, _windows_of(refuting, self._now)) if refuting.num_rows else None,
            requests=traffic.requests - before.requests,
            retries=traffic.retries - before.retries,
            started_at=started_at,
        )

    @cached_property
    def _label(self) -> str:
        return "" if self.settings.source == "live" else " (sandbox)"

    def _breaker_of(self, venue: str, what: str) -> CircuitBreaker:
        """What this process knows of how a venue answers for single markets; a new harvest tries it once more."""
        return self._breakers.setdefault(f"{venue} {what}", CircuitBreaker())

    @property
    def _now(self) -> datetime:
        return self.settings.now()

    def _traffic(self) -> Traffic:
        every = [venue.traffic for venue in self._made.values()]
        return sum(every, Traffic())

    def _markets(self, spans: Sequence[Span], backfill: InBackfill | None) -> dict[str, Market | VendorError]:
        """Each asked market as stored, or as its venue describes it where it never was, or why it cannot be had."""
        markets: dict[str, Market | VendorError] = {
            market.key: market for market in read_catalog(self.warehouse, [span.key for span in spans])
        }
        new = {span.key: self._described(span.key, backfill) for span in spans if span.key not in markets}
        new = _without_twins(new, read_catalog(self.warehouse)) if new else {}
        found = [market for market in new.values() if isinstance(market, Market)]
        if found:
            record_markets(self.warehouse, catalog_rows(found, self._now, "venues" + self._label))
        return markets | new

    def _described(self, key: str, backfill: InBackfill | None) -> Market | VendorError:
        """The market under this very key, whatever its venue calls it."""
        venue, _, slug = key.partition(":")
        if refused := read_refusal(self.landing, f"{venue.upper()}-MARKETS", key, of=backfill, window=EVER):
            return refused.error
        try:
            market = self._breaker_of(venue, "market").ask(partial(self._reached(venue).fetch_market, slug))
            if isinstance(market, VendorError):
                raise market
            # A key that somebody put on the axis may be another name of it; a slug of before leads to it unsaid.
            if plan_keys([market], [key])[key] != key:
                raise NotFound(f"this market is {market.key}; ask for it by that name")
            judged = expect_key(replace(market, slug=slug))
            if isinstance(judged, BrokenRecord):
                raise Malformed(judged.why)
            return judged
        except VendorError as error:
            self._keep_refusal(f"{venue.upper()}-MARKETS", key, error, EVER, backfill)
            return error

    def _keep_refusal(
        self, folder: str, key: str, error: VendorError, window: tuple[date, date], backfill: InBackfill | None
    ) -> None:
        if backfill:
            payload = error.points if isinstance(error, MissingAtSource) else POINTS.empty_table()
            more = error.facts if isinstance(error, MissingAtSource) else {}
            keep_refusal(
                self.landing, folder, key, error, of=backfill, window=window, at=self._now, payload=payload, more=more
            )

    def _ask(self, span: Span, market: Market, hearing: Hearing, coarse: Mapping[date, datetime]) -> _Ask:
        days = days_of_life(market, span, self._now.date())
        coarse_at = max((coarse[day] for day in days if day in coarse), default=None)
        return _Ask(span, market, days, hearing.was_silent(market, days), coarse_at)

    def _refuting(
        self, asks: Sequence[_Ask], answers: Mapping[str, _Answer], stored: _Extents, now: datetime
    ) -> list[SettledPrices]:
        """What answers bring of days nobody asked for now, and that were settled without any rows."""
        empty = read_empty(self.warehouse, PRICES.grid, [ask.market.key for ask in asks])
        found = []
        for ask in asks:
            answer = answers.get(ask.market.key)
            days = empty.get(ask.market.key, frozenset()).difference(ask.span.dates)
            if answer and days and (told := days & days_told(ask.market, answer.found)):
                beside = replace(ask, span=Span(ask.span.key, tuple(sorted(told))))
                found.append(self._settled(beside, answer, stored, now))
        return found

    def clocks(self) -> dict[str, datetime]:
        """By venue what its clock says, of those that have told; none while ours is pinned."""
        if self.settings.pinned_now is not None:
            return {}
        return {name: now for name, venue in self._made.items() if (now := venue.heard.now())}

    def held_back(self, venue: str, instant: datetime) -> datetime:
        """An instant of our clock; where that runs ahead of the venue's own, what it would be by that one."""
        if self.settings.pinned_now is not None or venue not in self._made:
            return instant
        return self._made[venue].heard.held_back(instant)

    def _settled(self, ask: _Ask, answer: _Answer | None, stored: _Extents, now: datetime) -> SettledPrices:
        by_venue = self.held_back(ask.market.venue, now)
        settled = self._judged(ask, answer, stored, by_venue)
        return settled if by_venue == now else without_future(settled, by_venue.date(), ask.market.venue, now)

    def _judged(self, ask: _Ask, answer: _Answer | None, stored: _Extents, now: datetime) -> SettledPrices:
        found, source = (answer.found if answer else None), ask.market.venue + self._label
        evidence = self._evidence(ask, answer, stored)
        return settle_span(ask.span, ask.market, found, now=now, source=source, evidence=evidence)

    def _evidence(self, ask: _Ask, answer: _Answer | None, stored: _Extents) -> PriceEvidence:
        looked = answer.looked if answer else (ask.span.dates[0], ask.span.dates[-1])
        return PriceEvidence(looked, stored.get(ask.market.key), self.settings.markets_start)

    def _stored(self, asks: Sequence[_Ask]) -> _Extents:
        """By market the first and the last day with a stored price; without those that have none."""
        found = self.warehouse.read(_EXTENTS, {"markets": [ask.market.key for ask in asks]}).to_pylist()
        return {row["market"]: (row["first"], row["last"]) for row in found}

    def _answers(
        self, asks: Sequence[_Ask], stored: _Extents, *, refresh: bool, backfill: InBackfill | None
    ) -> dict[str, _Answer]:
        """By market the points of its asked days: kept ones where good enough, else asked for and kept."""
        answers: dict[str, _Answer] = {}
        missing = []
        for ask in asks:
            kept = self._kept(ask, refresh=refresh, backfill=backfill) if ask.days else None
            # By an answer that has lost a day the venue is asked again, except within one backfill.
            if kept is not None and (backfill is not None or not self._fails_by(ask, kept, stored)):
                answers[ask.market.key] = kept
            elif ask.days:
                missing.append(ask)
        if missing:
            windows = {ask.market.key: self._window(ask, whole_life=backfill is not None) for ask in missing}
            answers |= self._fetched(missing, windows, backfill)
            answers |= self._seen_whole([ask for ask in missing if self._expects_more(ask, answers, stored)], backfill)
        return answers

    def _expects_more(self, ask: _Ask, answers: Mapping[str, _Answer], stored: _Extents) -> bool:
        answer = answers[ask.market.key]
        now = self.held_back(ask.market.venue, self._now)
        return expects_more(ask.span, ask.market, answer.found, self._evidence(ask, answer, stored), now)

    def _seen_whole(self, asks: Sequence[_Ask], backfill: InBackfill | None) -> dict[str, _Answer]:
        """The answers for the whole lives of markets of which an asked day can only be told apart by the others."""
        return self._fetched(asks, {ask.market.key: self._window(ask, whole_life=True) for ask in asks}, backfill)

    def _fails_by(self, ask: _Ask, answer: _Answer, stored: _Extents) -> bool:
        return "failed" in self._settled(ask, answer, stored, self._now).cells.column("outcome").unique().to_pylist()

    def _kept(self, ask: _Ask, *, refresh: bool, backfill: InBackfill | None) -> _Answer | None:
        if ask.was_silent and backfill is None:
            return None
        folder, key, asked = _folder(ask.market), ask.market.key, (ask.days[0], ask.days[-1])
        if refused := read_refusal(self.landing, folder, key, of=backfill, window=asked):
            told = partial_answer(refused.kind, str(refused.error), refused.payload, refused.more)
            return _Answer(told or refused.error, self._window(ask, whole_life=True))
        kept = self.landing.read(folder, key)
        if kept is None or kept.payload.schema != POINTS:  # kept by a program that read less of it
            return None
        if ask.coarse_at is not None and kept.fetched_at <= ask.coarse_at:
            return None
        if refresh and (backfill is None or kept.fetched_at < backfill.since):
            return None
        usable = is_usable(
            kept,
            ask.days[0],
            ask.days[-1],
            now=self._now,
            last_completed_close=_good_since(ask.days, self._now),
            ttl=self.settings.landing_ttl,
        )
        return _Answer(kept.payload, (kept.start, kept.end)) if usable else None

    def _fetched(
        self, asks: Sequence[_Ask], windows: Mapping[str, tuple[date, date]], backfill: InBackfill | None
    ) -> dict[str, _Answer]:
        """What the venue says of all of them, over the days that hold their `windows`."""
        if not asks:
            return {}
        first = min(start for start, _ in windows.values())
        last = max(end for _, end in windows.values())
        asked_at = self._now
        answers = self._points([ask.market for ask in asks], first, last)
        asked_at = self.held_back(asks[0].market.venue, asked_at)
        for ask in asks:
            market = ask.market
            answer = answers[market.key] = self._with_memory(market, answers[market.key])
            if isinstance(answer, pa.Table):
                self.landing.keep(_folder(market), market.key, Kept(answer, first, last, asked_at))
            else:
                self._keep_refusal(_folder(market), market.key, answer, (first, last), backfill)
        return {key: _Answer(answer, (first, last)) for key, answer in answers.items()}

    def _with_memory(self, market: Market, answer: pa.Table | VendorError) -> pa.Table | VendorError:
        """The answer, with what is stored where the venue will not say it again: before now, of what it has deleted."""
        if isinstance(answer, pa.Table):
            return answer if semantics_of(market.venue).has_history else self._with_stored(market, answer)
        if isinstance(answer, MissingAtSource) and answer.coarse:
            return self._with_finer(market, answer)
        if market.status != "gone" or answer.transient:
            return answer
        told = answer.points if isinstance(answer, MissingAtSource) else POINTS.empty_table()
        return MissingAtSource(f"{market.venue} knows {market.key} no more", self._with_stored(market, told))

    def _with_finer(self, market: Market, answer: MissingAtSource) -> MissingAtSource:
        """The answer, with what is stored of the days of which it is stored finer than told by half of the services."""
        stored = self.warehouse.read(_STORED_ON, {"market": market.key, "days": list(answer.coarse)})
        points, coarse = with_finer(answer.points, stored, answer.coarse)
        return type(answer)(str(answer), points, answer.failed, coarse)

    def _with_stored(self, market: Market, points: pa.Table) -> pa.Table:
        stored = self.warehouse.read(
            "from prediction_markets.prices where market = $market", {"market": market.key}
        ).select(POINTS.names)
        new = set(zip(points.column("outcome").to_pylist(), points.column("stamped_at").to_pylist(), strict=True))
        old = zip(stored.column("outcome").to_pylist(), stored.column("stamped_at").to_pylist(), strict=True)
        kept = stored.filter(pa.array([point not in new for point in old], pa.bool_()))
        return pa.concat_tables([kept.cast(POINTS), points])

    def _window(self, ask: _Ask, *, whole_life: bool) -> tuple[date, date]:
        """The asked days; in a backfill the market's life, which serves the backfill's other runs too."""
        if not whole_life:
            last = last_day_of_life(ask.market, self._now.date()) if ask.was_silent else ask.days[-1]
            return ask.days[0], max(last, ask.days[-1])
        opened, since = ask.market.opened_at, self.settings.markets_start
        first = max(opened.date(), since) if opened else since
        return min(first, ask.days[0]), max(last_day_of_life(ask.market, self._now.date()), ask.days[-1])

    def _points(self, markets: Sequence[Market], first: date, last: date) -> dict[str, pa.Table | VendorError]:
        # A candle stands for the hour before it, so the last hour of a day is stamped with the next midnight.
        shift = timedelta(seconds=1 if semantics_of(markets[0].venue).offers == "candles" else 0)
        start, end = _midnight(first) + shift, _midnight(last + timedelta(days=1)) + shift
        try:
            venue = self._reached(markets[0].venue)
            if isinstance(venue, _ManyAtOnce):
                return dict(venue.fetch_prices_of(markets, start, end))
            breaker = self._breaker_of(venue.name, "prices")
            return {market.key: breaker.ask(partial(venue.fetch_prices, market, start, end)) for market in markets}
        except VendorError as error:
            return {market.key: error for market in markets}


def described(market: Market, now: datetime, source: str) -> dict[str, Any]:
    """A market as a row of `MARKETS`."""
    settled = settlements_of(market)
    return {
        "market": market.key,
        **{name: getattr(market, name) for name in _COLUMNS},
        "outcomes": json.dumps([[outcome.name, outcome.token] for outcome in market.outcomes]),
        "settlements": json.dumps({name: str(at) for name, at in settled.items()}) if settled else None,
        "facts": json.dumps(dict(market.facts)),
        "listed_at": now,
        "last_seen_at": now,
        "first_seen_at": now,
        "source": source,
    }


def catalog_rows(markets: Iterable[Market], now: datetime, source: str) -> pa.Table:
    """Markets as `MARKETS` rows, each once."""
    rows = {market.key: described(market, now, source) for market in markets}
    return pa.Table.from_pylist(list(rows.values()), MARKETS.arrow)


def read_catalog(warehouse: Warehouse, keys: Sequence[str] | None = None) -> list[Market]:
    """The stored markets of `keys` (None is all)."""
    return [_market(row) for row in read_markets(warehouse, keys).to_pylist()]


def _market(row: Mapping[str, Any]) -> Market:
    return Market(
        **{name: row[name] for name in _COLUMNS},
        outcomes=tuple(Outcome(*pair) for pair in json.loads(row["outcomes"])),
        facts=json.loads(row["facts"]),
    )


def _unknown(span: Span, error: Market | VendorError, now: datetime) -> SettledPrices:
    """The failed cells of a market that cannot be had."""
    reason = "unknown_market" if isinstance(error, NotFound) else getattr(error, "reason", "unavailable")
    cells = [
        {"date": day, "key": span.key, "outcome": "failed", "reason": reason, "detail": str(error), "fetched_at": now}
        for day in span.dates
    ]
    return SettledPrices(pa.Table.from_pylist(cells, CELLS), PRICES.arrow.empty_table())


def _without_twins(new: Mapping[str, Market | VendorError], known: Sequence[Market]) -> dict[str, Market | VendorError]:
    """The new markets by key; one that has a key already is to be asked for by that, or it would be stored twice."""
    keys = {(market.venue, market.id): market.key for market in known}
    told: dict[str, Market | VendorError] = {}
    for key, market in new.items():
        first = keys.setdefault((market.venue, market.id), key) if isinstance(market, Market) else key
        told[key] = market if first == key else NotFound(f"this market is {first}; ask for it by that name")
    return told


def _is_known(market: Market | VendorError) -> bool:
    return isinstance(market, Market)


def _by_venue(asks: Sequence[_Ask]) -> Iterator[list[_Ask]]:
    """The asks of one venue at a time, so many at once."""
    of: dict[str, list[_Ask]] = {}
    for ask in asks:
        of.setdefault(ask.market.venue, []).append(ask)
    for some in of.values():
        yield from (some[start : start + MARKETS_AT_ONCE] for start in range(0, len(some), MARKETS_AT_ONCE))


def _windows_of(rows: pa.Table, now: datetime) -> pa.Table:
    """What these rows (`PRICES`) cover, as `WINDOWS`: of each market one of their days, none of which is stored."""
    first = rows.group_by("market").aggregate([("date", "min")])
    days, stamp = first.column("date_min"), pa.scalar(now, WINDOWS.field("fetched_at").type)
    return (
        pa.table([first.column("market"), days, days, pa.repeat(stamp, first.num_rows)], schema=WINDOWS)
        if rows.num_rows
        else WINDOWS.empty_table()
    )


def _good_since(days: Sequence[date], now: datetime) -> datetime:
    """From when on an answer can serve `days`, ascending: it holds all of those that are over, and enough of today."""
    # At most one day is not over, so the last two tell.
    ends = [_midnight(day + timedelta(days=1)) for day in days[-2:]]
    return max(end if end <= now else now - PROVISIONAL_FOR for end in ends)


def _folder(market: Market) -> str:
    return f"{market.venue.upper()}-PRICES"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
