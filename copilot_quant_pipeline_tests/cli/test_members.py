"""Claims about the S&P 500's list as Wikipedia changes it: columns under other names, a member under another symbol."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from copilot_quant_pipeline.alerts.cell_problems import find_in_warehouse
from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.backfill import run_in_process
from copilot_quant_pipeline.warehouse.instruments import read_lives
from copilot_quant_pipeline.warehouse.reading import read_members
from copilot_quant_pipeline_tests.cli.conftest import Desk, open_desk
from copilot_quant_pipeline_tests.equities.conftest import Replay, served


@pytest.fixture
def wikipedia(unused: Settings) -> Iterator[tuple[Desk, Replay]]:
    with Sandbox() as venues, open_desk(unused, venues) as desk, served(Replay()) as wikipedia:
        desk.set({"COPILOT_QUANT_WIKIPEDIA_URL": wikipedia.url})
        yield desk, wikipedia


def read_page(desk: Desk, page: str, day: str) -> None:
    """Have the list read on a day."""
    desk.set({"COPILOT_QUANT_NOW": f"{day}T14:00:00+00:00"})
    with open_instance(desk.settings.dagster_home) as instance:
        job = build_definitions(Settings.from_environment()).resolve_implicit_global_asset_job_def()
        assert run_in_process(job, instance, "sp500_members", {}, {})


def test_a_list_that_changes_its_words_wipes_nothing_and_a_rename_is_one_member(
    wikipedia: tuple[Desk, Replay], recorded: Path
) -> None:
    desk, venue = wikipedia
    page = (recorded / "sp500" / "wikipedia_List_of_SP500_companies.html").read_text()
    venue.page = page.replace(">META</a>", ">FB</a>")
    read_page(desk, venue.page, "2026-05-10")
    known = read_members(desk.warehouse)
    venue.page = page.replace("Date added", "Date first added")
    read_page(desk, venue.page, "2026-06-10")
    members = read_members(desk.warehouse)
    assert len(members) == len(known)
    assert members["member_from"].isna().sum() == known["member_from"].isna().sum()
    meta = members[members["symbol"].isin(["FB", "META"])]
    assert meta[["symbol", "member_from", "member_to"]].to_numpy().tolist() == [["META", date(2013, 12, 23), None]]
    rows = desk.warehouse.read("select * exclude (first_seen_at) from equities.instruments order by symbol").to_pylist()
    assert [(row["symbol"], row["instrument"], row["valid_from"], row["valid_until"]) for row in rows] == [
        ("FB", "FB", None, date(2026, 6, 9)),
        ("META", "FB", date(2026, 6, 10), None),
    ]
    assert read_lives(desk.warehouse, ["FB"])["FB"].names == {"META"}
    assert find_in_warehouse(desk.warehouse) == []
    history = desk.warehouse.read("select symbol from equities.members_history").column("symbol").to_pylist()
    assert "FB" in history

    venue.page = page.replace("Date added", "?").replace("Sector", "?")
    read_page(desk, venue.page, "2026-07-10")
    assert read_members(desk.warehouse)["sector"].tolist() == members["sector"].tolist()
    assert [trouble.key for trouble in find_in_warehouse(desk.warehouse)] == ["warnings/adjusted_bars"]
    assert "the sector" in desk.run("warnings", "list").out
    venue.page = page
    read_page(desk, venue.page, "2026-07-11")
    assert find_in_warehouse(desk.warehouse) == []
