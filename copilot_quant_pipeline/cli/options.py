"""What a user typed, turned into values.

Here: the options several commands share; dates, symbols and markets a user's text stands for, refused in the user's
words.
Not here: options of one command alone (beside it), settings (settings.py), what the answer is (output).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.settings import Settings

if TYPE_CHECKING:
    from copilot_quant_pipeline.prediction_markets.following import FollowRule

SymbolOption = Annotated[str | None, typer.Option("--symbol", help="Comma-separated, such as AAPL,BRK.B.")]
SourceOption = Annotated[str | None, typer.Option("--source", help="sandbox (simulated venues) or live.")]
HomeOption = Annotated[Path | None, typer.Option("--home", help="Folder of everything stored.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Tell every step; show stack traces.")]


def asked_sessions(settings: Settings, start: str | None, end: str | None) -> tuple[date, ...]:
    """The sessions a user's start and end stand for.

    Raises:
        UserError: A date does not parse, lies off the axis, or no session lies between them.
    """
    from copilot_quant_pipeline.calendar import NEW_YORK
    from copilot_quant_pipeline.grid.axes import sessions_on_axis

    axis = sessions_on_axis(settings)
    if not axis:
        raise UserError(f"the grid starts on {settings.equities_start} and no session has completed since.")
    first = asked_date("--start", start) or settings.equities_start
    last = asked_date("--end", end) or axis[-1]
    _expect_in_order(start, end, first, last)
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


def _expect_in_order(start: str | None, end: str | None, first: date, last: date) -> None:
    """Refuse a range that ends before it starts; what was not typed is an end of the axis."""
    if first <= last:
        return
    if not end:
        raise UserError(f"--start {first} is after the newest date on the grid, {last}; start there or before.")
    if not start:
        raise UserError(f"--end {last} is before the grid's first date {first}; end there or later.")
    raise UserError(f"--start {first} is after --end {last}; swap them.")


def asked_date(option: str, text: str | None) -> date | None:
    """The date typed for `option`, None where there is none.

    Raises:
        UserError: It does not parse.
    """
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UserError(f"{option} {text!r} is no date; write it like 2024-01-31.") from None


def asked_period(start: str | None, end: str | None) -> tuple[date | None, date | None]:
    """The first and last date typed, on an axis or not; None where there is no limit.

    Raises:
        UserError: One does not parse, or the first is after the last.
    """
    first, last = asked_date("--start", start), asked_date("--end", end)
    if first and last and first > last:
        raise UserError(f"--start {first} is after --end {last}; swap them.")
    return first, last


def newest_sessions(settings: Settings, max_age_days: int) -> tuple[date, ...]:
    """The sessions completed in the last so many days.

    Raises:
        UserError: There is none.
    """
    from copilot_quant_pipeline.grid.axes import sessions_on_axis

    since = settings.now().date() - timedelta(days=max_age_days)
    sessions = tuple(day for day in sessions_on_axis(settings) if day >= since)
    if not sessions:
        raise UserError(f"no session completed in the last {max_age_days} days; raise --max-age-days.")
    return sessions


def newest_days(settings: Settings, max_age_days: int) -> tuple[date, ...]:
    """Today and so many UTC days before it, as far as the axis goes back.

    Raises:
        UserError: The axis has not begun.
    """
    from copilot_quant_pipeline.grid.axes import days_on_axis

    days = days_on_axis(settings)[-1 - max_age_days :]
    if not days:
        raise UserError(f"the markets' grid starts on {settings.markets_start}, which has not come yet.")
    return tuple(days)


def asked_symbols(symbols: str | None, universe: str | None) -> tuple[str, ...]:
    """The symbols typed, canonical and each once; empty means the universe."""
    from copilot_quant_pipeline.equities.symbols import parse_symbol

    if universe not in (None, "sp500"):
        raise UserError(f"--universe {universe} is not known; the only one is sp500 (or name --symbols).")
    if symbols is None:
        return ()
    if universe:
        raise UserError("--symbols and --universe exclude each other; give one of them.")
    return tuple(dict.fromkeys(parse_symbol(symbol) for symbol in symbols.split(",")))


def asked_days(settings: Settings, start: str | None, end: str | None) -> tuple[date, ...]:
    """The UTC days a user's start and end stand for.

    Raises:
        UserError: A date does not parse or lies off the axis.
    """
    from copilot_quant_pipeline.grid.axes import days_on_axis

    axis = days_on_axis(settings)
    if not axis:
        raise UserError(f"the markets' grid starts on {settings.markets_start}, which has not come yet.")
    first, last = asked_date("--start", start) or axis[0], asked_date("--end", end) or axis[-1]
    _expect_in_order(start, end, first, last)
    if first < axis[0]:
        raise UserError(
            f"--start {first} is before the grid's first date {axis[0]};"
            " start there, or set COPILOT_QUANT_MARKETS_START."
        )
    if last > axis[-1]:
        raise UserError(f"--end {last} has not come yet; the newest day is {axis[-1]}.")
    return tuple(day for day in axis if first <= day <= last)


def asked_markets(
    settings: Settings,
    venue: str | None,
    category: str | None,
    limit: int | None,
    market_ids: str | None,
    *,
    with_ended: bool = False,
) -> FollowRule:
    """The rule a user's options stand for; what is left out is as the settings say.

    Raises:
        UserError: An option names nothing, a venue is not known, a file of ids cannot be read, or a market is named
            that is not of the asked venues.
    """
    from copilot_quant_pipeline.prediction_markets.following import FollowRule
    from copilot_quant_pipeline.prediction_markets.registry import venue_names

    named = _asked_ids(market_ids)
    for option, text, found in (
        ("--venue", venue, listed(venue)),
        ("--category", category, listed(category)),
        ("--market-ids", market_ids, named),
    ):
        if text is not None and not found:
            raise UserError(f"{option} {text!r} names nothing; leave it out, or name some.")
    venues = listed(venue) or settings.markets_venues
    for name in venues:
        if name not in venue_names():
            raise UserError(f"venue {name!r} is not known; choose one of {', '.join(venue_names())}.")
    ids = tuple(dict.fromkeys(_asked_market(text, venues, where) for text, where in named))
    categories = listed(category.lower()) if category else settings.markets_categories
    if ids and not (venue or category or limit):
        return FollowRule(venues=(), ids=ids)
    return FollowRule(venues, categories, limit or settings.markets_top, ids or settings.markets_ids, with_ended)


def _asked_ids(text: str | None) -> list[tuple[str, str]]:
    """Each market typed or in a file named as `@FILE`, and where it stands, such as ` (line 3 of ids.txt)`."""
    found: list[tuple[str, str]] = []
    for word in listed(text):
        if not word.startswith("@"):
            found.append((word, ""))
            continue
        for number, line in enumerate(_read_ids(word[1:]).splitlines(), start=1):
            # A hash that begins a word begins a comment; no key holds a blank, so one may follow another.
            names = re.split(r"(?:^|\s)#", line)[0].replace(",", " ").split()
            found.extend((name, f" (line {number} of {'stdin' if word == '@-' else word[1:]})") for name in names)
    return found


def _read_ids(name: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).expanduser().read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"--market-ids @{name} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise UserError(f"--market-ids @{name} is no text in UTF-8; write one market id a line.") from None


def listed(text: str | None) -> tuple[str, ...]:
    """The words of a comma-separated option, without the blanks around them."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _asked_market(text: str, venues: Sequence[str], where: str = "") -> str:
    from copilot_quant_pipeline.grid.keys import is_slug
    from copilot_quant_pipeline.prediction_markets.registry import venue_names

    venue, colon, slug = text.partition(":")
    if not colon and len(venues) == 1:
        venue, slug = venues[0], text
    if venue not in venue_names() or not is_slug(slug):
        raise UserError(
            f"{text!r}{where} is no market id; write the venue before it, such as kalshi:KXFED-24NOV-T4.75"
            f" (venues: {', '.join(venue_names())})."
        )
    if venue not in venues:
        raise UserError(f"{text}{where} is a market of {venue}, not of {', '.join(venues)}; add --venue {venue}.")
    return f"{venue}:{slug}"
