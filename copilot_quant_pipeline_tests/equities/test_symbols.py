"""Symbols as users type them, as the platform writes them, as Yahoo wants them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.equities.symbols import parse_symbol, to_yahoo
from copilot_quant_pipeline.errors import UserError


@pytest.mark.parametrize(
    ("typed", "symbol", "at_yahoo"),
    [
        ("AAPL", "AAPL", "AAPL"),
        (" aapl\n", "AAPL", "AAPL"),
        ("BRK.B", "BRK.B", "BRK-B"),
        ("brk-b", "BRK.B", "BRK-B"),
        ("BF.B", "BF.B", "BF-B"),
        ("F", "F", "F"),
    ],
)
def test_class_shares_are_dotted_here_and_dashed_at_yahoo(typed: str, symbol: str, at_yahoo: str) -> None:
    assert parse_symbol(typed) == symbol
    assert to_yahoo(symbol) == at_yahoo


@pytest.mark.parametrize("typed", ["", " ", "AA PL", "AAPL|MSFT", "AAPL,MSFT", "[AAPL]", "A.B.C", ".", "$AAPL", "ÄÄ"])
def test_what_is_no_symbol_is_refused_in_one_line(typed: str) -> None:
    with pytest.raises(UserError, match="is not a symbol; write ") as refused:
        parse_symbol(typed)
    assert "\n" not in str(refused.value)


@given(st.from_regex(r"[A-Z]{1,5}(\.[A-Z])?", fullmatch=True))
def test_both_spellings_name_the_same_symbol(symbol: str) -> None:
    assert parse_symbol(symbol) == parse_symbol(to_yahoo(symbol)) == symbol


@given(st.text())
def test_whatever_is_typed_becomes_a_key_dagster_takes_or_is_refused(typed: str) -> None:
    try:
        symbol = parse_symbol(typed)
    except UserError:
        return
    assert not set(symbol) & set("|[], \n")
