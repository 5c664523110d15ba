"""Claims about the bounds of what any vendor may answer: depth, magnitude, and how long judging them takes."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.answers import DEEPEST, bounded_number, read_json, shown, whole_number

HUGE = ("1e99999999", "-1e99999999", "1e9999999999999999999", "9" * 5000, "-" + "9" * 5000)
TINY = ("1e-99999999", "1e-9999999999999999999", "0e99999999", "0." + "0" * 200 + "1")


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("exact", [True, False])
def test_a_number_beyond_all_use_spoils_itself_only(number: str, exact: bool) -> None:
    odd, other = read_json(f'[{number}, {{"p": 0.29}}]', exact=exact)
    with pytest.raises(ValueError, match="no number below 1e18"):
        bounded_number(odd)
    assert other == {"p": Decimal("0.29") if exact else 0.29}


@pytest.mark.parametrize("number", TINY)
def test_a_number_next_to_nothing_is_nothing(number: str) -> None:
    (read,) = read_json(f"[{number}]")
    assert bounded_number(read) < Decimal("1e-100")
    assert int(read) == 0


@pytest.mark.parametrize("text", [*HUGE, "", " ", "nan", "-Infinity", "1_0x", "٣" * 500, "1" * 1_000_000])
def test_text_is_judged_likewise_and_at_once(text: str) -> None:
    began = time.process_time()
    for judge in (bounded_number, whole_number):
        with pytest.raises(ValueError, match="is no") as told:
            judge(text)
        assert len(str(told.value)) < 100
    assert time.process_time() - began < 1


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_what_tables_hold_is_read_exactly(number: int) -> None:
    assert whole_number(number) == whole_number(str(number)) == bounded_number(Decimal(number)) == number


@given(st.one_of(st.floats(), st.decimals(), st.integers(), st.text(), st.booleans(), st.none(), st.lists(st.none())))
def test_anything_else_is_a_value_error(value: Any) -> None:
    with suppress(ValueError):
        assert abs(bounded_number(value)) < 10**18


@pytest.mark.parametrize("depth", [DEEPEST, 500, 5_000, 200_000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_what_is_too_deep_spoils_the_record_that_holds_it(depth: int, pair: str) -> None:
    opening, closing = ("[", "]") if pair == "[]" else ('{"a":', "}")
    deep = opening * depth + "1" + closing * depth
    body = '{"markets": [{"id": 1, "x": ' + deep + '}, {"id": "2]]", "y": "\\"]}{["}]}'
    first, second = read_json(body)["markets"]
    assert first["id"] == 1
    assert "nan" in repr(first["x"])
    assert second == {"id": "2]]", "y": '"]}{['}


def test_what_is_deep_enough_is_as_sent() -> None:
    sent: Any = {"p": [1, "]"]}
    for _ in range(DEEPEST - 4):
        sent = [sent]
    assert read_json(json.dumps(sent)) == sent


@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 100_000, '["' + "[" * 100, "", "<html>", "[1e5,]"])
def test_what_is_no_json_is_said_to_be_none(body: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        read_json(body)


def test_a_value_is_named_in_short() -> None:
    assert len(shown("x\n" * 1_000_000)) < 60
    assert "\n" not in shown("x\ny")
