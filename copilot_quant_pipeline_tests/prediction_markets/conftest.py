"""Fixtures the venues' tests share: one running sandbox a module, as new for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline_tests.conftest import NOW


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(now=NOW) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.clear_faults()
    running.reset_requests()
    return running
