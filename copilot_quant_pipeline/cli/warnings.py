"""The commands on what a person should look at once: what was found, and their word that it is right.

Here: their options and what each prints of its answer.
Not here: what is found (warehouse/oddities.py), what acknowledging does (warehouse/warnings.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from copilot_quant_pipeline.cli.options import (
    HomeOption,
    JsonOption,
    SourceOption,
    SymbolOption,
    VerboseOption,
    asked_date,
    asked_symbols,
)
from copilot_quant_pipeline.cli.output import print_json, print_table
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.settings import Settings

if TYPE_CHECKING:
    from copilot_quant_pipeline.warehouse.warnings import Warning

warnings_app = typer.Typer(
    help="What may be wrong at the source from the first answer on: a person looks once.",
    short_help="Look at what may be wrong at the source.",
    no_args_is_help=True,
)

DateOption = Annotated[str | None, typer.Option("--date", help="Only of this date, such as 2018-07-10.")]


@warnings_app.command("list", short_help="Show what was found.")
def warnings_list(
    symbol: SymbolOption = None,
    day: DateOption = None,
    state: Annotated[str, typer.Option(help="open, acknowledged, over or all.")] = "open",
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show what was found, by symbol and date, and since when it is so."""
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse
    from copilot_quant_pipeline.warehouse.warnings import STATES, WarningChoice, read_warnings

    if state not in (*STATES, "all"):
        raise UserError(f"--state {state} is not known; choose one of {', '.join(STATES)} or all.")
    settings = Settings.from_environment(source=source, home=home)
    warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
    choice = WarningChoice(keys=asked_symbols(symbol, None) or None, on=asked_date("--date", day))
    found = read_warnings(warehouse, choice, STATES if state == "all" else (state,))
    if as_json:
        print_json({"warnings": [{"id": one.id, "state": one.state, **asdict(one)} for one in found]})
    elif found:
        _print_warnings(found)
    else:
        typer.echo(f"nothing is {state}." if state != "all" else "nothing was ever found.")


@warnings_app.command("acknowledge", short_help="Say that it is right as it is.")
def warnings_acknowledge(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Such as dividend:KDP:2018-07-10, as the list has it.")
    ] = None,
    symbol: SymbolOption = None,
    day: DateOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that is open.")] = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Say of what was found that it is right as it is: it is not asked about again, unless its number changes."""
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse
    from copilot_quant_pipeline.warehouse.warnings import STATES, WarningChoice, acknowledge, read_warnings

    if everything == bool(ids or symbol or day):
        raise UserError(
            "say what is acknowledged: ids such as dividend:KDP:2018-07-10, --symbol KDP, --date 2018-07-10,"
            " or --all; `copilot-quant warnings list` shows what is open."
        )
    settings = Settings.from_environment(source=source, home=home)
    warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
    choice = WarningChoice(ids or None, asked_symbols(symbol, None) or None, asked_date("--date", day))
    if not read_warnings(warehouse, choice, STATES):
        raise UserError("nothing of that was found; `copilot-quant warnings list` shows what is open.")
    count = acknowledge(warehouse, choice, now=settings.now())
    if as_json:
        print_json({"acknowledged": count})
    elif count:
        typer.echo(f"{count:,} {'warning' if count == 1 else 'warnings'} acknowledged.")
    else:
        typer.echo("nothing of that is open: it was acknowledged before, or is over.")


def _print_warnings(found: Sequence[Warning]) -> None:
    rows = [(one.id, one.said, f"{one.first_seen_at:%Y-%m-%d %H:%M}", one.state) for one in found]
    print_table(("id", "what", "since (UTC)", ""), rows)
    typer.echo(
        "`copilot-quant warnings acknowledge ID ...` says that it is right as it is; --symbol, --date, --all too."
    )
