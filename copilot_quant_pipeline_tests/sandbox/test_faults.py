from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from http.client import RemoteDisconnected
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.sandbox.app import VENUES
from copilot_quant_pipeline.sandbox.faults import TRANSPORT_FAULTS
from copilot_quant_pipeline_tests.sandbox.conftest import NOW, YahooClient, chart, get, result, seconds

WEEK = {"period1": seconds("2024-03-04"), "period2": seconds("2024-03-09")}
WEDNESDAY = "2024-03-06"


def bars(sandbox: Sandbox, symbol: str = "AAPL") -> Any:
    return result(chart(sandbox, symbol, **WEEK))


def closes(sandbox: Sandbox, symbol: str = "AAPL") -> list[float | None]:
    found: list[float | None] = bars(sandbox, symbol)["indicators"]["quote"][0]["close"]
    return found


def test_every_fault_and_its_words_are_told() -> None:
    told = Sandbox.fault.__doc__ or ""
    for kind, options in {**TRANSPORT_FAULTS, **{k: o for venue in VENUES for k, o in venue.FAULTS.items()}}.items():
        assert f"`{kind}`" in told
        for words in options.values():
            assert all(word in told for word in words or ())


def test_a_fault_hits_its_symbol_as_often_as_asked(sandbox: Sandbox) -> None:
    sandbox.fault("rate_limit", symbol="AAPL", times=2)
    statuses = [chart(sandbox, symbol, **WEEK).status for symbol in ("AAPL", "KO", "AAPL", "AAPL")]
    assert statuses == [429, 200, 429, 200]


def test_a_fault_of_everybody_lasts_until_it_is_cleared(sandbox: Sandbox) -> None:
    sandbox.fault("rate_limit")
    assert [chart(sandbox, symbol, **WEEK).status for symbol in ("AAPL", "KO", "AAPL")] == [429] * 3
    assert get(f"{sandbox.url}/v1/test/getcrumb").status == 200
    sandbox.clear_faults()
    assert chart(sandbox, "AAPL", **WEEK).status == 200


def test_a_class_share_is_hit_in_either_spelling(sandbox: Sandbox) -> None:
    sandbox.fault("delisted", symbol="BRK.B")
    sandbox.fault("delisted", symbol="bf-b")
    assert [chart(sandbox, symbol, **WEEK).status for symbol in ("BRK-B", "BF-B")] == [404, 404]


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_error_comes_as_json_or_as_a_page(sandbox: Sandbox, status: int) -> None:
    sandbox.fault("server_error", status=status, times=1)
    sandbox.fault("server_error", status=status, body="html", times=1)
    broken = chart(sandbox, "AAPL", **WEEK)
    assert broken.status == status
    assert broken.json["chart"]["error"]["code"]
    assert chart(sandbox, "AAPL", **WEEK).body.startswith(b"<html>")
    assert chart(sandbox, "AAPL", **WEEK).status == 200


def test_a_body_can_be_cut_or_foreign(sandbox: Sandbox) -> None:
    sandbox.fault("truncated", times=1)
    cut = chart(sandbox, "AAPL", **WEEK)
    assert cut.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = cut.json
    sandbox.fault("html")
    foreign = chart(sandbox, "AAPL", **WEEK)
    assert (foreign.status, foreign.body[:15]) == (200, b"<!DOCTYPE html>")


def test_an_answer_can_be_slow(sandbox: Sandbox) -> None:
    sandbox.fault("slow", seconds=0.3)
    began = time.monotonic()
    assert chart(sandbox, "AAPL", **WEEK).status == 200
    assert time.monotonic() - began >= 0.3


def test_a_client_that_gives_up_waiting_leaves_the_sandbox_free_to_end() -> None:
    with Sandbox(now=NOW) as sandbox:
        sandbox.fault("slow", seconds=600)
        with pytest.raises(TimeoutError):
            get(f"{sandbox.url}/v8/finance/chart/AAPL", timeout=0.1)


def test_a_connection_can_be_dropped(sandbox: Sandbox) -> None:
    sandbox.fault("drop", times=1)
    with pytest.raises((URLError, RemoteDisconnected, ConnectionResetError)):
        chart(sandbox, "AAPL", **WEEK)
    assert chart(sandbox, "AAPL", **WEEK).status == 200


def test_the_real_client_tells_a_dropped_connection_from_a_foreign_body(sandbox: Sandbox, yahoo: YahooClient) -> None:
    from curl_cffi.requests.exceptions import ConnectionError as Dropped
    from yfinance.exceptions import YFDataException

    yahoo.history("KO")
    sandbox.fault("drop")
    with pytest.raises(Dropped):
        yahoo.history("KO")
    sandbox.clear_faults()
    sandbox.fault("html")
    with pytest.raises(YFDataException):
        yahoo.history("KO")


def test_whole_sessions_can_be_lost(sandbox: Sandbox) -> None:
    whole = bars(sandbox)["timestamp"]
    sandbox.fault("lost_session", dates=[WEDNESDAY, "2024-03-07"])
    assert bars(sandbox)["timestamp"] == whole[:2] + whole[4:]
    assert bars(sandbox, "KO")["timestamp"] == whole[:2] + whole[4:]


def test_a_bar_can_be_null(sandbox: Sandbox) -> None:
    sandbox.fault("null_bar", symbol="AAPL", date=WEDNESDAY)
    found = bars(sandbox)
    (quote,), (adjusted,) = found["indicators"]["quote"], found["indicators"]["adjclose"]
    assert [values[2] for values in (*quote.values(), *adjusted.values())] == [None] * 6
    assert all(isinstance(volume, int) for volume in quote["volume"] if volume is not None)
    assert None not in closes(sandbox, "KO")


def test_a_bar_can_be_bad_in_every_way_a_reader_must_refuse(sandbox: Sandbox) -> None:
    def spoiled(how: str) -> Any:
        sandbox.clear_faults()
        sandbox.fault("bad_bar", symbol="AAPL", date="2024-03-08", how=how)
        found = bars(sandbox)
        return found["timestamp"], {name: row[-1] for name, row in found["indicators"]["quote"][0].items()}

    whole = bars(sandbox)["timestamp"]
    assert spoiled("negative")[1]["close"] < 0
    partial = spoiled("partial_null")[1]
    assert partial["close"] is None
    assert partial["volume"] > 0
    inconsistent = spoiled("inconsistent")[1]
    assert inconsistent["high"] < inconsistent["low"]
    assert spoiled("duplicate")[0] == [*whole, whole[-1]]
    sandbox.clear_faults()
    sandbox.fault("bad_bar", date=WEDNESDAY, how="off_session")
    moved = bars(sandbox)["timestamp"]
    assert moved[2] == whole[2] + 86_400


def test_a_correction_holds_between_its_instants(sandbox: Sandbox) -> None:
    before = closes(sandbox)
    sandbox.fault("correction", symbol="AAPL", date=WEDNESDAY, factor=1.02, since="2026-03-14T12:00:00+00:00")
    assert closes(sandbox) == before
    sandbox.pin_clock(datetime(2026, 3, 14, 12, 0, tzinfo=UTC))
    after = closes(sandbox)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False, True, True]
    assert after[2] == pytest.approx((before[2] or 0) * 1.02, rel=1e-6)


def test_an_announced_split_rewrites_all_earlier_history(sandbox: Sandbox) -> None:
    before = bars(sandbox, "KO")
    sandbox.fault("split_announced", symbol="KO", date="2026-03-16", ratio="3/2")
    assert bars(sandbox, "KO") == before
    sandbox.pin_clock(datetime(2026, 3, 16, 13, 30, tzinfo=UTC))
    after = bars(sandbox, "KO")
    quotes = [body["indicators"]["quote"][0] for body in (before, after)]
    np.testing.assert_allclose(quotes[1]["close"], np.array(quotes[0]["close"]) / 1.5, rtol=1e-6)
    np.testing.assert_allclose(quotes[1]["volume"], np.array(quotes[0]["volume"]) * 1.5, atol=1)
    events = result(chart(sandbox, "KO", range="5d"))["events"]["splits"]
    assert [event["splitRatio"] for event in events.values()] == ["3:2"]


def test_yahoo_can_be_down_altogether(sandbox: Sandbox) -> None:
    sandbox.fault("down")
    assert chart(sandbox, "AAPL", **WEEK).status == 503
    assert get(f"{sandbox.url}/v1/test/getcrumb").status == 503
    assert get(f"{sandbox.url}/").status == 503


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("meteor", {}, "choose one of"),
        ("null_bar", {}, "needs a date"),
        ("null_bar", {"date": "Wednesday"}, "not understood"),
        ("bad_bar", {"date": WEDNESDAY, "how": "ugly"}, "negative"),
        ("slow", {"second": 3}, "seconds"),
        ("rate_limit", {"times": 0}, "whole number"),
        ("split_announced", {"date": WEDNESDAY, "ratio": "two"}, "not understood"),
    ],
)
def test_a_fault_that_is_not_understood_is_refused(
    sandbox: Sandbox, kind: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        sandbox.fault(kind, **options)
    refused = get(f"{sandbox.url}/__faults", method="POST", body={"kind": kind, **options})
    assert refused.status == 400
    assert says in refused.json["error"]
