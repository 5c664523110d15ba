"""The HTTP session yfinance is given: it counts, paces, bounds, redirects to a stand-in, remembers Yahoo's answer.

Here: what happens between yfinance and the wire.
Not here: the bounds themselves (transport.py), retries (yahoo.py), what an answer means (chart.py). Import it late:
curl_cffi is heavy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.cookiejar import Cookie
from typing import Any
from urllib.parse import urlsplit

from curl_cffi.curl import CURL_WRITEFUNC_ERROR
from curl_cffi.requests import Response, Session

from copilot_quant_pipeline import transport
from copilot_quant_pipeline.errors import Malformed, TooSlow, Unavailable, VendorError
from copilot_quant_pipeline.vendor_clock import VendorClock

# With these Yahoo means the cookie or crumb, and yfinance's repeat with a fresh one is what helps.
_ASK_AGAIN = (401, 403)
_YAHOO = "https://query2.finance.yahoo.com"


class YahooSession(Session[Response]):
    """A browser-like session for yfinance, shared by all threads.

    `before_chart` is called before each chart request that is really sent, `clock` hears each answer; `url` stands in
    for Yahoo's hosts.
    """

    def __init__(self, url: str | None, before_chart: Callable[[], None], clock: VendorClock) -> None:
        super().__init__(impersonate="chrome")
        self._url = url.rstrip("/") if url else None
        self._before_chart = before_chart
        self._clock = clock
        self._of_thread = threading.local()
        if url:
            # yfinance asks fc.yahoo.com before every call until the jar holds Yahoo's own cookie, and a
            # stand-in cannot set one for that domain.
            self.cookies.jar.set_cookie(_yahoo_cookie())

    def forget_answer(self) -> None:
        """Start afresh: the next chart answer of this thread is the one to remember."""
        self._of_thread.answer = self._of_thread.refused = None
        self._of_thread.ends = time.monotonic() + transport.DEADLINE

    @property
    def answer(self) -> Response | None:
        """The last chart answer this thread got."""
        answer: Response | None = getattr(self._of_thread, "answer", None)
        return answer

    @property
    def refused(self) -> VendorError | None:
        """Why nothing was taken as an answer, where the reason is ours."""
        refused: VendorError | None = getattr(self._of_thread, "refused", None)
        return refused

    def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Response:
        """Send a request of yfinance."""
        try:
            return self._ask(method, url, *args, **kwargs)
        except VendorError as error:
            self._of_thread.refused = error
            raise

    def _ask(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Response:
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
        """Send it and follow where Yahoo sends it on to; what a page of consent says is no more trusted than that."""
        url, follows = self._onward(_YAHOO, url), kwargs.pop("allow_redirects", True)
        for _ in range(transport.REDIRECTS + 1):
            response = self._send_once(method, url, *args, **kwargs)
            told = response.headers.get("Location")
            if response.status_code not in transport.MOVED or not told or not follows:
                if _is_chart(response.url):
                    # Also when yfinance had to pass the consent page of some countries on the way.
                    self._of_thread.answer = response
                return response
            url, args = self._onward(url, told), ()
            kwargs.pop("params", None)
            if response.status_code not in transport.KEEPS_METHOD:
                method, kwargs["data"], kwargs["json"] = "GET", None, None
        raise Unavailable(f"Yahoo sends the request on more than {transport.REDIRECTS} times")

    def _onward(self, url: str, told: str) -> str:
        if self._url and "://" in told:
            with suppress(Malformed):
                return transport.redirected("Yahoo", self._url, self._url, told)
        return transport.redirected("Yahoo", _YAHOO, url, told)

    def _send_once(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Response:
        host = urlsplit(url).hostname or ""
        if self._url and (host == "yahoo.com" or host.endswith(".yahoo.com")):
            kwargs["headers"] = {**(kwargs.get("headers") or {}), "X-Orig-Host": host}
            url = self._url + urlsplit(url)._replace(scheme="", netloc="").geturl()
        body = _Body()
        kwargs |= {"allow_redirects": False, "content_callback": body.take}
        kwargs["timeout"] = self._seconds(kwargs.get("timeout"))
        try:
            response: Response = super().request(method, url, *args, **kwargs)
        except Exception:
            if body.is_too_long:
                raise transport.too_long("Yahoo") from None
            raise
        response.content = body.whole
        self._clock.hear(response.headers)
        return response

    def _seconds(self, asked: Any) -> float:
        """How long a request may take: all that yfinance asks for one chart has one deadline."""
        left = getattr(self._of_thread, "ends", time.monotonic() + transport.DEADLINE) - time.monotonic()
        if left <= 0:
            raise TooSlow(f"Yahoo is not through with its answer after {transport.DEADLINE:g} s")
        return min(asked if isinstance(asked, int | float) else transport.TIMEOUT, left)


class _Body:
    """The body of one answer as curl hands it over, unpacked."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._length = 0

    @property
    def whole(self) -> bytes:
        return b"".join(self._pieces)

    @property
    def is_too_long(self) -> bool:
        return self._length > transport.LARGEST_BODY

    def take(self, piece: bytes) -> int:
        self._length += len(piece)
        if self.is_too_long:
            return CURL_WRITEFUNC_ERROR
        self._pieces.append(piece)
        return len(piece)


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
