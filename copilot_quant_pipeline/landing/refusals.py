"""A vendor's refusals, kept for the rest of the backfill that met them, and for nothing else.

Here: keeping the answer that there is nothing to have, and finding it again in a later run of the same backfill.
Not here: kept responses (response.py, store.py), what a refusal makes of a cell (the venue rooms).

A backfill in Dagit over d days is d runs. Without this each of them would ask anew for a symbol that the vendor does
not know. Outside of its backfill a refusal counts for nothing: by then the vendor may have changed its mind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import pyarrow as pa

from copilot_quant_pipeline.errors import (
    AnotherCurrency,
    AnotherInstrument,
    BeforeFirstBar,
    Malformed,
    NoSuchRoute,
    NotFound,
    Rejected,
    VendorError,
)
from copilot_quant_pipeline.landing.response import Kept
from copilot_quant_pipeline.landing.store import Landing

_KINDS = {
    kind.__name__: kind
    for kind in (NotFound, BeforeFirstBar, AnotherInstrument, AnotherCurrency, Rejected, NoSuchRoute, Malformed)
}
_NOTHING = pa.table({"nothing": pa.array([], pa.int8())})


@dataclass(frozen=True)
class InBackfill:
    """The backfill that a run is one of: Dagster's id for it, and when it began (aware UTC)."""

    id: str
    since: datetime


@dataclass(frozen=True)
class KeptRefusal:
    """What the vendor answered instead; `payload` is what it gave all the same, without rows where nothing.

    `more` is what else the room kept of it.

    `kind` is the name of the error's class: one of a room's own comes as `Rejected`, for the room to tell.
    """

    kind: str
    error: VendorError
    payload: pa.Table
    more: Mapping[str, str] = field(default_factory=dict)


def keep_refusal(
    landing: Landing,
    kind: str,
    key: str,
    error: VendorError,
    *,
    of: InBackfill,
    window: tuple[date, date],
    at: datetime,
    payload: pa.Table = _NOTHING,
    more: Mapping[str, str] | None = None,
) -> None:
    """Keep what was refused for `window` (both dates included), unless asking again may help."""
    if error.transient:
        return
    facts = {**(more or {}), "backfill": of.id, "error": type(error).__name__, "why": str(error)}
    landing.keep(_folder(kind), key, Kept(payload, *window, at, facts))


def read_refusal(
    landing: Landing, kind: str, key: str, *, of: InBackfill | None, window: tuple[date, date]
) -> KeptRefusal | None:
    """What the same backfill was refused for a window that holds this one; None without a backfill or a refusal."""
    kept = landing.read(_folder(kind), key) if of else None
    if of is None or kept is None or kept.facts.get("backfill") != of.id:
        return None
    if not (kept.start <= window[0] and window[1] <= kept.end):
        return None
    kind, why = kept.facts["error"], kept.facts["why"]
    return KeptRefusal(kind, _KINDS.get(kind, Rejected)(why), kept.payload, kept.facts)


def _folder(kind: str) -> str:
    return f"{kind}-REFUSED"
