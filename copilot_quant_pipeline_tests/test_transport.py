"""Claims about one request to a vendor: it ends in time, its answer is of bounded size, and goes where it should."""

from __future__ import annotations

import bz2
import gzip
import socket
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from copilot_quant_pipeline import transport
from copilot_quant_pipeline.errors import Malformed, TooSlow, Unavailable, VendorError
from copilot_quant_pipeline.transport import Line, redirected
from copilot_quant_pipeline_tests.hostile import TRICKLES, Send, hostile_server, trickling
from copilot_quant_pipeline_tests.prediction_markets.loopback import Loopback, answer

ZEROS = bytes(33_000_000)


def _asked(send: Send) -> bytes:
    with hostile_server(send) as url:
        return Line("bazaar", url, {}).ask("GET", "/x").body


def _sending(head: str, body: bytes) -> Send:
    return lambda connection, _: connection.sendall(
        f"HTTP/1.1 200 OK\r\nConnection: close\r\n{head}\r\n\r\n".encode() + body
    )


@pytest.mark.parametrize("where", TRICKLES)
def test_an_answer_that_never_ends_is_given_up_in_time(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "DEADLINE", 0.5)
    began = time.monotonic()
    with pytest.raises(TooSlow, match="bazaar is not through with its answer after 0.5 s"):
        _asked(trickling(where))
    assert time.monotonic() - began < 30  # a trickle lasts 60


def test_redirects_share_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "DEADLINE", 0.6)

    def send(connection: socket.socket, path: str) -> None:
        time.sleep(0.4)
        connection.sendall(
            f"HTTP/1.1 302 Found\r\nLocation: {path}x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )

    with pytest.raises(TooSlow):
        _asked(send)


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (lambda: gzip.compress(ZEROS), "gzip"),
        (lambda: zlib.compress(ZEROS), "deflate"),
        (lambda: gzip.compress(gzip.compress(ZEROS)), "gzip, gzip"),
        (lambda: ZEROS, "identity"),
    ],
)
@pytest.mark.parametrize("length", ["told", "chunked", "untold"])
def test_a_body_is_bounded_as_unpacked(packed: Callable[[], bytes], encoding: str, length: str) -> None:
    body = packed()
    head = f"Content-Encoding: {encoding}"
    if length == "told":
        head += f"\r\nContent-Length: {len(body)}"
    if length == "chunked":
        head += "\r\nTransfer-Encoding: chunked"
        body = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    with pytest.raises(Malformed, match="bazaar answers with more than 32 MB"):
        _asked(_sending(head, body))


def test_a_bomb_is_not_unpacked_first() -> None:
    bomb = gzip.compress(bytes(400_000_000), 9)
    tracemalloc.start()
    with pytest.raises(Malformed):
        _asked(_sending(f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}", bomb))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * transport.LARGEST_BODY


@pytest.mark.parametrize(
    ("head", "body", "kind"),
    [
        ("Content-Length: 99999999999999999999999", b"[1]", Malformed),
        ("Content-Length: 50000000", b"[1]", Malformed),
        ("Content-Length: 500", b"[1]", Unavailable),
        ("Content-Length: -1", b"[1]", None),
        ("Content-Length: 3", b"[1]" * 100, None),
        ("Transfer-Encoding: chunked", b"f" * 5_000_000, Unavailable),
        ("Transfer-Encoding: chunked", b"zz\r\n[1]", Unavailable),
        ("Content-Encoding: gzip, gzip, gzip, gzip, gzip, gzip, gzip, gzip, gzip", b"[1]", Unavailable),
        ("Content-Encoding: gzip", bz2.compress(b"[1]"), Unavailable),
        ("X-Long: " + "a" * 100_000, b"[1]", Unavailable),
        ("\r\n".join(f"X-{n}: 1" for n in range(500)), b"[1]", Unavailable),
    ],
    ids=range(11),
)
def test_what_an_answer_says_of_itself_is_not_believed(head: str, body: bytes, kind: type[VendorError] | None) -> None:
    if kind is None:
        assert _asked(_sending(head, body)) in (b"[1]", body)
        return
    with pytest.raises(kind) as told:
        _asked(_sending(head, body))
    assert len(str(told.value)) < 200
    assert "\n" not in str(told.value)


KALSHI = "https://external-api.kalshi.com/trade-api/v2"
STAND_IN = "http://127.0.0.1:8750/kalshi"


@pytest.mark.parametrize(
    ("base", "told"),
    [
        (KALSHI, "/v3/markets?limit=5"),
        (KALSHI, "https://api.elections.kalshi.com/trade-api/v2/markets"),
        (KALSHI, "https://kalshi.com:443/markets"),
        (KALSHI, "//api.kalshi.com/markets"),
        (STAND_IN, "/kalshi/again"),
        (STAND_IN, "http://127.0.0.1:8750/elsewhere"),
        ("http://proxy.example.co.uk", "https://proxy.example.co.uk/x"),
        ("https://query2.finance.yahoo.com", "https://consent.yahoo.com/v2/collectConsent?sessionId=1"),
        ("https://en.wikipedia.org", "https://en.m.wikipedia.org/wiki/List"),
    ],
)
def test_a_vendor_sends_on_within_its_own_hosts(base: str, told: str) -> None:
    assert redirected("bazaar", base, base + "/markets", told).startswith("http")


@pytest.mark.parametrize(
    ("base", "told"),
    [
        (KALSHI, "http://external-api.kalshi.com/trade-api/v2/markets"),
        (KALSHI, "https://kalshi.com.example.org/markets"),
        (KALSHI, "https://notkalshi.com/markets"),
        (KALSHI, "https://polymarket.com/markets"),
        (KALSHI, "https://api.kalshi.com:8443/markets"),
        (KALSHI, "https://api.kalshi.com@example.org/"),
        (KALSHI, "https://me:hush@api.kalshi.com/"),
        (KALSHI, "http://127.0.0.1:8750/markets"),
        (KALSHI, "http://localhost/"),
        (KALSHI, "https://[::1]/"),
        (KALSHI, "https://169.254.169.254/latest/meta-data"),
        (KALSHI, "file:///etc/passwd"),
        (KALSHI, "ftp://kalshi.com/x"),
        (KALSHI, "https://[broken"),
        (KALSHI, "https://kalshi.com:99999999/"),
        (STAND_IN, "http://127.0.0.1:8751/kalshi"),
        (STAND_IN, "https://external-api.kalshi.com/trade-api/v2"),
        ("https://proxy.example.co.uk", "https://other.example.co.uk/"),
        ("https://proxy.example.co.uk", "http://proxy.example.co.uk/"),
    ],
)
def test_a_vendor_sends_nowhere_else(base: str, told: str) -> None:
    with pytest.raises(Malformed, match=r"bazaar sends the request on to .*, which is not its own") as error:
        redirected("bazaar", base, base + "/markets", told)
    assert "hush" not in str(error.value)


def test_another_port_of_this_machine_is_not_asked() -> None:
    with Loopback() as other, Loopback() as venue:
        venue.answers = [answer(307, "", Location=f"{other.url}/secret")]
        with pytest.raises(Malformed, match="not its own"):
            Line("bazaar", venue.url, {}).ask("GET", "/x")
        assert other.requests == []


def test_a_redirect_keeps_what_it_must() -> None:
    with Loopback() as venue:
        line = Line("bazaar", venue.url, {"Authorization": "Token hush"})
        venue.answers = [answer(307, "", Location="/there?a=1"), answer(200, [1])]
        assert line.ask("POST", "/x", params={"b": 2}, json={"c": 3}).body == b"[1]"
        venue.answers = [answer(303, "", Location="/there"), answer(200, [1])]
        assert line.ask("POST", "/x", json={"c": 3}).body == b"[1]"
        method, path, query, body, headers = venue.requests[1]
        assert (method, path, query, body) == ("POST", "/there", {"a": ["1"]}, '{"c": 3}')
        assert headers["Authorization"] == "Token hush"
        assert [asked[0] for asked in venue.requests] == ["POST", "POST", "POST", "GET"]
        assert venue.requests[3][3] == ""
