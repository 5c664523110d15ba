"""Claims about who is new, made by Dagster's own sensor loop."""

from __future__ import annotations

from datetime import UTC, date, datetime

import dagster as dg

from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL
from copilot_quant_pipeline_tests.upkeep.conftest import DAEMON_WARNINGS, Platform, assets, box

pytestmark = DAEMON_WARNINGS
NOW = datetime(2024, 3, 29, 14, tzinfo=UTC)


def test_a_fresh_home_reads_its_lists_and_then_the_newest_cells_of_who_is_on_them(small: Platform) -> None:
    both = ("new_symbols", "new_markets")
    lists = small.look(NOW, *both)
    assert sorted(map(sorted, map(assets, lists))) == [["prediction_markets"], ["sp500_members"]]
    symbols = small.instance.get_dynamic_partitions(SYMBOL)
    markets = small.instance.get_dynamic_partitions(MARKET)
    assert len(symbols) > 480
    first_cells = small.look(NOW.replace(minute=1), *both, waiting=True)
    assert {box(run) for run in first_cells} == {
        (f"2024-03-28|{symbols[0]}", f"2024-03-28|{symbols[-1]}"),
        (f"2024-03-28|{markets[0]}", f"2024-03-29|{markets[-1]}"),
    }
    # While these runs wait for their turn nobody is asked for again.
    assert small.look(NOW.replace(minute=2), *both, waiting=True) == []


def test_a_symbol_that_joins_is_asked_for_once_even_if_nobody_knows_it(platform: Platform) -> None:
    platform.follow("AAPL", "ZZZZ")
    (first,) = platform.look(NOW, "new_symbols")
    assert box(first) == ("2024-03-28|AAPL", "2024-03-28|ZZZZ")
    assert platform.outcomes()[date(2024, 3, 28), "ZZZZ"] == "unknown_symbol"
    platform.follow("MSFT")
    (later,) = platform.look(NOW.replace(minute=1), "new_symbols")
    assert box(later) == ("2024-03-28|MSFT", "2024-03-28|MSFT")
    assert platform.look(NOW.replace(minute=2), "new_symbols") == []


def test_a_list_that_is_refused_is_tried_again_an_hour_later(platform: Platform) -> None:
    platform.venues.fault("universe_short")
    (refused,) = platform.look(NOW, "new_symbols")
    assert platform.status_of(refused) == dg.DagsterRunStatus.FAILURE
    assert platform.look(NOW.replace(minute=1), "new_symbols") == []
    platform.venues.clear_faults()
    (read,) = platform.look(NOW.replace(hour=15), "new_symbols")
    assert platform.status_of(read) == dg.DagsterRunStatus.SUCCESS


def test_a_home_whose_axis_was_lost_is_left_to_reconcile_instead_of_following_the_whole_index(
    platform: Platform,
) -> None:
    platform.follow("AAPL")
    platform.look(NOW, "new_symbols")
    platform.instance.delete_dynamic_partition(SYMBOL, "AAPL")
    assert platform.look(NOW.replace(minute=1), "new_symbols") == []
    assert platform.instance.get_dynamic_partitions(SYMBOL) == []
