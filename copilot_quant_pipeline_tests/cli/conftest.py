"""The command as a user has it: arguments in, exit code and printed lines out, in this process or in its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from copilot_quant_pipeline import cli
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.conftest import NOW


@dataclass(frozen=True)
class Said:
    """What one command answered."""

    code: int
    out: str
    err: str


def expect_one_line(said: Said, *words: str) -> None:
    """A user's mistake: refused in one line that holds these words."""
    assert said.code == 2, said
    assert said.err.count("\n") == 1, said.err
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err


@dataclass(frozen=True)
class Desk:
    """A home, its venues and the command on them."""

    settings: Settings
    venues: Sandbox
    run: Callable[..., Said]
    set: Callable[[dict[str, str]], None]
    environment: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse_path)

    def start(self, *arguments: str, command: Sequence[str] = ()) -> subprocess.Popen[str]:
        """The command, or another, in a process and a process group of its own."""
        process = subprocess.Popen(
            [*(command or (sys.executable, "-m", "copilot_quant_pipeline.cli")), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process


@pytest.fixture
def desk(unused: Settings) -> Iterator[Desk]:
    with Sandbox(now=NOW) as venues, open_desk(unused, venues) as desk:
        yield desk


@pytest.fixture
def new_desk(settings: Settings) -> Iterator[Desk]:
    """One whose home is not there yet."""
    with Sandbox(now=NOW) as venues, open_desk(settings, venues) as desk:
        yield desk


@contextmanager
def open_desk(settings: Settings, venues: Sandbox) -> Iterator[Desk]:
    """A desk for `settings`, whose venues are all at `venues`."""
    settings = settings.with_venues_at(venues.url)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.environment().items():
            patch.setenv(name, value)

        def run(*arguments: str) -> Said:
            patch.setattr(sys, "argv", ["copilot-quant", *arguments])
            out, err = io.StringIO(), io.StringIO()
            with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
                cli.main()
            return Said(int(ended.value.code or 0), out.getvalue(), err.getvalue())

        def change(environment: dict[str, str]) -> None:
            for name, value in environment.items():
                patch.setenv(name, value)

        desk = Desk(settings, venues, run, change, {**os.environ})
        try:
            yield desk
        finally:
            for process in desk.started:  # a claim that failed leaves its processes behind
                with process:
                    process.kill()


@pytest.fixture
def not_a_folder(tmp_path: Path) -> Path:
    """A path nothing can be written below, whoever the user is."""
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file" / "home"
