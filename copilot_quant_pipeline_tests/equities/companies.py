"""Companies as a stand-in for Yahoo tells of them: a bar of each session, their splits and dividends."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline_tests.equities.conftest import Answer, Replay

UNKNOWN = '{"chart":{"result":null,"error":{"code":"Not Found","description":"No data found, symbol may be delisted"}}}'


@dataclass
class Company:
    """What Yahoo tells of one: a bar of each session from `first` to `last`, split by `splits`."""

    first: date
    price: float
    last: date | None = None
    listed: date | None = None
    slope: float = 0.01
    splits: dict[date, int] = field(default_factory=dict)
    dividends: dict[date, float] = field(default_factory=dict)
    name: str | None = None
    currency: str = "USD"

    def chart(self, symbol: str, start: date, today: date) -> str:
        days = [day for day in sessions_in_range(self.first, self.last or today) if start <= day <= today]
        meta = {
            "currency": self.currency,
            "symbol": self.name or symbol,
            "exchangeTimezoneName": "America/New_York",
            "dataGranularity": "1d",
            "firstTradeDate": _stamp(self.listed) if self.listed else None,
        }
        closes = [self._traded(day) / self._later(day, today) for day in days]
        quote: dict[str, list[float]] = dict.fromkeys(("open", "high", "low", "close"), closes)
        quote["volume"] = [1_000_000.0] * len(days)
        splits = {
            str(_stamp(day)): {"date": _stamp(day), "numerator": ratio, "denominator": 1}
            for day, ratio in self.splits.items()
            if start <= day <= today
        }
        paid = {
            str(_stamp(day)): {"date": _stamp(day), "amount": amount / self._later(day, today)}
            for day, amount in self.dividends.items()
            if start <= day <= today
        }
        result = {"meta": meta, "events": {"splits": splits, "dividends": paid}, "indicators": {"quote": [quote]}}
        stamps = {"timestamp": [_stamp(day) for day in days]} if days else {}
        return json.dumps({"chart": {"result": [{**result, **stamps}], "error": None}})

    def _traded(self, day: date) -> float:
        ratio = 1
        for split, by in self.splits.items():
            ratio *= by if split <= day else 1
        return round(self.price + self.slope * (day - self.first).days, 2) / ratio

    def _later(self, day: date, today: date) -> int:
        ratio = 1
        for split, by in self.splits.items():
            ratio *= by if day < split <= today else 1
        return ratio


def _stamp(day: date) -> int:
    return int(datetime.combine(day, time(14, 30), UTC).timestamp())


def answer_of(names: dict[str, Company], ticker: str, yahoo: Replay, newest: date) -> Answer:
    """What Yahoo says to the newest request, of the companies by their tickers, once the session `newest` is over."""
    company = names.get(ticker)
    if company is None:
        return Answer(UNKNOWN, 404)
    start = datetime.fromtimestamp(int(yahoo.asked[-1][2]["period1"][0]), UTC).date()
    return Answer(company.chart(ticker, start, newest))
