"""What a command answers, in print.

Here: the bar of a running command; outcomes, failures with what can be done about them, tables and JSON.
Not here: which of them a command prints and its exit code (the commands), how alerts are worded (alerts).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

import typer

from copilot_quant_pipeline.redaction import presentable, terminal
from copilot_quant_pipeline.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress

    from copilot_quant_pipeline.grid.cells import Rectangle
    from copilot_quant_pipeline.hosting.presence import Note
    from copilot_quant_pipeline.upkeep.backfill import BackfillResult, FailedCell
    from copilot_quant_pipeline.upkeep.healing import Healed
    from copilot_quant_pipeline.upkeep.sizes import Size
    from copilot_quant_pipeline.warehouse.closures import Barless

# How many failures are spelled out before the rest is counted.
SPELLED_OUT = 20

# How wide a table may be in a file or a pipe, which has no width of its own.
WIDEST = 1_000

# What a user can do about a reason; for those not here, waiting is all.
ADVICE = {
    "unknown_market": "check the id; a market that was renamed goes by its new name.",
    "unknown_symbol": "check the spelling; a symbol that was renamed goes by its new name.",
    "another_instrument": "the venue tells of another company; what is stored stays. See copilot-quant instruments.",
    "another_currency": "the venue answers in another currency than USD; what is stored stays.",
    "missing_at_source": "the venue should have it and does not; the same command asks again, and so does healing.",
    "malformed_bar": "the venue's numbers cannot be right; the same command asks again once it may have mended them.",
    "not_over": "this machine's clock is ahead of the venue's; set it right, and the days come in their time.",
    "distrusted": "it was recorded while this machine's clock was ahead; the same command asks again, as healing does.",
    "rate_limited": "the venue wants a pause; run the same command again in some minutes.",
    "unavailable": "the venue cannot be reached; check the network, then run the same command again.",
    "given_up": "it failed for days and is not asked for by itself any more; copilot-quant heal --force asks again.",
    "vanished_at_source": "the venue no longer has what is stored, which is kept; healing asks again.",
}


class Bar:
    """The progress bar of a command: the sources tell it of cells as they come, the backfill where it stands."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    @contextmanager
    def shown(self, cells: int, *, hidden: bool) -> Iterator[None]:
        """On stderr while the block runs, of so many cells; where that is no terminal, nothing."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(file=terminal(sys.stderr))
        with Progress(*columns, console=console, disable=hidden or not console.is_terminal) as self._progress:
            self._progress.add_task("cells", total=cells)
            try:
                yield
            finally:
                self._progress = None

    def advance(self, cells: int) -> None:
        """So many more cells came."""
        if self._progress:
            self._progress.advance(self._progress.task_ids[0], cells)

    def put(self, cells: int) -> None:
        """So many cells are done in all."""
        if self._progress:
            self._progress.update(self._progress.task_ids[0], completed=cells)


def told_ui(note: Note, *, up: bool) -> str:
    """How the `ui` of a home is, by the note it keeps until it ends in order."""
    since = f"{note.since:%Y-%m-%d %H:%M} UTC"
    if up:
        said = f"ui: up at {note.address} since {since} (process {note.pid})"
        return f"{said}, but it {note.trouble}" if note.trouble else said
    return f"ui: {told_end(note)}; nothing runs by itself until copilot-quant ui is started again."


def told_end(note: Note) -> str:
    """How the `ui` of a note ended, which is not up any more."""
    how = f"ended because {note.trouble}" if note.trouble and note.ended else "did not end in order"
    return f"the one that was started {note.since:%Y-%m-%d %H:%M} UTC {how} (process {note.pid})"


def told_barless(session: Barless) -> str:
    """A session of which no symbol has a bar, with what can be done about it."""
    return (
        f"no symbol has a bar of {session.date} ({session.cells:,} cells): was the exchange closed? If it was,"
        f" COPILOT_QUANT_CLOSED={session.date} takes it off the axis"
    )


def healed_json(healed: Healed) -> dict[str, Any]:
    """The numbers of a heal and of its outcome, side by side."""
    numbers = asdict(healed)
    return {**numbers.pop("outcome"), **numbers}


def print_healed(healed: Healed) -> None:
    """What a heal did, what it left and why, and its failures."""
    outcome = healed.outcome
    done = f"{outcome.settled:,} of {outcome.asked:,} gaps healed" if outcome.asked else "no gap is due"
    said = [f"{healed.grid}: {done}"]
    if healed.left:
        said.append(f"{healed.left:,} more are due, the same command goes on with them")
    if healed.waiting:
        said.append(f"{healed.waiting:,} wait until {healed.next_try_at:%Y-%m-%d %H:%M} UTC or later")
    if healed.given_up:
        said.append(f"{healed.given_up:,} were given up, copilot-quant heal --force asks again")
    typer.echo("; ".join(said))
    if outcome.runs:
        typer.echo(f"{outcome.rows:,} rows in {_runs(outcome)}; {outcome.requests:,} requests")
    _print_coarse(outcome)
    if outcome.failed:
        typer.echo(f"{len(outcome.failed):,} cells failed:")
        _print_failures(outcome.failed)


def print_outcome(settings: Settings, asked: Rectangle, outcome: BackfillResult) -> None:
    """How much of what was asked is settled, what it took, and the failures."""
    typer.echo(
        f"{outcome.settled:,} of {outcome.asked:,} cells settled"
        f" ({len(asked.keys):,} x {len(asked.dates):,} dates,"
        f" {asked.dates[0]} to {asked.dates[-1]}; {outcome.already:,} were before)"
    )
    typer.echo(
        f"{outcome.rows:,} rows in {_runs(outcome)} and {outcome.seconds:.1f} s;"
        f" {outcome.requests:,} requests, {outcome.retries:,} retries; in {settings.warehouse_path}"
    )
    _print_coarse(outcome)
    if outcome.failed:
        typer.echo(f"{len(outcome.failed):,} cells failed:")
        _print_failures(outcome.failed)


def _print_coarse(outcome: BackfillResult) -> None:
    if outcome.coarse:
        typer.echo(
            f"{outcome.coarse:,} cells came coarsely, for a service that may have them finer did not answer;"
            " healing asks again, and so does the same command"
        )


def print_changes(restated: int, waiting: int) -> None:
    """What a venue changed of stored rows: how many are believed, and how many wait for a person in all."""
    if restated:
        typer.echo(f"{restated:,} stored rows restated by the venue; ops.restatements has old and new")
    if waiting:
        typer.echo(f"{waiting:,} changes too large to be believed wait: see `copilot-quant quarantine list`")


def print_bad_keys(bad: Sequence[str]) -> None:
    """What is on an axis and can be no key, and what to write instead."""
    for wrong in bad:
        typer.echo(f"passed over: {wrong} (`copilot-quant reconcile` takes it off the axis)")


def print_warnings(count: int) -> None:
    """How much a person should look at once, where there is anything."""
    if count:
        things = "1 thing" if count == 1 else f"{count:,} things"
        typer.echo(f"{things} that may be wrong at the source: see `copilot-quant warnings list`")


def _runs(outcome: BackfillResult) -> str:
    return f"{outcome.runs:,} {'run' if outcome.runs == 1 else 'runs'}"


def _print_failures(failed: Sequence[FailedCell]) -> None:
    """One line per key and reason, then what to do about each reason."""
    groups: dict[tuple[str, str, str | None], list[date]] = {}
    for cell in failed:
        groups.setdefault((cell.key, cell.reason, cell.detail), []).append(cell.date)
    for (key, reason, detail), days in list(groups.items())[:SPELLED_OUT]:
        when = str(days[0]) if len(days) == 1 else f"{len(days):,} cells, {days[0]} to {days[-1]}"
        typer.echo(f"  {key}: {reason}, {when}{f' ({detail})' if detail else ''}")
    if len(groups) > SPELLED_OUT:
        typer.echo(f"  and {len(groups) - SPELLED_OUT:,} more; --json lists every cell")
    for reason in dict.fromkeys(reason for _, reason, _ in groups):
        typer.echo(f"{reason}: {ADVICE.get(reason, 'run the same command again later.')}")


def print_json(value: object) -> None:
    """On one line; what JSON does not know, such as a date, as its text."""
    typer.echo(json.dumps(value, default=str))


def print_sizes(sizes: Sequence[Size]) -> None:
    """What each part of the home takes, and by how much it has grown since somebody looked before."""
    since = next((f"{size.since:%Y-%m-%d %H:%M} UTC" for size in sizes if size.since), None)
    if since is None:
        print_table(("part", "bytes"), [(size.part, size.bytes) for size in sizes])
        return
    rows = [(size.part, size.bytes, _signed(size.growth), _signed(size.per_day)) for size in sizes]
    print_table(("part", "bytes", f"more since {since}", "a day"), rows)


def _signed(count: int | None) -> str:
    return "" if count is None else f"{count:+,}"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A row per line, whole numbers with commas; nothing is cut, and a date is never broken."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(name, overflow="fold", no_wrap=name.endswith("date")) for name in columns))
    for column, first in zip(table.columns, next(iter(rows), ()), strict=False):
        column.justify = "right" if isinstance(first, int) else "left"
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else presentable(str(value)) for value in row))
    console = Console(file=terminal(sys.stdout))
    if not console.is_terminal:
        console.width = WIDEST
    console.print(table)
