"""Claims about the README: what it tells a user to write is accepted, and what there is to set is told."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from copilot_quant_pipeline.cli import app
from copilot_quant_pipeline.equities.universe import POLICY as WIKIPEDIA
from copilot_quant_pipeline.equities.yahoo import POLICY as YAHOO
from copilot_quant_pipeline.prediction_markets.registry import _VENUES, venue_names
from copilot_quant_pipeline.settings import VENUE_URLS, VENUES, Settings
from copilot_quant_pipeline.warehouse.fetch_result import EMPTY_REASONS, FAILURES, GIVEN_UP
from copilot_quant_pipeline.warehouse.patience import PATIENCE

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
MAKEFILE = (PROJECT / "Makefile").read_text()
COMMANDS = sorted(set(re.findall(r"`copilot-quant ([a-z][^`]*)`", README)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_readme_is_accepted(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [word for word in shlex.split(command) if word != "FILE"]
    # --help ends a command after its options were read, and an unknown one is refused before.
    app([*arguments, "--help"], standalone_mode=False)
    assert "Usage" in capsys.readouterr().out


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 6


def test_every_make_target_in_the_readme_exists() -> None:
    for target in re.findall(r"^\$ make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in MAKEFILE


def test_every_setting_is_told() -> None:
    everything = replace(
        Settings(),
        markets_categories=("x",),
        markets_ids=("x",),
        metaculus_token="x",  # noqa: S106 no secret
        pinned_now=datetime(2024, 1, 1, tzinfo=UTC),
        **dict.fromkeys(VENUE_URLS, "x"),  # type: ignore[arg-type]
    )
    for name in everything.environment():
        own = name.removeprefix("COPILOT_QUANT_")
        assert own in README or f"_{own.split('_', 1)[1]}" in README, name


def test_every_reason_a_cell_can_have_is_told() -> None:
    untold = {reason for reason in (*EMPTY_REASONS, *FAILURES, GIVEN_UP) if f"`{reason}`" not in README}
    assert untold == set()


def test_how_each_venue_is_asked_is_told() -> None:
    markets = {name: _VENUES[name].imported().policy for name in venue_names()}
    for venue, policy in {"yahoo": YAHOO, "wikipedia": WIKIPEDIA, **markets}.items():
        rate = policy.rate
        told = f"{rate.requests} in {rate.seconds:g} | {policy.attempts} | {policy.first_wait:g}"
        assert f"| `{venue}` | {told} | {policy.longest_wait:g} | {policy.longest_pause:g} |" in README
        assert (policy.failures_in_a_row, venue in VENUES) == (3, True)


def test_how_long_healing_goes_on_is_told() -> None:
    days = PATIENCE.span / timedelta(days=1)
    assert f"| {PATIENCE.waits} | at the {PATIENCE.tries}th try, after {days:.1f} days |" in README
    assert f"| {PATIENCE.waits_for_venue} | after {PATIENCE.out_of_reach_for.days} days; " in README
    assert PATIENCE.span > PATIENCE.tried_for
    assert f"healed from {PATIENCE.left_after_close // timedelta(hours=1)} hours after its close on" in README
    assert f"a day of the markets from {PATIENCE.left_of_a_day // timedelta(hours=1):02}:00\nUTC on" in README


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/decisions.md"])
def test_every_module_that_a_page_names_is_there(page: str) -> None:
    there = {f"/{path.relative_to(PROJECT).as_posix()}" for path in PROJECT.rglob("*.py") if ".venv" not in str(path)}
    named = set(re.findall(r"`([\w/]+\.py)\b", (PROJECT / page).read_text()))
    assert {name for name in named if not any(path.endswith(f"/{name}") for path in there)} == set()
