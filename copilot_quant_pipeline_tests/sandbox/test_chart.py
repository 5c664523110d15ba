from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline_tests.sandbox.conftest import BROWSER, Answer, chart, get, result, seconds

RECORDED_AT = datetime(2025, 2, 20, 11, 47, 42, tzinfo=UTC)
EXCHANGES = [
    "chart-AAPL-2020-08-31-to-2020-11-07.json",
    "chart-GOOG-2020-01-01-to-2020-01-03.json",
    "historical-via-chart-MSFT-dividends-2021-02-01-to-2022-01-31.json",
    "historical-via-chart-NVDA-split-2021-02-01-to-2022-01-31.json",
    "historical-via-chart-dividends-TSLA-no-dividends.json",
]


def expect_same_shape(ours: Any, theirs: Any, path: str = "body") -> None:
    """Every key both have holds the same JSON type; lists and objects keyed by seconds compare by one."""
    number = (int, float)
    if isinstance(theirs, number) and not isinstance(theirs, bool):
        assert isinstance(ours, number), path
        assert not isinstance(ours, bool), path
    else:
        assert type(ours) is type(theirs), path
    if isinstance(theirs, dict):
        shared = set(ours) & set(theirs) or set(ours) ^ set(theirs)
        if all(re.fullmatch(r"\d+", key) for key in shared) and ours and theirs:
            expect_same_shape(next(iter(ours.values())), next(iter(theirs.values())), f"{path}.*")
            return
        for key in set(ours) & set(theirs):
            expect_same_shape(ours[key], theirs[key], f"{path}.{key}")
    if isinstance(theirs, list) and ours and theirs:
        expect_same_shape(ours[0], theirs[0], f"{path}[]")


def replayed(sandbox: Sandbox, exchange: dict[str, Any]) -> Answer:
    asked = urlsplit(exchange["request"]["url"])
    return get(sandbox.url + asked.path, **dict(parse_qsl(asked.query)))


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_recorded_request_is_answered_in_the_recorded_shape(recorded: Path, name: str) -> None:
    exchange = json.loads((recorded / "yahoo/chart" / name).read_text())
    theirs = exchange["response"]["bodyJson"]
    with Sandbox(now=RECORDED_AT) as sandbox:
        answer = replayed(sandbox, exchange)
    expect_same_shape(answer.json, theirs)
    ours, their = result(answer), theirs["chart"]["result"][0]
    assert set(ours["meta"]) == set(their["meta"])
    assert set(ours) - {"events"} == set(their) - {"events"}
    assert list(ours["indicators"]) == list(their["indicators"])


@pytest.mark.parametrize("name", EXCHANGES[:4])
def test_a_recorded_window_has_the_recorded_timestamps(recorded: Path, name: str) -> None:
    exchange = json.loads((recorded / "yahoo/chart" / name).read_text())
    with Sandbox(now=RECORDED_AT) as sandbox:
        ours = result(replayed(sandbox, exchange))
    theirs = exchange["response"]["bodyJson"]["chart"]["result"][0]
    assert ours["timestamp"] == theirs["timestamp"]
    for key in ("gmtoffset", "timezone", "validRanges", "dataGranularity", "range"):
        assert ours["meta"][key] == theirs["meta"][key]


def test_the_trading_period_and_last_trade_are_those_recorded_before_an_open(recorded: Path) -> None:
    theirs = json.loads((recorded / "yahoo/chart" / EXCHANGES[0]).read_text())["response"]["bodyJson"]
    with Sandbox(now=RECORDED_AT) as sandbox:
        ours = result(chart(sandbox, "AAPL"))["meta"]
    for key in ("currentTradingPeriod", "exchangeTimezoneName", "currency"):
        assert ours[key] == theirs["chart"]["result"][0]["meta"][key]
    assert ours["regularMarketTime"] == 1739998801


@pytest.mark.parametrize("symbol", ["AAPL", "MSFT"])
def test_six_months_asked_after_a_close_are_the_recorded_sessions(recorded: Path, symbol: str) -> None:
    theirs = json.loads((recorded / f"yahoo/chart/history_chart_{symbol}.json").read_text())["chart"]["result"][0]
    with Sandbox(now=datetime(2025, 10, 29, 21, 0, tzinfo=UTC)) as sandbox:
        answer = chart(sandbox, symbol, range="6mo")
    ours = result(answer)
    assert ours["timestamp"] == theirs["timestamp"]
    expect_same_shape(ours, theirs)
    assert ours["meta"]["currentTradingPeriod"] == theirs["meta"]["currentTradingPeriod"]
    assert ours["meta"]["range"] == "6mo"


def test_a_weekend_is_answered_as_recorded(recorded: Path, sandbox: Sandbox) -> None:
    theirs = json.loads((recorded / "yahoo/errors/yahoo_200_empty_window.json").read_text())
    answer = chart(sandbox, "AAPL", period1=seconds("2024-03-02"), period2=seconds("2024-03-04"))
    assert set(result(answer)) == set(theirs["chart"]["result"][0])
    assert result(answer)["indicators"] == theirs["chart"]["result"][0]["indicators"]


def test_an_unknown_symbol_is_answered_as_recorded(recorded: Path, sandbox: Sandbox) -> None:
    theirs = json.loads((recorded / "yahoo/errors/yahoo_404_unknown_symbol.json").read_text())
    for symbol in ("NOPE", "BRK.B", "SIVB"):
        answer = chart(sandbox, symbol)
        assert (answer.status, answer.json) == (404, theirs)


def test_a_window_before_the_first_bar_is_answered_as_recorded(recorded: Path, sandbox: Sandbox) -> None:
    theirs = json.loads((recorded / "yahoo/errors/yahoo_400_before_first_bar.json").read_text())
    answer = chart(sandbox, "KVUE", period1=1565740800, period2=1596067200)
    assert (answer.status, answer.json) == (400, theirs)


def test_intraday_bars_too_long_ago_are_refused_as_recorded(recorded: Path) -> None:
    theirs = json.loads((recorded / "yahoo/errors/yahoo_422_range_too_old.json").read_text())
    with Sandbox(now=datetime(2026, 6, 1, tzinfo=UTC)) as sandbox:
        answer = chart(sandbox, "AAPL", interval="5m", period1=1770111238, period2=1770975238)
    assert (answer.status, answer.json) == (422, theirs)


def test_a_client_that_is_no_browser_is_refused_as_recorded(recorded: Path, sandbox: Sandbox) -> None:
    theirs = (recorded / "yahoo/errors/yahoo_429_edge.txt").read_bytes().strip()
    answer = get(f"{sandbox.url}/v8/finance/chart/AAPL", user_agent="python-requests/2.34.2")
    assert (answer.status, answer.body) == (429, theirs)


@pytest.mark.parametrize(
    "params",
    [
        {"interval": "1wk"},
        {"interval": "1m", "period1": seconds("2026-03-12"), "period2": seconds("2026-03-13")},
        {"range": "7y"},
        {"period1": "yesterday"},
        {"period1": seconds("2024-03-04"), "period2": seconds("2024-03-01")},
    ],
)
def test_what_the_sandbox_does_not_serve_is_refused_in_yahoos_format(sandbox: Sandbox, params: dict[str, Any]) -> None:
    answer = chart(sandbox, "AAPL", **params)
    assert answer.status == 400
    assert answer.json["chart"]["error"]["code"] == "Bad Request"


def test_the_start_is_inclusive_and_the_end_exclusive(sandbox: Sandbox) -> None:
    opens = result(chart(sandbox, "MSFT", range="5d"))["timestamp"]
    bounded = chart(sandbox, "MSFT", period1=opens[0], period2=opens[-2])
    assert result(bounded)["timestamp"] == opens[:-2]


@pytest.mark.parametrize(("range_", "sessions"), [("1d", 1), ("5d", 5), ("1mo", 20), ("ytd", 49), ("max", 2815)])
def test_ranges_end_with_the_newest_session(sandbox: Sandbox, range_: str, sessions: int) -> None:
    found = result(chart(sandbox, "MSFT", range=range_))
    assert len(found["timestamp"]) == pytest.approx(sessions, abs=1)
    assert found["timestamp"][-1] == seconds("2026-03-13T20:00:01")


def test_events_are_left_out_unless_asked_for_and_there(sandbox: Sandbox) -> None:
    split_day = {"period1": seconds("2020-08-31"), "period2": seconds("2020-09-01")}
    assert result(chart(sandbox, "AAPL", **split_day))["events"] == {
        "splits": {"1598880600": {"date": 1598880600, "numerator": 4, "denominator": 1, "splitRatio": "4:1"}}
    }
    assert "events" not in result(chart(sandbox, "AAPL", **split_day, events="div"))
    assert "events" not in result(chart(sandbox, "BRK-B", **split_day))


def test_an_open_session_shows_a_provisional_bar() -> None:
    window = {"period1": seconds("2024-11-26"), "period2": seconds("2024-11-30")}
    with Sandbox(now=datetime(2024, 11, 29, 16, 0, 30, tzinfo=UTC)) as sandbox:
        early = result(chart(sandbox, "AAPL", **window))
        # Half-day: the session closes at 18:00 UTC.
        sandbox.pin_clock(datetime(2024, 11, 29, 18, 30, tzinfo=UTC))
        closed = result(chart(sandbox, "AAPL", **window))
        sandbox.pin_clock(datetime(2024, 12, 2, 12, 0, tzinfo=UTC))
        later = result(chart(sandbox, "AAPL", **window))
    assert [body["timestamp"][-1] for body in (early, closed, later)] == [
        seconds("2024-11-29T16:00:30"),
        seconds("2024-11-29T18:00:01"),
        seconds("2024-11-29T14:30:00"),
    ]
    bars = [body["indicators"]["quote"][0] for body in (early, closed, later)]
    assert 0 < bars[0]["volume"][-1] < bars[1]["volume"][-1]
    assert bars[1] == bars[2]
    assert early["timestamp"][:-1] == later["timestamp"][:-1]


def test_before_the_open_there_is_no_bar_of_the_day() -> None:
    with Sandbox(now=datetime(2026, 3, 13, 13, 29, tzinfo=UTC)) as sandbox:
        assert result(chart(sandbox, "AAPL", range="1d"))["timestamp"] == [seconds("2026-03-12T13:30:00")]


def test_two_clocks_agree_on_the_past_but_for_later_splits() -> None:
    window = {"period1": seconds("2022-01-01"), "period2": seconds("2024-01-01")}
    with Sandbox(now=datetime(2024, 6, 7, 21, tzinfo=UTC)) as before:
        unsplit, steady = (result(chart(before, symbol, **window)) for symbol in ("NVDA", "BRK-B"))
    with Sandbox(now=datetime(2026, 3, 13, 21, tzinfo=UTC)) as after:
        split, still = (result(chart(after, symbol, **window)) for symbol in ("NVDA", "BRK-B"))
    assert steady["indicators"] == still["indicators"]
    closes = [np.array(body["indicators"]["quote"][0]["close"]) for body in (unsplit, split)]
    np.testing.assert_allclose(closes[0] / 10, closes[1], rtol=1e-6)


def test_a_delisted_symbol_keeps_its_bars_or_is_forgotten() -> None:
    with Sandbox(now=datetime(2023, 3, 20, 21, tzinfo=UTC)) as sandbox:
        assert result(chart(sandbox, "SIVB"))["timestamp"][-1] == seconds("2023-03-09T14:30:00")
        sandbox.pin_clock(datetime(2023, 3, 28, 21, tzinfo=UTC))
        assert chart(sandbox, "SIVB").status == 404
        sandbox.pin_clock(datetime(2026, 3, 13, 21, tzinfo=UTC))
        assert result(chart(sandbox, "ATVI"))["timestamp"][-1] == seconds("2023-10-12T13:30:00")


def test_nothing_is_known_before_the_market_begins() -> None:
    with Sandbox(now=datetime(2014, 6, 2, 21, tzinfo=UTC)) as sandbox:
        assert chart(sandbox, "AAPL").status == 404


def test_a_symbol_is_unknown_before_it_lists() -> None:
    with Sandbox(now=datetime(2023, 5, 4, 12, tzinfo=UTC)) as sandbox:
        assert chart(sandbox, "KVUE").status == 404
        sandbox.pin_clock(datetime(2023, 5, 4, 22, tzinfo=UTC))
        assert result(chart(sandbox, "KVUE"))["meta"]["firstTradeDate"] == seconds("2023-05-04T13:30:00")


def test_the_cookie_and_the_crumb_are_handed_out(sandbox: Sandbox) -> None:
    headers = {"User-Agent": BROWSER, "X-Orig-Host": "fc.yahoo.com"}
    greeting = Request(f"{sandbox.url}/", headers=headers)  # noqa: S310
    with pytest.raises(HTTPError) as refused:
        urlopen(greeting, timeout=10)  # noqa: S310
    with refused.value as answer:
        assert answer.code == 404
        assert answer.headers["set-cookie"].startswith("A3=")
    crumb = get(f"{sandbox.url}/v1/test/getcrumb")
    assert crumb.status == 200
    assert re.fullmatch(rb"\w{11}", crumb.body)
