"""The commands that settle cells: backfill, update, heal.

Here: their options, and what they ask of a platform; the exit code that tells whether every cell is settled.
Not here: what the options stand for (options), how an outcome reads (output), planning runs and running them (upkeep).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from copilot_quant_pipeline.cli.options import (
    HomeOption,
    JsonOption,
    SourceOption,
    VerboseOption,
    asked_days,
    asked_markets,
    asked_sessions,
    asked_symbols,
    newest_days,
    newest_sessions,
)
from copilot_quant_pipeline.cli.output import (
    healed_json,
    print_bad_keys,
    print_changes,
    print_healed,
    print_json,
    print_outcome,
    print_warnings,
)
from copilot_quant_pipeline.cli.platform import Platform, axes_of, open_platform
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.settings import Settings

if TYPE_CHECKING:
    from copilot_quant_pipeline.grid.cells import Rectangle
    from copilot_quant_pipeline.prediction_markets.following import FollowRule
    from copilot_quant_pipeline.upkeep.backfill import BackfillResult, Followed
    from copilot_quant_pipeline.upkeep.healing import Healed

log = logging.getLogger(__name__)

backfill_app = typer.Typer(help="Settle a rectangle of cells.", no_args_is_help=True)
update_app = typer.Typer(help="Settle the newest sessions.", no_args_is_help=True)

# What counts as newest: the sessions of so many days, and the UTC days back to so many before today.
SESSIONS_OF, DAYS_BACK = 7, 1

SymbolsOption = Annotated[str | None, typer.Option("--symbols", help="Comma-separated, such as AAPL,BRK.B.")]
VenueOption = Annotated[str | None, typer.Option("--venue", help="Comma-separated, such as kalshi,polymarket.")]
CategoryOption = Annotated[str | None, typer.Option("--category", help="Comma-separated, such as politics,crypto.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="The so many largest open ones of each venue.")]
IdsOption = Annotated[
    str | None,
    typer.Option("--market-ids", help="Such as kalshi:KXFED-24NOV-T4.75; @FILE or @- (stdin) reads them, one a line."),
]
EndedOption = Annotated[bool, typer.Option("--with-ended", help="Choose among ended markets, too.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Ask again for settled cells too.")]
HealOption = Annotated[bool, typer.Option("--heal/--no-heal", help="Ask again for older gaps afterwards.")]


@backfill_app.command("equities", short_help="Daily bars of symbols.")
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
    dates = asked_sessions(settings, start, end)
    chosen = asked_symbols(symbols, universe)
    with open_platform(settings, "backfill-equities", as_json, verbose) as platform:
        report = _report(
            platform, "equities", *_settle_equities(platform, chosen or platform.fetch_members(), dates, refresh)
        )
    _end(report, as_json)


@update_app.command("equities", short_help="Daily bars of every symbol on the axis.")
def update_equities(
    symbols: SymbolsOption = None,
    max_age_days: Annotated[int, typer.Option(min=1, help="How many days back counts as newest.")] = SESSIONS_OF,
    force: ForceOption = False,
    heal: HealOption = True,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Settle the newest sessions of every symbol on the axis (all of the S&P 500 where there is none), then heal."""
    settings = Settings.from_environment(source=source, home=home)
    update = _Update(settings, force, heal, as_json, verbose)
    _end(update.equities(max_age_days, asked_symbols(symbols, None)), as_json)


@backfill_app.command("markets", short_help="Hourly prices of prediction markets.")
def backfill_markets(
    venue: VenueOption = None,
    category: CategoryOption = None,
    limit: LimitOption = None,
    market_ids: IdsOption = None,
    with_ended: EndedOption = False,
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
    dates = asked_days(settings, start, end)
    rule = asked_markets(settings, venue, category, limit, market_ids, with_ended=with_ended)
    with open_platform(settings, "backfill-markets", as_json, verbose) as platform:
        followed = platform.follow(rule)
        if followed.why_none:
            raise followed.why_none
        settled = _settle_markets(platform, followed, dates, refresh)
        report = _report(platform, "markets", *settled, faults=followed.faults)
    _end(report, as_json)


@update_app.command("markets", short_help="Hourly prices of the followed markets.")
def update_markets(
    venue: VenueOption = None,
    category: CategoryOption = None,
    limit: LimitOption = None,
    market_ids: IdsOption = None,
    max_age_days: Annotated[int, typer.Option(min=0, help="How many days back counts as newest.")] = DAYS_BACK,
    force: ForceOption = False,
    heal: HealOption = True,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List the venues anew, settle yesterday and today of the followed markets, then heal."""
    settings = Settings.from_environment(source=source, home=home)
    update = _Update(settings, force, heal, as_json, verbose)
    rule = asked_markets(settings, venue, category, limit, market_ids)
    named = bool(venue or category or limit or market_ids)
    _end(update.markets(max_age_days, rule, named=named), as_json)


@update_app.command("all", short_help="Both, equities first.")
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
    settings = Settings.from_environment(source=source, home=home)
    update = _Update(settings, force, heal, as_json, verbose)
    rule = asked_markets(settings, None, None, None, None)
    equities = update.equities(max_age_days or SESSIONS_OF)
    markets = update.markets(max_age_days or DAYS_BACK, rule, named=False)
    if as_json:
        print_json({"equities": equities.answer, "markets": markets.answer})
    if not (equities.settled and markets.settled):
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Report:
    """What a command answers: as JSON, and whether every asked cell is settled."""

    answer: dict[str, Any]
    settled: bool


@dataclass(frozen=True)
class _Update:
    """How the newest cells of a grid are settled."""

    settings: Settings
    force: bool
    heal: bool
    as_json: bool
    verbose: bool

    def equities(self, max_age_days: int, chosen: Sequence[str] = ()) -> _Report:
        """Of the `chosen` symbols; without any, of all on the axis."""
        dates = newest_sessions(self.settings, max_age_days)
        with open_platform(self.settings, "update-equities", self.as_json, self.verbose) as platform:
            symbols = chosen or platform.symbols() or platform.fetch_members()
            asked, outcome = _settle_equities(platform, symbols, dates, self.force)
            healed = _heal(platform, "equities", only=chosen) if self.heal else None
            return _report(platform, "equities", asked, outcome, healed)

    def markets(self, max_age_days: int, rule: FollowRule, *, named: bool) -> _Report:
        """Of the markets `rule` chooses; where it was not `named` by a user, of all on the axis, too."""
        dates = newest_days(self.settings, max_age_days)
        with open_platform(self.settings, "update-markets", self.as_json, self.verbose) as platform:
            followed = platform.follow(rule)
            # Who is no longer among the largest is followed to its end all the same, and read to it once it has ended.
            beside = platform.ended_since(dates[0], rule) if named else platform.markets()
            chosen = replace(followed, keys=tuple(dict.fromkeys((*followed.keys, *beside))))
            if followed.why_none and not chosen.keys:
                self._expect_known(platform, rule, followed.why_none)
            asked, outcome = _settle_markets(platform, chosen, dates, self.force, confirm=True)
            only = (chosen.keys or platform.markets(rule)) if named else ()
            healed = _heal(platform, "markets", only=only) if self.heal and (only or not named) else None
            return _report(platform, "markets", asked, outcome, healed, faults=followed.faults)

    @staticmethod
    def _expect_known(platform: Platform, rule: FollowRule, why: Exception) -> None:
        """Go on with nothing where all that was ever chosen has ended; refuse what never chose any."""
        if not isinstance(why, UserError) or not platform.knows_any(rule):
            raise why
        log.warning("%s", why)


def heal(
    force: Annotated[bool, typer.Option("--force", help="Do not wait, and ask for what was given up.")] = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Ask again for what failed and for what was left out, in both grids, where it is due."""
    from copilot_quant_pipeline.warehouse.warnings import count_open

    settings = Settings.from_environment(source=source, home=home)
    with open_platform(settings, "heal", as_json, verbose) as platform:
        healed = [_heal(platform, grid, force=force) for grid in ("equities", "markets")]
        waiting = {grid.grid: _waiting(platform, grid.grid) for grid in healed}
        warnings, bad = count_open(platform.warehouse), axes_of(platform.instance).bad
    if as_json:
        grids = {grid.grid: {**healed_json(grid), "waiting_for_decision": waiting[grid.grid]} for grid in healed}
        print_json({**grids, "bad keys": bad, "warnings": warnings, "warehouse": str(settings.warehouse_path)})
    else:
        for grid in healed:
            print_healed(grid)
            print_changes(grid.outcome.restated, waiting[grid.grid])
        print_bad_keys(bad)
        print_warnings(warnings)
    if any(grid.outcome.failed for grid in healed):
        raise typer.Exit(1)


def _settle_equities(
    platform: Platform, symbols: Sequence[str], dates: Sequence[date], refresh: bool
) -> tuple[Rectangle, BackfillResult]:
    from copilot_quant_pipeline.grid.axes import SYMBOL, sessions_on_axis

    grid = ("equities", "equity_bars", SYMBOL)
    axis = sessions_on_axis(platform.settings)
    return _settle(platform, grid, axis, symbols, dates, refresh=refresh, confirm=False)


def _settle_markets(
    platform: Platform, followed: Followed, dates: Sequence[date], refresh: bool, *, confirm: bool = False
) -> tuple[Rectangle, BackfillResult]:
    """The cells of the markets that are followed; those of names that have no key yet fail, and are nowhere stored."""
    from copilot_quant_pipeline.grid.axes import MARKET, days_on_axis
    from copilot_quant_pipeline.grid.cells import Rectangle
    from copilot_quant_pipeline.upkeep.backfill import FailedCell

    grid = ("markets", "prediction_market_prices", MARKET)
    axis = days_on_axis(platform.settings)
    _, outcome = _settle(platform, grid, axis, followed.keys, dates, refresh=refresh, confirm=confirm)
    waiting = [FailedCell(day, name, *why) for name, why in followed.waiting.items() for day in dates]
    asked = Rectangle(tuple(dates), (*followed.keys, *followed.waiting))
    return asked, replace(outcome, asked=len(asked), failed=(*outcome.failed, *waiting))


def _settle(
    platform: Platform,
    grid: tuple[str, str, str],
    axis_dates: Sequence[date],
    keys: Sequence[str],
    dates: Sequence[date],
    *,
    refresh: bool,
    confirm: bool,
) -> tuple[Rectangle, BackfillResult]:
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
        now=None if platform.settings.pinned_now else platform.settings.now(),
    )
    with platform.bar.shown(len(asked), hidden=platform.as_json):
        outcome = backfill.run(platform.bar.put)
    return asked, outcome


def _heal(platform: Platform, name: str, *, only: Collection[str] = (), force: bool = False) -> Healed:
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


def _waiting(platform: Platform, grid: str) -> int:
    from copilot_quant_pipeline.warehouse.coverage import count_waiting

    return count_waiting(platform.warehouse, grid)


def _report(
    platform: Platform,
    grid: str,
    asked: Rectangle,
    outcome: BackfillResult,
    healed: Healed | None = None,
    *,
    faults: Sequence[str] = (),
) -> _Report:
    """Print it, unless it is wanted as JSON; `faults` are told already, and leave the command unsettled."""
    from copilot_quant_pipeline.warehouse.warnings import count_open

    with platform.warehouse.held():
        warnings, waiting = count_open(platform.warehouse), _waiting(platform, grid)
    bad = axes_of(platform.instance).bad
    if not platform.as_json:
        print_outcome(platform.settings, asked, outcome)
        if healed:
            print_healed(healed)
        print_changes(outcome.restated + (healed.outcome.restated if healed else 0), waiting)
        print_bad_keys(bad)
        print_warnings(warnings)
    also: dict[str, Any] = {"healed": healed_json(healed)} if healed else {}
    also["waiting_for_decision"] = waiting
    return _Report(
        answer={
            **asdict(outcome),
            **also,
            **({"faults": list(faults)} if faults else {}),
            "bad keys": bad,
            "warnings": warnings,
            "warehouse": str(platform.settings.warehouse_path),
        },
        settled=not (outcome.failed or faults or (healed and healed.outcome.failed)),
    )


def _end(report: _Report, as_json: bool) -> None:
    if as_json:
        print_json(report.answer)
    if not report.settled:
        raise typer.Exit(1)
