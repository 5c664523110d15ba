"""Claims about which company an answer is of, over the real client, a stand-in for Yahoo and a warehouse."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tenacity import wait_none

from copilot_quant_pipeline.calendar import previous_session, sessions_in_range
from copilot_quant_pipeline.equities.fetch import Fetching, fetch_spans, reread_histories
from copilot_quant_pipeline.equities.lives import harvest_within_lives, is_of_another, judged_harvest
from copilot_quant_pipeline.equities.yahoo import YahooClient
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.grid.cells import Rectangle, plan_fetches
from copilot_quant_pipeline.landing import Landing
from copilot_quant_pipeline.warehouse.coverage import read_settled_empty, read_stored_beside
from copilot_quant_pipeline.warehouse.instruments import (
    join,
    name_instruments,
    read_lives,
    read_questions,
    separate,
)
from copilot_quant_pipeline.warehouse.reading import read_bars
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.equities.companies import Company, answer_of
from copilot_quant_pipeline_tests.equities.conftest import Replay

START, LAST, LISTED = date(2024, 1, 2), date(2024, 2, 13), date(2024, 2, 22)
BETWEEN = sessions_in_range(date(2024, 2, 14), date(2024, 2, 21))


@dataclass
class Town:
    """Companies by their tickers, and a warehouse that asks for them; `today` is the morning after a session."""

    yahoo: Replay
    warehouse: Warehouse
    landing: Landing
    client: YahooClient
    names: dict[str, Company] = field(default_factory=dict)
    today: date = date(2024, 2, 14)

    @property
    def now(self) -> datetime:
        return datetime.combine(self.today, time(14), UTC)

    def ask(self, day: date, first: date | None = None, symbol: str = "ZZ", *, refresh: bool = True) -> None:
        """On the morning of a day, ask for the sessions from `first` on, by default for the newest one."""
        self.today = day
        newest = previous_session(day)
        cells = Rectangle(tuple(sessions_in_range(first or newest, newest)), (symbol,))

        def harvest(cells: Rectangle, lives: Any) -> Any:
            beside = read_stored_beside(self.warehouse, cells)
            empty = read_settled_empty(self.warehouse, cells.keys)
            how = Fetching(START, self.now, timedelta(hours=6), "yahoo", refresh, stored_beside=beside, lives=lives)
            how = replace(how, settled_empty=empty)
            return fetch_spans(self.client, self.landing, plan_fetches(cells), how)

        harvested = harvest_within_lives(self.warehouse, cells, harvest, source="yahoo")
        self.warehouse.settle_harvest(BARS, harvested, run_id=f"{self.today}")

    def reread(self, day: date) -> None:
        """What `history_verified` does."""
        self.today = day
        lives = read_lives(self.warehouse, ["ZZ"])
        how = Fetching(START, self.now, timedelta(hours=6), "yahoo", stored_beside=frozenset(["ZZ"]), lives=lives)
        found = reread_histories(self.client, self.landing, ["ZZ"], how).harvest
        self.warehouse.settle_harvest(BARS, judged_harvest(self.warehouse, found, lives, source="yahoo"), run_id="v")

    def cells(self, symbol: str = "ZZ") -> dict[date, str | None]:
        return {row["date"]: row["reason"] for row in self.warehouse.coverage("equities", [symbol]).to_pylist()}

    def bars(self, symbol: str = "ZZ") -> dict[date, float]:
        rows = self.warehouse.read("select date, close from equities.bars where symbol = $s", {"s": symbol})
        return {row["date"]: row["close"] for row in rows.to_pylist()}

    def lives(self) -> list[tuple[date | None, date | None]]:
        rows = self.warehouse.read("from equities.instruments where symbol = 'ZZ' order by valid_from nulls first")
        return [(row["valid_from"], row["valid_until"]) for row in rows.to_pylist()]

    def lost(self) -> int:
        return int(self.warehouse.read("select max(lost) as lost from ops.run_summary").to_pylist()[0]["lost"])


@pytest.fixture
def town(replay: Replay, tmp_path: Path) -> Town:
    """Bars of the old ZZ from the grid's start to 13 February."""
    client = YahooClient(tmp_path / "cache", url=replay.url, clock=lambda: town.now, wait=wait_none())
    town = Town(replay, Warehouse(tmp_path / "warehouse.duckdb"), Landing(tmp_path / "landing"), client)
    replay.chart = lambda ticker: answer_of(town.names, ticker, replay, previous_session(town.today))
    town.names["ZZ"] = Company(date(2010, 1, 4), 50.0, last=LAST, listed=date(2010, 1, 4))
    town.ask(date(2024, 2, 14), START)
    return town


def given_on(town: Town, **company: Any) -> None:
    """The ticker is another company's."""
    town.names["ZZ"] = Company(**{"first": LISTED, "price": 20.0, "listed": LISTED, **company})


@pytest.mark.parametrize("listed", [date(2010, 1, 4), LAST, None])
def test_a_history_that_was_listed_before_the_last_bar_is_no_new_life(town: Town, listed: date | None) -> None:
    given_on(town, listed=listed)
    for day in (date(2024, 2, 24), date(2024, 2, 28)):
        town.ask(day, date(2024, 2, 14))
    assert town.lives() == []
    assert {town.cells()[day] for day in BETWEEN} == {"missing_at_source"}
    assert town.cells()[date(2024, 2, 23)] is None


def test_an_answer_that_overlaps_what_is_stored_is_a_short_one_whatever_it_says_of_its_listing(town: Town) -> None:
    old, first = town.bars(), date(2024, 2, 1)
    town.names["ZZ"] = Company(first, old[first], listed=LISTED)
    for day in (date(2024, 2, 24), date(2024, 2, 28)):
        town.ask(day)
    assert (town.lives(), read_questions(town.warehouse)) == ([], [])
    assert old.items() <= town.bars().items()
    assert town.lost() == len(sessions_in_range(START, date(2024, 1, 31)))


def test_one_session_proves_nothing_however_often_it_is_asked(town: Town) -> None:
    old = town.bars()
    given_on(town)
    for day in (date(2024, 2, 24), date(2024, 2, 25), date(2024, 2, 26)):  # a Saturday, a Sunday, a Monday morning
        town.ask(day, date(2024, 2, 14))
    assert (town.bars(), town.lives()) == (old, [])
    assert {town.cells()[day] for day in sessions_in_range(date(2024, 2, 14), date(2024, 2, 23))} == {
        "another_instrument"
    }


def test_two_answers_that_differ_prove_nothing(town: Town) -> None:
    given_on(town)
    town.ask(date(2024, 2, 24))
    given_on(town, first=date(2024, 2, 23), listed=date(2024, 2, 23))
    town.ask(date(2024, 2, 27))
    assert town.lives() == []
    town.ask(date(2024, 2, 28))
    assert town.lives() == [(None, LAST), (date(2024, 2, 23), None)]


def test_the_old_company_that_answers_again_withdraws_the_question(town: Town) -> None:
    old = town.names["ZZ"]
    given_on(town)
    town.ask(date(2024, 2, 24))
    assert len(read_questions(town.warehouse)) == 1
    old.last = None
    town.names["ZZ"] = old
    town.ask(date(2024, 2, 27), date(2024, 2, 14))
    assert (read_questions(town.warehouse), town.lives()) == ([], [])
    assert set(town.cells().values()) == {None}


def test_each_life_keeps_its_own_actions_and_a_third_one_follows_the_second(town: Town) -> None:
    old = town.bars()
    given_on(town, splits={LISTED: 2, date(2024, 2, 26): 2}, dividends={date(2024, 2, 23): 0.1})
    town.ask(date(2024, 2, 24), date(2024, 2, 14))
    town.ask(date(2024, 2, 28), date(2024, 2, 14))
    assert {town.cells()[day] for day in BETWEEN} == {"delisted"}
    second, third = town.bars(), date(2024, 3, 6)
    given_on(town, first=third, listed=third, price=7.0, splits={third: 3})
    town.ask(date(2024, 3, 8), date(2024, 2, 28))
    town.ask(date(2024, 3, 9), date(2024, 2, 28))
    assert town.lives() == [(None, LAST), (LISTED, date(2024, 2, 27)), (third, None)]
    assert {town.cells()[day] for day in sessions_in_range(date(2024, 2, 28), date(2024, 3, 5))} == {"delisted"}
    assert second.items() <= town.bars().items()
    adjusted = read_bars(town.warehouse, ["ZZ"], adjusted=True).set_index("date")["adj_close"]
    assert adjusted[str(LAST)] == old[LAST]
    assert adjusted[str(LISTED)] == pytest.approx((second[LISTED] - 0.1) / 2)
    assert adjusted[str(third)] == town.bars()[third]
    # Whatever is asked for again, the former companies stay as they are, and nothing of them is lost or missing.
    cells, bars = town.cells(), town.bars()
    town.ask(date(2024, 3, 9), START)
    town.reread(date(2024, 3, 9))
    assert (town.cells(), town.bars(), town.lost()) == (cells, bars, 0)
    assert town.warehouse.read("from ops.restatements").num_rows == 0


def test_no_answer_of_the_new_company_lacks_what_the_old_one_paid(town: Town) -> None:
    town.names["ZZ"].dividends = {date(2024, 2, 5): 0.5}
    town.ask(date(2024, 2, 15), START)
    given_on(town)
    for day in (date(2024, 2, 24), date(2024, 2, 27)):
        town.ask(day, date(2024, 2, 14))
    for day in (date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)):
        town.ask(day, START)
    assert town.warehouse.read("select date from equities.actions").to_pylist() == [{"date": date(2024, 2, 5)}]
    assert town.warehouse.read("from ops.quarantine").num_rows == 0


def test_a_reread_finds_another_company_too_and_stores_nothing_of_it(town: Town) -> None:
    old = town.bars()
    given_on(town, splits={date(2024, 2, 26): 2}, dividends={LISTED: 1.0})
    town.reread(date(2024, 2, 24))
    assert [question.kind for question in read_questions(town.warehouse)] == ["another_life"]
    town.reread(date(2024, 2, 28))
    assert (town.bars(), town.lives()) == (old, [(None, LAST), (LISTED, None)])
    assert town.lost() == 0
    town.ask(date(2024, 2, 28), date(2024, 2, 14), refresh=False)
    assert {town.cells()[day] for day in BETWEEN} == {"delisted"}
    assert LISTED in town.bars()


def test_a_person_tells_apart_or_joins_before_a_second_answer_comes(town: Town) -> None:
    given_on(town)
    town.ask(date(2024, 2, 24))
    join(town.warehouse, "ZZ", now=town.now)
    town.ask(date(2024, 2, 27), date(2024, 2, 14))
    assert town.lives() == [(None, None)]
    assert {town.cells()[day] for day in BETWEEN} == {"missing_at_source"}
    assert town.cells()[LISTED] is None
    separate(town.warehouse, "ZZ", LISTED, now=town.now)
    assert town.lives() == [(None, LAST), (LISTED, None)]
    town.ask(date(2024, 2, 27), date(2024, 2, 14))
    assert {town.cells()[day] for day in BETWEEN} == {"delisted"}
    with pytest.raises(UserError, match="not told apart already"):
        separate(town.warehouse, "ZZ", LISTED, now=town.now)


def test_a_history_of_other_prices_is_held_whole_until_it_agrees_again(town: Town) -> None:
    old, company = town.bars(), town.names["ZZ"]
    town.names["ZZ"] = Company(date(2012, 5, 18), 300.0, slope=-0.02, dividends={date(2024, 1, 10): 3.0})
    for ask in (lambda: town.ask(date(2024, 2, 16), START), lambda: town.reread(date(2024, 2, 16))):
        ask()
        assert town.bars() == old
        (question,) = read_questions(town.warehouse)
        assert "closes differ" in question.detail
    assert town.warehouse.read("from equities.actions").num_rows == 0
    assert town.warehouse.read("from ops.quarantine").num_rows == 0
    company.last = None
    town.names["ZZ"] = company
    town.ask(date(2024, 2, 17), date(2024, 2, 14))
    assert (read_questions(town.warehouse), set(town.cells().values())) == ([], {None})


def test_a_tail_of_other_prices_asks_for_the_whole_history_before_anything_of_it_is_stored(town: Town) -> None:
    """META was an ETF before it was FB, which was listed long before."""
    old = town.bars()
    town.names["ZZ"] = Company(date(2012, 5, 18), 300.0, slope=-0.02, listed=date(2012, 5, 18))
    for day in (date(2024, 2, 15), date(2024, 2, 16)):
        town.ask(day)
        assert town.bars() == old
    assert town.cells()[date(2024, 2, 15)] == "another_instrument"
    assert len(read_questions(town.warehouse)) == 1


def test_a_tail_with_a_split_is_compared_as_traded(town: Town) -> None:
    town.names["ZZ"].last = None
    town.names["ZZ"].splits = {date(2024, 2, 14): 2}
    asked = town.yahoo.charts
    town.ask(date(2024, 2, 15))
    assert (town.yahoo.charts, town.cells()[date(2024, 2, 14)]) == (asked + 1, None)


def test_a_renamed_company_may_answer_under_its_new_name(town: Town) -> None:
    """Where two names of it hold a day, the one valid that day is read."""

    @dataclass(frozen=True)
    class Renamed:
        old: str = "ZZ"
        new: str = "YY"
        day: date = date(2024, 2, 8)

    company = Company(date(2010, 1, 4), 50.0, listed=date(2010, 1, 4))
    town.names = {"ZZ": company, "YY": company}
    company.name = "YY"
    town.ask(date(2024, 2, 15))
    assert town.cells()[date(2024, 2, 14)] == "another_instrument"
    name_instruments(town.warehouse, [Renamed()], source="wikipedia", now=town.now)
    town.ask(date(2024, 2, 15))
    town.ask(date(2024, 2, 15), START, "YY")
    assert town.cells()[date(2024, 2, 14)] is None
    read = read_bars(town.warehouse)
    assert len(read) == read["date"].nunique() == len(town.bars("YY"))
    assert set(read.loc[read["date"] < "2024-02-08", "symbol"]) == {"ZZ"}
    assert set(read.loc[read["date"] >= "2024-02-08", "symbol"]) == {"YY"}
    assert len(read_bars(town.warehouse, ["YY"], adjusted=True)) == len(town.bars("YY"))
    assert read_bars(town.warehouse, adjusted=True)["date"].is_unique


@pytest.mark.parametrize(
    ("factors", "other"),
    [
        (np.full(50, 2.0), False),
        (np.repeat([2.0, 8.0], 30), False),
        (np.linspace(2.0, 3.0, 50), True),
        (2.0 + np.sin(np.arange(50.0)), True),
        (np.array([2.0, 3.0, 4.0]), False),
    ],
)
def test_one_factor_is_a_split_and_a_few_that_last_are_some(factors: np.ndarray[Any, Any], other: bool) -> None:
    assert is_of_another(factors) is other


def test_a_tail_that_tells_of_an_earlier_listing_has_the_sessions_before_settled_anew(town: Town) -> None:
    short = date(2024, 1, 22)
    town.names["YY"] = Company(short, 30.0, listed=short)
    town.ask(date(2024, 2, 14), START, "YY")
    assert set(town.cells("YY").values()) == {None, "not_listed"}
    town.names["YY"] = Company(START, 30.0, listed=START)
    town.ask(date(2024, 2, 15), symbol="YY", refresh=False)
    assert set(town.cells("YY").values()) == {None}
    assert town.bars("YY").keys() == town.cells("YY").keys()
