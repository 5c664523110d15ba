"""What the threads of one run know together about how a venue is doing.

Here: the common pause when the venue asks for one, and giving up for the rest of a run.
Not here: how often one request is repeated (the venue's client).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from copilot_quant_pipeline.errors import Denied, RateLimited, Unavailable, VendorError, whose_denial
from copilot_quant_pipeline.retry_policy import FAILURES_IN_A_ROW

# Asked for where a run has no other symbol: a venue that denies these denies everything.
_WELL_KNOWN = ("SPY", "AAPL")


class Brake:
    """A pause for all threads, and a circuit breaker, for the length of one run.

    Once a symbol has ended rate limited after all its retries and no other was answered in the meantime, or
    three in a row have ended unavailable or malformed, what is left of the run fails at once with the same
    reason instead of waiting a minute each. But one symbol that was not asked before is still tried: the
    troubled ones may have taken all threads. Those not asked yet wait for what comes of it. The first success
    releases the brake.

    A denial (401, 403, 407, 451) is judged by what the venue answers for another of the run's `symbols`.
    """

    def __init__(self, symbols: Sequence[str] = ()) -> None:
        self._symbols = symbols
        self._denied: set[str] = set()
        self._judging = threading.Lock()
        self._changed = threading.Condition()
        self._resume_at = 0.0
        self._verdict: VendorError | None = None
        self._in_a_row = 0
        self._may_probe = False
        self._probing: int | None = None
        self._stopped = False
        self.answers = 0

    def pause(self, seconds: float) -> None:
        """Let no thread send anything for `seconds`."""
        with self._changed:
            self._resume_at = max(self._resume_at, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`, or until the brake is pulled."""
        with self._changed:
            self._changed.wait_for(lambda: self.pulled, timeout=seconds)

    def wait_for_turn(self, *, first_try: bool = False) -> None:
        """Wait until any pause is over; `first_try` says that this symbol was not asked before.

        Raises:
            VendorError: The brake is pulled; of the kind that pulled it.
        """
        while (left := self._resume_at - time.monotonic()) > 0 and not self.pulled:
            self.sleep(left)
        if self._stopped:
            raise Unavailable("not asked: the run was stopped")
        if first_try and self._is_probe():
            return
        if verdict := self._verdict:
            raise type(verdict)(f"not asked any more, after {verdict}")

    def _is_probe(self) -> bool:
        """Whether the caller's symbol is the one to try; if another's is being tried, wait for its end first."""
        with self._changed:
            self._changed.wait_for(lambda: self._probing is None or self._stopped)
            if not self._may_probe or self._stopped:
                return False
            self._may_probe, self._probing = False, threading.get_ident()
            return True

    @property
    def pulled(self) -> bool:
        """Whether what is left of the run is not to be asked."""
        return self._stopped or self._verdict is not None

    def stop(self) -> None:
        """End the run: whoever waits stops waiting."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def note_answer(self) -> None:
        """The venue answered."""
        with self._changed:
            self._in_a_row, self._verdict = 0, None
            self._may_probe, self._probing = False, None
            self.answers += 1
            self._changed.notify_all()

    def judge(self, symbol: str, denied: Denied, ask: Callable[[str], VendorError | None]) -> VendorError:
        """Whose the denial of `symbol` is; `ask` tells what the venue answers for another (None: a good answer).

        The venue's pulls the brake, and no other symbol is asked for on its account.
        """
        self._denied.add(symbol)
        with self._judging:
            if self._verdict:
                return type(self._verdict)(f"{denied}, as is whatever else is asked")
            told = whose_denial(denied, ask(self._other()))
            if told.transient:
                self._pull(told)
            return told

    def _other(self) -> str:
        """A symbol that was not denied so far, of the run where it has one."""
        return next((one for one in (*self._symbols, *_WELL_KNOWN) if one not in self._denied), _WELL_KNOWN[0])

    def _pull(self, error: VendorError) -> None:
        with self._changed:
            self._may_probe |= self._verdict is None
            self._verdict = self._verdict or error
            self._changed.notify_all()

    def note_failure(self, error: VendorError, answers_before: int) -> None:
        """A symbol has ended with `error` after all its retries; `answers_before` was `answers` when it began."""
        with self._changed:
            if self._probing == threading.get_ident():
                self._probing = None
                self._changed.notify_all()
            if not error.transient:
                # "I do not know it" is an answer.
                self._in_a_row, self._verdict = 0, None
            else:
                # A page of HTML for everything is an outage too.
                self._in_a_row += 1
            # While others are answered it is this symbol that is refused, not this machine.
            refused = isinstance(error, RateLimited) and self.answers == answers_before
            if refused or self._in_a_row >= FAILURES_IN_A_ROW:
                self._pull(error)
