"""The end of a `ui`: all processes gone within ten seconds.

Here: who is told to end, who is killed.
Not here: when that is (supervisor.py), what becomes of the runs that were under way (accounts.py), what ends by itself
once its parent was killed (part.py).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from subprocess import Popen

import psutil

from copilot_quant_pipeline.hosting.programs import CODE_SERVER

# How long whoever was told to end has for it, in seconds. Then it is killed, as nothing is lost by that.
GRACE = 3.0
_LOOK = 0.1


def end_all(programs: Mapping[str, Popen[bytes]], hurried: Callable[[], bool]) -> None:
    """End the programs and the runs they have started; where `hurried` says so, without patience.

    The daemon ends first, so that nothing new is begun. The code server and its runs are killed: it knows nothing that
    is not stored, and a run loses nothing by it, while one that is interrupted may take minutes to notice.
    """
    server = _alive(programs.get(CODE_SERVER))
    others = [one for name, process in programs.items() if name != CODE_SERVER for one in _alive(process)]
    _signal(others, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while any(map(_is_living, others)) and time.monotonic() < deadline and not hurried():
        time.sleep(_LOOK)
    # The code server before its runs: it would report them as crashed.
    _kill([*server, *(child for one in server for child in _children(one)), *others])


def _alive(process: Popen[bytes] | None) -> list[psutil.Process]:
    if process is None or process.poll() is not None:
        return []
    with suppress(psutil.NoSuchProcess):
        return [psutil.Process(process.pid)]
    return []


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _is_living(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _kill(processes: list[psutil.Process]) -> None:
    _signal(processes, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=GRACE)


def _signal(processes: Iterable[psutil.Process], which: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(which)
