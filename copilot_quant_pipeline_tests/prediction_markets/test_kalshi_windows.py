"""Claims about planning Kalshi's requests: every hour of every market once, never above a cap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.prediction_markets.kalshi_windows import (
    HOUR,
    MAX_CANDLES,
    MAX_PERIODS,
    MAX_TICKERS,
    life_within,
    plan_batches,
    plan_windows,
)
from copilot_quant_pipeline.prediction_markets.venue import Market, Outcome

DAWN = datetime(2024, 1, 1, tzinfo=UTC)
instants = st.integers(0, 3 * 365 * 1440).map(lambda minutes: DAWN + timedelta(minutes=minutes))


def a_market(number: int, opened: datetime | None = None, closes: datetime | None = None) -> Market:
    outcomes = (Outcome("Yes"), Outcome("No"))
    status = "resolved" if closes else "open"
    return Market("kalshi", f"T{number}", f"T{number}", "?", None, outcomes, opened, closes, status)  # type: ignore[arg-type]


@given(instants, instants)
def test_windows_hold_every_hour_once(start: datetime, end: datetime) -> None:
    windows = plan_windows(start, end)
    held = [at for window in windows for at in range(window.first, window.last + 1, HOUR)]
    first = -(-start.timestamp() // HOUR) * HOUR
    expected = range(int(first), int(-(-end.timestamp() // 1)), HOUR) if end > start else []
    assert held == [at for at in expected if start.timestamp() <= at < end.timestamp()]
    assert all(0 < window.periods <= MAX_PERIODS for window in windows)


@given(st.lists(st.tuples(instants, st.none() | instants), max_size=40), instants, instants)
def test_batches_hold_every_hour_of_every_life_once_within_the_caps(
    lives: Sequence[tuple[datetime, datetime | None]], start: datetime, end: datetime
) -> None:
    markets = [a_market(number, opened, closes) for number, (opened, closes) in enumerate(lives)]
    batches = plan_batches(markets, start, end)
    held: Counter[str] = Counter()
    for batch in batches:
        assert len(dict(batch.markets)) == len(batch.markets) <= MAX_TICKERS
        assert batch.window.periods <= MAX_PERIODS
        assert len(batch.markets) * batch.window.periods <= MAX_CANDLES
        for ticker, window in batch.markets:
            assert batch.window.first <= window.first <= window.last <= batch.window.last
            held[ticker] += window.periods
    asked = {market.id: sum(w.periods for w in plan_windows(*life_within(market, start, end))) for market in markets}
    assert held == Counter({ticker: hours for ticker, hours in asked.items() if hours})


def test_a_hundred_markets_of_sixty_days_are_seventeen_requests() -> None:
    markets = [a_market(number, DAWN) for number in range(100)]
    start = DAWN + timedelta(days=100)
    assert len(plan_batches(markets, start, start + timedelta(days=60))) == 17


def test_the_hour_in_which_a_market_ended_is_asked_for() -> None:
    ended = a_market(1, DAWN, DAWN + timedelta(hours=3, minutes=20))
    (window,) = plan_windows(*life_within(ended, DAWN, DAWN + timedelta(days=9)))
    assert window.last == (DAWN + timedelta(hours=4)).timestamp()


def test_an_open_market_is_asked_for_past_the_end_it_had() -> None:
    open_yet = Market("kalshi", "T", "T", "?", None, (), DAWN, DAWN + timedelta(hours=3), "open")
    (window,) = plan_windows(*life_within(open_yet, DAWN, DAWN + timedelta(hours=9)))
    assert window.last == (DAWN + timedelta(hours=8)).timestamp()
