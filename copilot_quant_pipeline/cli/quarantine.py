"""The commands on doubtful values: what waits, and a person's decision on it.

Here: their options and what each prints of its answer.
Not here: what is doubted (warehouse/plausibility.py), what a decision does (warehouse/quarantine.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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
    from copilot_quant_pipeline.warehouse.quarantine import Proposal, ProposalChoice, Waiting

quarantine_app = typer.Typer(
    help="Changes of stored values that are too large to be believed: a person decides.",
    short_help="Decide on changes too large to be believed.",
    no_args_is_help=True,
)

DateOption = Annotated[str | None, typer.Option("--date", help="Only what is of this date, such as 2024-01-31.")]
AllOption = Annotated[bool, typer.Option("--all", help="Everything.")]
IdOption = Annotated[str | None, typer.Option("--id", help="Numbers of proposals, comma-separated, such as 3,4.")]


@quarantine_app.command("list", short_help="Show what waits.")
def quarantine_list(
    symbol: SymbolOption = None,
    day: DateOption = None,
    number: IdOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Every value of every symbol.")] = False,
    state: Annotated[str, typer.Option(help="waiting, accepted, rejected, withdrawn, resolved or all.")] = "waiting",
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show how much waits of each symbol; of named ones the stored and the proposed values, and since when."""
    from copilot_quant_pipeline.warehouse.quarantine import STATES, count_proposals, read_proposals
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    if state not in (*STATES, "all"):
        raise UserError(f"--state {state} is not known; choose one of {', '.join(STATES)} or all.")
    settings = Settings.from_environment(source=source, home=home)
    warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
    choice, states = _choice(symbol, day, number), STATES if state == "all" else (state,)
    counted = count_proposals(warehouse, choice, states)
    if as_json:
        found = read_proposals(warehouse, choice, states)
        symbols = [asdict(waiting) for waiting in counted]
        print_json({"symbols": symbols, "proposals": [asdict(proposal) for proposal in found]})
    elif not counted:
        typer.echo("nothing waits." if state == "waiting" else f"nothing is {state}.")
    elif everything or verbose or symbol or day or number:
        _print_proposals(read_proposals(warehouse, choice, states))
    else:
        _print_counts(counted)


@quarantine_app.command("accept", short_help="Store the proposed values.")
def quarantine_accept(
    symbol: SymbolOption = None,
    day: DateOption = None,
    number: IdOption = None,
    everything: AllOption = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Store the proposed values, of each proposal all; the old ones are kept in the history."""
    from copilot_quant_pipeline.warehouse.quarantine import accept

    chosen = _Chosen(symbol, day, number, everything)
    _decide(accept, "accepted", chosen, Settings.from_environment(source=source, home=home), as_json)


@quarantine_app.command("reject", short_help="Keep the stored values.")
def quarantine_reject(
    symbol: SymbolOption = None,
    day: DateOption = None,
    number: IdOption = None,
    everything: AllOption = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Keep the stored values; the same change is not asked about again, another one is."""
    from copilot_quant_pipeline.warehouse.quarantine import reject

    chosen = _Chosen(symbol, day, number, everything)
    _decide(reject, "rejected", chosen, Settings.from_environment(source=source, home=home), as_json)


@quarantine_app.command("undo", short_help="Take a rejection back.")
def quarantine_undo(
    symbol: SymbolOption = None,
    day: DateOption = None,
    number: IdOption = None,
    everything: AllOption = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Let what was rejected wait again, to be accepted or rejected anew."""
    from copilot_quant_pipeline.warehouse.quarantine import reopen

    chosen = _Chosen(symbol, day, number, everything)
    _decide(reopen, "reopened", chosen, Settings.from_environment(source=source, home=home), as_json)


@dataclass(frozen=True)
class _Chosen:
    """What a user named of proposals."""

    symbol: str | None
    day: str | None
    number: str | None
    everything: bool


def _decide(decide: Callable[..., int], word: str, chosen: _Chosen, settings: Settings, as_json: bool) -> None:
    from copilot_quant_pipeline.warehouse.quarantine import read_proposals
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    if chosen.everything == bool(chosen.symbol or chosen.day or chosen.number):
        raise UserError(f"say what is {word}: --symbol AAPL, --date 2024-01-31, --id 3 or several of them, or --all.")
    warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
    choice = _choice(chosen.symbol, chosen.day, chosen.number)
    state = "rejected" if word == "reopened" else "waiting"
    if not read_proposals(warehouse, choice, (state,)):
        is_so = "waits" if state == "waiting" else "is rejected"
        raise UserError(f"nothing of that {is_so}; `copilot-quant quarantine list --state {state}` shows what does.")
    count = decide(warehouse, choice, now=settings.now())
    if as_json:
        print_json({word: count})
    else:
        typer.echo(f"{count:,} {'row' if count == 1 else 'rows'} {word}.")


def _choice(symbol: str | None, day: str | None, number: str | None) -> ProposalChoice:
    from copilot_quant_pipeline.warehouse.quarantine import ProposalChoice

    symbols = asked_symbols(symbol, None) or None
    return ProposalChoice(symbols, asked_date("--date", day), _asked_numbers(number))


def _asked_numbers(given: str | None) -> list[int] | None:
    if given is None:
        return None
    words = [word.strip() for word in given.split(",") if word.strip()]
    if not words or not all(word.isascii() and word.isdigit() for word in words):
        raise UserError(f"--id {given} is no list of numbers; write the numbers of `quarantine list`, such as 3,4.")
    return [int(word) for word in words]


def _print_counts(counted: Sequence[Waiting]) -> None:
    rows = [
        (one.key, one.kind, one.proposals, one.rows, str(one.first), str(one.last), f"{one.since:%Y-%m-%d %H:%M}")
        for one in counted
    ]
    print_table(("symbol", "kind", "proposals", "rows", "first date", "last date", "seen (UTC)"), rows)
    typer.echo("`copilot-quant quarantine list --symbol ...` shows the values, --all those of every symbol.")
    typer.echo(_HOW_TO_DECIDE)


def _print_proposals(found: Sequence[Proposal]) -> None:
    rows = [
        (p.key, p.proposal, str(p.date), p.kind, name, _shown(old), _shown(new), f"{p.seen_at:%Y-%m-%d %H:%M}", p.state)
        for p in found
        for name, (old, new) in p.changes.items()
    ]
    print_table(("symbol", "id", "date", "kind", "value", "stored", "proposed", "seen (UTC)", ""), rows)
    for proposal in found:
        if proposal.kind == "split" and proposal.state == "waiting":
            typer.echo(f"{proposal.key} {proposal.date}: {_meaning(proposal)}")
    typer.echo(_HOW_TO_DECIDE)


def _meaning(split: Proposal) -> str:
    """What accepting a split does to the prices before it."""
    if split.factor in (None, 1):
        return "accepting leaves the traded prices before it as they are, and divides the adjusted ones."
    return f"accepting multiplies all traded prices before it by {split.factor:g}; the adjusted ones stay."


_HOW_TO_DECIDE = (
    "`copilot-quant quarantine accept|reject --symbol ... [--date ...] [--id ...]` decides; `undo` reopens."
)


def _shown(value: object) -> str:
    return "" if value is None else str(value)
