from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from yfinance.exceptions import YFRateLimitError

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.series import later_splits, total_return_factors
from copilot_quant_pipeline_tests.sandbox.conftest import YahooClient

COLUMNS = {"Open": "open", "High": "high", "Low": "low", "Close": "close"}


@pytest.mark.parametrize("symbol", ["AAPL", "NVDA", "GE", "HON", "ODFL", "NWS", "BRK-B", "KVUE", "ATVI"])
def test_the_real_client_gets_the_traded_bars_once_splits_are_undone(
    sandbox: Sandbox, yahoo: YahooClient, symbol: str
) -> None:
    history = yahoo.history(symbol)
    truth = sandbox.market.truth(symbol.replace("-", "."), date(2026, 3, 13))
    assert [stamp.date() for stamp in history.index] == truth.date.tolist()
    later = later_splits(history["Stock Splits"].replace(0, 1).to_numpy())
    for column, name in COLUMNS.items():
        assert np.array_equal(np.round(history[column].to_numpy() * later, 2), getattr(truth, name)), column
    assert np.array_equal(np.rint(history["Volume"].to_numpy() / later), truth.volume)
    np.testing.assert_allclose(history["Dividends"].to_numpy() * later, truth.dividend, atol=1e-4)
    np.testing.assert_allclose(history["Stock Splits"].replace(0, 1), truth.split)


def test_the_clients_adjusted_close_is_yahoos_method_applied_to_its_own_columns(yahoo: YahooClient) -> None:
    history = yahoo.history("HON")
    close = history["Close"].to_numpy()
    expected = close * total_return_factors(close, history["Dividends"].to_numpy())
    np.testing.assert_allclose(history["Adj Close"], expected, rtol=1e-6)
    assert history["Adj Close"].iloc[0] < close[0]


def test_a_dividend_and_a_split_of_an_open_session_reach_the_client(sandbox: Sandbox, yahoo: YahooClient) -> None:
    sandbox.pin_clock(datetime(2025, 10, 30, 15, 0, tzinfo=UTC))
    history = yahoo.history("HON", start="2025-10-20", end="2025-10-31")
    assert history["Stock Splits"].iloc[-1] == 1.061
    truth = sandbox.market.truth("HON", date(2026, 11, 20))
    ex_date = truth.date[np.flatnonzero(truth.dividend)[-1]].item()
    sandbox.pin_clock(datetime(ex_date.year, ex_date.month, ex_date.day, 16, 0, tzinfo=UTC))
    paid = yahoo.history("HON", start=f"{ex_date:%Y-%m}-01")
    assert paid.index[-1].date() == ex_date
    assert paid["Dividends"].iloc[-1] > 0


def test_a_known_symbol_costs_two_chart_requests_and_an_unknown_one_ends_quickly(
    sandbox: Sandbox, yahoo: YahooClient
) -> None:
    yahoo.history("MSFT")
    assert sandbox.requests()["/v8/finance/chart/{symbol}"] == 2
    sandbox.reset_requests()
    with pytest.raises(Exception, match="404"):
        yahoo.history("NOPE")
    assert sum(sandbox.requests().values()) <= 16


def test_an_overloaded_yahoo_makes_the_client_say_rate_limited(sandbox: Sandbox, yahoo: YahooClient) -> None:
    yahoo.history("MSFT")
    sandbox.fault("rate_limit", symbol="MSFT", times=2)
    with pytest.raises(YFRateLimitError):
        yahoo.history("MSFT")
    assert len(yahoo.history("MSFT"))


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A self-signed certificate for Yahoo's hosts, with its key, in one PEM file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    pem = tmp_path / "yahoo.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=sandbox"]
        + ["-addext", "subjectAltName=DNS:*.finance.yahoo.com,DNS:*.yahoo.com"]
        + ["-keyout", str(pem), "-out", str(tmp_path / "ca.pem")],
        check=True,
        capture_output=True,
    )
    pem.write_text(pem.read_text() + (tmp_path / "ca.pem").read_text())
    return pem


@pytest.fixture
def tunnel(sandbox: Sandbox, authority: Path) -> Iterator[str]:
    """A proxy that takes any CONNECT, speaks TLS as the host asked for, and passes all on to the sandbox."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    target = int(sandbox.url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept_tunnels, args=(listening, context, target), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def accept_tunnels(listening: socket.socket, context: ssl.SSLContext, target: int) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=serve_tunnel, args=(connection, context, target), daemon=True).start()


def serve_tunnel(connection: socket.socket, context: ssl.SSLContext, target: int) -> None:
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    with (
        context.wrap_socket(connection, server_side=True) as secure,
        socket.create_connection(("127.0.0.1", target)) as plain,
    ):
        back = threading.Thread(target=pump, args=(plain, secure), daemon=True)
        back.start()
        pump(secure, plain)
        back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


UNTOUCHED_CLIENT = """
import json, sys, yfinance
yfinance.set_tz_cache_location(sys.argv[2])
yfinance.config.network.proxy = sys.argv[1]
asked = {"start": "2026-01-01", "end": "2026-03-14", "auto_adjust": False, "progress": False}
frame = yfinance.download(["AAPL", "KO"], **asked)
print(json.dumps(frame["Close"].dropna().shape))
"""


def test_the_untouched_client_works_over_tls_and_yahoos_own_host_names(
    sandbox: Sandbox, tunnel: str, authority: Path, tmp_path: Path
) -> None:
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", UNTOUCHED_CLIENT, tunnel, str(tmp_path)],
        env={**os.environ, "REQUESTS_CA_BUNDLE": str(authority.with_name("ca.pem"))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1]) == [49, 2]
    assert sandbox.requests()["/"] == 1
