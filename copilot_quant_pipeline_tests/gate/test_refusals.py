"""Claims about who is let in, decided on values."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.gate.names import is_every_address, is_loopback, names_of, read_host
from copilot_quant_pipeline.gate.refusals import (
    Facts,
    Rules,
    judge_control,
    judge_dagit,
    judge_message,
    judge_sender,
)

HERE = Facts("GET", hosts=("127.0.0.1:3000",))
POST = replace(HERE, method="POST", path="/graphql", content_types=("application/json",))
WIPE = 'mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["equity_bars"]}}]) { __typename } }'
PORTS = st.none() | st.integers(1, 65535)
LOOPBACK = st.sampled_from(["localhost", "127.0.0.1", "127.8.9.10", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"])


def _status(facts: Facts, rules: Rules = Rules()) -> int | None:  # noqa: B008 - frozen
    refusal = judge_sender(facts, rules) or judge_dagit(facts, rules)
    return refusal.status if refusal else None


def _at(name: str, port: int | None) -> str:
    return f"{name}:{port}" if port else name


@given(LOOPBACK, PORTS, st.booleans(), st.booleans())
def test_loopback_by_any_of_its_names_and_ports_is_let_in(
    name: str, port: int | None, is_upper: bool, has_dot: bool
) -> None:
    spelled = (name.upper() if is_upper else name) + ("." if has_dot and "[" not in name else "")
    host = _at(spelled, port)
    assert _status(replace(HERE, hosts=(host,))) is None
    assert _status(replace(POST, hosts=(host,), origins=(f"http://{host}",), site="same-origin")) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.localhost",
        "localhost@evil.example",
        "evil.example@localhost",
        "evil@127.0.0.1:3000",
        "127.0.0.1:3000@evil.example",
        "localhost:3000:80",
        "localhost, evil.example",
        "local host",
        " localhost",
        "localhost/",
        "localhost#",
        "localhost%00.evil.example",
        "localhos\uff54",
        "\u066127.0.0.1",
        "::1",
        "[::1",
        "[::1%25eth0]",
        "[127.0.0.1]",
        "[localhost]",
        "0.0.0.0:3000",
        "[::]:3000",
        "128.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "169.254.1.1",
        "localhost..",
        ".",
        ":3000",
        "",
    ],
)
def test_what_is_not_loopback_is_not_taken_for_it(host: str) -> None:
    assert _status(replace(HERE, hosts=(host,))) in (400, 403)


@given(st.text(max_size=40))
def test_no_text_at_all_is_taken_for_loopback_unless_it_names_it(text: str) -> None:
    if _status(replace(HERE, hosts=(text,))) is None:
        name = read_host(text)
        assert name
        assert is_loopback(name.name)


def test_one_host_header_is_asked_for() -> None:
    assert _status(replace(HERE, hosts=())) == 400
    assert _status(replace(HERE, hosts=("localhost", "localhost"))) == 400
    assert _status(replace(HERE, hosts=("localhost", "evil.example"))) == 400


def test_names_that_are_set_and_the_address_that_is_served_are_let_in() -> None:
    rules = Rules(names=frozenset(names_of("Dagit.Example.com., 10.0.0.5:8443,[2001:DB8::0:1], bücher.example,::2")))
    named = (
        "dagit.example.com",
        "DAGIT.example.com.:443",
        "10.0.0.5",
        "[2001:db8::1]:3",
        "xn--bcher-kva.example",
        "[::2]",
    )
    assert [_status(replace(HERE, hosts=(host,)), rules) for host in named] == [None] * len(named)
    assert _status(replace(HERE, hosts=("x.dagit.example.com",)), rules) == 403
    everywhere = replace(HERE, hosts=("10.1.2.3:3000",), arrived_at="::ffff:10.1.2.3")
    assert _status(everywhere) == 403
    assert _status(everywhere, Rules(everywhere=True)) is None
    assert _status(replace(everywhere, hosts=("10.1.2.4:3000",)), Rules(everywhere=True)) == 403
    assert [is_every_address(host) for host in ("0.0.0.0", "::", "0", "", "10.1.2.3")] == [True] * 4 + [False]  # noqa: S104


@pytest.mark.parametrize("text", ["*", "a b", "http://x", "x/y", "x:port", "user@x"])
def test_names_that_nobody_can_be_asked_by_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        names_of(text)


@pytest.mark.parametrize(
    ("origin", "host", "is_let_in"),
    [
        ("http://127.0.0.1:3000", "127.0.0.1:3000", True),
        ("http://LOCALHOST:3000", "localhost.:3000", True),
        ("http://[::1]:3000", "[0:0::1]:3000", True),
        ("http://localhost", "localhost:80", True),
        ("https://localhost", "localhost", True),
        ("https://localhost", "localhost:443", True),
        ("https://localhost", "localhost:80", False),
        ("http://localhost:3001", "localhost:3000", False),
        ("http://localhost", "localhost:3000", False),
        ("http://localhost:3000", "127.0.0.1:3000", False),
        ("http://evil.example", "127.0.0.1:3000", False),
        ("http://127.0.0.1:3000.evil.example", "127.0.0.1:3000", False),
        ("http://evil.example@127.0.0.1:3000", "127.0.0.1:3000", False),
        ("http://127.0.0.1:3000/", "127.0.0.1:3000", False),
        ("null", "127.0.0.1:3000", False),
        ("", "127.0.0.1:3000", False),
        ("file://", "127.0.0.1:3000", False),
        ("chrome-extension://127.0.0.1:3000", "127.0.0.1:3000", False),
    ],
)
def test_an_origin_that_is_sent_equals_host_whatever_the_method(origin: str, host: str, is_let_in: bool) -> None:
    for asked in (HERE, POST, replace(HERE, method="WEBSOCKET", path="/graphql")):
        status = _status(replace(asked, hosts=(host,), origins=(origin,)))
        assert status == (None if is_let_in else 403)
    twice = replace(POST, hosts=(host,), origins=(origin, origin))
    assert _status(twice) == 403


def test_of_another_site_links_are_followed_and_nothing_else_is() -> None:
    followed = replace(HERE, site="cross-site", mode="navigate", destination="document")
    assert _status(followed) is None
    for changed in (
        {"destination": "iframe"},
        {"mode": "no-cors", "destination": "image"},
        {"mode": "websocket", "destination": ""},
        {"method": "POST", "path": "/graphql", "content_types": ("application/json",)},
    ):
        assert _status(replace(followed, **changed)) == 403  # type: ignore[arg-type]
        assert _status(replace(followed, **{**changed, "site": "same-site"})) == 403  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "document",
    [
        WIPE,
        "query A { version } mutation B { reloadWorkspace { __typename } }",
        "fragment F on Mutation { reloadWorkspace { __typename } } mutation { ...F }",
        "# query\n\ufeff,,mutation\tX($a:Int=1)@skip(if:false){reloadWorkspace{__typename}}",
    ],
)
def test_a_mutation_comes_by_post_with_json_only(document: str) -> None:
    url = urlencode({"query": document})
    for query in (url, f"{url}&operationName=A", f"query=%7Bversion%7D&{url}", f"{url}&query=%7Bversion%7D"):
        for method in ("GET", "HEAD", "WEBSOCKET"):
            assert _status(replace(HERE, method=method, path="/graphql", query=query)) == 405
        assert _status(replace(POST, query=query)) == 405
    assert _status(POST) is None
    assert _status(replace(POST, content_types=("Application/JSON; charset=utf-8",))) is None


@pytest.mark.parametrize(
    "kinds",
    [
        (),
        ("application/graphql",),
        ("text/plain",),
        ("text/plain; a=application/json",),
        ("text/plain, application/json",),
        ("application/x-www-form-urlencoded",),
        ("multipart/form-data; boundary=application/json",),
        ("application/json", "text/plain"),
        ("application/json+graphql",),
        ("application/jsonx",),
    ],
)
def test_what_is_posted_is_json_and_says_so(kinds: tuple[str, ...]) -> None:
    assert _status(replace(POST, content_types=kinds)) == 415


def test_queries_are_read_by_get_whatever_words_they_hold() -> None:
    for document in ("{ version }", 'query mutation { mutation: version(of: "mutation { a }") }', "mutation {", ""):
        assert _status(replace(HERE, path="/graphql", query=urlencode({"query": document}))) is None
    deep = "{a" * 20_000
    assert _status(replace(HERE, path="/graphql", query=urlencode({"query": deep}))) == 405


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_other_methods_and_other_addresses_change_nothing(method: str) -> None:
    for path in ("/", "/runs", "/graphql/", "//graphql", "/server_info", "/logs/x"):
        assert _status(replace(POST, method=method, path=path)) == 405


@pytest.mark.parametrize("what", ["materialization", "check", "observation"])
def test_reports_are_off_unless_they_are_asked_for(what: str) -> None:
    report = replace(POST, path=f"/report_asset_{what}/equity_bars", content_types=())
    on = Rules(reports=True)
    for path in (
        report.path,
        f"/{report.path}",
        f"/report_asset_{what}",
        f"/%2Freport_asset_{what}/a",
        report.path.upper(),
    ):
        for method in ("POST", "GET"):
            assert _status(replace(report, path=path, method=method)) == 403
    assert _status(report, on) is None
    assert _status(replace(report, content_types=("application/json",)), on) is None
    assert _status(replace(report, content_types=("text/plain",)), on) == 415
    assert _status(replace(report, origins=("http://evil.example",)), on) == 403
    assert _status(replace(report, path=f"/{report.path}"), on) == 405


@pytest.mark.parametrize("kind", ["start", "subscribe", "anything"])
def test_a_websocket_carries_no_mutation(kind: str) -> None:
    wipe = f'{{"id": "1", "type": "{kind}", "payload": {{"query": "mutation {{ a }}"}}}}'
    listen = wipe.replace("mutation", "subscription")
    for refused in (wipe, f"[{wipe}]", wipe.replace("mutation", "query A { b } mutation"), "[" * 100_000):
        assert judge_message(refused)
    for let_in in (listen, '{"type": "connection_init", "payload": {}}', '{"type": "ka"}', "", "no json", "[]", "7"):
        assert judge_message(let_in) is None


@given(st.text() | st.dictionaries(st.sampled_from(["payload", "query", "type"]), st.text()).map(str))
def test_any_message_is_judged(message: str) -> None:
    judge_message(message)


def test_what_a_sandbox_is_told_is_json() -> None:
    told = replace(POST, path="/__faults")
    assert judge_control(told, Rules()) is None
    assert judge_control(replace(told, content_types=()), Rules()) is None
    assert judge_control(replace(told, method="GET", content_types=("text/plain",)), Rules()) is None
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert judge_control(replace(told, content_types=(kind,)), Rules())
