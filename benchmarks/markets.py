"""Prediction markets at size: whole commands against sandbox venues in a process of their own, and what they asked.

Here: 100 markets x 60 days at venues that take 50 ms an answer, and 1,000 markets x 365 days at venues that take none;
each client within its venue's published rate limit. Not here: whether prices are right (tests).

Run it: `python -m benchmarks.markets` (some minutes; nothing else should run).
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from benchmarks.grid import NOW, Venue, open_venue, run_command
from benchmarks.table import Measured, print_table


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
        Measured("  requests for prices", answer["requests"], ""),
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
