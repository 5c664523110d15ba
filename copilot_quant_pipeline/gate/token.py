"""The one secret that lets a browser or a script in: given once, kept by the browser as a cookie.

Here: comparing it, what is kept of it, and the address without it. Everything is compared in constant time.
Not here: when one is asked for (refusals), headers and answers (middleware).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.gate.names import is_loopback, one_spelling

# How long a browser keeps the cookie, in seconds: a year.
KEPT = 365 * 86_400
_FIELD = "token"


def expect_token(host: str, token: str | None) -> None:
    """Let nobody serve at `host` to other machines without a token.

    Raises:
        UserError: There is none, and `host` is not loopback.
    """
    if not token and not is_loopback(one_spelling(host)):
        raise UserError(
            f"at {host or 'every address'} other machines reach Dagit, which can change and delete what is stored:"
            " set COPILOT_QUANT_TOKEN to a secret, for example of `openssl rand -hex 16`, or serve at 127.0.0.1."
        )


def cookie_of(token: str) -> tuple[str, str]:
    """The name and value of the cookie that stands for `token`, which neither tells.

    Browsers send one host's cookies to all its ports: each token has a name of its own, so that two homes' do not
    push each other out.
    """
    digest = hmac.new(token.encode(), b"copilot-quant cookie", hashlib.sha256).hexdigest()
    return f"copilot_quant_{digest[:8]}", digest[8:]


def is_shown(token: str, authorizations: Iterable[str], cookies: Mapping[str, str]) -> bool:
    """Whether the headers of a request show `token`."""
    name, kept = cookie_of(token)
    by_header = [_is_same(_bearer(value), token) for value in authorizations]
    return any([*by_header, _is_same(cookies.get(name, ""), kept)])


def is_in_url(token: str, query: str) -> bool:
    """Whether a URL's query string gives `token`; a + of it may be written as such."""
    given = [value for name, value in _fields(query) if name == _FIELD]
    return any(_is_same(read(value), token) for value in given for read in (unquote, unquote_plus))


def without_token(path: str, query: str) -> str:
    """The same address on this server, as its path and query, without the token."""
    left = "&".join(
        f"{quote_plus(name)}={value}" if value else name for name, value in _fields(query) if name != _FIELD
    )
    # Two slashes at the start, or a backslash, would name another server.
    return quote("/" + path.lstrip("/\\")) + (f"?{left}" if left else "")


def _fields(query: str) -> list[tuple[str, str]]:
    """Names, decoded, and values, as written."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    return [(unquote_plus(name), value) for name, _, value in pairs]


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _is_same(given: str, right: str) -> bool:
    # Digests of one length, so that not even the length can be timed.
    return hmac.compare_digest(*(hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (given, right)))
