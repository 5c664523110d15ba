"""The names by which a server is reached, as requests write them in Host and Origin.

Here: reading and comparing them, each in one spelling. Strict: what a browser would not send is no name.
Not here: which names are let in (refusals).
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

# As RFC 9112 has Host: a name or an address, and a port. No userinfo, no blanks, nothing percent-encoded.
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_.-]+))(?::(?P<port>[0-9]{0,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#@\\]+)", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
_WILDCARDS = ("", "0.0.0.0", "::", "0")  # noqa: S104 - what others are asked to write is compared, nothing is bound


class Host(NamedTuple):
    """A name in lower case or an address in its short spelling, and a port if one is written."""

    name: str
    port: int | None


def read_host(value: str) -> Host | None:
    """What a Host header names; None where it is not one name and perhaps a port."""
    found = _HOST.fullmatch(value) if value.isascii() else None
    if not found or (found["name"] and not found["name"].strip(".")):
        return None
    six = found["six"]
    name = one_spelling(six or found["name"])
    if six and ":" not in six:
        return None
    return Host(name, int(found["port"]) if found["port"] else None)


def one_spelling(name: str) -> str:
    """A name or address as it is compared: lower case, no final dot, an address short, an IPv4 one as such."""
    name = name.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_loopback(name: str) -> bool:
    """Whether a name in one spelling is this machine's to itself: localhost, 127.0.0.0/8 or ::1.

    Names below .localhost are not: some resolvers ask the network for them.
    """
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def is_every_address(host: str) -> bool:
    """Whether to serve at `host` is to serve at every address of the machine."""
    return host in _WILDCARDS or one_spelling(host) in _WILDCARDS


def is_same(origin: str, host: Host) -> bool:
    """Whether an Origin header names the very server that a Host header names.

    A port that is not written is the one of the origin's scheme: behind a proxy with TLS only the browser knows it.
    """
    found = _ORIGIN.fullmatch(origin)
    other = read_host(found["host"]) if found else None
    if not found or not other:
        return False
    usual = _PORTS[found["scheme"].lower()]
    return (other.name, other.port or usual) == (host.name, host.port or usual)


def names_of(text: str) -> tuple[str, ...]:
    """Names separated by commas, each in one spelling; a port after one is left out.

    Raises:
        ValueError: One is no name.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    # An IPv6 address is written in brackets where a port may follow, and often without.
    hosts = [read_host(f"[{word}]" if word.count(":") > 1 and word[0] != "[" else _ascii(word)) for word in words]
    if None in hosts:
        raise ValueError(text)
    return tuple(dict.fromkeys(host.name for host in hosts if host))


def _ascii(word: str) -> str:
    return word if word.isascii() else word.encode("idna").decode("ascii")
