"""Claims about what a home takes and what is deleted of it: growth since an earlier look, age by the settings."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.retention import clear_leftovers
from copilot_quant_pipeline.upkeep.sizes import Looks, plan_growth, plan_looks
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

START = datetime(2024, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@given(gaps=st.lists(st.floats(0, 3), max_size=40))
def test_looks_are_kept_one_a_day_and_for_a_week(gaps: list[float]) -> None:
    looks: Looks = []
    now = START
    for gap in gaps:
        now += gap * DAY
        looks = plan_looks(looks, now, {"logs": 1})
        times = [at for at, _ in looks]
        assert len(times) in range(1, 9)
        assert all(later - earlier >= DAY for earlier, later in zip(times, times[1:], strict=False))
        assert now - times[0] <= 7 * DAY


def test_growth_is_since_the_oldest_look_and_by_the_day_after_one() -> None:
    looks = [(START, {"logs": 100}), (START + DAY, {"logs": 150})]
    (size,) = plan_growth({"logs": 300}, looks, START + 2 * DAY)
    assert (size.bytes, size.growth, size.since, size.per_day) == (300, 200, START, 100)
    (size,) = plan_growth({"logs": 300}, looks[:1], START + DAY / 2)
    assert (size.growth, size.per_day) == (200, None)
    (size,) = plan_growth({"logs": 300}, looks, START - DAY)  # the clock went back
    assert size.growth is None


@pytest.mark.parametrize(
    ("name", "days", "goes"),
    [
        ("logs/20240101-heal.log", 91, True),
        ("logs/20240101-heal.log", 89, False),
        ("logs/notes.txt", 1000, False),
        ("landing/HISTORY/AAPL.parquet", 31, True),
        ("landing/HISTORY/AAPL.parquet", 29, False),
        ("landing/HISTORY/AAPL.unreadable-20240101", 31, True),
        ("landing/yahoo/cookies.db", 1000, False),
    ],
)
def test_what_is_old_goes_and_nothing_else(settings: Settings, name: str, days: int, goes: bool) -> None:
    file = settings.home / name
    file.parent.mkdir(parents=True)
    file.write_text("x")
    at = (settings.now() - days * DAY).timestamp()
    os.utime(file, (at, at))
    clear_leftovers(settings, Warehouse(settings.warehouse_path))
    assert file.exists() is not goes


def _proposed(warehouse: Warehouse, number: int, state: str, decided: datetime | None) -> None:
    with warehouse.transaction() as connection:
        connection.execute(
            "insert into ops.quarantine by name select $number as proposal, $state as state, $at as decided_at,"
            " 'equities.bars' as \"table\", $day as date, 'A' as key, '{}' as old, '{}' as new, 'prices' as kind,"
            " $seen as seen_at, 'run' as run_id",
            {"number": number, "state": state, "at": decided, "day": date(2024, 1, 2), "seen": START},
        )


def test_of_proposals_only_those_decided_long_ago_go(settings: Settings, tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    long_ago, lately = settings.now() - 400 * DAY, settings.now() - 300 * DAY
    rows = [
        ("accepted", long_ago),
        ("rejected", long_ago),
        ("waiting", None),
        ("withdrawn", lately),
        ("resolved", long_ago),
        ("accepted", long_ago),
    ]
    for number, (state, decided) in enumerate(rows, start=1):
        _proposed(warehouse, number, state, decided)
    assert clear_leftovers(settings, warehouse).proposals == 2
    left = warehouse.read("select proposal from ops.quarantine order by proposal")["proposal"].to_pylist()
    assert left == [2, 3, 4, 6]  # the newest number is never given twice
    assert clear_leftovers(settings, warehouse).proposals == 0
