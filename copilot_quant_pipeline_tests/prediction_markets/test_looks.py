"""Claims about a look at a venue: what a short, strange or refused answer makes of markets that are known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from copilot_quant_pipeline.prediction_markets.following import OUTCOMES_CALLED, FollowRule
from copilot_quant_pipeline.prediction_markets.looks import Known, Look, has_lost_many, look_at
from copilot_quant_pipeline.prediction_markets.polymarket import Polymarket
from copilot_quant_pipeline_tests.prediction_markets.loopback import Answer, Loopback, answer
from copilot_quant_pipeline_tests.prediction_markets.test_stand_ins import NOW, gamma

PATH = "/markets/keyset"


@dataclass
class Gamma:
    """Polymarket's markets as a stand-in has them; what is `hidden` is not in lists, what is `deleted` nowhere.

    Lists give at most `most` records and no cursor after them.
    """

    loopback: Loopback
    records: dict[str, dict[str, Any]]
    hidden: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    errors: dict[str, int] = field(default_factory=dict)
    most: int | None = None

    def __post_init__(self) -> None:
        self.loopback.routes[PATH] = self.listed
        for number in self.records:
            self.loopback.routes[f"/markets/{number}"] = self.one(number)

    @property
    def client(self) -> Polymarket:
        url = self.loopback.url
        return Polymarket(url, url, url, clock=lambda: NOW, wait=lambda _: 0.0)

    def listed(self, query: dict[str, list[str]], _: Any) -> Answer:
        is_closed = query["closed"] == ["true"]
        known = [one for one in self.records.values() if one["id"] not in self.hidden | self.deleted]
        found = [one for one in known if bool(one.get("closed")) is is_closed]
        if "id" in query:
            found = [one for one in found if one["id"] in query["id"]]
        return answer(200, {"markets": found[: self.most]})

    def one(self, number: str) -> Any:
        def told(query: dict[str, list[str]], _: Any) -> Answer:
            if number in self.errors:
                return answer(self.errors[number], "down")
            return answer(404, {}) if number in self.deleted else answer(200, self.records[number])

        return told

    def asked(self) -> int:
        return len(self.loopback.requests)


@pytest.fixture
def venue() -> Iterator[Gamma]:
    with Loopback() as loopback:
        loopback.answers = [answer(404, {"error": "not found"})]
        yield Gamma(loopback, {str(number): gamma(number, 1000 - number) for number in range(1, 61)})


def look(venue: Gamma, known: Known, *, top: int = 100) -> Look:
    ids = tuple(f"polymarket:{one.id}" for one in known.markets if one.key in known.followed)
    return look_at(venue.client, FollowRule(("polymarket",), top=top, ids=ids), known)


def known_of(venue: Gamma, *, top: int = 100) -> Known:
    first = look(venue, Known(), top=top)
    assert not first.faults
    return Known(first.markets, {one.key for one in first.markets}, first.shown or ())


def test_a_short_answer_makes_nothing_gone(venue: Gamma) -> None:
    known = known_of(venue)
    venue.most = 2
    second = look(venue, known)
    assert (second.gone, len(second.markets)) == ((), 60)
    assert {one.status for one in second.markets} == {"open"}


def test_what_no_list_shows_is_asked_for_alone_before_it_is_gone(venue: Gamma) -> None:
    known = known_of(venue)
    venue.hidden, venue.deleted = {"3", "4"}, {"5"}
    second = look(venue, known)
    assert second.gone == ("polymarket:market-5",)
    assert {"3", "4"} <= {one.id for one in second.markets}


def test_nothing_is_gone_where_the_venue_does_not_know_what_it_shows(venue: Gamma) -> None:
    known = known_of(venue)
    venue.loopback.routes = {PATH: venue.listed}  # every market's own route is lost
    venue.hidden = set(venue.records)
    second = look(venue, Known(known.markets[2:4], known.followed))
    assert second.gone == ()
    assert any("nothing is concluded" in fault for fault in second.faults)


def test_who_is_not_answered_for_is_told_and_not_gone(venue: Gamma) -> None:
    known = known_of(venue)
    venue.hidden, venue.errors = {"3"}, {"3": 500}
    second = look(venue, known)
    assert second.gone == ()
    (fault,) = second.faults
    assert "does not answer for polymarket:market-3" in fault


def test_a_name_gets_a_key_by_a_record_that_was_read(venue: Gamma) -> None:
    venue.hidden, venue.errors = {"3"}, {"3": 500}
    rule = FollowRule((), ids=("polymarket:3", "polymarket:4", "polymarket:777"))
    first = look_at(venue.client, rule, Known())
    assert [one.key for one in first.markets] == ["polymarket:market-4"]
    assert {name: reason for name, (reason, _) in first.waiting.items()} == {
        "polymarket:3": "unavailable",
        "polymarket:777": "unknown_market",
    }
    venue.errors = {}
    second = look_at(venue.client, rule, Known(first.markets))
    assert {one.key for one in second.markets} == {"polymarket:market-3", "polymarket:market-4"}
    assert set(second.waiting) == {"polymarket:777"}


def swapped(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return record | {name: json.dumps(value) for name, value in changes.items()}


def test_tokens_that_change_places_are_a_broken_record_and_the_known_mapping_stays(venue: Gamma) -> None:
    known = known_of(venue)
    venue.records["1"] = swapped(venue.records["1"], clobTokenIds=["12", "11"])
    second = look(venue, known)
    assert "polymarket:market-1" not in {one.key for one in second.markets}
    assert second.gone == ()
    (fault,) = second.faults
    assert "polymarket 1 is broken" in fault
    assert "Yes (11)" in fault


@pytest.mark.parametrize(
    ("names", "tokens"), [(["Yes", "No"], ["11", "99"]), (["Yes", "No"], ["98", "99"]), (["No", "Up"], ["11", "12"])]
)
def test_a_name_that_moves_to_another_token_is_a_broken_record(
    venue: Gamma, names: list[str], tokens: list[str]
) -> None:
    known = known_of(venue)
    venue.records["1"] = swapped(venue.records["1"], outcomes=names, clobTokenIds=tokens)
    assert any("polymarket 1 is broken" in fault for fault in look(venue, known).faults)


def test_outcomes_in_another_order_are_the_same_and_renamed_ones_keep_their_names(venue: Gamma) -> None:
    known = known_of(venue)
    venue.records["1"] = swapped(venue.records["1"], outcomes=["No", "Yes"], clobTokenIds=["12", "11"])
    ended = {"closed": True, "umaResolutionStatus": "resolved"}
    venue.records["2"] = swapped(venue.records["2"], outcomes=["Up", "Down"], outcomePrices=["0", "1"]) | ended
    second = look(venue, known)
    found = {one.id: one for one in second.markets}
    assert {one.name: one.token for one in found["1"].outcomes} == {"Yes": "11", "No": "12"}
    assert {one.name: one.token for one in found["2"].outcomes} == {"Yes": "21", "No": "22"}
    assert (found["2"].result, found["2"].facts[OUTCOMES_CALLED]) == ("No", {"Yes": "Up", "No": "Down"})
    assert len(second.faults) == 1
    assert look(venue, Known(second.markets, known.followed)).faults == ()  # told once


def test_a_listing_that_loses_many_that_are_still_open_is_told_and_not_taken_for_the_last(venue: Gamma) -> None:
    known = known_of(venue)
    venue.hidden = {str(number) for number in range(1, 31)}
    second = look(venue, replace(known, followed=()))
    assert second.shown is None
    assert any("has lost many: of 60" in fault for fault in second.faults)
    for number in venue.hidden:
        venue.records[number]["closed"] = True
    assert look(venue, replace(known, followed=())).faults == ()


def test_what_fell_out_of_the_largest_is_not_lost() -> None:
    with Loopback() as loopback:
        loopback.answers = [answer(404, {"error": "not found"})]
        records = {str(number): gamma(number, 1000 - number) for number in range(1, 301)}

        def paged(query: dict[str, list[str]], _: Any) -> Answer:
            found = [one for one in venue.records.values() if query["closed"] == ["false"]]
            if "id" in query:
                return answer(200, {"markets": [one for one in found if one["id"] in query["id"]]})
            found.sort(key=lambda one: -one["volumeNum"])
            start = int(query.get("after_cursor", ["0"])[0])
            page = {"markets": found[start : start + 100]}
            return answer(200, page | ({"next_cursor": str(start + 100)} if start + 100 < len(found) else {}))

        venue = Gamma(loopback, records)
        loopback.routes[PATH] = paged
        known = known_of(venue, top=50)
        assert len(known.listed) == 100
        for number in range(1, 61):
            venue.records[str(number)]["volumeNum"] = 1
        second = look(venue, replace(known, followed=()), top=50)
        assert (second.faults, len(second.shown or ())) == ((), 100)


def test_many_is_more_than_twenty_and_more_than_a_tenth() -> None:
    assert [has_lost_many(*pair) for pair in ((20, 30), (21, 30), (21, 210), (22, 210))] == [False, True, False, True]


def test_a_list_that_says_there_is_more_than_it_shows_is_incomplete(venue: Gamma) -> None:
    listed = venue.listed

    def counted(query: dict[str, list[str]], sent: Any) -> Answer:
        status, body, headers = listed(query, sent) or (0, "", {})
        return answer(status, json.loads(body) | {"pagination": {"total": 185}}, **headers)

    venue.loopback.routes[PATH] = counted
    first = look(venue, Known())
    assert any("60 of the 185" in fault for fault in first.faults)
    assert (first.shown, len(first.markets)) == (None, 60)


def test_a_resolved_market_that_is_followed_is_looked_at_in_batches(venue: Gamma) -> None:
    for number in range(1, 31):
        venue.records[str(number)] |= {"closed": True, "umaResolutionStatus": "resolved", "outcomePrices": '["1", "0"]'}
    rule = FollowRule((), ids=tuple(f"polymarket:{number}" for number in range(1, 31)))
    first = look_at(venue.client, rule, Known())
    assert {one.result for one in first.markets} == {"Yes"}
    before = venue.asked()
    venue.records["1"] |= {"outcomePrices": '["0", "1"]'}
    second = look(venue, Known(first.markets, {one.key for one in first.markets}))
    assert next(one for one in second.markets if one.id == "1").result == "No"
    assert venue.asked() - before == 3  # the listing, the open ones and the closed ones of that name
