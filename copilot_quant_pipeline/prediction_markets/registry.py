"""The venues there are, by name, and how each is made from the settings: a line a venue.

Here: that table. A client is imported when it is asked for.
Not here: any client, which markets are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.prediction_markets.venue import Venue
from copilot_quant_pipeline.settings import Settings


def venue_names() -> tuple[str, ...]:
    """Every venue's name."""
    return tuple(_MAKE)


def make_venue(name: str, settings: Settings) -> Venue:
    """The client of a venue as the settings reach it; nothing is asked yet. A run makes one and keeps it, as it paces.

    Raises:
        UserError: There is no such venue, or it needs a setting that is absent.
    """
    if name not in _MAKE:
        raise UserError(f"venue {name!r} is not known; choose one of {', '.join(_MAKE)}.")
    return _MAKE[name](settings)


def _client(kind: str, **how: Any) -> Venue:
    """The class of that name in the module of the same name; what is None is left to its own default."""
    module = import_module(f"copilot_quant_pipeline.prediction_markets.{kind.lower()}")
    given = {name: value for name, value in how.items() if value is not None}
    return cast("Venue", getattr(module, kind)(**given))


_MAKE: Mapping[str, Callable[[Settings], Venue]] = {
    "polymarket": lambda s: _client(
        "Polymarket",
        gamma_url=s.polymarket_gamma_url,
        clob_url=s.polymarket_clob_url,
        data_url=s.polymarket_data_url,
        clock=s.now,
    ),
    "kalshi": lambda s: _client("Kalshi", url=s.kalshi_url),
    "manifold": lambda s: _client("Manifold", url=s.manifold_url, clock=s.now),
    "predictit": lambda s: _client("PredictIt", url=s.predictit_url, clock=s.now),
    "metaculus": lambda s: _client("Metaculus", url=s.metaculus_url, token=s.expect_metaculus_token()),
}
