"""Claims about dividends, splits and volumes of which a venue says otherwise: believed, held, resolved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from copilot_quant_pipeline.warehouse.quarantine import (
    ProposalChoice,
    accept,
    count_proposals,
    read_proposals,
    reject,
    reopen,
)
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.warehouse.answers import SESSIONS, Venue, actions, adjusted, traded

DAY = date(2024, 3, 25)
AT = SESSIONS.index(DAY)
BEFORE = SESSIONS[:AT]
EVE, NEXT, THIRD, FOURTH = (SESSIONS[AT + n] for n in (-1, 1, 2, 3))
TAIL = SESSIONS[AT - 5]
PAID = SESSIONS[20]
SPLITS = {day: 100.0 if day < DAY else 50.0 for day in SESSIONS}
NOW = datetime(2024, 4, 30, tzinfo=UTC)
VERSION_2 = Path(__file__).with_name("version_2.sql")
ALL = ProposalChoice()


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """What a venue of a stock at 100 that paid half a dollar once tells until the eve of the 25th of March."""
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    Venue(paid={PAID: 0.5}).settle(warehouse, EVE, *BEFORE)
    return warehouse


splitting = Venue(traded=SPLITS, paid={PAID: 0.5}, told={DAY: 2.0})
unsplit = Venue(paid={PAID: 0.5})


def waiting(warehouse: Warehouse, *states: str) -> list[tuple[str, date, Mapping[str, tuple[float, float]]]]:
    return [(one.kind, one.date, one.changes) for one in read_proposals(warehouse, ALL, states or ("waiting",))]


def states(warehouse: Warehouse) -> list[str]:
    rows = warehouse.read("select state from ops.quarantine order by proposal, date")
    return list(rows.column("state").to_pylist())


A_SPLIT = ("split", DAY, {"split_ratio": (1.0, 2.0)})


def test_a_split_whose_history_came_divided_is_stored_with_its_bar(warehouse: Warehouse) -> None:
    settled = splitting.settle(warehouse, DAY, DAY, start=TAIL)
    assert (settled.inserted, settled.restated, settled.quarantined) == (1, 0, 0)
    assert traded(warehouse)[DAY] == (50.0, 1_000_000, 0.0, 2.0)
    assert set(adjusted(warehouse).values()) == {50.0, 49.75}


@pytest.mark.parametrize("start", [SESSIONS[0], TAIL])
def test_a_split_told_before_the_history_is_divided_waits_and_nothing_is_halved(
    warehouse: Warehouse, start: date
) -> None:
    settled = splitting.but(divided={}).settle(warehouse, DAY, DAY, start=start)
    assert (settled.inserted, settled.restated, settled.quarantined) == (1, 0, 1)
    assert waiting(warehouse) == [A_SPLIT]
    assert traded(warehouse)[DAY] == (50.0, 1_000_000, 0.0, 1.0)
    assert traded(warehouse)[EVE] == (100.0, 1_000_000, 0.0, 1.0)
    assert (adjusted(warehouse)[EVE], adjusted(warehouse)[DAY]) == (100.0, 50.0)
    assert actions(warehouse) == {PAID: (0.5, 1.0)}
    assert warehouse.read("from ops.restatements").num_rows == 0


def test_volumes_that_are_multiplied_by_a_split_that_waits_are_what_was_traded(warehouse: Warehouse) -> None:
    settled = splitting.but(divided={}, multiplied={DAY: 2.0}).settle(warehouse, DAY, DAY, start=TAIL)
    assert (settled.restated, settled.quarantined, waiting(warehouse)) == (0, 1, [A_SPLIT])
    assert {row[1] for row in traded(warehouse).values()} == {1_000_000}


def test_what_is_kept_of_an_answer_holds_a_split_that_nothing_shows(warehouse: Warehouse) -> None:
    splitting.but(divided={}).settle(warehouse, DAY, DAY, kept=True)
    assert (waiting(warehouse), traded(warehouse)[DAY][3]) == ([A_SPLIT], 1.0)
    splitting.settle(warehouse, NEXT, NEXT, start=TAIL)
    assert set(adjusted(warehouse).values()) == {50.0, 49.75}


def test_what_an_answer_showed_of_a_split_holds_for_what_is_kept_of_it(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "gaps.duckdb")
    unsplit.settle(warehouse, EVE, *BEFORE[50:])
    undivided = splitting.but(divided={})
    undivided.settle(warehouse, DAY, DAY)
    undivided.settle(warehouse, DAY, *BEFORE[:50], kept=True)
    assert waiting(warehouse) == [A_SPLIT]
    assert {row[:2] for day, row in traded(warehouse).items() if day < DAY} == {(100.0, 1_000_000)}


def test_it_resolves_itself_once_the_venue_divides_the_history(warehouse: Warehouse) -> None:
    splitting.but(divided={}).settle(warehouse, DAY, DAY, start=TAIL)
    splitting.but(divided={}).settle(warehouse, NEXT, NEXT, start=TAIL)
    assert states(warehouse) == ["waiting"]
    splitting.settle(warehouse, FOURTH, THIRD, FOURTH, start=TAIL)
    assert (states(warehouse), actions(warehouse)[DAY]) == (["resolved"], (0.0, 2.0))
    assert set(adjusted(warehouse).values()) == {50.0, 49.75}


def test_after_five_sessions_a_person_decides(warehouse: Warehouse) -> None:
    splitting.but(divided={}).settle(warehouse, DAY, DAY, start=TAIL)
    splitting.settle(warehouse, SESSIONS[AT + 6], *SESSIONS[AT + 1 : AT + 7])
    assert waiting(warehouse) == [A_SPLIT]
    accept(warehouse, ALL, now=NOW)
    assert set(adjusted(warehouse).values()) == {50.0, 49.75}


def test_it_resolves_itself_once_the_venue_withdraws_the_split(warehouse: Warehouse) -> None:
    unsplit.but(told={DAY: 2.0}, divided={}).settle(warehouse, DAY, DAY, start=TAIL)
    unsplit.settle(warehouse, NEXT, NEXT, start=TAIL)
    assert states(warehouse) == ["withdrawn"]
    assert set(adjusted(warehouse).values()) == {100.0, 99.5}
    assert {row[3] for row in traded(warehouse).values()} == {1.0}


def test_accepting_a_split_writes_its_bar_and_its_action(warehouse: Warehouse) -> None:
    splitting.but(divided={}).settle(warehouse, DAY, DAY, start=TAIL)
    assert accept(warehouse, ProposalChoice(["A"]), now=NOW) == 1
    assert (traded(warehouse)[DAY][3], actions(warehouse)[DAY], traded(warehouse)[EVE][0]) == (2.0, (0.0, 2.0), 100.0)
    assert set(adjusted(warehouse).values()) == {50.0, 49.75}
    (seen,) = warehouse.read(
        "select a.first_seen_at as action, b.first_seen_at as bar from equities.actions a join equities.bars b"
        " using (symbol, date) where a.split_ratio = 2"
    ).to_pylist()
    assert (seen["action"], seen["bar"]) == (NOW, NOW)
    # What the venue has not divided since is still known to be what was traded.
    for venue in (splitting.but(divided={}), splitting):
        assert venue.settle(warehouse, NEXT, NEXT).quarantined == 0
    assert set(adjusted(warehouse).values()) == {50.0, 49.75}


def test_accepting_a_split_that_no_price_shows_rescales_all_that_was_before(warehouse: Warehouse) -> None:
    venue = unsplit.but(told={DAY: 2.0}, divided={})
    venue.settle(warehouse, DAY, DAY, start=TAIL)
    accept(warehouse, ALL, now=NOW)
    assert traded(warehouse)[SESSIONS[0]] == (200.0, 500_000, 0.0, 1.0)
    assert actions(warehouse) == {PAID: (1.0, 1.0), DAY: (0.0, 2.0)}
    assert set(adjusted(warehouse).values()) == {100.0, 99.5}


def test_a_split_of_one_company_is_judged_by_its_own_bars_and_rescales_no_others(warehouse: Warehouse) -> None:
    began = SESSIONS[AT - 20]
    with warehouse.transaction() as connection:
        connection.execute(
            "insert into equities.instruments values ('A', 'A', null, $before, 'yahoo', now()),"
            " ('A', 'A of later', $began, null, 'yahoo', now())",
            {"before": SESSIONS[AT - 21], "began": began},
        )
    unsplit.but(told={DAY: 2.0}, divided={}).settle(warehouse, DAY, DAY, start=began)
    assert waiting(warehouse) == [A_SPLIT]
    accept(warehouse, ALL, now=NOW)
    prices = traded(warehouse)
    assert [prices[day][0] for day in (SESSIONS[AT - 21], began, EVE, DAY)] == [100.0, 200.0, 200.0, 100.0]
    assert actions(warehouse)[PAID] == (0.5, 1.0)


def test_a_rejected_split_is_not_asked_about_again_until_the_history_is_divided(warehouse: Warehouse) -> None:
    undivided = splitting.but(divided={})
    undivided.settle(warehouse, DAY, DAY, start=TAIL)
    assert reject(warehouse, ALL, now=NOW) == 1
    assert undivided.settle(warehouse, NEXT, NEXT).quarantined == 0
    assert reopen(warehouse, ALL, now=NOW) == 1
    assert waiting(warehouse) == [A_SPLIT]
    reject(warehouse, ALL, now=NOW)
    assert splitting.settle(warehouse, THIRD, THIRD).quarantined == 1
    assert states(warehouse) == ["rejected", "waiting"]
    # Only one of the two can wait.
    assert reopen(warehouse, ALL, now=NOW) == 0
    assert (adjusted(warehouse)[EVE], adjusted(warehouse)[DAY]) == (100.0, 50.0)


def test_new_bars_beside_an_undivided_split_are_stored_as_they_were_traded(warehouse: Warehouse) -> None:
    late = splitting.but(divided={})
    late.settle(warehouse, THIRD, DAY, NEXT, THIRD)
    lost = unsplit.but(symbol="B", lost=frozenset({EVE}))
    lost.settle(warehouse, EVE, *BEFORE)
    Venue(symbol="B", traded=SPLITS, paid={PAID: 0.5}, told={DAY: 2.0}, divided={}).settle(warehouse, DAY, EVE, DAY)
    assert traded(warehouse, "B")[EVE] == (100.0, 1_000_000, 0.0, 1.0)


def test_a_lost_split_session_that_heals_before_the_history_is_divided(warehouse: Warehouse) -> None:
    tenfold = Venue(traded={day: 1150.0 if day < DAY else 115.0 for day in SESSIONS}, symbol="C")
    tenfold.but(lost=frozenset({DAY})).settle(warehouse, NEXT, *BEFORE, DAY, NEXT)
    tenfold.but(told={DAY: 10.0}, divided={}).settle(warehouse, THIRD, DAY, THIRD)
    assert (adjusted(warehouse, "C")[DAY], adjusted(warehouse, "C")[EVE]) == (115.0, 1150.0)
    tenfold.but(told={DAY: 10.0}).settle(warehouse, FOURTH, FOURTH)
    assert set(adjusted(warehouse, "C").values()) == {115.0}


@pytest.mark.parametrize("ratio", [0.1, 0.125, 1.061, 1.011, 20.0, 1.5])
def test_it_is_the_same_for_reverse_splits_and_spin_offs(warehouse: Warehouse, ratio: float) -> None:
    venue = Venue(traded={day: 100.0 if day < DAY else 100.0 / ratio for day in SESSIONS}, symbol="D")
    venue.settle(warehouse, EVE, *BEFORE)
    venue.but(told={DAY: ratio}, divided={}).settle(warehouse, DAY, DAY, start=TAIL)
    assert adjusted(warehouse, "D")[EVE] == 100.0
    venue.but(told={DAY: ratio}).settle(warehouse, NEXT, NEXT, start=TAIL)
    assert max(adjusted(warehouse, "D").values()) == pytest.approx(100 / ratio, rel=1e-6)
    assert states(warehouse) == ["resolved"]


def test_of_two_splits_in_one_answer_one_true_and_one_false_the_false_one_waits(warehouse: Warehouse) -> None:
    true, false = SESSIONS[AT - 3], SESSIONS[AT - 8]
    stock = Venue(traded={day: 100.0 if day < true else 25.0 for day in SESSIONS}, symbol="E")
    stock.settle(warehouse, SESSIONS[AT - 9], *SESSIONS[: AT - 8])
    stock.but(told={true: 4.0, false: 2.0}, divided={true: 4.0}).settle(warehouse, DAY, *SESSIONS[AT - 8 : AT + 1])
    assert [(one[0], one[1]) for one in waiting(warehouse)] == [("split", false)]
    assert set(adjusted(warehouse, "E").values()) == {25.0}
    assert traded(warehouse, "E")[SESSIONS[0]][0] == 100.0


def test_a_dividend_on_the_day_of_a_split_that_waits_is_decided_apart(warehouse: Warehouse) -> None:
    both = splitting.but(paid={PAID: 0.5, DAY: 0.4})
    both.but(divided={}).settle(warehouse, DAY, DAY, start=TAIL)
    assert (actions(warehouse)[DAY], traded(warehouse)[DAY][2:]) == ((0.4, 1.0), (0.4, 1.0))
    assert waiting(warehouse) == [A_SPLIT]
    both.settle(warehouse, NEXT, NEXT, start=TAIL)
    assert (actions(warehouse)[DAY], traded(warehouse)[DAY][2:]) == ((0.4, 2.0), (0.4, 2.0))


@pytest.mark.parametrize("divided", [None, {DAY: 2.0}])
def test_a_split_that_vanishes_changes_nothing_until_a_second_session_lacks_it(
    warehouse: Warehouse, divided: dict[date, float] | None
) -> None:
    splitting.settle(warehouse, DAY, DAY)
    gone = splitting.but(told={}, divided=divided)
    for _ in range(2):
        settled = gone.settle(warehouse, NEXT, NEXT)
        assert (settled.restated, settled.quarantined, waiting(warehouse)) == (0, 0, [])
    assert gone.settle(warehouse, THIRD, THIRD).quarantined == 1
    assert waiting(warehouse) == [("split", DAY, {"split_ratio": (2.0, 1.0)})]
    assert set(adjusted(warehouse).values()) == {50.0, 49.75}
    assert [row[0] for day, row in traded(warehouse).items() if day >= EVE] == [100.0, 50.0, 50.0, 50.0]
    splitting.settle(warehouse, FOURTH, FOURTH)
    assert states(warehouse) == ["withdrawn"]


def test_an_action_that_returns_was_never_gone(warehouse: Warehouse) -> None:
    none = unsplit.but(paid={})
    none.settle(warehouse, DAY, DAY)
    unsplit.settle(warehouse, NEXT, NEXT)
    none.settle(warehouse, THIRD, THIRD)
    assert (waiting(warehouse), actions(warehouse)) == ([], {PAID: (0.5, 1.0)})
    # A tail that does not reach it lacks nothing.
    none.settle(warehouse, FOURTH, FOURTH, start=TAIL)
    assert waiting(warehouse) == []
    none.settle(warehouse, SESSIONS[AT + 4], SESSIONS[AT + 4])
    assert waiting(warehouse) == [("dividend", PAID, {"dividend": (0.5, 0.0)})]
    accept(warehouse, ALL, now=NOW)
    assert (actions(warehouse), traded(warehouse)[PAID][2]) == ({}, 0.0)
    assert warehouse.read("from equities.actions_history").num_rows == 1


@pytest.mark.parametrize(
    ("day", "amount", "is_stored"),
    [
        (DAY, 5.0, True),
        (DAY, 5.01, False),
        (SESSIONS[AT - 10], 0.5, True),
        (SESSIONS[AT - 11], 0.5, False),
        (SESSIONS[AT - 3], 55.0, False),
        (date(2024, 3, 23), 0.5, False),
    ],
)
def test_a_dividend_is_stored_at_once_where_it_is_small_and_soon(
    warehouse: Warehouse, day: date, amount: float, is_stored: bool
) -> None:
    unsplit.but(paid={PAID: 0.5, day: amount}).settle(warehouse, DAY, DAY)
    assert (day in actions(warehouse)) == is_stored
    assert traded(warehouse).get(day, (0, 0, 0.0))[2] == (amount if is_stored and day in SESSIONS else 0.0)
    assert waiting(warehouse) == ([] if is_stored else [("dividend", day, {"dividend": (0.0, amount)})])
    changes = warehouse.read('select "table" from ops.restatements').column("table").to_pylist()
    assert sorted(changes) == (["equities.actions", "equities.bars"] if is_stored and day < DAY else [])


def test_a_dividend_that_grows_waits_and_one_that_is_rounded_does_not(warehouse: Warehouse) -> None:
    assert unsplit.but(paid={PAID: 0.500001}).settle(warehouse, DAY, DAY).quarantined == 0
    assert unsplit.but(paid={PAID: 2.5}).settle(warehouse, NEXT, NEXT).quarantined == 1
    assert (actions(warehouse)[PAID], traded(warehouse)[PAID][2]) == ((0.5, 1.0), 0.5)
    reject(warehouse, ALL, now=NOW)
    assert unsplit.but(paid={PAID: 2.5}).settle(warehouse, THIRD, THIRD).quarantined == 0
    assert unsplit.but(paid={PAID: 2.6}).settle(warehouse, FOURTH, FOURTH).quarantined == 1


def test_a_split_among_known_ones_explains_the_dividends_before_it(warehouse: Warehouse) -> None:
    splitting.but(divided={}).settle(warehouse, DAY, DAY)
    assert [kind for kind, *_ in waiting(warehouse)] == ["split"]
    other = unsplit.but(symbol="F", paid={})
    other.settle(warehouse, EVE, *BEFORE)
    other.but(paid={PAID: 0.3}).settle(warehouse, DAY, DAY)
    assert [(one.key, one.kind) for one in count_proposals(warehouse, ALL)] == [("A", "split"), ("F", "dividend")]


@pytest.mark.parametrize(("factor", "waits"), [(100.0, True), (0.5, True), (1.4, False), (1.00009, False)])
def test_volumes_wait_where_many_change_by_one_factor(warehouse: Warehouse, factor: float, waits: bool) -> None:
    settled = unsplit.but(volume=1e6 * factor).settle(warehouse, DAY, DAY)
    assert settled.quarantined == (len(BEFORE) - 1 if waits else 0)
    assert traded(warehouse)[SESSIONS[0]][1] == (1_000_000 if waits or factor < 1.01 else 1_400_000)
    # The newest bar before was provisional.
    assert traded(warehouse)[EVE][1] == (1_000_000 if abs(factor - 1) < 0.01 else round(1e6 * factor))
    counted = count_proposals(warehouse, ALL)
    assert [(one.kind, one.proposals) for one in counted] == ([("volumes", 1)] if waits else [])
    if waits:
        accept(warehouse, ProposalChoice(on=SESSIONS[0]), now=NOW)
        assert {row[1] for row in traded(warehouse).values()} == {round(1e6 * factor)}


def test_a_split_that_only_volumes_contradict_is_stored(warehouse: Warehouse) -> None:
    off = dict.fromkeys(BEFORE, 1.0)
    settled = splitting.but(volume=1e6 + 1, off=off).settle(warehouse, DAY, DAY)
    assert (settled.restated, settled.quarantined) == (0, 0)
    assert splitting.but(volume=3e6).settle(warehouse, NEXT, NEXT).quarantined > 100
    assert actions(warehouse)[DAY] == (0.0, 2.0)


def test_a_price_that_no_split_explains_is_decided_apart(warehouse: Warehouse) -> None:
    venue = splitting.but(divided={}, off={SESSIONS[3]: 1.01, SESSIONS[5]: 1.5})
    settled = venue.settle(warehouse, DAY, DAY)
    assert (settled.restated, settled.quarantined) == (1, 2)
    assert (traded(warehouse)[SESSIONS[3]][0], traded(warehouse)[SESSIONS[5]][0]) == (101.0, 100.0)
    assert [kind for kind, *_ in waiting(warehouse)] == ["prices", "split"]
    reject(warehouse, ProposalChoice(on=DAY), now=NOW)
    accept(warehouse, ALL, now=NOW)
    assert traded(warehouse)[SESSIONS[5]][0] == 150.0


def test_what_waited_in_a_file_of_the_version_before_is_one_proposal_and_its_split_is_not_in_use(
    tmp_path: Path,
) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(VERSION_2.read_text())
        connection.execute(_WAITING_IN_VERSION_2)
    warehouse = Warehouse(path)
    assert set(adjusted(warehouse).values()) == {100.0, 50.0}
    found = read_proposals(warehouse, ALL)
    assert {(one.proposal, one.kind, one.table, one.date) for one in found} == {
        (1, "prices", "equities.bars", EVE),
        (1, "split", "equities.actions", DAY),
        (2, "volumes", "equities.bars", DAY),
    }
    assert [one.changes for one in found if one.kind == "split"] == [
        {"dividend": (None, 0.0), "split_ratio": (None, 2.0)}
    ]
    assert accept(warehouse, ProposalChoice(on=EVE), now=NOW) == 2
    assert (actions(warehouse), traded(warehouse)[DAY]) == ({DAY: (0.0, 2.0)}, (50.0, 1000, 0.0, 2.0))
    assert adjusted(warehouse)[EVE] == 100.0


def test_a_venue_that_divides_later_makes_one_proposal_of_what_waited_in_the_version_before(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(VERSION_2.read_text())
        connection.execute(_WAITING_IN_VERSION_2)
    warehouse = Warehouse(path)
    venue = Venue(traded={EVE: 100.0, DAY: 50.0, NEXT: 50.0}, told={DAY: 2.0}, volume=1000)
    venue.settle(warehouse, NEXT, NEXT)
    assert states(warehouse) == ["withdrawn", "resolved", "waiting"]
    assert set(adjusted(warehouse).values()) == {50.0}


_WAITING_IN_VERSION_2 = """
    insert into equities.bars values
        ('2024-03-22', 'A', 100, 100, 100, 100, 1000, 0, 1, true, 'ok', 'yahoo', '2024-03-22 22:00:00+00'),
        ('2024-03-25', 'A', 50, 50, 50, 50, 1000, 0, 2, false, 'ok', 'yahoo', '2024-03-25 22:00:00+00'),
        ('2024-03-25', 'B', 50, 50, 50, 50, 1000, 0, 1, true, 'ok', 'yahoo', '2024-03-25 22:00:00+00');
    insert into ops.quarantine by name
    select 'equities.bars' as "table", date, symbol as key, to_json(b)::varchar as old,
        to_json(struct_update(b, open := 200.0, high := 200.0, low := 200.0, close := 200.0))::varchar as new,
        timestamptz '2024-03-25 22:00:00+00' as seen_at, 'run' as run_id, 'waiting' as state, null as decided_at
    from equities.bars b where date = '2024-03-22'
    union all
    select 'equities.bars', date, symbol, to_json(b)::varchar, to_json(struct_update(b, volume := 9000))::varchar,
        timestamptz '2024-03-25 22:00:00+00', 'run', 'waiting', null
    from equities.bars b where symbol = 'B'
    union all
    select 'equities.actions', '2024-03-25', 'A', null,
        '{"symbol":"A","date":"2024-03-25","dividend":0.0,"split_ratio":2.0,"source":"yahoo",'
            || '"fetched_at":"2024-03-25 22:00:00+00"}',
        timestamptz '2024-03-25 22:00:00+00', 'run', 'waiting', null
"""
