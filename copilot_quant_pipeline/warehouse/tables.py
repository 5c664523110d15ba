"""Every table of the warehouse, declared once.

Here: what a column and a table are, the declarations, and what derives from them: DDL, Arrow schemas,
descriptions and the validation of rows.
Not here: writing and reading (warehouse/warehouse.py), upgrades of older files (warehouse/migrations.py),
Dagster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import duckdb
import pyarrow as pa

from copilot_quant_pipeline.warehouse.connections import scratch

UTC_TIME = pa.timestamp("us", tz="UTC")
PROBABILITY = pa.decimal128(9, 6)
QUANTITY = pa.decimal128(24, 6)

_DUCKDB_TYPES = {
    pa.date32(): "date",
    pa.string(): "varchar",
    pa.float64(): "double",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.bool_(): "boolean",
    UTC_TIME: "timestamp with time zone",
    PROBABILITY: "decimal(9,6)",
    QUANTITY: "decimal(24,6)",
}

# Since when a row's values stand, and until when they stood; every table with the former has a history beside it.
FIRST_SEEN, KNOWN_UNTIL = "first_seen_at", "known_until"

# How many offending keys an error spells out.
_SHOWN = 5


class InvalidRowsError(ValueError):
    """Rows or cells that break a table's declaration; the message names the column and the offending keys."""


class ColumnDescription(NamedTuple):
    """A column as a catalogue shows it; `type` is DuckDB's name."""

    name: str
    type: str
    description: str
    nullable: bool


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        check: a SQL condition every row must meet; NaN and infinity are refused in any case.
        kind: `value` is data, whose change is a restatement; `note` says something about the data and is
            rewritten in place when it changes; `once` is a note that is set once, when it was null; `stamp` says
            since when the values stand, and changes only together with them.
        tolerance: the relative difference between two answers that is rounding and no change.
    """

    name: str
    type: pa.DataType
    description: str
    nullable: bool = False
    check: str | None = None
    kind: Literal["value", "note", "once", "stamp"] = "value"
    tolerance: float = 0.0

    @property
    def duckdb_type(self) -> str:
        """The type in DuckDB's words."""
        return _DUCKDB_TYPES[self.type]

    @property
    def rules(self) -> list[tuple[str, str]]:
        """What a row must meet: (words, SQL condition) pairs."""
        rules = [] if self.nullable else [("be given", f'"{self.name}" is not null')]
        if pa.types.is_floating(self.type):
            rules.append(("be finite", f'isfinite("{self.name}")'))
        if self.check:
            rules.append((f"meet {self.check}", self.check))
        return rules


@dataclass(frozen=True)
class Table:
    """One table; `key` are the columns that tell its rows apart."""

    schema: str
    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def qualified(self) -> str:
        """The name to write in SQL."""
        return f'"{self.schema}"."{self.name}"'

    @property
    def names(self) -> list[str]:
        """The column names in declared order."""
        return [column.name for column in self.columns]

    @property
    def values(self) -> list[Column]:
        """The columns whose change is a restatement."""
        return [column for column in self.columns if column.kind == "value" and column.name not in self.key]

    @property
    def notes(self) -> list[Column]:
        """The columns that say something about the others."""
        return [column for column in self.columns if column.kind in ("note", "once")]

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def arrow(self) -> pa.Schema:
        """The schema of a frame of its rows."""
        return pa.schema([pa.field(column.name, column.type, column.nullable) for column in self.columns])

    @property
    def described(self) -> list[ColumnDescription]:
        """Its columns for a catalogue."""
        return [
            ColumnDescription(column.name, column.duckdb_type, column.description, column.nullable)
            for column in self.columns
        ]

    @property
    def ddl(self) -> str:
        """The statement that creates it.

        There is no primary key: DuckDB's index costs memory, and a row that is deleted and inserted again in
        one transaction trips over it. That keys stay unique is the duty of what writes
        (warehouse/settling.py).
        """
        columns = (f'"{c.name}" {c.duckdb_type}{"" if c.nullable else " not null"}' for c in self.columns)
        return f"create table {self.qualified} ({', '.join(columns)})"

    def validated(self, rows: pa.Table) -> pa.Table:
        """The rows in declared column order and types.

        Raises:
            InvalidRowsError: A column is missing, unknown, of another type or breaks a rule, or a key comes
                twice.
        """
        rows = self._typed(rows)
        if rows.num_rows == 0:
            return rows
        with scratch() as connection:
            connection.register("checked", rows)
            self._expect_rules(connection)
            self._expect_unique_keys(connection)
        return rows

    def _typed(self, rows: pa.Table) -> pa.Table:
        if sorted(rows.column_names) != sorted(self.names):
            raise InvalidRowsError(f"{self.schema}.{self.name} has the columns {self.names}, not {rows.column_names}")
        typed = [self._cast(rows.column(column.name), column) for column in self.columns]
        return pa.table(typed, schema=pa.schema([pa.field(c.name, c.type) for c in self.columns]))

    def _cast(self, values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
        try:
            return values.cast(column.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InvalidRowsError(
                f"{self.schema}.{self.name}.{column.name} must be {column.duckdb_type}: {error}"
            ) from None

    def _expect_rules(self, connection: duckdb.DuckDBPyConnection) -> None:
        rules = [(column.name, words, sql) for column in self.columns for words, sql in column.rules]
        counts = ", ".join(f"count(*) filter (where not ({sql}))" for _, _, sql in rules)
        found = connection.execute(f"select {counts} from checked").fetchone() or ()  # noqa: S608
        for (name, words, sql), count in zip(rules, found, strict=True):
            if count:
                self._refuse(connection, f"{name} must {words}", f"from checked where not ({sql})", count)

    def _expect_unique_keys(self, connection: duckdb.DuckDBPyConnection) -> None:
        twice = f"from (select {self._key_sql} from checked group by all having count(*) > 1)"  # noqa: S608
        (count,) = connection.execute(f"select count(*) {twice}").fetchone() or (0,)
        if count:
            self._refuse(connection, f"({', '.join(self.key)}) must be unique", twice, count)

    def _refuse(self, connection: duckdb.DuckDBPyConnection, rule: str, source: str, count: int) -> None:
        keys = connection.execute(f"select {self._key_sql} {source} order by all limit {_SHOWN}").fetchall()
        shown = ", ".join(" ".join(map(str, key)) for key in keys)
        more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
        raise InvalidRowsError(f"{self.schema}.{self.name}: {rule}; broken by {shown}{more}")

    @property
    def _key_sql(self) -> str:
        return ", ".join(f'"{name}"' for name in self.key)


@dataclass(frozen=True)
class GridTable(Table):
    """A table whose rows belong to cells of `grid`; a cell may hold several rows.

    Attributes:
        date_column: the column with a cell's date.
        key_column: the column with a cell's symbol or market.
    """

    grid: str
    key_column: str
    date_column: str = "date"


@dataclass(frozen=True)
class View:
    """A view: columns for the catalogue and the query that derives it."""

    schema: str
    name: str
    description: str
    columns: tuple[Column, ...]
    query: str

    @property
    def described(self) -> list[ColumnDescription]:
        """Its columns for a catalogue."""
        return [
            ColumnDescription(column.name, column.duckdb_type, column.description, column.nullable)
            for column in self.columns
        ]

    @property
    def ddl(self) -> str:
        """The statement that creates or renews it."""
        return f'create or replace view "{self.schema}"."{self.name}" as {self.query}'


# Yahoo's prices are single-precision, and its volumes are rounded anew by every later split.
PRICE_TOLERANCE, VOLUME_TOLERANCE = 5e-6, 1e-4


def _price(name: str, description: str) -> Column:
    return Column(name, pa.float64(), description, check=f"{name} > 0", tolerance=PRICE_TOLERANCE)


def _dividend(description: str) -> Column:
    return Column("dividend", pa.float64(), description, check="dividend >= 0", tolerance=PRICE_TOLERANCE)


def _split_ratio(description: str) -> Column:
    return Column("split_ratio", pa.float64(), description, check="split_ratio > 0", tolerance=1e-6)


def _first_seen_at() -> Column:
    return Column(FIRST_SEEN, UTC_TIME, "Since when these values stand: when they were first seen.", kind="stamp")


def _symbol() -> Column:
    return Column("symbol", pa.string(), "Ticker as the S&P 500 list writes it, e.g. BRK.B.", check="symbol <> ''")


BARS = GridTable(
    schema="equities",
    name="bars",
    description="Daily bars as traded: in the day's own prices and shares, with the day's own actions.",
    grid="equities",
    key_column="symbol",
    key=("date", "symbol"),
    columns=(
        Column("date", pa.date32(), "Session, the New York date."),
        _symbol(),
        _price("open", "First price, USD as traded."),
        _price("high", "Highest price, USD as traded."),
        _price("low", "Lowest price, USD as traded."),
        _price("close", "Last price, USD as traded."),
        Column(
            "volume",
            pa.int64(),
            "Shares traded, in that day's shares.",
            check="volume >= 0",
            tolerance=VOLUME_TOLERANCE,
        ),
        _dividend("USD per share as paid, ex on that session; 0 is none."),
        _split_ratio("New shares per old share from that session's open on; 1 is no split."),
        Column(
            "confirmed_at",
            UTC_TIME,
            "When an answer asked after a later session confirmed it; null until then, while venues revise it.",
            nullable=True,
            kind="once",
        ),
        Column(
            "quality",
            pa.string(),
            "ok, or ohlc_inconsistent where open or close lies outside low..high at the source.",
            check="quality in ('ok', 'ohlc_inconsistent')",
            kind="note",
        ),
        Column("source", pa.string(), "Venue the bar came from.", kind="note"),
        _first_seen_at(),
    ),
)

MEMBERS = Table(
    schema="equities",
    name="members",
    description="S&P 500 membership intervals: who is in the index, and who was.",
    key=("symbol", "member_from"),
    columns=(
        _symbol(),
        Column("name", pa.string(), "Company name; null where only the symbol is on record.", nullable=True),
        Column("sector", pa.string(), "GICS sector; null where not on record.", nullable=True),
        Column(
            "member_from",
            pa.date32(),
            "First day in the index; null is before the record begins.",
            nullable=True,
        ),
        Column("member_to", pa.date32(), "Last day in the index; null is still a member.", nullable=True),
        Column("source", pa.string(), "Where the interval was read.", kind="note"),
        Column("read_at", UTC_TIME, "When it was last read.", kind="note"),
        _first_seen_at(),
    ),
)

ACTIONS = Table(
    schema="equities",
    name="actions",
    description="Every dividend and split a venue has told of, whether or not that session has a bar.",
    key=("symbol", "date"),
    columns=(
        _symbol(),
        Column("date", pa.date32(), "Session it takes effect, the New York date."),
        _dividend("USD per share as paid; 0 is none."),
        _split_ratio("New shares per old share; 1 is no split."),
        Column("source", pa.string(), "Venue it came from.", kind="note"),
        _first_seen_at(),
    ),
)

INSTRUMENTS = Table(
    schema="equities",
    name="instruments",
    description="Which company a symbol names, and when: tickers that were given on, and companies renamed.",
    key=("symbol", "valid_from"),
    columns=(
        _symbol(),
        Column(
            "instrument", pa.string(), "The company: the symbol it was first known by, with a date if it took it over."
        ),
        Column("valid_from", pa.date32(), "First day; null is since the record begins.", nullable=True),
        Column("valid_until", pa.date32(), "Last day; null is still.", nullable=True),
        Column("source", pa.string(), "Who says so: a venue, or a person.", kind="note"),
        _first_seen_at(),
    ),
)

INSTRUMENT_QUESTIONS = Table(
    schema="equities",
    name="instrument_questions",
    description="Answers that may be of another company than the bars stored under their symbol.",
    key=("symbol", "kind", "seen_at"),
    columns=(
        _symbol(),
        Column(
            "kind",
            pa.string(),
            "another_life: a history that begins after the last bar; another_history: one whose prices are others.",
            check="kind in ('another_life', 'another_history')",
        ),
        Column("begins", pa.date32(), "The first bar of that history."),
        Column("listed", pa.date32(), "When the venue says the symbol was listed.", nullable=True),
        Column("detail", pa.string(), "What speaks for another company."),
        Column("seen_at", UTC_TIME, "When such an answer was first seen."),
        Column("seen_again_at", UTC_TIME, "When it was last seen."),
        Column(
            "state",
            pa.string(),
            "waiting for a second answer or a person; another or same company; withdrawn: the venue says otherwise.",
            check="state in ('waiting', 'another', 'same', 'withdrawn')",
        ),
        Column("decided_at", UTC_TIME, "Since when it waits no longer; null while it does.", nullable=True),
    ),
)

# A symbol without rows names one company, itself; before the first row it names that row's. `since` and `until` leave
# no day out: those between two companies, on which neither has a bar, count to the former.
_LIVES = """
select
    symbol,
    instrument,
    case when lag(symbol) over life is null then '0001-01-01'::date else valid_from end as since,
    coalesce(lead(valid_from) over life - 1, '9999-12-31'::date) as until,
    valid_from,
    valid_until
from equities.instruments
window life as (partition by symbol order by valid_from nulls first)
"""

LIVES = View(
    schema="equities",
    name="lives",
    description="The companies of each symbol that has had several, or several names, one after the other.",
    columns=(
        _symbol(),
        Column("instrument", pa.string(), "The company."),
        Column("since", pa.date32(), "First day whose bars under the symbol are its."),
        Column("until", pa.date32(), "Last such day."),
        Column("valid_from", pa.date32(), "First day on which the symbol named it.", nullable=True),
        Column("valid_until", pa.date32(), "Last such day.", nullable=True),
    ),
    query=_LIVES,
)

UNKNOWN_LOOKS = Table(
    schema="equities",
    name="unknown_looks",
    description="The looks that found a symbol with bars unknown, one a session, since its venue's last other answer.",
    key=("symbol", "session"),
    columns=(
        _symbol(),
        Column("session", pa.date32(), "The newest session that was completed at the look."),
        Column("seen_at", UTC_TIME, "When the venue was first asked in it.", kind="stamp"),
    ),
)

# Prices divided, volumes multiplied by every later split; for adj_close also every later dividend's factor
# 1 - dividend / previous close, as Yahoo does (https://help.yahoo.com/kb/SLN28256.html). Windows run newest
# first so that "every later session" is a running product. A session without a bar (lost by the venue, or never
# asked for) still counts with its action, or all bars before it would be off by it.
# What one company did with its shares is nothing to another one that had the same ticker.
_ADJUSTED_BARS = """
with told as (
    select symbol, date, open, high, low, close, volume, dividend, split_ratio from equities.bars
    union all by name
    select symbol, date, dividend, split_ratio from equities.actions anti join equities.bars using (symbol, date)
), days as (
    select t.*, l.instrument
    from told t left join equities.lives l on l.symbol = t.symbol and t.date between l.since and l.until
), split as (
    select *, coalesce(product(split_ratio) over later, 1.0) as shares
    from days
    window later as (
        partition by symbol, instrument order by date desc rows between unbounded preceding and 1 preceding
    )
), paid as (
    select *, dividend / shares
        / lag(close / shares ignore nulls) over (partition by symbol, instrument order by date) as paid_out
    from split
), adjusted as (
    select *, close / shares * coalesce(product(1.0 - coalesce(paid_out, 0.0)) over later, 1.0) as adj_close
    from paid
    window later as (
        partition by symbol, instrument order by date desc rows between unbounded preceding and 1 preceding
    )
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
where close is not null
"""

ADJUSTED_BARS = View(
    schema="equities",
    name="adjusted_bars",
    description="Bars in the newest shares a venue has told of, with a total-return close.",
    columns=(
        Column("date", pa.date32(), "Session, the New York date."),
        _symbol(),
        _price("open", "First price, USD, split-adjusted."),
        _price("high", "Highest price, USD, split-adjusted."),
        _price("low", "Lowest price, USD, split-adjusted."),
        _price("close", "Last price, USD, split-adjusted."),
        Column("volume", pa.int64(), "Shares traded, split-adjusted."),
        _price("adj_close", "Last price, USD, adjusted for splits and dividends."),
    ),
    query=_ADJUSTED_BARS,
)


def _market() -> Column:
    return Column("market", pa.string(), "Venue and slug, e.g. kalshi:KXFED-24NOV-T4.75.", check="market <> ''")


def _probability(name: str, description: str) -> Column:
    check = f'"{name}" is null or "{name}" between 0 and 1'
    return Column(name, PROBABILITY, description, nullable=True, check=check)


MARKETS = Table(
    schema="prediction_markets",
    name="markets",
    description="Every market ever seen, as its venue last described it; one that is no longer listed stays.",
    key=("market",),
    columns=(
        _market(),
        Column("venue", pa.string(), "The venue's name."),
        Column("id", pa.string(), "The venue's own id, which never changes."),
        Column("slug", pa.string(), "What a user writes."),
        Column("title", pa.string(), "The question."),
        Column("label", pa.string(), "What tells it from the other markets of its event.", nullable=True),
        Column("category", pa.string(), "The venue's word for what it is about.", nullable=True),
        Column("event", pa.string(), "What the venue groups markets by.", nullable=True),
        Column("event_title", pa.string(), "What that event is called.", nullable=True),
        Column("series", pa.string(), "What the venue groups events by.", nullable=True),
        Column("outcomes", pa.string(), "JSON list of [name, token] in the venue's order."),
        Column("opened_at", UTC_TIME, "When trading began.", nullable=True),
        Column("closes_at", UTC_TIME, "When trading ends or ended.", nullable=True),
        Column("status", pa.string(), "unopened, open, closed, resolved; or gone: its venue knows it no more."),
        Column("result", pa.string(), "The outcome that won; null where none has.", nullable=True),
        Column("settlements", pa.string(), "JSON: what each outcome settled at, 0 to 1; null before.", nullable=True),
        Column("resolved_at", UTC_TIME, "When its venue settled it.", nullable=True),
        Column("volume", QUANTITY, "Traded in all, in the venue's unit.", nullable=True, kind="note"),
        Column("facts", pa.string(), "JSON: what its prices are asked with.", kind="note"),
        Column("listed_at", UTC_TIME, "When it was first listed here.", kind="note"),
        Column("last_seen_at", UTC_TIME, "When its venue last described it.", kind="note"),
        Column("source", pa.string(), "Where it was read.", kind="note"),
        _first_seen_at(),
    ),
)

MARKET_CHANGES = Table(
    schema="prediction_markets",
    name="market_changes",
    description="The history of markets: each status, result and announced end a market was seen with, and since when.",
    key=("market", "seen_at"),
    columns=(
        _market(),
        Column("status", pa.string(), "The new status."),
        Column("result", pa.string(), "The result, once there is one.", nullable=True),
        Column("closes_at", UTC_TIME, "The announced end of trading; null where unknown.", nullable=True),
        Column("seen_at", UTC_TIME, "When it was first seen."),
    ),
)

LISTED = Table(
    schema="prediction_markets",
    name="listed",
    description="What the last complete listing of a question showed: a later one that lacks many is told by it.",
    key=("venue", "question", "state", "id"),
    columns=(
        Column("venue", pa.string(), "The venue's name."),
        Column("question", pa.string(), "JSON: which categories, how many, ended ones too."),
        Column("state", pa.string(), "open, or broken: a record that could not be read and that nobody follows."),
        Column("id", pa.string(), "The venue's own id."),
    ),
)

PRICES = GridTable(
    schema="prediction_markets",
    name="prices",
    description="Hourly prices of every outcome, as probabilities in exact decimal.",
    grid="markets",
    key_column="market",
    key=("market", "outcome", "stamped_at"),
    columns=(
        Column("date", pa.date32(), "UTC day."),
        _market(),
        Column("outcome", pa.string(), "The outcome's name."),
        Column(
            "stamped_at",
            UTC_TIME,
            "The point's time as sent. It was known then or, where that begins its interval, grain_seconds later.",
        ),
        _probability("price", "The last price; null where nothing traded."),
        _probability("open", "The hour's first price, where the venue tells it."),
        _probability("high", "The hour's highest price, likewise."),
        _probability("low", "The hour's lowest price, likewise."),
        _probability("bid", "Best bid."),
        _probability("ask", "Best ask."),
        Column("volume", QUANTITY, "Traded in the hour, in the venue's unit.", nullable=True),
        Column("open_interest", QUANTITY, "Open at the end of the hour.", nullable=True),
        Column("price_kind", pa.string(), "trade, quote, forecast or settlement."),
        Column("service", pa.string(), "Which of the venue's services told it.", nullable=True, kind="note"),
        Column(
            "grain_seconds", pa.int32(), "Length of the interval it stands for; 0 is none.", nullable=True, kind="note"
        ),
        Column(
            "stamp",
            pa.string(),
            "Whether its stamp begins or ends that interval, or is the instant of a sample.",
            nullable=True,
            check="stamp is null or stamp in ('begins', 'ends', 'instant')",
            kind="note",
        ),
        Column("source", pa.string(), "Venue the point came from.", kind="note"),
        _first_seen_at(),
    ),
)

_DAILY = """
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
    arg_min(first_price, stamped_at) filter (where first_price is not null) as open,
    max(high_price) as high,
    min(low_price) as low,
    arg_max(price, stamped_at) filter (where price is not null) as close,
    arg_max(bid, stamped_at) filter (where bid is not null) as bid,
    arg_max(ask, stamped_at) filter (where ask is not null) as ask,
    cast(sum(volume) as decimal(24, 6)) as volume,
    arg_max(open_interest, stamped_at) filter (where open_interest is not null) as open_interest,
    any_value(m.settlement) as settlement,
    arg_max(price_kind, stamped_at) as kind
from points p left join (
    select market, unnest(map_keys(settled)) as outcome, unnest(map_values(settled))::decimal(9, 6) as settlement
    from (select market, from_json(settlements, '"MAP(VARCHAR, VARCHAR)"') as settled from prediction_markets.markets)
) m using (market, outcome)
group by date, market, outcome
"""

DAILY = View(
    schema="prediction_markets",
    name="daily",
    description="Daily prices of every outcome on UTC days, and what it settled at.",
    columns=(
        Column("date", pa.date32(), "UTC day."),
        _market(),
        Column("outcome", pa.string(), "The outcome's name."),
        _probability("open", "First price of the day."),
        _probability("high", "Highest price of the day."),
        _probability("low", "Lowest price of the day."),
        _probability("close", "Last price of the day; what it settled at is none."),
        _probability("bid", "Last bid of the day."),
        _probability("ask", "Last ask of the day."),
        Column("volume", QUANTITY, "Traded that day, in the venue's unit.", nullable=True),
        Column("open_interest", QUANTITY, "Open at the end of the day.", nullable=True),
        _probability("settlement", "1 if this outcome won, 0 if another did, between where it was split; null before."),
        Column(
            "kind", pa.string(), "What the day's last row is: trade, quote, forecast; or settlement, never a close."
        ),
    ),
    query=_DAILY,
)

# Every price with the instant from which on it can have been known, which no stored stamp that begins an interval is.
_KNOWN_PRICES = """
select
    *,
    case stamp
        when 'begins' then stamped_at + to_seconds(grain_seconds)
        when 'ends' then stamped_at
        when 'instant' then stamped_at
    end as known_at
from prediction_markets.prices
"""

KNOWN_PRICES = View(
    schema="prediction_markets",
    name="known_prices",
    description="The prices, and when each was known: what is computed as of an instant takes none known later.",
    columns=(
        *PRICES.columns,
        Column(
            "known_at", UTC_TIME, "At the latest by when the price was known; null where that is not.", nullable=True
        ),
    ),
    query=_KNOWN_PRICES,
)

COVERAGE = Table(
    schema="ops",
    name="coverage",
    description="The state of every cell that was ever asked for.",
    key=("grid", "date", "key"),
    columns=(
        Column("grid", pa.string(), "Which grid."),
        Column("date", pa.date32(), "The cell's date."),
        Column("key", pa.string(), "The cell's symbol or market."),
        Column("outcome", pa.string(), "settled or failed, as of the last try."),
        Column("rows", pa.int32(), "How many rows are stored for the cell."),
        Column("reason", pa.string(), "Why it failed, or why it is settled without rows.", nullable=True),
        Column("detail", pa.string(), "Free text, such as the numbers of a malformed bar.", nullable=True),
        Column("attempts", pa.int32(), "Failed tries since it was last settled, or coarse answers; 0 once final."),
        Column("passing", pa.int32(), "How many of these said nothing about the cell: the venue was out of reach."),
        Column(
            "failing_since", UTC_TIME, "When the first of these failed tries was; null once settled.", nullable=True
        ),
        Column("reason_since", UTC_TIME, "Since when every try has failed for this same reason.", nullable=True),
        Column("fetched_at", UTC_TIME, "When the venue was last asked."),
        Column("run_id", pa.string(), "The run that asked last."),
        Column(
            "finer_until",
            pa.date32(),
            "Of a settled cell that came coarsely: the last date on which it may be had finer; null where it is final.",
            nullable=True,
        ),
    ),
)

RESTATEMENTS = Table(
    schema="ops",
    name="restatements",
    description="Every change of a stored value.",
    key=("table", "date", "key", "column", "seen_at"),
    columns=(
        Column("table", pa.string(), "Schema and table."),
        Column("date", pa.date32(), "The cell's date."),
        Column("key", pa.string(), "The cell's symbol or market."),
        Column("column", pa.string(), "Which value."),
        Column("old", pa.string(), "What was stored, as text that reads back exactly.", nullable=True),
        Column("new", pa.string(), "What replaced it; null where the row is gone.", nullable=True),
        Column("seen_at", UTC_TIME, "When the new value was fetched."),
        Column("run_id", pa.string(), "The run that fetched it."),
    ),
)

QUARANTINE = Table(
    schema="ops",
    name="quarantine",
    description="Changes not to be believed unseen: what is stored stays until a person decides on the proposal.",
    key=("table", "date", "key", "kind", "seen_at"),
    columns=(
        Column("table", pa.string(), "Schema and table of the row."),
        Column("date", pa.date32(), "The row's date."),
        Column("key", pa.string(), "The row's symbol."),
        Column("old", pa.string(), "The stored values, as JSON that reads back exactly; null is none.", nullable=True),
        Column("new", pa.string(), "The values the venue says now, likewise."),
        Column("seen_at", UTC_TIME, "When the new values were first fetched."),
        Column("run_id", pa.string(), "The run that fetched them."),
        Column(
            "state",
            pa.string(),
            "waiting for a person; accepted or rejected by one; withdrawn: the venue has said otherwise since;"
            " resolved: stored since the venue has shown it; noticed: one answer lacked it, which changes nothing yet.",
            check="state in ('waiting', 'accepted', 'rejected', 'withdrawn', 'resolved', 'noticed')",
        ),
        Column("decided_at", UTC_TIME, "Since when it waits no longer; null while it does.", nullable=True),
        Column("proposal", pa.int64(), "What it is decided with: rows of one number go together.", nullable=True),
        Column(
            "kind",
            pa.string(),
            "What changes: split, dividend, prices or volumes.",
            nullable=True,
            check="kind in ('split', 'dividend', 'prices', 'volumes')",
        ),
        Column(
            "divided",
            pa.bool_(),
            "Of a split: whether the bars before it came divided when it was first told; null where none could tell.",
            nullable=True,
        ),
        Column(
            "factor",
            pa.float64(),
            "Of a split: what accepting multiplies all earlier prices and dividends by, and divides volumes by; 1 where"
            " the stored bars show the split themselves.",
            nullable=True,
        ),
    ),
)

WARNINGS = Table(
    schema="ops",
    name="warnings",
    description="What a person should look at once: it may be right, and is not asked about again once they say so.",
    key=("kind", "key", "date"),
    columns=(
        Column("kind", pa.string(), "split, jump, spike, dividend, price, adj_close or members: what is doubtful."),
        Column("key", pa.string(), "The symbol."),
        Column("date", pa.date32(), "The session it stands at."),
        Column("said", pa.string(), "What was found, in words."),
        Column("size", pa.float64(), "The number it is judged by; another one is asked about anew."),
        Column("first_seen_at", UTC_TIME, "Since when it is as it is."),
        Column("acknowledged_at", UTC_TIME, "When a person said that it is right; null before.", nullable=True),
        Column("over_at", UTC_TIME, "Since when it is no longer so; null while it is.", nullable=True),
        Column("run_id", pa.string(), "The run that found it."),
    ),
)

RUN_SUMMARY = Table(
    schema="ops",
    name="run_summary",
    description="What each run asked for and got.",
    key=("run_id", "grid"),
    columns=(
        Column("run_id", pa.string(), "The run."),
        Column("grid", pa.string(), "Which grid."),
        Column("started_at", UTC_TIME, "When it began."),
        Column("seconds", pa.float64(), "How long it took, the storing included."),
        Column("asked", pa.int64(), "Cells asked for."),
        Column("settled", pa.int64(), "Cells settled, with or without rows."),
        Column("failed", pa.int64(), "Cells failed."),
        Column("empty", pa.int64(), "Cells settled without rows."),
        Column("rows", pa.int64(), "Rows that came."),
        Column("restated", pa.int64(), "Stored rows whose values changed."),
        Column("quarantined", pa.int64(), "Stored rows whose change waits for a person."),
        Column("lost", pa.int64(), "Stored rows, not asked for, that answers which cover them no longer hold."),
        Column("requests", pa.int64(), "Requests to vendors."),
        Column("retries", pa.int64(), "How many of them were repeats."),
    ),
)

SCHEMA_VERSION = Table(
    schema="ops",
    name="schema_version",
    description="The versions this file has had; the highest is its own.",
    key=("version",),
    columns=(
        Column("version", pa.int32(), "Version of all tables together."),
        Column("applied_at", UTC_TIME, "When the file came to it."),
    ),
)


def history_of(table: Table) -> Table:
    """The table beside `table` that keeps what its rows were before they were replaced, and until when."""
    until = Column(KNOWN_UNTIL, UTC_TIME, "Until when these values stood.", kind="stamp")
    return Table(
        table.schema,
        f"{table.name}_history",
        f"What rows of {table.schema}.{table.name} were before they were replaced or deleted.",
        (*table.columns, until),
        (*table.key, FIRST_SEEN, KNOWN_UNTIL),
    )


# The tables of values: what they replace is kept, so that each can be read as of an instant (warehouse/history.py).
VALUES: tuple[Table, ...] = (BARS, ACTIONS, MEMBERS, MARKETS, PRICES)

TABLES: tuple[Table, ...] = (
    SCHEMA_VERSION,
    BARS,
    ACTIONS,
    UNKNOWN_LOOKS,
    MEMBERS,
    INSTRUMENTS,
    INSTRUMENT_QUESTIONS,
    MARKETS,
    MARKET_CHANGES,
    LISTED,
    PRICES,
    COVERAGE,
    RESTATEMENTS,
    QUARANTINE,
    WARNINGS,
    RUN_SUMMARY,
    *map(history_of, VALUES),
)
VIEWS: tuple[View, ...] = (LIVES, ADJUSTED_BARS, DAILY, KNOWN_PRICES)
