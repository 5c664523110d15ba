"""The commands on tickers and companies: who is told apart, what is asked, and a person's decision on it.

Here: their options and what each prints of its answer.
Not here: what an answer says (equities/lives.py), what a decision does (warehouse/instruments.py).
"""

from __future__ import annotations

from typing import Annotated

import typer

from copilot_quant_pipeline.cli.options import HomeOption, JsonOption, SourceOption, VerboseOption, asked_date
from copilot_quant_pipeline.cli.output import print_json, print_table
from copilot_quant_pipeline.settings import Settings

instruments_app = typer.Typer(
    help="Tickers that were given to another company, or renamed: who is told apart, and what is asked.",
    short_help="Tickers that were given to another company.",
    no_args_is_help=True,
)

SymbolArgument = Annotated[str, typer.Argument(metavar="SYMBOL", help="Such as AAPL or BRK.B.")]


@instruments_app.command("list", short_help="Show who is told apart, and what is asked.")
def instruments_list(
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show the companies of each symbol that has had several, or several names, and what waits for a decision."""
    from copilot_quant_pipeline.warehouse.instruments import read_instruments, read_questions
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    settings = Settings.from_environment(source=source, home=home)
    warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
    named, asked = read_instruments(warehouse), read_questions(warehouse)
    questions = [
        {"symbol": one.symbol, "kind": one.kind, "begins": one.begins, "detail": one.detail, "seen_at": one.seen_at}
        for one in asked
    ]
    if as_json:
        print_json({"instruments": named, "questions": questions})
        return
    if named:
        shown = [tuple("" if value is None else str(value) for value in row.values()) for row in named]
        print_table(("symbol", "instrument", "from date", "until date", "source"), shown)
    if asked:
        print_table(
            ("symbol", "another company?", "since"), [(q.symbol, q.detail, f"{q.seen_at:%Y-%m-%d}") for q in asked]
        )
        typer.echo("`copilot-quant instruments separate SYMBOL` or `join SYMBOL` decides.")
    if not (named or asked):
        typer.echo("every symbol has named one company, and nothing is asked.")


@instruments_app.command("separate", short_help="Another company: tell them apart.")
def instruments_separate(
    symbol: SymbolArgument,
    begins: Annotated[
        str | None, typer.Option("--from", help="The other company's first day; by default after the last bar stored.")
    ] = None,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Say that the symbol names another company: what is stored up to that day stays the former one's."""
    from copilot_quant_pipeline.equities.symbols import parse_symbol
    from copilot_quant_pipeline.warehouse.instruments import separate
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    settings = Settings.from_environment(source=source, home=home)
    warehouse, key = Warehouse(settings.warehouse_path, settings.lock_timeout), parse_symbol(symbol)
    day = separate(warehouse, key, asked_date("--from", begins), now=settings.now())
    if as_json:
        print_json({"symbol": key, "from": day})
    else:
        typer.echo(f"{key} names another company from {day} on; `copilot-quant heal --force` asks for its bars.")


@instruments_app.command("join", short_help="The same company: one series.")
def instruments_join(
    symbol: SymbolArgument,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Say that all the symbol ever named is one company: its bars are one series again, and nothing is asked."""
    from copilot_quant_pipeline.equities.symbols import parse_symbol
    from copilot_quant_pipeline.warehouse.instruments import join
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    settings = Settings.from_environment(source=source, home=home)
    key = parse_symbol(symbol)
    join(Warehouse(settings.warehouse_path, settings.lock_timeout), key, now=settings.now())
    if as_json:
        print_json({"symbol": key})
    else:
        typer.echo(f"{key} names one company; `copilot-quant heal --force` asks for what was held back.")
