"""Claims about forgetting: what Dagit shows stays, what nothing stands on goes, and no id is given twice."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEventType
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance
from copilot_quant_pipeline.ledger.retention import Pruned, give_back_pages, plan_runs_kept, prune, size_on_disk
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage
from copilot_quant_pipeline_tests.ledger.answers import Answers
from copilot_quant_pipeline_tests.ledger.small_grid import (
    BARS,
    MEMBERS,
    NIGHTS,
    SYMBOLS,
    rectangle,
    run,
    stock_instance,
)
from copilot_quant_pipeline_tests.ledger.test_sqlite import cells, entry, stored

# Dagit still asks for planned events in this way.
pytestmark = pytest.mark.filterwarnings("ignore:Function `AssetMethods.fetch_planned:DeprecationWarning")

SPAWN = multiprocessing.get_context("spawn")
DATE_TAG = "dagster/partition/date"
ALL = rectangle("2024-01-02|AAPL", "2024-01-05|MSFT")
ROW = rectangle("2024-01-02|AAPL", "2024-01-03|AAPL")

# These list what happened, and in the past of each cell less has happened now.
LISTS = {
    "get_event_tags_for_asset",
    "tags of one cell",
    "get_event_records",
    "fetch",
    "get_asset_event_summary_records",
    "get_logs_for_all_runs_by_log_id",
    "run status changes",
    "checks",
    "get_materialized_partitions by cursor",
}


def after(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def long_history(instance: dg.DagsterInstance) -> list[str]:
    """Cells settled, settled again, failed, failed again, half-settled; assets without cells twice; a wiped asset."""
    return [
        run(instance, MEMBERS),
        run(instance, BARS, ALL),
        run(instance, BARS, ROW),
        run(instance, BARS, ROW),
        run(instance, BARS, rectangle("2024-01-02|BRK.B", "2024-01-04|BRK.B"), fail=["2024-01-03|BRK.B"]),
        run(instance, BARS, cell="2024-01-03|BRK.B", fail=["2024-01-03|BRK.B"]),
        run(instance, BARS, rectangle("2024-01-04|MSFT", "2024-01-05|MSFT"), broken=["yes"]),
        run(instance, NIGHTS, rectangle("2024-01-02", "2024-01-05")),
        run(instance, NIGHTS, rectangle("2024-01-02", "2024-01-05")),
        run(instance, MEMBERS),
        run(instance, BARS, cell="2024-01-05|MSFT"),
    ]


@dataclass(frozen=True)
class Past:
    """A home with a long history, and its runs in order."""

    instance: dg.DagsterInstance
    runs: list[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    home = tmp_path_factory.mktemp("past") / "home"
    install_instance_config(home)
    with open_instance(home, capture_output=False) as instance:
        instance.add_dynamic_partitions("symbol", SYMBOLS)
        return home, long_history(instance)


@pytest.fixture
def past(built: tuple[Path, list[str]], tmp_path: Path) -> Iterator[Past]:
    home, runs = built
    shutil.copytree(home, tmp_path / "home")
    with open_instance(tmp_path / "home", capture_output=False) as instance:
        yield Past(instance, list(runs))


def shown(instance: dg.DagsterInstance, runs: list[str], boundaries: list[int] | None = None) -> dict[str, Any]:
    """All answers, with a status cache that is built from nothing, as it is when a symbol is new."""
    for asset in (BARS, NIGHTS, MEMBERS):
        instance.wipe_asset_cached_status([asset])
    answers = Answers(instance, runs)
    if boundaries is not None:
        answers.__dict__["_boundaries"] = boundaries
    return answers.all()


def colours(instance: dg.DagsterInstance) -> Any:
    """The green, red and unfinished cells of the status cache."""
    return Answers(instance, [])._status(BARS)


def everything(instance: dg.DagsterInstance) -> dict[str, list[str]]:
    """All events and tags that are stored, by file."""
    shards = {path.stem for path in Path(instance.root_directory).glob("history/runs/*.db")}
    return {shard: stored(instance, shard) for shard in shards}


def forgotten(before: Any, now: Any) -> bool:
    """Whether an answer has lost entries of lists, or counts fewer, and nothing else."""
    if type(before) is int:
        return type(now) is int and now <= before
    if isinstance(before, dict) and isinstance(now, dict):
        return all(key in before and forgotten(before[key], value) for key, value in now.items())
    if type(before) in (list, tuple) and type(now) in (list, tuple):
        rest = list(before)
        return all(any(forgotten(each, item) for each in rest) for item in now)
    if isinstance(before, (set, frozenset)):
        return set(now) <= set(before)
    return bool(before == now)


def test_what_dagit_shows_of_grid_assets_and_checks_stays(past: Past) -> None:
    ledger, runs = past.instance, past.runs
    boundaries = Answers(ledger, runs)._boundaries
    before = shown(ledger, runs, boundaries)
    pruned = prune(ledger, after(days=91))
    assert pruned.events > 20
    assert pruned.runs == 3
    left = [run_id for run_id in runs if ledger.has_run(run_id)]
    now = shown(ledger, runs, boundaries)
    assert now.keys() == before.keys()
    of_gone = [f" of run {runs.index(run_id)}" for run_id in runs if run_id not in left]
    for question, answer in before.items():
        if question.endswith(tuple(of_gone)):
            continue
        if any(question.startswith(name) for name in LISTS) or " of run " in question:
            assert forgotten(answer, now[question]), question
        else:
            assert now[question] == answer, question


def test_a_cache_that_was_there_before_stays_right(past: Past) -> None:
    ledger = past.instance
    cached = colours(ledger)
    prune(ledger, after(days=91))
    assert colours(ledger) == cached
    run(ledger, BARS, cell="2024-01-03|BRK.B")
    green, red, _ = colours(ledger)
    assert set(green) == set(cached[0]) | {"2024-01-03|BRK.B"}
    assert set(red) == set(cached[1]) - {"2024-01-03|BRK.B"}


def test_pruning_twice_finds_nothing_more(past: Past) -> None:
    prune(past.instance, after(days=91))
    before = everything(past.instance)
    again = prune(past.instance, after(days=91))
    assert (again.events, again.runs, again.logs, again.files) == (0, 0, 0, 0)
    assert everything(past.instance) == before


def test_events_of_the_last_day_stay(past: Past) -> None:
    before = everything(past.instance)
    assert prune(past.instance, after(days=0.9)).events == 0
    assert everything(past.instance) == before


def test_runs_of_the_last_90_days_stay_with_their_whole_logs(past: Past) -> None:
    before = everything(past.instance)
    # The cells are of 2024, so that what newer runs have superseded may go.
    pruned = prune(past.instance, after(days=89))
    assert pruned.events > 20
    assert pruned.runs == pruned.logs == pruned.files == 0
    now = everything(past.instance)
    assert len(now.pop("index")) == len(before.pop("index")) - pruned.events
    assert now == before
    assert all(past.instance.has_run(run_id) for run_id in past.runs)


def test_a_run_that_no_cell_stands_on_goes_with_its_log_and_output(shipped: dg.DagsterInstance) -> None:
    first, second = run(shipped, BARS, ROW), run(shipped, BARS, ROW)
    log, home = shipped.event_log_storage, Path(shipped.root_directory)
    assert isinstance(log, GridEventLogStorage)
    assert (home / "storage" / first).is_dir()
    assert prune(shipped, after(days=91)).runs == 1
    assert not shipped.has_run(first)
    assert not list(home.rglob(f"{first}*"))
    assert shipped.has_run(second)
    assert len(shipped.all_logs(second, of_type=DagsterEventType.ASSET_MATERIALIZATION)) == 2


def test_the_log_of_a_run_loses_the_cells_that_newer_runs_have_settled(ledger: dg.DagsterInstance) -> None:
    first = run(ledger, BARS, ALL)
    run(ledger, BARS, ROW)
    assert prune(ledger, after(days=91)).logs == 1
    left = ledger.all_logs(first, of_type=DagsterEventType.ASSET_MATERIALIZATION)
    assert len(left) == 12 - 2
    assert {event.get_dagster_event().partition for event in left}.isdisjoint({"2024-01-02|AAPL", "2024-01-03|AAPL"})


def test_an_id_is_never_given_twice(ledger: dg.DagsterInstance) -> None:
    log = ledger.event_log_storage
    newest = run(ledger, BARS, ROW)
    highest = log.get_maximum_record_id()
    ledger.delete_run(newest)
    assert log.get_maximum_record_id() == highest
    assert log.get_materialized_partitions(BARS) == set()
    ledger.wipe_asset_partitions(BARS, ["2024-01-02|AAPL"])
    run(ledger, BARS, ROW)
    found = ledger.fetch_materializations(BARS, limit=10).records
    assert min(record.storage_id for record in found) > (highest or 0)


def test_a_wiped_asset_leaves_neither_ids_nor_tags_to_later_events(ledger: dg.DagsterInstance) -> None:
    log = ledger.event_log_storage
    log.store_event(entry(cells(days=2, symbols=2)))
    highest = log.get_maximum_record_id() or 0
    ledger.wipe_assets([BARS])
    assert log.get_maximum_record_id() == highest
    assert stored(ledger, "index", "asset_event_tags") == []
    ledger.report_runless_asset_event(dg.AssetMaterialization(NIGHTS, partition="2024-01-02"))
    (record,) = ledger.fetch_materializations(NIGHTS, limit=10).records
    assert record.storage_id > highest
    assert log.get_latest_tags_by_partition(NIGHTS, record.event_log_entry.dagster_event_type, [DATE_TAG]) == {}


def test_wiped_cells_are_blank_and_the_others_as_they_were(ledger: dg.DagsterInstance) -> None:
    run(ledger, BARS, ALL, fail=["2024-01-03|AAPL"])
    newest = run(ledger, BARS, cell="2024-01-02|AAPL")
    before = colours(ledger)
    ledger.wipe_asset_partitions(BARS, ["2024-01-02|AAPL", "2024-01-03|AAPL", "2024-01-09|NVDA"])
    green, red, _ = colours(ledger)
    assert green == [cell for cell in before[0] if cell not in ("2024-01-02|AAPL", "2024-01-03|AAPL")]
    assert red == []
    latest = ledger.get_latest_materialization_event(BARS)
    assert latest is not None
    assert latest.run_id != newest


def test_deleted_runs_and_old_ticks_leave_no_files_behind(shipped: dg.DagsterInstance) -> None:
    gone = run(shipped, BARS, ROW)
    shipped.delete_run(gone)
    home = Path(shipped.root_directory)
    # What a sensor that uses context.log leaves of every tick.
    tick = ["__repository__", "heal", "0f0e"]
    with shipped.compute_log_manager.open_log_stream(tick, ComputeIOType.STDERR) as stream:
        assert stream is not None
        stream.write("nothing to heal")
    assert prune(shipped, after(days=1)).files == 0
    assert prune(shipped, after(days=91)).files == 3
    assert shipped.compute_log_manager.get_log_data(tick).stderr is None
    assert not list(home.rglob(f"{gone}*"))


def test_the_disk_space_is_given_back_while_others_read_and_write(ledger: dg.DagsterInstance) -> None:
    log = ledger.event_log_storage
    assert isinstance(log, GridEventLogStorage)
    index = Path(log.path_for_shard(INDEX_SHARD_NAME))
    for n in range(3):
        log.store_event(entry(cells(days=20, symbols=100), f"run-{n}"))
    with closing(sqlite3.connect(index)) as reader:
        reader.execute("begin")
        assert reader.execute("select count(*) from event_logs").fetchone() == (6_000,)
        pruned = prune(ledger, after(days=91))
        log.store_event(entry(cells(days=1, symbols=1), "run-of-now"))
        assert reader.execute("select count(*) from event_logs").fetchone() == (6_000,)
    give_back_pages(index)
    assert pruned.events == 4_000
    assert index.stat().st_size < pruned.before / 2
    assert len(stored(ledger, "index")) == 2_001


def test_a_process_that_records_meanwhile_loses_nothing(ledger: dg.DagsterInstance) -> None:
    log, home = ledger.event_log_storage, Path(ledger.root_directory)
    for n in range(3):
        log.store_event(entry(cells(days=5, symbols=20), f"run-{n}"))
    process = SPAWN.Process(target=record_more, args=(home,))
    process.start()
    while process.is_alive():
        prune(ledger, after(days=91))
    process.join()
    assert process.exitcode == 0
    prune(ledger, after(days=91))
    assert log.get_materialized_partitions(BARS) == {str(cell) for cell in cells(days=5, symbols=20)}
    newest = {record.run_id for record in ledger.fetch_materializations(BARS, limit=1_000).records}
    assert newest == {"more-5"}
    assert len(stored(ledger, "index")) == 100


def record_more(home: Path) -> None:
    with open_instance(home) as instance:
        for n in range(6):
            instance.event_log_storage.store_event(entry(cells(days=5, symbols=20), f"more-{n}"))


@pytest.mark.parametrize("step", ["_shorten", "_delete", "_delete_leftovers", "give_back_pages"])
def test_pruning_that_is_killed_is_carried_on_by_the_next(
    step: str, ledger: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run(ledger, BARS, ALL), run(ledger, BARS, ROW), run(ledger, BARS, ROW)]

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"copilot_quant_pipeline.ledger.retention.{step}", die)
        with pytest.raises(KeyboardInterrupt):
            prune(ledger, after(days=91))
    prune(ledger, after(days=91))
    assert [run_id for run_id in runs if ledger.has_run(run_id)] == [runs[0], runs[2]]
    assert len(ledger.all_logs(runs[0], of_type=DagsterEventType.ASSET_MATERIALIZATION)) == 10
    assert len(stored(ledger, "index", "asset_event_tags")) == 3 * 12


def test_a_users_own_event_log_storage_is_left_alone(tmp_path: Path) -> None:
    with stock_instance(tmp_path) as instance:
        instance.add_dynamic_partitions("symbol", ["AAPL", "BRK.B", "MSFT"])
        runs = [run(instance, BARS, ROW), run(instance, BARS, ROW)]
        size = size_on_disk(tmp_path)
        assert prune(instance, after(days=91)) == Pruned(0, 0, 0, 0, size, size)
        assert all(instance.has_run(run_id) for run_id in runs)


def test_a_home_begun_with_dagsters_own_storage_keeps_its_pages(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "index.db")) as conn:
        conn.execute("create table t as select zeroblob(100000)")
        conn.execute("drop table t")
        conn.commit()
    size = (tmp_path / "index.db").stat().st_size
    give_back_pages(tmp_path / "index.db")
    assert (tmp_path / "index.db").stat().st_size == size


NAMES = st.text("abcdef", min_size=1, max_size=1)


@given(
    st.sets(NAMES), st.dictionaries(NAMES, st.integers(0, 3)), st.dictionaries(NAMES, st.integers(0, 3)), st.sets(NAMES)
)
def test_a_run_goes_exactly_if_nothing_stands_on_it(
    old: set[str], current: dict[str, int], in_log: dict[str, int], needed: set[str]
) -> None:
    runs = plan_runs_kept(sorted(old), current, in_log, needed)
    assert set(runs.gone) == old - set(current) - needed
    assert set(runs.shorter) == {run for run in old & set(current) if in_log.get(run, 0) > current[run]}
    assert set(runs.gone).isdisjoint(runs.shorter)
