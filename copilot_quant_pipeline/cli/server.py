"""The commands that stay up until interrupted: the simulated venues and Dagit.

Here: their options, and the process each becomes.
Not here: the venues (sandbox), what Dagit shows (definitions).
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from copilot_quant_pipeline.cli.options import HomeOption, SourceOption, VerboseOption
from copilot_quant_pipeline.cli.output import told_end
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.gate.token import expect_token
from copilot_quant_pipeline.settings import Settings

if TYPE_CHECKING:
    import dagster as dg


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
    from copilot_quant_pipeline.home import logging_into, prepare_home, wide_rights_once
    from copilot_quant_pipeline.hosting.presence import holding

    settings = Settings.from_environment(source=source, home=home)
    expect_token(host, settings.token)
    if settings.alert_urls:
        from copilot_quant_pipeline.alerts.channels import expect_channels

        expect_channels(settings.alert_urls)
    if settings.dagit_url == Settings.dagit_url:
        settings = replace(settings, dagit_url=_address(host, port))  # where alerts say that it is
    if not settings.home.exists():
        _expect_free(host, port)  # before anything is made; elsewhere a killed one may hold it for a moment longer
    prepare_home(settings)
    with holding(settings.home), logging_into(settings, "ui", verbose=verbose):
        _expect_free(host, port)
        if wide := wide_rights_once(settings.home):
            typer.echo(f"WARNING: {wide}", err=True)
        code = _supervised(settings, host, port, "info" if verbose else "warning")
    sys.stdout.flush()
    # Not by way of the interpreter's own end, which waits for a channel that somebody is still being told by.
    os._exit(code)


def _supervised(settings: Settings, host: str, port: int, level: str) -> int:
    from copilot_quant_pipeline.hosting.presence import lock_of_programs
    from copilot_quant_pipeline.hosting.programs import Place, make_folder, write_workspace
    from copilot_quant_pipeline.hosting.supervisor import Supervisor
    from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance

    install_instance_config(settings.dagster_home)
    environment = {**os.environ, **settings.environment(), "DAGSTER_HOME": str(settings.dagster_home)}
    place = Place(make_folder(), lock_of_programs(settings.home), host, port, level, environment)
    write_workspace(place)
    # Opened here, Dagster's tables are there before its many processes look for them.
    with open_instance(settings.dagster_home) as instance:
        _clear_up_after_a_killed_one(settings, instance)
        with suppress(OSError):  # whoever started it may no longer listen
            typer.echo(f"Dagit: {_address(host, port)}  home: {settings.home}  (Ctrl-C ends it)")
            sys.stdout.flush()
        return Supervisor(settings, place, instance).run()


def _clear_up_after_a_killed_one(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Tell that the last `ui` of the home did not end in order, and end the runs that died with it."""
    from copilot_quant_pipeline.hosting.accounts import account_for
    from copilot_quant_pipeline.hosting.presence import read_note
    from copilot_quant_pipeline.hosting.programs import remove_folder, socket_in
    from copilot_quant_pipeline.ledger.endings import SERVER_DIED, runs_of_server, runs_starting

    dead = runs_starting(instance)  # of whoever is gone: only a daemon has runs started
    if note := read_note(settings.home):
        typer.echo(f"Earlier on this home: {told_end(note)}.", err=True)
        dead |= runs_of_server(instance, socket_in(note.folder))
        remove_folder(note.folder)
    account_for(settings, instance, lambda: dead, SERVER_DIED)


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
