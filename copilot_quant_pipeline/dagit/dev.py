"""Dagster's command for a webserver with its daemon, whose webserver is ours.

Here: which of the processes it starts is another.
Not here: that process (server).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagster._cli import dev

_WEBSERVER = "dagster_webserver"


def main() -> None:
    """Run `dagster dev` with its options."""
    start = dev.open_ipc_subprocess  # type: ignore[attr-defined]

    def started(parts: Sequence[str], **options: Any) -> Any:
        return start(["copilot_quant_pipeline.dagit" if part == _WEBSERVER else part for part in parts], **options)

    dev.open_ipc_subprocess = started  # type: ignore[attr-defined]
    dev.dev_command(prog_name="dagster dev")


if __name__ == "__main__":
    main()
