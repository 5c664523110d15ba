"""The records Kalshi sends of simulated markets, events and series, in its wire format as of mid-2026.

Here: one record each, at an instant.
Not here: which are listed (kalshi.py), candles (kalshi_candles.py), what was traded (markets.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from copilot_quant_pipeline.sandbox.markets import SimulatedMarket

Record = dict[str, Any]


class Quote(NamedTuple):
    """What a market's Yes costs now: the last price, and the book."""

    price: float
    bid: float
    ask: float


# Nobody has traded it or does any more.
NO_QUOTE = Quote(0.0, 0.0, 1.0)


def market_record(market: SimulatedMarket, now: datetime, quote: Quote | None = None) -> Record:
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
        "expected_expiration_time": zulu(market.scheduled_at),
        "expiration_time": zulu(market.scheduled_at + timedelta(days=7)),
        "latest_expiration_time": zulu(market.scheduled_at + timedelta(days=7)),
        "status": status,
        "result": ("yes", "no")[market.winner] if status in ("determined", "finalized") else "",
        "expiration_value": "",
        "can_close_early": True,
        "exchange_index": 0,
        **_quoted(quote or NO_QUOTE),
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


def _quoted(quote: Quote) -> Record:
    dollars = {
        "last_price": quote.price,
        "yes_bid": quote.bid,
        "yes_ask": quote.ask,
        "no_bid": 1 - quote.ask,
        "no_ask": 1 - quote.bid,
        "previous_price": quote.price,
        "previous_yes_bid": quote.bid,
        "previous_yes_ask": quote.ask,
    }
    sizes = {"yes_bid_size_fp": "100.00", "yes_ask_size_fp": "100.00"}
    return {f"{name}_dollars": f"{price:.4f}" for name, price in dollars.items()} | sizes


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
        "exchange_index": 0,
        "last_updated_ts": zulu(first.announced_at),
        "settlement_sources": [],
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
        "additional_prohibitions": None,
        "contract_terms_url": "",
        "contract_url": "",
        "fee_multiplier": 1,
        "fee_type": "quadratic",
    }


def zulu(instant: datetime) -> str:
    """An instant as Kalshi writes it."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
