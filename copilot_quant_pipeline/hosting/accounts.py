"""The account of runs whose processes are gone: they have failed, and are started again.

Here: rendering it, whatever is wrong with the home meanwhile.
Not here: which runs these are (supervisor.py, ending.py), what becomes of a run (ledger).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from dagster import DagsterInstance

from copilot_quant_pipeline.ledger.endings import end_runs
from copilot_quant_pipeline.ledger.run_lives import release_dead_runs

log = logging.getLogger(__name__)


def account_for(instance: DagsterInstance, runs: Callable[[], Collection[str]], why: str) -> None:
    """Have `runs` fail because of `why`, as all runs of processes that have died do. Never raises.

    What cannot be done now is done by healing, the next command or the next `ui`.
    """
    try:
        end_runs(instance, runs(), why)
        release_dead_runs(instance)
    except Exception as error:
        log.warning("what became of the runs under way is settled later (%s)", type(error).__name__)
        log.debug("what became of the runs under way cannot be settled", exc_info=True)
