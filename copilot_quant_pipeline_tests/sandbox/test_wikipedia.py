from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline_tests.sandbox.conftest import NOW, get

PAGE = "/wiki/List_of_S%26P_500_companies"
POLITE = "copilot-quant-pipeline/0.1 (mailto:someone@example.org)"


def tables(html: str) -> tuple[Any, Any]:
    (constituents,) = pd.read_html(StringIO(html), attrs={"id": "constituents"})
    (changes,) = pd.read_html(StringIO(html), attrs={"id": "changes"})
    return constituents, changes


def page(sandbox: Sandbox) -> str:
    answer = get(sandbox.url + PAGE, user_agent=POLITE)
    assert answer.status == 200
    return answer.body.decode()


def test_the_page_reads_as_the_recorded_one_does(recorded: Path, sandbox: Sandbox) -> None:
    ours = tables(page(sandbox))
    theirs = tables((recorded / "sp500/wikipedia_List_of_SP500_companies.html").read_text())
    for mine, real in zip(ours, theirs, strict=True):
        assert list(mine.columns) == list(real.columns)
    assert 480 <= len(ours[0]) <= 520
    assert {"BRK.B", "BF.B", "AAPL"} <= set(ours[0]["Symbol"])
    assert set(ours[0]["GICS Sector"]) == set(theirs[0]["GICS Sector"])
    assert ours[0]["Date added"].map(pd.Timestamp).max() <= pd.Timestamp(NOW.date())
    dates = ours[1][("Effective Date", "Effective Date")].map(lambda text: pd.to_datetime(text, format="%B %d, %Y"))
    assert dates.is_monotonic_decreasing
    assert {"ATVI", "SIVB"} == set(ours[1][("Removed", "Ticker")].dropna())


def test_members_are_those_of_the_sandboxs_day(sandbox: Sandbox) -> None:
    sandbox.pin_clock(datetime(2022, 12, 30, 22, tzinfo=UTC))
    symbols = set(tables(page(sandbox))[0]["Symbol"])
    assert {"ATVI", "SIVB"} <= symbols
    assert not {"KVUE", "GEV"} & symbols


@pytest.mark.parametrize("user_agent", ["", "python-requests/2.34.2", "Python-urllib/3.11", "curl/8.5.0"])
def test_a_client_that_does_not_say_who_it_is_is_refused(sandbox: Sandbox, user_agent: str) -> None:
    refused = get(sandbox.url + PAGE, user_agent=user_agent)
    assert refused.status == 403
    assert b"set a user-agent" in refused.body


def test_the_page_can_be_short_or_down(sandbox: Sandbox) -> None:
    sandbox.fault("universe_short", times=1)
    assert len(tables(page(sandbox))[0]) == 300
    sandbox.fault("wikipedia_down", times=1)
    assert get(sandbox.url + PAGE, user_agent=POLITE).status == 503
    sandbox.fault("rate_limit", venue="wikipedia", times=1)
    assert get(sandbox.url + PAGE, user_agent=POLITE).status == 429
    assert len(tables(page(sandbox))[0]) > 480


def test_recorded_frames_bring_the_recorded_page(recorded: Path) -> None:
    with Sandbox(recorded=recorded / "yahoo/daily_2016_2026.parquet", now=NOW) as sandbox:
        assert len(tables(page(sandbox))[0]) == 503
        sandbox.fault("universe_short", rows=10)
        assert len(tables(page(sandbox))[0]) == 10


def test_frames_without_a_recorded_page_list_their_own_symbols(recorded: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(recorded / "yahoo/daily_as_seen_2020-01-10.parquet")
    frame.to_parquet(tmp_path / "frame.parquet")
    with Sandbox(recorded=tmp_path, now=NOW) as sandbox:
        assert set(tables(page(sandbox))[0]["Symbol"]) == set(frame["Symbol"])
