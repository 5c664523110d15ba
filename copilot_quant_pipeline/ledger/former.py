"""Processes as the version before named them in the tags of its runs: host, pid and start.

Here: whether such a process has ended.
Not here: lives (life), which every run has now.

Neither a host's name nor a start time says so for sure: the one changes with a container, the other moves with the
clock.
"""

from __future__ import annotations

from pathlib import Path

import psutil

# What psutil rounds.
_ROUNDING = 1.0


def is_gone(process: str, home: Path) -> bool:
    """Whether the process named `host:pid:start` has ended; `home` is the folder that it worked on.

    One of that pid is taken for it that began when it did or, as clocks are set, has a file of the home open.
    """
    _, pid, started = process.split(":")[:3]
    try:
        now = psutil.Process(int(pid))
        return abs(now.create_time() - float(started)) > _ROUNDING and not _works_on(now, home)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:  # another user's
        return False


def _works_on(process: psutil.Process, home: Path) -> bool:
    return any(Path(file.path).is_relative_to(home) for file in process.open_files())
