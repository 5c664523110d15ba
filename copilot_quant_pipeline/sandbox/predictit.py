"""PredictIt as a simulated venue: its prices as of the sandbox's clock, and no others.

Here: the two routes of its market data.
Not here: what the markets are (markets.py).

A yes/no market has one contract, others one for each outcome. What is resolved is no longer known: its route answers
`null`, as for a number that never was.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from copilot_quant_pipeline.sandbox.answering import as_json, endpoint, last_price
from copilot_quant_pipeline.sandbox.faults import Kinds, Refusals
from copilot_quant_pipeline.sandbox.markets import YES_NO, SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline.sandbox.venue import World

VENUE = "predictit"
FAULTS: Kinds = {}
NEW_YORK = ZoneInfo("America/New_York")

# Its own words for these are not known.
REFUSALS = Refusals(
    too_many=lambda: PlainTextResponse("Too Many Requests", 429),
    broken=lambda status: PlainTextResponse("The service is unavailable.", status),
)


class SandboxPredictIt:
    """The venue's answers over one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._markets = SimulatedMarkets(world.seed)

    def all(self, request: Request) -> Response:
        """GET /api/marketdata/all/."""
        markets = self._markets.markets(VENUE)
        return as_json({"markets": [self._record(market) for market in markets if self._is_known(market)]})

    def one(self, request: Request) -> Response:
        """GET /api/marketdata/markets/{number}."""
        market = self._markets.find(VENUE, request.path_params["number"])
        return as_json(self._record(market) if market and self._is_known(market) else None)

    def _is_known(self, market: SimulatedMarket) -> bool:
        return market.status_at(self._world.clock()) in ("open", "closed")

    def _record(self, market: SimulatedMarket) -> dict[str, Any]:
        now = self._world.clock()
        names = [market.title] if market.outcomes == YES_NO else market.outcomes
        status = market.status_at(now).title()
        return {
            "id": int(market.id),
            "name": market.title,
            "shortName": market.event_title,
            "image": "",
            "url": f"https://www.predictit.org/markets/detail/{market.id}/{market.slug}",
            "contracts": [self._contract(market, place, name, status) for place, name in enumerate(names)],
            "timeStamp": now.astimezone(NEW_YORK).replace(tzinfo=None).isoformat(),
            "status": status,
        }

    def _contract(self, market: SimulatedMarket, place: int, name: str, status: str) -> dict[str, Any]:
        now = self._world.clock()
        ends = market.ends_at(now).astimezone(NEW_YORK).replace(tzinfo=None).isoformat()
        return {
            "id": 10 * int(market.id) + place,
            "dateEnd": "NA" if market.number % 3 else ends,
            "image": "",
            "name": name,
            "shortName": name,
            "status": status,
            **self._prices(market, place),
            "displayOrder": place,
        }

    def _prices(self, market: SimulatedMarket, place: int) -> dict[str, float | None]:
        """In cents; null where nobody offers or nothing was traded yet."""
        last = last_price(self._markets, market, self._world.clock(), place)
        price, bid, ask = (float(column[0]) if len(last) else None for column in (last.probability, last.bid, last.ask))
        return {
            "lastTradePrice": _cents(price),
            "bestBuyYesCost": _cents(ask),
            "bestBuyNoCost": _cents(_opposite(bid)),
            "bestSellYesCost": _cents(bid),
            "bestSellNoCost": _cents(_opposite(ask)),
            "lastClosePrice": _cents(price),
        }


def _opposite(price: float | None) -> float | None:
    return None if price is None else 1 - price


def _cents(price: float | None) -> float | None:
    return None if price is None else round(price, 2)


def routes(world: World) -> list[Route]:
    """PredictIt's routes."""
    predictit = SandboxPredictIt(world)
    serve = partial(endpoint, world, VENUE, REFUSALS)
    return [
        Route("/api/marketdata/all/", serve(lambda request: "", predictit.all)),
        Route("/api/marketdata/markets/{number}", serve(lambda request: request.path_params["number"], predictit.one)),
    ]
