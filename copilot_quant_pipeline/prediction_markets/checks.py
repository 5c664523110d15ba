"""What must hold of stored prices, asked of the warehouse: the checks Dagit shows.

Here: the questions, one query each, and their asset checks.
Not here: what is refused before it is stored (the venues' parsers, table declarations).
"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from copilot_quant_pipeline.warehouse.warehouse import Warehouse


@dataclass(frozen=True)
class Check:
    """A claim about stored prices; `broken` is a query for the rows that break it: market, when and what."""

    name: str
    description: str
    broken: str


CHECKS = (
    Check(
        "prices_are_probabilities",
        "Every price, bid and ask lies from 0 to 1.",
        """
        select market, "at", outcome || ' ' || price as what from prediction_markets.prices
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
            from prediction_markets.prices p where price is not null and price_kind <> 'settlement'
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
        from prediction_markets.prices join prediction_markets.markets using (market)
        where "at" < opened_at - interval 1 hour or "at" > closes_at + interval 1 day
        """,
    ),
    Check(
        "each_instant_once",
        "An outcome of a market has one point an instant.",
        """
        select market, "at", outcome as what from prediction_markets.prices
        group by market, outcome, "at" having count(*) > 1
        """,
    ),
    Check(
        "resolved_markets_end_at_their_outcome",
        "The last price of a resolved market is nearer to what it settled at than to the opposite.",
        """
        select market, max("at") as "at", outcome || ' ' || arg_max(price, "at") as what
        from prediction_markets.prices join prediction_markets.markets using (market)
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


def broken_rows(warehouse: Warehouse, check: Check, limit: int = 20) -> tuple[int, list[str]]:
    """How many rows break a claim, and the first few."""
    answer = warehouse.read(f'select market, "at", what from ({check.broken}) order by all')  # noqa: S608 ours
    shown = [f"{row['market']} {row['at']}: {row['what']}" for row in answer.slice(0, limit).to_pylist()]
    return answer.num_rows, shown


def _asset_check(check: Check) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset="prediction_market_prices",
        name=check.name,
        description=check.description,
        required_resource_keys={"warehouse"},
    )
    def checked(context) -> dg.AssetCheckResult:  # type: ignore[no-untyped-def]  # Dagster reads the annotation
        count, shown = broken_rows(context.resources.warehouse, check)
        return dg.AssetCheckResult(
            passed=count == 0,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"broken": count, "first": dg.MetadataValue.md("\n".join(f"- {line}" for line in shown))},
        )

    return checked
