"""Claims about the axes and the cells of a run, against Dagster's own partitions and runs."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from copilot_quant_pipeline.calendar import holidays, last_known_date
from copilot_quant_pipeline.grid.axes import equities_grid, partition_key, sessions_axis, sessions_on_axis
from copilot_quant_pipeline.grid.cells import Cell, Rectangle
from copilot_quant_pipeline.grid.runs import cells_of_run, range_tags
from copilot_quant_pipeline.settings import Settings

SYMBOLS = ["XOM", "AAPL", "BRK.B"]


@pytest.mark.parametrize(
    ("now", "newest"),
    [
        (
            datetime(2024, 3, 29, 3, 59, tzinfo=UTC),
            date(2024, 3, 27),
        ),  # one minute before midnight in New York
        (datetime(2024, 3, 29, 4, 0, tzinfo=UTC), date(2024, 3, 28)),
        (datetime(2024, 3, 31, 12, 0, tzinfo=UTC), date(2024, 3, 28)),  # a Sunday: no future session appears
        (datetime(2024, 4, 2, 4, 0, tzinfo=UTC), date(2024, 4, 1)),
        (datetime(2024, 1, 6, 5, 0, tzinfo=UTC), date(2024, 1, 5)),  # winter, and Friday is there on Saturday
    ],
)
def test_a_session_appears_at_the_midnight_after_it(settings: Settings, now: datetime, newest: date) -> None:
    settings = replace(settings, pinned_now=now)
    assert sessions_on_axis(settings)[-1] == newest
    assert sessions_axis(settings).get_partition_keys()[-1] == newest.isoformat()


def test_the_axis_holds_sessions_only(settings: Settings) -> None:
    settings = replace(settings, equities_start=date(2018, 1, 1))
    keys = sessions_axis(settings).get_partition_keys()
    assert keys == [day.isoformat() for day in sessions_on_axis(settings)]
    assert "2018-12-05" not in keys


def test_without_a_pinned_clock_the_axis_follows_the_real_one(settings: Settings) -> None:
    unpinned = replace(settings, pinned_now=None)
    with_dagster = sessions_axis(unpinned).get_partition_keys(current_time=datetime(2024, 4, 1, 12, tzinfo=UTC))
    assert with_dagster[-1] == "2024-03-28"


def test_holidays_are_known_to_the_end_of_next_year() -> None:
    ahead = holidays(date(last_known_date().year, 1, 1), last_known_date())
    assert date(last_known_date().year, 12, 25) in ahead or len(ahead) >= 8


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("symbol", SYMBOLS)
        yield instance


def _cells_seen(settings: Settings, instance: dg.DagsterInstance, **run: object) -> tuple[Rectangle, set[str]]:
    grid = equities_grid(settings)
    seen: list[Rectangle] = []
    dagsters: list[str] = []

    @dg.asset(partitions_def=grid, backfill_policy=dg.BackfillPolicy.single_run())
    def probe(context: dg.AssetExecutionContext) -> None:
        seen.append(cells_of_run(context, grid))
        dagsters.extend(context.partition_keys)

    job = dg.Definitions(assets=[probe]).resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, **run).success  # type: ignore[arg-type]
    return seen[0], set(dagsters)


def test_a_single_cell_run_covers_that_cell(settings: Settings, instance: dg.DagsterInstance) -> None:
    seen, dagsters = _cells_seen(settings, instance, partition_key="2024-01-16|AAPL")
    assert seen == Rectangle((date(2024, 1, 16),), ("AAPL",))
    assert dagsters == {"2024-01-16|AAPL"}


@pytest.mark.parametrize(
    "rectangle",
    [
        Rectangle((date(2024, 1, 12), date(2024, 1, 16), date(2024, 1, 17)), ("AAPL",)),
        Rectangle((date(2024, 1, 12),), ("XOM", "AAPL", "BRK.B")),
        Rectangle((date(2024, 1, 12), date(2024, 1, 16)), ("AAPL", "BRK.B")),
    ],
)
def test_a_range_run_covers_lines_and_rectangles_as_dagster_does(
    settings: Settings, instance: dg.DagsterInstance, rectangle: Rectangle
) -> None:
    seen, dagsters = _cells_seen(settings, instance, tags=range_tags(rectangle))
    assert seen == rectangle
    assert dagsters == {partition_key(cell) for cell in rectangle}


def test_a_range_that_ends_on_a_holiday_covers_what_dagster_will_paint(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    tags = {
        "dagster/asset_partition_range_start": "2024-01-11|AAPL",
        "dagster/asset_partition_range_end": "2024-01-15|AAPL",
    }
    seen, dagsters = _cells_seen(settings, instance, tags=tags)
    assert {partition_key(cell) for cell in seen} == dagsters
    assert (
        date(2024, 1, 16) in seen.dates
    )  # Dagster's range spills over the holiday; a cell must not be painted unasked


def test_a_run_without_partitions_is_refused_with_advice(settings: Settings, instance: dg.DagsterInstance) -> None:
    grid = equities_grid(settings)

    @dg.op
    def probe(context: dg.OpExecutionContext) -> None:
        cells_of_run(context, grid)  # type: ignore[arg-type]

    @dg.job
    def unpartitioned() -> None:
        probe()

    result = unpartitioned.execute_in_process(instance=instance, raise_on_error=False)
    assert "names no cells" in str(result.failure_data_for_node("probe"))


def test_a_cell_is_written_date_first() -> None:
    assert partition_key(Cell(date(2024, 1, 2), "BRK.B")) == "2024-01-02|BRK.B"


def test_sessions_on_axis_begin_at_the_grids_start(settings: Settings) -> None:
    axis = sessions_on_axis(settings)
    assert axis[0] == settings.equities_start
    assert all(b - a >= timedelta(days=1) for a, b in zip(axis, axis[1:], strict=False))
