"""Claims about what a market's cells become, by property and by example."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.errors import NotFound, Unavailable
from copilot_quant_pipeline.grid.cells import Span
from copilot_quant_pipeline.prediction_markets.prices import (
    PriceEvidence,
    days_of_life,
    expects_more,
    settle_span,
    settlements_of,
)
from copilot_quant_pipeline.prediction_markets.venue import (
    POINTS,
    Market,
    MissingAtSource,
    Outcome,
    SpoiledDays,
    partial_answer,
)
from copilot_quant_pipeline.warehouse.fetch_result import ASKED
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


def points(*instants: datetime, outcomes: tuple[str, ...] = ("Yes", "No")) -> pa.Table:
    row = {**dict.fromkeys(POINTS.names), "price": Decimal("0.29"), "price_kind": "trade"}
    rows = [{**row, "outcome": outcome, "stamped_at": at} for outcome in outcomes for at in instants]
    return pa.Table.from_pylist(rows, POINTS)


def noon(day: int) -> datetime:
    return datetime(2024, 1, day, 12, tzinfo=UTC)


def the(*days: int) -> tuple[date, ...]:
    return tuple(date(2024, 1, day) for day in days)


def fates(span: Span, answer: object, of: Market, evidence: PriceEvidence | None = None) -> dict[date, str]:
    settled = settle_span(span, of, answer, now=NOW, source="test", evidence=evidence)  # type: ignore[arg-type]
    ASKED.validated(settled.cells)
    PRICES.validated(settled.rows)
    rows = settled.cells.to_pylist()
    assert len(rows) == len(span.dates)
    return {row["date"]: row["reason"] or row["outcome"] for row in rows}


def test_a_day_on_which_a_market_was_hardly_open_is_no_missing_one() -> None:
    late = replace(market(), opened_at=datetime(2024, 1, 12, 22, 30, tzinfo=UTC))
    span = Span("polymarket:will-it", (date(2024, 1, 12), date(2024, 1, 13)))
    answer = points(datetime(2024, 1, 13, 9, tzinfo=UTC))
    assert fates(span, answer, late) == {date(2024, 1, 12): "no_trade", date(2024, 1, 13): "settled"}
    # Of one that was open all day it is lost, if there were prices before.
    around = points(datetime(2024, 1, 11, 9, tzinfo=UTC), datetime(2024, 1, 13, 9, tzinfo=UTC))
    days = Span("polymarket:will-it", tuple(date(2024, 1, day) for day in (11, 12, 13)))
    assert fates(days, around, market())[date(2024, 1, 12)] == "missing_at_source"


@pytest.mark.parametrize(("hour", "reason"), [(1, "no_trade"), (2, "missing_at_source")])
def test_today_is_missing_only_once_some_of_it_is_over(hour: int, reason: str) -> None:
    today = date(2024, 1, 20)
    open_still = replace(market(), status="open", closes_at=None)
    at = datetime(2024, 1, 20, hour, tzinfo=UTC)
    settled = settle_span(Span(open_still.key, (today,)), open_still, points(), now=at, source="test")
    assert settled.cells.column("reason").to_pylist() == [reason]


def test_a_market_its_venue_knows_no_more_keeps_its_days_and_is_delisted_since() -> None:
    gone = replace(market(), status="gone")
    known = points(datetime(2024, 1, 16, 9, tzinfo=UTC), datetime(2024, 1, 17, 9, tzinfo=UTC))
    span = Span(gone.key, DAYS)
    found = fates(span, MissingAtSource("knows it no more", known), gone)
    assert [found[day] for day in DAYS] == [
        *["not_open"] * 2,
        *["missing_at_source"] * 4,
        *["settled"] * 2,
        *["delisted"] * 3,
    ]


def test_a_market_that_is_not_found_is_an_unknown_market() -> None:
    assert set(fates(Span("x", DAYS[3:6]), NotFound("?"), market()).values()) == {"unknown_market"}


def test_days_before_and_after_a_markets_life_are_green_without_an_answer() -> None:
    span = Span("polymarket:will-it", (date(2024, 1, 10), date(2024, 1, 19)))
    assert fates(span, None, market()) == {date(2024, 1, 10): "not_open", date(2024, 1, 19): "closed"}


def test_a_day_with_points_is_settled_with_its_exact_prices() -> None:
    span = Span("polymarket:will-it", (date(2024, 1, 14),))
    answer = points(datetime(2024, 1, 14, 0, 0, 2, tzinfo=UTC))
    assert fates(span, answer, market()) == {date(2024, 1, 14): "settled"}
    rows = settle_span(span, market(), answer, now=NOW, source="test").rows
    assert rows.column("price").to_pylist() == [Decimal("0.29")] * 2


def test_a_silent_day_is_no_trade_for_candles_or_a_market_nobody_traded_and_else_missing() -> None:
    span = Span("x", (date(2024, 1, 14),))
    assert fates(span, points(), market("kalshi")) == {date(2024, 1, 14): "no_trade"}
    assert fates(span, points(), market(volume=0)) == {date(2024, 1, 14): "no_trade"}
    around = points(noon(13), noon(15))
    assert fates(span, around, market()) == {date(2024, 1, 14): "missing_at_source"}


def test_a_day_that_lacks_an_outcome_is_missing_and_stores_nothing() -> None:
    span = Span("x", the(13, 14, 15))
    answer = pa.concat_tables(
        [points(noon(13), noon(14), noon(15), outcomes=("No",)), points(noon(13), outcomes=("Yes",))]
    )
    settled = settle_span(span, market(), MissingAtSource("two days", answer), now=NOW, source="test")
    assert fates(span, answer, market()) == dict(zip(span.dates, ("settled", *["missing_at_source"] * 2), strict=True))
    assert set(settled.rows.column("date").to_pylist()) == set(the(13))
    assert "none of Yes" in settled.cells.column("detail")[1].as_py()
    wholly = points(noon(13), noon(14), outcomes=("No",))
    assert set(fates(Span("x", the(13, 14)), wholly, market()).values()) == {"missing_at_source"}


def test_days_before_the_first_price_ever_and_after_the_last_are_green() -> None:
    span, answer = Span("x", DAYS), MissingAtSource("some days", points(noon(14), noon(16)))
    expected = dict(zip(DAYS, ("not_open", "not_open", "no_price", "no_price", "settled"), strict=False))
    expected |= dict(zip(the(15, 16, 17, 18), ("missing_at_source", "settled", "no_price", "no_price"), strict=True))
    assert fates(span, answer, market()) == expected | dict.fromkeys(the(19, 20), "closed")


def test_an_open_market_whose_prices_end_and_a_traded_one_without_any_are_missing() -> None:
    opened = replace(market(), status="open", closes_at=None)
    assert fates(Span("x", the(12, 13)), points(noon(12)), opened)[date(2024, 1, 13)] == "missing_at_source"
    whole = PriceEvidence((DAYS[0], DAYS[-1]))
    for one in (market(), opened):
        assert set(fates(Span("x", the(13, 14)), points(), one, whole).values()) == {"missing_at_source"}


@pytest.mark.parametrize("answer", [points(), MissingAtSource("?", points())])
def test_a_market_of_unknown_volume_without_any_price_never_traded(answer: object) -> None:
    untold = replace(market(), volume=None)
    assert set(fates(Span("x", the(13, 14)), answer, untold).values()) == {"no_trade"}


def test_a_part_of_a_life_is_judged_by_what_is_stored_or_by_the_whole() -> None:
    span, silent = Span("x", the(14)), points()
    part = PriceEvidence((span.dates[0], span.dates[0]))
    assert expects_more(span, market(), silent, part, NOW)
    (before, after) = (replace(part, stored=(date(2024, 1, day), date(2024, 1, day))) for day in (13, 15))
    for evidence in (before, after):
        assert expects_more(span, market(), silent, evidence, NOW)
        assert fates(span, silent, market(), evidence) == {date(2024, 1, 14): "missing_at_source"}
        whole = replace(evidence, looked=(DAYS[0], DAYS[-1]))
        assert fates(span, silent, market(), whole) == {date(2024, 1, 14): "no_price"}
    between = replace(part, stored=(date(2024, 1, 13), date(2024, 1, 15)))
    assert not expects_more(span, market(), silent, between, NOW)
    assert fates(span, silent, market(), between) == {date(2024, 1, 14): "missing_at_source"}


def test_what_outcomes_settled_at_is_told_where_it_is_known() -> None:
    def settled(**changes: Any) -> object:
        return settlements_of(replace(market(), **{"status": "resolved", **changes}))

    half, yes = Decimal("0.5"), Decimal("0.4500")
    assert settled(result="No") == {"Yes": 0, "No": 1}
    assert settled() == {"Yes": half, "No": half}
    assert settled(venue="kalshi", facts={"settlement": "0.4500"}) == {"Yes": yes, "No": 1 - yes}
    assert settled(venue="kalshi") is settled(venue="manifold") is settled(status="closed") is None
    assert settled(venue="kalshi", facts={"settlement": "soon"}) is None


def test_a_candle_that_ends_at_midnight_belongs_to_the_day_before() -> None:
    midnight = points(datetime(2024, 1, 15, tzinfo=UTC))
    span = Span("kalshi:will-it", (date(2024, 1, 14), date(2024, 1, 15)))
    assert fates(span, midnight, market("kalshi")) == {date(2024, 1, 14): "settled", date(2024, 1, 15): "no_trade"}


def test_of_candles_a_day_that_begins_as_its_market_ends_is_closed() -> None:
    ended = replace(market("kalshi"), closes_at=datetime(2024, 1, 15, tzinfo=UTC))
    span = Span("kalshi:will-it", (date(2024, 1, 14), date(2024, 1, 15)))
    assert fates(span, points(datetime(2024, 1, 15, tzinfo=UTC)), ended) == {
        date(2024, 1, 14): "settled",
        date(2024, 1, 15): "closed",
    }


def test_a_venues_error_fails_the_days_of_life_only() -> None:
    span = Span("polymarket:will-it", DAYS)
    found = fates(span, Unavailable("down"), market())
    assert {day for day, fate in found.items() if fate == "unavailable"} == set(
        days_of_life(market(), span, NOW.date())
    )
    assert found[DAYS[0]] == "not_open"


def test_a_day_that_cannot_be_fails_with_its_own_reason_and_no_other_does() -> None:
    span = Span("x", (date(2024, 1, 13), date(2024, 1, 14)))
    bad = SpoiledDays(
        "price 7", points(datetime(2024, 1, 13, 1, tzinfo=UTC)), {date(2024, 1, 14): ("malformed_response", "7")}
    )
    assert fates(span, bad, market()) == {date(2024, 1, 13): "settled", date(2024, 1, 14): "malformed_response"}
    kept = partial_answer("SpoiledDays", str(bad), bad.points, bad.facts)
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
    span = Span("x", DAYS)
    assert days_of_life(replace(market(), closes_at=closes), span, NOW.date())[-1] == date(2024, 1, 20)
