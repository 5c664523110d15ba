"""The S&P 500: who is in it and who was, from Wikipedia's page.

Here: fetching the page, reading its two tables, membership spells, and the cross-check of what was read.
Not here: the symbol axis (grid), what is stored (warehouse). There is no built-in list to fall back to.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from copilot_quant_pipeline.equities.symbols import parse_symbol
from copilot_quant_pipeline.errors import (
    DENIALS,
    Malformed,
    RateLimited,
    Rejected,
    Unavailable,
    UserError,
    storable,
)
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.transport import Line
from copilot_quant_pipeline.warehouse.tables import MEMBERS

if TYPE_CHECKING:
    import pandas as pd
    from pyrate_limiter import Limiter

log = logging.getLogger(__name__)

WIKIPEDIA = "https://en.wikipedia.org"
PAGE = "/wiki/List_of_S%26P_500_companies"
# It is one page a day.
POLICY = RetryPolicy(RequestRate(1), attempts=4, longest_wait=10.0)

# Wikimedia refuses clients that do not say who they are (https://w.wiki/4wJS), or go by their library's name.
USER_AGENT = "copilot-quant-pipeline/0.1 (reads the S&P 500 list once a day)"

# 500 companies, a few with two share classes; a page far from that is broken or vandalised.
FEWEST, MOST = 480, 520

_REFUSED = "IT IS REFUSED, the last good list stays"

# The list's own column names have changed over the years.
_FORMERLY = {"ticker symbol": "symbol", "ticker": "symbol", "company": "security", "company name": "security"}

# Where so many members lack what the page used to tell of all, it has lost a column.
MOST_LACKING = 20

# A column without the name it should have is one of dates where so much of it reads as such.
_MOSTLY = 0.8

# A cell may stand for so many beside or below it; the page's own for no more than a dozen.
_WIDEST = 100
_SPAN = re.compile(r"""\b((?:col|row)span)\s*=\s*("[^"]*"|'[^']*'|[^\s>]*)""", re.IGNORECASE)
# What pandas raises of a table that is none, however odd.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

# The index is of 1957; at the ends of the calendar there is no day before or after.
_YEARS = range(1900, 2200)

_FOOTNOTE = re.compile(r"\[[^\]]*\]")
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_LONG_DATE = re.compile(r"[A-Z][a-z]+ \d{1,2}, \d{4}")


@dataclass(frozen=True)
class Listed:
    """A row of the list of today's members; `added` is None where the page gives no readable date."""

    symbol: str
    name: str
    sector: str
    added: date | None


@dataclass(frozen=True)
class Change:
    """A symbol that joined (or left) the index on `effective`."""

    effective: date
    symbol: str
    name: str
    joins: bool


@dataclass(frozen=True)
class Spell:
    """First and last day in the index; None is before the record begins, or still a member."""

    member_from: date | None
    member_to: date | None


def fetch_members(
    url: str | None, *, now: datetime, source: str = "wikipedia", policy: RetryPolicy = POLICY
) -> pa.Table:
    """Membership spells as `MEMBERS` rows, cross-checked; `url` stands in for Wikipedia.

    Raises:
        VendorError: The page cannot be had, or (`Malformed`) does not hold what it should.
    """
    members = parse_members(fetch_page(url, policy=policy), now=now, source=source)
    expect_members(members)
    return members


def fetch_page(url: str | None = None, *, policy: RetryPolicy = POLICY, attempts: int | None = None) -> str:
    """The page's HTML.

    Raises:
        VendorError: It cannot be had.
    """
    limiter = policy.rate.limiter()
    return policy.retrying(attempts=attempts)(_ask_for_page, url, limiter)


def _ask_for_page(url: str | None, limiter: Limiter) -> str:
    limiter.try_acquire("wikipedia")
    answer = Line("Wikipedia", url or WIKIPEDIA, {"User-Agent": USER_AGENT}).ask("GET", PAGE)
    if answer.status == 429:
        raise RateLimited("Wikipedia asks for a pause (429)")
    if answer.status >= 500 or answer.status in DENIALS:
        # It has one page only: that it is denied says nothing of the page.
        raise Unavailable(f"Wikipedia answers {answer.status}")
    if answer.status >= 400:
        raise Rejected(f"Wikipedia refuses the request ({answer.status})")
    return answer.body.decode("utf-8", "replace")


def parse_members(html: str, *, now: datetime, source: str = "wikipedia") -> pa.Table:
    """Membership spells as `MEMBERS` rows, from the page's list of members and its table of changes.

    A symbol that the changes add, never remove, and that is not on the list was renamed: its spell is the new
    symbol's, whose date of joining the list carries on.

    Raises:
        Malformed: A table is not there, or the list names a symbol twice.
    """
    listed, changes = parse_page(html)
    spells = plan_spells(listed.values(), changes)
    # The page's changes are newest first; the newest name wins.
    names = {change.symbol: change.name for change in reversed(changes)}
    names |= {symbol: one.name for symbol, one in listed.items()}
    rows = [
        {
            "symbol": symbol,
            "name": names.get(symbol) or None,
            "sector": listed[symbol].sector or None if symbol in listed else None,
            "member_from": spell.member_from,
            "member_to": spell.member_to,
            "source": source,
            "read_at": now,
            "first_seen_at": now,
        }
        for symbol in sorted(spells)
        for spell in spells[symbol]
    ]
    return pa.Table.from_pylist(rows, schema=MEMBERS.arrow)


def keep_known_spells(members: pa.Table, stored: pa.Table) -> pa.Table:
    """`members` and the `stored` spells it no longer tells of: the page's record is cut short now and then.

    A stored spell that overlaps one of `members` is superseded by it. One still open, of a symbol that is no member
    any more, ends on the day it was last read.
    """
    new: dict[str, list[Spell]] = {}
    for row in members.to_pylist():
        new.setdefault(row["symbol"], []).append(Spell(row["member_from"], row["member_to"]))
    known = [{**row, "member_to": row["member_to"] or row["read_at"].date()} for row in stored.to_pylist()]
    kept = [
        row
        for row in known
        if not any(_overlap(Spell(row["member_from"], row["member_to"]), spell) for spell in new.get(row["symbol"], []))
    ]
    return pa.concat_tables([members, pa.Table.from_pylist(kept, schema=MEMBERS.arrow)]).sort_by("symbol")


@dataclass(frozen=True)
class Rename:
    """A symbol that takes another's place, since the day on which the page was first read with it."""

    old: str
    new: str
    day: date


@dataclass(frozen=True)
class Merged:
    """The page's spells and what is stored, as one.

    Attributes:
        members: what is to be stored (`MEMBERS`).
        renames: symbols whose spells others have taken over.
        lacking: by column of how many of today's members the page does not tell what it should.
    """

    members: pa.Table
    renames: tuple[Rename, ...]
    lacking: Mapping[str, int]

    @property
    def lost(self) -> str | None:
        """In words which columns the page has lost; None where none."""
        told = [f"{name} of {count:,}" for name, count in self.lacking.items() if count > MOST_LACKING]
        return f"Wikipedia's list no longer tells {', '.join(told)} members; what was known is kept" if told else None


_TOLD = {"member_from": "the date added", "sector": "the sector", "name": "the name"}


def merge_members(members: pa.Table, stored: pa.Table) -> Merged:
    """The page's `members` with what is `stored` and it does not tell: a known fact is never replaced by null.

    A symbol that takes the place of another one, with its date of joining and its security, takes over its spell.
    """
    page, known = members.to_pylist(), stored.to_pylist()
    current = [row for row in page if row["member_to"] is None]
    lacking = {words: sum(row[name] is None for row in current) for name, words in _TOLD.items()}
    filled = [_filled(row, page, [one for one in known if one["symbol"] == row["symbol"]]) for row in page]
    renamed = _renamed(filled, known)
    for old, new in renamed:
        new.update({name: new[name] if new[name] is not None else old[name] for name in ("member_from", *_FACTS)})
    left = [row for row in known if not any(row is old for old, _ in renamed)]
    schema = MEMBERS.arrow
    kept = keep_known_spells(pa.Table.from_pylist(filled, schema), pa.Table.from_pylist(left, schema))
    return Merged(kept, tuple(_rename(old, new) for old, new in renamed), lacking)


_FACTS = ("name", "sector")


def _filled(row: dict[str, Any], page: Sequence[dict[str, Any]], known: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A spell of the page, with what the stored ones of its symbol tell where it tells nothing."""
    alike = [one["member_from"] for one in known if one["member_to"] == row["member_to"] and one["member_from"]]
    begun, told = max(alike, default=None), row["member_from"]
    if told is None or (begun and begun > told and _is_taken_from_an_end(row, page)):
        told = begun
    facts = {name: row[name] or next((one[name] for one in known if one[name]), None) for name in _FACTS}
    return {**row, **facts, "member_from": told}


def _is_taken_from_an_end(row: Mapping[str, Any], page: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a spell begins the day after the one before it ends, as one does whose beginning is not told."""
    ends = row["member_from"] - timedelta(days=1)
    return any(one["symbol"] == row["symbol"] and one["member_to"] == ends for one in page)


def _renamed(
    page: Sequence[dict[str, Any]], known: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Stored spells the page tells nothing of, each with the one member that has taken its place."""
    told = {row["symbol"] for row in page}
    # Open, or closed on the day it was last read, as nobody ever told of its end.
    gone = [row for row in known if row["symbol"] not in told and row["member_to"] in (None, row["read_at"].date())]
    found = []
    for old in gone:
        heirs = [new for new in page if _takes_place(new, old) and not _were_both(old, new["symbol"], known)]
        if len(heirs) == 1:
            found.append((old, heirs[0]))
    return found


def _takes_place(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    same_day = new["member_from"] == old["member_from"] or new["member_from"] is None
    return bool(new["member_to"] is None and same_day and _same_security(new["name"], old["name"]))


def _same_security(one: str | None, other: str | None) -> bool:
    return bool(one and other and one.casefold() == other.casefold())


def _were_both(old: Mapping[str, Any], symbol: str, known: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the page has told of both at once: then they are two share classes."""
    return any(one["symbol"] == symbol and one["first_seen_at"] <= old["read_at"] for one in known)


def _rename(old: Mapping[str, Any], new: Mapping[str, Any]) -> Rename:
    day = old["member_to"] + timedelta(days=1) if old["member_to"] else new["read_at"].date()
    return Rename(old["symbol"], new["symbol"], day)


def _overlap(one: Spell, other: Spell) -> bool:
    begins = max(one.member_from or date.min, other.member_from or date.min)
    return begins <= min(one.member_to or date.max, other.member_to or date.max)


def current_symbols(members: pa.Table) -> list[str]:
    """The symbols that are members today, sorted."""
    return sorted(row["symbol"] for row in members.to_pylist() if row["member_to"] is None)


def expect_members(members: pa.Table) -> None:
    """Refuse a list that cannot be the S&P 500's.

    Raises:
        Malformed: It has too few or too many current members, or one twice.
    """
    current = current_symbols(members)
    if not FEWEST <= len(current) <= MOST:
        raise Malformed(
            f"Wikipedia's list has {len(current)} members instead of {FEWEST} to {MOST}. {_REFUSED}; look at "
            "the page before trusting it again."
        )
    if len(set(current)) != len(current):
        twice = sorted({symbol for symbol in current if current.count(symbol) > 1})
        raise Malformed(f"Wikipedia's list has {', '.join(twice)} twice. {_REFUSED}.")


def plan_spells(listed: Iterable[Listed], changes: Iterable[Change]) -> dict[str, list[Spell]]:
    """The spells of every symbol, oldest first."""
    added = {one.symbol: one.added for one in listed}
    by_symbol: dict[str, list[Change]] = {symbol: [] for symbol in added}
    # Of one day the departure comes first: a symbol may be handed from one company to another.
    for change in sorted(changes, key=lambda change: (change.effective, change.joins)):
        by_symbol.setdefault(change.symbol, []).append(change)
    spells = {symbol: _spells(history, symbol in added, added.get(symbol)) for symbol, history in by_symbol.items()}
    return {symbol: found for symbol, found in spells.items() if found}


def _spells(history: list[Change], is_member: bool, added: date | None) -> list[Spell]:
    ended: list[Spell] = []
    joined: date | None = None
    for change in history:
        if change.joins:
            # Added twice and never removed: the first company of that symbol was renamed.
            joined = change.effective
        elif joined or not ended:
            # A change is in force from its day on, so the day before was the last.
            ended.append(Spell(joined, change.effective - timedelta(days=1)))
            joined = None
    return [*ended, Spell(joined or _start(ended, added), None)] if is_member else ended


def _start(ended: list[Spell], added: date | None) -> date | None:
    """When a member joined that the changes do not say: as listed, but after its former spell."""
    if not ended or ended[-1].member_to is None:
        return added
    after = ended[-1].member_to + timedelta(days=1)
    return max(added, after) if added else after


def parse_page(html: str) -> tuple[dict[str, Listed], list[Change]]:
    """The page's list of members by symbol, and its changes, newest first.

    Raises:
        Malformed: A table is not there, or the list names a symbol twice.
    """
    import pandas as pd

    try:
        tables = pd.read_html(io.StringIO(_with_spans_bounded(html)), flavor="lxml", keep_default_na=False)
    except (*_UNREADABLE, SyntaxError, AssertionError):  # of pandas, of lxml
        raise Malformed(f"Wikipedia's page has no table. {_REFUSED}.") from None
    flat = [_flattened(table) for table in tables]
    listed = _listed(_table_with(flat, "symbol", "security"))
    try:
        changes = _changes(_table_with(flat, "added ticker", "removed ticker"))
    except Malformed:
        log.warning("Wikipedia's page has no table of changes: who left is known only from what was read before.")
        changes = []
    return listed, changes


def _with_spans_bounded(html: str) -> str:
    """The page, no cell of which stands for more than `_WIDEST` others: pandas makes each of them."""
    return _SPAN.sub(lambda found: f"{found[1]}={_bounded_span(found[2])}", storable(html))


def _bounded_span(text: str) -> str:
    digits = text.strip("'\"")
    is_one = digits.isascii() and digits.isdigit() and len(digits) < 4
    return f'"{min(max(int(digits), 1), _WIDEST) if is_one else 1}"'


def _flattened(table: pd.DataFrame) -> list[dict[str, str]]:
    """A table's rows by column name; `Added` over `Ticker` in a header of two levels is `added ticker`."""
    names = []
    for column in table.columns:
        levels = column if isinstance(column, tuple) else (column,)
        name = " ".join(dict.fromkeys(_text(level) for level in levels)).lower()
        names.append(_FORMERLY.get(name, name))
    return [dict(zip(names, map(_text, row), strict=True)) for row in table.itertuples(index=False, name=None)]


def _text(cell: Any) -> str:
    return " ".join(_FOOTNOTE.sub("", str(cell)).split())


def _table_with(tables: list[list[dict[str, str]]], *columns: str) -> list[dict[str, str]]:
    for rows in tables:
        if rows and set(columns) <= rows[0].keys():
            return rows
    raise Malformed(f"Wikipedia's page has no table with {', '.join(columns)}. {_REFUSED}.")


def _listed(rows: list[dict[str, str]]) -> dict[str, Listed]:
    listed: dict[str, Listed] = {}
    dated, sector = _dated_column(rows, "date added", "added"), _sector_column(rows[0])
    for row in rows:
        symbol = _symbol(row["symbol"])
        if symbol is None or symbol in listed:
            what = "has no readable symbol" if symbol is None else "comes twice"
            raise Malformed(f"Wikipedia's list: {row['symbol']!r} {what}. {_REFUSED}.")
        listed[symbol] = Listed(symbol, row["security"], row.get(sector, ""), _date(row.get(dated, "")))
    return listed


def _sector_column(row: Mapping[str, str]) -> str:
    """The name of the column of sectors, which are not sub-industries."""
    return next((name for name in row if "sector" in name and "sub" not in name), "gics sector")


def _dated_column(rows: Sequence[Mapping[str, str]], *words: str) -> str:
    """The name of the column of dates: by one of these words, the first ones first, or else by what it holds."""
    named = [name for word in words for name in rows[0] if word in name]
    for name in named:
        if any(_date(row[name]) for row in rows):
            return name
    for name in rows[0]:
        if sum(_date(row[name]) is not None for row in rows) > _MOSTLY * len(rows):
            return name
    return words[0]


def _changes(rows: list[dict[str, str]]) -> list[Change]:
    dated = _dated_column(rows, "date", "effective")
    found = []
    for row in rows:
        effective = _date(row.get(dated, ""))
        for column, joins in (("added", True), ("removed", False)):
            symbol = _symbol(row[f"{column} ticker"])
            if effective and symbol:
                found.append(Change(effective, symbol, row.get(f"{column} security", ""), joins))
    return found


def _symbol(text: str) -> str | None:
    try:
        return parse_symbol(text)
    except UserError:
        return None


def _date(text: str) -> date | None:
    try:
        if found := _ISO_DATE.search(text):
            day = date.fromisoformat(found[0])
        elif found := _LONG_DATE.search(text):
            day = datetime.strptime(found[0], "%B %d, %Y").date()  # noqa: DTZ007 a date, no instant
        else:
            return None
    except ValueError:
        return None
    return day if day.year in _YEARS else None
