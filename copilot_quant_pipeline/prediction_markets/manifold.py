"""Manifold: markets in play money. Its prices are opinions of people who stake nothing, and every title says so.

Here: its client and the pure readers of its format, v0 of api.manifold.markets.
Not here: HTTP (http.py), what is stored.

Known from Manifold's own documentation and published source: the routes, their parameters, times in milliseconds, 500
requests a minute. Uncertain, and only in this module:
- Whether `beforeTime` of /bets leaves out that very instant. Pages overlap by a millisecond so that it need not matter;
  the documented `before=<bet id>` loses bets, since the bets by which answers are kept at 100 % share one instant.
- Which fields a resolution of several answers leaves; anything but Yes, No or one answer counts as no winner.
- How an unknown topic is answered; here it lists nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from copilot_quant_pipeline.errors import Malformed, NotFound, Rejected
from copilot_quant_pipeline.grid.keys import is_slug
from copilot_quant_pipeline.prediction_markets.http import HttpClient, Pace, Wait
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
from copilot_quant_pipeline.prediction_markets.venue import Catalog, Market, MarketQuery, Outcome, Status, Traffic

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

    name = "manifold"

    def __init__(
        self,
        url: str = URL,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pace: Pace = PACE,
        wait: Wait | None = None,
    ) -> None:
        self._http = HttpClient(self.name, url, pace, wait=wait)
        self._clock = clock

    @property
    def traffic(self) -> Traffic:
        """Requests sent and retries so far."""
        return self._http.traffic

    def fetch_markets(self, query: MarketQuery) -> Catalog:
        """The markets that `query` asks for, categories being Manifold's topics."""
        if query.ids:
            return gather(self.name, query.ids, self.fetch_market)
        now = self._clock()
        wanted = [record for record in self._fetch_list(query) if query.with_ended or not _has_ended(record, now)]
        wanted.sort(key=_volume, reverse=True)
        return gather(self.name, wanted[: query.limit], self._fetch_listed)

    def fetch_market(self, market_id: str) -> Market:
        """One market by slug or id.

        Raises:
            NotFound: Manifold knows neither such a slug nor such an id.
            Rejected: It is a poll, a bounty or another kind without probabilities.
        """
        name = quote(market_id, safe="")
        try:
            record = self._http.get(f"/v0/slug/{name}")
        except NotFound:
            record = self._http.get(f"/v0/market/{name}")
        return parse_market(record, self._clock())

    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table:
        """The probability after the last bet of each hour, at the instant of that bet."""
        return parse_prices(market, self._fetch_bets(market, start, end), start, end)

    def _fetch_listed(self, record: dict[str, Any]) -> Market:
        name = quote(parsed(lambda one: str(one["id"]), record), safe="")
        return parse_market(self._http.get(f"/v0/market/{name}"), self._clock())

    def _fetch_list(self, query: MarketQuery) -> list[dict[str, Any]]:
        """Every listed market of a kind that has probabilities, once."""
        pages = [self._pages_of(topic) for topic in query.categories] or [self._pages()]
        records = {named(record): record for some in pages for page in some for record in page}
        # One that does not say its kind is kept, so that it is named as broken.
        return [record for record in records.values() if record.get("outcomeType", KINDS[0]) in KINDS]

    def _pages(self) -> Iterator[list[dict[str, Any]]]:
        before, seen = None, set()
        while page := _expect_records(self._http.get("/v0/markets", {"limit": PAGE, "before": before})):
            yield page
            before = next((str(record["id"]) for record in reversed(page) if record.get("id")), before)
            if before in seen:
                raise Malformed(f"manifold's list of markets loops at {before}")
            seen.add(before)

    def _pages_of(self, topic: str) -> Iterator[list[dict[str, Any]]]:
        asked = {"term": "", "topicSlug": topic, "filter": "all", "sort": "newest", "limit": PAGE}
        offset = 0
        while page := _expect_records(self._http.get("/v0/search-markets", {**asked, "offset": offset})):
            yield page
            offset += len(page)

    def _fetch_bets(self, market: Market, start: datetime, end: datetime) -> list[dict[str, Any]]:
        """The bets of the window, newest first, each once."""
        bets: dict[str, dict[str, Any]] = {}
        asked = {"contractId": market.id, "afterTime": _milliseconds(start) - 1, "order": "desc", "limit": PAGE}
        if market.outcomes != (YES, NO):
            # A bet on one answer moves the others by bets of no shares, which are left out unless asked for.
            asked["includeZeroShareRedemptions"] = "true"
        before = _milliseconds(end)
        while True:
            page = _expect_records(self._http.get("/v0/bets", {**asked, "beforeTime": before}))
            new = {key: bet for key, bet in parsed(_by_id, page).items() if key not in bets}
            if not new:
                return list(bets.values())
            bets |= new
            before = parsed(_oldest, new) + 1


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
    return hourly(market, parsed(lambda some: [*_points(market, some)], bets), start, end)


def _market(record: dict[str, Any], now: datetime) -> Market:
    if record["outcomeType"] not in KINDS:
        raise Rejected(f"manifold's {record['id']} is a {record['outcomeType']}, which has no probabilities")
    outcomes, slug = _outcomes(record), str(record["slug"])
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
        result=_winner(record, outcomes),
        volume=read_quantity(record.get("volume")),
        facts={"tags": topics},
    )


def _outcomes(record: dict[str, Any]) -> tuple[Outcome, ...]:
    if record["outcomeType"] == "BINARY":
        return YES, NO
    return expect_distinct(tuple(Outcome(str(answer["text"]), str(answer["id"])) for answer in record["answers"]))


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


def _by_id(bets: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(bet["id"]): bet for bet in bets}


def _oldest(bets: dict[str, dict[str, Any]]) -> int:
    return min(int(bet["createdTime"]) for bet in bets.values())


def _only_rests(bet: dict[str, Any]) -> bool:
    """Whether a bet is an order that did not trade when it was placed; what fills it later is a bet of its own."""
    return bet.get("limitProb") is not None and bet.get("probBefore") == bet.get("probAfter")


def _has_ended(record: dict[str, Any], now: datetime) -> bool:
    closes = record.get("closeTime")
    return bool(record.get("isResolved")) or (isinstance(closes, int) and closes <= _milliseconds(now))


def _volume(record: dict[str, Any]) -> Decimal:
    volume = record.get("volume")
    return Decimal(volume) if isinstance(volume, int | Decimal) else Decimal(0)


def _milliseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // MILLISECOND


def _expect_records(page: Any) -> list[dict[str, Any]]:
    if not isinstance(page, list) or not all(isinstance(record, dict) for record in page):
        raise Malformed(f"manifold answers with no list of records: {str(page)[:60]}")
    return page
