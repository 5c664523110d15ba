"""How a venue's client asks over HTTP: pacing, retries, errors told apart; the same for every venue.

Here: one `get`/`post` that returns parsed JSON or raises a VendorError.
Not here: any venue's paths and formats (its own module), Yahoo (which is reached through yfinance).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import requests
from pyrate_limiter import Duration, Limiter, Rate
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from copilot_quant_pipeline.errors import Malformed, NotFound, RateLimited, Rejected, Unavailable, VendorError
from copilot_quant_pipeline.prediction_markets.venue import Traffic

ATTEMPTS = 5
TIMEOUT = 20.0
# A venue that asks for a longer pause (Metaculus: up to an hour) is not waited for; the run says so instead.
PATIENCE = 60.0
USER_AGENT = "copilot-quant-pipeline/0.1"

Wait = Callable[[RetryCallState], float]


@dataclass(frozen=True)
class Pace:
    """At most `requests` in `seconds`."""

    requests: int
    seconds: float = 1.0


class HttpClient:
    """JSON over HTTP with one venue at `url`, paced and retried; thread-safe.

    Numbers with a point or an exponent come as Decimal, so that 0.29 stays 0.29.
    """

    def __init__(
        self, venue: str, url: str, pace: Pace, *, headers: Mapping[str, str] | None = None, wait: Wait | None = None
    ) -> None:
        self._venue = venue
        self._url = url.rstrip("/")
        self._headers = {"User-Agent": USER_AGENT, "Accept": "application/json", **(headers or {})}
        self._limiter = Limiter(Rate(pace.requests, int(pace.seconds * Duration.SECOND)))
        self._wait = wait or wait_exponential_jitter(multiplier=0.5, max=20, jitter=0.5)
        self._sessions = threading.local()
        self._lock = threading.Lock()
        self._traffic = Traffic()

    @property
    def traffic(self) -> Traffic:
        """Requests sent and retries so far."""
        with self._lock:
            return self._traffic

    def get(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The parsed answer to GET; parameters that are None are left out, lists repeat their key.

        Raises:
            VendorError: One of its kinds, after all retries where repeating can help.
        """
        return self._retrying(lambda: self._send("GET", path, params=_given(parameters)))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The parsed answer to POST of a JSON body.

        Raises:
            VendorError: As for `get`.
        """
        return self._retrying(lambda: self._send("POST", path, json=dict(body)))

    def _retrying(self, ask: Callable[[], Any]) -> Any:
        return Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=lambda state: max(self._wait(state), _asked_pause(state)),
            retry=retry_if_exception(_worth_repeating),
            before_sleep=lambda _: self._count(retries=1),
            reraise=True,
        )(ask)

    def _send(self, method: str, path: str, **how: Any) -> Any:
        self._limiter.try_acquire(self._venue)
        self._count(requests=1)
        try:
            answer = self._session().request(method, self._url + path, headers=self._headers, timeout=TIMEOUT, **how)
        except requests.RequestException as error:
            raise Unavailable(f"{self._venue} cannot be reached ({type(error).__name__})") from None
        if answer.status_code >= 400:
            raise self._error(answer, path)
        try:
            return json.loads(answer.text, parse_float=Decimal)
        except ValueError:
            raise Malformed(f"{self._venue} answers {path} with no JSON: {answer.text[:60]!r}") from None

    def _error(self, answer: requests.Response, path: str) -> VendorError:
        said = f"{self._venue} answers {answer.status_code} to {path}: {' '.join(answer.text.split())[:200]}"
        if answer.status_code == 429:
            return RateLimited(said, _seconds(answer.headers.get("Retry-After")))
        if answer.status_code >= 500:
            return Unavailable(said)
        return NotFound(said) if answer.status_code == 404 else Rejected(said)

    def _session(self) -> requests.Session:
        # requests does not promise that threads can share a session.
        if not hasattr(self._sessions, "one"):
            self._sessions.one = requests.Session()
        session: requests.Session = self._sessions.one
        return session

    def _count(self, requests: int = 0, retries: int = 0) -> None:
        with self._lock:
            self._traffic = Traffic(self._traffic.requests + requests, self._traffic.retries + retries)


def _given(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (parameters or {}).items() if value is not None}


def _worth_repeating(error: BaseException) -> bool:
    if isinstance(error, RateLimited) and (error.retry_after or 0.0) > PATIENCE:
        return False
    return isinstance(error, VendorError) and error.transient


def _asked_pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return (error.retry_after or 0.0) if isinstance(error, RateLimited) else 0.0


def _seconds(header: str | None) -> float | None:
    with suppress(TypeError, ValueError):
        return max(0.0, float(header or ""))
    return None
