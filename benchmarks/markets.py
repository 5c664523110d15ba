"""Prediction markets at size: whole commands against sandbox venues in a process of their own, and what they asked.

Here: 100 markets x 60 days at venues that take 50 ms an answer, and 1,000 markets x 365 days at venues that take none;
the busiest seconds of each venue, as it saw them, against its published rate limit. Not here: whether prices are right
(tests).

Run it: `python -m benchmarks.markets` (some minutes; nothing else should run).
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from benchmarks.grid import NOW, Venue, open_venue, run_command
from benchmarks.table import Measured, print_table

# What the venues publish: the routes of a limit, how many requests it allows, and in how many seconds. Kalshi's is that
# of whoever has no key: 200 tokens a second, 10 a call.
PUBLISHED = {
    "Polymarket, /markets": (300, 10, ("/markets",)),
    "Polymarket, /events": (500, 10, ("/events",)),
    "Polymarket, /markets and /events": (900, 10, ("/markets", "/events")),
    "Polymarket, price history": (1_000, 10, ("/prices-history", "/batch-prices-history")),
    "Polymarket, data-api": (1_000, 10, ("/v2/",)),
    "Kalshi": (20, 1, ("/trade-api/",)),
}


def measure_pace(venue: Venue) -> list[Measured]:
    """The most each venue was asked within the span of its published limit; of what was asked at all."""
    rows = [
        Measured(f"  most in {seconds} s, {name}", venue.busiest(seconds, *under), "", limit)
        for name, (limit, seconds, under) in PUBLISHED.items()
    ]
    return [row for row in rows if row.value]


def measure_backfill(venue: Venue, home: Path, markets: int, days: int, seconds: float) -> list[Measured]:
    """Backfill the `markets` largest, half of them Polymarket's and half Kalshi's, over the last `days`."""
    start = NOW.date() - timedelta(days=days - 1)
    environment = venue.environment(home) | {"COPILOT_QUANT_MARKETS_START": start.isoformat()}
    ran = run_command(("backfill", "markets", "--limit", str(markets // 2)), environment)
    answer = ran.answer
    what = f"{answer['asked'] // days:,} markets x {days} days"
    return [
        Measured(f"backfill markets, {what}", ran.seconds, "s", seconds),
        Measured("  peak memory", ran.peak, "GB", 1.5),
        Measured("  requests", sum(venue.counts().values()), ""),
        Measured("  of these for prices", answer["requests"], ""),
        *measure_pace(venue),
        Measured("  retries", answer["retries"], ""),
        Measured("  rows", answer["rows"], ""),
        Measured("  cells a second", answer["settled"] / answer["seconds"], ""),
    ]


def main() -> None:
    """Measure everything and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        with open_venue(delay=0.05) as venue:
            rows = measure_backfill(venue, Path(folder) / "small", 100, 60, 60)
        with open_venue() as venue:
            rows += measure_backfill(venue, Path(folder) / "large", 1_000, 365, 300)
    print_table("Prediction markets", rows)


if __name__ == "__main__":
    main()
