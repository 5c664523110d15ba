"""Wikipedia's "List of S&P 500 companies" as a simulated venue.

Here: the page with its two tables, `constituents` and `changes`, and its refusal of clients that do not say
who they are.
Not here: who is a member when (listings.py).

With recorded frames the page is the recorded one (`../sp500/` beside the frames) where there is one, else it
lists the frames' symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from copilot_quant_pipeline.calendar import NEW_YORK
from copilot_quant_pipeline.sandbox.faults import Kinds, Refusals, answer_through_faults
from copilot_quant_pipeline.sandbox.listings import FIRST_SESSION, Listing, trait
from copilot_quant_pipeline.sandbox.market import SimulatedEquities
from copilot_quant_pipeline.sandbox.recorded import read_recorded
from copilot_quant_pipeline.sandbox.venue import World

VENUE = "wikipedia"
FAULTS: Kinds = {"universe_short": {"rows": None}, "wikipedia_down": {}}
PAGE = "/wiki/List_of_S&P_500_companies"
RECORDED_PAGE = Path("sp500", "wikipedia_List_of_SP500_companies.html")
ANONYMOUS_CLIENTS = ("python-requests/", "python-urllib/", "curl/")

CONSTITUENTS_HEAD = """<tr>
<th><a href="/wiki/Ticker_symbol" title="Ticker symbol">Symbol</a>
</th>
<th>Security</th>
<th><a href="/wiki/Global_Industry_Classification_Standard">GICS</a> Sector</th>
<th>GICS Sub-Industry</th>
<th>Headquarters Location</th>
<th>Date added</th>
<th><a href="/wiki/Central_Index_Key" title="Central Index Key">CIK</a></th>
<th>Founded
</th></tr>"""

CHANGES_HEAD = """<tr>
<th data-sort-type="date" rowspan="2">Effective Date
</th>
<th colspan="2">Added
</th>
<th colspan="2">Removed
</th>
<th rowspan="2">Reason
</th></tr>
<tr>
<th>Ticker</th>
<th>Security</th>
<th>Ticker</th>
<th>Security
</th></tr>"""


def says_who_it_is(user_agent: str) -> bool:
    """Whether Wikipedia serves a client: a library's default User-Agent is refused."""
    return bool(user_agent) and not user_agent.lower().startswith(ANONYMOUS_CLIENTS)


def list_page(members: list[Listing], listings: list[Listing], today: date) -> str:
    """The page as of `today`: `members` in the first table, who of `listings` came or left in the other."""
    constituents = "\n".join(_constituent(member) for member in members)
    changes = "\n".join(_changes(listings, today))
    return f"""<!DOCTYPE html>
<html class="client-nojs" lang="en" dir="ltr">
<head><meta charset="UTF-8"><title>List of S&amp;P 500 companies (simulated)</title></head>
<body><h1>List of S&amp;P 500 companies</h1><p>A simulated page: no company on it is real.</p>
<table class="wikitable sortable mw-collapsible sticky-header" id="constituents">

<tbody>{CONSTITUENTS_HEAD}
{constituents}
</tbody></table>
<table class="wikitable sortable" id="changes">

<tbody>{CHANGES_HEAD}
{changes}
</tbody></table>
</body></html>
"""


def _constituent(member: Listing) -> str:
    symbol, name = escape(member.symbol), escape(member.name)
    founded = 1850 + trait(member.symbol, "founded", 140)
    return f"""<tr>
<td><a rel="nofollow" class="external text" href="https://www.nyse.com/quote/XNYS:{symbol}">{symbol}</a>
</td>
<td><a href="/wiki/{symbol}" title="{name}">{name}</a></td>
<td>{escape(member.sector)}</td>
<td>Simulated {escape(member.sector)}</td>
<td>Simulated City, New York</td>
<td>{member.joined}</td>
<td>{trait(member.symbol, "cik", 10_000_000):010d}</td>
<td>{founded}
</td></tr>"""


def _changes(listings: list[Listing], today: date) -> list[str]:
    """Rows newest first; one company joins or one leaves, the other cells stay empty as on the real page."""
    joined = [(one.joined, one, True) for one in listings if one.joined and one.joined >= FIRST_SESSION]
    left = [(one.left, one, False) for one in listings if one.left]
    dated = sorted(
        ((day, one, joins) for day, one, joins in [*joined, *left] if day <= today),
        key=lambda change: (change[0], change[1].symbol),
        reverse=True,
    )
    return [_change(day, one, joins) for day, one, joins in dated]


def _change(day: date, listing: Listing, joins: bool) -> str:
    company = f"<td>{escape(listing.symbol)}</td>\n<td>{escape(listing.name)}</td>"
    nobody = "<td>\n</td>\n<td>\n</td>"
    added, removed = (company, nobody) if joins else (nobody, company)
    return f"""<tr>
<td>{day:%B} {day.day}, {day.year}</td>
{added}
{removed}
<td>Simulated change.
</td></tr>"""


def _recorded_page(recorded: Path) -> str | None:
    folder = recorded if recorded.is_dir() else recorded.parent
    page = folder.parent / RECORDED_PAGE
    return page.read_text() if page.is_file() else None


def _frame_members(recorded: Path, market: SimulatedEquities) -> list[Listing]:
    symbols = sorted(symbol.replace("-", ".") for symbol in read_recorded(recorded))
    return [market.listings.get(symbol) or _unlisted(symbol) for symbol in symbols]


def _unlisted(symbol: str) -> Listing:
    return Listing(symbol, "Unknown", FIRST_SESSION, None, None, FIRST_SESSION, None, {})


def _page_writer(world: World) -> Callable[[int | None], str]:
    """What writes the page with at most so many members."""
    market = world.market
    recorded = _recorded_page(world.recorded) if world.recorded else None
    fixed = _frame_members(world.recorded, market) if world.recorded and not recorded else None

    def page(rows: int | None) -> str:
        if recorded and rows is None:
            return recorded
        today = world.clock().astimezone(NEW_YORK).date()
        members = market.members(today) if fixed is None else fixed
        return list_page(members[:rows], list(market.listings.values()), today)

    return page


REFUSALS = Refusals(
    too_many=lambda: PlainTextResponse("Too many requests.", 429),
    broken=lambda status: HTMLResponse("<html><body><h1>Wikimedia Error</h1></body></html>", status),
)


def routes(world: World) -> list[Route]:
    """The page's route."""
    page = _page_writer(world)

    async def constituents(request: Request) -> Response:
        if not says_who_it_is(request.headers.get("user-agent", "")):
            return PlainTextResponse("Please set a user-agent and respect our robot policy https://w.wiki/4wJS.\n", 403)
        if world.faults.take_one("wikipedia_down", VENUE):
            return REFUSALS.broken(503)
        short = world.faults.take_one("universe_short", VENUE)
        rows = int(short.number("rows", 300)) if short else None
        return await answer_through_faults(request, world.faults, VENUE, "", REFUSALS, lambda: HTMLResponse(page(rows)))

    return [Route(PAGE, constituents)]
