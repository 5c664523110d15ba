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

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from copilot_quant_pipeline.answers import SIX_DIGITS, shown
from copilot_quant_pipeline.errors import Malformed, NotFound, Rejected
from copilot_quant_pipeline.grid.keys import is_slug
from copilot_quant_pipeline.prediction_markets.http import HttpClient
from copilot_quant_pipeline.prediction_markets.json_fields import (
    Point,
    expect_distinct,
    gather,
    read_instant,
    spoiled_hours,
    with_faults,
)
from copilot_quant_pipeline.prediction_markets.pages import Page, Paging, read_whole
from copilot_quant_pipeline.prediction_markets.shapes import (
    Flag,
    Milliseconds,
    Name,
    Number,
    Quantity,
    Shape,
    Share,
    Words,
    key_of,
    named,
    parsed,
    records_in,
    shaped,
)
from copilot_quant_pipeline.prediction_markets.venue import (
    BrokenRecord,
    Catalog,
    Market,
    MarketQuery,
    Outcome,
    Semantics,
    Status,
)
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy, Wait
from copilot_quant_pipeline.transport import Traffic, path_part
from copilot_quant_pipeline.vendor_clock import VendorClock

if TYPE_CHECKING:
    from copilot_quant_pipeline.prediction_markets.formats import Asking

SERVICE = "bets"
LISTING = "manifold's list of markets"
URL = "https://api.manifold.markets"
# 480 a minute, below the published 500.
POLICY = RetryPolicy(RequestRate(8))
PAGE = 1000
KINDS = ("BINARY", "MULTIPLE_CHOICE")
YES, NO = Outcome("Yes"), Outcome("No")
WINNERS = {"YES": YES.name, "NO": NO.name}
MILLISECOND = timedelta(milliseconds=1)
# Authors who mean "open-ended" write a year far off, some beyond what a date can hold.
FAR_OFF = 4_102_444_800_000


class ManifoldAnswer(Shape):
    """One of several answers of a market."""

    rare = frozenset({"resolution", "resolutionProbability"})

    id: Name
    text: Words
    resolution: Words | None = None
    resolutionProbability: Share | None = None  # noqa: N815 the venue's


class ManifoldListed(Shape):
    """A market as lists have it."""

    rare = frozenset({"closeTime"})

    id: Name
    # One that does not say its kind is kept, so that it is named as broken.
    outcomeType: Words = KINDS[0]  # noqa: N815
    closeTime: Number | None = None  # noqa: N815
    isResolved: Flag | None = None  # noqa: N815
    volume: Number | None = None


class ManifoldMarket(Shape):
    """A market as its own route has it."""

    rare = frozenset(
        {"answers", "closeTime", "groupSlugs", "resolution", "resolutionProbability", "resolutionTime", "resolutions"}
        | {"shouldAnswersSumToOne"}
    )

    id: Name
    slug: Words
    question: Words
    outcomeType: Words  # noqa: N815
    createdTime: Milliseconds  # noqa: N815
    isResolved: Flag  # noqa: N815
    closeTime: Number | None = None  # noqa: N815
    resolution: Words | None = None
    resolutionProbability: Share | None = None  # noqa: N815
    resolutionTime: Milliseconds | None = None  # noqa: N815
    resolutions: dict[str, Quantity | None] | None = None
    shouldAnswersSumToOne: Flag | None = None  # noqa: N815
    volume: Quantity | None = None
    groupSlugs: list[Words] | None = None  # noqa: N815
    answers: list[ManifoldAnswer] | None = None


class ManifoldBet(Shape):
    """A bet; `probAfter` is the probability that it left."""

    rare = frozenset({"answerId", "limitProb"})

    createdTime: Milliseconds  # noqa: N815
    probAfter: Share  # noqa: N815
    probBefore: Share | None = None  # noqa: N815
    limitProb: Number | None = None  # noqa: N815
    answerId: Name | None = None  # noqa: N815


class _Stamped(Shape):
    createdTime: Milliseconds  # noqa: N815


class Manifold:
    """The venue at `url`, as `clock` tells whether a market has closed.

    Of a catalog every market is read on its own, since lists tell neither answers nor topics: ask with a limit.
    """

    name: ClassVar[str] = "manifold"
    policy: ClassVar[RetryPolicy] = POLICY
    semantics: ClassVar[Semantics] = Semantics(
        offers="trades", silence="no_trade", has_history=True, stakes="play money", ends_unsaid="void"
    )

    def __init__(
        self,
        url: str = URL,
        *,
        clock: Callable[[], datetime] | None = None,
        policy: RetryPolicy = POLICY,
        wait: Wait | None = None,
    ) -> None:
        self._http = HttpClient(self.name, url, policy, wait=wait, witness=("/v0/markets", {"limit": 1}))
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
        listed, broken = self._fetch_list(query, paging)
        wanted = [one for one in listed if query.with_ended or not _has_ended(one, now)]
        wanted.sort(key=lambda one: one.volume or Decimal(0), reverse=True)
        found = gather(self.name, [one.id for one in wanted[: query.limit]], self._fetch_listed)
        return replace(
            found,
            broken=(*broken, *found.broken),
            incomplete=(*found.incomplete, *paging.incomplete),
            shown=frozenset(one.id for one in wanted if not _has_ended(one, now)),
        )

    def fetch_market(self, market_id: str) -> Market:
        """One market by slug or id.

        Raises:
            NotFound: Manifold knows neither such a slug nor such an id.
            Rejected: It is a poll, a bounty or another kind without probabilities.
        """
        return self._fetch_market(market_id)

    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table:
        """The probability after the last bet of each hour, at the instant of that bet."""
        return parse_prices(market, self._fetch_bets(market, start, end), start, end)

    def ask_each_route(self, ask: Asking) -> None:
        """Ask the list, the record of its first market that has probabilities, and the newest bets on it."""
        listed = ask(
            "/v0/markets",
            lambda: self._http.get("/v0/markets", {"limit": 20}, attempts=1),
            ManifoldListed,
            lambda answer: records_in(answer, LISTING),
        )
        kinds = [one for one in listed if isinstance(one, dict) and one.get("outcomeType", KINDS[0]) in KINDS]
        names = [name for one in kinds if (name := _id_of(one))]
        if not names:
            ask.leave_out("/v0/market/{id}", "no market is listed to ask it about")
            ask.leave_out("/v0/bets", "no market is listed to ask it about")
            return
        path = f"/v0/market/{path_part(names[0])}"
        ask("/v0/market/{id}", lambda: self._http.get(path, attempts=1), ManifoldMarket, lambda one: one)
        ask(
            "/v0/bets",
            lambda: self._http.get("/v0/bets", {"contractId": names[0], "limit": 20}, attempts=1),
            ManifoldBet,
            lambda answer: records_in(answer, "its list of bets"),
        )

    def _fetch_market(self, market_id: str, attempts: int | None = None) -> Market:
        name = path_part(market_id)
        try:
            record = self._http.get(f"/v0/slug/{name}", attempts=attempts, about=[market_id])
        except NotFound:
            record = self._http.get(f"/v0/market/{name}", attempts=attempts, about=[market_id])
        return parse_market(record, self._clock())

    def _fetch_listed(self, market_id: str, attempts: int | None = None) -> Market:
        path = f"/v0/market/{path_part(market_id)}"
        return parse_market(self._http.get(path, attempts=attempts), self._clock())

    def _fetch_list(self, query: MarketQuery, paging: Paging) -> tuple[list[ManifoldListed], list[BrokenRecord]]:
        """Every listed market of a kind that has probabilities, once; and what is listed and cannot be read."""
        lists = [self._pages_of(paging, topic) for topic in query.categories] or [self._pages(paging)]
        records = {key_of(record): record for some in lists for page in some for record in page}
        paging.expect_begun()
        listed, broken = list[ManifoldListed](), list[BrokenRecord]()
        for record in records.values():
            try:
                listed.append(shaped(record, ManifoldListed))
            except Malformed as error:
                broken.append(BrokenRecord(self.name, named(record), str(error)))
        return [one for one in listed if one.outcomeType in KINDS], broken

    def _pages(self, paging: Paging) -> Iterator[list[Any]]:
        def fetch(before: str | None) -> Page[Any, str]:
            page = records_in(self._http.get("/v0/markets", {"limit": PAGE, "before": before}), LISTING)
            last = next((name for record in reversed(page) if (name := _id_of(record))), None)
            if page and last is None:
                raise Malformed(f"{LISTING} has a page without any id: {shown(page[0])}")
            return Page(page, last)

        return paging.read(fetch, key_of, LISTING)

    def _pages_of(self, paging: Paging, topic: str) -> Iterator[list[Any]]:
        asked = {"term": "", "topicSlug": topic, "filter": "all", "sort": "newest", "limit": PAGE}
        of = f"{LISTING} about {topic}"

        def fetch(offset: int | None) -> Page[Any, int]:
            page = records_in(self._http.get("/v0/search-markets", {**asked, "offset": offset or 0}), of)
            return Page(page, (offset or 0) + len(page) if page else None)

        return paging.read(fetch, key_of, of)

    def _fetch_bets(self, market: Market, start: datetime, end: datetime) -> list[Any]:
        """The bets of the window, newest first, each once."""
        asked = {"contractId": market.id, "afterTime": _milliseconds(start) - 1, "order": "desc", "limit": PAGE}
        if market.outcomes != (YES, NO):
            # A bet on one answer moves the others by bets of no shares, which are left out unless asked for.
            asked["includeZeroShareRedemptions"] = "true"
        seen: set[Hashable] = set()
        of = f"manifold's list of bets on {market.id}"

        def fetch(before: int | None) -> Page[Any, int]:
            at = _milliseconds(end) if before is None else before
            page = records_in(self._http.get("/v0/bets", {**asked, "beforeTime": at}, about=[market.id]), of)
            new = {key_of(bet, "", "id") for bet in page} - seen
            seen.update(new)
            if not new and len(page) >= PAGE:
                raise Malformed(f"{of} runs in a circle: a full page before {at} shows nothing new")
            # Pages overlap, so the last one is the first without a new bet.
            return Page(page, _oldest(page, of) + 1 if new else None)

        return list(read_whole(fetch, lambda bet: key_of(bet, "", "id"), of))


def parse_market(record: Any, now: datetime) -> Market:
    """A market from Manifold's full record of it.

    Raises:
        Malformed: It cannot be read.
        Rejected: It is of a kind without probabilities.
    """
    kind = record.get("outcomeType") if isinstance(record, dict) else None
    if isinstance(kind, str) and kind not in KINDS:
        raise Rejected(f"manifold's {named(record)} is a {shown(kind)}, which has no probabilities")
    return parsed(lambda full: _market(shaped(full, ManifoldMarket), now), record)


def parse_prices(market: Market, bets: Sequence[Any], start: datetime, end: datetime) -> pa.Table:
    """Hourly points of a market's bets, which come newest first.

    Raises:
        Malformed: SpoiledDays where bets of some days cannot be read; it carries the others.
    """
    told = with_faults(list(reversed(bets)), lambda bet: shaped(bet, ManifoldBet), _stamp_of)
    answers = {outcome.token: outcome.name for outcome in market.outcomes}
    points = (point for bet in told.good for point in _points(market, answers, bet))
    return spoiled_hours(market, points, told.faults, start, end, SERVICE)


def _market(record: ManifoldMarket, now: datetime) -> Market:
    outcomes = _outcomes(record)
    settled = _settled(record, outcomes)
    result = _winner(record, outcomes) or _only_winner(settled, outcomes)
    topics = [topic.lower() for topic in record.groupSlugs or ()]
    return Market(
        venue=Manifold.name,
        id=record.id,
        slug=record.slug if is_slug(record.slug) else record.id,
        title=f"{record.question} (play money)",
        category=next(iter(topics), None),
        outcomes=outcomes,
        opened_at=record.createdTime,
        closes_at=_closes_at(record),
        status=_status(record, now),
        result=result,
        volume=record.volume,
        resolved_at=record.resolutionTime if record.isResolved else None,
        facts={"tags": topics, **({"settlements": settled} if settled and result is None else {})},
    )


def _outcomes(record: ManifoldMarket) -> tuple[Outcome, ...]:
    if record.outcomeType == "BINARY":
        return YES, NO
    return expect_distinct(tuple(Outcome(answer.text, answer.id) for answer in record.answers or ()))


def _closes_at(record: ManifoldMarket) -> datetime | None:
    closes = record.closeTime
    return read_instant(closes, unit=MILLISECOND) if closes is not None and closes < FAR_OFF else None


def _status(record: ManifoldMarket, now: datetime) -> Status:
    if record.isResolved:
        return "resolved"
    closes_at = _closes_at(record)
    return "closed" if closes_at and closes_at <= now else "open"


def _winner(record: ManifoldMarket, outcomes: tuple[Outcome, ...]) -> str | None:
    if not record.isResolved:
        return None
    if outcomes == (YES, NO):
        return WINNERS.get(record.resolution or "")
    return next((outcome.name for outcome in outcomes if outcome.token == record.resolution), None)


def _only_winner(settled: Mapping[str, str], outcomes: tuple[Outcome, ...]) -> str | None:
    won = [name for name, worth in settled.items() if Decimal(worth) == 1]
    lost = sum(not Decimal(worth) for worth in settled.values())
    return won[0] if len(won) == 1 and lost == len(outcomes) - 1 else None


def _settled(record: ManifoldMarket, outcomes: tuple[Outcome, ...]) -> dict[str, str]:
    """What each outcome of a market that ended without one winner was worth, 0 to 1 as text; empty where it is void."""
    if not record.isResolved or record.resolution == "CANCEL":
        return {}
    if outcomes == (YES, NO):
        yes = _worth(record) if record.resolution == "MKT" else None
        return {} if yes is None else {YES.name: str(yes), NO.name: str(1 - yes)}
    shares = _shares(record)
    told = ((outcome.name, shares.get(outcome.token)) for outcome in outcomes)
    return {name: str(worth) for name, worth in told if worth is not None}


def _shares(record: ManifoldMarket) -> dict[str, Decimal | None]:
    """By answer what it was worth: a share of one, or, where answers are independent, whatever each says of itself."""
    own = {answer.id: _worth(answer) for answer in record.answers or ()}
    given, adds_up = record.resolutions, record.shouldAnswersSumToOne
    if given and adds_up is not False:
        return _as_parts({name: given.get(name) or Decimal(0) for name in own})
    return _as_parts(own) if adds_up else own


def _as_parts(shares: Mapping[str, Decimal | None]) -> dict[str, Decimal | None]:
    whole = sum((share for share in shares.values() if share), Decimal(0))
    if whole <= 0:
        return dict.fromkeys(shares)
    return {name: None if share is None else (share / whole).quantize(SIX_DIGITS) for name, share in shares.items()}


def _worth(told: ManifoldMarket | ManifoldAnswer) -> Decimal | None:
    """What a yes was worth of a market or of an answer with an end of its own."""
    word = told.resolution
    if word in WINNERS:
        return Decimal(word == "YES")
    return None if word == "CANCEL" else told.resolutionProbability


def _points(market: Market, answers: Mapping[str, str], bet: ManifoldBet) -> Iterator[Point]:
    if _only_rests(bet):
        return
    at, price = bet.createdTime, bet.probAfter
    if market.outcomes == (YES, NO):
        yield Point(YES.name, at, price, "trade")
        yield Point(NO.name, at, 1 - price, "trade")
    elif bet.answerId and bet.answerId in answers:
        yield Point(answers[bet.answerId], at, price, "trade")


def _stamp_of(bet: Any) -> datetime:
    return shaped(bet, _Stamped).createdTime


def _id_of(record: Any) -> str | None:
    with suppress(Malformed):
        return shaped(record, ManifoldListed).id
    return None


def _oldest(bets: Sequence[Any], of: str) -> int:
    stamps = [bet.get("createdTime") for bet in bets if isinstance(bet, dict)]
    readable = [at for at in stamps if isinstance(at, int) and 0 < at < FAR_OFF]
    if not readable:
        raise Malformed(f"{of} has a page without any time: {shown(bets[0])}")
    return min(readable)


def _only_rests(bet: ManifoldBet) -> bool:
    """Whether a bet is an order that did not trade when it was placed; what fills it later is a bet of its own."""
    return bet.limitProb is not None and bet.probBefore == bet.probAfter


def _has_ended(record: ManifoldListed, now: datetime) -> bool:
    return bool(record.isResolved) or (record.closeTime is not None and record.closeTime <= _milliseconds(now))


def _milliseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // MILLISECOND
