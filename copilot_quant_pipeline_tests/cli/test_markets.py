"""Claims about `copilot-quant backfill|update markets`: every venue, through the wire, the grid and the file."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from tenacity import wait_none

from copilot_quant_pipeline.grid.axes import MARKET
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.prediction_markets.checks import CHECKS, BrokenRows, broken_rows
from copilot_quant_pipeline.prediction_markets.registry import venue_names
from copilot_quant_pipeline.retry_policy import RetryPolicy
from copilot_quant_pipeline.sandbox.markets import SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline.sandbox.polymarket_book import SimulatedPolymarket
from copilot_quant_pipeline_tests.cli.conftest import Desk
from copilot_quant_pipeline_tests.conftest import NOW

BACKFILL = ("backfill", "markets", "--start", "2024-03-20")
# The open markets of each venue, the largest first.
LARGEST = {
    venue: sorted(
        (one for one in SimulatedMarkets().listed(venue, NOW) if one.status_at(NOW) == "open"),
        key=lambda one: -one.volume_at(NOW),
    )
    for venue in ("kalshi", "polymarket")
}


def name_of(market: SimulatedMarket) -> str:
    """What its venue's faults know it by, and its key."""
    return market.ticker if market.venue == "kalshi" else market.slug


def _venues(desk: Desk) -> set[str]:
    answer = desk.warehouse.read("select distinct split_part(market, ':', 1) as venue from prediction_markets.prices")
    return set(answer.column("venue").to_pylist())


def test_a_backfill_settles_the_largest_markets_of_each_venue(desk: Desk) -> None:
    said = desk.run(*BACKFILL, "--limit", "3", "--json")
    answer = json.loads(said.out)
    assert said.code == 0, said
    assert answer["settled"] == answer["asked"] == 6 * 10
    assert _venues(desk) == {"kalshi", "polymarket"}


def test_a_second_backfill_asks_no_prices(desk: Desk) -> None:
    desk.run(*BACKFILL, "--limit", "2", "--end", "2024-03-28")
    desk.venues.reset_requests()
    said = desk.run(*BACKFILL, "--limit", "2", "--end", "2024-03-28", "--json")
    assert json.loads(said.out)["requests"] == 0


@pytest.mark.parametrize("venue", sorted(set(venue_names()) - {"predictit"}))
def test_every_venue_settles_and_its_prices_hold_what_must_hold(desk: Desk, venue: str) -> None:
    said = desk.run(*BACKFILL, "--venue", venue, "--limit", "4")
    assert said.code == 0, said
    assert _venues(desk) == {venue}
    assert broken_rows(desk.warehouse) == [BrokenRows()] * len(CHECKS)


def test_predictits_history_begins_when_it_is_first_asked_and_grows(desk: Desk) -> None:
    said = desk.run(*BACKFILL, "--venue", "predictit", "--limit", "2")
    assert said.code == 0, said
    reasons = "select distinct date, reason from ops.coverage order by date"
    cells = {row["date"]: row["reason"] for row in desk.warehouse.read(reasons).to_pylist()}
    assert set(cells) == {date(2024, 3, day) for day in range(20, 30)}
    assert {reason for day, reason in cells.items() if day < date(2024, 3, 29)} == {"no_history"}
    assert cells[date(2024, 3, 29)] is None
    count = "select count(distinct stamped_at) as n from prediction_markets.prices"
    assert desk.warehouse.read(count).to_pylist() == [{"n": 1}]
    desk.set({"COPILOT_QUANT_NOW": "2024-03-29T18:00:00+00:00"})
    assert desk.run("update", "markets", "--venue", "predictit", "--limit", "2").code == 0
    assert desk.warehouse.read(count).to_pylist() == [{"n": 2}]


def test_a_venue_that_is_down_does_not_stop_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RetryPolicy, "wait", wait_none())
    desk.run(*BACKFILL, "--limit", "2", "--end", "2024-03-22")
    desk.venues.fault("server_error", venue="kalshi")
    said = desk.run(*BACKFILL, "--limit", "2", "--end", "2024-03-23")
    assert said.code == 1
    assert "kalshi" in said.err
    red = (
        desk.warehouse.read("select distinct key from ops.coverage where outcome = 'failed'").column("key").to_pylist()
    )
    assert red
    assert all(key.startswith("kalshi:") for key in red)


def test_today_is_provisional_and_read_again(desk: Desk) -> None:
    desk.set({"COPILOT_QUANT_NOW": "2024-03-28T06:00:00+00:00"})
    desk.venues.pin_clock(desk.settings.now().replace(day=28, hour=6))
    command = ("update", "markets", "--venue", "polymarket", "--limit", "1")
    assert desk.run(*command).code == 0
    query = "select count(*) as n, max(stamped_at) as newest from prediction_markets.prices where date = '2024-03-28'"
    (early,) = desk.warehouse.read(query).to_pylist()
    desk.set({"COPILOT_QUANT_NOW": "2024-03-29T14:00:00+00:00"})
    desk.venues.pin_clock(desk.settings.now())
    assert desk.run(*command).code == 0
    (later,) = desk.warehouse.read(query).to_pylist()
    assert later["n"] > early["n"]
    assert later["newest"] > early["newest"]


@pytest.mark.parametrize(
    "command",
    [
        ("update", "markets"),
        ("heal",),
        ("backfill", "markets", "--venue", "kalshi", "--limit", "1", "--start", "2024-03-28", "--end", "2024-03-28"),
    ],
)
def test_a_day_read_before_it_was_over_is_read_to_its_end_however_much_later(
    desk: Desk, command: tuple[str, ...]
) -> None:
    _expect_read_to_its_end(desk, "2024-03-28T18:45:00+00:00", "2024-04-02T14:00:00+00:00", command)


def test_an_answer_kept_from_before_midnight_does_not_serve_the_day_that_has_ended_since(desk: Desk) -> None:
    _expect_read_to_its_end(desk, "2024-03-28T23:40:00+00:00", "2024-03-29T00:20:00+00:00", ("heal",))


def _expect_read_to_its_end(desk: Desk, early: str, late: str, command: tuple[str, ...]) -> None:
    """The 28th, of which one update at `early` has read what there was, holds its last price after `command`."""
    for now, asked in ((early, ("update", "markets", "--venue", "kalshi", "--limit", "1")), (late, command)):
        _at(desk, now)
        assert desk.run(*asked).code == 0
    query = "select max(stamped_at) as newest from prediction_markets.prices where date = '2024-03-28'"
    assert desk.warehouse.read(query).to_pylist() == [{"newest": datetime(2024, 3, 29, tzinfo=UTC)}]


def test_a_market_is_named_by_venue_and_id_and_an_unknown_one_is_red(desk: Desk) -> None:
    said = desk.run(*BACKFILL, "--market-ids", "kalshi:NOPE")
    assert said.code == 1
    assert "kalshi:NOPE: unknown_market" in said.out
    assert "check the id" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--venue", "nope"), ("not known", "kalshi")),
        (("--category", "nope"), ("category nope", "categories known")),
        (("--venue", "kalshi", "--market-ids", "polymarket:foo"), ("market of polymarket",)),
        (("--market-ids", "odd|slug"), ("no market id",)),
        (("--market-ids", " , "), ("--market-ids", "names nothing")),
        (("--venue", ""), ("--venue", "names nothing")),
        (("--category", ""), ("--category", "names nothing")),
        (("--market-ids", "polymarket:two words"), ("no market id", "kalshi:KXFED-24NOV-T4.75")),
        (("--market-ids", "polymarket:a[0]"), ("no market id",)),
        (("--market-ids", "polymarket:a\tb\x07"), ("no market id",)),
        (("--market-ids", "polymarket:,"), ("no market id",)),
        (("--market-ids", "polymarket:one,two"), ("'two' is no market id",)),
        (("--start", "2024-03-28", "--end", "2024-03-01"), ("swap",)),
        (("--start", "2020-01-01"), ("COPILOT_QUANT_MARKETS_START",)),
        (("--end", "2030-01-01"), ("has not come",)),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_write(
    desk: Desk, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    said = desk.run("backfill", "markets", *arguments)
    assert said.code == 2, said
    lines = [line for line in said.err.splitlines() if line.startswith("copilot-quant:")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]


def test_odd_slugs_that_a_key_can_hold_are_unknown_get_no_cells_and_cost_no_other(desk: Desk) -> None:
    odd = [
        'polymarket:"quoted"\'s',
        "polymarket:ünï-ço∂e",
        "polymarket:a/../b?c#d%2F&e",
        "kalshi:../events",
        "kalshi:0x",
    ]
    known = f"kalshi:{LARGEST['kalshi'][0].ticker}"
    said = desk.run(*BACKFILL, "--start", "2024-03-28", "--market-ids", ",".join([*odd, known]), "--json")
    assert said.code == 1
    assert {key: reason for _, key, reason, _ in json.loads(said.out)["failed"]} == dict.fromkeys(odd, "unknown_market")
    cells = desk.warehouse.read("select distinct key, reason from ops.coverage").to_pylist()
    assert cells == [{"key": known, "reason": None}]
    assert _on_axis(desk) == [known]


def test_values_that_cannot_be_are_a_reason_on_their_cells_and_no_others(desk: Desk) -> None:
    spoiled = {}
    for venue, fault, how in (
        ("polymarket", "polymarket_bad_point", {"above_one": "1.07", "nan": "NaN", "milliseconds": "milliseconds"}),
        ("kalshi", "kalshi_bad_candle", {"outside": "1.29", "nan": "NaN", "milliseconds": "unix seconds"}),
    ):
        for market, (kind, word) in zip(LARGEST[venue], how.items(), strict=False):
            desk.venues.fault(fault, symbol=name_of(market), how=kind)
            spoiled[f"{venue}:{name_of(market)}"] = word
    said = desk.run("backfill", "markets", "--start", "2024-03-28", "--limit", "4")
    assert said.code == 1
    cells = desk.warehouse.read("select * from ops.coverage").to_pylist()
    failed = [row for row in cells if row["outcome"] == "failed"]
    assert {row["key"] for row in failed} == set(spoiled)
    for row in failed:
        assert row["reason"] == "malformed_response"
        assert spoiled[row["key"]] in row["detail"]
    # One bad value is its own day's.
    assert set(Counter(row["key"] for row in failed).values()) == {1}
    assert len({row["key"] for row in cells}) == 8


def test_a_page_with_a_broken_market_stores_the_others_and_names_it(desk: Desk) -> None:
    broken = {venue: name_of(markets[0]) for venue, markets in LARGEST.items()}
    for venue, name in broken.items():
        desk.venues.fault(f"{venue}_broken_market", symbol=name)
    said = desk.run("backfill", "markets", "--start", "2024-03-29", "--limit", "3")
    assert said.code == 0
    stored = desk.warehouse.read("select slug from prediction_markets.markets").column("slug").to_pylist()
    assert not set(stored) & set(broken.values())
    assert len(stored) >= 6
    assert LARGEST["polymarket"][0].id in said.err
    assert broken["kalshi"] in said.err


def test_a_venue_that_lacks_its_setting_is_one_clear_line_and_stops_no_other(desk: Desk) -> None:
    desk.set({"COPILOT_QUANT_SOURCE": "live"})
    said = desk.run(*BACKFILL, "--venue", "metaculus,kalshi", "--limit", "2")
    assert said.code == 0
    (line,) = [line for line in said.err.splitlines() if "WARNING" in line]
    assert "COPILOT_QUANT_METACULUS_TOKEN" in line
    assert _venues(desk) == {"kalshi"}
    alone = desk.run(*BACKFILL, "--venue", "metaculus")
    assert (alone.code, "COPILOT_QUANT_METACULUS_TOKEN" in alone.err) == (2, True)
    desk.set({"COPILOT_QUANT_MARKETS_VENUES": "metaculus,kalshi"})
    named = desk.run(*BACKFILL, "--market-ids", f"metaculus:1,kalshi:{LARGEST['kalshi'][0].ticker}", "--json")
    assert {(key, reason) for _, key, reason, _ in json.loads(named.out)["failed"]} == {("metaculus:1", "unavailable")}


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_a_cursor_that_loops_is_one_clear_line_and_what_came_is_kept(desk: Desk, venue: str) -> None:
    desk.venues.fault(f"{venue}_cursor_loop")
    said = desk.run("backfill", "markets", "--start", "2024-03-29", "--venue", venue, "--limit", "250")
    (line,) = [line for line in said.err.splitlines() if "circle" in line]
    assert "incomplete" in line
    assert "came twice" in line
    assert _venues(desk) == {venue}


def test_a_venue_that_is_down_on_a_fresh_home_is_one_line_and_no_wrong_usage(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPolicy, "wait", wait_none())
    desk.venues.fault("server_error", venue="kalshi")
    said = desk.run(*BACKFILL, "--venue", "kalshi", "--category", "politics")
    assert (said.code, said.err.count("\n"), "Traceback" in said.err) == (1, 1, False), said
    assert "no market can be chosen, for kalshi: unavailable" in said.err


def test_a_word_for_a_category_means_the_same_at_both_venues(desk: Desk) -> None:
    said = desk.run("backfill", "markets", "--start", "2024-03-29", "--category", "economics", "--limit", "1")
    assert said.code == 0, said
    assert _venues(desk) == {"kalshi", "polymarket"}


def test_the_largest_are_those_of_this_listing_and_none_that_has_ended(desk: Desk) -> None:
    day = ("backfill", "markets", "--start", "2024-03-29", "--json")
    ended = next(one for one in SimulatedMarkets().listed("polymarket", NOW) if one.status_at(NOW) == "resolved")
    desk.run(*day, "--market-ids", f"polymarket:{ended.slug}")
    with desk.warehouse.transaction() as connection:  # one that was seen open once, and has ended unseen
        connection.execute(
            "insert into prediction_markets.markets by name select * replace ('polymarket:stale' as market,"
            " 'stale' as id, 'stale' as slug, 'open' as status, 1e9 as volume) from prediction_markets.markets"
        )
    desk.run(*day, "--venue", "polymarket", "--limit", "1")
    keys = desk.warehouse.read("select distinct key from ops.coverage").column("key").to_pylist()
    assert set(keys) == {f"polymarket:{ended.slug}", f"polymarket:{LARGEST['polymarket'][0].slug}"}


def test_every_name_of_a_new_market_leads_to_its_one_key(desk: Desk) -> None:
    market = LARGEST["polymarket"][0]
    records = SimulatedPolymarket(7).records(NOW)
    condition = next(one["conditionId"] for one in records if one["id"] == market.id)
    day = ("backfill", "markets", "--start", "2024-03-29", "--json", "--market-ids")
    said = desk.run(*day, f"polymarket:{market.id},polymarket:{condition},polymarket:nonesuch")
    assert (said.code, json.loads(said.out)["asked"], json.loads(said.out)["settled"]) == (1, 2, 1)
    assert desk.warehouse.read("select market from prediction_markets.markets").column("market").to_pylist() == [
        f"polymarket:{market.slug}"
    ]


def test_a_broken_record_is_not_told_as_an_unknown_market(desk: Desk) -> None:
    slug = LARGEST["polymarket"][0].slug
    desk.venues.fault("polymarket_broken_market", symbol=slug)
    said = desk.run("backfill", "markets", "--start", "2024-03-29", "--market-ids", f"polymarket:{slug}")
    assert said.code == 1
    assert f"polymarket {slug} is broken" in said.err
    assert "knows no market" not in said.err + said.out


def test_a_market_under_a_second_key_is_red_and_told_its_first(desk: Desk) -> None:
    from copilot_quant_pipeline.grid.cells import Cell, Rectangle
    from copilot_quant_pipeline.prediction_markets.sources import MarketSources

    market = LARGEST["polymarket"][0]
    keys = (f"polymarket:{market.slug}", f"polymarket:{market.id}")  # as somebody may put them on the axis in Dagit
    asked = Rectangle((date(2024, 3, 28),), keys)
    harvest = MarketSources.reached_by(desk.settings).harvest_prices(asked, refresh=False, backfill=None)
    cells = {Cell(row["date"], row["key"]): row for row in harvest.cells.to_pylist()}
    assert [cells[cell]["outcome"] for cell in asked] == ["settled", "failed"]
    assert keys[0] in cells[Cell(date(2024, 3, 28), keys[1])]["detail"]


def _changes(desk: Desk, key: str) -> list[str]:
    history = "select status from prediction_markets.market_changes where market = $key order by seen_at"
    statuses: list[str] = desk.warehouse.read(history, {"key": key}).column("status").to_pylist()
    return statuses


def _at(desk: Desk, now: str) -> None:
    desk.set({"COPILOT_QUANT_NOW": now})
    desk.venues.pin_clock(datetime.fromisoformat(now))


@pytest.mark.parametrize("venue", ["kalshi", "polymarket"])
def test_a_market_its_venue_deletes_is_told_once_and_keeps_what_is_stored(desk: Desk, venue: str) -> None:
    desk.set({"COPILOT_QUANT_MARKETS_VENUES": venue, "COPILOT_QUANT_MARKETS_TOP": "2"})
    market = LARGEST[venue][0]
    key = f"{venue}:{name_of(market)}"
    desk.run("backfill", "markets", "--start", "2024-03-27")
    stored = "select * from prediction_markets.prices where market = $key order by all"
    before = desk.warehouse.read(stored, {"key": key})
    for fault in {"kalshi": ["kalshi_gone"], "polymarket": ["polymarket_deleted", "polymarket_no_history"]}[venue]:
        desk.venues.fault(fault, symbol=name_of(market))
    _at(desk, "2024-03-29T20:00:00+00:00")
    first = desk.run("update", "markets")
    _at(desk, "2024-03-31T20:00:00+00:00")
    later = desk.run("update", "markets")
    assert (first.code, later.code) == (0, 0), (first, later)
    assert (f"{key} is gone" in first.err, key in later.err) == (True, False)
    assert _changes(desk, key) == ["open", "gone"]
    assert desk.warehouse.read(stored, {"key": key}).equals(before)
    reasons = "select date, reason from ops.coverage where key = $key and outcome = 'settled' order by date"
    cells = {row["date"].day: row["reason"] for row in desk.warehouse.read(reasons, {"key": key}).to_pylist()}
    assert cells == {27: None, 28: None, 29: None, 30: "delisted", 31: "delisted"}


def test_a_market_that_is_back_is_followed_on(desk: Desk) -> None:
    desk.set({"COPILOT_QUANT_MARKETS_VENUES": "kalshi", "COPILOT_QUANT_MARKETS_TOP": "2"})
    ticker = LARGEST["kalshi"][0].ticker
    desk.run("backfill", "markets", "--start", "2024-03-28")
    desk.venues.fault("kalshi_gone", symbol=ticker)
    _at(desk, "2024-03-31T12:00:00+00:00")
    desk.run("update", "markets")
    desk.venues.clear_faults()
    _at(desk, "2024-03-31T20:00:00+00:00")
    assert desk.run("update", "markets").code == 0
    assert _changes(desk, f"kalshi:{ticker}") == ["open", "gone", "open"]
    days = "select distinct date from prediction_markets.prices where market = $key order by date"
    found = desk.warehouse.read(days, {"key": f"kalshi:{ticker}"}).column("date").to_pylist()
    assert [day.day for day in found] == [28, 29, 30, 31]


def test_a_renamed_market_stays_under_its_key_and_is_found_by_any_of_its_names(desk: Desk) -> None:
    desk.set({"COPILOT_QUANT_MARKETS_VENUES": "polymarket", "COPILOT_QUANT_MARKETS_TOP": "2"})
    market = LARGEST["polymarket"][0]
    desk.run("backfill", "markets", "--start", "2024-03-28")
    desk.venues.fault("polymarket_renamed", symbol=market.slug, slug="better-name")
    _at(desk, "2024-03-30T20:00:00+00:00")
    said = desk.run("update", "markets")
    assert (said.code, market.slug in said.err) == (0, False)
    for name in ("better-name", market.id, market.slug):
        said = desk.run("backfill", "markets", "--start", "2024-03-28", "--market-ids", f"polymarket:{name}", "--json")
        assert (said.code, json.loads(said.out)["asked"], json.loads(said.out)["already"]) == (0, 3, 3)
    keys = desk.warehouse.read("select distinct market from prediction_markets.prices").column("market").to_pylist()
    assert len(keys) == 2
    assert f"polymarket:{market.slug}" in keys
    (row,) = desk.warehouse.read(
        "select slug, facts from prediction_markets.markets where id = $id", {"id": market.id}
    ).to_pylist()
    assert (row["slug"], json.loads(row["facts"])["now_called"]) == (market.slug, "better-name")


def test_the_catalog_keeps_a_history_of_status(desk: Desk) -> None:
    desk.run(*BACKFILL, "--venue", "kalshi", "--limit", "2")
    changes = desk.warehouse.read("select market, status from prediction_markets.market_changes").to_pylist()
    markets = desk.warehouse.read("select market, status, volume from prediction_markets.markets").to_pylist()
    assert {row["market"] for row in changes} == {row["market"] for row in markets}
    assert all(isinstance(row["volume"], Decimal) for row in markets)


def test_status_shows_both_grids(desk: Desk) -> None:
    desk.run(*BACKFILL, "--limit", "1")
    grids = {grid["grid"]: grid for grid in json.loads(desk.run("status", "--json").out)["grids"]}
    assert set(grids) == {"equities", "markets"}
    assert grids["markets"]["settled"] == 2 * 10
    assert grids["markets"]["freshness"] == "fresh"


def test_a_lost_market_is_red_with_its_days_and_the_others_are_green(desk: Desk) -> None:
    desk.run(*BACKFILL, "--venue", "polymarket", "--limit", "3", "--end", "2024-03-20")
    (lost, *_) = desk.warehouse.read("select slug from prediction_markets.markets order by volume desc").to_pylist()
    desk.venues.fault("polymarket_no_history", symbol=lost["slug"])
    said = desk.run(*BACKFILL, "--venue", "polymarket", "--limit", "3", "--refresh")
    assert said.code == 1
    red = desk.warehouse.read(
        "select distinct key, rows > 0 as stored, reason from ops.coverage where outcome = 'failed'"
    )
    assert {(row["key"], row["stored"], row["reason"]) for row in red.to_pylist()} == {
        (f"polymarket:{lost['slug']}", True, "vanished_at_source"),
        (f"polymarket:{lost['slug']}", False, "missing_at_source"),
    }


def test_a_followed_market_is_seen_to_its_end(desk: Desk) -> None:
    desk.run(*BACKFILL, "--venue", "kalshi", "--limit", "5", "--start", "2024-03-29")
    query = "select market, closes_at from prediction_markets.markets order by closes_at limit 1"
    (first,) = desk.warehouse.read(query).to_pylist()
    later = first["closes_at"] + timedelta(days=3)
    desk.set({"COPILOT_QUANT_NOW": later.isoformat(), "COPILOT_QUANT_MARKETS_VENUES": "kalshi"})
    desk.venues.pin_clock(later)
    desk.set({"COPILOT_QUANT_MARKETS_TOP": "1"})
    desk.run("update", "markets")
    history = desk.warehouse.read(
        "select status from prediction_markets.market_changes where market = $market order by seen_at",
        {"market": first["market"]},
    )
    opened, *ended = history.column("status").to_pylist()
    assert opened == "open"
    assert ended in (["closed"], ["resolved"])


def test_a_market_that_closed_leaves_the_axis_once_its_whole_life_is_settled(desk: Desk) -> None:
    market = min(LARGEST["kalshi"], key=lambda one: one.resolved_at)
    key, later = f"kalshi:{market.ticker}", market.resolved_at + timedelta(days=2)
    desk.set({"COPILOT_QUANT_MARKETS_VENUES": "kalshi", "COPILOT_QUANT_MARKETS_TOP": "1"})
    desk.set({"COPILOT_QUANT_MARKETS_RETIRE_DAYS": "1"})
    desk.run(*BACKFILL, "--start", "2024-03-28", "--market-ids", key)
    _at(desk, later.isoformat())
    desk.run("update", "markets")
    assert key in _on_axis(desk)  # days of its life were never asked for
    assert desk.run("backfill", "markets", "--start", "2024-01-01", "--market-ids", key).code == 0
    desk.run("update", "markets")
    assert key not in _on_axis(desk)
    kept = (
        "select count(distinct date) as days, max(settlement) as won from prediction_markets.daily where market = $key"
    )
    (row,) = desk.warehouse.read(kept, {"key": key}).to_pylist()
    assert row["days"] >= (market.closes_at - market.opened_at).days
    assert row["won"] == 1


def _on_axis(desk: Desk) -> list[str]:
    with open_instance(desk.settings.dagster_home) as instance:
        return list(instance.get_dynamic_partitions(MARKET))


def test_update_all_settles_both_grids(desk: Desk) -> None:
    desk.run("update", "equities", "--symbols", "AAPL")
    desk.set({"COPILOT_QUANT_MARKETS_TOP": "1"})
    said = desk.run("update", "all", "--json")
    assert said.code == 0, said
    assert {grid: answer["failed"] for grid, answer in json.loads(said.out).items()} == {"equities": [], "markets": []}
    grids = {grid["grid"]: grid for grid in json.loads(desk.run("status", "--json").out)["grids"]}
    assert grids["equities"]["keys"] == 1
    assert grids["markets"]["keys"] == 2
