"""Bringing a warehouse file to the version this program knows.

Here: the version, the creation of a new file, the ordered upgrades of older ones.
Not here: what the tables are (warehouse/tables.py), opening and locking (warehouse/connections.py).

A new file is created from the declarations, straight at the newest version. When a declaration changes,
append the statements that bring an existing file there to `UPGRADES`, which raises the version by one; views
are renewed with every upgrade.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.warehouse.oddities import warn_of_all_bars
from copilot_quant_pipeline.warehouse.tables import (
    INSTRUMENT_QUESTIONS,
    INSTRUMENTS,
    TABLES,
    UNKNOWN_LOOKS,
    VIEWS,
    WARNINGS,
)

# `fetched_at` was when the values were first seen; bars tell when they were confirmed, not only that they were. Tables
# are written anew, as DuckDB cannot alter a table and change its rows in one transaction.
_EQUITIES = (
    # A new bar was stored with its split although the split itself waited.
    """
    create or replace table equities.bars as
    select date, symbol, open, high, low, close, volume, dividend,
        case when exists (
            from ops.quarantine q where "table" = 'equities.actions' and state = 'waiting' and q.date = b.date
                and q.key = b.symbol and (q.new->>'split_ratio')::double = b.split_ratio
        ) then 1.0 else split_ratio end as split_ratio,
        case when is_final then fetched_at end as confirmed_at, quality, source, fetched_at as first_seen_at
    from equities.bars b
    """,
    """
    create or replace table equities.actions as
    select symbol, date, dividend, split_ratio, source, fetched_at as first_seen_at from equities.actions
    """,
    """
    create or replace table equities.members as
    select symbol, name, sector, member_from, member_to, source, fetched_at as read_at, fetched_at as first_seen_at
    from equities.members
    """,
    # A symbol's rows that waited together with a split stay together.
    """
    create or replace table ops.quarantine as
    with kinds as (
        select *,
            case when coalesce((old->>'split_ratio')::double, 1) <> (new->>'split_ratio')::double then 'split'
                when coalesce((old->>'dividend')::double, 0) <> (new->>'dividend')::double then 'dividend'
                when (old->>'open', old->>'high', old->>'low', old->>'close')
                    = (new->>'open', new->>'high', new->>'low', new->>'close') then 'volumes'
                else 'prices' end as kind
        from ops.quarantine
    ), splits as (
        select distinct key from kinds where "table" = 'equities.actions' and kind = 'split' and state = 'waiting'
    )
    select "table", date, key, old, new, seen_at, run_id, state, decided_at,
        dense_rank() over (order by case when state = 'waiting' and key in (from splits) then key
            else concat_ws('|', "table", date, key, seen_at) end) as proposal,
        kind, null::boolean as divided, null::double as factor
    from kinds
    """,
    """
    update ops.quarantine set
        old = json_merge_patch(old, json_object('first_seen_at', old->'fetched_at', 'fetched_at', null,
            'confirmed_at', case when (old->>'is_final')::boolean then old->'fetched_at' end, 'is_final', null)),
        new = json_merge_patch(new, json_object('first_seen_at', new->'fetched_at', 'fetched_at', null,
            'confirmed_at', case when (new->>'is_final')::boolean then new->'fetched_at' end, 'is_final', null))
    """,
)

# `at` is a word of SQL. What a point's stamp marks is known of all venues but Polymarket, of which two services told:
# its settlements are data-api's, what is off the full minute is CLOB's. Not known is since when a market's description
# stands: it is taken to be as it was last seen.
_PREDICTION_MARKETS = (
    """
    create or replace table prediction_markets.prices as
    select date, market, outcome, "at" as stamped_at, price, open, high, low, bid, ask, volume, open_interest,
        price_kind,
        case
            when market like 'manifold:%' then 'bets'
            when market like 'predictit:%' then 'marketdata'
            when market like 'metaculus:%' then 'posts'
            when market like 'polymarket:%' and price_kind = 'settlement' then 'data-api'
            when market like 'polymarket:%' and date_part('second', "at") <> 0 then 'clob'
        end as service,
        case
            when price_kind = 'settlement' then 0
            when market not like 'polymarket:%' then 3600
        end as grain_seconds,
        case when market like 'kalshi:%' then 'ends' when service is not null then 'instant' end as stamp,
        source,
        fetched_at as first_seen_at
    from prediction_markets.prices
    """,
    """
    create or replace table prediction_markets.markets as
    select market, venue, id, slug, title, null::varchar as label, category, event, null::varchar as event_title,
        series, outcomes, opened_at, closes_at, status, result, settlements, null::timestamptz as resolved_at, volume,
        facts, first_seen_at as listed_at, last_seen_at, source, last_seen_at as first_seen_at
    from prediction_markets.markets
    """,
    """
    create or replace table prediction_markets.market_changes as
    select market, status, result, null::timestamptz as closes_at, seen_at from prediction_markets.market_changes
    """,
    """
    create table prediction_markets.listed (
        venue varchar not null, question varchar not null, state varchar not null, id varchar not null
    )
    """,
)

# Which answers were coarse was not kept either.
_OPS = ("create or replace table ops.coverage as select *, null::date as finer_until from ops.coverage",)

# What was replaced before is not known as rows: `ops.schema_version` says since when it is.
_HISTORIES = tuple(
    f"create table {table}_history as select *, first_seen_at as known_until from {table} limit 0"  # noqa: S608 ours
    for table in (
        "equities.bars",
        "equities.actions",
        "equities.members",
        "prediction_markets.prices",
        "prediction_markets.markets",
    )
)

# UPGRADES[n] brings version n + 1 to version n + 2; one without statements has the views renewed.
UPGRADES: tuple[Sequence[str], ...] = (
    (),
    (
        *_EQUITIES,
        *_PREDICTION_MARKETS,
        *_OPS,
        *_HISTORIES,
        INSTRUMENTS.ddl,
        INSTRUMENT_QUESTIONS.ddl,
        UNKNOWN_LOOKS.ddl,
        WARNINGS.ddl,
    ),
)

_UNVERSIONED = 0
_FIRST_WITH_WARNINGS = 3


def read_version(connection: duckdb.DuckDBPyConnection) -> int:
    """The version of an open file; 0 where it has none of our tables."""
    known = "select 1 from duckdb_tables() where schema_name = 'ops' and table_name = 'schema_version'"
    if connection.execute(known).fetchone() is None:
        return _UNVERSIONED
    (version,) = connection.execute("select max(version) from ops.schema_version").fetchone() or (None,)
    return int(version or _UNVERSIONED)


def is_older(connection: duckdb.DuckDBPyConnection, upgrades: Sequence[Sequence[str]] = UPGRADES) -> bool:
    """Whether an open file has to be migrated before it can be read.

    Raises:
        UserError: It is of a newer version than this program knows.
    """
    version, newest = read_version(connection), len(upgrades) + 1
    if version > newest:
        raise UserError(
            f"the warehouse has schema version {version}, this program knows {newest}: "
            "upgrade copilot-quant-pipeline, or choose another home with COPILOT_QUANT_HOME."
        )
    return version < newest


def migrate(connection: duckdb.DuckDBPyConnection, upgrades: Sequence[Sequence[str]] = UPGRADES) -> None:
    """Bring an open file to the newest version, in one transaction.

    Raises:
        UserError: It is of a newer version than this program knows.
    """
    if not is_older(connection, upgrades):
        return
    connection.begin()
    try:
        before = read_version(connection)
        for statement in _statements(before, upgrades):
            connection.execute(statement)
        if _UNVERSIONED < before < _FIRST_WITH_WARNINGS:
            warn_of_all_bars(connection, None, datetime.now(UTC))
        connection.execute("insert into ops.schema_version values ($version, now())", {"version": len(upgrades) + 1})
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _statements(version: int, upgrades: Sequence[Sequence[str]]) -> list[str]:
    views = [view.ddl for view in VIEWS]
    if version == _UNVERSIONED:
        schemas = sorted({table.schema for table in TABLES})
        return [f'create schema if not exists "{name}"' for name in schemas] + [t.ddl for t in TABLES] + views
    return [statement for upgrade in upgrades[version - 1 :] for statement in upgrade] + views
