"""Whether Yahoo and Wikipedia still send what is read of them: each asked once.

Here: one question to each, timed; which fields or columns are missing, of another type, or new.
Not here: reading (chart.py, universe.py), what is printed (cli/venues.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from copilot_quant_pipeline.answered import Answered
from copilot_quant_pipeline.equities.universe import fetch_page, parse_page
from copilot_quant_pipeline.equities.yahoo import YahooClient
from copilot_quant_pipeline.errors import Malformed, VendorError

# Every trading day has a bar of it.
SYMBOL = "AAPL"
META = {"symbol": str, "currency": str, "exchangeTimezoneName": str, "dataGranularity": str, "firstTradeDate": int}
QUOTE = ("open", "high", "low", "close", "volume")
CHART = {"meta", "timestamp", "indicators", "events"}
INDICATORS = {"quote", "adjclose"}
LOOK_BACK = timedelta(days=20)


def ask_yahoo(client: YahooClient) -> Answered:
    """The daily bars of one symbol over the last weeks."""
    return _asked("yahoo", "/v8/finance/chart/{symbol}", lambda: _chart(client.fetch_recent(SYMBOL, LOOK_BACK)))


def ask_wikipedia(url: str | None) -> Answered:
    """The page of the S&P 500."""
    return _asked("wikipedia", "/wiki/List_of_S%26P_500_companies", lambda: _page(url))


def _asked(venue: str, route: str, ask: Callable[[], Answered]) -> Answered:
    started = time.monotonic()
    try:
        found = ask()
    except VendorError as error:
        return Answered(venue, route, time.monotonic() - started, error=str(error))
    took = time.monotonic() - started
    return Answered(venue, route, took, found.records, None, found.missing, found.other_type, found.new)


def _chart(text: str) -> Answered:
    try:
        result = json.loads(text)["chart"]["result"][0]
        meta, indicators = dict(result.get("meta") or {}), dict(result.get("indicators") or {})
        parts: dict[str, Any] = {f"meta.{name}": meta.get(name) for name in META}
        parts |= {f"quote.{name}": dict((indicators.get("quote") or [{}])[0]).get(name) for name in QUOTE}
        parts["adjclose"] = dict((indicators.get("adjclose") or [{}])[0]).get("adjclose")
        parts["timestamp"] = result.get("timestamp")
        new = [*(result.keys() - CHART), *(f"indicators.{name}" for name in indicators.keys() - INDICATORS)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Malformed(f"{SYMBOL}: Yahoo's answer is no chart ({type(error).__name__}: {error})") from None
    missing = tuple(name for name, value in parts.items() if value is None)
    wrong = {name: why for name, value in parts.items() if value is not None and (why := _wrong(name, value))}
    stamps = parts["timestamp"]
    return Answered("", "", 0.0, len(stamps) if isinstance(stamps, list) else 0, None, missing, wrong, (*sorted(new),))


def _wrong(name: str, value: Any) -> str | None:
    """What is wrong with a field's type."""
    kind = META.get(name.removeprefix("meta."))
    if kind is not None:
        return None if type(value) is kind else f"expected {kind.__name__}, got {type(value).__name__}"
    if not isinstance(value, list):
        return f"expected a list, got {type(value).__name__}"
    odd = next((one for one in value if isinstance(one, bool) or not isinstance(one, int | float | None)), None)
    return None if odd is None else f"expected numbers, got {type(odd).__name__}"


def _page(url: str | None) -> Answered:
    listed, changes = parse_page(fetch_page(url, attempts=1))
    told: Mapping[str, bool] = {
        "security": any(one.name for one in listed.values()),
        "sector": any(one.sector for one in listed.values()),
        "date added": any(one.added for one in listed.values()),
        "changes": bool(changes),
    }
    return Answered("", "", 0.0, len(listed), missing=tuple(name for name, is_there in told.items() if not is_there))
