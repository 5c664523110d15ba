from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy
from copilot_quant_pipeline.settings import VENUE_URLS, VENUES, Settings, keep_loopback_off_proxies

NOW = datetime(2024, 3, 29, 14, 0, tzinfo=UTC)
URLS = st.none() | st.integers(1, 65535).map(lambda port: f"http://127.0.0.1:{port}")


@given(
    source=st.sampled_from(["sandbox", "live"]),
    equities_start=st.dates(date(2000, 1, 1), date(2030, 1, 1)),
    markets_start=st.dates(date(2000, 1, 1), date(2030, 1, 1)),
    markets_retire_days=st.integers(0, 1000),
    markets_venues=st.sampled_from([("manifold",), ("polymarket", "kalshi")]),
    markets_categories=st.sampled_from([(), ("politics",), ("climate and weather", "politics")]),
    markets_top=st.integers(0, 1000),
    markets_ids=st.sampled_from([(), ("kalshi:KXFED-24NOV-T4.75", "polymarket:will-it-rain")]),
    metaculus_token=st.none() | st.text("abcdef0123456789", min_size=1),
    landing_ttl=st.integers(1, 100).map(lambda hours: timedelta(hours=hours)),
    rates=st.dictionaries(st.sampled_from(VENUES), st.builds(RequestRate, st.integers(1, 10**6), st.floats(0.1, 3600))),
    attempts=st.dictionaries(st.sampled_from(VENUES), st.integers(1, 20)),
    lock_timeout=st.floats(0.1, 1000),
    heal_cells=st.integers(1, 10**6),
    alert_urls=st.sampled_from(
        [(), ("json://127.0.0.1:8080/hook",), ("slack://a/b/c", "mailto://me:x@h.example/?to=a,b")]
    ),
    dagit_url=st.sampled_from(["http://127.0.0.1:3000", "https://dagit.example"]),
    hosts=st.sampled_from([(), ("dagit.example", "10.0.0.5", "2001:db8::1")]),
    token=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    reports=st.booleans(),
    pinned_now=st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    urls=st.fixed_dictionaries(dict.fromkeys(VENUE_URLS, URLS)),
)
def test_another_process_is_given_the_same_settings(urls: dict[str, Any], **given: Any) -> None:
    settings = replace(Settings(home=Path("/data/somewhere")), **given, **urls)
    assert Settings.from_environment(settings.environment()) == settings


def test_every_setting_has_its_variable() -> None:
    whole = Settings(
        closed=(date(2025, 1, 9),),
        markets_categories=("politics",),
        markets_ids=("kalshi:KXFED-24NOV-T4.75",),
        metaculus_token="a1",  # noqa: S106
        alert_urls=("json://127.0.0.1:8080/hook",),
        hosts=("dagit.example",),
        token="a2",  # noqa: S106
        heartbeat_url="http://127.0.0.1:8080/beat",
        pinned_now=NOW,
        rates={"kalshi": RequestRate(4)},
        attempts={"yahoo": 2},
    ).with_venues_at("http://here")
    # `pinned_now` is one whose variable is not its name: it reads COPILOT_QUANT_NOW. Two have a variable a venue.
    names = {f"COPILOT_QUANT_{setting.name.upper().removeprefix('PINNED_')}" for setting in fields(Settings)}
    of_venues = {"COPILOT_QUANT_KALSHI_RATE", "COPILOT_QUANT_YAHOO_ATTEMPTS"}
    assert set(whole.environment()) == names - {"COPILOT_QUANT_RATES", "COPILOT_QUANT_ATTEMPTS"} | of_venues


def test_without_variables_the_sandbox_is_simulated_from_its_defaults(tmp_path: Path) -> None:
    settings = Settings.from_environment({}, home=tmp_path)
    assert settings == Settings(home=tmp_path.resolve())
    assert (settings.markets_start, settings.markets_retire_days) == (date(2024, 1, 1), 30)


@pytest.mark.parametrize(
    ("name", "value", "example"),
    [
        ("EQUITIES_START", "yesterday", "2020-01-01"),
        ("MARKETS_START", "2024-13-01", "2024-01-01"),
        ("MARKETS_RETIRE_DAYS", "-1", "30"),
        ("MARKETS_RETIRE_DAYS", "a month", "30"),
        ("MARKETS_VENUES", ",", "polymarket,kalshi"),
        ("MARKETS_TOP", "most", "50"),
        ("LANDING_TTL", "0", "6 (hours)"),
        ("LOCK_TIMEOUT", "inf", "120 (seconds)"),
        ("NOW", "2024-03-28T22:00:00", "2024-03-28T22:00:00Z"),
        ("DAGIT_URL", "localhost:3000", "http://127.0.0.1:3000"),
        ("HOSTS", "*", "dagit.example.com,10.0.0.5"),
        ("REPORTS", "maybe", "on"),
        *(
            ("KALSHI_RATE", rate, "8 (a second) or 16/60 (in 60 seconds)")
            for rate in ("fast", "0", "8/0", "8/inf", "8/")
        ),
        ("YAHOO_ATTEMPTS", "0", "5"),
        *((name.upper(), "127.0.0.1:9604/trade-api/v2", "http://127.0.0.1:8750") for name in VENUE_URLS),
        ("KALSHI_URL", "ftp://kalshi", "http://127.0.0.1:8750"),
        ("YAHOO_URL", "http:///path", "http://127.0.0.1:8750"),
    ],
)
def test_a_value_that_is_not_understood_is_named_with_an_example(name: str, value: str, example: str) -> None:
    with pytest.raises(UserError) as refused:
        Settings.from_environment({f"COPILOT_QUANT_{name}": value})
    assert str(refused.value) == f"COPILOT_QUANT_{name}={value!r} is not understood; write for example {example}."


def test_settings_that_follow_no_venue_are_refused() -> None:
    with pytest.raises(UserError, match="no venue is followed; write for example COPILOT_QUANT_MARKETS_VENUES="):
        Settings(markets_venues=())


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(UserError, match="sandbox or live"):
        Settings.from_environment({"COPILOT_QUANT_SOURCE": "paper"})


@pytest.mark.parametrize("name", VENUE_URLS)
def test_a_venue_with_an_address_of_its_own_keeps_it(name: str) -> None:
    own = Settings.from_environment({f"COPILOT_QUANT_{name.upper()}": "http://own"})
    assert own.needs_sandbox
    placed = own.with_venues_at("http://sandbox")
    assert {getattr(placed, venue) for venue in VENUE_URLS} == {"http://own", "http://sandbox"}
    assert getattr(placed, name) == "http://own"
    assert not placed.needs_sandbox


def test_live_venues_need_no_sandbox() -> None:
    assert not Settings(source="live").needs_sandbox


def test_the_token_of_metaculus_is_asked_for_by_its_variable_and_never_shown() -> None:
    with pytest.raises(UserError, match="COPILOT_QUANT_METACULUS_TOKEN"):
        Settings(source="live").expect_metaculus_token()
    assert Settings(source="sandbox").expect_metaculus_token()
    settings = Settings.from_environment({"COPILOT_QUANT_METACULUS_TOKEN": "hush", "COPILOT_QUANT_SOURCE": "live"})
    assert settings.expect_metaculus_token() == "hush"
    assert "hush" not in repr(settings)


def test_a_grid_from_before_the_known_holidays_is_refused() -> None:
    assert Settings.from_environment({"COPILOT_QUANT_EQUITIES_START": "1990-01-01"}).equities_start.year == 1990
    with pytest.raises(UserError, match="holidays are known from 1990-01-01 on; write COPILOT_QUANT_EQUITIES_START"):
        Settings.from_environment({"COPILOT_QUANT_EQUITIES_START": "1985-01-02"})


@pytest.mark.parametrize("proxy", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("given", "exempt"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "quant.example, 127.0.0.1"}, "quant.example,127.0.0.1,localhost,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_loopback_is_asked_without_a_proxy(proxy: str, given: dict[str, str], exempt: str) -> None:
    environ = {proxy: "http://proxy.example:3128", **given}
    keep_loopback_off_proxies(environ)
    assert environ == {proxy: "http://proxy.example:3128", "no_proxy": exempt, "NO_PROXY": exempt}


def test_without_a_proxy_the_environment_stays_as_it_is() -> None:
    environ = {"NO_PROXY": "quant.example"}
    keep_loopback_off_proxies(environ)
    assert environ == {"NO_PROXY": "quant.example"}


def test_a_home_that_duckdb_cannot_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has a \? in its path.*give another"):
        Settings.from_environment({"COPILOT_QUANT_HOME": str(tmp_path / "a?b")})


def test_how_a_venue_is_asked_is_as_usual_but_for_what_is_set() -> None:
    usual = RetryPolicy(RequestRate(8), longest_wait=7.0)
    settings = Settings(rates={"kalshi": RequestRate(16, 60)}, attempts={"manifold": 2})
    assert settings.policy_of("kalshi", usual) == replace(usual, rate=RequestRate(16, 60))
    assert settings.policy_of("manifold", usual) == replace(usual, attempts=2)
    assert settings.policy_of("yahoo", usual) == usual
