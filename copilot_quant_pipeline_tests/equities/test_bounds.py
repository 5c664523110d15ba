"""Claims about the bounds of Yahoo's and Wikipedia's answers, by the real yfinance and real sockets."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from copilot_quant_pipeline import transport
from copilot_quant_pipeline.equities.universe import fetch_page
from copilot_quant_pipeline.equities.yahoo import POLICY, YahooClient
from copilot_quant_pipeline.errors import Malformed, TooSlow, Unavailable, VendorError
from copilot_quant_pipeline_tests.equities.conftest import Answer, Replay, chart_body
from copilot_quant_pipeline_tests.hostile import TRICKLES, Send, hostile_server, trickling

START, END = date(2024, 1, 2), date(2024, 3, 28)
GOOD = Answer(chart_body([END]))
ZEROS = bytes(33_000_000)
ONCE = replace(POLICY, attempts=1)


def _refusal(url: str, cache: Path) -> VendorError:
    with pytest.raises(VendorError) as told:
        YahooClient(cache, url=url, policy=ONCE).fetch_bars("AAPL", START, END)
    assert "\n" not in str(told.value)
    return told.value


@pytest.mark.parametrize("where", TRICKLES)
def test_a_chart_that_never_ends_is_given_up_in_time(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "DEADLINE", 0.7)
    began = time.monotonic()
    with hostile_server(trickling(where)) as url:
        assert isinstance(_refusal(url, tmp_path), Unavailable)
    assert time.monotonic() - began < 30  # a trickle lasts 60


@pytest.mark.parametrize(
    ("pack", "encoding"), [(gzip.compress, "gzip"), (zlib.compress, "deflate"), (bytes, "identity")]
)
def test_a_chart_is_bounded_as_unpacked(pack: Callable[[bytes], bytes], encoding: str, tmp_path: Path) -> None:
    body = pack(ZEROS)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nConnection: close\r\n\r\n".encode()
    bomb: Send = lambda connection, path: connection.sendall(head + (body if "chart" in path else b"crumb"))  # noqa: E731
    with hostile_server(bomb) as url:
        told = _refusal(url, tmp_path)
    assert isinstance(told, Malformed)
    assert str(told) == "Yahoo answers with more than 32 MB"


@pytest.mark.parametrize("there", ["http://127.0.0.1:1/x", "https://example.org/v8/finance/chart/AAPL", "file:///etc"])
def test_yahoo_sends_nowhere_else(there: str, replay: Replay, client: YahooClient) -> None:
    replay.answers(Answer("", 302, {"Location": there}))
    with pytest.raises(Malformed, match="Yahoo sends the request on to .*, which is not its own"):
        client.fetch_bars("AAPL", START, END)


@pytest.mark.parametrize("host", ["", "https://query1.finance.yahoo.com", "the stand-in"])
def test_yahoo_sends_on_within_its_own_hosts(host: str, replay: Replay, client: YahooClient) -> None:
    there = f"{replay.url if host == 'the stand-in' else host}/v8/finance/chart/AAPL"
    replay.answers(Answer("", 302, {"Location": there}), GOOD)
    assert client.fetch_bars("AAPL", START, END).bars.num_rows == 1


def test_a_circle_of_redirects_ends(replay: Replay, client: YahooClient) -> None:
    replay.answers(Answer("", 302, {"Location": "/v8/finance/chart/AAPL"}))
    with pytest.raises(Unavailable, match="more than 5 times"):
        client.fetch_bars("AAPL", START, END)


@pytest.mark.parametrize("where", ["headers", "endless body"])
def test_wikipedias_page_ends_in_time(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "DEADLINE", 0.3)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    with hostile_server(trickling(where)) as url, pytest.raises(TooSlow, match="Wikipedia is not through"):
        fetch_page(url)


def test_wikipedias_page_is_bounded_as_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    bomb = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(ZEROS)
    send: Send = lambda connection, _: connection.sendall(bomb)  # noqa: E731
    with hostile_server(send) as url, pytest.raises(Malformed, match="Wikipedia answers with more than 32 MB"):
        fetch_page(url)
