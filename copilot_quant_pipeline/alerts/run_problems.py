"""Failed runs, folded by asset: an asset whose newest run failed is in trouble until a later one succeeds.

Here: pure decisions on runs that have finished, and their words.
Not here: reading runs from Dagster (dagster_problems.py). Red cells are told as cells (cell_problems.py), not as the
failure of their run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from copilot_quant_pipeline.alerts.incidents import Trouble
from copilot_quant_pipeline.alerts.messages import counted

RUNS = "runs"

_NEXT_STEPS = {
    "sp500_members": "the last good list of members stays in use; the list is read again by its weekly schedule.",
    "prediction_markets": "markets known before are followed on; the venues are listed again by the next refresh.",
    "equity_bars": "what was settled stays settled; healing and the next schedule ask for what is missing.",
    "prediction_market_prices": "what was settled stays settled; healing and the next refresh ask for what is missing.",
}
_OTHERWISE = "nothing by itself; once the cause is gone, materialize it in Dagit. A later run that succeeds ends this."
_RETRIED = "Dagster starts the run again by itself."


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended.

    Attributes:
        settled: the assets it shows to be in order.
        failed: the assets it failed for, each with why.
        retried: whether Dagster starts it again.
    """

    run_id: str
    ended_at: datetime
    settled: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    retried: bool = False


@dataclass(frozen=True)
class RunFailure:
    """What is known of an asset whose runs fail; `over` is true where a later run of the same look succeeded."""

    asset: str
    run_id: str
    why: str
    since: datetime
    last: datetime
    runs: int = 1
    retried: bool = False
    over: bool = False


def note_runs(failures: Mapping[str, RunFailure], finished: Iterable[FinishedRun]) -> dict[str, RunFailure]:
    """The failures by asset after one more look at `finished`, the runs since the last look in the order they ended.

    A failure that a later run of the same look has overtaken is kept for this look, so that it is told.
    """
    noted = {asset: failure for asset, failure in failures.items() if not failure.over}
    before = set(noted)
    for run in finished:
        for asset in run.settled:
            if asset in before:
                before.discard(asset)
                del noted[asset]
            elif asset in noted:
                noted[asset] = replace(noted[asset], over=True)
        for asset, why in run.failed:
            noted[asset] = _failed(noted.get(asset), run, asset, why)
    return noted


def _failed(known: RunFailure | None, run: FinishedRun, asset: str, why: str) -> RunFailure:
    if known is None or known.over:
        return RunFailure(asset, run.run_id, why, run.ended_at, run.ended_at, retried=run.retried)
    return replace(
        known, run_id=run.run_id, why=why, last=run.ended_at, runs=known.runs + 1, retried=run.retried, over=False
    )


def run_trouble(failure: RunFailure) -> Trouble:
    """A failing asset as a trouble."""
    several = f", the last of {counted(failure.runs, 'run')} in a row" if failure.runs > 1 else ""
    next_step = _RETRIED if failure.retried else _NEXT_STEPS.get(failure.asset, _OTHERWISE)
    return Trouble(
        key=f"run/{failure.asset}",
        source=RUNS,
        asset=failure.asset,
        what="could not be materialized: a run failed",
        since=failure.since,
        last=failure.last,
        examples=(f"run {failure.run_id[:8]}{several}: {failure.why}",),
        next_step=next_step,
        page=f"/runs/{failure.run_id}",
    )
