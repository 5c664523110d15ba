"""From asked cells to a harvest, over the real client and the sandbox's Yahoo."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import wait_fixed, wait_none

from copilot_quant_pipeline.calendar import previous_session, sessions_in_range
from copilot_quant_pipeline.equities.bars import undo_later_splits
from copilot_quant_pipeline.equities.fetch import TAIL_DAYS, Fetching, fetch_spans, plan_window, reread_histories
from copilot_quant_pipeline.equities.yahoo import POLICY, YahooClient
from copilot_quant_pipeline.grid.cells import Span
from copilot_quant_pipeline.landing import InBackfill, Landing
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.warehouse.fetch_result import CELLS, Harvest
from copilot_quant_pipeline.warehouse.tables import BARS
from copilot_quant_pipeline_tests.conftest import NOW
from copilot_quant_pipeline_tests.equities.conftest import Answer, Replay, as_sent, chart_body

GRID_START = date(2024, 1, 2)
TODAY = date(2024, 3, 29)
DAYS = tuple(sessions_in_range(GRID_START, date(2024, 3, 28)))
NEWEST = DAYS[-1:]
HOW = Fetching(GRID_START, NOW, timedelta(hours=6), "yahoo")


def beside(*symbols: str) -> Fetching:
    """A run that asks for sessions beside the stored ones of `symbols`."""
    return replace(HOW, stored_beside=symbols)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(now=NOW) as sandbox:
        yield sandbox


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "landing")


@pytest.fixture
def yahoo(sandbox: Sandbox, tmp_path: Path) -> YahooClient:
    return YahooClient(tmp_path / "cache", url=sandbox.url, clock=lambda: NOW, wait=wait_none())


def reasons(harvest: Harvest) -> dict[str, set[str]]:
    """By symbol, what its cells became."""
    found: dict[str, set[str]] = {}
    for cell in harvest.cells.to_pylist():
        found.setdefault(cell["key"], set()).add(cell["reason"] or cell["outcome"])
    return found


def test_a_rectangle_costs_one_request_a_symbol_and_settles_every_cell(yahoo: YahooClient, landing: Landing) -> None:
    spans = [Span(symbol, DAYS) for symbol in ("AAPL", "BRK.B", "KO")]
    done: list[int] = []
    harvest = fetch_spans(yahoo, landing, spans, HOW, done.append)
    assert reasons(harvest) == {span.key: {"settled"} for span in spans}
    assert (harvest.cells.num_rows, harvest.rows.num_rows) == (3 * len(DAYS), 3 * len(DAYS))
    assert (harvest.requests, harvest.retries) == (3, 0)
    assert done == [len(DAYS)] * 3
    BARS.validated(harvest.rows)


def test_one_bad_symbol_leaves_the_others_settled(yahoo: YahooClient, landing: Landing) -> None:
    harvest = fetch_spans(yahoo, landing, [Span(symbol, DAYS) for symbol in ("AAPL", "ZZZZ", "KO")], HOW)
    assert reasons(harvest) == {"AAPL": {"settled"}, "ZZZZ": {"unknown_symbol"}, "KO": {"settled"}}
    assert set(harvest.rows.column("symbol").to_pylist()) == {"AAPL", "KO"}


def test_no_spans_are_no_cells(yahoo: YahooClient, landing: Landing) -> None:
    harvest = fetch_spans(yahoo, landing, [], HOW)
    assert (harvest.cells.schema, harvest.rows.schema, harvest.requests) == (CELLS, BARS.arrow, 0)


def test_a_kept_history_serves_any_number_of_runs(yahoo: YahooClient, landing: Landing) -> None:
    how = replace(HOW, backfill=InBackfill("one", HOW.now))
    harvests = [fetch_spans(yahoo, landing, [Span("AAPL", (day,))], how) for day in DAYS[-20:]]
    assert [harvest.requests for harvest in harvests] == [1] + [0] * 19
    assert all(reasons(harvest) == {"AAPL": {"settled"}} for harvest in harvests)


def test_what_is_kept_gives_the_same_harvest_as_what_was_fetched(yahoo: YahooClient, landing: Landing) -> None:
    spans = [Span(symbol, DAYS) for symbol in ("AAPL", "NVDA")]
    fetched, kept = (fetch_spans(yahoo, landing, spans, HOW) for _ in range(2))
    assert (fetched.requests, kept.requests) == (2, 0)
    assert fetched.cells == kept.cells
    assert fetched.rows == kept.rows


def test_the_tail_gives_the_same_bar_as_the_history(yahoo: YahooClient, landing: Landing, tmp_path: Path) -> None:
    spans = [Span(symbol, NEWEST) for symbol in ("AAPL", "NVDA", "KO")]
    tail = fetch_spans(yahoo, landing, spans, beside("AAPL", "NVDA", "KO"))
    history = fetch_spans(yahoo, Landing(tmp_path / "other"), spans, HOW)
    assert tail.requests == history.requests == 3
    assert tail.rows == history.rows


def test_one_request_settles_a_new_symbols_newest_session_and_its_backfill_in_either_order(
    yahoo: YahooClient, landing: Landing, tmp_path: Path
) -> None:
    backfill = replace(HOW, backfill=InBackfill("one", HOW.now))
    newest, *older = [Span("AAPL", (day,)) for day in DAYS[:-6:-1]]
    first = fetch_spans(yahoo, landing, [newest], HOW)
    then = [fetch_spans(yahoo, landing, [span], replace(backfill, stored_beside=["AAPL"])) for span in older]
    assert [harvest.requests for harvest in (first, *then)] == [1, 0, 0, 0, 0]
    other = Landing(tmp_path / "other")
    first, last = fetch_spans(yahoo, other, [older[0]], backfill), fetch_spans(yahoo, other, [newest], beside("AAPL"))
    assert [first.requests, last.requests] == [1, 0]


def test_refresh_asks_again(yahoo: YahooClient, landing: Landing) -> None:
    fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], HOW)
    assert fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], replace(HOW, refresh=True)).requests == 1


def test_a_kept_response_by_which_a_cell_fails_is_asked_for_again(
    sandbox: Sandbox, yahoo: YahooClient, landing: Landing
) -> None:
    sandbox.fault("lost_session", symbol="AAPL", date=DAYS[3])
    fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], HOW)
    sandbox.clear_faults()
    again = fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], HOW)
    assert (again.requests, reasons(again)) == (1, {"AAPL": {"settled"}})


@pytest.mark.parametrize("refresh", [False, True])
def test_the_runs_of_one_backfill_ask_once_a_symbol_though_cells_fail_or_it_refreshes(
    sandbox: Sandbox, yahoo: YahooClient, landing: Landing, refresh: bool
) -> None:
    sandbox.fault("lost_session", symbol="AAPL", date=DAYS[3])
    how = replace(HOW, backfill=InBackfill("one", HOW.now), refresh=refresh)
    harvests = [fetch_spans(yahoo, landing, [Span("AAPL", (day,))], how) for day in DAYS[:5]]
    assert [harvest.requests for harvest in harvests] == [1, 0, 0, 0, 0]
    outcomes = [reasons(harvest)["AAPL"] for harvest in harvests]
    assert outcomes == [{"settled"}, {"settled"}, {"settled"}, {"missing_at_source"}, {"settled"}]


def test_the_runs_of_one_backfill_ask_once_for_an_unknown_symbol_and_other_runs_ask_anew(
    yahoo: YahooClient, landing: Landing
) -> None:
    how = replace(HOW, backfill=InBackfill("one", HOW.now))
    first, *others = [fetch_spans(yahoo, landing, [Span("NOSUCH", (day,))], how) for day in DAYS[:4]]
    assert first.requests > 0
    assert [harvest.requests for harvest in others] == [0, 0, 0]
    assert [reasons(harvest) for harvest in (first, *others)] == [{"NOSUCH": {"unknown_symbol"}}] * 4
    # Begun at the same instant, and yet another one.
    another = replace(HOW, backfill=InBackfill("another", HOW.now))
    for elsewhere in (HOW, another):
        assert fetch_spans(yahoo, landing, [Span("NOSUCH", DAYS)], elsewhere).requests > 0


def test_a_trouble_that_may_pass_is_asked_for_again_within_a_backfill(
    sandbox: Sandbox, yahoo: YahooClient, landing: Landing
) -> None:
    how = replace(HOW, backfill=InBackfill("one", HOW.now))
    sandbox.fault("server_error", symbol="AAPL")
    assert reasons(fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], how)) == {"AAPL": {"unavailable"}}
    sandbox.clear_faults()
    assert reasons(fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], how)) == {"AAPL": {"settled"}}


def test_a_kept_response_is_not_taken_after_the_next_close_or_its_time(yahoo: YahooClient, landing: Landing) -> None:
    fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], HOW)
    late = replace(HOW, now=NOW + timedelta(hours=7))
    assert fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], late).requests == 1
    after_close = replace(HOW, now=datetime(2024, 4, 1, 20, 30, tzinfo=UTC), ttl=timedelta(days=30))
    assert fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], after_close).requests == 1


def test_a_damaged_kept_response_is_fetched_again(yahoo: YahooClient, landing: Landing, tmp_path: Path) -> None:
    fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], HOW)
    (file,) = (tmp_path / "landing").rglob("*.parquet")
    file.write_bytes(b"not what it was")
    harvest = fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], HOW)
    assert (harvest.requests, reasons(harvest)) == (1, {"AAPL": {"settled"}})


@pytest.mark.parametrize("backfill", [None, InBackfill("one", HOW.now)])
def test_what_a_program_kept_that_read_less_of_an_answer_is_fetched_again(
    yahoo: YahooClient, landing: Landing, tmp_path: Path, backfill: InBackfill | None
) -> None:
    how = replace(HOW, backfill=backfill)
    fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], how)
    (folder,) = (path.name for path in (tmp_path / "landing").iterdir())
    kept = landing.read(folder, "AAPL")
    assert kept is not None
    landing.keep(folder, "AAPL", replace(kept, payload=kept.payload.drop_columns(["split_ratio"])))
    harvest = fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], how)
    assert (harvest.requests, reasons(harvest)) == (1, {"AAPL": {"settled"}})


def test_a_lost_session_and_a_bad_bar_fail_their_own_cells(
    sandbox: Sandbox, yahoo: YahooClient, landing: Landing
) -> None:
    sandbox.fault("lost_session", symbol="AAPL", date=DAYS[3])
    sandbox.fault("null_bar", symbol="AAPL", date=DAYS[5])
    sandbox.fault("bad_bar", symbol="AAPL", date=DAYS[7])
    harvest = fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], HOW)
    failed = {cell["date"]: cell["reason"] for cell in harvest.cells.to_pylist() if cell["outcome"] == "failed"}
    assert failed == {DAYS[3]: "missing_at_source", DAYS[5]: "missing_at_source", DAYS[7]: "malformed_bar"}
    assert harvest.rows.num_rows == len(DAYS) - 3


def test_a_passing_fault_costs_a_retry_and_nothing_else(sandbox: Sandbox, yahoo: YahooClient, landing: Landing) -> None:
    for kind in ("rate_limit", "server_error", "truncated", "html", "drop"):
        sandbox.fault(kind, symbol="AAPL", times=1)
        harvest = fetch_spans(yahoo, landing, [Span("AAPL", DAYS)], replace(HOW, refresh=True))
        assert (harvest.requests, harvest.retries, reasons(harvest)) == (2, 1, {"AAPL": {"settled"}}), kind


def test_a_venue_that_is_down_is_not_asked_for_every_symbol(
    sandbox: Sandbox, yahoo: YahooClient, landing: Landing
) -> None:
    sandbox.fault("rate_limit")
    spans = [Span(f"SYM{number}", NEWEST) for number in range(50)]
    harvest = fetch_spans(yahoo, landing, spans, replace(HOW, threads=4))
    assert set().union(*reasons(harvest).values()) == {"rate_limited"}
    assert harvest.cells.num_rows == 50
    assert harvest.requests <= 4 * POLICY.attempts + 1


def test_refused_symbols_that_take_every_thread_leave_the_others_settled(
    sandbox: Sandbox, yahoo: YahooClient, landing: Landing
) -> None:
    refused, fine = ["ABBV", "ABT", "ACN", "ADBE"], ["AAPL", "KO", "MSFT", "NVDA", "PEP", "WMT"]
    for symbol in refused:
        sandbox.fault("rate_limit", symbol=symbol)
    harvest = fetch_spans(yahoo, landing, [Span(key, NEWEST) for key in (*refused, *fine)], replace(HOW, threads=4))
    assert reasons(harvest) == {**dict.fromkeys(refused, {"rate_limited"}), **dict.fromkeys(fine, {"settled"})}


def test_a_split_announced_later_leaves_the_bars_as_they_were(
    sandbox: Sandbox, yahoo: YahooClient, landing: Landing
) -> None:
    before = fetch_spans(yahoo, landing, [Span("KO", DAYS[:-1])], HOW)
    sandbox.fault("split_announced", symbol="KO", date=DAYS[-1], ratio=3)
    after = fetch_spans(yahoo, landing, [Span("KO", DAYS)], replace(HOW, refresh=True))
    assert after.rows.slice(len(DAYS) - 1).column("split_ratio").to_pylist() == [3.0]
    for name in ("open", "high", "low", "close", "dividend"):
        assert after.rows.slice(0, len(DAYS) - 1).column(name) == before.rows.column(name)


def test_a_tail_that_yahoo_refuses_or_leaves_empty_is_settled_from_the_history(
    replay: Replay, tmp_path: Path, landing: Landing
) -> None:
    client = YahooClient(tmp_path / "cache", url=replay.url, clock=lambda: NOW, wait=wait_none())
    refused = Answer('{"chart":{"result":null,"error":{"description":"Data doesn\'t exist for startDate"}}}', 400)
    history = Answer(chart_body(list(DAYS)))
    for tail in (refused, Answer(chart_body([]))):
        replay.answers(tail, history)
        harvest = fetch_spans(client, landing, [Span("AAPL", NEWEST)], replace(beside("AAPL"), refresh=True))
        assert (harvest.requests, reasons(harvest)) == (2, {"AAPL": {"settled"}})


def test_a_symbol_that_began_within_the_tail_is_told_from_one_with_a_lost_session(
    replay: Replay, tmp_path: Path, landing: Landing
) -> None:
    client = YahooClient(tmp_path / "cache", url=replay.url, clock=lambda: NOW, wait=wait_none())
    days, tail = list(DAYS), Answer(chart_body(list(NEWEST)))
    replay.answers(tail, Answer(chart_body(days[:-2] + days[-1:])))
    lost = fetch_spans(client, landing, [Span("OLD", DAYS[-2:])], beside("OLD"))
    replay.answers(tail, tail)
    new = fetch_spans(client, landing, [Span("NEW", DAYS[-2:])], beside("NEW"))
    assert reasons(lost)["OLD"] == {"missing_at_source", "settled"}
    assert reasons(new)["NEW"] == {"not_listed", "settled"}


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"symbol": "OTHER"}, "another_instrument"),
        ({"exchangeTimezoneName": "Europe/London"}, "another_instrument"),
        ({"currency": "GBp"}, "another_currency"),
    ],
)
def test_an_answer_of_something_else_is_never_stored_nor_kept(
    replay: Replay, tmp_path: Path, landing: Landing, meta: dict[str, str], reason: str
) -> None:
    client = YahooClient(tmp_path / "cache", url=replay.url, clock=lambda: NOW, wait=wait_none())
    wrong = json.loads(chart_body(list(DAYS), symbol="KO"))
    wrong["chart"]["result"][0]["meta"].update(meta)
    for how in (HOW, beside("KO"), replace(HOW, backfill=InBackfill("b", NOW))):
        replay.answers(Answer(json.dumps(wrong)))
        refused = fetch_spans(client, landing, [Span("KO", NEWEST)], how)
        assert (reasons(refused), refused.rows.num_rows, refused.seen_again) == ({"KO": {reason}}, 0, None)
        assert next(iter(meta.values())) in refused.cells.column("detail")[0].as_py()
    reread = reread_histories(client, landing, ["KO"], HOW)
    assert (reread.refused["KO"].reason, reread.harvest.seen_again) == (reason, None)
    replay.answers(Answer(chart_body(list(DAYS), symbol="KO")))
    assert reasons(fetch_spans(client, landing, [Span("KO", NEWEST)], HOW)) == {"KO": {"settled"}}


def test_why_a_dividend_is_not_known_is_kept_with_its_answer(replay: Replay, tmp_path: Path, landing: Landing) -> None:
    client = YahooClient(tmp_path / "cache", url=replay.url, clock=lambda: NOW, wait=wait_none())
    paid = json.loads(chart_body(list(DAYS)))
    at = paid["chart"]["result"][0]["timestamp"][3]
    paid["chart"]["result"][0]["events"] = {"dividends": {"x": {"date": at, "amount": 1, "currency": "CAD"}}}
    replay.answers(Answer(json.dumps(paid)))
    backfill = replace(HOW, backfill=InBackfill("b", NOW))
    for dates in (DAYS[:2], DAYS[2:]):
        harvest = fetch_spans(client, landing, [Span("KO", dates)], backfill)
    failed = [cell for cell in harvest.cells.to_pylist() if cell["outcome"] == "failed"]
    assert [(cell["date"], cell["reason"]) for cell in failed] == [(DAYS[3], "another_currency")]
    assert "CAD" in failed[0]["detail"]
    assert replay.charts == 1


def test_an_interrupt_ends_all_waiting_and_keeps_what_was_fetched(
    sandbox: Sandbox, landing: Landing, tmp_path: Path
) -> None:
    patient = YahooClient(tmp_path / "cache", url=sandbox.url, clock=lambda: NOW, wait=wait_fixed(600))
    sandbox.fault("server_error", symbol="KO")

    def interrupt(symbol: str) -> None:
        raise KeyboardInterrupt

    spans = [Span(symbol, DAYS) for symbol in ("KO", "AAPL")]
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fetch_spans(patient, landing, spans, HOW, interrupt)
    assert time.monotonic() - began < 120
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("yahoo")]
    assert fetch_spans(patient, landing, [Span("AAPL", DAYS)], HOW).requests == 0


def test_recorded_symbols_come_through_the_wire_as_they_were_recorded(recorded: Path, tmp_path: Path) -> None:
    import pandas as pd

    source = recorded / "yahoo" / "daily_2016_2026.parquet"
    frame, now = pd.read_parquet(source), datetime(2026, 3, 13, 22, tzinfo=UTC)
    start, end = date(2016, 3, 14), date(2026, 3, 13)
    symbols = ["AAPL", "ABNB", "BRK.B", "GE", "SW", "NVDA"]
    with Sandbox(recorded=source, now=now) as sandbox:
        client = YahooClient(tmp_path / "cache", url=sandbox.url, clock=lambda: now)
        how = Fetching(start, now, timedelta(hours=6), "yahoo")
        spans = [Span(symbol, tuple(sessions_in_range(start, end))) for symbol in symbols]
        harvest = fetch_spans(client, Landing(tmp_path / "landing"), spans, how)
    assert reasons(harvest) == {symbol: {"settled"} for symbol in symbols} | {"ABNB": {"settled", "not_listed"}}
    rows = harvest.rows.to_pandas()
    for symbol in symbols:
        mine = rows[rows["symbol"] == symbol].reset_index(drop=True)
        expected = undo_later_splits(as_sent(frame, symbol.replace(".", "-"))).to_pandas()
        for name in ("date", "open", "high", "low", "close", "volume", "dividend", "split_ratio"):
            assert (mine[name] == expected[name]).all(), (symbol, name)


dates = st.sets(st.dates(date(2024, 2, 1), TODAY), min_size=1).map(lambda days: tuple(sorted(days)))


@given(dates, st.booleans())
def test_a_window_holds_every_asked_date_and_runs_to_today(days: tuple[date, ...], whole: bool) -> None:
    window = plan_window(Span("AAPL", days), GRID_START, TODAY, whole=whole)
    # And the session before them, whose bar may be provisional still.
    assert window.start <= max(GRID_START, previous_session(days[0]))
    assert window.end == TODAY
    assert (window.kind == "tail") == (days[0] >= TODAY - timedelta(days=TAIL_DAYS) and not whole)


@given(dates)
def test_all_windows_of_the_whole_are_the_same(days: tuple[date, ...]) -> None:
    windows = {plan_window(Span("AAPL", (day,)), GRID_START, TODAY, whole=True) for day in days}
    assert len(windows) == 1
