"""How a simulated venue of prediction markets with plain JSON answers: down, through faults, or as it should.

Here: the step from a pure answer to a route's endpoint, and prices as they stand at an instant.
Not here: any venue's format, which faults there are (faults.py), what the market is (markets.py).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from copilot_quant_pipeline.sandbox.faults import Refusals, answer_through_faults
from copilot_quant_pipeline.sandbox.markets import HourlyPrices, SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline.sandbox.venue import World

Endpoint = Callable[[Request], Awaitable[Response]]
LOOK_BACK = timedelta(hours=2)


def as_json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer; numbers are written as Python does, so that 0.29 stays 0.29."""
    return Response(json.dumps(body), status, headers, media_type="application/json")


def endpoint(
    world: World, venue: str, refusals: Refusals, name: Callable[[Request], str], answer: Callable[[Request], Response]
) -> Endpoint:
    """`answer` as an endpoint that faults of the market `name` can hit; 503 while the venue is `down`."""

    async def served(request: Request) -> Response:
        if world.faults.take_one("down", venue):
            return refusals.broken(503)
        return await answer_through_faults(
            request, world.faults, venue, name(request), refusals, lambda: answer(request)
        )

    return served


def last_price(markets: SimulatedMarkets, market: SimulatedMarket, now: datetime, outcome: int) -> HourlyPrices:
    """The newest hour that is over at `now`, or none where trading has not begun: one row or no row."""
    until = min(now, market.closes_at) + timedelta(seconds=1)
    newest = markets.prices(market, until - LOOK_BACK, until, outcome)
    return HourlyPrices(**{name: column[-1:] for name, column in vars(newest).items()})
