"""Claims about Dagit in a browser in which a page of another origin is open as well: it gets nothing done."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest
import requests
from selenium import webdriver

from copilot_quant_pipeline.ledger.grid_status import GridStatus, read_grid_status
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline_tests.browser.conftest import Page
from copilot_quant_pipeline_tests.cli.conftest import Desk
from copilot_quant_pipeline_tests.dagit.conftest import serve  # noqa: F401 - a fixture

ADD = """mutation { addDynamicPartition(partitionsDefName: "symbol", partitionKey: "EVIL", repositorySelector: {
repositoryLocationName: "copilot_quant_pipeline.definitions", repositoryName: "__repository__"}) { __typename } }"""
REPORT = """mutation { reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION,
assetKey: {path: ["equity_bars"]}, partitionKeys: ["2024-03-25|NOPE"]}) { __typename } }"""
WIPE = """mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["equity_bars"]}}]) { __typename } }"""

SECRET = "hush-hush"  # noqa: S105

# What a page can try against `dagit`, each way to its end; what came of it is told, and nothing should have.
ATTACK = """
const [dagit, mutations, done] = arguments;
const told = [];
const attempt = (what, promise) => promise.then(
    answer => told.push([what, answer]), error => told.push([what, "failed: " + error.name]));
const posted = (path, options) => fetch(dagit + path, {method: "POST", credentials: "include", ...options})
    .then(answer => answer.type + " " + answer.status);
const loaded = (element, name, value) => new Promise(resolve => {
    element.onload = element.onerror = () => resolve("over");
    element[name] = value;
    document.body.append(element);
});
const submitted = (path, fields, enctype) => new Promise(resolve => {
    const frame = document.createElement("iframe"), form = document.createElement("form");
    frame.name = "frame" + Math.random();
    document.body.append(frame, form);
    Object.assign(form, {action: dagit + path, method: "POST", enctype, target: frame.name});
    for (const [name, value] of Object.entries(fields))
        form.append(Object.assign(document.createElement("input"), {name, value}));
    frame.onload = () => resolve("over");
    form.submit();
});
const socket = query => new Promise(resolve => {
    const web = new WebSocket(dagit.replace("http", "ws") + "/graphql", "graphql-ws");
    web.onopen = () => web.send(JSON.stringify({id: "1", type: "start", payload: {query}}));
    web.onmessage = message => resolve("heard " + message.data);
    web.onclose = web.onerror = () => resolve("closed");
});
const attempts = mutations.flatMap(query => {
    const url = "/graphql?query=" + encodeURIComponent(query), body = JSON.stringify({query});
    const plain = {mode: "no-cors", headers: {"Content-Type": "text/plain; a=application/json"}};
    return [
        attempt("plain", posted("/graphql", {...plain, body})),
        attempt("url", posted(url, {mode: "no-cors"})),
        attempt("json", posted("/graphql", {headers: {"Content-Type": "application/json"}, body})),
        attempt("image", loaded(new Image(), "src", dagit + url)),
        attempt("get", fetch(dagit + url, {mode: "no-cors", credentials: "include"}).then(one => one.type)),
        attempt("form", submitted(url, {}, "application/x-www-form-urlencoded")),
        attempt("text form", submitted("/graphql", {[body.slice(0, -1) + ', "x": "']: '"}'}, "text/plain")),
        attempt("multipart", submitted("/graphql", {query}, "multipart/form-data")),
        attempt("socket", socket(query)),
    ];
});
const report = "/report_asset_materialization/equity_bars?partition=2024-03-25%7CNOPE";
attempts.push(attempt("report", posted(report, {mode: "no-cors"})));
attempts.push(attempt("report form", submitted(report, {}, "multipart/form-data")));
attempts.push(attempt("read", fetch(dagit + "/graphql?query={version}").then(answer => answer.text())));
Promise.all(attempts).then(() => done(told));
"""

LOADED = """
return performance.getEntriesByType("resource").filter(one => one.name.startsWith(location.origin))
    .map(one => [one.responseStatus, one.name])
"""

SUBSCRIBE = """
const [run, done] = arguments;
const web = new WebSocket("ws://" + location.host + "/graphql", "graphql-ws");
const heard = [];
const query = "subscription Logs($run: ID!) { pipelineRunLogs(runId: $run) { __typename } }";
web.onopen = () => web.send(JSON.stringify({type: "connection_init"}));
web.onmessage = message => {
    const {type, payload} = JSON.parse(message.data);
    heard.push(payload ? payload.data.pipelineRunLogs.__typename : type);
    if (type == "connection_ack")
        web.send(JSON.stringify({id: "1", type: "start", payload: {query, variables: {run}}}));
    else
        done(heard);
};
web.onclose = () => done(heard);
"""

# Where each page says that it is there.
PAGES = {
    "/overview": "Overview",
    "/runs": "Runs",
    "/assets": "equity_bars",
    "/assets/equity_bars": "equity_bars",
    "/assets/equity_bars?view=partitions": "Materialized",
    "/assets/equity_bars?view=events": "2024-03-28",
    "/automation": "heal",
    "/locations": "copilot_quant_pipeline.definitions",
    "/deployment/concurrency": "oncurrency",
    "/health": "Daemons",
    "/config": "event_log_storage",
    "/locations/copilot_quant_pipeline.definitions/sensors/heal": "heal",
}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called
        pass


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of another site."""
    folder = tmp_path_factory.mktemp("evil")
    (folder / "index.html").write_text("<!doctype html><title>evil</title><body>Nothing to see.</body>")
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def _state(desk: Desk) -> tuple[GridStatus, list[str]]:
    with open_instance(desk.settings.dagster_home) as instance:
        picture = read_grid_status(instance, dg.AssetKey("equity_bars"))
        return picture, list(instance.get_dynamic_partitions("symbol"))


@pytest.mark.parametrize("name", ["evil.example", "localhost", "127.0.0.1"])
def test_a_page_of_another_origin_changes_nothing_and_reads_nothing(
    desk: Desk, page: Page, evil: int, name: str
) -> None:
    before = _state(desk)
    page.browser.get(f"http://{name}:{evil}/")
    page.browser.set_script_timeout(60)
    told = page.browser.execute_async_script(ATTACK, page.address, [ADD, REPORT, WIPE])
    assert len(told) == 30
    answers = {json.dumps(answer) for what, answer in told if what in ("json", "read", "socket")}
    assert answers <= {'"failed: TypeError"', '"closed"'}
    assert _state(desk) == before


def test_a_name_that_leads_here_by_somebody_elses_word_is_not_ours(page: Page) -> None:
    port = page.address.rpartition(":")[2]
    page.browser.get(f"http://evil.example:{port}/runs")
    page.shows("Nobody is called evil.example here")


def test_dagits_own_pages_may_do_what_another_sites_may_not(desk: Desk, page: Page) -> None:
    page.open("/runs")
    asked = (
        "const [query, done] = arguments; fetch('/graphql', {method: 'POST', body: JSON.stringify({query}), headers:"
    )
    own = asked + " {'Content-Type': 'application/json'}}).then(answer => answer.json()).then(done)"
    assert page.browser.execute_async_script(own, ADD) == {
        "data": {"addDynamicPartition": {"__typename": "AddDynamicPartitionSuccess"}}
    }
    with open_instance(desk.settings.dagster_home) as instance:
        assert "EVIL" in instance.get_dynamic_partitions("symbol")
        instance.delete_dynamic_partition("symbol", "EVIL")
    for mutation, field in ((REPORT, "reportRunlessAssetEvents"), (WIPE, "wipeAssets")):
        answer = page.browser.execute_async_script(own, mutation)
        assert answer == {"data": {field: {"__typename": "UnauthorizedError"}}}


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_drawn_and_all_it_asks_for_is_answered(page: Page, path: str) -> None:
    page.open(path)
    page.shows(PAGES[path])
    answered = page.browser.execute_script(LOADED)
    assert answered
    assert [one for one in answered if one[0] >= 400] == []


def test_a_run_page_hears_of_its_run_through_a_websocket(desk: Desk, page: Page) -> None:
    (run,) = desk.warehouse.read("select run_id from ops.run_summary where failed > 0").column("run_id").to_pylist()[:1]
    page.open(f"/runs/{run}")
    heard = page.browser.execute_async_script(SUBSCRIBE, run)
    assert heard == ["connection_ack", "PipelineRunLogsSubscriptionSuccess"]


def test_the_reason_why_nothing_is_wiped_or_reported_is_told(page: Page) -> None:
    query = "{ permissions { permission value disabledReason } }"
    permissions = requests.get(f"{page.address}/graphql", params={"query": query}, timeout=30).json()["data"][
        "permissions"
    ]
    refused = {one["permission"]: one["disabledReason"] for one in permissions if not one["value"]}
    assert "A green cell is a fact" in refused["wipe_assets"]
    assert refused["wipe_assets"] == refused["report_runless_asset_events"]


def test_a_token_is_given_once_and_links_of_other_sites_work_from_then_on(
    serve: Callable[..., Any],  # noqa: F811
    browser: webdriver.Chrome,
    evil: int,
) -> None:
    with serve(TOKEN=SECRET) as served:
        page = Page(browser, f"http://{served.host}")
        page.open("/runs")
        page.shows("A token is asked for")
        page.open(f"/runs?token={SECRET}")
        page.shows("Runs")
        assert browser.current_url == f"{page.address}/runs"
        browser.get(f"http://evil.example:{evil}/")
        browser.execute_script("location.href = arguments[0]", f"{page.address}/assets")
        page.shows("Catalog")
        browser.delete_all_cookies()
        page.open("/runs")
        page.shows("A token is asked for")
