"""The commands on doubtful values: what waits, and a person's decision on it.

Here: their options and what each prints of its answer.
Not here: what is doubted (warehouse/doubts.py), what a decision does (warehouse/quarantine.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from copilot_quant_pipeline.cli.asking import (
    HomeOption,
    JsonOption,
    SourceOption,
    VerboseOption,
    asked_date,
    asked_symbols,
)
from copilot_quant_pipeline.cli.telling import print_json, print_table
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.settings import Settings

if TYPE_CHECKING:
    from copilot_quant_pipeline.warehouse.quarantine import Choice, Proposal

quarantine_app = typer.Typer(
    help="Changes of stored values that are too large to be believed: a person decides.",
    short_help="Decide on changes too large to be believed.",
    no_args_is_help=True,
)

DateOption = Annotated[str | None, typer.Option("--date", help="Only of this date, such as 2024-01-31.")]
AllOption = Annotated[bool, typer.Option("--all", help="Everything that waits.")]
SymbolOption = Annotated[str | None, typer.Option("--symbol", help="Comma-separated, such as AAPL,BRK.B.")]


@quarantine_app.command("list", short_help="Show what waits.")
def quarantine_list(
    symbol: SymbolOption = None,
    day: DateOption = None,
    state: Annotated[str, typer.Option(help="waiting, accepted, rejected, withdrawn or all.")] = "waiting",
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
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
        print_json({"proposals": [asdict(proposal) for proposal in found]})
    elif found:
        _print_proposals(found)
    else:
        typer.echo("nothing waits." if state == "waiting" else f"nothing is {state}.")


@quarantine_app.command("accept", short_help="Store the proposed values.")
def quarantine_accept(
    symbol: SymbolOption = None,
    day: DateOption = None,
    everything: AllOption = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Store the proposed values; the old ones are kept in ops.restatements."""
    from copilot_quant_pipeline.warehouse.quarantine import accept

    _decide(accept, "accepted", (symbol, day, everything), Settings.from_environment(source=source, home=home), as_json)


@quarantine_app.command("reject", short_help="Keep the stored values.")
def quarantine_reject(
    symbol: SymbolOption = None,
    day: DateOption = None,
    everything: AllOption = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
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
        print_json({word: count})
    else:
        typer.echo(f"{count:,} {'row' if count == 1 else 'rows'} {word}.")


def _choice(symbol: str | None, day: str | None) -> Choice:
    from copilot_quant_pipeline.warehouse.quarantine import Choice

    return Choice(asked_symbols(symbol, None) or None, asked_date("--date", day))


def _print_proposals(found: Sequence[Proposal]) -> None:
    rows = [
        (p.key, str(p.date), p.table, name, _shown(old), _shown(new), f"{p.seen_at:%Y-%m-%d %H:%M}", p.state)
        for p in found
        for name, (old, new) in p.changes.items()
    ]
    print_table(("symbol", "date", "table", "value", "stored", "proposed", "seen (UTC)", ""), rows)
    typer.echo("`copilot-quant quarantine accept|reject --symbol ... [--date ...]` decides.")


def _shown(value: object) -> str:
    return "" if value is None else str(value)
