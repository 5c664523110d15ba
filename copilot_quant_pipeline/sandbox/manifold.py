"""Manifold as a simulated venue: v0 of its API.

Here: markets by list, search, slug and id, and bets, each refused where Manifold's own schema refuses it.
Not here: what the markets are (markets.py).

An hour with trades has two bets; after every fifth such hour an order is placed that only rests. The answers of a
market with several are kept at 100 % by bets of one instant, as at Manifold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from copilot_quant_pipeline.sandbox.answering import Endpoint, as_json, endpoint, last_price
from copilot_quant_pipeline.sandbox.faults import Kinds, Refusals
from copilot_quant_pipeline.sandbox.markets import HOUR, YES_NO, SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline.sandbox.venue import World

VENUE = "manifold"
FAULTS: Kinds = {}
MOST = 1000
# Seconds before an hour's end of its two bets and of the order that only rests.
BETS_BEFORE_THE_HOUR = (2400.0, 754.321)
RESTS_BEFORE_THE_HOUR = 60.0
RESTS_EVERY = 5
PARAMETERS = {
    "/v0/markets": {"limit", "before", "sort", "order", "userId", "groupId"},
    "/v0/search-markets": {
        "term", "sort", "filter", "contractType", "topicSlug", "creatorId", "limit", "offset", "liquidity",
    },
    "/v0/bets": {
        "id", "userId", "username", "contractId", "contractSlug", "answerId", "limit", "before", "after",
        "beforeTime", "afterTime", "order", "kinds", "filterRedemptions", "includeZeroShareRedemptions",
    },
}  # fmt: skip

REFUSALS = Refusals(
    too_many=lambda: as_json({"message": "Too many requests"}, 429),
    broken=lambda status: as_json({"message": "Internal server error", "error": {}}, status),
)


def _milliseconds(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


class SandboxManifold:
    """The venue's answers over one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._markets = SimulatedMarkets(world.seed)

    def slug_of(self, name: str) -> str:
        """The slug of a market given by id or slug."""
        market = self._markets.find(VENUE, name)
        return market.slug if market else name

    def listed(self, request: Request) -> Response:
        """GET /v0/markets: newest first, from behind `before`."""
        markets = self._newest_first()
        before = request.query_params.get("before")
        if before is not None:
            ids = [market.id for market in markets]
            if before not in ids:
                return as_json({"message": "Contract specified in before parameter not found"}, 404)
            markets = markets[ids.index(before) + 1 :]
        return as_json([self._lite(market) for market in markets[: int(request.query_params.get("limit", 500))]])

    def searched(self, request: Request) -> Response:
        """GET /v0/search-markets: of a topic, newest first, by offset."""
        topic, offset = request.query_params.get("topicSlug"), int(request.query_params.get("offset", 0))
        markets = [market for market in self._newest_first() if topic in (None, market.category)]
        limit = int(request.query_params.get("limit", 100))
        return as_json([self._lite(market) for market in markets[offset : offset + limit]])

    def one(self, request: Request) -> Response:
        """GET /v0/slug/{name} or /v0/market/{name}: the full record."""
        name = request.path_params["name"]
        market = self._markets.find(VENUE, name)
        by_slug = request.url.path.startswith("/v0/slug/")
        if market is None or not self._is_listed(market) or name != (market.slug if by_slug else market.id):
            return as_json({"message": "Contract not found"}, 404)
        return as_json(self._full(market))

    def bets(self, request: Request) -> Response:
        """GET /v0/bets of one market: newest first, between `afterTime` and `beforeTime`, neither included."""
        asked = request.query_params
        market = self._markets.find(VENUE, asked.get("contractId", ""))
        if market is None or not self._is_listed(market):
            return as_json([])
        now = _milliseconds(self._world.clock())
        before = min(int(asked.get("beforeTime", now + 1)), now + 1)
        every = self._bets(market, int(asked.get("afterTime", 0)), before)
        if asked.get("includeZeroShareRedemptions") != "true":
            every = (bet for bet in every if bet["shares"] or not bet["isRedemption"])
        return as_json(list(islice(every, int(asked.get("limit", MOST)))))

    def _newest_first(self) -> list[SimulatedMarket]:
        listed = [market for market in self._markets.markets(VENUE) if self._is_listed(market)]
        return sorted(listed, key=lambda market: (market.opened_at, market.id), reverse=True)

    def _is_listed(self, market: SimulatedMarket) -> bool:
        return market.opened_at <= self._world.clock()

    def _lite(self, market: SimulatedMarket) -> dict[str, Any]:
        now = self._world.clock()
        resolved = market.status_at(now) == "resolved"
        binary = market.outcomes == YES_NO
        record = {
            "id": market.id,
            "creatorId": "simulated",
            "creatorUsername": "Simulated",
            "creatorName": "Simulated",
            "createdTime": _milliseconds(market.opened_at),
            "closeTime": _milliseconds(market.ends_at(now)),
            "question": market.title,
            "slug": market.slug,
            "url": f"https://manifold.markets/Simulated/{market.slug}",
            "outcomeType": "BINARY" if binary else "MULTIPLE_CHOICE",
            "mechanism": "cpmm-1" if binary else "cpmm-multi-1",
            "volume": market.volume_at(now),
            "volume24Hours": 0,
            "isResolved": resolved,
            "uniqueBettorCount": 10 + market.number,
            "token": "MANA",
        }
        if binary:
            record["probability"] = self._probability(market, 0)
        if resolved:
            winner = ("YES", "NO")[market.winner] if binary else _answer_id(market, market.winner)
            record |= {"resolution": winner, "resolutionTime": _milliseconds(market.resolved_at)}
        return record

    def _full(self, market: SimulatedMarket) -> dict[str, Any]:
        record = self._lite(market) | {
            "textDescription": "A simulated market.",
            "groupSlugs": [market.category, "simulated"],
        }
        if market.outcomes != YES_NO:
            record |= {"shouldAnswersSumToOne": True, "addAnswersMode": "DISABLED", "answers": self._answers(market)}
        return record

    def _answers(self, market: SimulatedMarket) -> list[dict[str, Any]]:
        return [
            {
                "id": _answer_id(market, place),
                "index": place,
                "contractId": market.id,
                "text": text,
                "probability": self._probability(market, place),
            }
            for place, text in enumerate(market.outcomes)
        ]

    def _probability(self, market: SimulatedMarket, outcome: int) -> float:
        last = last_price(self._markets, market, self._world.clock(), outcome)
        return float(last.probability[0]) if len(last) else 1 / len(market.outcomes)

    def _bets(self, market: SimulatedMarket, after: int, before: int) -> Iterator[dict[str, Any]]:
        outcomes = [0] if market.outcomes == YES_NO else range(len(market.outcomes))
        # An hour's bets come before its end: the hour that ends after `before` may have some.
        window = [datetime.fromtimestamp(at / 1000 + ahead, UTC) for at, ahead in ((after, 0), (before, HOUR))]
        prices = [self._markets.prices(market, window[0], window[1], outcome) for outcome in outcomes]
        for row in range(len(prices[0]) - 1, -1, -1):
            if not prices[0].volume[row]:
                continue
            hour = int(prices[0].at[row])
            for seconds, kind in _instants(hour):
                at = round((hour - seconds) * 1000)
                if max(after, _milliseconds(market.opened_at)) < at < before:
                    for outcome in outcomes:
                        opened, closed = float(prices[outcome].open[row]), float(prices[outcome].probability[row])
                        yield _bet(market, outcome, at, kind, (opened, closed))


def _instants(hour: int) -> list[tuple[float, str]]:
    """Seconds before the hour's end and what happens then, newest first."""
    first, last = BETS_BEFORE_THE_HOUR
    rests = hour // HOUR % RESTS_EVERY == 0
    return [(RESTS_BEFORE_THE_HOUR, "rests")] * rests + [(last, "last"), (first, "first")]


def _bet(market: SimulatedMarket, outcome: int, at: int, kind: str, prices: tuple[float, float]) -> dict[str, Any]:
    opened, closed = prices
    before, after = {"first": (opened, opened), "last": (opened, closed), "rests": (closed, closed)}[kind]
    # Somebody bets on the first answer; the others are moved.
    bought = kind != "rests" and outcome == 0
    record = {
        "id": f"bet-{market.id}-{at}-{outcome}",
        "contractId": market.id,
        "userId": "simulated",
        "createdTime": at,
        "outcome": "YES" if after >= before else "NO",
        "amount": 10 if bought else 0,
        "shares": 17.350459904608414 if bought else 0,
        "probBefore": before,
        "probAfter": after,
        "isRedemption": kind != "rests" and outcome > 0,
    }
    if market.outcomes != YES_NO:
        record["answerId"] = _answer_id(market, outcome)
    if kind == "rests":
        record |= {"limitProb": 0.01, "orderAmount": 100, "isFilled": False, "isCancelled": False}
    return record


def _answer_id(market: SimulatedMarket, outcome: int) -> str:
    return f"answer{market.id}{outcome}"


def _as_the_schema_has_it(path: str, answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """`answer`, but 400 for a parameter or a limit that Manifold's schema does not take."""

    def checked(request: Request) -> Response:
        unknown = set(request.query_params) - PARAMETERS[path]
        if unknown or not 0 <= int(request.query_params.get("limit", 0)) <= MOST:
            return as_json({"message": "Error validating request.", "details": sorted(unknown) or ["limit"]}, 400)
        return answer(request)

    return checked


def routes(world: World) -> list[Route]:
    """Manifold's routes."""
    manifold = SandboxManifold(world)
    serve: Callable[..., Endpoint] = partial(endpoint, world, VENUE, REFUSALS)
    lists = {"/v0/markets": manifold.listed, "/v0/search-markets": manifold.searched, "/v0/bets": manifold.bets}
    return [
        *(
            Route(
                path,
                serve(
                    lambda request: manifold.slug_of(request.query_params.get("contractId", "")),
                    _as_the_schema_has_it(path, answer),
                ),
            )
            for path, answer in lists.items()
        ),
        *(
            Route(path, serve(lambda request: manifold.slug_of(request.path_params["name"]), manifold.one))
            for path in ("/v0/slug/{name}", "/v0/market/{name}")
        ),
    ]
