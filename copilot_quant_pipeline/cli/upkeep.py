"""The commands that look after what is stored: status, reconcile, prune, alerts.

Here: their options and what each prints of its answer.
Not here: asking venues for cells (backfill), decisions on doubtful values (quarantine), the work (rooms upkeep, ledger,
alerts, warehouse).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from copilot_quant_pipeline.cli.options import HomeOption, JsonOption, SourceOption, VerboseOption
from copilot_quant_pipeline.cli.output import (
    Bar,
    print_bad_keys,
    print_changes,
    print_json,
    print_sizes,
    print_table,
    print_warnings,
    told_barless,
    told_ui,
)
from copilot_quant_pipeline.cli.platform import open_ledger, read_axes, tell_closed
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.settings import Settings

if TYPE_CHECKING:
    from copilot_quant_pipeline.upkeep.reconcile import Reconciled
    from copilot_quant_pipeline.upkeep.schedules import Timing
    from copilot_quant_pipeline.warehouse.coverage import Progress

alerts_app = typer.Typer(help="Who is told when something is wrong.", no_args_is_help=True)


def status(
    source: SourceOption = None, home: HomeOption = None, as_json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Show per grid how many cells are settled, failed and missing; whether the newest date is in; what runs when."""
    from copilot_quant_pipeline.grid.axes import days_on_axis, sessions_on_axis
    from copilot_quant_pipeline.hosting.presence import is_up, read_note
    from copilot_quant_pipeline.upkeep.schedules import next_runs
    from copilot_quant_pipeline.upkeep.sizes import measure
    from copilot_quant_pipeline.warehouse.closures import read_barless
    from copilot_quant_pipeline.warehouse.coverage import read_progress
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse
    from copilot_quant_pipeline.warehouse.warnings import count_open

    settings = Settings.from_environment(source=source, home=home)
    upcoming = next_runs(settings.now())
    warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
    tell_closed(warehouse, settings)
    barless = read_barless(warehouse)
    axes = {"equities": sessions_on_axis(settings), "markets": days_on_axis(settings)}
    on_axes = read_axes(settings)
    with warehouse.held():
        progress = [read_progress(warehouse, grid, dates, on_axes.keys.get(grid)) for grid, dates in axes.items()]
        warnings = count_open(warehouse)
    note, up = read_note(settings.home), is_up(settings.home)
    sizes = measure(settings, warehouse)
    if as_json:
        schedules = [{"name": timing.name, "next": at.isoformat()} for timing, at in upcoming]
        grids = [asdict(grid) for grid in progress]
        closed = [str(session.date) for session in barless]
        found = {
            "grids": grids,
            "bad keys": on_axes.bad,
            "warnings": warnings,
            "closed?": closed,
            "schedules": schedules,
            "ui": {"up": up, "broken off": note is not None and not up, "trouble": note.trouble if note else None},
            "sizes": [asdict(size) for size in sizes],
        }
        print_json({"warehouse": str(settings.warehouse_path), **found})
        return
    columns = ("settled", "coarse", "failed", "missing", "keys", "newest", "freshness", "restated", "waiting")
    print_table(
        ("grid", *(name.replace("newest", "newest date") for name in columns)),
        [(p.grid, *(getattr(p, name) for name in columns)) for p in progress],
    )
    print_changes(sum(p.restated for p in progress), sum(p.waiting for p in progress))
    _tell_off_axis(progress)
    print_bad_keys(on_axes.bad)
    print_warnings(warnings)
    print_table(("schedule", "next run, while copilot-quant ui is up"), _planned(upcoming))
    print_sizes(sizes)
    for session in barless:
        typer.echo(told_barless(session))
    if note:
        typer.echo(told_ui(note, up=up))
    nothing = "" if settings.warehouse_path.exists() else " (nothing is stored there yet)"
    typer.echo(f"warehouse: {settings.warehouse_path}{nothing}")


def _tell_off_axis(progress: Sequence[Progress]) -> None:
    for grid in progress:
        if grid.off_axis:
            typer.echo(
                f"{grid.grid}: {grid.off_axis:,} keys with cells are no longer on the axis; what is stored stays"
            )


def _planned(upcoming: Sequence[tuple[Timing, datetime]]) -> list[tuple[str, str]]:
    return [(timing.name, f"{at:%a %Y-%m-%d %H:%M %Z}") for timing, at in upcoming]


def reconcile(
    source: SourceOption = None, home: HomeOption = None, as_json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Make the grid in Dagit the warehouse's picture again: settled cells green, and no others."""
    from copilot_quant_pipeline.upkeep.reconcile import reconcile as reconcile_grids
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    settings = Settings.from_environment(source=source, home=home)
    bar = Bar()
    with open_ledger(settings, "reconcile", verbose) as instance, ExitStack() as shown:
        warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
        tell_closed(warehouse, settings)

        def expect(cells: int) -> None:
            shown.close()  # the bar of an earlier round
            shown.enter_context(bar.shown(cells, hidden=as_json))

        grids = reconcile_grids(instance, warehouse, settings, expect, bar.advance)
    if as_json:
        print_json({"warehouse": str(settings.warehouse_path), "grids": [asdict(grid) for grid in grids]})
    else:
        columns = ("grid", "settled", "painted green", "wiped", "keys put back", "keys taken off", "still different")
        print_table(columns, [(g.grid, g.settled, g.painted, g.wiped, g.returned, g.taken_off, g.left) for g in grids])
        _tell_reconciled(grids)
    if any(grid.left for grid in grids):
        raise typer.Exit(1)


def _tell_reconciled(grids: Sequence[Reconciled]) -> None:
    if any(grid.wiped for grid in grids):
        typer.echo("wiped cells were green and are not settled in the warehouse: they are blank now, and asked anew.")
    if any(grid.left for grid in grids):
        typer.echo("cells still differ because others keep changing them; run the same command again once they end.")


def prune(
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="Days of superseded events and runs to keep; 90 if not given.")
    ] = None,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Delete old events and runs that nothing on the grid stands on any more, as the weekly schedule does."""
    from copilot_quant_pipeline.ledger.retention import KEPT
    from copilot_quant_pipeline.ledger.retention import prune as prune_ledger
    from copilot_quant_pipeline.upkeep.retention import clear_leftovers
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    settings = Settings.from_environment(source=source, home=home)
    with open_ledger(settings, "prune", verbose) as instance:
        pruned = prune_ledger(instance, settings.now(), timedelta(days=keep_days) if keep_days else KEPT)
        cleared = clear_leftovers(settings, Warehouse(settings.warehouse_path, settings.lock_timeout))
    if as_json:
        print_json({**asdict(pruned), "cleared": asdict(cleared)})
        return
    typer.echo(
        f"{pruned.events:,} superseded events and {pruned.runs:,} runs deleted, {pruned.logs:,} logs shortened;"
        f" {settings.dagster_home} went from {pruned.before / 1e6:,.0f} to {pruned.after / 1e6:,.0f} MB"
    )
    typer.echo(
        f"{cleared.logs:,} command logs, {cleared.landing:,} kept responses ({cleared.bytes / 1e6:,.1f} MB) and"
        f" {cleared.proposals:,} rows of decided proposals deleted"
    )


@alerts_app.command("test", short_help="Send one message to every channel.")
def alerts_test(
    source: SourceOption = None, home: HomeOption = None, as_json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Send one message to every URL of COPILOT_QUANT_ALERT_URLS and tell what came of each."""
    from copilot_quant_pipeline.alerts.channels import expect_channels
    from copilot_quant_pipeline.alerts.delivery import send_test

    settings = Settings.from_environment(source=source, home=home)
    channels = expect_channels(settings.alert_urls)
    if not channels:
        raise UserError(
            "no channel is set: put one or more URLs into COPILOT_QUANT_ALERT_URLS, separated by blanks, such as"
            " json://localhost:8080/hook; until then alerts are log lines."
        )
    answers = send_test(settings, channels)
    if as_json:
        print_json({"channels": [{"channel": name, "problem": problem} for name, problem in answers.items()]})
    else:
        for name, problem in answers.items():
            typer.echo(f"channel {name}: {f'NOT sent: {problem}' if problem else 'sent'}")
    if any(answers.values()):
        raise typer.Exit(1)


@alerts_app.command("list", short_help="Show what is wrong as last told.")
def alerts_list(
    source: SourceOption = None, home: HomeOption = None, as_json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Show what is wrong as last told, and how many messages wait for a channel."""
    from copilot_quant_pipeline.alerts.cycle import book_of
    from copilot_quant_pipeline.alerts.messages import counted, headline, written

    book = book_of(Settings.from_environment(source=source, home=home)).read()
    incidents = [incident for incident in book.incidents.values() if incident.is_open]
    waiting = sum(map(len, book.waiting.values()))
    if as_json:
        print_json({"open": [asdict(incident) for incident in incidents], "waiting": waiting})
        return
    for incident in incidents:
        typer.echo(f"since {written(incident.since)}: {headline(incident.trouble)}")
    typer.echo(f"{len(incidents)} open; {counted(waiting, 'message')} waiting for a channel.")
