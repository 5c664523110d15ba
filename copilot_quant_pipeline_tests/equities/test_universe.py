"""The S&P 500 as Wikipedia's page tells it, real and broken."""

from __future__ import annotations

import csv
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenacity import wait_none

from copilot_quant_pipeline.equities.symbols import parse_symbol
from copilot_quant_pipeline.equities.universe import (
    FEWEST,
    MOST,
    Change,
    Listed,
    Spell,
    current_symbols,
    expect_members,
    fetch_members,
    keep_known_spells,
    merge_members,
    parse_members,
    parse_page,
    plan_spells,
)
from copilot_quant_pipeline.errors import Malformed, Unavailable, VendorError
from copilot_quant_pipeline.retry_policy import RetryPolicy
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.warehouse.tables import MEMBERS
from copilot_quant_pipeline_tests.conftest import NOW


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "wait", wait_none())


@pytest.fixture(scope="module")
def page(recorded: Path) -> str:
    return (recorded / "sp500" / "wikipedia_List_of_SP500_companies.html").read_text()


@pytest.fixture(scope="module")
def members(page: str) -> pa.Table:
    return parse_members(page, now=datetime(2026, 5, 10, tzinfo=UTC))


def on(members: pa.Table, day: date) -> set[str]:
    """Who was in the index on `day`."""
    return {
        row["symbol"]
        for row in members.to_pylist()
        if (row["member_from"] or date.min) <= day <= (row["member_to"] or date.max)
    }


def elsewhere(recorded: Path, day: date) -> set[str]:
    """Who was in the index on `day` in the other record, which ends 2025-11-11."""
    with (recorded / "sp500" / "fja05680_sp500_ticker_start_end.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        parse_symbol(row["ticker"])
        for row in rows
        if date.fromisoformat(row["start_date"]) <= day < date.fromisoformat(row["end_date"] or "9999-12-31")
    }


def test_the_recorded_page_has_503_members_and_passes_the_cross_check(members: pa.Table) -> None:
    expect_members(members)
    MEMBERS.validated(members)
    assert len(current_symbols(members)) == 503
    assert {"AAPL", "BRK.B", "BF.B", "GOOG", "GOOGL"} <= set(current_symbols(members))


def test_a_member_has_its_name_sector_and_first_day(members: pa.Table) -> None:
    (veeva,) = (row for row in members.to_pylist() if row["symbol"] == "VEEV")
    assert (veeva["name"], veeva["sector"]) == ("Veeva Systems", "Health Care")
    assert (veeva["member_from"], veeva["member_to"]) == (date(2026, 5, 7), None)


def test_who_left_has_its_last_day_and_its_name(members: pa.Table) -> None:
    (coterra,) = (row for row in members.to_pylist() if row["symbol"] == "CTRA")
    assert (coterra["name"], coterra["sector"], coterra["member_to"]) == (
        "Coterra Energy",
        None,
        date(2026, 5, 6),
    )


def test_who_came_back_has_two_spells(members: pa.Table) -> None:
    spells = [(row["member_from"], row["member_to"]) for row in members.to_pylist() if row["symbol"] == "DELL"]
    assert spells == [(None, date(2013, 10, 28)), (date(2024, 9, 23), None)]


def test_todays_list_differs_from_the_one_of_august_by_seven_changes(members: pa.Table, recorded: Path) -> None:
    with (recorded / "sp500" / "datasets_constituents_2026-08.csv").open() as file:
        august = {row["Symbol"] for row in csv.DictReader(file)}
    ours = set(current_symbols(members))
    # Three months lie between: six companies replaced and one share renamed on either side.
    assert ours - august == {"BK", "CAG", "CPB", "EA", "EPAM", "POOL", "SATS"}
    assert august - ours == {"BNY", "ECHO", "FDXF", "FERG", "FLEX", "HONA", "MRVL"}


@pytest.mark.parametrize(("year", "renamed"), [(2020, 20), (2022, 13), (2024, 6), (2025, 3)])
def test_a_past_day_has_the_members_of_another_record_but_for_renamed_symbols(
    members: pa.Table, recorded: Path, year: int, renamed: int
) -> None:
    day = date(year, 3, 1)
    ours, theirs = on(members, day), elsewhere(recorded, day)
    # The other record has the symbol of the day (FB, FLT, MMC), Wikipedia's list today's (META, CPAY, MRSH).
    assert len(theirs - ours) == renamed
    assert 0 <= len(theirs - ours) - len(ours - theirs) <= 1


def test_changes_since_2019_agree_with_another_record_but_for_dates_and_renames(page: str, recorded: Path) -> None:
    with (recorded / "sp500" / "fja05680_sp500_changes_since_2019.csv").open() as file:
        rows = list(csv.DictReader(file))
    theirs = {
        (date.fromisoformat(row["date"]), symbol, column == "add")
        for row in rows
        for column in ("add", "remove")
        for symbol in row[column].split(",")
        if symbol
    }
    first, last = min(day for day, _, _ in theirs), max(day for day, _, _ in theirs)
    _, changes = parse_page(page)
    ours = {(c.effective, c.symbol, c.joins) for c in changes if first <= c.effective <= last}
    assert (len(ours), len(theirs), len(ours & theirs)) == (244, 294, 210)
    # The 34 that are not the same to the day are there under another day, but for two spells of some days
    # and the companies that kept or took over a symbol (Fox after its sale, Ingersoll Rand's new bearer).
    undated = {(symbol, joins) for _, symbol, joins in ours} - {(symbol, joins) for _, symbol, joins in theirs}
    assert {symbol for symbol, _ in undated} == {"BMS", "FOX", "FOXA", "IR", "MBC"}


TABLE = '<table class="wikitable">{rows}</table>'
HEAD = """<tr><th>Symbol<sup>[1]</sup></th><th>Security</th><th>GICS Sector</th><th>Date added</th>
<th>New</th></tr>"""
CHANGES = """<tr><th rowspan="2">Date</th><th colspan="2">Added</th><th colspan="2">Removed</th>
<th rowspan="2">Reason</th></tr>
<tr><th>Ticker</th><th>Security</th><th>Ticker</th><th>Security</th></tr>
<tr><td rowspan="2">May 7, 2026[6][7]</td><td>NEW</td><td>New Inc.</td><td>OLD[8]</td><td>Old Inc.</td>
<td>x</td></tr>
<tr><td></td><td></td><td>GONE</td><td>Gone Inc.</td><td>y</td></tr>
<tr><td>some day in 1976</td><td>ODD</td><td>Odd</td><td>—</td><td></td><td></td></tr>"""


def made(*listed: tuple[str, str], head: str = HEAD, changes: str = CHANGES) -> str:
    """A page with these (symbol, date added) rows, after a table that is none of the two."""
    rows = "".join(
        f"<tr><td>{symbol}</td><td>{symbol} Inc.</td><td>Energy</td><td>{day}</td><td>?</td></tr>"
        for symbol, day in listed
    )
    return "".join(TABLE.format(rows=content) for content in ("<tr><td>x</td></tr>", head + rows, changes))


def spells(html: str) -> dict[str, tuple[date | None, date | None]]:
    rows = parse_members(html, now=NOW).to_pylist()
    return {row["symbol"]: (row["member_from"], row["member_to"]) for row in rows}


def test_footnotes_odd_dates_extra_columns_and_spanned_cells_do_not_disturb() -> None:
    html = made(("NEW[3]", "2026-05-07"), ("BRK.B", "1983-11-30 (1957-03-04)"), ("NA", "unknown"))
    assert spells(html) == {
        "BRK.B": (date(1983, 11, 30), None),
        "GONE": (None, date(2026, 5, 6)),
        "NA": (None, None),
        "NEW": (date(2026, 5, 7), None),
        "OLD": (None, date(2026, 5, 6)),
    }


@pytest.mark.parametrize(
    "html",
    [
        "",
        "<html><body>Our servers are having a problem</body></html>",
        made(("AAPL", ""), head=HEAD.replace("Symbol", "Company")),
        made(("AAPL", ""), ("AAPL", "")),
        made(("not a symbol", "")),
    ],
)
def test_a_page_without_its_tables_or_with_nonsense_is_refused_loudly(html: str) -> None:
    with pytest.raises(Malformed, match="the last good list stays"):
        parse_members(html, now=NOW)


def test_a_page_without_changes_still_gives_todays_members(caplog: pytest.LogCaptureFixture) -> None:
    members = parse_members(made(("AAPL", "1982-11-30"), changes=""), now=NOW)
    assert current_symbols(members) == ["AAPL"]
    assert "no table of changes" in caplog.text


def rows(*spells: tuple[str, date | None, date | None]) -> pa.Table:
    """Membership spells, read on 10 May 2026."""
    return pa.Table.from_pylist(
        [
            {
                "symbol": symbol,
                "name": None,
                "sector": None,
                "member_from": first,
                "member_to": last,
                "source": "wikipedia",
                "read_at": datetime(2026, 5, 10, tzinfo=UTC),
                "first_seen_at": datetime(2026, 5, 10, tzinfo=UTC),
            }
            for symbol, first, last in spells
        ],
        schema=MEMBERS.arrow,
    )


def spells_of(members: pa.Table) -> set[tuple[str, date | None, date | None]]:
    return {(row["symbol"], row["member_from"], row["member_to"]) for row in members.to_pylist()}


def test_reading_the_same_page_again_changes_nothing(members: pa.Table) -> None:
    assert spells_of(keep_known_spells(members, members)) == spells_of(members)


def test_a_page_that_lost_its_changes_loses_no_former_member(page: str, members: pa.Table) -> None:
    bare = parse_members(page.replace("Removed", "Gone"), now=datetime(2026, 5, 17, tzinfo=UTC))
    assert bare.num_rows < members.num_rows
    known = keep_known_spells(bare, members)
    lost = {spell for spell in spells_of(members) if spell[2]} - spells_of(known)
    # Of T the list alone says one unbroken spell since 1983, which that of the first AT&T lies in.
    assert lost == {("T", None, date(2005, 11, 17))}
    assert current_symbols(known) == current_symbols(members)


def test_a_member_that_is_gone_without_a_word_was_one_until_it_was_last_read() -> None:
    known = keep_known_spells(rows(("A", None, None)), rows(("A", None, None), ("B", date(2020, 1, 2), None)))
    assert spells_of(known) == {("A", None, None), ("B", date(2020, 1, 2), date(2026, 5, 10))}


def test_what_the_page_says_of_a_spell_stands_over_what_was_stored() -> None:
    stored = rows(("A", date(2001, 1, 2), date(2003, 3, 3)), ("A", date(2020, 1, 2), None))
    page = rows(("A", date(2020, 1, 3), date(2026, 5, 1)))
    assert spells_of(keep_known_spells(page, stored)) == {
        ("A", date(2001, 1, 2), date(2003, 3, 3)),
        ("A", date(2020, 1, 3), date(2026, 5, 1)),
    }


def read_at(html: str, day: date) -> pa.Table:
    return parse_members(html, now=datetime(day.year, day.month, day.day, tzinfo=UTC))


LATER = date(2026, 6, 10)


@pytest.mark.parametrize(
    ("was", "becomes", "lacking"),
    [
        ("Date added", "Date first added", None),
        ("Date added", "Joined the index[9]", None),
        ("Date added", "Added", None),
        ("GICS Sector", "Sector", None),
        ("Security", "Company", None),
    ],
)
def test_a_column_under_another_name_is_read_as_before(was: str, becomes: str, lacking: str | None) -> None:
    html = made(*((symbol, f"2020-01-{day:02}") for day, symbol in enumerate(("A", "B", "C", "D"), 2)))
    page = read_at(html.replace(was, becomes, 1), LATER)
    assert spells_of(page) == spells_of(read_at(html, LATER))
    assert [row["sector"] for row in page.to_pylist() if row["member_to"] is None] == ["Energy"] * 4


@pytest.mark.parametrize("column", ["Date added", "Sector"])
def test_a_page_that_lost_a_column_wipes_nothing_and_is_told(page: str, members: pa.Table, column: str) -> None:
    # Cells stay, so that what they hold is of no column that is known.
    bare = page.replace("Sector</th>", "Thing</th>", 1) if column == "Sector" else page.replace(column, "Thing", 1)
    assert bare != page
    if column == "Date added":
        before, listed, after = bare.partition('id="constituents"')
        table, end, rest = after.partition("</table>")
        bare = before + listed + re.sub(r">\d{4}-\d{2}-\d{2}", ">?", table) + end + rest
    merged = merge_members(read_at(bare, LATER), members)
    assert spells_of(merged.members) == spells_of(members)
    sectors = {row["symbol"]: row["sector"] for row in members.to_pylist() if row["member_to"] is None}
    kept = {row["symbol"]: row["sector"] for row in merged.members.to_pylist() if row["member_to"] is None}
    assert kept == sectors
    assert merged.lost is not None
    assert column.lower() in merged.lost
    assert merge_members(members, members).lost is None


def as_stored(html: str, day: date) -> pa.Table:
    return merge_members(read_at(html, day), MEMBERS.arrow.empty_table()).members


FB = made(("FB", "2013-12-23"), ("KO", "1957-03-04"), changes="").replace("FB Inc.", "Meta Platforms")
RENAMED = FB.replace(">FB<", ">META<")


def test_a_renamed_symbol_takes_over_the_spell_of_the_old_one() -> None:
    merged = merge_members(read_at(RENAMED, LATER), as_stored(FB, date(2026, 5, 10)))
    assert spells_of(merged.members) == {("KO", date(1957, 3, 4), None), ("META", date(2013, 12, 23), None)}
    assert [(one.old, one.new, one.day) for one in merged.renames] == [("FB", "META", LATER)]


def test_a_rename_on_a_page_that_lost_its_dates_keeps_them() -> None:
    page = RENAMED.replace("2013-12-23", "").replace("1957-03-04", "")
    merged = merge_members(read_at(page, LATER), as_stored(FB, date(2026, 5, 10)))
    assert spells_of(merged.members) == {("KO", date(1957, 3, 4), None), ("META", date(2013, 12, 23), None)}


def test_two_members_that_an_earlier_version_made_of_a_rename_become_one() -> None:
    stored = as_stored(FB, date(2026, 5, 10))
    before = keep_known_spells(read_at(RENAMED, date(2026, 5, 11)), stored)
    assert before.num_rows == 3
    merged = merge_members(read_at(RENAMED, LATER), before)
    assert spells_of(merged.members) == {("KO", date(1957, 3, 4), None), ("META", date(2013, 12, 23), None)}
    assert [(one.old, one.day) for one in merged.renames] == [("FB", date(2026, 5, 11))]


@pytest.mark.parametrize(
    "page",
    [
        RENAMED.replace("Meta Platforms", "Something else"),
        RENAMED.replace("2013-12-23", "2022-06-09"),
        FB.replace("<td>FB</td>", "<td>FB</td>").replace(
            "</table>", "<tr><td>META</td><td>Meta Platforms</td><td>x</td><td>2013-12-23</td><td>?</td></tr></table>"
        ),
    ],
)
def test_another_company_in_its_place_is_no_rename(page: str) -> None:
    merged = merge_members(read_at(page, LATER), as_stored(FB, date(2026, 5, 10)))
    assert merged.renames == ()
    assert "FB" in {symbol for symbol, _, _ in spells_of(merged.members)}


def test_one_of_two_share_classes_that_leaves_is_no_rename() -> None:
    both = made(("A", "2013-12-23"), ("B", "2013-12-23"), changes="").replace("A Inc.", "X").replace("B Inc.", "X")
    one = made(("B", "2013-12-23"), changes="").replace("B Inc.", "X")
    assert merge_members(read_at(one, LATER), as_stored(both, date(2026, 5, 10))).renames == ()


@pytest.mark.parametrize("count", [0, 1, FEWEST - 1, MOST + 1])
def test_a_list_that_cannot_be_the_index_is_refused_loudly(count: int) -> None:
    rows = parse_members(made(*((f"S{number}", "2020-01-02") for number in range(max(count, 1)))), now=NOW)
    current = rows.filter(pa.compute.is_null(rows.column("member_to"))).slice(0, count)
    with pytest.raises(Malformed, match="IT IS REFUSED, the last good list stays"):
        expect_members(current)


def test_the_page_is_fetched_by_a_client_that_says_who_it_is() -> None:
    with Sandbox(now=NOW) as sandbox:
        members = fetch_members(sandbox.url, now=NOW, source="wikipedia (sandbox)")
    assert FEWEST <= len(current_symbols(members)) <= MOST
    assert set(members.column("source").to_pylist()) == {"wikipedia (sandbox)"}
    MEMBERS.validated(members)


@pytest.mark.parametrize(("fault", "error"), [("universe_short", Malformed), ("wikipedia_down", Unavailable)])
def test_a_broken_wikipedia_raises_and_gives_no_list(fault: str, error: type[VendorError]) -> None:
    with Sandbox(now=NOW) as sandbox:
        sandbox.fault(fault)
        with pytest.raises(error):
            fetch_members(sandbox.url, now=NOW)


def test_a_wikipedia_that_cannot_be_reached_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        fetch_members("http://wikipedia.invalid", now=NOW)


D1, D2, D3 = date(2010, 6, 1), date(2015, 6, 1), date(2020, 6, 1)


def test_a_renamed_symbols_spell_is_the_new_symbols() -> None:
    found = plan_spells([Listed("META", "Meta", "Tech", D1)], [Change(D1, "FB", "Facebook", joins=True)])
    assert found == {"META": [Spell(D1, None)]}


def test_a_symbol_handed_to_another_company_begins_anew() -> None:
    changes = [
        Change(D1, "Q", "Qwest", joins=False),
        Change(D2, "Q", "Quintiles", joins=True),
        Change(D3, "Q", "Qnity", joins=True),
    ]
    assert plan_spells([Listed("Q", "Qnity", "Materials", D3)], changes) == {
        "Q": [Spell(None, date(2010, 5, 31)), Spell(D3, None)]
    }


def test_a_removal_and_an_addition_of_one_day_are_two_spells() -> None:
    changes = [Change(D2, "T", "New AT&T", joins=True), Change(D2, "T", "Old AT&T", joins=False)]
    assert plan_spells([Listed("T", "AT&T", "Telecom", date(1983, 11, 30))], changes) == {
        "T": [Spell(None, date(2015, 5, 31)), Spell(D2, None)]
    }


symbols = st.sampled_from(["A", "B", "C"])
days = st.dates(date(2000, 1, 1), date(2000, 3, 1))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.dictionaries(symbols, st.one_of(st.none(), days)),
    st.lists(st.builds(Change, days, symbols, st.just("name"), st.booleans()), max_size=12),
)
def test_spells_never_overlap_and_only_the_listed_are_members(
    listed: dict[str, date | None], changes: list[Change]
) -> None:
    found = plan_spells([Listed(symbol, "name", "sector", added) for symbol, added in listed.items()], changes)
    assert {symbol for symbol, spells in found.items() if spells[-1].member_to is None} == set(listed)
    for spells in found.values():
        for earlier, later in zip(spells, spells[1:], strict=False):
            assert earlier.member_to is not None
            assert later.member_from is not None
            assert earlier.member_to < later.member_from
        assert len({spell.member_from for spell in spells}) == len(spells)
