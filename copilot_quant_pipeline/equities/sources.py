"""What the equities assets draw from: Yahoo behind its landing, and Wikipedia's list.

Here: the clients and settings of one run, held together as the one resource the assets take.
Not here: how a source is asked (yahoo.py, universe.py), Dagster, starting the simulated venues.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import pyarrow as pa

from copilot_quant_pipeline.equities.fetch import Fetching, Reread, fetch_spans, reread_histories
from copilot_quant_pipeline.equities.future import without_future
from copilot_quant_pipeline.equities.universe import POLICY as WIKIPEDIA
from copilot_quant_pipeline.equities.universe import fetch_members
from copilot_quant_pipeline.equities.yahoo import POLICY as YAHOO
from copilot_quant_pipeline.equities.yahoo import YahooClient
from copilot_quant_pipeline.grid.cells import Rectangle, plan_fetches
from copilot_quant_pipeline.landing import InBackfill, Landing
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.fetch_result import Harvest
from copilot_quant_pipeline.warehouse.instruments import Life


@dataclass(frozen=True)
class EquitySources:
    """The venues of equities as `settings` reach them; one client for the whole process.

    `on_cells` hears how many cells are through, as each symbol is.
    """

    settings: Settings
    yahoo: YahooClient
    landing: Landing
    on_cells: Callable[[int], None] = lambda _: None

    @classmethod
    def reached_by(cls, settings: Settings, on_cells: Callable[[int], None] = lambda _: None) -> EquitySources:
        """The sources at the addresses in `settings`; nothing is asked yet."""
        pinned = settings.now if settings.pinned_now else None
        policy = settings.policy_of("yahoo", YAHOO)
        yahoo = YahooClient(settings.home / "cache", url=settings.yahoo_url, clock=pinned, policy=policy)
        return cls(settings, yahoo, Landing(settings.landing_path), on_cells)

    def harvest_bars(
        self,
        cells: Rectangle,
        *,
        refresh: bool,
        backfill: InBackfill | None,
        stored_beside: Collection[str] = frozenset(),
        settled_empty: Mapping[str, date | None] | None = None,
        lives: Mapping[str, Life] | None = None,
    ) -> Harvest:
        """Every asked cell settled or failed, the bars that came, and of the others those beside what was asked for.

        `lives` are what is stored of the company that each symbol names.
        """
        how = replace(
            self._how(lives),
            refresh=refresh,
            backfill=backfill,
            stored_beside=stored_beside,
            settled_empty=settled_empty or {},
        )
        return fetch_spans(self.yahoo, self.landing, plan_fetches(cells), how, self.on_cells)

    def clock(self) -> datetime | None:
        """What Yahoo's clock says, once it has told; None while ours is pinned."""
        return None if self.settings.pinned_now else self.yahoo.heard.now()

    def without_future(self, harvest: Harvest) -> Harvest:
        """The harvest, sessions whose New York day is not over by Yahoo's clock failed, where ours is ahead of it."""
        now = self.settings.now()
        by_yahoo = self.yahoo.held_back(now)
        return harvest if by_yahoo == now else without_future(harvest, by_yahoo, now)

    def reread_histories(self, symbols: Sequence[str], lives: Mapping[str, Life] | None = None) -> Reread:
        """The whole history of each symbol from the grid's start on, asked for anew."""
        how = replace(self._how(lives), stored_beside=frozenset(symbols))
        return reread_histories(self.yahoo, self.landing, symbols, how)

    @property
    def bars_source(self) -> str:
        """What rows of bars name as their source."""
        return self._labelled("yahoo")

    def _how(self, lives: Mapping[str, Life] | None) -> Fetching:
        return Fetching(
            grid_start=self.settings.equities_start,
            now=self.settings.now(),
            ttl=self.settings.landing_ttl,
            source=self.bars_source,
            lives=lives or {},
        )

    def fetch_members(self) -> pa.Table:
        """Membership intervals of the S&P 500, cross-checked.

        Raises:
            Malformed: The page does not hold what it should.
            VendorError: It cannot be had.
        """
        policy = self.settings.policy_of("wikipedia", WIKIPEDIA)
        source = self._labelled("wikipedia")
        return fetch_members(self.settings.wikipedia_url, now=self.settings.now(), source=source, policy=policy)

    def _labelled(self, venue: str) -> str:
        # Simulated prices must be told from real ones wherever a row may travel.
        return venue if self.settings.source == "live" else f"{venue} (sandbox)"
