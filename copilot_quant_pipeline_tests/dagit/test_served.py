"""Claims about Dagit's server over real HTTP: who gets in, with a token and without, and what is never written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from copilot_quant_pipeline_tests.dagit.conftest import Served

TOKEN = "s3cret+token/with=signs"  # noqa: S105
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}
RELOAD = "mutation { reloadWorkspace { __typename } }"
VERSION = "{ version }"


@pytest.fixture(scope="module")
def served(serve: Callable[..., Any]) -> Iterator[Served]:
    with serve("--uvicorn-log-level", "trace", HOSTS="dagit.example.com") as served:
        yield served


@pytest.fixture(scope="module")
def guarded(serve: Callable[..., Any]) -> Iterator[Served]:
    options = ("--host", "0.0.0.0", "--uvicorn-log-level", "trace", "--dagster-log-level", "debug")  # noqa: S104
    with serve(*options, TOKEN=TOKEN, REPORTS="on") as served:
        yield served


WS = [Subprotocol("graphql-ws")]


def _document(document: str) -> str:
    return json.dumps({"query": document})


def test_queries_come_by_get_and_everything_by_post_with_json(served: Served) -> None:
    assert served.ask("/graphql", query=VERSION).status == 200
    assert "GraphiQL" in served.ask("/graphql", headers={"Accept": "text/html"}).text
    for document in (VERSION, RELOAD):
        answer = served.ask("/graphql", "POST", {**JSON, "Origin": f"http://{served.host}"}, _document(document))
        assert answer.status == 200
        assert "errors" not in json.loads(answer.text)


@pytest.mark.parametrize("kind", ["application/graphql", "text/plain", "text/plain; a=application/json", ""])
def test_a_mutation_that_a_page_could_send_unasked_is_refused(served: Served, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    for body in (RELOAD, _document(RELOAD), ""):
        assert served.ask("/graphql", "POST", headers, body, query=RELOAD).status in (405, 415)
        assert served.ask("/graphql", "POST", headers, body).status == 415
    for method in ("GET", "HEAD"):
        refused = served.ask("/graphql", method, query=f"query A {VERSION} {RELOAD}", operationName="A")
        assert refused.status == 405


def test_a_name_or_page_of_somebody_else_is_refused_in_one_line_that_says_what_to_do(served: Served) -> None:
    refused = served.ask(headers={"Host": "evil.example:3000", "X-Forwarded-Host": served.host})
    assert (refused.status, refused.headers["content-type"]) == (403, "text/plain; charset=utf-8")
    assert refused.text.count("\n") == 1
    assert "COPILOT_QUANT_HOSTS=evil.example" in refused.text
    forwarded = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    assert served.ask(headers=forwarded).status == 200
    for method in ("GET", "POST", "OPTIONS", "HEAD"):
        crossing = {**JSON, "Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        answer = served.ask("/graphql", method, crossing, _document(RELOAD))
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
    assert served.ask(headers={"Host": "DAGIT.example.com", "Origin": "https://dagit.example.com"}).status == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("GET /server_info HTTP/1.0\r\n\r\n", 400),
        ("GET /server_info HTTP/1.0\r\nHost: localhost\r\n\r\n", 200),
        ("GET /server_info HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 400),
        ("GET /server_info HTTP/1.1\r\nHost: x@localhost\r\nConnection: close\r\n\r\n", 400),
        ("GET http://localhost/server_info HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 403),
        ("POST //report_asset_materialization/a HTTP/1.0\r\nHost: localhost\r\n\r\n", 403),
        ("POST /%72eport_asset_materialization/a HTTP/1.0\r\nHost: localhost\r\n\r\n", 403),
        ("POST /%2freport_asset_check/a HTTP/1.0\r\nHost: localhost\r\n\r\n", 403),
        ("POST /x/../report_asset_check/a HTTP/1.0\r\nHost: localhost\r\n\r\n", 405),
        ("POST /report_asset_observation HTTP/1.0\r\nHost: localhost\r\n\r\n", 403),
    ],
)
def test_requests_that_no_browser_writes_get_nowhere_either(served: Served, raw: str, status: int) -> None:
    assert served.say(raw) == status


def test_a_page_in_a_frame_of_another_origin_is_not_drawn(served: Served) -> None:
    assert served.ask("/").headers["x-frame-options"] == "SAMEORIGIN"


def test_a_websocket_subscribes_and_carries_no_mutation(served: Served) -> None:
    address = f"ws://{served.host}/graphql"
    own = Origin(f"http://{served.host}")
    for protocol in ("graphql-ws", "graphql-transport-ws"):
        with connect(address, origin=own, subprotocols=[Subprotocol("graphql-ws"), Subprotocol(protocol)]) as socket:
            socket.send(json.dumps({"type": "connection_init"}))
            assert json.loads(socket.recv(30)) == {"type": "connection_ack"}
            kind = "start" if protocol == "graphql-ws" else "subscribe"
            socket.send(json.dumps({"id": "1", "type": kind, "payload": {"query": RELOAD}}))
            with pytest.raises(ConnectionClosedError, match="mutations come by POST"):
                socket.recv(30)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        with pytest.raises(InvalidStatus, match="403"):
            connect(address, origin=Origin(origin))
    with pytest.raises(InvalidStatus, match="403"):
        connect(address, additional_headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "websocket"})


def test_without_the_token_nobody_sees_a_page(guarded: Served) -> None:
    for path in ("/", "/server_info", "/graphql", "/logs/a", "/favicon.svg", "/report_asset_check/a"):
        refused = guarded.ask(path)
        assert refused.status == 401
        assert "?token=" in refused.text
        assert "Authorization: Bearer" in refused.text
    assert guarded.ask("/graphql", "POST", JSON, _document(VERSION)).status == 401
    assert guarded.ask(token="wrong").status == 401  # noqa: S106
    assert guarded.ask(headers={"Authorization": "Bearer wrong"}).status == 401
    with pytest.raises(InvalidStatus, match="401"):
        connect(f"ws://{guarded.host}/graphql")


def test_a_token_given_once_is_kept_as_a_strict_cookie(guarded: Served) -> None:
    given = guarded.ask("/assets/equity_bars", view="partitions", token=TOKEN)
    assert (given.status, given.headers["location"]) == (303, "/assets/equity_bars?view=partitions")
    cookie, *attributes = given.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(attributes)
    assert TOKEN not in cookie
    kept = {"Cookie": f"other=1; {cookie}"}
    assert guarded.ask(headers=kept).status == 200
    assert guarded.ask("/graphql", "POST", {**kept, **JSON}, _document(RELOAD)).status == 200
    with connect(f"ws://{guarded.host}/graphql", additional_headers=kept, subprotocols=WS) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        assert socket.recv(30)
    assert guarded.ask(headers={"Cookie": cookie[:-1]}).status == 401
    assert guarded.ask("//evil.example", token=TOKEN).headers["location"] == "/evil.example"
    crossing = {**kept, **JSON, "Origin": "http://evil.example"}
    assert guarded.ask("/graphql", "POST", crossing, _document(RELOAD)).status == 403
    assert guarded.ask(headers={**kept, "Host": "evil.example"}).status == 403


def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_only(guarded: Served) -> None:
    given = guarded.ask(headers={"X-Forwarded-Proto": "https"}, token=TOKEN)
    assert "Secure" in given.headers["set-cookie"].split("; ")


def test_a_script_shows_the_token_in_a_header(guarded: Served) -> None:
    assert guarded.ask(headers=SHOWN).status == 200
    assert guarded.ask("/graphql", "POST", {**SHOWN, **JSON}, _document(VERSION)).status == 200
    assert guarded.ask(headers={**SHOWN, "Host": f"0.0.0.0:{guarded.port}"}).status == 200
    assert guarded.ask(headers={**SHOWN, "Host": "10.99.99.99"}).status == 403
    # Reporting is on here; of what is no asset nothing can be reported all the same.
    assert "Not authorized" in guarded.ask("/report_asset_check/a", "POST", SHOWN).text


def test_the_token_is_neither_printed_nor_among_the_arguments(guarded: Served) -> None:
    guarded.ask("/graphql", query="{ nothing", token=TOKEN)
    with pytest.raises(InvalidStatus):
        connect(f"ws://{guarded.host}/graphql?token={TOKEN}")
    with connect(f"ws://{guarded.host}/graphql?token={TOKEN}", additional_headers=SHOWN, subprotocols=WS) as socket:
        socket.send("no json")
        with pytest.raises(ConnectionClosedError):
            socket.recv(30)
    printed = guarded.printed.read_text()
    assert "s3cret" not in printed
    assert not [part for part in psutil.Process(guarded.process.pid).cmdline() if "s3cret" in part]


def test_the_server_itself_refuses_to_be_reached_from_elsewhere_without_a_token(serve: Callable[..., Any]) -> None:
    with pytest.raises(AssertionError, match="set COPILOT_QUANT_TOKEN"), serve("--host", "0.0.0.0"):  # noqa: S104
        pass
