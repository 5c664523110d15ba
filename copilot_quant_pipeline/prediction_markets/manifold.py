"""Manifold: markets in play money. Its prices are opinions of people who stake nothing, and every title says so.

Here: its client and the pure readers of its format, v0 of api.manifold.markets.
Not here: HTTP (http.py), what is stored.

Known from Manifold's own documentation and published source: the routes, their parameters, times in milliseconds, 500
requests a minute. Uncertain, and only in this module:
- Whether `beforeTime` of /bets leaves out that very instant. Pages overlap by a millisecond so that it need not matter;
  the documented `before=<bet id>` loses bets, since the bets by which answers are kept at 100 % share one instant.
- Which fields a resolution of several answers leaves: a share of each in `resolutions`, or a word or probability of its
  own in each answer. What tells neither counts as void.
- How an unknown topic is answered; here it lists nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import pyarrow as pa

from copilot_quant_pipeline.answers import SIX_DIGITS, bounded_number, whole_number
from copilot_quant_pipeline.errors import Malformed, NotFound, Rejected
from copilot_quant_pipeline.grid.keys import is_slug
from copilot_quant_pipeline.prediction_markets.http import ATTEMPTS, HttpClient, Pace, Wait
from copilot_quant_pipeline.prediction_markets.pages import Page, Paging, read_whole
from copilot_quant_pipeline.prediction_markets.reading import (
    Point,
    expect_distinct,
    gather,
    hourly,
    named,
    parsed,
    read_instant,
    read_probability,
    read_quantity,
)
from copilot_quant_pipeline.prediction_markets.venue import (
    Catalog,
    Market,
    MarketQuery,
    Outcome,
    Semantics,
    Status,
    Traffic,
)
from copilot_quant_pipeline.transport import path_part
from copilot_quant_pipeline.vendor_clock import VendorClock

SERVICE = "bets"
URL = "https://api.manifold.markets"
# 480 a minute, below the published 500.
PACE = Pace(8)
PAGE = 1000
KINDS = ("BINARY", "MULTIPLE_CHOICE")
YES, NO = Outcome("Yes"), Outcome("No")
WINNERS = {"YES": YES.name, "NO": NO.name}
MILLISECOND = timedelta(milliseconds=1)
# Authors who mean "open-ended" write a year far off, some beyond what a date can hold.
FAR_OFF = 4_102_444_800_000


class Manifold:
    """The venue at `url`, as `clock` tells whether a market has closed.

    Of a catalog every market is read on its own, since lists tell neither answers nor topics: ask with a limit.
    """

    name: ClassVar[str] = "manifold"
    semantics: ClassVar[Semantics] = Semantics(
        offers="trades", silence="no_trade", has_history=True, stakes="play money", ends_unsaid="void"
    )

    def __init__(
        self,
        url: str = URL,
        *,
        clock: Callable[[], datetime] | None = None,
        pace: Pace = PACE,
        wait: Wait | None = None,
    ) -> None:
        self._http = HttpClient(self.name, url, pace, wait=wait, witness=("/v0/markets", {"limit": 1}))
        self._clock = clock or self._http.now

    @property
    def heard(self) -> VendorClock:
        """What its answers say of the time."""
        return self._http.heard

    @property
    def traffic(self) -> Traffic:
        """Requests sent and retries so far."""
        return self._http.traffic

    def fetch_markets(self, query: MarketQuery) -> Catalog:
        """The markets that `query` asks for, categories being Manifold's topics."""
        if query.ids:
            return gather(self.name, query.ids, self._fetch_market)
        now, paging = self._clock(), Paging()
        wanted = [
            record for record in self._fetch_list(query, paging) if query.with_ended or not _has_ended(record, now)
        ]
        wanted.sort(key=_volume, reverse=True)
        found = gather(self.name, wanted[: query.limit], self._fetch_listed)
        shown = frozenset(str(record.get("id")) for record in wanted if not _has_ended(record, now))
        return replace(found, incomplete=(*found.incomplete, *paging.incomplete), shown=shown)

    def fetch_market(self, market_id: str) -> Market:
        """One market by slug or id.

        Raises:
            NotFound: Manifold knows neither such a slug nor such an id.
            Rejected: It is a poll, a bounty or another kind without probabilities.
        """
        return self._fetch_market(market_id, ATTEMPTS)

    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table:
        """The probability after the last bet of each hour, at the instant of that bet."""
        return parse_prices(market, self._fetch_bets(market, start, end), start, end)

    def _fetch_market(self, market_id: str, attempts: int) -> Market:
        name = path_part(market_id)
        try:
            record = self._http.get(f"/v0/slug/{name}", attempts=attempts, about=[market_id])
        except NotFound:
            record = self._http.get(f"/v0/market/{name}", attempts=attempts, about=[market_id])
        return parse_market(record, self._clock())

    def _fetch_listed(self, record: dict[str, Any], attempts: int) -> Market:
        name = path_part(parsed(lambda one: str(one["id"]), record))
        return parse_market(self._http.get(f"/v0/market/{name}", attempts=attempts), self._clock())

    def _fetch_list(self, query: MarketQuery, paging: Paging) -> list[dict[str, Any]]:
        """Every listed market of a kind that has probabilities, once."""
        lists = [self._pages_of(paging, topic) for topic in query.categories] or [self._pages(paging)]
        records = {named(record): record for some in lists for page in some for record in page}
        paging.expect_begun()
        # One that does not say its kind is kept, so that it is named as broken.
        return [record for record in records.values() if record.get("outcomeType", KINDS[0]) in KINDS]

    def _pages(self, paging: Paging) -> Iterator[list[dict[str, Any]]]:
        def fetch(before: str | None) -> Page[dict[str, Any], str]:
            page = _expect_records(self._http.get("/v0/markets", {"limit": PAGE, "before": before}))
            last = next((str(record["id"]) for record in reversed(page) if record.get("id")), None)
            if page and last is None:
                raise Malformed(f"manifold's list of markets has a page without any id: {str(page[0])[:60]}")
            return Page(page, last)

        return paging.read(fetch, named, "manifold's list of markets")

    def _pages_of(self, paging: Paging, topic: str) -> Iterator[list[dict[str, Any]]]:
        asked = {"term": "", "topicSlug": topic, "filter": "all", "sort": "newest", "limit": PAGE}

        def fetch(offset: int | None) -> Page[dict[str, Any], int]:
            page = _expect_records(self._http.get("/v0/search-markets", {**asked, "offset": offset or 0}))
            return Page(page, (offset or 0) + len(page) if page else None)

        return paging.read(fetch, named, f"manifold's list of markets about {topic}")

    def _fetch_bets(self, market: Market, start: datetime, end: datetime) -> list[dict[str, Any]]:
        """The bets of the window, newest first, each once."""
        asked = {"contractId": market.id, "afterTime": _milliseconds(start) - 1, "order": "desc", "limit": PAGE}
        if market.outcomes != (YES, NO):
            # A bet on one answer moves the others by bets of no shares, which are left out unless asked for.
            asked["includeZeroShareRedemptions"] = "true"
        seen: set[str] = set()
        of = f"manifold's list of bets on {market.id}"

        def fetch(before: int | None) -> Page[dict[str, Any], int]:
            at = _milliseconds(end) if before is None else before
            page = _expect_records(self._http.get("/v0/bets", {**asked, "beforeTime": at}, about=[market.id]))
            new = parsed(_ids, page) - seen
            seen.update(new)
            if not new and len(page) >= PAGE:
                raise Malformed(f"{of} runs in a circle: a full page before {at} shows nothing new")
            # Pages overlap, so the last one is the first without a new bet.
            return Page(page, parsed(_oldest, page) + 1 if new else None)

        return list(read_whole(fetch, lambda bet: str(bet["id"]), of))


def parse_market(record: Any, now: datetime) -> Market:
    """A market from Manifold's full record of it.

    Raises:
        Malformed: It cannot be read.
        Rejected: It is of a kind without probabilities.
    """
    return parsed(lambda full: _market(full, now), record)


def parse_prices(market: Market, bets: list[dict[str, Any]], start: datetime, end: datetime) -> pa.Table:
    """Hourly points of a market's bets, which come newest first.

    Raises:
        Malformed: A bet cannot be read.
    """
    return hourly(market, parsed(lambda some: [*_points(market, some)], bets), start, end, service=SERVICE)


def _market(record: dict[str, Any], now: datetime) -> Market:
    if record["outcomeType"] not in KINDS:
        raise Rejected(f"manifold's {record['id']} is a {record['outcomeType']}, which has no probabilities")
    outcomes, slug = _outcomes(record), str(record["slug"])
    settled = _settled(record, outcomes)
    result = _winner(record, outcomes) or _only_winner(settled, outcomes)
    topics = [str(topic).lower() for topic in record.get("groupSlugs") or ()]
    return Market(
        venue=Manifold.name,
        id=str(record["id"]),
        slug=slug if is_slug(slug) else str(record["id"]),
        title=f"{record['question']} (play money)",
        category=next(iter(topics), None),
        outcomes=outcomes,
        opened_at=read_instant(record["createdTime"], unit=MILLISECOND),
        closes_at=_closes_at(record),
        status=_status(record, now),
        result=result,
        volume=read_quantity(record.get("volume")),
        resolved_at=_resolved_at(record),
        facts={"tags": topics, **({"settlements": settled} if settled and result is None else {})},
    )


def _outcomes(record: dict[str, Any]) -> tuple[Outcome, ...]:
    if record["outcomeType"] == "BINARY":
        return YES, NO
    return expect_distinct(tuple(Outcome(str(answer["text"]), str(answer["id"])) for answer in record["answers"]))


def _resolved_at(record: dict[str, Any]) -> datetime | None:
    at = record.get("resolutionTime")
    return read_instant(at, unit=MILLISECOND) if record["isResolved"] and at is not None else None


def _closes_at(record: dict[str, Any]) -> datetime | None:
    closes = record.get("closeTime")
    return read_instant(closes, unit=MILLISECOND) if closes is not None and closes < FAR_OFF else None


def _status(record: dict[str, Any], now: datetime) -> Status:
    if record["isResolved"]:
        return "resolved"
    closes_at = _closes_at(record)
    return "closed" if closes_at and closes_at <= now else "open"


def _winner(record: dict[str, Any], outcomes: tuple[Outcome, ...]) -> str | None:
    if not record["isResolved"]:
        return None
    if outcomes == (YES, NO):
        return WINNERS.get(record.get("resolution") or "")
    return next((outcome.name for outcome in outcomes if outcome.token == record.get("resolution")), None)


def _only_winner(settled: Mapping[str, str], outcomes: tuple[Outcome, ...]) -> str | None:
    won = [name for name, worth in settled.items() if Decimal(worth) == 1]
    lost = sum(not Decimal(worth) for worth in settled.values())
    return won[0] if len(won) == 1 and lost == len(outcomes) - 1 else None


def _settled(record: dict[str, Any], outcomes: tuple[Outcome, ...]) -> dict[str, str]:
    """What each outcome of a market that ended without one winner was worth, 0 to 1 as text; empty where it is void."""
    if not record["isResolved"] or record.get("resolution") == "CANCEL":
        return {}
    if outcomes == (YES, NO):
        yes = _worth(record) if record.get("resolution") == "MKT" else None
        return {} if yes is None else {YES.name: str(yes), NO.name: str(1 - yes)}
    shares = _shares(record)
    told = ((outcome.name, shares.get(outcome.token)) for outcome in outcomes)
    return {name: str(worth) for name, worth in told if worth is not None}


def _shares(record: dict[str, Any]) -> dict[str, Decimal | None]:
    """By answer what it was worth: a share of one, or, where answers are independent, whatever each says of itself."""
    own = {str(answer["id"]): _worth(answer) for answer in record["answers"]}
    given, adds_up = record.get("resolutions"), record.get("shouldAnswersSumToOne")
    if isinstance(given, dict) and given and adds_up is not False:
        shares = {str(name): read_quantity(share) or Decimal(0) for name, share in given.items()}
        return _as_parts({name: shares.get(name, Decimal(0)) for name in own})
    return _as_parts(own) if adds_up else own


def _as_parts(shares: Mapping[str, Decimal | None]) -> dict[str, Decimal | None]:
    whole = sum((share for share in shares.values() if share), Decimal(0))
    if whole <= 0:
        return dict.fromkeys(shares)
    return {name: None if share is None else (share / whole).quantize(SIX_DIGITS) for name, share in shares.items()}


def _worth(told: dict[str, Any]) -> Decimal | None:
    """What a yes was worth of a market or of an answer with an end of its own."""
    word = told.get("resolution")
    if word in WINNERS:
        return Decimal(word == "YES")
    return None if word == "CANCEL" else read_probability(told.get("resolutionProbability"))


def _points(market: Market, bets: list[dict[str, Any]]) -> Iterator[Point]:
    answers = {outcome.token: outcome.name for outcome in market.outcomes}
    for bet in reversed(bets):
        if _only_rests(bet):
            continue
        at, price = read_instant(bet["createdTime"], unit=MILLISECOND), read_probability(bet["probAfter"])
        if market.outcomes == (YES, NO):
            yield Point(YES.name, at, price, "trade")
            yield Point(NO.name, at, 1 - price if price is not None else None, "trade")
        elif (answer := bet.get("answerId")) in answers:
            yield Point(answers[answer], at, price, "trade")


def _ids(bets: list[dict[str, Any]]) -> set[str]:
    return {str(bet["id"]) for bet in bets}


def _oldest(bets: list[dict[str, Any]]) -> int:
    return min(whole_number(bet["createdTime"]) for bet in bets)


def _only_rests(bet: dict[str, Any]) -> bool:
    """Whether a bet is an order that did not trade when it was placed; what fills it later is a bet of its own."""
    return bet.get("limitProb") is not None and bet.get("probBefore") == bet.get("probAfter")


def _has_ended(record: dict[str, Any], now: datetime) -> bool:
    closes = record.get("closeTime")
    return bool(record.get("isResolved")) or (isinstance(closes, int) and closes <= _milliseconds(now))


def _volume(record: dict[str, Any]) -> Decimal:
    with suppress(ValueError):
        return bounded_number(record.get("volume"))
    return Decimal(0)


def _milliseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // MILLISECOND


def _expect_records(page: Any) -> list[dict[str, Any]]:
    if not isinstance(page, list) or not all(isinstance(record, dict) for record in page):
        raise Malformed(f"manifold answers with no list of records: {str(page)[:60]}")
    return page
