"""Claims about values a venue changes later: what `update`, a refresh and the re-reading of histories make of them."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import dagster as dg
import pytest
from tenacity import wait_none

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.equities.sources import EquitySources
from copilot_quant_pipeline.equities.verification import part_of_week, plan_part
from copilot_quant_pipeline.equities.yahoo import YahooClient
from copilot_quant_pipeline.landing import Landing
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.backfill import run_in_process
from copilot_quant_pipeline_tests.cli.conftest import Desk, Said

CHART = "/v8/finance/chart/{symbol}"
THURSDAY, MONDAY, TUESDAY = date(2024, 3, 28), date(2024, 4, 1), date(2024, 4, 2)
CORRECTED = date(2024, 3, 27)
SESSIONS = sessions_in_range(date(2024, 1, 2), THURSDAY)


def after(desk: Desk, session: date) -> None:
    """Go to the morning after a session."""
    now = f"{session.replace(day=session.day + 1)}T14:00:00+00:00"
    desk.set({"COPILOT_QUANT_NOW": now})
    desk.venues.pin_clock(datetime.fromisoformat(now))


def updated(desk: Desk) -> dict[str, Any]:
    said = desk.run("update", "equities", "--json")
    assert said.code == 0, said
    return dict(json.loads(said.out))


def closes(desk: Desk, symbol: str = "KO") -> dict[date, float]:
    rows = desk.warehouse.read("select date, close from equities.bars where symbol = $symbol", {"symbol": symbol})
    return {row["date"]: row["close"] for row in rows.to_pylist()}


def proposals(desk: Desk, *arguments: str) -> list[dict[str, Any]]:
    said = desk.run("quarantine", "list", "--json", *arguments)
    assert said.code == 0, said
    return list(json.loads(said.out)["proposals"])


def newest_metadata(desk: Desk, asset: str) -> dict[str, Any]:
    with open_instance(desk.settings.dagster_home) as instance:
        (record,) = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def verify(desk: Desk, **config: Any) -> dict[str, Any]:
    """Run `history_verified` as its schedule does; its metadata."""
    with open_instance(desk.settings.dagster_home) as instance:
        settings = Settings.from_environment()
        yahoo = YahooClient(settings.home / "cache", url=settings.yahoo_url, clock=settings.now, wait=wait_none())
        sources = EquitySources(settings, yahoo, Landing(settings.landing_path))
        job = build_definitions(settings, equity_sources=sources).resolve_implicit_global_asset_job_def()
        run_in_process(job, instance, "history_verified", {}, {"ops": {"history_verified": {"config": config}}})
    return newest_metadata(desk, "history_verified")


@pytest.fixture
def kept(desk: Desk) -> Desk:
    """A desk that holds three months of two symbols, on the morning after Thursday."""
    assert desk.run("backfill", "equities", "--symbols", "KO,PG").code == 0
    desk.venues.reset_requests()
    return desk


def test_an_update_asks_for_the_new_session_alone_and_confirms_the_one_before(kept: Desk) -> None:
    finals = """
        select date, confirmed_at is not null as is_final from equities.bars
        where date >= '2024-03-27' and symbol = 'KO' order by date
    """
    assert [row["is_final"] for row in kept.warehouse.read(finals).to_pylist()] == [True, False]
    after(kept, MONDAY)
    assert updated(kept)["restated"] == 0
    assert kept.venues.requests()[CHART] == 2
    assert [row["is_final"] for row in kept.warehouse.read(finals).to_pylist()] == [True, True, False]
    asked = kept.warehouse.read("select asked from ops.run_summary order by started_at").column("asked").to_pylist()
    assert asked == [2 * len(SESSIONS), 2]


def test_a_bar_becomes_final_though_nobody_asked_for_a_week(kept: Desk) -> None:
    after(kept, date(2024, 4, 7))  # the oldest session of that week is just what an update asks for
    updated(kept)
    provisional = kept.warehouse.read("select distinct date from equities.bars where confirmed_at is null").to_pylist()
    assert provisional == [{"date": date(2024, 4, 5)}]


def test_a_late_correction_is_restated_by_the_next_update_and_told(kept: Desk) -> None:
    before = closes(kept)
    kept.venues.fault("correction", symbol="KO", date=CORRECTED, factor=1.01)
    after(kept, MONDAY)
    assert (updated(kept)["restated"], kept.venues.requests()[CHART]) == (1, 2)
    assert closes(kept)[CORRECTED] == pytest.approx(before[CORRECTED] * 1.01, rel=1e-6)
    changes = kept.warehouse.read('select date, key, "column", old from ops.restatements order by "column"').to_pylist()
    assert [row["column"] for row in changes] == ["close", "high", "low", "open", "volume"]
    assert (changes[0]["date"], changes[0]["key"], float(changes[0]["old"])) == (CORRECTED, "KO", before[CORRECTED])
    assert newest_metadata(kept, "equity_bars")["restated"] == 1
    after(kept, TUESDAY)
    assert updated(kept)["restated"] == 0


def test_a_correction_long_ago_is_seen_by_whatever_reads_the_history(kept: Desk) -> None:
    first = SESSIONS[0]
    kept.venues.fault("correction", symbol="KO", date=first, factor=1.01)
    before = closes(kept)[first]
    command = ("backfill", "equities", "--symbols", "KO", "--start", "2024-02-01", "--end", "2024-02-01", "--refresh")
    said = kept.run(*command)
    assert said.code == 0
    assert "1 stored rows restated" in said.out
    assert closes(kept)[first] == pytest.approx(before * 1.01, rel=1e-6)


def test_a_correction_too_large_to_be_believed_waits_and_the_update_is_green(kept: Desk) -> None:
    before = closes(kept)
    kept.venues.fault("correction", symbol="KO", date=CORRECTED, factor=1.5)
    for session, restated in ((MONDAY, 1), (TUESDAY, 0)):  # the volume is believed
        after(kept, session)
        answer = updated(kept)
        assert (answer["restated"], answer["quarantined"]) == (restated, 1)
    assert closes(kept)[CORRECTED] == before[CORRECTED]
    assert newest_metadata(kept, "equity_bars")["quarantined"] == 1
    (proposal,) = proposals(kept)
    assert (proposal["key"], proposal["date"], proposal["state"]) == ("KO", str(CORRECTED), "waiting")
    assert proposal["changes"]["close"][0] == before[CORRECTED]
    (row,) = kept.warehouse.coverage("equities", ["KO"], CORRECTED, CORRECTED).to_pylist()
    assert (row["outcome"], row["rows"], row["reason"]) == ("settled", 1, None)


def test_what_waits_is_accepted_by_command(kept: Desk) -> None:
    before = closes(kept)
    kept.venues.fault("correction", symbol="KO", date=CORRECTED, factor=1.5)
    after(kept, MONDAY)
    updated(kept)
    assert "1 changes too large to be believed wait" in kept.run("status").out
    counted = kept.run("quarantine", "list")
    assert all(word in counted.out for word in ("KO", "prices", "accept|reject"))
    assert "close" not in counted.out
    listed = kept.run("quarantine", "list", "--symbol", "KO")
    assert f"{CORRECTED} │ prices │ close" in listed.out
    said = kept.run("quarantine", "accept", "--symbol", "ko", "--date", str(CORRECTED))
    assert (said.code, said.out) == (0, "1 row accepted.\n")
    assert closes(kept)[CORRECTED] == pytest.approx(before[CORRECTED] * 1.5, rel=1e-6)
    assert kept.warehouse.read("from ops.restatements").num_rows == 4 + 1  # the volume was believed at once
    assert "nothing waits" in kept.run("quarantine", "list").out
    assert [proposal["state"] for proposal in proposals(kept, "--state", "all")] == ["accepted"]


def test_what_was_rejected_is_not_asked_about_again(kept: Desk) -> None:
    before = closes(kept)
    kept.venues.fault("correction", symbol="KO", date=CORRECTED, factor=1.5)
    after(kept, MONDAY)
    updated(kept)
    assert json.loads(kept.run("quarantine", "reject", "--all", "--json").out) == {"rejected": 1}
    after(kept, TUESDAY)
    assert updated(kept)["quarantined"] == 0
    assert (proposals(kept), closes(kept)[CORRECTED]) == ([], before[CORRECTED])
    assert kept.run("quarantine", "undo", "--symbol", "KO").out == "1 row reopened.\n"
    assert len(proposals(kept, "--id", "1")) == 1
    told = kept.run("heal").out
    assert "1 changes too large to be believed wait: see `copilot-quant quarantine list`" in told


def test_a_history_that_changes_as_a_whole_waits_whichever_way_it_is_read(kept: Desk) -> None:
    before = closes(kept)
    kept.venues.fault("correction", symbol="KO", dates=[str(day) for day in SESSIONS], factor=1.1)
    said = kept.run("backfill", "equities", "--symbols", "KO,PG", "--refresh", "--json")
    answer = json.loads(said.out)
    # The newest bar is provisional: that it changes is no surprise. Volumes are decided apart.
    assert (said.code, answer["restated"], answer["quarantined"]) == (0, len(SESSIONS), len(SESSIONS) - 1)
    assert {day: close for day, close in closes(kept).items() if day != THURSDAY} == {
        day: close for day, close in before.items() if day != THURSDAY
    }
    assert kept.run("quarantine", "accept", "--all").code == 0
    assert closes(kept)[SESSIONS[0]] == pytest.approx(before[SESSIONS[0]] * 1.1, rel=1e-6)


def test_a_reverse_split_announced_later_restates_nothing(kept: Desk) -> None:
    kept.venues.fault("split_announced", symbol="KO", date=str(MONDAY), ratio="1/8")
    after(kept, MONDAY)
    assert updated(kept)["restated"] == 0
    again = kept.run("backfill", "equities", "--symbols", "KO", "--refresh", "--json")
    answer = json.loads(again.out)
    assert (answer["restated"], answer["quarantined"]) == (0, 0)
    assert kept.warehouse.read("select date, split_ratio from equities.actions where split_ratio <> 1").to_pylist() == [
        {"date": MONDAY, "split_ratio": 0.125}
    ]
    assert kept.warehouse.read("from ops.restatements").num_rows == 0


def test_a_split_announced_for_a_stored_session_waits_with_its_prices(kept: Desk) -> None:
    after(kept, MONDAY)
    updated(kept)
    kept.venues.fault("split_announced", symbol="KO", date=str(MONDAY), ratio=2)
    after(kept, TUESDAY)
    updated(kept)
    assert {(proposal["table"], proposal["date"]) for proposal in proposals(kept)} == {
        ("equities.bars", str(MONDAY)),
        ("equities.actions", str(MONDAY)),
    }
    adjusted = (
        "select a.close = b.close as same from equities.adjusted_bars a join equities.bars b using (symbol, date)"
    )
    assert set(kept.warehouse.read(adjusted).column("same").to_pylist()) == {True}
    assert {proposal["proposal"] for proposal in proposals(kept)} == {1}
    assert kept.run("quarantine", "accept", "--date", str(MONDAY)).code == 0
    assert kept.warehouse.read("from equities.actions where symbol = 'KO' and split_ratio = 2").num_rows == 1


def test_a_session_the_tail_no_longer_holds_is_counted_and_kept(kept: Desk) -> None:
    kept.venues.fault("lost_session", symbol="KO", date=str(CORRECTED))
    after(kept, MONDAY)
    updated(kept)
    assert newest_metadata(kept, "equity_bars")["lost at the source"] == 1
    assert CORRECTED in closes(kept)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("accept",), ("--symbol", "--all")),
        (("reject", "--all", "--symbol", "KO"), ("--symbol", "--all")),
        (("accept", "--all"), ("nothing of that waits", "quarantine list")),
        (("accept", "--date", "soon"), ("no date",)),
        (("accept", "--id", "one"), ("no list of numbers", "3,4")),
        (("undo", "--all"), ("nothing of that is rejected", "--state rejected")),
        (("reject", "--symbol", "K O"), ("not a symbol",)),
        (("list", "--state", "open"), ("waiting, accepted",)),
    ],
)
def test_wrong_usage_of_the_quarantine_is_told_in_one_line(
    new_desk: Desk, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    said = new_desk.run("quarantine", *arguments)
    assert (said.code, said.err.count("\n")) == (2, 1), said
    assert all(word in said.err for word in words)
    assert not new_desk.settings.home.exists()


def test_in_a_new_home_nothing_waits(new_desk: Desk) -> None:
    assert new_desk.run("quarantine", "list") == Said(0, "nothing waits.\n", "")


def test_a_verification_reads_whole_histories_and_records_no_cell(kept: Desk) -> None:
    kept.venues.fault("correction", symbol="KO", date="2024-01-02", factor=1.01)
    kept.venues.fault("correction", symbol="PG", date="2024-01-03", factor=1.5)
    kept.venues.fault("lost_session", symbol="PG", date="2024-01-04")
    with open_instance(kept.settings.dagster_home) as instance:
        recorded = len(instance.fetch_materializations(dg.AssetKey("equity_bars"), limit=1000).records)
    told = verify(kept, symbols=["KO", "PG", "ZZZZ"])
    assert told == {
        "symbols": 2,
        "bars seen": 2 * len(SESSIONS) - 1,
        "restated": 2,
        "quarantined": 1,
        "lost at the source": 1,
        "no longer without rows": 0,
        "requests": 2,
    }
    assert kept.venues.requests()[CHART] == 2
    with open_instance(kept.settings.dagster_home) as instance:
        assert len(instance.fetch_materializations(dg.AssetKey("equity_bars"), limit=1000).records) == recorded
    assert [proposal["key"] for proposal in proposals(kept)] == ["PG"]
    cells = kept.warehouse.coverage("equities")
    assert set(cells.column("outcome").to_pylist()) == {"settled"}


def test_a_verification_reads_the_part_of_the_week(kept: Desk) -> None:
    this_week = plan_part(["KO", "PG"], part_of_week(date(2024, 3, 29)))
    assert verify(kept)["symbols"] == len(this_week)
    mine = plan_part(["KO", "PG"], part := next(part for part in range(16) if plan_part(["KO"], part)))
    assert verify(kept, part=part)["symbols"] == len(mine)
    assert kept.venues.requests().get(CHART, 0) == len(mine) + len(this_week)


def test_a_symbol_that_is_forgotten_is_told_and_one_that_cannot_be_had_fails_the_run(kept: Desk) -> None:
    kept.venues.fault("delisted", symbol="KO")
    told = verify(kept, symbols=["KO", "PG"])
    assert (told["symbols"], told["refused"].records[0].data["symbol"]) == (1, "KO")
    kept.venues.fault("html", symbol="PG")
    with open_instance(kept.settings.dagster_home) as instance:
        before = len(instance.get_runs())
    verify(kept, symbols=["KO", "PG"])
    with open_instance(kept.settings.dagster_home) as instance:
        (run, *others) = instance.get_runs()
    assert (run.status, len(others)) == (dg.DagsterRunStatus.FAILURE, before)
