"""What is new gets its first cells at once: a fresh home its lists, a key that joins an axis its newest cells.

Here: the sensors that look for them, one a grid.
Not here: the newest cells of everybody (schedules.py), which cells those are (newest.py), history (a user's backfill).

Without them a home that was opened for the first time would wait for the week's list, and a market that was just listed
for the next refresh.

No `from __future__ import annotations` here: Dagster reads the annotations of a sensor's parameters.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date

import dagster as dg

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL, days_on_axis, keys_on_axis, sessions_on_axis
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.backfill import LARGEST_RUN
from copilot_quant_pipeline.upkeep.healing import backfill_under_way
from copilot_quant_pipeline.upkeep.newest import plan_newcomers
from copilot_quant_pipeline.upkeep.schedules import BARS, CATALOG, MEMBERS, PRICES, brief_warehouse, request
from copilot_quant_pipeline.warehouse.coverage import read_keys_asked

SECONDS_BETWEEN = 60

# Newcomers are neighbours at an axis' end; should they be scattered all the same, the rest waits for the next look.
MOST_RUNS = 5


@dataclass(frozen=True)
class _Grid:
    """A grid as its sensor sees it: `listing` puts keys on `axis`, `prices` settles their cells on `dates`."""

    name: str
    axis: str
    listing: dg.AssetKey
    prices: dg.AssetKey
    dates: Callable[[Settings], Sequence[date]]


_GRIDS = {
    "new_symbols": _Grid("equities", SYMBOL, MEMBERS, BARS, lambda settings: sessions_on_axis(settings)[-1:]),
    "new_markets": _Grid("markets", MARKET, CATALOG, PRICES, lambda settings: days_on_axis(settings)[-2:]),
}


def build_newcomers(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors `new_symbols` and `new_markets`, on by default."""
    return [_sensor(name, grid, settings) for name, grid in _GRIDS.items()]


def _sensor(name: str, grid: _Grid, settings: Settings) -> dg.SensorDefinition:
    def requests(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        if backfill := backfill_under_way(context.instance, grid.prices):
            # It asks for long windows, which are kept: newest cells asked for beside it may be asked for twice.
            return dg.SkipReason(f"Backfill {backfill} is running; who is new to it has their turn after it.")
        keys = keys_on_axis(context.instance, grid.axis)
        try:
            asked = read_keys_asked(brief_warehouse(settings), grid.name)
        except UserError as error:
            return dg.SkipReason(f"Could not look who is new: {error}")
        if keys:
            return _first_cells(grid, keys, asked, settings) or dg.SkipReason(f"No {grid.axis} is new on the axis.")
        if grid.axis == SYMBOL and asked:
            # Symbols never leave the axis: Dagster's folder was lost, and who followed 25 does not want the index.
            return dg.SkipReason("The axis is empty and bars are stored: copilot-quant reconcile brings it back.")
        # One try an hour, should the list be refused.
        return [request(grid.listing, f"of a fresh home, {settings.now():%Y-%m-%dT%H}")]

    sensor = dg.sensor(
        name=name,
        description=f"Settles the newest cells of every {grid.axis} that is new on the axis; has an empty axis filled.",
        target=dg.AssetSelection.assets(grid.listing, grid.prices),
        minimum_interval_seconds=SECONDS_BETWEEN,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    return sensor(requests)


def _first_cells(grid: _Grid, keys: Sequence[str], asked: Collection[str], settings: Settings) -> list[dg.RunRequest]:
    planned = plan_newcomers(grid.dates(settings), keys, asked, LARGEST_RUN[grid.name])
    # Named by its cells: the same newcomers are asked for once a day, however long their run waits for its turn.
    return [
        request(grid.prices, f"{box.dates[0]}..{box.dates[-1]} {box.keys[0]}..{box.keys[-1]} {len(box)}", box)
        for box in planned[:MOST_RUNS]
    ]
