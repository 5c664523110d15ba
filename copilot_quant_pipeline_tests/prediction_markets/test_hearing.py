"""Claims about a venue that answers with empty histories: its silence is no fact until a later look confirms it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from copilot_quant_pipeline.errors import VendorError
from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.prediction_markets.kalshi import Kalshi
from copilot_quant_pipeline.prediction_markets.prices import days_told
from copilot_quant_pipeline.prediction_markets.sources import MarketSources
from copilot_quant_pipeline.prediction_markets.venue import Market
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.markets import SimulatedMarkets
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.tables import PRICES
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

NOW = datetime(2026, 3, 13, 7, tzinfo=UTC)
SEED = 7
BUSY = [
    f"kalshi:{market.ticker}"
    for market in SimulatedMarkets(SEED).listed("kalshi", NOW)
    if market.volume and market.opened_at < NOW - timedelta(days=20) and market.resolved_at > NOW + timedelta(days=20)
][:4]
DAYS = [date(2026, 3, day) for day in range(9, 13)]
HUSHED = DAYS[-1]


class Hushed(Kalshi):
    """Kalshi as the sandbox plays it; the histories of some days come empty."""

    hushed: frozenset[date] = frozenset()

    def fetch_prices_of(
        self, markets: Sequence[Market], start: datetime, end: datetime
    ) -> Mapping[str, pa.Table | VendorError]:
        told = super().fetch_prices_of(markets, start, end)
        return {market.key: self._without(market, told[market.key]) for market in markets}

    def _without(self, market: Market, points: pa.Table | VendorError) -> pa.Table | VendorError:
        if isinstance(points, VendorError):
            return points
        kept = [days_told(market, points.slice(n, 1)).isdisjoint(self.hushed) for n in range(points.num_rows)]
        return points.filter(pa.array(kept, pa.bool_()))


@dataclass
class Look:
    """Looks at a venue at instants of a test's choice, each stored."""

    settings: Settings
    venue: Hushed

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse_path)

    def at(self, now: datetime, *days: date, keys: Sequence[str] = BUSY) -> dict[date, set[str | None]]:
        sources = MarketSources.reached_by(replace(self.settings, pinned_now=now))
        sources._made["kalshi"] = self.venue
        harvest = sources.harvest_prices(Rectangle(days, tuple(keys)), refresh=False, backfill=None)
        sources.warehouse.settle_harvest(PRICES, harvest, run_id=str(now))
        rows = sources.warehouse.coverage("markets").to_pylist()
        return {day: {row["reason"] for row in rows if row["date"] == day} for day in days}


@pytest.fixture
def look(tmp_path: Path) -> Iterator[Look]:
    with Sandbox(now=NOW + timedelta(days=3), seed=SEED) as running:
        settings = Settings(home=tmp_path, markets_start=date(2026, 3, 1), source="live", pinned_now=NOW)
        venue = Hushed(running.url, policy=RetryPolicy(RequestRate(100_000)), wait=lambda _: 0.0)
        yield Look(settings.with_venues_at(running.url), venue)


def test_a_silent_day_is_red_until_a_later_look_hears_of_a_later_day(look: Look) -> None:
    look.venue.hushed = frozenset({HUSHED})
    assert look.at(NOW, *DAYS) == {**{day: {None} for day in DAYS[:-1]}, HUSHED: {"unavailable"}}
    # Silent again, too soon; and a day later, when all that comes is of that day.
    assert look.at(NOW + timedelta(hours=2), HUSHED) == {HUSHED: {"unavailable"}}
    look.venue.hushed = frozenset({HUSHED, HUSHED + timedelta(days=1), HUSHED + timedelta(days=2)})
    later = NOW + timedelta(days=1, hours=3)
    assert look.at(later, HUSHED, HUSHED + timedelta(days=1)) == {
        HUSHED: {"unavailable"},
        HUSHED + timedelta(days=1): {"unavailable"},
    }
    # The look is for the one day; later ones are asked for with it, and come.
    look.venue.hushed = frozenset({HUSHED})
    assert look.at(NOW + timedelta(days=2), HUSHED) == {HUSHED: {"no_trade"}}


def test_a_venue_that_was_only_failing_is_heard_at_the_next_look(look: Look) -> None:
    look.venue.hushed = frozenset({HUSHED})
    look.at(NOW, *DAYS)
    look.venue.hushed = frozenset()
    assert look.at(NOW + timedelta(minutes=10), HUSHED) == {HUSHED: {None}}


def test_an_answer_with_points_of_a_day_taken_for_quiet_settles_that_day_too(look: Look) -> None:
    look.venue.hushed = frozenset({HUSHED})
    assert look.at(NOW, *DAYS, keys=BUSY[:1])[HUSHED] == {"no_trade"}
    look.venue.hushed = frozenset()
    # The days on both sides are asked for, in one request.
    look.at(NOW + timedelta(days=1), DAYS[0], HUSHED + timedelta(days=1), keys=BUSY[:1])
    (row,) = look.warehouse.coverage("markets", BUSY[:1], HUSHED, HUSHED).to_pylist()
    assert row["rows"] > 0
    assert row["reason"] is None
