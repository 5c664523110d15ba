"""Claims about what a venue's answers make of markets that are followed: command, wire, grid and file."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from tenacity import wait_none

from copilot_quant_pipeline.grid.axes import MARKET
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.retry_policy import RetryPolicy
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.cli.conftest import Desk, open_desk
from copilot_quant_pipeline_tests.prediction_markets.loopback import Loopback, answer
from copilot_quant_pipeline_tests.prediction_markets.test_looks import Gamma
from copilot_quant_pipeline_tests.prediction_markets.test_stand_ins import gamma, good

FRIDAY = datetime(2026, 3, 13, 21, tzinfo=UTC)
ENDED = {"closed": True, "umaResolutionStatus": "resolved", "closedTime": "2026-03-14 15:00:00+00"}


@pytest.fixture
def venue() -> Iterator[Gamma]:
    with Loopback() as loopback:
        loopback.answers = [answer(404, {"error": "not found"})]
        loopback.routes["/batch-prices-history"] = lambda _, sent: answer(200, {"history": good(sent)})
        titles = {"groupItemTitle": "$100", "events": [{"slug": "gold", "title": "Gold on Friday"}]}
        yield Gamma(loopback, {str(number): gamma(number, 10 - number, **titles) for number in range(101, 104)})


@pytest.fixture
def desk(unused: Settings, venue: Gamma, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(RetryPolicy, "wait", wait_none())
    with open_desk(unused, cast("Sandbox", venue.loopback)) as desk:
        desk.set({"COPILOT_QUANT_MARKETS_VENUES": "polymarket", "COPILOT_QUANT_MARKETS_START": "2026-03-01"})
        at(desk, FRIDAY)
        yield desk


def at(desk: Desk, now: datetime) -> None:
    desk.set({"COPILOT_QUANT_NOW": now.isoformat()})


def changes(desk: Desk, market: str) -> list[tuple[Any, ...]]:
    history = "select status, result from prediction_markets.market_changes where market = $market order by seen_at"
    return [tuple(row.values()) for row in desk.warehouse.read(history, {"market": market}).to_pylist()]


def read(desk: Desk, query: str) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", desk.warehouse.read(query).to_pylist())


def test_a_short_answer_an_end_and_a_result_that_is_taken_back(desk: Desk, venue: Gamma) -> None:
    assert desk.run("backfill", "markets", "--start", "2026-03-12").code == 0
    (told,) = read(desk, "select label, event_title from prediction_markets.markets group by all")
    assert told == {"label": "$100", "event_title": "Gold on Friday"}
    venue.most = 1
    at(desk, FRIDAY.replace(day=14))
    assert desk.run("update", "markets").code == 0
    assert {tuple(changes(desk, f"polymarket:market-{number}")) for number in venue.records} == {(("open", None),)}
    venue.most = None
    for record in venue.records.values():
        record |= ENDED | {"outcomePrices": '["1", "0"]'}
    at(desk, FRIDAY.replace(day=15))
    said = desk.run("update", "markets")
    assert (said.code, "no open market" in said.err) == (0, False), said
    last = "select max(stamped_at) as last, count(distinct market) as n from prediction_markets.prices"
    assert read(desk, last)[0]["last"].day == 14
    assert read(desk, "select distinct resolved_at from prediction_markets.markets")[0]["resolved_at"].hour == 15
    venue.records["101"] = gamma(101, 9)
    at(desk, FRIDAY.replace(day=17))
    assert desk.run("update", "markets").code == 0
    days = "select distinct date from prediction_markets.prices where market = 'polymarket:market-101' order by date"
    assert [row["date"].day for row in read(desk, days)] == [12, 13, 14, 15, 16, 17]
    venue.records["101"] |= ENDED | {"outcomePrices": '["0", "1"]', "closedTime": "2026-03-17 22:00:00+00"}
    at(desk, FRIDAY.replace(day=18))
    assert desk.run("update", "markets").code == 0
    assert changes(desk, "polymarket:market-101") == [
        ("open", None),
        ("resolved", "Yes"),
        ("open", None),
        ("resolved", "No"),
    ]
    (row,) = read(desk, "select settlements from prediction_markets.markets where id = '101'")
    assert json.loads(row["settlements"]) == {"Yes": "0", "No": "1"}


def test_ids_from_a_file_and_stdin_get_keys_by_what_was_read(
    desk: Desk, venue: Gamma, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue.hidden, venue.errors = {"102"}, {"102": 500}
    for record in venue.records.values():
        record |= ENDED | {"outcomePrices": '["1", "0"]', "closedTime": "2026-03-12 15:00:00+00"}
    names = tmp_path / "ids.txt"
    names.write_text(
        "# the followed ones\n\npolymarket:101  # by id\n polymarket:market-101, polymarket:102\r\npolymarket:x\n"
    )
    said = desk.run("backfill", "markets", "--market-ids", f"@{names}", "--start", "2026-03-12")
    assert said.code == 1
    assert "polymarket:x: unknown_market, 2 cells" in said.out
    assert "polymarket:102: unavailable, 2 cells" in said.out
    assert [row["key"] for row in read(desk, "select distinct key from ops.coverage")] == ["polymarket:market-101"]
    with open_instance(desk.settings.dagster_home) as instance:
        assert list(instance.get_dynamic_partitions(MARKET)) == ["polymarket:market-101"]
    venue.errors = {}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfpolymarket:102\n")))
    assert desk.run("backfill", "markets", "--market-ids", "@-", "--start", "2026-03-12").code == 0
    ended = desk.run("backfill", "markets", "--with-ended", "--limit", "3", "--start", "2026-03-12", "--json")
    assert (ended.code, json.loads(ended.out)["asked"]) == (0, 6)
    keys = {row["key"] for row in read(desk, "select distinct key from ops.coverage")}
    assert keys == {f"polymarket:market-{number}" for number in venue.records}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("\n# none\n", "names nothing"),
        ("polymarket:1\nnope:2\n", "'nope:2' (line 2 of"),
        (b"\xff\xfe1", "no text in UTF-8"),
    ],
)
def test_a_file_of_ids_that_cannot_be_used_is_one_line(
    desk: Desk, tmp_path: Path, text: str | bytes | None, words: str
) -> None:
    names = tmp_path / "ids.txt"
    if text is not None:
        names.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = desk.run("backfill", "markets", "--market-ids", f"@{names}")
    assert (said.code, said.err.count("\n")) == (2, 1), said
    assert words in said.err
