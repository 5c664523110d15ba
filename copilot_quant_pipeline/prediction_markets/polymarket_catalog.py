"""What Polymarket's Gamma answers say of markets.

Here: pure reading of market and event records and of keyset pages, recent and legacy shapes.
Not here: asking (polymarket.py), prices over time (polymarket_prices.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from copilot_quant_pipeline.answers import shown
from copilot_quant_pipeline.errors import Malformed
from copilot_quant_pipeline.grid.keys import is_slug
from copilot_quant_pipeline.prediction_markets import shapes
from copilot_quant_pipeline.prediction_markets.pages import Page
from copilot_quant_pipeline.prediction_markets.shapes import (
    Flag,
    Listed,
    LooseInstant,
    MaybeName,
    Name,
    Quantity,
    Shape,
    Words,
    cursor_in,
    named,
    parsed,
    records_in,
    shaped,
)
from copilot_quant_pipeline.prediction_markets.venue import BrokenRecord, Catalog, Market, Outcome, Status

VENUE = "polymarket"

# Polymarket files a market under many tags. Its category is the first tag that is one of the sections of its site;
# where none is, the record's own `category` (which only old markets have), else the first tag not about display.
NEWS = ("politics", "elections", "geopolitics", "world", "economy", "business", "finance", "earnings", "tech", "ai")
LIFE = ("sports", "esports", "crypto", "science", "pop-culture", "culture", "weather", "mentions", "health")
SECTIONS = frozenset((*NEWS, *LIFE))
DISPLAY_TAGS = frozenset({"all", "featured", "trending", "breaking", "new"})
# Words of other venues for these sections.
SECTION_OF_WORD = {"economics": "economy", "entertainment": "pop-culture", "climate and weather": "weather"}

# A third is written with some digits.
EQUAL_WITHIN = Decimal("0.001")
SCALAR = {"Long", "Short"}

Kind = Literal["markets", "events"]
NAMES = ("id", "slug", "market_slug", "conditionId", "condition_id", "question")


class GammaSeries(Shape):
    """What groups events."""

    slug: MaybeName | None = None
    ticker: MaybeName | None = None


class GammaEvent(Shape):
    """An event; its markets are records of their own."""

    rare = frozenset({"category", "seriesSlug", "series"})

    title: Words | None = None
    slug: MaybeName | None = None
    ticker: MaybeName | None = None
    category: Words | None = None
    tags: Listed | None = None
    series: list[GammaSeries] | None = None
    seriesSlug: MaybeName | None = None  # noqa: N815 the venue's


class GammaMarket(Shape):
    """A market."""

    rare = frozenset(
        {"acceptingOrdersTimestamp", "category", "closedTime", "events", "groupItemTitle", "tags"}
        | {"umaEndDate", "umaResolutionStatus"}
    )

    id: Name
    slug: MaybeName | None = None
    question: Words | None = None
    conditionId: MaybeName | None = None  # noqa: N815
    outcomes: Listed | None = None
    outcomePrices: Listed | None = None  # noqa: N815
    clobTokenIds: Listed | None = None  # noqa: N815
    active: Flag | None = None
    closed: Flag | None = None
    umaResolutionStatus: Words | None = None  # noqa: N815
    volume: Quantity | None = None
    volumeNum: Quantity | None = None  # noqa: N815
    startDate: LooseInstant | None = None  # noqa: N815
    acceptingOrdersTimestamp: LooseInstant | None = None  # noqa: N815
    createdAt: LooseInstant | None = None  # noqa: N815
    endDate: LooseInstant | None = None  # noqa: N815
    updatedAt: LooseInstant | None = None  # noqa: N815
    closedTime: LooseInstant | None = None  # noqa: N815
    umaEndDate: LooseInstant | None = None  # noqa: N815
    groupItemTitle: Words | None = None  # noqa: N815
    category: Words | None = None
    tags: Listed | None = None
    events: list[GammaEvent] | None = None


class GammaListed(GammaEvent):
    """An event with its markets, as lists have it."""

    markets: list[GammaMarket] | None = None


NO_EVENT = GammaEvent()


def parse_page(answer: Any, kind: Kind) -> Page[Any, str]:
    """A keyset page of records of markets or events.

    Raises:
        Malformed: It is no such page.
    """
    records = records_in(answer, f"{VENUE}'s page of {kind}", kind)
    cursor, is_cut = cursor_in(answer, "next_cursor")
    return Page.of(records, cursor, answer, has_more=is_cut)


def parse_records(records: Sequence[Any], kind: Kind) -> Catalog:
    """The markets of a page's records; a broken one is named, the others are kept."""
    return parse_markets(records) if kind == "markets" else parse_events(records)


def key_of(record: Any) -> Hashable:
    """What tells a record of a market, or of an event with its markets, from the others of its list."""
    return shapes.key_of(record, "markets", *NAMES)


def parse_markets(records: Iterable[Any]) -> Catalog:
    """The markets of Gamma's market records."""
    return _catalog((record, None) for record in records)


def parse_events(records: Iterable[Any]) -> Catalog:
    """The markets of Gamma's event records; an event tells its markets' event, series and tags."""
    pairs: list[tuple[Any, GammaEvent | None]] = []
    broken = []
    for event in records:
        nested = event.get("markets") if isinstance(event, dict) else None
        try:
            known = shaped(event, GammaEvent)
        except Malformed as error:
            # Its markets are markets without it, too.
            broken.append(BrokenRecord(VENUE, _name(event), f"{VENUE} event {_name(event)}: {error}"))
            known = NO_EVENT
        # An event that tells no markets stands in for them, so that it is named and not lost.
        pairs.extend([(record, known) for record in nested] if isinstance(nested, list) else [(event, None)])
    found = _catalog(pairs)
    return replace(found, broken=(*found.broken, *broken))


def parse_market(record: Any, event: GammaEvent | None = None) -> Market:
    """One Gamma market record, of `event` where that is not in the record itself.

    Raises:
        Malformed: Naming the market and what is wrong with it.
    """
    try:
        return parsed(lambda one: _market(shaped(one, GammaMarket), event), record)
    except Malformed as error:
        raise Malformed(f"{VENUE} market {_name(record)}: {_why(record, error)}") from None


def _catalog(pairs: Iterable[tuple[Any, GammaEvent | None]]) -> Catalog:
    markets, broken = [], []
    for record, event in pairs:
        try:
            markets.append(parse_market(record, event))
        except Malformed as error:
            broken.append(BrokenRecord(VENUE, _name(record), str(error)))
    return Catalog(tuple(markets), tuple(broken))


def _name(record: Any) -> str:
    return named(record, *NAMES)


def _why(record: Any, error: Malformed) -> str:
    if isinstance(record, dict) and "condition_id" in record and "tokens" in record:
        return "a record of the order book's service (CLOB), not of Gamma: it has no id"
    return str(error)


def _market(record: GammaMarket, event: GammaEvent | None) -> Market:
    event = event or next(iter(record.events or ()), NO_EVENT)
    outcomes, prices = _outcomes(record), [_price(price) for price in record.outcomePrices or ()]
    if prices and len(prices) != len(outcomes):
        raise ValueError(f"{len(outcomes)} outcomes, {len(prices)} prices")
    status, result = _ending(record, outcomes, prices)
    tags = _tags(record.tags or event.tags or ())
    return Market(
        venue=VENUE,
        id=record.id,
        slug=_slug(record),
        title=record.question or record.slug or record.id,
        category=_category(tags, record.category or event.category),
        outcomes=outcomes,
        opened_at=_opened_at(record, status),
        closes_at=_closes_at(record, status),
        status=status,
        result=result,
        # Dollars to a millionth; the text is exact where the number beside it is rounded.
        volume=record.volumeNum if record.volume is None else record.volume,
        event=event.slug or event.ticker,
        series=_series(event),
        label=(record.groupItemTitle or "").strip() or None,
        event_title=(event.title or "").strip() or None,
        # When its oracle had decided; where that is not told, when it was closed for good.
        resolved_at=(record.umaEndDate or record.closedTime) if status == "resolved" else None,
        facts={"condition_id": record.conditionId, "tags": tags, **_split(status, result, prices)},
    )


def _slug(record: GammaMarket) -> str:
    """The slug, or the id where there is none that the grid's keys can hold."""
    slug = record.slug or ""
    return slug if is_slug(slug) else record.id


def _outcomes(record: GammaMarket) -> tuple[Outcome, ...]:
    """Names and tokens, matched by position; a market not yet deployed has no tokens."""
    names = [_text(name) for name in record.outcomes or ()]
    tokens = [_text(token) for token in record.clobTokenIds or ()] or [""] * len(names)
    if len(names) < 2 or len(names) != len(tokens):
        raise ValueError(f"{len(names)} outcomes, {len(tokens)} tokens")
    if len(set(names)) != len(names) or (any(tokens) and len(set(tokens)) != len(tokens)):
        raise ValueError(f"outcomes or tokens that are the same: {shown(names)}")
    return tuple(Outcome(name, token) for name, token in zip(names, tokens, strict=True))


def _ending(record: GammaMarket, outcomes: tuple[Outcome, ...], prices: list[Decimal]) -> tuple[Status, str | None]:
    """Gamma names no winner: final is what is closed, resolved by its oracle and priced exactly 0 and 1.

    A market resolved in equal parts (a draw, a cancelled match) is final without a winner, and so is one of Long and
    Short, whose prices say where it ended. What was closed before the oracle kept its status (prices 0/0, other
    fractions, even 0/1) is closed, and nobody says that it is final.
    """
    if not record.closed:
        tradable = record.active is not False and any(outcome.token for outcome in outcomes)
        return ("open" if tradable else "unopened"), None
    if record.umaResolutionStatus != "resolved" or not prices:
        return "closed", None
    if sorted(prices) == [*[Decimal(0)] * (len(prices) - 1), Decimal(1)]:
        return "resolved", outcomes[prices.index(Decimal(1))].name
    in_equal_parts = all(abs(price * len(prices) - 1) < EQUAL_WITHIN for price in prices)
    is_scalar = {outcome.name for outcome in outcomes} == SCALAR and sum(prices) == 1
    return ("resolved" if in_equal_parts or is_scalar else "closed"), None


def _split(status: Status, result: str | None, prices: list[Any]) -> dict[str, str]:
    """What an outcome was worth where a market is final without a winner."""
    return {"settlement": str(prices[0])} if status == "resolved" and result is None else {}


def _price(given: Any) -> Decimal:
    price = shapes.number(given)
    if price is None:
        raise ValueError("outcomePrices: one is empty")
    return price


def _text(given: Any) -> str:
    """The name of an outcome, or its token; empty where it has none yet."""
    return "" if given == "" else shapes.name(given)


def _opened_at(record: GammaMarket, status: Status) -> datetime | None:
    """When orders were first taken; two instants tell it, seconds apart, and the earlier leaves no point outside."""
    known = [instant for instant in (record.startDate, record.acceptingOrdersTimestamp) if instant]
    if known:
        return min(known)
    return None if status == "unopened" else record.createdAt


def _closes_at(record: GammaMarket, status: Status) -> datetime | None:
    """When trading ended, or is to end. Markets trade past their announced end until resolved: then none is known."""
    announced, seen = record.endDate, record.updatedAt
    if status in ("closed", "resolved"):
        # What is closed ahead of its announced end was so when its record was last changed.
        return record.closedTime or record.umaEndDate or min((one for one in (announced, seen) if one), default=None)
    return None if announced and seen and announced <= seen else announced


def _tags(given: Iterable[Any]) -> list[str]:
    slugs = (tag.get("slug") if isinstance(tag, dict) else tag for tag in given)
    return [shapes.name(slug).lower() for slug in slugs if slug]


def _category(tags: list[str], told: str | None) -> str | None:
    sections = [tag for tag in tags if tag in SECTIONS]
    others = [tag for tag in tags if tag not in DISPLAY_TAGS]
    return next(iter([*sections, *([told.lower()] if told else []), *others]), None)


def _series(event: GammaEvent) -> str | None:
    first = next(iter(event.series or ()), GammaSeries())
    return first.slug or first.ticker or event.seriesSlug
