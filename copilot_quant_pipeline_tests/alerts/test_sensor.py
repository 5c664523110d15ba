"""Claims about the sensor on a real instance: evaluated by Dagster's own daemon, venues killed and revived."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.scheduler.instigation import TickStatus

from copilot_quant_pipeline_tests.alerts.conftest import Mailbox, Webhook, World
from copilot_quant_pipeline_tests.backfills.conftest import DAEMON_WARNINGS

pytestmark = DAEMON_WARNINGS

HOUR = timedelta(hours=1)
DAGIT = "http://dagit.example:3000"
FAILING = "equity_bars has 6 cells that fail: yahoo does not answer as it should"


def _about(channel: Webhook, asset: str) -> list[dict[str, Any]]:
    return [post for post in channel.posts if f"{asset} " in post["title"]]


def _titles(channel: Webhook, asset: str) -> list[str]:
    return [post["title"] for post in _about(channel, asset)]


def test_a_dead_venue_is_told_once_folded_for_six_hours_and_its_recovery_told_once(
    world: World, webhook: Webhook, mailbox: Mailbox
) -> None:
    days = date(2024, 3, 27), date(2024, 3, 28)
    world.kill_venues()
    assert len(world.settle(*days).failed) == 6
    tick = world.tick()
    assert tick.status == TickStatus.SKIPPED
    assert f"Told: {FAILING}." in (tick.skip_reason or "")
    for n in range(4):
        world.settle(*days)  # as healing does
        assert f"Open: {FAILING}." in (world.tick(HOUR).skip_reason or ""), n
    assert _titles(webhook, "equity_bars") == [FAILING]
    world.tick(2 * HOUR)
    world.revive_venues()
    world.settle(*days)
    for _ in range(3):
        world.tick(HOUR)
    assert _titles(webhook, "equity_bars") == [FAILING, f"Still: {FAILING}", f"Recovered: {FAILING}"]
    assert [mail["Subject"] for mail in mailbox.mails if "equity_bars" in mail["Subject"]] == _titles(
        webhook, "equity_bars"
    )
    opened, still, recovered = (post["message"] for post in _about(webhook, "equity_bars"))
    assert "Since 2024-03-29 " in opened
    assert "- AAPL, 2 cells, 2024-03-27 to 2024-03-28: unavailable (AAPL: Yahoo cannot be reached" in opened
    assert "What happens next: healing asks for them again from 2024-03-29 " in opened
    assert f"{DAGIT}/assets/equity_bars?view=partitions" in opened
    assert "(tried so far: 5)" in still
    assert "and lasted 7 h" in recovered


def test_one_dead_channel_is_told_later_and_the_live_one_not_twice(
    world: World, webhook: Webhook, dead: Webhook
) -> None:
    _change_freshness(world, "adjusted_bars", FreshnessState.FAIL)
    tick = world.tick()
    assert tick.status == TickStatus.SKIPPED
    assert "Channel 1 (json) took 1 message." in (tick.skip_reason or "")
    assert "Channel 2 (json) did not answer well (A Connection error occurred sending JSON" in (tick.skip_reason or "")
    _change_freshness(world, "adjusted_bars", FreshnessState.PASS)
    world.tick()
    dead.open()
    assert "Channel 2 (json) took" in (world.tick().skip_reason or "")
    assert "took" not in (world.tick().skip_reason or "")
    stale = "adjusted_bars is stale: it was not materialized within its freshness policy"
    assert _titles(webhook, "adjusted_bars") == _titles(dead, "adjusted_bars") == [stale, f"Recovered: {stale}"]


def test_a_refused_list_is_told_with_why_and_its_run_and_ends_with_the_next_good_one(
    world: World, webhook: Webhook
) -> None:
    world.venues.fault("universe_short", rows=50)
    first = world.materialize("sp500_members")
    world.tick()
    world.materialize("sp500_members")
    world.tick()
    (post,) = _about(webhook, "sp500_members")
    assert post["title"] == "sp500_members could not be materialized: a run failed"
    assert "Malformed: Wikipedia's list has 50 members instead of 480 to 520. IT IS REFUSED" in post["message"]
    assert "the last good list of members stays in use" in post["message"]
    assert f"{DAGIT}/runs/{first}" in post["message"]
    world.venues.clear_faults()
    world.materialize("sp500_members")
    world.tick()
    world.tick()
    assert _titles(webhook, "sp500_members")[1:] == ["Recovered: sp500_members could not be materialized: a run failed"]


def test_a_run_whose_process_died_is_told_with_what_is_known_of_it(world: World, webhook: Webhook) -> None:
    job = world.job.get_subset(asset_selection={dg.AssetKey("prediction_markets")})
    run = world.instance.create_run_for_job(job, asset_selection=frozenset({dg.AssetKey("prediction_markets")}))
    world.instance.report_run_failed(run, "The process of this run has ended without finishing it.")
    world.tick()
    (post,) = _about(webhook, "prediction_markets")
    assert f"- run {run.run_id[:8]}: The process of this run has ended without finishing it.\n" in post["message"]
    assert f"{DAGIT}/runs/{run.run_id}" in post["message"]


def test_a_failed_check_is_told_though_its_run_succeeds(world: World, webhook: Webhook) -> None:
    _store_price(world, "1.5")
    for _ in range(2):
        world.check("prices_are_probabilities")
        world.tick(HOUR)
    (post,) = _about(webhook, "prediction_market_prices")
    assert post["title"] == "prediction_market_prices check prices_are_probabilities fails"
    assert "- broken: 1\n- kalshi:ODD 2024-03-28 12:00:00+00:00: Yes 1.500000\n" in post["message"]
    page = "/assets/prediction_market_prices?view=checks&checkDetail=prices_are_probabilities"
    assert DAGIT + page in post["message"]
    _store_price(world, "0.5")
    world.check("prices_are_probabilities")
    world.tick()
    assert _titles(webhook, "prediction_market_prices")[1:] == [
        "Recovered: prediction_market_prices check prices_are_probabilities fails"
    ]


def test_each_change_of_freshness_is_told_and_what_was_never_made_is_not(world: World, webhook: Webhook) -> None:
    for state in (FreshnessState.UNKNOWN, FreshnessState.WARN, FreshnessState.FAIL, FreshnessState.PASS):
        _change_freshness(world, "coverage_report", state)
        world.tick()
        world.tick()
    because = "it was not materialized within its freshness policy"
    assert _titles(webhook, "coverage_report") == [
        f"coverage_report will soon be stale: {because}",
        f"Worse: coverage_report is stale: {because}",
        f"Recovered: coverage_report is stale: {because}",
    ]
    assert [post["type"] for post in _about(webhook, "coverage_report")] == ["warning", "failure", "success"]


def test_a_warehouse_that_cannot_be_opened_is_told_and_ends_no_incident_of_its_cells(
    world: World, webhook: Webhook
) -> None:
    world.venues.fault("lost_session", symbol="AMD", dates=["2024-03-20"])
    world.settle(date(2024, 3, 20), refresh=True)
    world.venues.clear_faults()
    world.tick()
    sound = world.settings.warehouse_path.read_bytes()
    world.settings.warehouse_path.write_text("this is no database")
    world.tick()
    world.tick(HOUR)
    world.settings.warehouse_path.write_bytes(sound)
    world.tick()
    lost = "equity_bars has 1 cell that fails: yahoo has not what it should have"
    assert [post["title"] for post in webhook.posts] == [
        lost,
        "warehouse cannot be looked at",
        "Recovered: warehouse cannot be looked at",
    ]
    world.settle(date(2024, 3, 20))
    world.tick()
    assert webhook.titles[3:] == [f"Recovered: {lost}"]


def _change_freshness(world: World, asset: str, state: FreshnessState) -> None:
    """What Dagster's freshness daemon reports."""
    records = world.instance.get_freshness_state_records([dg.AssetKey(asset)])
    before = records[dg.AssetKey(asset)].freshness_state if records else FreshnessState.UNKNOWN
    world.instance._report_runless_asset_event(  # noqa: SLF001 as the daemon does
        FreshnessStateChange(
            key=dg.AssetKey(asset),
            previous_state=before,
            new_state=state,
            state_change_timestamp=world.settings.now().timestamp(),
        )
    )


def _store_price(world: World, price: str) -> None:
    with world.warehouse.transaction() as connection:
        connection.execute("delete from prediction_markets.prices")
        connection.execute(
            "insert into prediction_markets.prices by name select date '2024-03-28' as date, 'kalshi:ODD' as market,"
            """ 'Yes' as outcome, timestamptz '2024-03-28 12:00:00+00' as stamped_at, $1::decimal(9, 6) as price,"""
            " 'trade' as price_kind, 'test' as source, timestamptz '2024-03-28 12:00:00+00' as first_seen_at",
            [price],
        )


def test_what_the_messages_link_to_are_pages_of_dagit() -> None:
    import dagster_webserver

    scripts = (Path(dagster_webserver.__file__).parent / "webapp" / "build").rglob("*.js")
    routes = (
        'path:"/assets(/?.*)"',
        'path:"/runs/:runId"',
        'path:"/deployment/daemons"',
        "checkDetail:",
        '"partitions"',
    )
    missing = set(routes)
    for script in scripts:
        text = script.read_text(encoding="utf-8", errors="replace")
        missing -= {route for route in missing if route in text}
    assert not missing
