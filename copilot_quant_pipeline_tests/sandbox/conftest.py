"""A running sandbox, a browser-like HTTP client and the real yfinance pointed at it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

import pytest

from copilot_quant_pipeline.sandbox import Sandbox

# A Friday after the close: the newest session is that day's.
NOW = datetime(2026, 3, 13, 21, 0, tzinfo=UTC)
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"


class Answer(NamedTuple):
    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def get(
    url: str,
    *,
    user_agent: str = BROWSER,
    method: str = "GET",
    body: Any = None,
    timeout: float = 10,
    **params: Any,
) -> Answer:
    full = f"{url}?{urlencode(params)}" if params else url
    sent = None if body is None else json.dumps(body).encode()
    headers = {"User-Agent": user_agent} | ({"Content-Type": "application/json"} if sent else {})
    request = Request(full, data=sent, method=method, headers=headers)  # noqa: S310
    try:
        with urlopen(request, timeout=timeout) as response:  # noqa: S310
            return Answer(response.status, response.read())
    except HTTPError as refused:
        with refused:
            return Answer(refused.code, refused.read())


def chart(sandbox: Sandbox, symbol: str, **params: Any) -> Answer:
    asked = {"interval": "1d", "events": "div,splits"} | (params or {"range": "max"})
    return get(f"{sandbox.url}/v8/finance/chart/{symbol}", **asked)


def result(answer: Answer) -> Any:
    assert answer.status == 200, answer
    (only,) = answer.json["chart"]["result"]
    return only


def seconds(iso: str) -> int:
    return int(datetime.fromisoformat(iso).replace(tzinfo=UTC).timestamp())


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(now=NOW) as running:
        yield running


class YahooClient:
    """yfinance's Ticker.history with Yahoo's hosts rewritten to a sandbox and errors not hidden."""

    def __init__(self, base_url: str) -> None:
        from curl_cffi import requests

        class Rewriting(requests.Session[Any]):
            def request(self, method: Any, url: str, **options: Any) -> Any:  # type: ignore[override]
                parts = urlsplit(url)
                headers = {**(options.pop("headers", None) or {}), "X-Orig-Host": parts.hostname or ""}
                target = parts._replace(scheme="http", netloc=urlsplit(base_url).netloc, path=parts.path or "/")
                return super().request(method, target.geturl(), headers=headers, **options)

        self._session = Rewriting(impersonate="chrome")

    def history(self, symbol: str, start: str = "2015-01-01", end: str = "2027-01-01") -> Any:
        import yfinance
        from yfinance.data import YfData

        YfData.cache_get.cache_clear()
        ticker = yfinance.Ticker(symbol, session=self._session)
        return ticker.history(start=start, end=end, auto_adjust=False, actions=True)


@pytest.fixture
def yahoo(sandbox: Sandbox, tmp_path: Path) -> Iterator[YahooClient]:
    import yfinance
    from yfinance import base, cache, data

    # What earlier tests left in this process: yfinance's caches stay with the folder they were first used in.
    yfinance.set_tz_cache_location(str(tmp_path))
    cache._TzCacheManager._tz_cache = cache._CookieCacheManager._Cookie_cache = None
    data.SingletonMeta._instances.pop(data.YfData, None)
    base._tz_info_fetch_ctr = 0
    hidden, yfinance.config.debug.hide_exceptions = yfinance.config.debug.hide_exceptions, False
    yield YahooClient(sandbox.url)
    yfinance.config.debug.hide_exceptions = hidden
