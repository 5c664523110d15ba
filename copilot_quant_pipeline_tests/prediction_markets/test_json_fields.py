from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.answers import SIX_DIGITS
from copilot_quant_pipeline.errors import Malformed, NotFound, Unavailable
from copilot_quant_pipeline.grid.keys import is_slug
from copilot_quant_pipeline.prediction_markets.json_fields import (
    Point,
    gather,
    hourly,
    read_instant,
    read_probability,
)
from copilot_quant_pipeline.prediction_markets.shapes import parsed
from copilot_quant_pipeline.prediction_markets.venue import POINTS, BrokenRecord, Market, Outcome

MIDNIGHT = datetime(2024, 3, 29, tzinfo=UTC)


def a_market(name: str = "1") -> Market:
    outcomes = (Outcome("Yes"), Outcome("No"))
    return Market("bazaar", name, name, "Will it?", None, outcomes, None, None, "open")


@given(st.decimals(0, 1, places=6))
def test_six_digits_of_a_probability_are_kept_exactly(price: Decimal) -> None:
    assert read_probability(price) == price


@given(st.decimals(0, 1, allow_nan=False))
def test_a_longer_probability_is_rounded_to_six_digits_and_stays_one(price: Decimal) -> None:
    read = read_probability(price)
    assert read is not None
    assert 0 <= read <= 1
    assert abs(read - price) <= SIX_DIGITS / 2


@pytest.mark.parametrize(
    "value", [Decimal("1.000001"), -1, Decimal("-0.2"), 57, "0.5", "NaN", True, [0.5], Decimal("NaN"), float("inf")]
)
def test_what_is_no_probability_is_refused(value: Any) -> None:
    with pytest.raises(Malformed, match="no probability|no number"):
        read_probability(value)


def test_an_instant_is_read_in_its_unit_only() -> None:
    seconds, milliseconds = 1_711_670_400, 1_711_670_400_123
    assert read_instant(seconds) == MIDNIGHT
    assert read_instant(Decimal("1711670400.25")) == MIDNIGHT + timedelta(milliseconds=250)
    assert read_instant(milliseconds, unit=timedelta(milliseconds=1)) == MIDNIGHT + timedelta(milliseconds=123)
    assert read_instant("2024-03-29T01:00:00+01:00") == MIDNIGHT
    for value, unit in [(milliseconds, 1000), (seconds, 1), ("2024-03-29T00:00:00", 1), ("soon", 1), (None, 1)]:
        with pytest.raises(Malformed, match="no instant"):
            read_instant(value, unit=timedelta(milliseconds=unit))


@pytest.mark.parametrize("slug", ["will-it-rain", "KXFED-24NOV-T4.75", "Überraschung", "a/b?c"])
def test_most_slugs_can_be_part_of_a_key(slug: str) -> None:
    assert is_slug(slug)


@pytest.mark.parametrize("slug", ["", "a b", "a|b", "a[1]", "a,b", "a\nb"])
def test_a_slug_that_would_break_a_key_cannot(slug: str) -> None:
    assert not is_slug(slug)


@given(st.lists(st.tuples(st.sampled_from(["Yes", "No"]), st.integers(-90, 290)), max_size=60))
def test_of_each_outcome_and_hour_the_last_point_is_left(given_points: list[tuple[str, int]]) -> None:
    start, end = MIDNIGHT, MIDNIGHT + timedelta(hours=3)
    points = [
        Point(outcome, start + timedelta(minutes=minute), Decimal(place) / 100, "trade")
        for place, (outcome, minute) in enumerate(given_points)
    ]
    table = hourly(a_market(), points, start, end)
    assert table.schema == POINTS
    expected: dict[tuple[bool, int], tuple[datetime, Decimal | None]] = {}
    for point in sorted(points, key=lambda point: point.stamped_at):
        if start <= point.stamped_at < end:
            expected[point.outcome == "No", point.stamped_at.hour] = (point.stamped_at, point.price)
    rows = table.select(["outcome", "stamped_at", "price"]).to_pylist()
    assert [(row["outcome"] == "No", row["stamped_at"].hour) for row in rows] == sorted(expected)
    assert [(row["stamped_at"], row["price"]) for row in rows] == [expected[key] for key in sorted(expected)]


def test_one_that_cannot_be_had_is_named_and_the_others_are_kept() -> None:
    def fetch(name: str, attempts: int) -> Market:
        if name == "gone":
            raise NotFound("no such market")
        return parsed(lambda record: a_market(record[name]), {"1": "1", "2": "2"})

    catalog = gather("bazaar", ["1", "gone", "2", "3", "1"], fetch)
    assert [market.id for market in catalog.markets] == ["1", "2"]
    assert catalog.broken == (
        BrokenRecord("bazaar", "gone", "no such market", unknown=True),
        BrokenRecord("bazaar", "3", "'3' is missing"),
    )


def test_a_venue_that_is_down_breaks_no_market() -> None:
    def fetch(name: str, attempts: int) -> Market:
        raise Unavailable("down")

    with pytest.raises(Unavailable):
        gather("bazaar", ["1", "2"], fetch)


def test_records_that_are_not_answered_for_are_named_and_too_many_in_a_row_end_the_asking() -> None:
    asked: list[int | None] = []

    def fetch(name: str, attempts: int | None) -> Market:
        asked.append(attempts)
        if int(name) in (2, 3, 4) or int(name) > 5:
            raise Unavailable(f"500 to {name}")
        return a_market(name)

    catalog = gather("bazaar", map(str, range(1, 40)), fetch)
    assert [market.id for market in catalog.markets] == ["1", "5"]
    assert [broken.id for broken in catalog.broken[:3]] == ["2", "3", "4"]
    assert asked[:6] == [None, None, 1, 1, 1, None]
    assert len(asked) == 15
    assert not catalog.complete
