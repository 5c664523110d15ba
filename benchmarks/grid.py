"""The equities grid at full size: recording, settling, backfilling and updating 500 symbols, and the floor below.

Here: whole commands and a whole Dagit backfill against a sandbox in a process of its own, on fresh homes, one after the
other in one go. Not here: whether they are right (tests).

Run it: `python -m benchmarks.grid` (some minutes; nothing else should run).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import requests

from benchmarks.ledger import measure_ledger, measure_reconcile
from benchmarks.table import Measured, print_table
from benchmarks.warehouse import measure_settle
from copilot_quant_pipeline.calendar import next_session, sessions_in_range
from copilot_quant_pipeline.settings import VENUE_URLS

SYMBOLS, SESSIONS = 500, 1_250
NOW = datetime(2026, 3, 14, 14, tzinfo=UTC)  # a Saturday; the newest session is Friday 2026-03-13
NEWEST = date(2026, 3, 13)
CHART = "/v8/finance/chart/{symbol}"


@dataclass(frozen=True)
class Venue:
    """A sandbox in a process of its own, and the environment of commands that use it."""

    url: str
    symbols: Sequence[str]
    start: date

    def environment(self, home: Path, now: datetime = NOW) -> dict[str, str]:
        """The settings of a command on `home` at the instant `now`."""
        return {
            **os.environ,
            "COPILOT_QUANT_HOME": str(home),
            **{f"COPILOT_QUANT_{name.upper()}": self.url for name in VENUE_URLS},
            "COPILOT_QUANT_EQUITIES_START": self.start.isoformat(),
            "COPILOT_QUANT_NOW": now.isoformat(),
        }

    def charts(self) -> int:
        """Chart requests since the last reset, which this is."""
        counts = requests.get(f"{self.url}/__requests", timeout=10).json()
        requests.post(f"{self.url}/__requests/reset", timeout=10)
        return int(counts.get(CHART, 0))

    def counts(self) -> dict[str, int]:
        """Requests since the last reset, by route."""
        return dict(requests.get(f"{self.url}/__requests", timeout=10).json())

    def busiest(self, seconds: float, *under: str) -> int:
        """The most requests that came within so many seconds, of all routes that begin with one of `under`."""
        asked = [("seconds", str(seconds)), *(("under", prefix) for prefix in under)]
        return int(requests.get(f"{self.url}/__requests/busiest", asked, timeout=60).json()["requests"])

    def set_clock(self, now: datetime) -> None:
        """Let the simulated market be at `now`."""
        requests.post(f"{self.url}/__clock", json={"now": now.isoformat()}, timeout=10).raise_for_status()


@contextmanager
def open_venue(delay: float = 0.0) -> Iterator[Venue]:
    """A sandbox whose clock stands at NOW and whose every answer takes `delay` seconds."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    how = ("--port", str(port), "--delay", str(delay))
    command = [sys.executable, "-m", "copilot_quant_pipeline.cli", "sandbox", *how]
    environment = {**os.environ, "COPILOT_QUANT_NOW": NOW.isoformat()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as server:
        venue = Venue(f"http://127.0.0.1:{port}", _listed(), sessions_in_range(date(2015, 1, 2), NEWEST)[-SESSIONS])
        _until_it_answers(f"{venue.url}/__requests")
        try:
            yield venue
        finally:
            server.terminate()


def _listed() -> Sequence[str]:
    from copilot_quant_pipeline.sandbox import SimulatedEquities

    return [listing.symbol for listing in SimulatedEquities().members(NEWEST)][:SYMBOLS]


def _until_it_answers(url: str) -> None:
    for _ in range(600):
        with contextlib.suppress(requests.RequestException):
            if requests.get(url, timeout=5).ok:
                return
        time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer")


@dataclass(frozen=True)
class Ran:
    """What one command took: wall seconds and the peak memory of its process in GB."""

    seconds: float
    peak: float
    answer: dict[str, Any]


def run_command(arguments: Sequence[str], environment: dict[str, str]) -> Ran:
    """Run copilot-quant to its end in a process of its own; it must settle everything."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "copilot_quant_pipeline.cli", *arguments, "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments} exited with {process.returncode}: {out[:500]!r}")
    scale = 1e9 if sys.platform == "darwin" else 1e6
    return Ran(time.perf_counter() - began, usage.ru_maxrss / scale, json.loads(out))


def measure_commands(venue: Venue, home: Path) -> list[Measured]:
    """Backfill the whole rectangle, then update it by one new session."""
    symbols = ",".join(venue.symbols)
    venue.charts()
    backfill = run_command(("backfill", "equities", "--symbols", symbols), venue.environment(home))
    asked = venue.charts()
    later = datetime.combine(next_session(NEWEST), datetime.max.time(), UTC).replace(hour=12)
    later = later.replace(day=later.day + 1)
    venue.set_clock(later)
    update = run_command(("update", "equities"), venue.environment(home, later))
    asked_again = venue.charts()
    venue.set_clock(NOW)
    cells = backfill.answer["settled"] + SYMBOLS
    return [
        Measured(f"backfill equities, {SYMBOLS} x {SESSIONS:,}", backfill.seconds, "s", 480),
        Measured("  peak memory", backfill.peak, "GB", 2.5),
        Measured("  chart requests", asked, "", SYMBOLS),
        Measured("  event log on disk, a cell", _size(home / "dagster" / "history") / cells, "bytes", 5_000),
        Measured("  warehouse on disk, a cell", _size(home / "warehouse.duckdb") / cells, "bytes"),
        Measured(f"update equities, {SYMBOLS} x 1 new session", update.seconds, "s", 60),
        Measured("  cells settled by it", update.answer["settled"] - update.answer["already"], ""),
        Measured("  chart requests", asked_again, "", SYMBOLS),
    ]


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
WATCH = """
query Watch($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status numPartitions } }
}
"""


def measure_dagit(venue: Venue, home: Path, sessions: int = 20) -> list[Measured]:
    """A backfill launched through a real webserver and run by a real daemon, launcher and code server."""
    from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance

    days = sessions_in_range(venue.start, NEWEST)[-sessions:]
    keys = [f"{day}|{symbol}" for day in days for symbol in venue.symbols]
    install_instance_config(home / "dagster")
    with open_instance(home / "dagster") as instance:
        instance.add_dynamic_partitions("symbol", list(venue.symbols))
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "copilot_quant_pipeline.cli", "ui", "--port", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=venue.environment(home), stdout=quiet, stderr=quiet) as dagit:
        try:
            _until_it_answers(f"http://127.0.0.1:{port}/server_info")
            venue.charts()
            began = time.perf_counter()
            status = _launch_and_wait(f"http://127.0.0.1:{port}/graphql", keys)
            seconds = time.perf_counter() - began
        finally:
            dagit.terminate()
    if status != "COMPLETED_SUCCESS":
        raise RuntimeError(f"the Dagit backfill ended as {status}")
    return [
        Measured(f"Dagit backfill, {SYMBOLS} x {sessions} ({sessions} runs)", seconds, "s", 150),
        Measured("  chart requests", venue.charts(), "", SYMBOLS),
    ]


def _launch_and_wait(graphql: str, keys: Sequence[str]) -> str:
    def ask(query: str, variables: dict[str, Any]) -> Any:
        return requests.post(graphql, json={"query": query, "variables": variables}, timeout=60).json()["data"]

    params = {"assetSelection": [{"path": ["equity_bars"]}], "partitionNames": list(keys)}
    backfill_id = ask(LAUNCH, {"params": params})["launchPartitionBackfill"]["backfillId"]
    while True:
        status = str(ask(WATCH, {"id": backfill_id})["partitionBackfillOrError"]["status"])
        if status not in ("REQUESTED", "COMPLETING"):
            return status
        time.sleep(0.5)


def measure_floor(venue: Venue, home: Path) -> list[Measured]:
    """The same rows fetched by a bare thread pool over the same client and inserted into DuckDB: nothing else."""
    from concurrent.futures import ThreadPoolExecutor

    import duckdb
    import pyarrow as pa

    from copilot_quant_pipeline.equities.bars import undo_later_splits
    from copilot_quant_pipeline.equities.yahoo import YahooClient

    client = YahooClient(home / "cache", url=venue.url)
    home.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda symbol: client.fetch_bars(symbol, venue.start, NOW.date()), venue.symbols))
    bars = pa.concat_tables(undo_later_splits(answer) for answer in answers)
    with duckdb.connect(home / "floor.duckdb") as connection:
        connection.register("bars", bars)
        connection.execute("create table stored as from bars")
    seconds = time.perf_counter() - began
    return [Measured(f"floor: the same {len(bars):,} rows fetched and inserted bare", seconds, "s")]


def main() -> None:
    """Measure everything and print the table."""
    rows = [*measure_ledger(), *measure_reconcile(), *measure_settle()]
    with tempfile.TemporaryDirectory() as folder, open_venue() as venue:
        root = Path(folder)
        floor = measure_floor(venue, root / "floor")
        commands = measure_commands(venue, root / "commands")
        dagit = measure_dagit(venue, root / "dagit")
        ratio = Measured("backfill as a multiple of the floor", commands[0].value / floor[0].value, "x")
        rows += [*floor, *commands, ratio, *dagit]
    print_table("The equities grid", rows)


if __name__ == "__main__":
    main()
