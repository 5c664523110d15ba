"""Claims about the supervisor's decisions: how often a program is started again, and that its words reach channels."""

from __future__ import annotations

import socket
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.alerts.cycle import ProblemsFound, book_of, tell, tell_of
from copilot_quant_pipeline.hosting.programs import make_folder, remove_folder
from copilot_quant_pipeline.hosting.supervisor import MOST_DEATHS, WITHIN, pause_before_restart
from copilot_quant_pipeline.hosting.troubles import SILENCE, silence
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.alerts.conftest import Webhook, webhook  # noqa: F401 a fixture
from copilot_quant_pipeline_tests.alerts.test_incidents import TROUBLE
from copilot_quant_pipeline_tests.cli.conftest import Desk, desk  # noqa: F401 a fixture


@given(st.lists(st.floats(0, 1e5), min_size=1))
def test_so_many_deaths_within_ten_minutes_end_all_and_older_ones_are_forgiven(deaths: list[float]) -> None:
    now = max(deaths)
    recent = sum(now - death < WITHIN for death in deaths)
    pause = pause_before_restart(sorted(deaths), now)
    assert (pause is None) == (recent >= MOST_DEATHS)
    assert pause is None or pause <= 4
    assert pause == 0 or recent > 1


@pytest.fixture(autouse=True)
def nothing_sent_yet(webhook: Webhook) -> None:  # noqa: F811
    webhook.posts.clear()


def test_what_it_tells_is_over_with_the_sensors_next_look_and_ends_nothing_else(
    settings: Settings,
    webhook: Webhook,  # noqa: F811
) -> None:
    settings = replace(settings, alert_urls=(webhook.url,))
    tell(settings, lambda _: ProblemsFound((TROUBLE,), frozenset(), None))
    silent = silence(600, settings.now())
    for _ in range(3):
        tell_of(settings, SILENCE, [silent], 1, anyhow=True)
    assert webhook.titles[-1] == "copilot-quant ui has had no good tick of a schedule or sensor for 10 minutes"
    assert len(webhook.posts) == 2
    tell(settings, lambda _: ProblemsFound((TROUBLE,), frozenset(), None))
    assert webhook.titles[2:] == [f"Recovered: {webhook.titles[1]}"]


def test_it_is_told_even_where_a_sensor_that_hangs_has_the_book(settings: Settings, webhook: Webhook) -> None:  # noqa: F811
    settings = replace(settings, alert_urls=(webhook.url,))
    with book_of(settings).turn():
        tell_of(settings, SILENCE, [silence(600, settings.now())], 0.1, anyhow=True)
        assert len(webhook.posts) == 1
        tell_of(settings, SILENCE, [silence(600, settings.now())], 0.1, anyhow=False)
    assert len(webhook.posts) == 1


def test_it_is_told_even_where_the_book_cannot_be_written(settings: Settings, webhook: Webhook) -> None:  # noqa: F811
    settings.home.write_text("in the way of the folder")
    settings = replace(settings, alert_urls=(webhook.url,))
    tell_of(settings, SILENCE, [silence(600, settings.now())], 0.1, anyhow=True)
    assert len(webhook.posts) == 1


def test_a_folder_named_by_a_note_is_removed_only_if_it_is_one_of_ours(tmp_path: Path) -> None:
    ours, other = make_folder(), tmp_path / "copilot-quant-ui-other"
    other.mkdir()
    remove_folder(ours)
    remove_folder(other)
    assert not ours.exists()
    assert other.exists()


@pytest.mark.parametrize("named", ["with blank", "with%percent", "x" * 90])
def test_a_socket_is_where_it_can_be_asked(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / named).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / named))
    folder = make_folder()
    assert folder.parent == Path("/tmp")  # noqa: S108
    remove_folder(folder)
    assert not folder.exists()


# The same command, whose only program ends as soon as it is started.
SHORT_LIVED = """
import copilot_quant_pipeline.hosting.supervisor as supervisor
supervisor.programs = lambda place: {"code server": ("this",)}
from copilot_quant_pipeline.cli import main
main()
"""


def test_a_program_that_dies_again_and_again_ends_all_and_is_told(
    desk: Desk,  # noqa: F811
    webhook: Webhook,  # noqa: F811
) -> None:
    desk.environment["COPILOT_QUANT_ALERT_URLS"] = webhook.url
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = str(free.getsockname()[1])
    started = desk.start("ui", "--port", port, command=[sys.executable, "-c", SHORT_LIVED])
    _, err = started.communicate(timeout=60)
    assert started.returncode == 1
    assert "the code server (process" in err
    assert "4 times within 10 minutes; everything is ended" in err
    assert "Traceback" not in err
    assert "copilot-quant ui has ended: it cannot be kept up" in webhook.titles
    assert "ended because the code server" in desk.run("status").out
