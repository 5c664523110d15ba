"""The client's way to Yahoo itself: its real hosts over TLS, through a proxy that ends at a stand-in."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from copilot_quant_pipeline.equities.yahoo import YahooClient
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline_tests.equities.conftest import chart_body

DAYS = [date(2024, 3, 27), date(2024, 3, 28)]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate of Yahoo's hosts, with its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the stand-in's certificate")
    pem, names = tmp_path / "yahoo.pem", "subjectAltName=DNS:*.yahoo.com,DNS:*.finance.yahoo.com"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=stand-in"]
        + ["-addext", names, "-keyout", str(pem), "-out", str(tmp_path / "ca.pem")],
        check=True,
        capture_output=True,
    )
    pem.write_text(pem.read_text() + (tmp_path / "ca.pem").read_text())
    return pem


class Yahoo(BaseHTTPRequestHandler):
    """Answers CONNECT by becoming the host that was asked for, then speaks as Yahoo does."""

    protocol_version = "HTTP/1.1"
    context: ssl.SSLContext
    asked: list[tuple[str, str]]

    def do_CONNECT(self) -> None:  # noqa: N802
        self.send_response(200)
        self.end_headers()
        self.request: socket.socket = self.context.wrap_socket(self.request, server_side=True)
        self.setup()
        self.close_connection = False

    def do_GET(self) -> None:  # noqa: N802
        host, path = self.headers["Host"], self.path.split("?")[0]
        self.asked.append((host, path))
        body = chart_body(DAYS) if "chart" in path else "crumb"
        self.send_response(404 if host == "fc.yahoo.com" else 200)
        if host == "fc.yahoo.com":
            self.send_header("Set-Cookie", "A3=d=1; Max-Age=31536000; Domain=.yahoo.com; Path=/; Secure")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body.encode())

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def asked(certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """What reaches the stand-in while it is Yahoo: (host, path)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    handler = type("Handler", (Yahoo,), {"context": context, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
    yield handler.asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_yahoo_itself_is_asked_at_its_own_hosts_once_a_symbol(asked: list[tuple[str, str]], tmp_path: Path) -> None:
    client = YahooClient(tmp_path / "cache")
    for symbol in ("AAPL", "BRK.B"):
        answer = client.fetch_bars(symbol, date(2024, 3, 1), date(2024, 3, 28))
        assert answer.bars.column("date").to_pylist() == DAYS
    assert client.traffic == Traffic(requests=2, retries=0)
    charts = [(host, path) for host, path in asked if "chart" in path]
    host = "query2.finance.yahoo.com"
    assert charts == [(host, "/v8/finance/chart/AAPL"), (host, "/v8/finance/chart/BRK-B")]
