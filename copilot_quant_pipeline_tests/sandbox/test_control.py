from __future__ import annotations

import signal
import subprocess
import sys
from datetime import datetime

import pytest
import requests

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.app import most_within
from copilot_quant_pipeline_tests.sandbox.conftest import chart, get, result, seconds

CHART = "/v8/finance/chart/{symbol}"


def test_requests_are_counted_by_route(sandbox: Sandbox) -> None:
    for symbol in ("AAPL", "KO", "NOPE"):
        chart(sandbox, symbol, range="5d")
    get(f"{sandbox.url}/v1/test/getcrumb")
    get(f"{sandbox.url}/nowhere")
    assert sandbox.requests() == {CHART: 3, "/v1/test/getcrumb": 1, "unrouted": 1}
    sandbox.reset_requests()
    assert sandbox.requests() == {}


def test_another_process_can_read_counts_and_set_faults_and_the_clock(sandbox: Sandbox) -> None:
    chart(sandbox, "AAPL", range="5d")
    assert get(f"{sandbox.url}/__requests").json == {CHART: 1}
    assert get(f"{sandbox.url}/__requests/reset", method="POST").status == 204
    fault = {"kind": "rate_limit", "symbol": "AAPL", "times": 1}
    assert get(f"{sandbox.url}/__faults", method="POST", body=fault).status == 204
    assert [chart(sandbox, "AAPL", range="5d").status for _ in range(2)] == [429, 200]
    get(f"{sandbox.url}/__faults", method="POST", body={"kind": "down"})
    assert get(f"{sandbox.url}/__faults", method="DELETE").status == 204
    clock = {"now": "2024-03-29T14:00:00+00:00"}
    assert get(f"{sandbox.url}/__clock", method="POST", body=clock).status == 204
    assert result(chart(sandbox, "AAPL", range="1d"))["timestamp"] == [seconds("2024-03-28T13:30:00")]
    assert get(f"{sandbox.url}/__requests").json == {CHART: 3}


EVIL = {"Origin": "http://evil.example"}


@pytest.mark.parametrize("path", ["/__requests", "/__requests/busiest", "/__requests/reset", "/__faults", "/__clock"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (EVIL, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "x@127.0.0.1"}, 400),
    ],
)
def test_a_page_of_another_origin_cannot_tell_a_sandbox_anything(
    sandbox: Sandbox, path: str, headers: dict[str, str], status: int
) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        answer = requests.request(method, f"{sandbox.url}{path}", headers=headers, json={"kind": "down"}, timeout=10)
        assert answer.status_code == status
    assert chart(sandbox, "AAPL", range="5d").status == 200


def test_a_sandbox_is_told_things_as_json_only(sandbox: Sandbox) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "text/plain; a=application/json"):
        told = requests.post(
            f"{sandbox.url}/__faults", data='{"kind": "down"}', headers={"Content-Type": kind}, timeout=10
        )
        assert told.status_code == 415
    assert chart(sandbox, "AAPL", range="5d").status == 200


def test_venues_answer_by_whatever_name_they_are_asked(sandbox: Sandbox) -> None:
    headers = {"Host": "query1.finance.yahoo.com", "User-Agent": "Mozilla/5.0", **EVIL}
    assert requests.get(f"{sandbox.url}/v8/finance/chart/AAPL", headers=headers, timeout=10).status_code == 200


def test_the_busiest_span_is_told_for_one_route_or_several(sandbox: Sandbox) -> None:
    for symbol in ("AAPL", "KO"):
        chart(sandbox, symbol, range="5d")
    get(f"{sandbox.url}/v1/test/getcrumb")
    busiest = f"{sandbox.url}/__requests/busiest"
    assert get(busiest, seconds=60).json == {"requests": 3}
    assert get(busiest, seconds=60, under="/v8").json == {"requests": 2}
    assert get(busiest, seconds=60, under="/nowhere").json == {"requests": 0}
    sandbox.reset_requests()
    assert get(busiest, seconds=60).json == {"requests": 0}


@pytest.mark.parametrize(("seconds", "most"), [(1.0, 3), (2.0, 4), (0.1, 2), (100.0, 6)])
def test_the_most_within_a_span_are_found_wherever_they_are(seconds: float, most: int) -> None:
    assert most_within([0.0, 5.0, 5.05, 5.9, 6.0, 9.0], seconds) == most
    assert most_within([], seconds) == 0


def test_a_clock_without_a_time_zone_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(UserError, match="time zone"):
        sandbox.pin_clock(datetime(2024, 3, 29))  # noqa: DTZ001
    refused = get(f"{sandbox.url}/__clock", method="POST", body={"now": "2024-03-29T14:00:00"})
    assert refused.status == 400


def test_a_port_is_free_again_after_use_and_refused_while_taken() -> None:
    with Sandbox() as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(UserError, match="taken"), Sandbox(port=port):
            pass
    with Sandbox(port=port) as second:
        assert second.url == first.url
        assert chart(second, "AAPL", range="5d").status == 200


def test_a_sandbox_in_the_foreground_says_where_it_is_and_ends_on_ctrl_c() -> None:
    program = "from copilot_quant_pipeline.sandbox import serve_forever; serve_forever(port=0)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[2]
        assert get(f"{url}/v8/finance/chart/AAPL", range="5d").status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
    assert "simulated market, seed 7" in line
