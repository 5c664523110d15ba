"""Records of markets read by their declared shapes, beside the decoding of the same page: CPU alone.

Here: a page of 5,000 records of each venue that has lists of that size. Not here: whole commands (markets.py).

Run it: `python -m benchmarks.records`. Measured on a recorded record of Polymarket (90 fields, a page of 39 MB) when
the library was chosen: msgspec 51 ms, pydantic 179 ms, code by hand 126 ms with what it makes of the fields.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from benchmarks.table import Measured, print_table
from copilot_quant_pipeline.answers import read_json
from copilot_quant_pipeline.prediction_markets import kalshi_answers, manifold, polymarket_catalog

RECORDS, ROUNDS = 5_000, 7
NOW = datetime(2026, 3, 13, 21, tzinfo=UTC)


def page(record: dict[str, Any], name: str) -> bytes:
    """A page of such records, each with a name of its own."""
    return json.dumps([{**record, name: f"{record[name]}{number}"} for number in range(RECORDS)]).encode()


def measured(what: str, body: bytes, read: Callable[[list[Any]], object]) -> list[Measured]:
    """Milliseconds of CPU: decoding the page, and reading its records."""
    records = read_json(body)
    return [
        Measured(f"{what}, decoding", _milliseconds(lambda: read_json(body)), "ms"),
        Measured(f"{what}, reading", _milliseconds(lambda: read(records)), "ms"),
    ]


def _milliseconds(work: Callable[[], object]) -> float:
    took = []
    for _ in range(ROUNDS):
        gc.collect()
        started = time.process_time()
        work()
        took.append(time.process_time() - started)
    return 1_000 * statistics.median(took)


GAMMA = {
    "id": "1",
    "slug": "rain",
    "question": "Rain?",
    "conditionId": "0x1",
    "outcomes": '["Yes", "No"]',
    "outcomePrices": '["0.4", "0.6"]',
    "clobTokenIds": '["11", "12"]',
    "active": True,
    "closed": False,
    "volume": "7.5",
    "volumeNum": 7.5,
    "startDate": "2026-03-01T00:00:00Z",
    "endDate": "2026-04-01T00:00:00Z",
    "updatedAt": "2026-03-02T00:00:00Z",
    "tags": [{"slug": "weather"}],
    "events": [{"slug": "rain", "title": "Rain?"}],
}
KALSHI = {
    "ticker": "KX-1",
    "event_ticker": "KXE-1",
    "title": "Rain?",
    "status": "active",
    "volume_fp": "7.50",
    "open_time": "2026-03-01T00:00:00Z",
    "close_time": "2026-04-01T00:00:00Z",
}
MANIFOLD = {
    "id": "m1",
    "slug": "rain",
    "question": "Rain?",
    "outcomeType": "BINARY",
    "createdTime": 1772323200000,
    "isResolved": False,
    "volume": 241.5,
}


def main() -> None:
    """Measure everything and print the table."""
    rows = [
        *measured("Polymarket", page(GAMMA, "id"), polymarket_catalog.parse_markets),
        *measured("Kalshi", page(KALSHI, "ticker"), lambda some: [kalshi_answers.parse_market(one) for one in some]),
        *measured("Manifold", page(MANIFOLD, "id"), lambda some: [manifold.parse_market(one, NOW) for one in some]),
    ]
    print_table(f"{RECORDS:,} records", rows)


if __name__ == "__main__":
    main()
