from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from copilot_quant_pipeline.errors import UserError, VendorError
from copilot_quant_pipeline.prediction_markets.registry import make_venue, venue_names
from copilot_quant_pipeline.prediction_markets.venue import POINTS, MarketQuery
from copilot_quant_pipeline.retry_policy import RequestRate
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline_tests.prediction_markets.loopback import Loopback, answer

NOW = datetime(2024, 3, 29, 14, 0, tzinfo=UTC)
# Of each point which service told it, its grain in seconds, and what of that its stamp marks.
TOLD_BY = {
    "polymarket": ("clob", 3600, "instant"),
    "kalshi": ("live", 3600, "ends"),
    "manifold": ("bets", 3600, "instant"),
    "predictit": ("marketdata", 3600, "instant"),
    "metaculus": ("posts", 3600, "instant"),
}
ALL = ("polymarket", "kalshi", "manifold", "predictit", "metaculus")


def test_the_venues_are_known_by_name() -> None:
    assert venue_names() == ALL


def test_an_unknown_venue_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'intrade' is not known; choose one of polymarket, kalshi, .*metaculus\."):
        make_venue("intrade", Settings())


@pytest.mark.parametrize("name", ALL)
def test_a_venue_is_made_for_live_use_without_being_asked(name: str) -> None:
    venue = make_venue(name, Settings(source="live", metaculus_token="hush"))  # noqa: S106
    assert (venue.name, venue.traffic) == (name, Traffic())


def test_metaculus_needs_its_token() -> None:
    with pytest.raises(UserError, match="COPILOT_QUANT_METACULUS_TOKEN"):
        make_venue("metaculus", Settings(source="live"))


@pytest.mark.parametrize("name", ALL)
def test_a_venue_is_asked_as_often_and_as_fast_as_the_settings_say(name: str) -> None:
    with Loopback() as down:
        down.answers = [answer(500, "down")]
        how = {"rates": {name: RequestRate(3)}, "attempts": {name: 1}}
        venue = make_venue(name, Settings(pinned_now=NOW, **how).with_venues_at(down.url))  # type: ignore[arg-type]
        began = time.monotonic()
        for _ in range(4):
            with pytest.raises(VendorError):
                venue.fetch_market("123")
        assert venue.traffic.retries == 0
        # One venue's answer, a failure, too, serves for a minute.
        assert venue.traffic.requests >= (1 if name == "predictit" else 4)
        assert time.monotonic() - began > 0.9 or name == "predictit"


@pytest.mark.parametrize("name", ALL)
def test_every_venue_answers_the_protocol_from_the_sandbox(name: str, tmp_path: Path) -> None:
    with Sandbox(now=NOW) as sandbox:
        settings = Settings(home=tmp_path, pinned_now=NOW).with_venues_at(sandbox.url)
        venue = make_venue(name, settings)
        markets = venue.fetch_markets(MarketQuery(limit=3, with_ended=False)).markets
        assert 0 < len(markets) <= 3
        assert {market.venue for market in markets} == {name}
        market = venue.fetch_market(markets[0].slug)
        assert market.key == markets[0].key
        midnight = NOW.replace(hour=0)
        points = venue.fetch_prices(market, midnight, midnight.replace(day=30))
        assert points.schema == POINTS
        said = {tuple(row.values()) for row in points.select(["service", "grain_seconds", "stamp"]).to_pylist()}
        assert said <= {TOLD_BY[name]}
        assert set(points["outcome"].to_pylist()) <= {outcome.name for outcome in market.outcomes}
        assert venue.traffic.requests > 0
        assert venue.traffic.retries == 0
        assert "unrouted" not in sandbox.requests()


def test_no_client_is_imported_before_it_is_asked_for() -> None:
    listing = (
        "import sys; from copilot_quant_pipeline.prediction_markets.registry import venue_names; venue_names();"
        "print([name for name in sys.modules if name.rsplit('.', 1)[-1] in venue_names()])"
    )
    printed = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
