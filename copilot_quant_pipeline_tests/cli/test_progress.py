"""Claims about the progress of long work: it is told as cells come, not only when a run ends."""

from __future__ import annotations

import pytest

from copilot_quant_pipeline.cli import platform
from copilot_quant_pipeline.cli.output import Bar
from copilot_quant_pipeline_tests.cli.conftest import Desk


@pytest.fixture
def stood_at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Where the bar stood each time it moved."""
    moves: list[float] = []

    class Watched(Bar):
        def advance(self, cells: int) -> None:
            super().advance(cells)
            self.note()

        def put(self, cells: int) -> None:
            super().put(cells)
            self.note()

        def note(self) -> None:
            if self._progress:
                moves.append(self._progress.tasks[0].completed)

    monkeypatch.setattr(platform, "Bar", Watched)
    return moves


def test_the_bar_moves_with_every_symbol(desk: Desk, stood_at: list[float]) -> None:
    said = desk.run("backfill", "equities", "--symbols", "AAPL,KO,MSFT", "--start", "2024-03-25", "--end", "2024-03-28")
    assert said.code == 0, said.err
    assert stood_at == [0, 4, 8, 12, 12]


def test_what_is_no_terminal_gets_no_bar(desk: Desk) -> None:
    assert desk.run("backfill", "equities", "--symbols", "AAPL", "--start", "2024-03-25").err == ""


def test_what_was_settled_before_is_where_the_bar_begins(desk: Desk, stood_at: list[float]) -> None:
    days = ("--start", "2024-03-25", "--end", "2024-03-28")
    desk.run("backfill", "equities", "--symbols", "AAPL", *days)
    stood_at.clear()
    desk.run("backfill", "equities", "--symbols", "AAPL,ZZZZ", *days)
    assert stood_at == [4, 8, 8]


def test_the_bar_moves_with_the_markets_of_each_venue(desk: Desk, stood_at: list[float]) -> None:
    said = desk.run("backfill", "markets", "--limit", "2", "--start", "2024-03-27", "--end", "2024-03-28")
    assert said.code == 0, said.err
    assert stood_at == [0, 4, 8, 8]
