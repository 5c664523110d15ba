"""The one Settings object, read from COPILOT_QUANT_* once at the edge and handed down.

Here: what a user can set, its defaults and its validation; what of the environment must hold for all of a process.
Not here: anything computed from data. No other module reads the environment for a setting.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

from copilot_quant_pipeline.calendar import FIRST_DATE
from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.gate.names import names_of
from copilot_quant_pipeline.links import expect_mounted
from copilot_quant_pipeline.redaction import hide, secrets_of_proxy, secrets_of_url
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy

Source = Literal["sandbox", "live"]
T = TypeVar("T")
D = TypeVar("D")

# The settings that say where a venue is reached; YAHOO_URL is read into yahoo_url, and so on.
VENUE_URLS = (
    "yahoo_url",
    "wikipedia_url",
    "polymarket_gamma_url",
    "polymarket_clob_url",
    "polymarket_data_url",
    "kalshi_url",
    "manifold_url",
    "predictit_url",
    "metaculus_url",
)

# By these names they are set up (COPILOT_QUANT_<VENUE>_RATE).
VENUES = ("yahoo", "wikipedia", "polymarket", "kalshi", "manifold", "predictit", "metaculus")

# Of a home's path: what others take for a pattern.
_PATTERN = {
    "?": "DuckDB finds no file",
    "*": "Dagster finds the settings of other homes",
    "[": "Dagster does not find its settings",
}

# SQLite takes 512 bytes, of which dagster/history/runs/<run>.db-journal and a slash take 70.
_LONGEST_HOME = 440

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")

# Variables whose value is a secret, or an address that is one, by how they end.
_SECRET = re.compile(r"COPILOT_QUANT_\w*(TOKEN|KEY|SECRET|PASSWORD)$")
_SECRET_URLS = ("COPILOT_QUANT_ALERT_URLS", "COPILOT_QUANT_HEARTBEAT_URL")

_USER = r"(?:[\w.~!$&'()*+,;=:-]|%[0-9a-f]{2})*@"
_PROXY = re.compile(
    rf"(?:(?P<scheme>[a-z0-9]+)://)?(?:{_USER})?(?:[\w.-]+|\[[0-9a-f:.]+\])(?::\d{{1,5}})?/?",
    re.IGNORECASE | re.ASCII,
)
_SOCKS = ("socks4", "socks4a", "socks5", "socks5h")


@dataclass(frozen=True)
class Settings:
    """What a user can set.

    Attributes:
        source: `sandbox` (simulated venues) or `live`; the two never share a home.
        home: folder of everything stored: warehouse, landing, logs, Dagster's own home.
        equities_start: first date of the equities grid.
        closed: sessions of the calendar on which the exchange stayed closed all the same.
        markets_start: first date of the prediction markets' grid.
        markets_retire_days: how long a closed market stays on the grid's axis.
        markets_venues: the venues whose markets are followed,
        markets_categories: of these categories (all where empty),
        markets_top: the so many largest of each venue,
        markets_ids: and these always, as keys: `kalshi:KXFED-24NOV-T4.75`.
        yahoo_url: base URL that stands in for Yahoo's hosts; None is Yahoo itself (or, for the sandbox, its own).
            Likewise all of VENUE_URLS.
        metaculus_token: what Metaculus knows an account by.
        landing_ttl: how long a kept vendor response is good for.
        rates: by venue of VENUES the rate at which it is asked, where that is not its ordinary one,
        attempts: and how often a request is sent at most.
        lock_timeout: how long to wait for another process that is writing, in seconds.
        logs_days: how long a command's log is kept,
        landing_days: how long a vendor response, at least for as long as it is good,
        quarantine_days: and how long a proposal that was decided.
        wait: how long to wait for a turn at a pool, whose runs talk to a venue one at a time, in seconds.
        heal_cells: how many cells one tick of healing asks for at most.
        alert_urls: where alerts are sent, as apprise writes addresses; without any they are logged.
        hosts: names by which Dagit may be asked besides loopback's and the address it is served at.
        token: what whoever opens Dagit has to show once; None asks nobody.
        reports: whether what happened to assets that are no grid may be reported to Dagit from outside.
        heartbeat_url: called after each good tick of `ui`, so that another machine notices when there are none.
        dagit_url: where alerts say that Dagit is.
        pinned_now: an instant that stands in for the clock, for rehearsals and tests; None is the clock.
    """

    source: Source = "sandbox"
    home: Path = Path("data/sandbox")
    equities_start: date = date(2020, 1, 1)
    closed: tuple[date, ...] = ()
    markets_start: date = date(2024, 1, 1)
    markets_retire_days: int = 30
    markets_venues: tuple[str, ...] = ("polymarket", "kalshi")
    markets_categories: tuple[str, ...] = ()
    markets_top: int = 50
    markets_ids: tuple[str, ...] = ()
    yahoo_url: str | None = None
    wikipedia_url: str | None = None
    polymarket_gamma_url: str | None = None
    polymarket_clob_url: str | None = None
    polymarket_data_url: str | None = None
    kalshi_url: str | None = None
    manifold_url: str | None = None
    predictit_url: str | None = None
    metaculus_url: str | None = None
    metaculus_token: str | None = field(default=None, repr=False)
    landing_ttl: timedelta = timedelta(hours=6)
    rates: Mapping[str, RequestRate] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    lock_timeout: float = 120.0
    logs_days: int = 90
    landing_days: int = 30
    quarantine_days: int = 365
    wait: float = 7_200.0
    heal_cells: int = 50_000
    alert_urls: tuple[str, ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    reports: bool = False
    heartbeat_url: str | None = field(default=None, repr=False)
    dagit_url: str = "http://127.0.0.1:3000"
    pinned_now: datetime | None = None

    def __post_init__(self) -> None:
        """Have its secrets hidden from now on; refuse what no environment could hand to another process."""
        hide(secrets_in(self.environment()))
        if not self.markets_venues:
            raise UserError("no venue is followed; write for example COPILOT_QUANT_MARKETS_VENUES=polymarket,kalshi.")
        if odd := [character for character in _PATTERN if character in str(self.home.absolute())]:
            raise UserError(
                f"the home {self.home} has a {odd[0]} in its path, by which {_PATTERN[odd[0]]};"
                " give another with --home DIR or COPILOT_QUANT_HOME."
            )
        if len(os.fsencode(self.home.absolute())) > _LONGEST_HOME:
            raise UserError(
                f"the home's path is longer than {_LONGEST_HOME} bytes, with which SQLite cannot open all files of it;"
                " give a shorter one with --home DIR or COPILOT_QUANT_HOME."
            )
        if self.equities_start < FIRST_DATE:
            raise UserError(
                f"the grid cannot start on {self.equities_start}: the exchange's holidays are known from {FIRST_DATE}"
                " on; write COPILOT_QUANT_EQUITIES_START of that day or later."
            )

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, *, source: str | None = None, home: Path | None = None
    ) -> Settings:
        """Read COPILOT_QUANT_*; `source` and `home` win over the environment.

        Raises:
            UserError: A value does not parse; the line names the variable.
        """
        read = _Reader(os.environ if environ is None else environ)
        chosen = _source(source or read.text("SOURCE") or "sandbox")
        given = home or Path(read.text("HOME") or f"data/{chosen}")
        return cls(
            source=chosen,
            home=expect_mounted(given.expanduser().absolute()).resolve(),
            equities_start=read.parsed("EQUITIES_START", date.fromisoformat, cls.equities_start, "2020-01-01"),
            closed=read.parsed("CLOSED", _dates, cls.closed, "2026-09-10,2026-09-11"),
            markets_start=read.parsed("MARKETS_START", date.fromisoformat, cls.markets_start, "2024-01-01"),
            markets_retire_days=read.parsed("MARKETS_RETIRE_DAYS", _days, cls.markets_retire_days, "30"),
            markets_venues=read.parsed("MARKETS_VENUES", _some_words, cls.markets_venues, "polymarket,kalshi"),
            markets_categories=read.parsed("MARKETS_CATEGORIES", _words, cls.markets_categories, "politics,economics"),
            markets_top=read.parsed("MARKETS_TOP", _days, cls.markets_top, "50"),
            markets_ids=read.parsed("MARKETS_IDS", _words, cls.markets_ids, "kalshi:KXFED-24NOV-T4.75"),
            metaculus_token=read.text("METACULUS_TOKEN"),
            landing_ttl=read.parsed("LANDING_TTL", _hours, cls.landing_ttl, "6 (hours)"),
            rates=read.by_venue("RATE", RequestRate.parse, "8 (a second) or 16/60 (in 60 seconds)"),
            attempts=read.by_venue("ATTEMPTS", _count, "5"),
            lock_timeout=read.parsed("LOCK_TIMEOUT", _positive, cls.lock_timeout, "120 (seconds)"),
            logs_days=read.parsed("LOGS_DAYS", _count, cls.logs_days, "90"),
            landing_days=read.parsed("LANDING_DAYS", _count, cls.landing_days, "30"),
            quarantine_days=read.parsed("QUARANTINE_DAYS", _count, cls.quarantine_days, "365"),
            wait=read.parsed("WAIT", _positive, cls.wait, "7200 (seconds)"),
            heal_cells=read.parsed("HEAL_CELLS", _count, cls.heal_cells, "50000"),
            alert_urls=read.parsed("ALERT_URLS", _urls, cls.alert_urls, "json://localhost:8080/hook", secret=True),
            hosts=read.parsed("HOSTS", names_of, cls.hosts, "dagit.example.com,10.0.0.5"),
            token=read.parsed("TOKEN", _token, cls.token, "what `openssl rand -hex 16` prints", secret=True),
            reports=read.parsed("REPORTS", _switch, cls.reports, "on"),
            heartbeat_url=read.parsed("HEARTBEAT_URL", _url, None, "https://hc-ping.com/...", secret=True),
            dagit_url=read.parsed("DAGIT_URL", _url, cls.dagit_url, cls.dagit_url),
            pinned_now=read.parsed("NOW", _instant, cls.pinned_now, "2024-03-28T22:00:00Z"),
            **{name: read.parsed(name.upper(), _url, None, "http://127.0.0.1:8750") for name in VENUE_URLS},
        )

    def environment(self) -> dict[str, str]:
        """The COPILOT_QUANT_* variables that give these settings to another process."""
        given = {
            "SOURCE": self.source,
            "HOME": str(self.home),
            "EQUITIES_START": self.equities_start.isoformat(),
            "CLOSED": ",".join(map(str, self.closed)) or None,
            "MARKETS_START": self.markets_start.isoformat(),
            "MARKETS_RETIRE_DAYS": str(self.markets_retire_days),
            "MARKETS_VENUES": ",".join(self.markets_venues),
            "MARKETS_CATEGORIES": ",".join(self.markets_categories) or None,
            "MARKETS_TOP": str(self.markets_top),
            "MARKETS_IDS": ",".join(self.markets_ids) or None,
            "METACULUS_TOKEN": self.metaculus_token,
            "LANDING_TTL": str(self.landing_ttl / timedelta(hours=1)),
            **{f"{venue.upper()}_RATE": str(rate) for venue, rate in self.rates.items()},
            **{f"{venue.upper()}_ATTEMPTS": str(most) for venue, most in self.attempts.items()},
            "LOCK_TIMEOUT": str(self.lock_timeout),
            "LOGS_DAYS": str(self.logs_days),
            "LANDING_DAYS": str(self.landing_days),
            "QUARANTINE_DAYS": str(self.quarantine_days),
            "WAIT": str(self.wait),
            "HEAL_CELLS": str(self.heal_cells),
            "ALERT_URLS": " ".join(self.alert_urls) or None,
            "HOSTS": ",".join(self.hosts) or None,
            "TOKEN": self.token,
            "REPORTS": "on" if self.reports else "off",
            "HEARTBEAT_URL": self.heartbeat_url,
            "DAGIT_URL": self.dagit_url,
            "NOW": self.pinned_now.isoformat() if self.pinned_now else None,
            **{name.upper(): getattr(self, name) for name in VENUE_URLS},
        }
        return {f"COPILOT_QUANT_{name}": value for name, value in given.items() if value is not None}

    def with_venues_at(self, url: str) -> Settings:
        """These settings with every venue that has no URL of its own reached at `url`."""
        urls: dict[str, Any] = {name: getattr(self, name) or url for name in VENUE_URLS}
        return replace(self, **urls)

    @property
    def needs_sandbox(self) -> bool:
        """Whether some simulated venue has no address yet."""
        return self.source == "sandbox" and not all(getattr(self, name) for name in VENUE_URLS)

    def expect_metaculus_token(self) -> str:
        """What Metaculus asks every client for; the sandbox's takes any.

        Raises:
            UserError: There is none.
        """
        if not self.metaculus_token and self.source == "live":
            raise UserError(
                "Metaculus answers nobody without a token: set COPILOT_QUANT_METACULUS_TOKEN to the one of your "
                "account (metaculus.com, Settings, API access), or leave metaculus out."
            )
        return self.metaculus_token or "sandbox"

    def policy_of(self, venue: str, ordinary: RetryPolicy) -> RetryPolicy:
        """How a venue is asked: as is `ordinary` for it, but for what is set."""
        rate, attempts = self.rates.get(venue, ordinary.rate), self.attempts.get(venue, ordinary.attempts)
        return replace(ordinary, rate=rate, attempts=attempts)

    def now(self) -> datetime:
        """The present instant, aware UTC."""
        return self.pinned_now or datetime.now(UTC)

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file."""
        return self.home / "warehouse.duckdb"

    @property
    def landing_path(self) -> Path:
        """The folder of kept vendor responses."""
        return self.home / "landing"

    @property
    def dagster_home(self) -> Path:
        """The folder Dagster keeps its runs and events in."""
        return self.home / "dagster"

    @property
    def logs_path(self) -> Path:
        """The folder of the command's log files."""
        return self.home / "logs"


def keep_loopback_off_proxies(environ: MutableMapping[str, str] = os.environ) -> None:
    """Add this machine to what is asked without a proxy, where the environment sets one up.

    Stand-ins, the sandbox and Dagster's own servers are on loopback, where no proxy reaches them; curl and requests
    would ask it all the same.
    """
    if not any(name.lower() in _PROXIES for name in environ):
        return
    exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in exempt.split(",") if host.strip()]
    if hosts != ["*"]:
        exempt = ",".join(dict.fromkeys([*hosts, *_LOOPBACK]))
    environ["no_proxy"] = environ["NO_PROXY"] = exempt


def hide_secrets(environ: Mapping[str, str] = os.environ) -> None:
    """Have every text of this process hide what the environment's variables hold of secrets, valid or not."""
    hide(secrets_in(environ))


def secrets_in(environ: Mapping[str, str]) -> Iterator[str]:
    """The secrets that variables hold: tokens, addresses of channels, the users' parts of URLs and proxies."""
    for name, value in environ.items():
        if name.lower() in _PROXIES:
            yield from secrets_of_proxy(value)
        elif _SECRET.match(name):
            yield value
        elif name.startswith("COPILOT_QUANT_") and name.endswith(("_URL", "_URLS")):
            for url in value.split():
                yield from secrets_of_url(url, is_secret=name in _SECRET_URLS)


def expect_proxies(environ: Mapping[str, str] = os.environ) -> None:
    """See that each library will read the addresses of proxies alike: some tell a wrong one with its password.

    Raises:
        UserError: One of them is no address, or of a kind that cannot be used; the line does not tell it.
    """
    for name, value in environ.items():
        if name.lower() in _PROXIES and value.strip():
            _expect_proxy(name, value.strip())


def _expect_proxy(name: str, value: str) -> None:
    found = _PROXY.fullmatch(value)
    scheme = (found["scheme"] or "http").lower() if found else ""
    if scheme not in ("http", "https", *_SOCKS):
        raise UserError(
            f"{name} is no address of a proxy: write http://host:port, with user:password@ before the host where it"
            " asks for them, in which %40 stands for @, %3A for :, %2F for / and %25 for %."
        )
    if scheme in _SOCKS and find_spec("socks") is None:
        raise UserError(
            f"{name} names a {scheme} proxy, which needs PySocks: install it with pip install pysocks, or name an"
            " HTTP proxy."
        )


@dataclass(frozen=True)
class _Reader:
    environ: Mapping[str, str]

    def text(self, name: str) -> str | None:
        return self.environ.get(f"COPILOT_QUANT_{name}", "").strip() or None

    def by_venue(self, name: str, parse: Callable[[str], T], example: str) -> dict[str, T]:
        """What is set of the venues; without those of which nothing is."""
        given = {venue: self.parsed(f"{venue.upper()}_{name}", parse, None, example) for venue in VENUES}
        return {venue: value for venue, value in given.items() if value is not None}

    def parsed(self, name: str, parse: Callable[[str], T], default: D, example: str, *, secret: bool = False) -> T | D:
        value = self.text(name)
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError:
            given = f"COPILOT_QUANT_{name}" if secret else f"COPILOT_QUANT_{name}={value!r}"
            raise UserError(f"{given} is not understood; write for example {example}.") from None


def _source(value: str) -> Source:
    if value not in get_args(Source):
        raise UserError(f"source {value!r} is not known; choose sandbox or live.")
    return cast("Source", value)


def _positive(value: str) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError(value)
    return number


def _dates(value: str) -> tuple[date, ...]:
    return tuple(sorted({date.fromisoformat(word) for word in _words(value)}))


def _days(value: str) -> int:
    days = int(value)
    if days < 0:
        raise ValueError(value)
    return days


def _count(value: str) -> int:
    count = int(value)
    if count < 1:
        raise ValueError(value)
    return count


def _url(value: str) -> str:
    scheme, _, rest = value.partition("://")
    host = rest.partition("/")[0]
    if scheme.lower() not in ("http", "https") or not host or len(value.split()) != 1:
        raise ValueError(value)
    return value


def _urls(value: str) -> tuple[str, ...]:
    # Addresses may hold commas, never blanks.
    urls = tuple(value.split())
    if not all("://" in url for url in urls):
        raise ValueError(value)
    return urls


def _token(value: str) -> str:
    # What a header and a URL can carry.
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise ValueError(value)
    return value


def _switch(value: str) -> bool:
    if value.lower() not in ("on", "off"):
        raise ValueError(value)
    return value.lower() == "on"


def _words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _some_words(value: str) -> tuple[str, ...]:
    words = _words(value)
    if not words:
        raise ValueError(value)
    return words


def _hours(value: str) -> timedelta:
    return timedelta(hours=_positive(value))


def _instant(value: str) -> datetime:
    instant = datetime.fromisoformat(value)
    if instant.tzinfo is None:
        raise ValueError(value)
    return instant.astimezone(UTC)
