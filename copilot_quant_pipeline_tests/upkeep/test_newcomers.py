"""Claims about who is new, made by Dagster's own sensor loop."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import dagster as dg

from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL
from copilot_quant_pipeline_tests.upkeep.conftest import CHART, DAEMON_WARNINGS, Platform, assets, box

pytestmark = DAEMON_WARNINGS
NOW = datetime(2024, 3, 29, 14, tzinfo=UTC)


def test_a_fresh_home_reads_its_lists_and_then_the_newest_cells_of_who_is_on_them(small: Platform) -> None:
    lists = small.look(NOW)
    assert [assets(run) for run in lists] == [{"prediction_markets"}, {"sp500_members"}]
    symbols = small.instance.get_dynamic_partitions(SYMBOL)
    markets = small.instance.get_dynamic_partitions(MARKET)
    assert len(symbols) > 480
    first_cells = {*map(box, small.look(NOW.replace(minute=1)))}
    assert first_cells == {
        (f"2024-03-28|{symbols[0]}", f"2024-03-28|{symbols[-1]}"),
        (f"2024-03-28|{markets[0]}", f"2024-03-29|{markets[-1]}"),
    }
    assert small.venues.requests()[CHART] == len(symbols)
    assert set(small.outcomes().values()) == {"settled"}
    assert small.look(NOW.replace(minute=2)) == []


def test_a_symbol_that_joins_is_asked_for_once_even_if_nobody_knows_it(platform: Platform) -> None:
    platform.settings = replace(platform.settings, markets_venues=())
    platform.follow("AAPL", "ZZZZ")
    platform.follow_markets("kalshi:nobody-knows")
    runs = [run for run in platform.look(NOW) if assets(run) == {"equity_bars"}]
    assert [box(run) for run in runs] == [("2024-03-28|AAPL", "2024-03-28|ZZZZ")]
    platform.follow("MSFT")
    later = [run for run in platform.look(NOW.replace(minute=1)) if assets(run) == {"equity_bars"}]
    assert [box(run) for run in later] == [("2024-03-28|MSFT", "2024-03-28|MSFT")]
    assert platform.look(NOW.replace(minute=2)) == []
    assert platform.outcomes()[date(2024, 3, 28), "ZZZZ"] == "unknown_symbol"


def test_newcomers_whose_run_still_waits_are_not_asked_for_again(platform: Platform) -> None:
    platform.follow("AAPL")
    platform.follow_markets("kalshi:nobody-knows")
    waiting = platform.look(NOW, waiting=True)
    assert {run.status for run in waiting} == {dg.DagsterRunStatus.QUEUED}
    assert platform.look(NOW.replace(minute=1), waiting=True) == []


def test_a_list_that_is_refused_is_tried_again_an_hour_later(small: Platform) -> None:
    small.venues.fault("universe_short")
    (refused,) = (run for run in small.look(NOW) if assets(run) == {"sp500_members"})
    assert small.status_of(refused) == dg.DagsterRunStatus.FAILURE
    assert not [run for run in small.look(NOW.replace(minute=1)) if assets(run) == {"sp500_members"}]
    small.venues.clear_faults()
    (read,) = (run for run in small.look(NOW.replace(hour=15)) if assets(run) == {"sp500_members"})
    assert small.status_of(read) == dg.DagsterRunStatus.SUCCESS
