"""Delivery: letters wait in the book until each channel has taken them.

Here: queueing letters by channel, rounds of sending in which one dead channel holds up no other, a letter to try it.
Not here: how one letter is sent (channels.py).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta

from copilot_quant_pipeline.alerts.channels import Channel, send_letter
from copilot_quant_pipeline.alerts.messages import Letter
from copilot_quant_pipeline.alerts.store import AlertState
from copilot_quant_pipeline.settings import Settings

# What a channel that is dead for days is spared: the oldest letters beyond so many are dropped.
LONGEST_QUEUE = 200

# After so many refusals it is the channel that does not work, not the letter.
REFUSALS = 2

# How long one delivery may begin new rounds; with one round's patience it stays below the 60 s of a tick.
TIME_FOR_ROUNDS = timedelta(seconds=20)


@dataclass(frozen=True)
class Delivered:
    """What came of a delivery: by channel name, how many letters it took, and what it said where it took none."""

    sent: Mapping[str, int]
    refused: Mapping[str, str]


def queue_letters(book: AlertState, letters: Sequence[Letter], channels: Sequence[Channel]) -> AlertState:
    """The book with `letters` waiting for each channel; what waits for a channel that is no longer set is dropped."""
    waiting = {channel.id: (*book.waiting.get(channel.id, ()), *letters)[-LONGEST_QUEUE:] for channel in channels}
    return replace(book, waiting={channel: queue for channel, queue in waiting.items() if queue})


def deliver(
    book: AlertState, channels: Sequence[Channel], keep: Callable[[AlertState], None]
) -> tuple[AlertState, Delivered]:
    """Send what waits, each channel its oldest letter a round, all channels at once.

    A channel that refuses two letters is left alone until the next delivery; one letter that it alone refuses does not
    keep the later ones from it. After each round `keep` is given the book, so that whatever interrupts this, only the
    letters of one round can be sent twice.
    """
    sent: Counter[str] = Counter()
    refused: dict[str, list[str]] = {channel.id: [] for channel in channels}
    deadline = time.monotonic() + TIME_FOR_ROUNDS.total_seconds()
    with ThreadPoolExecutor(max_workers=max(1, len(channels)), thread_name_prefix="alerts") as pool:
        while time.monotonic() < deadline:
            # What a channel has refused stays before the letter that it is offered next.
            offered = {c: len(refused[c.id]) for c in channels if len(refused[c.id]) < REFUSALS}
            due = {c: book.waiting[c.id][n] for c, n in offered.items() if n < len(book.waiting.get(c.id, ()))}
            if not due:
                break
            for channel, problem in zip(due, pool.map(send_letter, due.keys(), due.values()), strict=True):
                if problem is None:
                    sent[channel.name] += 1
                    book = _taken(book, channel, offered[channel])
                else:
                    refused[channel.id].append(problem)
            keep(book)
    return book, Delivered(sent, {c.name: refused[c.id][-1] for c in channels if refused[c.id]})


def send_test(settings: Settings, channels: Sequence[Channel]) -> dict[str, str | None]:
    """Send one letter to each channel at once; by channel name, what it said where it did not take it."""
    body = (
        f"This is a test of copilot-quant ({settings.source}, {settings.home}). Nothing is wrong: alerts reach you"
        f" here.\n{settings.dagit_url}"
    )
    letter = Letter("copilot-quant: a test", body, "success", settings.now())
    with ThreadPoolExecutor(max_workers=len(channels)) as pool:
        answers = pool.map(lambda channel: send_letter(channel, letter), channels)
        return {channel.name: answer for channel, answer in zip(channels, answers, strict=True)}


def _taken(book: AlertState, channel: Channel, place: int) -> AlertState:
    queue = book.waiting[channel.id]
    waiting = {**book.waiting, channel.id: (*queue[:place], *queue[place + 1 :])}
    return replace(book, waiting={channel_id: letters for channel_id, letters in waiting.items() if letters})
