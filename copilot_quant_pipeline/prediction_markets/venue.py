"""What every venue of prediction markets gives: markets, and points of their prices.

Here: the protocol and its values, the same for every venue. A new venue is one module, its class's
import and one line in registry.py.
Not here: any venue's wire format (its own module), which markets are followed, what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Literal, Protocol

import pyarrow as pa

from copilot_quant_pipeline.errors import Malformed, Unavailable, VendorError
from copilot_quant_pipeline.retry_policy import RetryPolicy
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline.vendor_clock import VendorClock

# `gone` is what its venue no longer knows.
Status = Literal["unopened", "open", "closed", "resolved", "gone"]

# What of its bucket a point's stamp marks; an `instant` stands for itself.
Stamp = Literal["begins", "ends", "instant"]

PROBABILITY = pa.decimal128(9, 6)
QUANTITY = pa.decimal128(24, 6)

# One row per outcome and instant. `stamped_at` is the time as the venue sends it, `stamp` what that marks: the instant
# of the price, or the beginning or the end of the `grain_seconds` it stands for (0 is none: a settlement). A price was
# known at its stamp, or where that begins its bucket, when the bucket was over. `service` is which of the venue's
# services told it. `price` is the last one of the bucket, null where nothing traded in it (bid and ask may still be
# there); `open`, `high`, `low` where the venue tells them. Probabilities 0..1 in exact decimal, never through a float
# where the venue sends text. `price_kind`: `trade` (a price paid), `quote` (a midpoint or the venue's own display
# price), `forecast` (a community forecast), `settlement` (the final 0 or 1).
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


@dataclass(frozen=True, kw_only=True)
class Semantics:
    """What a venue's prices are and what its silence means. None of it has a default: a venue says all, or is none.

    Attributes:
        offers: `candles` stand for the hour that ends at their stamp, so that the last one of a day bears the next
            midnight; `trades` are bets one by one, `samples` prices read every hour, `changes` of a forecast.
        silence: what a day in a market's life without any point means. `no_trade`: nothing happened that day, for all
            that does is told. `lost`: a market that trades is shown every hour, so the venue should have a price of
            it. `unknown`: nothing is known of it, and such a day is never settled.
        has_history: whether it tells of the past; else of now only, and the past is what was asked for in time.
        stakes: what is put at risk, `none` where nothing is traded.
        ends_unsaid: what a resolved market is worth of which it tells neither a winner nor a value: `void` is nothing
            known, `in equal parts` the same for each outcome.
    """

    offers: Literal["candles", "trades", "samples", "changes"]
    silence: Literal["no_trade", "lost", "unknown"]
    has_history: bool
    stakes: Literal["money", "play money", "none"]
    ends_unsaid: Literal["void", "in equal parts"]


# Of a venue that is not registered (any more).
NOTHING_KNOWN = Semantics(offers="samples", silence="unknown", has_history=True, stakes="none", ends_unsaid="void")


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
        label: what tells the market from the others of its event, such as a strike; None where nothing does.
        event_title: what its event is called.
        resolved_at: when its venue settled it (aware UTC); None before, and where the venue does not say.
        facts: what the venue's own `fetch_prices` needs besides; must survive JSON. `settlement` is what the first
            outcome was worth in the end, as text, where that is neither 0 nor 1; `settlements` what each was worth by
            name, where there are more than two or they do not add up to one.
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
    label: str | None = None
    event_title: str | None = None
    resolved_at: datetime | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The market on the grid's axis: `kalshi:KXFED-24NOV-T4.75`."""
        return f"{self.venue}:{self.slug}"


@dataclass(frozen=True)
class BrokenRecord:
    """A market that cannot be read, named as well as can be; the others of its page are kept.

    `unknown`: it was asked for by this name, and the venue knows none. `reason` is the word its cells carry for it.
    """

    venue: str
    id: str
    why: str
    unknown: bool = False
    reason: str = Malformed.reason


@dataclass(frozen=True)
class Catalog:
    """What a venue lists.

    `incomplete` says, a sentence each, why it was not read to its end: then who is missing in it tells nothing.
    `beyond` are markets that were shown and left out for a limit; `shown` are the ids of all that were shown as open,
    and `down_to` the volume below which the list was not read, None where it was read to its end.
    """

    markets: tuple[Market, ...]
    broken: tuple[BrokenRecord, ...] = ()
    incomplete: tuple[str, ...] = ()
    beyond: tuple[Market, ...] = ()
    shown: frozenset[str] = frozenset()
    down_to: Decimal | None = None

    @property
    def complete(self) -> bool:
        """Whether it holds all that was asked for: what is not in it, its venue does not list."""
        return not self.incomplete

    def with_other(self, other: Catalog) -> Catalog:
        """Both; of a market that is in both, the other's."""
        markets = {market.id: market for market in (*self.markets, *other.markets)}
        broken = dict.fromkeys((*self.broken, *other.broken))
        incomplete = dict.fromkeys((*self.incomplete, *other.incomplete))
        return replace(self, markets=tuple(markets.values()), broken=tuple(broken), incomplete=tuple(incomplete))


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
class Coarse:
    """What is known of a UTC day that a silent service may have finer.

    Attributes:
        points: how many came of it, of the outcome that has the fewest.
        until: the last day on which a finer answer can be had.
    """

    points: int
    until: date


class MissingAtSource(VendorError):  # noqa: N818 named as the others in errors.py
    """A market that traded has no price on some UTC days of its life, whatever was tried.

    `points` (`POINTS`) are those of its other days, which are good. `failed` are days that something else is wrong
    with, by UTC day the cell's reason and what to say of it; there are no points on them. `coarse` are days whose
    points are good and few, while a service that may have more did not answer.
    """

    reason: str = "missing_at_source"

    def __init__(
        self,
        message: str,
        points: pa.Table,
        failed: Mapping[date, tuple[str, str]] | None = None,
        coarse: Mapping[date, Coarse] | None = None,
    ) -> None:
        super().__init__(message)
        self.points = points
        self.failed = dict(failed or {})
        self.coarse = dict(coarse or {})

    @property
    def facts(self) -> dict[str, str]:
        """What a kept refusal must say besides its message and points."""
        coarse = {day.isoformat(): [one.points, one.until.isoformat()] for day, one in self.coarse.items()}
        failed = {day.isoformat(): why for day, why in self.failed.items()}
        return {"failed": json.dumps(failed), "coarse": json.dumps(coarse)}


class Unrefined(MissingAtSource):
    """Nothing is missing: every day has its points, and those of `coarse` may be had finer another time."""

    reason: str = Unavailable.reason
    transient: bool = True


class SpoiledDays(MissingAtSource, Malformed):
    """On the days of `failed` the venue says what cannot be, and would again; those of `points` are good."""

    reason: str = Malformed.reason
    transient: bool = False


class Interrupted(MissingAtSource):
    """The venue did not answer for the days of `failed`; those of `points` are good."""

    reason: str = Unavailable.reason
    transient: bool = True


def partial_answer(kind: str, why: str, points: pa.Table, facts: Mapping[str, str]) -> MissingAtSource | None:
    """A kept refusal that brought points; None where it was of another kind."""
    kinds = {each.__name__: each for each in (MissingAtSource, SpoiledDays)}
    if kind not in kinds:
        return None
    failed, coarse = (json.loads(facts.get(name, "{}")) for name in ("failed", "coarse"))
    return kinds[kind](
        why,
        points,
        {date.fromisoformat(day): (said[0], said[1]) for day, said in failed.items()},
        {date.fromisoformat(day): Coarse(said[0], date.fromisoformat(said[1])) for day, said in coarse.items()},
    )


class Venue(Protocol):
    """One venue. Clients may be used by several threads; they pace themselves to the venue's published limits.

    Every method raises a VendorError of its kind where the venue does not answer as it should. Name and semantics are
    the class's own: they are asked for without making a client.
    """

    name: ClassVar[str]
    policy: ClassVar[RetryPolicy]
    semantics: ClassVar[Semantics]

    @property
    def heard(self) -> VendorClock:
        """What its answers say of the time."""

    @property
    def traffic(self) -> Traffic:
        """Requests sent and retries so far."""

    def fetch_markets(self, query: MarketQuery) -> Catalog:
        """The markets that `query` asks for; what is broken is named, the rest is kept."""

    def fetch_market(self, market_id: str) -> Market:
        """One market by id or slug, ended or not. Raises NotFound where the venue does not know it."""

    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table:
        """Hourly points (`POINTS`) of every outcome with start <= stamped_at < end, by outcome and time, each once."""
