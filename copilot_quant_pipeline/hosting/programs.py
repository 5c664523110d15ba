"""The programs of `ui`: Dagster's code server, webserver and daemon, and how each is started.

Here: their command lines, the folder they meet in, starting one.
Not here: when one is started (supervisor.py), what ties it to its parent (part.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# By this name Dagster keeps which schedules and sensors are on: it must stay what it has always been.
LOCATION = "copilot_quant_pipeline.definitions"

_PREFIX = "copilot-quant-ui-"

CODE_SERVER, WEBSERVER, DAEMON = "code server", "webserver", "daemon"


@dataclass(frozen=True)
class Place:
    """Where the programs of one `ui` meet.

    Attributes:
        folder: of this user only, with a path short enough for a socket.
        lock: the file that each of them holds while it lives.
        host: where Dagit is served,
        port: and at which port.
        log_level: of Dagster's own words.
        environment: of each of them.
    """

    folder: Path
    lock: Path
    host: str
    port: int
    log_level: str
    environment: Mapping[str, str]

    @property
    def socket(self) -> Path:
        """Where the code server is asked."""
        return socket_in(self.folder)

    @property
    def workspace(self) -> Path:
        """What tells the webserver and the daemon of it."""
        return self.folder / "workspace.yaml"


def socket_in(folder: Path) -> Path:
    """Where the code server of the `ui` with this folder is asked."""
    return folder / "code"


def make_folder() -> Path:
    """A new folder for one `ui`: not in the home, whose path may be longer than a socket's can be."""
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_temporary()))


def _temporary() -> Path:
    """The system's temporary folder, unless a socket in it could not be asked: too long, or with what a URL escapes."""
    usual = tempfile.gettempdir()
    return Path(usual if re.fullmatch(r"[\w./-]{1,70}", usual, re.ASCII) else "/tmp")  # noqa: S108 a folder of our own


def remove_folder(folder: Path) -> None:
    """Remove what `make_folder` has made; anything else is left alone, for its path may come from a file."""
    if folder.name.startswith(_PREFIX) and folder.parent == _temporary():
        shutil.rmtree(folder, ignore_errors=True)


def write_workspace(place: Place) -> None:
    """Tell Dagster where the code server is; JSON is YAML."""
    server = {"location_name": LOCATION, "host": "localhost", "socket": str(place.socket)}
    place.workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}))


def programs(place: Place) -> dict[str, tuple[str, ...]]:
    """By name, in the order in which they start: the module of each and its arguments.

    The code server is asked directly: a proxy before it would live on when it dies, and nobody would know.
    """
    level = ("--log-level", place.log_level)
    served = ("--host", place.host, "--port", str(place.port), "--live-data-poll-rate", "2000")
    workspace = ("--workspace", str(place.workspace))
    code = ("--lazy-load-user-code", "--socket", str(place.socket), "--location-name", LOCATION, "-m", LOCATION)
    return {
        CODE_SERVER: ("dagster", "api", "grpc", "--log-level", "warning", "--inject-env-vars-from-instance", *code),
        WEBSERVER: ("copilot_quant_pipeline.dagit", *served, "--dagster-log-level", place.log_level, *workspace),
        DAEMON: ("dagster._daemon", "run", *level, *workspace),
    }


def start(place: Place, program: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start one; in a session of its own, so that a terminal's signals reach the supervisor alone, who ends them all.

    For the main thread only (part.py).
    """
    part = (sys.executable, "-m", "copilot_quant_pipeline.hosting.part", str(os.getpid()), str(place.lock))
    return subprocess.Popen(  # noqa: S603 - our own interpreter, arguments typer has checked
        [*part, *program], env=dict(place.environment), stdin=subprocess.DEVNULL, start_new_session=True
    )


def answers(path: Path) -> bool:
    """Whether somebody serves at the socket."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(1)
        try:
            one.connect(str(path))
        except OSError:
            return False
    return True
