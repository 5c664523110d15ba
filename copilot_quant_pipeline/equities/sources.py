"""What the equities assets draw from: Yahoo behind its landing, and Wikipedia's list.

Here: the clients and settings of one run, held together as the one resource the assets take.
Not here: how a source is asked (yahoo.py, universe.py), Dagster, starting the simulated venues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from copilot_quant_pipeline.equities.fetching import Fetching, fetch_spans
from copilot_quant_pipeline.equities.universe import fetch_members
from copilot_quant_pipeline.equities.yahoo import YahooClient
from copilot_quant_pipeline.grid.cells import Rectangle, plan_fetches
from copilot_quant_pipeline.landing import InBackfill, Landing
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.harvest import Harvest


@dataclass(frozen=True)
class EquitySources:
    """The venues of equities as `settings` reach them; one client for the whole process.

    `on_symbol` is told each symbol whose bars are through.
    """

    settings: Settings
    yahoo: YahooClient
    landing: Landing
    on_symbol: Callable[[str], None] | None = None

    @classmethod
    def reached_by(cls, settings: Settings, on_symbol: Callable[[str], None] | None = None) -> EquitySources:
        """The sources at the addresses in `settings`; nothing is asked yet."""
        yahoo = YahooClient(settings.home / "cache", url=settings.yahoo_url, clock=settings.now)
        return cls(settings, yahoo, Landing(settings.landing_path), on_symbol)

    def harvest_bars(self, cells: Rectangle, *, refresh: bool, backfill: InBackfill | None) -> Harvest:
        """Every asked cell settled or failed, and the bars that came."""
        how = Fetching(
            grid_start=self.settings.equities_start,
            now=self.settings.now(),
            ttl=self.settings.landing_ttl,
            source=self._labelled("yahoo"),
            refresh=refresh,
            backfill=backfill,
        )
        return fetch_spans(self.yahoo, self.landing, plan_fetches(cells), how, self.on_symbol)

    def fetch_members(self) -> pa.Table:
        """Membership intervals of the S&P 500, cross-checked.

        Raises:
            Malformed: The page does not hold what it should.
            VendorError: It cannot be had.
        """
        return fetch_members(self.settings.wikipedia_url, now=self.settings.now(), source=self._labelled("wikipedia"))

    def _labelled(self, venue: str) -> str:
        # Simulated prices must be told from real ones wherever a row may travel.
        return venue if self.settings.source == "live" else f"{venue} (sandbox)"
