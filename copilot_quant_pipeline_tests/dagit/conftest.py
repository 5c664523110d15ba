"""Dagit's server as `ui` starts it, on a home without code, and requests to it as anybody may write them."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from copilot_quant_pipeline.ledger.instance import install_instance_config
from copilot_quant_pipeline.settings import Settings


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers by lower-case name, text."""

    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class Served:
    """A server, and what it has printed so far."""

    port: int
    process: subprocess.Popen[bytes]
    printed: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(
        self,
        path: str = "/server_info",
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: str | None = None,
        **query: str,
    ) -> Answer:
        """One request; Host is the server's unless `headers` say otherwise."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, f"{path}?{urlencode(query)}" if query else path, body, headers or {})
            answer = connection.getresponse()
            given = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, given, answer.read().decode())

    def say(self, raw: str) -> int:
        """The status of what is answered to these very bytes."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=30)) as connection:
            connection.sendall(raw.encode("latin-1"))
            return int(connection.makefile("rb").readline().split()[1])


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    @contextmanager
    def served(*arguments: str, **settings: str) -> Iterator[Served]:
        folder = tmp_path_factory.mktemp("served")
        install_instance_config(folder / "dagster")
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        environment = {
            **os.environ,
            **Settings(home=folder).environment(),
            **{f"COPILOT_QUANT_{name}": value for name, value in settings.items()},
            "DAGSTER_HOME": str(folder / "dagster"),
        }
        command = [sys.executable, "-m", "copilot_quant_pipeline.dagit", "--empty-workspace", "--port", str(port)]
        with (folder / "printed").open("wb") as printed:
            process = subprocess.Popen(
                [*command, *arguments], env=environment, stdout=printed, stderr=subprocess.STDOUT
            )
        with process:
            try:
                yield _awaited(Served(port, process, folder / "printed"))
            finally:
                process.terminate()

    return served


def _awaited(served: Served) -> Served:
    while served.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", served.port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return served
    raise AssertionError(served.printed.read_text())
