"""The command that asks each venue once, and tells whether it still sends what is read of it.

Here: its options, its table and its exit code.
Not here: what is asked and compared (prediction_markets/formats.py, equities/formats.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from copilot_quant_pipeline.cli.options import HomeOption, JsonOption, SourceOption, VerboseOption
from copilot_quant_pipeline.cli.output import print_json, print_table
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.settings import Settings

if TYPE_CHECKING:
    from copilot_quant_pipeline.answered import Answered

# So many new fields are named.
_SHOWN = 6


def venues(
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Ask the routes of each venue once (at most 20 requests), and show what of their declared formats has changed.

    Nothing is stored. It ends with 1 where a route does not answer, or lacks a declared field or has it of another
    type; a venue whose key is not set is not asked.
    """
    with _reached(Settings.from_environment(source=source, home=home)) as settings:
        answered, left_out = ask_venues(settings)
    if as_json:
        print_json({"routes": [_as_json(one) for one in answered], "not_asked": left_out})
    else:
        print_table(
            ("venue", "route", "answer", "seconds", "records", "missing", "of another type", "new"),
            [_row(one) for one in answered],
        )
        for venue, why in left_out.items():
            typer.echo(f"{venue} was not asked: {why}")
    if not all(one.is_as_declared for one in answered):
        raise typer.Exit(1)


def ask_venues(settings: Settings) -> tuple[list[Answered], dict[str, str]]:
    """What every route gave, and by venue why it was not asked."""
    from copilot_quant_pipeline.equities.formats import ask_wikipedia, ask_yahoo
    from copilot_quant_pipeline.equities.yahoo import YahooClient
    from copilot_quant_pipeline.prediction_markets.formats import Asking, ProbedVenue
    from copilot_quant_pipeline.prediction_markets.registry import make_venue, venue_names

    with tempfile.TemporaryDirectory() as cache:
        yahoo = ask_yahoo(YahooClient(Path(cache), url=settings.yahoo_url, clock=settings.now))
    answered, left_out = [yahoo, ask_wikipedia(settings.wikipedia_url)], dict[str, str]()
    for name in venue_names():
        asking = Asking(name)
        try:
            client = make_venue(name, settings)
        except UserError as error:
            left_out[name] = str(error)
            continue
        if isinstance(client, ProbedVenue):
            client.ask_each_route(asking)
        answered += asking.answered
    return answered, left_out


@contextmanager
def _reached(settings: Settings) -> Iterator[Settings]:
    """The settings with the venues' addresses; simulated ones that have none are served meanwhile."""
    if not settings.needs_sandbox:
        yield settings
        return
    from copilot_quant_pipeline.sandbox import Sandbox

    with Sandbox(now=settings.pinned_now) as simulated:
        yield settings.with_venues_at(simulated.url)


def _as_json(one: Answered) -> dict[str, object]:
    return {**asdict(one), "seconds": round(one.seconds, 3), "as_declared": one.is_as_declared}


def _row(one: Answered) -> tuple[object, ...]:
    new = ", ".join(one.new[:_SHOWN]) + (f" and {len(one.new) - _SHOWN} more" if len(one.new) > _SHOWN else "")
    wrong = "; ".join(f"{name}: {why}" for name, why in one.other_type.items())
    return (
        one.venue,
        one.route,
        one.error or "yes",
        f"{one.seconds:.2f}",
        one.records,
        ", ".join(one.missing),
        wrong,
        new,
    )
