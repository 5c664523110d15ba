"""What no text may carry out of the platform: secrets, and characters that act on whoever shows them.

Here: which parts of a setting's value are secret, `redacted` and `plain`, and the two that stand at the edge of a
process: of what it logs and of what it prints.
Not here: which settings hold secrets (settings.py), the stores (each room passes its texts through here).

A secret is known to the process from the moment a setting that holds it is read; it is hidden in each form that a
library may give it: as it is, percent-encoded or decoded, in base64, escaped as in JSON or HTML. Whatever else looks
like the user's part of a URL is hidden, known or not.
"""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, TextIO
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"

# Shorter ones would be hidden in every other word, and protect nothing.
_SHORTEST = 4
# Of a part of a URL that may be a word as well as a key.
_SHORTEST_KEY, _LONGEST_WORD = 6, 15
_CLEAR = 8
# What Dagster and we call the free texts of a document.
_FREE = frozenset(
    {
        "message",
        "user_message",
        "stack",
        "description",
        "text",
        "md_str",
        "detail",
        "why",
        "skip_reason",
        "title",
        "body",
    }
)
_NAMES_A_SECRET = re.compile(r"key|token|pass|pwd|secret|auth|sig|code|credential", re.IGNORECASE)
_USERS_PART = re.compile(r"(?<=://)[^\s/?#\"<>\\]+@")

# C0 but the line break and the tab, DEL, C1, half a surrogate pair, and what turns the direction of writing.
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# The same as JSON writes it.
_ACTING_IN_JSON = re.compile(
    r"(?<!\\)((?:\\\\)*)\\(?:[bf]|u(?:00[01][0-8bce-f]|007f|00[89][0-9a-f]|061c|200[ef]|202[89a-e]|206[6-9]))"
)
_REPLACEMENT = "\ufffd"

_lock = threading.Lock()


class _Known(NamedTuple):
    """The forms of all secrets, longest first; `wordy` ones may stand in names that programs go by, too."""

    forms: tuple[str, ...] = ()
    clear: tuple[str, ...] = ()
    wordy: tuple[str, ...] = ()


_known = _Known()


def hide(secrets: Iterable[str]) -> None:
    """Have `redacted` hide these from now on, in each of their forms."""
    global _known
    new = {form for secret in secrets for form in _forms_of(secret)}
    with _lock:
        if new <= set(_known.forms):
            return
        forms = tuple(sorted(new | set(_known.forms), key=lambda form: (-len(form), form)))
        clear = tuple(filter(_is_clear, forms))
        _known = _Known(forms, clear, tuple(form for form in forms if form not in clear))


def redacted(text: str) -> str:
    """The text without any secret that the process knows and without the user's part of any URL.

    >>> redacted("no answer from http://me:x1y2@proxy.example:3128/")
    'no answer from http://***@proxy.example:3128/'
    """
    return _without(_known.forms, text)


def plain(text: str) -> str:
    """The text without characters that act on a terminal or a page; lines and tabs stay.

    >>> plain("up" + chr(27) + "[2J")
    'up\ufffd[2J'
    """
    return _ACTING.sub(_REPLACEMENT, text)


def presentable(text: str) -> str:
    """What may be shown to a person: `redacted` and `plain`."""
    return plain(redacted(text))


def presentable_json(text: str) -> str:
    """The same of a JSON document that programs read: a secret that may be a word goes from its free texts alone."""
    text = plain(_without(_known.clear, text))
    if any(form in text for form in _known.wordy):
        with suppress(ValueError, RecursionError):
            text = json.dumps(_with_safe_texts(json.loads(text)))
    return _ACTING_IN_JSON.sub(r"\1\\ufffd", text) if "\\" in text else text


def _without(forms: Iterable[str], text: str) -> str:
    for form in forms:
        if form in text:
            text = text.replace(form, HIDDEN)
    return _USERS_PART.sub(f"{HIDDEN}@", text) if "@" in text else text


def _with_safe_texts(value: Any, *, is_free: bool = False) -> Any:
    if isinstance(value, dict):
        return {name: _with_safe_texts(one, is_free=name in _FREE) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_safe_texts(one, is_free=is_free) for one in value]
    return redacted(value) if is_free and isinstance(value, str) else value


def _is_clear(form: str) -> bool:
    """Whether it can be nothing but a secret: eight characters or more, of two kinds or more."""
    kinds = (str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum())
    return len(form) >= _CLEAR and sum(any(map(is_kind, form)) for is_kind in kinds) > 1


def secrets_of_url(url: str, *, is_secret: bool = False) -> Iterator[str]:
    """The parts of a URL that nobody else may see; with `is_secret` also the whole of it but its kind.

    >>> sorted(secrets_of_url("https://me:pw-of-me@host.example/v2/T0KENabc?key=k-9-k"))
    ['T0KENabc', 'k-9-k', 'me:pw-of-me', 'pw-of-me']
    """
    rest = url.partition("://")[2] or url
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, _, host = authority.rpartition("@")
    yield from _secrets_of_user(user)
    behind = rest[len(authority) :]
    path, _, query = behind.partition("?")
    unnamed_host = [] if "." in host or ":" in host or host == "localhost" else [host]
    yield from filter(_looks_secret, [*unnamed_host, *re.split(r"[/#]", path)])
    for name, value in parse_qsl(query.replace("#", "&"), keep_blank_values=True):
        if _looks_secret(value) or _NAMES_A_SECRET.search(name):
            yield value
    if is_secret and behind.strip("/"):
        yield rest


def secrets_of_proxy(address: str) -> Iterator[str]:
    """The secret parts of a proxy's address, however wrongly it is written."""
    user = (address.partition("://")[2] or address).rpartition("@")[0]
    yield from _secrets_of_user(user)
    yield from filter(_looks_secret, user.partition(":")[2].split("@"))


def _secrets_of_user(user: str) -> Iterator[str]:
    name, colon, password = user.partition(":")
    if user:
        yield user
        yield password if colon else name


def _looks_secret(part: str) -> bool:
    """Whether a part of a URL is a key rather than a word such as `services`."""
    if len(part) < _SHORTEST_KEY:
        return False
    return len(part) > _LONGEST_WORD or any(c.isdigit() or c.isupper() or c in "%+=~!$" for c in part)


def _forms_of(secret: str) -> Iterator[str]:
    for said in {secret, unquote(secret), unquote_plus(secret)}:
        if len(said.strip()) < _SHORTEST:
            continue
        for form in (said, quote(said, safe=""), quote(said), quote_plus(said), html.escape(said)):
            yield form
            yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form)
        yield from (json.dumps(said)[1:-1], json.dumps(said, ensure_ascii=False)[1:-1], repr(said)[1:-1])
        yield from _in_base64(said.encode(errors="surrogatepass"))


def _in_base64(secret: bytes) -> Iterator[str]:
    """How it looks wherever it stands in what was encoded: alone, or behind a name and a colon."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).decode().rstrip("=")
        for before in range(3):
            first, last = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
            inner = encode(b"\0" * before + secret).decode()[first:last]
            if len(inner) >= _SHORTEST_KEY:
                yield inner


def guard_process(*, plainly: bool = False) -> None:
    """Have nothing leave this process unredacted through its log, its output or the trace of what ends it.

    `plainly` is of a process that colours nothing by itself: no acting character comes to its terminal either.
    """
    guard_log()
    sys.excepthook = _tell_end
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # Whoever put another stream there reads it; what a terminal or a file is given is ours.
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _Redacting(stream, presentable if plainly else redacted))


def terminal(stream: TextIO) -> TextIO:
    """What stands behind a guarded stream, for whoever colours texts that are `presentable` already."""
    return stream.behind if isinstance(stream, _Redacting) else stream


def guard_log() -> None:
    """Have Python's logging make records that hold no secret and no acting character, whoever handles them."""
    make = logging.getLogRecordFactory()
    if not getattr(make, "is_guarded", False):
        logging.setLogRecordFactory(_Guarded(make))


class _Guarded:
    """A factory of log records; their arguments stay apart, since some formatters look for them."""

    is_guarded = True

    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make(*args, **kwargs)
        if isinstance(record.args, tuple):
            record.args = tuple(presentable(one) if isinstance(one, str) else one for one in record.args)
        try:
            said = record.getMessage()
        except Exception:  # logging itself tells who logs wrongly
            return record
        if (told := presentable(said)) != said:
            record.msg, record.args = told, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = presentable("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        if record.stack_info:
            record.stack_info = presentable(record.stack_info)
        return record


class _Redacting(io.TextIOWrapper):
    """A stream of text in the place of another, over the same bytes."""

    def __init__(self, stream: io.TextIOWrapper, safe: Callable[[str], str]) -> None:
        self.behind, self._safe = stream, safe
        super().__init__(stream.buffer, stream.encoding, stream.errors, line_buffering=True, write_through=True)

    def write(self, text: str) -> int:
        super().write(self._safe(text))
        return len(text)


def _tell_end(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    print(presentable("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr, end="")
