"""The sandbox's web application: every venue's routes on one port, counted, with faults and clock on request.

Here: assembly, request counts, and the control routes `/__requests`, `/__requests/busiest`, `/__faults`, `/__clock`.
Not here: any venue's answers; the process or thread that serves this (server.py).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.gate.middleware import Gate
from copilot_quant_pipeline.gate.refusals import Rules, judge_control
from copilot_quant_pipeline.sandbox import kalshi, manifold, metaculus, polymarket, predictit, wikipedia, yahoo
from copilot_quant_pipeline.sandbox.faults import FaultBoard, as_instant
from copilot_quant_pipeline.sandbox.market import SimulatedEquities
from copilot_quant_pipeline.sandbox.polymarket_book import is_recorded_folder, recorded_folder
from copilot_quant_pipeline.sandbox.venue import SandboxVenue, World

# So many of the newest requests are remembered with their instants.
REMEMBERED = 200_000

VENUES: tuple[SandboxVenue, ...] = (yahoo, wikipedia, polymarket, kalshi, manifold, predictit, metaculus)
UNROUTED = "unrouted"

# What the paths of control routes begin with; no venue's do.
CONTROL = "/__"


class Control:
    """What a sandbox is told from outside, its clock and faults, and what it tells, its request counts."""

    def __init__(self, now: datetime | None = None) -> None:
        self._now = now
        self._venue_of = {kind: venue.VENUE for venue in VENUES for kind in venue.FAULTS}
        self.faults = FaultBoard({kind: options for venue in VENUES for kind, options in venue.FAULTS.items()})
        self.requests: Counter[str] = Counter()
        self.arrivals: deque[tuple[float, str]] = deque(maxlen=REMEMBERED)

    def count(self, template: str) -> None:
        """Note that a request of this route template came."""
        self.requests[template] += 1
        self.arrivals.append((time.monotonic(), template))

    def forget(self) -> None:
        """Count from zero."""
        self.requests.clear()
        self.arrivals.clear()

    def now(self) -> datetime:
        """The sandbox's instant: pinned, or the clock's."""
        return self._now or datetime.now(UTC)

    def pin(self, now: datetime | None) -> None:
        """Pin the clock to an aware instant; None lets it run.

        Raises:
            UserError: The instant has no time zone.
        """
        if now is not None and now.tzinfo is None:
            raise UserError(f"the sandbox's clock {now} has no time zone; write for example 2024-03-28T22:00:00Z.")
        self._now = now

    def fault(self, kind: str, **options: Any) -> None:
        """Put a fault in force at its venue; faults of transport hit Yahoo unless `venue` names another.

        Raises:
            UserError: The fault is not known or an option does not parse.
        """
        venue = options.pop("venue", self._venue_of.get(kind, yahoo.VENUE))
        self.faults.add(kind, venue=venue, **options)

    def routes(self) -> list[Route]:
        """The control routes; they are not counted."""
        return [
            Route("/__requests", self._read_requests),
            Route("/__requests/busiest", self._read_busiest),
            Route("/__requests/reset", self._reset_requests, methods=["POST"]),
            Route("/__faults", self._change_faults, methods=["POST", "DELETE"]),
            Route("/__clock", self._pin_clock, methods=["POST"]),
        ]

    async def _read_requests(self, request: Request) -> Response:
        return JSONResponse(dict(self.requests))

    async def _read_busiest(self, request: Request) -> Response:
        """The most requests within so many `seconds`, of all routes that begin with one of `under`."""
        prefixes = tuple(request.query_params.getlist("under"))
        at = [instant for instant, template in self.arrivals if template.startswith(prefixes or "")]
        return JSONResponse({"requests": most_within(at, float(request.query_params.get("seconds", "1")))})

    async def _reset_requests(self, request: Request) -> Response:
        self.forget()
        return Response(status_code=204)

    async def _change_faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.faults.clear()
            return Response(status_code=204)
        return await _obeyed(request, lambda body: self.fault(**body))

    async def _pin_clock(self, request: Request) -> Response:
        return await _obeyed(request, lambda body: self.pin(as_instant(body["now"])))


def most_within(instants: Iterable[float], seconds: float) -> int:
    """How many of the ascending `instants` lie within a span of so many seconds, wherever they are most."""
    span, most = deque[float](), 0
    for instant in instants:
        span.append(instant)
        while instant - span[0] >= seconds:
            span.popleft()
        most = max(most, len(span))
    return most


async def _obeyed(request: Request, obey: Callable[[Any], None]) -> Response:
    """204 once the JSON body is obeyed, 400 with the reason where it cannot be."""
    try:
        obey(await request.json())
    except (UserError, KeyError, TypeError, ValueError) as error:
        return JSONResponse({"error": str(error)}, 400)
    return Response(status_code=204)


class Counted:
    """Counts requests per route template, holds each answer back for `delay` seconds, dates it by the `clock`."""

    def __init__(
        self,
        app: ASGIApp,
        routes: list[Route],
        count: Callable[[str], None],
        delay: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._app, self._routes, self._count, self._delay, self._clock = app, routes, count, delay, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and not scope["path"].startswith(CONTROL):
            self._count(self._template(scope))
            if self._delay:
                await asyncio.sleep(self._delay)
        await self._app(scope, receive, self._dated(send))

    def _dated(self, send: Send) -> Send:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = format_datetime(self._clock().astimezone(UTC), usegmt=True)
                message["headers"] = [*message.get("headers", ()), (b"date", date.encode())]
            await send(message)

        return dated

    def _template(self, scope: Scope) -> str:
        return next((route.path for route in self._routes if route.matches(scope)[0] is Match.FULL), UNROUTED)


def build_app(
    control: Control,
    market: SimulatedEquities,
    *,
    recorded: Path | None,
    seed: int,
    delay: float,
    hosts: Sequence[str] = (),
) -> ASGIApp:
    """The application of one sandbox, whose control routes answer to loopback's names and to `hosts`.

    Raises:
        UserError: `recorded` holds no frame, or two frames of the same symbol.
    """
    markets = recorded_folder(recorded)
    frames = None if recorded and is_recorded_folder(recorded) else recorded
    world = World(seed, market, clock=control.now, faults=control.faults, recorded=frames, recorded_markets=markets)
    venues = [route for venue in VENUES for route in venue.routes(world)]
    routed = Starlette(routes=[*control.routes(), *venues])
    gated = Gate(routed, Rules(names=frozenset(hosts)), judge_control, under=CONTROL)
    return Counted(gated, venues, control.count, delay, control.now)
