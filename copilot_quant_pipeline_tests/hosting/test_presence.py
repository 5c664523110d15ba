"""Claims about who is up on a home: one at a time, known from a lock that a process cannot outlive."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from copilot_quant_pipeline.cli.output import told_ui
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.hosting import presence
from copilot_quant_pipeline.hosting.presence import Note, holding, is_up, read_note, remove_note, write_note

NOTE = Note(123, "http://127.0.0.1:3000", datetime(2024, 3, 29, 14, 0, tzinfo=UTC), Path("/tmp/copilot-quant-ui-x"))  # noqa: S108

HOLD = """
import sys, time
from pathlib import Path
from copilot_quant_pipeline.hosting.part import hold_shared
from copilot_quant_pipeline.hosting.presence import holding, lock_of_programs
home = Path(sys.argv[1])
with holding(home):
    hold_shared(str(lock_of_programs(home)))
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_one_is_refused_in_a_line_until_the_first_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert first.stdout.readline() == "held\n"
        assert is_up(tmp_path)
        with pytest.raises(UserError, match="Dagit is up on .* already"), holding(tmp_path):
            pass
        first.kill()
        first.wait()
    assert not is_up(tmp_path)
    with holding(tmp_path):
        assert is_up(tmp_path)
    assert not is_up(tmp_path)


def test_programs_that_outlive_a_killed_one_are_told_with_how_to_find_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_REMAINS", 0.2)
    hold = "import sys, time; from copilot_quant_pipeline.hosting.part import hold_shared; hold_shared(sys.argv[1]);"
    command = [sys.executable, "-c", f"{hold} print('held', flush=True); time.sleep(60)"]
    lock = str(presence.lock_of_programs(tmp_path))
    with subprocess.Popen([*command, lock], stdout=subprocess.PIPE, text=True) as left:
        assert left.stdout
        assert left.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"some of its processes have not ended.*{lock}"), holding(tmp_path):
            pass
        left.kill()


def test_homes_know_nothing_of_each_other(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with holding(one), holding(other):
        write_note(one, NOTE)
        assert read_note(other) is None


def test_a_note_is_there_until_the_end_in_order_and_one_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert read_note(tmp_path) is None
    write_note(tmp_path, NOTE)
    assert read_note(tmp_path) == NOTE
    remove_note(tmp_path)
    remove_note(tmp_path)
    assert read_note(tmp_path) is None
    (tmp_path / "ui.json").write_text("half a no")
    assert read_note(tmp_path) is None


def test_its_words() -> None:
    silent = replace(NOTE, trouble="has had no good tick of a schedule or sensor for 10 minutes")
    assert told_ui(NOTE, up=True).startswith("ui: up at http://127.0.0.1:3000 since 2024-03-29 14:00 UTC")
    assert "has had no good tick" in told_ui(silent, up=True)
    assert "did not end in order" in told_ui(NOTE, up=False)
    given_up = replace(NOTE, trouble="the code server could not be started 4 times", ended=True)
    assert "ended because the code server" in told_ui(given_up, up=False)
