"""What every simulated venue is given, and what it gives.

Here: the world a venue's answers depend on, and the shape of a venue module.
Not here: any venue.

A new venue is one module with its name `VENUE`, its own kinds of `FAULTS` and `routes(world)`, added to
VENUES in app.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from starlette.routing import Route

from copilot_quant_pipeline.sandbox.faults import FaultBoard, Kinds
from copilot_quant_pipeline.sandbox.market import SimulatedEquities


@dataclass(frozen=True)
class World:
    """What answers depend on.

    The simulated market and its seed, the clock (aware instants), the faults in force, and what is recorded to be
    served in place of simulated data, if anything: Yahoo's frames, and the folder of Polymarket's markets.
    """

    seed: int
    market: SimulatedEquities
    clock: Callable[[], datetime]
    faults: FaultBoard
    recorded: Path | None
    recorded_markets: Path | None = None


class SandboxVenue(Protocol):
    """A module that simulates one venue."""

    VENUE: str
    FAULTS: Kinds

    def routes(self, world: World) -> list[Route]:
        """The venue's routes, in matching order."""
