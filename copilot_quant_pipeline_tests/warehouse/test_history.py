from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copilot_quant_pipeline.warehouse.catalog import record_gone, record_markets
from copilot_quant_pipeline.warehouse.fetch_result import WINDOWS, SeenAgain
from copilot_quant_pipeline.warehouse.quarantine import ProposalChoice, accept
from copilot_quant_pipeline.warehouse.reading import read_as_of, read_history_begins
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS, COVERAGE, MARKETS, MEMBERS, PRICES, Table
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.world import FETCHED, MON, TUE, bar, bars, cell, cells, settle_bars

VERSION_2 = Path(__file__).parent / "version_2.sql"
HOUR = timedelta(hours=1)
LATER = FETCHED + timedelta(days=3)
MARKET = "kalshi:A"


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb")


def at(number: int) -> datetime:
    return FETCHED + number * HOUR


# A plain log of what was written: at each step, what a table holds by key. 150 waits for a person beside 100 and 101.
closes = st.sampled_from([100.0, 101.0, 150.0])
places = st.sampled_from([(day, key) for day in (MON, TUE) for key in "AB"])
steps = st.lists(
    st.tuples(st.dictionaries(places, closes), st.dictionaries(places, closes), st.booleans()), min_size=1, max_size=4
)


@settings(max_examples=15, deadline=None)
@given(steps)
def test_bars_as_of_any_instant_are_what_was_stored_then(sequence: list[Any]) -> None:
    with TemporaryDirectory() as home:
        warehouse = Warehouse(Path(home) / "warehouse.duckdb")
        log: list[tuple[datetime, set[tuple[Any, ...]]]] = []
        for number, (asked, beside, accepts) in enumerate(sequence):
            _settle_at(warehouse, at(2 * number), asked, {place: beside[place] for place in beside.keys() - asked})
            log.append((at(2 * number), _held(warehouse, BARS)))
            if accepts:
                accept(warehouse, ProposalChoice(), now=at(2 * number + 1))
                log.append((at(2 * number + 1), _held(warehouse, BARS)))
        _expect_log(warehouse, BARS, log)


def _settle_at(warehouse: Warehouse, now: datetime, asked: dict[Any, float], beside: dict[Any, float]) -> None:
    stamps = {"first_seen_at": now, "confirmed_at": now}
    seen = SeenAgain(
        bars(*(bar(*place, close, **stamps) for place, close in beside.items())),
        pa.Table.from_pylist(
            [{"key": key, "start": MON, "end": TUE, "fetched_at": now} for key in "AB"], schema=WINDOWS
        ),
    )
    rows = bars(*(bar(*place, close, **stamps) for place, close in asked.items()))
    warehouse.settle(
        BARS, cells(*(cell(*place, fetched_at=now) for place in asked)), rows, run_id=str(now), seen_again=seen
    )


points = st.dictionaries(st.sampled_from([(outcome, hour) for outcome in ("Yes", "No") for hour in range(3)]), closes)


@settings(max_examples=10, deadline=None)
@given(st.lists(points.filter(bool), min_size=1, max_size=4))
def test_points_that_come_and_go_and_change_are_known_as_of_any_instant(sequence: list[dict[Any, float]]) -> None:
    with TemporaryDirectory() as home:
        warehouse = Warehouse(Path(home) / "warehouse.duckdb")
        log = []
        for number, told in enumerate(sequence):
            row = dict.fromkeys(PRICES.names) | {"date": MON, "market": MARKET, "price_kind": "trade", "source": "x"}
            rows = [
                {
                    **row,
                    "outcome": outcome,
                    "stamped_at": datetime(2024, 3, 25, hour, tzinfo=UTC),
                    "price": Decimal(int(close)) / 1000,
                    "first_seen_at": at(number),
                }
                for (outcome, hour), close in told.items()
            ]
            asked = cells(cell(MON, MARKET, fetched_at=at(number)))
            warehouse.settle(PRICES, asked, pa.Table.from_pylist(rows, PRICES.arrow), run_id=str(number))
            log.append((at(number), _held(warehouse, PRICES)))
        _expect_log(warehouse, PRICES, log)


members = st.dictionaries(st.sampled_from("ABC"), st.sampled_from(["IT", "Energy", None]), min_size=1)


@settings(max_examples=10, deadline=None)
@given(st.lists(members, min_size=1, max_size=4))
def test_members_as_of_any_instant_are_those_of_the_list_read_before(sequence: list[dict[str, str | None]]) -> None:
    with TemporaryDirectory() as home:
        warehouse = Warehouse(Path(home) / "warehouse.duckdb")
        log = []
        for number, listed in enumerate(sequence):
            warehouse.replace(MEMBERS, _members(listed, at(number)))
            log.append((at(number), _held(warehouse, MEMBERS)))
            stored = warehouse.read("select distinct read_at from equities.members").to_pylist()
            assert [row["read_at"] for row in stored] == [at(number)]
        _expect_log(warehouse, MEMBERS, log)


def _members(listed: dict[str, str | None], now: datetime) -> pa.Table:
    row = {"name": None, "member_from": None, "member_to": None, "source": "list", "read_at": now, "first_seen_at": now}
    return pa.Table.from_pylist([{**row, "symbol": s, "sector": sector} for s, sector in listed.items()], MEMBERS.arrow)


descriptions = st.one_of(
    st.none(), st.tuples(st.sampled_from(["open", "closed", "resolved"]), st.sampled_from([MON, TUE]))
)


@settings(max_examples=10, deadline=None)
@given(st.lists(descriptions, min_size=1, max_size=5))
def test_markets_as_of_any_instant_are_as_they_were_described_then(sequence: list[Any]) -> None:
    with TemporaryDirectory() as home:
        warehouse = Warehouse(Path(home) / "warehouse.duckdb")
        log = []
        for number, told in enumerate(sequence):
            if told is None:
                record_gone(warehouse, [MARKET], at(number))
            else:
                record_markets(warehouse, _market(at(number), *told))
            log.append((at(number), _held(warehouse, MARKETS)))
        _expect_log(warehouse, MARKETS, log)
        keys = warehouse.read("select market, seen_at from prediction_markets.market_changes").to_pylist()
        assert len({tuple(row.values()) for row in keys}) == len(keys)


def _market(now: datetime, status: str = "open", closes: Any = MON) -> pa.Table:
    plain = {field.name: "" for field in MARKETS.arrow if not field.nullable and field.type == pa.string()}
    stamps = dict.fromkeys(("listed_at", "first_seen_at", "last_seen_at"), now)
    row = {**plain, "market": MARKET, "venue": "kalshi", "outcomes": "[]", "facts": "{}", "status": status, **stamps}
    return pa.Table.from_pylist([{**row, "closes_at": datetime(2024, 3, closes.day, tzinfo=UTC)}], MARKETS.arrow)


def _held(warehouse: Warehouse, table: Table) -> set[tuple[Any, ...]]:
    return set(_values(table, warehouse.read(f"from {table.qualified}")))


def _values(table: Table, rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    names = [*table.key, *(column.name for column in table.values), "first_seen_at"]
    return (tuple(row[name] for name in names) for row in rows.to_pylist())


def _expect_log(warehouse: Warehouse, table: Table, log: list[tuple[datetime, set[tuple[Any, ...]]]]) -> None:
    """At each instant of the log, and just before it, the table is what was written last."""
    before: set[tuple[Any, ...]] = set()
    for now, held in log:
        for instant, expected in ((now - timedelta(microseconds=1), before), (now, held)):
            known = list(_values(table, read_as_of(warehouse, table, instant)))
            assert len(set(known)) == len(known)
            assert set(known) == expected
        before = held


def test_a_reading_that_confirms_a_value_changes_neither_when_it_was_first_seen_nor_its_history(
    warehouse: Warehouse,
) -> None:
    settle_bars(warehouse, bar(MON, "A", confirmed_at=None))
    for now in (LATER, LATER + HOUR):
        _settle_at(warehouse, now, {(MON, "A"): 100.0}, {})
    (row,) = warehouse.read("from equities.bars").to_pylist()
    assert (row["first_seen_at"], row["confirmed_at"]) == (FETCHED, LATER)
    assert warehouse.read("from equities.bars_history").num_rows == 0
    (then,) = read_as_of(warehouse, BARS, LATER - HOUR).to_pylist()
    assert (then["close"], then["confirmed_at"]) == (100.0, None)


def test_a_value_that_returns_begins_anew(warehouse: Warehouse) -> None:
    for number, close in enumerate((100.0, 101.0, 100.0)):
        _settle_at(warehouse, at(number), {(MON, "A"): close}, {})
    (row,) = warehouse.read("from equities.bars").to_pylist()
    assert (row["close"], row["first_seen_at"]) == (100.0, at(2))
    kept = warehouse.read(
        "select close, first_seen_at, known_until from equities.bars_history order by all"
    ).to_pylist()
    assert [tuple(old.values()) for old in kept] == [(100.0, at(0), at(1)), (101.0, at(1), at(2))]


def test_a_note_changes_in_place(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"))
    settle_bars(warehouse, bar(MON, "A", source="elsewhere", quality="ohlc_inconsistent", first_seen_at=LATER))
    (row,) = warehouse.read("from equities.bars").to_pylist()
    assert (row["source"], row["quality"], row["first_seen_at"]) == ("elsewhere", "ohlc_inconsistent", FETCHED)
    assert warehouse.read("from equities.bars_history").num_rows == 0


def test_what_a_person_accepts_is_known_since_it_was_accepted(warehouse: Warehouse) -> None:
    _settle_at(warehouse, at(0), {(MON, "A"): 100.0}, {})
    _settle_at(warehouse, at(1), {(MON, "A"): 150.0}, {})
    accept(warehouse, ProposalChoice(), now=at(2))
    known = [read_as_of(warehouse, BARS, at(number)).to_pylist()[0]["close"] for number in range(3)]
    assert known == [100.0, 100.0, 150.0]


def test_a_dividend_that_is_told_otherwise_is_known_as_of_both_instants(warehouse: Warehouse) -> None:
    for number, dividend in enumerate((0.5, 0.51)):
        action = {"symbol": "A", "date": MON, "dividend": dividend, "split_ratio": 1.0, "source": "yahoo"}
        rows = bars(bar(MON, "A", dividend=dividend, first_seen_at=at(number)))
        told = pa.Table.from_pylist([{**action, "first_seen_at": at(number)}], ACTIONS.arrow)
        asked = cells(cell(MON, "A", fetched_at=at(number)))
        warehouse.settle(BARS, asked, rows, run_id=str(number), actions=told)
    accept(warehouse, ProposalChoice(), now=at(1))
    known = [read_as_of(warehouse, ACTIONS, at(number)).to_pylist()[0]["dividend"] for number in range(2)]
    assert known == [0.5, 0.51]


def test_only_tables_of_values_are_read_as_of_an_instant(warehouse: Warehouse) -> None:
    with pytest.raises(ValueError, match="ops.coverage keeps no history"):
        read_as_of(warehouse, COVERAGE, LATER)


def told_of_points(warehouse: Warehouse) -> dict[str, tuple[str | None, int | None, str | None]]:
    rows = warehouse.read("select market, service, grain_seconds, stamp from prediction_markets.prices").to_pylist()
    return {row["market"]: (row["service"], row["grain_seconds"], row["stamp"]) for row in rows}


def test_a_file_of_the_version_before_keeps_its_values_and_says_since_when_history_is_known(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(VERSION_2.read_text())
        connection.execute(_ROWS_OF_VERSION_2)
    warehouse = Warehouse(path)
    rows = warehouse.read(
        "select symbol, close, confirmed_at, first_seen_at from equities.bars order by all"
    ).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("A", 100.0, FETCHED, FETCHED), ("B", 20.0, None, FETCHED)]
    (point,) = warehouse.read("from prediction_markets.prices where market = 'kalshi:A'").to_pylist()
    assert (point["stamped_at"], point["service"], point["first_seen_at"]) == (FETCHED, None, FETCHED)
    assert told_of_points(warehouse) == {
        "kalshi:A": (None, 3600, "ends"),
        "manifold:A": ("bets", 3600, "instant"),
        "polymarket:sample": ("clob", None, "instant"),
        "polymarket:on-the-hour": (None, None, None),
        "polymarket:settled": ("data-api", 0, "instant"),
    }
    (market,) = warehouse.read("from prediction_markets.markets").to_pylist()
    assert (market["listed_at"], market["first_seen_at"]) == (FETCHED, LATER)
    (member,) = warehouse.read("from equities.members").to_pylist()
    assert (member["read_at"], member["first_seen_at"]) == (FETCHED, FETCHED)
    begins = read_history_begins(warehouse)
    assert begins is not None
    assert begins > datetime(2026, 11, 1, tzinfo=UTC)
    assert accept(warehouse, ProposalChoice(), now=LATER) == 1
    (bar_of_b,) = read_as_of(warehouse, BARS, LATER).filter(pa.compute.field("symbol") == "B").to_pylist()
    assert (bar_of_b["close"], bar_of_b["confirmed_at"]) == (30.0, FETCHED)


_ROWS_OF_VERSION_2 = """
    insert into equities.bars values
        ('2024-03-25', 'A', 100, 100, 100, 100, 5, 0, 1, true, 'ok', 'yahoo', '2024-03-28 22:00:00+00'),
        ('2024-03-25', 'B', 20, 20, 20, 20, 5, 0, 1, false, 'ok', 'yahoo', '2024-03-28 22:00:00+00');
    insert into ops.quarantine by name
    select 'equities.bars' as "table", date, symbol as key, to_json(b)::varchar as old,
        to_json(struct_update(b, open := 30.0, high := 30.0, low := 30.0, close := 30.0, is_final := true))::varchar
        as new, fetched_at as seen_at, 'run' as run_id, 'waiting' as state, null as decided_at
    from equities.bars b where symbol = 'B';
    insert into equities.members values ('A', 'Alpha', 'IT', null, null, 'list', '2024-03-28 22:00:00+00');
    insert into prediction_markets.prices by name
    select date '2024-03-25' as date, market, 'Yes' as outcome, 0.5 as price, price_kind, "at"::timestamptz as "at",
        'test' as source, timestamptz '2024-03-28 22:00:00+00' as fetched_at
    from (values
        ('kalshi:A', 'trade', '2024-03-28 22:00:00+00'),
        ('manifold:A', 'trade', '2024-03-28 22:00:07+00'),
        ('polymarket:sample', 'quote', '2024-03-28 22:00:41+00'),
        ('polymarket:on-the-hour', 'quote', '2024-03-28 22:00:00+00'),
        ('polymarket:settled', 'settlement', '2024-03-28 22:20:00+00')
    ) points(market, price_kind, "at");
    insert into prediction_markets.markets by name
    select 'kalshi:A' as market, 'kalshi' as venue, 'A' as id, 'A' as slug, 'A?' as title, '[]' as outcomes,
        'open' as status, '{}' as facts, timestamptz '2024-03-28 22:00:00+00' as first_seen_at,
        timestamptz '2024-03-31 22:00:00+00' as last_seen_at, 'venues' as source;
"""
