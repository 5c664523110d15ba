"""The simulated prediction markets that every simulated venue of them shares.

Here: which markets there are, when they open, close and resolve, and what they traded at, hour by hour.
Not here: how a venue writes any of this (its own module); shares of companies (market.py).

All times are absolute, so what is past is the same for every clock: a venue shows of it what its clock has reached.
Random numbers are drawn market by market for its whole life, a pure function of seed, venue, number and hour.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Seconds = npt.NDArray[np.int64]
Status = Literal["unannounced", "unopened", "open", "closed", "resolved"]

HOUR = 3600
FIRST_OPENED = datetime(2023, 1, 2, 14, 0, tzinfo=UTC)
COUNTS = {"polymarket": 1200, "kalshi": 1200, "manifold": 300, "predictit": 150, "metaculus": 150}
# The two large venues go on: each year's generation opens within some months and lives for one to three years, so that
# there are hundreds of open markets whenever the sandbox is asked, most of them with a long past.
GENERATIONS, OF_A_GENERATION = {"polymarket": 6, "kalshi": 6}, 600
FIRST_GENERATION = datetime(2024, 7, 1, 14, 0, tzinfo=UTC)
# Venues whose single markets may have more than two outcomes; elsewhere an event has several markets instead.
WITH_MANY_OUTCOMES = frozenset({"manifold", "predictit", "metaculus"})
MARKETS_OF_AN_EVENT = 3
YES_NO = ("Yes", "No")

# Of each category the series and what their questions ask; {at} is a strike or a rank.
SERIES = {
    "politics": (("SENATE", "Will party {at} hold the Senate"), ("SPEAKER", "Will candidate {at} be Speaker")),
    "economics": (("FED", "Will the policy rate be above {at}%"), ("CPI", "Will inflation be above {at}%")),
    "sports": (("CUP", "Will team {at} win the cup"), ("MATCH", "Team {at} or Team B")),
    "crypto": (("BTC", "Will bitcoin be above {at}0,000 dollars"), ("ETH", "Will ether be above {at},000 dollars")),
    "weather": (("HIGHNY", "Will New York be hotter than {at} degrees"), ("RAIN", "Will it rain {at} inches")),
}
CATEGORIES = tuple(SERIES)


@dataclass(frozen=True)
class SimulatedMarket:
    """One market; times are aware UTC, in whole seconds.

    Attributes:
        venue, number: where, and its place among the venue's markets, from 0.
        id: a decimal number, as text.
        slug: `simulated-fed-12-above-3`, lower case with hyphens.
        ticker: `KXSIMFED-12-T3`, upper case; begins with `event`, which begins with `series`.
        title: the question.
        category: one of CATEGORIES.
        event, event_title: three markets in a row share one.
        series: `KXSIMFED`.
        outcomes: their names, two or more.
        winner: position in `outcomes`.
        announced_at: when the venue begins to list it.
        opened_at: when trading begins.
        closes_at: when trading ends; before `scheduled_at` for some, which a venue does not know until then.
        scheduled_at: when trading is said to end.
        resolved_at: when the winner is final.
        volume: dollars traded over the whole life; 0 where nothing ever trades.
        tick: the price step, 0.01 or 0.001.
        quiet: the share of hours without a trade.
    """

    venue: str
    number: int
    id: str
    slug: str
    ticker: str
    title: str
    category: str
    event: str
    event_title: str
    series: str
    outcomes: tuple[str, ...]
    winner: int
    announced_at: datetime
    opened_at: datetime
    closes_at: datetime
    scheduled_at: datetime
    resolved_at: datetime
    volume: float
    tick: float
    quiet: float

    def status_at(self, now: datetime) -> Status:
        """How far the market is at `now`."""
        if now < self.announced_at:
            return "unannounced"
        if now < self.opened_at:
            return "unopened"
        if now < self.closes_at:
            return "open"
        return "closed" if now < self.resolved_at else "resolved"

    def ends_at(self, now: datetime) -> datetime:
        """When trading ends or ended, as far as it is known at `now`."""
        return self.closes_at if now >= self.closes_at else self.scheduled_at

    def volume_at(self, now: datetime) -> float:
        """Dollars traded until `now`, in cents."""
        lived = (now - self.opened_at) / (self.closes_at - self.opened_at)
        return round(self.volume * min(max(lived, 0.0), 1.0), 2)

    @property
    def hours(self) -> Seconds:
        """The ends of the hours of its life, unix seconds: after it opens, the last one when it closes or before."""
        first = int(self.opened_at.timestamp()) // HOUR + 1
        last = int(self.closes_at.timestamp()) // HOUR
        return np.arange(first, last + 1, dtype=np.int64) * HOUR


@dataclass(frozen=True)
class HourlyPrices:
    """Prices of one outcome, one row per hour, ascending; probabilities are multiples of the market's tick.

    `at` is the hour's end in unix seconds; `probability` the price at that instant, `open`, `high` and `low` those of
    the hour; `volume` dollars traded in the hour (0 in a quiet one), `open_interest` dollars.
    """

    at: Seconds
    probability: Floats
    open: Floats
    high: Floats
    low: Floats
    bid: Floats
    ask: Floats
    volume: Floats
    open_interest: Floats

    def __len__(self) -> int:
        return len(self.at)

    def of(self, rows: npt.NDArray[np.bool_] | slice) -> HourlyPrices:
        """Some of the rows."""
        return HourlyPrices(*(getattr(self, column.name)[rows] for column in fields(self)))


@dataclass(frozen=True)
class _Walk:
    """A market's life: `probability` of each outcome before each hour and after the last, and the hours' `noise`."""

    probability: Floats
    noise: Floats


class SimulatedMarkets:
    """The prediction markets of one seed."""

    def __init__(self, seed: int = 7) -> None:
        self._seed = seed
        self._walk = lru_cache(maxsize=256)(self._draw_walk)

    def markets(self, venue: str, count: int | None = None) -> tuple[SimulatedMarket, ...]:
        """The venue's markets by number, announced or not; the first `count` of them.

        Raises:
            KeyError: No such venue.
        """
        return _draw_all(self._seed, venue)[:count]

    def listed(self, venue: str, now: datetime) -> list[SimulatedMarket]:
        """The markets that the venue has announced by `now`, by number."""
        return [market for market in _draw_all(self._seed, venue) if market.announced_at <= now]

    def find(self, venue: str, name: str) -> SimulatedMarket | None:
        """The market whose id, slug or ticker is `name`."""
        return _draw_names(self._seed, venue).get(name)

    def prices(self, market: SimulatedMarket, start: datetime, end: datetime, outcome: int = 0) -> HourlyPrices:
        """What the outcome at that position traded at in the hours that end at `start` or later and before `end`.

        A clock that has not reached an hour's end does not know it: pass the clock where it is before `end`.
        """
        hours = market.hours
        low, high = np.searchsorted(hours, [start.timestamp(), end.timestamp()])
        walk = self._walk(market)
        path = _in_ticks(walk.probability[outcome, low : high + 1].astype(np.float64), market.tick)
        return _priced(market, hours[low:high], path, walk.noise[:, low:high], outcome)

    def _draw_walk(self, market: SimulatedMarket) -> _Walk:
        generator = _generator(self._seed, "walk", market.venue, market.number)
        hours = len(market.hours)
        noise = generator.random((2, hours), dtype=np.float32)
        if not market.volume:
            even = np.full((len(market.outcomes), hours + 1), 1 / len(market.outcomes), dtype=np.float32)
            return _Walk(even, noise)
        return _Walk(_probabilities(generator, hours, len(market.outcomes), market.winner), noise)


@lru_cache(maxsize=32)
def _draw_all(seed: int, venue: str) -> tuple[SimulatedMarket, ...]:
    count = COUNTS[venue] + GENERATIONS.get(venue, 0) * OF_A_GENERATION
    return tuple(_draw_market(seed, venue, number) for number in range(count))


@lru_cache(maxsize=32)
def _draw_names(seed: int, venue: str) -> dict[str, SimulatedMarket]:
    return {name: market for market in _draw_all(seed, venue) for name in (market.id, market.slug, market.ticker)}


def _generator(seed: int, *names: object) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32("/".join(str(name) for name in names).encode())])


def _draw_market(seed: int, venue: str, number: int) -> SimulatedMarket:
    draw = _generator(seed, "market", venue, number)
    place, in_event = divmod(number, MARKETS_OF_AN_EVENT)
    category = CATEGORIES[place % len(CATEGORIES)]
    series, question = SERIES[category][place // len(CATEGORIES) % len(SERIES[category])]
    event, strike = f"KXSIM{series}-{place}", in_event + 1
    outcomes = _outcomes(draw, venue, question.format(at=strike))
    return SimulatedMarket(
        venue=venue,
        number=number,
        id=str(500_000 + 7 * number),
        slug=f"simulated-{series.lower()}-{place}-at-{strike}",
        ticker=f"{event}-T{strike}",
        title=f"{question.format(at=strike)}? (simulated {place})",
        category=category,
        event=event,
        event_title=f"Simulated {series.title()} {place}",
        series=f"KXSIM{series}",
        outcomes=outcomes,
        winner=int(draw.integers(len(outcomes))),
        **_draw_times(draw, venue, number),
        volume=0.0 if number % 17 == 16 else round(10 ** draw.uniform(3, 7), 2),
        tick=0.001 if number % 7 == 3 else 0.01,
        quiet=float(draw.uniform(0.02, 0.3)),
    )


def _outcomes(draw: np.random.Generator, venue: str, question: str) -> tuple[str, ...]:
    if " or " in question:
        one, other = question.split(" or ")
        return (one, other)
    if venue in WITH_MANY_OUTCOMES and draw.random() < 0.25:
        return tuple(f"Option {letter}" for letter in "ABCDE"[: draw.integers(3, 6)])
    return YES_NO


def _draw_times(draw: np.random.Generator, venue: str, number: int) -> dict[str, datetime]:
    """Of the first markets every other lives one to three years from 2023 or 2024 on, the rest some days to months."""
    first = FIRST_OPENED
    if number >= COUNTS[venue]:
        generation = (number - COUNTS[venue]) // OF_A_GENERATION
        first = FIRST_GENERATION + timedelta(days=365 * generation)
        opens_after, lives = draw.uniform(0, 240), draw.uniform(450, 1100)
    elif number % 2:
        opens_after, lives = draw.uniform(0, 1800), 2 + draw.exponential(40)
    else:
        opens_after, lives = draw.uniform(0, 500), draw.uniform(400, 1100)
    opened = _in_minutes(first + timedelta(days=opens_after))
    closes = _in_minutes(opened + timedelta(days=lives))
    ends_early = draw.random() < 0.3
    return {
        "announced_at": _in_minutes(opened - timedelta(days=draw.uniform(0, 3))),
        "opened_at": opened,
        "closes_at": closes,
        "scheduled_at": _in_minutes(closes + timedelta(days=draw.uniform(1, 30))) if ends_early else closes,
        "resolved_at": _in_minutes(closes + timedelta(hours=draw.uniform(1, 72))),
    }


def _in_minutes(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)


def _probabilities(generator: np.random.Generator, hours: int, outcomes: int, winner: int) -> Floats:
    """Each outcome's probability, outcomes x (hours + 1): each its chance of being ahead at the end of a random walk.

    The walks are tied to an end at which the winner is ahead. Two outcomes share one walk, so that they sum to 1.
    """
    walks = 1 if outcomes == 2 else outcomes
    steps = np.arange(hours + 1)
    walk = np.zeros((walks, hours + 1))
    np.cumsum(generator.standard_normal((walks, hours), dtype=np.float32), axis=1, out=walk[:, 1:])
    ends = (0.2 + np.abs(generator.standard_normal((walks, 1)))) * np.sqrt(hours)
    ends[np.arange(walks) != winner] *= -1
    starts = 0.7 * generator.standard_normal((walks, 1)) * np.sqrt(hours)
    tied = starts + walk - (steps / hours) * (walk[:, -1:] + starts - ends)
    # The logistic curve stands in for the normal distribution's, which it follows closely at this scale.
    score = np.clip(1.702 * tied / np.sqrt(hours - steps + 0.25), -30, 30)
    odds = np.exp(score) if walks > 1 else np.concatenate([np.exp(score), np.ones_like(score)])
    return np.asarray(odds / odds.sum(axis=0), dtype=np.float32)


def _in_ticks(probability: Floats, tick: float) -> Floats:
    return np.clip(np.round(np.round(probability / tick) * tick, 3), tick, round(1 - tick, 3))


def _priced(market: SimulatedMarket, at: Seconds, path: Floats, noise: Floats, outcome: int) -> HourlyPrices:
    """`path` has one price more than there are hours: the one before the first."""
    before, price, tick = path[:-1], path[1:], market.tick
    quiet = (noise[0] < market.quiet) | (market.volume == 0)
    wander = np.where(quiet, 0.0, np.floor(noise[1] * 3) * tick)
    spread = tick * (1 + market.number % 3)
    # The second outcome's book is the first one's seen from the other side: its walk is already the complement.
    return HourlyPrices(
        at=at,
        probability=price,
        open=before,
        high=_within(np.maximum(before, price) + wander),
        low=_within(np.minimum(before, price) - wander),
        bid=_within(price - spread),
        ask=_within(price + spread),
        volume=_volumes(market, quiet, noise[1]),
        open_interest=_open_interest(market, at),
    )


def _within(prices: Floats) -> Floats:
    return np.round(np.clip(prices, 0.0, 1.0), 3)


def _volumes(market: SimulatedMarket, quiet: npt.NDArray[np.bool_], noise: Floats) -> Floats:
    """Dollars in cents; over a life they come to about the market's volume."""
    usual = market.volume / max(len(market.hours), 1) / (1 - market.quiet)
    return np.where(quiet, 0.0, np.round(np.maximum(2 * usual * noise.astype(np.float64), 0.01), 2))


def _open_interest(market: SimulatedMarket, at: Seconds) -> Floats:
    opened, closes = market.opened_at.timestamp(), market.closes_at.timestamp()
    return np.round(0.3 * market.volume * (at - opened) / (closes - opened), 2)
