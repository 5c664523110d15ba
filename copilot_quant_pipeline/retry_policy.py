"""How every venue is asked: how fast, how often again, for how long, and when it is given up for the rest of a run.

Here: what a policy is, and what carries it out for every venue alike: pacing, waiting, the circuit breaker.
Not here: the policy of a venue (`POLICY` in its own module), how a user overrides it (settings.py), what an answer
means (each room's client), whose a denial is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter
from tenacity.nap import sleep

from copilot_quant_pipeline.errors import Denied, RateLimited, TooSlow, Unavailable, VendorError

if TYPE_CHECKING:
    from pyrate_limiter import Limiter

T = TypeVar("T")

# Of requests that failed, each after all its retries: a backfill has thousands.
FAILURES_IN_A_ROW = 3

# Seconds before a retry, as tenacity's wait strategies give them.
Wait = Callable[[RetryCallState], float]


@dataclass(frozen=True)
class RequestRate:
    """At most `requests` in `seconds`."""

    requests: int
    seconds: float = 1.0

    @classmethod
    def parse(cls, text: str) -> RequestRate:
        """A rate as it is written: `8` a second, or `16/60`, so many in so many seconds.

        Raises:
            ValueError: It is none.
        """
        requests, slash, seconds = text.partition("/")
        rate = cls(int(requests), float(seconds if slash else 1))
        if rate.requests < 1 or not 0.001 <= rate.seconds <= 86_400:
            raise ValueError(text)
        return rate

    def limiter(self) -> Limiter:
        """What holds back whoever would ask faster, in all threads together."""
        from pyrate_limiter import Duration, Limiter, Rate

        return Limiter(Rate(self.requests, int(self.seconds * Duration.SECOND)))

    def __str__(self) -> str:
        return f"{self.requests}/{self.seconds}"


@dataclass(frozen=True)
class RetryPolicy:
    """How one venue is asked.

    Attributes:
        rate: the fastest it is asked; what stands in for it is asked as fast.
        attempts: how often a request is sent at most, its first time included,
        few_attempts: and how often where there is another way, or where its failure costs a deadline each time.
        first_wait: seconds before the first retry, twice as long before each next one,
        longest_wait: and at most. Where the venue asked for a pause, twice that and at least the pause.
        longest_pause: a venue that asks for a longer pause, in seconds, is asked again by a later run.
        failures_in_a_row: so many, each after all its retries, and the service is down, not what was asked for.
    """

    rate: RequestRate
    attempts: int = 5
    few_attempts: int = 2
    first_wait: float = 0.5
    longest_wait: float = 20.0
    longest_pause: float = 60.0
    failures_in_a_row: int = FAILURES_IN_A_ROW

    def retrying(
        self,
        *,
        attempts: int | None = None,
        wait: Wait | None = None,
        is_over: Callable[[], bool] = lambda: False,
        before_sleep: Callable[[RetryCallState], None] | None = None,
        sleep: Callable[[float], None] = sleep,
    ) -> Retrying:
        """Repeat what fails for as long as that can help; the last error is raised as it came.

        `is_over` says that nothing is to be repeated any more, whoever found that out.
        """
        most = min(attempts or self.attempts, self.attempts)
        return Retrying(
            stop=lambda state: state.attempt_number >= most or self._is_slow_again(state),
            wait=lambda state: max((wait or self.wait)(state), pause_of(error_of(state))),
            retry=retry_if_exception(lambda error: self.can_help(error) and not is_over()),
            before_sleep=before_sleep,
            sleep=sleep,
            reraise=True,
        )

    def wait(self, state: RetryCallState) -> float:
        """Seconds before the next attempt, growing; rates are counted over seconds, which all waits must outlast."""
        growing = wait_exponential_jitter(multiplier=self.first_wait, max=self.longest_wait, jitter=self.first_wait)
        return growing(state) * (2 if isinstance(error_of(state), RateLimited) else 1)

    def can_help(self, error: BaseException) -> bool:
        """Whether to ask again. Who is denied is told so again."""
        if pause_of(error) > self.longest_pause:
            return False
        return isinstance(error, VendorError) and error.transient and not isinstance(error, Denied)

    def _is_slow_again(self, state: RetryCallState) -> bool:
        """Whether nothing but time is to be lost: each of these tries has waited until the deadline."""
        return isinstance(error_of(state), TooSlow) and state.attempt_number >= self.few_attempts


def error_of(state: RetryCallState) -> BaseException | None:
    """What an attempt ended in."""
    return state.outcome.exception() if state.outcome else None


def pause_of(error: BaseException | None) -> float:
    """How long the venue asked to be left alone, in seconds."""
    return error.retry_after or 0.0 if isinstance(error, RateLimited | Unavailable) else 0.0


class CircuitBreaker:
    """Tells a service that is down from one thing that is broken in it, so that an outage costs few requests.

    Thread-safe. What has not answered yet, or failed last, is asked by one thread at a time; what has failed some times
    in a row is not asked again in this round.
    """

    def __init__(self, failures_in_a_row: int = FAILURES_IN_A_ROW) -> None:
        self._most = failures_in_a_row
        self._one_at_a_time = threading.RLock()
        self._is_trusted = False
        self._failures = 0
        self._last: VendorError | None = None

    def begin(self) -> None:
        """Begin a new round: what was given up is tried once more."""
        with self._one_at_a_time:
            self._failures = min(self._failures, self._most - 1)

    @property
    def ended_by(self) -> VendorError | None:
        """The last failure, once there have been too many."""
        return self._last if self._failures >= self._most else None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A thread's turn to ask, alone while the service is in doubt."""
        if self._is_trusted:
            yield
        else:
            with self._one_at_a_time:
                yield

    def ask(self, fetch: Callable[[], T], *, counts: bool = True) -> T | VendorError:
        """What `fetch` gives or the error it ends in; without asking the last one once the circuit is open.

        A refusal is an answer. With `counts` off a failure casts doubt only: what was asked may be asked otherwise;
        but for what is asked too often already there is no other way.
        """
        with self.turn():
            if ended := self.ended_by:
                return ended
            try:
                answer = fetch()
            except VendorError as error:
                is_told = error.transient or isinstance(error, Denied)
                self._note(error if is_told else None, counts or isinstance(error, RateLimited | Denied))
                return error
            self._note(None, counts)
            return answer

    def _note(self, error: VendorError | None, counts: bool) -> None:
        with self._one_at_a_time:
            self._is_trusted = error is None
            if isinstance(error, Denied) and not error.transient:
                # The next answer tells whose it is; until then nobody else asks.
                return
            if error is None:
                self._failures = 0
            elif counts:
                # A denial is the venue's by the one before it, which has not been counted.
                of_two = isinstance(error, Denied) and not self._failures
                self._failures, self._last = self._failures + 1 + of_two, error
