"""Metaculus as a simulated venue: posts with a question, and the community's forecasts of it.

Here: the feed of posts and single posts, for whoever sends a token.
Not here: what the questions are (markets.py).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from copilot_quant_pipeline.sandbox.answering import as_json, endpoint
from copilot_quant_pipeline.sandbox.faults import Kinds, Refusals
from copilot_quant_pipeline.sandbox.markets import YES_NO, SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline.sandbox.venue import World

VENUE = "metaculus"
# `hidden`: the community's forecast is kept back from the account.
FAULTS: Kinds = {"hidden": {}}
STATUSES = {"unopened": "upcoming", "open": "open", "closed": "closed", "resolved": "resolved"}
CHANGES_BEFORE_THE_HOUR = 754.321
MOST = 100
RETRY_AFTER = 1

REFUSALS = Refusals(
    too_many=lambda: as_json(
        {"detail": f"Request was throttled. Expected available in {RETRY_AFTER} second."},
        429,
        {"Retry-After": str(RETRY_AFTER)},
    ),
    broken=lambda status: as_json({"detail": "A server error occurred."}, status),
)


class SandboxMetaculus:
    """The venue's answers over one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._markets = SimulatedMarkets(world.seed)

    def posts(self, request: Request) -> Response:
        """GET /api/posts/: by status, kind and offset, in the asked order of forecasts; without histories."""
        asked = request.query_params
        statuses, kinds = asked.getlist("statuses"), asked.getlist("forecast_type")
        posts = [self._post(market) for market in self._markets.listed(VENUE, self._world.clock())]
        posts = [
            post
            for post in posts
            if (not statuses or post["status"] in statuses) and (not kinds or post["question"]["type"] in kinds)
        ]
        if asked.get("order_by") == "-forecasts_count":
            posts.sort(key=lambda post: -post["forecasts_count"])
        offset, limit = int(asked.get("offset", 0)), min(int(asked.get("limit", 20)), MOST)
        following = str(request.url.include_query_params(limit=limit, offset=offset + limit))
        return as_json(
            {
                "next": following if offset + limit < len(posts) else None,
                "previous": None,
                "results": posts[offset : offset + limit],
            }
        )

    def post(self, request: Request) -> Response:
        """GET /api/posts/{number}/: one post with the history of its forecasts."""
        market = self._markets.find(VENUE, request.path_params["number"])
        if market is None or market.announced_at > self._world.clock():
            return as_json({"detail": "No Post matches the given query."}, 404)
        post = self._post(market)
        if not self._world.faults.take_one("hidden", VENUE, market.id):
            shown = post["question"]["aggregations"]["recency_weighted"]
            shown["history"] = self._history(market)
            shown["latest"] = shown["history"][-1] if shown["history"] else None
        return as_json(post)

    def _post(self, market: SimulatedMarket) -> dict[str, Any]:
        now = self._world.clock()
        forecasts = int(market.volume_at(now) / 100)
        return {
            "id": int(market.id),
            "title": market.title,
            "slug": market.slug,
            "author_username": "simulated",
            "projects": {"category": [{"id": 1, "name": market.category.title(), "slug": market.category}]},
            "status": STATUSES[market.status_at(now)],
            "nr_forecasters": min(forecasts, 500),
            "forecasts_count": forecasts,
            "question": self._question(market, now),
        }

    def _question(self, market: SimulatedMarket, now: datetime) -> dict[str, Any]:
        binary, resolved = market.outcomes == YES_NO, now >= market.resolved_at
        winner = market.outcomes[market.winner]
        return {
            "id": int(market.id) + 1,
            "title": market.title,
            "type": "binary" if binary else "multiple_choice",
            "options": None if binary else list(market.outcomes),
            "status": STATUSES[market.status_at(now)],
            "open_time": _iso(market.opened_at),
            "scheduled_close_time": _iso(market.scheduled_at),
            "actual_close_time": _iso(market.closes_at) if now >= market.closes_at else None,
            "actual_resolve_time": _iso(market.resolved_at) if resolved else None,
            "resolution": (winner.lower() if binary else winner) if resolved else None,
            "cp_reveal_time": _iso(market.opened_at),
            "default_aggregation_method": "recency_weighted",
            "aggregations": {
                method: {"history": [], "latest": None, "score_data": {}}
                for method in ("recency_weighted", "unweighted", "single_aggregation", "metaculus_prediction")
            },
        }

    def _history(self, market: SimulatedMarket) -> list[dict[str, Any]]:
        """A forecast for each hour in which somebody forecast, from within the hour until the next one."""
        until = self._world.clock() + timedelta(seconds=CHANGES_BEFORE_THE_HOUR)
        outcomes = [0] if market.outcomes == YES_NO else range(len(market.outcomes))
        prices = [self._markets.prices(market, market.opened_at, until, outcome) for outcome in outcomes]
        rows = [row for row in range(len(prices[0])) if prices[0].volume[row]]
        opened = market.opened_at.timestamp()
        starts = [max(opened, float(prices[0].at[row]) - CHANGES_BEFORE_THE_HOUR) for row in rows]
        ends = [*starts[1:], None][: len(starts)]
        return [
            {
                "start_time": start,
                "end_time": end,
                "forecast_values": None,
                "forecaster_count": 10,
                "interval_lower_bounds": [float(price.low[row]) for price in prices],
                "centers": [float(price.probability[row]) for price in prices],
                "interval_upper_bounds": [float(price.high[row]) for price in prices],
                "means": None,
                "histogram": None,
            }
            for row, start, end in zip(rows, starts, ends, strict=True)
        ]


def _iso(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _for_whoever_sends_a_token(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    def checked(request: Request) -> Response:
        if not request.headers.get("authorization", "").startswith("Token "):
            return as_json({"detail": "Authentication credentials were not provided."}, 401)
        return answer(request)

    return checked


def routes(world: World) -> list[Route]:
    """Metaculus's routes."""
    metaculus = SandboxMetaculus(world)
    serve = partial(endpoint, world, VENUE, REFUSALS)
    return [
        Route("/api/posts/", serve(lambda request: "", _for_whoever_sends_a_token(metaculus.posts))),
        Route(
            "/api/posts/{number}/",
            serve(lambda request: request.path_params["number"], _for_whoever_sends_a_token(metaculus.post)),
        ),
    ]
