"""A home with its venues and the sensor `heal`, whose clock a test moves: ticks are Dagster's, runs are real."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cached_property

import dagster as dg
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.backfill import PartitionBackfill
from tenacity import wait_none

from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.equities.sources import EquitySources
from copilot_quant_pipeline.equities.yahoo import YahooClient
from copilot_quant_pipeline.grid.axes import SYMBOL
from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.grid.runs import range_tags
from copilot_quant_pipeline.home import prepare_home
from copilot_quant_pipeline.landing import Landing
from copilot_quant_pipeline.ledger.instance import open_instance
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.backfill import run_in_process
from copilot_quant_pipeline.upkeep.heal_sensor import EVERY, build_heal_sensor
from copilot_quant_pipeline.warehouse.warehouse import Warehouse

BARS = dg.AssetKey("equity_bars")
CHART = "/v8/finance/chart/{symbol}"


def _event(job: str, kind: DagsterEventType) -> DagsterEvent:
    return DagsterEvent(event_type_value=kind.value, job_name=job)


@dataclass
class World:
    """One home; `now` is its clock and its venues'. Nothing happens by itself: a test lets time pass."""

    base: Settings
    venues: Sandbox
    instance: dg.DagsterInstance
    now: datetime
    asked_at: list[datetime] = field(default_factory=list)
    _yahoo: YahooClient | None = None

    @property
    def settings(self) -> Settings:
        return replace(self.base, pinned_now=self.now)

    @cached_property
    def _repository(self) -> dg.RepositoryDefinition:
        return build_definitions(self.base).get_repository_def()

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.base.warehouse_path)

    def settle(self, symbols: Sequence[str], dates: Sequence[date]) -> None:
        """What a schedule or a user does: ask for a rectangle once."""
        self.instance.add_dynamic_partitions(SYMBOL, list(symbols))
        self._run("equity_bars", range_tags(Rectangle(tuple(dates), tuple(symbols))))

    def evaluate(self) -> SensorExecutionData:
        """What one tick of the sensor asks for, or says; nothing is run."""
        sensor = build_heal_sensor(self.settings)
        with dg.build_sensor_context(instance=self.instance, repository_def=self._repository) as context:
            return sensor.evaluate_tick(context)

    def tick(self) -> str:
        """One tick of the sensor, and the runs it asks for to their end; what it says where it asks for none."""
        said = self.evaluate()
        for request in said.run_requests or ():
            (asset,) = request.asset_selection or ()
            self._run(asset.to_user_string(), request.tags)
        if said.run_requests:
            self.asked_at.append(self.now)
        return said.skip_message or ""

    @contextmanager
    def run_under_way(self, asset: dg.AssetKey, tags: dict[str, str]) -> Iterator[None]:
        """A run of another process that has begun and ends with the context."""
        job = (
            build_definitions(self.settings).resolve_implicit_global_asset_job_def().get_subset(asset_selection={asset})
        )
        run = self.instance.create_run_for_job(job, tags=tags, asset_selection=frozenset({asset}))
        self.instance.handle_run_event(run.run_id, _event(job.name, DagsterEventType.RUN_START), None)
        yield
        self.instance.report_run_failed(run)

    def request_backfill(self, asset: dg.AssetKey, keys: Sequence[str]) -> None:
        """What pressing Materialize in Dagit leaves, before the daemon has begun with it."""
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id="by-hand",
            asset_graph=self._repository.asset_graph,
            partition_names=list(keys),
            asset_selection=[asset],
            backfill_timestamp=self.now.timestamp(),
            tags={},
            dynamic_partitions_store=self.instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        self.instance.add_backfill(backfill)

    def let_pass(self, span: timedelta, every: timedelta = EVERY) -> None:
        """Let the sensor tick until `span` is over."""
        until = self.now + span
        while self.now < until:
            self.now += every
            self.venues.pin_clock(self.now)
            self.tick()

    def red(self) -> dict[tuple[date, str], str]:
        rows = self.warehouse.read("select date, key, reason from ops.coverage where outcome = 'failed'").to_pylist()
        return {(row["date"], row["key"]): row["reason"] for row in rows}

    def settled(self) -> int:
        (row,) = self.warehouse.read("select count(*) as n from ops.coverage where outcome = 'settled'").to_pylist()
        return int(row["n"])

    def _run(self, asset: str, tags: dict[str, str]) -> None:
        settings = self.settings
        if self._yahoo is None:
            cache = settings.home / "cache"
            self._yahoo = YahooClient(cache, url=settings.yahoo_url, clock=lambda: self.now, wait=wait_none())
        sources = EquitySources(settings, self._yahoo, Landing(settings.landing_path))
        job = build_definitions(settings, equity_sources=sources).resolve_implicit_global_asset_job_def()
        run_in_process(job, self.instance, asset, tags)


@contextmanager
def open_world(settings: Settings, now: datetime) -> Iterator[World]:
    with Sandbox(now=now) as venues:
        settings = replace(settings.with_venues_at(venues.url), pinned_now=now)
        prepare_home(settings)
        with open_instance(settings.dagster_home, capture_output=False) as instance:
            yield World(settings, venues, instance, now)
