"""How the shape of what a venue sends is declared, and the one way in which a record is read by it.

Here: the kinds that fields are of, records as declared, what to call a record that cannot be read; what is raised where
a reader meets what nobody thought of.
Not here: any venue's fields (its own module), what a field means.

Fields that are not declared are never looked at, and may hold anything. What is declared is of its kind, absent or
null, or the record is broken. Numbers are exact: they come as whole numbers, as Decimal or as text, never as floats.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

import msgspec

from copilot_quant_pipeline.answers import SIX_DIGITS, bounded_number, shown
from copilot_quant_pipeline.errors import Defect, Malformed, UserError, VendorError, storable

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Shape")

log = logging.getLogger(__name__)

# So much of a name is shown that cannot be one.
LONGEST_NAME = 200
NAMELESS = "without a name"
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
FIRST_YEAR, LAST_YEAR = EARLIEST.year, LATEST.year
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# What reading a value that is not as expected can end in, however odd: a number too large, a date that no calendar has.
UNREADABLE = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)


class Shape(msgspec.Struct):
    """A record as its venue sends it; the name of a field is the venue's.

    `rare` are declared fields that whole lists may lack.
    """

    rare: ClassVar[frozenset[str]] = frozenset()


def shaped(record: Any, shape: type[S]) -> S:
    """The record as declared.

    Raises:
        Malformed: A field is missing or of another kind; it is named.
    """
    try:
        return msgspec.convert(record, shape, dec_hook=_read)
    except msgspec.ValidationError as error:
        raise Malformed(_in_words(error)) from None
    except UNREADABLE as error:
        raise Malformed(f"not as expected ({error})") from None


def convert_field(value: Any, declared: Any) -> str | None:
    """What is wrong with a value of a field that is declared so; None where nothing is."""
    try:
        msgspec.convert(value, declared, dec_hook=_read)
    except msgspec.ValidationError as error:
        return _in_words(error)
    except UNREADABLE as error:
        return str(error)
    return None


def parsed(parse: Callable[[T], R], record: T) -> R:
    """What `parse` makes of a venue's record.

    Raises:
        Malformed: It is not as expected, in whatever way.
        VendorError: As `parse` raises.
    """
    try:
        return parse(record)
    except KeyError as error:
        raise Malformed(f"{error} is missing") from None
    except UNREADABLE as error:
        raise Malformed(f"not as expected ({error})") from None


def records_in(answer: Any, of: str, name: str | None = None) -> list[Any]:
    """The records of a list, whatever each of them is; `name` is where an answer has it, None where it is the list.

    Raises:
        Malformed: There is no list.
    """
    records = answer if name is None else answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(records, list):
        raise Malformed(f"{of} is no list: {shown(answer)}")
    return records


def cursor_in(answer: Any, name: str) -> tuple[str | None, bool]:
    """What a page says that the next one is asked for by, None on the last; and whether it is none that can be sent."""
    cursor = answer.get(name) if isinstance(answer, Mapping) else None
    if cursor is None or cursor == "":
        return None, False
    is_one = isinstance(cursor, str) and cursor == storable(cursor)
    return (cursor, False) if is_one else (None, True)


def named(record: Any, *fields: str) -> str:
    """What to call a record that may be broken: by the first of the fields that can be a name."""
    if isinstance(record, str):
        # What was asked for by name is called by it.
        return storable(record[:LONGEST_NAME])
    if not isinstance(record, Mapping):
        return shown(record)
    names = (record.get(field) for field in fields or ("id", "slug", "question", "title", "name"))
    with suppress(*UNREADABLE):
        found = next((str(name) for name in names if name and isinstance(name, str | int)), "")
        return " ".join(storable(found[:LONGEST_NAME]).split()) or NAMELESS
    return NAMELESS


def key_of(record: Any, inner: str = "", *fields: str) -> Hashable:
    """What tells a record, with those that are nested in it, from the others of its list."""
    name = named(record, *fields)
    nested = record.get(inner) if isinstance(record, Mapping) else None
    if name == NAMELESS or not isinstance(record, Mapping):
        with suppress(*UNREADABLE):
            return json.dumps(record, default=str, sort_keys=True)
        return name
    return (name, *(named(one, *fields) for one in nested)) if isinstance(nested, list) else name


def _in_words(error: msgspec.ValidationError) -> str:
    said, _, path = str(error).partition(" - at `$")
    said = re.sub(r"^Object missing required field `(\w+)`$", r"it has no \1", said)
    said = re.sub(r"^Expected `object`.*", "it is no record", said).replace("`", "")
    where = path.rstrip("`").lstrip(".")
    return f"{where}: {said}" if where else said


def _read(of_kind: Any, value: Any) -> Any:
    return of_kind.read(value)


class _Kind(type):
    """A kind of field. What its `read` makes of a value is one; that is all msgspec needs to know of it."""

    read: Callable[[Any], Any]

    # Always true, and the cheapest way to say so: it is asked of every field of every record.
    __instancecheck__ = type  # type: ignore[assignment]


def name(value: Any) -> str:
    """Text, or a whole number as such, that is not empty and can be written down exactly.

    Raises:
        ValueError: It is none.
    """
    if type(value) is str and value.isascii() and value and not value.isspace():
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{shown(value)} is no name")
    text = str(value)
    if not text.strip() or text != storable(text):
        raise ValueError(f"{shown(value)} is no name")
    return text


def _maybe_name(value: Any) -> str | None:
    return None if value in ("", 0) else name(value)


def _words(value: Any) -> str:
    """Text for people to read; what of it is no character is shown as such."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no text")
    return storable(value)


def _flag(value: Any) -> bool:
    if value in (True, False):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError(f"{shown(value)} is neither true nor false")


def number(value: Any) -> Decimal | None:
    """An exact number, as text, too; None of empty text.

    Raises:
        ValueError: It is none, or too large for any table.
    """
    if isinstance(value, float):
        raise ValueError(f"{shown(value)} is no number")
    return None if value == "" else bounded_number(value)


def quantity(value: Any) -> Decimal | None:
    """An exact number to six digits; None of empty text.

    Raises:
        ValueError: It is none, or too large for any table.
    """
    exact = number(value)
    return None if exact is None else exact.quantize(SIX_DIGITS)


def _share(value: Any) -> Decimal | None:
    """A number from 0 to 1, to six digits."""
    exact = quantity(value)
    if exact is not None and not 0 <= exact <= 1:
        raise ValueError(f"a price of {shown(value)} is no probability")
    return exact


def _instant(value: Any) -> datetime | None:
    """An aware UTC instant of ISO text with its zone; None of a year that stands for never."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no instant")
    if not value:
        return None
    instant = datetime.fromisoformat(value)
    if instant.tzinfo is None:
        raise ValueError(f"time {shown(value)} without a zone")
    return _in_utc(instant)


def _in_utc(instant: datetime) -> datetime | None:
    # By years first: at the ends of the calendar another zone's time is none.
    return instant.astimezone(UTC) if FIRST_YEAR < instant.year < LAST_YEAR else None


def loose_instant(value: Any) -> datetime | None:
    """An aware UTC instant of ISO text, in UTC where it has no zone; None of what is none (seen: `NOW*()`)."""
    try:
        instant = datetime.fromisoformat(value)
        return _in_utc(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
    except UNREADABLE:
        return None


def _milliseconds(value: Any) -> datetime:
    """An aware UTC instant of milliseconds since 1970, in a year that only this unit can explain."""
    return _since_1970(value, timedelta(milliseconds=1))


def _stamp(value: Any) -> datetime:
    """An aware UTC instant of seconds since 1970, or of ISO text."""
    at = _instant(value) if isinstance(value, str) else _since_1970(value, timedelta(seconds=1))
    if at is None:
        raise ValueError(f"{shown(value)} is no instant")
    return at


def _since_1970(value: Any, unit: timedelta) -> datetime:
    microseconds = None if isinstance(value, str) else bounded_number(value) * (unit // timedelta(microseconds=1))
    with suppress(ArithmeticError):
        if microseconds is not None:
            at = EPOCH + timedelta(microseconds=int(microseconds))
            if EARLIEST <= at < LATEST:
                return at
    raise ValueError(f"{shown(value)} is no instant")


def _listed(value: Any) -> Sequence[Any]:
    """A list, or one that is written as JSON in text; empty text is an empty one."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except UNREADABLE:
            raise ValueError(f"{shown(value)} is no list in JSON") from None
    if value and not isinstance(value, list):
        raise ValueError(f"{shown(value)} is no list")
    return list(value) if isinstance(value, list) else []


def kind(called: str, read: Callable[[Any], Any]) -> type:
    """A kind of field, as `called` in what is told of it.

    `read` makes the value of what was sent, which is not null, and raises ValueError where it cannot be.
    """
    return _Kind(called, (), {"read": staticmethod(read)})


# To whoever reads the types they are what `read` gives.
if TYPE_CHECKING:
    Name = str
    MaybeName = str
    Words = str
    Flag = bool
    Number = Decimal
    Quantity = Decimal
    Share = Decimal
    Instant = datetime
    LooseInstant = datetime
    Milliseconds = datetime
    Stamp = datetime
    Listed = Sequence[Any]
else:
    Name = kind("name", name)
    # One that may be empty or 0 for none.
    MaybeName = kind("name or none", _maybe_name)
    Words = kind("text", _words)
    Flag = kind("flag", _flag)
    Number = kind("number", number)
    Quantity = kind("quantity", quantity)
    Share = kind("probability", _share)
    Instant = kind("instant", _instant)
    LooseInstant = kind("instant, if any", loose_instant)
    Milliseconds = kind("instant in milliseconds", _milliseconds)
    Stamp = kind("instant in seconds", _stamp)
    Listed = kind("list", _listed)


def declaring(venue: str, fetch: Callable[P, T]) -> Callable[P, T]:
    """`fetch`, its undeclared errors as `Defect`, which name the venue; they are logged with their traceback."""

    @wraps(fetch)
    def declared(*args: P.args, **how: P.kwargs) -> T:
        try:
            return fetch(*args, **how)
        except (VendorError, UserError):
            raise
        except Exception as error:
            log.exception("a defect in reading %s", venue)
            raise Defect(f"{venue}: a defect of this program in reading its answer: {error!r}") from error

    return declared
