"""What one run brings in: the cells that were asked for and the rows that came.

Here: the values handed from a vendor's room to the warehouse, and the words for why a cell has no rows.
Not here: how they are stored (warehouse/warehouse.py) or fetched (equities).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.redaction import presentable
from copilot_quant_pipeline.warehouse.tables import UTC_TIME, Column, Table

# Settled without rows: the venue answered, and this is why there is nothing to store.
EMPTY_REASONS = ("not_listed", "delisted", "no_trade", "no_price", "not_open", "closed", "no_history")

# Failed: the cell stays red and is asked for again.
FAILURES = (
    "missing_at_source",
    "malformed_bar",
    "unknown_symbol",
    "another_instrument",
    "another_currency",
    "rate_limited",
    "unavailable",
    "malformed_response",
    "rejected",
    "vanished_at_source",
    "unknown_market",
    # Its day is not over by the venue's clock, which ours is ahead of; or was so when it was recorded.
    "not_over",
    "distrusted",
)

# Failures that say nothing about the cell: the venue was out of reach or would not talk, and may again any minute.
PASSING = ("rate_limited", "unavailable", "malformed_response", "not_over")

# A cell that goes on failing is left red as GIVEN_UP, with the last true reason in its detail. Failures that pass do
# not count as tries; where nothing else comes for a week, there is no venue any more. The three days are for whoever
# asks often: eight tries within an hour say no more than one.
GIVEN_UP = "given_up"

ASKED = Table(
    schema="harvest",
    name="cells",
    description="The cells a run asked for and what became of each.",
    key=("date", "key"),
    columns=(
        Column("date", pa.date32(), "The cell's date."),
        Column("key", pa.string(), "The cell's symbol or market.", check="key <> ''"),
        Column("outcome", pa.string(), "settled or failed.", check="outcome in ('settled', 'failed')"),
        Column(
            "reason",
            pa.string(),
            "Why a settled cell has no rows, or why a cell failed.",
            nullable=True,
            check=f"case outcome when 'failed' then coalesce(reason in {FAILURES}, false)"
            f" else coalesce(reason in {EMPTY_REASONS}, true) end",
        ),
        Column("detail", pa.string(), "Free text, such as the numbers of a malformed bar.", nullable=True),
        Column("fetched_at", UTC_TIME, "When the venue was asked."),
    ),
)

CELLS = ASKED.arrow


def with_safe_details(cells: pa.Table) -> pa.Table:
    """Validated cells whose details, which are what a venue or a library said, hold no secret.

    Many cells share few details: each different one is looked at once.
    """
    details = pc.dictionary_encode(cells.column("detail")).combine_chunks()
    safe = pa.array([presentable(text) for text in details.dictionary.to_pylist()], pa.string())
    if safe.equals(details.dictionary):
        return cells
    at = cells.schema.get_field_index("detail")
    return cells.set_column(at, "detail", safe.take(details.indices))


LOOKED = Table(
    schema="harvest",
    name="windows",
    description="What the answers of a run cover, asked cells or not.",
    key=("key",),
    columns=(
        Column("key", pa.string(), "Symbol or market.", check="key <> ''"),
        Column("start", pa.date32(), "First date the answer covers."),
        Column("end", pa.date32(), "Last date, included."),
        Column("fetched_at", UTC_TIME, "When the venue was asked."),
    ),
)

WINDOWS = LOOKED.arrow

REFINABLE = Table(
    schema="harvest",
    name="refinable",
    description="Settled cells that came coarsely while a service that may have them finer did not answer.",
    key=("date", "key"),
    columns=(
        Column("date", pa.date32(), "The cell's date."),
        Column("key", pa.string(), "The cell's symbol or market.", check="key <> ''"),
        Column("finer_until", pa.date32(), "The last date on which the cell may be had finer."),
        Column("detail", pa.string(), "How coarse it is, in words."),
    ),
)

COARSE = REFINABLE.arrow


FOUND = Table(
    schema="harvest",
    name="warned",
    description="What an answer shows that a person should look at.",
    key=("kind", "key", "date"),
    columns=(
        Column("kind", pa.string(), "What is found, in a word.", check="kind <> ''"),
        Column("key", pa.string(), "Symbol or market.", check="key <> ''"),
        Column("date", pa.date32(), "The date it stands at."),
        Column("said", pa.string(), "What is found, in words."),
        Column("size", pa.float64(), "The number it is judged by: the same within 1 % is the same finding."),
    ),
)

WARNED = FOUND.arrow


@dataclass(frozen=True)
class Compared:
    """What answers contradict themselves in.

    Attributes:
        rows: what was found, in the `WARNED` schema.
        windows: what was looked at, one row per key in the `WINDOWS` schema: an earlier finding in there that is not
            among `rows` is over.
    """

    rows: pa.Table
    windows: pa.Table


@dataclass(frozen=True)
class SeenAgain:
    """What answers brought besides the asked cells; it is compared with what is stored, and adds nothing to it.

    Attributes:
        rows: in the schema of the table they belong to, none of an asked cell.
        windows: what was looked at, one row per key in the `WINDOWS` schema: a stored row in there that is not among
            `rows` is lost at the source.
    """

    rows: pa.Table
    windows: pa.Table


@dataclass(frozen=True)
class Sighting:
    """What an answer says of which company a symbol names.

    Attributes:
        kind: what it was looked at for: `another_life`, a history that begins after the last stored bar, or
            `another_history`, one whose prices are others.
        verdict: `same` is the company whose bars are stored; `another` stands for itself, `asked` needs a second
            answer, or a person.
        begins: the first bar of that history.
        listed: when the venue says the symbol was listed.
        after: the last bar of the company before.
        detail: what speaks for it.
    """

    symbol: str
    kind: Literal["another_life", "another_history"]
    verdict: Literal["same", "asked", "another"]
    seen_at: datetime
    begins: date | None = None
    listed: date | None = None
    after: date | None = None
    detail: str = ""


@dataclass(frozen=True)
class Harvest:
    """Everything that was asked is in `cells`, what came is in `rows`.

    Attributes:
        cells: one row per cell in the `CELLS` schema. A settled cell without rows gives one of
            `EMPTY_REASONS`, a failed cell one of `FAILURES`.
        rows: rows of the settled cells, in the schema of the table they go to.
        seen_again: what came besides the asked cells, where it can tell of changes.
        coarse: in the `COARSE` schema which settled cells are to be asked for again, since they may be had finer.
        compared: what the answers contradict themselves in.
        actions: what else a venue told of dividends and splits, in the schema of `equities.actions`.
        sightings: what answers say of which company a symbol names, where that is in question.
        looks: the symbols with bars that a venue did not know, in the schema of `equities.unknown_looks`.
        requests: how often a vendor was asked.
        retries: how many of those were repeats.
        started_at: when the work began by the wall clock, aware UTC.
    """

    cells: pa.Table
    rows: pa.Table
    actions: pa.Table | None = None
    seen_again: SeenAgain | None = None
    coarse: pa.Table | None = None
    sightings: Sequence[Sighting] = ()
    compared: Compared | None = None
    looks: pa.Table | None = None
    requests: int = 0
    retries: int = 0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
