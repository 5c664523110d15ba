"""Kalshi's client: trade-api v2, the live and the historical tier behind one face.

Here: paths, paging, tiers, which request serves which market.
Not here: what an answer says (kalshi_answers.py), what fits into a request (kalshi_windows.py), HTTP itself (http.py).

Source of the formats: Kalshi's published OpenAPI description and recorded answers. Kalshi keeps what settled some
three months ago apart: its markets and candles are known to the historical routes only, events and series to the live
ones only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
from msgspec.structs import replace

from copilot_quant_pipeline.answers import shown
from copilot_quant_pipeline.errors import Denied, Malformed, NotFound, RateLimited, Rejected, VendorError
from copilot_quant_pipeline.prediction_markets.http import HttpClient
from copilot_quant_pipeline.prediction_markets.json_fields import gather
from copilot_quant_pipeline.prediction_markets.kalshi_answers import (
    HISTORICAL,
    LIVE,
    NO_EVENT,
    VENUE,
    KalshiCandle,
    KalshiCutoff,
    KalshiEvent,
    KalshiListed,
    KalshiMarket,
    KalshiSeries,
    faults,
    is_ticker,
    name_of,
    parse_candles,
    parse_market,
    points,
    points_without,
)
from copilot_quant_pipeline.prediction_markets.kalshi_windows import (
    MAX_TICKERS,
    BatchRequest,
    CandleWindow,
    life_within,
    plan_batches,
    plan_windows,
)
from copilot_quant_pipeline.prediction_markets.pages import Page, Paging
from copilot_quant_pipeline.prediction_markets.shapes import cursor_in, key_of, loose_instant, shaped
from copilot_quant_pipeline.prediction_markets.venue import (
    BrokenRecord,
    Catalog,
    Market,
    MarketQuery,
    Semantics,
    SpoiledDays,
)
from copilot_quant_pipeline.retry_policy import CircuitBreaker, RequestRate, RetryPolicy, Wait
from copilot_quant_pipeline.transport import Traffic, path_part
from copilot_quant_pipeline.vendor_clock import VendorClock

URL = "https://external-api.kalshi.com/trade-api/v2"
PATH = "/trade-api/v2"
# Without a key 429s were seen from about 10 requests a second.
POLICY = RetryPolicy(RequestRate(8))
# As many requests are under way at once.
THREADS = 4
EVENTS_A_PAGE = 200
MARKETS_A_PAGE = 1000
TICKERS_A_PAGE = 100
HOURLY = 60
# So many requests in a row that failed after all their retries: the venue is down.
GIVE_UP_AFTER = POLICY.failures_in_a_row

if TYPE_CHECKING:
    from copilot_quant_pipeline.prediction_markets.formats import Asking

T = TypeVar("T")


class Kalshi:
    """Markets and hourly prices of Kalshi, or of what stands in for it at `url`; thread-safe.

    A `url` without a path stands for its trade-api/v2. `wait` (seconds before a retry) is for tests.
    """

    name: ClassVar[str] = VENUE
    policy: ClassVar[RetryPolicy] = POLICY
    semantics: ClassVar[Semantics] = Semantics(
        offers="candles", silence="no_trade", has_history=True, stakes="money", ends_unsaid="void"
    )

    def __init__(
        self,
        url: str = URL,
        *,
        clock: Callable[[], datetime] | None = None,
        policy: RetryPolicy = POLICY,
        wait: Wait | None = None,
    ) -> None:
        self._http = HttpClient(
            VENUE,
            url if urlsplit(url).path.strip("/") else url.rstrip("/") + PATH,
            policy,
            wait=wait,
            witness=("/events", {"limit": 1}),
        )
        self._clock = clock or self._http.now
        self._policy = policy
        # Basic access reads 200 tokens a second at 10 a call, and every item of a batch is billed as a call. A whole
        # batch is always let through, by a slower rate after a longer time: a limiter never admits more than it holds.
        seconds = policy.rate.seconds * POLICY.rate.requests / policy.rate.requests
        self._billing = RequestRate(MAX_TICKERS, max(seconds, 0.001)).limiter()
        self._events: dict[str, KalshiEvent] = {}
        # Events that this round was not answered for.
        self._unread: dict[str, VendorError] = {}
        self._breakers = {what: CircuitBreaker(policy.failures_in_a_row) for what in ("batch", "alone", "event")}
        self._categories: dict[str, str] = {}
        self._categories_known = False
        self._cutoff: datetime | None = None
        self._cutoff_known = False
        self._lock = threading.Lock()

    @property
    def heard(self) -> VendorClock:
        """What its answers say of the time."""
        return self._http.heard

    @property
    def traffic(self) -> Traffic:
        """Requests sent and retries so far."""
        return self._http.traffic

    def fetch_markets(self, query: MarketQuery) -> Catalog:
        """The markets that `query` asks for, largest volume first; combinations of markets are left out.

        With ended ones this reads the historical tier too: all of it, or of the asked categories' series.

        Raises:
            NotFound: Kalshi has none of the asked categories.
            VendorError: One of its other kinds, where no list begins.
        """
        notes = _Notes()
        self._unread.clear()
        self._breakers["event"].begin()
        found = self._named(query.ids, notes) if query.ids else self._listed(query, notes)
        # Pages of a list that changes meanwhile can overlap.
        once = _first_of_each(found)
        shown: dict[str, Market] = {}
        order = _by_volume if query.with_ended else _open_by_volume
        seen = _noting_open(once, shown)
        markets = sorted(seen, key=order) if query.limit is None else nsmallest(query.limit, seen, key=order)
        notes.paging.expect_begun()
        chosen = {market.id for market in markets}
        return Catalog(
            tuple(markets),
            tuple(notes.broken.values()),
            (*notes.paging.incomplete, *notes.left_out),
            beyond=tuple(market for ticker, market in shown.items() if ticker not in chosen),
            shown=frozenset(shown),
        )

    def fetch_market(self, market_id: str) -> Market:
        """One market by ticker, from whichever tier knows it.

        Raises:
            NotFound: Neither does.
        """
        self._breakers["event"].begin()
        return self._fetch_market(market_id)

    def ask_each_route(self, ask: Asking) -> None:
        """Ask the lists of both tiers, the line between them, and the candles of some open markets over a day."""
        of = {"status": "open", "with_nested_markets": "true", "limit": 20}
        events = ask(
            "/events",
            lambda: self._http.get("/events", of, attempts=1),
            KalshiListed,
            lambda answer: _part(answer, "events", list),
        )
        ask(
            "/historical/cutoff",
            lambda: self._http.get("/historical/cutoff", attempts=1),
            KalshiCutoff,
            lambda one: one,
        )
        ask(
            "/historical/markets",
            lambda: self._http.get("/historical/markets", {"limit": 20, "mve_filter": "exclude"}, attempts=1),
            KalshiMarket,
            lambda answer: _part(answer, "markets", list),
        )
        nested = [one.get("markets") for one in events if isinstance(one, Mapping)]
        found = [name_of(one) for some in nested if isinstance(some, list) for one in some]
        tickers = [name for name in found if is_ticker(name)][:MAX_TICKERS]
        if not tickers:
            ask.leave_out("/markets/candlesticks", "no market is listed to ask it about")
            return
        last = int(self._clock().timestamp())
        window = CandleWindow(last - last % 3600 - 86_400, last - last % 3600)
        asked = {"market_tickers": ",".join(tickers), **_bounds(window)}
        ask(
            "/markets/candlesticks",
            lambda: self._http.get("/markets/candlesticks", asked, attempts=1),
            KalshiCandle,
            lambda answer: [
                one for entry in _part(answer, "markets", list) for one in _part(entry, "candlesticks", list)
            ],
        )

    def _fetch_market(self, market_id: str, attempts: int | None = None) -> Market:
        if not is_ticker(market_id):
            raise NotFound(f"kalshi has no market {market_id!r}: that is no ticker")
        try:
            answer = self._http.get(f"/markets/{path_part(market_id)}", attempts=attempts, about=[market_id])
        except NotFound:
            answer = self._fetch_archived_market(market_id, attempts)
        record = _part(answer, "market", dict)
        return parse_market(record, self._event_of(record))

    def _fetch_archived_market(self, ticker: str, attempts: int | None = None) -> Any:
        try:
            path = f"/historical/markets/{path_part(ticker)}"
            return self._http.get(path, attempts=attempts, about=[ticker])
        except NotFound:
            raise NotFound(f"kalshi knows no market {ticker}, live or historical{self._hint(ticker)}") from None

    def _hint(self, ticker: str) -> str:
        """What else somebody may have meant by it, which the address of a page on Kalshi suggests."""
        if ticker != ticker.upper():
            return "; its tickers are in capitals"
        is_event = self._event_of({"event_ticker": ticker}) is not NO_EVENT
        return "; that is an event: name one of its markets, which go on after it" if is_event else ""

    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table:
        """Hourly points (`POINTS`) of Yes and No with start <= stamped_at < end; that is the end of the candle's hour.

        The last candle's hour may end after the market did. No is derived from Yes (kalshi_answers.points).
        """
        found = self._prices(market, start, end)
        if isinstance(found, VendorError):
            raise found
        return found

    def _prices(
        self, market: Market, start: datetime, end: datetime, attempts: int | None = None
    ) -> pa.Table | SpoiledDays:
        windows = plan_windows(*life_within(market, start, end))
        empty, refused = None, None
        for fetch in self._tiers(market):
            try:
                found = _answer([fetch(market, window, attempts) for window in windows])
            except NotFound as error:
                refused = error
                continue
            # What has settled may have moved: an empty answer of one tier is believed once the other has none.
            if isinstance(found, SpoiledDays) or found.num_rows or market.status != "resolved":
                return found
            empty = found
        if empty is None:
            raise refused or NotFound(f"kalshi has no market {market.id}")
        return empty

    def fetch_prices_of(
        self, markets: Sequence[Market], start: datetime, end: datetime
    ) -> dict[str, pa.Table | VendorError]:
        """As `fetch_prices` for many markets in few requests: by key the points, or what came instead.

        All answers are held at once, about 150 bytes a point: hand over markets by the hundred.
        """
        live = [market for market in markets if not self._is_archived(market)]
        batches = plan_batches(live, start, end)
        gathered: dict[str, list[tuple[CandleWindow, pa.Table | VendorError]]] = {}
        breaker = self._begin("batch")
        for batch, answer in zip(batches, _in_threads(self._asking(breaker, batches)), strict=True):
            for ticker, window in batch.markets:
                part = answer if isinstance(answer, VendorError) else answer.get(ticker)
                gathered.setdefault(ticker, []).append((window, _gone(ticker) if part is None else part))
        found = {market.key: _joined(gathered.get(market.id, [])) for market in markets}
        silent = [market for market in markets if _says_nothing(found[market.key])]
        quiet = self._quiet(silent, found, {each.id for each in live})
        unclear = [market for market in silent if market.key not in quiet]
        return found | quiet | self._alone(unclear, found, start, end)

    def _quiet(
        self, markets: Sequence[Market], found: Mapping[str, pa.Table | VendorError], live: Collection[str]
    ) -> dict[str, pa.Table | VendorError]:
        """Those without candles that the live tier knows, as it tells of many in one request: nobody traded them."""
        silent = [one for one in markets if one.id in live and not _has_failed(found[one.key])]
        known: set[str] = set()
        for first in range(0, len(silent) if len(silent) > 1 else 0, TICKERS_A_PAGE):
            tickers = ",".join(market.id for market in silent[first : first + TICKERS_A_PAGE])
            records = self._records(_Notes(), "/markets", "markets", MARKETS_A_PAGE, tickers=tickers)
            known.update(name_of(record) for record in records)
        return {market.key: _answer([]) for market in silent if market.id in known}

    def _alone(
        self, markets: Sequence[Market], known: Mapping[str, pa.Table | VendorError], start: datetime, end: datetime
    ) -> dict[str, pa.Table | VendorError]:
        """What each answers by itself.

        A batch says little about a market it gives nothing for: moved to the other tier, unknown, or quiet; where it
        failed, one of its markets may be why.
        """
        breaker = self._begin("alone")
        asks = [
            partial(breaker.ask, partial(self._prices, market, start, end, self._attempts_after(known[market.key])))
            for market in markets
        ]
        return dict(zip((market.key for market in markets), _in_threads(asks), strict=True))

    def _begin(self, what: str) -> CircuitBreaker:
        self._breakers[what].begin()
        return self._breakers[what]

    def _asking(
        self, breaker: CircuitBreaker, batches: Iterable[BatchRequest]
    ) -> list[Callable[[], dict[str, pa.Table | VendorError] | VendorError]]:
        return [partial(breaker.ask, partial(self._fetch_batch, batch)) for batch in batches]

    def _fetch_batch(self, batch: BatchRequest) -> dict[str, pa.Table | VendorError]:
        windows = dict(batch.markets)
        answer = self._batch_answer(list(windows), batch.window)
        found: dict[str, pa.Table | VendorError] = {}
        for entry in _part(answer, "markets", list):
            ticker = entry.get("market_ticker") if isinstance(entry, Mapping) else None
            if isinstance(ticker, str) and ticker in windows:
                found[ticker] = _parsed(entry, ticker, windows[ticker])
        return found

    def _batch_answer(self, tickers: Sequence[str], window: CandleWindow) -> Any:
        self._billing.try_acquire(VENUE, weight=len(tickers))
        asked = {"market_tickers": ",".join(tickers), **_bounds(window)}
        return self._http.get("/markets/candlesticks", asked, about=tickers)

    def _tiers(self, market: Market) -> Sequence[Callable[[Market, CandleWindow, int | None], pa.Table]]:
        tiers = [self._fetch_live, self._fetch_archived]
        return tiers[::-1] if self._is_archived(market) else tiers

    def _attempts_after(self, found: pa.Table | VendorError) -> int | None:
        return self._policy.few_attempts if isinstance(found, VendorError) and found.transient else None

    def _fetch_live(self, market: Market, window: CandleWindow, attempts: int | None = None) -> pa.Table:
        if market.series is None:
            found = self._fetch_batch(BatchRequest(window, ((market.id, window),))).get(market.id, _gone(market.id))
            if isinstance(found, VendorError):
                raise found
            return found
        path = f"/series/{path_part(market.series)}/markets/{path_part(market.id)}/candlesticks"
        return self._fetch_candles(path, market, window, attempts, LIVE)

    def _fetch_archived(self, market: Market, window: CandleWindow, attempts: int | None = None) -> pa.Table:
        path = f"/historical/markets/{path_part(market.id)}/candlesticks"
        return self._fetch_candles(path, market, window, attempts, HISTORICAL)

    def _fetch_candles(
        self, path: str, market: Market, window: CandleWindow, attempts: int | None, tier: str
    ) -> pa.Table:
        answer = self._http.get(path, _bounds(window), attempts=attempts, about=[market.id])
        return _within(_part(answer, "candlesticks", list), market.id, window, tier)

    def _is_archived(self, market: Market) -> bool:
        settled_at = loose_instant(market.facts.get("settled_at"))
        if market.status != "resolved" or settled_at is None:
            return False
        cutoff = self._fetch_cutoff()
        return cutoff is not None and settled_at < cutoff

    def _fetch_cutoff(self) -> datetime | None:
        """What settled before it is in the historical tier; None where Kalshi does not say.

        Asked once: it moves, and a wrong guess costs one 404.
        """
        with self._lock:
            if not self._cutoff_known:
                self._cutoff_known = True
                with suppress(VendorError):
                    self._cutoff = shaped(self._http.get("/historical/cutoff"), KalshiCutoff).market_settled_ts
            return self._cutoff

    def _listed(self, query: MarketQuery, notes: _Notes) -> Iterator[Market]:
        asked = {category.lower() for category in query.categories}
        known: set[str] = set()
        series: set[str] = set()
        are_nested = False
        for event, records in self._fetch_events(None if query.with_ended else "open", notes):
            category = (event.category or "").lower()
            known.add(category)
            are_nested |= bool(records)
            if not asked or category in asked:
                series.add(event.series_ticker or "")
                found = self._readable(records, notes, event)
                yield from (one for one in found if query.with_ended or _is_open(one))
        if asked and not asked & known and not notes.paging.errors:
            has = ", ".join(sorted(known - {""}))
            raise NotFound(f"kalshi has no category {', '.join(sorted(asked))}; it has {has}")
        if known and not are_nested:
            every = self._beside_events(query.with_ended, notes)
            yield from (one for one in every if not asked or one.category in asked)
        if query.with_ended:
            yield from self._archived(sorted(series - {""}) if asked else [None], notes)

    def _beside_events(self, with_ended: bool, notes: _Notes) -> Iterator[Market]:
        """The live tier's markets, where events come without theirs."""
        asked = {"mve_filter": "exclude", "status": None if with_ended else "open"}
        found = self._readable(self._records(notes, "/markets", "markets", MARKETS_A_PAGE, **asked), notes)
        yield from (one for one in found if with_ended or _is_open(one))

    def _archived(self, series: Iterable[str | None], notes: _Notes) -> Iterator[Market]:
        for ticker in series:
            # These filters exclude one another; a series of ordinary events has no combinations.
            only = {"series_ticker": ticker} if ticker else {"mve_filter": "exclude"}
            records = self._records(notes, "/historical/markets", "markets", MARKETS_A_PAGE, **only)
            yield from self._readable(records, notes)

    def _named(self, ids: Sequence[str], notes: _Notes) -> Iterator[Market]:
        missing = dict.fromkeys(ids)
        # The historical list takes no second filter.
        for path, others in (("/markets", {"mve_filter": "exclude"}), ("/historical/markets", {})):
            tickers = [ticker for ticker in missing if is_ticker(ticker)]
            for first in range(0, len(tickers), TICKERS_A_PAGE):
                page = {"tickers": ",".join(tickers[first : first + TICKERS_A_PAGE]), **others}
                # Where the list is refused or breaks off, each that is missing is asked for by itself.
                records = list(self._records(_Notes(), path, "markets", MARKETS_A_PAGE, **page))
                self._learn_events(records)
                for record in records:
                    if name_of(record) in missing:
                        del missing[name_of(record)]
                        yield from self._readable([record], notes)
        alone = gather(VENUE, missing, self._fetch_market)
        notes.broken |= {one.id: one for one in alone.broken}
        notes.left_out.extend(alone.incomplete)
        yield from alone.markets

    def _readable(self, records: Iterable[Any], notes: _Notes, event: KalshiEvent | None = None) -> Iterator[Market]:
        """The markets among `records` that are no combination; what cannot be read is noted in `broken`.

        Their event is `event` where they are nested in one.
        """
        for record in records:
            if isinstance(record, Mapping) and record.get("mve_collection_ticker"):
                continue
            try:
                found = parse_market(record, event or self._event_of(record))
            except Malformed as error:
                notes.broken[name_of(record)] = BrokenRecord(VENUE, name_of(record), str(error))
                continue
            yield found
            if found.event in self._unread and not event:
                why = f"the event of {found.id} and what it belongs to cannot be read: {self._unread[found.event]}"
                notes.broken[found.event] = BrokenRecord(VENUE, found.event, why)

    def _learn_events(self, records: Sequence[Any]) -> None:
        """The events of these markets, in one request for many; who is left out is asked for where it is needed."""
        new = sorted({ticker for one in records if (ticker := _event_ticker(one))} - self._events.keys())
        for first in range(0, len(new) if len(new) > 1 else 0, TICKERS_A_PAGE):
            notes, asked = _Notes(), new[first : first + TICKERS_A_PAGE]
            for event in self._records(notes, "/events", "events", EVENTS_A_PAGE, tickers=",".join(asked)):
                with suppress(Malformed):
                    found = shaped(event, KalshiEvent)
                    if found.event_ticker in asked:
                        self._remember(found)
            if notes.paging.errors:
                return

    def _event_of(self, record: Any) -> KalshiEvent:
        """A market's event; `NO_EVENT` where there is none, as for combinations."""
        ticker = _event_ticker(record)
        if not ticker:
            return NO_EVENT
        if ticker not in self._events and ticker not in self._unread:
            fetch = partial(self._http.get, f"/events/{path_part(ticker)}")
            answer = self._breakers["event"].ask(lambda: shaped(_part(fetch(), "event", dict), KalshiEvent))
            if not isinstance(answer, VendorError):
                self._events[ticker] = self._remember(answer)
            elif answer.transient or isinstance(answer, Denied):
                # A market is one without its event, too.
                self._unread[ticker] = answer
            else:
                self._events[ticker] = NO_EVENT
        return self._events.get(ticker, NO_EVENT)

    def _fetch_events(self, status: str | None, notes: _Notes) -> Iterator[tuple[KalshiEvent, Sequence[Any]]]:
        """Each event and the records of its markets."""
        asked = {"with_nested_markets": "true", "status": status}
        for record in self._records(notes, "/events", "events", EVENTS_A_PAGE, **asked):
            name = name_of(record)
            try:
                event = self._remember(shaped(record, KalshiEvent))
            except Malformed as error:
                notes.broken[name] = BrokenRecord(VENUE, name, f"kalshi sends an event that is none: {error}")
                # Its markets are markets without it, too.
                event = NO_EVENT
            nested = record.get("markets") if isinstance(record, Mapping) else None
            if not isinstance(nested, list | None):
                notes.broken[name] = BrokenRecord(VENUE, name, f"kalshi's event {name} has markets that are no list")
            yield event, nested if isinstance(nested, list) else ()

    def _remember(self, event: KalshiEvent) -> KalshiEvent:
        """The event, with its series' category where it has none of its own."""
        if not event.category and event.series_ticker:
            self._learn_categories()
            event = replace(event, category=self._category_of(event.series_ticker))
        self._events[event.event_ticker] = event
        return event

    def _learn_categories(self) -> None:
        """Those of all series, in one request: a list of events that do not say theirs has thousands of series."""
        if not self._categories_known:
            self._categories_known = True
            with suppress(VendorError):
                for record in _part(self._http.get("/series"), "series", list):
                    with suppress(Malformed):
                        series = shaped(record, KalshiSeries)
                        self._categories[series.ticker] = series.category or ""

    def _category_of(self, series: str) -> str:
        if series not in self._categories:
            fetch = partial(self._http.get, f"/series/{path_part(series)}")
            answer = self._breakers["event"].ask(lambda: shaped(_part(fetch(), "series", dict), KalshiSeries))
            self._categories[series] = "" if isinstance(answer, VendorError) else answer.category or ""
        return self._categories[series]

    def _records(self, notes: _Notes, path: str, name: str, limit: int, **asked: str | None) -> Iterator[Any]:
        """Every record of a list, until the cursor is empty."""

        def fetch(cursor: str | None) -> Page[Any, str]:
            named = (asked.get("tickers") or "").split(",") if asked.get("tickers") else ()
            answer = self._http.get(path, {"limit": limit, **asked, "cursor": cursor}, about=named)
            after, is_cut = cursor_in(answer, "cursor")
            return Page.of(_part(answer, name, list), after, answer, has_more=is_cut)

        for page in notes.paging.read(fetch, _key_of, f"kalshi's list {path}"):
            yield from page


@dataclass
class _Notes:
    """What is wrong in an answer: records by name, and lists that break off."""

    broken: dict[str, BrokenRecord] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    paging: Paging = field(default_factory=Paging)


def _key_of(record: Any) -> Hashable:
    """What tells a record of a market, or of an event with its markets, from the others of its list."""
    return key_of(record, "markets", "ticker", "event_ticker")


def _event_ticker(record: Any) -> str | None:
    """What a record says that its event is called, if that can be a name."""
    ticker = record.get("event_ticker") if isinstance(record, Mapping) else None
    return ticker if isinstance(ticker, str) and is_ticker(ticker) else None


def _in_threads(asks: Sequence[Callable[[], T]]) -> list[T]:
    with ThreadPoolExecutor(THREADS, thread_name_prefix=VENUE) as pool:
        try:
            return list(pool.map(lambda ask: ask(), asks))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _part(answer: Any, name: str, kind: type[T]) -> T:
    part = answer.get(name) if isinstance(answer, Mapping) else None
    if part is None and kind is list and isinstance(answer, Mapping) and name in answer:
        # An empty list, as Kalshi's language writes one that was never filled.
        part = []
    if not isinstance(part, kind):
        raise Malformed(f"kalshi's answer has no {name}: {shown(answer)}")
    return part


def _bounds(window: CandleWindow) -> dict[str, int]:
    return {"start_ts": window.first, "end_ts": window.last, "period_interval": HOURLY}


def _within(candles: Any, ticker: str, window: CandleWindow, tier: str) -> pa.Table:
    table = parse_candles(candles, ticker, tier)
    stamps = table["stamped_at"].cast(pa.int64()).to_numpy() // 1_000_000
    low, high = stamps.searchsorted([window.first, window.last + 1])
    return table.slice(low, high - low)


def _parsed(entry: Mapping[str, Any], ticker: str, window: CandleWindow) -> pa.Table | VendorError:
    try:
        return _within(_part(entry, "candlesticks", list), ticker, window, LIVE)
    except Malformed as error:
        return error


class _LeftOut(NotFound):
    """A market that is not among those of a batch that came."""


def _gone(ticker: str) -> NotFound:
    return _LeftOut(f"kalshi's live tier has no candles of {ticker}")


def _joined(parts: Sequence[tuple[CandleWindow, pa.Table | VendorError]]) -> pa.Table | VendorError:
    for _, part in parts:
        if isinstance(part, VendorError):
            return part
    return _answer([part for _, part in sorted(parts, key=lambda each: each[0].first)])


def _answer(candles: Sequence[pa.Table]) -> pa.Table | SpoiledDays:
    """Both outcomes' points; with what is wrong with the days of bad candles."""
    found, bad = points(candles), faults(candles)
    if not bad:
        return found
    why = "; ".join([*list(bad.values())[:2], *(["and more"] if len(bad) > 2 else [])])
    return SpoiledDays(why, points_without(found, bad), {day: (Malformed.reason, text) for day, text in bad.items()})


def _says_nothing(found: pa.Table | VendorError) -> bool:
    """Whether it may be had by itself; more requests are no cure for too many."""
    if isinstance(found, VendorError):
        return isinstance(found, NotFound | Rejected) or (found.transient and not isinstance(found, RateLimited))
    rows: int = found.num_rows
    return rows == 0


def _has_failed(found: pa.Table | VendorError) -> bool:
    """Whether the request failed; a market that a batch leaves out has not."""
    return isinstance(found, VendorError) and not isinstance(found, _LeftOut)


def _is_open(market: Market) -> bool:
    return market.status in ("unopened", "open")


def _first_of_each(markets: Iterable[Market]) -> Iterator[Market]:
    seen = set()
    for market in markets:
        if market.id not in seen:
            seen.add(market.id)
            yield market


def _noting_open(markets: Iterable[Market], shown: dict[str, Market]) -> Iterator[Market]:
    for market in markets:
        if market.status == "open":
            shown[market.id] = market
        yield market


def _by_volume(market: Market) -> tuple[Decimal, str]:
    return -(market.volume or Decimal(0)), market.id


def _open_by_volume(market: Market) -> tuple[bool, Decimal, str]:
    """What cannot be traded yet takes no open one's place."""
    return market.status != "open", *_by_volume(market)
