"""Whether venues still send what is declared of them: each route asked once, its records held against their shape.

Here: one question to a route, timed; which declared fields are missing, of another type, or new.
Not here: the shapes and the routes (each venue's module), what is printed (cli/venues.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args, runtime_checkable

from msgspec.structs import fields

from copilot_quant_pipeline.answered import Answered
from copilot_quant_pipeline.errors import VendorError
from copilot_quant_pipeline.prediction_markets.known_fields import known_unused
from copilot_quant_pipeline.prediction_markets.shapes import Shape, convert_field, declaring


class Asking:
    """Asks the routes of one venue, and remembers what each `answered`."""

    def __init__(self, venue: str) -> None:
        self.answered: list[Answered] = []
        self._venue = venue

    def __call__(
        self, route: str, fetch: Callable[[], Any], shape: type[Shape], records_of: Callable[[Any], Any]
    ) -> list[Any]:
        """The records that the route's answer holds by `records_of`; none where it does not answer."""
        started, records, error = time.monotonic(), list[Any](), None
        try:
            found = declaring(self._venue, lambda: records_of(fetch()))()
            records = found if isinstance(found, list) else [found]
        except VendorError as failed:
            error = str(failed)
        took = time.monotonic() - started
        told = compare(records, shape) if records else Differences()
        self.answered.append(
            Answered(self._venue, route, took, len(records), error, told.missing, told.other_type, told.new)
        )
        return records

    def leave_out(self, route: str, why: str) -> None:
        """Note a route that could not be asked."""
        self.answered.append(Answered(self._venue, route, 0.0, error=why))


@runtime_checkable
class ProbedVenue(Protocol):
    """A venue whose routes can each be asked once."""

    def ask_each_route(self, ask: Asking) -> None:
        """Ask each route once, in few requests."""


@dataclass(frozen=True)
class Differences:
    """How records differ from their declared shape, by the names of fields (`price.close` within another)."""

    missing: tuple[str, ...] = ()
    other_type: Mapping[str, str] = field(default_factory=dict)
    new: tuple[str, ...] = ()


def compare(records: Iterable[Any], shape: type[Shape]) -> Differences:
    """The differences of all records of a sample together: what one of them has is not missing."""
    seen, other_type, new = set[str](), dict[str, str](), dict[str, None]()
    for record in records:
        _look(record, shape, "", seen, other_type, new)
    missing = [name for name in _expected(shape, "", seen) if name not in seen and name not in other_type]
    return Differences(tuple(missing), other_type, tuple(new))


def _look(
    record: Any, shape: type[Shape], under: str, seen: set[str], other_type: dict[str, str], new: dict[str, None]
) -> None:
    if not isinstance(record, Mapping):
        other_type.setdefault(under.rstrip(".") or "record", "it is no record")
        return
    declared = {one.name: one.type for one in fields(shape)}
    new |= dict.fromkeys(
        f"{under}{name}" for name in record if name not in declared and name not in known_unused(shape)
    )
    for name, kind in declared.items():
        value = record.get(name)
        if value is None:
            # Null is how a field without a value is written: it is there.
            seen |= {f"{under}{name}"} if name in record else set()
            continue
        seen.add(f"{under}{name}")
        if inner := _inner(kind):
            for one in value if isinstance(value, list) else [value]:
                _look(one, inner, f"{under}{name}.", seen, other_type, new)
        elif wrong := convert_field(value, kind):
            other_type.setdefault(f"{under}{name}", wrong)


def _inner(kind: Any) -> type[Shape] | None:
    """The shape that a field holds, one or a list of it."""
    if isinstance(kind, type) and issubclass(kind, Shape):
        return kind
    return next((found for part in get_args(kind) if (found := _inner(part))), None)


def _expected(shape: type[Shape], under: str, seen: set[str]) -> Iterable[str]:
    for one in fields(shape):
        if one.name in shape.rare:
            continue
        yield f"{under}{one.name}"
        if (inner := _inner(one.type)) and f"{under}{one.name}" in seen:
            yield from _expected(inner, f"{under}{one.name}.", seen)
