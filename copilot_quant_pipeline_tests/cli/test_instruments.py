"""Claims about tickers that were given to another company, by the command and a stand-in for Yahoo on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from copilot_quant_pipeline.alerts.cell_problems import find_in_warehouse
from copilot_quant_pipeline.calendar import previous_session, sessions_in_range
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.reading import read_bars
from copilot_quant_pipeline_tests.cli.conftest import Desk, open_desk
from copilot_quant_pipeline_tests.equities.companies import Company, answer_of
from copilot_quant_pipeline_tests.equities.conftest import Answer, Replay, served

LAST, LISTED = date(2024, 2, 13), date(2024, 2, 22)
BETWEEN = sessions_in_range(date(2024, 2, 14), date(2024, 2, 21))


@dataclass
class Street:
    """A desk whose Yahoo knows these companies by their tickers."""

    desk: Desk
    yahoo: Replay
    names: dict[str, Company]
    today: date = LAST

    def answer(self, ticker: str) -> Answer:
        return answer_of(self.names, ticker, self.yahoo, previous_session(self.today))

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
        names = {
            "ZZ": Company(date(2010, 1, 4), 50.0, last=LAST, listed=date(2010, 1, 4)),
            "KO": Company(date(2000, 1, 3), 60.0, listed=date(2000, 1, 3)),
        }
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
    for wrong in (("join", "KO"), ("separate", "KO"), ("separate", "NONE"), ("separate", "ZZ", "--from", "2023-01-03")):
        assert street.desk.run("instruments", *wrong).code == 2
    street.run("instruments", "separate", "ZZ")
    street.run("heal", "--force")
    assert [life[1:] for life in street.lives()] == [(None, LAST), (date(2024, 2, 14), None)]
    bars = street.bars()
    assert old.items() <= bars.items()
    assert bars[date(2024, 2, 14)] < 250
    street.run("backfill", "equities", "--symbols", "ZZ", "--refresh")
    assert street.bars() == bars


@pytest.mark.parametrize(("meta", "reason"), [({"name": "OTHER"}, "another_instrument")])
def test_an_answer_of_something_else_leaves_what_is_stored(street: Street, meta: dict[str, str], reason: str) -> None:
    old = street.bars()
    for name, value in meta.items():
        setattr(street.names["ZZ"], name, value)
    street.names["ZZ"].last = None
    looked_at(street, date(2024, 2, 15), codes=(1,))
    assert street.cells()[date(2024, 2, 14)] == reason
    street.run("backfill", "equities", "--symbols", "ZZ", "--refresh", code=1)
    assert street.bars() == old
