"""The commands that stay up until interrupted: the simulated venues and Dagit.

Here: their options, and the process each becomes.
Not here: the venues (sandbox), what Dagit shows (definitions).
"""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from copilot_quant_pipeline.cli.asking import HomeOption, SourceOption, VerboseOption
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.gate.token import expect_token
from copilot_quant_pipeline.settings import Settings


def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8750,
    recorded: Annotated[Path | None, typer.Option(help="Serve recorded data: Yahoo's or Polymarket's folder.")] = None,
    delay: Annotated[float, typer.Option(min=0.0, help="Seconds every answer takes.")] = 0.0,
    verbose: VerboseOption = False,
) -> None:
    """Serve the simulated venues on loopback until interrupted."""
    from copilot_quant_pipeline.sandbox import serve_forever

    settings = Settings.from_environment()
    serve_forever(port=port, recorded=recorded, delay=delay, now=settings.pinned_now, hosts=settings.hosts)


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    source: SourceOption = None,
    home: HomeOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Open Dagit, with its daemon, on the same home the commands use."""
    import os
    import signal

    from copilot_quant_pipeline.home import prepare_home
    from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance

    settings = Settings.from_environment(source=source, home=home)
    expect_token(host, settings.token)
    if settings.alert_urls:
        from copilot_quant_pipeline.alerts.channels import expect_channels

        expect_channels(settings.alert_urls)
    _expect_free(host, port)
    prepare_home(settings)
    _expect_alone(settings.home)
    install_instance_config(settings.dagster_home)
    with open_instance(settings.dagster_home):
        pass  # makes Dagster's tables before its many processes look for them
    if settings.dagit_url == Settings.dagit_url:
        settings = replace(settings, dagit_url=_address(host, port))  # where alerts say that it is
    environment = {**os.environ, **settings.environment(), "DAGSTER_HOME": str(settings.dagster_home)}
    # Dagster would have us use a command of a package of its own for developers; what it starts is the same.
    quiet = ("-W", "ignore:Function `dev_command` is superseded")
    dagster = [
        sys.executable,
        *quiet,
        "-m",
        "copilot_quant_pipeline.dagit.dev",
        "-m",
        "copilot_quant_pipeline.definitions",
    ]
    typer.echo(f"Dagit: {_address(host, port)}  home: {settings.home}  (Ctrl-C ends it)")
    level = "info" if verbose else "warning"
    sys.stdout.flush()
    # A shell's background jobs ignore Ctrl-C, and Dagster treats SIGTERM as it treats that: it could not be ended.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # In this process's place, so that whoever ends it ends Dagster, not only its parent.
    os.execve(  # noqa: S606 - our own interpreter, arguments typer has checked
        sys.executable, [*dagster, "--host", host, "--port", str(port), "--log-level", level], environment
    )


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _expect_free(host: str, port: int) -> None:
    """Told before anything is started: Dagster would go on without its pages, and with everything else."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise UserError(
            f"Dagit cannot be served at {host}:{port} ({error.strerror}); end what is there, or choose with --port."
        ) from None


def _expect_alone(home: Path) -> None:
    """Hold the home for as long as this process lives, also as what it becomes: two daemons would do all work twice."""
    import fcntl
    import os

    held = os.open(home / "ui.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"Dagit is up on {home} already; use that one, or choose another home with --home.") from None
    os.set_inheritable(held, True)
