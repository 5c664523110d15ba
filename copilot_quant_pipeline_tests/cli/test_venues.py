"""Claims about `copilot-quant venues`: what of the venues' formats has changed is seen, in few requests."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.cli.conftest import Desk, Said, open_desk


class Renaming:
    """A proxy on loopback before the sandbox, in whose answers some text is other text; `down` answers 503."""

    def __init__(self, behind: str) -> None:
        self.changes: dict[bytes, bytes] = {}
        self.down: tuple[str, ...] = ()
        self.requests: Counter[str] = Counter()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                proxy.requests[self.path.partition("?")[0]] += 1
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
                kept = ("Host", "Content-Length", "Accept-Encoding", "Connection")
                headers = {name: value for name, value in self.headers.items() if name not in kept}
                asked = urllib.request.Request(behind + self.path, sent, headers, method=self.command)  # noqa: S310
                try:
                    with urllib.request.urlopen(asked) as answer:  # noqa: S310
                        status, body, kind = answer.status, answer.read(), answer.headers["Content-Type"]
                except urllib.error.HTTPError as error:
                    status, body, kind = error.code, error.read(), error.headers["Content-Type"]
                if self.path.startswith(proxy.down or ("-",)):
                    status = 503
                for old, new in proxy.changes.items():
                    body = body.replace(old, new)
                self.send_response(status)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = _serve  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator[Renaming]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


@pytest.fixture
def proxy(settings: Settings) -> Iterator[Renaming]:
    with Sandbox(now=settings.pinned_now) as venues, Renaming(venues.url).serving() as proxy:
        yield proxy


@pytest.fixture
def desk(settings: Settings, proxy: Renaming) -> Iterator[Desk]:
    with open_desk(settings, cast("Sandbox", proxy)) as desk:
        desk.set({"COPILOT_QUANT_METACULUS_TOKEN": "hush"})
        yield desk


def routes(said: Said) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["venue"], one["route"]): one for one in json.loads(said.out)["routes"]}


def test_venues_that_send_what_is_declared_are_asked_at_most_20_times_and_nothing_is_stored(
    desk: Desk, proxy: Renaming
) -> None:
    said = desk.run("venues", "--json")
    told = routes(said)
    assert said.code == 0, said
    assert {venue for venue, _ in told} == {
        *("yahoo", "wikipedia", "polymarket", "kalshi", "manifold", "predictit", "metaculus")
    }
    assert all(one["as_declared"] and one["records"] and not one["new"] for one in told.values()), told
    # The cookie that Yahoo's own client asks for comes before its questions here, as no other host's can be kept.
    assert sum(count for path, count in proxy.requests.items() if path != "/") <= 20, proxy.requests
    assert not desk.settings.warehouse_path.exists()


def test_fields_that_were_renamed_are_missing_and_new_and_nothing_else_is(desk: Desk, proxy: Renaming) -> None:
    proxy.changes = {
        b'"conditionId":': b'"conditionKey":',
        b'"p":': b'"price":',
        b'"close_time":': b'"closes":',
        b'"probAfter":': b'"after":',
        b'"lastTradePrice":': b'"last":',
        b'"centers":': b'"middles":',
        b'"adjclose":[{': b'"adjusted":[{',
        b"Sector": b"Branch",
    }
    said = desk.run("venues", "--json")
    told = routes(said)
    assert said.code == 1
    missing = {route: one["missing"] for (_, route), one in told.items() if one["missing"]}
    assert missing["/markets/keyset"] == ["conditionId"]
    assert missing["/prices-history"] == missing["/batch-prices-history"] == ["p"]
    assert missing["/events"] == ["markets.close_time"]
    assert missing["/historical/markets"] == ["close_time"]
    assert missing["/v0/bets"] == ["probAfter"]
    assert missing["/api/marketdata/all/"] == ["contracts.lastTradePrice"]
    assert missing["/api/posts/{id}/"] == ["centers"]
    assert missing["/v8/finance/chart/{symbol}"] == ["adjclose"]
    assert missing["/wiki/List_of_S%26P_500_companies"] == ["sector"]
    assert "conditionKey" in told["polymarket", "/markets/keyset"]["new"]
    assert told["kalshi", "/markets/candlesticks"]["as_declared"]


def test_another_type_a_venue_that_is_down_and_one_without_its_key_are_told(desk: Desk, proxy: Renaming) -> None:
    proxy.changes = {b'"ticker":"': b'"ticker":5,"was":"', b'"ticker": "': b'"ticker": 5, "was": "'}
    proxy.down = ("/v0/",)
    desk.set({"COPILOT_QUANT_METACULUS_TOKEN": ""})
    said = desk.run("venues", "--json", "--source", "live")
    told, answer = routes(said), json.loads(said.out)
    assert said.code == 1
    assert told["kalshi", "/historical/markets"]["other_type"] == {"ticker": "5 is no ticker"}
    assert "503" in told["manifold", "/v0/markets"]["error"]
    assert "no market" in told["manifold", "/v0/bets"]["error"]
    assert list(answer["not_asked"]) == ["metaculus"]
    assert told["predictit", "/api/marketdata/all/"]["as_declared"]
    shown = desk.run("venues", "--source", "live")
    assert shown.code == 1
    assert "ticker: 5 is no ticker" in shown.out
    assert "metaculus was not asked" in shown.out
