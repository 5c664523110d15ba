"""Every reader of a venue's answer, driven through its real client, with one of the answers replaced.

The good answers are the sandbox's, asked for over real HTTP once and cut short; then they are replayed in this process.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from copilot_quant_pipeline.equities.chart import parse_chart
from copilot_quant_pipeline.equities.universe import fetch_members
from copilot_quant_pipeline.errors import VendorError
from copilot_quant_pipeline.prediction_markets.kalshi import Kalshi
from copilot_quant_pipeline.prediction_markets.manifold import Manifold
from copilot_quant_pipeline.prediction_markets.metaculus import Metaculus
from copilot_quant_pipeline.prediction_markets.polymarket import Polymarket
from copilot_quant_pipeline.prediction_markets.predictit import PredictIt
from copilot_quant_pipeline.prediction_markets.sources import catalog_rows
from copilot_quant_pipeline.prediction_markets.venue import (
    POINTS,
    Catalog,
    Market,
    MarketQuery,
    MissingAtSource,
)
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.warehouse.tables import MARKETS

# So many records of a list, and so many points of a history.
RECORDS, POINTS_SHOWN = 6, 30
FREELY = RetryPolicy(RequestRate(1_000_000))
CURSORS = {"cursor", "after_cursor", "before", "offset"}

Drive = Callable[["Replay"], Any]


@dataclass
class Replay:
    """The sandbox's answers, and one route whose answer is another."""

    url: str
    now: datetime
    known: dict[tuple[str, str, bytes], tuple[int, bytes]] = field(default_factory=dict)
    route: str = ""
    body: bytes | None = None
    # What was answered on the route by the sandbox.
    first: bytes = b""

    def answer(self, adapter: HTTPAdapter, request: requests.PreparedRequest, send: Any, how: dict[str, Any]) -> Any:
        asked = urlsplit(request.url or "")
        sent = request.body if isinstance(request.body, bytes) else (request.body or "").encode()
        path = asked.path + ("?" + asked.query if asked.query else "")
        key = (request.method or "", path, sent)
        if key not in self.known:
            real = send(adapter, request, **how)
            pages = parse_qs(asked.query).keys() & CURSORS
            is_whole = asked.path.endswith("/bets")
            short = real.content if is_whole else _short(real.content, is_later=bool(pages))
            self.known[key] = (real.status_code, short)
        status, body = self.known[key]
        is_it = bool(self.route) and status == 200 and re.search(self.route, f"{request.method} {path}") is not None
        if is_it:
            self.first = self.first or body
            body = body if self.body is None else self.body
        raw = HTTPResponse(io.BytesIO(body), {"Content-Type": "application/json"}, status, preload_content=False)
        return adapter.build_response(request, raw)


@contextmanager
def replaying(replay: Replay) -> Iterator[Replay]:
    """Requests of this process are answered by the replay while it lasts."""
    send = HTTPAdapter.send
    with patch.object(HTTPAdapter, "send", lambda self, request, **how: replay.answer(self, request, send, how)):
        yield replay


def _short(body: bytes, *, is_later: bool) -> bytes:
    try:
        return json.dumps(_cut(json.loads(body), is_later=is_later)).encode()
    except ValueError:
        return body


def _cut(tree: Any, *, is_later: bool) -> Any:
    if isinstance(tree, list):
        of_records = bool(tree) and isinstance(tree[0], dict) and len(tree[0]) > 6 and "end_period_ts" not in tree[0]
        most = 0 if is_later else RECORDS if of_records else POINTS_SHOWN
        return [_cut(one, is_later=is_later) for one in tree[:most]]
    if isinstance(tree, dict):
        shown = {name: _cut(one, is_later=is_later) for name, one in tree.items()}
        return {**shown, **({name: None for name in ("cursor", "next_cursor", "next") if is_later and name in shown})}
    return tree


@dataclass(frozen=True)
class Reader:
    """One reader: the route whose answer it reads, where in it the records are, and what to do to have it read."""

    name: str
    route: str
    drive: Drive
    records: tuple[str | int, ...] | None = None
    kept: Callable[[Any], set[str]] = lambda _: set()
    # What of the result a record stands for.
    id_of: Callable[[Any, Any], set[str]] = lambda record, place: set()


def quick(_: object) -> float:
    return 0.0


def polymarket(replay: Replay) -> Polymarket:
    return Polymarket(replay.url, replay.url, replay.url, clock=lambda: replay.now, wait=quick, threads=1)


def kalshi(replay: Replay) -> Kalshi:
    return Kalshi(replay.url, policy=FREELY, wait=quick)


def manifold(replay: Replay) -> Manifold:
    return Manifold(replay.url, clock=lambda: replay.now, policy=FREELY, wait=quick)


def predictit(replay: Replay) -> PredictIt:
    return PredictIt(replay.url, clock=lambda: replay.now, policy=FREELY, wait=quick)


def metaculus(replay: Replay) -> Metaculus:
    return Metaculus(replay.url, token="hush", policy=FREELY, wait=quick)  # noqa: S106


Client = Callable[[Replay], Any]


def listing(client: Client, **query: Any) -> Drive:
    return lambda replay: client(replay).fetch_markets(MarketQuery(**query))


def ids_of(catalog: Any) -> set[str]:
    return {one.id for one in catalog.markets} if isinstance(catalog, Catalog) else set()


def points_by_market(found: Any) -> set[str]:
    told = found.items() if isinstance(found, dict) else ()
    return {key for key, one in told if isinstance(one, pa.Table) and one.num_rows}


def days_of_points(found: Any) -> set[str]:
    table = found.points if isinstance(found, MissingAtSource) else found
    return {str(at.date()) for at in table["stamped_at"].to_pylist()} if isinstance(table, pa.Table) else set()


def expect_storable(result: Any, now: datetime) -> None:
    """Whatever a reader gives or raises can be put into a table, a log and a page."""
    if isinstance(result, MissingAtSource):
        expect_storable(result.points, now)
        json.dumps(result.facts).encode()
    if isinstance(result, VendorError):
        str(result).encode()
        assert len(str(result)) < 2_000
    elif isinstance(result, Market):
        expect_storable(Catalog((result,)), now)
    elif isinstance(result, Catalog):
        MARKETS.validated(catalog_rows([*result.markets, *result.beyond], now, "test"))
        for market in (*result.markets, *result.beyond):
            _expect_usable(market)
        for one in result.broken:
            f"{one.id} {one.why} {one.reason}".encode()
            assert len(one.id) < 300
            assert len(one.why) < 2_000
        " ".join((*result.incomplete, *result.shown)).encode()
    elif isinstance(result, pa.Table):
        result.validate(full=True)
        if result.schema == POINTS:
            assert pa.compute.all(pa.compute.less_equal(result["price"], 1), min_count=0).as_py() in (True, None)
    elif isinstance(result, dict | list | tuple):
        for one in result.values() if isinstance(result, dict) else result:
            expect_storable(one, now)


def _expect_usable(market: Market) -> None:
    """What others reckon with: ends move by days, names are part of keys and addresses."""
    for instant in (market.opened_at, market.closes_at, market.resolved_at):
        if instant:
            assert instant.year > 1900
            assert (instant + timedelta(days=400)).astimezone().year < 3000
    for name in (market.key, market.id, market.title, *(one.name for one in market.outcomes)):
        assert name
        name.encode()
    json.dumps(dict(market.facts)).encode()


def readers(replay: Replay) -> list[Reader]:
    """All readers, for markets that the sandbox has."""
    now, day = replay.now, timedelta(days=1)
    with replaying(replay):
        poly, kal = polymarket(replay), kalshi(replay)
        found = {
            "polymarket": poly.fetch_markets(MarketQuery(with_ended=False)).markets,
            "kalshi": kal.fetch_markets(MarketQuery(with_ended=False)).markets,
            "archived": [one for one in kal.fetch_markets(MarketQuery()).markets if one.status == "resolved"],
            "manifold": manifold(replay).fetch_markets(MarketQuery(limit=4, with_ended=False)).markets,
            "predictit": predictit(replay).fetch_markets(MarketQuery()).markets,
            "metaculus": metaculus(replay).fetch_markets(MarketQuery(with_ended=False)).markets,
        }
        old = min(found["archived"], key=lambda one: (one.closes_at or now, one.id))

    def of(venue: str, that: Callable[[Market], bool] = lambda _: True) -> Market:
        living = [one for one in found[venue] if (one.opened_at or now) < now - 5 * day and that(one)]
        return (living or list(found[venue]))[0]

    def prices(client: Client, market: Market, start: datetime = now - 2 * day, end: datetime = now) -> Drive:
        return lambda replay: client(replay).fetch_prices(market, start, end)

    def prices_of(client: Client, markets: list[Market]) -> Drive:
        return lambda replay: client(replay).fetch_prices_of(markets, now - 2 * day, now)

    def many(outcome: int) -> Callable[[Market], bool]:
        return lambda one: (len(one.outcomes) > 2) == bool(outcome)

    p, k = of("polymarket"), of("kalshi")
    ps = [one for one in found["polymarket"] if (one.opened_at or now) < now - 5 * day][:3]
    ks = [one for one in found["kalshi"] if (one.opened_at or now) < now - 5 * day][:3]
    v2 = "/trade-api/v2"
    by_id, by_ticker = (lambda one, _: {str(one.get("id"))}), (lambda one, _: {str(one.get("ticker"))})

    def nested(field_name: str) -> Callable[[Any, Any], set[str]]:
        return lambda event, _: {str(one[field_name]) for one in event.get("markets") or ()}

    tokens_of = {outcome.token: market.key for market in ps for outcome in market.outcomes}
    return [
        Reader("polymarket markets", "GET /markets/keyset.*closed=false", listing(polymarket, with_ended=False)),
        Reader(
            "polymarket market records",
            "GET /markets/keyset.*closed=false",
            listing(polymarket, with_ended=False),
            ("markets",),
            ids_of,
            by_id,
        ),
        Reader("polymarket events", "GET /events/keyset", listing(polymarket, categories=("politics",))),
        Reader(
            "polymarket event records",
            "GET /events/keyset.*closed=false",
            listing(polymarket, categories=("politics",), with_ended=False),
            ("events",),
            ids_of,
            nested("id"),
        ),
        Reader("polymarket market", f"GET /markets/{p.id}", lambda r: polymarket(r).fetch_market(p.id)),
        Reader("polymarket named", "GET /markets/keyset.*id=", listing(polymarket, ids=tuple(o.id for o in ps))),
        Reader("polymarket batch", "POST /batch-prices-history", prices_of(polymarket, ps)),
        Reader(
            "polymarket batch tokens",
            "POST /batch-prices-history",
            prices_of(polymarket, ps),
            ("history",),
            points_by_market,
            lambda _, token: {tokens_of[token]},
        ),
        Reader("polymarket clob", "GET /prices-history", prices(_without_batches, p)),
        Reader("polymarket data", "GET /v2/prices-history", prices(_data_only, p)),
        Reader("kalshi events", f"GET {v2}/events\\?", listing(kalshi, with_ended=False)),
        Reader(
            "kalshi event records",
            f"GET {v2}/events\\?",
            listing(kalshi, with_ended=False),
            ("events",),
            ids_of,
            nested("ticker"),
        ),
        Reader("kalshi named", f"GET {v2}/markets\\?", listing(kalshi, ids=tuple(one.id for one in ks))),
        Reader(
            "kalshi archived records",
            f"GET {v2}/historical/markets\\?",
            listing(kalshi),
            ("markets",),
            ids_of,
            by_ticker,
        ),
        Reader("kalshi market", f"GET {v2}/markets/{k.id}", lambda r: kalshi(r).fetch_market(k.id)),
        Reader("kalshi archived", f"GET {v2}/historical/markets/", lambda r: kalshi(r).fetch_market(old.id)),
        Reader("kalshi event", f"GET {v2}/events/", lambda r: kalshi(r).fetch_market(k.id)),
        Reader("kalshi cutoff", f"GET {v2}/historical/cutoff", prices_of(kalshi, [old, k])),
        Reader("kalshi batch", f"GET {v2}/markets/candlesticks", prices_of(kalshi, ks)),
        Reader(
            "kalshi batch records",
            f"GET {v2}/markets/candlesticks",
            prices_of(kalshi, ks),
            ("markets",),
            points_by_market,
            lambda one, _: {f"kalshi:{one['market_ticker']}"},
        ),
        Reader("kalshi candles", f"GET {v2}/series/.*/candlesticks", prices(kalshi, k)),
        Reader(
            "kalshi archived candles",
            f"GET {v2}/historical/.*/candlesticks",
            prices(kalshi, old, (old.closes_at or now) - 3 * day, old.closes_at or now),
        ),
        Reader("kalshi series", f"GET {v2}/series", lambda r: _with_series(r)),
        Reader("manifold list", "GET /v0/markets", listing(manifold, limit=4, with_ended=False)),
        Reader(
            "manifold list records",
            "GET /v0/markets",
            listing(manifold, with_ended=False),
            (),
            ids_of,
            by_id,
        ),
        Reader(
            "manifold search",
            "GET /v0/search-markets",
            listing(manifold, categories=("politics",), limit=4),
        ),
        Reader(
            "manifold market",
            "GET /v0/(slug|market)/",
            lambda r: manifold(r).fetch_market(of("manifold", many(1)).id),
        ),
        Reader("manifold bets", "GET /v0/bets", prices(manifold, of("manifold", many(0)))),
        Reader("manifold answers' bets", "GET /v0/bets", prices(manifold, of("manifold", many(1)))),
        Reader("predictit all", "GET /api/marketdata/all", listing(predictit)),
        Reader("predictit records", "GET /api/marketdata/all", listing(predictit), ("markets",), ids_of, by_id),
        Reader(
            "predictit prices",
            "GET /api/marketdata/all",
            prices(predictit, of("predictit"), now - day, now + day),
        ),
        Reader(
            "predictit one",
            "GET /api/marketdata/markets/",
            lambda r: _one_of_predictit(r, of("predictit")),
        ),
        Reader("metaculus posts", "GET /api/posts/\\?", listing(metaculus, with_ended=False)),
        Reader(
            "metaculus post records",
            "GET /api/posts/\\?",
            listing(metaculus, with_ended=False),
            ("results",),
            ids_of,
            by_id,
        ),
        Reader("metaculus post", "GET /api/posts/\\d", lambda r: metaculus(r).fetch_market(of("metaculus").id)),
        Reader("metaculus prices", "GET /api/posts/\\d", prices(metaculus, of("metaculus"), now - 20 * day)),
        Reader("yahoo chart", "GET /v8/finance/chart/", _chart),
        Reader("wikipedia page", "GET /wiki/", lambda r: fetch_members(r.url, now=r.now)),
    ]


def _without_batches(replay: Replay) -> Polymarket:
    client = polymarket(replay)
    client._has_batches = False
    return client


def _data_only(replay: Replay) -> Polymarket:
    client = polymarket(replay)
    client._has_clob = False
    return client


def _with_series(replay: Replay) -> Any:
    client = kalshi(replay)
    client._learn_categories()
    return [client._category_of("KXFED"), dict(client._categories)]


def _one_of_predictit(replay: Replay, market: Market) -> Any:
    client = predictit(replay)
    client._all = (replay.now, {})
    return [client.fetch_market(market.id), client.fetch_prices(market, replay.now, replay.now + timedelta(days=1))]


def _chart(replay: Replay) -> Any:
    asked = {"period1": "1709000000", "period2": "1711600000", "interval": "1d", "events": "div,splits"}
    browser = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0"}
    text = requests.get(f"{replay.url}/v8/finance/chart/AAPL", params=asked, headers=browser, timeout=20).text
    return parse_chart(text, symbol="AAPL", start=date(2024, 2, 1), end=date(2024, 3, 28), fetched_at=replay.now).bars


def outcome(reader: Reader, replay: Replay, body: bytes | None) -> Any:
    """What the reader gives, the declared error it raises, or the undeclared one, which is a defect."""
    replay.route, replay.body = reader.route, body
    try:
        return reader.drive(replay)
    except VendorError as error:
        return error


def good_body(reader: Reader, replay: Replay) -> tuple[Any, bytes]:
    replay.first = b""
    result = outcome(reader, replay, None)
    return result, replay.first


Told = Mapping[str, int]
