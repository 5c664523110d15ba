"""What a person should look at once, and their word that it is right: `ops.warnings`.

Here: reading what was found, and acknowledging it.
Not here: what is found (warehouse/oddities.py), the command (cli/warnings.py).
"""
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

STATES = ("open", "acknowledged", "over")


@dataclass(frozen=True)
class Warning:
    """One thing that a person should look at; instants are aware UTC.

    `id` names it for ever. `first_seen_at` is since when it is as it is, `acknowledged_at` when a person said that it
    is right, `over_at` since when it is no longer so.
    """

    kind: str
    key: str
    date: date
    said: str
    size: float
    first_seen_at: datetime
    acknowledged_at: datetime | None
    over_at: datetime | None
    run_id: str

    @property
    def id(self) -> str:
        """What the command calls it."""
        return f"{self.kind}:{self.key}:{self.date}"

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return "over" if self.over_at else "acknowledged" if self.acknowledged_at else "open"


@dataclass(frozen=True)
class WarningChoice:
    """Which warnings are meant: of these ids, these symbols, this date; None is any."""

    ids: Collection[str] | None = None
    keys: Collection[str] | None = None
    on: date | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """The values `_CHOSEN` binds."""
        ids, keys = (None if given is None else list(given) for given in (self.ids, self.keys))
        return {"ids": ids, "keys": keys, "on": self.on}


_ID = "concat_ws(':', kind, key, date)"
_OPEN = "over_at is null and acknowledged_at is null"
_STATE = f"case when over_at is not null then 'over' when {_OPEN} then 'open' else 'acknowledged' end"
_CHOSEN = f"""
    ($ids::varchar[] is null or {_ID} in (select unnest($ids::varchar[])))
    and ($keys::varchar[] is null or key in (select unnest($keys::varchar[])))
    and ($on::date is null or date = $on)
"""


def read_warnings(warehouse: Warehouse, choice: WarningChoice, states: Sequence[str] = ("open",)) -> list[Warning]:
    """The warnings meant that are in one of `states`, by symbol and date.

    Raises:
        UserError: The warehouse cannot be opened.
    """
    rows = warehouse.read(
        f"select kind, key, date, said, size, first_seen_at, acknowledged_at, over_at, run_id from ops.warnings"
        f" where {_CHOSEN} and {_STATE} in (select unnest($states::varchar[])) order by key, date, kind",
        {**choice.parameters, "states": list(states)},
    )
    return [Warning(**row) for row in rows.to_pylist()]


def count_open(warehouse: Warehouse) -> int:
    """How many warnings nobody has acknowledged yet."""
    (row,) = warehouse.read(f"select count(*) as n from ops.warnings where {_OPEN}").to_pylist()
    return int(row["n"])


def acknowledge(warehouse: Warehouse, choice: WarningChoice, *, now: datetime) -> int:
    """Say of the open warnings meant that they are right as they are; gives how many.

    Raises:
        UserError: An id names none, or the warehouse cannot be opened or written.
    """
    if choice.ids is not None:
        known = {warning.id for warning in read_warnings(warehouse, choice, STATES)}
        if unknown := [given for given in choice.ids if given not in known]:
            raise UserError(f"no warning is called {unknown[0]!r}; `copilot-quant warnings list` shows what they are.")
    with warehouse.transaction() as connection:
        (count,) = connection.execute(
            f"update ops.warnings set acknowledged_at = $now where {_OPEN} and {_CHOSEN}",
            {**choice.parameters, "now": now},
        ).fetchone() or (0,)
    return int(count)


def note_list(warehouse: Warehouse, said: str | None, *, now: datetime, run_id: str) -> None:
    """Warn of the list of members once, for as long as `said` is true of it; None is that all is well.

    Raises:
        UserError: The warehouse cannot be opened or written.
    """
    is_open = warehouse.read("from ops.warnings where kind = 'members' and over_at is null").num_rows > 0
    if is_open == (said is not None):
        return
    with warehouse.transaction() as connection:
        if said is None:
            connection.execute(_LIST_IS_WELL, {"now": now})
        else:
            connection.execute(_LIST_LACKS, {"said": said, "now": now, "day": now.date(), "run_id": run_id})


_LIST_IS_WELL = "update ops.warnings set over_at = $now where kind = 'members' and over_at is null"

_LIST_LACKS = """
    insert into ops.warnings by name
    select 'members' as kind, 'sp500' as key, $day as date, $said as said, 0.0 as size, $now as first_seen_at,
        null as acknowledged_at, null as over_at, $run_id as run_id
    where not exists (from ops.warnings where kind = 'members' and date = $day and over_at is null)
"""
