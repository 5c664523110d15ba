"""The records Kalshi sends of simulated markets, events and series, in its wire format as of mid-2026.

Here: one record each, at an instant.
Not here: which are listed (kalshi.py), candles (kalshi_candles.py), what was traded (markets.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from copilot_quant_pipeline.sandbox.markets import SimulatedMarket

Record = dict[str, Any]


def market_record(market: SimulatedMarket, now: datetime) -> Record:
    """A market as of mid-2026: dollars and counts in text."""
    status, volume = status_word(market, now), f"{market.volume_at(now):.2f}"
    record = {
        "ticker": market.ticker,
        "event_ticker": market.event,
        "market_type": "binary",
        "title": market.title,
        "subtitle": "",
        "yes_sub_title": market.outcomes[0],
        "no_sub_title": market.outcomes[1],
        "created_time": zulu(market.announced_at),
        "updated_time": zulu(market.announced_at),
        "open_time": zulu(market.opened_at),
        "close_time": zulu(market.ends_at(now)),
        "latest_expiration_time": zulu(market.scheduled_at + timedelta(days=7)),
        "status": status,
        "result": ("yes", "no")[market.winner] if status in ("determined", "finalized") else "",
        "expiration_value": "",
        "can_close_early": True,
        "notional_value_dollars": "1.0000",
        "volume_fp": volume,
        "volume_24h_fp": "0.00",
        "open_interest_fp": "0.00",
        "liquidity_dollars": "0.0000",
        "price_level_structure": "deci_cent" if market.tick < 0.01 else "linear_cent",
        "price_ranges": [{"start": "0.0000", "end": "1.0000", "step": f"{market.tick:.4f}"}],
        "settlement_timer_seconds": 1800,
        "rules_primary": "Simulated.",
        "rules_secondary": "",
    }
    if status == "finalized":
        worth = "1.0000" if market.winner == 0 else "0.0000"
        record |= {"settlement_ts": zulu(market.resolved_at), "settlement_value_dollars": worth}
    return record


def status_word(market: SimulatedMarket, now: datetime) -> str:
    """The status in a response, whose words differ from those of the filter; the winner is determined halfway."""
    status = market.status_at(now)
    if status == "closed" and now - market.closes_at > market.resolved_at - now:
        return "determined"
    return {"unopened": "initialized", "open": "active", "closed": "closed", "resolved": "finalized"}[status]


def combination(market: SimulatedMarket, number: int, now: datetime) -> Record:
    """A generated combination: what mve_filter=exclude is for."""
    event = f"KXMVESIM-S{market.number:06d}"
    legs = [{"event_ticker": market.event, "market_ticker": market.ticker, "side": "yes"}]
    return market_record(market, now) | {
        "ticker": f"{event}-{number:04d}",
        "event_ticker": event,
        "title": f"yes {market.outcomes[0]},yes {number}",
        "mve_collection_ticker": "KXMVESIM-R",
        "mve_selected_legs": legs,
        "volume_fp": "0.00",
    }


def event_record(markets: Sequence[SimulatedMarket]) -> Record:
    """The event that these markets share."""
    first = markets[0]
    return {
        "event_ticker": first.event,
        "series_ticker": first.series,
        "title": first.event_title,
        "sub_title": "Simulated",
        "category": first.category.title(),
        "collateral_return_type": "",
        "mutually_exclusive": False,
        "available_on_brokers": False,
        "strike_period": "",
    }


def series_record(market: SimulatedMarket) -> Record:
    """The series of a market."""
    return {
        "ticker": market.series,
        "title": f"Simulated {market.series.removeprefix('KXSIM').title()}",
        "category": market.category.title(),
        "frequency": "custom",
        "tags": ["Simulated"],
        "settlement_sources": [],
    }


def zulu(instant: datetime) -> str:
    """An instant as Kalshi writes it."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
