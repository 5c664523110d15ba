"""An instance on the ledger and one on Dagster's own storage, with the same symbols."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline_tests.ledger.small_grid import SYMBOLS, stock_instance


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    # The storage sets it where unset; a test must not leave it behind for the next.
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")


@pytest.fixture
def home(tmp_path: Path, unused_dagster: Path) -> Path:
    shutil.copytree(unused_dagster, tmp_path / "ledger")
    return tmp_path / "ledger"


@pytest.fixture
def ledger(home: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(home, capture_output=False) as instance:
        instance.add_dynamic_partitions("symbol", SYMBOLS)
        yield instance


@pytest.fixture
def shipped(home: Path) -> Iterator[dg.DagsterInstance]:
    """As the daemon opens it: what a run prints is kept."""
    with open_instance(home) as instance:
        instance.add_dynamic_partitions("symbol", SYMBOLS)
        yield instance


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with stock_instance(tmp_path / "stock") as instance:
        instance.add_dynamic_partitions("symbol", SYMBOLS)
        yield instance
