"""Claims about `prediction_markets.daily`: what the hours of a UTC day make together."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from copilot_quant_pipeline.warehouse.fetch_result import CELLS
from copilot_quant_pipeline.warehouse.tables import PRICES
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

START = datetime(2024, 3, 5, tzinfo=UTC)
MARKET = "kalshi:A"
Row = dict[str, Any]


def hour(number: int, outcome: str, rng: random.Random) -> Row:
    """An hour of an outcome; in every third nobody trades, in every fifth nobody bids."""
    cents = [Decimal(rng.randint(1, 999)) / 1000 for _ in range(4)]
    at = START + timedelta(hours=number, seconds=rng.randint(1, 3599))
    traded = dict(zip(("low", "high"), (min(cents), max(cents)), strict=True), open=cents[0], price=cents[1])
    quoted = {"bid": cents[2], "ask": cents[3]}
    return {
        **dict.fromkeys(PRICES.names),
        "date": at.date(),
        "market": MARKET,
        "outcome": outcome,
        "stamped_at": at,
        "price_kind": "trade",
        **(traded if rng.random() > 1 / 3 else {}),
        **(quoted if rng.random() > 1 / 5 else {}),
        "volume": Decimal(rng.randint(0, 10**6)) / 100,
        "open_interest": Decimal(number),
        "source": "test",
        "first_seen_at": START,
    }


def expected(rows: list[Row]) -> Row:
    """The day of one outcome, told without a database."""
    known = {name: [row[name] for row in rows if row[name] is not None] for name in PRICES.names}

    def last(name: str) -> Any:
        return known[name][-1] if known[name] else None

    return {
        "open": next(iter(known["open"]), None),
        "high": max(known["high"], default=None),
        "low": min(known["low"], default=None),
        "close": last("price"),
        "bid": last("bid"),
        "ask": last("ask"),
        "volume": sum(known["volume"]),
        "open_interest": last("open_interest"),
        "settlement": None,
        "kind": "trade",
    }


@pytest.mark.parametrize("seed", range(3))
def test_a_day_is_what_its_hours_make_together(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 no secret
    rows = [hour(number, outcome, rng) for number in range(5 * 24) for outcome in ("Yes", "No")]
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    days = sorted({row["date"] for row in rows})
    cells = [{"date": day, "key": MARKET, "outcome": "settled", "fetched_at": START + timedelta(9)} for day in days]
    shuffled = rng.sample(rows, len(rows))
    asked = pa.Table.from_pylist(cells, CELLS)
    warehouse.settle(PRICES, asked, pa.Table.from_pylist(shuffled, PRICES.arrow), run_id="run")
    by_day = defaultdict[tuple[date, str], list[Row]](list)
    for row in rows:
        by_day[row["date"], row["outcome"]].append(row)
    told = warehouse.read("select * exclude (market) from prediction_markets.daily").to_pylist()
    assert {(row.pop("date"), row.pop("outcome")): row for row in told} == {
        key: expected(some) for key, some in by_day.items()
    }


def bare(number: int, price: str, **more: str) -> Row:
    """An hour that tells a price only."""
    nothing = dict.fromkeys(("open", "high", "low", "bid", "ask", "volume", "open_interest"))
    return hour(number, "Yes", random.Random(0)) | nothing | {"price": Decimal(price), **more}  # noqa: S311 no secret


def settled_day(folder: Path, rows: list[Row]) -> Row:
    """The only day that `rows` make."""
    warehouse = Warehouse(folder / "warehouse.duckdb")
    cell = {"date": START.date(), "key": MARKET, "outcome": "settled", "fetched_at": START + timedelta(9)}
    asked = pa.Table.from_pylist([cell], CELLS)
    warehouse.settle(PRICES, asked, pa.Table.from_pylist(rows, PRICES.arrow), run_id="run")
    (day,) = warehouse.read("select open, high, low, close, volume, kind from prediction_markets.daily").to_pylist()
    return day


def test_a_price_without_open_high_and_low_stands_for_all_of_them(tmp_path: Path) -> None:
    day = settled_day(tmp_path, [bare(number, price) for number, price in enumerate(["0.29", "0.0005", "0.58"])])
    assert list(day.values()) == [Decimal("0.29"), Decimal("0.58"), Decimal("0.0005"), Decimal("0.58"), None, "trade"]


def test_what_an_outcome_settled_at_is_no_price_of_its_last_day(tmp_path: Path) -> None:
    day = settled_day(tmp_path, [bare(0, "0.29"), bare(1, "0.31"), bare(2, "1", price_kind="settlement")])
    assert [day[name] for name in ("open", "high", "low", "close")] == [
        Decimal(price) for price in ("0.29", "0.31", "0.29", "0.31")
    ]
    assert day["kind"] == "settlement"


def test_a_day_of_a_settlement_alone_has_no_price_and_says_why(tmp_path: Path) -> None:
    day = settled_day(tmp_path, [bare(5, "1", price_kind="settlement")])
    assert (day["close"], day["kind"]) == (None, "settlement")


def test_a_price_was_known_when_its_interval_was_over_and_not_as_it_began(tmp_path: Path) -> None:
    said = ({"stamp": "begins", "service": "data-api"}, {"stamp": "ends"}, {"stamp": "instant"}, {})
    rows = [{**bare(number, "0.3"), "grain_seconds": 3600, **one} for number, one in enumerate(said)]
    settled_day(tmp_path, rows)
    told = Warehouse(tmp_path / "warehouse.duckdb").read(
        "select date_diff('minute', stamped_at, known_at) as later from prediction_markets.known_prices"
        " order by stamped_at"
    )
    assert told.column("later").to_pylist() == [60, 0, 0, None]
