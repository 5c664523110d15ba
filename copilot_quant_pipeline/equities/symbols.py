"""Symbols of US equities: the platform writes share classes with a dot, Yahoo with a dash.

Here: reading a symbol a user typed or a page lists, and its spelling at Yahoo.
Not here: which symbols there are (universe.py), what can be one (grid/keys.py).
"""

from __future__ import annotations

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.grid.keys import canonical_symbol


def parse_symbol(text: str) -> str:
    """The canonical symbol of `text`: upper case, share classes dotted.

    >>> parse_symbol("brk-b")
    'BRK.B'

    Raises:
        UserError: It is no symbol; the line says what to write.
    """
    symbol = canonical_symbol(text)
    if symbol is None:
        raise UserError(
            f"{text!r} is not a symbol; write letters and digits with at most one dot, like AAPL or BRK.B, "
            "and put commas between symbols."
        )
    return symbol


def to_yahoo(symbol: str) -> str:
    """Yahoo's spelling of a canonical symbol.

    >>> to_yahoo("BRK.B")
    'BRK-B'
    """
    return symbol.replace(".", "-")


def from_yahoo(ticker: str) -> str:
    """The canonical symbol of what Yahoo calls it; what it writes of an index stays.

    >>> from_yahoo("brk-b")
    'BRK.B'
    >>> from_yahoo("^GSPC")
    '^GSPC'
    """
    return ticker.strip().upper().replace("-", ".")
