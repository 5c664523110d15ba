"""The words of a message: plain text that every channel can carry.

Here: titles, bodies, instants and durations as people write them.
Not here: what is told and when (incidents.py), how it is sent (channels.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from copilot_quant_pipeline.alerts.incidents import Message, Trouble
from copilot_quant_pipeline.redaction import presentable

Tone = Literal["failure", "warning", "success"]

_BEGINNINGS = {
    "opened": "",
    "worse": "Worse: ",
    "again": "Again: ",
    "repeated": "Still: ",
    "recovered": "Recovered: ",
    "ended": "Ended: ",
}


@dataclass(frozen=True)
class Letter:
    """A message as it is sent; `tone` is what colours it where a channel has colours."""

    title: str
    body: str
    tone: Tone
    written_at: datetime


def write_letter(message: Message, dagit_url: str, sender: str) -> Letter:
    """The message in words, with a link to its page below `dagit_url`; `sender` says which platform speaks."""
    trouble = message.trouble
    over = message.until is not None
    lines = _over(message) if over else _open(message)
    body = [f"{headline(trouble)}.", *lines, f"{dagit_url.rstrip('/')}{trouble.page}", f"-- {sender}"]
    tone: Tone = "success" if over else "failure" if trouble.failure else "warning"
    title = f"{_BEGINNINGS[message.kind]}{headline(trouble)}"
    return Letter(presentable(title), presentable("\n".join(body)), tone, message.at)


def headline(trouble: Trouble) -> str:
    """The trouble in one line."""
    return f"{trouble.asset} {trouble.what}"


def _open(message: Message) -> list[str]:
    return [
        f"Since {written(message.since)}{_how_often(message.times)}.",
        *(f"- {line}" for line in message.trouble.examples),
        f"What happens next: {message.trouble.next_step}",
    ]


def _over(message: Message) -> list[str]:
    until = message.until or message.at
    lasted = spelled(until - message.since)
    lines = [f"Over since {written(until)}. It began {written(message.since)} and lasted {lasted}."]
    if message.times > 1:
        lines.append(f"It came and went: {message.times} times in all.")
    return [*lines, *(f"Still so: {line}." for line in message.still)]


def _how_often(times: int) -> str:
    return f"; it comes and goes, this is time {times}" if times > 1 else ""


def written(instant: datetime) -> str:
    """An instant to the minute, UTC."""
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def spelled(duration: timedelta) -> str:
    """A duration in its two largest units.

    >>> spelled(timedelta(days=2, hours=3, minutes=20))
    '2 d 3 h'
    >>> spelled(timedelta(seconds=20))
    'less than a minute'
    """
    minutes = max(0, int(duration.total_seconds() // 60))
    units = ((minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min"))
    parts = [f"{number} {unit}" for number, unit in units if number]
    return " ".join(parts[:2]) or "less than a minute"


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "cell"), counted(1200, "cell")
    ('1 cell', '1,200 cells')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shortened(text: str, most: int = 300) -> str:
    """Text as one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
