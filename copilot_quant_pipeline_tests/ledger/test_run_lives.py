"""A run lives while its process holds a lock: no name, clock or pid keeps it alive, and nothing ends it early."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster import DagsterRunStatus

from copilot_quant_pipeline.errors import BusyError, UserError
from copilot_quant_pipeline.home import hold
from copilot_quant_pipeline.ledger.instance import be_patient, open_instance
from copilot_quant_pipeline.ledger.life import FileLives
from copilot_quant_pipeline.ledger.run_lives import PROCESS_TAG, living, note_process, release_dead_runs
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage
from copilot_quant_pipeline.ledger.turns import Turn, WaitLimits
from copilot_quant_pipeline_tests.ledger.small_grid import BARS, job

SPAWN = multiprocessing.get_context("spawn")


def begin_a_run(home: Path, told: Connection) -> None:
    with open_instance(home) as instance:
        begun = instance.create_run_for_job(job, asset_selection={BARS}, status=DagsterRunStatus.STARTED)
        claim = instance.event_log_storage.claim_concurrency_slot("yahoo", begun.run_id, "bars")
        told.send((begun.run_id, claim.is_claimed))
        signal.pause()


def test_the_run_of_a_killed_process_is_failed_and_its_slot_freed(ledger: dg.DagsterInstance) -> None:
    log = ledger.event_log_storage
    log.set_concurrency_slots("yahoo", 1)
    told, tell = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=begin_a_run, args=(Path(ledger.root_directory), tell))
    process.start()
    assert told.poll(60)
    run_id, claimed = told.recv()
    assert claimed
    assert release_dead_runs(ledger) == []
    process.kill()
    process.join()
    assert release_dead_runs(ledger) == [run_id]
    assert release_dead_runs(ledger) == []
    dead = ledger.get_run_by_id(run_id)
    assert dead is not None
    assert dead.status is DagsterRunStatus.FAILURE
    assert log.get_concurrency_info("yahoo").active_slot_count == 0


def begun_before(ledger: dg.DagsterInstance, process: str) -> dg.DagsterRun:
    """A run as the version before tags it, with `process` as host, pid and start."""
    begun = ledger.create_run_for_job(job, status=DagsterRunStatus.STARTED)
    ledger.add_run_tags(begun.run_id, {PROCESS_TAG: f"{process}:{begun.run_id}"})
    return begun


def test_a_run_that_names_no_process_is_left_alone(ledger: dg.DagsterInstance) -> None:
    ledger.create_run_for_job(job, status=DagsterRunStatus.STARTED)
    assert release_dead_runs(ledger) == []


def test_runs_of_the_version_before_end_with_their_process_under_whatever_name_of_host(
    ledger: dg.DagsterInstance,
) -> None:
    this, gone = psutil.Process(), subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lives = begun_before(ledger, f"container-1:{this.pid}:{this.create_time():.2f}")
    dead = begun_before(ledger, f"container-2:{gone.pid}:{this.create_time():.2f}")
    with (
        subprocess.Popen(["sleep", "60"]) as other,
        (Path(ledger.root_directory).parent / "a.log").open("w"),
    ):
        # Somebody else has its pid by now.
        reused = begun_before(ledger, f"container-1:{other.pid}:{this.create_time() - 3_600:.2f}")
        # The clock was set, by which a process seems to have begun at another time; it has a file of the home open.
        stepped = begun_before(ledger, f"container-1:{this.pid}:{this.create_time() - 60:.2f}")
        assert set(release_dead_runs(ledger)) == {dead.run_id, reused.run_id}
        other.kill()
    left = [ledger.get_run_by_id(run.run_id) for run in (lives, stepped)]
    assert [run.status for run in left if run] == [DagsterRunStatus.STARTED] * 2


def test_a_retry_is_not_taken_for_the_run_of_the_dead_process_it_follows(ledger: dg.DagsterInstance) -> None:
    with living(ledger, "first") as tags:
        dead = tags[PROCESS_TAG].removesuffix(":first")
    first = ledger.create_run_for_job(job, status=DagsterRunStatus.STARTED)
    ledger.add_run_tags(first.run_id, {PROCESS_TAG: f"{dead}:{first.run_id}"})
    for tag in (f"{dead}:{first.run_id}", dead, f"host:4194304:1.00:{first.run_id}", "host:4194304:1.00"):
        # Dagster gives a retry the tags of the run it follows.
        ledger.create_run_for_job(
            job,
            status=DagsterRunStatus.STARTED,
            parent_run_id=first.run_id,
            root_run_id=first.run_id,
            tags={PROCESS_TAG: tag},
        )
    assert release_dead_runs(ledger) == [first.run_id]


def test_a_run_notes_the_process_it_is_executed_by_once(ledger: dg.DagsterInstance) -> None:
    run_id = ledger.create_run_for_job(job, status=DagsterRunStatus.STARTED).run_id
    noted = set()
    for _ in range(2):
        note_process(ledger, run_id)
        begun = ledger.get_run_by_id(run_id)
        assert begun is not None
        noted.add(begun.tags[PROCESS_TAG])
    assert len(noted) == 1
    assert release_dead_runs(ledger) == []
    note_process(ledger, "no-such-run")


def test_a_run_that_its_process_has_left_is_over_though_the_process_goes_on(ledger: dg.DagsterInstance) -> None:
    with executed(ledger) as run_id:
        assert release_dead_runs(ledger) == []
    assert release_dead_runs(ledger) == [run_id]


def hold_a_life(folder: Path, told: Connection, *, fork: bool) -> None:
    life = FileLives(folder).begin("a test")
    child = os.fork() if fork else 1
    if child == 0:
        signal.pause()
    # A program that outlives this one.
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    told.send((life.name, child, left.pid))
    signal.pause()


def until(what: Callable[[], object]) -> None:
    for _ in range(600):
        if what():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a fork of a process with threads
@pytest.mark.parametrize("fork", [False, True])
def test_a_life_is_over_when_its_process_ends_whoever_else_it_has_started(tmp_path: Path, fork: bool) -> None:
    lives = FileLives(tmp_path / "alive")
    ours, theirs = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=hold_a_life, args=(lives.folder, theirs), kwargs={"fork": fork})
    process.start()
    assert process.pid
    assert ours.poll(60)
    name, *others = ours.recv()
    try:
        assert not lives.is_over(name)
        assert lives.told(name) == "a test"
        os.kill(process.pid, signal.SIGSTOP)  # it hangs, and lives
        assert not lives.is_over(name)
        lives.sweep()
        assert len(list(lives.folder.iterdir())) == 1
        process.kill()
        process.join()
        until(lambda: lives.is_over(name))
        lives.sweep()
        assert list(lives.folder.iterdir()) == []
        assert lives.is_over(name)
    finally:
        for pid in others[0 if fork else 1 :]:
            os.kill(pid, signal.SIGKILL)


def test_lives_of_two_homes_do_not_meet(tmp_path: Path) -> None:
    one, other = FileLives(tmp_path / "one"), FileLives(tmp_path / "other")
    life = one.begin("a test")
    assert not one.is_over(life.name)
    assert other.is_over(life.name)
    life.end()
    assert one.is_over(life.name)
    life.end()


def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        FileLives(tmp_path / "file" / "alive").begin("a test")


def test_a_turn_is_told_after_five_seconds_and_each_minute_until_it_is_given_up() -> None:
    turn, patience = Turn("yahoo", 100.0), WaitLimits(wait=200.0)
    told = [second for second in range(400) if turn.is_to_be_told(100.0 + second)]
    assert told == [5, 65, 125, 185, 245, 305, 365]
    assert [second for second in range(400) if turn.is_given_up(100.0 + second, patience)][0] == 200
    assert "COPILOT_QUANT_WAIT" in str(turn.busy("run 1", patience))


@contextmanager
def executed(ledger: dg.DagsterInstance) -> Iterator[str]:
    """A run that this process executes."""
    run_id = str(uuid.uuid4())
    with living(ledger, run_id) as tags:
        ledger.create_run_for_job(job, run_id=run_id, status=DagsterRunStatus.STARTED, tags=tags)
        yield run_id


def claimed(ledger: dg.DagsterInstance, run_id: str) -> bool:
    return ledger.event_log_storage.claim_concurrency_slot("yahoo", run_id, "bars").is_claimed


@pytest.fixture
def log(ledger: dg.DagsterInstance) -> GridEventLogStorage:
    storage = ledger.event_log_storage
    assert isinstance(storage, GridEventLogStorage)
    storage.set_concurrency_slots("yahoo", 1)
    return storage


def test_a_slot_of_who_is_finished_dead_or_unknown_is_free_to_the_next(
    ledger: dg.DagsterInstance, log: GridEventLogStorage
) -> None:
    for status in (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED):
        run_id = ledger.create_run_for_job(job, status=status).run_id
        assert claimed(ledger, run_id)
    with executed(ledger) as run_id:
        assert claimed(ledger, run_id)
        assert not claimed(ledger, "unknown")
    assert claimed(ledger, "unknown")
    assert claimed(ledger, "unknown, too")
    dead = ledger.get_run_by_id(run_id)
    assert dead is not None
    assert dead.status is DagsterRunStatus.FAILURE
    log.free_abandoned_slots()
    assert log.get_concurrency_info("yahoo").active_slot_count == 0
    assert log.get_concurrency_info("yahoo").pending_steps == []


@pytest.mark.parametrize("broken", ["_free_concurrency_slots", "_remove_pending_steps", "assign_pending_steps"])
def test_a_slot_whose_freeing_breaks_anywhere_is_free_to_who_waits(
    ledger: dg.DagsterInstance, log: GridEventLogStorage, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    holder, waiting = (ledger.create_run_for_job(job, status=DagsterRunStatus.STARTED) for _ in range(2))
    assert claimed(ledger, holder.run_id)
    assert not claimed(ledger, waiting.run_id)
    with monkeypatch.context() as patch:
        patch.setattr(log, broken, _no_room)
        with pytest.raises(OSError, match="no room"):
            log.free_concurrency_slot_for_step(holder.run_id, "bars")
    ledger.report_run_failed(holder)
    assert claimed(ledger, waiting.run_id)


def _no_room(*_: object, **__: object) -> None:
    raise OSError("no room")


def test_who_has_a_slot_and_lives_is_waited_for_and_named_until_patience_ends(
    ledger: dg.DagsterInstance, log: GridEventLogStorage, caplog: pytest.LogCaptureFixture
) -> None:
    holder, waiting = (ledger.create_run_for_job(job, status=DagsterRunStatus.STARTED).run_id for _ in range(2))
    assert claimed(ledger, holder)
    assert not claimed(ledger, waiting)
    be_patient(ledger, WaitLimits(wait=0.3))
    with pytest.raises(BusyError, match=f"run {holder[:8]} .process {os.getpid()}: "):
        claimed(ledger, waiting)
    assert not caplog.records  # it was too short to be told


def test_a_lock_that_somebody_holds_for_too_long_is_told(ledger: dg.DagsterInstance, log: GridEventLogStorage) -> None:
    be_patient(ledger, WaitLimits(lock_timeout=0.2))
    with log._alone_at_the_slots(), pytest.raises(BusyError, match=r"claiming.lock for more than 0.2 s"):
        log.free_concurrency_slots_for_run("some-run")
    home = Path(ledger.root_directory)
    with hold(home / ".opening.lock", 1), pytest.raises(BusyError, match=r"opening.lock for more than 0.2 s"):
        open_instance(home, patience=WaitLimits(lock_timeout=0.2))
