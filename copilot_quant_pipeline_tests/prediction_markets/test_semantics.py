"""Claims about what a venue must say of itself, and what comes of its silence where it says that nothing is known."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.grid import keys
from copilot_quant_pipeline.grid.cells import Rectangle, Span
from copilot_quant_pipeline.prediction_markets import registry
from copilot_quant_pipeline.prediction_markets.manifold import Manifold
from copilot_quant_pipeline.prediction_markets.prices import settle_span
from copilot_quant_pipeline.prediction_markets.registry import semantics_of, venue_names
from copilot_quant_pipeline.prediction_markets.sources import MarketSources
from copilot_quant_pipeline.prediction_markets.venue import (
    POINTS,
    Catalog,
    Market,
    MarketQuery,
    Outcome,
    Semantics,
)
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline.upkeep.freshness import judge_venue
from copilot_quant_pipeline.warehouse.checks import OpenMarket

NOW = datetime(2026, 3, 13, 21, tzinfo=UTC)
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
SAID = {
    "offers": '"trades"',
    "silence": '"no_trade"',
    "has_history": "True",
    "stakes": '"money"',
    "ends_unsaid": '"void"',
}
MODULE = """
from datetime import datetime
from typing import ClassVar
import pyarrow as pa
from copilot_quant_pipeline.prediction_markets.venue import Catalog, Market, MarketQuery, Semantics, Venue
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline.vendor_clock import VendorClock

class Sixth:
    name: ClassVar[str] = "sixth"
    policy: ClassVar[RetryPolicy] = RetryPolicy(RequestRate(1))
    {semantics}
    @property
    def heard(self) -> VendorClock: raise NotImplementedError
    @property
    def traffic(self) -> Traffic: raise NotImplementedError
    def fetch_markets(self, query: MarketQuery) -> Catalog: raise NotImplementedError
    def fetch_market(self, market_id: str) -> Market: raise NotImplementedError
    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table: raise NotImplementedError

def _sixth() -> type[Venue]:
    return Sixth
"""


def test_a_venue_that_forgets_what_its_silence_means_does_not_type_check(tmp_path: Path) -> None:
    lacking = {f"without_{left_out}": {name: SAID[name] for name in SAID if name != left_out} for left_out in SAID}
    modules = {name: f"semantics: ClassVar[Semantics] = Semantics({_call(said)})" for name, said in lacking.items()}
    modules |= {"whole": f"semantics: ClassVar[Semantics] = Semantics({_call(SAID)})", "without_any": ""}
    for name, semantics in modules.items():
        (tmp_path / f"{name}.py").write_text(MODULE.format(semantics=semantics))
    files = [str(tmp_path / f"{name}.py") for name in modules]
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(PROJECT), "--cache-dir", str(tmp_path / "cache"), *files],
        cwd=PROJECT.parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    errors = {Path(line.split(":")[0]).stem: line for line in told.splitlines() if ": error:" in line}
    assert sorted(errors) == sorted(set(modules) - {"whole"}), told
    assert '"silence"' in errors["without_silence"]


def _call(said: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in said.items())


def test_every_venue_says_it_without_being_made() -> None:
    assert {name: semantics_of(name).silence for name in venue_names()} == {
        "polymarket": "lost",
        "kalshi": "no_trade",
        "manifold": "no_trade",
        "predictit": "unknown",
        "metaculus": "no_trade",
    }
    # Metaculus needs a token to be made.
    assert semantics_of("metaculus").stakes == "none"
    assert semantics_of("intrade").silence == "unknown"
    assert Manifold.semantics.stakes == "play money"


class Sixth:
    """A venue of which nobody knows what its silence means; it has a price of the 11th of March only."""

    name: ClassVar[str] = "sixth"
    policy: ClassVar[RetryPolicy] = RetryPolicy(RequestRate(1))
    semantics: ClassVar[Semantics] = Semantics(
        offers="trades", silence="unknown", has_history=True, stakes="money", ends_unsaid="void"
    )
    traffic = Traffic()

    def __init__(self, *, policy: RetryPolicy | None = None) -> None:
        pass

    def fetch_markets(self, query: MarketQuery) -> Catalog:
        return Catalog((self.fetch_market("one"),))

    def fetch_market(self, market_id: str) -> Market:
        opened = datetime(2026, 3, 10, 23, tzinfo=UTC)
        outcomes = (Outcome("Yes"), Outcome("No"))
        return Market("sixth", market_id, market_id, "?", None, outcomes, opened, NOW - timedelta(hours=1), "closed")

    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table:
        row = {
            **dict.fromkeys(POINTS.names),
            "stamped_at": datetime(2026, 3, 11, 12, tzinfo=UTC),
            "price_kind": "trade",
        }
        rows = [{**row, "outcome": outcome.name} for outcome in market.outcomes]
        return pa.Table.from_pylist(rows, POINTS)


@pytest.fixture
def sixth(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = registry._Listed(lambda: Sixth, lambda settings: {})
    monkeypatch.setattr(registry, "_VENUES", {**registry._VENUES, "sixth": listed})
    monkeypatch.setattr(keys, "VENUES", (*keys.VENUES, "sixth"))


@pytest.mark.usefixtures("sixth")
def test_a_sixth_venues_silence_is_red_until_it_is_known_what_it_means(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, markets_start=date(2026, 1, 1), pinned_now=NOW, source="live")
    days = tuple(date(2026, 3, day) for day in range(9, 14))
    harvest = MarketSources.reached_by(settings).harvest_prices(
        Rectangle(days, ("sixth:one",)), refresh=False, backfill=None
    )
    cells = harvest.cells.sort_by("date").to_pylist()
    # On the 10th it was open for an hour; it never says what it traded. All the same nobody knows.
    reasons = ["not_open", "missing_at_source", None, "missing_at_source", "missing_at_source"]
    assert [cell["reason"] for cell in cells] == reasons
    assert "not known" in cells[1]["detail"]


@pytest.mark.parametrize(("venue", "soft"), [("kalshi", True), ("metaculus", True), ("predictit", False), ("x", False)])
def test_only_a_venue_whose_silence_means_quiet_may_be_silent_for_long(venue: str, soft: bool) -> None:
    quiet = OpenMarket(f"{venue}:1", NOW - timedelta(hours=30), NOW - timedelta(hours=1))
    assert judge_venue(venue, [quiet], NOW).soft is soft


@given(hour=st.integers(0, 23), volume=st.sampled_from([None, 0, 7]), ended=st.booleans())
def test_an_unknown_silence_is_never_green(hour: int, volume: int | None, ended: bool) -> None:
    opened = datetime(2026, 3, 11, hour, tzinfo=UTC)
    market = replace(
        Sixth().fetch_market("one"),
        opened_at=opened,
        volume=None if volume is None else Decimal(volume),
        status="closed" if ended else "open",
    )
    span = Span(market.key, (date(2026, 3, 11), date(2026, 3, 12)))
    settled = settle_span(span, market, POINTS.empty_table(), now=NOW, source="test")
    assert settled.cells.column("outcome").unique().to_pylist() == ["failed"]
