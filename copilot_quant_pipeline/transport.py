"""One request to a vendor and its whole answer, within bounds of time, of size, and of whom it is asked of.

Here: how often a vendor was asked; the deadline for all of a request, the bound of a body, the hosts that a vendor may
send a request on to; asking over `requests`.
Not here: retries and what an answer means (each room's client), what its JSON may hold (answers.py), Yahoo's session,
which is curl's (equities/yahoo_session.py) and takes its bounds from here.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from copilot_quant_pipeline.errors import Malformed, TooSlow, Unavailable
from copilot_quant_pipeline.vendor_clock import VendorClock

# Of one request, in seconds: to connect, or between two pieces of an answer,
TIMEOUT = 20.0
# and from its beginning to the end of the body, redirects included: each byte may come in time, and the last one never.
DEADLINE = 45.0
# Bytes of a body, unpacked. The largest answers of the venues have three million.
LARGEST_BODY = 32_000_000
REDIRECTS = 5
# Whoever is reached at a host of one of these may send us on to another of its own.
DOMAINS = (
    *("yahoo.com", "wikipedia.org", "polymarket.com", "kalshi.com"),
    *("manifold.markets", "predictit.org", "metaculus.com"),
)

_CHUNK = 1 << 16
# As long as http.client lets a line of the headers be. The line before a chunk of a body it reads without any bound.
_LONGEST_LINE = 1 << 16
MOVED = (301, 302, 303, 307, 308)
KEEPS_METHOD = (307, 308)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Traffic:
    """How often a vendor was asked, and how many of these requests repeated a failed one."""

    requests: int = 0
    retries: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.requests + other.requests, self.retries + other.retries)

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(self.requests - earlier.requests, self.retries - earlier.retries)


@dataclass(frozen=True)
class Answer:
    """What came: its status, headers (any case) and whole body, unpacked."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def too_long(vendor: str) -> Malformed:
    """The error of a body beyond the bound."""
    return Malformed(f"{vendor} answers with more than {LARGEST_BODY / 1e6:g} MB")


def path_part(text: str) -> str:
    """What a vendor calls something, as one part of a path; of half a letter no vendor knows anything."""
    return quote(text, safe="", errors="replace")


def redirected(vendor: str, base: str, asked: str, told: str) -> str:
    """Where a request goes on, that was sent to `asked` and answered with the location `told`.

    A vendor reached at `base` may send it on within its own hosts, to plain HTTP only where it was plain before.

    Raises:
        Malformed: It may not go there.
    """
    try:
        there = urljoin(asked, told)
        host, secure = _place(there), urlsplit(there).scheme == "https"
    except ValueError:
        host, secure = None, False
    if host is None or not _is_own(base, there) or (urlsplit(asked).scheme == "https" and not secure):
        raise Malformed(f"{vendor} sends the request on to {_shown_place(told)}, which is not its own")
    return there


def _is_own(base: str, there: str) -> bool:
    ours, theirs = _place(base), _place(there)
    if ours is None or theirs is None:
        return False
    if ours == theirs:
        return True
    own = next((domain for domain in DOMAINS if _is_in(ours[0], domain)), None)
    is_usual = theirs[1] == _PORTS[urlsplit(there).scheme]
    # A stand-in's hosts are unknown but for the one that was given; over TLS that one has another port.
    return is_usual and (_is_in(theirs[0], own) if own else theirs[0] == ours[0] and ours[1] in _PORTS.values())


def _place(url: str) -> tuple[str, int] | None:
    """Host and port; None where it is no address to ask."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        return None
    return parts.hostname.rstrip("."), parts.port or _PORTS[parts.scheme]


def _is_in(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _shown_place(told: str) -> str:
    """The location without what may be secret in it, in short."""
    with suppress(ValueError):
        parts = urlsplit(told)
        return repr(f"{parts.scheme}://{parts.hostname}"[:80])
    return "what is no address"


class Line:
    """A line to the vendor at `url` for one thread: connections are kept, and every answer is whole or an error."""

    def __init__(self, vendor: str, url: str, headers: Mapping[str, str], clock: VendorClock | None = None) -> None:
        """`clock` hears every answer."""
        import requests

        self._vendor = vendor
        self._url = url.rstrip("/")
        self._headers = dict(headers)
        self._clock = clock or VendorClock()
        self._session = requests.Session()
        adapter = _adapter()
        for scheme in _PORTS:
            self._session.mount(f"{scheme}://", adapter)

    def ask(self, method: str, path: str, **how: Any) -> Answer:
        """The whole answer to a request for `path`, redirects followed; `how` is what `requests` takes.

        Raises:
            Unavailable: The vendor cannot be reached, or (`TooSlow`) is not through in time.
            Malformed: The answer is too long, or sends the request elsewhere.
        """
        import requests
        from urllib3.exceptions import HTTPError

        with _deadline() as until:
            try:
                answer = self._followed(until, method, self._url + path, how)
            except (requests.RequestException, HTTPError, HTTPException, OSError, ValueError) as error:
                if until.is_over:
                    raise self._too_slow() from None
                raise Unavailable(f"{self._vendor} cannot be reached ({type(error).__name__})") from None
            # What was cut off may look like the end of a body.
            if until.is_over:
                raise self._too_slow()
            return answer

    def _too_slow(self) -> TooSlow:
        return TooSlow(f"{self._vendor} is not through with its answer after {DEADLINE:g} s")

    def _followed(self, until: _Until, method: str, url: str, how: Mapping[str, Any]) -> Answer:
        headers, how = self._headers, dict(how)
        for _ in range(REDIRECTS + 1):
            with self._session.request(
                method, url, **how, headers=headers, timeout=TIMEOUT, stream=True, allow_redirects=False
            ) as answer:
                self._clock.hear(answer.headers)
                told = answer.headers.get("Location")
                if answer.status_code not in MOVED or not told:
                    return Answer(answer.status_code, answer.headers, self._whole(answer))
            # Headers that were cut off look like whole ones.
            if until.is_over:
                raise self._too_slow()
            there = redirected(self._vendor, self._url, url, told)
            # The address says all that the parameters said.
            how.pop("params", None)
            if answer.status_code not in KEEPS_METHOD:
                method = "GET"
                how.pop("json", None)
            if _place(there) != _place(url):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            url = there
        raise Unavailable(f"{self._vendor} sends the request on more than {REDIRECTS} times")

    def _whole(self, answer: Any) -> bytes:
        announced = str(answer.headers.get("Content-Length", ""))
        if announced.isdecimal() and (len(announced) > len(str(LARGEST_BODY)) or int(announced) > LARGEST_BODY):
            raise too_long(self._vendor)
        pieces, length = [], 0
        while piece := answer.raw.read1(_CHUNK, decode_content=True):
            pieces.append(piece)
            length += len(piece)
            if length > LARGEST_BODY:
                raise too_long(self._vendor)
        return b"".join(pieces)


class _Until:
    """When one request must be over; what is still connected then is cut off, over and over until it gives up."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + DEADLINE
        self._done = threading.Event()
        self._connections: list[Any] = []
        self._sockets: list[Any] = []

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._ends

    def watch(self, connection: Any) -> None:
        """Take note of a connection and its socket, which it lets go while the body is still read."""
        if connection not in self._connections:
            self._connections.append(connection)
        if connection.sock is not None and connection.sock not in self._sockets:
            self._sockets.append(connection.sock)

    def run(self) -> None:
        while not self._done.wait(max(self._ends - time.monotonic(), 0.2)):
            for sock in [*self._sockets, *(connection.sock for connection in list(self._connections))]:
                _cut_off(sock)

    def end(self) -> None:
        self._done.set()


_of_thread = threading.local()


@contextmanager
def _deadline() -> Iterator[_Until]:
    until = _Until()
    _of_thread.until = until
    threading.Thread(target=until.run, name="deadline", daemon=True).start()
    try:
        yield until
    finally:
        until.end()
        _of_thread.until = None


def _cut_off(sock: Any) -> None:
    with suppress(OSError, TypeError):
        # Of TLS, too, the plain socket: whoever reads it in another thread then meets its end, and no broken object.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Lines(io.BufferedReader):
    """What comes over a connection, in lines of bounded length."""

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(_LONGEST_LINE + 1 if size is None or size < 0 else size)


class _Response(HTTPResponse):
    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.fp = _Lines(self.fp.detach())


class _Watched:
    """A connection of urllib3 that the deadline of its thread's request knows of."""

    response_class = _Response

    def connect(self) -> None:
        _note(self)
        super().connect()  # type: ignore[misc]
        _note(self)

    def request(self, *given: Any, **named: Any) -> Any:
        _note(self)
        return super().request(*given, **named)  # type: ignore[misc]


def _note(connection: Any) -> None:
    until: _Until | None = getattr(_of_thread, "until", None)
    if until is not None:
        until.watch(connection)


@cache
def _pool_of_watched(pool: Any) -> Any:
    connection = type("Connection", (_Watched, pool.ConnectionCls), {})
    return type("Pool", (pool,), {"ConnectionCls": connection})


def _adapter() -> Any:
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *given: Any, **named: Any) -> None:
            super().init_poolmanager(*given, **named)
            _watch(self.poolmanager)

        def proxy_manager_for(self, *given: Any, **named: Any) -> Any:
            manager = super().proxy_manager_for(*given, **named)
            _watch(manager)
            return manager

    return Adapter()


def _watch(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _once_watched(pool) for scheme, pool in pools.items()}


def _once_watched(pool: Any) -> Any:
    return pool if issubclass(pool.ConnectionCls, _Watched) else _pool_of_watched(pool)
