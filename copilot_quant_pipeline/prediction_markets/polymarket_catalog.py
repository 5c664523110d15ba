"""What Polymarket's Gamma answers say of markets.

Here: pure reading of market and event records and of keyset pages, recent and legacy shapes.
Not here: asking (polymarket.py), prices over time (polymarket_prices.py).
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from copilot_quant_pipeline.answers import SIX_DIGITS, bounded_number, shown
from copilot_quant_pipeline.errors import Malformed
from copilot_quant_pipeline.grid.keys import is_slug
from copilot_quant_pipeline.prediction_markets.pages import Page
from copilot_quant_pipeline.prediction_markets.venue import Broken, Catalog, Market, Outcome, Status

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

NAMELESS = "without a name"
Kind = Literal["markets", "events"]


def parse_page(answer: Any, kind: Kind) -> Page[Any, str]:
    """A keyset page of records of markets or events.

    Raises:
        Malformed: It is no such page.
    """
    records = answer.get(kind) if isinstance(answer, dict) else None
    if not isinstance(records, list):
        raise Malformed(f"{VENUE}'s page of {kind} is none: {str(answer)[:80]!r}")
    cursor = answer.get("next_cursor") or None
    if cursor is not None and not isinstance(cursor, str):
        raise Malformed(f"{VENUE}'s page of {kind} has a cursor that is no text: {str(cursor)[:80]}")
    return Page.of(records, cursor, answer)


def parse_records(records: Sequence[Any], kind: Kind) -> Catalog:
    """The markets of a page's records; a broken one is named, the others are kept."""
    return parse_markets(records) if kind == "markets" else parse_events(records)


def key_of(record: Any) -> Hashable:
    """What tells a record of a market, or of an event with its markets, from the others of its list."""
    nested = record.get("markets") if isinstance(record, dict) else None
    inner = tuple(_name(one) for one in nested) if isinstance(nested, list) else ()
    name = _name(record)
    return (name, inner) if name != NAMELESS else json.dumps(record, default=str, sort_keys=True)


def parse_markets(records: Iterable[Any]) -> Catalog:
    """The markets of Gamma's market records."""
    return _catalog((record, None) for record in records)


def parse_events(records: Iterable[Any]) -> Catalog:
    """The markets of Gamma's event records; an event tells its markets' event, series and tags."""
    pairs: list[tuple[Any, Any]] = []
    for event in records:
        nested = event.get("markets") if isinstance(event, dict) else None
        # An event that cannot be read stands in for its markets, so that it is named and not lost.
        pairs.extend([(record, event) for record in nested] if isinstance(nested, list) else [(event, None)])
    return _catalog(pairs)


def parse_market(record: Any, event: Mapping[str, Any] | None = None) -> Market:
    """One Gamma market record, of `event` where that is not in the record itself.

    Raises:
        Malformed: Naming the market and what is wrong with it.
    """
    try:
        return _market(record, event)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"{VENUE} market {_name(record)}: {_why(record, error)}") from None


def _catalog(pairs: Iterable[tuple[Any, Any]]) -> Catalog:
    markets, broken = [], []
    for record, event in pairs:
        try:
            markets.append(parse_market(record, event))
        except Malformed as error:
            broken.append(Broken(VENUE, _name(record), str(error)))
    return Catalog(tuple(markets), tuple(broken))


def _name(record: Any) -> str:
    known = record if isinstance(record, dict) else {}
    names = (known.get(name) for name in ("id", "slug", "market_slug", "conditionId", "condition_id", "question"))
    return next((str(name) for name in names if name), NAMELESS)


def _why(record: Any, error: Exception) -> str:
    if isinstance(record, dict) and "condition_id" in record and "tokens" in record:
        return "a record of the order book's service (CLOB), not of Gamma: it has no id"
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    return " ".join(str(error).split())[:200]


def _market(record: Any, event: Mapping[str, Any] | None) -> Market:
    if not isinstance(record, dict):
        raise ValueError(f"no record: {str(record)[:60]!r}")
    market_id = str(record["id"] or "") or _missing("id")
    event = event or next(iter(record.get("events") or ()), {})
    outcomes, prices = _outcomes(record), _listed(record, "outcomePrices")
    if prices and len(prices) != len(outcomes):
        raise ValueError(f"{len(outcomes)} outcomes, {len(prices)} prices")
    status, result = _ending(record, outcomes, [_number("outcomePrices", price) for price in prices])
    tags = _tags(record.get("tags") or event.get("tags") or ())
    return Market(
        venue=VENUE,
        id=market_id,
        slug=_slug(record, market_id),
        title=str(record.get("question") or record.get("slug") or market_id),
        category=_category(tags, record.get("category") or event.get("category")),
        outcomes=outcomes,
        opened_at=_opened_at(record, status),
        closes_at=_closes_at(record, status),
        status=status,
        result=result,
        volume=_volume(record),
        event=_named(event),
        series=_series(event),
        label=str(record.get("groupItemTitle") or "").strip() or None,
        event_title=str(event.get("title") or "").strip() or None,
        resolved_at=_resolved_at(record) if status == "resolved" else None,
        facts={"condition_id": record.get("conditionId") or None, "tags": tags, **_split(status, result, prices)},
    )


def _missing(name: str) -> str:
    raise KeyError(name)


def _slug(record: Mapping[str, Any], market_id: str) -> str:
    """The slug, or the id where there is none that the grid's keys can hold."""
    slug = str(record.get("slug") or "")
    return slug if is_slug(slug) else market_id


def _listed(record: Mapping[str, Any], name: str) -> list[Any]:
    """A list that Gamma writes as JSON in a string."""
    given = record.get(name)
    if isinstance(given, str) and given.strip():
        try:
            given = json.loads(given)
        except ValueError:
            raise ValueError(f"{name} is no JSON: {given[:60]!r}") from None
    if given and not isinstance(given, list):
        raise ValueError(f"{name} is no list: {str(given)[:60]!r}")
    return list(given or ())


def _outcomes(record: Mapping[str, Any]) -> tuple[Outcome, ...]:
    """Names and tokens, matched by position; a market not yet deployed has no tokens."""
    names = [str(name) for name in _listed(record, "outcomes")]
    tokens = [str(token) for token in _listed(record, "clobTokenIds")] or [""] * len(names)
    if len(names) < 2 or len(names) != len(tokens):
        raise ValueError(f"{len(names)} outcomes, {len(tokens)} tokens")
    if len(set(names)) != len(names) or (any(tokens) and len(set(tokens)) != len(tokens)):
        raise ValueError(f"outcomes or tokens that are the same: {names}")
    return tuple(Outcome(name, token) for name, token in zip(names, tokens, strict=True))


def _ending(
    record: Mapping[str, Any], outcomes: tuple[Outcome, ...], prices: list[Decimal]
) -> tuple[Status, str | None]:
    """Gamma names no winner: final is what is closed, resolved by its oracle and priced exactly 0 and 1.

    A market resolved in equal parts (a draw, a cancelled match) is final without a winner, and so is one of Long and
    Short, whose prices say where it ended. What was closed before the oracle kept its status (prices 0/0, other
    fractions, even 0/1) is closed, and nobody says that it is final.
    """
    if not _flag(record, "closed", otherwise=False):
        tradable = _flag(record, "active", otherwise=True) and any(outcome.token for outcome in outcomes)
        return ("open" if tradable else "unopened"), None
    if record.get("umaResolutionStatus") != "resolved" or not prices:
        return "closed", None
    if sorted(prices) == [*[Decimal(0)] * (len(prices) - 1), Decimal(1)]:
        return "resolved", outcomes[prices.index(Decimal(1))].name
    in_equal_parts = all(abs(price * len(prices) - 1) < EQUAL_WITHIN for price in prices)
    is_scalar = {outcome.name for outcome in outcomes} == SCALAR and sum(prices) == 1
    return ("resolved" if in_equal_parts or is_scalar else "closed"), None


def _split(status: Status, result: str | None, prices: list[Any]) -> dict[str, str]:
    """What an outcome was worth where a market is final without a winner."""
    return {"settlement": str(prices[0])} if status == "resolved" and result is None else {}


def _flag(record: Mapping[str, Any], name: str, *, otherwise: bool) -> bool:
    given = record.get(name)
    return otherwise if given is None else str(given).lower() == "true"


def _number(name: str, given: Any) -> Decimal:
    try:
        return bounded_number(given)
    except ValueError:
        raise ValueError(f"{name} is no number: {shown(given)}") from None


def _volume(record: Mapping[str, Any]) -> Decimal | None:
    """Dollars to a millionth; the text is exact where the number beside it is rounded."""
    given = record.get("volume")
    given = record.get("volumeNum") if given in (None, "") else given
    return None if given is None else _number("volume", given).quantize(SIX_DIGITS)


def _opened_at(record: Mapping[str, Any], status: Status) -> datetime | None:
    """When orders were first taken; two instants tell it, seconds apart, and the earlier leaves no point outside."""
    told = [_instant(record.get(name)) for name in ("startDate", "acceptingOrdersTimestamp")]
    known = [instant for instant in told if instant]
    if known:
        return min(known)
    return None if status == "unopened" else _instant(record.get("createdAt"))


def _closes_at(record: Mapping[str, Any], status: Status) -> datetime | None:
    """When trading ended, or is to end. Markets trade past their announced end until resolved: then none is known."""
    announced, seen = _instant(record.get("endDate")), _instant(record.get("updatedAt"))
    if status in ("closed", "resolved"):
        told = _instant(record.get("closedTime")) or _instant(record.get("umaEndDate"))
        # What is closed ahead of its announced end was so when its record was last changed.
        return told or min((one for one in (announced, seen) if one), default=None)
    return None if announced and seen and announced <= seen else announced


def _resolved_at(record: Mapping[str, Any]) -> datetime | None:
    """When its oracle had decided; where that is not told, when it was closed for good."""
    return _instant(record.get("umaEndDate")) or _instant(record.get("closedTime"))


def _instant(given: Any) -> datetime | None:
    """An aware UTC instant of `2024-07-18 00:10:37.491895+00` or ISO text; None of what is none (seen: `NOW*()`)."""
    with suppress(TypeError, ValueError):
        instant = datetime.fromisoformat(given)
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    return None


def _tags(given: Iterable[Any]) -> list[str]:
    slugs = (tag.get("slug") if isinstance(tag, dict) else tag for tag in given)
    return [str(slug).lower() for slug in slugs if slug]


def _category(tags: list[str], told: Any) -> str | None:
    sections = [tag for tag in tags if tag in SECTIONS]
    others = [tag for tag in tags if tag not in DISPLAY_TAGS]
    return next(iter([*sections, *([str(told).lower()] if told else []), *others]), None)


def _series(event: Mapping[str, Any]) -> str | None:
    several = event.get("series")
    first = several[0] if isinstance(several, list) and several and isinstance(several[0], dict) else {}
    return _named(first) or _named({"slug": event.get("seriesSlug")})


def _named(group: Mapping[str, Any]) -> str | None:
    return next((str(group[name]) for name in ("slug", "ticker") if group.get(name)), None)
