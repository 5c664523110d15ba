"""What must hold of stored prices, asked of the warehouse: the checks Dagit shows.

Here: the questions, one query each, what of the store each run puts them to, and their asset checks.
Not here: what is refused before it is stored (the venues' parsers, table declarations).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import duckdb
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.execution.context.system import StepExecutionContext
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from copilot_quant_pipeline.warehouse.warehouse import Warehouse

ASSET = "prediction_market_prices"


@dataclass(frozen=True)
class Check:
    """A claim about stored prices; `broken` is a query for the rows that break it: market, when and what.

    It asks `looked_at`, the stored prices of the markets in question.
    """

    name: str
    description: str
    broken: str


CHECKS = (
    Check(
        "prices_are_probabilities",
        "Every price, bid and ask lies from 0 to 1, and so do the hour's open, high and low.",
        """
        select market, stamped_at, outcome || ' ' || concat_ws(' ', price, "open", high, low, bid, ask) as what
        from looked_at
        where greatest(price, "open", high, low, bid, ask) > 1 or least(price, "open", high, low, bid, ask) < 0
        """,
    ),
    Check(
        "outcomes_of_a_binary_market_sum_to_one",
        "The two outcomes of a binary market cost 0.95 to 1.05 together in each hour that has both.",
        """
        with hours as (
            select market, date_trunc('hour', stamped_at) as stamped_at, outcome, arg_max(price, p.stamped_at) as price
            from looked_at p where price is not null and price_kind <> 'settlement'
            group by all
        )
        select market, stamped_at, sum(price)::varchar as what
        from hours join (
            select market from prediction_markets.markets where json_array_length(outcomes) = 2
        ) using (market)
        group by market, stamped_at having count(*) = 2 and sum(price) not between 0.95 and 1.05
        """,
    ),
    Check(
        "no_points_outside_a_markets_life",
        "No point lies more than a day before its market opened or after it closed, whatever end is announced.",
        """
        select market, stamped_at, outcome as what
        from looked_at join prediction_markets.markets using (market)
        where stamped_at < opened_at - interval 1 day
            or (stamped_at > closes_at + interval 1 day and status in ('closed', 'resolved', 'gone'))
        """,
    ),
    Check(
        "each_instant_once",
        "An outcome of a market has one point an instant.",
        """
        select market, stamped_at, outcome as what from looked_at
        group by market, outcome, stamped_at having count(*) > 1
        """,
    ),
    Check(
        "resolved_markets_end_at_their_outcome",
        "The last price of a resolved market is nearer to what it settled at than to the opposite.",
        """
        select market, max(stamped_at) as stamped_at, outcome || ' ' || arg_max(price, stamped_at) as what
        from looked_at join prediction_markets.markets using (market)
        where status = 'resolved' and result is not null and price is not null and price_kind <> 'settlement'
        group by market, outcome, result, closes_at
        having max(stamped_at) > closes_at - interval 1 day
            and abs(arg_max(price, stamped_at) - (outcome = result)::integer) > 0.5
        """,
    ),
)


def build_checks() -> list[dg.AssetChecksDefinition]:
    """All claims as asset checks on `prediction_market_prices`, made in one step.

    A step of its own each would have Dagster list the run's thousands of cells once a check.
    """

    @dg.multi_asset_check(
        name=f"checks_of_{ASSET}",
        specs=[dg.AssetCheckSpec(check.name, asset=ASSET, description=check.description) for check in CHECKS],
        can_subset=True,
        required_resource_keys={"warehouse"},
    )
    def checked(context):  # type: ignore[no-untyped-def]  # Dagster reads the annotations
        asked = {key.name for key in context.selected_asset_check_keys}
        checks = [check for check in CHECKS if check.name in asked]
        warehouse = context.resources.warehouse
        last = [_last_made(context.instance, check) for check in checks]
        with warehouse.held():
            found = broken_rows(warehouse, checks, plan_check(warehouse, context.run.run_id, last))
        for check, broken in zip(checks, found, strict=True):
            yield _result(check, broken)

    return [checked]


@dataclass(frozen=True)
class BrokenRows:
    """How many rows break a claim, the first few of them, and all their markets."""

    rows: int = 0
    shown: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """When a check was last made (aware UTC), and which markets it found broken."""

    at: datetime
    broken: tuple[str, ...]


def broken_rows(
    warehouse: Warehouse, checks: Sequence[Check] = CHECKS, markets: Sequence[str] | None = None, limit: int = 20
) -> list[BrokenRows]:
    """What breaks each claim, asked of the stored prices of `markets` (None is all) at one state of the store."""
    with warehouse.connect_read_only() as connection:
        # What does not fit waits on disk: millions of prices would else take gigabytes to group.
        connection.execute("set memory_limit = '600MB'")
        if markets is None:
            connection.execute("create temp view looked_at as from prediction_markets.prices")
        else:
            connection.execute(_LOOK_AT, {"markets": list(markets)})
        return [_broken(connection, check, limit) for check in checks]


_LOOK_AT = """
    create temp table looked_at as
    select market, stamped_at, outcome, price, "open", high, low, bid, ask, price_kind from prediction_markets.prices
    where market in (select unnest($markets::varchar[]))
"""


def _broken(connection: duckdb.DuckDBPyConnection, check: Check, limit: int) -> BrokenRows:
    answer = connection.execute(f"select market, stamped_at, what from ({check.broken}) order by all").to_arrow_table()  # noqa: S608 ours
    shown = [f"{row['market']} {row['stamped_at']}: {row['what']}" for row in answer.slice(0, limit).to_pylist()]
    return BrokenRows(answer.num_rows, tuple(shown), tuple(answer.column("market").unique().to_pylist()))


_CHANGED = """
    select distinct key from ops.coverage
    where grid = 'markets' and (key in (select unnest($broken::varchar[])) or run_id in (
        select run_id from ops.run_summary
        where grid = 'markets' and (run_id = $run_id or started_at + to_seconds(seconds) >= $since)
    ))
"""
_STORED_BY = "select count(*) > 0 as stored from ops.run_summary where grid = 'markets' and run_id = $run_id"


def plan_check(warehouse: Warehouse, run_id: str, last: Sequence[Made | None]) -> list[str] | None:
    """The markets to look at: those stored to since the checks were last made, and those found broken then.

    None, which is all, where one was never made, or the run stored nothing: checks made on their own look at all. A
    backfill of a thousand markets makes the checks after each of its runs; were each to read all that is stored, they
    would take longer than the rest.
    """
    (row,) = warehouse.read(_STORED_BY, {"run_id": run_id}).to_pylist()
    made = [one for one in last if one is not None]
    if not row["stored"] or len(made) < len(last) or not made:
        return None
    broken = sorted({market for one in made for market in one.broken})
    changed = warehouse.read(_CHANGED, {"run_id": run_id, "since": min(one.at for one in made), "broken": broken})
    return list(changed.column("key").to_pylist())


def _last_made(instance: dg.DagsterInstance, check: Check) -> Made | None:
    made = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
    key = dg.AssetCheckKey(dg.AssetKey(ASSET), check.name)
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=made):
        told = record.evaluation.metadata.get("markets") if record.evaluation else None
        if record.event and isinstance(told, dg.JsonMetadataValue) and isinstance(told.data, list):
            return Made(datetime.fromtimestamp(record.event.timestamp, UTC), tuple(map(str, told.data)))
    return None


class _Result(dg.AssetCheckResult):
    """A result that finds the newest materialization by the asset's record.

    For a check of a partitioned asset dagster lists every partition on the way there, which is the whole grid: ten
    seconds of a run over a thousand markets. Should the method get another name, that is all that is lost.
    """

    def _get_target_materialization_data(
        self, step_context: StepExecutionContext, check_key: dg.AssetCheckKey
    ) -> AssetCheckEvaluationTargetMaterializationData | None:
        for record in step_context.instance.get_asset_records([check_key.asset_key]):
            if newest := record.asset_entry.last_materialization_record:
                return AssetCheckEvaluationTargetMaterializationData(
                    storage_id=newest.storage_id, run_id=newest.run_id, timestamp=newest.timestamp
                )
        return None


def _result(check: Check, broken: BrokenRows) -> dg.AssetCheckResult:
    return _Result(
        asset_key=ASSET,
        check_name=check.name,
        passed=broken.rows == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "broken": broken.rows,
            "first": dg.MetadataValue.md("\n".join(f"- {line}" for line in broken.shown)),
            "markets": dg.MetadataValue.json(list(broken.markets)),
        },
    )
