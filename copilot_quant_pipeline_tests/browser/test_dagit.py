"""Claims about Dagit in a real browser: the grid, the lineage, the launch dialog and a failed run say what is true."""

from __future__ import annotations

from contextlib import suppress
from datetime import date

import pytest
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.keys import Keys

from copilot_quant_pipeline_tests.browser.conftest import Page
from copilot_quant_pipeline_tests.cli.conftest import Desk

PARTITIONS = "/assets/equity_bars?view=partitions"
DIALOG = "//*[@role='dialog']"
GROUPS = {
    "equities": ("sp500_members", "equity_bars", "adjusted_bars", "history_verified"),
    "prediction_markets": ("prediction_markets", "prediction_market_prices", "prediction_market_daily"),
    "upkeep": ("coverage_report", "dagster_history"),
}


def _outcomes(desk: Desk, day: str) -> dict[str, str]:
    rows = desk.warehouse.coverage("equities", start=date.fromisoformat(day), end=date.fromisoformat(day)).to_pylist()
    return {row["key"]: row["outcome"] for row in rows}


def _expect_counts(desk: Desk, page: Page) -> None:
    """The partitions page comes to count as many green and red cells as are settled and failed."""
    outcomes = desk.warehouse.coverage("equities").column("outcome").to_pylist()
    page.open(PARTITIONS)
    page.shows(f"Materialized ({outcomes.count('settled')})", f"Failed ({outcomes.count('failed')})", reload=True)


def test_the_grid_shows_its_symbols_and_sessions_and_how_many_cells_are_green_and_red(desk: Desk, page: Page) -> None:
    _expect_counts(desk, page)
    page.shows("AAPL", "BRK.B", "NOPE", "2024-03-28")
    # The newest session comes first.
    assert page.text().index("2024-03-27") < page.text().index("2024-03-22")


@pytest.mark.parametrize("group", GROUPS)
def test_the_lineage_shows_every_asset_in_its_group(page: Page, group: str) -> None:
    page.open(f"/locations/copilot_quant_pipeline.definitions/asset-groups/{group}/lineage")
    page.shows(*GROUPS[group])


def test_the_whole_lineage_shows_every_group(page: Page) -> None:
    page.open("/asset-groups")
    page.shows(*GROUPS)


def test_a_failed_run_names_its_failed_cells(desk: Desk, page: Page) -> None:
    runs = desk.warehouse.read("select run_id from ops.run_summary where failed > 0 order by started_at")
    page.open(f"/runs/{runs.column('run_id')[0]}")
    page.shows("6 of 12 cells failed", "2024-03-26 AAPL: missing_at_source", "2024-03-25 NOPE: unknown_symbol")


def _chosen(page: Page, day: str) -> bool:
    """Choose all symbols of a day; the dialog forgets what is chosen before it has its lists."""
    dates = page.element(f"{DIALOG}//input[starts-with(@placeholder, 'ex: ')]")
    dates.send_keys(Keys.CONTROL, "a")
    dates.send_keys(day, Keys.ENTER)
    page.press(f"({DIALOG}//button[normalize-space()='All'])[last()]")
    with suppress(TimeoutException):
        page.until(lambda: "3 partitions" in page.text(), seconds=5)
        return True
    return False


def test_a_backfill_launched_from_the_dialog_settles_its_cells(desk: Desk, page: Page) -> None:
    page.open(PARTITIONS)
    page.press("//button[contains(., 'Materialize')]")
    # Dagit doubts it while the list of members was never read.
    page.press("//button[.='Confirm']")
    page.until(lambda: _chosen(page, "2024-03-21"))
    page.press(f"{DIALOG}//button[normalize-space()='Launch backfill']")
    page.until(lambda: len(_outcomes(desk, "2024-03-21")) == 3)
    assert _outcomes(desk, "2024-03-21") == {"AAPL": "settled", "BRK.B": "settled", "NOPE": "failed"}
    _expect_counts(desk, page)
