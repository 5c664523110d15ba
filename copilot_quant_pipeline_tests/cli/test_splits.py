"""Claims about a split that a venue tells before it has divided its history: from the wire to what a command says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from copilot_quant_pipeline_tests.cli.conftest import Desk
from copilot_quant_pipeline_tests.warehouse.answers import SESSIONS, Venue, actions, adjusted, traded

DAY, NEXT, THIRD = date(2024, 4, 1), date(2024, 4, 2), date(2024, 4, 3)
EVE = date(2024, 3, 28)
SPLITTING = Venue(
    traded={day: 100.0 if day < DAY else 50.0 for day in SESSIONS if day.year == 2024}, told={DAY: 2.0}, symbol="KO"
)


class StandIn:
    """Yahoo for one symbol: what `venue` shows in the evening of session `on`."""

    def __init__(self, venue: Venue, on: date) -> None:
        self.venue, self.on = venue, on
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def chart(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """The answer to a chart request in Yahoo's format."""
        start = datetime.fromtimestamp(int(query["period1"][0]), UTC).date()
        answer = self.venue.answer(self.on, start)
        rows = answer.bars.to_pylist()
        stamps = [int(datetime(*row["date"].timetuple()[:3], 13, 30, tzinfo=UTC).timestamp()) for row in rows]
        quote = {name: [row[name] for row in rows] for name in ("open", "high", "low", "close", "volume")}
        splits = {
            str(stamp): {"date": stamp, "numerator": row["split_ratio"], "denominator": 1}
            for stamp, row in zip(stamps, rows, strict=True)
            if row["split_ratio"] != 1
        }
        meta = {
            "currency": "USD",
            "symbol": "KO",
            "exchangeTimezoneName": "America/New_York",
            "dataGranularity": "1d",
            "firstTradeDate": int(datetime(1990, 1, 2, 14, 30, tzinfo=UTC).timestamp()),
        }
        indicators = {"quote": [quote], "adjclose": [{"adjclose": quote["close"]}]}
        result = {"meta": meta, "timestamp": stamps, "events": {"splits": splits}, "indicators": indicators}
        return {"chart": {"result": [result], "error": None}}


def _handler(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            parts = urlsplit(self.path)
            is_chart = parts.path.startswith("/v8/finance/chart/")
            body = json.dumps(stand_in.chart(parse_qs(parts.query))) if is_chart else "crumb"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def yahoo(desk: Desk) -> Iterator[StandIn]:
    stand_in = StandIn(SPLITTING.but(told={}), EVE)
    thread = threading.Thread(target=stand_in.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    desk.set({"COPILOT_QUANT_YAHOO_URL": stand_in.url})
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()
    thread.join()


def go_to(desk: Desk, yahoo: StandIn, session: date, venue: Venue) -> dict[str, Any]:
    """Update on the morning after a session, when the venue is like `venue`."""
    yahoo.venue, yahoo.on = venue, session
    desk.set({"COPILOT_QUANT_NOW": f"{session + timedelta(days=1)}T12:00:00+00:00"})
    said = desk.run("update", "equities", "--symbols", "KO", "--json")
    assert said.code == 0, said
    return dict(json.loads(said.out))


def test_a_split_told_too_early_waits_is_told_everywhere_and_resolves_itself(desk: Desk, yahoo: StandIn) -> None:
    assert desk.run("backfill", "equities", "--symbols", "KO").code == 0
    told = go_to(desk, yahoo, DAY, SPLITTING.but(divided={}))
    assert (told["quarantined"], told["restated"], told["waiting_for_decision"]) == (1, 0, 1)
    assert np.unique([*adjusted(desk.warehouse, "KO").values()]).tolist() == [50.0, 100.0]
    assert traded(desk.warehouse, "KO")[DAY] == (50.0, 1_000_000, 0.0, 1.0)
    for command in (("status",), ("heal",), ("update", "equities", "--symbols", "KO")):
        assert "1 changes too large to be believed wait" in desk.run(*command).out, command
    grid = json.loads(desk.run("status", "--json").out)["grids"][0]
    assert (grid["restated"], grid["waiting"]) == (0, 1)
    assert all(word in desk.run("quarantine", "list").out for word in ("KO", "split"))
    assert "divides the adjusted ones" in desk.run("quarantine", "list", "--symbol", "KO").out
    go_to(desk, yahoo, NEXT, SPLITTING)
    assert set(adjusted(desk.warehouse, "KO").values()) == {50.0}
    assert actions(desk.warehouse) == {DAY: (0.0, 2.0)}
    assert desk.run("quarantine", "list").out == "nothing waits.\n"


def test_a_split_told_too_early_is_accepted_by_command_and_stays_so(desk: Desk, yahoo: StandIn) -> None:
    assert desk.run("backfill", "equities", "--symbols", "KO").code == 0
    go_to(desk, yahoo, DAY, SPLITTING.but(divided={}))
    assert desk.run("quarantine", "reject", "--symbol", "KO").code == 0
    assert desk.run("quarantine", "undo", "--id", "1").code == 0
    assert desk.run("quarantine", "accept", "--date", str(DAY)).out == "1 row accepted.\n"
    for session, venue in ((NEXT, SPLITTING.but(divided={})), (THIRD, SPLITTING)):
        assert go_to(desk, yahoo, session, venue)["quarantined"] == 0
        assert set(adjusted(desk.warehouse, "KO").values()) == {50.0}
    assert traded(desk.warehouse, "KO")[EVE] == (100.0, 1_000_000, 0.0, 1.0)
