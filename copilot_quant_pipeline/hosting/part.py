"""One process of `ui`: it ends with the process that started it, and is otherwise one of Dagster's programs.

Here: `python -m copilot_quant_pipeline.hosting.part PARENT LOCK MODULE [ARGUMENT ..]`, and the tie to the parent.
Not here: which programs there are (programs.py), who starts them again (supervisor.py). Dagster is not imported here.
"""

from __future__ import annotations

import fcntl
import os
import runpy
import signal
import sys
import threading
import time

from copilot_quant_pipeline.process import begin_process

# How often a process looks whether its parent is still there, in seconds.
LOOK = 0.5

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the module named in the arguments, tied to the parent for good."""
    parent, lock, module, *arguments = sys.argv[1:]
    hold_shared(lock)
    _have_the_kernel_end_it()
    end_with(int(parent))
    begin_process()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__")


def hold_shared(path: str) -> None:
    """Hold the lock at `path` together with the other processes of this `ui`, for as long as this one lives."""
    fcntl.flock(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_SH)


def end_with(parent: int) -> None:
    """Kill this process once `parent` is no longer its parent.

    By looking, because that works on every system, in every thread's child, and where nothing was inherited. Killed,
    not interrupted: a run that says that it has failed while nobody can start it again is never started again.
    """
    threading.Thread(target=_watch, args=(parent,), name="end-with-parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os.kill(os.getpid(), signal.SIGKILL)


def _have_the_kernel_end_it() -> None:
    """On Linux the kernel kills it at once, even where it is stopped or does not let its own thread run.

    For what the main thread of the parent has started only: the kernel takes the end of that thread for the parent's.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    # A run's process, which Dagster's code server spawns: multiprocessing imports the main module of its parent in it.
    end_with(os.getppid())
    begin_process()
