"""Polymarket's client: markets from Gamma, prices from CLOB and, where that has none, from data-api v2.

Here: asking: which service, which route, which window and grain; what is done where one of them fails.
Not here: what an answer means (polymarket_catalog.py, polymarket_prices.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypeVar, get_args

import pyarrow as pa

from copilot_quant_pipeline.answers import shown
from copilot_quant_pipeline.errors import (
    Malformed,
    NoSuchRoute,
    NotFound,
    RateLimited,
    VendorError,
)
from copilot_quant_pipeline.prediction_markets.following import LONGEST_ID
from copilot_quant_pipeline.prediction_markets.http import HttpClient
from copilot_quant_pipeline.prediction_markets.json_fields import gather
from copilot_quant_pipeline.prediction_markets.pages import Page, Paging, read_whole
from copilot_quant_pipeline.prediction_markets.polymarket_catalog import (
    SECTION_OF_WORD,
    VENUE,
    GammaListed,
    GammaMarket,
    Kind,
    key_of,
    parse_market,
    parse_page,
    parse_records,
)
from copilot_quant_pipeline.prediction_markets.polymarket_prices import (
    CLOB,
    DATA,
    ClobPoint,
    DataPoint,
    Service,
    Stretch,
    coarse_days,
    days_of,
    faults_in,
    finer_of,
    finer_until,
    gaps_in,
    inside,
    is_thin,
    life_of,
    parse_clob,
    parse_data,
    plan_windows,
    points_of,
    points_without,
)
from copilot_quant_pipeline.prediction_markets.shapes import cursor_in, records_in
from copilot_quant_pipeline.prediction_markets.venue import (
    BrokenRecord,
    Catalog,
    Coarse,
    Interrupted,
    Market,
    MarketQuery,
    MissingAtSource,
    Outcome,
    Semantics,
    SpoiledDays,
    Unrefined,
)
from copilot_quant_pipeline.retry_policy import CircuitBreaker, RequestRate, RetryPolicy, Wait
from copilot_quant_pipeline.transport import Traffic, path_part
from copilot_quant_pipeline.vendor_clock import VendorClock

if TYPE_CHECKING:
    from copilot_quant_pipeline.prediction_markets.formats import Asking

T = TypeVar("T")
# What markets are found by in a list.
Field = Literal["id", "slug", "condition_ids", "clob_token_ids"]
_FIELDS: tuple[Field, ...] = get_args(Field)

GAMMA_URL = "https://gamma-api.polymarket.com"
CLOB_URL = "https://clob.polymarket.com"
DATA_URL = "https://data-api.polymarket.com"
DATA_PATH = "/v2/prices-history"
# Published limits, in 10 s: /markets 300, /events 500, both price histories 1000.
POLICY = RetryPolicy(RequestRate(300, 10))
# Its other services allow more than the list of markets, whose rate is the policy's.
EVENTS_RATE, HISTORY_RATE = RequestRate(500, 10), RequestRate(1000, 10)

PAGE_SIZE = 100
IDS_A_REQUEST = 50
TOKENS_A_BATCH = 20
POINTS_A_PAGE = 10_000
# Minutes between points. Asked first is CLOB, 20 outcomes at once. What it has no points of, or few, is asked for one
# by one: data-api keeps hourly points for 90 days, those of 3 h for ever; CLOB is known to have lost resolved markets
# at grains finer than 12 h.
HOURLY, OF_THREE_HOURS, OF_TWELVE_HOURS = 60, 180, 720
# So many windows in a row that are no finer elsewhere, and a thin market is taken for a quiet one.
WINDOWS_NO_FINER = 2
# So many batches in a row that failed while each of their outcomes was served: it is the route that is broken.
BATCHES_IN_A_ROW = 2


@dataclass(frozen=True)
class _Token:
    """One outcome to ask for."""

    market: Market
    outcome: Outcome

    @property
    def id(self) -> str:
        return self.outcome.token

    @property
    def of(self) -> str:
        return f"{self.market.key} ({self.outcome.name})"

    @property
    def traded(self) -> bool:
        return bool(self.market.volume)

    @property
    def may_have_traded(self) -> bool:
        return self.market.volume != 0


# What a service has of one outcome in one window (`HISTORY`), by the token's id.
Answer: TypeAlias = pa.Table | VendorError
Histories = dict[str, Answer]


@dataclass(frozen=True)
class _Found:
    """What is known of one outcome in one window, and what was met on the way.

    Attributes:
        blame: the first error; one that may pass before one that does not, for then nothing is known yet.
        silent: the services that did not answer at some grain, and may another time.
        is_hushed: every service was asked at every grain that could have any, and has no point.
    """

    history: Answer
    blame: VendorError | None = None
    silent: frozenset[str] = frozenset()
    is_hushed: bool = False

    @classmethod
    def of(cls, answer: Answer) -> _Found:
        blame = answer if isinstance(answer, VendorError) else None
        return cls(answer, blame, _silent(CLOB, answer))

    @property
    def is_down(self) -> bool:
        return self.blame is not None and self.blame.transient

    @property
    def is_empty(self) -> bool:
        """Whether the answer came, and holds no point."""
        return isinstance(self.history, pa.Table) and not len(self.history)

    @property
    def points(self) -> int:
        return 0 if isinstance(self.history, VendorError) else len(self.history)

    def with_other(self, other: Answer, service: Service) -> _Found:
        """With what was answered elsewhere: a refusal there does not undo what is known."""
        silent = self.silent | _silent(service, other)
        if isinstance(other, VendorError):
            blame = self.blame if self.is_down or not (other.transient or self.blame is None) else other
            return _Found(other if _is_gone(self.history) else self.history, blame, silent)
        if isinstance(self.history, VendorError):
            return _Found(other, self.blame, silent)
        return _Found(finer_of(self.history, other), self.blame, silent)


def _silent(service: Service, answer: Answer) -> frozenset[str]:
    # A refusal is an answer: there is nothing to be had, now or later.
    return frozenset({service.name} if isinstance(answer, VendorError) and answer.transient else ())


# By the token's id.
Windows = dict[Stretch, _Found]


class Polymarket:
    """Polymarket as a `Venue`; may be used by several threads.

    Args:
        gamma_url: base URL of the service that lists markets,
        clob_url: of the order book's, and
        data_url: of the data-api.
        clock: gives the present instant, aware UTC; what is not yet past cannot be missing.
        policy: how each service is asked; a rate that is not the ordinary one holds for all of them.
        wait: seconds to wait before a retry, as tenacity's wait strategies do.
        threads: how many price requests are under way at once.
    """

    name: ClassVar[str] = VENUE
    policy: ClassVar[RetryPolicy] = POLICY
    semantics: ClassVar[Semantics] = Semantics(
        offers="samples", silence="lost", has_history=True, stakes="money", ends_unsaid="in equal parts"
    )

    def __init__(
        self,
        gamma_url: str = GAMMA_URL,
        clob_url: str = CLOB_URL,
        data_url: str = DATA_URL,
        *,
        clock: Callable[[], datetime] | None = None,
        policy: RetryPolicy = POLICY,
        wait: Wait | None = None,
        threads: int = 4,
    ) -> None:
        reached: Callable[..., HttpClient] = partial(HttpClient, VENUE, wait=wait, heard=VendorClock())
        is_ordinary = policy.rate == POLICY.rate
        of_events, of_history = (
            replace(policy, rate=rate) if is_ordinary else policy for rate in (EVENTS_RATE, HISTORY_RATE)
        )
        self._policy = policy
        self._gamma: Mapping[Kind, HttpClient] = {
            "markets": reached(gamma_url, policy, witness=("/events/keyset", {"limit": 1})),
            "events": reached(gamma_url, of_events, witness=("/markets/keyset", {"limit": 1})),
        }
        self._clob = reached(clob_url, of_history, witness=("/time", {}))
        self._data = reached(data_url, of_history, witness=("/", {}))
        self._clock = clock or self._data.now
        self._threads = threads
        self._breakers = {service: CircuitBreaker(policy.failures_in_a_row) for service in ("clob", "data")}
        # Set once a route is not there any more, so that it is not asked again for every window.
        self._has_batches = True
        self._has_clob = True
        # A service that has answered is there, though it may not know a token.
        self._clob_answers = False
        self._batches_failed = 0
        # Tokens by which a batch failed: they are asked for by themselves.
        self._apart: frozenset[str] = frozenset()

    @property
    def heard(self) -> VendorClock:
        """What its answers say of the time."""
        return self._data.heard

    @property
    def traffic(self) -> Traffic:
        """Requests sent and retries so far, over all three services."""
        each = [client.traffic for client in (*self._gamma.values(), self._clob, self._data)]
        return sum(each, Traffic())

    def fetch_markets(self, query: MarketQuery) -> Catalog:
        """The markets that `query` asks for; what is broken or, of `ids`, not known is named, the rest is kept.

        A category is a tag (`politics`, `crypto`): a market is found by any of its tags, though it has one category.
        """
        if query.ids:
            return self._named(query.ids)
        paging = Paging()
        pages = self._tagged(query, paging) if query.categories else self._largest(query, paging)
        return replace(_chosen(pages, query, paging), incomplete=paging.incomplete)

    def fetch_market(self, market_id: str) -> Market:
        """One market by id, slug, condition id or the token of an outcome, ended or not.

        Raises:
            VendorError: NotFound where Polymarket does not know it.
        """
        return self._fetch_alone(market_id)

    def ask_each_route(self, ask: Asking) -> None:
        """Ask the lists of markets and events, and the histories of one outcome over a day."""
        of = {"closed": "false", "limit": 20, "order": "volumeNum", "ascending": "false", "include_tag": "true"}
        markets = ask(
            "/markets/keyset",
            lambda: self._gamma["markets"].get("/markets/keyset", of, attempts=1),
            GammaMarket,
            lambda answer: records_in(answer, "its list", "markets"),
        )
        ask(
            "/events/keyset",
            lambda: self._gamma["events"].get("/events/keyset", {"closed": "false", "limit": 5}, attempts=1),
            GammaListed,
            lambda answer: records_in(answer, "its list", "events"),
        )
        tokens = [token for market in parse_records(markets, "markets").markets for token in _tokens_of(market)]
        routes = {"/prices-history": ClobPoint, "/batch-prices-history": ClobPoint, DATA_PATH: DataPoint}
        if not tokens:
            for route in routes:
                ask.leave_out(route, "no market is listed to ask it about")
            return
        now = self._clock().astimezone(UTC)
        self._ask_histories(ask, tokens[0], *_seconds(Stretch(now - timedelta(days=1), now)))

    def _ask_histories(self, ask: Asking, token: _Token, start: int, end: int) -> None:
        window = {"market": token.id, "startTs": start, "endTs": end, "fidelity": HOURLY}
        batch = {"markets": [token.id], "start_ts": start, "end_ts": end, "fidelity": HOURLY}
        data = {"token_id": token.id, "start": start, "end": end, "bucket_seconds": 60 * HOURLY, "limit": 100}
        ask(
            "/prices-history",
            lambda: self._clob.get("/prices-history", window, attempts=1),
            ClobPoint,
            lambda answer: _history_in(answer, list),
        )
        ask(
            "/batch-prices-history",
            lambda: self._clob.post("/batch-prices-history", batch, attempts=1),
            ClobPoint,
            lambda answer: records_in(_history_in(answer, dict), "its history", token.id),
        )
        ask(
            DATA_PATH,
            lambda: self._data.get(DATA_PATH, data, attempts=1),
            DataPoint,
            lambda answer: _page_of(answer, token).records,
        )

    def _fetch_alone(self, name: str, attempts: int | None = None) -> Market:
        field = _field_of(name)
        if field in ("id", "slug"):
            path = f"/markets/{name}" if field == "id" else f"/markets/slug/{path_part(name)}"
            with suppress(NotFound, NoSuchRoute):
                asked = {"include_tag": "true"}
                return parse_market(self._gamma["markets"].get(path, asked, attempts=attempts, about=[name]))
        found, paging = self._by_names(field, [name], attempts)
        # What was not asked for comes where a filter is not heeded.
        if meant := [one for one in found.markets if name in _names_by(field, one)]:
            return meant[0]
        if paging.errors:
            raise paging.errors[0]
        if found.broken:
            raise Malformed(found.broken[0].why)
        raise NotFound(f"{VENUE} knows no market {name!r}")

    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table:
        """Points (`POINTS`) of every outcome with start <= stamped_at < end, hourly where the venue still has them so.

        Raises:
            VendorError: MissingAtSource where a market that traded has none for some time; SpoiledDays or Interrupted
                where some days' are no good or were not had; each carries the others.
        """
        answer = self.fetch_prices_of([market], start, end)[market.key]
        if isinstance(answer, VendorError):
            raise answer
        return answer

    def fetch_prices_of(
        self, markets: Sequence[Market], start: datetime, end: datetime
    ) -> dict[str, pa.Table | VendorError]:
        """The same for several markets by key, 20 outcomes a request; one market's error leaves the others."""
        asked_for = Stretch(start.astimezone(UTC), end.astimezone(UTC))
        spans = {market.key: days_of(life_of(market), asked_for) for market in markets}
        alive = [span for span in spans.values() if span]
        span = Stretch(min(one.start for one in alive), max(one.end for one in alive)) if alive else None
        asked = list(_asked(markets, spans, plan_windows(span))) if span else []
        self._begin()
        with ThreadPoolExecutor(self._threads, thread_name_prefix=VENUE) as pool:
            answers = list(pool.map(lambda one: self._hourly(*one), asked))
            found = _by_token(asked, answers)
            coarse = _by_token_and_window(pool.map(lambda one: self._at_coarsest(*one), self._silent(asked, found)))
            each = list(pool.map(lambda market: self._completed(market, found, coarse), markets))
        complete = {token: windows for one in each for token, windows in one.items()}
        return {market.key: self._assembled(market, complete, spans[market.key]) for market in markets}

    def _named(self, names: Sequence[str]) -> Catalog:
        """The markets of `names`, many a request; where one fails, each of its names alone, so that one is to blame."""
        every = Catalog(())
        fields = {field: sorted({name for name in names if _field_of(name) == field}) for field in get_args(Field)}
        for field, wanted in fields.items():
            for some in _batched(wanted, IDS_A_REQUEST):
                found, paging = self._by_names(field, some, self._policy.few_attempts if every.incomplete else None)
                every = every.with_other(found)
                if paging.errors and every.incomplete:
                    every = every.with_other(Catalog((), (), paging.incomplete))
                elif paging.errors:
                    left = [name for name in some if name not in _known(every)]
                    every = every.with_other(self._alone(left, has_others=bool(every.markets)))
        known = _known(every)
        unknown = [
            BrokenRecord(VENUE, name, f"{VENUE} knows no market {name!r}", unknown=True)
            for name in dict.fromkeys(names)
            if every.complete and name not in known
        ]
        return every.with_other(Catalog((), tuple(unknown)))

    def _alone(self, names: Sequence[str], *, has_others: bool) -> Catalog:
        try:
            return gather(VENUE, names, self._fetch_alone)
        except VendorError as error:
            if not has_others:
                raise
            return Catalog((), (), (str(error),))

    def _by_names(self, field: Field, names: Sequence[str], attempts: int | None = None) -> tuple[Catalog, Paging]:
        found, paging = Catalog(()), Paging()
        for closed in (False, True):
            # Of those that are open nobody is asked for among the closed.
            asked = {field: [name for name in names if name not in _known(found)], "include_tag": "true"}
            if not asked[field]:
                break
            for page in self._pages(paging, "markets", closed, asked, attempts):
                found = found.with_other(page)
            if paging.errors:
                break
        return found, paging

    def _largest(self, query: MarketQuery, paging: Paging) -> Iterator[Catalog]:
        """Pages of markets; the largest first where there is a limit, else in the order of ids, which is stable."""
        order = {"order": "volumeNum", "ascending": "false"} if query.limit else {}
        for closed in (False, True) if query.with_ended else (False,):
            volumes: list[Decimal] = []
            for page in self._pages(paging, "markets", closed, {**order, "include_tag": "true"}):
                yield page
                open_ones = [one for one in page.markets if query.with_ended or one.status == "open"]
                volumes += [one.volume or Decimal(0) for one in open_ones]
                # What does not come in the order that was asked for is read to its end.
                if query.limit and len(volumes) >= query.limit and _descend(volumes):
                    break
        paging.expect_begun()

    def _tagged(self, query: MarketQuery, paging: Paging) -> Iterator[Catalog]:
        tags = dict.fromkeys(SECTION_OF_WORD.get(word.lower(), word.lower()) for word in query.categories)
        for tag, closed in product(tags, (False, True) if query.with_ended else (False,)):
            yield from self._pages(paging, "events", closed, {"tag_slug": tag})
        paging.expect_begun()

    def _pages(
        self, paging: Paging, kind: Kind, closed: bool, filters: Mapping[str, Any], attempts: int | None = None
    ) -> Iterator[Catalog]:
        path = f"/{kind}/keyset"
        asked = {**filters, "closed": str(closed).lower(), "limit": PAGE_SIZE}
        names = [name for field in get_args(Field) for name in filters.get(field, ())]

        def fetch(cursor: str | None) -> Page[Any, str]:
            page = {**asked, "after_cursor": cursor}
            answer = self._gamma[kind].get(path, page, attempts=attempts, about=names)
            return parse_page(answer, kind)

        for records in paging.read(fetch, key_of, f"{VENUE}'s {path}"):
            yield parse_records(records, kind)

    def _begin(self) -> None:
        for breaker in self._breakers.values():
            breaker.begin()
        self._batches_failed = min(self._batches_failed, BATCHES_IN_A_ROW - 1)

    def _completed(
        self, market: Market, found: Mapping[str, Windows], coarse: Mapping[tuple[str, Stretch], Answer]
    ) -> dict[str, Windows]:
        """Each outcome's windows, with what the other grains and services have more of their days.

        Where an outcome has no point anywhere, its siblings that are as silent are not asked for at the other service.
        """
        tokens = [token for token in _tokens_of(market) if token.id in found]
        hushed: set[Stretch] = set()
        completed: dict[str, Windows] = {}
        for token in tokens:
            completed[token.id] = self._windows(token, found[token.id], coarse, hushed)
            hushed |= {window for window, one in completed[token.id].items() if one.is_hushed}
        return completed

    def _windows(
        self,
        token: _Token,
        found: Windows,
        coarse: Mapping[tuple[str, Stretch], Answer],
        hushed: Collection[Stretch],
    ) -> Windows:
        completed, no_finer = dict(found), 0
        # What is kept finely for a while only is so in the newest.
        for window in sorted(found, key=lambda one: one.start, reverse=True):
            known = found[window]
            if self._lacks(token, known, window):
                once = coarse.get((token.id, window))
                is_hushed = window in hushed and known.is_empty and isinstance(once, pa.Table) and not len(once)
                completed[window] = known if is_hushed else self._filled(token, known, window, once)
            elif no_finer < WINDOWS_NO_FINER and self._is_thin(token, known, window):
                filled = completed[window] = self._filled(token, known, window)
                # By a service that did not answer nothing is known of how quiet the market is.
                if not filled.silent:
                    no_finer = 0 if filled.points > known.points else no_finer + 1
        return completed

    def _filled(self, token: _Token, known: _Found, window: Stretch, coarse: Answer | None = None) -> _Found:
        """With what data-api has, and CLOB at its coarsest grain: `coarse`, where that was asked for already."""
        attempts, is_at_clob = (self._policy.few_attempts if known.is_down else None), known.blame is None
        # What is kept for ever tells whether there is anything to be had more finely; where there is, it is asked for.
        was_empty = known.is_empty
        for grain in (OF_THREE_HOURS, HOURLY) if was_empty else (HOURLY, OF_THREE_HOURS):
            is_finer = was_empty and grain == HOURLY
            if is_finer or self._lacks(token, known, window) or self._is_thin(token, known, window):
                known = known.with_other(self._from_data(token, window, grain, attempts), DATA)
            if grain == OF_THREE_HOURS and known.is_empty:
                break
        if self._has_clob and is_at_clob and self._lacks(token, known, window):
            other = self._from_clob(token, window, OF_TWELVE_HOURS) if coarse is None else coarse
            known = known.with_other(other, CLOB)
        is_hushed = known.is_empty and not known.silent and known.blame is None
        return replace(known, is_hushed=is_hushed)

    def _silent(
        self, asked: Sequence[tuple[Sequence[_Token], Stretch]], found: Mapping[str, Windows]
    ) -> list[tuple[Sequence[_Token], Stretch]]:
        """Those that CLOB has answered for and has no point of, though there may be one: many in one request."""
        by_window: dict[Stretch, list[_Token]] = {}
        for tokens, window in asked:
            known = ((token, found[token.id][window]) for token in tokens if token.id not in self._apart)
            silent = [token for token, one in known if one.is_empty and self._lacks(token, one, window)]
            by_window.setdefault(window, []).extend(silent)
        if not (self._has_clob and self._uses_batches):
            return []
        return [
            (some, window)
            for window, tokens in by_window.items()
            for some in _batched(tokens, TOKENS_A_BATCH)
            if len(some) > 1
        ]

    def _at_coarsest(self, tokens: Sequence[_Token], window: Stretch) -> tuple[Stretch, Histories]:
        """What CLOB has of them at its coarsest grain; nothing where it does not say."""
        with self._breakers["clob"].turn():
            sent = self._breakers["clob"].ask(lambda: self._batch(tokens, window, OF_TWELVE_HOURS), counts=False)
        if isinstance(sent, VendorError):
            return window, {}
        told = [token for token in tokens if sent.get(token.id) is not None]
        return window, {token.id: _read(parse_clob, sent[token.id], token, window, OF_TWELVE_HOURS) for token in told}

    def _lacks(self, token: _Token, known: _Found, window: Stretch) -> bool:
        """Whether another service may have what this one has not. Too many requests are no reason to ask for more."""
        if isinstance(known.history, VendorError):
            return not isinstance(known.history, RateLimited)
        return token.may_have_traded and bool(gaps_in(known.history, self._lived(token, window)))

    def _is_thin(self, token: _Token, known: _Found, window: Stretch) -> bool:
        return isinstance(known.history, pa.Table) and is_thin(known.history, self._lived(token, window))

    def _lived(self, token: _Token, window: Stretch) -> Stretch:
        """What of the window lies in the market's life and in the past."""
        return life_of(token.market).within(window).within(Stretch(window.start, self._clock().astimezone(UTC)))

    def _hourly(self, tokens: Sequence[_Token], window: Stretch) -> Histories:
        """What CLOB has; who breaks a batch is found by asking for each alone, and asked for so from then on."""
        with self._breakers["clob"].turn():
            if not self._has_clob:
                return _of_all(tokens, NoSuchRoute(f"{VENUE}'s order book tells no prices any more"))
            together = [token for token in tokens if token.id not in self._apart]
            found = self._together(together, window) if together and self._uses_batches else {}
            is_broken = bool(together) and not found and self._uses_batches
            few = {token.id for token in tokens if is_broken or token.id in self._apart}
            alone = [token for token in tokens if token.id not in found]
            singles = self._singles(alone, window, few)
        if is_broken:
            self._note_broken(together, singles)
        return found | singles

    @property
    def _uses_batches(self) -> bool:
        return self._has_batches and self._batches_failed < BATCHES_IN_A_ROW

    def _together(self, tokens: Sequence[_Token], window: Stretch) -> Histories:
        """Those that a batch tells of; none where it fails, but all where it was asked for too often."""
        sent = self._breakers["clob"].ask(lambda: self._batch(tokens, window), counts=False)
        if isinstance(sent, NotFound | NoSuchRoute):
            self._has_batches = False
        if isinstance(sent, VendorError):
            return _of_all(tokens, sent) if isinstance(sent, RateLimited) else {}
        self._clob_answers, self._batches_failed = True, 0
        told = [token for token in tokens if sent.get(token.id) is not None or not token.may_have_traded]
        return {token.id: _read(parse_clob, sent.get(token.id) or [], token, window, HOURLY) for token in told}

    def _singles(self, tokens: Sequence[_Token], window: Stretch, few: Container[str]) -> Histories:
        found = {
            token.id: self._from_clob(token, window, HOURLY, self._policy.few_attempts if token.id in few else None)
            for token in tokens
        }
        if found and not self._clob_answers and all(map(_is_gone, found.values())):
            self._has_clob = False
        return found

    def _note_broken(self, tokens: Sequence[_Token], singles: Histories) -> None:
        """A batch failed: by those that fail alone too, or, where none does, by itself; where all do nobody knows."""
        failed = {token.id for token in tokens if isinstance(singles[token.id], VendorError)}
        if failed and len(failed) < len(tokens) and not self._breakers["clob"].ended_by:
            self._apart |= failed
        elif not failed:
            self._batches_failed += 1

    def _batch(self, tokens: Sequence[_Token], window: Stretch, grain: int = HOURLY) -> dict[str, Any]:
        start, end = _seconds(window)
        body = {"markets": [token.id for token in tokens], "start_ts": start, "end_ts": end, "fidelity": grain}
        answer = self._clob.post("/batch-prices-history", body, about=[token.market.key for token in tokens])
        history: dict[str, Any] = _history_in(answer, dict)
        return history

    def _from_clob(self, token: _Token, window: Stretch, grain: int, attempts: int | None = None) -> Answer:
        start, end = _seconds(window)
        parameters = {"market": token.id, "startTs": start, "endTs": end, "fidelity": grain}

        def fetch() -> list[Any]:
            answer = self._clob.get("/prices-history", parameters, attempts=attempts, about=[token.market.key])
            is_empty = isinstance(answer, dict) and answer.get("history", 0) is None
            points: list[Any] = [] if is_empty else _history_in(answer, list)
            return points

        points = self._breakers["clob"].ask(fetch)
        if isinstance(points, VendorError):
            return points
        self._clob_answers = True
        return _read(parse_clob, points, token, window, grain)

    def _from_data(self, token: _Token, window: Stretch, grain: int, attempts: int | None = None) -> Answer:
        points = self._breakers["data"].ask(lambda: self._data_points(token, window, grain, attempts))
        return points if isinstance(points, VendorError) else _read(parse_data, points, token, window, grain)

    def _data_points(self, token: _Token, window: Stretch, grain: int, attempts: int | None = None) -> list[Any]:
        start, end = _seconds(window)
        asked = {"token_id": token.id, "start": start, "end": end, "bucket_seconds": 60 * grain, "limit": POINTS_A_PAGE}

        def fetch(cursor: str | None) -> Page[Any, str]:
            page, of = {**asked, "cursor": cursor}, [token.market.key]
            return _page_of(self._data.get(DATA_PATH, page, attempts=attempts, about=of), token)

        return list(read_whole(fetch, str, f"{VENUE}'s {DATA_PATH}"))

    def _assembled(self, market: Market, found: Mapping[str, Windows], span: Stretch) -> pa.Table | VendorError:
        asked = [
            (token, window, one) for token in _tokens_of(market) for window, one in found.get(token.id, {}).items()
        ]
        errors = [one.history for _, _, one in asked if isinstance(one.history, VendorError)]
        if asked and len(errors) == len(asked):
            return errors[0]
        histories: dict[Outcome, list[pa.Table]] = {outcome: [] for outcome in market.outcomes}
        lost: list[tuple[Stretch, VendorError | None]] = []
        for token, window, one in asked:
            if isinstance(one.history, VendorError):
                lost.append((window.within(span), one.history))
            else:
                histories[token.outcome].append(inside(one.history, span))
                lost.extend((gap, one.blame if one.is_down else None) for gap in self._gaps(token, one.history, window))
        coarse = [
            (day, Coarse(points, finer_until(day, one.silent)))
            for token, window, one in asked
            for day, points in self._coarse(token, one, window.within(span)).items()
        ]
        return _answer(market, histories, lost, _coarsest(coarse))

    def _coarse(self, token: _Token, found: _Found, window: Stretch) -> dict[date, int]:
        """The days of which a service that did not answer may have more, with their number of points."""
        if not found.silent or isinstance(found.history, VendorError):
            return {}
        return coarse_days(found.history, self._lived(token, window))

    def _gaps(self, token: _Token, history: pa.Table, window: Stretch) -> list[Stretch]:
        """The days on which a market that traded must have had a price by now, and has none that is good."""
        return gaps_in(history, self._lived(token, window)) if token.traded else []


def _tokens_of(market: Market) -> list[_Token]:
    return [_Token(market, outcome) for outcome in market.outcomes if outcome.token]


def _asked(
    markets: Sequence[Market], spans: Mapping[str, Stretch], windows: Sequence[Stretch]
) -> Iterator[tuple[Sequence[_Token], Stretch]]:
    for window in windows:
        alive = [market for market in markets if spans[market.key].within(window)]
        for some in _batched([token for market in alive for token in _tokens_of(market)], TOKENS_A_BATCH):
            yield some, window


def _by_token(asked: Sequence[tuple[Sequence[_Token], Stretch]], answers: Sequence[Histories]) -> dict[str, Windows]:
    found: dict[str, Windows] = {}
    for (tokens, window), each in zip(asked, answers, strict=True):
        for token in tokens:
            found.setdefault(token.id, {})[window] = _Found.of(each[token.id])
    return found


def _by_token_and_window(answers: Iterable[tuple[Stretch, Histories]]) -> dict[tuple[str, Stretch], Answer]:
    return {(token, window): one for window, some in answers for token, one in some.items()}


def _batched(all_of: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (all_of[start : start + size] for start in range(0, len(all_of), size))


def _is_gone(answer: pa.Table | VendorError) -> bool:
    return isinstance(answer, NotFound | NoSuchRoute)


def _of_all(tokens: Sequence[_Token], error: VendorError) -> Histories:
    return {token.id: error for token in tokens}


def _field_of(name: str) -> Field:
    """The filter that finds a market by such a name."""
    if name.isascii() and name.isdigit():
        return "id" if len(name) <= LONGEST_ID else "clob_token_ids"
    return "condition_ids" if name.startswith("0x") else "slug"


def _known(catalog: Catalog) -> set[str | None]:
    """All names that a catalog tells of."""
    told = (name for market in catalog.markets for field in _FIELDS for name in _names_by(field, market))
    return set(told) | {one.id for one in catalog.broken}


def _names_by(field: Field, market: Market) -> set[str | None]:
    """What leads to it by this filter."""
    if field == "clob_token_ids":
        # A venue may count its outcomes as it counts its markets.
        return {outcome.token for outcome in market.outcomes if len(outcome.token) > LONGEST_ID}
    return {{"id": market.id, "slug": market.slug, "condition_ids": market.facts["condition_id"]}[field]}


def _chosen(pages: Iterable[Catalog], query: MarketQuery, paging: Paging) -> Catalog:
    markets: dict[str, Market] = {}
    broken: dict[BrokenRecord, None] = {}
    for page in pages:
        markets |= {market.id: market for market in page.markets}
        broken |= dict.fromkeys(page.broken)
    wanted = [one for one in markets.values() if query.with_ended or one.status in ("unopened", "open")]
    if query.limit:
        # What cannot be traded yet takes no open one's place.
        wanted.sort(key=lambda one: (query.with_ended or one.status == "open", one.volume or Decimal(0)), reverse=True)
    shown = [one for one in markets.values() if one.status == "open"]
    is_cut = query.limit is not None and (paging.has_more or query.with_ended)
    return Catalog(
        tuple(wanted[: query.limit]),
        tuple(broken),
        beyond=tuple(wanted[query.limit :]) if query.limit else (),
        shown=frozenset(one.id for one in shown),
        down_to=min((one.volume or Decimal(0) for one in shown), default=None) if is_cut else None,
    )


def _descend(volumes: Sequence[Decimal]) -> bool:
    """Whether they do, give or take the dollar by which the two volumes of a market can differ."""
    return all(one + 1 >= other for one, other in zip(volumes, volumes[1:], strict=False))


def _page_of(answer: Any, token: _Token) -> Page[Any, str]:
    """A page of data-api's points; null means none."""
    of = f"{token.of}: its price history"
    is_empty = isinstance(answer, dict) and answer.get("data", 0) is None
    points = [] if is_empty else records_in(answer, of, "data")
    more = answer.get("pagination") or {}
    if not isinstance(more, dict):
        raise Malformed(f"{of} does not tell its pages: {shown(more)}")
    cursor, is_cut = cursor_in(more, "next_cursor") if more.get("has_more") else (None, False)
    if more.get("has_more") and (cursor is None or is_cut):
        raise Malformed(f"{token.of}: there is more of its price history, and no cursor to it")
    return Page(points, cursor)


def _seconds(window: Stretch) -> tuple[int, int]:
    # Rounded outwards by less than a second at the start, so that the window stays within the venue's limit.
    start = int(window.start.timestamp())
    return start, min(int((window.end + timedelta(microseconds=999_999)).timestamp()), start + 15 * 86_400)


def _history_in(answer: Any, kind: type) -> Any:
    history = answer.get("history") if isinstance(answer, dict) else None
    if not isinstance(history, kind):
        raise Malformed(f"{VENUE} answers with no price history: {shown(answer)}")
    return history


def _read(
    parse: Callable[[Any, str, int], pa.Table], points: Any, token: _Token, window: Stretch, grain: int
) -> pa.Table | VendorError:
    try:
        return inside(parse(points, token.of, 60 * grain), window)
    except Malformed as error:
        return error


def _answer(
    market: Market,
    histories: Mapping[Outcome, Sequence[pa.Table]],
    lost: Sequence[tuple[Stretch, VendorError | None]],
    coarse: Mapping[date, Coarse],
) -> pa.Table | VendorError:
    """The market's points; with what is wrong with some of its days, by whoever is to blame for that."""
    points = points_of(market, histories)
    faults = {day: (Malformed.reason, text) for day, text in faults_in(histories).items()}
    blamed = {day: (error.reason, str(error)) for stretch, error in lost if error for day in stretch.days}
    failed = blamed | faults
    missing = sorted({day for stretch, error in lost if not error for day in stretch.days} - failed.keys())
    said_missing = [_said_missing(market, missing)] if missing else []
    # Of a day without a price of some outcome there is nothing to refine.
    fewer = {day: one for day, one in coarse.items() if day not in failed and day not in missing}
    if not failed:
        return MissingAtSource(said_missing[0], points, coarse=fewer) if missing else _refinable(market, points, fewer)
    said = list(dict.fromkeys(text for _, (_, text) in sorted(failed.items())))
    why = "; ".join([*said[:2], *(["and more"] if len(said) > 2 else []), *said_missing])
    is_down = any(error.transient for _, error in lost if error)
    return (Interrupted if is_down else SpoiledDays)(why, points_without(points, failed), failed, fewer)


def _refinable(market: Market, points: pa.Table, coarse: Mapping[date, Coarse]) -> pa.Table | Unrefined:
    why = f"{VENUE} has few points of {market.key} on {len(coarse)} days, and one of its services did not answer"
    return Unrefined(why, points, coarse=coarse) if coarse else points


def _coarsest(days: Sequence[tuple[date, Coarse]]) -> dict[date, Coarse]:
    """By day the fewest points of an outcome, and how long some outcome may be had finer."""
    found: dict[date, Coarse] = {}
    for day, one in days:
        known = found.get(day, one)
        found[day] = Coarse(min(known.points, one.points), max(known.until, one.until))
    return found


def _said_missing(market: Market, missing: Sequence[date]) -> str:
    days = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
    traded = f"{market.key} traded {market.volume:.0f} dollars"
    return f"{traded}, and {VENUE} has no price at any grain on {len(missing)} days of its life ({days})"
