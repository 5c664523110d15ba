"""What the simulated Polymarket lists and what its outcomes cost: simulated, or as recorded.

Here: Gamma's records of markets and events as of an instant, and the points of each token.
Not here: routes, pages and refusals (polymarket.py), the markets themselves (markets.py).
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from copilot_quant_pipeline.sandbox.markets import HOUR, Seconds, SimulatedMarket, SimulatedMarkets

VENUE = "polymarket"
# Polymarket's words for the simulated categories, where they differ.
TAGS = {"economics": "economy"}
RECORDED_POINTS = "daily_prices_2022_2024.parquet"
RECORDED_MARKETS = "bow_polymarket_markets.csv"

Record = dict[str, Any]

# What clients of the real service count on in every record, and what is the same in all of ours.
_NO = ("new", "featured", "negRisk", "cyom", "pendingDeployment", "deploying", "requiresTranslation")
_NO_OF_MARKETS = (
    *("ready", "funded", "pagerDutyNotificationEnabled", "showGmpSeries", "showGmpOutcome", "manualActivation"),
    *("negRiskOther", "rfqEnabled", "holdingRewardsEnabled", "feesEnabled"),
)
_NO_OF_EVENTS = ("showMarketImages", "enableNegRisk", "negRiskAugmented", "cumulativeMarkets")
_YES = ("restricted", "automaticallyActive", "enableOrderBook")
_EMPTY = ("resolutionSource", "image", "icon")
_EMPTY_OF_MARKETS = ("marketMakerAddress", "submitted_by", "resolvedBy", "groupItemTitle", "negRiskRequestID")
COMMON: Record = {
    **dict.fromkeys((*_NO, *_NO_OF_MARKETS, "archived"), False),
    **dict.fromkeys((*_YES, "hasReviewedDates", "approved", "clearBookOnStart"), True),
    **dict.fromkeys((*_EMPTY, *_EMPTY_OF_MARKETS, "seriesColor"), ""),
    **dict.fromkeys(("makerBaseFee", "takerBaseFee", "customLiveness", "rewardsMinSize", "rewardsMaxSpread"), 0),
    **dict.fromkeys(("oneMonthPriceChange", "oneYearPriceChange"), 0.0),
    "comboStatus": "disabled",
    "competitive": 0.9,
    "feeSchedule": {"exponent": 1, "rate": 0.05, "takerOnly": True, "rebateRate": 0.25},
    "feeType": "general_fees",
    "groupItemThreshold": "0",
    "orderMinSize": 5,
    "umaBond": "500",
    "umaResolutionStatuses": "[]",
    "umaReward": "5",
}
COMMON_OF_EVENTS: Record = {
    **dict.fromkeys((*_NO, *_NO_OF_EVENTS, "archived"), False),
    **dict.fromkeys((*_YES, "active", "showAllOutcomes"), True),
    **dict.fromkeys(_EMPTY, ""),
    **dict.fromkeys(("liquidity", "liquidityClob", "openInterest"), 0.0),
    "commentCount": 0,
    "competitive": 0.9,
    "eventMetadata": {},
    "gmpChartMode": "default",
    "sortBy": "price",
}
COMMON_OF_TAGS: Record = {
    **dict.fromkeys(("forceShow", "forceHide", "requiresTranslation"), False),
    **dict.fromkeys(("createdAt", "updatedAt"), "2023-10-25T18:55:50.681Z"),
    "publishedAt": "2023-10-25 18:55:50.674+00",
    "updatedBy": 13,
}
# The volumes of the last so many days that a record tells besides the whole.
RECENT = {"24hr": 1, "1wk": 7, "1mo": 30, "1yr": 365}


@dataclass(frozen=True)
class Points:
    """Prices of one token: `t` in unix seconds, ascending, and `p` a probability."""

    t: Seconds
    p: npt.NDArray[np.float64]

    def between(self, start: float, end: float) -> Points:
        """The points from `start` to `end`, both included."""
        low, high = np.searchsorted(self.t, start, side="left"), np.searchsorted(self.t, end, side="right")
        return Points(self.t[low:high], self.p[low:high])


NO_POINTS = Points(np.zeros(0, dtype=np.int64), np.zeros(0))


class PolymarketData(Protocol):
    """Where the venue's answers come from."""

    def records(self, now: datetime) -> list[Record]:
        """Gamma's record of every market listed at `now`, each with its one event, by id; without prices."""

    def priced(self, record: Record, now: datetime) -> Record:
        """The record with its `outcomePrices`, where it has some: these cost too much to draw for all."""

    def slug(self, token: str) -> str | None:
        """The slug of the market with an outcome of this token."""

    def points(self, token: str, start: float, end: float, hours: int, now: datetime) -> Points:
        """One point every so many hours in `start` to `end` (unix seconds), as far as known at `now`."""

    def settlement(self, token: str, now: datetime) -> tuple[int, int] | None:
        """When, and to 0 or 1, the token was settled by `now`."""


def recorded_folder(recorded: Path | None) -> Path | None:
    """The recorded Polymarket: what is given (its folder, or the file of its points), or beside Yahoo's frames."""
    if recorded is None:
        return None
    folder = (recorded if recorded.is_dir() else recorded.parent).resolve()
    places = (folder, folder.parent / VENUE)
    return next((place for place in places if (place / RECORDED_POINTS).is_file()), None)


def is_recorded_folder(recorded: Path) -> bool:
    """Whether what is given is the recorded Polymarket itself, which holds none of Yahoo's frames."""
    return recorded_folder(recorded) == (recorded if recorded.is_dir() else recorded.parent).resolve()


class SimulatedPolymarket:
    """The simulated markets as Polymarket shows them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._markets = SimulatedMarkets(seed)
        self._records_at = lru_cache(maxsize=4)(self._draw_records)

    def records(self, now: datetime) -> list[Record]:
        """Every announced market; all that happens to one happens on a full minute."""
        return self._records_at(now.replace(second=0, microsecond=0))

    def priced(self, record: Record, now: datetime) -> Record:
        """The record with what its outcomes cost at `now`; before trading there is nothing to tell."""
        if "clobTokenIds" not in record:
            return record
        tokens = json.loads(record["clobTokenIds"])
        market, _ = self._tokens[tokens[0]]
        prices = self._prices(market, tokens, now)
        return record | {"outcomePrices": json.dumps(prices)} | _quoted(market, float(prices[0]), record["closed"])

    def slug(self, token: str) -> str | None:
        """The slug of the market with an outcome of this token."""
        found = self._tokens.get(token)
        return found[0].slug if found else None

    def points(self, token: str, start: float, end: float, hours: int, now: datetime) -> Points:
        """Prices at full hours with seconds of jitter; at the finest grain none in quiet hours."""
        if token not in self._tokens:
            return NO_POINTS
        market, outcome = self._tokens[token]
        if not market.volume and market.number % 2:
            return NO_POINTS
        until = min(end, now.timestamp(), market.closes_at.timestamp())
        first, last = (datetime.fromtimestamp(at, UTC) for at in (max(start, 0) - HOUR, max(until, 0) + 1))
        prices = self._markets.prices(market, first, last, outcome)
        shown = (prices.at // HOUR) % hours == 0
        if hours == 1 and market.volume:
            shown &= prices.volume > 0
        at = prices.at[shown]
        return Points(at + 2 + at // HOUR * 37 % 53, prices.probability[shown]).between(start, until)

    def settlement(self, token: str, now: datetime) -> tuple[int, int] | None:
        """At the end of trading, once that is resolved."""
        if token not in self._tokens or self._tokens[token][0].status_at(now) != "resolved":
            return None
        market, outcome = self._tokens[token]
        return int(market.closes_at.timestamp()), int(outcome == market.winner)

    @cached_property
    def _tokens(self) -> dict[str, tuple[SimulatedMarket, int]]:
        return {
            self._token(market, outcome): (market, outcome)
            for market in self._markets.markets(VENUE)
            for outcome in range(len(market.outcomes))
        }

    def _token(self, market: SimulatedMarket, outcome: int) -> str:
        return str(int.from_bytes(_digest(f"{self._seed}/{market.slug}/{outcome}")))

    def _draw_records(self, now: datetime) -> list[Record]:
        return [self._record(market, now) for market in self._markets.listed(VENUE, now)]

    def _record(self, market: SimulatedMarket, now: datetime) -> Record:
        status = market.status_at(now)
        closed, volume = status in ("closed", "resolved"), market.volume_at(now)
        liquidity, recently = (0.0 if closed else round(market.volume / 50, 2)), _recently(market, now)
        record = {
            **COMMON,
            "id": market.id,
            "question": market.title,
            "conditionId": "0x" + _digest(f"{self._seed}/{market.slug}").hex(),
            "questionID": "0x" + _digest(f"{self._seed}/{market.slug}/question").hex(),
            "slug": market.slug,
            "description": f"SIMULATED. This market is about: {market.title}",
            "endDate": _iso(market.scheduled_at),
            "endDateIso": f"{market.scheduled_at:%Y-%m-%d}",
            "startDate": _iso(market.opened_at),
            "startDateIso": f"{market.opened_at:%Y-%m-%d}",
            **dict.fromkeys(("acceptingOrdersTimestamp", "deployingTimestamp"), _iso(market.opened_at)),
            "createdAt": _iso(market.announced_at),
            "updatedAt": _iso(now),
            "outcomes": json.dumps(market.outcomes),
            "volume": f"{volume:.6f}",
            "volumeNum": volume,
            "volumeClob": volume,
            **{f"{name}Clob": recent for name, recent in recently.items()},
            **recently,
            "liquidity": f"{liquidity:g}",
            "liquidityNum": liquidity,
            "liquidityClob": liquidity,
            "active": status != "unopened",
            "closed": closed,
            "acceptingOrders": status == "open",
            "orderPriceMinTickSize": market.tick,
            "events": [_event(market, status, now)],
            "tags": _tags(market.category),
        }
        return record | self._deployed(market) | _ended(market, status) if status != "unopened" else record

    def _deployed(self, market: SimulatedMarket) -> Record:
        """What a market has once it can be traded."""
        return {"clobTokenIds": json.dumps([self._token(market, number) for number in range(len(market.outcomes))])}

    def _prices(self, market: SimulatedMarket, tokens: list[str], now: datetime) -> list[str]:
        if market.status_at(now) == "resolved":
            return [str(int(outcome == market.winner)) for outcome in range(len(tokens))]
        at = min(now, market.closes_at).timestamp()
        newest = [self.points(token, at - 12 * HOUR, at, 1, now).p[-1:] for token in tokens]
        return [f"{price[0]:g}" if len(price) else "0.5" for price in newest]


def _quoted(market: SimulatedMarket, price: float, closed: bool) -> Record:
    """What is bid and asked for the first outcome; nothing once trading has ended."""
    bid, ask = (0.0, 1.0) if closed else (max(0.0, price - market.tick), min(1.0, price + market.tick))
    told = {"lastTradePrice": price, "bestBid": bid, "bestAsk": ask, "spread": ask - bid}
    return {name: round(value, 4) for name, value in told.items()}


def _recently(market: SimulatedMarket, now: datetime) -> Record:
    before = {name: market.volume_at(now - timedelta(days=days)) for name, days in RECENT.items()}
    return {f"volume{name}": round(market.volume_at(now) - volume, 2) for name, volume in before.items()}


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _spaced(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S}+00"


def _ended(market: SimulatedMarket, status: str) -> Record:
    if status not in ("closed", "resolved"):
        return {}
    word = "resolved" if status == "resolved" else "proposed"
    return {"closedTime": _spaced(market.closes_at), "umaResolutionStatus": word, "feeType": None}


def _event(market: SimulatedMarket, status: str, now: datetime) -> Record:
    slug = f"simulated-event-{market.event.removeprefix('KXSIM').lower()}"
    series = market.series.removeprefix("KX").lower()
    return {
        **COMMON_OF_EVENTS,
        "id": str(90_000 + market.number // 3),
        "ticker": slug,
        "slug": slug,
        "title": market.event_title,
        "description": f"SIMULATED. {market.event_title}",
        "startDate": _iso(market.opened_at),
        "creationDate": _iso(market.announced_at),
        "endDate": _iso(market.scheduled_at),
        "closed": status in ("closed", "resolved"),
        "volume": market.volume_at(now),
        "createdAt": _iso(market.announced_at),
        "updatedAt": _iso(now),
        **_recently(market, now),
        "series": [{"id": str(1000 + sum(series.encode())), "ticker": series, "slug": series}],
    }


def _tags(category: str) -> list[Record]:
    slugs = (TAGS.get(category, category), "all", "simulated")
    return [
        {**COMMON_OF_TAGS, "id": str(1 + sum(slug.encode())), "label": slug.title(), "slug": slug} for slug in slugs
    ]


class RecordedPolymarket:
    """The recorded markets that have recorded prices; the recording has no times of a market's life.

    The first point is taken for its opening and an hour after the last for its close.
    """

    def __init__(self, folder: Path) -> None:
        markets = _recorded_markets(folder)
        self._points = _recorded_points(folder)
        self._slugs = {token: row["slug"] for row in markets for token in json.loads(row["clob_token_ids"])}
        self._records = [self._record(row) for row in markets]

    def records(self, now: datetime) -> list[Record]:
        """Every recorded market whose recording has begun by `now`, closed as recorded."""
        return [record for record in self._records if record["startDate"] <= _iso(now)]

    def priced(self, record: Record, now: datetime) -> Record:
        """As it is: the recording says nothing of them."""
        return record

    def slug(self, token: str) -> str | None:
        """The slug of the market with an outcome of this token."""
        return self._slugs.get(token)

    def points(self, token: str, start: float, end: float, hours: int, now: datetime) -> Points:
        """The points as recorded, one a day, whatever the grain."""
        return self._points.get(token, ("", NO_POINTS))[1].between(start, min(end, now.timestamp()))

    def settlement(self, token: str, now: datetime) -> tuple[int, int] | None:
        """Not recorded."""
        return None

    def _record(self, row: Record) -> Record:
        tokens = json.loads(row["clob_token_ids"])
        named = [self._points[token] for token in tokens]
        begins, ends = min(points.t[0] for _, points in named), max(points.t[-1] for _, points in named)
        return {
            **COMMON,
            "feeType": None,
            "id": row["market_id"],
            "question": row["question"],
            "conditionId": row["condition_id"],
            "slug": row["slug"],
            "startDate": _iso(datetime.fromtimestamp(int(begins), UTC)),
            "closedTime": _spaced(datetime.fromtimestamp(int(ends), UTC) + timedelta(hours=1)),
            "outcomes": json.dumps([name for name, _ in named]),
            "clobTokenIds": row["clob_token_ids"],
            "volume": row["volume"],
            "volumeNum": float(row["volume"]),
            "active": row["active"] == "True",
            "closed": row["closed"] == "True",
        }


def _recorded_markets(folder: Path) -> list[Record]:
    recorded = set(_recorded_points(folder))
    # Descriptions are longer than the csv module's default takes.
    csv.field_size_limit(1_000_000)
    with (folder / RECORDED_MARKETS).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Markets older than the order book have no tokens.
    return [row for row in rows if recorded.intersection(json.loads(row["clob_token_ids"]))]


@lru_cache(maxsize=2)
def _recorded_points(folder: Path) -> dict[str, tuple[str, Points]]:
    """The outcome's name and the points of each token."""
    import pandas as pd

    frame = pd.read_parquet(folder / RECORDED_POINTS).sort_values("timestamp", kind="stable")
    frame["t"] = pd.to_datetime(frame["timestamp"], utc=True).dt.tz_localize(None).astype("datetime64[s]")
    return {
        str(token): (
            str(rows["outcome"].iloc[0]),
            Points(rows["t"].to_numpy().astype(np.int64), rows["price"].to_numpy()),
        )
        for token, rows in frame.groupby("token_id")
    }
