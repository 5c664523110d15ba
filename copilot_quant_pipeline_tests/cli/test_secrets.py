"""Claims about secrets: whatever a venue, a proxy or a channel says of them, none is stored, logged, shown or sent."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from copilot_quant_pipeline.settings import VENUE_URLS
from copilot_quant_pipeline_tests.cli.conftest import Desk

MARKS = {
    "venue": "MARKvenue/1",
    "path": "MARKpath77",
    "token": "MARKtoken123",
    "gate": "MARKgate456",
    "beat": "MARKbeat8",
    "alert": "MARKalert5",
    "hook": "MARKhook6",
    "dagit": "MARKdagit0",
    "proxy": "MARKproxy@9",
}


class _Echo(BaseHTTPRequestHandler):
    """Refuses everything, and says why with all that it was sent, as careless servers do."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = f"refused {self.path} \x1b[2J\u202e{dict(self.headers)} ".encode() + body
        if is_yahoos := "/chart/" in self.path:  # in its own words, it is asked once
            error = {"code": "Not Found", "description": said.decode()}
            said = json.dumps({"chart": {"result": None, "error": error}}).encode()
        self.send_response(404 if is_yahoos else 400)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_GET  # noqa: N815 the name that http.server looks for

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    """Where such a server is: host and port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def _marked(echo: str) -> dict[str, str]:
    venue = f"http://feed:MARKvenue%2F1@{echo}/base/{MARKS['path']}"
    return {
        **{f"COPILOT_QUANT_{name.upper()}": venue for name in VENUE_URLS},
        "COPILOT_QUANT_METACULUS_TOKEN": MARKS["token"],
        "COPILOT_QUANT_TOKEN": MARKS["gate"],
        "COPILOT_QUANT_HEARTBEAT_URL": f"http://{echo}/ping/{MARKS['beat']}",
        "COPILOT_QUANT_ALERT_URLS": f"json://ops:{MARKS['alert']}@{echo}/{MARKS['hook']}",
        "COPILOT_QUANT_DAGIT_URL": f"http://me:{MARKS['dagit']}@dagit.example",
        "HTTPS_PROXY": "http://me:MARKproxy%409@127.0.0.1:1",
    }


def _traces(content: bytes) -> list[str]:
    """The secrets that bytes hold: as they are, or wherever they stand in base64."""
    return [name for name, secret in MARKS.items() if any(form in content for form in _forms(secret.encode()))]


def _forms(secret: bytes) -> Iterator[bytes]:
    mark = secret.split(b"/")[0].split(b"@")[0]
    yield mark
    for before in range(3):
        yield base64.b64encode(b"x" * before + mark)[-(-before * 8 // 6) : (before + len(mark)) * 8 // 6]


def _files(folder: Path) -> dict[str, list[str]]:
    found = {str(path.relative_to(folder)): _traces(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    return {name: traces for name, traces in found.items() if traces}


def test_no_secret_of_a_setting_is_in_a_file_or_a_line(new_desk: Desk, echo: str, tmp_path: Path) -> None:
    new_desk.set(_marked(echo))
    said = [
        new_desk.run("backfill", "equities", "--symbols", "AAPL", "--start", "2024-03-28", "--verbose"),
        new_desk.run("backfill", "equities", "--start", "2024-03-28", "--json"),
        new_desk.run("backfill", "markets", "--venue", "kalshi,metaculus,manifold,predictit,polymarket", "--verbose"),
        new_desk.run("backfill", "markets", "--market-ids", "kalshi:KXFED-24NOV-T4.75", "--end", "2024-03-28"),
        new_desk.run("alerts", "test", "--verbose"),
        new_desk.run("status", "--json"),
        new_desk.run("export", "csv", "--out", str(tmp_path / "out")),
    ]
    assert "kalshi answers 400" in said[2].err
    assert "kalshi answers 400" in said[3].out + said[3].err
    assert not [one for one in said if _traces(one.out.encode() + one.err.encode())]
    assert not [one for one in said if {"\x1b", "\u202e"} & {*one.out, *one.err}]
    assert _files(tmp_path) == {}


@pytest.mark.parametrize(
    "address",
    [
        "http://me:MARK@ss@proxy.example:3128",
        "me:MARK@ss@proxy.example:3128",
        "http://me:MARK/ss@proxy.example:3128",
        "http://me:MARK#ss@proxy.example",
        "http://me:MARK ss@proxy.example",
        "ftp://me:MARKss@proxy.example",
        "http://me:MARK%zz@proxy.example",
        "http://me:MARKss@proxy.example:port",
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "All_Proxy"])
def test_a_proxy_written_wrongly_is_one_line_without_its_password(desk: Desk, name: str, address: str) -> None:
    desk.set({name: address})
    said = desk.run("backfill", "equities", "--symbols", "AAPL", "--start", "2024-03-28", "--verbose")
    assert (said.code, said.out) == (2, "")
    assert name in said.err
    assert "MARK" not in said.err


def test_a_kind_of_proxy_that_is_not_installed_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.set({"ALL_PROXY": "socks5h://me:MARKpass1@proxy.example:1080"})
    monkeypatch.setattr("copilot_quant_pipeline.settings.find_spec", lambda _: None)
    said = desk.run("heal")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "pip install pysocks" in said.err
    assert "MARK" not in said.err


def test_a_setting_that_does_not_parse_is_named_without_its_secret(desk: Desk) -> None:
    desk.set({"COPILOT_QUANT_KALSHI_URL": "htp://me:MARKpass1@kalshi.example"})
    said = desk.run("status")
    assert (said.code, said.out) == (2, "")
    assert "COPILOT_QUANT_KALSHI_URL" in said.err
    assert "MARK" not in said.err
