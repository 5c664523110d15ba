"""Claims about what can be a key on an axis."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.grid.axes import partition_key
from copilot_quant_pipeline.grid.cells import Cell
from copilot_quant_pipeline.grid.keys import MARKET, SYMBOL, VENUES, canonical_market, canonical_symbol, judge_key
from copilot_quant_pipeline.grid.runs import corners_of_run
from copilot_quant_pipeline.prediction_markets.registry import venue_names


@pytest.mark.parametrize("key", ["AAPL", "BRK.B", "A", "GOOGL", "BF.B", "ZZZZ"])
def test_a_symbol_is_a_key(key: str) -> None:
    assert judge_key(SYMBOL, key) is None


@pytest.mark.parametrize(
    ("key", "right"),
    [("aapl", "AAPL"), (" AAPL", "AAPL"), ("AAPL\n", "AAPL"), ("brk-b", "BRK.B"), ("Brk.b ", "BRK.B")],
)
def test_a_symbol_written_otherwise_is_none_and_told_what_it_should_be(key: str, right: str) -> None:
    assert judge_key(SYMBOL, key) == f"{key!r} is no key of a symbol: write {right}"


@pytest.mark.parametrize(
    "key", ["", " ", "A|B", "AAPL,MSFT", "ААPL", "ＡＡＰＬ", "ſpy", "A" * 5000, "AAPL\x00", "$SPX", "..."]
)  # noqa: RUF001
def test_what_is_no_symbol_is_told_briefly(key: str) -> None:
    wrong = judge_key(SYMBOL, key)
    assert wrong is not None
    assert "is no symbol" in wrong
    assert len(wrong) < 250
    assert "\n" not in wrong


@pytest.mark.parametrize(
    "key", ["kalshi:KXFED-24NOV-T4.75", "polymarket:will-it-rain", "manifold:Abc123", "metaculus:1", "predictit:7:8"]
)
def test_a_market_of_a_known_venue_is_a_key(key: str) -> None:
    assert judge_key(MARKET, key) is None


@pytest.mark.parametrize(
    ("key", "right"),
    [("KALSHI:X", "kalshi:X"), (" kalshi:X ", "kalshi:X"), ("kalshi: X", "kalshi:X"), ("Polymarket:a", "polymarket:a")],
)
def test_a_market_written_otherwise_is_told_what_it_should_be(key: str, right: str) -> None:
    assert judge_key(MARKET, key) == f"{key!r} is no key of a market: write {right}"


@pytest.mark.parametrize(
    "key",
    ["foo", "kalshi", "kalshi:", ":X", "", "gemini:x", "kalshi:a b", "kalshi:a|b", "kalshi:" + "a" * 300],
)
def test_what_is_no_market_is_told_what_one_looks_like(key: str) -> None:
    wrong = judge_key(MARKET, key)
    assert wrong is not None
    assert "kalshi:KXFED-24NOV-T4.75" in wrong
    assert len(wrong) < 300


def test_every_venue_there_is_can_be_in_a_key() -> None:
    assert set(venue_names()) == set(VENUES)


@given(st.text(max_size=30), st.sampled_from([SYMBOL, MARKET]))
def test_what_is_right_is_a_key_and_a_cell_of_it_reads_back(text: str, axis: str) -> None:
    right = canonical_symbol(text) if axis == SYMBOL else canonical_market(text)
    if right is not None:
        assert judge_key(axis, right) is None
        cell = Cell(date(2024, 3, 28), right)
        assert corners_of_run({"dagster/partition": partition_key(cell)}) == (cell, cell)
