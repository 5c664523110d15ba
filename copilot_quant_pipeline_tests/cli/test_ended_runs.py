"""Claims about runs that ended before they said what became of their cells, and about waiting for those that live."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.grid.axes import SYMBOL
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.ledger.run_lives import PROCESS_TAG, living
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage
from copilot_quant_pipeline.warehouse.io_manager import GridIOManager
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.cli.conftest import Desk

ASSETS = {"equities": dg.AssetKey("equity_bars"), "markets": dg.AssetKey("prediction_market_prices")}
# ZZZZ is unknown: its cells are honestly red.
EQUITIES = ("backfill", "equities", "--symbols", "AAPL,ZZZZ", "--start", "2024-03-25")
MARKETS = ("backfill", "markets", "--venue", "kalshi", "--limit", "1", "--start", "2024-03-28")

# The command, in whose process something is otherwise first.
_OTHERWISE = """
import os, signal, sys
from copilot_quant_pipeline.warehouse.io_manager import GridIOManager
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

def end(*_, **__):
    print("now", flush=True)
    os.kill(os.getpid(), signal.{signal})

{what} = end
from copilot_quant_pipeline.cli import main
sys.argv = ["copilot-quant", *{arguments!r}]
main()
"""


def ended_at(desk: Desk, what: str, *arguments: str, by: str = "SIGKILL", first: tuple[str, ...] = ()) -> None:
    """Run the command until it comes to `what`, and have it end there by a signal."""
    code = _OTHERWISE.format(what=what, arguments=arguments, signal=by)
    process = subprocess.Popen([*first, sys.executable, "-c", code], env=desk.environment, stdout=subprocess.PIPE)
    desk.started.append(process)  # type: ignore[arg-type]
    assert process.stdout
    assert process.stdout.readline() == b"now\n"
    if by == "SIGKILL":
        process.wait()


@contextmanager
def opened(desk: Desk) -> Iterator[dg.DagsterInstance]:
    with open_instance(desk.settings.dagster_home, capture_output=False) as instance:
        yield instance


def shown(desk: Desk, grid: str) -> tuple[set[str], set[str]]:
    """The green and the red cells of a grid, as Dagit's own status cache has them."""
    partitions = build_definitions(desk.settings).resolve_asset_graph().get(ASSETS[grid]).partitions_def
    assert partitions
    with opened(desk) as instance:
        status = get_and_update_asset_status_cache_value(instance, ASSETS[grid], partitions)
    if status is None:
        return set(), set()
    red = set(status.deserialize_failed_partition_subsets(partitions).get_partition_keys())
    return set(status.deserialize_materialized_partition_subsets(partitions).get_partition_keys()) - red, red


def stored(desk: Desk, grid: str) -> tuple[set[str], set[str]]:
    """The settled and the failed cells of coverage."""
    rows = desk.warehouse.coverage(grid).to_pylist()
    settled, failed = (
        {f"{row['date']}|{row['key']}" for row in rows if row["outcome"] == outcome}
        for outcome in ("settled", "failed")
    )
    assert settled
    return settled, failed


def runs(desk: Desk) -> list[str]:
    with opened(desk) as instance:
        return [run.run_id for run in instance.get_runs()]


def test_what_was_stored_before_a_kill_is_shown_by_the_next_command_on_either_grid(desk: Desk) -> None:
    for grid, command in {"equities": EQUITIES, "markets": MARKETS}.items():
        ended_at(desk, "GridIOManager._record", *command)
        assert shown(desk, grid)[0] == set()
    before = runs(desk)
    assert desk.run("prune").code == 0
    for grid in ASSETS:
        assert shown(desk, grid) == stored(desk, grid)
    with opened(desk) as instance:
        assert {run.job_name for run in instance.get_runs()} == {"__ASSET_JOB"}
        killed = [instance.get_run_by_id(run_id) for run_id in before]
        assert [run.status for run in killed if run and run.asset_selection == {ASSETS["markets"]}] == [
            dg.DagsterRunStatus.FAILURE
        ]
        (last,) = instance.get_latest_materialization_events([ASSETS["equities"]]).values()
        assert last
    assert stored(desk, "equities")[1]


def test_a_killed_heal_leaves_the_grid_as_it_is_stored(desk: Desk) -> None:
    desk.venues.fault("lost_session", symbol="AAPL", dates=["2024-03-28"])
    assert desk.run(*EQUITIES).code == 1
    desk.venues.clear_faults()
    ended_at(desk, "GridIOManager._record", "heal", "--force")
    count = len(runs(desk))
    assert desk.run("prune").code == 0
    assert shown(desk, "equities") == stored(desk, "equities")
    assert "2024-03-28|AAPL" in stored(desk, "equities")[0]
    assert len(runs(desk)) == count


def no_room(*_: object, **__: object) -> None:
    raise OperationalError("insert", {}, OSError("database or disk is full"))


@pytest.mark.parametrize("where", ["settle_harvest", "_record", "_store_batch", "store_event"])
def test_a_refresh_that_meets_a_full_disk_leaves_green_cells_green(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    assert desk.run(*EQUITIES).code == 1
    before, count = shown(desk, "equities"), len(runs(desk))
    assert before == stored(desk, "equities")
    broken: dict[str, type] = {"settle_harvest": Warehouse, "_record": GridIOManager}
    with monkeypatch.context() as patch:
        patch.setattr(broken.get(where, GridEventLogStorage), where, after_planning(where))
        assert desk.run(*EQUITIES, "--refresh").code in (1, 2)
    assert desk.run("prune").code == 0
    assert shown(desk, "equities") == before
    assert len(runs(desk)) == count + 1


def after_planning(where: str) -> Callable[..., object]:
    """What a full disk does to a write: of the ledger, from when the run is there on."""
    if not hasattr(GridEventLogStorage, where):
        return no_room
    as_ever, written = getattr(GridEventLogStorage, where), []

    def write(*given: object, **named: object) -> object:
        written.append(1)
        return as_ever(*given, **named) if len(written) <= (1 if where == "_store_batch" else 12) else no_room()

    return write


def test_an_interrupt_between_data_and_events_shows_what_is_stored(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.run(*EQUITIES).code == 1

    def interrupt(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    with monkeypatch.context() as patch:
        patch.setattr(GridIOManager, "_record", interrupt)
        wider = ("backfill", "equities", "--symbols", "AAPL,ZZZZ,MSFT", "--start", "2024-03-22", "--refresh")
        assert desk.run(*wider).code == 130
    assert shown(desk, "equities") == stored(desk, "equities")
    assert len(stored(desk, "equities")[0]) == 10


def test_cells_that_a_killed_run_did_not_get_to_are_what_they_were(desk: Desk) -> None:
    assert desk.run(*EQUITIES).code == 1
    before = shown(desk, "equities")
    wider = ("backfill", "equities", "--symbols", "AAPL,ZZZZ,MSFT", "--start", "2024-03-22", "--refresh")
    ended_at(desk, "Warehouse.settle_harvest", *wider)
    assert desk.run("prune").code == 0
    assert shown(desk, "equities") == before


def test_cells_of_another_run_under_way_are_left_to_it(desk: Desk) -> None:
    assert desk.run(*EQUITIES).code == 1
    with opened(desk) as instance:
        instance.add_dynamic_partitions(SYMBOL, ["MSFT"])
    ended_at(desk, "GridIOManager._record", *EQUITIES, "--refresh")
    cell = "2024-03-27|AAPL"
    tags = {"dagster/asset_partition_range_start": cell, "dagster/asset_partition_range_end": cell}
    job = build_definitions(desk.settings).resolve_implicit_global_asset_job_def()
    with opened(desk) as instance:
        run_id = "00000000-0000-4000-8000-000000000000"
        with living(instance, run_id) as life:
            instance.create_run_for_job(
                job,
                run_id=run_id,
                asset_selection={ASSETS["equities"]},
                status=dg.DagsterRunStatus.STARTED,
                tags={**tags, **life},
            )
            assert desk.run("prune").code == 0
            log = instance.event_log_storage
            attempts = log.get_latest_asset_partition_materialization_attempts_without_materializations(
                ASSETS["equities"]
            )
            assert attempts[cell][0] == run_id
        assert desk.run("prune").code == 0
    assert shown(desk, "equities") == stored(desk, "equities")


def test_a_home_of_the_version_before_has_its_killed_runs_cells_painted(desk: Desk) -> None:
    ended_at(desk, "GridIOManager._record", *EQUITIES)
    with opened(desk) as instance:
        (run_id,) = [run.run_id for run in instance.get_runs() if run.asset_selection == {ASSETS["equities"]}]
        instance.add_run_tags(run_id, {PROCESS_TAG: f"{socket.gethostname()}:4194304:1.00:{run_id}"})
        log = instance.event_log_storage
        assert isinstance(log, GridEventLogStorage)
        with log.index_connection() as conn:
            conn.execute(text("drop table copilot_quant_accounts"))
    assert desk.run("prune").code == 0
    assert shown(desk, "equities") == stored(desk, "equities")


def test_a_slot_that_could_not_be_given_back_does_not_stop_the_next_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(GridEventLogStorage, "free_concurrency_slot_for_step", no_room)
        assert "is full" in desk.run(*EQUITIES).err
    process = desk.start("backfill", "equities", "--symbols", "MSFT", "--start", "2024-03-25")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    assert "waiting" not in err
    assert shown(desk, "equities") == stored(desk, "equities")


def test_who_is_killed_under_another_name_of_the_host_holds_nothing(desk: Desk) -> None:
    another = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$0" "$@"')
    if subprocess.run([*another, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody have another host name")
    ended_at(desk, "GridIOManager._record", *EQUITIES, first=another)
    process = desk.start(*EQUITIES, "--refresh")
    assert process.communicate(timeout=60)[1] == ""
    assert shown(desk, "equities") == stored(desk, "equities")


def test_who_hangs_is_waited_for_named_and_given_up_as_busy(desk: Desk) -> None:
    ended_at(desk, "GridIOManager._record", *EQUITIES, by="SIGSTOP")
    holder = desk.started[-1]
    command = ("backfill", "equities", "--symbols", "MSFT", "--start", "2024-03-25")
    patient, interrupted = desk.start(*command), desk.start(*command)
    desk.environment["COPILOT_QUANT_WAIT"] = "6"
    waiting = desk.start(*command, "--json")
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out) == (75, "")
    told, ended = err.strip().splitlines()
    assert f"(process {holder.pid}: " in told
    assert "waiting for the pool yahoo" in told
    assert "was not free within 6 s" in ended
    os.killpg(interrupted.pid, signal.SIGINT)
    assert "goes on from there" in interrupted.communicate(timeout=20)[1]
    assert interrupted.returncode == 130
    os.kill(holder.pid, signal.SIGKILL)
    assert patient.communicate(timeout=60)[1].count("waiting for the pool") == 1
    assert patient.returncode == 0
    assert shown(desk, "equities") == stored(desk, "equities")


def test_a_lock_that_cannot_be_had_in_time_is_busy_not_wrong(desk: Desk) -> None:
    desk.set({"COPILOT_QUANT_LOCK_TIMEOUT": "0.3"})
    with Warehouse(desk.settings.warehouse_path).transaction():
        said = desk.run(*EQUITIES)
    assert said.code == 75
    assert "COPILOT_QUANT_LOCK_TIMEOUT" in said.err
    with sqlite3.connect(desk.settings.dagster_home / "history" / "runs" / "index.db") as index:
        index.execute("begin exclusive")
        said = desk.run(*EQUITIES)
    assert said.code == 75
    assert said.err.count("\n") == 1
    assert desk.run(*EQUITIES).code == 1
