"""PredictIt: its prices as of now. It gives no history, so its history begins when the platform starts asking.

Here: its client and the pure readers of its one format, served for all markets and for each.
Not here: HTTP (http.py), what is stored.

Known from several published clients and recorded answers: the two routes, their fields, and `null` where a market is
not known. Uncertain, and only in this module:
- The limit. None is published; data change once a minute, and some report refusals above about one request a minute.
  So the answer for all markets serves every question of that minute.
- The time zone of `dateEnd`, which has none: taken as New York's. `timeStamp` likewise; points carry our own clock.
- What a market looks like once it is decided: it leaves the list, and nothing says who won. It stays `closed` here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from zoneinfo import ZoneInfo

import pyarrow as pa

from copilot_quant_pipeline.errors import NotFound, Rejected, VendorError
from copilot_quant_pipeline.prediction_markets.http import HttpClient
from copilot_quant_pipeline.prediction_markets.json_fields import (
    Point,
    expect_distinct,
    gather,
    hourly,
    read_instant,
)
from copilot_quant_pipeline.prediction_markets.shapes import (
    NAMELESS,
    Name,
    Shape,
    Share,
    Words,
    named,
    parsed,
    records_in,
    shaped,
)
from copilot_quant_pipeline.prediction_markets.venue import (
    Catalog,
    Market,
    MarketQuery,
    Outcome,
    Semantics,
    Status,
)
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy, Wait
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline.vendor_clock import VendorClock

if TYPE_CHECKING:
    from copilot_quant_pipeline.prediction_markets.formats import Asking

SERVICE = "marketdata"
URL = "https://www.predictit.org"
POLICY = RetryPolicy(RequestRate(10, 60))
CHANGES_EVERY = timedelta(minutes=1)
NEW_YORK = ZoneInfo("America/New_York")
NO_DATE = (None, "", "NA", "N/A")
STATUSES: dict[str, Status] = {"open": "open", "closed": "closed"}


class PredictItContract(Shape):
    """One thing that can happen."""

    id: Name
    name: Words
    dateEnd: Words | None = None  # noqa: N815 the venue's


class PredictItPrices(Shape):
    """The same with its prices; null is none."""

    id: Name
    lastTradePrice: Share | None  # noqa: N815
    bestBuyYesCost: Share | None = None  # noqa: N815
    bestSellYesCost: Share | None = None  # noqa: N815
    bestBuyNoCost: Share | None = None  # noqa: N815
    bestSellNoCost: Share | None = None  # noqa: N815


class PredictItMarket(Shape):
    """A market with its contracts."""

    id: Name
    name: Words
    status: Words
    contracts: list[PredictItContract]


class PredictItOffered(PredictItPrices, kw_only=True):
    """A contract with all that is read of it."""

    name: Words
    dateEnd: Words | None = None  # noqa: N815


class PredictItListed(Shape):
    """A market with all that is read of it."""

    id: Name
    name: Words
    status: Words
    contracts: list[PredictItOffered]


class PredictItPriced(Shape):
    """The same with its prices."""

    contracts: list[PredictItPrices]


class PredictIt:
    """The venue at `url`; `clock` is the instant that its prices are of.

    It tells no volumes and no categories: a limit takes the first it lists, a category matches nothing.
    """

    name: ClassVar[str] = "predictit"
    policy: ClassVar[RetryPolicy] = POLICY
    semantics: ClassVar[Semantics] = Semantics(
        offers="samples", silence="unknown", has_history=False, stakes="money", ends_unsaid="void"
    )

    def __init__(
        self,
        url: str = URL,
        *,
        clock: Callable[[], datetime] | None = None,
        policy: RetryPolicy = POLICY,
        wait: Wait | None = None,
    ) -> None:
        self._http = HttpClient(self.name, url, policy, wait=wait)
        self._clock = clock or self._http.now
        self._lock = threading.Lock()
        self._all: tuple[datetime, dict[str, Any] | VendorError] | None = None

    @property
    def heard(self) -> VendorClock:
        """What its answers say of the time."""
        return self._http.heard

    @property
    def traffic(self) -> Traffic:
        """Requests sent and retries so far."""
        return self._http.traffic

    def fetch_markets(self, query: MarketQuery) -> Catalog:
        """The markets that `query` asks for; those that are decided are no longer listed."""
        if query.ids:
            return gather(self.name, query.ids, lambda name, _: self.fetch_market(name))
        if query.categories:
            return Catalog(())
        with self._lock:
            self._all = None if self._all and isinstance(self._all[1], VendorError) else self._all
        _, records = self._fetch_all()
        wanted = [record for record in records.values() if query.with_ended or not _has_ended(record)]
        found = gather(self.name, wanted, lambda record, _: parse_market(record))
        return replace(
            found,
            markets=found.markets[: query.limit],
            beyond=found.markets[query.limit :] if query.limit else (),
            shown=frozenset(one.id for one in found.markets if one.status == "open"),
        )

    def fetch_market(self, market_id: str) -> Market:
        """One market by its number.

        Raises:
            NotFound: PredictIt does not know it (any more).
        """
        return parse_market(self._fetch_record(market_id)[1])

    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table:
        """One point of every outcome, as of now, if now lies in the window; no others, even of a window begun before.

        Raises:
            Rejected: The window is over.
        """
        now = self._clock()
        if end <= now:
            raise Rejected(
                f"PredictIt gives no history: its prices are as of now ({now:%Y-%m-%d %H:%M}Z), "
                f"and {start:%Y-%m-%d} to {end:%Y-%m-%d} is over"
            )
        if start > now:
            return hourly(market, (), start, end, service=SERVICE)
        return parse_prices(market, self._fetch_record(market.id), start, end)

    def ask_each_route(self, ask: Asking) -> None:
        """Ask for all markets."""
        ask(
            "/api/marketdata/all/",
            lambda: self._http.get("/api/marketdata/all/", attempts=1),
            PredictItListed,
            lambda answer: [*_by_number(answer).values()],
        )

    def _fetch_record(self, market_id: str) -> tuple[datetime, Any]:
        """When the market was asked for, and its record."""
        failed = None
        try:
            asked_at, records = self._fetch_all()
            if market_id in records:
                return asked_at, records[market_id]
        except VendorError as error:
            failed = error
        # Known or not, only its own route can tell now. It takes numbers and nothing else.
        attempts = self._http.policy.few_attempts if failed else None
        path = f"/api/marketdata/markets/{market_id}"
        record = self._http.get(path, attempts=attempts) if market_id.isdecimal() else None
        if record is None:
            raise NotFound(f"predictit knows no market {market_id!r}; its markets are numbers, like 7456")
        return self._clock(), record

    def _fetch_all(self) -> tuple[datetime, dict[str, Any]]:
        """When all markets were asked for, at most a minute ago, and their records by number."""
        with self._lock:
            if self._all is None or not timedelta(0) <= self._clock() - self._all[0] < CHANGES_EVERY:
                self._all = self._clock(), self._ask_for_all()
            asked_at, records = self._all
        if isinstance(records, VendorError):
            raise records
        return asked_at, records

    def _ask_for_all(self) -> dict[str, Any] | VendorError:
        """A failure serves that minute, too: else every market would wait for all its retries."""
        try:
            return _by_number(self._http.get("/api/marketdata/all/"))
        except VendorError as error:
            return error


def parse_market(record: Any) -> Market:
    """A market from PredictIt's record; one contract makes a yes/no market, several are its outcomes.

    Raises:
        Malformed: It cannot be read.
    """
    return parsed(lambda one: _market(shaped(one, PredictItMarket)), record)


def parse_prices(market: Market, seen: tuple[datetime, Any], start: datetime, end: datetime) -> pa.Table:
    """One point per outcome of a record and when it was seen, if that is in the window.

    Raises:
        Malformed: The record cannot be read, or lacks one of the market's contracts.
    """
    at, record = seen
    points = parsed(lambda one: [*_points(market, at, shaped(one, PredictItPriced).contracts)], record)
    return hourly(market, points, start, end, service=SERVICE)


def _market(record: PredictItMarket) -> Market:
    dates = [contract.dateEnd for contract in record.contracts]
    ends = [_end(text) for text in dates if text and text not in NO_DATE]
    return Market(
        venue=PredictIt.name,
        id=record.id,
        slug=record.id,
        title=record.name or record.id,
        category=None,
        outcomes=_outcomes(record.contracts),
        opened_at=None,
        closes_at=max(ends) if len(ends) == len(dates) else None,
        status=STATUSES[record.status.lower()],
    )


def _has_ended(record: Any) -> bool:
    """Whether it says so; one that says neither is kept, so that it is named as broken."""
    status = record.get("status") if isinstance(record, dict) else None
    return isinstance(status, str) and status.lower() == "closed"


def _outcomes(contracts: list[PredictItContract]) -> tuple[Outcome, ...]:
    if len(contracts) == 1:
        return tuple(Outcome(name, contracts[0].id) for name in ("Yes", "No"))
    return expect_distinct(tuple(Outcome(contract.name, contract.id) for contract in contracts))


def _end(text: str) -> datetime:
    local = datetime.fromisoformat(text)
    return read_instant((local if local.tzinfo else local.replace(tzinfo=NEW_YORK)).isoformat())


def _points(market: Market, at: datetime, contracts: list[PredictItPrices]) -> Iterator[Point]:
    by_number = {contract.id: contract for contract in contracts}
    numbers = {outcome.token for outcome in market.outcomes}
    for outcome in market.outcomes:
        contract = by_number[outcome.token]
        # By the market as it is known: a contract that joined later makes the first one's No no Yes.
        side = "No" if len(numbers) == 1 and outcome.name == "No" else "Yes"
        price = contract.lastTradePrice
        if side == "No" and price is not None:
            # Yes and No are the two sides of one trade.
            price = 1 - price
        book = {
            "Yes": (contract.bestSellYesCost, contract.bestBuyYesCost),
            "No": (contract.bestSellNoCost, contract.bestBuyNoCost),
        }
        yield Point(outcome.name, at, price, "trade", *book[side])


def _by_number(answer: Any) -> dict[str, Any]:
    records = records_in(answer, "predictit's list of markets", "markets")
    names = (named(record, "id") if isinstance(record, dict) else NAMELESS for record in records)
    return {
        f"?{place}" if name == NAMELESS else name: record
        for place, (name, record) in enumerate(zip(names, records, strict=True))
    }
