"""What a command works with: the home, its Dagster instance, the job, the warehouse, the bar.

Here: opening and closing these, with the log and the sandbox where it is wanted; Ctrl-C told from an error.
Not here: what is done with them (backfill, upkeep), how the instance is set up (ledger).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from copilot_quant_pipeline.cli.output import Bar
from copilot_quant_pipeline.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

    from copilot_quant_pipeline.ledger.turns import WaitLimits
    from copilot_quant_pipeline.prediction_markets.following import FollowRule
    from copilot_quant_pipeline.prediction_markets.venue import Market
    from copilot_quant_pipeline.upkeep.backfill import Followed
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Platform:
    """What a command that settles cells works with."""

    settings: Settings
    job: dg.JobDefinition
    instance: dg.DagsterInstance
    warehouse: Warehouse
    bar: Bar
    as_json: bool

    def symbols(self) -> tuple[str, ...]:
        """The symbols on the axis."""
        from copilot_quant_pipeline.grid.axes import SYMBOL, keys_on_axis

        return tuple(keys_on_axis(self.instance, SYMBOL))

    def markets(self, rule: FollowRule | None = None) -> tuple[str, ...]:
        """The keys of the markets on the axis; of a rule those of its venues and categories."""
        from copilot_quant_pipeline.grid.axes import MARKET, keys_on_axis

        keys = tuple(keys_on_axis(self.instance, MARKET))
        return keys if rule is None else tuple(one.key for one in self._covered(rule, keys))

    def ended_since(self, day: date, rule: FollowRule) -> tuple[str, ...]:
        """The keys of markets on the axis, of the rule's venues and categories, that ended on that UTC day or later."""
        from copilot_quant_pipeline.prediction_markets.following import ENDED

        ended = (one for one in self._covered(rule, self.markets()) if one.status in ENDED and one.closes_at)
        return tuple(one.key for one in ended if one.closes_at and one.closes_at.date() >= day)

    def knows_any(self, rule: FollowRule) -> bool:
        """Whether any market of the rule's venues and categories was ever followed or seen."""
        return bool(self._covered(rule, None))

    def _covered(self, rule: FollowRule, keys: Sequence[str] | None) -> list[Market]:
        from copilot_quant_pipeline.prediction_markets.sources import read_catalog

        return [one for one in read_catalog(self.warehouse, keys) if rule.covers(one)]

    def fetch_members(self) -> tuple[str, ...]:
        """Today's S&P 500, read anew; where the page is refused, the last good list, told loudly."""
        from copilot_quant_pipeline.upkeep.backfill import refresh_members

        return refresh_members(self.job, self.instance, self.warehouse)

    def follow(self, rule: FollowRule) -> Followed:
        """The markets that `rule` chooses, listed anew; what is wrong with a venue is told."""
        from copilot_quant_pipeline.upkeep.backfill import refresh_catalog

        return refresh_catalog(self.job, self.instance, self.warehouse, rule)


@contextmanager
def open_platform(settings: Settings, command: str, as_json: bool, verbose: bool) -> Iterator[Platform]:
    """All of it for `command`, with a sandbox of its own where a simulated venue has no address."""
    from copilot_quant_pipeline.definitions import build_definitions
    from copilot_quant_pipeline.equities.sources import EquitySources
    from copilot_quant_pipeline.home import logging_into, prepare_home, wide_rights_once
    from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance
    from copilot_quant_pipeline.prediction_markets.sources import MarketSources
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    prepare_home(settings)
    install_instance_config(settings.dagster_home)
    bar = Bar()
    with ExitStack() as stack:
        path = stack.enter_context(logging_into(settings, command, verbose=verbose))
        stack.enter_context(interrupts_told())
        log.debug("%s with %s, log in %s", command, settings, path)
        warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
        with warehouse.connect_read_only():
            pass  # a file that cannot be used is told before anything is asked
        tell_closed(warehouse, settings)
        if settings.needs_sandbox:
            from copilot_quant_pipeline.sandbox import Sandbox

            venues = stack.enter_context(Sandbox(now=settings.pinned_now))
            settings = settings.with_venues_at(venues.url)
        instance = stack.enter_context(
            open_instance(settings.dagster_home, capture_output=False, patience=_patience(settings))
        )
        stack.enter_context(_accounts_settled(instance, warehouse))
        definitions = build_definitions(
            settings,
            equity_sources=EquitySources.reached_by(settings, bar.advance),
            market_sources=MarketSources.reached_by(settings, bar.advance),
        )
        job = definitions.resolve_implicit_global_asset_job_def()
        if wide := wide_rights_once(settings.home):
            log.warning("%s", wide)
        yield Platform(settings, job, instance, warehouse, bar, as_json)


@contextmanager
def open_ledger(settings: Settings, command: str, verbose: bool) -> Iterator[dg.DagsterInstance]:
    """The home's Dagster instance, for a command that asks no venue."""
    from copilot_quant_pipeline.home import logging_into, prepare_home, wide_rights_once
    from copilot_quant_pipeline.ledger.instance import install_instance_config, open_instance
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    prepare_home(settings)
    install_instance_config(settings.dagster_home)
    with (
        logging_into(settings, command, verbose=verbose),
        interrupts_told(),
        open_instance(settings.dagster_home, patience=_patience(settings)) as instance,
        _accounts_settled(instance, Warehouse(settings.warehouse_path, settings.lock_timeout)),
    ):
        if wide := wide_rights_once(settings.home):
            log.warning("%s", wide)
        yield instance


def _patience(settings: Settings) -> WaitLimits:
    from copilot_quant_pipeline.ledger.turns import WaitLimits

    return WaitLimits(settings.lock_timeout, settings.wait)


@contextmanager
def _accounts_settled(instance: dg.DagsterInstance, warehouse: Warehouse) -> Iterator[None]:
    """Before a command and after it, paint the cells of runs that have ended without saying what became of them.

    Afterwards these are its own, which met a full disk or were interrupted. If the disk is still full, whoever comes
    next paints them.
    """
    from copilot_quant_pipeline.upkeep.accounts import settle_accounts

    settle_accounts(instance, warehouse)
    try:
        yield
    finally:
        try:
            settle_accounts(instance, warehouse)
        except Exception:
            log.debug("what became of the cells of some run is painted by the next command", exc_info=True)


@dataclass(frozen=True)
class Axes:
    """What is on the axes: the keys by grid (none of a grid whose axis is empty), and in words what can be no key."""

    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bad: tuple[str, ...] = ()


def read_axes(settings: Settings) -> Axes:
    """What is on the axes of a home; nothing where Dagster was never opened in it, or cannot be."""
    from copilot_quant_pipeline.ledger.instance import open_instance
    from copilot_quant_pipeline.ledger.troubles import BusyLedgerError, UnwritableLedgerError

    if not (settings.dagster_home / "dagster.yaml").exists():
        return Axes()
    try:
        with open_instance(settings.dagster_home, capture_output=False) as instance:
            return axes_of(instance)
    except (OSError, BusyLedgerError, UnwritableLedgerError) as error:  # a home that may only be read
        log.debug("the axes of %s cannot be read: %s", settings.dagster_home, error)
        return Axes()


def axes_of(instance: dg.DagsterInstance) -> Axes:
    """What is on the axes of an open instance."""
    from copilot_quant_pipeline.grid.axes import bad_keys, keys_on_axis
    from copilot_quant_pipeline.upkeep.healing import GRIDS

    keys = {grid.name: tuple(keys_on_axis(instance, grid.axis)) for grid in GRIDS}
    bad = (one.wrong for grid in GRIDS for one in bad_keys(instance, grid.axis).values())
    return Axes({grid: on_axis for grid, on_axis in keys.items() if on_axis}, tuple(bad))


def tell_closed(warehouse: Warehouse, settings: Settings) -> None:
    """Take what is stored of dates that have left the axis, and tell it; likewise those that have bars and stay."""
    from copilot_quant_pipeline.warehouse.closures import drop_closed, read_closures

    drop_closed(warehouse, settings)
    for day, bars in read_closures(settings).kept.items():
        log.warning("%s stays on the axis though the exchange is said to have been closed: it has %d bars", day, bars)


class InterruptedByUserError(Exception):
    """Ctrl-C; typer would end the process without a word."""


@contextmanager
def interrupts_told() -> Iterator[None]:
    """While open, Ctrl-C is told as such, and what else ends the command is in its log."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedByUserError from None
    except Exception:
        log.debug("the command ended with", exc_info=True)
        raise
