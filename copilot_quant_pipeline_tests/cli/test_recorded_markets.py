"""Claims about real input: two years of recorded Polymarket data through the command, the wire, grid and file."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.cli.conftest import open_desk

NOW = datetime(2024, 6, 1, tzinfo=UTC)
FIRST = date(2022, 11, 1)
STORED = """
    select id, outcome, stamped_at, price from prediction_markets.prices join prediction_markets.markets using (market)
"""


@pytest.mark.parametrize("served", ["polymarket", "polymarket/daily_prices_2022_2024.parquet"])
def test_every_recorded_point_of_92_markets_is_stored_as_it_was_recorded(
    recorded: Path, tmp_path: Path, served: str
) -> None:
    frame = pd.read_parquet(recorded / "polymarket/daily_prices_2022_2024.parquet")
    if not (recorded / served).is_dir():
        # The folder is the whole claim; that its file names it too is shown by some.
        frame = frame[frame["market_id"].isin(frame["market_id"].unique()[:3])]
    ids = ",".join(f"polymarket:{market}" for market in frame["market_id"].unique())
    settings = Settings(home=tmp_path, markets_start=FIRST, pinned_now=NOW)
    with Sandbox(recorded=recorded / served, now=NOW) as venues, open_desk(settings, venues) as desk:
        said = desk.run("backfill", "markets", "--market-ids", ids, "--json")
        stored = desk.warehouse.read(STORED).to_pylist()
        coverage = desk.warehouse.read(
            "select outcome, reason, count(*) as cells from ops.coverage group by all order by all"
        ).to_pylist()
        silent = desk.warehouse.read("select detail from ops.coverage where reason = 'unavailable'").to_pylist()
    expected = {
        (str(row.market_id), row.outcome, pd.Timestamp(row.timestamp, tz="UTC").to_pydatetime(), row.price)
        for row in frame.itertuples()
    }
    assert {(row["id"], row["outcome"], row["stamped_at"], float(row["price"])) for row in stored} == expected
    assert len(stored) == len(expected) == len(frame)
    answer = json.loads(said.out)
    # The recording has no price on some days of markets that traded: these cells are red, and no others. Where it has
    # none of any market, it is the venue's silence.
    assert said.code == (1 if answer["failed"] else 0)
    assert {reason["reason"] for reason in coverage if reason["outcome"] == "failed"} <= {
        "missing_at_source",
        "unavailable",
    }
    assert all("silent day" in row["detail"] for row in silent)
    assert sum(reason["cells"] for reason in coverage) == answer["asked"]
