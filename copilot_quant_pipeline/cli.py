"""The copilot-quant command: what a user types, turned into calls of the rooms, and their answers printed.

Here: options, their validation in the user's words, progress, tables, exit codes.
Not here: any work. Rooms are imported inside the commands, so that `--help` answers at once.

Exit codes: 0 every asked cell is settled; 1 some failed (they are listed) or the program broke; 2 wrong usage or a
setting to put right, told in one line; 130 interrupted.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from copilot_quant_pipeline.errors import UserError, VendorError
from copilot_quant_pipeline.settings import Settings

if TYPE_CHECKING:
    import dagster as dg
    from rich.progress import Progress

    from copilot_quant_pipeline.grid.cells import Rectangle
    from copilot_quant_pipeline.prediction_markets.following import FollowRule
    from copilot_quant_pipeline.upkeep.backfill import FailedCell, Outcome
    from copilot_quant_pipeline.upkeep.healing import Healed
    from copilot_quant_pipeline.upkeep.reconcile import Reconciled
    from copilot_quant_pipeline.upkeep.schedules import Timing
    from copilot_quant_pipeline.warehouse.quarantine import Choice, Proposal
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

app = typer.Typer(
    name="copilot-quant",
    help="Daily market data as cells of a date x symbol grid, kept in DuckDB.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
backfill_app = typer.Typer(help="Settle a rectangle of cells.", no_args_is_help=True)
update_app = typer.Typer(help="Settle the newest sessions.", no_args_is_help=True)
app.add_typer(backfill_app, name="backfill")
app.add_typer(update_app, name="update")
alerts_app = typer.Typer(help="Who is told when something is wrong.", no_args_is_help=True)
app.add_typer(alerts_app, name="alerts")
quarantine_app = typer.Typer(
    help="Changes of stored values that are too large to be believed: a person decides.", no_args_is_help=True
)
app.add_typer(quarantine_app, name="quarantine")

SourceOption = Annotated[str | None, typer.Option("--source", help="sandbox (simulated venues) or live.")]
HomeOption = Annotated[Path | None, typer.Option("--home", help="Folder of everything stored.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Ask again for settled cells too.")]
HealOption = Annotated[bool, typer.Option("--heal/--no-heal", help="Ask again for older gaps afterwards.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Tell every step; show stack traces.")]
SymbolsOption = Annotated[str | None, typer.Option("--symbols", help="Comma-separated, such as AAPL,BRK.B.")]

# How many failures are spelled out before the rest is counted.
SPELLED_OUT = 20

# What a user can do about a reason; for those not here, waiting is all.
ADVICE = {
    "unknown_market": "check the id; a market that was renamed goes by its new name.",
    "unknown_symbol": "check the spelling; a symbol that was renamed goes by its new name.",
    "missing_at_source": "the venue should have it and does not; the same command asks again, and so does healing.",
    "malformed_bar": "the venue's numbers cannot be right; the same command asks again once it may have mended them.",
    "rate_limited": "the venue wants a pause; run the same command again in some minutes.",
    "unavailable": "the venue cannot be reached; check the network, then run the same command again.",
    "given_up": "it failed for days and is not asked for by itself any more; copilot-quant heal --force asks again.",
    "vanished_at_source": "the stored rows are kept though the venue no longer has them.",
}


@backfill_app.command("equities")
def backfill_equities(
    symbols: SymbolsOption = None,
    universe: Annotated[str | None, typer.Option(help="sp500, the default without --symbols.")] = None,
    start: Annotated[str | None, typer.Option(help="First date; default: the grid's first.")] = None,
    end: Annotated[str | None, typer.Option(help="Last date; default: the newest session.")] = None,
    refresh: Annotated[bool, typer.Option(help="Ask again for settled cells too.")] = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Settle daily bars of the symbols from start to end; cells settled before are not asked again."""
    settings = Settings.from_environment(source=source, home=home)
    dates = _asked_sessions(settings, start, end)
    chosen = _asked_symbols(symbols, universe)
    with _platform(settings, "backfill-equities", as_json, verbose) as platform:
        _report(platform, *_settle_equities(platform, chosen or platform.fetch_members(), dates, refresh))


@update_app.command("equities")
def update_equities(
    symbols: SymbolsOption = None,
    max_age_days: Annotated[int, typer.Option(min=1, help="How many days back counts as newest.")] = 7,
    force: ForceOption = False,
    heal: HealOption = True,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Settle the newest sessions of every symbol on the axis (all of the S&P 500 where there is none), then heal."""
    settings = Settings.from_environment(source=source, home=home)
    dates = _newest_sessions(settings, max_age_days)
    chosen = _asked_symbols(symbols, None)
    with _platform(settings, "update-equities", as_json, verbose) as platform:
        symbols_asked = chosen or platform.symbols() or platform.fetch_members()
        asked, outcome = _settle_equities(platform, symbols_asked, dates, force)
        healed = _heal(platform, "equities", only=chosen) if heal else None
        _report(platform, asked, outcome, healed)


VenueOption = Annotated[str | None, typer.Option("--venue", help="Comma-separated, such as kalshi,polymarket.")]
CategoryOption = Annotated[str | None, typer.Option("--category", help="Only markets of this category.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="The so many largest open ones of each venue.")]
IdsOption = Annotated[str | None, typer.Option("--market-ids", help="Such as kalshi:KXFED-24NOV-T4.75.")]


@backfill_app.command("markets")
def backfill_markets(
    venue: VenueOption = None,
    category: CategoryOption = None,
    limit: LimitOption = None,
    market_ids: IdsOption = None,
    start: Annotated[str | None, typer.Option(help="First UTC day; default: the grid's first.")] = None,
    end: Annotated[str | None, typer.Option(help="Last UTC day; default: today.")] = None,
    refresh: Annotated[bool, typer.Option(help="Ask again for settled cells too.")] = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Settle hourly prices of the chosen markets from start to end, each within its life."""
    settings = Settings.from_environment(source=source, home=home)
    dates = _asked_days(settings, start, end)
    rule = _asked_markets(settings, venue, category, limit, market_ids)
    with _platform(settings, "backfill-markets", as_json, verbose) as platform:
        _report(platform, *_settle_markets(platform, platform.follow(rule), dates, refresh))


@update_app.command("markets")
def update_markets(
    venue: VenueOption = None,
    category: CategoryOption = None,
    limit: LimitOption = None,
    market_ids: IdsOption = None,
    max_age_days: Annotated[int, typer.Option(min=0, help="How many days back counts as newest.")] = 1,
    force: ForceOption = False,
    heal: HealOption = True,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List the venues anew, settle yesterday and today of the followed markets, then heal."""
    settings = Settings.from_environment(source=source, home=home)
    dates = _newest_days(settings, max_age_days)
    rule = _asked_markets(settings, venue, category, limit, market_ids)
    named = bool(venue or category or limit or market_ids)
    with _platform(settings, "update-markets", as_json, verbose) as platform:
        chosen = platform.follow(rule)
        if not named:
            # A market that is no longer among the largest is followed to its end all the same.
            chosen = tuple(dict.fromkeys((*chosen, *platform.markets())))
        asked, outcome = _settle_markets(platform, chosen, dates, force, confirm=True)
        healed = _heal(platform, "markets", only=chosen if named else ()) if heal else None
        _report(platform, asked, outcome, healed)


@update_app.command("all")
def update_all(
    max_age_days: Annotated[int | None, typer.Option(min=1, help="As of each; default: 7 and 1.")] = None,
    force: ForceOption = False,
    heal: HealOption = True,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Update equities, then markets; the exit code is the worse of the two."""
    how: dict[str, Any] = {"source": source, "home": home, "as_json": as_json, "verbose": verbose}
    how |= {"force": force, "heal": heal} | ({"max_age_days": max_age_days} if max_age_days else {})
    if not all([_is_settled(update_equities, how), _is_settled(update_markets, how)]):
        raise typer.Exit(1)


def _is_settled(command: Callable[..., None], how: Mapping[str, Any]) -> bool:
    try:
        command(**how)
    except typer.Exit:
        return False
    return True


@app.command("heal")
def heal_command(
    force: Annotated[bool, typer.Option("--force", help="Do not wait, and ask for what was given up.")] = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Ask again for what failed and for what was left out, in both grids, where it is due."""
    settings = Settings.from_environment(source=source, home=home)
    with _platform(settings, "heal", as_json, verbose) as platform:
        healed = [_heal(platform, grid, force=force) for grid in ("equities", "markets")]
    if as_json:
        grids = {grid.grid: _healed_json(grid) for grid in healed}
        _print_json({**grids, "warehouse": str(settings.warehouse_path)})
    else:
        for grid in healed:
            _print_healed(grid)
    if any(grid.outcome.failed for grid in healed):
        raise typer.Exit(1)


@app.command()
def status(source: SourceOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show per grid how many cells are settled, failed and missing; whether the newest date is in; what runs when."""
    from copilot_quant_pipeline.grid.axes import days_on_axis, sessions_on_axis
    from copilot_quant_pipeline.upkeep.schedules import next_runs
    from copilot_quant_pipeline.warehouse.progress import read_progress
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    settings = Settings.from_environment(source=source, home=home)
    upcoming = next_runs(settings.now())
    warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
    axes = {"equities": sessions_on_axis(settings), "markets": days_on_axis(settings)}
    progress = [read_progress(warehouse, grid, dates) for grid, dates in axes.items()]
    if as_json:
        schedules = [{"name": timing.name, "next": at.isoformat()} for timing, at in upcoming]
        grids = [asdict(grid) for grid in progress]
        _print_json({"warehouse": str(settings.warehouse_path), "grids": grids, "schedules": schedules})
        return
    columns = ("grid", "settled", "failed", "missing", "keys", "newest date", "")
    _print_table(
        columns,
        [(p.grid, p.settled, p.failed, p.missing, p.keys, p.newest, p.freshness) for p in progress],
    )
    _print_table(("schedule", "next run, while copilot-quant ui is up"), _planned(upcoming))
    typer.echo(f"warehouse: {settings.warehouse_path}")


DateOption = Annotated[str | None, typer.Option("--date", help="Only of this date, such as 2024-01-31.")]
AllOption = Annotated[bool, typer.Option("--all", help="Everything that waits.")]
SymbolOption = Annotated[str | None, typer.Option("--symbol", help="Comma-separated, such as AAPL,BRK.B.")]


@quarantine_app.command("list")
def quarantine_list(
    symbol: SymbolOption = None,
    day: DateOption = None,
    state: Annotated[str, typer.Option(help="waiting, accepted, rejected, withdrawn or all.")] = "waiting",
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what waits: the stored and the proposed values, and since when."""
    from copilot_quant_pipeline.warehouse.quarantine import STATES, read_proposals
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    if state not in (*STATES, "all"):
        raise UserError(f"--state {state} is not known; choose one of {', '.join(STATES)} or all.")
    settings = Settings.from_environment(source=source, home=home)
    warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
    found = read_proposals(warehouse, _choice(symbol, day), STATES if state == "all" else (state,))
    if as_json:
        _print_json({"proposals": [asdict(proposal) for proposal in found]})
    elif found:
        _print_proposals(found)
    else:
        typer.echo("nothing waits." if state == "waiting" else f"nothing is {state}.")


@quarantine_app.command("accept")
def quarantine_accept(
    symbol: SymbolOption = None,
    day: DateOption = None,
    everything: AllOption = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store the proposed values; the old ones are kept in ops.restatements."""
    from copilot_quant_pipeline.warehouse.quarantine import accept

    _decide(accept, "accepted", (symbol, day, everything), Settings.from_environment(source=source, home=home), as_json)


@quarantine_app.command("reject")
def quarantine_reject(
    symbol: SymbolOption = None,
    day: DateOption = None,
    everything: AllOption = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the stored values; the same change is not asked about again, another one is."""
    from copilot_quant_pipeline.warehouse.quarantine import reject

    _decide(reject, "rejected", (symbol, day, everything), Settings.from_environment(source=source, home=home), as_json)


def _decide(
    decide: Callable[..., int],
    word: str,
    chosen: tuple[str | None, str | None, bool],
    settings: Settings,
    as_json: bool,
) -> None:
    from copilot_quant_pipeline.warehouse.quarantine import read_proposals
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    symbol, day, everything = chosen
    if everything == bool(symbol or day):
        raise UserError(f"say what is {word}: --symbol AAPL, --date 2024-01-31 or both, or --all.")
    warehouse, choice = Warehouse(settings.warehouse_path, settings.lock_timeout), _choice(symbol, day)
    if not read_proposals(warehouse, choice):
        raise UserError("nothing of that waits; `copilot-quant quarantine list` shows what does.")
    count = decide(warehouse, choice, now=settings.now())
    if as_json:
        _print_json({word: count})
    else:
        typer.echo(f"{count:,} {'row' if count == 1 else 'rows'} {word}.")


def _choice(symbol: str | None, day: str | None) -> Choice:
    from copilot_quant_pipeline.warehouse.quarantine import Choice

    return Choice(_asked_symbols(symbol, None) or None, _asked_date("--date", day))


def _print_proposals(found: Sequence[Proposal]) -> None:
    rows = [
        (p.key, str(p.date), p.table, name, _shown(old), _shown(new), f"{p.seen_at:%Y-%m-%d %H:%M}", p.state)
        for p in found
        for name, (old, new) in p.changes.items()
    ]
    _print_table(("symbol", "date", "table", "value", "stored", "proposed", "seen (UTC)", ""), rows)
    typer.echo("`copilot-quant quarantine accept|reject --symbol ... [--date ...]` decides.")


def _shown(value: object) -> str:
    return "" if value is None else str(value)


def _planned(upcoming: Sequence[tuple[Timing, datetime]]) -> list[tuple[str, str]]:
    return [(timing.name, f"{at:%a %Y-%m-%d %H:%M %Z}") for timing, at in upcoming]


@app.command()
def reconcile(
    source: SourceOption = None, home: HomeOption = None, as_json: JsonOption = False, verbose: VerboseOption = False
) -> None:
    """Make the grid in Dagit the warehouse's picture again: settled cells green, and no others."""
    from copilot_quant_pipeline.upkeep.reconcile import reconcile as reconcile_grids
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    settings = Settings.from_environment(source=source, home=home)
    bar = _Bar()
    with _instance(settings, "reconcile", verbose) as instance, ExitStack() as shown:
        warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)

        def expect(cells: int) -> None:
            shown.close()  # the bar of an earlier round
            shown.enter_context(bar.shown(cells, hidden=as_json))

        grids = reconcile_grids(instance, warehouse, settings, expect, bar.advance)
    if as_json:
        _print_json({"warehouse": str(settings.warehouse_path), "grids": [asdict(grid) for grid in grids]})
    else:
        columns = ("grid", "settled", "painted green", "wiped", "keys put back", "still different")
        _print_table(columns, [(g.grid, g.settled, g.painted, g.wiped, g.returned, g.left) for g in grids])
        _tell_reconciled(grids)
    if any(grid.left for grid in grids):
        raise typer.Exit(1)


def _tell_reconciled(grids: Sequence[Reconciled]) -> None:
    if any(grid.wiped for grid in grids):
        typer.echo("wiped cells were green and are not settled in the warehouse: they are blank now, and asked anew.")
    if any(grid.left for grid in grids):
        typer.echo("cells still differ because others keep changing them; run the same command again once they end.")


@app.command()
def prune(
    keep_days: Annotated[int, typer.Option(min=1, help="Days of superseded events and runs to keep.")] = 90,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Delete old events and runs that nothing on the grid stands on any more, as the weekly schedule does."""
    from copilot_quant_pipeline.ledger.pruning import prune as prune_ledger

    settings = Settings.from_environment(source=source, home=home)
    with _instance(settings, "prune", verbose) as instance:
        pruned = prune_ledger(instance, settings.now(), timedelta(days=keep_days))
    if as_json:
        _print_json(asdict(pruned))
        return
    typer.echo(
        f"{pruned.events:,} superseded events and {pruned.runs:,} runs deleted, {pruned.logs:,} logs shortened;"
        f" {settings.dagster_home} went from {pruned.before / 1e6:,.0f} to {pruned.after / 1e6:,.0f} MB"
    )


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8750,
    recorded: Annotated[Path | None, typer.Option(help="Serve recorded data: Yahoo's or Polymarket's folder.")] = None,
    delay: Annotated[float, typer.Option(min=0.0, help="Seconds every answer takes.")] = 0.0,
    verbose: VerboseOption = False,
) -> None:
    """Serve the simulated venues on loopback until interrupted."""
    from copilot_quant_pipeline.sandbox import serve_forever

    serve_forever(port=port, recorded=recorded, delay=delay, now=Settings.from_environment().pinned_now)


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    source: SourceOption = None,
    home: HomeOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Open Dagit, with its daemon, on the same home the commands use."""
    import os
    import signal

    from copilot_quant_pipeline.home import prepare_home
    from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance

    settings = Settings.from_environment(source=source, home=home)
    if settings.alert_urls:
        from copilot_quant_pipeline.alerts.channels import expect_channels

        expect_channels(settings.alert_urls)
    prepare_home(settings)
    install_instance_config(settings.dagster_home)
    with open_instance(settings.dagster_home):
        pass  # makes Dagster's tables before its many processes look for them
    environment = {**os.environ, **settings.environment(), "DAGSTER_HOME": str(settings.dagster_home)}
    # Dagster would have us use a command of a package of its own for developers; what it starts is the same.
    quiet = ("-W", "ignore:Function `dev_command` is superseded")
    dagster = [sys.executable, *quiet, "-m", "dagster", "dev", "-m", "copilot_quant_pipeline.definitions"]
    typer.echo(f"Dagit: http://{host}:{port}  home: {settings.home}  (Ctrl-C ends it)")
    level = "info" if verbose else "warning"
    sys.stdout.flush()
    # A shell's background jobs ignore Ctrl-C, and Dagster treats SIGTERM as it treats that: it could not be ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # In this process's place, so that whoever ends it ends Dagster, not only its parent.
    os.execve(  # noqa: S606 - our own interpreter, arguments typer has checked
        sys.executable, [*dagster, "--host", host, "--port", str(port), "--log-level", level], environment
    )


@alerts_app.command("test")
def alerts_test(source: SourceOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
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
        _print_json({"channels": [{"channel": name, "problem": problem} for name, problem in answers.items()]})
    else:
        for name, problem in answers.items():
            typer.echo(f"channel {name}: {f'NOT sent: {problem}' if problem else 'sent'}")
    if any(answers.values()):
        raise typer.Exit(1)


@alerts_app.command("list")
def alerts_list(source: SourceOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show what is wrong as last told, and how many messages wait for a channel."""
    from copilot_quant_pipeline.alerts.telling import book_of
    from copilot_quant_pipeline.alerts.wording import counted, headline, written

    book = book_of(Settings.from_environment(source=source, home=home)).read()
    incidents = [incident for incident in book.incidents.values() if incident.is_open]
    waiting = sum(map(len, book.waiting.values()))
    if as_json:
        _print_json({"open": [asdict(incident) for incident in incidents], "waiting": waiting})
        return
    for incident in incidents:
        typer.echo(f"since {written(incident.since)}: {headline(incident.trouble)}")
    typer.echo(f"{len(incidents)} open; {counted(waiting, 'message')} waiting for a channel.")


@dataclass(frozen=True)
class _Platform:
    """What a command that settles cells works with."""

    settings: Settings
    job: dg.JobDefinition
    instance: dg.DagsterInstance
    warehouse: Warehouse
    bar: _Bar
    as_json: bool

    def symbols(self) -> tuple[str, ...]:
        from copilot_quant_pipeline.grid.axes import SYMBOL

        return tuple(self.instance.get_dynamic_partitions(SYMBOL))

    def markets(self) -> tuple[str, ...]:
        from copilot_quant_pipeline.grid.axes import MARKET

        return tuple(self.instance.get_dynamic_partitions(MARKET))

    def fetch_members(self) -> tuple[str, ...]:
        """Today's S&P 500, read anew; where the page is refused, the last good list, told loudly."""
        from copilot_quant_pipeline.upkeep.backfill import refresh_members

        return refresh_members(self.job, self.instance, self.warehouse)

    def follow(self, rule: FollowRule) -> tuple[str, ...]:
        """The keys of the markets that `rule` chooses, listed anew; what is wrong with a venue is told."""
        from copilot_quant_pipeline.upkeep.backfill import refresh_catalog

        return refresh_catalog(self.job, self.instance, self.warehouse, rule)


@contextmanager
def _platform(settings: Settings, command: str, as_json: bool, verbose: bool) -> Iterator[_Platform]:
    from copilot_quant_pipeline.definitions import build_definitions
    from copilot_quant_pipeline.equities.sources import EquitySources
    from copilot_quant_pipeline.home import logging_into, prepare_home
    from copilot_quant_pipeline.ledger.instance import (
        install_instance_config,
        open_instance,
        release_dead_runs,
    )
    from copilot_quant_pipeline.prediction_markets.sources import MarketSources
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    prepare_home(settings)
    install_instance_config(settings.dagster_home)
    bar = _Bar()
    with ExitStack() as stack:
        path = stack.enter_context(logging_into(settings, command, verbose=verbose))
        stack.enter_context(_interrupts_told())
        log.debug("%s with %s, log in %s", command, settings, path)
        if settings.needs_sandbox:
            from copilot_quant_pipeline.sandbox import Sandbox

            venues = stack.enter_context(Sandbox(now=settings.pinned_now))
            settings = settings.with_venues_at(venues.url)
        instance = stack.enter_context(open_instance(settings.dagster_home))
        release_dead_runs(instance)
        definitions = build_definitions(
            settings,
            equity_sources=EquitySources.reached_by(settings, bar.advance),
            market_sources=MarketSources.reached_by(settings, bar.advance),
        )
        job = definitions.resolve_implicit_global_asset_job_def()
        warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
        yield _Platform(settings, job, instance, warehouse, bar, as_json)


@contextmanager
def _instance(settings: Settings, command: str, verbose: bool) -> Iterator[dg.DagsterInstance]:
    """The home's Dagster instance, for a command that asks no venue."""
    from copilot_quant_pipeline.home import logging_into, prepare_home
    from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance, release_dead_runs

    prepare_home(settings)
    install_instance_config(settings.dagster_home)
    with (
        logging_into(settings, command, verbose=verbose),
        _interrupts_told(),
        open_instance(settings.dagster_home) as instance,
    ):
        release_dead_runs(instance)
        yield instance


class _InterruptedError(Exception):
    """Ctrl-C; typer would end the process without a word."""


@contextmanager
def _interrupts_told() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise _InterruptedError from None
    except Exception:
        log.debug("the command ended with", exc_info=True)
        raise


def _asked_sessions(settings: Settings, start: str | None, end: str | None) -> tuple[date, ...]:
    """The sessions a user's start and end stand for.

    Raises:
        UserError: A date does not parse, lies off the axis, or no session lies between them.
    """
    from copilot_quant_pipeline.calendar import NEW_YORK
    from copilot_quant_pipeline.grid.axes import sessions_on_axis

    axis = sessions_on_axis(settings)
    if not axis:
        raise UserError(f"the grid starts on {settings.equities_start} and no session has completed since.")
    first = _asked_date("--start", start) or settings.equities_start
    last = _asked_date("--end", end) or axis[-1]
    if first > last:
        raise UserError(f"--start {first} is after --end {last}; swap them.")
    if first < settings.equities_start:
        raise UserError(
            f"--start {first} is before the grid's first date {settings.equities_start};"
            " start there, or set COPILOT_QUANT_EQUITIES_START."
        )
    if last >= settings.now().astimezone(NEW_YORK).date():
        raise UserError(
            f"--end {last} is not over yet: a session's cell is there from the next New York midnight on."
            f" The newest is {axis[-1]}."
        )
    sessions = tuple(day for day in axis if first <= day <= last)
    if not sessions:
        raise UserError(f"the exchange was closed from {first} to {last}; choose a range with a session in it.")
    return sessions


def _asked_date(option: str, text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UserError(f"{option} {text!r} is no date; write it like 2024-01-31.") from None


def _newest_sessions(settings: Settings, max_age_days: int) -> tuple[date, ...]:
    from copilot_quant_pipeline.grid.axes import sessions_on_axis

    since = settings.now().date() - timedelta(days=max_age_days)
    sessions = tuple(day for day in sessions_on_axis(settings) if day >= since)
    if not sessions:
        raise UserError(f"no session completed in the last {max_age_days} days; raise --max-age-days.")
    return sessions


def _newest_days(settings: Settings, max_age_days: int) -> tuple[date, ...]:
    from copilot_quant_pipeline.grid.axes import days_on_axis

    days = days_on_axis(settings)[-1 - max_age_days :]
    if not days:
        raise UserError(f"the markets' grid starts on {settings.markets_start}, which has not come yet.")
    return tuple(days)


def _asked_symbols(symbols: str | None, universe: str | None) -> tuple[str, ...]:
    """The symbols typed, canonical and each once; empty means the universe."""
    from copilot_quant_pipeline.equities.symbols import parse_symbol

    if universe not in (None, "sp500"):
        raise UserError(f"--universe {universe} is not known; the only one is sp500 (or name --symbols).")
    if symbols is None:
        return ()
    if universe:
        raise UserError("--symbols and --universe exclude each other; give one of them.")
    return tuple(dict.fromkeys(parse_symbol(symbol) for symbol in symbols.split(",")))


def _asked_days(settings: Settings, start: str | None, end: str | None) -> tuple[date, ...]:
    """The UTC days a user's start and end stand for.

    Raises:
        UserError: A date does not parse or lies off the axis.
    """
    from copilot_quant_pipeline.grid.axes import days_on_axis

    axis = days_on_axis(settings)
    if not axis:
        raise UserError(f"the markets' grid starts on {settings.markets_start}, which has not come yet.")
    first, last = _asked_date("--start", start) or axis[0], _asked_date("--end", end) or axis[-1]
    if first > last:
        raise UserError(f"--start {first} is after --end {last}; swap them.")
    if first < axis[0]:
        raise UserError(
            f"--start {first} is before the grid's first date {axis[0]};"
            " start there, or set COPILOT_QUANT_MARKETS_START."
        )
    if last > axis[-1]:
        raise UserError(f"--end {last} has not come yet; the newest day is {axis[-1]}.")
    return tuple(day for day in axis if first <= day <= last)


def _asked_markets(
    settings: Settings, venue: str | None, category: str | None, limit: int | None, market_ids: str | None
) -> FollowRule:
    """The rule a user's options stand for; what is left out is as the settings say.

    Raises:
        UserError: A venue is not known, or a market is named that is not of the asked venues.
    """
    from copilot_quant_pipeline.prediction_markets.following import FollowRule
    from copilot_quant_pipeline.prediction_markets.registry import venue_names

    venues = _listed(venue) or settings.markets_venues
    for name in venues:
        if name not in venue_names():
            raise UserError(f"venue {name!r} is not known; choose one of {', '.join(venue_names())}.")
    ids = tuple(_asked_market(text, venues) for text in _listed(market_ids))
    categories = (category.lower(),) if category else settings.markets_categories
    if ids and not (venue or category or limit):
        return FollowRule(venues=(), ids=ids)
    return FollowRule(venues, categories, limit or settings.markets_top, ids or settings.markets_ids)


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _asked_market(text: str, venues: Sequence[str]) -> str:
    from copilot_quant_pipeline.prediction_markets.reading import fits_the_axis
    from copilot_quant_pipeline.prediction_markets.registry import venue_names

    venue, colon, slug = text.partition(":")
    if not colon and len(venues) == 1:
        venue, slug = venues[0], text
    if venue not in venue_names() or not fits_the_axis(slug):
        raise UserError(
            f"{text!r} is no market id; write the venue before it, such as kalshi:KXFED-24NOV-T4.75"
            f" (venues: {', '.join(venue_names())})."
        )
    if venue not in venues:
        raise UserError(f"{text} is a market of {venue}, not of {', '.join(venues)}; add --venue {venue}.")
    return f"{venue}:{slug}"


def _settle_equities(
    platform: _Platform, symbols: Sequence[str], dates: Sequence[date], refresh: bool
) -> tuple[Rectangle, Outcome]:
    from copilot_quant_pipeline.grid.axes import SYMBOL, sessions_on_axis

    grid = ("equities", "equity_bars", SYMBOL)
    axis = sessions_on_axis(platform.settings)
    return _settle(platform, grid, axis, symbols, dates, refresh=refresh, confirm=False)


def _settle_markets(
    platform: _Platform, markets: Sequence[str], dates: Sequence[date], refresh: bool, *, confirm: bool = False
) -> tuple[Rectangle, Outcome]:
    from copilot_quant_pipeline.grid.axes import MARKET, days_on_axis

    grid = ("markets", "prediction_market_prices", MARKET)
    return _settle(platform, grid, days_on_axis(platform.settings), markets, dates, refresh=refresh, confirm=confirm)


def _settle(
    platform: _Platform,
    grid: tuple[str, str, str],
    axis_dates: Sequence[date],
    keys: Sequence[str],
    dates: Sequence[date],
    *,
    refresh: bool,
    confirm: bool,
) -> tuple[Rectangle, Outcome]:
    from copilot_quant_pipeline.grid.cells import Rectangle
    from copilot_quant_pipeline.upkeep.backfill import Backfill

    name, asset, axis = grid
    asked = Rectangle(tuple(dates), tuple(keys))
    backfill = Backfill(
        job=platform.job,
        instance=platform.instance,
        warehouse=platform.warehouse,
        grid=name,
        asset=asset,
        axis=axis,
        asked=asked,
        dates=axis_dates,
        refresh=refresh,
        confirm=confirm,
    )
    with platform.bar.shown(len(asked), hidden=platform.as_json):
        outcome = backfill.run(platform.bar.put)
    return asked, outcome


def _heal(platform: _Platform, name: str, *, only: Collection[str] = (), force: bool = False) -> Healed:
    """Ask again for what is due in a grid, of the keys `only` where there are any."""
    from copilot_quant_pipeline.upkeep.healing import GRIDS, heal_grid

    (grid,) = (grid for grid in GRIDS if grid.name == name)
    with ExitStack() as stack:
        return heal_grid(
            platform.job,
            platform.instance,
            platform.warehouse,
            grid,
            platform.settings,
            only=only,
            force=force,
            on_plan=lambda cells: stack.enter_context(platform.bar.shown(cells, hidden=platform.as_json or not cells)),
            on_run=platform.bar.put,
        )


class _Bar:
    """The progress bar of a command: the sources tell it of cells as they come, the backfill where it stands."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    @contextmanager
    def shown(self, cells: int, *, hidden: bool) -> Iterator[None]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), disable=hidden) as self._progress:
            self._progress.add_task("cells", total=cells)
            try:
                yield
            finally:
                self._progress = None

    def advance(self, cells: int) -> None:
        if self._progress:
            self._progress.advance(self._progress.task_ids[0], cells)

    def put(self, cells: int) -> None:
        if self._progress:
            self._progress.update(self._progress.task_ids[0], completed=cells)


def _report(platform: _Platform, asked: Rectangle, outcome: Outcome, healed: Healed | None = None) -> None:
    if platform.as_json:
        also = {"healed": _healed_json(healed)} if healed else {}
        _print_json({**asdict(outcome), **also, "warehouse": str(platform.settings.warehouse_path)})
    else:
        _print_outcome(platform.settings, asked, outcome)
        if healed:
            _print_healed(healed)
    if outcome.failed or (healed and healed.outcome.failed):
        raise typer.Exit(1)


def _healed_json(healed: Healed) -> dict[str, Any]:
    numbers = asdict(healed)
    return {**numbers.pop("outcome"), **numbers}


def _print_healed(healed: Healed) -> None:
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
        typer.echo(f"{outcome.rows:,} rows in {outcome.runs} runs; {outcome.requests:,} requests")
    if outcome.failed:
        typer.echo(f"{len(outcome.failed):,} cells failed:")
        _print_failures(outcome.failed)


def _print_outcome(settings: Settings, asked: Rectangle, outcome: Outcome) -> None:
    typer.echo(
        f"{outcome.settled:,} of {outcome.asked:,} cells settled"
        f" ({len(asked.keys):,} x {len(asked.dates):,} dates,"
        f" {asked.dates[0]} to {asked.dates[-1]}; {outcome.already:,} were before)"
    )
    typer.echo(
        f"{outcome.rows:,} rows in {outcome.runs} runs and {outcome.seconds:.1f} s;"
        f" {outcome.requests:,} requests, {outcome.retries:,} retries; in {settings.warehouse_path}"
    )
    if outcome.restated:
        typer.echo(f"{outcome.restated:,} stored rows restated by the venue; ops.restatements has old and new")
    if outcome.quarantined:
        typer.echo(
            f"{outcome.quarantined:,} changes too large to be believed wait: see `copilot-quant quarantine list`"
        )
    if outcome.failed:
        typer.echo(f"{len(outcome.failed):,} cells failed:")
        _print_failures(outcome.failed)


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


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, default=str))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row))
    Console().print(table)


def main() -> None:
    """The command's entry point: every error a user can cause is one line on stderr and exit code 2."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except UserError as error:
        _fail(str(error), 2)
    except VendorError as error:
        _fail(str(error), 1)
    except (_InterruptedError, typer.Abort):
        _fail("interrupted; what was settled stays settled, the same command goes on from there.", 130)
    except Exception as error:
        usage = getattr(error, "format_message", None)  # only what typer raises for wrong usage has one
        if usage:
            _fail(f"{usage()} (copilot-quant --help shows what can be written)", 2)
        _fail(f"broke with {type(error).__name__}: {error} (--verbose shows where)", 1)


def _fail(line: str, code: int) -> NoReturn:
    if "--verbose" in sys.argv and code != 130:
        traceback.print_exc()
    typer.echo(f"copilot-quant: {' '.join(line.split())}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
