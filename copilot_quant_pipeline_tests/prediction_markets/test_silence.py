"""Claims about days on which a venue said nothing of any market: when that is a fact, and when a failure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from copilot_quant_pipeline.prediction_markets.silence import Heard, plan_silent

DAY = date(2024, 6, 20)
DAYS = [DAY - timedelta(days=n) for n in (3, 2, 1)]
MARKETS = ("kalshi:A", "kalshi:B", "kalshi:C")
MORNING = datetime(2024, 6, 21, 7, tzinfo=UTC)
LOOK = Heard(dict.fromkeys(DAYS, MARKETS), ended={}, found={}, told=None, now=MORNING)
AGAIN = replace(LOOK, found={DAY: MORNING}, now=MORNING + timedelta(days=1))


def _is_silent(heard: Heard) -> bool:
    return plan_silent([DAY], heard) == {DAY}


def test_a_day_on_which_none_of_three_busy_markets_has_a_point_is_not_believed() -> None:
    assert _is_silent(LOOK)
    assert not _is_silent(replace(LOOK, priced=dict.fromkeys(DAYS, MARKETS[:2])))
    assert not _is_silent(replace(LOOK, priced={**LOOK.priced, DAYS[1]: MARKETS[1:]}))
    assert not _is_silent(replace(LOOK, priced={**LOOK.priced, DAY: ["kalshi:B"]}))


def test_a_day_that_is_not_over_is_not_silent_yet() -> None:
    assert not _is_silent(replace(LOOK, now=datetime(2024, 6, 20, 23, 59, tzinfo=UTC)))


def test_markets_that_ended_before_the_day_do_not_count() -> None:
    assert not _is_silent(replace(LOOK, ended={"kalshi:A": DAYS[-1]}))
    assert _is_silent(replace(LOOK, ended={"kalshi:A": DAY}))


def test_a_look_a_day_later_that_hears_of_a_later_day_takes_it_as_true() -> None:
    assert _is_silent(AGAIN)
    assert _is_silent(replace(AGAIN, told=DAY))
    assert not _is_silent(replace(AGAIN, told=DAY + timedelta(days=1)))
    soon = AGAIN.now - timedelta(seconds=1)
    assert _is_silent(replace(AGAIN, told=DAY + timedelta(days=1), now=soon))
    assert _is_silent(replace(AGAIN, told=DAY + timedelta(days=1), found={}))


@pytest.mark.parametrize(("ended", "silent"), [(MARKETS, False), (MARKETS[1:], True)])
def test_a_look_a_day_later_that_finds_all_these_markets_ended_takes_it_as_true(
    ended: tuple[str, ...], silent: bool
) -> None:
    assert _is_silent(replace(AGAIN, ended=dict.fromkeys(ended, DAY))) == silent


def test_the_second_day_of_a_silence_is_not_believed_either() -> None:
    second = DAY + timedelta(days=1)
    later = replace(LOOK, now=LOOK.now + timedelta(days=1))
    assert plan_silent([DAY, second], later) == {DAY, second}
    assert plan_silent([second], replace(later, found={DAY: MORNING})) == {second}
    # The first was true: the markets are quiet.
    assert plan_silent([second], later) == frozenset()
