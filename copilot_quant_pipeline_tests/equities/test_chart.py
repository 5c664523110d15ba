"""Yahoo's answers, read as sent: bars, events, and each refusal as its own error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.equities.bars import settle_span
from copilot_quant_pipeline.equities.chart import VendorBars, parse_chart, parse_error
from copilot_quant_pipeline.errors import (
    AnotherCurrency,
    AnotherInstrument,
    BeforeFirstBar,
    Denied,
    Malformed,
    NotFound,
    RateLimited,
    Rejected,
    Unavailable,
    VendorError,
)
from copilot_quant_pipeline.grid.cells import Span
from copilot_quant_pipeline.warehouse.fetch_result import ASKED
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS
from copilot_quant_pipeline_tests.equities.conftest import chart_body

MONDAY, TUESDAY, WEDNESDAY = date(2024, 3, 25), date(2024, 3, 26), date(2024, 3, 27)
NOON = 43_200


def parsed(body: str | dict[str, Any], end: date = date(2024, 3, 28), symbol: str = "TEST") -> VendorBars:
    text = body if isinstance(body, str) else json.dumps(body)
    asked_at = datetime(2024, 3, 28, 22, tzinfo=UTC)
    return parse_chart(text, symbol=symbol, start=date(2024, 1, 2), end=end, fetched_at=asked_at)


def body(days: list[date], **changes: Any) -> dict[str, Any]:
    """A chart whose result has `changes` made to it."""
    made: dict[str, Any] = json.loads(chart_body(days))
    made["chart"]["result"][0].update(changes)
    return made


def stamp(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 15, tzinfo=UTC).timestamp())


def events(kind: str, *entries: tuple[date, dict[str, float]]) -> dict[str, Any]:
    return {kind: {str(n): {"date": stamp(day), **values} for n, (day, values) in enumerate(entries)}}


def column(answer: VendorBars, name: str) -> list[Any]:
    values: list[Any] = answer.bars.column(name).to_pylist()
    return values


def test_dates_are_those_of_the_exchange_not_of_utc() -> None:
    evening = datetime(2024, 3, 26, 1, 30, tzinfo=UTC)
    assert column(parsed(body([MONDAY], timestamp=[int(evening.timestamp())])), "date") == [MONDAY]


def test_no_event_is_no_dividend_and_a_ratio_of_one() -> None:
    answer = parsed(body([MONDAY]))
    assert (column(answer, "dividend"), column(answer, "split_ratio")) == ([0.0], [1.0])


def test_two_dividends_of_a_day_add_up_and_two_splits_multiply() -> None:
    paid = events("dividends", (TUESDAY, {"amount": 0.2}), (TUESDAY, {"amount": 1.0}))
    split = events(
        "splits",
        (TUESDAY, {"numerator": 4, "denominator": 1}),
        (TUESDAY, {"numerator": 1061, "denominator": 1000}),
    )
    answer = parsed(body([MONDAY, TUESDAY], events={**paid, **split}))
    assert column(answer, "dividend") == [0.0, 1.2]
    assert column(answer, "split_ratio") == [1.0, pytest.approx(4.244)]


def test_an_event_whose_session_is_lost_stays_on_its_own_day() -> None:
    split = events("splits", (TUESDAY, {"numerator": 2, "denominator": 1}))
    answer = parsed(body([MONDAY, WEDNESDAY], events=split))
    assert column(answer, "date") == [MONDAY, TUESDAY, WEDNESDAY]
    assert column(answer, "split_ratio") == [1.0, 2.0, 1.0]
    assert column(answer, "close") == [10.0, None, 10.0]


def test_a_date_that_comes_twice_carries_its_split_once() -> None:
    split = events("splits", (TUESDAY, {"numerator": 2, "denominator": 1}))
    answer = parsed(body([MONDAY, TUESDAY, TUESDAY], events=split))
    assert column(answer, "split_ratio") == [1.0, 2.0, 1.0]


@pytest.mark.parametrize("regular_market_time", [None, 0, 1])
def test_while_the_exchange_is_open_the_live_bar_replaces_the_delayed_one(regular_market_time: int | None) -> None:
    made = body([MONDAY, TUESDAY, TUESDAY])
    result = made["chart"]["result"][0]
    result["indicators"]["quote"][0]["volume"] = [1, 2, 3]
    result["timestamp"][-1] += 3 * 3600
    # What meta says of the last trade need not be that to the second.
    if regular_market_time is not None:
        result["meta"]["regularMarketTime"] = result["timestamp"][-1] + regular_market_time
    assert column(parsed(made), "volume") == [1.0, 3.0]


@pytest.mark.parametrize("days", [[MONDAY, TUESDAY, TUESDAY], [MONDAY, MONDAY, TUESDAY]])
def test_a_bar_that_comes_twice_with_the_same_stamp_is_no_live_bar(days: list[date]) -> None:
    made = body(days)
    made["chart"]["result"][0]["meta"]["regularMarketTime"] = stamp(TUESDAY)
    assert column(parsed(made), "date") == days


def test_a_price_from_after_the_asked_window_is_left_out() -> None:
    assert column(parsed(body([MONDAY, TUESDAY, WEDNESDAY]), end=TUESDAY), "date") == [MONDAY, TUESDAY]


def test_nulls_and_infinity_arrive_as_they_are() -> None:
    text = chart_body([MONDAY, TUESDAY], closes=[None, 10.0]).replace(
        '"close": [null, 10.0]', '"close": [null, Infinity]'
    )
    assert column(parsed(text), "close") == [None, float("inf")]
    assert column(parsed(text), "volume") == [None, 1000.0]


def test_a_symbol_listed_before_1970_has_its_date() -> None:
    assert parsed(chart_body([MONDAY], listed=date(1962, 1, 2))).first_trade_date == date(1962, 1, 2)


def without(made: dict[str, Any], *path: str | int) -> dict[str, Any]:
    inner: Any = made
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return made


RESULT = ("chart", "result", 0)
BROKEN = {
    "HTML": "<html>Will be right back</html>",
    "nothing": "",
    "cut off": chart_body([MONDAY])[:200],
    "a list": "[]",
    "no chart": "{}",
    "no result": json.dumps({"chart": {"result": None, "error": None}}),
    "no results": json.dumps({"chart": {"result": [], "error": None}}),
    "no meta": json.dumps(without(body([MONDAY]), *RESULT, "meta")),
    "no closes": json.dumps(without(body([MONDAY]), *RESULT, "indicators", "quote", 0, "close")),
    "too few closes": json.dumps(body([MONDAY], timestamp=[stamp(MONDAY), stamp(TUESDAY)])),
    "minute bars": chart_body([MONDAY]).replace('"1d"', '"1m"'),
    "words for prices": chart_body([MONDAY]).replace("10.0", '"ten"'),
    "an error of one word": '{"chart": {"result": null, "error": "boom"}, "finance": {}}',
    "brackets without end": '{"chart":' + "[" * 100_000,
    "a stamp beyond all time": json.dumps(body([MONDAY], timestamp=[10**19])),
    "a volume beyond all numbers": chart_body([MONDAY]).replace("1000", "1" + "0" * 400),
    "a split of no day": json.dumps(body([MONDAY], events={"splits": {"x": {"numerator": 2, "denominator": 1}}})),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_daily_chart_is_malformed(what: str) -> None:
    with pytest.raises(Malformed) as refused:
        parsed(BROKEN[what])
    assert "\n" not in str(refused.value)


def of(**meta: Any) -> dict[str, Any]:
    """A chart with other words in its meta block."""
    made = body([MONDAY, TUESDAY])
    made["chart"]["result"][0]["meta"].update(meta)
    return made


@pytest.mark.parametrize(
    ("meta", "kind", "named"),
    [
        ({"symbol": "OTHER"}, AnotherInstrument, "OTHER"),
        ({"symbol": "TEST.TO"}, AnotherInstrument, "TEST.TO"),
        ({"symbol": 7}, AnotherInstrument, "7"),
        ({"exchangeTimezoneName": "Europe/London"}, AnotherInstrument, "Europe/London"),
        ({"exchangeTimezoneName": "America"}, AnotherInstrument, "America"),
        ({"currency": "GBp"}, AnotherCurrency, "GBp"),
        ({"currency": "CAD"}, AnotherCurrency, "CAD"),
    ],
)
def test_an_answer_of_something_else_is_refused_and_names_what_came(
    meta: dict[str, Any], kind: type[VendorError], named: str
) -> None:
    with pytest.raises(kind, match=named):
        parsed(of(**meta))


@pytest.mark.parametrize("nothing", [None, ""])
def test_what_an_answer_does_not_say_contradicts_nothing(nothing: str | None) -> None:
    said = dict.fromkeys(("symbol", "currency", "exchangeTimezoneName", "exchangeName", "instrumentType"), nothing)
    assert parsed(of(**said)).bars.num_rows == 2


@pytest.mark.parametrize(
    ("asked", "sent", "exchange"), [("BRK.B", "BRK-B", "NYQ"), ("^GSPC", "^GSPC", "SNP"), ("SPY", "SPY", "PCX")]
)
def test_a_symbol_is_compared_as_the_platform_writes_it_and_its_exchange_does_not_matter(
    asked: str, sent: str, exchange: str
) -> None:
    text = json.dumps(of(symbol=sent, exchangeName=exchange))
    at = datetime(2024, 3, 28, 22, tzinfo=UTC)
    assert parse_chart(text, symbol=asked, start=MONDAY, end=WEDNESDAY, fetched_at=at).bars.num_rows == 2


def test_an_answer_under_a_known_later_name_is_that_of_the_symbol() -> None:
    text, at = json.dumps(of(symbol="META")), datetime(2024, 3, 28, 22, tzinfo=UTC)
    answer = parse_chart(text, symbol="FB", start=MONDAY, end=WEDNESDAY, fetched_at=at, names={"META"})
    assert (answer.symbol, answer.bars.num_rows) == ("FB", 2)


def reasons_of(made: dict[str, Any]) -> dict[date, tuple[str | None, str | None]]:
    """What becomes of Monday to Wednesday."""
    answer = parsed(made)
    settled = settle_span(Span("TEST", (MONDAY, TUESDAY, WEDNESDAY)), answer, now=answer.fetched_at, source="yahoo")
    return {cell["date"]: (cell["reason"], cell["detail"]) for cell in settled.cells.to_pylist()}


UNREADABLE: list[dict[str, Any]] = [
    {"numerator": 2, "denominator": 0},
    {"numerator": 0, "denominator": 1},
    {"numerator": -2, "denominator": 1},
    {"numerator": float("nan"), "denominator": 1},
    {"numerator": 1e308, "denominator": 1e-308},
    {"numerator": "two", "denominator": 1},
    {"numerator": None, "denominator": 1},
    {"denominator": 1},
    {},
]


@pytest.mark.parametrize("event", UNREADABLE)
def test_a_split_that_cannot_be_read_spoils_its_session_and_those_before_it(event: dict[str, Any]) -> None:
    found = reasons_of(body([MONDAY, TUESDAY, WEDNESDAY], events=events("splits", (TUESDAY, event))))
    assert [reason for reason, _ in found.values()] == ["malformed_bar", "malformed_bar", None]
    assert "2024-03-26 has a split that cannot be" in str(found[MONDAY][1])
    assert "a split that cannot be" in str(found[TUESDAY][1])


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), -1.0, "some", None, [], {}, True])
def test_a_dividend_that_cannot_be_read_spoils_its_session_alone(amount: Any) -> None:
    paid = events("dividends", (MONDAY, {"amount": 0.5}), (TUESDAY, {"amount": amount}))
    split = events("splits", (TUESDAY, {"numerator": 2, "denominator": 1}))
    made = body([MONDAY, TUESDAY, WEDNESDAY], events={**paid, **split})
    found = reasons_of(made)
    assert [reason for reason, _ in found.values()] == [None, "malformed_bar", None]
    assert "a dividend that cannot be" in str(found[TUESDAY][1])
    settled = settle_span(Span("TEST", (MONDAY,)), parsed(made), now=datetime.now(UTC), source="yahoo")
    assert [(row["date"], row["dividend"], row["split_ratio"]) for row in settled.actions.to_pylist()] == [
        (MONDAY, 1.0, 1.0),
        (TUESDAY, 0.0, 2.0),
    ]


def test_a_dividend_in_another_currency_fails_its_session_alone() -> None:
    paid = events(
        "dividends", (MONDAY, {"amount": 0.5, "currency": "USD"}), (TUESDAY, {"amount": 1, "currency": "CAD"})
    )
    found = reasons_of(body([MONDAY, TUESDAY, WEDNESDAY], events=paid))
    assert [reason for reason, _ in found.values()] == [None, "another_currency", None]
    assert "CAD" in str(found[TUESDAY][1])


@pytest.mark.parametrize("day", [None, 0, "soon", 10**13, float("nan"), [], True])
def test_an_event_with_an_odd_date_is_of_the_day_it_comes_under(day: Any) -> None:
    event = {"date": day, "numerator": 2, "denominator": 1, "amount": 0.5}
    made = body([MONDAY, TUESDAY], events={kind: {str(stamp(TUESDAY)): event} for kind in ("splits", "dividends")})
    assert column(parsed(made), "split_ratio") == [1.0, 2.0]
    assert column(parsed(made), "dividend") == [0.0, 0.5]


@pytest.mark.parametrize("event", [{"amount": 0.5}, {"amount": 0.5, "date": "soon"}, None, "junk"])
def test_a_dividend_of_no_day_costs_no_session(event: Any) -> None:
    assert column(parsed(body([MONDAY, TUESDAY], events={"dividends": {"x": event}})), "dividend") == [0.0, 0.0]


def test_a_listing_date_that_cannot_be_read_is_not_known() -> None:
    assert parsed(of(firstTradeDate="long ago")).first_trade_date is None


@pytest.mark.parametrize("after", [[None], [None, None], [0.0]])
def test_the_live_bar_is_known_before_empty_rows_of_later_days(after: list[float | None]) -> None:
    later = [WEDNESDAY, date(2024, 3, 28)][: len(after)]
    made = body([MONDAY, TUESDAY, TUESDAY, *later])
    result = made["chart"]["result"][0]
    result["timestamp"][2] += 5 * 3600
    for values in result["indicators"]["quote"][0].values():
        values[:] = [10.0, 10.0, 11.0, *after]
    assert column(parsed(made), "close")[:2] == [10.0, 11.0]
    assert column(parsed(made), "date").count(TUESDAY) == 1


def test_an_empty_row_beside_a_bar_of_its_date_says_nothing() -> None:
    made = body([MONDAY, TUESDAY, TUESDAY], events=events("dividends", (TUESDAY, {"amount": 0.5})))
    for values in made["chart"]["result"][0]["indicators"]["quote"][0].values():
        values[1] = None
    assert [reason for reason, _ in reasons_of(made).values()] == [None, None, "missing_at_source"]
    assert column(parsed(made), "dividend") == [0.0, 0.5]


REFUSALS: dict[str, tuple[int, type[VendorError], str]] = {
    "yahoo_400_before_first_bar.json": (400, BeforeFirstBar, "missing_at_source"),
    "yahoo_404_unknown_symbol.json": (404, NotFound, "unknown_symbol"),
    "yahoo_422_range_too_old.json": (422, Rejected, "rejected"),
    "yahoo_429_edge.txt": (429, RateLimited, "rate_limited"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_each_recorded_refusal_is_its_own_error(recorded: Path, name: str) -> None:
    status, kind, reason = REFUSALS[name]
    error = parse_error(status, (recorded / "yahoo" / "errors" / name).read_text(), symbol="TEST")
    assert (type(error), error.reason) == (kind, reason)


@pytest.mark.parametrize("name", [name for name in REFUSALS if name.endswith(".json")])
def test_a_refusal_says_the_same_when_it_comes_with_status_200(recorded: Path, name: str) -> None:
    with pytest.raises(REFUSALS[name][1]):
        parsed((recorded / "yahoo" / "errors" / name).read_text())


@pytest.mark.parametrize("code", ['"Internal Server Error"', "null", "500"])
def test_an_error_of_another_kind_with_status_200_is_yahoos_trouble(code: str) -> None:
    with pytest.raises(Unavailable, match="backend is gone"):
        parsed(f'{{"chart": {{"result": null, "error": {{"code": {code}, "description": "backend is gone"}}}}}}')


def test_the_recorded_empty_window_is_an_answer_without_bars(recorded: Path) -> None:
    text = (recorded / "yahoo" / "errors" / "yahoo_200_empty_window.json").read_text()
    answer = parsed(text, symbol="MES=F")
    assert (answer.bars.num_rows, answer.first_trade_date) == (0, None)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (500, "", Unavailable),
        (503, '{"chart":{"result":null,"error":{"code":"x","description":"y"}}}', Unavailable),
        (401, "Unauthorized", Denied),
        (403, "<html>", Denied),
        (407, "", Denied),
        (
            400,
            '{"chart":{"result":null,"error":{"code":"Bad Request","description":"Invalid input"}}}',
            Rejected,
        ),
        (451, '{"chart":{"result":null,"error":{"description":"not in your country"}}}', Denied),
    ],
)
def test_other_refusals_have_their_kind(status: int, text: str, kind: type[VendorError]) -> None:
    assert type(parse_error(status, text, symbol="TEST")) is kind


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>Will be right back</html>",
        '{"finance": {"error": {"code": "Not Found"}}}',
        '{"chart": {"result": null, "error": null}}',
        '{"chart": {"result": null, "error": {"code": "Internal Server Error", "description": "down"}}}',
    ],
)
def test_a_404_without_yahoos_own_error_is_an_outage(body: str) -> None:
    assert type(parse_error(404, body, symbol="ZZZZ")) is Unavailable


def _bare_bars(stamps: list[int], **indicators: Any) -> pa.Table:
    """What is read of an answer that holds two bars and nothing that can be done without."""
    quote = {name: [1.0, 2.0] for name in ("open", "high", "low", "close", "volume")}
    bare = {"meta": {}, "timestamp": stamps, "indicators": {"quote": [quote], **indicators}}
    text = json.dumps({"chart": {"result": [bare], "error": None}})
    fetched_at = datetime(2024, 1, 5, tzinfo=UTC)
    return parse_chart(text, symbol="AAPL", start=date(2024, 1, 2), end=date(2024, 1, 5), fetched_at=fetched_at).bars


@pytest.mark.parametrize("hour", [0, 14])
def test_what_the_stored_bars_do_not_need_may_be_missing_and_midnight_utc_is_that_date(hour: int) -> None:
    stamps = [int(datetime(2024, 1, day, hour, tzinfo=UTC).timestamp()) for day in (2, 3)]
    for adjclose in ([{}], None, [{"adjclose": None}]):
        bars = _bare_bars(stamps, adjclose=adjclose)
        assert bars.column("date").to_pylist() == [date(2024, 1, 2), date(2024, 1, 3)]
        assert bars.column("adj_close").null_count == 2


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.integers(-(10**11), 10**11)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["America", "..", "1d", "US/Pacific", "4:1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _places(inner: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """The way to every value of some JSON."""
    if path:
        yield path
    if isinstance(inner, dict | list):
        for step in inner if isinstance(inner, dict) else range(len(inner)):
            yield from _places(inner[step], *path, step)


@given(st.data(), JUNK)
def test_whatever_yahoo_sends_is_read_or_refused_and_breaks_nothing(data: st.DataObject, junk: Any) -> None:
    made = body(
        [MONDAY, TUESDAY, WEDNESDAY],
        events={
            **events("dividends", (TUESDAY, {"amount": 0.2})),
            **events("splits", (TUESDAY, {"numerator": 4, "denominator": 1})),
        },
    )
    path = data.draw(st.sampled_from(list(_places(made))))
    inner: Any = made
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = junk
    try:
        answer = parsed(made)
    except VendorError:
        return
    span = Span("TEST", (MONDAY, TUESDAY, WEDNESDAY))
    settled = settle_span(span, answer, now=answer.fetched_at, source="yahoo")
    assert settled.cells.num_rows == 3
    ASKED.validated(settled.cells)
    BARS.validated(settled.rows)
    ACTIONS.validated(settled.actions)
