"""The common pause and the circuit breaker of a run."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from copilot_quant_pipeline.equities.brake import FAILURES_IN_A_ROW, Brake
from copilot_quant_pipeline.errors import Malformed, NotFound, RateLimited, Unavailable, VendorError

# Long enough that a test which really waits for it is noticed.
LONG = 600.0


def test_a_rate_limited_symbol_ends_the_run_with_its_reason() -> None:
    brake = Brake()
    brake.note_failure(RateLimited("AAPL: Yahoo asks for a pause (429)"), 0)
    with pytest.raises(RateLimited, match="not asked any more, after AAPL: Yahoo asks for a pause"):
        brake.wait_for_turn()


def test_one_symbol_that_is_refused_while_others_are_answered_does_not_end_the_run() -> None:
    brake = Brake()
    before = brake.answers
    brake.note_answer()
    brake.note_failure(RateLimited("AAPL: Yahoo asks for a pause (429)"), before)
    assert not brake.pulled


def test_only_unbroken_rows_of_unavailable_symbols_end_the_run() -> None:
    brake = Brake()
    for number in range(FAILURES_IN_A_ROW * 4):
        brake.note_failure(Unavailable("down") if number % FAILURES_IN_A_ROW else NotFound("gone"), 0)
        assert not brake.pulled
    brake.note_failure(Unavailable("down"), 0)
    with pytest.raises(Unavailable):
        brake.wait_for_turn()


def test_a_symbol_the_venue_does_not_know_never_ends_the_run() -> None:
    brake = Brake()
    for _ in range(20):
        brake.note_failure(NotFound("gone"), 0)
    assert not brake.pulled


def test_a_venue_that_answers_with_rubbish_only_ends_the_run_as_malformed() -> None:
    brake = Brake()
    for _ in range(FAILURES_IN_A_ROW):
        brake.note_failure(Malformed("html"), 0)
    with pytest.raises(Malformed, match="not asked any more"):
        brake.wait_for_turn()


def test_an_answer_releases_the_brake_and_keeps_a_stopped_run_stopped() -> None:
    brake = Brake()
    brake.note_failure(RateLimited("busy"), 0)
    brake.note_answer()
    brake.wait_for_turn()
    brake.stop()
    brake.note_answer()
    with pytest.raises(Unavailable, match="stopped"):
        brake.wait_for_turn()


def test_one_symbol_that_was_not_asked_before_is_tried_after_the_verdict() -> None:
    brake = Brake()
    brake.note_failure(RateLimited("busy"), 0)
    with pytest.raises(RateLimited):
        brake.wait_for_turn()
    brake.wait_for_turn(first_try=True)
    brake.note_failure(RateLimited("busy"), 0)
    with pytest.raises(RateLimited):
        brake.wait_for_turn(first_try=True)


def test_without_a_pause_nobody_waits() -> None:
    Brake().wait_for_turn()


@pytest.mark.parametrize("pull", [Brake.stop, lambda brake: brake.note_failure(RateLimited("busy"), 0)])
@pytest.mark.parametrize("wait", [lambda brake: brake.sleep(LONG), Brake.wait_for_turn])
def test_whoever_waits_is_let_go_when_the_brake_is_pulled(pull: object, wait: object) -> None:
    assert callable(pull)
    assert callable(wait)
    brake, waiting = Brake(), threading.Event()
    brake.pause(LONG)

    def run() -> None:
        waiting.set()
        with suppress(VendorError):
            wait(brake)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    waiting.wait()
    pull(brake)
    thread.join(LONG / 10)
    assert not thread.is_alive()
