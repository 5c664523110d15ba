"""One look at everything: find what is wrong, tell what is news, deliver what waits.

Here: the order of these steps and what is said of them.
Not here: the steps themselves (cell_problems.py, dagster_problems.py, incidents.py, delivery.py), what starts them
(sensor.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from copilot_quant_pipeline.alerts.channels import Channel, channels_of, what_is_wrong_with
from copilot_quant_pipeline.alerts.delivery import Delivered, deliver, queue_letters
from copilot_quant_pipeline.alerts.incidents import Incident, Message, Trouble, plan_messages
from copilot_quant_pipeline.alerts.messages import Letter, counted, headline, shortened, write_letter
from copilot_quant_pipeline.alerts.run_problems import RunFailure
from copilot_quant_pipeline.alerts.store import AlertState, BookFile, BusyBookError
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.ledger import troubles
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.connections import BusyWarehouseError

log = logging.getLogger(__name__)

WATCH = "watch"


@dataclass(frozen=True)
class Looked:
    """How far runs were looked at, and what is known of them: as in the book."""

    failures: dict[str, RunFailure]
    until: datetime | None
    at: tuple[str, ...]


@dataclass(frozen=True)
class ProblemsFound:
    """What one look found.

    Attributes:
        unseen: the sources that could not be looked at; their incidents stay as they are.
        runs: None where runs could not be looked at.
    """

    troubles: tuple[Trouble, ...]
    unseen: frozenset[str]
    runs: Looked | None


def look(sources: Mapping[str, Callable[[], Sequence[Trouble]]], now: datetime) -> tuple[list[Trouble], set[str]]:
    """The troubles of all sources, and the names of those that could not be asked, which is a trouble of its own.

    A warehouse that somebody is writing is not: it is asked at the next look.
    """
    troubles: list[Trouble] = []
    unseen: set[str] = set()
    for source, find in sources.items():
        try:
            troubles += find()
        except BusyWarehouseError:
            unseen.add(source)
        except Exception as error:  # one source that is broken must not silence the others
            log.warning("alerts cannot look at %s", source, exc_info=True)
            unseen.add(source)
            troubles.append(_blind(source, error, now))
    return troubles, unseen


def _blind(source: str, error: Exception, now: datetime) -> Trouble:
    return Trouble(
        key=f"{WATCH}/{source}",
        source=WATCH,
        asset=source,
        what="cannot be looked at",
        since=now,
        last=now,
        examples=(shortened(_why(error)),),
        next_step="it is looked at again every minute; until then nobody is told of what is wrong there.",
        page="/deployment/daemons",
    )


def _why(error: Exception) -> str:
    known = error if isinstance(error, UserError) else troubles.told(error)
    return str(known or f"{type(error).__name__}: {error}")


def book_of(settings: Settings) -> BookFile:
    """The book of the settings' home."""
    return BookFile(settings.home / "alerts" / "book.json")


def tell(settings: Settings, find: Callable[[AlertState], ProblemsFound]) -> str:
    """Look with `find`, tell what is news, deliver what waits; a few words on what was done.

    A channel that does not answer is no error. Where none is set, a message is a log line and nothing waits.

    Raises:
        OSError: The book cannot be read or written.
    """
    file = book_of(settings)
    try:
        with file.turn():
            return _tell(settings, file, find)
    except BusyBookError:
        return "Another process is telling what is wrong at this moment."


def tell_of(settings: Settings, source: str, troubles: Sequence[Trouble], patience: float, *, anyhow: bool) -> None:
    """Tell `troubles`, which are all that is wrong at `source`; nothing is concluded of any other source.

    For a process that stands beside the sensor and speaks where it cannot. Whoever has had the book for `patience`
    seconds may be what is wrong, and so may the disk: where the book cannot be had it is told without, if `anyhow`.
    """
    file, deadline = book_of(settings), time.monotonic() + patience
    while True:
        try:
            with file.turn():
                _tell(settings, file, lambda book: _only(book, source, troubles))
                return
        except BusyBookError:
            if time.monotonic() >= deadline:
                break
        except OSError as error:
            log.warning("the book of alerts cannot be used (%s)", error.strerror)
            break
        time.sleep(min(1.0, patience))
    if anyhow:
        _tell_unnoted(settings, troubles)


def _only(book: AlertState, source: str, troubles: Sequence[Trouble]) -> ProblemsFound:
    known = {incident.trouble.source for incident in book.incidents.values()}
    return ProblemsFound(tuple(troubles), frozenset(known - {source}), None)


def _tell_unnoted(settings: Settings, troubles: Sequence[Trouble]) -> None:
    messages, _ = plan_messages({}, troubles, (), settings.now())
    letters = _written(settings, messages)
    channels, _ = _usable(settings)
    book = queue_letters(AlertState(), letters, channels)
    deliver(book, channels, lambda _: None)


def _tell(settings: Settings, file: BookFile, find: Callable[[AlertState], ProblemsFound]) -> str:
    book, now = file.read(), settings.now()
    found = find(book)
    messages, incidents = plan_messages(book.incidents, found.troubles, found.unseen, now)
    channels, unusable = _usable(settings)
    letters = _written(settings, messages)
    for letter in letters:
        log.log(logging.INFO if channels else logging.WARNING, "%s", shortened(f"{letter.title}: {letter.body}", 2000))
    book = queue_letters(_noted(book, incidents, found.runs), letters, channels)
    file.write(book)  # before sending: what is news is never lost
    book, delivered = deliver(book, channels, file.write)
    return _summary(book, letters, channels, delivered, unusable)


def _noted(book: AlertState, incidents: dict[str, Incident], runs: Looked | None) -> AlertState:
    if runs is None:
        return replace(book, incidents=incidents)
    return replace(book, incidents=incidents, failures=runs.failures, looked_until=runs.until, looked_at=runs.at)


def _written(settings: Settings, messages: Sequence[Message]) -> list[Letter]:
    sender = f"copilot-quant ({settings.source}, {settings.home})"
    return [write_letter(message, settings.dagit_url, sender) for message in messages]


def _usable(settings: Settings) -> tuple[list[Channel], list[str]]:
    channels = channels_of(settings.alert_urls)
    problems = {channel: problem for channel in channels if (problem := what_is_wrong_with(channel))}
    for problem in problems.values():
        log.warning("%s", problem)
    return [channel for channel in channels if channel not in problems], list(problems.values())


def _summary(
    book: AlertState,
    letters: Sequence[Letter],
    channels: Sequence[Channel],
    delivered: Delivered,
    unusable: Sequence[str],
) -> str:
    still_open = [incident for incident in book.incidents.values() if incident.is_open]
    lines = [f"Told: {letter.title}." for letter in letters]
    if letters and not channels:
        lines.append("COPILOT_QUANT_ALERT_URLS names no channel, so it is in the log only.")
    lines += [f"Channel {name} took {counted(sent, 'message')}." for name, sent in delivered.sent.items()]
    lines += [
        f"Channel {channel.name} did not answer well ({delivered.refused[channel.name]});"
        f" {counted(len(book.waiting.get(channel.id, ())), 'message')} wait for the next tick."
        for channel in channels
        if channel.name in delivered.refused
    ]
    lines += unusable
    if not letters:
        lines.append("Nothing new.")
    lines += [f"Open: {headline(incident.trouble)}." for incident in still_open]
    return "\n".join(lines if still_open else [*lines, "Nothing is wrong."])
