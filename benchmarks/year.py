"""A year of daily use, replayed: what Dagster's home takes on disk, month by month, with the weekly pruning.

Here: 503 symbols and 100 markets through 365 days, about 12,000 runs and 420,000 cells, and the curve they draw.
Not here: whether pruning keeps what Dagit shows (tests), the warehouse and kept vendor responses.

12,000 real runs would take five hours. So **one real run of each kind** is launched through a real webserver, queue,
daemon, code server and run worker against the sandbox, and everything it leaves is read back: its record and tags, its
events, its output. The year then **replays** these through the storages' own calls under new run ids, cells and times.
The first table of the output compares a replayed run of each kind with the real one, in bytes of its own log and of its
events in the index. What differs from a real year:

- a run's events that only its own log has are stored first and at once, and SQLite does not wait for the disk;
- ticks of sensors are stored for the first four days: the purging after three days keeps them at that number;
- every tenth session fails for 20 symbols, and is healed by five runs; five of the 100 markets change every week.

Run it: `python -m benchmarks.year` (some 35 minutes of computing); `--days 60` for a short one.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from itertools import groupby
from pathlib import Path
from typing import Any

import dagster as dg
import requests
from dagster import AssetMaterialization, DagsterEventType
from dagster._core.definitions.partitions.subset.default import DefaultPartitionsSubset
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.events.log import EventLogEntry
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._core.snap import ExecutionPlanSnapshot, JobSnap
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.schedules.schema import JobTickTable
from dagster_shared.serdes import deserialize_value, serialize_value
from rich.console import Console
from rich.table import Table
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Engine

from benchmarks.grid import NEWEST, Venue, open_venue
from benchmarks.table import Measured, print_table
from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.ledger.cell_key import Cells
from copilot_quant_pipeline.ledger.documents import materialization
from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance
from copilot_quant_pipeline.ledger.retention import prune, size_on_disk
from copilot_quant_pipeline.ledger.sqlite import GridEventLogStorage

GB_A_YEAR = 3.0
SYMBOLS, MARKETS = 503, 100
BEGIN = date(2025, 3, 15)
MATERIALIZED, PLANNED = DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED
# The start and the ends of a run; what it is in between leaves no trace in its record.
STATED = {
    DagsterEventType.RUN_START,
    DagsterEventType.RUN_SUCCESS,
    DagsterEventType.RUN_FAILURE,
}
IN_INDEX = {*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS}

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
STATUS = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
WORKSPACE = """
{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks { name } } } }
  repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }
"""


@dataclass(frozen=True)
class Kind:
    """One kind of run.

    Attributes:
        name: what asks for it.
        assets: what it materializes.
        axis: the second axis of its cells; None where it has none.
        refresh: whether it asks for settled cells again.
        failed: how many of its cells, the first, fail.
        checks: whether it is a run of all checks, and of nothing else.
    """

    name: str
    assets: tuple[str, ...] = ()
    axis: str | None = None
    refresh: bool = False
    failed: int = 0
    checks: bool = False


EQUITIES = Kind("equities_after_close", ("equity_bars",), axis="symbol")
FAILING = Kind("equities_after_close, 20 cells fail", ("equity_bars",), axis="symbol", refresh=True, failed=20)
HEALING = Kind("heal", ("equity_bars",), axis="symbol")
CATALOG = Kind("prediction_markets_refresh, catalog", ("prediction_markets",))
PRICES = Kind("prediction_markets_refresh, prices", ("prediction_market_prices",), axis="market", refresh=True)
MEMBERS = Kind("universe_weekly", ("sp500_members",))
VERIFIED = Kind("verify_history", ("history_verified",))
PRUNED = Kind("ledger_pruned_weekly", ("dagster_history",))
CHECKS = Kind("checks_hourly", checks=True)


@dataclass(frozen=True)
class Template:
    """All that a real run left: its record, its events (one for each group of cells), the files of its output."""

    kind: Kind
    run: dg.DagsterRun
    job: JobSnap
    plan: ExecutionPlanSnapshot
    events: Sequence[str]
    output: Mapping[str, bytes]

    @classmethod
    def of(cls, kind: Kind, instance: dg.DagsterInstance, run_id: str) -> Template:
        """Read back everything that the run `run_id` left."""
        run = instance.get_run_by_id(run_id)
        assert run is not None
        events = [serialize_value(event) for event in _one_a_group(instance.all_logs(run_id))]
        folder = Path(instance.storage_directory()) / run_id
        output = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        job = instance.run_storage.get_job_snapshot(str(run.job_snapshot_id))
        plan = instance.run_storage.get_execution_plan_snapshot(str(run.execution_plan_snapshot_id))
        return cls(kind, run, job, plan, events, output)

    def prepare(self, instance: dg.DagsterInstance) -> None:
        """Store what all replays of this run share."""
        instance.run_storage.add_job_snapshot(self.job)
        instance.run_storage.add_execution_plan_snapshot(self.plan)

    def replay(self, instance: dg.DagsterInstance, at: datetime, days: Sequence[date], keys: Sequence[str]) -> str:
        """Store the run once more, as of `at` and over `days` x `keys`; its id."""
        run_id = str(uuid.uuid4())
        cells = [f"{day}|{key}" for day in days for key in keys]
        record = deserialize_value(self._renamed(serialize_value(self.run), run_id, cells), dg.DagsterRun)
        instance.run_storage.add_historical_run(record, at)
        events = list(self._events(run_id, at, cells))
        self._store(instance, run_id, [event for event in events if not _is_in_index(event)], in_log_only=True)
        self._store(instance, run_id, [event for event in events if _is_in_index(event)], in_log_only=False)
        for name, content in self.output.items():
            path = Path(instance.storage_directory()) / run_id / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return run_id

    def _store(
        self, instance: dg.DagsterInstance, run_id: str, events: Sequence[EventLogEntry], *, in_log_only: bool
    ) -> None:
        log = instance.event_log_storage
        assert isinstance(log, GridEventLogStorage)
        if in_log_only:
            with log.run_connection(run_id) as conn:
                conn.execute(SqlEventLogStorageTable.insert(), [log._event_to_row(event) for event in events])
            return
        for event in events:
            log.store_event(event)
            if event.dagster_event_type in STATED:
                at = datetime.fromtimestamp(event.timestamp, UTC)
                instance.run_storage.handle_run_event(run_id, event.get_dagster_event(), at)

    def _events(self, run_id: str, at: datetime, cells: Sequence[str]) -> Iterator[EventLogEntry]:
        for n, text in enumerate(self.events):
            event = deserialize_value(self._renamed(text, run_id, cells), EventLogEntry)
            event = event._replace(timestamp=at.timestamp() + n / 100)
            yield _with_cells(event, cells, self.kind) if cells else event

    def _renamed(self, text: str, run_id: str, cells: Sequence[str]) -> str:
        text = text.replace(self.run.run_id, run_id)
        for corner, cell in zip(("start", "end"), (cells[0], cells[-1]) if cells else (), strict=False):
            old = self.run.tags.get(f"dagster/asset_partition_range_{corner}")
            text = text.replace(f'"{old}"', f'"{cell}"') if old else text
        return text


def _one_a_group(events: Sequence[EventLogEntry]) -> Iterator[EventLogEntry]:
    """Events with one materialization for all cells that were recorded at once."""
    for (kind, _), some in groupby(events, key=lambda event: (event.dagster_event_type, _recorded_at(event))):
        together = list(some)
        yield from together[-1:] if kind is MATERIALIZED else together


def _recorded_at(event: EventLogEntry) -> float | None:
    return event.timestamp if event.dagster_event_type is MATERIALIZED else None


def _is_in_index(event: EventLogEntry) -> bool:
    return event.dagster_event_type in IN_INDEX


def _with_cells(event: EventLogEntry, cells: Sequence[str], kind: Kind) -> EventLogEntry:
    of = event.dagster_event
    if of is None or event.dagster_event_type not in (MATERIALIZED, PLANNED):
        return event
    if event.dagster_event_type is PLANNED:
        subset = DefaultPartitionsSubset(set(cells))
        data: Any = of.asset_materialization_planned_data._replace(partition=None, partitions_subset=subset)
    else:
        given = of.step_materialization_data
        data = given._replace(
            materialization=_materialized(materialization(event), cells[kind.failed :], str(kind.axis))
        )
    return event._replace(dagster_event=of._replace(event_specific_data=data))


def _materialized(one: AssetMaterialization, cells: Sequence[str], axis: str) -> AssetMaterialization:
    split = (cell.split("|", 1) for cell in cells)
    return one._replace(partition=Cells.of(dg.MultiPartitionKey({"date": day, axis: key}) for day, key in split))


@dataclass(frozen=True)
class Platform:
    """A real platform under way: its address, its home, its venue, and what can be launched."""

    url: str
    home: Path
    venue: Venue
    assets: Mapping[str, Sequence[str]]
    repository: Mapping[str, str]

    def run(self, kind: Kind, cells: Sequence[tuple[date, str]] = ()) -> str:
        """Launch a run from Dagit over the box from the first to the last cell, and wait for its end; its id."""
        checks = [
            {"assetKey": {"path": [asset]}, "name": name} for asset, names in self.assets.items() for name in names
        ]
        selector = {
            **self.repository,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": [asset]} for asset in kind.assets],
            "assetCheckSelection": checks if kind.checks else [],
        }
        corners = [("start", cells[0]), ("end", cells[-1])] if cells else []
        tags = [{"key": f"dagster/asset_partition_range_{c}", "value": f"{cell[0]}|{cell[1]}"} for c, cell in corners]
        config = {"ops": {asset: {"config": {"refresh": True}} for asset in kind.assets}} if kind.refresh else {}
        params = {"selector": selector, "mode": "default", "runConfigData": config, "executionMetadata": {"tags": tags}}
        run_id = str(_ask(self.url, LAUNCH, {"params": params})["launchPipelineExecution"]["run"]["runId"])
        while _ask(self.url, STATUS, {"id": run_id})["runOrError"]["status"] not in ("SUCCESS", "FAILURE"):
            time.sleep(0.3)
        time.sleep(1)  # until the worker's last words are stored
        return run_id


@contextmanager
def _platform(venue: Venue, symbols: Sequence[str], home: Path) -> Iterator[Platform]:
    """`copilot-quant ui` on `home`, whose schedules and sensors are switched off."""
    install_instance_config(home / "dagster")
    with open_instance(home / "dagster") as instance:
        instance.add_dynamic_partitions("symbol", list(symbols))
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    environment = venue.environment(home) | {"COPILOT_QUANT_MARKETS_START": f"{NEWEST - timedelta(days=30)}"}
    command = [sys.executable, "-m", "copilot_quant_pipeline.cli", "ui", "--port", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True) as dagit:
        try:
            url = f"http://127.0.0.1:{port}/graphql"
            nodes, repository = _workspace(url)
            yield Platform(url, home, venue, nodes, repository)
        finally:
            os.killpg(dagit.pid, signal.SIGINT)
            dagit.wait(60)


def _workspace(url: str) -> tuple[Mapping[str, Sequence[str]], Mapping[str, str]]:
    for _ in range(300):
        try:
            found = _ask(url, WORKSPACE, {})
        except (requests.RequestException, KeyError):
            found = {"assetNodes": []}
        if found["assetNodes"]:
            break
        time.sleep(0.5)
    assets = {
        node["assetKey"]["path"][0]: [check["name"] for check in node["assetChecksOrError"].get("checks", [])]
        for node in found["assetNodes"]
    }
    (node,) = found["repositoriesOrError"]["nodes"]
    return assets, {"repositoryName": node["name"], "repositoryLocationName": node["location"]["name"]}


def _ask(url: str, query: str, variables: Mapping[str, Any]) -> Any:
    return requests.post(url, json={"query": query, "variables": variables}, timeout=60).json()["data"]


def record(home: Path) -> dict[Kind, Template]:
    """One real run of each kind that this platform has, read back."""
    with open_venue() as venue:
        symbols = _symbols()
        days = sessions_in_range(NEWEST - timedelta(days=10), NEWEST)[-3:]
        with _platform(venue, symbols, home) as platform:
            ran = {EQUITIES: platform.run(EQUITIES, [(days[0], symbols[0]), (days[0], symbols[-1])])}
            for symbol in symbols[: FAILING.failed]:
                fault = {"kind": "lost_session", "symbol": symbol, "dates": [str(days[1])]}
                requests.post(f"{venue.url}/__faults", json=fault, timeout=10).raise_for_status()
            ran[FAILING] = platform.run(FAILING, [(days[1], symbols[0]), (days[1], symbols[-1])])
            requests.delete(f"{venue.url}/__faults", timeout=10).raise_for_status()
            ran[HEALING] = platform.run(HEALING, [(days[2], symbols[0]), (days[2], symbols[3])])
            ran[CATALOG] = platform.run(CATALOG)
            with open_instance(home / "dagster") as instance:
                markets = instance.get_dynamic_partitions("market")
            corners = [(NEWEST, markets[0]), (NEWEST + timedelta(days=1), markets[-1])]
            ran[PRICES] = platform.run(PRICES, corners)
            plain = [kind for kind in (MEMBERS, VERIFIED, PRUNED) if set(kind.assets) <= set(platform.assets)]
            ran |= {kind: platform.run(kind) for kind in (*plain, CHECKS)}
    with open_instance(home / "dagster") as instance:
        return {kind: Template.of(kind, instance, run_id) for kind, run_id in ran.items()}


def _symbols() -> Sequence[str]:
    from copilot_quant_pipeline.sandbox import SimulatedEquities

    return sorted(listing.symbol for listing in SimulatedEquities().members(NEWEST))[:SYMBOLS]


@dataclass(frozen=True)
class Likeness:
    """How much a replayed run differs from the real one, as parts of the real one's bytes."""

    kind: str
    log: int
    index: int
    log_off: float
    index_off: float


def compare(templates: Mapping[Kind, Template], real: Path, folder: Path) -> list[Likeness]:
    """Replay each kind once, over as many cells as the real run had, and measure both."""
    with open_instance(real) as there, _fast(folder) as here:
        return [_likeness(template, there, here) for template in templates.values()]


def _likeness(template: Template, there: dg.DagsterInstance, here: dg.DagsterInstance) -> Likeness:
    template.prepare(here)
    days, keys = _box(template, there)
    at = datetime.combine(BEGIN, clock(), UTC)
    copy = template.replay(here, at, days, keys)
    real, replayed = _bytes(there, template.run.run_id), _bytes(here, copy)
    return Likeness(template.kind.name, *real, *(b / a - 1 if a else 0.0 for a, b in zip(real, replayed, strict=True)))


def _box(template: Template, instance: dg.DagsterInstance) -> tuple[Sequence[date], Sequence[str]]:
    """The dates and keys of the run that a template is of."""
    if template.kind.axis is None:
        return (), ()
    (cells,) = instance.event_log_storage.get_asset_partitions_for_run(template.run.run_id, PLANNED).values()
    split = [str(cell).split("|", 1) for cell in sorted(map(str, cells))]
    return sorted({date.fromisoformat(day) for day, _ in split}), sorted({key for _, key in split})


def _bytes(instance: dg.DagsterInstance, run_id: str) -> tuple[int, int]:
    """What a run takes in its own log, and what its events in the index weigh."""
    log = instance.event_log_storage
    assert isinstance(log, GridEventLogStorage)
    _checkpoint(Path(log.path_for_shard(run_id)))
    with log.index_connection() as conn:
        weight = "select coalesce(sum(length(event)), 0) from event_logs where run_id = ?"
        in_index = conn.exec_driver_sql(weight, (run_id,)).scalar_one()
    return Path(log.path_for_shard(run_id)).stat().st_size, int(in_index)


def _checkpoint(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("pragma wal_checkpoint(truncate)")


@contextmanager
def _fast(home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance on `home` whose databases do not wait for the disk; they take as many bytes."""

    def no_waiting(connection: Any, _: object) -> None:
        connection.execute("pragma synchronous = off")

    install_instance_config(home)
    sqlalchemy_event.listen(Engine, "connect", no_waiting)
    try:
        with open_instance(home) as instance:
            yield instance
    finally:
        sqlalchemy_event.remove(Engine, "connect", no_waiting)


@dataclass(frozen=True)
class Month:
    """Where a year stands after so many days.

    `unpruned` is what the home would take had nothing been pruned: all that each week added, summed.
    """

    day: int
    runs: int
    cells: int
    events: int
    files: int
    bytes: int
    unpruned: int
    pruning: float


@dataclass
class Year:
    """A year of daily use of `instance`, a day at a time."""

    instance: dg.DagsterInstance
    templates: Mapping[Kind, Template]
    symbols: Sequence[str]
    markets: Sequence[str]
    runs: int = 0
    cells: int = 0
    pruning: float = 0.0
    pruned: int = 0

    def live(self, days: int, on_month: Callable[[Month], None]) -> list[Month]:
        """Live so many days; one `Month` after each 30 and at the end."""
        for template in self.templates.values():
            template.prepare(self.instance)
        sessions = set(sessions_in_range(BEGIN - timedelta(days=7), BEGIN + timedelta(days=days)))
        months = []
        for n in range(days):
            self._live_day(n, BEGIN + timedelta(days=n), sessions)
            if n % 30 == 29 or n == days - 1:
                months.append(self._month(n + 1))
                on_month(months[-1])
        return months

    def _live_day(self, n: int, day: date, sessions: set[date]) -> None:
        markets = self.markets[5 * (n // 7) :][:MARKETS]
        for hour in range(24):
            at = datetime.combine(day, clock(hour, 30), UTC)
            self._replay(CHECKS, at)
            if hour % 6 == 0:
                self._replay(CATALOG, at)
                self._replay(PRICES, at, [day - timedelta(days=1), day], markets)
            self._tick("checks_hourly", at)
        self._live_night(n, datetime.combine(day, clock(11), UTC), day - timedelta(days=1), sessions)
        self._tick_sensors(n, day)
        if day.weekday() == 6:
            self._live_sunday(datetime.combine(day, clock(23), UTC))

    def _live_night(self, n: int, at: datetime, session: date, sessions: set[date]) -> None:
        if session not in sessions:
            return
        fails = n % 10 == 9
        self._replay(FAILING if fails else EQUITIES, at, [session], self.symbols)
        for k in range(5 if fails else 0):
            self._replay(HEALING, at + timedelta(hours=k + 1), [session], self.symbols[4 * k :][:4])
        self._tick("equities_after_close", at)

    def _live_sunday(self, at: datetime) -> None:
        for kind in (MEMBERS, VERIFIED, PRUNED):
            if kind in self.templates:
                self._replay(kind, at)
        before = size_on_disk(self._home)
        began = time.perf_counter()
        prune(self.instance, at)
        self.pruning = time.perf_counter() - began
        self.pruned += before - size_on_disk(self._home)

    @property
    def _home(self) -> Path:
        return Path(self.instance.root_directory)

    def _replay(self, kind: Kind, at: datetime, days: Sequence[date] = (), keys: Sequence[str] = ()) -> None:
        self.templates[kind].replay(self.instance, at, days, keys)
        self.runs += 1
        self.cells += len(days) * len(keys) - (kind.failed if days else 0)

    def _tick_sensors(self, n: int, day: date) -> None:
        # From the fourth day on, as many are purged as come.
        begin = datetime.combine(day, clock(), UTC)
        for name, seconds in (SENSORS if n < TICK_DAYS else {}).items():
            times = [begin + timedelta(seconds=second) for second in range(0, 86_400, seconds)]
            self._store_ticks([_tick(name, InstigatorType.SENSOR, TickStatus.SKIPPED, at) for at in times])

    def _tick(self, name: str, at: datetime) -> None:
        self._store_ticks([_tick(name, InstigatorType.SCHEDULE, TickStatus.SUCCESS, at)])

    def _store_ticks(self, ticks: Sequence[TickData]) -> None:
        storage: Any = self.instance.schedule_storage
        rows = [
            {
                "job_origin_id": tick.instigator_origin_id,
                "selector_id": tick.selector_id,
                "status": tick.status.value,
                "type": tick.instigator_type.value,
                "timestamp": datetime.fromtimestamp(tick.timestamp, UTC).replace(tzinfo=None),
                "tick_body": serialize_value(tick),
            }
            for tick in ticks
        ]
        with storage.connect() as conn:
            conn.execute(JobTickTable.insert(), rows)

    def _month(self, day: int) -> Month:
        log = self.instance.event_log_storage
        assert isinstance(log, GridEventLogStorage)
        with log.index_connection() as conn:
            events = int(conn.exec_driver_sql("select count(*) from event_logs").scalar_one())
        size = size_on_disk(self._home)
        files = sum(1 for path in self._home.rglob("*") if path.is_file())
        return Month(day, self.runs, self.cells, events, files, size, size + self.pruned, self.pruning)


def _tick(name: str, kind: InstigatorType, status: TickStatus, at: datetime) -> TickData:
    skipped = status is TickStatus.SKIPPED
    return TickData(
        instigator_origin_id=f"{name:0<40}",
        instigator_name=name,
        instigator_type=kind,
        status=status,
        timestamp=at.timestamp(),
        run_ids=[] if skipped else [str(uuid.uuid4())],
        run_keys=[] if skipped else [at.isoformat()],
        skip_reason="equities: nothing to heal; markets: nothing to heal" if skipped else None,
        selector_id=f"{name:1<40}",
        log_key=["__repository__", name, str(uuid.uuid4())],
        end_timestamp=at.timestamp() + 1,
    )


# Seconds between ticks.
SENSORS = {"heal": 600, "alerts": 60, "new_symbols": 60, "new_markets": 60}
TICK_DAYS = 4


def _print_likenesses(likenesses: Sequence[Likeness]) -> None:
    table = Table(
        "real run", "own log", "in the index", "replayed", "", title="One real run of each kind, and its replay"
    )
    for one in likenesses:
        off = (f"log {one.log_off:+.1%}", f"index {one.index_off:+.1%}")
        table.add_row(one.kind, f"{one.log / 1e3:,.0f} kB", f"{one.index / 1e3:,.0f} kB", *off)
    Console(width=110).print(table)


COLUMNS = ("day", "runs so far", "cells so far", "events", "files", "MB", "MB unpruned", "s to prune")


def _print_month(month: Month) -> None:
    numbers = (month.day, month.runs, month.cells, month.events, month.files, month.bytes / 1e6, month.unpruned / 1e6)
    print("".join(f"{number:>14,.0f}" for number in numbers) + f"{month.pruning:>14.1f}", flush=True)


def main() -> None:
    """Record, compare, replay the year and print its curve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--days", type=int, default=365)
    days = parser.parse_args().days
    with tempfile.TemporaryDirectory(prefix="copilot-quant-year-") as folder:
        root = Path(folder)
        began = time.perf_counter()
        templates = record(root / "real")
        _print_likenesses(compare(templates, root / "real" / "dagster", root / "replayed"))
        print("".join(f"{column:>14}" for column in COLUMNS))
        markets = [f"kalshi:KXSIM{n:04}-26MAR-T{n % 9}" for n in range(MARKETS + 5 * (days // 7 + 1))]
        with _fast(root / "year") as instance:
            instance.add_dynamic_partitions("symbol", list(_symbols()))
            months = Year(instance, templates, _symbols(), markets).live(days, _print_month)
        took = time.perf_counter() - began
    largest = max(month.bytes for month in months) / 1e9
    rows = [
        Measured(f"Dagster's home after {days} days", months[-1].bytes / 1e9, "GB", GB_A_YEAR),
        Measured("  at its largest, of the months' ends", largest, "GB", GB_A_YEAR),
        Measured("  had nothing been pruned", months[-1].unpruned / 1e9, "GB"),
        Measured("replaying it took", took / 60, "min"),
    ]
    print_table("A year of daily use", rows)


if __name__ == "__main__":
    main()
