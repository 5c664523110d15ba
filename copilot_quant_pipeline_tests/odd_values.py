"""Answers with one thing in them as no venue should send it: what every reader has to bear.

A body is taken apart, one value anywhere in it is replaced by something odd, and it is written again.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Where the odd value goes, and what is written there: JSON that Python itself would not always write.
PLACE = "@@here@@"
RAW = (
    r'"\ud83d"',
    r'"a\udfffb"',
    "1e20",
    "1e30",
    "-1e30",
    "1e400",
    "1e9999999999999999999",
    "-1e-9999999999999999999",
    "-1",
    "0.5",
    "5",
    "true",
    "false",
    "null",
    "NaN",
    "Infinity",
    "-Infinity",
    "1" + "0" * 30,
    "9" * 5000,
    '"1e30"',
    '"1e9999999999999999999"',
    '"' + "9" * 5000 + '"',
    '"NaN"',
    '"9999-12-31T23:59:59Z"',
    '"9999-12-31T23:59:59-14:00"',
    '"0001-01-01T00:00:00+14:00"',
    '"0000-00-00T00:00:00Z"',
    '"2024-01-01T00:00:00+99:99"',
    "253402300799",
    "253402300799000",
    "-62135596800000",
    '""',
    '" "',
    r'"a|b\nc\u0000"',
    "[]",
    "[1]",
    '["a"]',
    "[null]",
    "[[]]",
    "{}",
    '{"a": 1}',
    "[" * 60 + "]" * 60,
    "[" * 100_000 + "]" * 100_000,
    '"' + "x" * 70_000 + '"',
)


@dataclass(frozen=True)
class Odd:
    """A body, and what was done to it."""

    body: bytes
    what: str
    # Which of its records it was done to; None where it was not within one.
    record: int | str | None = None


def odd_bodies(body: bytes, count: int, seed: str, records: tuple[str | int, ...] | None = None) -> Iterator[Odd]:
    """So many odd bodies; with `records`, the path of a list, only single records of it are touched.

    Without it bytes are cut and flipped, too.
    """
    chance, tree = random.Random(seed), json.loads(body)  # noqa: S311 it has to be the same each time
    for number in range(count):
        if records is None and number % 8 == 0:
            yield _torn(body, chance)
            continue
        whole = json.loads(body) if number else tree
        if records is None:
            yield _with_odd_value(whole, whole, (), chance, None)
        else:
            listed = _at(whole, records)
            place = chance.choice(list(listed) if isinstance(listed, dict) else range(len(listed)))
            yield _with_odd_value(whole, listed[place], (*records, place), chance, place)


def _at(tree: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        tree = tree[step]
    return tree


def _torn(body: bytes, chance: random.Random) -> Odd:
    at = chance.randrange(len(body))
    if chance.random() < 0.5:
        return Odd(body[:at], f"cut at {at}")
    return Odd(body[:at] + bytes([body[at] ^ (1 << chance.randrange(8))]) + body[at + 1 :], f"a bit of byte {at}")


def _with_odd_value(
    whole: Any, within: Any, base: tuple[Any, ...], chance: random.Random, place: int | str | None
) -> Odd:
    paths = list(_paths(within))
    # A record's own fields are as likely as the many small ones far down.
    depth = chance.choice(sorted({len(path) for path in paths}))
    path = chance.choice([one for one in paths if len(one) == depth])
    if path and chance.random() < 0.05:
        _remove(within, path)
        return Odd(json.dumps(whole).encode(), f"without {(*base, *path)}", place)
    raw = chance.choice(RAW)
    if not base and not path:
        return Odd(raw.encode(), f"{raw[:40]} instead of all", place)
    _put(whole, (*base, *path), chance)
    return Odd(json.dumps(whole).replace(f'"{PLACE}"', raw).encode(), f"{raw[:40]} at {(*base, *path)}", place)


def _paths(tree: Any) -> Iterator[tuple[Any, ...]]:
    yield ()
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree[:40]) if isinstance(tree, list) else ()
    for step, part in steps:
        yield from ((step, *rest) for rest in _paths(part))


def _put(whole: Any, path: tuple[Any, ...], chance: random.Random) -> None:
    parent = _at(whole, path[:-1])
    inner = parent[path[-1]]
    # Some lists are written as JSON within text: inside them, too.
    if isinstance(inner, str) and inner.startswith("[") and chance.random() < 0.5:
        listed = json.loads(inner)
        if listed:
            listed[chance.randrange(len(listed))] = chance.choice(["\ud83d", None, 5, [], {}, "1e30", "NaN", 10**30])
            parent[path[-1]] = json.dumps(listed)
            return
    parent[path[-1]] = PLACE


def _remove(within: Any, path: tuple[Any, ...]) -> None:
    parent = _at(within, path[:-1])
    del parent[path[-1]]


# What a cell of a table may say of itself, and what may stand in one.
ATTRIBUTES = ('colspan="9999999999999999999999"', 'colspan="-1"', 'rowspan="0"', 'rowspan="99999999"', 'colspan="x"')
TEXTS = ("", "\ud83d", "9999-99-99", "<table></table>", "</tr></table>", "&#xD83D;", "\x00", "<td>", "0000-00-00")


def odd_pages(body: bytes, count: int, seed: str) -> Iterator[Odd]:
    """A page of HTML likewise: a cell with an odd attribute or text, a tag less, bytes cut and flipped."""
    chance, page = random.Random(seed), body.decode()  # noqa: S311
    tags = [match.start() for match in re.finditer(r"<(?:td|th|tr|table|/td|/tr)\b[^>]*>", page)]
    for number in range(count):
        if number % 4 == 0:
            yield _torn(body, chance)
            continue
        at = chance.choice(tags)
        end = page.index(">", at)
        if number % 4 == 1:
            odd, cut = chance.choice(ATTRIBUTES), (end, end)
            odd = f" {odd}"
        elif number % 4 == 2:
            odd, cut = chance.choice(TEXTS), (end + 1, page.index("<", end))
        else:
            odd, cut = "", (at, end + 1)
        yield Odd((page[: cut[0]] + odd + page[cut[1] :]).encode(errors="surrogatepass"), f"{odd!r} at {cut}")
