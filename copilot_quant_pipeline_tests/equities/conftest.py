"""A stand-in for Yahoo that answers what a test lays down, and recorded frames as Yahoo would send them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tenacity import wait_none

from copilot_quant_pipeline.equities.chart import BARS_AS_SENT, VendorBars
from copilot_quant_pipeline.equities.yahoo import YahooClient

DROP = 0


@dataclass(frozen=True)
class Answer:
    """What the stand-in sends; status DROP closes the connection without a word."""

    body: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Replay:
    """The stand-in: `chart` answers a symbol's chart requests, `asked` holds (host, path, query) of all.

    `page` is what Wikipedia's list is in its place.
    """

    url: str = ""
    chart: Callable[[str], Answer] = lambda symbol: Answer()
    crumb: str = "crumb"
    page: str = ""
    asked: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)

    def answers(self, *answers: Answer) -> None:
        """Answer these in turn, and the last one for ever."""
        left = list(answers)
        self.chart = lambda symbol: left.pop(0) if len(left) > 1 else left[0]

    @property
    def charts(self) -> int:
        return sum(path.startswith("/v8/finance/chart/") for _, path, _ in self.asked)


def _handler(replay: Replay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802
            parts = urlsplit(self.path)
            replay.asked.append((self.headers.get("X-Orig-Host", ""), parts.path, parse_qs(parts.query)))
            answer = self._answer(parts.path)
            if answer.status == DROP:
                self.close_connection = True
                return
            body = answer.body.encode()
            self.send_response_only(answer.status)
            headers = {**answer.headers, "Content-Length": str(len(body)), "Connection": "close"}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def _answer(self, path: str) -> Answer:
            if path.startswith("/v8/finance/chart/"):
                return replay.chart(path.rsplit("/", 1)[1])
            if path.startswith("/wiki/"):
                return Answer(replay.page)
            return Answer(replay.crumb if path.endswith("getcrumb") else "", 200 if path != "/" else 404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def served(replay: Replay) -> Iterator[Replay]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(replay))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    replay.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield replay
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def replay() -> Iterator[Replay]:
    with served(Replay()) as replay:
        yield replay


@pytest.fixture
def client(replay: Replay, tmp_path: Path) -> YahooClient:
    return YahooClient(tmp_path / "cache", url=replay.url, wait=wait_none())


def chart_body(
    days: list[date],
    *,
    listed: date | None = None,
    closes: list[float | None] | None = None,
    symbol: str | None = None,
) -> str:
    """A daily chart in Yahoo's format: a bar of 9..11 around each close."""
    closes = closes or [10.0] * len(days)
    stamps = [int(datetime(day.year, day.month, day.day, 15, tzinfo=UTC).timestamp()) for day in days]
    first = int(datetime(listed.year, listed.month, listed.day, 15, tzinfo=UTC).timestamp()) if listed else None
    meta = {
        "currency": "USD",
        "symbol": symbol,
        "instrumentType": "EQUITY",
        "exchangeTimezoneName": "America/New_York",
        "dataGranularity": "1d",
        "firstTradeDate": first,
    }
    quote = {
        "open": closes,
        "high": [close and close * 1.1 for close in closes],
        "low": [close and close * 0.9 for close in closes],
        "close": closes,
        "volume": [close and 1000 for close in closes],
    }
    result = {
        "meta": meta,
        "timestamp": stamps,
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": closes}]},
    }
    return json.dumps({"chart": {"result": [result], "error": None}})


def as_sent(
    frame: pd.DataFrame, symbol: str, *, splits: dict[date, float] | None = None, listed: date | None = None
) -> VendorBars:
    """A recorded frame's bars of one symbol, as Yahoo's answer to a request of the frame's whole time."""
    rows = frame[frame["Symbol"] == symbol].sort_values("Date")
    dates = rows["Date"].tolist()
    given = rows.get("Stock Splits", pd.Series(0.0, rows.index)).replace(0.0, 1.0).to_numpy(dtype=float)
    ratios = given if splits is None else np.array([splits.get(day, 1.0) for day in dates])
    names = {
        "open": "Open",
        "high": "High",
        "low": "Low",
        "close": "Close",
        "adj_close": "Adj Close",
        "volume": "Volume",
    }
    bars = pa.table(
        {
            "date": pa.array(dates, pa.date32()),
            **{name: rows[column].to_numpy(dtype=np.float64) for name, column in names.items()},
            "dividend": rows.get("Dividends", pd.Series(0.0, rows.index)).to_numpy(dtype=np.float64),
            "split_ratio": ratios,
        },
        schema=BARS_AS_SENT,
    )
    end = frame["Date"].max()
    fetched_at = datetime(end.year, end.month, end.day, 23, tzinfo=UTC)
    return VendorBars(symbol.replace("-", "."), bars, listed, frame["Date"].min(), end, fetched_at)


@pytest.fixture(scope="session")
def frame(recorded: Path) -> pd.DataFrame:
    return pd.read_parquet(recorded / "yahoo" / "daily_2016_2026.parquet")


@pytest.fixture(scope="session")
def frame_of_2020(recorded: Path) -> pd.DataFrame:
    return pd.read_parquet(recorded / "yahoo" / "daily_as_seen_2020-01-10.parquet")
