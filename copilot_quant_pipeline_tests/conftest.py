"""Fixtures every room's tests share: where recorded data lies, a fixed instant, small settings."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples

from copilot_quant_pipeline import redaction
from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse import connections

RECORDED = Path(__file__).parents[2] / "shared" / "recorded"

# Good Friday morning in New York: a holiday before a weekend, the newest session is Thursday 2024-03-28.
NOW = datetime(2024, 3, 29, 14, 0, tzinfo=UTC)

# How fast a machine is, or how much else it does, is no property of the code.
examples.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
examples.load_profile("untimed")


@pytest.fixture(autouse=True)
def no_secrets_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process looks for the secrets of its settings in every text until it ends; a test, for its own."""
    monkeypatch.setattr(redaction, "_known", redaction._Known())


@pytest.fixture(scope="session")
def recorded() -> Path:
    if not RECORDED.is_dir():
        message = f"recorded market data is not at {RECORDED}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return RECORDED


@pytest.fixture(scope="session")
def unused_dagster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dagster's folder as it is before anything has run: to be copied, for making its tables takes long."""
    folder = tmp_path_factory.mktemp("unused") / "dagster"
    install_instance_config(folder)
    with open_instance(folder):
        return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a home that is not there yet."""
    return Settings(home=tmp_path / "home", equities_start=date(2024, 1, 2), pinned_now=NOW, lock_timeout=20.0)


@pytest.fixture
def unused(settings: Settings, unused_dagster: Path) -> Settings:
    """Of a home that was opened once, and nothing else."""
    settings.home.mkdir(mode=0o700)
    shutil.copytree(unused_dagster, settings.dagster_home)
    return settings


@pytest.fixture(scope="session", autouse=True)
def no_server_stays() -> Iterator[None]:
    """A stand-in that was closed but not shut down goes on accepting, at a socket that by then is another's."""
    yield
    assert [thread.name for thread in threading.enumerate() if "serve_forever" in thread.name] == []


@pytest.fixture(scope="session", autouse=True)
def one_thread_a_warehouse() -> Iterator[None]:
    """Some rows are computed as fast by one thread as by one a core, and test processes share the cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "SESSION", (*connections.SESSION, "set threads = 1"))
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how to have the claims once more in the order that they had."""
    seed = config.getoption("randomly_seed", None)
    if seed is not None:
        terminalreporter.write_line(f"the order was random; the same again: make test SEED={seed}")
