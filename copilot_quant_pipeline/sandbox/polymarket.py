"""Polymarket as a simulated venue: Gamma's listings, CLOB's price history and data-api v2's, in their wire formats.

Here: routes, filters, pages with their cursors, the rules of both histories, refusals, and the faults of their data.
Not here: what is listed and what it costs (polymarket_book.py).

Source of the formats: recorded responses. Not recorded, and made up after the known ones: what a cursor that is not
taken answers, and the bodies of Gamma's and CLOB's 429 and 503. Points are hourly: a finer grain gives no more of them.
Recorded markets are served instead of the simulated ones where there are some.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import orjson
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from copilot_quant_pipeline.sandbox import polymarket_book
from copilot_quant_pipeline.sandbox.faults import Fault, Kinds, Refusals, answer_through_faults
from copilot_quant_pipeline.sandbox.polymarket_book import (
    NO_POINTS,
    Points,
    PolymarketData,
    Record,
    RecordedPolymarket,
    SimulatedPolymarket,
)
from copilot_quant_pipeline.sandbox.venue import World

BROKEN_MARKETS: Mapping[str, Callable[[Record], Record]] = {
    "cut": lambda record: record | {"outcomes": record["outcomes"][:-2]},
    "no_id": lambda record: {name: value for name, value in record.items() if name != "id"},
    "nan": lambda record: record | {"volume": "NaN", "volumeNum": None},
    "one_token": lambda record: record | {"clobTokenIds": '["1"]'},
}
BAD_POINTS: Mapping[str, Callable[[Record], Record]] = {
    "above_one": lambda point: _with(point, "price", 1.07),
    "nan": lambda point: _with(point, "price", "NaN"),
    "milliseconds": lambda point: _with(point, "timestamp", 1000 * (point.get("t") or point["timestamp"])),
}
VENUE = polymarket_book.VENUE
FAULTS: Kinds = {
    "polymarket_down": {},
    "polymarket_queue": {"seconds": None},
    "polymarket_cursor_expired": {},
    "polymarket_cursor_loop": {},
    "polymarket_broken_market": {"how": tuple(BROKEN_MARKETS)},
    "polymarket_deleted": {},
    "polymarket_renamed": {"slug": None},
    "polymarket_no_history": {"grain": None},
    "polymarket_bad_point": {"how": tuple(BAD_POINTS)},
    "polymarket_no_batches": {},
    "polymarket_no_clob": {"status": None},
}

PAGE_SIZE = 20
LARGEST_PAGE = 100
TOKENS_A_BATCH = 20
DAY = 86_400
LONGEST_WINDOW = 15 * DAY
INTERVALS = {"1h": 3600, "6h": 6 * 3600, "1d": DAY, "1w": 7 * DAY, "1m": 30 * DAY}
SMALLEST_FIDELITY = {"1m": 10, "1w": 5}
COARSE = 720
# From how many seconds a bucket on, and for how many days back, data-api v2 keeps points; the first that fits.
KEPT_DAYS = ((10_800, math.inf), (1_800, 90), (300, 60), (60, 7))
FIRST_KEPT = datetime.fromisoformat("2022-11-18T00:00:00+00:00")
# Who asks for no bucket gets the finest of these that is kept for all of the window and makes no more points of it;
# that of a minute for windows of half a day only.
BUCKETS, MOST_POINTS, LONGEST_BY_MINUTE = (60, 300, 1_800, 10_800, 43_200), 2_500, 43_200
WHOLE_LIFE = ("max", "all")
SPELLED = {"tokenId": "token_id", "bucketSeconds": "bucket_seconds", "asOf": "as_of"}
POINTS_A_PAGE = 1_000
LARGEST_POINTS_PAGE = 10_000
INSTANTS, AMOUNTS = ("startDate", "endDate", "createdAt", "closedTime"), ("volumeNum", "liquidityNum", "volume24hr")
ORDERS = frozenset(("id", "volume", *INSTANTS, *AMOUNTS))


class Refused(Exception):  # noqa: N818 it is an answer, not an error of the sandbox
    """A refusal with the body one of the services gives it."""

    def __init__(self, status: int, body: Record) -> None:
        super().__init__(status)
        self.status, self.body = status, body


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON body."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, dict(headers or {}), media_type="application/json")


def invalid(what: str) -> Refused:
    """Gamma's refusal of a parameter."""
    return Refused(422, {"type": "validation error", "error": f"{what} is invalid"})


def unclear(what: str) -> Refused:
    """CLOB's refusal of a request."""
    return Refused(400, {"error": what})


def wrong(parameter: str, why: str) -> Refused:
    """Data-api v2's refusal of a parameter."""
    return Refused(400, {**_data_error(why, "invalid_request", retryable=False), "parameter": parameter})


def _data_error(why: str, code: str, *, retryable: bool) -> Record:
    return {"error": why, "code": code, "retryable": retryable, "trace_id": "5d0a3b2c9f"}


PLAIN = Refusals(
    too_many=lambda: PlainTextResponse("error code: 1015", 429),
    broken=lambda status: as_json({"error": "Service Unavailable"}, status),
)
DATA = Refusals(
    too_many=lambda: as_json(
        _data_error("rate limit exceeded", "rate_limited", retryable=True), 429, {"Retry-After": "1"}
    ),
    broken=lambda status: as_json(
        _data_error("service unavailable", "dependency_unavailable", retryable=True), status, {"Retry-After": "1"}
    ),
)


@dataclass(frozen=True)
class Cursor:
    """Where a listing goes on: after the record with these keys, in this order of this kind of record.

    It is signed, and tied to the ordering: a cursor of another listing is not taken.
    """

    kind: str
    ordering: str
    keys: tuple[Any, ...]

    def encoded(self) -> str:
        """The text sent as `next_cursor`."""
        keys = [{"t": "number" if isinstance(key, int | float) else "string", "v": key} for key in self.keys]
        body = orjson.dumps({"v": 1, "k": self.kind, "oh": self.ordering, "keys": keys})
        return urlsafe_b64encode(_signature(body) + body).decode().rstrip("=")

    @classmethod
    def decoded(cls, text: str, kind: str, ordering: str) -> Cursor:
        """The cursor that was sent as `text`.

        Raises:
            Refused: It is none, or of another listing.
        """
        with suppress(ValueError):
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            if hmac.compare_digest(_signature(raw[32:]), raw[:32]):
                told = orjson.loads(raw[32:])
                if (told["k"], told["oh"]) == (kind, ordering):
                    return cls(kind, ordering, tuple(key["v"] for key in told["keys"]))
        raise invalid("after_cursor")


def _signature(body: bytes) -> bytes:
    return hmac.digest(b"simulated", body, "sha256")


def listing(kind: str, records: list[Record], params: QueryParams) -> Record:
    """One keyset page of records that already pass the filters.

    Raises:
        Refused: The order, limit or cursor is not taken.
    """
    if "offset" in params:
        raise Refused(422, {"type": "validation error", "error": "offset is not supported, use after_cursor"})
    order, descending = params.get("order", "id"), params.get("ascending", "true") == "false"
    if order not in ORDERS:
        raise invalid("order")
    limit = min(_whole(params.get("limit", str(PAGE_SIZE)), "limit"), LARGEST_PAGE)
    ordered = sorted(records, key=lambda record: _keys(record, order), reverse=descending)
    ordering = hashlib.sha256(f"{order}/{descending}".encode()).hexdigest()
    if text := params.get("after_cursor"):
        after = Cursor.decoded(text, kind, ordering).keys
        ordered = [one for one in ordered if _comes_after(_keys(one, order), after, descending)]
    page: Record = {"$schema": f"https://gamma-api.polymarket.com/schemas/{kind.title()}KeysetListResponse.json"}
    page |= {kind: ordered[:limit]}
    if len(ordered) > limit:
        page["next_cursor"] = Cursor(kind, ordering, _keys(ordered[limit - 1], order)).encoded()
    return page


def _keys(record: Record, order: str) -> tuple[Any, ...]:
    number = int(record["id"])
    if order == "id":
        return (number,)
    value = record.get(order)
    # `volume` is text, and sorts as such.
    missing: Any = 0.0 if order in AMOUNTS else ""
    return (missing if value is None else value, number)


def _comes_after(keys: tuple[Any, ...], after: tuple[Any, ...], descending: bool) -> bool:
    return keys < after if descending else keys > after


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise invalid(name)
    return int(text)


# What repeated parameters pick markets by.
PICKS: Mapping[str, Callable[[Record], Iterable[str]]] = {
    "id": lambda record: [record["id"]],
    "slug": lambda record: [record["slug"]],
    "condition_ids": lambda record: [record["conditionId"]],
    "clob_token_ids": lambda record: json.loads(record.get("clobTokenIds", "[]")),
    "tag_id": lambda record: [tag["id"] for tag in record.get("tags", ())],
    "tag_slug": lambda record: [tag["slug"] for tag in record.get("tags", ())],
    "uma_resolution_status": lambda record: [record.get("umaResolutionStatus", "")],
}


def picked(records: list[Record], params: QueryParams) -> list[Record]:
    """The records that the filters of a request let pass; `closed` is false unless it is given.

    Raises:
        Refused: A value does not parse.
    """
    closed = params.get("closed", "false")
    if closed not in ("true", "false"):
        raise invalid("closed")
    for text in params.getlist("id"):
        _whole(text, "id")
    asked = {name: set(params.getlist(name)) for name in PICKS if params.getlist(name)}
    least, most = float(params.get("volume_num_min", 0)), float(params.get("volume_num_max", "inf"))
    return [
        record
        for record in records
        if record["closed"] == (closed == "true")
        and least <= record["volumeNum"] <= most
        and all(wanted.intersection(PICKS[name](record)) for name, wanted in asked.items())
    ]


def as_events(records: list[Record]) -> list[Record]:
    """The events of markets, each with its markets; it is closed once all of them are."""
    grouped: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        for event in record.get("events", ()):
            grouped[event["id"]].append(record)
    return [_event(markets) for markets in grouped.values()]


def _event(markets: list[Record]) -> Record:
    nested = [{name: value for name, value in one.items() if name not in ("events", "tags")} for one in markets]
    (event,) = markets[0]["events"]
    return {
        **event,
        "conditionId": "",
        "estimateValue": False,
        "closed": all(one["closed"] for one in markets),
        **dict.fromkeys(("volume", "volumeNum"), sum(one["volumeNum"] for one in markets)),
        "tags": markets[0].get("tags", []),
        "markets": nested,
    }


@dataclass(frozen=True)
class HistoryQuery:
    """Which points CLOB is asked for: unix seconds, and minutes between points; `interval` is "" for a window."""

    start: int
    end: int
    fidelity: int
    interval: str

    @property
    def hours(self) -> int:
        """Hours between the points that are there to be sent."""
        return max(1, self.fidelity // 60)


def read_asked(start: Any, end: Any, interval: Any, fidelity: Any, now: datetime) -> HistoryQuery:
    """What a request to CLOB asks for.

    Raises:
        Refused: With CLOB's words, where they are known.
    """
    try:
        step = int(fidelity or 1)
        if interval in (None, ""):
            asked = HistoryQuery(int(start), int(end if end is not None else now.timestamp()), step, "")
        else:
            seconds = INTERVALS.get(interval, int(now.timestamp()) if interval in ("max", "all") else None)
            asked = HistoryQuery(int(now.timestamp()) - cast("int", seconds), int(now.timestamp()), step, str(interval))
    except (TypeError, ValueError):
        raise unclear("either 'interval' or 'startTs' and 'endTs' are needed, in unix seconds") from None
    if not asked.interval and asked.end - asked.start > LONGEST_WINDOW:
        raise unclear("'startTs' and 'endTs' interval is too long")
    least = SMALLEST_FIDELITY.get(asked.interval, 1)
    if asked.fidelity < least:
        raise unclear(f"minimum 'fidelity' for '{asked.interval}' range is {least}")
    return asked


class SandboxPolymarket:
    """The venue's endpoints over one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        folder = world.recorded_markets
        self._book: PolymarketData = RecordedPolymarket(folder) if folder else SimulatedPolymarket(world.seed)
        self._queue = asyncio.Lock()

    async def markets(self, request: Request) -> Response:
        """GET /markets/keyset."""
        return await self._answered(request, "", PLAIN, lambda: as_json(self._page("markets", request.query_params)))

    async def events(self, request: Request) -> Response:
        """GET /events/keyset."""
        return await self._answered(request, "", PLAIN, lambda: as_json(self._page("events", request.query_params)))

    async def market(self, request: Request) -> Response:
        """GET /markets/{id} and /markets/slug/{slug}."""
        name = request.path_params["name"]
        by = "slug" if "/slug/" in request.url.path else "id"
        return await self._answered(request, name, PLAIN, lambda: as_json(self._one(by, name)))

    async def history(self, request: Request) -> Response:
        """GET /prices-history."""
        token = request.query_params.get("market", "")
        slug = self._book.slug(token) or token
        return await self._answered(request, slug, PLAIN, lambda: as_json(self._history(token, request.query_params)))

    async def batch(self, request: Request) -> Response:
        """POST /batch-prices-history."""
        body = await request.body()
        return await self._answered(request, "", PLAIN, lambda: as_json(self._batch(body)))

    async def data(self, request: Request) -> Response:
        """GET /v2/prices-history."""
        # It takes both spellings.
        params = QueryParams([(SPELLED.get(name, name), value) for name, value in request.query_params.multi_items()])
        token = params.get("token_id", "")
        slug = self._book.slug(token) or token
        return await self._answered(request, slug, DATA, lambda: as_json(self._data(token, params)))

    async def _answered(
        self, request: Request, symbol: str, refusals: Refusals, answer: Callable[[], Response]
    ) -> Response:
        faults = self._world.faults
        if faults.take_one("polymarket_down", VENUE):
            return refusals.broken(503)
        if queued := faults.take_one("polymarket_queue", VENUE):
            # Cloudflare does not refuse what comes too fast: it lets it wait, one behind the other.
            async with self._queue:
                await asyncio.sleep(queued.number("seconds", 0.5))

        def served() -> Response:
            try:
                return answer()
            except Refused as refused:
                return as_json(refused.body, refused.status)

        return await answer_through_faults(request, faults, VENUE, symbol, refusals, served)

    def _records(self) -> list[Record]:
        """What is listed, without what was deleted and with what was renamed."""
        shown = []
        for record in self._book.records(self._world.clock()):
            if self._fault("polymarket_deleted", record["slug"]):
                continue
            renamed = self._fault("polymarket_renamed", record["slug"])
            shown.append(record | {"slug": renamed.options.get("slug", "renamed")} if renamed else record)
        return shown

    def _fault(self, kind: str, symbol: str | None) -> Fault | None:
        return self._world.faults.take_one(kind, VENUE, symbol)

    def _page(self, kind: str, params: QueryParams) -> Record:
        sent = params.get("after_cursor")
        if sent and self._fault("polymarket_cursor_expired", None):
            raise invalid("after_cursor")
        records = self._records()
        if kind == "markets":
            shown = picked(records, params)
            if params.get("include_tag") != "true":
                shown = [{name: value for name, value in one.items() if name != "tags"} for one in shown]
        else:
            shown = picked(as_events(records), params)
        page = listing(kind, shown, params)
        if sent and self._fault("polymarket_cursor_loop", None):
            page["next_cursor"] = sent
        return page | {kind: [self._shown_record(record) for record in page[kind]]}

    def _shown_record(self, record: Record) -> Record:
        if "markets" in record:
            return record | {"markets": [self._shown_record(market) for market in record["markets"]]}
        shown = self._book.priced(record, self._world.clock())
        fault = self._fault("polymarket_broken_market", record["slug"])
        return BROKEN_MARKETS[fault.options.get("how", "cut")](shown) if fault else shown

    def _one(self, by: str, name: str) -> Record:
        if by == "id":
            _whole(name, "id")
        for record in self._records():
            if record[by] == name:
                return self._shown_record(record)
        raise Refused(404, {"type": "not found error", "error": f"{by} not found"})

    def _expect_clob(self) -> None:
        if gone := self._fault("polymarket_no_clob", None):
            raise Refused(int(gone.number("status", 404)), {"error": "not found"})

    def _history(self, token: str, params: QueryParams) -> Record:
        self._expect_clob()
        if not token:
            raise unclear("'market' is needed: a token id")
        asked = self._asked(params, "startTs", "endTs")
        return {"history": self._clob_points(token, asked)}

    def _batch(self, body: bytes) -> Record:
        self._expect_clob()
        if self._fault("polymarket_no_batches", None):
            raise Refused(404, {"error": "not found"})
        try:
            told = orjson.loads(body)
            tokens = [str(token) for token in told["markets"]]
        except (ValueError, KeyError, TypeError):
            raise unclear("Invalid payload") from None
        if not 0 < len(tokens) <= TOKENS_A_BATCH:
            raise unclear(f"'markets' must hold 1 to {TOKENS_A_BATCH} token ids")
        asked = self._asked(told, "start_ts", "end_ts")
        return {"history": {token: self._clob_points(token, asked) for token in tokens}}

    def _asked(self, told: Mapping[str, Any], start: str, end: str) -> HistoryQuery:
        window = told.get(start), told.get(end)
        return read_asked(*window, told.get("interval"), told.get("fidelity"), self._world.clock())

    def _clob_points(self, token: str, asked: HistoryQuery) -> list[Record]:
        now = self._world.clock()
        # A known gap of resolved markets: the preset ranges have only coarse points of them.
        if asked.interval and asked.fidelity < COARSE and self._book.settlement(token, now):
            return []
        points = self._shown(token, asked.start, asked.end, asked.fidelity)
        sent = [{"t": t, "p": p} for t, p in zip(points.t.tolist(), points.p.tolist(), strict=True)]
        return self._spoiled(token, sent)

    def _spoiled(self, token: str, sent: list[Record]) -> list[Record]:
        fault = self._fault("polymarket_bad_point", self._book.slug(token)) if sent else None
        return [*sent[:-1], BAD_POINTS[fault.options.get("how", "above_one")](sent[-1])] if fault else sent

    def _shown(self, token: str, start: float, end: float, minutes: int) -> Points:
        hidden = self._fault("polymarket_no_history", self._book.slug(token) or token)
        if hidden and minutes < hidden.number("grain", math.inf):
            return NO_POINTS
        return self._book.points(token, start, end, max(1, minutes // 60), self._world.clock())

    def _data(self, token: str, params: QueryParams) -> Record:
        if not token:
            raise wrong("token_id", "required query param 'token_id' not provided")
        now = self._world.clock()
        limit = _within(params.get("limit", str(POINTS_A_PAGE)), "limit", 1, LARGEST_POINTS_PAGE)
        offset = _read_offset(params.get("cursor"))
        start, end = _bounds(params, now)
        bucket = _bucket(params, start, end, now)
        if self._book.slug(token) is None:
            return {"data": None, "pagination": _pagination(limit, offset, 0)}
        points = self._data_points(token, start, end, bucket)
        points = points[-1:] if "as_of" in params else points
        page = points[offset : offset + limit]
        return {"data": page, "pagination": _pagination(limit, offset, len(points))}

    def _data_points(self, token: str, start: int, end: int, bucket: int) -> list[Record]:
        """Points from `start` to before `end`, without those no longer kept at this grain, and the settlement."""
        now = self._world.clock()
        points = self._shown(token, max(start, _kept_since(bucket, now).timestamp()), end - 1, bucket // 60)
        # A bucket's instant is its own, without the jitter of CLOB.
        at = points.t // 60 * 60
        inside = at >= start
        sent = [
            {"timestamp": t, "price": p, "resolution_seconds": bucket}
            for t, p in zip(at[inside].tolist(), points.p[inside].tolist(), strict=True)
        ]
        sent = self._spoiled(token, sent)
        settled = self._book.settlement(token, now)
        if settled and start <= settled[0] < end:
            sent = [point for point in sent if point["timestamp"] < settled[0]]
            sent.append({"timestamp": settled[0], "price": settled[1], "resolution_seconds": 0})
        return sent


def _with(point: Record, name: str, value: Any) -> Record:
    """The point with another value, whichever service's names it has."""
    return {**point, (name if name in point else name[0]): value}


def _within(text: str, name: str, least: int, most: int) -> int:
    with suppress(ValueError):
        if least <= int(text) <= most:
            return int(text)
    raise wrong(name, f"{name} must be between {least} and {most}")


def _bounds(params: QueryParams, now: datetime) -> tuple[int, int]:
    """The window asked of data-api v2: by its start, by a named range, or what may hold the newest at an instant."""
    given = [name for name in ("start", "interval", "as_of") if name in params]
    if len(given) != 1:
        raise wrong("start", "exactly one of 'start', 'interval' or 'as_of' is required")
    if "offset" in params:
        raise wrong("offset", "'offset' is not supported, use 'cursor'")
    present = int(now.timestamp())
    if given == ["interval"]:
        name = params["interval"]
        seconds = present - 1 if name in WHOLE_LIFE else INTERVALS.get(name)
        if seconds is None:
            raise wrong("interval", "interval must be one of max, all, 1m, 1w, 1d, 6h, 1h")
        return present - seconds, present
    if given == ["as_of"]:
        instant = _within(params["as_of"], "as_of", 1, 10**11)
        return max(1, instant - LONGEST_WINDOW), instant + 1
    start = _within(params["start"], "start", 1, 10**11)
    end = _within(params.get("end", str(present)), "end", 1, 10**11)
    if end - start > LONGEST_WINDOW:
        raise wrong("end", "'start' and 'end' must span at most 15 days")
    return start, end


def _bucket(params: QueryParams, start: int, end: int, now: datetime) -> int:
    """Seconds between points: as asked for, or what the service chooses."""
    name = params.get("interval")
    if "bucket_seconds" in params:
        bucket = _within(params["bucket_seconds"], "bucket_seconds", 60, DAY)
        floor = {"max": 600, "all": 600, "1m": 600, "1w": 300}.get(name or "", 60)
        if bucket < floor:
            raise wrong("bucket_seconds", f"bucket_seconds must be at least {floor} for interval {name}")
        return bucket
    if "as_of" in params:
        return next(one for one in BUCKETS if _kept_since(one, now).timestamp() <= end)
    fitting = [one for one in BUCKETS if _fits(one, start, end) and _kept_since(one, now).timestamp() <= start]
    return BUCKETS[-1] if name in WHOLE_LIFE or not fitting else fitting[0]


def _fits(bucket: int, start: int, end: int) -> bool:
    by_minute_for_long = bucket == BUCKETS[0] and end - start > LONGEST_BY_MINUTE
    return (end - start) / bucket <= MOST_POINTS and not by_minute_for_long


def _kept_since(bucket: int, now: datetime) -> datetime:
    """From when on points are there in buckets of so many seconds."""
    days = next(days for seconds, days in KEPT_DAYS if bucket >= seconds)
    return FIRST_KEPT if days == math.inf else max(FIRST_KEPT, now - timedelta(days=days))


def _read_offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    with suppress(ValueError, KeyError, TypeError):
        return int(orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))["data"]["offset"])
    raise wrong("cursor", "cursor is invalid")


def _pagination(limit: int, offset: int, count: int) -> Record:
    if offset + limit >= count:
        return {"limit": limit, "offset": offset, "has_more": False, "next_cursor": None}
    told = orjson.dumps({"data": {"type": "prices_history", "offset": offset + limit}, "sig": "simulated"})
    cursor = urlsafe_b64encode(told).decode().rstrip("=")
    return {"limit": limit, "offset": offset, "has_more": True, "next_cursor": cursor}


def routes(world: World) -> list[Route]:
    """Polymarket's routes, all three services' on one port: their paths do not meet."""
    polymarket = SandboxPolymarket(world)
    return [
        Route("/markets/keyset", polymarket.markets),
        Route("/events/keyset", polymarket.events),
        Route("/markets/slug/{name}", polymarket.market),
        Route("/markets/{name}", polymarket.market),
        Route("/prices-history", polymarket.history),
        Route("/batch-prices-history", polymarket.batch, methods=["POST"]),
        Route("/v2/prices-history", polymarket.data),
    ]
