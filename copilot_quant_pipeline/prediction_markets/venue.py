"""What every venue of prediction markets gives: markets, and points of their prices.

Here: the protocol and its values, the same for every venue. A new venue is one module and one line in registry.py.
Not here: any venue's wire format (its own module), which markets are followed, what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Literal, Protocol

import pyarrow as pa

from copilot_quant_pipeline.errors import Malformed, Unavailable, VendorError

# `gone` is what its venue no longer knows.
Status = Literal["unopened", "open", "closed", "resolved", "gone"]

PROBABILITY = pa.decimal128(9, 6)
QUANTITY = pa.decimal128(24, 6)

# One row per outcome and instant. `price` is the last price of the interval that ends at `stamped_at`, null where
# nothing traded in it (bid and ask may still be there); `open`, `high`, `low` where the venue tells them. Probabilities
# 0..1 in exact decimal, never through a float where the venue sends text. `price_kind`: `trade` (a price paid), `quote`
# (a midpoint or the venue's own display price), `forecast` (a community forecast), `settlement` (the final 0 or 1).
POINTS = pa.schema(
    [
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("stamped_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("price", PROBABILITY),
        pa.field("open", PROBABILITY),
        pa.field("high", PROBABILITY),
        pa.field("low", PROBABILITY),
        pa.field("bid", PROBABILITY),
        pa.field("ask", PROBABILITY),
        pa.field("volume", QUANTITY),
        pa.field("open_interest", QUANTITY),
        pa.field("price_kind", pa.string(), nullable=False),
        pa.field("service", pa.string()),
        pa.field("grain_seconds", pa.int32()),
        pa.field("stamp", pa.string()),
    ]
)


# What is shorter may pass without an hourly point, even of a market that trades.
SHORTEST_WITH_POINTS = timedelta(hours=2)


@dataclass(frozen=True)
class Outcome:
    """One thing a market can end as; `token` is what the venue knows its prices by, empty where by the market."""

    name: str
    token: str = ""


@dataclass(frozen=True)
class Market:
    """One market as its venue describes it now.

    Attributes:
        venue: the venue's name in lower case.
        id: the venue's own id; it never changes, while a slug may.
        slug: what a user writes; with the venue it is the key on the axis. Holds none of `| [ ] ,` nor blanks. A market
            keeps the one it was first seen with, though its venue renames it.
        title: the question.
        category: the venue's word for what it is about, lower case; None where it has none.
        outcomes: in the venue's order; two for a yes/no market.
        opened_at: when trading began (aware UTC), None where the venue does not say.
        closes_at: when trading ends or ended (aware UTC), None where open-ended.
        status: `resolved` only once the outcome is final.
        result: the name of the outcome that won; None where none has or the market was void.
        volume: what was traded in all, in the venue's unit (dollars, contracts, shares), None where it does not say.
        event: what the venue groups markets by, and
        series: what it groups events by; None where it has neither.
        facts: what the venue's own `fetch_prices` needs besides; must survive JSON. `settlement` is what the first
            outcome was worth in the end, as text, where that is neither 0 nor 1.
    """

    venue: str
    id: str
    slug: str
    title: str
    category: str | None
    outcomes: tuple[Outcome, ...]
    opened_at: datetime | None
    closes_at: datetime | None
    status: Status
    result: str | None = None
    volume: Decimal | None = None
    event: str | None = None
    series: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The market on the grid's axis: `kalshi:KXFED-24NOV-T4.75`."""
        return f"{self.venue}:{self.slug}"


@dataclass(frozen=True)
class Broken:
    """A market that cannot be read, named as well as can be; the others of its page are kept.

    `unknown`: it was asked for by this name, and the venue knows none.
    """

    venue: str
    id: str
    why: str
    unknown: bool = False


@dataclass(frozen=True)
class Catalog:
    """What a venue lists."""

    markets: tuple[Market, ...]
    broken: tuple[Broken, ...] = ()


@dataclass(frozen=True)
class MarketQuery:
    """Which markets to list: of these categories (all where empty), open or also ended, the `limit` largest by volume.

    `ids` names markets (ids or slugs) instead of all that.
    """

    categories: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    limit: int | None = None
    with_ended: bool = True


@dataclass(frozen=True)
class Traffic:
    """How often a venue was asked, and how many of these requests repeated a failed one."""

    requests: int = 0
    retries: int = 0


class MissingAtSource(VendorError):  # noqa: N818 named as the others in errors.py
    """A market that traded has no price on some UTC days of its life, whatever was tried.

    `points` (`POINTS`) are those of its other days, which are good. `failed` are days that something else is wrong
    with, by UTC day the cell's reason and what to say of it; there are no points on them.
    """

    reason: ClassVar[str] = "missing_at_source"

    def __init__(self, message: str, points: pa.Table, failed: Mapping[date, tuple[str, str]] | None = None) -> None:
        super().__init__(message)
        self.points = points
        self.failed = dict(failed or {})

    @property
    def facts(self) -> dict[str, str]:
        """What a kept refusal must say besides its message and points."""
        return {"failed": json.dumps({day.isoformat(): why for day, why in self.failed.items()})}


class Spoiled(MissingAtSource, Malformed):
    """On the days of `failed` the venue says what cannot be, and would again; those of `points` are good."""

    reason: ClassVar[str] = Malformed.reason
    transient: ClassVar[bool] = False


class Interrupted(MissingAtSource):
    """The venue did not answer for the days of `failed`; those of `points` are good."""

    reason: ClassVar[str] = Unavailable.reason
    transient: ClassVar[bool] = True


def partial_answer(kind: str, why: str, points: pa.Table, facts: Mapping[str, str]) -> MissingAtSource | None:
    """A kept refusal that brought points; None where it was of another kind."""
    kinds = {each.__name__: each for each in (MissingAtSource, Spoiled)}
    if kind not in kinds:
        return None
    failed = json.loads(facts.get("failed", "{}"))
    return kinds[kind](why, points, {date.fromisoformat(day): (said[0], said[1]) for day, said in failed.items()})


class Venue(Protocol):
    """One venue. Clients may be used by several threads; they pace themselves to the venue's published limits.

    Every method raises a VendorError of its kind where the venue does not answer as it should.
    """

    name: str

    @property
    def traffic(self) -> Traffic:
        """Requests sent and retries so far."""

    def fetch_markets(self, query: MarketQuery) -> Catalog:
        """The markets that `query` asks for; what is broken is named, the rest is kept."""

    def fetch_market(self, market_id: str) -> Market:
        """One market by id or slug, ended or not. Raises NotFound where the venue does not know it."""

    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table:
        """Hourly points (`POINTS`) of every outcome with start <= stamped_at < end, by outcome and time, each once."""
