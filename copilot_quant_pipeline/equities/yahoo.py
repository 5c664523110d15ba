"""Yahoo's client: one symbol's daily bars over yfinance's public `Ticker.history`, every trap of it met here.

Here: asking, with errors told apart.
Not here: how fast and how often (retry_policy.py), what an answer means (chart.py), which window to ask and what is
kept (fetch.py). No Dagster.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tenacity import RetryCallState

from copilot_quant_pipeline.equities.brake import Brake
from copilot_quant_pipeline.equities.chart import VendorBars, parse_chart, parse_error
from copilot_quant_pipeline.equities.symbols import to_yahoo
from copilot_quant_pipeline.equities.yahoo_state import yfinance_of
from copilot_quant_pipeline.errors import Denied, RateLimited, Unavailable, VendorError, retry_after
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy, Wait, error_of
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline.vendor_clock import VendorClock

if TYPE_CHECKING:
    from curl_cffi.requests import Response

    from copilot_quant_pipeline.equities.yahoo_session import YahooSession

POLICY = RetryPolicy(RequestRate(10), first_wait=1.0, longest_wait=30.0)
TIMEOUT = 15.0

# Numbers every call of the process, as yfinance's cache of answers is the process'.
_CALLS = count()


class YahooClient:
    """Fetches daily bars from Yahoo, or from what stands in for it at `url`.

    May be used by several threads. Clients of one process take turns: yfinance keeps one session for all.

    Args:
        cache: folder for yfinance's cookie and time-zone files.
        url: base URL that stands in for Yahoo's hosts; it is not paced.
        clock: gives the present instant, aware UTC; by default the machine's, held back by Yahoo's own.
        policy: how it is asked; the rate is Yahoo's alone.
        wait: seconds to wait before a retry, as tenacity's wait strategies do.
    """

    def __init__(
        self,
        cache: Path,
        *,
        url: str | None = None,
        clock: Callable[[], datetime] | None = None,
        policy: RetryPolicy = POLICY,
        wait: Wait | None = None,
    ) -> None:
        self._clock = clock or (lambda: datetime.now(UTC))
        self._is_pinned = clock is not None
        self.heard = VendorClock()
        self._policy = policy
        self._wait = wait
        self._url = url
        self._cache = cache / ("stand-in" if url else "yahoo")
        self._lock = threading.Lock()
        self._limiter = policy.rate.limiter() if url is None else None
        self._requests = 0
        self._retries = 0
        self._session: YahooSession | None = None

    @property
    def traffic(self) -> Traffic:
        """Chart requests sent and retries so far."""
        with self._lock:
            return Traffic(self._requests, self._retries)

    def held_back(self, instant: datetime) -> datetime:
        """An instant of our clock; where that runs ahead of Yahoo's own, what it would be by that one."""
        return instant if self._is_pinned else self.heard.held_back(instant)

    def fetch_bars(
        self, symbol: str, start: date, end: date, *, brake: Brake | None = None, names: Collection[str] = ()
    ) -> VendorBars:
        """The bars of a canonical `symbol` from `start` to `end`, both included; `end` is to be today.

        `names` are later symbols of the same company, under which Yahoo may answer.

        Raises:
            VendorError: One of its kinds, after all retries where repeating can help.
        """
        brake = brake or Brake()
        answers_before = brake.answers
        retrying = self._policy.retrying(
            wait=self._wait,
            is_over=lambda: brake.pulled,
            before_sleep=lambda state: self._before_retry(state, brake),
            sleep=brake.sleep,
        )
        try:
            for attempt in retrying:
                with attempt:
                    brake.wait_for_turn(first_try=attempt.retry_state.attempt_number == 1)
                    bars = self._ask(symbol, start, end, names)
        except VendorError as error:
            told = error
            if isinstance(error, Denied):
                told = brake.judge(symbol, error, lambda other: self._answer_for(other, start, end))
            brake.note_failure(told, answers_before)
            raise told from None
        brake.note_answer()
        return bars

    def fetch_recent(self, symbol: str, back: timedelta) -> str:
        """The text of Yahoo's chart of a canonical `symbol` over the time before now, asked for once.

        Raises:
            VendorError: It is none.
        """
        today = self._clock().date()
        answer = self._send(to_yahoo(symbol), today - back, today)
        if answer.status_code >= 400:
            raise parse_error(answer.status_code, answer.text, symbol=symbol)
        return answer.text

    def _answer_for(self, symbol: str, start: date, end: date) -> VendorError | None:
        """What Yahoo says of another symbol, asked for once; None where it answers with a chart."""
        try:
            self._ask(symbol, start, end)
        except VendorError as error:
            return error
        return None

    def _ask(self, symbol: str, start: date, end: date, names: Collection[str] = ()) -> VendorBars:
        fetched_at = self._clock()
        answer = self._send(to_yahoo(symbol), start, end)
        fetched_at = self.held_back(fetched_at)
        if answer.status_code >= 400:
            pause = retry_after(answer.headers)
            raise parse_error(answer.status_code, answer.text, symbol=symbol, retry_after=pause)
        return parse_chart(answer.text, symbol=symbol, start=start, end=end, fetched_at=fetched_at, names=names)

    def _send(self, ticker: str, start: date, end: date) -> Response:
        """Yahoo's answer to one `Ticker.history` call."""
        import yfinance

        session = self._opened()
        session.forget_answer()
        failure: Exception | None = None
        try:
            # Its default folder is one per user: simulated and live runs would share cookies.
            with yfinance_of(self, self._cache):
                yfinance.Ticker(ticker, session=session).history(
                    start=start,
                    end=end + timedelta(days=1),
                    auto_adjust=False,
                    actions=True,
                    keepna=True,
                    # Answers about the past are kept in an lru_cache of 64, bad ones too, and a repeat would
                    # not even be sent. The timeout is part of its key: a new one each call makes every call
                    # a real one, without clearing what other threads wait for.
                    timeout=TIMEOUT + next(_CALLS) * 1e-6,
                )
        except Exception as error:
            # yfinance raises what it likes, for a good answer too: the answer decides, if one came.
            failure = error
        if session.answer is None and session.refused is not None:
            raise session.refused
        if session.answer is None:
            raise Unavailable(f"{ticker}: Yahoo cannot be reached ({_one_line(failure)})")
        return session.answer

    def _opened(self) -> YahooSession:
        with self._lock:
            if self._session is None:
                from copilot_quant_pipeline.equities.yahoo_session import YahooSession

                self._session = YahooSession(self._url, self._count_and_pace, self.heard)
            return self._session

    def _count_and_pace(self) -> None:
        if self._limiter is not None:
            self._limiter.try_acquire("yahoo")
        with self._lock:
            self._requests += 1

    def _before_retry(self, state: RetryCallState, brake: Brake) -> None:
        with self._lock:
            self._retries += 1
        if isinstance(error_of(state), RateLimited) and state.next_action:
            brake.pause(state.next_action.sleep)


def _one_line(error: Exception | None) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
