"""A grid of four dates and three symbols, its assets, and how to run them, for the ledger's tests.

Run tags tell the asset what to do: which cells fail, whether it fails altogether, what metadata it gives.
"""

from collections.abc import Iterable
from pathlib import Path

import dagster as dg
import yaml
from dagster._core.storage.event_log import SqliteEventLogStorage

from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance
from copilot_quant_pipeline.ledger.recording import fold_cells, record_cells

DATES = ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"]
SYMBOLS = ["AAPL", "BRK.B", "MSFT"]
BARS, MEMBERS, NIGHTS = dg.AssetKey("bars"), dg.AssetKey("members"), dg.AssetKey(["by", "night"])

axis = dg.DailyPartitionsDefinition(start_date=DATES[0], end_date="2024-01-06")
grid = dg.MultiPartitionsDefinition({"date": axis, "symbol": dg.DynamicPartitionsDefinition(name="symbol")})


def _tag(context: dg.AssetExecutionContext, name: str) -> list[str]:
    return [part for part in context.run.tags.get(f"test/{name}", "").split(",") if part]


@dg.asset(partitions_def=grid, code_version="1")
def bars(context: dg.AssetExecutionContext) -> set[str]:
    if _tag(context, "broken"):
        raise dg.Failure("the venue is down", allow_retries=False)
    for cell in _tag(context, "noted"):
        context.add_asset_metadata({"note": f"of {cell}"}, partition_key=cell)
    return set(_tag(context, "fail"))


@dg.asset(key=NIGHTS, partitions_def=axis, code_version="1")
def nights() -> set[str]:
    return set()


@dg.asset(code_version="1", check_specs=[dg.AssetCheckSpec("is_full", asset=MEMBERS)])
def members(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    cell = dg.MultiPartitionKey({"date": DATES[0], "symbol": "AAPL"})
    context.log_event(dg.AssetObservation(BARS, partition=cell, metadata={"seen": 1}, tags={"by": "members"}))
    context.log_event(dg.AssetObservation(MEMBERS))
    check = dg.AssetCheckResult(passed=True, check_name="is_full", metadata={"rows": 503})
    return dg.MaterializeResult(metadata={"rows": 503}, check_results=[check])


class CellsIOManager(dg.IOManager):
    """Stores nothing; records cells as the platform's I/O manager does."""

    def handle_output(self, context: dg.OutputContext, obj: set[str]) -> None:
        failed = obj
        if not failed:
            context.add_output_metadata({"rows": 5, "quality": dg.MetadataValue.md("*fine*")})
            return fold_cells(context)
        record_cells(context, set(context.asset_partition_keys) - failed, {"rows": 5})
        raise dg.Failure(f"failed: {sorted(failed)}", allow_retries=False)

    def load_input(self, context: dg.InputContext) -> None:
        raise NotImplementedError


job = dg.Definitions(
    [bars, nights, members], resources={"io_manager": CellsIOManager()}
).resolve_implicit_global_asset_job_def()


def stock_instance(home: Path) -> dg.DagsterInstance:
    """An instance that differs from the shipped one in its event-log storage only, which is Dagster's own."""
    config = install_instance_config(home)
    settings = yaml.safe_load(config.read_text())
    del settings["event_log_storage"]
    config.write_text(yaml.safe_dump(settings))
    instance = open_instance(home, capture_output=False)
    assert type(instance.event_log_storage) is SqliteEventLogStorage
    return instance


def rectangle(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def run(
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    tags: dict[str, str] | None = None,
    *,
    cell: str | None = None,
    **told: Iterable[str],
) -> str:
    """One run of one asset, in process; its run id. What the asset is told goes into run tags."""
    tags = {**(tags or {}), **{f"test/{name}": ",".join(parts) for name, parts in told.items()}}
    result = job.execute_in_process(
        instance=instance, asset_selection=[asset], tags=tags, partition_key=cell, raise_on_error=False
    )
    return result.run_id
