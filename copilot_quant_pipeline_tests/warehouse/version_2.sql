-- The tables and views of schema version 2, as the program of that version made them.
create schema "equities";
create schema "ops";
create schema "prediction_markets";
create table "ops"."schema_version" ("version" integer not null, "applied_at" timestamp with time zone not null);
create table "equities"."bars" ("date" date not null, "symbol" varchar not null, "open" double not null, "high" double not null, "low" double not null, "close" double not null, "volume" bigint not null, "dividend" double not null, "split_ratio" double not null, "is_final" boolean not null, "quality" varchar not null, "source" varchar not null, "fetched_at" timestamp with time zone not null);
create table "equities"."actions" ("symbol" varchar not null, "date" date not null, "dividend" double not null, "split_ratio" double not null, "source" varchar not null, "fetched_at" timestamp with time zone not null);
create table "equities"."members" ("symbol" varchar not null, "name" varchar, "sector" varchar, "member_from" date, "member_to" date, "source" varchar not null, "fetched_at" timestamp with time zone not null);
create table "prediction_markets"."markets" ("market" varchar not null, "venue" varchar not null, "id" varchar not null, "slug" varchar not null, "title" varchar not null, "category" varchar, "event" varchar, "series" varchar, "outcomes" varchar not null, "opened_at" timestamp with time zone, "closes_at" timestamp with time zone, "status" varchar not null, "result" varchar, "settlements" varchar, "volume" decimal(24,6), "facts" varchar not null, "first_seen_at" timestamp with time zone not null, "last_seen_at" timestamp with time zone not null, "source" varchar not null);
create table "prediction_markets"."market_changes" ("market" varchar not null, "status" varchar not null, "result" varchar, "seen_at" timestamp with time zone not null);
create table "prediction_markets"."prices" ("date" date not null, "market" varchar not null, "outcome" varchar not null, "at" timestamp with time zone not null, "price" decimal(9,6), "open" decimal(9,6), "high" decimal(9,6), "low" decimal(9,6), "bid" decimal(9,6), "ask" decimal(9,6), "volume" decimal(24,6), "open_interest" decimal(24,6), "price_kind" varchar not null, "source" varchar not null, "fetched_at" timestamp with time zone not null);
create table "ops"."coverage" ("grid" varchar not null, "date" date not null, "key" varchar not null, "outcome" varchar not null, "rows" integer not null, "reason" varchar, "detail" varchar, "attempts" integer not null, "passing" integer not null, "failing_since" timestamp with time zone, "reason_since" timestamp with time zone, "fetched_at" timestamp with time zone not null, "run_id" varchar not null);
create table "ops"."restatements" ("table" varchar not null, "date" date not null, "key" varchar not null, "column" varchar not null, "old" varchar, "new" varchar, "seen_at" timestamp with time zone not null, "run_id" varchar not null);
create table "ops"."quarantine" ("table" varchar not null, "date" date not null, "key" varchar not null, "old" varchar, "new" varchar not null, "seen_at" timestamp with time zone not null, "run_id" varchar not null, "state" varchar not null, "decided_at" timestamp with time zone);
create table "ops"."run_summary" ("run_id" varchar not null, "grid" varchar not null, "started_at" timestamp with time zone not null, "seconds" double not null, "asked" bigint not null, "settled" bigint not null, "failed" bigint not null, "empty" bigint not null, "rows" bigint not null, "restated" bigint not null, "quarantined" bigint not null, "lost" bigint not null, "requests" bigint not null, "retries" bigint not null);
create or replace view "equities"."adjusted_bars" as 
with days as (
    select symbol, date, open, high, low, close, volume, dividend, split_ratio from equities.bars
    union all by name
    select symbol, date, dividend, split_ratio from equities.actions anti join equities.bars using (symbol, date)
), split as (
    select *, coalesce(product(split_ratio) over later, 1.0) as shares
    from days
    window later as (partition by symbol order by date desc rows between unbounded preceding and 1 preceding)
), paid as (
    select *,
        dividend / shares / lag(close / shares ignore nulls) over (partition by symbol order by date) as paid_out
    from split
), adjusted as (
    select *, close / shares * coalesce(product(1.0 - coalesce(paid_out, 0.0)) over later, 1.0) as adj_close
    from paid
    window later as (partition by symbol order by date desc rows between unbounded preceding and 1 preceding)
)
select
    date,
    symbol,
    open / shares as open,
    high / shares as high,
    low / shares as low,
    close / shares as close,
    cast(round(volume * shares) as bigint) as volume,
    adj_close
from adjusted
where close is not null;
create or replace view "prediction_markets"."daily" as 
with traded as (
    -- What an outcome settled at is no price of its last day: only one of Polymarket's services tells it as a point.
    select * replace (case when price_kind <> 'settlement' then price end as price) from prediction_markets.prices
), points as (
    select *, coalesce("open", price) as first_price, coalesce(high, price) as high_price,
        coalesce(low, price) as low_price
    from traded
)
select
    date,
    market,
    outcome,
    arg_min(first_price, "at") filter (where first_price is not null) as open,
    max(high_price) as high,
    min(low_price) as low,
    arg_max(price, "at") filter (where price is not null) as close,
    arg_max(bid, "at") filter (where bid is not null) as bid,
    arg_max(ask, "at") filter (where ask is not null) as ask,
    cast(sum(volume) as decimal(24, 6)) as volume,
    arg_max(open_interest, "at") filter (where open_interest is not null) as open_interest,
    any_value(m.settlement) as settlement
from points p left join (
    select market, unnest(map_keys(settled)) as outcome, unnest(map_values(settled))::decimal(9, 6) as settlement
    from (select market, from_json(settlements, '"MAP(VARCHAR, VARCHAR)"') as settled from prediction_markets.markets)
) m using (market, outcome)
group by date, market, outcome;
insert into ops.schema_version values (2, '2026-11-01 00:00:00+00');
