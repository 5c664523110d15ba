"""Faults on request: what can go wrong at a venue, how often, and for whom.

Here: the board of faults in force, and the faults of transport that every venue shares (429, 5xx, cut or
foreign bodies, slow answers, dropped connections).
Not here: faults of one venue's data; each venue names its own and asks the board for them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from copilot_quant_pipeline.errors import UserError

# A kind of fault and its options, each with the words it may hold (None: any value).
Kinds = Mapping[str, Mapping[str, Collection[str] | None]]

TRANSPORT_FAULTS: Kinds = {
    "rate_limit": {},
    "server_error": {"status": None, "body": ("json", "html")},
    "truncated": {},
    "html": {},
    "slow": {"seconds": None},
    "drop": {},
}
# The options of a fault that spoils the data of some days.
DAYS = {"date": None, "dates": None}


@dataclass
class Fault:
    """One fault in force.

    `symbol` None hits every symbol; `times` counts the requests it still hits, None hits for ever.
    """

    kind: str
    symbol: str | None
    times: int | None
    options: Mapping[str, Any] = field(default_factory=dict)

    def hits(self, symbol: str | None) -> bool:
        """Whether a request for `symbol` is hit; case and the spelling of class shares do not matter."""
        everybody = self.symbol is None
        return self.times != 0 and (everybody or _spelling(self.symbol) == _spelling(symbol))

    def days(self) -> list[date]:
        """The dates in `date` or `dates`, given as dates or ISO text."""
        given = self.options.get("dates", self.options.get("date", ()))
        several = [given] if isinstance(given, str | date) else given
        return [as_date(day) for day in several]

    def number(self, name: str, default: float) -> float:
        """A numeric option."""
        return float(self.options.get(name, default))

    def ratio(self) -> Fraction:
        """The option `ratio`: new shares per old share, as a number or as text like 3/2; default 2."""
        given = self.options.get("ratio", 2)
        return Fraction(given) if isinstance(given, str) else Fraction(given).limit_denominator(1_000_000)

    def applies_at(self, now: datetime) -> bool:
        """Whether `now` is at or after the option `since` and before `until`, aware instants."""
        since, until = (as_instant(self.options.get(name)) for name in ("since", "until"))
        return (since is None or since <= now) and (until is None or now < until)


def _spelling(symbol: str | None) -> str:
    return (symbol or "").upper().replace(".", "-")


def _words(words: Collection[str]) -> str:
    return f" ({', '.join(words)})" if words else ""


def as_date(given: str | date) -> date:
    """A date given as such or as ISO text."""
    return date.fromisoformat(given) if isinstance(given, str) else given


def as_instant(given: str | datetime | None) -> datetime | None:
    """An aware instant given as such or as ISO text."""
    return datetime.fromisoformat(given) if isinstance(given, str) else given


class FaultBoard:
    """The faults in force; safe to change while the sandbox answers."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = {**TRANSPORT_FAULTS, **kinds}
        self._faults: list[tuple[str, Fault]] = []
        self._lock = threading.Lock()

    def add(
        self, kind: str, *, venue: str, symbol: str | None = None, times: int | None = None, **options: Any
    ) -> None:
        """Put a fault in force.

        Raises:
            UserError: No venue knows this kind of fault, or an option does not parse.
        """
        if times is not None and (not isinstance(times, int) or times < 1):
            raise UserError(f"fault {kind!r} cannot happen times={times!r}; write a whole number from 1.")
        fault = Fault(kind, symbol, times, options)
        self._expect_understood(fault)
        with self._lock:
            self._faults.append((venue, fault))

    def _expect_understood(self, fault: Fault) -> None:
        kind, options = fault.kind, fault.options
        known = self._kinds.get(kind)
        if known is None:
            raise UserError(f"fault {kind!r} is not known; choose one of {', '.join(sorted(self._kinds))}.")
        for name, value in options.items():
            words = known.get(name) if name in known else ()
            if words is not None and value not in words:
                raise UserError(
                    f"fault {kind!r} does not understand {name}={value!r}; "
                    f"its options are {', '.join(known) or 'none'}{_words(words)}."
                )
        try:
            days, _ = fault.days(), fault.ratio()
            fault.applies_at(datetime.now(UTC))
        except (TypeError, ValueError) as error:
            raise UserError(f"fault {kind!r} has an option that is not understood: {error}.") from None
        if "dates" in known and not days:
            raise UserError(f"fault {kind!r} needs a date, for example date=2024-03-28.")

    def clear(self) -> None:
        """Take every fault back."""
        with self._lock:
            self._faults.clear()

    def take(self, kind: str, venue: str, symbol: str | None = None) -> list[Fault]:
        """Every fault of `kind` that hits this request, each counted as used once."""
        return self._take(kind, venue, symbol, None)

    def take_one(self, kind: str, venue: str, symbol: str | None = None) -> Fault | None:
        """The oldest fault of `kind` that hits this request, counted as used once."""
        return next(iter(self._take(kind, venue, symbol, 1)), None)

    def _take(self, kind: str, venue: str, symbol: str | None, limit: int | None) -> list[Fault]:
        with self._lock:
            in_force = (fault for at, fault in self._faults if at == venue and fault.kind == kind)
            hits = [fault for fault in in_force if fault.hits(symbol)][:limit]
            for fault in hits:
                if fault.times is not None:
                    fault.times -= 1
            return hits


@dataclass(frozen=True)
class Refusals:
    """How a venue says that it is asked too often, and that it is broken (given a status from 500)."""

    too_many: Callable[[], Response]
    broken: Callable[[int], Response]


async def answer_through_faults(
    request: Request,
    board: FaultBoard,
    venue: str,
    symbol: str,
    refusals: Refusals,
    answer: Callable[[], Response],
) -> Response:
    """The venue's answer, or what the transport faults in force make of it."""
    if slow := board.take_one("slow", venue, symbol):
        await _hold_back(request, slow.number("seconds", 5.0))
    if board.take_one("drop", venue, symbol):
        return dropped(request)
    if board.take_one("rate_limit", venue, symbol):
        return refusals.too_many()
    if error := board.take_one("server_error", venue, symbol):
        return _server_error(error, refusals)
    if board.take_one("html", venue, symbol):
        return HTMLResponse(
            "<!DOCTYPE html><html><head><title>Sorry</title></head><body>Will be right back...</body></html>"
        )
    response = answer()
    if board.take_one("truncated", venue, symbol):
        return Response(response.body[: len(response.body) // 2], response.status_code, media_type=response.media_type)
    return response


async def _hold_back(request: Request, seconds: float) -> None:
    """Wait as long as the client does, so that one that gave up leaves nothing behind."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not await request.is_disconnected():
        await asyncio.sleep(min(0.05, max(until - time.monotonic(), 0)))


def _server_error(fault: Fault, refusals: Refusals) -> Response:
    status = int(fault.number("status", 502))
    if fault.options.get("body") == "html":
        return HTMLResponse(f"<html><body><h1>{status} Server Error</h1></body></html>", status)
    return refusals.broken(status)


def dropped(request: Request) -> Response:
    """Close the connection without an answer; what is returned is never sent."""
    request.scope["sandbox.transport"].abort()
    return Response()
