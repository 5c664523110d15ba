"""Claims about stored bars of which a venue says otherwise later: restated, or held until a person decides."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.warehouse.fetch_result import WINDOWS, SeenAgain
from copilot_quant_pipeline.warehouse.quarantine import ProposalChoice, accept, read_proposals, reject
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS, InvalidRowsError
from copilot_quant_pipeline.warehouse.warehouse import SettleResult, Warehouse
from copilot_quant_pipeline_tests.warehouse.world import (
    FETCHED,
    MON,
    TUE,
    WED,
    bar,
    bars,
    cell,
    cells,
    settle_bars,
    stored,
)

DAYS = sessions_in_range(date(2023, 11, 1), WED)
LATER = FETCHED + timedelta(days=1)
EVERYTHING = ProposalChoice()


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb")


def seen(*given: dict[str, Any], start: date = DAYS[0], end: date = WED) -> SeenAgain:
    rows = bars(*({**row, "first_seen_at": LATER} for row in given))
    windows = [
        {"key": key, "start": start, "end": end, "fetched_at": LATER} for key in {row["symbol"] for row in given}
    ]
    return SeenAgain(rows, pa.Table.from_pylist(windows, schema=WINDOWS))


def see_again(
    warehouse: Warehouse, *given: dict[str, Any], told: pa.Table | None = None, run_id: str = "two"
) -> SettleResult:
    return warehouse.settle(BARS, cells(), bars(), run_id=run_id, seen_again=seen(*given), actions=told)


def action(day: date, symbol: str = "A", dividend: float = 0.0, split_ratio: float = 1.0) -> pa.Table:
    row = {"symbol": symbol, "date": day, "dividend": dividend, "split_ratio": split_ratio, "source": "yahoo"}
    return pa.Table.from_pylist([{**row, "first_seen_at": LATER}], schema=ACTIONS.arrow)


def restated(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    rows = warehouse.read(
        'select "table", date, "column", old, new from ops.restatements order by "table" desc, date, "column"'
    )
    return [tuple(row.values()) for row in rows.to_pylist()]


def adjusted_closes(warehouse: Warehouse) -> list[float]:
    rows = warehouse.read("select close from equities.adjusted_bars order by date")
    return rows.column("close").to_pylist()  # type: ignore[no-any-return]


def waiting(warehouse: Warehouse) -> list[tuple[date, str]]:
    return [(proposal.date, proposal.key) for proposal in read_proposals(warehouse, EVERYTHING)]


def states(warehouse: Warehouse) -> list[str]:
    rows = warehouse.read("select state from ops.quarantine order by seen_at, date")
    return rows.column("state").to_pylist()  # type: ignore[no-any-return]


def test_a_bar_that_is_seen_again_with_another_value_is_restated(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"), bar(TUE, "A"), run_id="one")
    settled = see_again(warehouse, bar(MON, "A", 101.0), bar(TUE, "A"))
    assert (settled.inserted, settled.restated, settled.unchanged) == (0, 1, 0)
    assert stored(warehouse) == [(MON, "A", 101.0), (TUE, "A", 100.0)]
    assert {row[2:] for row in restated(warehouse)} == {
        (name, "100.0", "101.0") for name in ("open", "high", "low", "close")
    }
    (row,) = warehouse.read("select distinct seen_at, run_id from ops.restatements").to_pylist()
    assert row == {"seen_at": LATER, "run_id": "two"}
    (summary,) = warehouse.read("select asked, restated from ops.run_summary where run_id = 'two'").to_pylist()
    assert summary == {"asked": 0, "restated": 1}


def test_a_session_that_is_not_stored_is_not_invented(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"))
    settled = see_again(warehouse, bar(MON, "A"), bar(TUE, "A"), bar(MON, "B"))
    assert (settled.inserted, settled.restated) == (0, 0)
    assert stored(warehouse) == [(MON, "A", 100.0)]
    assert warehouse.coverage("equities").num_rows == 1


def test_a_bar_that_is_seen_again_becomes_final(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A", confirmed_at=None))
    assert see_again(warehouse, bar(MON, "A", 100.00005)).restated == 0
    assert stored(warehouse, ["confirmed_at"]) == [(FETCHED,)]
    assert restated(warehouse) == []


def test_what_was_asked_for_cannot_also_be_seen_again(warehouse: Warehouse) -> None:
    with pytest.raises(InvalidRowsError, match="2024-03-25 A"):
        warehouse.settle(BARS, cells(cell(MON, "A")), bars(bar(MON, "A")), run_id="one", seen_again=seen(bar(MON, "A")))


def test_a_stored_bar_that_an_answer_no_longer_holds_is_counted_and_kept(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"), bar(TUE, "A"), bar(WED, "A"), bar(MON, "B"))
    answer = seen(bar(TUE, "A"), start=MON, end=TUE)
    settled = warehouse.settle(BARS, cells(), bars(), run_id="two", seen_again=answer)
    assert settled.lost == 1
    assert len(stored(warehouse)) == 4


def test_a_session_that_is_asked_for_and_fails_is_not_lost_besides(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"), bar(TUE, "A"))
    asked = cells(cell(MON, "A", "failed", "missing_at_source"))
    assert warehouse.settle(BARS, asked, bars(), run_id="two", seen_again=seen(bar(TUE, "A"))).lost == 0


def test_a_late_dividend_is_restated_in_its_bar_and_among_the_actions(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"), bar(TUE, "A"))
    see_again(warehouse, bar(MON, "A"), bar(TUE, "A", dividend=0.26), told=action(TUE, dividend=0.26))
    assert restated(warehouse) == [
        ("equities.bars", TUE, "dividend", "0.0", "0.26"),
        ("equities.actions", TUE, "dividend", "0.0", "0.26"),
    ]
    assert warehouse.read("select dividend from equities.actions").to_pylist() == [{"dividend": 0.26}]


def test_a_newly_announced_split_is_restated_and_adjusts_what_was_before(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"), bar(TUE, "A", 50.0))
    see_again(warehouse, bar(MON, "A"), bar(TUE, "A", 50.0, split_ratio=2.0), told=action(TUE, split_ratio=2.0))
    assert restated(warehouse) == [
        ("equities.bars", TUE, "split_ratio", "1.0", "2.0"),
        ("equities.actions", TUE, "split_ratio", "1.0", "2.0"),
    ]
    assert adjusted_closes(warehouse) == [50.0, 50.0]


def test_an_action_of_a_session_nobody_asked_for_is_news_and_no_restatement(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(TUE, "A"))
    see_again(warehouse, bar(TUE, "A"), told=action(MON, dividend=1.0))
    assert restated(warehouse) == []
    assert warehouse.read("from equities.actions").num_rows == 1


@pytest.mark.parametrize(("volume", "counts"), [(1004, 0), (996, 0), (1005, 1), (995, 1)])
def test_after_a_reverse_split_volumes_off_by_half_a_new_share_are_no_restatement(
    warehouse: Warehouse, volume: int, counts: int
) -> None:
    settle_bars(warehouse, bar(MON, "A", volume=1000, confirmed_at=None), bar(TUE, "A"))
    # One new share for eight: volumes are told in eights of a share.
    settled = see_again(warehouse, bar(MON, "A", volume=volume), told=action(WED, split_ratio=0.125))
    assert settled.restated == counts
    assert stored(warehouse, ["volume", "confirmed_at"])[0] == (volume if counts else 1000, FETCHED)


def test_without_a_later_reverse_split_one_share_is_a_restatement(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(TUE, "A", volume=1000))
    told = pa.concat_tables([action(MON, split_ratio=0.125), action(WED, split_ratio=4.0)])
    assert see_again(warehouse, bar(TUE, "A", volume=1001), told=told).restated == 1


def test_a_price_that_moves_by_more_than_a_fifth_waits_for_a_person(warehouse: Warehouse) -> None:
    others = [bar(day, "A") for day in DAYS[:50]]
    settle_bars(warehouse, *others, bar(MON, "A"), bar(TUE, "A"), bar(MON, "B", confirmed_at=None))
    settled = see_again(
        warehouse, bar(MON, "A", volume=999, low=79.0), bar(TUE, "A", 120.0), bar(MON, "B", 121.0, confirmed_at=FETCHED)
    )
    # What is wrong with a price says nothing of the volume.
    assert (settled.restated, settled.quarantined) == (2, 2)
    assert stored(warehouse, ["symbol", "low", "volume"])[len(others) :] == [
        ("A", 100.0, 999),
        ("A", 120.0, 1000),
        ("B", 100.0, 1000),
    ]
    first, second = read_proposals(warehouse, EVERYTHING)
    assert (first.table, first.date, first.key, first.run_id) == ("equities.bars", MON, "A", "two")
    assert (first.kind, first.changes) == ("prices", {"low": (100.0, 79.0)})
    assert (second.key, second.seen_at, second.decided_at) == ("B", LATER, None)
    (summary,) = warehouse.read("select restated, quarantined from ops.run_summary where run_id = 'two'").to_pylist()
    assert summary == {"restated": 2, "quarantined": 2}


@pytest.mark.parametrize("close", [7.0, 33.3, 0.1, 1234.567])
def test_a_price_that_moves_by_exactly_a_fifth_is_believed(warehouse: Warehouse, close: float) -> None:
    settle_bars(warehouse, *(bar(day, key, close) for day in DAYS[:2] for key in ("rises", "falls")))
    settled = see_again(warehouse, bar(DAYS[0], "rises", close * 1.2), bar(DAYS[0], "falls", close * 0.8))
    assert (settled.restated, settled.quarantined) == (2, 0)
    further = bar(DAYS[1], "rises", close * 1.20001), bar(DAYS[1], "falls", close * 0.79999)
    assert see_again(warehouse, *further).quarantined == 2


@pytest.mark.parametrize(("moved", "counts"), [(4.9e-6, 0), (-4.9e-6, 0), (5.1e-6, 1), (-5.1e-6, 1)])
def test_a_price_that_moves_by_more_than_rounding_is_restated(warehouse: Warehouse, moved: float, counts: int) -> None:
    settle_bars(warehouse, bar(MON, "B"))
    assert see_again(warehouse, bar(MON, "B", 100 * (1 + moved))).restated == counts


@pytest.mark.parametrize(("volume", "counts"), [(1_000_100, 0), (999_900, 0), (1_000_101, 1), (999_899, 1)])
def test_a_volume_that_moves_by_more_than_rounding_is_restated(warehouse: Warehouse, volume: int, counts: int) -> None:
    settle_bars(warehouse, bar(MON, "B", volume=1_000_000))
    assert see_again(warehouse, bar(MON, "B", volume=volume)).restated == counts
    # What differs by rounding alone is not stored with what does not.
    see_again(warehouse, bar(MON, "B", 101.0, volume=volume))
    assert stored(warehouse, ["close", "volume"]) == [(101.0, volume if counts else 1_000_000)]


@pytest.mark.parametrize(
    ("stored_bars", "changed", "is_held"),
    [(100, 5, False), (100, 6, True), (40, 2, False), (40, 3, True), (20, 1, False), (20, 2, True)],
)
def test_changes_of_more_than_a_twentieth_of_a_symbols_bars_wait(
    warehouse: Warehouse, stored_bars: int, changed: int, is_held: bool
) -> None:
    settle_bars(warehouse, *(bar(day, symbol) for day in DAYS[:stored_bars] for symbol in "AB"))
    settled = see_again(warehouse, *(bar(day, "A", 101.0) for day in DAYS[:changed]), bar(DAYS[0], "B", 101.0))
    assert (settled.restated, settled.quarantined) == ((1, changed) if is_held else (changed + 1, 0))


def test_a_single_bar_or_provisional_ones_are_no_mass_change(warehouse: Warehouse) -> None:
    settle_bars(
        warehouse, *(bar(day, "A", confirmed_at=None) for day in DAYS[:20]), *(bar(day, "B") for day in DAYS[:4])
    )
    changed = [bar(day, "A", 101.0) for day in DAYS[:20]] + [bar(DAYS[0], "B", 101.0)]
    assert see_again(warehouse, *changed).quarantined == 0
    assert see_again(warehouse, *(bar(day, "B", 102.0) for day in DAYS[:2])).quarantined == 2


def test_provisional_bars_are_revised_though_a_symbols_others_are_held(warehouse: Warehouse) -> None:
    settle_bars(warehouse, *(bar(day, "A") for day in DAYS[:9]), bar(DAYS[9], "A", confirmed_at=None))
    settled = see_again(warehouse, *(bar(day, "A", 101.0) for day in DAYS[:10]))
    assert (settled.restated, settled.quarantined) == (1, 9)


def test_an_asked_cell_whose_change_is_not_believed_is_green_and_keeps_its_row(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"))
    settled = settle_bars(warehouse, bar(MON, "A", 150.0))
    assert (settled.inserted, settled.restated, settled.unchanged, settled.quarantined) == (0, 0, 0, 1)
    assert settled.cells.column("outcome").to_pylist() == ["settled"]
    assert stored(warehouse) == [(MON, "A", 100.0)]
    (row,) = warehouse.coverage("equities").to_pylist()
    assert (row["outcome"], row["rows"], row["reason"]) == ("settled", 1, None)


def test_what_waits_stays_one_proposal_however_often_and_in_whatever_pieces_it_comes(warehouse: Warehouse) -> None:
    settle_bars(warehouse, *(bar(day, "A") for day in DAYS[:20]))
    changed = [bar(day, "A", 101.0) for day in DAYS[:20]]
    assert see_again(warehouse, *changed).quarantined == 20
    for piece in changed[:3]:
        assert settle_bars(warehouse, piece, run_id="three").quarantined == 1
    assert see_again(warehouse, *changed, run_id="four").quarantined == 20
    assert states(warehouse) == ["waiting"] * 20
    assert len(stored(warehouse)) == 20
    assert restated(warehouse) == []


def test_a_rejected_change_is_not_asked_about_again_but_another_is(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"))
    see_again(warehouse, bar(MON, "A", 150.0))
    assert reject(warehouse, EVERYTHING, now=LATER) == 1
    again = see_again(warehouse, bar(MON, "A", 150.00001))
    assert (again.restated, again.quarantined, waiting(warehouse)) == (0, 0, [])
    assert see_again(warehouse, bar(MON, "A", 160.0)).quarantined == 1
    assert states(warehouse) == ["rejected", "waiting"]
    assert stored(warehouse) == [(MON, "A", 100.0)]


@pytest.mark.parametrize(("close", "restates"), [(100.0, 0), (101.0, 1)])
def test_a_change_the_venue_takes_back_waits_no_longer(warehouse: Warehouse, close: float, restates: int) -> None:
    settle_bars(warehouse, bar(MON, "A"))
    see_again(warehouse, bar(MON, "A", 150.0))
    settled = see_again(warehouse, bar(MON, "A", close))
    assert (settled.restated, settled.quarantined) == (restates, 0)
    assert states(warehouse) == ["withdrawn"]
    assert stored(warehouse) == [(MON, "A", close)]


def test_another_doubtful_value_takes_the_place_of_the_one_that_waits(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A"))
    for close in (150.0, 160.0):
        see_again(warehouse, bar(MON, "A", close))
    (proposal,) = read_proposals(warehouse, EVERYTHING)
    assert proposal.changes["close"] == (100.0, 160.0)
    assert states(warehouse) == ["withdrawn", "waiting"]


def test_accepting_stores_the_row_and_records_it_by_the_run_that_saw_it(warehouse: Warehouse) -> None:
    settle_bars(warehouse, bar(MON, "A", confirmed_at=None), bar(TUE, "A"), bar(MON, "B"))
    see_again(warehouse, bar(MON, "A", 150.0), bar(TUE, "A", 150.0), bar(MON, "B", 150.0))
    assert accept(warehouse, ProposalChoice(["A"], MON), now=LATER) == 1
    assert stored(warehouse, ["date", "close", "confirmed_at", "first_seen_at"])[0] == (MON, 150.0, FETCHED, LATER)
    assert waiting(warehouse) == [(TUE, "A"), (MON, "B")]
    assert warehouse.read("select distinct run_id from ops.restatements").to_pylist() == [{"run_id": "two"}]
    assert ("equities.bars", MON, "close", "100.0", "150.0") in restated(warehouse)
    assert accept(warehouse, ProposalChoice(on=MON), now=LATER) == 1
    (accepted, _) = read_proposals(warehouse, ProposalChoice(on=MON), ("accepted",))
    assert accepted.decided_at == LATER


prices = st.floats(1e-6, 1e12, allow_nan=False)


@settings(max_examples=4, deadline=None)
@given(st.lists(st.tuples(prices, prices, st.integers(0, 2**53)), min_size=1, max_size=len(DAYS)))
def test_what_is_accepted_is_what_was_proposed_to_the_last_bit(changes: list[tuple[float, float, int]]) -> None:
    with TemporaryDirectory() as home:
        warehouse = Warehouse(Path(home) / "warehouse.duckdb")
        changed = list(zip(DAYS, changes, strict=False))
        settle_bars(warehouse, *(bar(day, "A", price) for day, (price, _, _) in changed))
        proposed = [
            bar(day, "A", price * 1.7, dividend=dividend, volume=volume, quality="ohlc_inconsistent")
            for day, (price, dividend, volume) in changed
        ]
        assert see_again(warehouse, *proposed).quarantined == len(changes)
        accept(warehouse, EVERYTHING, now=datetime(2024, 4, 1, tzinfo=UTC))
        assert warehouse.read("from equities.bars order by date").to_pylist() == [
            {**row, "first_seen_at": datetime(2024, 4, 1, tzinfo=UTC)} for row in proposed
        ]
