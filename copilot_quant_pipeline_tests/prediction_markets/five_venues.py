"""All five venues on one loopback server, each with some markets, that fail where a claim says so.

They keep to the published formats and to nothing of our sandbox. A market of each is known by a number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from copilot_quant_pipeline.prediction_markets.kalshi import Kalshi
from copilot_quant_pipeline.prediction_markets.manifold import Manifold
from copilot_quant_pipeline.prediction_markets.metaculus import Metaculus
from copilot_quant_pipeline.prediction_markets.polymarket import Polymarket
from copilot_quant_pipeline.prediction_markets.predictit import PredictIt
from copilot_quant_pipeline.prediction_markets.venue import Venue
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline_tests.prediction_markets.loopback import Answer, Loopback, answer

NOW = datetime(2026, 3, 13, 21, tzinfo=UTC)
# When its prices end, some time after the present.
LAST = NOW + timedelta(hours=26)
OPENED = datetime(2026, 3, 1, tzinfo=UTC)
V2 = "/trade-api/v2"
FREELY = RetryPolicy(RequestRate(100_000))
HOUR = 3600
VENUES = ("polymarket", "kalshi", "manifold", "predictit", "metaculus")

# What is asked, by path and query: the numbers of the markets that it is about, all of them for a list.
Fault = Callable[[str, frozenset[int]], Answer | bool]


class FiveVenues(Loopback):
    """Markets `numbers` at each venue; `fault` may answer instead (False: it does not; None drops the connection)."""

    def __init__(self, numbers: Sequence[int] = range(1, 7)) -> None:
        super().__init__()
        self.numbers = list(numbers)
        self.fault: Fault = lambda path, about: False
        # Whose records cannot be read, and how many a listing shows before it goes in circles.
        self.spoiled: set[int] = set()
        self.breaks_off_after: int | None = None
        # How many records an answer shows at most, and what is otherwise in the records of some markets.
        self.most: int | None = None
        self.changes: dict[int, dict[str, Any]] = {}

    def client(self, venue: str) -> Venue:
        how: dict[str, Any] = {"wait": lambda _: 0.0}
        if venue == "polymarket":
            return Polymarket(self.url, self.url, self.url, clock=lambda: NOW, **how)
        if venue == "kalshi":
            return Kalshi(self.url, policy=FREELY, **how)
        if venue == "metaculus":
            return Metaculus(self.url, token="hush", policy=FREELY, **how)  # noqa: S106
        kind = {"manifold": Manifold, "predictit": PredictIt}[venue]
        return kind(self.url, clock=lambda: NOW, policy=FREELY, **how)

    def name(self, venue: str, number: int) -> str:
        """The venue's own id of a market."""
        return {"kalshi": f"KX-{number}", "manifold": f"m{number}"}.get(venue, str(number))

    def key(self, venue: str, number: int) -> str:
        """The key of a market on the axis."""
        slug = {"kalshi": "KX-{}", "manifold": "rain-m{}", "polymarket": "rain-{}"}.get(venue, "{}")
        return f"{venue}:{slug.format(number)}"

    def asked_of(self, path: str) -> int:
        return sum(path in one for _, one, _, _, _ in self.requests)

    def take(self, method: str, path: str, body: str, headers: dict[str, str]) -> Answer:
        self.routes.clear()
        self.answers = [answer(404, {"error": "not found"})]
        route = path.partition("?")[0]
        self.routes[route] = lambda query, sent: self._answer(unquote(route), query, sent)
        return super().take(method, path, body, headers)

    def _answer(self, path: str, query: dict[str, list[str]], sent: Any) -> Answer:
        about = frozenset(self._about(path, query, sent))
        told = self.fault(path, about)
        if not isinstance(told, bool):
            return told
        shown = [number for number in self.numbers if number in about]
        is_history = "history" in path or path.endswith(("/candlesticks", "/v0/bets"))
        found = self._found(path, query, sent, shown if is_history else shown[: self.most])
        if found is None:
            return answer(404, {"error": "not found"})
        return answer(200, self._broken_off(path, query, self._with_spoiled(found)))

    def _with_spoiled(self, found: Any) -> Any:
        """The answer, with nonsense in every record of a spoiled market."""
        if isinstance(found, list):
            return [self._with_spoiled(one) for one in found]
        if not isinstance(found, dict):
            return found
        name = str(found.get("ticker") or found.get("id") or "")
        number = "".join(filter(str.isdigit, name))
        if number in map(str, self.changes):
            inner = {"question": found["question"] | self.changes[int(number)]} if "nr_forecasters" in found else {}
            return found | (inner or self.changes[int(number)])
        if number in map(str, self.spoiled):
            return found | dict.fromkeys(("outcomes", "status", "createdTime", "question", "contracts"), 7)
        return {key: self._with_spoiled(value) for key, value in found.items()}

    def _broken_off(self, path: str, query: dict[str, list[str]], found: Any) -> Any:
        """A listing that shows its first records again and again, with a cursor that is another each time."""
        is_listing = path.endswith(("/keyset", "/events", "/posts/", "/v0/markets"))
        if self.breaks_off_after is None or not is_listing or query.keys() & {"id", "slug", "tickers"}:
            return found
        turn, few = len(self.requests), slice(self.breaks_off_after)
        if isinstance(found, list):
            records = [manifold(number) for number in self.numbers][few]
            return records[turn % len(records) :] + records[: turn % len(records)]
        if "results" in found:
            return {"results": found["results"][few], "next": f"http://elsewhere.example/api/posts/?offset={turn}"}
        cut = {name: value[few] for name, value in found.items() if isinstance(value, list)}
        return cut | {"cursor": f"c{turn}", "next_cursor": f"c{turn}"}

    def _about(self, path: str, query: dict[str, list[str]], sent: Any) -> list[int]:
        names = [*query.get("id", []), *query.get("slug", []), *query.get("contractId", [])]
        names += [
            one for key in ("tickers", "market_tickers") for one in ",".join(query.get(key, [])).split(",") if one
        ]
        tokens = [*query.get("market", []), *query.get("token_id", []), *((sent or {}).get("markets") or [])]
        names += [token[:-1] for token in tokens]
        names += [path.rstrip("/").split("/")[-1]] if self._is_single(path) else []
        names += (
            [path.split("/markets/")[1].split("/")[0]]
            if path.endswith("candlesticks") and "/markets/KX" in path
            else []
        )
        numbers = ["".join(filter(str.isdigit, name)) for name in names]
        return [int(number) for number in numbers if number] if names else self.numbers

    def _is_single(self, path: str) -> bool:
        last = path.rstrip("/").split("/")[-1]
        return any(map(str.isdigit, last)) and not path.endswith(("v2", "candlesticks"))

    def _found(self, path: str, query: dict[str, list[str]], sent: Any, numbers: list[int]) -> Any:
        alone = numbers[0] if self._is_single(path) and numbers else None
        if self._is_single(path) and alone is None:
            return None
        # Polymarket
        if path == "/markets/keyset":
            return {"markets": [] if query.get("closed") == ["true"] else [gamma(one) for one in numbers]}
        if path == "/events/keyset":
            return {"events": []}
        if path.startswith("/markets/") and alone:
            return gamma(alone)
        if path == "/batch-prices-history":
            history = hours(sent["start_ts"], sent["end_ts"])
            return {"history": {token: history for token in sent["markets"] if int(token[:-1]) in self.numbers}}
        if path == "/prices-history":
            return {"history": hours(int(query["startTs"][0]), int(query["endTs"][0]))}
        if path == "/v2/prices-history":
            return {"data": None}
        return self._elsewhere(path, query, numbers, alone)

    def _elsewhere(self, path: str, query: dict[str, list[str]], numbers: list[int], alone: int | None) -> Any:
        # Kalshi
        if path == f"{V2}/events":
            return {"events": [event(one) for one in numbers], "cursor": ""}
        if path.startswith(f"{V2}/events/") and alone:
            return {"event": {name: value for name, value in event(alone).items() if name != "markets"}}
        if path == f"{V2}/markets":
            return {"markets": [ticker(one) for one in numbers], "cursor": ""}
        if path == f"{V2}/historical/markets":
            return {"markets": [], "cursor": ""}
        if path.startswith(f"{V2}/markets/KX") and alone:
            return {"market": ticker(alone)}
        if path == f"{V2}/markets/candlesticks":
            return {"markets": [{"market_ticker": f"KX-{one}", "candlesticks": candles(query)} for one in numbers]}
        if path.endswith("/candlesticks") and "/series/" in path:
            return {"candlesticks": candles(query)}
        # Manifold
        if path == "/v0/markets":
            return [] if query.get("before") else [manifold(one) for one in reversed(numbers)]
        if path.startswith("/v0/market/") and alone:
            return manifold(alone)
        if path == "/v0/bets":
            return bets(numbers[0]) if numbers else []
        # PredictIt
        if path == "/api/marketdata/all/":
            return {"markets": [predictit(one) for one in numbers]}
        if path.startswith("/api/marketdata/markets/"):
            return predictit(alone) if alone else None
        # Metaculus
        if path == "/api/posts/":
            return {"results": [post(one) for one in numbers], "next": None}
        return post(alone) if path.startswith("/api/posts/") and alone else None


def hours(start: int, end: int) -> list[dict[str, Any]]:
    return [{"t": at + 7, "p": 0.29} for at in range(start // HOUR * HOUR, min(end, int(LAST.timestamp())), HOUR)]


def gamma(number: int) -> dict[str, Any]:
    return {
        "id": str(number),
        "slug": f"rain-{number}",
        "conditionId": hex(number),
        "question": "Rain?",
        "outcomes": '["Yes", "No"]',
        "clobTokenIds": json.dumps([f"{number}1", f"{number}2"]),
        "volumeNum": 7.5,
        "startDate": OPENED.isoformat(),
    }


def event(number: int) -> dict[str, Any]:
    told = {"event_ticker": f"KXE-{number}", "series_ticker": "KXS", "title": "Rain?", "category": "Weather"}
    return told | {"markets": [ticker(number)]}


def ticker(number: int) -> dict[str, Any]:
    named = {"ticker": f"KX-{number}", "event_ticker": f"KXE-{number}", "title": "Rain?"}
    return named | {"status": "active", "volume_fp": "7.50", "open_time": OPENED.isoformat()}


def candles(query: dict[str, list[str]]) -> list[dict[str, Any]]:
    first, last = int(query["start_ts"][0]), int(query["end_ts"][0])
    return [{"end_period_ts": at, "price": {"close_dollars": "0.2900"}} for at in range(first, last + 1, HOUR)]


def manifold(number: int) -> dict[str, Any]:
    named = {"id": f"m{number}", "slug": f"rain-m{number}", "question": "Rain?", "outcomeType": "BINARY"}
    return named | {"createdTime": int(OPENED.timestamp() * 1000), "isResolved": False, "volume": 100 - number}


def bets(number: int) -> list[dict[str, Any]]:
    at = [NOW - timedelta(hours=back) for back in range(1, 60)]
    return [
        {"id": f"{number}-{one}", "createdTime": int(one.timestamp() * 1000), "probBefore": 0.4, "probAfter": 0.5}
        for one in at
    ]


def predictit(number: int) -> dict[str, Any]:
    prices = {"lastTradePrice": 0.29, "bestBuyYesCost": 0.3, "bestSellYesCost": 0.28}
    contract = {"id": 1000 + number, "name": "Rain", "dateEnd": "NA", **prices}
    return {"id": number, "name": "Rain?", "status": "Open", "contracts": [contract]}


def post(number: int) -> dict[str, Any]:
    history = [{"start_time": (NOW - timedelta(hours=back)).timestamp(), "centers": [0.3]} for back in range(60, 0, -1)]
    question = {"type": "binary", "status": "open", "open_time": OPENED.isoformat()}
    return {
        "id": number,
        "title": "Rain?",
        "nr_forecasters": 3,
        "question": question | {"aggregations": {"recency_weighted": {"history": history}}},
    }
