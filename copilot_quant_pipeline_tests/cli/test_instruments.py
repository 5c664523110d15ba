"""Claims about tickers that were given to another company, by the command and a stand-in for Yahoo on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

import pytest

from copilot_quant_pipeline.alerts.cells import find_in_warehouse
from copilot_quant_pipeline.calendar import previous_session, sessions_in_range
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.reading import read_bars
from copilot_quant_pipeline_tests.cli.conftest import Desk, open_desk
from copilot_quant_pipeline_tests.equities.conftest import Answer, Replay, served

LAST, LISTED = date(2024, 2, 13), date(2024, 2, 22)
BETWEEN = sessions_in_range(date(2024, 2, 14), date(2024, 2, 21))
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


@dataclass
class Street:
    """A desk whose Yahoo knows these companies by their tickers."""

    desk: Desk
    yahoo: Replay
    names: dict[str, Company]
    today: date = LAST

    def answer(self, ticker: str) -> Answer:
        company = self.names.get(ticker)
        if company is None:
            return Answer(UNKNOWN, 404)
        start = datetime.fromtimestamp(int(self.yahoo.asked[-1][2]["period1"][0]), UTC).date()
        return Answer(company.chart(ticker, start, previous_session(self.today)))

    def morning(self, day: date) -> None:
        """Go to nine in the morning of a day; the session before it is the newest one."""
        self.today = day
        self.desk.set({"COPILOT_QUANT_NOW": f"{day}T14:00:00+00:00"})

    def run(self, *arguments: str, code: int = 0) -> str:
        said = self.desk.run(*arguments)
        assert said.code == code, said
        return said.out

    def cells(self, symbol: str = "ZZ") -> dict[date, str | None]:
        rows = self.desk.warehouse.coverage("equities", [symbol]).to_pylist()
        return {row["date"]: row["reason"] for row in rows}

    def bars(self, symbol: str = "ZZ") -> dict[date, float]:
        rows = self.desk.warehouse.read("select date, close from equities.bars where symbol = $s", {"s": symbol})
        return {row["date"]: row["close"] for row in rows.to_pylist()}

    def lives(self, symbol: str = "ZZ") -> list[tuple[str, date | None, date | None]]:
        rows = self.desk.warehouse.read(
            "select * from equities.instruments where symbol = $s order by valid_from nulls first", {"s": symbol}
        )
        return [(row["instrument"], row["valid_from"], row["valid_until"]) for row in rows.to_pylist()]


@pytest.fixture
def street(unused: Settings) -> Iterator[Street]:
    """Two symbols with bars to 13 February, and the first one's company gone by then."""
    with Sandbox() as venues, open_desk(unused, venues) as desk, served(Replay()) as yahoo:
        names = {"ZZ": Company(date(2010, 1, 4), 50.0, last=LAST, listed=date(2010, 1, 4)), "KO": Company(LAST, 60.0)}
        names["KO"] = Company(date(2000, 1, 3), 60.0, listed=date(2000, 1, 3))
        street = Street(desk, yahoo, names)
        yahoo.chart = street.answer
        desk.set({"COPILOT_QUANT_YAHOO_URL": yahoo.url})
        street.morning(date(2024, 2, 14))
        street.run("backfill", "equities", "--symbols", "ZZ,KO")
        yield street


def given_on(street: Street, **company: Any) -> None:
    """The ticker is another company's."""
    street.names["ZZ"] = Company(**{"first": LISTED, "price": 20.0, "listed": LISTED, **company})


def test_a_ticker_given_to_another_company_is_a_second_life_once_two_sessions_agree(street: Street) -> None:
    old = street.bars()
    given_on(street, splits={LISTED: 2, date(2024, 2, 26): 2})
    street.morning(date(2024, 2, 24))
    said = street.run("update", "equities", code=1)
    assert "another_instrument" in said
    assert street.bars() == old
    cells = street.cells()
    assert {cells[day] for day in sessions_in_range(LISTED, date(2024, 2, 23))} == {"another_instrument"}
    assert "not_listed" not in {reason for day, reason in cells.items() if day > LAST}
    street.morning(date(2024, 2, 25))  # the same session: it proves nothing
    street.run("update", "equities", code=1)
    assert (street.bars(), street.lives()) == (old, [])

    street.morning(date(2024, 2, 28))
    street.run("update", "equities")
    assert street.lives() == [("ZZ", None, LAST), (f"ZZ {LISTED}", LISTED, None)]
    cells = street.cells()
    assert {cells[day] for day in BETWEEN} == {"delisted"}
    assert {cells[day] for day in sessions_in_range(LISTED, date(2024, 2, 27))} == {None}
    assert {day: close for day, close in street.bars().items() if day <= LAST} == old
    # Neither split of the new company touches the old one.
    adjusted = read_bars(street.desk.warehouse, ["ZZ"], adjusted=True).set_index("date")["adj_close"]
    assert adjusted[str(LAST)] == pytest.approx(old[LAST])
    assert adjusted[str(LISTED)] == pytest.approx(street.bars()[LISTED] / 2)
    assert street.run("heal") != ""
    asked = street.yahoo.charts
    street.run("heal")
    assert street.yahoo.charts == asked  # nothing of it is a gap

    # What the venue tells of the new company takes nothing from the old one.
    street.run("backfill", "equities", "--symbols", "ZZ", "--refresh")
    assert {day: close for day, close in street.bars().items() if day <= LAST} == old
    assert street.desk.warehouse.read("from ops.run_summary where lost > 0 or restated > 0").num_rows == 0
    street.morning(date(2024, 2, 29))
    street.run("update", "equities")
    assert street.cells()[date(2024, 2, 28)] is None


def looked_at(street: Street, *days: date, codes: tuple[int, ...] = ()) -> None:
    """Update on these mornings."""
    for day, code in zip(days, codes or (1,) * (len(days) - 1) + (0,), strict=True):
        street.morning(day)
        street.run("update", "equities", code=code)


def told(street: Street) -> list[str]:
    return [trouble.key for trouble in find_in_warehouse(street.desk.warehouse)]


def test_what_is_found_is_told_and_a_person_joins_what_is_one_company(street: Street) -> None:
    given_on(street, splits={date(2024, 2, 26): 2})
    looked_at(street, date(2024, 2, 24), codes=(1,))
    assert "instruments/asked" in told(street)
    assert "its history begins 2024-02-22" in street.run("instruments", "list")
    looked_at(street, date(2024, 2, 28))
    assert told(street) == ["instruments/begun"]
    assert f"ZZ {LISTED}" in street.run("instruments", "list")
    street.run("instruments", "join", "zz")
    assert told(street) == []
    assert street.lives() == [("ZZ", None, None)]
    adjusted = read_bars(street.desk.warehouse, ["ZZ"], adjusted=True).set_index("date")["adj_close"]
    assert adjusted[str(LAST)] == pytest.approx(street.bars()[LAST] / 2)
    looked_at(street, date(2024, 2, 29), codes=(1,))  # one company lacks the sessions between
    assert {street.cells()[day] for day in BETWEEN} == {"missing_at_source"}
    assert street.lives() == [("ZZ", None, None)]


def test_a_person_joins_before_a_second_answer_comes_or_tells_apart(street: Street) -> None:
    given_on(street)
    looked_at(street, date(2024, 2, 24), codes=(1,))
    street.run("instruments", "separate", "ZZ")
    assert street.lives() == [("ZZ", None, LAST), (f"ZZ {LISTED}", LISTED, None)]
    street.run("heal", "--force")
    assert (street.cells()[LISTED], street.cells()[BETWEEN[0]]) == (None, "delisted")
    assert street.desk.run("instruments", "join", "KO").code == 2
    assert street.desk.run("instruments", "separate", "NONE").code == 2


def test_an_answer_that_overlaps_what_is_stored_is_a_short_one(street: Street) -> None:
    """Whatever it says of its listing: nothing ends, what it lacks is told."""
    old = street.bars()
    first = date(2024, 2, 1)
    street.names["ZZ"] = Company(first, old[first], listed=LISTED)
    looked_at(street, date(2024, 2, 24))
    assert street.lives() == []
    assert old.items() <= street.bars().items()
    lost = street.desk.warehouse.read("select max(lost) as lost from ops.run_summary").to_pylist()
    assert lost[0]["lost"] == len(sessions_in_range(date(2024, 1, 2), date(2024, 1, 31)))


@pytest.mark.parametrize("listed", [date(2010, 1, 4), LAST, None])
def test_a_history_that_was_listed_before_the_last_bar_is_no_new_life(street: Street, listed: date | None) -> None:
    given_on(street, listed=listed)
    looked_at(street, date(2024, 2, 24), codes=(1,))
    assert street.lives() == []
    cells = street.cells()
    assert {cells[day] for day in BETWEEN} == {"missing_at_source"}
    assert cells[date(2024, 2, 23)] is None


def test_a_third_life_follows_the_second(street: Street) -> None:
    given_on(street, last=date(2024, 2, 28))
    looked_at(street, date(2024, 2, 24), date(2024, 2, 28))
    third = date(2024, 3, 6)
    del street.names["ZZ"]
    looked_at(street, date(2024, 3, 2), codes=(1,))
    given_on(street, first=third, listed=third, price=7.0, splits={third: 3})
    looked_at(street, date(2024, 3, 8), date(2024, 3, 9))
    assert [life[1:] for life in street.lives()] == [
        (None, LAST),
        (LISTED, date(2024, 2, 28) if date(2024, 2, 28) in street.bars() else date(2024, 2, 27)),
        (third, None),
    ]
    assert None in {street.cells()[third]}
    adjusted = read_bars(street.desk.warehouse, ["ZZ"], adjusted=True).set_index("date")["close"]
    assert adjusted[str(LISTED)] == street.bars()[LISTED]


def test_a_history_of_other_prices_is_asked_about_as_another_instrument(street: Street) -> None:
    old = street.bars()
    street.names["ZZ"] = Company(date(2012, 5, 18), 300.0, slope=-0.02, listed=date(2012, 5, 18))
    street.morning(date(2024, 2, 17))
    said = street.run("backfill", "equities", "--symbols", "ZZ", "--refresh", code=1)
    assert "another instrument?" in said
    assert street.bars() == old
    assert street.desk.warehouse.read("from ops.quarantine").num_rows == 0
    cells = street.cells()
    assert {reason for day, reason in cells.items() if day <= LAST} == {None}
    assert {reason for day, reason in cells.items() if day > LAST} == {"another_instrument"}
    looked_at(street, date(2024, 2, 21), codes=(1,))  # nor is its newest session stored
    assert street.bars() == old
    assert told(street).count("instruments/asked") == 1
    street.run("instruments", "separate", "ZZ")
    street.run("heal", "--force")
    assert [life[1:] for life in street.lives()] == [(None, LAST), (date(2024, 2, 14), None)]
    bars = street.bars()
    assert old.items() <= bars.items()
    assert bars[date(2024, 2, 14)] < 250
    street.run("backfill", "equities", "--symbols", "ZZ", "--refresh")
    assert street.bars() == bars


@pytest.mark.parametrize(
    ("meta", "reason"), [({"name": "OTHER"}, "another_instrument"), ({"currency": "CAD"}, "another_currency")]
)
def test_an_answer_of_something_else_leaves_what_is_stored(street: Street, meta: dict[str, str], reason: str) -> None:
    old = street.bars()
    for name, value in meta.items():
        setattr(street.names["ZZ"], name, value)
    street.names["ZZ"].last = None
    looked_at(street, date(2024, 2, 15), codes=(1,))
    assert street.cells()[date(2024, 2, 14)] == reason
    street.run("backfill", "equities", "--symbols", "ZZ", "--refresh", code=1)
    assert street.bars() == old
