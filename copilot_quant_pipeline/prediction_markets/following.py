"""Which markets get cells, and for how long: pure decisions on the catalog.

Here: the rule a user sets, who it chooses, who leaves the axis.
Not here: fetching the catalog, the axis itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from copilot_quant_pipeline.answers import shown
from copilot_quant_pipeline.grid.keys import MARKET, is_slug, judge_key
from copilot_quant_pipeline.prediction_markets.polymarket_catalog import SECTION_OF_WORD
from copilot_quant_pipeline.prediction_markets.venue import BrokenRecord, Market

# The fact that tells all that a venue files a market under; its category is one of them.
TAGS = "tags"
# The fact that tells what a renamed market's venue calls it.
NOW_CALLED = "now_called"
# The fact that tells what a market's venue calls outcomes that are known by other names.
OUTCOMES_CALLED = "outcomes_called"
# What a run of the catalog tells: the keys of the markets its rule chose, the venues that did not answer, the names
# that wait for a key, what is wrong, what is news, and what is broken that nobody follows.
CHOSEN, OUT_OF_REACH, WAITING = "chosen", "out of reach", "waiting"
FAULTS, NEWS, NOTES = "faults", "news", "notes"
# Ids are counted up; so many digits more make a token.
LONGEST_ID = 18
ENDED = ("closed", "resolved", "gone")


@dataclass(frozen=True)
class FollowRule:
    """Open markets of `venues`, of `categories` (all where empty), the `top` largest of each; and `ids` always.

    A market is of a category that is any of the words its venue files it under, as the venue's listing has it.
    `ids` are keys as on the axis, `kalshi:KXFED-24NOV-T4.75`; `with_ended` takes ended markets among the largest, too.
    """

    venues: tuple[str, ...]
    categories: tuple[str, ...] = ()
    top: int = 50
    ids: tuple[str, ...] = ()
    with_ended: bool = False

    def names_at(self, venue: str) -> tuple[str, ...]:
        """What `ids` are called at their venue, of this one."""
        return tuple(name for asked, _, name in (one.partition(":") for one in self.ids) if asked == venue)

    def covers(self, market: Market) -> bool:
        """Whether the market is of one of the venues, and of one of the categories where there are any."""
        return market.venue in self.venues and is_of(market, self.categories)

    @property
    def statuses(self) -> tuple[str, ...]:
        """Of what status a market is that is chosen for its size."""
        return ("open", *ENDED) if self.with_ended else ("open",)


def plan_followed(markets: Iterable[Market], rule: FollowRule) -> list[Market]:
    """The markets the rule chooses, largest first within each venue; each once."""
    by_venue: dict[str, list[Market]] = {name: [] for name in rule.venues}
    named: list[Market] = []
    for market in markets:
        if market.key in rule.ids:
            named.append(market)
        elif market.venue in by_venue and is_of(market, rule.categories) and market.status in rule.statuses:
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


def expect_key(market: Market) -> Market | BrokenRecord:
    """The market, if its key can be on the axis and its id in a request; whatever record it was made of."""
    if not is_slug(market.id):
        return BrokenRecord(market.venue, shown(market.id), f"{shown(market.id)} can be no id of a market")
    wrong = judge_key(MARKET, market.key)
    return market if wrong is None else BrokenRecord(market.venue, market.id, f"{wrong} (its id is no better)")


def keep_outcomes(market: Market, known: Market | None) -> Market | BrokenRecord:
    """The market with the outcomes it is `known` by; a token's outcome never changes, nor a name's token.

    Outcomes may come in another order, and new ones may join. Where only what a token's outcome is called has changed,
    the known name stays and what it is called now is a fact. Where names have moved to other tokens it cannot be told
    what a price is of: the record is broken.
    """
    old, new = _tokens_of(known), _tokens_of(market)
    if not old or not new or old <= new:
        return market
    lost = sorted(old - new)
    names, tokens = {name for name, _ in new}, {token for _, token in new}
    called = {name: next(other for other, of in sorted(new) if of == token) for name, token in lost if token in tokens}
    moved = [name for name, _ in lost if name in names]
    taken = [name for name in called.values() if name in {name for name, _ in old}]
    if moved or taken or len({token for _, token in old}) < len(old) or len(tokens) < len(new):
        return BrokenRecord(market.venue, market.id, f"{market.key}'s outcomes {_pairs(old)} have become {_pairs(new)}")
    return _with_names(market, {now: name for name, now in called.items()})


def _tokens_of(market: Market | None) -> frozenset[tuple[str, str]]:
    return frozenset((one.name, one.token) for one in (market.outcomes if market else ()) if one.token)


def _pairs(outcomes: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({token[:12]})" for name, token in sorted(outcomes))


def _with_names(market: Market, names: Mapping[str, str]) -> Market:
    if not names:
        return market
    outcomes = tuple(replace(one, name=names.get(one.name, one.name)) for one in market.outcomes)
    result = None if market.result is None else names.get(market.result, market.result)
    called = {name: now for now, name in names.items()}
    facts = {**market.facts, OUTCOMES_CALLED: called}
    if isinstance(settled := facts.get("settlements"), Mapping):
        facts["settlements"] = {names.get(name, name): worth for name, worth in settled.items()}
    return replace(market, outcomes=outcomes, result=result, facts=facts)


def plan_keys(known: Iterable[Market], names: Iterable[str]) -> dict[str, str]:
    """The key of the market that each of `names` means; a name of none stands for itself.

    A market may be named by its key, by its venue's id for it or for one of its outcomes, or by what its venue calls it
    now.
    """
    stored = list(known)
    # By what is surest last. Venues may count their outcomes as they count their markets: a token is a name where it
    # can be no id.
    every = ((market, outcome.token) for market in stored for outcome in market.outcomes)
    tokens = ((market, token) for market, token in every if len(token) > LONGEST_ID)
    others = ((market, market.facts.get(fact)) for fact in ("condition_id", NOW_CALLED) for market in stored)
    ids = ((market, market.id) for market in stored)
    keys = {f"{market.venue}:{name}": market.key for market, name in (*tokens, *others, *ids) if name}
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
