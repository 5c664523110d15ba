"""What one venue says of its markets, held against what is known of them; the same for every venue.

Here: a venue's listing, the markets asked for by name, what follows for those that it shows no more.
Not here: a venue's routes (its own module), storing (warehouse/catalog.py), which markets get cells (following.py).

A venue's answer can be short: a page that ends early, a proxy that cuts it, a service that knows nothing today. So who
is missing in a list is asked for by name, in batches and then alone, before anything is concluded from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from copilot_quant_pipeline.errors import Malformed, NotFound, RateLimited, Unavailable, VendorError
from copilot_quant_pipeline.prediction_markets.following import (
    OUTCOMES_CALLED,
    FollowRule,
    expect_key,
    keep_keys,
    keep_outcomes,
    plan_keys,
)
from copilot_quant_pipeline.prediction_markets.venue import BrokenRecord, Catalog, Market, MarketQuery, Venue

# A listing has lost many where more than so many, and more than so large a share, of those shown before are missing.
LOST, LOST_SHARE = 20, 0.1
# Asked for at once until it is known whether many are lost; of more than so many an even sample tells.
ASKED_AT_ONCE, ASKED_AT_MOST = 100, 400
# So often those are asked for in batches that the batches before left out, while these bring any.
BATCHES_ANEW = 3
# So many in a row that are not answered for, or by no record of a market, and the others will not be either.
FAILURES_IN_A_ROW = 3
# What says nothing about the record.
PASSING = (RateLimited.reason, Unavailable.reason)
SPELLED_OUT = 3


@dataclass(frozen=True)
class Known:
    """What was known before a look.

    `markets` are all that are stored, `followed` the keys of those that have cells, `listed` the ids that the last
    complete listing of the same question showed as open, `broken` those that were told as broken already.
    """

    markets: Sequence[Market] = ()
    followed: Collection[str] = ()
    listed: Collection[str] = ()
    broken: Collection[str] = ()


@dataclass(frozen=True)
class Look:
    """What a look at one venue found.

    Attributes:
        markets: under the keys they are known by.
        gone: the keys of stored markets that the venue knows no more.
        waiting: names that get no key yet, since no record of theirs was read: the reason, and what was said.
        faults: what keeps somebody's markets from being seen as they are, until the venue or a person mends it.
        news: what somebody must know besides.
        notes: what is newly broken and concerns no market that anybody follows; `broken` are all such, by id.
        shown: the ids that the listing showed as open; None where it was not complete, or not asked for.
        down: why the listing could not be had.
    """

    markets: tuple[Market, ...] = ()
    gone: tuple[str, ...] = ()
    waiting: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    news: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    broken: frozenset[str] = frozenset()
    shown: frozenset[str] | None = None
    down: VendorError | None = None


@dataclass(frozen=True)
class NamedMarkets:
    """What a venue says of markets asked for by name: each name is in one of the last three, or means a market."""

    markets: tuple[Market, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    unanswered: Mapping[str, VendorError] = field(default_factory=dict)


def look_at(venue: Venue, rule: FollowRule, known: Known) -> Look:
    """What the venue lists by `rule`, and what it says of each market that the rule names."""
    listed, error = _listing(venue, rule)
    names = rule.names_at(venue.name)
    named = fetch_named(venue, _not_among(venue.name, names, (*listed.markets, *listed.beyond)))
    found = _Found(venue, rule, known, listed, error, named)
    is_whole = venue.name in rule.venues and not (error or listed.incomplete or found.lost)
    return Look(
        markets=found.held,
        gone=() if found.doubt else found.departed,
        waiting=found.waiting,
        faults=tuple(found.faults),
        news=(_said(venue.name, error),) if isinstance(error, NotFound) else (),
        notes=tuple(_broken(venue.name, one, why) for one, why in found.beside.items() if one not in known.broken),
        broken=frozenset(found.beside),
        shown=listed.shown if is_whole else None,
        down=None if isinstance(error, NotFound) else error,
    )


def fetch_named(venue: Venue, names: Sequence[str]) -> NamedMarkets:
    """The markets of `names` (ids, or what else their venue knows them by): in batches, who is left out alone."""
    found, told = dict[str, Market](), dict[str, BrokenRecord]()
    left = tuple(dict.fromkeys(names))
    for _ in range(BATCHES_ANEW):
        batch = _batch(venue, left) if left else Catalog(())
        if isinstance(batch, VendorError):
            return replace(_answered(found, told), unanswered=dict.fromkeys(left, batch))
        found |= {market.id: market for market in batch.markets}
        told |= {one.id: one for one in batch.broken if not one.unknown}
        left = tuple(name for name in _not_among(venue.name, left, batch.markets) if name not in told)
        if not batch.markets:
            break
    markets, failed = _alone(venue, left)
    found |= {market.id: market for market in markets}
    return _answered(found, told | {one.id: one for one in failed})


def _answered(found: Mapping[str, Market], told: Mapping[str, BrokenRecord]) -> NamedMarkets:
    read = {name: one for name, one in told.items() if not one.unknown}
    passing = {name: one for name, one in read.items() if one.reason in PASSING}
    return NamedMarkets(
        markets=tuple(found.values()),
        unknown={name: one.why for name, one in told.items() if one.unknown},
        broken={name: one.why for name, one in read.items() if name not in passing},
        unanswered={name: Unavailable(one.why) for name, one in passing.items()},
    )


def has_lost_many(missing: int, of: int) -> bool:
    """Whether so many of those that a listing showed before are too many to be missing in it by chance."""
    return missing > LOST and missing > LOST_SHARE * of


def _listing(venue: Venue, rule: FollowRule) -> tuple[Catalog, VendorError | None]:
    if venue.name not in rule.venues:
        return Catalog(()), None
    try:
        query = MarketQuery(rule.categories, limit=rule.top, with_ended=rule.with_ended)
        return venue.fetch_markets(query), None
    except VendorError as error:
        return Catalog(()), error


def _batch(venue: Venue, names: tuple[str, ...]) -> Catalog | VendorError:
    """What requests for many give; nothing where they are refused: then each is asked for alone. Or that it is down."""
    try:
        return venue.fetch_markets(MarketQuery(ids=names))
    except VendorError as error:
        return error if error.transient and not isinstance(error, Malformed) else Catalog(())


def _alone(venue: Venue, names: Iterable[str]) -> tuple[list[Market], list[BrokenRecord]]:
    """What each alone is answered with; a venue that fails again and again is not asked for those that are left."""
    markets, failed = list[Market](), list[BrokenRecord]()
    in_a_row: list[VendorError] = []
    for name in names:
        if len(in_a_row) >= FAILURES_IN_A_ROW:
            failed.append(BrokenRecord(venue.name, name, str(in_a_row[-1]), reason=Unavailable.reason))
            continue
        try:
            markets.append(_expect_meant(venue.fetch_market(name), name))
            in_a_row = []
        except VendorError as error:
            failed.append(BrokenRecord(venue.name, name, str(error), isinstance(error, NotFound), error.reason))
            in_a_row = [*in_a_row, error] if error.transient else []
    return markets, failed


def _expect_meant(market: Market, name: str) -> Market:
    """The market, if it is the one that was asked for; a slug may lead to one that is called otherwise by now."""
    is_other = bool(_not_among(market.venue, [name], [market]))
    if is_other and (name.isdecimal() or market.slug == market.id):
        raise Malformed(f"{market.venue} answers with {market.id} where {name} was asked for")
    return market


def _not_among(venue: str, names: Iterable[str], markets: Sequence[Market]) -> tuple[str, ...]:
    """The names that mean none of `markets`."""
    keys = {market.key for market in markets}
    meant = plan_keys(markets, (f"{venue}:{name}" for name in names))
    return tuple(name.partition(":")[2] for name, key in meant.items() if key not in keys)


@dataclass(frozen=True)
class _Found:
    """A venue's answers side by side with what was known."""

    venue: Venue
    rule: FollowRule
    known: Known
    listed: Catalog
    error: VendorError | None
    named: NamedMarkets

    @cached_property
    def held(self) -> tuple[Market, ...]:
        """What was described, under known keys and with known outcomes."""
        return tuple(one for one in self._told if isinstance(one, Market))

    @cached_property
    def departed(self) -> tuple[str, ...]:
        """The keys of stored markets that the venue, asked for each alone, knows no more."""
        return tuple(key for name in self.named.unknown if (key := self._key(name)) in self._stored)

    @cached_property
    def waiting(self) -> dict[str, tuple[str, str]]:
        """The names no record was read of, now or before: the reason, and what was said."""
        said = {
            **{name: ("unknown_market", why) for name, why in self.named.unknown.items()},
            **{name: (Malformed.reason, why) for name, why in self.named.broken.items()},
            **{name: (error.reason, str(error)) for name, error in self.named.unanswered.items()},
        }
        asked = {name: said[name] for name in self.rule.names_at(self.venue.name) if name in said}
        return {f"{self.venue.name}:{name}": why for name, why in asked.items() if self._key(name) not in self._have}

    @cached_property
    def doubt(self) -> str | None:
        """Why nothing is gone though the venue says so: it does not know either what it has just shown."""
        new = [key for key in self.departed if self._stored[key].status != "gone"]
        if not new:
            return None
        said = f"{self.venue.name} says that it knows no {_some(new)}"
        witness = next(iter((*self.listed.markets, *self.named.markets)), None)
        if witness is None:
            return f"{said}; it shows no other market either, so nothing is concluded"
        try:
            self.venue.fetch_market(witness.id)
        except VendorError as error:
            return f"{said}, nor {witness.key}, which it shows ({error}); nothing is concluded"
        return None

    @cached_property
    def lost(self) -> str | None:
        """What is told of a listing that misses many of those the last complete one showed, and that still stand."""
        before = len(self.known.listed)
        missing = sorted(set(self.known.listed) - self.listed.shown - {one.id for one in self.listed.broken})
        if self.error or self.listed.incomplete or not has_lost_many(len(missing), before):
            return None
        standing = self._standing(missing, before)
        if not has_lost_many(standing, before):
            return None
        return (
            f"{self.venue.name}'s listing has lost many: of {before:,} markets that the last complete one showed as"
            f" open {len(missing):,} are missing, and {standing:,} of these or more are open or were not answered for"
        )

    @property
    def faults(self) -> Iterator[str]:
        """What keeps somebody's markets from being seen as they are."""
        name = self.venue.name
        if self.error and not isinstance(self.error, NotFound):
            yield _said(name, self.error)
        yield from (f"{name}: what it lists is incomplete: {why}" for why in self.listed.incomplete)
        yield from (one for one in (self.lost, self.doubt) if one)
        yield from (_broken(name, one, why) for one, why in self._broken.items() if one not in self.beside)
        yield from self._renamed
        silent = [self._key(one) for one in self.named.unanswered if self._key(one) in self._stored]
        if silent:
            yield f"{name} does not answer for {_some(silent)}: {next(iter(self.named.unanswered.values()))}"
        for key, (reason, why) in self.waiting.items():
            asked = key.partition(":")[2]
            if reason == "unknown_market":
                yield f"{name} {asked} is unknown: {why}"
            elif reason == Malformed.reason:
                yield f"{_broken(name, asked, why)}; it gets no key before it can be read"
            else:
                yield f"{key} gets no key before it can be read: {why}"

    @property
    def _renamed(self) -> Iterator[str]:
        """Told once: outcomes that go on under the names they are known by."""
        for market in self.held:
            known, called = self._stored.get(market.key), market.facts.get(OUTCOMES_CALLED)
            if called and known and known.facts.get(OUTCOMES_CALLED) != called:
                now = ", ".join(f"{name} is {other}" for name, other in called.items())
                yield f"{market.key}'s outcomes are called otherwise now ({now}); they stay under their known names"

    @cached_property
    def beside(self) -> dict[str, str]:
        """By id what is wrong with records of markets that nobody follows."""
        return {one: why for one, why in self._broken.items() if not self._is_followed(one)}

    @cached_property
    def _told(self) -> list[Market | BrokenRecord]:
        """Each market that was described, or what is wrong with its outcomes; beyond the limit the known ones only."""
        names = set(self.rule.names_at(self.venue.name))
        beside = [one for one in self.listed.beyond if one.id in self._ids or names & {one.id, one.slug}]
        told = {one.id: one for one in (*beside, *self.listed.markets, *self.named.markets)}
        kept = (expect_key(one) for one in keep_keys(told.values(), self.known.markets))
        return [keep_outcomes(one, self._ids.get(one.id)) if isinstance(one, Market) else one for one in kept]

    @cached_property
    def _broken(self) -> dict[str, str]:
        """By id or name what is wrong with records that came; those that wait for a key are told as that."""
        conflicts = {one.id: one.why for one in self._told if isinstance(one, BrokenRecord)}
        every = {**{one.id: one.why for one in self.listed.broken}, **self.named.broken, **conflicts}
        return {one: why for one, why in every.items() if f"{self.venue.name}:{one}" not in self.waiting}

    @cached_property
    def _ids(self) -> dict[str, Market]:
        return {one.id: one for one in self.known.markets if one.venue == self.venue.name}

    @cached_property
    def _stored(self) -> dict[str, Market]:
        return {one.key: one for one in self.known.markets}

    @cached_property
    def _have(self) -> frozenset[str]:
        return frozenset((*self._stored, *(one.key for one in self.held)))

    @cached_property
    def _keys(self) -> dict[str, str]:
        said = (
            *self.named.unknown,
            *self.named.broken,
            *self.named.unanswered,
            *(one.id for one in self.listed.broken),
        )
        ids = (*said, *(one.id for one in self._told if isinstance(one, BrokenRecord)))
        names = (f"{self.venue.name}:{name}" for name in (*ids, *self.rule.names_at(self.venue.name)))
        return plan_keys((*self.known.markets, *self.held), names)

    def _key(self, name: str) -> str:
        return self._keys[f"{self.venue.name}:{name}"]

    def _is_followed(self, name: str) -> bool:
        named = {self._key(one) for one in self.rule.names_at(self.venue.name)}
        return self._key(name) in named or self._key(name) in self.known.followed

    def _standing(self, missing: Sequence[str], before: int) -> int:
        """How many of the missing are open or not answered for; at least so many, once that is too many."""
        step = -(-len(missing) // ASKED_AT_MOST)
        asked, standing = missing[::step], 0
        for first in range(0, len(asked), ASKED_AT_ONCE):
            some = fetch_named(self.venue, asked[first : first + ASKED_AT_ONCE])
            open_ones = [one for one in some.markets if one.status == "open" and self._is_in_reach(one)]
            standing += step * (len(open_ones) + len(some.unanswered) + len(some.broken))
            if has_lost_many(standing, before):
                break
        return min(standing, len(missing))

    def _is_in_reach(self, market: Market) -> bool:
        """Whether the listing went down to it: one that takes the largest only need not show it any more."""
        return self.listed.down_to is None or (market.volume or 0) >= self.listed.down_to


def _said(venue: str, error: VendorError) -> str:
    return f"{venue}: {error.reason} ({error})"


def _broken(venue: str, name: str, why: str) -> str:
    return f"{venue} {name} is broken: {why}"


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - SPELLED_OUT:,} more" if len(keys) > SPELLED_OUT else ""
    return ", ".join(keys[:SPELLED_OUT]) + more
