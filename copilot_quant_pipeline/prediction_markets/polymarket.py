"""Polymarket's client: markets from Gamma, prices from CLOB and, where that has none, from data-api v2.

Here: asking: which service, which route, which window and grain.
Not here: what an answer means (polymarket_catalog.py, polymarket_prices.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import product
from typing import Any, TypeVar
from urllib.parse import quote

import pyarrow as pa

from copilot_quant_pipeline.errors import Malformed, NoSuchRoute, NotFound, Rejected, VendorError
from copilot_quant_pipeline.prediction_markets.http import HttpClient, Pace, Wait
from copilot_quant_pipeline.prediction_markets.polymarket_catalog import (
    SECTION_OF_WORD,
    VENUE,
    Kind,
    Page,
    parse_market,
    parse_page,
)
from copilot_quant_pipeline.prediction_markets.polymarket_prices import (
    Stretch,
    gaps_in,
    inside,
    life_of,
    parse_clob,
    parse_data,
    plan_windows,
    points_of,
)
from copilot_quant_pipeline.prediction_markets.venue import (
    Broken,
    Catalog,
    Market,
    MarketQuery,
    MissingAtSource,
    Outcome,
    Traffic,
)

T = TypeVar("T")

GAMMA_URL = "https://gamma-api.polymarket.com"
CLOB_URL = "https://clob.polymarket.com"
DATA_URL = "https://data-api.polymarket.com"
# Published limits, in 10 s: /markets 300, /events 500, both price histories 1000.
MARKETS_PACE, EVENTS_PACE, HISTORY_PACE = Pace(300, 10), Pace(500, 10), Pace(1000, 10)

PAGE_SIZE = 100
IDS_A_REQUEST = 50
TOKENS_A_BATCH = 20
POINTS_A_PAGE = 10_000
# What is tried for days without points of a market that traded: minutes between points. CLOB is known to have lost
# resolved markets at grains finer than 12 h; data-api keeps hourly points for 90 days, those of 3 h for ever.
CLOB_GRAINS = (60, 720)
DATA_GRAINS = (60, 180)
LISTINGS_BEGUN_ANEW = 2
# Each failure has cost some retries, and a backfill has thousands of requests.
FAILURES_IN_A_ROW = 3


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
        return self.market.volume is None or self.market.volume > 0


# By the token's id.
Histories = dict[str, pa.Table | VendorError]
Rung = Callable[[Sequence[_Token], Stretch], Histories]


class _Patience:
    """Ends a long round of requests soon after the venue has ceased to answer."""

    def __init__(self) -> None:
        self._failures: list[VendorError] = []

    def histories(self, ask: Rung, tokens: Sequence[_Token], window: Stretch) -> Histories:
        """What `ask` gives; once it has failed too often in a row, the last failure."""
        if len(self._failures) >= FAILURES_IN_A_ROW:
            return _of_all(tokens, self._failures[-1])
        answers = ask(tokens, window)
        failed = [one for one in answers.values() if isinstance(one, VendorError) and not isinstance(one, Malformed)]
        self._failures = [*self._failures, failed[0]] if len(failed) == len(answers) else []
        return answers


class Polymarket:
    """Polymarket as a `Venue`; may be used by several threads.

    Args:
        gamma_url: base URL of the service that lists markets,
        clob_url: of the order book's, and
        data_url: of the data-api.
        clock: gives the present instant, aware UTC; what is not yet past cannot be missing.
        wait: seconds to wait before a retry, as tenacity's wait strategies do.
        threads: how many price requests are under way at once.
    """

    name = VENUE

    def __init__(
        self,
        gamma_url: str = GAMMA_URL,
        clob_url: str = CLOB_URL,
        data_url: str = DATA_URL,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait: Wait | None = None,
        threads: int = 4,
    ) -> None:
        self._gamma: Mapping[Kind, HttpClient] = {
            "markets": HttpClient(VENUE, gamma_url, MARKETS_PACE, wait=wait),
            "events": HttpClient(VENUE, gamma_url, EVENTS_PACE, wait=wait),
        }
        self._clob = HttpClient(VENUE, clob_url, HISTORY_PACE, wait=wait)
        self._data = HttpClient(VENUE, data_url, HISTORY_PACE, wait=wait)
        self._clock = clock
        self._threads = threads
        # Set once a route is not there any more, so that it is not asked again for every window.
        self._has_batches = True
        self._has_clob = True
        # A service that has answered is there, though it may not know a token.
        self._clob_answers = False

    @property
    def traffic(self) -> Traffic:
        """Requests sent and retries so far, over all three services."""
        each = [client.traffic for client in (*self._gamma.values(), self._clob, self._data)]
        return Traffic(sum(one.requests for one in each), sum(one.retries for one in each))

    def fetch_markets(self, query: MarketQuery) -> Catalog:
        """The markets that `query` asks for; what is broken or, of `ids`, not known is named, the rest is kept.

        A category is a tag (`politics`, `crypto`): a market is found by any of its tags, though it has one category.
        """
        if query.ids:
            return self._named(query.ids)
        pages = self._tagged(query) if query.categories else self._largest(query)
        return _chosen(pages, query)

    def fetch_market(self, market_id: str) -> Market:
        """One market by id, slug or condition id, ended or not.

        Raises:
            VendorError: NotFound where Polymarket does not know it.
        """
        if _field_of(market_id) == "condition_ids":
            return self._from_list(market_id)
        path = f"/markets/{market_id}" if _field_of(market_id) == "id" else f"/markets/slug/{quote(market_id, safe='')}"
        try:
            return parse_market(self._gamma["markets"].get(path, {"include_tag": "true"}))
        except (NotFound, NoSuchRoute):
            return self._from_list(market_id)

    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table:
        """Points (`POINTS`) of every outcome with start <= at < end, hourly where the venue still has them so.

        Raises:
            VendorError: MissingAtSource where a market that traded has none for some stretch; it carries the others.
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
        lives = [life for market in markets if (life := life_of(market).within(asked_for))]
        span = Stretch(min(life.start for life in lives), max(life.end for life in lives)) if lives else None
        asked = list(self._asked(markets, plan_windows(span))) if span else []
        with ThreadPoolExecutor(self._threads, thread_name_prefix=VENUE) as pool:
            patience = _Patience()
            answers = list(pool.map(lambda one: patience.histories(self._histories, *one), asked))
        found = [(window, answer) for (_, window), answer in zip(asked, answers, strict=True)]
        return {market.key: self._assembled(market, found, asked_for) for market in markets}

    def _named(self, names: Sequence[str]) -> Catalog:
        found: dict[str, Market] = {}
        broken: list[Broken] = []
        for field in ("id", "slug", "condition_ids"):
            wanted = sorted({name for name in names if _field_of(name) == field})
            for some, closed in product(_batched(wanted, IDS_A_REQUEST), (False, True)):
                for page in self._pages("markets", closed, {field: list(some), "include_tag": "true"}):
                    found |= {market.id: market for market in page.catalog.markets}
                    broken.extend(page.catalog.broken)
        known = {name for market in found.values() for name in (market.id, market.slug, market.facts["condition_id"])}
        known |= {one.id for one in broken}
        unknown = [
            Broken(VENUE, name, f"{VENUE} knows no market {name!r}", unknown=True)
            for name in names
            if name not in known
        ]
        return Catalog(tuple(found.values()), (*broken, *unknown))

    def _largest(self, query: MarketQuery) -> Iterator[Page]:
        """Pages of markets; the largest first where there is a limit, else in the order of ids, which is stable."""
        order = {"order": "volumeNum", "ascending": "false"} if query.limit else {}
        for closed in (False, True) if query.with_ended else (False,):
            volumes: list[Decimal] = []
            for page in self._pages("markets", closed, {**order, "include_tag": "true"}):
                yield page
                open_ones = [one for one in page.catalog.markets if query.with_ended or one.status == "open"]
                volumes += [one.volume or Decimal(0) for one in open_ones]
                # What does not come in the order that was asked for is read to its end.
                if query.limit and len(volumes) >= query.limit and _descend(volumes):
                    break

    def _tagged(self, query: MarketQuery) -> Iterator[Page]:
        tags = dict.fromkeys(SECTION_OF_WORD.get(word.lower(), word.lower()) for word in query.categories)
        for tag, closed in product(tags, (False, True) if query.with_ended else (False,)):
            yield from self._pages("events", closed, {"tag_slug": tag})

    def _pages(self, kind: Kind, closed: bool, filters: Mapping[str, Any]) -> Iterator[Page]:
        """Every page of a listing, begun anew where the venue no longer takes its own cursor.

        A page may be short for reasons of the venue's own: only a page without a cursor is the last one.
        """
        begun, cursor, seen = 0, None, set[str]()
        while True:
            parameters = {**filters, "closed": str(closed).lower(), "limit": PAGE_SIZE, "after_cursor": cursor}
            try:
                answer = self._gamma[kind].get(f"/{kind}/keyset", parameters)
            except Rejected:
                if cursor is None or begun == LISTINGS_BEGUN_ANEW:
                    raise
                begun, cursor, seen = begun + 1, None, set()
                continue
            page = parse_page(answer, kind)
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return
            _expect_new(cursor, seen, f"/{kind}/keyset")

    def _from_list(self, name: str) -> Market:
        catalog = self._named([name])
        if catalog.markets:
            return catalog.markets[0]
        raise NotFound(catalog.broken[0].why) if catalog.broken[0].unknown else Malformed(catalog.broken[0].why)

    def _asked(
        self, markets: Sequence[Market], windows: Sequence[Stretch]
    ) -> Iterator[tuple[Sequence[_Token], Stretch]]:
        for window in windows:
            alive = [market for market in markets if life_of(market).within(window)]
            tokens = [_Token(market, outcome) for market in alive for outcome in market.outcomes if outcome.token]
            for some in _batched(tokens, TOKENS_A_BATCH):
                yield some, window

    def _histories(self, tokens: Sequence[_Token], window: Stretch) -> Histories:
        """Each token's points in the window; days without are filled from the next grain or service that has some."""
        found: Histories = {}
        for rung in self._rungs():
            left = [token for token in tokens if token.id not in found or self._wants_more(token, found, window)]
            if not left:
                break
            answers = rung(left, window)
            found |= {one.id: self._added(one, found.get(one.id), answers[one.id], window) for one in left}
        return found

    def _added(
        self, token: _Token, known: pa.Table | VendorError | None, answer: pa.Table | VendorError, window: Stretch
    ) -> pa.Table | VendorError:
        if known is None or _is_gone(known):
            return answer
        if isinstance(known, VendorError):
            return known if isinstance(answer, VendorError) else answer
        if isinstance(answer, VendorError):
            # What one service refuses does not undo what another has answered; what is malformed must be said.
            return answer if isinstance(answer, Malformed) else known
        return pa.concat_tables([known, *(inside(answer, gap) for gap in self._gaps(token, known, window))])

    def _rungs(self) -> Iterator[Rung]:
        for grain in CLOB_GRAINS:
            if self._has_clob:
                yield partial(self._from_clob, grain=grain)
        for grain in DATA_GRAINS:
            yield partial(self._from_data, grain=grain)

    def _wants_more(self, token: _Token, found: Histories, window: Stretch) -> bool:
        answer = found[token.id]
        if isinstance(answer, VendorError):
            return isinstance(answer, NotFound | Rejected)
        return bool(self._gaps(token, answer, window))

    def _gaps(self, token: _Token, answer: pa.Table, window: Stretch) -> list[Stretch]:
        """The days on which a market that traded must have had a price by now, and has none."""
        lived = life_of(token.market).within(window).within(Stretch(window.start, self._clock().astimezone(UTC)))
        return gaps_in(answer, lived) if token.traded and lived else []

    def _from_clob(self, tokens: Sequence[_Token], window: Stretch, grain: int) -> Histories:
        try:
            sent = self._batch(tokens, window, grain) if self._has_batches else None
        except VendorError as error:
            return _of_all(tokens, error)
        if sent is None:
            return self._singles(tokens, window, grain)
        return {token.id: _read(parse_clob, sent.get(token.id) or [], token, window) for token in tokens}

    def _singles(self, tokens: Sequence[_Token], window: Stretch, grain: int) -> Histories:
        """One request a token; each has its own error, but once the venue does not answer the others are not tried."""
        found: Histories = {}
        for token in tokens:
            try:
                found[token.id] = _read(parse_clob, self._single(token, window, grain), token, window)
                self._clob_answers = True
            except VendorError as error:
                found[token.id] = error
                if error.transient and not isinstance(error, Malformed):
                    return _of_all(tokens, error) | found
        self._has_clob = self._has_clob and (self._clob_answers or not all(map(_is_gone, found.values())))
        return found

    def _batch(self, tokens: Sequence[_Token], window: Stretch, grain: int) -> dict[str, Any] | None:
        """What the batch route answers; None where it does not."""
        start, end = _seconds(window)
        body = {"markets": [token.id for token in tokens], "start_ts": start, "end_ts": end, "fidelity": grain}
        try:
            history: dict[str, Any] = _histories_in(self._clob.post("/batch-prices-history", body), dict)
        except (NotFound, NoSuchRoute):
            self._has_batches = False
        except Rejected:
            # One token of the twenty may be what is refused.
            pass
        else:
            self._clob_answers = True
            return history
        return None

    def _single(self, token: _Token, window: Stretch, grain: int) -> Any:
        start, end = _seconds(window)
        parameters = {"market": token.id, "startTs": start, "endTs": end, "fidelity": grain}
        return _histories_in(self._clob.get("/prices-history", parameters), list)

    def _from_data(self, tokens: Sequence[_Token], window: Stretch, grain: int) -> Histories:
        found: Histories = {}
        for token in tokens:
            try:
                points = list(self._data_points(token, window, grain))
            except VendorError as error:
                found[token.id] = error
            else:
                found[token.id] = _read(parse_data, points, token, window)
        return found

    def _data_points(self, token: _Token, window: Stretch, grain: int) -> Iterator[Any]:
        start, end = _seconds(window)
        asked = {"token_id": token.id, "start": start, "end": end, "bucket_seconds": 60 * grain, "limit": POINTS_A_PAGE}
        cursor, seen = None, set[str]()
        while True:
            answer = self._data.get("/v2/prices-history", {**asked, "cursor": cursor})
            try:
                yield from answer["data"] or []
                more = answer.get("pagination") or {}
                cursor = more.get("next_cursor") if more.get("has_more") else None
            except (KeyError, TypeError, AttributeError):
                raise Malformed(f"{token.of}: no price history: {str(answer)[:80]!r}") from None
            if not cursor:
                if more.get("has_more"):
                    raise Malformed(f"{token.of}: there is more of its price history, and no cursor to it")
                return
            _expect_new(cursor, seen, "/v2/prices-history")

    def _assembled(
        self, market: Market, found: Sequence[tuple[Stretch, Histories]], asked: Stretch
    ) -> pa.Table | VendorError:
        histories: dict[Outcome, list[pa.Table]] = {outcome: [] for outcome in market.outcomes}
        missing: list[Stretch] = []
        for window, answers in found:
            for outcome in market.outcomes:
                answer = answers.get(outcome.token)
                if isinstance(answer, VendorError):
                    return answer
                if answer is not None:
                    histories[outcome].append(inside(answer, asked))
                    missing.extend(self._gaps(_Token(market, outcome), answer, window.within(asked)))
        points = points_of(market, histories)
        return _missing(market, points, missing) if missing else points


def _batched(all_of: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (all_of[start : start + size] for start in range(0, len(all_of), size))


def _is_gone(answer: pa.Table | VendorError) -> bool:
    return isinstance(answer, NotFound | NoSuchRoute)


def _of_all(tokens: Sequence[_Token], error: VendorError) -> Histories:
    return {token.id: error for token in tokens}


def _field_of(name: str) -> str:
    """The filter that finds a market by such a name."""
    if name.isascii() and name.isdigit():
        return "id"
    return "condition_ids" if name.startswith("0x") else "slug"


def _chosen(pages: Iterator[Page], query: MarketQuery) -> Catalog:
    markets: dict[str, Market] = {}
    broken: dict[Broken, None] = {}
    for page in pages:
        markets |= {market.id: market for market in page.catalog.markets}
        broken |= dict.fromkeys(page.catalog.broken)
    wanted = [one for one in markets.values() if query.with_ended or one.status in ("unopened", "open")]
    if query.limit:
        # What cannot be traded yet takes no open one's place.
        wanted.sort(key=lambda one: (query.with_ended or one.status == "open", one.volume or Decimal(0)), reverse=True)
    return Catalog(tuple(wanted[: query.limit]), tuple(broken))


def _descend(volumes: Sequence[Decimal]) -> bool:
    """Whether they do, give or take the dollar by which the two volumes of a market can differ."""
    return all(one + 1 >= other for one, other in zip(volumes, volumes[1:], strict=False))


def _expect_new(cursor: str, seen: set[str], route: str) -> None:
    if cursor in seen:
        raise Malformed(f"{VENUE}'s {route} goes in circles: cursor {cursor[:40]!r} came twice")
    seen.add(cursor)


def _seconds(window: Stretch) -> tuple[int, int]:
    # Rounded outwards by less than a second at the start, so that the window stays within the venue's limit.
    start = int(window.start.timestamp())
    return start, min(int((window.end + timedelta(microseconds=999_999)).timestamp()), start + 15 * 86_400)


def _histories_in(answer: Any, kind: type) -> Any:
    history = answer.get("history") if isinstance(answer, dict) else None
    if isinstance(answer, dict) and "history" in answer and history is None:
        return kind()
    if not isinstance(history, kind):
        raise Malformed(f"{VENUE} answers with no price history: {str(answer)[:80]!r}")
    return history


def _read(parse: Callable[[Any, str], pa.Table], points: Any, token: _Token, window: Stretch) -> pa.Table | VendorError:
    try:
        return inside(parse(points, token.of), window)
    except Malformed as error:
        return error


def _missing(market: Market, points: pa.Table, stretches: Sequence[Stretch]) -> VendorError:
    once = sorted(set(stretches), key=lambda one: one.start)
    days = ", ".join(f"{one.start:%Y-%m-%d}" for one in once[:3]) + (", ..." if len(once) > 3 else "")
    traded = "traded" if market.volume is None else f"traded {market.volume:.0f} dollars"
    why = f"{market.key} {traded}, and {VENUE} has no price at any grain on {len(once)} days of its life ({days})"
    return MissingAtSource(why, points)
