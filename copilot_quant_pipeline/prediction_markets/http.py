"""How a venue's client asks over HTTP: pacing, retries, errors told apart; the same for every venue.

Here: one `get`/`post` that returns parsed JSON or raises a VendorError; whose a denial is.
Not here: how fast and how often (retry_policy.py), any venue's paths and formats (its own module), Yahoo (which is
reached through yfinance).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from copilot_quant_pipeline.answers import read_json
from copilot_quant_pipeline.errors import (
    DENIALS,
    Denied,
    Malformed,
    NoSuchRoute,
    NotFound,
    RateLimited,
    Rejected,
    Unavailable,
    VendorError,
    retry_after,
)
from copilot_quant_pipeline.retry_policy import RetryPolicy, Wait
from copilot_quant_pipeline.transport import Answer, Line, Traffic
from copilot_quant_pipeline.vendor_clock import VendorClock

USER_AGENT = "copilot-quant-pipeline/0.1"


class HttpClient:
    """JSON over HTTP with one venue at `url`, paced and retried; thread-safe.

    Numbers with a point or an exponent come as Decimal, so that 0.29 stays 0.29.

    What is denied (401, 403, 407, 451) is so for its record, and the error is made the venue's once its next request
    for another record is denied too or fails. `witness` is a small request for nobody's record, where a run has no
    other. Requests may name the records that they are `about`. `heard` is what its answers say of the time.
    """

    def __init__(
        self,
        venue: str,
        url: str,
        policy: RetryPolicy,
        *,
        headers: Mapping[str, str] | None = None,
        wait: Wait | None = None,
        witness: tuple[str, Mapping[str, Any]] | None = None,
        heard: VendorClock | None = None,
    ) -> None:
        self._venue = venue
        self._url = url.rstrip("/")
        self._headers = {"User-Agent": USER_AGENT, "Accept": "application/json", **(headers or {})}
        self.policy = policy
        self._limiter = policy.rate.limiter()
        self._wait = wait
        self.heard = heard or VendorClock()
        self._lines = threading.local()
        self._lock = threading.Lock()
        self._traffic = Traffic()
        self._witness = witness
        # The denials since the last other answer, each with what it was given to; whether they are the venue's.
        self._denied: list[tuple[frozenset[str], Denied]] = []
        self._is_denying = False

    @property
    def traffic(self) -> Traffic:
        """Requests sent and retries so far."""
        with self._lock:
            return self._traffic

    def now(self) -> datetime:
        """The present instant, aware UTC; by the venue's clock where ours is ahead of it."""
        return self.heard.held_back(datetime.now(UTC))

    def get(
        self,
        path: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        attempts: int | None = None,
        about: Iterable[str] = (),
    ) -> Any:
        """The parsed answer to GET; parameters that are None are left out, lists repeat their key.

        Raises:
            VendorError: One of its kinds, after all retries where repeating can help.
        """
        names = frozenset(about)
        return self._retrying(lambda: self._send("GET", path, names, params=_given(parameters)), attempts)

    def post(
        self, path: str, body: Mapping[str, Any], *, attempts: int | None = None, about: Iterable[str] = ()
    ) -> Any:
        """The parsed answer to POST of a JSON body.

        Raises:
            VendorError: As for `get`.
        """
        names = frozenset(about)
        return self._retrying(lambda: self._send("POST", path, names, json=dict(body)), attempts)

    def _retrying(self, ask: Callable[[], Any], attempts: int | None) -> Any:
        return self.policy.retrying(attempts=attempts, wait=self._wait, before_sleep=lambda _: self._count(retries=1))(
            ask
        )

    def _send(self, method: str, path: str, about: frozenset[str], **how: Any) -> Any:
        about = about or frozenset([f"{method} {path} {how}"])
        try:
            answer = self._answer(method, path, how)
        except VendorError as error:
            if self._note_answer(about, error):
                self._hear_witness(about)
            raise
        self._note_answer(about, None)
        return answer

    def _answer(self, method: str, path: str, how: dict[str, Any]) -> Any:
        self._limiter.try_acquire(self._venue)
        self._count(requests=1)
        answer = self._line().ask(method, path, **how)
        if not 200 <= answer.status < 300:
            raise self._error(answer, path)
        try:
            # As bytes: JSON is UTF-8 whatever the header says of text.
            return read_json(answer.body)
        except ValueError:
            raise Malformed(f"{self._venue} answers {path} with no JSON: {_text(answer.body)[:60]!r}") from None

    def _note_answer(self, about: frozenset[str], error: VendorError | None) -> bool:
        """Judge the denials before this answer by it; gives whether this is the first, that nothing tells of yet."""
        with self._lock:
            if not isinstance(error, Denied) and not (error and error.transient):
                self._denied, self._is_denying = [], False
                return False
            is_other = any(about.isdisjoint(before) for before, _ in self._denied)
            if isinstance(error, Denied):
                self._denied.append((about, error))
            if is_other or self._is_denying:
                self._blame_venue()
            return isinstance(error, Denied) and len(self._denied) == 1 and not self._is_denying

    def _blame_venue(self) -> None:
        for _, denied in self._denied:
            denied.blame_vendor()
        # One is enough to tell the next by.
        self._denied, self._is_denying = self._denied[-1:], bool(self._denied)

    def _hear_witness(self, about: frozenset[str]) -> None:
        """Judge a denial by what the venue says to a request for nobody's record."""
        path, parameters = self._witness or ("", {})
        how = {"params": _given(parameters)}
        if not path or f"GET {path} {how}" in about:
            return
        try:
            self._answer("GET", path, how)
        except VendorError as error:
            if isinstance(error, Denied) or error.transient:
                with self._lock:
                    self._blame_venue()

    def _error(self, answer: Answer, path: str) -> VendorError:
        status = answer.status
        said = f"{self._venue} answers {status} to {path}: {' '.join(_text(answer.body).split())[:200]}"
        if status == 429:
            return RateLimited(said, retry_after(answer.headers))
        if status in DENIALS:
            return Denied(said, status)
        if status in (405, 501):
            return NoSuchRoute(said)
        if status >= 500 or status in (408, 425):
            return Unavailable(said, retry_after(answer.headers))
        return NotFound(said) if status == 404 else Rejected(said)

    def _line(self) -> Line:
        # requests does not promise that threads can share a session.
        if not hasattr(self._lines, "one"):
            self._lines.one = Line(self._venue, self._url, self._headers, self.heard)
        line: Line = self._lines.one
        return line

    def _count(self, requests: int = 0, retries: int = 0) -> None:
        with self._lock:
            self._traffic = self._traffic + Traffic(requests, retries)


def _given(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (parameters or {}).items() if value is not None}


def _text(body: bytes) -> str:
    return body.decode(errors="replace")
