"""Yahoo Finance as a simulated venue: chart v8 with its cookie and crumb, in Yahoo's wire format.

Here: windows, the chart body with its meta block and events, Yahoo's errors, and the faults of Yahoo's data.
Not here: what was traded (market.py, recorded.py) and how it is adjusted (series.py).

Source of the formats: recorded responses. Only daily bars are served; other intervals are refused in Yahoo's
words.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from copilot_quant_pipeline.calendar import NEW_YORK
from copilot_quant_pipeline.sandbox.faults import DAYS, Kinds, Refusals, answer_through_faults
from copilot_quant_pipeline.sandbox.hours import (
    PRE_MARKET_OPEN,
    close_seconds,
    current_session,
    open_seconds,
    opens_of,
    trading_days,
    unix,
)
from copilot_quant_pipeline.sandbox.listings import FUNDS, trait
from copilot_quant_pipeline.sandbox.market import SimulatedEquities
from copilot_quant_pipeline.sandbox.recorded import read_recorded
from copilot_quant_pipeline.sandbox.series import (
    BAD_BARS,
    Series,
    corrected,
    last_trade,
    shown,
    stamped,
    unfinished,
    with_nulls,
    with_split,
    without_sessions,
)
from copilot_quant_pipeline.sandbox.venue import World

VENUE = "yahoo"
FAULTS: Kinds = {
    "lost_session": DAYS,
    "null_bar": DAYS,
    "bad_bar": {**DAYS, "how": tuple(BAD_BARS)},
    "correction": {**DAYS, "factor": None, "since": None, "until": None},
    "split_announced": {**DAYS, "ratio": None},
    "delisted": {},
    "down": {},
}

VALID_RANGES = ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"]
RANGE_MONTHS = {"1mo": 1, "3mo": 3, "6mo": 6, "1y": 12, "2y": 24, "5y": 60, "10y": 120}
RANGE_BARS = {"1d": 1, "5d": 5}
# How many days back Yahoo keeps each intraday interval.
INTRADAY_DAYS = {"1m": 30, "2m": 60, "5m": 60, "15m": 60, "30m": 60, "90m": 60, "60m": 730, "1h": 730}
SESSIONS_OF_A_YEAR = 252
COOKIE = "A3=d=simulated&S=simulated; Max-Age=31557600; Domain=.yahoo.com; Path=/; SameSite=None; Secure; HttpOnly"

Endpoint = Callable[[Request], Awaitable[Response]]


class SeriesBook(Protocol):
    """Where shown series come from."""

    def series(self, symbol: str, now: datetime) -> Series | None:
        """What is shown for `symbol` (`BRK-B`) at `now`; None where Yahoo does not know it."""


class SimulatedCharts:
    """Series of the simulated market."""

    def __init__(self, market: SimulatedEquities) -> None:
        self._market = market

    def series(self, symbol: str, now: datetime) -> Series | None:
        """What is shown for `symbol` at `now`; None before its first session and once it is forgotten."""
        listing = self._market.listings.get(symbol.replace("-", "."))
        today = now.astimezone(NEW_YORK).date()
        if listing is None or "." in symbol or (listing.forgotten and listing.forgotten <= today):
            return None
        opened = int(np.searchsorted(_all_opens(), now.timestamp(), side="right"))
        bars = self._market.truth(listing.symbol, trading_days()[max(opened - 1, 0)].item())
        if not len(bars) or not opened:
            return None
        first = int(np.searchsorted(trading_days(), bars.date[0]))
        opens = _all_opens()[first : first + len(bars)]
        session: date = bars.date[-1].item()
        if session != today:
            return shown(symbol, listing.name, bars, opens)
        return stamped(shown(symbol, listing.name, unfinished(bars, now), opens), last_trade(session, now))


class RecordedCharts:
    """Series of recorded frames, cut off at the present instant; only today's bar has another stamp."""

    def __init__(self, series: dict[str, Series]) -> None:
        self._series = series

    def series(self, symbol: str, now: datetime) -> Series | None:
        """The recorded series as long as it has a bar before `now`."""
        found = self._series.get(symbol)
        if found is None or found.at[0] > now.timestamp():
            return None
        past = without_sessions(found, found.date[found.at > now.timestamp()].tolist())
        session: date = past.date[-1].item()
        if session != now.astimezone(NEW_YORK).date():
            return past
        return stamped(past, last_trade(session, now))


@cache
def _all_opens() -> npt.NDArray[np.int64]:
    return opens_of(trading_days())


@dataclass(frozen=True)
class ChartQuery:
    """What a chart asks for: unix seconds from `start` to before `end`; `range` is "" unless named."""

    start: int
    end: int
    range: str


class ChartError(Exception):
    """An error Yahoo reports in the chart's own format."""

    def __init__(self, status: int, code: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.code = code

    def response(self) -> Response:
        """The error as Yahoo sends it."""
        error = {"code": self.code, "description": str(self)}
        return as_json({"chart": {"result": None, "error": error}}, self.status)


def as_json(body: Any, status: int = 200) -> Response:
    """A JSON body in Yahoo's manner: whole numbers without a fraction."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    content = content.replace(b".0,", b",").replace(b".0]", b"]").replace(b".0}", b"}")
    return Response(content, status, {"content-type": "application/json;charset=utf-8", "server": "ATS"})


def too_many_requests() -> Response:
    """Yahoo's edge refusing a client; no Retry-After was ever seen."""
    return PlainTextResponse("Edge: Too Many Requests", 429)


def broken(status: int) -> Response:
    """A server error in the chart's format."""
    return ChartError(status, "Internal Server Error", "Backend service is unavailable").response()


REFUSALS = Refusals(too_many=too_many_requests, broken=broken)


def unknown_symbol() -> ChartError:
    """Yahoo's answer for a symbol it does not know."""
    return ChartError(404, "Not Found", "No data found, symbol may be delisted")


def read_window(params: Any, series: Series, now: datetime) -> ChartQuery:
    """The window a request asks for.

    Raises:
        ChartError: The parameters do not parse, or the window ends before it starts.
    """
    if "period1" not in params:
        return named_window(params.get("range", "1d"), series, now)
    try:
        start, end = int(params["period1"]), int(params.get("period2", now.timestamp()))
    except ValueError:
        raise ChartError(400, "Bad Request", "Invalid input - period1 and period2 must be numbers") from None
    if start > end:
        reason = f"Invalid input - start date cannot be after end date. startDate = {start}, endDate = {end}"
        raise ChartError(400, "Bad Request", reason)
    return ChartQuery(start, end, "")


def named_window(name: str, series: Series, now: datetime) -> ChartQuery:
    """The window of one of Yahoo's ranges, up to `now`.

    Raises:
        ChartError: There is no such range.
    """
    end = int(now.timestamp()) + 1
    if name in RANGE_BARS:
        return ChartQuery(int(series.at[-RANGE_BARS[name] :][0]), end, name)
    if name in RANGE_MONTHS:
        return ChartQuery(_months_before(now, RANGE_MONTHS[name]), end, name)
    if name == "ytd":
        return ChartQuery(unix(date(now.astimezone(NEW_YORK).year, 1, 1), time()), end, name)
    if name == "max":
        return ChartQuery(series.first_trade, end, name)
    reason = f"Invalid input - range={name} is not supported. Valid ranges: {VALID_RANGES}"
    raise ChartError(400, "Bad Request", reason)


def _months_before(now: datetime, months: int) -> int:
    local = now.astimezone(NEW_YORK)
    year, month = divmod(local.year * 12 + local.month - 1 - months, 12)
    day = min(local.day, monthrange(year, month + 1)[1])
    return int(local.replace(year=year, month=month + 1, day=day).timestamp())


def expect_served(window: ChartQuery, interval: str, series: Series, now: datetime) -> None:
    """Refuse what Yahoo refuses: intraday bars long ago, unknown intervals, a window before the first bar.

    Raises:
        ChartError: With Yahoo's status and words.
    """
    kept = INTRADAY_DAYS.get(interval)
    if kept and window.start < (now - timedelta(days=kept)).timestamp():
        reason = f"{interval} data not available for startTime={window.start} and endTime={window.end}. "
        within = f"The requested range must be within the last {kept} days."
        raise ChartError(422, "Unprocessable Entity", reason + within)
    if interval != "1d":
        reason = f"Invalid input - interval={interval} is not supported. Valid intervals: [1d]"
        raise ChartError(400, "Bad Request", reason)
    if window.end <= series.first_trade:
        reason = f"Data doesn't exist for startDate = {window.start}, endDate = {window.end}"
        raise ChartError(400, "Bad Request", reason)


def chart_body(series: Series, bars: Series, window: ChartQuery, asked_events: str, now: datetime) -> dict[str, Any]:
    """The chart of `bars` inside `window`; meta and events come from `series`, which has no defects."""
    low, high = np.searchsorted(series.at, [window.start, window.end])
    result: dict[str, Any] = {"meta": _meta(series, window, int(low), now)}
    rows = np.flatnonzero((bars.at >= window.start) & (bars.at < window.end))
    if len(rows):
        result["timestamp"] = bars.at[rows]
    events = _events(series, window, asked_events) if high > low else {}
    if events:
        result["events"] = events
    result["indicators"] = _indicators(bars, rows) if len(rows) else {"quote": [{}]}
    return {"chart": {"result": [result], "error": None}}


def _indicators(bars: Series, rows: npt.NDArray[np.intp]) -> dict[str, Any]:
    quote = {name: getattr(bars, name)[rows] for name in ("open", "high", "low", "close", "volume")}
    return {"quote": [quote], "adjclose": [{"adjclose": bars.adjclose[rows]}]}


def _events(series: Series, window: ChartQuery, asked: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "div" in asked:
        paid = [{"amount": amount, "date": at} for at, amount in series.dividends.items() if _inside(at, window)]
        found["dividends"] = {str(event["date"]): event for event in paid}
    if "split" in asked:
        found["splits"] = {str(at): _split(at, ratio) for at, ratio in series.splits.items() if _inside(at, window)}
    return {name: events for name, events in found.items() if events}


def _inside(at: int, window: ChartQuery) -> bool:
    return window.start <= at < window.end


def _split(at: int, ratio: Fraction) -> dict[str, Any]:
    """A split event: `ratio` new shares per old share; spin-offs are fractions like 1061:1000."""
    new, old = ratio.numerator, ratio.denominator
    return {"date": at, "numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}


def _meta(series: Series, window: ChartQuery, first_row: int, now: datetime) -> dict[str, Any]:
    local = now.astimezone(NEW_YORK)
    zone = {"timezone": local.tzname(), "gmtoffset": int((local.utcoffset() or timedelta()).total_seconds())}
    nasdaq = trait(series.symbol, "exchange", 2) == 0
    fund = series.symbol in FUNDS
    return {
        "currency": "USD",
        "symbol": series.symbol,
        "exchangeName": "NMS" if nasdaq else "NYQ",
        "fullExchangeName": "NasdaqGS" if nasdaq else "NYSE",
        "instrumentType": "ETF" if fund else "EQUITY",
        "firstTradeDate": series.first_trade,
        "regularMarketTime": last_trade(series.date[-1].item(), now),
        "hasPrePostMarketData": True,
        "gmtoffset": zone["gmtoffset"],
        "timezone": zone["timezone"],
        "exchangeTimezoneName": "America/New_York",
        **_market_prices(series),
        "longName": series.name,
        "shortName": series.name,
        "chartPreviousClose": round(float(series.close[max(first_row - 1, 0)]), 3),
        "priceHint": 2,
        "currentTradingPeriod": _trading_period(current_session(now), zone),
        "dataGranularity": "1d",
        "range": window.range,
        "validRanges": VALID_RANGES,
    }


def _market_prices(series: Series) -> dict[str, float]:
    year = slice(-SESSIONS_OF_A_YEAR, None)
    prices = {
        "regularMarketPrice": series.close[-1],
        "fiftyTwoWeekHigh": series.high[year].max(),
        "fiftyTwoWeekLow": series.low[year].min(),
        "regularMarketDayHigh": series.high[-1],
        "regularMarketDayLow": series.low[-1],
    }
    return {name: round(float(price), 3) for name, price in prices.items()} | {
        "regularMarketVolume": int(series.volume[-1])
    }


def _trading_period(session: date, zone: dict[str, Any]) -> dict[str, Any]:
    """The periods of the newest session; after the close trading goes on for four hours."""
    bounds = [unix(session, PRE_MARKET_OPEN), open_seconds(session), close_seconds(session)]
    bounds.append(bounds[-1] + 4 * 3600)
    periods = zip(("pre", "regular", "post"), bounds[:-1], bounds[1:], strict=True)
    return {
        name: {"timezone": zone["timezone"], "start": start, "end": end, "gmtoffset": zone["gmtoffset"]}
        for name, start, end in periods
    }


class Yahoo:
    """The venue's endpoints over one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._book: SeriesBook = SimulatedCharts(world.market)
        if world.recorded:
            self._book = RecordedCharts(read_recorded(world.recorded))

    async def chart(self, request: Request) -> Response:
        """GET /v8/finance/chart/{symbol}."""
        symbol = request.path_params["symbol"].upper()

        def answer() -> Response:
            try:
                return as_json(self._chart(symbol, request.query_params))
            except ChartError as error:
                return error.response()

        return await answer_through_faults(request, self._world.faults, VENUE, symbol, REFUSALS, answer)

    def _chart(self, symbol: str, params: Any) -> dict[str, Any]:
        now = self._world.clock()
        series = self._series(symbol, now)
        window = read_window(params, series, now)
        expect_served(window, params.get("interval", "1d"), series, now)
        return chart_body(series, self._with_defects(series), window, params.get("events", ""), now)

    def _series(self, symbol: str, now: datetime) -> Series:
        """The series with corrections and announced splits in force."""
        faults = self._world.faults
        series = self._book.series(symbol, now)
        if series is None or faults.take_one("delisted", VENUE, symbol):
            raise unknown_symbol()
        for fault in faults.take("correction", VENUE, symbol):
            if fault.applies_at(now):
                series = corrected(series, fault.days(), fault.number("factor", 1.01))
        for fault in faults.take("split_announced", VENUE, symbol):
            for session in fault.days():
                if open_seconds(session) <= now.timestamp():
                    series = with_split(series, session, fault.ratio())
        return series

    def _with_defects(self, series: Series) -> Series:
        faults, symbol = self._world.faults, series.symbol
        for fault in faults.take("null_bar", VENUE, symbol):
            series = with_nulls(series, fault.days())
        for fault in faults.take("bad_bar", VENUE, symbol):
            series = BAD_BARS[fault.options.get("how", "negative")](series, fault.days())
        for fault in faults.take("lost_session", VENUE, symbol):
            series = without_sessions(series, fault.days())
        return series

    async def cookie(self, request: Request) -> Response:
        """GET / on fc.yahoo.com: the status is 404, the cookie is what counts."""
        host = request.headers.get("x-orig-host", request.headers.get("host", ""))
        response = PlainTextResponse("Not Found", 404)
        if host.startswith("fc.yahoo.com"):
            response.headers["set-cookie"] = COOKIE
        return response

    async def crumb(self, request: Request) -> Response:
        """GET /v1/test/getcrumb."""
        return PlainTextResponse("haT3simuHqZ")


def nothing_known(envelope: str) -> Endpoint:
    """What answers a client that asks for more than charts: nothing is known of any symbol."""

    async def unknown_quote(request: Request) -> Response:
        symbol = request.path_params.get("symbol", request.query_params.get("symbols", ""))
        error = {"code": "Not Found", "description": f"Quote not found for symbol: {symbol}"}
        return as_json({envelope: {"result": None, "error": error}}, 404)

    return unknown_quote


def looks_like_a_browser(user_agent: str) -> bool:
    """Whether Yahoo's edge lets a client pass."""
    return user_agent.startswith("Mozilla/5.0")


def _guarded(world: World, endpoint: Endpoint) -> Endpoint:
    async def guarded(request: Request) -> Response:
        if world.faults.take_one("down", VENUE):
            return ChartError(503, "Service Unavailable", "Service is unavailable").response()
        if not looks_like_a_browser(request.headers.get("user-agent", "")):
            return too_many_requests()
        return await endpoint(request)

    return guarded


def routes(world: World) -> list[Route]:
    """Yahoo's routes."""
    yahoo = Yahoo(world)
    endpoints = {
        "/": yahoo.cookie,
        "/v1/test/getcrumb": yahoo.crumb,
        "/v8/finance/chart/{symbol}": yahoo.chart,
        "/v10/finance/quoteSummary/{symbol}": nothing_known("quoteSummary"),
        "/v7/finance/quote": nothing_known("quoteResponse"),
        "/ws/fundamentals-timeseries/v1/finance/timeseries/{symbol}": nothing_known("timeseries"),
        "/v1/finance/search": nothing_known("finance"),
    }
    return [Route(path, _guarded(world, endpoint)) for path, endpoint in endpoints.items()]
