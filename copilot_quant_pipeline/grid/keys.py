"""What can be a key on an axis, judged before it gets any cell: pure.

Here: the one judgement of symbols and of markets, whoever put them there; the venues there are, by name.
Not here: which keys are on an axis (grid/axes.py), how a venue is reached (prediction_markets/registry.py).

Dagit takes any text for an axis. `aapl` would be a second symbol with the bars of AAPL; a key with `|`, which divides
the date from the key, breaks every read of the grid.
"""

from __future__ import annotations

import re

SYMBOL = "symbol"
MARKET = "market"

# In the order in which they are told.
VENUES = ("polymarket", "kalshi", "manifold", "predictit", "metaculus")

_SYMBOL = re.compile(r"[A-Z][A-Z0-9]{0,7}(\.[A-Z0-9]{1,3})?")
# `|` divides cells; brackets and commas are Dagit's and those of lists of keys. All else that is printed can be a slug,
# as venues give them: one that only looks like another is unknown to its venue.
_ODD_IN_A_SLUG = frozenset("|[],")
_LONGEST_SLUG = 200
_SHOWN = 60


def canonical_symbol(text: str) -> str | None:
    """The symbol that `text` stands for: upper case, share classes dotted; None where it stands for none.

    >>> canonical_symbol(" brk-b ")
    'BRK.B'
    """
    symbol = text.strip()
    if not symbol.isascii():  # 'ſ' and 'ı' have ASCII's capitals
        return None
    symbol = symbol.upper().replace("-", ".")
    return symbol if _SYMBOL.fullmatch(symbol) else None


def is_slug(text: str) -> bool:
    """Whether `text` can follow a venue's name in the key of a market."""
    odd = any(one.isspace() or one in _ODD_IN_A_SLUG for one in text)
    return 0 < len(text) <= _LONGEST_SLUG and text.isprintable() and not odd and "..." not in text


def canonical_market(text: str) -> str | None:
    """The key of the market that `text` stands for; None where it stands for none.

    >>> canonical_market(" Kalshi: KXFED-24NOV-T4.75")
    'kalshi:KXFED-24NOV-T4.75'
    """
    venue, _, slug = (part.strip() for part in text.partition(":"))
    return f"{venue.lower()}:{slug}" if venue.lower() in VENUES and is_slug(slug) else None


def judge_key(axis: str, key: str) -> str | None:
    """What is wrong with `key` on `axis`, and what to write instead; None where nothing is."""
    canonical = canonical_symbol if axis == SYMBOL else canonical_market if axis == MARKET else str
    right = canonical(key)
    if right == key:
        return None
    shown = repr(key if len(key) <= _SHOWN else f"{key[:_SHOWN]}...")
    if right is not None:
        return f"{shown} is no key of a {axis}: write {right}"
    if axis == SYMBOL:
        return f"{shown} is no symbol: write capitals and digits with at most one dot, like AAPL or BRK.B"
    return (
        f"{shown} is no market: write its venue ({', '.join(VENUES)}), a colon and what the venue calls it,"
        " like kalshi:KXFED-24NOV-T4.75"
    )
