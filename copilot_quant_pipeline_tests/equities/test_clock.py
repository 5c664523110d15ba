"""Claims about bars while our clock is ahead of Yahoo's: by the Date of each answer, real yfinance, real HTTP."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from copilot_quant_pipeline.equities.sources import EquitySources
from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.vendor_clock import TOLERANCE, VendorClock
from copilot_quant_pipeline_tests.equities.conftest import Answer, Replay, chart_body

# A Thursday evening in New York, long past by our clock.
THERE = datetime(2024, 3, 28, 22, tzinfo=UTC)
DAYS = [date(2024, 3, 27), date(2024, 3, 28), date(2024, 4, 1), date(2024, 4, 2)]


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("pinned", [True, False])
def test_no_session_is_settled_that_is_not_over_by_yahoos_clock(
    replay: Replay, tmp_path: Path, dated: bool, pinned: bool
) -> None:
    headers = {"Date": format_datetime(THERE, usegmt=True)} if dated else {}
    replay.answers(Answer(chart_body(DAYS[:2], listed=DAYS[0]), headers=headers))
    now = datetime(2024, 5, 1, tzinfo=UTC) if pinned else None
    sources = EquitySources.reached_by(Settings(home=tmp_path, yahoo_url=replay.url, pinned_now=now))
    asked = Rectangle(tuple(DAYS), ("AAPL",))
    harvest = sources.without_future(sources.harvest_bars(asked, refresh=False, backfill=None))
    cells = {cell["date"]: (cell["outcome"], cell["reason"]) for cell in harvest.cells.to_pylist()}
    assert cells[DAYS[0]] == ("settled", None)
    if dated and not pinned:
        assert {cells[day] for day in DAYS[1:]} == {("failed", "not_over")}
        assert harvest.rows.column("date").to_pylist() == DAYS[:1]
        assert max(harvest.cells.column("fetched_at").to_pylist()) < THERE + timedelta(hours=1)
        assert harvest.rows.column("confirmed_at").to_pylist() == [harvest.cells.column("fetched_at")[0].as_py()]
    else:
        assert cells[DAYS[2]] == ("failed", "missing_at_source")
        assert sources.clock() is None


def test_a_clock_within_the_tolerance_or_behind_is_left_alone() -> None:
    clock, now = VendorClock(), datetime.now(UTC)
    assert clock.held_back(now) == now
    for off in (timedelta(), TOLERANCE - timedelta(minutes=1), -timedelta(days=40)):
        clock.hear({"Date": format_datetime(now - off, usegmt=True)})
        assert clock.held_back(now) == now
    clock.hear({"Date": format_datetime(now - timedelta(days=40), usegmt=True), "Age": "3"})
    assert clock.held_back(now) == now
    clock.hear({"Date": format_datetime(now - timedelta(days=40), usegmt=True)})
    assert abs(clock.held_back(now) - (now - timedelta(days=40))) < timedelta(minutes=1)


@pytest.mark.parametrize("told", ["", "yesterday", "Fri, 99 Mar 2026 21:00:00 GMT", "Fri, 13 Mar 99999 21:00:00 GMT"])
def test_a_date_that_cannot_be_read_says_nothing(told: str) -> None:
    clock = VendorClock()
    clock.hear({"Date": told})
    assert clock.now() is None
