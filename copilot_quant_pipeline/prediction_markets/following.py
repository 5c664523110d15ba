"""Which markets get cells, and for how long: pure decisions on the catalog.

Here: the rule a user sets, who it chooses, who leaves the axis.
Not here: fetching the catalog, the axis itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from copilot_quant_pipeline.grid.keys import is_slug
from copilot_quant_pipeline.prediction_markets.polymarket_catalog import SECTION_OF_WORD
from copilot_quant_pipeline.prediction_markets.venue import Market

# The fact that tells all that a venue files a market under; its category is one of them.
TAGS = "tags"
# The fact that tells what a renamed market's venue calls it.
NOW_CALLED = "now_called"
# What a run of the catalog tells: the keys of the markets its rule chose, and the venues that did not answer.
CHOSEN, OUT_OF_REACH = "chosen", "out of reach"
ENDED = ("closed", "resolved", "gone")


@dataclass(frozen=True)
class FollowRule:
    """Open markets of `venues`, of `categories` (all where empty), the `top` largest of each; and `ids` always.

    A market is of a category that is any of the words its venue files it under, as the venue's listing has it.
    `ids` are keys as on the axis, `kalshi:KXFED-24NOV-T4.75`.
    """

    venues: tuple[str, ...]
    categories: tuple[str, ...] = ()
    top: int = 50
    ids: tuple[str, ...] = ()


def plan_followed(markets: Iterable[Market], rule: FollowRule) -> list[Market]:
    """The markets the rule chooses, largest first within each venue; each once."""
    by_venue: dict[str, list[Market]] = {name: [] for name in rule.venues}
    named: list[Market] = []
    for market in markets:
        if market.key in rule.ids:
            named.append(market)
        elif market.venue in by_venue and is_of(market, rule.categories) and market.status == "open":
            by_venue[market.venue].append(market)
    largest = (sorted(found, key=_by_volume)[: rule.top] for found in by_venue.values())
    return [*named, *(market for found in largest for market in found)]


def keep_keys(markets: Iterable[Market], known: Iterable[Market]) -> list[Market]:
    """The markets under the keys they are `known` by: a venue may rename a market, its id stays.

    What it is called now is a fact of it. Another market that takes over a known one's name, and one whose name can be
    no key, goes by its id. What a market belongs to stays known when its venue does not say it any more (an event that
    was deleted).
    """
    stored = {(market.venue, market.id): market for market in known}
    owners = {market.key: market.id for market in stored.values()}
    return [_as_known(market, stored.get((market.venue, market.id)), owners.get(market.key)) for market in markets]


def _as_known(market: Market, known: Market | None, owner: str | None) -> Market:
    if known:
        belongs = {name: getattr(market, name) or getattr(known, name) for name in ("category", "event", "series")}
        market, slug = replace(market, **belongs), known.slug
    else:
        slug = market.slug if owner in (None, market.id) and is_slug(market.slug) else market.id
    if slug == market.slug:
        return market
    return replace(market, slug=slug, facts={**market.facts, NOW_CALLED: market.slug})


def plan_keys(known: Iterable[Market], names: Iterable[str]) -> dict[str, str]:
    """The key of the market that each of `names` means; a name of none stands for itself.

    A market may be named by its key, by its venue's id for it or for one of its outcomes, or by what its venue calls it
    now.
    """
    stored = list(known)
    keys: dict[str, str] = {}
    for market in stored:
        tokens = (outcome.token for outcome in market.outcomes)
        others = (market.id, market.facts.get(NOW_CALLED), market.facts.get("condition_id"), *tokens)
        keys |= {f"{market.venue}:{name}": market.key for name in others if name}
    keys |= {market.key: market.key for market in stored}
    return {name: keys.get(name, name) for name in names}


def plan_retired(
    markets: Iterable[Market], on_axis: Collection[str], settled: Collection[str], now: datetime, keep: timedelta
) -> list[str]:
    """The keys to take off the axis: closed for longer than `keep`, and their whole life settled."""
    return sorted(
        market.key
        for market in markets
        if market.key in on_axis
        and market.key in settled
        and market.status in ENDED
        and market.closes_at is not None
        and market.closes_at + keep < now
    )


def is_of(market: Market, categories: Sequence[str]) -> bool:
    """Whether the market's venue files it under one of `categories`, or under its own word for one; all where empty."""
    words = {word.lower() for word in (market.category, *market.facts.get(TAGS, ())) if word}
    asked = {category.lower() for category in categories}
    return not asked or not words.isdisjoint(asked | {SECTION_OF_WORD[word] for word in asked & SECTION_OF_WORD.keys()})


def _by_volume(market: Market) -> tuple[Decimal, str]:
    return -(market.volume or Decimal(0)), market.key
