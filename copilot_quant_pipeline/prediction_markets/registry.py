"""The venues there are, by name, and how each is made from the settings: a line a venue, and the import of its class.

Here: that table. A client's module is imported when it, or what its silence means, is asked for.
Not here: any client, which markets are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.prediction_markets.shapes import declaring
from copilot_quant_pipeline.prediction_markets.venue import NOTHING_KNOWN, Semantics, Venue
from copilot_quant_pipeline.settings import Settings


@dataclass(frozen=True)
class _Listed:
    """A venue's class, and what of the settings it is made with; what is None is left to its own default.

    That the class is a `Venue` is checked by type where it is imported below: no cast hides what it lacks.
    """

    imported: Callable[[], type[Venue]]
    made_with: Callable[[Settings], Mapping[str, Any]]

    def make(self, name: str, settings: Settings) -> Venue:
        given = {name: value for name, value in self.made_with(settings).items() if value is not None}
        kind = self.imported()
        return _declaring(cast("Callable[..., Venue]", kind)(**given, policy=settings.policy_of(name, kind.policy)))


def _declaring(client: Venue) -> Venue:
    """The client, what of it asks raising declared errors only: nothing a venue sends ends another's work."""
    for name in ("fetch_markets", "fetch_market", "fetch_prices", "fetch_prices_of"):
        if fetch := getattr(client, name, None):
            setattr(client, name, declaring(client.name, fetch))
    return client


def venue_names() -> tuple[str, ...]:
    """Every venue's name."""
    return tuple(_VENUES)


def semantics_of(name: str) -> Semantics:
    """What a venue's prices are and what its silence means; of one that is not listed nothing is known."""
    return _VENUES[name].imported().semantics if name in _VENUES else NOTHING_KNOWN


def make_venue(name: str, settings: Settings) -> Venue:
    """The client of a venue as the settings reach it; nothing is asked yet. A run makes one and keeps it, as it paces.

    Raises:
        UserError: There is no such venue, or it needs a setting that is absent.
    """
    if name not in _VENUES:
        raise UserError(f"venue {name!r} is not known; choose one of {', '.join(_VENUES)}.")
    return _VENUES[name].make(name, settings)


def lacks_setting(name: str, settings: Settings) -> bool:
    """Whether a known venue cannot be asked for want of a setting."""
    try:
        make_venue(name, settings)
    except UserError:
        return True
    return False


def _polymarket() -> type[Venue]:
    from copilot_quant_pipeline.prediction_markets.polymarket import Polymarket

    return Polymarket


def _kalshi() -> type[Venue]:
    from copilot_quant_pipeline.prediction_markets.kalshi import Kalshi

    return Kalshi


def _manifold() -> type[Venue]:
    from copilot_quant_pipeline.prediction_markets.manifold import Manifold

    return Manifold


def _predictit() -> type[Venue]:
    from copilot_quant_pipeline.prediction_markets.predictit import PredictIt

    return PredictIt


def _metaculus() -> type[Venue]:
    from copilot_quant_pipeline.prediction_markets.metaculus import Metaculus

    return Metaculus


def _pinned(settings: Settings) -> Callable[[], datetime] | None:
    """The pinned clock; one that runs is read by the client itself, which holds it back by its venue's."""
    return settings.now if settings.pinned_now else None


_VENUES: Mapping[str, _Listed] = {
    "polymarket": _Listed(
        _polymarket,
        lambda s: {
            "gamma_url": s.polymarket_gamma_url,
            "clob_url": s.polymarket_clob_url,
            "data_url": s.polymarket_data_url,
            "clock": _pinned(s),
        },
    ),
    "kalshi": _Listed(_kalshi, lambda s: {"url": s.kalshi_url, "clock": _pinned(s)}),
    "manifold": _Listed(_manifold, lambda s: {"url": s.manifold_url, "clock": _pinned(s)}),
    "predictit": _Listed(_predictit, lambda s: {"url": s.predictit_url, "clock": _pinned(s)}),
    "metaculus": _Listed(_metaculus, lambda s: {"url": s.metaculus_url, "token": s.expect_metaculus_token()}),
}
