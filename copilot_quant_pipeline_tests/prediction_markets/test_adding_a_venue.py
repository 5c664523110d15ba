"""Claims about `docs/adding-a-venue.md`: the venue that it adds works as written, and each place to change is named."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest

from copilot_quant_pipeline import settings as settings_module
from copilot_quant_pipeline.answers import read_json
from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.grid import keys
from copilot_quant_pipeline.grid.axes import MARKET, days_on_axis
from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.home import prepare_home
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.prediction_markets import registry
from copilot_quant_pipeline.prediction_markets.following import FollowRule
from copilot_quant_pipeline.prediction_markets.registry import make_venue
from copilot_quant_pipeline.prediction_markets.venue import MarketQuery, SpoiledDays
from copilot_quant_pipeline.sandbox import Sandbox, app, markets
from copilot_quant_pipeline.sandbox.markets import SimulatedMarket, SimulatedMarkets
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.backfill import Backfill, refresh_catalog
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.conftest import NOW

PACKAGE = Path(registry.__file__).parents[1]
PAGE = (PACKAGE.parent / "docs" / "adding-a-venue.md").read_text()
# The page's code, by the comment that says where it belongs.
BLOCKS = dict(re.findall(r"^```python\n# copilot_quant_pipeline/(.*?)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
DAYS = tuple(date(2024, 3, 24) + timedelta(days=n) for n in range(5))
AGORA = "copilot_quant_pipeline.prediction_markets.agora"


def _executed(block: str, **known: Any) -> dict[str, Any]:
    """What a block defines where it stands among the names that are `known`."""
    names = dict(known)
    exec(compile(BLOCKS[block], block, "exec", dont_inherit=True), names)  # noqa: S102 the page is ours
    return names


def _module(path: str, patch: pytest.MonkeyPatch) -> ModuleType:
    """A new module of the package, as its block has it."""
    name = ".".join(("copilot_quant_pipeline", *Path(path).with_suffix("").parts))
    module = ModuleType(name)
    patch.setitem(sys.modules, name, module)
    exec(compile(BLOCKS[path], path, "exec", dont_inherit=True), vars(module))  # noqa: S102 the page is ours
    return module


def _extended(module: ModuleType, path: str, name: str, patch: pytest.MonkeyPatch, **known: Any) -> None:
    """Give `module` the page's value of `name`, which holds all that the module's own does."""
    told, own = _executed(path, **vars(module), **known)[name], getattr(module, name)
    added = [one for one in told if one not in own]
    assert [one for one in told if one not in added] == list(own)
    assert len(added) == 1
    patch.setattr(module, name, told)


@pytest.fixture
def settings_of_agora(unused: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings as they are once the page's changes are made to them, of a home that was opened once."""
    added = eval(BLOCKS["settings.py: VENUE_URLS"])  # noqa: S307 the page is ours
    source = f"class WithAgora(Settings):\n    {BLOCKS['settings.py: Settings']}"
    names: dict[str, Any] = {"Settings": Settings}
    exec(source, names)  # noqa: S102 the page is ours
    extended = dataclass(frozen=True)(names["WithAgora"])
    monkeypatch.setattr(settings_module, "VENUE_URLS", (*settings_module.VENUE_URLS, added))
    made: Settings = extended(**{one.name: getattr(unused, one.name) for one in fields(Settings)})
    return made


@pytest.fixture
def agora(settings_of_agora: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Settings, Sandbox]]:
    """The venue made of the page, registered, and its twin served; settings that reach it."""
    _module("prediction_markets/agora.py", monkeypatch)
    twin = _module("sandbox/agora.py", monkeypatch)
    listing = _executed("prediction_markets/registry.py", **vars(registry))
    listed = eval(f"{{{BLOCKS['prediction_markets/registry.py: _VENUES']}}}", listing)  # noqa: S307 the page is ours
    monkeypatch.setattr(registry, "_VENUES", {**registry._VENUES, **listed})
    _extended(keys, "grid/keys.py", "VENUES", monkeypatch)
    _extended(markets, "sandbox/markets.py", "COUNTS", monkeypatch)
    _extended(app, "sandbox/app.py", "VENUES", monkeypatch, agora=twin)
    with Sandbox(now=NOW) as venues:
        yield settings_of_agora.with_venues_at(venues.url), venues


def _truth(market: SimulatedMarket) -> list[tuple[date, str, datetime, Decimal]]:
    """What the market's outcomes cost at each full hour of the days, by day, outcome and hour."""
    start, end = (datetime.combine(day, time(), UTC) for day in (DAYS[0], DAYS[-1] + timedelta(days=1)))
    told = SimulatedMarkets().prices(market, start, end)
    found = []
    for seconds, price in zip(told.at.tolist(), told.probability.tolist(), strict=True):
        at, first = datetime.fromtimestamp(seconds, UTC), Decimal(str(price))
        found += [(at.date(), name, at, cost) for name, cost in zip(market.outcomes, (first, 1 - first), strict=True)]
    return sorted(found)


def test_the_pages_venue_settles_a_market_on_the_grid_with_exact_prices(agora: tuple[Settings, Sandbox]) -> None:
    settings, venues = agora
    prepare_home(settings)
    warehouse, axis = Warehouse(settings.warehouse_path), days_on_axis(settings)
    job = build_definitions(settings).resolve_implicit_global_asset_job_def()
    with open_instance(settings.dagster_home) as instance:
        followed = refresh_catalog(job, instance, warehouse, FollowRule(("agora",), top=1))
        asked = Rectangle(DAYS, followed.keys)
        result = Backfill(job, instance, warehouse, "markets", "prediction_market_prices", MARKET, asked, axis).run()
        green = instance.get_materialized_partitions(dg.AssetKey("prediction_market_prices"))
    largest = _largest()
    key = f"agora:{largest.id}"
    assert (followed.keys, followed.faults) == ((key,), ())
    assert (result.settled, result.failed, result.coarse) == (len(DAYS), (), 0)
    assert set(green) == {f"{day}|{key}" for day in DAYS}
    stored = warehouse.read("from prediction_markets.prices order by date, outcome, stamped_at")
    assert stored.num_rows == 2 * 24 * len(DAYS)
    prices = stored.select(["date", "outcome", "stamped_at", "price"]).to_pylist()
    assert [tuple(row.values()) for row in prices] == _truth(largest)
    notes = stored.select(["market", "service", "grain_seconds", "stamp", "source"]).to_pylist()
    assert {tuple(row.values()) for row in notes} == {(key, "prices", 3600, "instant", "agora (sandbox)")}
    assert "unrouted" not in venues.requests()


def _largest() -> SimulatedMarket:
    """The largest open market of the twin."""
    is_open = (one for one in SimulatedMarkets().listed("agora", NOW) if one.status_at(NOW) == "open")
    return max(is_open, key=lambda one: one.volume_at(NOW))


def test_the_pages_venue_lists_the_largest_and_names_what_it_does_not_know(agora: tuple[Settings, Sandbox]) -> None:
    venue, largest = make_venue("agora", agora[0]), _largest()
    found = venue.fetch_markets(MarketQuery(ids=(largest.id, "0")))
    assert [market.id for market in found.markets] == [largest.id]
    assert [(one.id, one.unknown) for one in found.broken] == [("0", True)]
    shown = venue.fetch_markets(MarketQuery(categories=(largest.category,), limit=1, with_ended=False))
    assert [market.id for market in shown.markets] == [largest.id]
    assert {market.status for market in shown.beyond} <= {"open", "unopened"}
    ended = [market for market in venue.fetch_markets(MarketQuery()).markets if market.status == "resolved"]
    assert ended
    assert all(market.result in [outcome.name for outcome in market.outcomes] for market in ended)


def test_a_price_that_cannot_be_fails_its_day_only(agora: tuple[Settings, Sandbox]) -> None:
    market = make_venue("agora", agora[0]).fetch_market(_largest().id)
    noons = [int(datetime.combine(day, time(12), UTC).timestamp()) for day in DAYS]
    prices = [{"at": at, "first": 1.5 if at == noons[1] else 0.29} for at in noons]
    window = (datetime.combine(day, time(), UTC) for day in (DAYS[0], DAYS[-1]))
    with pytest.raises(SpoiledDays) as raised:
        sys.modules[AGORA].parse_prices(market, read_json(json.dumps({"prices": prices})), *window)
    assert list(raised.value.failed) == [DAYS[1]]
    assert {row["stamped_at"].date() for row in raised.value.points.to_pylist()} == {DAYS[0], *DAYS[2:-1]}


def test_every_module_that_knows_a_venue_by_name_is_named_by_the_page() -> None:
    knowing = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search("predictit", path.read_text(), re.IGNORECASE)
    }
    # What was stored before there were services is of the venues of then.
    of_then = {"warehouse/migrations.py"}
    of_itself = {"prediction_markets/predictit.py", "sandbox/predictit.py"}
    assert {path for path in knowing - of_then - of_itself if path not in PAGE} == set()
