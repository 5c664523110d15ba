"""The client against a stand-in on loopback: real yfinance, real HTTP, every trap of both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yfinance
from tenacity import wait_none

from copilot_quant_pipeline.equities.brake import Brake
from copilot_quant_pipeline.equities.yahoo import POLICY, YahooClient
from copilot_quant_pipeline.errors import (
    AnotherCurrency,
    AnotherInstrument,
    BeforeFirstBar,
    Malformed,
    NotFound,
    RateLimited,
    Rejected,
    Unavailable,
    VendorError,
)
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline_tests.equities.conftest import DROP, Answer, Replay, chart_body, served

START, END = date(2024, 1, 2), date(2024, 3, 28)
GOOD = Answer(chart_body([date(2024, 3, 27), END], listed=date(1980, 12, 12)))
BUSY = Answer("Edge: Too Many Requests", 429)
DOWN = Answer('{"chart":{"result":null,"error":{"code":"x","description":"y"}}}', 503)

CHARTS = (
    "chart-AAPL-2020-08-31-to-2020-11-07.json",
    "chart-GOOG-2020-01-01-to-2020-01-03.json",
    "historical-via-chart-MSFT-dividends-2021-02-01-to-2022-01-31.json",
    "historical-via-chart-NVDA-split-2021-02-01-to-2022-01-31.json",
    "historical-via-chart-dividends-TSLA-no-dividends.json",
    "history_chart_AAPL.json",
    "history_chart_MSFT.json",
)
IN_LONDON = "chart-OCDO.L-2020-01-01-to-2020-01-03.json"
WEEKEND = "chart-AAPL-2025-02-01-to-2025-02-02-includePrePost-false-interval-1m.json"
CRUMB = "getCrumb-getcrumb.json"


def recorded_body(recorded: Path, name: str) -> dict[str, Any]:
    exchange = json.loads((recorded / "yahoo" / "chart" / name).read_text())
    body: dict[str, Any] = exchange["response"]["bodyJson"] if "response" in exchange else exchange
    return body


def anonymous(body: dict[str, Any]) -> dict[str, Any]:
    """Without the symbol it is of, to be asked for under any."""
    del body["chart"]["result"][0]["meta"]["symbol"]
    return body


def exchange_days(result: dict[str, Any]) -> list[date]:
    zone = ZoneInfo(result["meta"]["exchangeTimezoneName"])
    return [datetime.fromtimestamp(stamp, zone).date() for stamp in result["timestamp"]]


def test_every_recorded_chart_is_covered_by_a_test(recorded: Path) -> None:
    assert {path.name for path in (recorded / "yahoo" / "chart").iterdir()} == {*CHARTS, IN_LONDON, WEEKEND, CRUMB}


@pytest.mark.parametrize("name", CHARTS)
def test_a_recorded_chart_arrives_value_by_value(
    recorded: Path, replay: Replay, client: YahooClient, name: str
) -> None:
    body = anonymous(recorded_body(recorded, name))
    replay.answers(Answer(json.dumps(body)))
    result = body["chart"]["result"][0]
    days = exchange_days(result)
    answer = client.fetch_bars("TEST", days[0], days[-1])
    sent = {**result["indicators"]["quote"][0], "adj_close": result["indicators"]["adjclose"][0]["adjclose"]}
    assert answer.bars.column("date").to_pylist() == days
    for column, values in sent.items():
        assert answer.bars.column(column).to_pylist() == values
    listed = datetime.fromtimestamp(result["meta"]["firstTradeDate"], ZoneInfo(result["meta"]["exchangeTimezoneName"]))
    assert answer.first_trade_date == listed.date()
    events = result.get("events", {})
    assert sum(answer.bars.column("dividend").to_pylist()) == pytest.approx(
        sum(dividend["amount"] for dividend in events.get("dividends", {}).values())
    )
    assert [ratio for ratio in answer.bars.column("split_ratio").to_pylist() if ratio != 1.0] == [
        split["numerator"] / split["denominator"] for split in events.get("splits", {}).values()
    ]


@pytest.mark.parametrize(
    ("meta", "kind"),
    [
        ({}, AnotherInstrument),
        ({"exchangeTimezoneName": None}, AnotherCurrency),
    ],
)
def test_a_recorded_chart_of_london_is_refused(
    recorded: Path, replay: Replay, client: YahooClient, meta: dict[str, Any], kind: type[VendorError]
) -> None:
    body = recorded_body(recorded, IN_LONDON)
    body["chart"]["result"][0]["meta"].update(meta)
    replay.answers(Answer(json.dumps(body)))
    with pytest.raises(kind):
        client.fetch_bars("OCDO.L", START, END)
    assert (replay.charts, client.traffic.retries) == (1, 0)


@pytest.mark.parametrize("name", CHARTS)
def test_a_recorded_chart_reads_as_yfinances_own_frame_does(
    recorded: Path, replay: Replay, client: YahooClient, name: str
) -> None:
    body = anonymous(recorded_body(recorded, name))
    replay.answers(Answer(json.dumps(body)))
    days = exchange_days(body["chart"]["result"][0])
    # yfinance remembers answers by symbol: one for each body.
    symbol = f"T{CHARTS.index(name)}"
    answer = client.fetch_bars(symbol, days[0], days[-1])
    frame = yfinance.Ticker(symbol).history(
        start=days[0], end=days[-1] + timedelta(days=1), auto_adjust=False, actions=True, keepna=True
    )
    assert [stamp.date() for stamp in frame.index] == answer.bars.column("date").to_pylist()
    columns = {
        "open": "Open",
        "high": "High",
        "low": "Low",
        "close": "Close",
        "adj_close": "Adj Close",
        "volume": "Volume",
        "dividend": "Dividends",
    }
    for ours, theirs in columns.items():
        np.testing.assert_array_equal(answer.bars.column(ours).to_numpy(), frame[theirs].to_numpy(dtype=float))
    np.testing.assert_array_equal(
        answer.bars.column("split_ratio").to_numpy(), frame["Stock Splits"].replace(0.0, 1.0).to_numpy()
    )


def test_the_recorded_weekend_window_is_an_answer_without_bars(
    recorded: Path, replay: Replay, client: YahooClient
) -> None:
    replay.answers(Answer(json.dumps(recorded_body(recorded, WEEKEND))))
    answer = client.fetch_bars("AAPL", date(2025, 2, 1), date(2025, 2, 2))
    assert (answer.bars.num_rows, answer.first_trade_date) == (0, date(1980, 12, 12))
    assert client.traffic == Traffic(requests=1, retries=0)


def test_the_recorded_crumb_is_sent_with_the_chart_request(recorded: Path, replay: Replay, client: YahooClient) -> None:
    exchange = json.loads((recorded / "yahoo" / "chart" / CRUMB).read_text())
    replay.crumb = exchange["response"]["bodyText"]
    # A refusal makes yfinance drop the crumb of an earlier test, and ask for a new one.
    replay.answers(Answer("Invalid Crumb", 401), GOOD)
    client.fetch_bars("AAPL", START, END)
    assert replay.asked[-1][2]["crumb"] == [replay.crumb]


ERRORS: dict[str, tuple[int, type[VendorError]]] = {
    "yahoo_400_before_first_bar.json": (400, BeforeFirstBar),
    "yahoo_404_unknown_symbol.json": (404, NotFound),
    "yahoo_422_range_too_old.json": (422, Rejected),
    "yahoo_429_edge.txt": (429, RateLimited),
}


@pytest.mark.parametrize("name", ERRORS)
def test_each_recorded_error_is_told_apart(recorded: Path, replay: Replay, client: YahooClient, name: str) -> None:
    status, kind = ERRORS[name]
    replay.answers(Answer((recorded / "yahoo" / "errors" / name).read_text(), status))
    with pytest.raises(kind) as raised:
        client.fetch_bars("TEST", START, END)
    assert type(raised.value) is kind
    assert client.traffic.requests == (POLICY.attempts if kind.transient else 1)


BROKEN = {
    "html": (Answer("<html>Will be right back</html>"), Malformed),
    "cut off": (Answer(GOOD.body[:300]), Malformed),
    "fields missing": (Answer(GOOD.body.replace('"close"', '"c"')), Malformed),
    "server error": (DOWN, Unavailable),
    "dropped": (Answer(status=DROP), Unavailable),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_answer_is_asked_again_and_then_told(replay: Replay, client: YahooClient, what: str) -> None:
    answer, kind = BROKEN[what]
    replay.answers(answer)
    with pytest.raises(kind) as raised:
        client.fetch_bars("TEST", START, END)
    assert type(raised.value) is kind
    assert client.traffic == Traffic(requests=POLICY.attempts, retries=POLICY.attempts - 1)


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_answer_about_the_past_does_not_stick(replay: Replay, client: YahooClient, what: str) -> None:
    replay.answers(BROKEN[what][0], GOOD)
    assert client.fetch_bars("TEST", START, END).bars.num_rows == 2
    assert client.traffic == Traffic(requests=2, retries=1)


def test_a_host_that_does_not_exist_is_unavailable(tmp_path: Path) -> None:
    client = YahooClient(tmp_path, url="http://yahoo.invalid", wait=wait_none())
    with pytest.raises(Unavailable, match="cannot be reached"):
        client.fetch_bars("AAPL", START, END)


def test_a_symbol_costs_one_request_and_the_cookie_is_fetched_once(replay: Replay, client: YahooClient) -> None:
    replay.answers(GOOD)
    for number in range(5):
        client.fetch_bars(f"SYM{number}", START, END)
    assert client.traffic.requests == replay.charts == 5
    assert sum(host == "fc.yahoo.com" for host, _, _ in replay.asked) <= 1
    assert len(replay.asked) <= 5 + 2


def test_unknown_symbols_cost_one_chart_request_each(replay: Replay, client: YahooClient) -> None:
    replay.answers(Answer('{"chart":{"result":null,"error":{"code":"Not Found","description":"gone"}}}', 404))
    for number in range(4):
        with pytest.raises(NotFound):
            client.fetch_bars(f"ZZ{number}", START, END)
    assert client.traffic.requests == replay.charts == 4
    assert {path for _, path, _ in replay.asked if not path.startswith("/v8/")} <= {"/", "/v1/test/getcrumb"}


def test_class_shares_are_asked_for_in_yahoos_spelling(replay: Replay, client: YahooClient) -> None:
    replay.answers(GOOD)
    assert client.fetch_bars("BRK.B", START, END).symbol == "BRK.B"
    assert replay.asked[-1][:2] == ("query2.finance.yahoo.com", "/v8/finance/chart/BRK-B")


def test_the_window_is_new_york_midnights_with_the_last_day_included(replay: Replay, client: YahooClient) -> None:
    replay.answers(GOOD)
    client.fetch_bars("AAPL", START, END)
    query, new_york = replay.asked[-1][2], ZoneInfo("America/New_York")
    asked = [datetime.fromtimestamp(int(query[name][0]), new_york) for name in ("period1", "period2")]
    assert asked == [datetime(2024, 1, 2, tzinfo=new_york), datetime(2024, 3, 29, tzinfo=new_york)]


def test_eight_threads_each_get_their_own_answer(replay: Replay, client: YahooClient) -> None:
    unknown = Answer('{"chart":{"result":null,"error":{"code":"Not Found","description":"gone"}}}', 404)

    def answer(symbol: str) -> Answer:
        price = float(symbol[1:])
        return Answer(chart_body([END], closes=[price])) if price % 3 else unknown

    replay.chart = answer

    def close(number: int) -> float | None:
        try:
            bars = client.fetch_bars(f"S{number}", START, END).bars
        except NotFound:
            return None
        value: float = bars.column("close")[0].as_py()
        return value

    with ThreadPoolExecutor(8) as pool:
        closes = list(pool.map(close, range(1, 41)))
    assert closes == [float(number) if number % 3 else None for number in range(1, 41)]
    assert client.traffic == Traffic(requests=40, retries=0)


def test_two_homes_of_one_process_share_neither_session_nor_cookie_nor_crumb(tmp_path: Path) -> None:
    with served(Replay(crumb="of-one")) as one, served(Replay(crumb="of-two")) as two:
        homes = {
            name: (replay, YahooClient(tmp_path / name, url=replay.url))
            for name, replay in (("one", one), ("two", two))
        }
        for price, (replay, _) in zip((10.0, 20.0), homes.values(), strict=True):
            replay.answers(Answer(chart_body([END], closes=[price])))

        def close(number: int) -> float:
            client = homes["one" if number % 2 else "two"][1]
            value: float = client.fetch_bars(f"S{number}", START, END).bars.column("close")[0].as_py()
            return value

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(close, range(40))) == [20.0, 10.0] * 20
        for replay, client in homes.values():
            assert (client.traffic.requests, replay.charts) == (20, 20)
            crumbs = {query["crumb"][0] for _, path, query in replay.asked if "/chart/" in path and "crumb" in query}
            assert crumbs == {replay.crumb}
    # A time zone that is kept would make a symbol look known because it was once asked for.
    assert {path.name for path in tmp_path.rglob("*.db")} == {"cookies.db"}


def test_the_instant_of_asking_is_noted(replay: Replay, tmp_path: Path) -> None:
    replay.answers(GOOD)
    noon = datetime(2024, 3, 28, 16, tzinfo=UTC)
    client = YahooClient(tmp_path, url=replay.url, clock=lambda: noon)
    assert client.fetch_bars("AAPL", START, END).fetched_at == noon


class Stopwatch(Brake):
    """A brake that notes how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []
        self.paused: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)


@pytest.mark.parametrize("asked", ["37", "Wed, 21 Oct 2026 07:28:37 GMT"])
def test_a_pause_that_yahoo_names_is_kept_by_all(replay: Replay, client: YahooClient, asked: str) -> None:
    told = {"Retry-After": asked, "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    replay.answers(Answer(BUSY.body, 429, told), GOOD)
    brake = Stopwatch()
    client.fetch_bars("AAPL", START, END, brake=brake)
    assert (brake.slept, brake.paused) == ([37.0], [37.0])


def test_a_server_that_says_when_it_is_back_is_waited_for_by_its_symbol(replay: Replay, client: YahooClient) -> None:
    replay.answers(Answer(DOWN.body, 503, {"Retry-After": "12"}), GOOD)
    brake = Stopwatch()
    client.fetch_bars("AAPL", START, END, brake=brake)
    assert (brake.slept, brake.paused) == ([12.0], [])


def test_waits_grow(replay: Replay, tmp_path: Path) -> None:
    replay.answers(BUSY)
    client, brake = YahooClient(tmp_path, url=replay.url), Stopwatch()
    with pytest.raises(RateLimited):
        client.fetch_bars("AAPL", START, END, brake=brake)
    assert len(brake.slept) == POLICY.attempts - 1
    # Twice as long as where Yahoo is down: it counts what it is asked over some seconds.
    assert all(2 * 2**n <= slept <= 2 * (2**n + 1) for n, slept in enumerate(brake.slept))


def test_once_a_symbol_ends_rate_limited_the_rest_of_the_run_is_not_asked(replay: Replay, client: YahooClient) -> None:
    replay.answers(BUSY)
    brake = Brake()
    for symbol in ("AAPL", "MSFT", "NVDA"):
        with pytest.raises(RateLimited):
            client.fetch_bars(symbol, START, END, brake=brake)
    # MSFT is tried once, in case it was only AAPL.
    assert client.traffic.requests == POLICY.attempts + 1
    replay.answers(GOOD)
    assert client.fetch_bars("MSFT", START, END).bars.num_rows == 2


def test_three_symbols_unavailable_in_a_row_end_the_run_and_two_do_not(replay: Replay, client: YahooClient) -> None:
    fates: Iterator[Answer] = iter([DOWN] * POLICY.attempts * 2 + [GOOD] + [DOWN] * (POLICY.attempts * 3 + 1))
    replay.chart = lambda symbol: next(fates)
    brake, reasons = Brake(), []
    for number in range(7):
        try:
            client.fetch_bars(f"S{number}", START, END, brake=brake)
            reasons.append("settled")
        except VendorError as error:
            reasons.append(error.reason)
    assert reasons == ["unavailable"] * 2 + ["settled"] + ["unavailable"] * 4
    assert client.traffic.requests == POLICY.attempts * 5 + 1 + 1


def test_nothing_is_sent_once_the_run_is_stopped(replay: Replay, client: YahooClient) -> None:
    brake = Brake()
    brake.stop()
    with pytest.raises(Unavailable, match="stopped"):
        client.fetch_bars("AAPL", START, END, brake=brake)
    assert replay.asked == []


def test_a_venue_that_denies_everything_is_out_of_reach_and_asked_no_more(replay: Replay, client: YahooClient) -> None:
    replay.answers(Answer("<html>Access denied</html>", 403))
    brake = Brake(["AAPL", "MSFT", "IBM", "GE"])
    for symbol in ("AAPL", "MSFT", "IBM", "GE"):
        with pytest.raises(Unavailable, match="403"):
            client.fetch_bars(symbol, START, END, brake=brake)
    # Each request is repeated once by yfinance, with a fresh crumb; the brake lets one more symbol try.
    assert {path.rsplit("/", 1)[1] for _, path, _ in replay.asked if "/chart/" in path} == {"AAPL", "MSFT"}


def test_a_denied_symbol_whose_venue_answers_for_others_is_refused_alone(replay: Replay, client: YahooClient) -> None:
    replay.chart = lambda symbol: Answer("no", 451) if symbol == "AAPL" else GOOD
    brake = Brake(["AAPL"])
    with pytest.raises(Rejected):
        client.fetch_bars("AAPL", START, END, brake=brake)
    assert client.fetch_bars("TEST", START, END, brake=brake).bars.num_rows
    assert not brake.pulled
