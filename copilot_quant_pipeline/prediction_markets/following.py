"""Which markets get cells, and for how long: pure decisions on the catalog.

Here: the rule a user sets, who it chooses, who leaves the axis.
Not here: fetching the catalog, the axis itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from copilot_quant_pipeline.prediction_markets.venue import Market


@dataclass(frozen=True)
class FollowRule:
    """Markets of `venues`, of `categories` (all where empty), the `top` largest of each venue; and `ids` always.

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
        elif market.venue in by_venue and _is_of(market, rule.categories) and market.status in ("open", "closed"):
            by_venue[market.venue].append(market)
    largest = (sorted(found, key=_by_volume)[: rule.top] for found in by_venue.values())
    return [*named, *(market for found in largest for market in found)]


def plan_retired(
    markets: Iterable[Market], on_axis: Collection[str], settled: Collection[str], now: datetime, keep: timedelta
) -> list[str]:
    """The keys to take off the axis: closed for longer than `keep`, and their whole life settled."""
    return sorted(
        market.key
        for market in markets
        if market.key in on_axis
        and market.key in settled
        and market.status in ("closed", "resolved")
        and market.closes_at is not None
        and market.closes_at + keep < now
    )


def _is_of(market: Market, categories: Sequence[str]) -> bool:
    return not categories or (market.category or "").lower() in {category.lower() for category in categories}


def _by_volume(market: Market) -> tuple[Decimal, str]:
    return -(market.volume or Decimal(0)), market.key
