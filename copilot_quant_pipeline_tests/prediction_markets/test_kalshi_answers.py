"""Claims about reading Kalshi's answers: every recorded file, the three candle shapes, exact prices, bad values."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.errors import Malformed
from copilot_quant_pipeline.prediction_markets.kalshi_answers import (
    CANDLES,
    KalshiEvent,
    as_dollars,
    faults,
    is_ticker,
    parse_candles,
    parse_market,
    points,
)
from copilot_quant_pipeline.prediction_markets.shapes import shaped
from copilot_quant_pipeline.prediction_markets.venue import POINTS

NAMES = ("open", "high", "low", "close")
AT = 1_768_194_000

Candle = dict[str, Any]


@pytest.fixture
def answers(recorded: Path) -> Path:
    return recorded / "kalshi"


def response(file: Path) -> Any:
    return json.loads(file.read_text(), parse_float=Decimal)["response"]


def test_90_recorded_daily_candles_are_equal_in_their_three_forms(answers: Path) -> None:
    single = response(answers / "series_candlesticks_response.json")["candlesticks"]
    (batch,) = response(answers / "candlesticks_batch_response.json")["markets"]
    event = response(answers / "event_candlesticks_response.json")
    of_single, of_batch = (parse_candles(each, "KXELONMARS-99") for each in (single, batch["candlesticks"]))
    of_event = parse_candles(event["market_candlesticks"][0], event["market_tickers"][0])
    assert of_single.num_rows == of_batch.num_rows == of_event.num_rows == 90
    assert of_single.equals(of_batch)
    # The event's were recorded two days later: 88 days are in both.
    assert of_event.slice(0, 88).equals(of_single.slice(2))


def test_recorded_candles_have_the_prices_their_cents_say(answers: Path) -> None:
    sent = response(answers / "series_candlesticks_response.json")["candlesticks"]
    for candle, row in zip(sent, parse_candles(sent, "X").to_pylist(), strict=True):
        cents = candle["price"]["close"]
        assert row["price"] == (None if cents is None else Decimal(cents) / 100)
        assert row["bid"] == Decimal(candle["yes_bid"]["close"]) / 100
        assert row["ask"] == Decimal(candle["yes_ask"]["close"]) / 100
        assert row["volume"] == candle["volume"]
        assert row["open_interest"] == candle["open_interest"]
        assert row["stamped_at"] == datetime.fromtimestamp(candle["end_period_ts"], UTC)


def test_recorded_candles_without_their_dollars_give_the_same(answers: Path) -> None:
    sent = response(answers / "series_candlesticks_response.json")["candlesticks"]
    cents_only = [
        {
            name: {key: each for key, each in value.items() if "_dollars" not in key}
            if isinstance(value, dict)
            else value
            for name, value in candle.items()
        }
        for candle in sent
    ]
    assert parse_candles(cents_only, "X").equals(parse_candles(sent, "X"))


def test_the_24_recorded_hours_come_back_exactly_in_both_current_shapes(answers: Path) -> None:
    with (answers / "jushoya_KXHIGHNY-26JUN23-B78.5_hourly_first24.csv").open() as file:
        rows = list(csv.DictReader(file))
    for shape in (live, historical):
        table = parse_candles([_of_row(row, shape) for row in rows], "KXHIGHNY-26JUN23-B78.5").to_pylist()
        assert len(table) == 24
        for row, got in zip(rows, table, strict=True):
            assert got["stamped_at"] == datetime.fromisoformat(row["ts_utc"])
            assert got["price"] == (Decimal(row["last"]) if row["last"] else None)
            assert (got["bid"], got["ask"]) == (Decimal(row["yes_bid"]), Decimal(row["yes_ask"]))
            assert (got["volume"], got["open_interest"]) == (Decimal(row["volume"]), Decimal(row["open_interest"]))


def _of_row(row: Mapping[str, str], shape: Any) -> Candle:
    at = int(datetime.fromisoformat(row["ts_utc"]).timestamp())
    last = Decimal(row["last"]) if row["last"] else None
    bid = {"close": Decimal(row["yes_bid"]), "low": Decimal(row["yes_bid_low"])}
    ask = {"close": Decimal(row["yes_ask"]), "high": Decimal(row["yes_ask_high"])}
    return shape(at, {"close": last}, bid, ask, Decimal(row["volume"]), Decimal(row["open_interest"]))


Prices = Mapping[str, Decimal | None]


def cents(at: int, price: Prices, bid: Prices, ask: Prices, volume: Decimal, held: Decimal) -> Candle:
    def side(prices: Prices) -> dict[str, Any]:
        whole = {name: None if value is None else int(value * 100) for name, value in prices.items()}
        return whole | {f"{name}_dollars": f"{value:.4f}" for name, value in prices.items() if value is not None}

    sides = {"price": side(price), "yes_bid": side(bid), "yes_ask": side(ask)}
    return {"end_period_ts": at, **sides, "volume": int(volume), "open_interest": int(held)}


def live(at: int, price: Prices, bid: Prices, ask: Prices, volume: Decimal, held: Decimal) -> Candle:
    def side(prices: Prices) -> dict[str, Any]:
        return {f"{name}_dollars": f"{value:.4f}" for name, value in prices.items() if value is not None}

    sides = {"price": side(price), "yes_bid": side(bid), "yes_ask": side(ask)}
    return {"end_period_ts": at, **sides, "volume_fp": f"{volume:.2f}", "open_interest_fp": f"{held:.2f}"}


def historical(at: int, price: Prices, bid: Prices, ask: Prices, volume: Decimal, held: Decimal) -> Candle:
    def side(prices: Prices) -> dict[str, Any]:
        return {name: None if value is None else f"{value:.4f}" for name, value in prices.items()}

    sides = {"price": side(price), "yes_bid": side(bid), "yes_ask": side(ask)}
    return {"end_period_ts": at, **sides, "volume": f"{volume:.2f}", "open_interest": f"{held:.2f}"}


in_cents = st.integers(0, 100).map(lambda price: Decimal(price) / 100)


@st.composite
def candle(draw: st.DrawFn) -> tuple[Any, ...]:
    traded = draw(st.booleans())
    price = {name: draw(in_cents) if traded else None for name in NAMES}
    bid, ask = ({name: draw(in_cents) for name in NAMES} for _ in range(2))
    return AT + 3600 * draw(st.integers(0, 500)), price, bid, ask, draw(whole), draw(whole)


whole = st.integers(0, 10**9).map(Decimal)


@given(st.lists(candle(), max_size=8, unique_by=lambda each: each[0]))
def test_the_three_shapes_of_the_same_candles_are_read_as_the_same(candles: Sequence[Any]) -> None:
    tables = [parse_candles([shape(*each) for each in candles], "X") for shape in (cents, live, historical)]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])
    for each, row in zip(sorted(candles), tables[0].to_pylist(), strict=True):
        assert [row["open"], row["high"], row["low"], row["price"]] == list(each[1].values())


@given(st.integers(-(10**12), 10**12))
def test_cents_become_dollars_exactly(cents: int) -> None:
    assert Decimal(as_dollars(cents) or "") * 100 == cents


@given(st.integers(0, 10**6))
def test_a_price_in_millionths_stays_what_it_is_and_its_complement_is_exact(millionths: int) -> None:
    sent = Decimal(millionths) / 10**6
    one = {"end_period_ts": AT, "price": {"close_dollars": f"{sent:.6f}"}, "volume_fp": "1.25"}
    yes, no = points([parse_candles([one], "X")]).to_pylist()
    assert yes["price"] == sent
    assert yes["price"] + no["price"] == 1


def test_29_cents_stay_29_cents_in_every_shape() -> None:
    price = {"close": Decimal("0.29")}
    for shape in (cents, live, historical):
        one = shape(AT, price, {"close": Decimal("0.28")}, {"close": Decimal("0.30")}, Decimal(1), Decimal(1))
        (row,) = parse_candles([one], "X").to_pylist()
        assert str(row["price"]) == "0.290000"


def test_no_is_the_other_side_of_the_book_and_counts_no_contract_again() -> None:
    one = live(
        AT,
        dict(zip(NAMES, map(Decimal, ("0.10", "0.30", "0.05", "0.29")), strict=True)),
        {"close": Decimal("0.28")},
        {"close": Decimal("0.31")},
        Decimal("12.50"),
        Decimal("7"),
    )
    table = points([parse_candles([one], "X")])
    assert table.schema.equals(POINTS)
    yes, no = table.to_pylist()
    assert (yes["outcome"], no["outcome"]) == ("Yes", "No")
    assert [no[name] for name in ("open", "high", "low", "price")] == [
        Decimal(text) for text in ("0.90", "0.95", "0.70", "0.71")
    ]
    assert (no["bid"], no["ask"]) == (Decimal("0.69"), Decimal("0.72"))
    assert (yes["volume"], yes["open_interest"]) == (Decimal("12.5"), Decimal(7))
    assert (no["volume"], no["open_interest"]) == (None, None)


def test_an_hour_without_a_trade_keeps_its_book() -> None:
    one = live(AT, {"close": None}, {"close": Decimal(0)}, {"close": Decimal(1)}, Decimal(0), Decimal(3))
    yes, no = points([parse_candles([one], "X")]).to_pylist()
    assert (yes["price"], yes["bid"], yes["ask"]) == (None, 0, 1)
    assert (no["price"], no["bid"], no["ask"]) == (None, 0, 1)


def test_candles_come_in_time_and_each_instant_once() -> None:
    sent = [{"end_period_ts": AT + 3600 * hour, "volume_fp": str(n)} for n, hour in enumerate((2, 0, 1, 0))]
    table = parse_candles(sent, "X")
    assert [stamp.timestamp() for stamp in table["stamped_at"].to_pylist()] == [AT, AT + 3600, AT + 7200]
    assert table["volume"].to_pylist() == [3, 2, 0]


def test_nothing_sent_is_nothing() -> None:
    assert parse_candles([], "X").equals(CANDLES.empty_table())
    assert points([]).equals(POINTS.empty_table())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"price": {"close_dollars": "1.2900"}}, "1.29"),
        ({"price": {"close_dollars": "-0.0100"}}, "-0.01"),
        ({"price": {"close": 129}}, "1.29"),
        ({"price": {"close_dollars": "NaN"}}, "NaN"),
        ({"price": {"close_dollars": "cheap"}}, "cheap"),
        ({"price": {"close_dollars": ""}}, "no price"),
        ({"price": {"close": Decimal("0.29")}}, "neither cents nor dollars"),
        ({"price": {"close": True}}, "neither cents nor dollars"),
        ({"price": [7]}, "list"),
        ({"volume_fp": "many"}, "many"),
        ({"volume_fp": "1e999"}, "1e999|precision"),
        ({"volume_fp": "-1.00"}, "volume -1.0+ is below 0"),
        ({"end_period_ts": AT * 1000}, f"{AT}000 is not in unix seconds"),
        ({"end_period_ts": str(AT * 1000)}, f"{AT}000 is not in unix seconds"),
    ],
)
def test_a_bad_candle_is_a_fault_that_names_it_and_leaves_the_others(wrong: Candle, said: str) -> None:
    good = {"end_period_ts": AT - 3600, "price": {"close_dollars": "0.2900"}}
    table = parse_candles([good, {"end_period_ts": AT} | wrong], "KXFED-1")
    assert table["price"].to_pylist() == [Decimal("0.29"), None]
    fine, fault = table["fault"].to_pylist()
    assert fine is None
    assert re.match(f"^KXFED-1: .*2026-01-12 05:00 UTC.*({said})", fault)
    assert points([table]).num_rows == 2
    assert list(faults([table])) == [date(2026, 1, 12)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"end_period_ts": AT * 10**6}, "unix seconds"),
        ({"end_period_ts": 7}, "unix seconds"),
        ({"end_period_ts": None}, "unix seconds"),
        ({"end_period_ts": "soon"}, "soon"),
    ],
)
def test_a_candle_of_no_time_is_named_and_not_asked_for_again(wrong: Candle, said: str) -> None:
    with pytest.raises(Malformed, match=f"^KXFED-1: .*({said})") as refused:
        parse_candles([{"end_period_ts": AT} | wrong], "KXFED-1")
    assert not refused.value.transient


@pytest.mark.parametrize(
    "close", [{"close_dollars": Decimal("0.29")}, {"close_dollars": "0.29000000"}, {"close": "0.2900"}, {"close": 29}]
)
@pytest.mark.parametrize("at", [AT, str(AT)])
@pytest.mark.parametrize(
    "volume", [{"volume_fp": "7.00"}, {"volume_fp": 7}, {"volume": 7}, {"volume": Decimal("7.00")}]
)
def test_numbers_may_come_as_text_and_text_as_numbers(close: Candle, at: Any, volume: Candle) -> None:
    one = {"end_period_ts": at, "price": close | {"new": None}, "yes_bid": None, "newer": [1]} | volume
    (row,) = parse_candles([one], "X").to_pylist()
    assert (row["price"], row["volume"], row["bid"], row["open"]) == (Decimal("0.29"), 7, None, None)


def test_dollars_finer_than_a_millionth_are_rounded() -> None:
    (row,) = parse_candles([{"end_period_ts": AT, "price": {"close_dollars": "0.12345678"}}], "X").to_pylist()
    assert row["price"] == Decimal("0.123457")


@pytest.mark.parametrize("sent", [None, 3, "text", [None], [3], [{}]])
def test_what_is_no_list_of_candles_is_malformed(sent: Any) -> None:
    with pytest.raises(Malformed):
        parse_candles(sent, "X")


def test_recorded_events_hold_their_markets(answers: Path) -> None:
    events = json.loads((answers / "pmvl_kalshi_events.json").read_text())["events"]
    markets = [parse_market(record, shaped(event, KalshiEvent)) for event in events for record in event["markets"]]
    mars, *nato = markets
    assert mars.key == "kalshi:KXELONMARS-99"
    assert (mars.series, mars.event, mars.category) == ("KXELONMARS", "KXELONMARS-99", "world")
    assert (mars.status, mars.result, mars.volume) == ("open", None, Decimal("114461.59"))
    assert mars.opened_at == datetime(2025, 8, 28, 20, 45, tzinfo=UTC)
    assert mars.closes_at == datetime(2099, 8, 1, 4, 59, tzinfo=UTC)
    assert len(nato) == 8
    assert {market.category for market in nato} == {"elections"}
    assert [outcome.name for outcome in mars.outcomes] == ["Yes", "No"]


def test_recorded_markets_parse_with_cents_and_without(answers: Path) -> None:
    old = [
        *response(answers / "markets_list_response.json")["markets"],
        response(answers / "market_single_response.json")["market"],
        *response(answers / "event_single_response.json")["markets"],
    ]
    new = json.loads((answers / "drmanhattan_kalshi_markets.json").read_text())
    markets = [parse_market(record) for record in (*old, *new)]
    assert len(markets) == 12
    assert {market.status for market in markets} == {"open"}
    assert all(market.opened_at and market.closes_at and market.volume is not None for market in markets)
    assert markets[6].volume == 35001


def test_recorded_fed_markets_map_to_their_events_and_series(answers: Path) -> None:
    fed = json.loads((answers / "KXFED_tickers.json").read_text())
    events = {event["event_ticker"]: event | {"series_ticker": fed["series"]} for event in fed["events"]}
    markets = [
        parse_market(record | {"ticker": record["market_ticker"]}, shaped(events[record["event_ticker"]], KalshiEvent))
        for record in fed["markets"]
    ]
    assert len({market.key for market in markets}) == 471
    assert {market.series for market in markets} == {"KXFED"}
    # Not what the ticker begins with: the older ones say FED.
    assert sum(not market.id.startswith("KXFED") for market in markets) > 100
    assert all(market.event in events for market in markets)
    assert {market.status for market in markets} == {"open", "resolved"}


MARKET = {
    "ticker": "KXFED-1-T2",
    "event_ticker": "KXFED-1",
    "status": "active",
    "title": "Above 2?",
    "volume_fp": "1.50",
}


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("initialized", "unopened"),
        ("inactive", "open"),
        ("active", "open"),
        ("closed", "closed"),
        ("determined", "closed"),
        ("disputed", "closed"),
        ("amended", "closed"),
        ("finalized", "resolved"),
    ],
)
def test_only_a_final_outcome_is_a_result(word: str, status: str) -> None:
    market = parse_market(MARKET | {"status": word, "result": "yes"})
    assert market.status == status
    assert market.result == ("Yes" if word == "finalized" else None)


@pytest.mark.parametrize(("sent", "result"), [("yes", "Yes"), ("no", "No"), ("scalar", None), ("", None), (None, None)])
def test_results_are_outcomes_and_a_scalar_one_has_its_value(sent: str | None, result: str | None) -> None:
    worth = {"settlement_value_dollars": "0.3700", "settlement_ts": "2026-01-02T03:04:05Z", "market_type": "scalar"}
    market = parse_market(MARKET | {"status": "finalized", "result": sent} | worth)
    assert market.result == result
    assert market.facts == {"settled_at": "2026-01-02T03:04:05Z", "settlement": "0.3700", "type": "scalar"}
    assert json.loads(json.dumps(market.facts)) == market.facts


def test_what_a_scalar_was_worth_is_read_in_cents_too_and_void_is_no_outcome() -> None:
    old = MARKET | {"status": "finalized", "settlement_value": 37}
    assert parse_market(old | {"result": "scalar"}).facts["settlement"] == "0.37"
    assert parse_market(old | {"result": "void"}).result is None


def test_a_market_without_its_title_is_called_by_its_event(answers: Path) -> None:
    untitled = {name: value for name, value in MARKET.items() if name != "title"} | {"yes_sub_title": "Above 2%"}
    assert (
        parse_market(untitled, KalshiEvent(event_ticker="E", title="Fed in March?")).title == "Fed in March?: Above 2%"
    )


def test_a_volume_that_is_null_in_one_form_is_read_in_the_other() -> None:
    assert parse_market(MARKET | {"volume_fp": None, "volume": 500}).volume == 500


def test_a_time_that_says_never_is_none() -> None:
    assert parse_market(MARKET | {"open_time": "0001-01-01T00:00:00Z"}).opened_at is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "???"},
        {"status": None},
        {"ticker": ""},
        {"ticker": "A B"},
        {"ticker": "A|B"},
        {"ticker": 7},
        {"open_time": "soon"},
        {"close_time": "2026-01-01T00:00:00"},
        {"result": "maybe"},
        {"volume_fp": "NaN"},
        {"volume_fp": "lots"},
    ],
)
def test_a_broken_market_is_named(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(Malformed, match="is no market") as refused:
        parse_market(MARKET | wrong)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("record", [None, 3, [], {}])
def test_what_is_no_record_is_malformed(record: Any) -> None:
    with pytest.raises(Malformed):
        parse_market(record)


@given(st.text(max_size=30))
def test_a_ticker_never_holds_what_a_key_on_the_axis_cannot(text: str) -> None:
    if is_ticker(text):
        assert text
        assert not set(text) & set("|[], \n\t/")


def test_points_of_windows_are_one_table_by_outcome_and_time() -> None:
    windows = [parse_candles([{"end_period_ts": AT + 3600 * hour}], "X") for hour in range(3)]
    table = points(windows)
    assert table["outcome"].to_pylist() == ["Yes"] * 3 + ["No"] * 3
    at = table["stamped_at"].cast(pa.int64()).to_pylist()
    assert at[:3] == sorted(at[:3]) == at[3:]


@pytest.mark.parametrize(
    "bad", [{"end_period_ts": "soon"}, {"end_period_ts": 10**30}, {"end_period_ts": [1]}, {}, 5, None]
)
def test_a_candle_without_a_time_spoils_the_day_of_its_neighbours_only(bad: Any) -> None:
    candles: list[Any] = [{"end_period_ts": AT + 3600 * n, "price": {"close_dollars": "0.29"}} for n in range(96)]
    candles[50] = bad
    table = parse_candles(candles, "T")
    assert [str(day) for day in faults([table])] == ["2026-01-14"]
    assert table["fault"].null_count >= 93
