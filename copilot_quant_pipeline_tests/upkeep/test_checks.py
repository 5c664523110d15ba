"""Claims about the asset checks: real check runs on a real warehouse, at instants that a test names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.grid.axes import MARKET, SYMBOL
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.freshness import POLICIES, session_due
from copilot_quant_pipeline.warehouse.catalog import record_markets
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS, MARKETS, MEMBERS, PRICES
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline.warehouse.warnings import WarningChoice, acknowledge
from copilot_quant_pipeline_tests.warehouse.world import bar, bars, cell, cells

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
# A Thursday before Good Friday: the session of the 28th closes at 20:00 UTC, the next one opens on Monday, April 1st.
WEDNESDAY, THURSDAY = date(2024, 3, 27), date(2024, 3, 28)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass
class Observatory:
    """A home whose checks are run at any instant."""

    settings: Settings
    instance: dg.DagsterInstance

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse_path)

    def check(self, name: str, now: datetime, asset: str | None = None) -> dg.AssetCheckEvaluation:
        """The evaluation of one check, by a run of nothing but it."""
        job = build_definitions(replace(self.settings, pinned_now=now)).resolve_implicit_global_asset_job_def()
        known = job.asset_layer.asset_graph.asset_check_keys
        chosen = {key for key in known if key.name == name and asset in (None, key.asset_key.to_user_string())}
        result = job.get_subset(asset_selection=set(), asset_check_selection=chosen).execute_in_process(
            instance=self.instance
        )
        (evaluation,) = result.get_asset_check_evaluations()
        assert not result.get_asset_materialization_events()
        return evaluation

    def follow(self, *symbols: str) -> None:
        self.instance.add_dynamic_partitions(SYMBOL, list(symbols))

    def settle(self, day: date, symbols: Sequence[str], **more: Any) -> None:
        asked = cells(*(cell(day, symbol, **more) for symbol in symbols))
        empty = more.get("reason") or more.get("outcome") == "failed"
        rows = bars() if empty else bars(*(bar(day, symbol) for symbol in symbols))
        self.warehouse.settle(BARS, asked, rows, run_id=f"{day}")

    def store(self, *given: dict[str, Any], actions: Sequence[dict[str, Any]] = ()) -> None:
        asked = cells(*(cell(row["date"], row["symbol"]) for row in given))
        told = pa.Table.from_pylist(
            [
                {"source": "x", "first_seen_at": at("2024-03-28"), "dividend": 0.0, "split_ratio": 1.0, **a}
                for a in actions
            ],
            ACTIONS.arrow,
        )
        self.warehouse.settle(BARS, asked, bars(*given), run_id="run", actions=told)

    def members(self, symbols: Sequence[str], read_at: datetime) -> None:
        rows = [
            {"symbol": s, "name": s, "sector": "x", "member_from": None, "member_to": None, "source": "x"}
            for s in symbols
        ]
        self.warehouse.replace(
            MEMBERS,
            pa.Table.from_pylist([{**r, "read_at": read_at, "first_seen_at": read_at} for r in rows], MEMBERS.arrow),
        )

    def market(self, key: str, *, follow: bool = True, **more: Any) -> None:
        venue, _, slug = key.partition(":")
        row = {
            "market": key,
            "venue": venue,
            "id": slug,
            "slug": slug,
            "title": slug,
            "source": venue,
            "status": "open",
            "opened_at": at("2024-01-01"),
            "closes_at": at("2025-01-01"),
            "facts": "{}",
            "outcomes": '[["Yes", ""], ["No", ""]]',
            "listed_at": at("2024-03-01"),
            "first_seen_at": at("2024-03-01"),
            "last_seen_at": at("2024-03-01"),
            **more,
        }
        record_markets(self.warehouse, pa.Table.from_pylist([row], MARKETS.arrow))
        if follow:
            self.instance.add_dynamic_partitions(MARKET, [key])

    def quote(self, key: str, instant: datetime, asked_at: datetime | None = None) -> None:
        day = instant.date()
        point = {
            "date": day,
            "market": key,
            "outcome": "Yes",
            "stamped_at": instant,
            "price_kind": "trade",
            "source": "x",
        }
        rows = pa.Table.from_pylist([{**point, "first_seen_at": instant}], PRICES.arrow)
        asked = cells({**cell(day, key), "fetched_at": asked_at or instant})
        self.warehouse.settle(PRICES, asked, rows, run_id=f"{instant}")


@pytest.fixture
def observatory(unused: Settings) -> Iterator[Observatory]:
    with open_instance(unused.dagster_home, capture_output=False) as instance:
        yield Observatory(unused, instance)


def said(evaluation: dg.AssetCheckEvaluation) -> tuple[bool, dg.AssetCheckSeverity]:
    return evaluation.passed, evaluation.severity


def numbers(evaluation: dg.AssetCheckEvaluation) -> Mapping[str, Any]:
    return {name: value.value for name, value in evaluation.metadata.items()}


def test_a_session_is_due_twelve_hours_after_its_close(observatory: Observatory) -> None:
    observatory.follow("AAPL", "MSFT")
    observatory.settle(WEDNESDAY, ["AAPL", "MSFT"])
    before = observatory.check("equities_fresh", at("2024-03-29 07:59"))
    assert before.passed
    assert numbers(before)["session"] == "2024-03-27"
    after = observatory.check("equities_fresh", at("2024-03-29 08:01"))
    assert said(after) == (False, ERROR)
    assert after.description == (
        "0 of 2 symbols on the axis are settled for Thursday 2024-03-28, the session due by now."
    )
    assert "AAPL: not asked for" in numbers(after)["first"]


@pytest.mark.parametrize(
    ("now", "session"),
    [
        ("2024-03-30 12:00", "2024-03-28"),  # Good Friday is no session
        ("2024-04-02 07:30", "2024-03-28"),  # nor is the weekend; Monday's close is 11.5 hours ago
        ("2024-04-02 08:30", "2024-04-01"),
        ("2024-07-04 04:59", "2024-07-02"),  # a half-day closes at 17:00 UTC
        ("2024-07-04 05:01", "2024-07-03"),
        ("2024-07-05 20:00", "2024-07-03"),  # and a holiday follows
        ("2024-11-02 08:01", "2024-11-01"),  # the clocks change on the 3rd
        ("2024-11-05 08:59", "2024-11-01"),
        ("2024-11-05 09:01", "2024-11-04"),
    ],
)
def test_which_session_is_due_over_weekends_holidays_half_days_and_clock_changes(
    settings: Settings, now: str, session: str
) -> None:
    assert session_due(at(now), settings) == date.fromisoformat(session)


def test_over_a_holiday_weekend_the_session_before_it_is_fresh(observatory: Observatory) -> None:
    observatory.follow("AAPL")
    observatory.settle(THURSDAY, ["AAPL"])
    for now in ("2024-03-29 14:00", "2024-03-31 14:00", "2024-04-02 07:30"):
        assert observatory.check("equities_fresh", at(now)).passed
    assert not observatory.check("equities_fresh", at("2024-04-02 08:30")).passed


def test_one_member_in_a_hundred_may_be_missing_and_a_delisted_one_is_not(observatory: Observatory) -> None:
    members = [f"S{number:03d}" for number in range(200)]
    observatory.members(members, at("2024-03-28"))
    observatory.follow("NOT.A.MEMBER", *members)
    observatory.settle(THURSDAY, members[:197])
    observatory.settle(THURSDAY, members[197:198], reason="delisted")
    assert observatory.check("equities_fresh", at("2024-03-30 12:00")).passed
    observatory.settle(THURSDAY, members[:1], outcome="failed", reason="unavailable")
    late = observatory.check("equities_fresh", at("2024-03-30 12:00"))
    assert not late.passed
    assert numbers(late)["not settled"] == 3
    assert "S000: unavailable" in numbers(late)["first"]


def test_nothing_is_stale_before_anybody_is_followed(observatory: Observatory) -> None:
    assert observatory.check("equities_fresh", at("2024-03-30 12:00")).passed
    assert observatory.check("markets_fresh_kalshi", at("2024-03-30 12:00")).passed
    assert observatory.check("grid_complete", at("2024-03-30 12:00"), "coverage_report").passed


def test_one_venue_is_stale_while_the_other_is_fresh(observatory: Observatory) -> None:
    now = at("2024-03-29 14:00")
    for key, age in (("polymarket:a", 9), ("polymarket:b", 30), ("kalshi:c", 8), ("kalshi:d", 40)):
        observatory.market(key)
        observatory.quote(key, now - timedelta(hours=age))
    stale = observatory.check("markets_fresh_polymarket", now)
    assert said(stale) == (False, ERROR)
    assert stale.description == "The newest price of polymarket's 2 open markets is 9.0 hours old."
    assert "polymarket:b: 2024-03-28 08:00 UTC" in numbers(stale)["first"]
    fresh = observatory.check("markets_fresh_kalshi", now)
    assert fresh.passed
    assert numbers(fresh)["without a point in 8 hours"] == 1


def test_a_venue_that_tells_of_trades_only_and_has_answered_is_quiet_not_broken(observatory: Observatory) -> None:
    now = at("2024-03-29 14:00")
    observatory.market("kalshi:c")
    observatory.quote("kalshi:c", now - timedelta(hours=10), asked_at=now - timedelta(hours=2))
    assert said(observatory.check("markets_fresh_kalshi", now)) == (False, WARN)
    assert said(observatory.check("markets_fresh_kalshi", now + timedelta(hours=7))) == (False, ERROR)


def test_markets_that_closed_or_are_not_followed_make_no_venue_stale(observatory: Observatory) -> None:
    now = at("2024-03-29 14:00")
    observatory.market("kalshi:closed", status="closed")
    observatory.market("kalshi:over", closes_at=now - timedelta(hours=1))
    observatory.market("kalshi:unopened", opened_at=now + timedelta(hours=1))
    observatory.market("kalshi:unfollowed", follow=False)
    assert observatory.check("markets_fresh_kalshi", now).passed
    observatory.market("kalshi:open")
    never = observatory.check("markets_fresh_kalshi", now)
    assert said(never) == (False, ERROR)
    assert "none was ever stored" in (never.description or "")


def test_there_is_a_check_for_each_followed_venue_and_for_no_other(settings: Settings) -> None:
    followed = replace(settings, markets_venues=("manifold",), markets_ids=("kalshi:x",))
    graph = build_definitions(followed).resolve_asset_graph()
    names = {key.name for key in graph.asset_check_keys if key.name.startswith("markets_fresh")}
    assert names == {"markets_fresh_manifold", "markets_fresh_kalshi"}


def test_a_list_older_than_eight_days_is_stale(observatory: Observatory) -> None:
    assert said(observatory.check("universe_fresh", at("2024-03-29 14:00"))) == (False, WARN)
    observatory.members(["AAPL"], at("2024-03-21 14:00"))
    assert observatory.check("universe_fresh", at("2024-03-29 14:00")).passed
    assert said(observatory.check("universe_fresh", at("2024-03-29 14:01"))) == (False, ERROR)


def test_a_blank_cell_is_told_once_it_is_three_days_old(observatory: Observatory) -> None:
    observatory.follow("AAPL", "MSFT")
    for day in sessions_in_range(date(2024, 3, 18), date(2024, 3, 22)):
        observatory.settle(day, ["AAPL"])
    observatory.settle(date(2024, 3, 25), ["AAPL"], outcome="failed", reason="unavailable")  # red is not blank
    # Tuesday the 26th ends at midnight; three days later it is the 30th.
    assert observatory.check("grid_complete", at("2024-03-30 03:59"), "coverage_report").passed
    blank = observatory.check("grid_complete", at("2024-03-30 04:01"), "coverage_report")
    assert said(blank) == (False, ERROR)
    assert numbers(blank) == {"blank": 1, "first": "- 2024-03-26 AAPL"}
    observatory.settle(date(2024, 3, 26), ["AAPL"])
    # Over the holiday and the weekend nothing becomes blank but the sessions of Wednesday and Thursday.
    assert numbers(observatory.check("grid_complete", at("2024-04-02 12:00"), "coverage_report"))["blank"] == 2


def test_a_market_has_no_blank_cells_outside_its_life_nor_off_the_axis(observatory: Observatory) -> None:
    observatory.market("kalshi:ended", status="resolved", closes_at=at("2024-03-20 12:00"))
    observatory.market("kalshi:open")
    observatory.market("kalshi:gone", follow=False)
    for key in ("kalshi:ended", "kalshi:open", "kalshi:gone"):
        observatory.quote(key, at("2024-03-19 12:00"))
    blank = observatory.check("grid_complete", at("2024-03-24 12:00"), "prediction_market_daily")
    assert numbers(blank) == {"blank": 2, "first": "- 2024-03-20 kalshi:ended\n- 2024-03-20 kalshi:open"}


def test_an_impossible_bar_is_an_error_and_a_refused_one_a_warning(observatory: Observatory) -> None:
    now = at("2024-03-29 14:00")
    observatory.store(bar(WEDNESDAY, "AAPL", quality="ohlc_inconsistent", high=50.0))
    marked = observatory.check("no_malformed_bars", now)
    assert marked.passed
    assert numbers(marked)["marked inconsistent"] == 1
    observatory.settle(THURSDAY, ["AAPL"], outcome="failed", reason="malformed_bar", detail="close=-1.0")
    refused = observatory.check("no_malformed_bars", now)
    assert said(refused) == (False, WARN)
    assert "2024-03-28 AAPL: close=-1.0" in numbers(refused)["first"]
    observatory.store(bar(THURSDAY, "MSFT", high=50.0), bar(date(2024, 3, 29), "MSFT"))
    impossible = observatory.check("no_malformed_bars", now)
    assert said(impossible) == (False, ERROR)
    assert numbers(impossible)["stored bars that cannot be"] == 2
    assert "2024-03-29 MSFT: is no session" in numbers(impossible)["first"]


CONSISTENT = "splits_and_dividends_consistent"


def test_a_split_with_its_jump_and_a_dividend_that_was_told_are_consistent(observatory: Observatory) -> None:
    observatory.store(
        bar(WEDNESDAY, "NVDA", 1000.0),
        bar(THURSDAY, "NVDA", 103.0, split_ratio=10.0, dividend=0.1),
        bar(WEDNESDAY, "SPIN", 100.0),
        bar(THURSDAY, "SPIN", 100.0, split_ratio=1.061),  # a spin-off's few percent are lost in a day's move
        actions=[
            {"symbol": "NVDA", "date": THURSDAY, "split_ratio": 10.0, "dividend": 0.100001},
            {"symbol": "SPIN", "date": THURSDAY, "split_ratio": 1.061},
            {"symbol": "NVDA", "date": date(2024, 1, 5), "dividend": 0.1},  # of a session without a bar
        ],
    )
    evaluation = observatory.check(CONSISTENT, at("2024-03-29 14:00"))
    assert said(evaluation) == (True, WARN)
    assert evaluation.description == "Nothing is wrong."


@pytest.mark.parametrize("opened", [1000.0, 10.0])
def test_a_split_without_its_jump_or_counted_twice_is_doubtful(observatory: Observatory, opened: float) -> None:
    observatory.store(
        bar(WEDNESDAY, "NVDA", 1000.0),
        bar(THURSDAY, "NVDA", opened, split_ratio=10.0),
        actions=[{"symbol": "NVDA", "date": THURSDAY, "split_ratio": 10.0}],
    )
    evaluation = observatory.check(CONSISTENT, at("2024-03-29 14:00"))
    assert said(evaluation) == (False, WARN)
    assert numbers(evaluation)["splits without a jump in price"] == 1


def test_a_jump_without_a_split_is_doubtful_until_a_person_says_that_it_is_right(observatory: Observatory) -> None:
    observatory.store(bar(WEDNESDAY, "NVDA", 1000.0), bar(THURSDAY, "NVDA", 100.0))
    old = observatory.check(CONSISTENT, at("2025-03-29 14:00"))
    assert said(old) == (False, WARN)
    assert old.description == "Found 1 jumps in price without a split."
    assert "2024-03-28 NVDA: the price went from 1000.0 to 100.0" in numbers(old)["first"]
    acknowledge(observatory.warehouse, WarningChoice(ids=["jump:NVDA:2024-03-28"]), now=at("2025-03-29 15:00"))
    assert observatory.check(CONSISTENT, at("2025-03-29 16:00")).passed


def test_a_bar_that_contradicts_what_was_told_is_an_error_once_it_is_final(observatory: Observatory) -> None:
    told = [{"symbol": "AAPL", "date": WEDNESDAY, "dividend": 0.25}]
    observatory.store(bar(WEDNESDAY, "AAPL", confirmed_at=None), actions=told)
    assert observatory.check(CONSISTENT, at("2024-03-29 14:00")).passed
    # A settle would have the bar say what is known of its action.
    with observatory.warehouse.transaction() as connection:
        connection.execute("update equities.bars set dividend = 0, confirmed_at = '2024-03-29 12:00:00+00'")
    wrong = observatory.check(CONSISTENT, at("2024-03-29 14:00"))
    assert said(wrong) == (False, ERROR)
    assert "2024-03-27 AAPL: bar: dividend 0.0, split 1.0; told: dividend 0.25, split 1.0" in numbers(wrong)["first"]


def test_a_dividend_above_the_price_spoils_the_adjusted_prices(observatory: Observatory) -> None:
    observatory.store(
        bar(WEDNESDAY, "AAPL", 10.0),
        bar(THURSDAY, "AAPL", 10.0, dividend=12.0),
        actions=[{"symbol": "AAPL", "date": THURSDAY, "dividend": 12.0}],
    )
    wrong = observatory.check(CONSISTENT, at("2024-03-29 14:00"))
    assert said(wrong) == (False, ERROR)
    assert numbers(wrong)["adjusted prices that cannot be"] == 1


def test_no_weekend_with_its_holidays_outlasts_the_policy_of_the_bars(settings: Settings) -> None:
    graph = build_definitions(settings).resolve_asset_graph()
    for name, policy in POLICIES.items():
        assert graph.get(dg.AssetKey(name)).freshness_policy == policy
    window = POLICIES["equity_bars"]
    assert isinstance(window, dg.FreshnessPolicy)
    # A session is read on the next morning; the hour is for the clock change.
    mornings = [day + timedelta(days=1) for day in sessions_in_range(date(2013, 1, 2), date(2027, 12, 31))]
    longest = max(later - earlier for earlier, later in zip(mornings, mornings[1:], strict=False))
    assert longest + timedelta(hours=2) < window.fail_window.to_timedelta()  # type: ignore[attr-defined]
