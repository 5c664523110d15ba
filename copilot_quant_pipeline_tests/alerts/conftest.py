"""A small world with real channels: a webhook and a mail server on loopback, and venues that can be killed."""

from __future__ import annotations

import contextlib
import email
import json
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from email.message import EmailMessage
from email.policy import default as modern
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from dagster._core.instance_for_test import instance_for_test
from dagster._core.scheduler.instigation import InstigatorTick
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.sensor import execute_sensor_iteration
from tenacity import wait_none

from copilot_quant_pipeline.alerts.messages import Letter
from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline.equities.sources import EquitySources
from copilot_quant_pipeline.equities.yahoo import YahooClient
from copilot_quant_pipeline.grid.axes import SYMBOL, sessions_on_axis
from copilot_quant_pipeline.grid.cells import Rectangle
from copilot_quant_pipeline.home import prepare_home
from copilot_quant_pipeline.landing import Landing
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline.upkeep.backfill import Backfill, BackfillResult
from copilot_quant_pipeline.warehouse.warehouse import Warehouse
from copilot_quant_pipeline_tests.automation import leave_only
from copilot_quant_pipeline_tests.backfills.conftest import unqueued
from copilot_quant_pipeline_tests.conftest import NOW

SYMBOLS = ("AAPL", "AMD", "MSFT")
LETTER = Letter("equity_bars has 1 cell that fails", "equity_bars <has> & keeps\n- a line", "failure", NOW)


class Webhook:
    """A real HTTP server that keeps what is posted to it; it can be shut and opened again on the same port."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.gets: list[str] = []
        self.status = 200
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        return [post["title"] for post in self.posts]

    def open(self) -> None:
        webhook = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posted = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(webhook.status)
                self.end_headers()
                if webhook.status == 200:
                    webhook.posts.append(json.loads(posted))

            def do_GET(self) -> None:
                webhook.gets.append(self.path)
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Answering)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def shut(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class Mailbox:
    """What a real SMTP server takes in."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}/?from=platform@quant.example&to=ops@quant.example&mode=insecure"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 its name
        self.envelopes.append(envelope)
        return "250 OK"

    @property
    def mails(self) -> list[EmailMessage]:
        contents = [envelope.content for envelope in self.envelopes]
        return [
            email.message_from_bytes(content, policy=modern)  # type: ignore[misc]
            for content in contents
            if isinstance(content, bytes)
        ]


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    webhook.open()
    yield webhook
    webhook.shut()


@pytest.fixture(scope="module")
def dead() -> Iterator[Webhook]:
    """A webhook nobody answers at, until it is opened."""
    webhook = Webhook()
    yield webhook
    webhook.shut()


@pytest.fixture(autouse=True)
def as_they_were(webhook: Webhook, dead: Webhook) -> None:
    webhook.posts.clear()
    dead.posts.clear()
    webhook.status = dead.status = 200
    dead.shut()


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=box.port)
    server.start()
    yield box
    server.stop()


class Moving(Settings):
    """Settings whose clock is a file of the home, so that it moves in every process at once."""

    def now(self) -> datetime:
        return datetime.fromisoformat((self.home / "clock").read_text())


_LOCATION = """
from copilot_quant_pipeline.definitions import build_definitions
from copilot_quant_pipeline_tests.alerts.conftest import Moving

defs = build_definitions(Moving.from_environment({environment!r}))
"""


@dataclass
class World:
    """A home with venues that can be killed, channels, and Dagster's sensor daemon."""

    settings: Moving
    instance: dg.DagsterInstance
    daemon: WorkspaceProcessContext
    venues: Sandbox
    jobs: list[dg.JobDefinition] = field(default_factory=list)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse_path)

    def set_clock(self, now: datetime) -> None:
        (self.settings.home / "clock").write_text(now.isoformat())

    def tick(self, after: timedelta = timedelta(minutes=1)) -> InstigatorTick:
        """Move the clock, let the daemon evaluate the sensor as its loop does; what the tick says of itself."""
        now = self.settings.now() + after
        self.set_clock(now)
        with freeze_time(now):
            for error in execute_sensor_iteration(self.daemon, logging.getLogger(__name__), None, None):
                assert error is None, error
        return self.ticks()[0]

    def ticks(self) -> list[InstigatorTick]:
        (state,) = [s for s in self.instance.all_instigator_state() if s.name == "alerts"]
        return list(self.instance.get_ticks(state.instigator_origin_id, state.selector_id))

    def settle(self, *dates: date, refresh: bool = False) -> BackfillResult:
        return Backfill(
            job=self.job,
            instance=self.instance,
            warehouse=self.warehouse,
            grid="equities",
            asset="equity_bars",
            axis=SYMBOL,
            asked=Rectangle(dates, SYMBOLS),
            dates=sessions_on_axis(self.settings),
            refresh=refresh,
        ).run()

    def materialize(self, asset: str) -> str:
        """A run of the asset, whatever comes of it; its id."""
        chosen = [dg.AssetKey(asset)]
        return self.job.execute_in_process(instance=self.instance, asset_selection=chosen, raise_on_error=False).run_id

    def check(self, *names: str) -> None:
        """Evaluate checks of the prices, as the checks' schedule does."""
        job = self.job
        keys = job.asset_layer.asset_graph.get_check_keys_for_assets({dg.AssetKey("prediction_market_prices")})
        chosen = {key for key in keys if key.name in names}
        subset = job.get_subset(asset_selection=set(), asset_check_selection=chosen)
        assert subset.execute_in_process(instance=self.instance).success

    def kill_venues(self) -> None:
        self.venues.__exit__(None, None, None)

    def revive_venues(self) -> None:
        self.venues = Sandbox(now=NOW, port=int(self.venues.url.rpartition(":")[2]))
        self.venues.__enter__()

    @property
    def job(self) -> dg.JobDefinition:
        if not self.jobs:
            # A dead venue is not waited for.
            yahoo = YahooClient(
                self.settings.home / "cache", url=self.settings.yahoo_url, clock=self.settings.now, wait=wait_none()
            )
            sources = EquitySources(self.settings, yahoo, Landing(self.settings.landing_path))
            definitions = build_definitions(self.settings, equity_sources=sources)
            self.jobs.append(definitions.resolve_implicit_global_asset_job_def())
        return self.jobs[0]


@pytest.fixture
def world(tmp_path: Path, webhook: Webhook, dead: Webhook, mailbox: Mailbox) -> Iterator[World]:
    mailbox.envelopes.clear()
    venues = Sandbox(now=NOW)
    venues.__enter__()
    placed = Settings(
        home=tmp_path / "home",
        equities_start=date(2024, 1, 2),
        pinned_now=NOW,
        lock_timeout=20.0,
        alert_urls=(webhook.url, dead.url, mailbox.url),
        dagit_url="http://dagit.example:3000/",
    ).with_venues_at(venues.url)
    prepare_home(placed)
    settings = Moving.from_environment(placed.environment())
    (settings.home / "clock").write_text(NOW.isoformat())
    location = tmp_path / "location.py"
    location.write_text(_LOCATION.format(environment=settings.environment()))
    target = PythonFileTarget(str(location), None, None, None)
    with (
        instance_for_test(temp_dir=str(settings.dagster_home), overrides=unqueued()) as instance,
        create_test_daemon_workspace_context(target, instance) as daemon,
    ):
        leave_only(instance, daemon, "alerts")
        world = World(settings, instance, daemon, venues)
        try:
            yield world
        finally:
            world.kill_venues()
