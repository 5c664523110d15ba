"""Settle a rectangle of cells with as few Dagster runs as it takes, in this process.

Here: which of the asked cells are still missing, the runs that settle them, what came of it.
Not here: parsing what a user typed, printing.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from copilot_quant_pipeline.errors import Unavailable, UserError, VendorError
from copilot_quant_pipeline.grid.axes import keys_on_axis
from copilot_quant_pipeline.grid.cells import Cell, Rectangle, plan_runs
from copilot_quant_pipeline.grid.runs import range_tags
from copilot_quant_pipeline.ledger.run_lives import living
from copilot_quant_pipeline.prediction_markets.following import (
    CHOSEN,
    FAULTS,
    NEWS,
    NOTES,
    OUT_OF_REACH,
    WAITING,
    FollowRule,
    plan_followed,
    plan_keys,
)
from copilot_quant_pipeline.prediction_markets.sources import read_catalog
from copilot_quant_pipeline.warehouse.coverage import read_current_members, read_provisional, read_traffic
from copilot_quant_pipeline.warehouse.distrust import read_suspects

if TYPE_CHECKING:
    import dagster as dg

    from copilot_quant_pipeline.prediction_markets.venue import Market
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

MEMBERS_ASSET = "sp500_members"
CATALOG_ASSET = "prediction_markets"

# The logger of definitions.py: the ordinary console would print every event of a run.
RUN_LOGGER = "quiet"

# A run's fixed cost is about half a second; at 16,000 cells it is a tenth of the run, and what an interrupt can
# leave unrecorded stays small (what was fetched is landed and not asked for again). A day of a market is some fifty
# rows, not one: a run of as many cells of them would need well over a gigabyte.
LARGEST_RUN: Mapping[str, int] = {"equities": 16_000, "markets": 8_000}


class FailedCell(NamedTuple):
    """A cell that stays red, and why."""

    date: date
    key: str
    reason: str
    detail: str | None


@dataclass(frozen=True)
class BackfillResult:
    """What came of a backfill, in cells; `already` were settled before and not asked again.

    `restated` and `quarantined` are stored rows whose values the venue changed: believed, and waiting for a person.
    `coarse` cells are settled and asked for again, for a service that may have them finer did not answer.
    """

    asked: int
    already: int
    settled: int
    failed: tuple[FailedCell, ...]
    runs: int
    rows: int
    requests: int
    retries: int
    seconds: float
    restated: int = 0
    quarantined: int = 0
    coarse: int = 0


@dataclass(frozen=True)
class Backfill:
    """One backfill of `asset` on the grid `grid`.

    Attributes:
        axis: the name of the grid's second axis.
        asked: the rectangle to settle.
        dates: the grid's date axis.
        refresh: whether settled cells are asked for again, too.
        now: the present instant where our clock runs: cells recorded later than that are shown to their venues first,
            whose own clocks tell whether they are to be trusted; None where it is pinned.
        confirm: whether settled cells of a day that is not over are asked for again, too; those of a day that was not
            over then, and is by now, always are.
    """

    job: dg.JobDefinition
    instance: dg.DagsterInstance
    warehouse: Warehouse
    grid: str
    asset: str
    axis: str
    asked: Rectangle
    dates: Sequence[date]
    refresh: bool = False
    confirm: bool = False
    now: datetime | None = None

    def run(self, on_run: Callable[[int], None] = lambda _: None) -> BackfillResult:
        """Settle what is missing; `on_run` hears how many cells are through in all, as each run ends.

        Each run commits what it fetched before the next begins, so an interrupt loses nothing that was settled.
        """
        started = time.monotonic()
        self.instance.add_dynamic_partitions(self.axis, list(self.asked.keys))
        keys = keys_on_axis(self.instance, self.axis)
        self._show_suspects()
        missing = self._missing(self.asked)
        already = len(self.asked) - len(missing)
        left, runs = set(missing), list[str]()
        on_run(already)
        for rectangle in plan_runs(missing, self.dates, keys, LARGEST_RUN[self.grid]):
            runs += self._settle(rectangle)
            left.difference_update(rectangle)
            on_run(len(self.asked) - len(left))
        return self._outcome(already, runs, time.monotonic() - started)

    def _show_suspects(self) -> None:
        suspects = read_suspects(self.warehouse, self.grid, self.now) if self.now else []
        for cell in suspects:
            if cell.key in self.asked.keys and cell.date in self.dates:
                show_to_venue(self.job, self.instance, self.asset, cell)

    def _settle(self, rectangle: Rectangle) -> list[str]:
        # Another process may have settled these cells since they were planned.
        if not self._missing(rectangle):
            return []
        config = {"ops": {self.asset: {"config": {"refresh": self.refresh}}}}
        return [run_in_process(self.job, self.instance, self.asset, range_tags(rectangle), config)]

    def _missing(self, cells: Rectangle) -> set[Cell]:
        if self.refresh:
            return set(cells)
        newest = self.dates[-1]
        with self.warehouse.held():
            early = read_provisional(self.warehouse, self.grid, newest).intersection(cells)
            settled = _cells(self._coverage(cells).filter(pc.field("outcome") == "settled"))
        again = early if self.confirm else {cell for cell in early if cell.date < newest}
        return set(cells) - settled | again

    def _coverage(self, rectangle: Rectangle) -> pa.Table:
        return self.warehouse.coverage(self.grid, rectangle.keys, rectangle.dates[0], rectangle.dates[-1]).select(
            ["date", "key", "outcome", "reason", "detail", "finer_until"]
        )

    def _outcome(self, already: int, runs: list[str], seconds: float) -> BackfillResult:
        with self.warehouse.held():
            coverage, traffic = self._coverage(self.asked), read_traffic(self.warehouse, runs)
        settled = _cells(coverage.filter(pc.field("outcome") == "settled"))
        failures = coverage.filter(pc.field("outcome") == "failed").to_pylist()
        reasons = {Cell(row["date"], row["key"]): (row["reason"], row["detail"]) for row in failures}
        failed = [cell for cell in self.asked if cell not in settled]
        return BackfillResult(
            asked=len(self.asked),
            already=already,
            settled=len(self.asked) - len(failed),
            # Nobody recorded a cell whose symbol somebody took off the axis in the meantime.
            failed=tuple(FailedCell(*cell, *reasons.get(cell, ("not_reached", None))) for cell in failed),
            runs=len(runs),
            seconds=seconds,
            coarse=len(_cells(coverage.filter(pc.field("finer_until") >= self.dates[-1])).intersection(self.asked)),
            **traffic,
        )


def show_to_venue(job: dg.JobDefinition, instance: dg.DagsterInstance, asset: str, cell: Cell) -> None:
    """Ask for a cell again, whatever is kept: its venue's answer tells what time it is there."""
    config = {"ops": {asset: {"config": {"refresh": True}}}}
    run_in_process(job, instance, asset, range_tags(Rectangle((cell.date,), (cell.key,))), config)


def run_in_process(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    asset: str,
    tags: Mapping[str, str],
    config: Mapping[str, Any] | None = None,
) -> str:
    """Materialize `asset` in this process, as a run that Dagit shows; its id.

    A run some of whose cells failed has recorded which and why, and is returned like any other.

    Raises:
        KeyboardInterrupt: The user interrupted it.
        UserError: What the run met that the user can put right.
    """
    import dagster as dg
    from dagster._core.errors import DagsterExecutionInterruptedError
    from dagster._core.storage.tags import MAX_RETRIES_TAG

    run_id = str(uuid.uuid4())
    with _no_interrupt_lost(), living(instance, run_id) as life:
        try:
            job.execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(asset)],
                # What fails here is this command's to tell: a daemon must not start it again on its own.
                tags={**tags, **life, MAX_RETRIES_TAG: "0"},
                run_config={"loggers": {RUN_LOGGER: {}}, **(config or {})},
                run_id=run_id,
            )
        except dg.Failure as failure:
            log.debug("run %s: %s", run_id, failure.description)
        except DagsterExecutionInterruptedError:
            raise KeyboardInterrupt from None
    return run_id


@contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end if Ctrl-C was pressed meanwhile and nothing came of it.

    Dagster holds a Ctrl-C back while it is between two steps, and forgets it where the run ends before the next.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, told = socket.socketpair()
    with heard, told:
        for end in (heard, told):
            end.setblocking(False)
        before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
        with suppress(BlockingIOError):
            if signal.SIGINT in heard.recv(4096):
                raise KeyboardInterrupt


def refresh_members(job: dg.JobDefinition, instance: dg.DagsterInstance, warehouse: Warehouse) -> tuple[str, ...]:
    """Read the S&P 500 list anew; the current symbols, from the last good list where the new one is refused.

    Raises:
        UserError: The list cannot be had and none was stored before.
    """
    try:
        run_in_process(job, instance, MEMBERS_ASSET, {})
    except VendorError as error:
        symbols = read_current_members(warehouse)
        if not symbols:
            raise UserError(
                f"the S&P 500 list cannot be had ({error}) and none was stored before;"
                " name --symbols, or try again later."
            ) from None
        log.warning(
            "the new S&P 500 list was REFUSED (%s); going on with the last good one, %d symbols",
            error,
            len(symbols),
        )
        return symbols
    return read_current_members(warehouse)


@dataclass(frozen=True)
class Followed:
    """What a new listing came to.

    Attributes:
        keys: of the markets that were chosen; of a venue that is down, of those known before.
        waiting: names of which no record was read, that therefore have no key: reason and what was said.
        faults: what is wrong with a venue or with a market that somebody follows.
        why_none: what to tell somebody who needs markets, where none was chosen.
    """

    keys: tuple[str, ...]
    waiting: Mapping[str, tuple[str, str]]
    faults: tuple[str, ...]
    why_none: Exception | None = None


def refresh_catalog(
    job: dg.JobDefinition, instance: dg.DagsterInstance, warehouse: Warehouse, rule: FollowRule
) -> Followed:
    """List the venues of `rule` anew; what is wrong with a venue is told."""
    config = {
        "venues": list(rule.venues),
        "categories": list(rule.categories),
        "top": rule.top,
        "ids": list(rule.ids),
        "with_ended": rule.with_ended,
    }
    run_id = run_in_process(job, instance, CATALOG_ASSET, {}, {"ops": {CATALOG_ASSET: {"config": config}}})
    told = _told(instance, run_id)
    known = read_catalog(warehouse)
    have = {market.key for market in known}
    named = tuple(key for key in plan_keys(known, rule.ids).values() if key in have)
    # What the settings name besides was chosen too, and is not this rule's.
    seen = [market for market in known if market.key in told.chosen or market.venue in told.out_of_reach]
    followed = plan_followed(seen, replace(rule, ids=named))
    chosen = tuple(dict.fromkeys((*named, *(market.key for market in followed))))
    waiting = {name: why for name, why in told.waiting.items() if name in rule.ids}
    if chosen or waiting:
        for text in told.texts:
            log.warning("%s", text)
    for venue in _without_any(rule, chosen, told) if chosen else ():
        log.warning("no open market of %s is of category %s", venue, ", ".join(rule.categories))
    why_none = None if chosen or waiting else _none_chosen(rule, known, told)
    return Followed(chosen, waiting, told.faults, why_none)


@dataclass(frozen=True)
class _Told:
    """What a run of the catalog told: the keys it chose, the venues that did not answer, what went wrong."""

    chosen: frozenset[str] = frozenset()
    out_of_reach: tuple[str, ...] = ()
    waiting: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    news: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """All of it, a line each."""
        return (*self.faults, *self.news, *self.notes)

    @property
    def failure(self) -> str:
        """What is wrong, in one line."""
        return "; ".join((*self.faults, *self.news))


def _told(instance: dg.DagsterInstance, run_id: str) -> _Told:
    events = [entry.dagster_event for entry in instance.all_logs(run_id) if entry.dagster_event]
    failures = [event.step_failure_data.user_failure_data for event in events if event.is_step_failure]
    made = [event.step_materialization_data.materialization for event in events if event.is_step_materialization]
    metadata: list[Mapping[str, Any]] = [one.metadata for one in (*failures, *made) if one]
    if not metadata:
        return _Told()
    chosen, out_of_reach, waiting, faults, news, notes = (
        metadata[0][name].value for name in (CHOSEN, OUT_OF_REACH, WAITING, FAULTS, NEWS, NOTES)
    )
    waits = {name: (reason, why) for name, (reason, why) in waiting.items()}
    return _Told(frozenset(chosen), tuple(out_of_reach), waits, tuple(faults), tuple(news), tuple(notes))


def _none_chosen(rule: FollowRule, known: Sequence[Market], told: _Told) -> Exception:
    if told.out_of_reach:
        return Unavailable(f"no market can be chosen, for {told.failure}; run the same command again later.")
    if told.failure and not rule.categories:
        return UserError(f"no market can be chosen: {told.failure}")
    categories = sorted({market.category for market in known if market.category and market.venue in rule.venues})
    return UserError(
        f"no {'' if rule.with_ended else 'open '}market of {', '.join(rule.venues)} is of category"
        f" {', '.join(rule.categories) or 'any'};"
        f" categories known: {', '.join(categories[:20]) or 'none yet'}."
        + (f" Listing them said: {told.failure}" if told.failure else "")
    )


def _without_any(rule: FollowRule, chosen: Sequence[str], told: _Told) -> list[str]:
    """The asked venues that have answered and have nothing of the asked categories."""
    having = {key.partition(":")[0] for key in chosen} | set(told.out_of_reach)
    return [
        venue for venue in rule.venues if rule.categories and venue not in having and f"{venue}:" not in told.failure
    ]


def _cells(coverage: pa.Table) -> set[Cell]:
    columns = (coverage.column(name).to_pylist() for name in ("date", "key"))
    return {Cell(day, key) for day, key in zip(*columns, strict=True)}
