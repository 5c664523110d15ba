"""The HTTP session yfinance is given: it counts, paces, redirects to a stand-in, remembers Yahoo's answer.

Here: what happens between yfinance and the wire.
Not here: retries (yahoo.py), what an answer means (chart.py). Import it late: curl_cffi is heavy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.cookiejar import Cookie
from typing import Any
from urllib.parse import urlsplit

from curl_cffi.requests import Response, Session

# With these Yahoo means the cookie or crumb, and yfinance's repeat with a fresh one is what helps.
_ASK_AGAIN = (401, 403)


class YahooSession(Session[Response]):
    """A browser-like session for yfinance, shared by all threads.

    `before_chart` is called before each chart request that is really sent; `url` stands in for Yahoo's hosts.
    """

    def __init__(self, url: str | None, before_chart: Callable[[], None]) -> None:
        super().__init__(impersonate="chrome")
        self._url = url.rstrip("/") if url else None
        self._before_chart = before_chart
        self._of_thread = threading.local()
        if url:
            # yfinance asks fc.yahoo.com before every call until the jar holds Yahoo's own cookie, and a
            # stand-in cannot set one for that domain.
            self.cookies.jar.set_cookie(_yahoo_cookie())

    def forget_answer(self) -> None:
        """Start afresh: the next chart answer of this thread is the one to remember."""
        self._of_thread.answer = None

    @property
    def answer(self) -> Response | None:
        """The last chart answer this thread got."""
        answer: Response | None = getattr(self._of_thread, "answer", None)
        return answer

    def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Response:
        """Send a request of yfinance."""
        if not _is_chart(url):
            return self._send(method, url, *args, **kwargs)
        # yfinance repeats any refused request at once; an answer that is final is given to it again instead.
        if (refused := self.answer) is not None and refused.status_code not in _ASK_AGAIN:
            return refused
        self._before_chart()
        response = self._send(method, url, *args, **kwargs)
        self._of_thread.answer = response
        return response

    def _send(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Response:
        host = urlsplit(url).hostname or ""
        if self._url and (host == "yahoo.com" or host.endswith(".yahoo.com")):
            kwargs["headers"] = {**(kwargs.get("headers") or {}), "X-Orig-Host": host}
            url = self._url + urlsplit(url)._replace(scheme="", netloc="").geturl()
        response: Response = super().request(method, url, *args, **kwargs)
        if _is_chart(response.url):
            # Also when yfinance had to pass the consent page of some countries on the way.
            self._of_thread.answer = response
        return response


def _is_chart(url: str) -> bool:
    return urlsplit(url).path.startswith("/v8/finance/chart/")


def _yahoo_cookie() -> Cookie:
    return Cookie(
        version=0,
        name="A3",
        value="stand-in",
        port=None,
        port_specified=False,
        domain=".yahoo.com",
        domain_specified=True,
        domain_initial_dot=True,
        path="/",
        path_specified=True,
        secure=False,
        expires=1_999_999_999,
        discard=False,
        comment=None,
        comment_url=None,
        rest={},
    )
