"""Troubles Dagster knows of: failed runs, failed checks, assets that are stale, keys that can be none.

Here: the questions to the instance, and their answers as troubles.
Not here: red cells (cell_problems.py), what becomes of a failed run over time (run_problems.py).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.events import JobFailureData
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import WILL_RETRY_TAG
from dagster._time import get_current_datetime
from dagster_shared.error import SerializableErrorInfo

from copilot_quant_pipeline.alerts.cell_problems import spelled_out
from copilot_quant_pipeline.alerts.incidents import Trouble
from copilot_quant_pipeline.alerts.messages import counted, shortened
from copilot_quant_pipeline.alerts.run_problems import FinishedRun
from copilot_quant_pipeline.alerts.store import AlertState
from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL, BadKey, bad_keys
from copilot_quant_pipeline.ledger.endings import ended_with_ui
from copilot_quant_pipeline.upkeep.checks import ACTIONS_CONSISTENT
from copilot_quant_pipeline.warehouse.io_manager import FAILED_CELLS

log = logging.getLogger(__name__)

CHECKS = "checks"
FRESHNESS = "freshness"
AXES = "axes"
ASSET_OF_AXIS = {SYMBOL: "equity_bars", MARKET: "prediction_market_prices"}

# A home that alerting sees for the first time is not told of failures of long ago. By Dagster's clock, as runs are
# stamped by it whatever clock the platform works at.
FIRST_LOOK = timedelta(days=1)

# A run's end is stamped before it is stored, so one may appear behind others that ended later.
OVERLAP = timedelta(minutes=1)
MOST_RUNS = 500


def find_finished_runs(
    instance: dg.DagsterInstance, book: AlertState, assets: Collection[str]
) -> tuple[list[FinishedRun], datetime, tuple[str, ...]]:
    """The runs that ended since the book was written, in that order, and the book's `looked_until` and `looked_at`."""
    since = book.looked_until - OVERLAP if book.looked_until else get_current_datetime() - FIRST_LOOK
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE], updated_after=since),
        limit=MOST_RUNS + len(book.looked_at),
        order_by="update_timestamp",
        ascending=True,
    )
    until = max((_ended(record) for record in records), default=book.looked_until or since)
    recent = tuple(record.dagster_run.run_id for record in records if _ended(record) > until - OVERLAP)
    new = [record for record in records if record.dagster_run.run_id not in book.looked_at]
    return [_finished(instance, record, assets) for record in new], until, recent


def _ended(record: RunRecord) -> datetime:
    return record.update_timestamp.astimezone(UTC)


def _finished(instance: dg.DagsterInstance, record: RunRecord, assets: Collection[str]) -> FinishedRun:
    run = record.dagster_run
    if run.status == dg.DagsterRunStatus.SUCCESS:
        return FinishedRun(run.run_id, _ended(record), settled=_assets_of(instance, run))
    retried = run.tags.get(WILL_RETRY_TAG) == "true"
    if retried and ended_with_ui(run):
        return FinishedRun(run.run_id, _ended(record), retried=True)
    events = _failures_of(instance, run)
    steps = {event.step_key: failure for event in events if (failure := _step_failure(event))}
    # A step is named like its asset; the steps of checks are told as checks.
    by_cells = {asset for asset in assets if asset in steps and _is_of_cells(steps[asset])}
    failed = {asset: _why_step(steps[asset]) for asset in assets if asset in steps and asset not in by_cells}
    if not steps:
        failed = dict.fromkeys(_assets_of(instance, run), _why_run(events))
    return FinishedRun(
        run.run_id,
        _ended(record),
        settled=tuple(sorted(by_cells)),
        failed=tuple(sorted(failed.items())),
        retried=retried,
    )


def _failures_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Sequence[EventLogEntry]:
    wanted = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    try:
        return instance.event_log_storage.get_logs_for_run(run.run_id, of_type=wanted)
    except Exception:  # one run whose log is broken must not keep all others from being told
        log.warning("the log of run %s cannot be read", run.run_id, exc_info=True)
        return []


def _assets_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[str, ...]:
    """The assets a run was to materialize; a run of checks alone has none."""
    if run.asset_selection is not None:
        return tuple(sorted(key.to_user_string() for key in run.asset_selection))
    planned = instance.event_log_storage.get_logs_for_run(
        run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    keys = {event.dagster_event.asset_key for event in planned if event.dagster_event}
    return tuple(sorted(key.to_user_string() for key in keys if key))


def _step_failure(event: EventLogEntry) -> StepFailureData | None:
    found = event.dagster_event
    return found.step_failure_data if found and found.is_step_failure else None


def _is_of_cells(failure: StepFailureData) -> bool:
    told = failure.user_failure_data
    return bool(told and FAILED_CELLS in told.metadata)


def _why_step(failure: StepFailureData) -> str:
    told = failure.user_failure_data
    if told and told.description:
        return shortened(told.description)
    return _innermost(failure.error) if failure.error else "a step failed without a word"


def _innermost(error: SerializableErrorInfo) -> str:
    while error.cause:
        error = error.cause
    # `copilot_quant_pipeline.errors.Malformed: the page ...` without the module.
    return shortened(re.sub(r"^(?:\w+\.)+(\w+: )", r"\1", error.message))


def _why_run(events: Sequence[EventLogEntry]) -> str:
    for event in reversed(events):
        found = event.dagster_event
        if found and found.event_type == dg.DagsterEventType.RUN_FAILURE:
            data = found.event_specific_data
            # A run that was ended from outside has a message only.
            error = data.error if isinstance(data, JobFailureData) else None
            return _innermost(error) if error else shortened(found.message or event.user_message)
    return "it ended without a word"


def find_bad_keys(instance: dg.DagsterInstance) -> list[Trouble]:
    """What somebody has put on an axis that can be no key of it; each is told once."""
    found = {axis: bad_keys(instance, axis) for axis in ASSET_OF_AXIS}
    return [_axis_trouble(axis, bad) for axis, bad in found.items() if bad]


def _axis_trouble(axis: str, bad: Mapping[str, BadKey]) -> Trouble:
    times = [one.put_at for one in bad.values()]
    asset = ASSET_OF_AXIS[axis]
    return Trouble(
        key=f"axis/{axis}",
        source=AXES,
        asset=asset,
        what=f"has {counted(len(bad), 'key')} on its axis that can be no {axis}",
        since=min(times),
        last=max(times),
        examples=spelled_out([one.wrong for one in bad.values()]),
        next_step=(
            "every run passes over it. Add what it should be, where that is not on the axis yet;"
            " `copilot-quant reconcile` takes it off."
        ),
        page=f"/assets/{asset}?view=partitions",
        failure=False,
    )


def find_failed_checks(instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey]) -> list[Trouble]:
    """The checks whose newest evaluation failed, or could not be made."""
    summaries = instance.event_log_storage.get_asset_check_summary_records(sorted(keys))
    troubles = []
    for key, summary in summaries.items():
        newest, completed = summary.last_check_execution_record, summary.last_completed_check_execution_record
        if newest and _could_not_be_made(instance, key, newest):
            troubles.append(_check_trouble(key, newest, "could not be evaluated"))
        elif completed and completed.status == AssetCheckExecutionRecordStatus.FAILED and not _is_told(key, completed):
            troubles.append(_check_trouble(key, completed, "fails"))
    return troubles


def _is_told(key: dg.AssetCheckKey, record: AssetCheckExecutionRecord) -> bool:
    """Whether what a check found is told as stored warnings, each once, and not as often as the check is made."""
    evaluation = record.evaluation
    return (
        key.name == ACTIONS_CONSISTENT and evaluation is not None and evaluation.severity == dg.AssetCheckSeverity.WARN
    )


def _could_not_be_made(instance: dg.DagsterInstance, key: dg.AssetCheckKey, record: AssetCheckExecutionRecord) -> bool:
    """Whether a check failed to give an answer, though its asset could be made; else that is told, and enough."""
    if record.status != AssetCheckExecutionRecordStatus.PLANNED:
        return False
    run = instance.get_run_by_id(record.run_id)
    if run is None or run.status != dg.DagsterRunStatus.FAILURE:
        return False
    failed = [event.step_key for event in _failures_of(instance, run) if _step_failure(event)]
    return key.asset_key.to_user_string() not in (failed or _assets_of(instance, run))


def _check_trouble(key: dg.AssetCheckKey, record: AssetCheckExecutionRecord, how: str) -> Trouble:
    asset = key.asset_key.to_user_string()
    evaluation = record.evaluation if record.status == AssetCheckExecutionRecordStatus.FAILED else None
    at = datetime.fromtimestamp(record.event.timestamp if record.event else record.create_timestamp, UTC)
    return Trouble(
        key=f"check/{asset}/{key.name}",
        source=CHECKS,
        asset=asset,
        what=f"check {key.name} {how}",
        since=at,
        last=at,
        examples=spelled_out(list(_said(evaluation))) if evaluation else (f"run {record.run_id[:8]} failed",),
        next_step="the checks are made again every hour; its end is told.",
        page=f"/assets/{asset}?view=checks&checkDetail={key.name}",
        failure=evaluation is None or evaluation.severity == dg.AssetCheckSeverity.ERROR,
    )


def _said(evaluation: dg.AssetCheckEvaluation) -> Iterator[str]:
    """What a check gave with its answer, one line each: description, numbers, and the lines of its texts."""
    if evaluation.description:
        yield shortened(evaluation.description)
    for name, value in evaluation.metadata.items():
        if isinstance(value, dg.IntMetadataValue | dg.FloatMetadataValue | dg.BoolMetadataValue):
            yield f"{name}: {value.value}"
        elif isinstance(value, dg.TextMetadataValue) and value.text:
            yield f"{name}: {shortened(value.text)}"
        elif isinstance(value, dg.MarkdownMetadataValue):
            yield from (
                shortened(line.removeprefix("- ")) for line in (value.md_str or "").splitlines() if line.strip()
            )


_STALE = {FreshnessState.WARN: "will soon be stale", FreshnessState.FAIL: "is stale"}


def find_stale_assets(instance: dg.DagsterInstance, keys: Collection[dg.AssetKey]) -> list[Trouble]:
    """The assets that Dagster's freshness policies call stale, or nearly so."""
    records = instance.get_freshness_state_records(sorted(keys))
    return [
        Trouble(
            key=f"freshness/{key.to_user_string()}",
            source=FRESHNESS,
            asset=key.to_user_string(),
            what=f"{_STALE[record.freshness_state]}: it was not materialized within its freshness policy",
            since=record.updated_at,
            last=record.updated_at,
            examples=(),
            next_step="the schedules and healing go on asking; the next materialization ends this.",
            page=f"/assets/{key.to_user_string()}",
            failure=record.freshness_state == FreshnessState.FAIL,
        )
        for key, record in records.items()
        if record.freshness_state in _STALE
    ]
