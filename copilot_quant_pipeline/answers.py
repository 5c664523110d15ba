"""What any vendor's answer may be at most: how deep its JSON, how large and how fine its numbers.

Here: JSON read with those bounds, and the numbers of records judged by them: pure, the same for every vendor.
Not here: how an answer comes over the wire and how long it may be (transport.py), any vendor's fields.

Python's Decimal takes an exponent of a hundred million as it stands, and whatever then asks for a whole number or for
text runs for minutes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Context, Decimal, InvalidOperation
from typing import Any

# What a quantity holds before the point (prediction_markets/venue.py: decimal128(24, 6)), rounded though it be.
LARGEST = 10**18 - 1
SIX_DIGITS = Decimal("0.000001")
# Beyond these powers of ten lies no number of any use: what is larger becomes infinite, what is smaller 0.
_MAGNITUDES = 100
_WITHIN = Context(prec=_MAGNITUDES, Emax=_MAGNITUDES, Emin=-_MAGNITUDES, traps=[])
_LONGEST_NUMBER = 400
# The deepest answers of the venues are not ten levels deep.
DEEPEST = 64
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_SHOWN = 40


def read_json(body: bytes | str, *, exact: bool = True) -> Any:
    """The value of JSON in UTF-8: numbers with a point or an exponent as Decimal, or as float where not `exact`.

    A number beyond all use is infinite, which no reader takes, and one next to nothing is 0. What lies deeper than
    `DEEPEST` levels is NaN: it spoils the record that holds it, not the others.

    Raises:
        ValueError: It is no JSON.
    """
    parse = _read_exactly if exact else _read_floats
    try:
        value = parse(body)
    except RecursionError:
        return parse(_cut(body))
    return parse(_cut(body)) if _is_deep(value) else value


def bounded_number(value: Any, *, smallest: int | None = None) -> Decimal:
    """A number, or one written as text, exactly; `smallest` is what it must not be below.

    Raises:
        ValueError: It is no finite number, or beyond what any table holds.
    """
    number = _decimal(value)
    if not number.is_finite() or not -LARGEST <= number <= LARGEST:
        raise ValueError(f"{shown(value)} is no number below 1e18")
    if smallest is not None and number < smallest:
        raise ValueError(f"{shown(value)} is below {smallest}")
    return number


def whole_number(value: Any) -> int:
    """A whole number below 1e18, also as text or with a point that only zeros follow.

    Raises:
        ValueError: It is none.
    """
    number = bounded_number(value)
    if number != number.to_integral_value():
        raise ValueError(f"{shown(value)} is no whole number")
    return int(number)


def shown(value: Any) -> str:
    """A value of an answer as an error names it: short, in one line."""
    text = repr(value[:_SHOWN] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError(f"{shown(value)} is no number")
    if isinstance(value, str) and (len(value) > _LONGEST_NUMBER or not value.strip()):
        raise ValueError(f"{shown(value)} is no number")
    try:
        return Decimal(str(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ValueError(f"{shown(value)} is no number") from None


def _read_exactly(body: bytes | str) -> Any:
    try:
        return json.loads(body, parse_float=_WITHIN.create_decimal)
    except ValueError:  # a whole number of thousands of digits is one to Python, as no JSON is
        return json.loads(body, parse_float=_WITHIN.create_decimal, parse_int=_sent_whole_number)


def _read_floats(body: bytes | str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return json.loads(body, parse_int=lambda text: int(text) if len(text) <= _MAGNITUDES else float(text))


def _sent_whole_number(text: str) -> int | Decimal:
    return int(text) if len(text) <= _MAGNITUDES else _WITHIN.create_decimal(text)


def _is_deep(value: Any) -> bool:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            return True
        level = [part for one in level for part in _parts(one) if type(part) is dict or type(part) is list]
    return False


def _parts(value: Any) -> Any:
    return value.values() if type(value) is dict else value if type(value) is list else ()


def _cut(body: bytes | str) -> bytes:
    return b"".join(_shallow(_bytes(body)))


def _bytes(body: bytes | str) -> bytes:
    return body.encode(errors="replace") if isinstance(body, str) else body


def _shallow(body: bytes) -> Iterator[bytes]:
    """The pieces of a body in which what is too deep is written NaN."""
    depth, since = 0, 0
    for token in _TOKEN.finditer(body):
        if token[0] in b"[{":
            depth += 1
            if depth == DEEPEST + 1:
                yield body[since : token.start()] + b"NaN"
        elif token[0] in b"]}":
            if depth == DEEPEST + 1:
                since = token.end()
            depth -= 1
    if depth <= DEEPEST:
        yield body[since:]
