"""Kalshi as a simulated venue: trade-api v2 with its live and its historical tier, in Kalshi's wire format.

Here: what is listed where, filters, tiers, candles' windows and caps, pages and cursors, errors, faults of its data.
Not here: what was traded (markets.py), how a record (kalshi_records.py) and a candle (kalshi_candles.py) are written.

Source of the formats: Kalshi's published OpenAPI description and recorded responses. Hourly and daily candles are
served; those of minutes are refused as bad requests. All paths begin with /trade-api/v2.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from copilot_quant_pipeline.sandbox.faults import Fault, Kinds, Refusals, answer_through_faults
from copilot_quant_pipeline.sandbox.kalshi_candles import DAY, HOUR, candles
from copilot_quant_pipeline.sandbox.kalshi_records import (
    Quote,
    Record,
    combination,
    event_record,
    market_record,
    series_record,
    zulu,
)
from copilot_quant_pipeline.sandbox.markets import SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline.sandbox.venue import World

VENUE = "kalshi"
PREFIX = "/trade-api/v2"
FAULTS: Kinds = {
    "kalshi_bad_candle": {"how": ("outside", "nan", "milliseconds")},
    "kalshi_broken_market": {"how": ("status", "time", "no_ticker")},
    "kalshi_cents": {},
    "kalshi_cursor_expired": {},
    "kalshi_cursor_loop": {},
    "kalshi_down": {},
    "kalshi_gone": {},
}

LIVE_DAYS = 90
MAX_PERIODS, MAX_CANDLES, MAX_TICKERS = 5_000, 10_000, 100
# Unfiltered lists are mostly generated combinations of markets.
COMBINATIONS_A_MARKET = 2
STATUS_WORDS = {"unopened": "unopened", "open": "open", "closed": "closed", "settled": "resolved", "paused": None}
# The filters of /markets by time, in families that exclude one another, and the status words each goes with.
TIME_FILTERS = {name: (f"min_{name}_ts", f"max_{name}_ts") for name in ("created", "close", "settled", "updated")}
STATUSES_WITH: Mapping[str, set[str | None]] = {
    "created": {"unopened", "open", None},
    "close": {"closed", None},
    "settled": {"settled", None},
    "updated": {None},
}


class KalshiError(Exception):
    """What Kalshi refuses, with its status and words."""

    def __init__(self, status: int, code: str, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.details = status, code, details

    def response(self) -> Response:
        """The error as Kalshi sends it."""
        details = {"details": self.details} if self.details else {}
        return JSONResponse({"error": {"code": self.code, "message": str(self), **details}}, self.status)


def bad_request(details: str | None = None) -> KalshiError:
    """Kalshi's 400; some say what was wrong in `details`."""
    return KalshiError(400, "bad_request", "bad request", details)


def not_found() -> KalshiError:
    """Kalshi's 404."""
    return KalshiError(404, "not_found", "not found")


def not_archived() -> KalshiError:
    """The 404 of the historical tier, which has words of its own."""
    return KalshiError(404, "failed_to_get_market_by_ticker:_not_found", "failed to get market by ticker: not found")


def broken(status: int) -> Response:
    """A server error in Kalshi's format."""
    return KalshiError(status, "internal_server_error", "internal server error").response()


# No Retry-After: Kalshi says only this.
REFUSALS = Refusals(too_many=lambda: JSONResponse({"error": "too many requests"}, 429), broken=broken)


def whole(params: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A whole number of the query.

    Raises:
        KalshiError: It is missing without a default, or is none.
    """
    try:
        return int(params[name]) if name in params or default is None else default
    except (KeyError, ValueError):
        raise bad_request() from None


@dataclass(frozen=True)
class CandleQuery:
    """A window of candles of a `period`, unix seconds, both ends included."""

    first: int
    last: int
    period: int = HOUR

    @property
    def periods(self) -> float:
        """How many candles are asked for, as Kalshi counts: the length in periods, however many lie in it."""
        return (self.last - self.first) / self.period


def read_span(params: Mapping[str, str]) -> CandleQuery:
    """The window a request asks for.

    Raises:
        KalshiError: A part is missing, it ends before it starts, or the interval is neither an hour nor a day.
    """
    span = CandleQuery(whole(params, "start_ts"), whole(params, "end_ts"), whole(params, "period_interval") * 60)
    if span.period not in (HOUR, DAY) or span.last < span.first:
        raise bad_request()
    return span


def expect_a_life(span: CandleQuery) -> None:
    """Refuse more candles of one market than Kalshi gives at once.

    Raises:
        KalshiError: In the words it was seen to use.
    """
    if span.periods > MAX_PERIODS:
        raise bad_request(
            f"requested time range with candlesticks: {span.periods:.6f}, max candlesticks: {MAX_PERIODS}"
        )


def expect_a_batch(span: CandleQuery, tickers: int) -> None:
    """Refuse more candles of several markets than Kalshi gives at once.

    Raises:
        KalshiError: In the words it was seen to use.
    """
    if (asked := span.periods * tickers) > MAX_CANDLES:
        raise bad_request(f"requested candlesticks across all markets: {asked:.0f}, max candlesticks: {MAX_CANDLES}")


def cursor_to(route: str, offset: int) -> str:
    """An opaque cursor that only its own list understands."""
    return base64.urlsafe_b64encode(f"{route} {offset}".encode()).decode().rstrip("=")


def read_cursor(route: str, cursor: str) -> int:
    """Where a cursor points to; the start where there is none.

    Raises:
        KalshiError: It is no cursor of this list.
    """
    if not cursor:
        return 0
    try:
        said, offset = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(" ")
        if said == route:
            return int(offset)
    except (ValueError, binascii.Error):
        pass
    raise bad_request()


def shuffled(records: list[Record], turn: int) -> list[Record]:
    """The records in an order that differs from one request to the next."""
    return sorted(records, key=lambda record: zlib.crc32(f"{turn} {record['ticker']}".encode()))


class SandboxKalshi:
    """The venue's endpoints over one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._markets = SimulatedMarkets(world.seed)
        self._turn = 0

    def events(self, params: Mapping[str, str]) -> Record:
        """GET /events."""
        limit, status = whole(params, "limit", 200), params.get("status")
        if not 1 <= limit <= 200 or status not in {None, *STATUS_WORDS} - {"paused"}:
            raise bad_request()
        events = [markets for markets in self._by_event().values() if self._is_event_asked(markets, params)]
        page, cursor = self._page("/events", events, limit, params)
        nested = params.get("with_nested_markets") == "true"
        return {"events": [self._event(markets, nested) for markets in page], "cursor": cursor, "milestones": []}

    def event(self, params: Mapping[str, str], event: str) -> Record:
        """GET /events/{event}."""
        markets = self._by_event().get(event)
        if not markets:
            raise not_found()
        nested = params.get("with_nested_markets") == "true"
        records = self._records(self._in_tier(markets, archived=False), quoted=True)
        within = {"markets": records} if nested else {}
        return {"event": event_record(markets) | within, "markets": [] if nested else records}

    def series(self, params: Mapping[str, str]) -> Record:
        """GET /series."""
        every = {market.series: series_record(market) for market in self._listed()}
        asked = params.get("category")
        return {"series": [record for record in every.values() if asked in (None, "", record["category"])]}

    def one_series(self, params: Mapping[str, str], series: str) -> Record:
        """GET /series/{series}."""
        found = next((market for market in self._listed() if market.series == series), None)
        if not found:
            raise not_found()
        return {"series": series_record(found)}

    def markets(self, params: Mapping[str, str]) -> Record:
        """GET /markets."""
        expect_filters_agree(params)
        wanted = STATUS_WORDS.get(params.get("status", ""))
        now = self._now()
        found = [
            market
            for market in self._in_tier(self._listed(), archived=False)
            if params.get("status", "") == "" or market.status_at(now) == wanted
        ]
        return self._market_page("/markets", [market for market in found if self._is_in_time(market, params)], params)

    def archived_markets(self, params: Mapping[str, str]) -> Record:
        """GET /historical/markets."""
        if sum(name in params for name in ("tickers", "event_ticker", "series_ticker", "mve_filter")) > 1:
            raise bad_request()
        return self._market_page("/historical/markets", self._in_tier(self._listed(), archived=True), params)

    def market(self, params: Mapping[str, str], ticker: str, *, archived: bool = False) -> Record:
        """GET /markets/{ticker} and /historical/markets/{ticker}."""
        return {"market": self._records([self._find(ticker, archived)], quoted=True)[0]}

    def candles(self, params: Mapping[str, str], series: str, ticker: str) -> str:
        """GET /series/{series}/markets/{ticker}/candlesticks."""
        market, span = self._find(ticker, archived=False), read_span(params)
        if market.series != series:
            raise not_found()
        expect_a_life(span)
        return f'{{"ticker":"{ticker}","candlesticks":{self._candles(market, span)}}}'

    def archived_candles(self, params: Mapping[str, str], ticker: str) -> str:
        """GET /historical/markets/{ticker}/candlesticks."""
        market, span = self._find(ticker, archived=True), read_span(params)
        expect_a_life(span)
        return f'{{"ticker":"{ticker}","candlesticks":{self._candles(market, span, "historical")}}}'

    def batch(self, params: Mapping[str, str]) -> str:
        """GET /markets/candlesticks: what is not in the live tier is left out."""
        span, tickers = read_span(params), [each for each in params.get("market_tickers", "").split(",") if each]
        if not 1 <= len(tickers) <= MAX_TICKERS:
            raise bad_request()
        expect_a_batch(span, len(tickers))
        expect_a_life(span)
        live = {market.ticker: market for market in self._in_tier(self._known(tickers), archived=False)}
        entries = [f'{{"market_ticker":"{each}","candlesticks":{self._candles(live[each], span)}}}' for each in live]
        return f'{{"markets":[{",".join(entries)}]}}'

    def event_candles(self, params: Mapping[str, str], series: str, event: str) -> str:
        """GET /series/{series}/events/{event}/candlesticks: too long a window is cut short, as one field tells."""
        span, markets = read_span(params), self._in_tier(self._by_event().get(event, []), archived=False)
        if not markets or markets[0].series != series:
            raise not_found()
        most = (MAX_PERIODS // len(markets) - 1) * span.period
        cut = replace(span, last=min(span.last, span.first + most))
        lists = ",".join(self._candles(market, cut) for market in markets)
        tickers = json.dumps([market.ticker for market in markets])
        return f'{{"market_tickers":{tickers},"market_candlesticks":[{lists}],"adjusted_end_ts":{cut.last}}}'

    def cutoff(self, params: Mapping[str, str]) -> Record:
        """GET /historical/cutoff."""
        names = ("market_settled_ts", "trades_created_ts", "orders_updated_ts", "market_positions_last_updated_ts")
        return dict.fromkeys(names, zulu(self._cutoff()))

    def status(self, params: Mapping[str, str]) -> Record:
        """GET /exchange/status."""
        return {"exchange_active": True, "exchange_estimated_resume_time": None, "trading_active": True}

    def _now(self) -> datetime:
        return self._world.clock()

    def _cutoff(self) -> datetime:
        return self._now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=LIVE_DAYS)

    def _listed(self) -> list[SimulatedMarket]:
        return self._without_gone(self._markets.listed(VENUE, self._now()))

    def _known(self, tickers: Iterable[str]) -> list[SimulatedMarket]:
        found = [self._markets.find(VENUE, ticker) for ticker in dict.fromkeys(tickers)]
        now = self._now()
        return self._without_gone(
            [market for market in found if market and market.ticker in tickers and market.announced_at <= now]
        )

    def _without_gone(self, markets: list[SimulatedMarket]) -> list[SimulatedMarket]:
        return [market for market in markets if not self._world.faults.take_one("kalshi_gone", VENUE, market.ticker)]

    def _in_tier(self, markets: Iterable[SimulatedMarket], *, archived: bool) -> list[SimulatedMarket]:
        cutoff = self._cutoff()
        return [market for market in markets if (market.resolved_at < cutoff) is archived]

    def _find(self, ticker: str, archived: bool) -> SimulatedMarket:
        found = self._in_tier(self._known([ticker]), archived=archived)
        if not found:
            raise not_archived() if archived else not_found()
        return found[0]

    def _by_event(self) -> dict[str, list[SimulatedMarket]]:
        events: dict[str, list[SimulatedMarket]] = {}
        for market in self._listed():
            events.setdefault(market.event, []).append(market)
        return events

    def _is_event_asked(self, markets: Sequence[SimulatedMarket], params: Mapping[str, str]) -> bool:
        now, status = self._now(), STATUS_WORDS.get(params.get("status", ""))
        closes = max(market.ends_at(now) for market in markets).timestamp()
        return (
            (status is None or any(market.status_at(now) == status for market in markets))
            and params.get("series_ticker", markets[0].series) == markets[0].series
            and markets[0].event in params.get("tickers", markets[0].event).split(",")
            and closes >= whole(params, "min_close_ts", 0)
        )

    def _is_in_time(self, market: SimulatedMarket, params: Mapping[str, str]) -> bool:
        at = {
            "created": market.announced_at,
            "close": market.ends_at(self._now()),
            "settled": market.resolved_at,
            "updated": market.announced_at,
        }
        return all(
            whole(params, earliest, 0) <= at[family].timestamp() <= whole(params, latest, 2**62)
            for family, (earliest, latest) in TIME_FILTERS.items()
        )

    def _event(self, markets: Sequence[SimulatedMarket], nested: bool) -> Record:
        records = {"markets": self._records(self._in_tier(markets, archived=False))} if nested else {}
        return event_record(markets) | records

    def _market_page(self, route: str, markets: list[SimulatedMarket], params: Mapping[str, str]) -> Record:
        limit = whole(params, "limit", 100)
        if not 1 <= limit <= 1000:
            raise bad_request()
        asked = [market for market in markets if params.get("series_ticker", market.series) == market.series]
        records = self._with_combinations(asked, params.get("mve_filter", ""))
        tickers = params["tickers"].split(",") if "tickers" in params else None
        events = params["event_ticker"].split(",") if "event_ticker" in params else None
        chosen = [
            record
            for record in records
            if (tickers is None or record["ticker"] in tickers) and (events is None or record["event_ticker"] in events)
        ]
        page, cursor = self._page(route, chosen, limit, params)
        self._turn += 1
        return {"markets": shuffled(page, self._turn), "cursor": cursor}

    def _with_combinations(self, markets: list[SimulatedMarket], mve_filter: str) -> list[Record]:
        if mve_filter not in ("", "only", "exclude"):
            raise bad_request()
        now = self._now()
        generated = [combination(market, number, now) for market in markets for number in range(COMBINATIONS_A_MARKET)]
        if mve_filter == "exclude":
            return self._records(markets)
        return generated if mve_filter == "only" else generated + self._records(markets)

    def _records(self, markets: Iterable[SimulatedMarket], *, quoted: bool = False) -> list[Record]:
        # To draw the lives of a thousand markets takes a second: lists show empty books.
        now, faults = self._now(), self._world.faults
        records = []
        for market in markets:
            record = market_record(market, now, self._quote(market) if quoted else None)
            if fault := faults.take_one("kalshi_broken_market", VENUE, market.ticker):
                record |= BROKEN[fault.options.get("how", "status")]
            records.append(record)
        return records

    def _quote(self, market: SimulatedMarket) -> Quote | None:
        """The last price and the book of a market that can be traded now."""
        now = self._now()
        if market.status_at(now) != "open" or not market.volume:
            return None
        prices = self._markets.prices(market, now - timedelta(hours=2), now + timedelta(seconds=1))
        return (
            Quote(*(float(each[-1]) for each in (prices.probability, prices.bid, prices.ask))) if len(prices) else None
        )

    def _page(self, route: str, items: list[Any], limit: int, params: Mapping[str, str]) -> tuple[list[Any], str]:
        faults, cursor = self._world.faults, params.get("cursor", "")
        if cursor and faults.take_one("kalshi_cursor_expired", VENUE):
            raise bad_request()
        start = read_cursor(route, cursor)
        more = start + limit < len(items)
        end = 0 if more and faults.take_one("kalshi_cursor_loop", VENUE) else start + limit
        return items[start : start + limit], cursor_to(route, end) if more else ""

    def _candles(self, market: SimulatedMarket, span: CandleQuery, shape: str = "dollars") -> str:
        faults, reached = self._world.faults, int(self._now().timestamp())
        if shape == "dollars" and faults.take_one("kalshi_cents", VENUE, market.ticker):
            shape = "cents"
        written = candles(self._markets, market, span.first, min(span.last, reached), shape, span.period)
        if written and (fault := faults.take_one("kalshi_bad_candle", VENUE, market.ticker)):
            written[len(written) // 2] = spoiled(written[len(written) // 2], fault)
        return f"[{','.join(written)}]"


BROKEN: Mapping[str, Record] = {
    "status": {"status": "???"},
    "time": {"open_time": "soon"},
    "no_ticker": {"ticker": ""},
}


def spoiled(written: str, fault: Fault) -> str:
    """A candle with one wrong value."""
    candle, how = json.loads(written), fault.options.get("how", "outside")
    if how == "milliseconds":
        candle["end_period_ts"] *= 1000
    else:
        names = [name for name, value in candle["yes_bid"].items() if isinstance(value, str) and "close" in name]
        candle["yes_bid"][names[0]] = "1.2900" if how == "outside" else "NaN"
    return json.dumps(candle)


def expect_filters_agree(params: Mapping[str, str]) -> None:
    """Refuse filters of /markets that Kalshi does not take together.

    Raises:
        KalshiError: Several statuses, times of two families, or times of one that does not go with the status.
    """
    status = params.get("status") or None
    families = [family for family, names in TIME_FILTERS.items() if any(name in params for name in names)]
    alone = {"min_updated_ts", "mve_filter", "series_ticker", "limit", "cursor"}
    others = set(params) - alone or params.get("mve_filter", "exclude") != "exclude"
    if (
        status not in {None, *STATUS_WORDS}
        or len(families) > 1
        or any(status not in STATUSES_WITH[family] for family in families)
        or ("min_updated_ts" in params and others)
    ):
        raise bad_request()


def _endpoint(world: World, answer: Callable[..., Record | str]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        def respond() -> Response:
            try:
                body = answer(request.query_params, **request.path_params)
            except KalshiError as refused:
                return refused.response()
            return JSONResponse(body) if isinstance(body, dict) else Response(body, media_type="application/json")

        if world.faults.take_one("kalshi_down", VENUE):
            return broken(503)
        symbol = request.path_params.get("ticker") or request.query_params.get("market_tickers", "")
        return await answer_through_faults(request, world.faults, VENUE, symbol, REFUSALS, respond)

    return endpoint


def routes(world: World) -> list[Route]:
    """Kalshi's routes."""
    kalshi = SandboxKalshi(world)
    answers: dict[str, Callable[..., Record | str]] = {
        "/exchange/status": kalshi.status,
        "/events": kalshi.events,
        "/events/{event}": kalshi.event,
        "/series": kalshi.series,
        "/series/{series}": kalshi.one_series,
        "/series/{series}/markets/{ticker}/candlesticks": kalshi.candles,
        "/series/{series}/events/{event}/candlesticks": kalshi.event_candles,
        "/markets": kalshi.markets,
        "/markets/candlesticks": kalshi.batch,
        "/markets/{ticker}": kalshi.market,
        "/historical/cutoff": kalshi.cutoff,
        "/historical/markets": kalshi.archived_markets,
        "/historical/markets/{ticker}": partial(kalshi.market, archived=True),
        "/historical/markets/{ticker}/candlesticks": kalshi.archived_candles,
    }
    return [Route(PREFIX + path, _endpoint(world, answer)) for path, answer in answers.items()]
