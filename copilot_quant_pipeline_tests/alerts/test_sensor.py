"""Claims about the sensor on a real instance, evaluated by Dagster's own daemon loop, with venues killed and revived."""

from __future__ import annotations

from datetime import date, timedelta

from dagster._core.scheduler.instigation import TickStatus

from copilot_quant_pipeline_tests.alerts.conftest import World

THURSDAY, WEDNESDAY = date(2024, 3, 28), date(2024, 3, 27)
HOUR = timedelta(hours=1)


def test_a_dead_venue_is_told_once_folded_for_six_hours_and_its_recovery_told_once(world: World) -> None:
    assert world.tick().skip_reason == "Nothing new.\nNothing is wrong."
    world.kill_venues()
    assert len(world.settle(WEDNESDAY, THURSDAY).failed) == 6
    told = world.tick()
    assert told.status == TickStatus.SKIPPED
    assert "Told: equity_bars has 6 cells that fail" in (told.skip_reason or "")
    (post,) = world.webhook.posts
    print(post)
    world.settle(WEDNESDAY, THURSDAY)
    for _ in range(3):
        assert "Nothing new." in (world.tick(HOUR).skip_reason or "")
    assert len(world.webhook.posts) == 1
    world.tick(3 * HOUR)
    assert world.webhook.titles[1:] == ["Still: equity_bars has 6 cells that fail: yahoo does not answer as it should"]
    world.revive_venues()
    world.settle(WEDNESDAY, THURSDAY)
    world.tick(HOUR)
    world.tick(HOUR)
    print(world.webhook.posts[2])
    assert len(world.webhook.posts) == 3
    assert world.webhook.titles[2].startswith("Recovered: ")
