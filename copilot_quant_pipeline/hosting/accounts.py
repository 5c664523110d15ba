"""The account of runs whose processes are gone: they have failed, and their cells look as they are stored.

Here: rendering it, whatever is wrong with the home meanwhile.
Not here: which runs these are (supervisor.py, ending.py), what becomes of a run and its cells (ledger, upkeep).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from dagster import DagsterInstance

from copilot_quant_pipeline.ledger.endings import end_runs
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.accounts import settle_accounts
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)

# How long it waits for somebody who is writing the warehouse, in seconds: an end has to be quick.
_PATIENCE = 1.0


def account_for(settings: Settings, instance: DagsterInstance, runs: Callable[[], Collection[str]], why: str) -> None:
    """Have `runs` fail because of `why`, and paint the cells of all dead runs as they are stored. Never raises.

    What cannot be done now is done by healing, the next command or the next `ui`.
    """
    try:
        end_runs(instance, runs(), why)
        settle_accounts(instance, Warehouse(settings.warehouse_path, min(settings.lock_timeout, _PATIENCE)))
    except Exception as error:
        log.warning("what became of the runs under way is settled later (%s)", type(error).__name__)
        log.debug("what became of the runs under way cannot be settled", exc_info=True)
