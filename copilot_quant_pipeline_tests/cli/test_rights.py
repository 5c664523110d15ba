"""Claims about who may read what the command makes, in a process of its own as umask is one a process."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from copilot_quant_pipeline.home import write_whole
from copilot_quant_pipeline_tests.cli.conftest import Desk

AAPL = ("backfill", "equities", "--symbols", "AAPL", "--start", "2024-03-25")


def _rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _run(desk: Desk, *arguments: str) -> str:
    command = [sys.executable, "-m", "copilot_quant_pipeline.cli", *arguments]
    done = subprocess.run(command, env=desk.environment, capture_output=True, text=True, check=True, umask=0o022)
    return done.stderr


def test_what_is_made_is_for_its_owner_alone_and_exports_keep_the_users_umask(new_desk: Desk, tmp_path: Path) -> None:
    home, out = new_desk.settings.home, tmp_path / "out"
    assert _run(new_desk, *AAPL) == ""
    _run(new_desk, "export", "csv", "--out", str(out))
    _run(new_desk, "export", "sqlite", "--out", str(out))
    made = [home, *home.rglob("*")]
    wrong = [path for path in made if _rights(path) != (0o700 if path.is_dir() else 0o600)]
    assert wrong == []
    assert {_rights(path) for path in out.iterdir()} == {0o644}
    assert _rights(out) == 0o755


def test_rights_that_exist_stay_and_too_wide_ones_are_told_once(new_desk: Desk) -> None:
    home = new_desk.settings.home
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    told = _run(new_desk, *AAPL)
    assert told.count("\n") == 1
    assert f"chmod -R go= {home}" in told
    warehouse = new_desk.settings.warehouse_path
    warehouse.chmod(0o640)
    assert _run(new_desk, *AAPL, "--refresh") == ""
    assert (_rights(home), _rights(warehouse)) == (0o755, 0o640)


def test_a_file_that_is_replaced_keeps_its_rights(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o640)
    write_whole(file, "new")
    assert (file.read_text(), _rights(file)) == ("new", 0o640)


def test_a_rename_that_fails_for_want_of_rights_is_one_line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, os.strerror(13), str(self), None, str(target))

    (desk.settings.dagster_home / "dagster.yaml").write_text(
        "# Written by copilot-quant. Remove this line to keep changes of your own.\nold: 1\n"
    )
    monkeypatch.setattr(Path, "replace", refuse)
    said = desk.run(*AAPL)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "cannot be written (Permission denied)" in said.err
    assert not list(desk.settings.dagster_home.glob("tmp*"))


def test_what_acts_on_a_terminal_is_replaced_in_what_is_printed(desk: Desk) -> None:
    command = [sys.executable, "-m", "copilot_quant_pipeline.cli", "status", "--source", "\x1b[2J\u202esand\x9bbox"]
    done = subprocess.run(command, env=desk.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert not {"\x1b", "\u202e", "\x9b"} & {*done.stdout, *done.stderr}
