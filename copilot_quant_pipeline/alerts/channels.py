"""Channels: where letters go, one per URL, through apprise.

Here: reading the URLs, sending one letter to one channel, and keeping what is secret in a URL to ourselves.
Not here: what is sent (messages.py), when it is tried again (delivery.py).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from copilot_quant_pipeline.alerts.messages import Letter, shortened
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.redaction import HIDDEN, presentable

if TYPE_CHECKING:
    from apprise import NotifyBase

# A tick of the sensor is ended by Dagster after 60 s; what a channel has not taken by then is sent once more.
PATIENCE = 15.0

WHERE_URLS_ARE_EXPLAINED = "https://appriseit.com/services/"

# What apprise and the libraries below it log may hold a URL: while we send, it comes here instead of to the log.
_TALKATIVE = ("apprise", "urllib3.connectionpool", "urllib3.util.retry", "requests_oauthlib", "oauthlib.oauth1.rfc5849")
_overheard: ContextVar[list[str] | None] = ContextVar("overheard", default=None)


@dataclass(frozen=True)
class Channel:
    """One URL to send to; `name` is how it is spoken of, because the URL may hold secrets.

    `number` is its place in the setting, from 1.
    """

    number: int
    url: str = field(repr=False)

    @property
    def id(self) -> str:
        """What the book knows it by: tells URLs apart without telling them."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Its place and kind: `1 (slack)`."""
        return f"{self.number} ({self.url.partition('://')[0]})"


def channels_of(urls: Sequence[str]) -> list[Channel]:
    """One channel per URL, each URL once."""
    return [Channel(number, url) for number, url in enumerate(dict.fromkeys(urls), start=1)]


def expect_channels(urls: Sequence[str]) -> list[Channel]:
    """The channels of `urls`.

    Raises:
        UserError: One of them is no URL that apprise can send to; the URL itself is not told, it may hold a secret.
    """
    channels = channels_of(urls)
    for channel in channels:
        if problem := what_is_wrong_with(channel):
            raise UserError(f"COPILOT_QUANT_ALERT_URLS: {problem}")
    return channels


def what_is_wrong_with(channel: Channel) -> str | None:
    """Why nothing can ever be sent to the channel, and what to do; None where something can."""
    if _service(channel) is not None:
        return None
    return (
        f"the URL of channel {channel.name} cannot be used: its kind is not known or a part of it is missing;"
        f" {WHERE_URLS_ARE_EXPLAINED} shows how each kind is written."
    )


def send_letter(channel: Channel, letter: Letter) -> str | None:
    """Send it; None where the channel took it, otherwise what it said, without secrets. Never raises."""
    try:
        return _send(channel, letter)
    except Exception as error:  # whatever a service does, the others are still told
        return without_url(f"{type(error).__name__}: {error}", channel.url)


def _send(channel: Channel, letter: Letter) -> str | None:
    from apprise import Apprise, NotifyFormat, NotifyType

    service = _service(channel)
    if service is None:
        return what_is_wrong_with(channel)
    sender = Apprise(asset=_asset())
    sender.add(service)
    with _overhearing() as said:
        result = sender.notify(
            title=letter.title,
            body=letter.body,
            body_format=NotifyFormat.TEXT,
            notify_type=NotifyType(letter.tone),
            timeout=PATIENCE,
        )
    if result:
        return None
    return without_url("; ".join(said), channel.url) or f"no answer within {PATIENCE:g} s"


def _service(channel: Channel) -> NotifyBase | None:
    from apprise import Apprise

    with _overhearing():
        try:
            return Apprise.instantiate(channel.url, asset=_asset())
        except Exception:  # an address that a service's own parser cannot take
            return None


@cache
def _asset() -> Any:
    from apprise import AppriseAsset

    # In memory: apprise would otherwise keep files of its own in the user's folder.
    return AppriseAsset(
        app_id="copilot-quant", app_desc="copilot-quant", storage_mode="memory", async_mode=False, pgp_autogen=False
    )


def without_url(text: str, url: str) -> str:
    """Text in one line without any part of the URL but its kind.

    >>> without_url("cannot post to /T0KEN/abc as me", "slack://me@T0KEN/abc")
    'cannot post to /***/*** as me'
    """
    scheme, _, rest = url.partition("://")
    split = re.split(r"[/@:?&=+,]+", rest)
    parts = {part for part in (*split, *map(unquote, split)) if len(part) > 2 and part != scheme}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, HIDDEN)
    return shortened(presentable(text))


@contextmanager
def _overhearing() -> Iterator[list[str]]:
    """While open, the warnings of apprise in this thread (and in those it starts) are collected, and none is logged."""
    _listen()
    said: list[str] = []
    token = _overheard.set(said)
    try:
        yield said
    finally:
        _overheard.reset(token)


@cache
def _listen() -> None:
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_keep_from_the_log)


def _keep_from_the_log(record: logging.LogRecord) -> bool:
    said = _overheard.get()
    if said is not None and record.name == "apprise" and record.levelno >= logging.WARNING:
        said.append(record.getMessage())
    return said is None
