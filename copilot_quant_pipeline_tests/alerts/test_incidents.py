"""Claims about what is news: told once, folded for six hours, its end told once, whatever comes and goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.alerts.incidents import FOLD, Incident, Message, Trouble, plan_messages
from copilot_quant_pipeline_tests.conftest import NOW

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TROUBLE = Trouble("run/a", "runs", "a", "is broken", NOW, NOW, ("because",), "nothing", "/assets/a")
BEGINNINGS, ENDS = {"opened", "again"}, {"recovered", "ended"}


def _told(looks: Sequence[tuple[timedelta, Sequence[Trouble]]], unseen: Sequence[str] = ()) -> list[Message]:
    """What is told over `looks`, each so long after the one before."""
    incidents: dict[str, Incident] = {}
    told: list[Message] = []
    now = NOW
    for after, troubles in looks:
        now += after
        messages, incidents = plan_messages(incidents, troubles, unseen, now)
        told += messages
    return told


def _kinds(messages: Sequence[Message]) -> list[str]:
    return [message.kind for message in messages]


def test_a_trouble_is_told_once_and_its_end_once() -> None:
    told = _told([(MINUTE, [TROUBLE])] * 5 + [(MINUTE, [])] * 5)
    assert _kinds(told) == ["opened", "recovered"]
    assert (told[1].since, told[1].until) == (NOW, NOW + 6 * MINUTE)


def test_new_evidence_is_folded_for_six_hours() -> None:
    looks = [(HOUR, [replace(TROUBLE, last=NOW + n * HOUR)]) for n in range(14)]
    told = _told(looks)
    assert _kinds(told) == ["opened", "repeated", "repeated"]
    assert [message.at - NOW for message in told] == [HOUR, HOUR + FOLD, HOUR + 2 * FOLD]


def test_without_new_evidence_nothing_is_repeated() -> None:
    assert _kinds(_told([(FOLD, [TROUBLE])] * 5)) == ["opened"]


def test_a_warning_that_becomes_a_failure_is_told_at_once_and_once() -> None:
    warning = replace(TROUBLE, failure=False)
    assert _kinds(_told([(MINUTE, [warning]), (MINUTE, [TROUBLE]), (MINUTE, [warning]), (MINUTE, [TROUBLE])])) == [
        "opened",
        "worse",
    ]


def test_what_comes_and_goes_is_told_as_back_once_and_its_end_only_after_six_quiet_hours() -> None:
    flapping = [(10 * MINUTE, [TROUBLE]), (10 * MINUTE, [])] * 30
    told = _told([*flapping, *[(HOUR, [])] * 8])
    assert _kinds(told) == ["opened", "recovered", "again", "recovered"]
    assert told[-1].times == 30


def test_what_is_back_after_six_quiet_hours_is_a_new_incident() -> None:
    looks = [(MINUTE, [TROUBLE]), (MINUTE, []), (FOLD, []), (MINUTE, [TROUBLE])]
    assert [(message.kind, message.times) for message in _told(looks)][-1] == ("opened", 1)


def test_an_incident_whose_source_cannot_be_asked_stays_as_it_is() -> None:
    _, incidents = plan_messages({}, [TROUBLE], (), NOW)
    messages, after = plan_messages(incidents, [], {"runs"}, NOW + FOLD)
    assert (messages, after) == ([], incidents)


def test_an_end_says_what_took_its_place_and_what_is_still_wrong() -> None:
    heir = replace(TROUBLE, key="run/a/given_up", what="has cells given up", follows=("run/a",))
    told = _told([(MINUTE, [TROUBLE]), (MINUTE, [heir])])
    assert [(message.kind, message.trouble.key) for message in told][1:] == [
        ("opened", "run/a/given_up"),
        ("ended", "run/a"),
    ]
    assert told[2].still == ("a has cells given up",)


def test_a_beginning_in_the_future_of_a_pinned_clock_is_now() -> None:
    (message,) = _told([(MINUTE, [replace(TROUBLE, since=NOW + 999 * HOUR)])])
    assert message.since == NOW + MINUTE


KEYS = st.sampled_from(["a", "b"])
LOOKS = st.lists(
    st.tuples(
        st.integers(1, 300).map(lambda minutes: timedelta(minutes=minutes)),
        st.dictionaries(KEYS, st.tuples(st.booleans(), st.booleans()), max_size=2),
        st.booleans(),
    ),
    max_size=60,
)


@given(LOOKS)
def test_whatever_happens_each_incident_is_told_in_order_and_sparingly(
    looks: list[tuple[timedelta, dict[str, tuple[bool, bool]], bool]],
) -> None:
    incidents: dict[str, Incident] = {}
    told: dict[str, list[Message]] = {"a": [], "b": []}
    now = last = NOW
    for after, present, blind in looks:
        now += after
        troubles = []
        for key, (is_new, failure) in present.items():
            last = now if is_new else last
            troubles.append(replace(TROUBLE, key=key, since=min(last, now), last=last, failure=failure))
        before = incidents
        messages, incidents = plan_messages(before, [] if blind else troubles, {"runs"} if blind else (), now)
        assert not (blind and messages)
        assert len({message.trouble.key for message in messages}) == len(messages)
        for message in messages:
            told[message.trouble.key].append(message)
        # Looking again at the same instant is no news.
        assert plan_messages(incidents, [] if blind else troubles, {"runs"} if blind else (), now)[0] == []
        if not blind:
            # Whoever was told last that all is well is not left so while something is wrong.
            is_open = {key for key, incident in incidents.items() if incident.is_open}
            assert set(present) <= is_open
            assert all(told[key][-1].kind not in ENDS for key in present)
    for messages in told.values():
        _expect_in_order(messages)


def _expect_in_order(messages: list[Message]) -> None:
    is_open = False
    for n, message in enumerate(messages):
        assert (message.kind in BEGINNINGS) != is_open
        is_open = message.kind not in ENDS
        if message.kind in ("repeated", "worse"):
            before = messages[n - 1]
            assert message.kind == "worse" or message.at - before.at >= FOLD
            assert message.kind == "repeated" or not before.trouble.failure
        if message.until:
            assert message.since <= message.until <= message.at
