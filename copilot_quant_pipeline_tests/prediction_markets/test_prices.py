"""Claims about what a market's cells become, by property and by example."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.errors import Unavailable
from copilot_quant_pipeline.grid.cells import Span
from copilot_quant_pipeline.prediction_markets.prices import days_of_life, settle_span
from copilot_quant_pipeline.prediction_markets.venue import POINTS, Market, Outcome, Spoiled, partial_answer
from copilot_quant_pipeline.warehouse.harvest import ASKED
from copilot_quant_pipeline.warehouse.tables import PRICES

NOW = datetime(2024, 1, 20, 12, tzinfo=UTC)
DAYS = tuple(date(2024, 1, 10) + timedelta(days=n) for n in range(11))


def market(venue: str = "polymarket", volume: int = 100) -> Market:
    return Market(
        venue=venue,
        id="1",
        slug="will-it",
        title="Will it?",
        category=None,
        outcomes=(Outcome("Yes", "1"), Outcome("No", "2")),
        opened_at=datetime(2024, 1, 12, 9, tzinfo=UTC),
        closes_at=datetime(2024, 1, 18, 15, tzinfo=UTC),
        status="closed",
        volume=Decimal(volume),
    )


def points(*instants: datetime) -> pa.Table:
    row = dict.fromkeys(POINTS.names)
    return pa.Table.from_pylist(
        [{**row, "outcome": "Yes", "at": at, "price": Decimal("0.29"), "price_kind": "trade"} for at in instants],
        POINTS,
    )


def fates(span: Span, answer: object, of: Market) -> dict[date, str]:
    settled = settle_span(span, of, answer, now=NOW, source="test")  # type: ignore[arg-type]
    ASKED.validated(settled.cells)
    PRICES.validated(settled.rows)
    rows = settled.cells.to_pylist()
    assert len(rows) == len(span.dates)
    return {row["date"]: row["reason"] or row["outcome"] for row in rows}


def test_days_before_and_after_a_markets_life_are_green_without_an_answer() -> None:
    span = Span("polymarket:will-it", (date(2024, 1, 10), date(2024, 1, 19)))
    assert fates(span, None, market()) == {date(2024, 1, 10): "not_open", date(2024, 1, 19): "closed"}


def test_a_day_with_points_is_settled_with_its_exact_prices() -> None:
    span = Span("polymarket:will-it", (date(2024, 1, 14),))
    answer = points(datetime(2024, 1, 14, 0, 0, 2, tzinfo=UTC))
    assert fates(span, answer, market()) == {date(2024, 1, 14): "settled"}
    (row,) = settle_span(span, market(), answer, now=NOW, source="test").rows.to_pylist()
    assert row["price"] == Decimal("0.29")


def test_a_silent_day_is_no_trade_for_candles_or_a_market_nobody_traded_and_else_missing() -> None:
    span = Span("x", (date(2024, 1, 14),))
    assert fates(span, points(), market("kalshi")) == {date(2024, 1, 14): "no_trade"}
    assert fates(span, points(), market(volume=0)) == {date(2024, 1, 14): "no_trade"}
    assert fates(span, points(), market()) == {date(2024, 1, 14): "missing_at_source"}


def test_a_candle_that_ends_at_midnight_belongs_to_the_day_before() -> None:
    midnight = points(datetime(2024, 1, 15, tzinfo=UTC))
    span = Span("kalshi:will-it", (date(2024, 1, 14), date(2024, 1, 15)))
    assert fates(span, midnight, market("kalshi")) == {date(2024, 1, 14): "settled", date(2024, 1, 15): "no_trade"}


def test_a_venues_error_fails_the_days_of_life_only() -> None:
    span = Span("polymarket:will-it", DAYS)
    found = fates(span, Unavailable("down"), market())
    assert {day for day, fate in found.items() if fate == "unavailable"} == set(
        days_of_life(market(), span, NOW.date())
    )
    assert found[DAYS[0]] == "not_open"


def test_a_day_that_cannot_be_fails_with_its_own_reason_and_no_other_does() -> None:
    span = Span("x", (date(2024, 1, 13), date(2024, 1, 14)))
    bad = Spoiled(
        "price 7", points(datetime(2024, 1, 13, 1, tzinfo=UTC)), {date(2024, 1, 14): ("malformed_response", "7")}
    )
    assert fates(span, bad, market()) == {date(2024, 1, 13): "settled", date(2024, 1, 14): "malformed_response"}
    kept = partial_answer("Spoiled", str(bad), bad.points, bad.facts)
    assert kept is not None
    assert (kept.failed, kept.reason, kept.transient) == (bad.failed, bad.reason, False)


@given(
    asked=st.sets(st.sampled_from(DAYS), min_size=1),
    hours=st.sets(st.integers(0, 24 * 14)),
    venue=st.sampled_from(["kalshi", "polymarket"]),
)
def test_every_asked_cell_comes_once_and_rows_belong_to_settled_cells(
    asked: set[date], hours: set[int], venue: str
) -> None:
    span = Span("x:will-it", tuple(sorted(asked)))
    answer = points(*(datetime(2024, 1, 9, tzinfo=UTC) + timedelta(hours=hour) for hour in sorted(hours)))
    settled = settle_span(span, market(venue), answer, now=NOW, source="test")
    cells = settled.cells.to_pylist()
    assert [cell["date"] for cell in cells] == list(span.dates)
    green_with_rows = {cell["date"] for cell in cells if cell["outcome"] == "settled" and cell["reason"] is None}
    assert set(settled.rows.column("date").to_pylist()) == green_with_rows


@pytest.mark.parametrize("closes", [None, datetime(2030, 1, 1, tzinfo=UTC)])
def test_a_life_without_an_end_runs_to_today(closes: datetime | None) -> None:
    from dataclasses import replace

    span = Span("x", DAYS)
    assert days_of_life(replace(market(), closes_at=closes), span, NOW.date())[-1] == date(2024, 1, 20)
