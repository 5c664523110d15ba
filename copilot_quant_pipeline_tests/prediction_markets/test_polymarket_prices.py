from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copilot_quant_pipeline.errors import Malformed
from copilot_quant_pipeline.prediction_markets.polymarket_prices import (
    LONGEST_WINDOW,
    Stretch,
    faults_in,
    gaps_in,
    parse_clob,
    parse_data,
    plan_windows,
    points_of,
)
from copilot_quant_pipeline.prediction_markets.venue import POINTS, Market, Outcome

START = datetime(2024, 3, 1, tzinfo=UTC)
YES, NO = Outcome("Yes", "1"), Outcome("No", "2")
MARKET = Market("polymarket", "1", "rain", "Rain?", None, (YES, NO), START, None, "open")


def at(hours: float) -> int:
    return int((START + timedelta(hours=hours)).timestamp())


def history(*points: tuple[float, str]) -> pa.Table:
    return parse_clob([{"t": at(hours), "p": Decimal(price)} for hours, price in points], "rain (Yes)")


def test_the_recorded_page_of_the_newer_service(recorded: Path) -> None:
    sent = json.loads((recorded / "polymarket/polyoxide_data_v2_prices_history.json").read_text(), parse_float=Decimal)
    found = parse_data(sent["data"], "recorded")
    assert found.column("price").to_pylist() == [Decimal("0.340000")] * 2
    assert [int(one.timestamp()) for one in found.column("stamped_at").to_pylist()] == [1789295100, 1789295160]
    assert found.column("price_kind").to_pylist() == ["quote", "quote"]


def test_a_point_without_a_resolution_is_the_settlement() -> None:
    sent = [
        {"timestamp": at(0), "price": Decimal("0.97"), "resolution_seconds": 3600},
        {"timestamp": at(1), "price": 1, "resolution_seconds": 0},
    ]
    found = parse_data(sent, "rain (Yes)")
    assert found.column("price_kind").to_pylist() == ["quote", "settlement"]
    assert found.column("price").to_pylist() == [Decimal("0.97"), 1]
    assert len(parse_data(None, "rain (Yes)")) == 0


@pytest.mark.parametrize("price", [1.07, Decimal("1.07"), -1, "NaN", float("nan"), None, "much", [], {}])
def test_a_price_that_is_no_probability_is_a_fault_that_names_its_market_value_and_instant(price: Any) -> None:
    found = parse_clob([{"t": at(0), "p": Decimal("0.5")}, {"t": at(1), "p": price}], "rain (Yes)")
    assert found.column("price").to_pylist() == [Decimal("0.5"), None]
    good, bad = found.column("fault").to_pylist()
    assert (good, bad) == (None, f"rain (Yes): price {str(price)!r} of 2024-03-01 01:00:00 UTC is no probability")


@pytest.mark.parametrize(
    "instant", [0, -5, at(0) * 10**6, str(at(0) * 100), "NaN", None, 1.5, Decimal("1709251200.5"), True]
)
def test_a_time_that_can_be_no_instant_is_refused_with_its_market(instant: Any) -> None:
    with pytest.raises(Malformed, match=r"rain \(Yes\): time .* is not in unix seconds"):
        parse_clob([{"t": instant, "p": Decimal("0.5")}], "rain (Yes)")


@pytest.mark.parametrize("instant", [at(1) * 1000, str(at(1) * 1000), Decimal(at(1) * 1000 + 7)])
def test_a_time_in_milliseconds_is_a_fault_of_its_own_day(instant: Any) -> None:
    found = parse_clob([{"t": at(0), "p": Decimal("0.5")}, {"t": instant, "p": Decimal("0.5")}], "rain (Yes)")
    assert found.column("price").to_pylist() == [Decimal("0.5"), None]
    good, bad = found.column("fault").to_pylist()
    assert (good, bad) == (None, f"rain (Yes): time {instant} (2024-03-01 01:00:00 UTC) is in milliseconds")


@pytest.mark.parametrize("instant", [at(0), str(at(0)), Decimal(at(0)), Decimal(f"{at(0)}.0")])
@pytest.mark.parametrize("price", [Decimal("0.29"), "0.29"])
def test_numbers_may_come_as_text_or_with_a_point(instant: Any, price: Any) -> None:
    assert parse_clob([{"t": instant, "p": price, "new": [1]}], "rain (Yes)") == history((0, "0.29"))


@pytest.mark.parametrize("points", [{"a": 1}, [1], [{"t": 1}], "soon", 5])
def test_what_is_no_list_of_points_is_refused(points: Any) -> None:
    with pytest.raises(Malformed, match="not a list of points"):
        parse_clob(points, "rain (Yes)")


def test_prices_stay_exact_and_instants_as_sent() -> None:
    found = history((0.01, "0.29"), (1.005, "0.0005"))
    assert found.column("price").to_pylist() == [Decimal("0.290000"), Decimal("0.000500")]
    assert [int(one.timestamp()) for one in found.column("stamped_at").to_pylist()] == [at(0.01), at(1.005)]


def test_of_two_points_at_one_instant_the_later_sent_counts() -> None:
    found = points_of(MARKET, {NO: [history((2, "0.4"), (1, "0.3"))], YES: [history((1, "0.6")), history((1, "0.7"))]})
    assert found.schema == POINTS
    rows = [(one["outcome"], int(one["stamped_at"].timestamp()), one["price"]) for one in found.to_pylist()]
    assert rows == [
        ("Yes", at(1), Decimal("0.7")),
        ("No", at(1), Decimal("0.3")),
        ("No", at(2), Decimal("0.4")),
    ]


instants = st.datetimes(datetime(2022, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@settings(deadline=None)
@given(instants, st.timedeltas(timedelta(seconds=1), timedelta(days=400)))
def test_windows_cover_what_is_asked_and_split_no_day(start: datetime, length: timedelta) -> None:
    windows = plan_windows(Stretch(start, start + length))
    assert windows[0].start == start
    assert windows[-1].end == start + length
    assert all(one.end == other.start for one, other in zip(windows, windows[1:], strict=False))
    assert all(timedelta() < one.end - one.start <= LONGEST_WINDOW for one in windows)
    assert all(one.end.time() == datetime.min.time() for one in windows[:-1])


def test_days_without_a_point_are_gaps_unless_hardly_lived() -> None:
    lived = Stretch(START + timedelta(hours=23), START + timedelta(days=4, hours=1))
    found = gaps_in(history((30, "0.5")), lived)
    assert [(one.start, one.end) for one in found] == [
        (START + timedelta(days=2), START + timedelta(days=3)),
        (START + timedelta(days=3), START + timedelta(days=4)),
    ]


@pytest.mark.parametrize("bad", [{"t": "soon", "p": 1}, {"t": 10**30, "p": 1}, {"t": [1], "p": 1}, {}, 5, None])
def test_a_point_without_a_time_spoils_the_day_of_its_neighbours_only(bad: Any) -> None:
    points: list[Any] = [{"t": 1_768_194_000 + 3600 * n, "p": Decimal("0.29")} for n in range(96)]
    points[50] = bad
    table = parse_clob(points, "market")
    spoiled = faults_in({Outcome("Yes"): [table]})
    assert [str(day) for day in spoiled] == ["2026-01-14"]
    assert "is not in unix seconds" in next(iter(spoiled.values()))
    assert table["fault"].null_count == 95
