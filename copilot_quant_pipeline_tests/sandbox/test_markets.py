from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from copilot_quant_pipeline.sandbox.markets import CATEGORIES, COUNTS, HourlyPrices, SimulatedMarket, SimulatedMarkets

NOW = datetime(2026, 3, 13, 21, 0, tzinfo=UTC)
EVER = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2035, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def simulated() -> SimulatedMarkets:
    return SimulatedMarkets(seed=7)


def sample(simulated: SimulatedMarkets) -> list[tuple[SimulatedMarket, list[HourlyPrices]]]:
    markets = [market for venue in COUNTS for market in simulated.markets(venue, 40)]
    return [
        (market, [simulated.prices(market, *EVER, outcome) for outcome in range(len(market.outcomes))])
        for market in markets
    ]


def test_there_are_enough_markets_of_every_kind_at_any_time(simulated: SimulatedMarkets) -> None:
    assert len(simulated.listed("polymarket", NOW)) >= 950
    assert len(simulated.listed("polymarket", datetime(2026, 11, 1, tzinfo=UTC))) >= 1000
    for now in (datetime(2024, 3, 29, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC), NOW):
        listed = simulated.listed("kalshi", now)
        assert {"open", "resolved"} <= {market.status_at(now) for market in listed}
        assert {market.category for market in listed} == set(CATEGORIES)


@pytest.mark.parametrize("year", range(2024, 2031))
@pytest.mark.parametrize("month", [3, 11])
def test_the_large_venues_have_hundreds_of_open_markets_for_years_to_come(
    simulated: SimulatedMarkets, year: int, month: int
) -> None:
    now = datetime(year, month, 14, tzinfo=UTC)
    for venue in ("polymarket", "kalshi"):
        assert sum(market.status_at(now) == "open" for market in simulated.listed(venue, now)) >= 500


def test_names_are_unique_and_find_their_market(simulated: SimulatedMarkets) -> None:
    for venue, count in COUNTS.items():
        markets = simulated.markets(venue)
        assert len(markets) >= count
        for name in ("slug", "ticker", "id"):
            assert len({getattr(market, name) for market in markets}) == len(markets)
        last = markets[-1]
        assert all(simulated.find(venue, name) == last for name in (last.id, last.slug, last.ticker))
    assert simulated.find("kalshi", "nothing") is None


def test_tickers_begin_with_their_event_and_series(simulated: SimulatedMarkets) -> None:
    for market in simulated.markets("kalshi"):
        assert market.ticker.startswith(f"{market.event}-")
        assert market.event.startswith(f"{market.series}-")


def test_probabilities_are_in_ticks_and_sum_to_about_one(simulated: SimulatedMarkets) -> None:
    for market, prices in sample(simulated):
        each = np.array([one.probability for one in prices])
        assert ((each >= market.tick) & (each <= 1 - market.tick)).all()
        assert np.allclose(each / market.tick, np.round(each / market.tick), atol=1e-6)
        if len(market.outcomes) == 2:
            assert np.allclose(each.sum(axis=0), 1, atol=1.01 * market.tick)


def test_a_market_that_trades_ends_at_its_outcome(simulated: SimulatedMarkets) -> None:
    for market, prices in sample(simulated):
        ends = [one.probability[-1] for one in prices]
        if market.volume:
            assert int(np.argmax(ends)) == market.winner
            assert max(ends) >= 0.8
        else:
            assert np.allclose(ends, 1 / len(ends), atol=0.01)


def test_bars_and_books_are_consistent(simulated: SimulatedMarkets) -> None:
    for market, (one, *_) in sample(simulated):
        assert (one.low <= np.minimum(one.open, one.probability)).all()
        assert (one.high >= np.maximum(one.open, one.probability)).all()
        assert ((one.bid < one.ask) & (one.bid >= 0) & (one.ask <= 1)).all()
        assert (one.open[1:] == one.probability[:-1]).all()
        assert one.volume.any() == (market.volume > 0)


def test_no_hour_lies_outside_the_markets_life(simulated: SimulatedMarkets) -> None:
    for market, (one, *_) in sample(simulated):
        assert market.opened_at.timestamp() < one.at[0]
        assert one.at[-1] <= market.closes_at.timestamp()
        assert (np.diff(one.at) == 3600).all()
        assert market.announced_at <= market.opened_at < market.closes_at <= market.scheduled_at
        assert market.closes_at < market.resolved_at


def test_some_hours_are_quiet_and_the_others_come_to_the_volume(simulated: SimulatedMarkets) -> None:
    long_lived = [market for market in simulated.markets("polymarket", 40) if len(market.hours) > 5000]
    for market in long_lived:
        volume = simulated.prices(market, *EVER).volume
        assert bool((volume == 0).any())
        assert volume.sum() == pytest.approx(market.volume, rel=0.1)


def test_a_window_is_a_part_of_the_whole(simulated: SimulatedMarkets) -> None:
    market = simulated.markets("manifold")[0]
    whole = simulated.prices(market, *EVER)
    start, end = market.opened_at + timedelta(days=3), market.opened_at + timedelta(days=5)
    part = simulated.prices(market, start, end)
    assert len(part) == 48
    inside = (whole.at >= start.timestamp()) & (whole.at < end.timestamp())
    for name in ("at", "probability", "open", "high", "low", "bid", "ask", "volume", "open_interest"):
        assert (getattr(part, name) == getattr(whole, name)[inside]).all()


def test_the_same_seed_gives_the_same_markets_and_another_gives_others() -> None:
    one, same, other = SimulatedMarkets(1), SimulatedMarkets(1), SimulatedMarkets(2)
    assert one.markets("kalshi") == same.markets("kalshi") != other.markets("kalshi")
    market = one.markets("kalshi")[0]
    assert (one.prices(market, *EVER).probability == same.prices(market, *EVER).probability).all()


def test_an_early_close_is_not_known_before_it(simulated: SimulatedMarkets) -> None:
    early = next(one for one in simulated.markets("kalshi") if one.closes_at < one.scheduled_at)
    assert early.ends_at(early.closes_at - timedelta(minutes=1)) == early.scheduled_at
    assert early.ends_at(early.closes_at) == early.closes_at
