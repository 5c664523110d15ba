"""What must hold of stored prices, asked of the warehouse: the checks Dagit shows.

Here: the questions, one query each, what of the store each run puts them to, and their asset checks.
Not here: what is refused before it is stored (the venues' parsers, table declarations).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
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
        "Every price, bid and ask lies from 0 to 1.",
        """
        select market, "at", outcome || ' ' || price as what from looked_at
        where not (coalesce(price, 0) between 0 and 1 and coalesce(bid, 0) between 0 and 1
            and coalesce(ask, 0) between 0 and 1)
        """,
    ),
    Check(
        "outcomes_of_a_binary_market_sum_to_one",
        "The two outcomes of a binary market cost 0.95 to 1.05 together in each hour that has both.",
        """
        with hours as (
            select market, date_trunc('hour', "at") as "at", outcome, arg_max(price, p."at") as price
            from looked_at p where price is not null and price_kind <> 'settlement'
            group by all
        )
        select market, "at", sum(price)::varchar as what
        from hours join (
            select market from prediction_markets.markets where json_array_length(outcomes) = 2
        ) using (market)
        group by market, "at" having count(*) = 2 and sum(price) not between 0.95 and 1.05
        """,
    ),
    Check(
        "no_points_outside_a_markets_life",
        "No point lies more than an hour before its market opened or more than a day after it closed.",
        """
        select market, "at", outcome as what
        from looked_at join prediction_markets.markets using (market)
        where "at" < opened_at - interval 1 hour or "at" > closes_at + interval 1 day
        """,
    ),
    Check(
        "each_instant_once",
        "An outcome of a market has one point an instant.",
        """
        select market, "at", outcome as what from looked_at
        group by market, outcome, "at" having count(*) > 1
        """,
    ),
    Check(
        "resolved_markets_end_at_their_outcome",
        "The last price of a resolved market is nearer to what it settled at than to the opposite.",
        """
        select market, max("at") as "at", outcome || ' ' || arg_max(price, "at") as what
        from looked_at join prediction_markets.markets using (market)
        where status = 'resolved' and result is not null and price is not null
        group by market, outcome, result, closes_at
        having max("at") > closes_at - interval 1 day
            and abs(arg_max(price, "at") - (outcome = result)::integer) > 0.5
        """,
    ),
)


def build_checks() -> list[dg.AssetChecksDefinition]:
    """Each claim as an asset check on `prediction_market_prices`."""
    return [_asset_check(check) for check in CHECKS]


def broken_rows(
    warehouse: Warehouse, check: Check, markets: Sequence[str] | None = None, limit: int = 20
) -> tuple[int, list[str], list[str]]:
    """How many rows break a claim, the first few, and their markets; asked of `markets`, None is all."""
    only = "" if markets is None else "where market in (select unnest($markets::varchar[]))"
    answer = warehouse.read(
        f"""
        with looked_at as (from prediction_markets.prices {only})
        select market, "at", what from ({check.broken}) order by all
        """,  # noqa: S608 ours
        {} if markets is None else {"markets": list(markets)},
    )
    shown = [f"{row['market']} {row['at']}: {row['what']}" for row in answer.slice(0, limit).to_pylist()]
    return answer.num_rows, shown, answer.column("market").unique().to_pylist()


_CHANGED = """
    select distinct key from ops.coverage
    where grid = 'markets' and (key in (select unnest($broken::varchar[])) or run_id in (
        select run_id from ops.run_summary
        where grid = 'markets' and (run_id = $run_id or started_at + to_seconds(seconds) >= $since)
    ))
"""
_STORED_BY = "select count(*) > 0 as stored from ops.run_summary where grid = 'markets' and run_id = $run_id"


def plan_check(context: dg.AssetCheckExecutionContext, warehouse: Warehouse, check: Check) -> list[str] | None:
    """The markets to look at: those stored to since the check was last made, and those it found broken then.

    None, which is all, where it was never made, or is made on its own. A backfill of a thousand markets has a check
    after each of its runs; were each to read all that is stored, the checks would take longer than the rest.
    """
    (row,) = warehouse.read(_STORED_BY, {"run_id": context.run.run_id}).to_pylist()
    last = _last_made(context.instance, check) if row["stored"] else None
    if last is None:
        return None
    since, broken = last
    changed = warehouse.read(_CHANGED, {"run_id": context.run.run_id, "since": since, "broken": broken})
    return list(changed.column("key").to_pylist())


def _last_made(instance: dg.DagsterInstance, check: Check) -> tuple[datetime, list[str]] | None:
    """When the check was last made and which markets it found broken; None where never, or that is not known."""
    made = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
    key = dg.AssetCheckKey(dg.AssetKey(ASSET), check.name)
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=made):
        told = record.evaluation.metadata.get("markets") if record.evaluation else None
        if record.event and isinstance(told, dg.JsonMetadataValue) and isinstance(told.data, list):
            return datetime.fromtimestamp(record.event.timestamp, UTC), [str(market) for market in told.data]
    return None


def _asset_check(check: Check) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=ASSET,
        name=check.name,
        description=check.description,
        required_resource_keys={"warehouse"},
    )
    def checked(context) -> dg.AssetCheckResult:  # type: ignore[no-untyped-def]  # Dagster reads the annotation
        warehouse = context.resources.warehouse
        count, shown, markets = broken_rows(warehouse, check, plan_check(context, warehouse, check))
        return dg.AssetCheckResult(
            passed=count == 0,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={
                "broken": count,
                "first": dg.MetadataValue.md("\n".join(f"- {line}" for line in shown)),
                "markets": dg.MetadataValue.json(markets),
            },
        )

    return checked
