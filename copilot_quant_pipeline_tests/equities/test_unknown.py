"""Claims about symbols Yahoo does not know: when that is an outage, and when one of them is delisted."""

from __future__ import annotations

from datetime import UTC, date, datetime

from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.equities.unknown import Standing, plan_delisted, plan_outage, with_look

DAYS = sessions_in_range(date(2024, 6, 3), date(2024, 7, 31))
LAST = DAYS[9]
NOW = datetime(2024, 7, 1, tzinfo=UTC)


def _home(known: int, *unknown: Standing) -> dict[str, Standing]:
    return {f"K{n}": Standing(LAST) for n in range(known)} | {f"U{n}": one for n, one in enumerate(unknown)}


def _looked(*sessions: int) -> Standing:
    return Standing(LAST, tuple(DAYS[n] for n in sessions))


def test_one_alone_is_delisted_after_looks_of_three_sessions() -> None:
    assert plan_delisted(_home(4, _looked(10, 11)), ["U0"]) == []
    assert plan_delisted(_home(4, _looked(10, 11, 12)), ["U0"]) == ["U0"]
    # The same session once more is no other.
    assert plan_delisted(_home(4, with_look(_looked(10, 11), DAYS[11])), ["U0"]) == []


def test_more_than_three_and_more_than_two_in_a_hundred_are_an_outage() -> None:
    four = [_looked(10, 11, 12)] * 4
    assert plan_outage(_home(195, *four)) == {"U0", "U1", "U2", "U3"}
    assert plan_outage(_home(196, *four)) == frozenset()  # exactly 2 %
    assert plan_outage(_home(20, *four[:3])) == frozenset()
    assert plan_delisted(_home(195, *four), ["U0", "U1"]) == []


def test_all_of_two_are_an_outage_and_one_that_is_the_only_one_is_not() -> None:
    assert plan_outage(_home(0, _looked(10), _looked(12))) == {"U0", "U1"}
    assert plan_outage(_home(0, _looked(10))) == frozenset()


def test_those_that_turned_unknown_more_than_three_sessions_apart_have_nothing_to_do_with_each_other() -> None:
    assert plan_outage(_home(0, _looked(10), _looked(13))) == {"U0", "U1"}
    assert plan_outage(_home(0, _looked(10), _looked(14))) == frozenset()


def test_one_after_the_other_is_no_outage_however_small_the_home() -> None:
    home = _home(6, *[Standing(LAST)] * 5)
    gone = []
    for n in range(10, 20):
        look = [f"U{k}" for k in range(5) if n >= 10 + k and f"U{k}" not in gone]
        home |= {key: with_look(home[key], DAYS[n]) for key in look}
        for key in plan_delisted(home, look):
            home[key] = Standing(LAST, home[key].looks, NOW)
            gone.append(key)
    assert gone == ["U0", "U1", "U2", "U3", "U4"]


def test_what_was_delisted_by_fewer_looks_is_an_outage_if_it_went_with_all_others() -> None:
    of_old = Standing(LAST, (), NOW)
    assert plan_outage({"A": of_old, "B": of_old, "C": of_old}) == {"A", "B", "C"}
    assert plan_outage({"A": of_old, "B": Standing(DAYS[2], (), NOW), "C": Standing(LAST)}) == frozenset()
    assert plan_delisted({"A": with_look(of_old, DAYS[12]), "B": Standing(LAST)}, ["A"]) == ["A"]


@given(st.lists(st.lists(st.integers(0, 12), max_size=4), min_size=2, max_size=30))
def test_nothing_is_both_delisted_and_out_of_reach(looks: list[list[int]]) -> None:
    home = {f"S{n}": Standing(LAST, tuple(DAYS[k] for k in sorted(set(one)))) for n, one in enumerate(looks)}
    unknown = [key for key, one in home.items() if one.looks]
    outage = plan_outage(home)
    assert outage <= set(unknown)
    assert outage.isdisjoint(plan_delisted(home, unknown))
    if len(unknown) == len(home) and max(map(max, looks)) <= 3:
        assert outage == set(home)
