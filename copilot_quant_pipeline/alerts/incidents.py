"""Incidents: what is wrong now against what was told before, as pure decisions.

Here: a trouble, the incident made of it, and `plan_messages`, which decides what is news.
Not here: finding troubles (cell_problems.py, dagster_problems.py), the words (messages.py), sending (channels.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

# Within this time of being told, the same trouble is not told again.
FOLD = timedelta(hours=6)

# opened; worse: a warning became a failure; again: back within FOLD of its end; repeated: still so, with new evidence;
# recovered; ended: no longer so because something else has taken its place.
Kind = Literal["opened", "worse", "again", "repeated", "recovered", "ended"]


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong now.

    Attributes:
        key: names the incident: the same trouble found again has the same key.
        source: where it was looked for; while nobody can look there, its end is not known either.
        asset: the asset it is about.
        what: what is wrong, in a few words that follow the asset's name.
        since: when it began, aware UTC.
        last: the newest evidence of it: a try, a run, an evaluation.
        examples: the first few cells with their reasons, or what was said; one line each.
        next_step: what the platform does about it by itself.
        page: path of the Dagit page that shows it.
        cells: how many cells it holds, 0 where it is not about cells.
        failure: whether it is more than a warning.
        follows: keys of the incidents whose end it explains.
    """

    key: str
    source: str
    asset: str
    what: str
    since: datetime
    last: datetime
    examples: tuple[str, ...]
    next_step: str
    page: str
    cells: int = 0
    failure: bool = True
    follows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Incident:
    """What was told of a trouble.

    Attributes:
        trouble: as last seen.
        since: when it began.
        told_at: when it was last told.
        told_last: the newest evidence it was told with.
        told_failure: whether it was told as a failure.
        times: how often it has begun, each within FOLD of its last end.
        folded: how often it was seen with new evidence since it was told.
        quiet_since: when it was first not seen any more; None while it is seen.
        over_at: when its end was told; it is remembered for FOLD from then.
    """

    trouble: Trouble
    since: datetime
    told_at: datetime
    told_last: datetime
    told_failure: bool
    times: int = 1
    folded: int = 0
    quiet_since: datetime | None = None
    over_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether its end has not been told."""
        return self.over_at is None


@dataclass(frozen=True)
class Message:
    """One thing to tell of an incident.

    Attributes:
        until: its last instant, for one that is over.
        still: what else is wrong with the same asset.
    """

    kind: Kind
    trouble: Trouble
    since: datetime
    at: datetime
    times: int = 1
    until: datetime | None = None
    still: tuple[str, ...] = ()


def plan_messages(
    incidents: Mapping[str, Incident], troubles: Iterable[Trouble], unseen: Collection[str], now: datetime
) -> tuple[list[Message], dict[str, Incident]]:
    """What to tell, and the incidents as they are once it is told.

    A trouble is told when it begins; again within FOLD of being told only where a warning became a failure; after that
    only with new evidence. Its end is told once. A trouble that is back within FOLD of its end is told, and from then
    on its end is told only once it has been quiet for FOLD: what comes and goes is one incident. Incidents whose
    source is `unseen` stay as they are.
    """
    present = {trouble.key: trouble for trouble in troubles}
    planned: dict[str, tuple[Message | None, Incident | None]] = {
        key: _seen(incidents.get(key), trouble, now) for key, trouble in present.items()
    }
    for key, incident in incidents.items():
        if key not in present:
            unknown = incident.trouble.source in unseen
            planned[key] = (None, incident) if unknown else _missed(incident, present.values(), now)
    messages = [message for message, _ in planned.values() if message]
    return messages, {key: incident for key, (_, incident) in planned.items() if incident}


def _seen(incident: Incident | None, trouble: Trouble, now: datetime) -> tuple[Message | None, Incident]:
    if incident is None:
        return _told("opened", Incident(trouble, min(trouble.since, now), now, trouble.last, trouble.failure), now)
    if not incident.is_open:
        since = max(min(trouble.since, now), incident.quiet_since or now)
        again = replace(incident, since=since, times=incident.times + 1, over_at=None)
        return _told("again", replace(again, trouble=trouble, quiet_since=None), now)
    came_back = incident.quiet_since is not None
    new = trouble.last > incident.trouble.last
    incident = replace(
        incident,
        trouble=trouble,
        times=incident.times + came_back,
        folded=incident.folded + new,
        quiet_since=None,
    )
    if trouble.failure and not incident.told_failure:
        return _told("worse", incident, now)
    if trouble.last > incident.told_last and now - incident.told_at >= FOLD:
        return _told("repeated", incident, now)
    return None, incident


def _told(kind: Kind, incident: Incident, now: datetime) -> tuple[Message, Incident]:
    trouble = incident.trouble
    told = replace(incident, told_at=now, told_last=trouble.last, told_failure=trouble.failure, folded=0)
    return Message(kind, trouble, incident.since, now, incident.times), told


def _missed(incident: Incident, present: Collection[Trouble], now: datetime) -> tuple[Message | None, Incident | None]:
    if incident.over_at is not None:
        return None, incident if now - incident.over_at < FOLD else None
    quiet_since = incident.quiet_since or now
    if incident.times > 1 and now - quiet_since < FOLD:
        return None, replace(incident, quiet_since=quiet_since)
    followed = any(incident.trouble.key in trouble.follows for trouble in present)
    message = Message(
        "ended" if followed else "recovered",
        incident.trouble,
        incident.since,
        now,
        incident.times,
        until=quiet_since,
        still=tuple(f"{t.asset} {t.what}" for t in present if t.asset == incident.trouble.asset),
    )
    return message, replace(incident, quiet_since=quiet_since, over_at=now)
