"""Dagster's webserver as one process, behind the gate.

Here: its application, how it is served and what it may log; the command with the options of `dagster-webserver`.
Not here: the rules (gate, permissions), the processes beside it (cli).
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from dagster._core.workspace.context import IWorkspaceProcessContext
from dagster_webserver import cli
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.types import ASGIApp

from copilot_quant_pipeline.dagit.permissions import GridWorkspace
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.gate.middleware import Gate
from copilot_quant_pipeline.gate.names import is_every_address, one_spelling
from copilot_quant_pipeline.gate.refusals import Rules, judge_dagit
from copilot_quant_pipeline.gate.token import expect_token
from copilot_quant_pipeline.settings import Settings

# What uvicorn says of each request below this holds its address, and that a token.
_LOUDEST = ("warning", "error", "critical")

_PROGRAM = "dagster-webserver"


def rules_of(settings: Settings, host: str) -> Rules:
    """Who is let in to a server at the address `host`.

    Raises:
        UserError: It is not loopback, and there is no token.
    """
    expect_token(host, settings.token)
    return Rules(
        names=frozenset({one_spelling(host), *settings.hosts}),
        everywhere=is_every_address(host),
        token=settings.token,
        reports=settings.reports,
    )


def serve(
    workspace_process_context: IWorkspaceProcessContext[Any],
    host: str | None,
    port: int | None,
    path_prefix: str,
    log_level: str,
    live_data_poll_rate: int | None = None,
) -> None:
    """Serve Dagit in the foreground; what Dagster's own command calls, with the same parameters.

    Raises:
        UserError: As for `rules_of`.
    """
    host = "127.0.0.1" if host is None else host
    rules = rules_of(Settings.from_environment(), host)
    dagit: ASGIApp = create_app_from_workspace_process_context(
        workspace_process_context, path_prefix, live_data_poll_rate, lifespan=cli._lifespan
    )
    level = log_level if log_level in _LOUDEST else _LOUDEST[0]
    gated = Gate(dagit, rules, judge_dagit)
    uvicorn.run(gated, host=host, port=port or 3000, log_level=level, access_log=False)


def main() -> None:
    """Run Dagster's command with its options, its workspace and its server replaced by ours."""
    cli.WorkspaceProcessContext = GridWorkspace  # type: ignore[attr-defined]
    cli.host_dagster_ui_with_workspace_process_context = serve
    # Dagster takes a program of this package's name for its own former command, which it advises against.
    sys.argv[0] = _PROGRAM
    try:
        cli.dagster_webserver(auto_envvar_prefix="DAGSTER_WEBSERVER", prog_name=_PROGRAM)
    except UserError as error:
        sys.exit(f"copilot-quant: {error}")
