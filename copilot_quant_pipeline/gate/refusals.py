"""Why a request is not let in, decided on what it says of itself.

Here: the facts of a request that matter, and the rules, each with what it tells whom it refuses.
Not here: reading the facts from a request or answering it (middleware); headers that a proxy may set and anybody else
as well (X-Forwarded-Host) are no facts.

Whatever page an operator opens, his browser sends what it wants to any address that he can reach, this machine's
included; what the page cannot choose are Host, Origin, Sec-Fetch-* and, unasked, a content type of JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from copilot_quant_pipeline.gate.names import Host, is_loopback, is_same, one_spelling, read_host
from copilot_quant_pipeline.gate.operations import changes_something, documents_of_message, documents_of_url

READING = ("GET", "HEAD")
_REPORTS = re.compile(r"/report_asset_(materialization|check|observation)(/|$)")
_BOTH = "GraphQL mutations come by POST with Content-Type: application/json only."


@dataclass(frozen=True)
class Facts:
    """What is known of a request or, with the method WEBSOCKET, of a websocket's first.

    Attributes:
        path: decoded, as the routes behind the gate see it.
        query: the URL's query string, as sent.
        hosts: the values of all Host headers; likewise `origins` and `content_types`.
        site, mode, destination: Sec-Fetch-Site, -Mode and -Dest, which not every browser sends everywhere.
        arrived_at: the address of this machine at which it came.
    """

    method: str
    path: str = "/"
    query: str = ""
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    content_types: tuple[str, ...] = ()
    site: str = ""
    mode: str = ""
    destination: str = ""
    arrived_at: str = ""


@dataclass(frozen=True)
class Rules:
    """Who is let in.

    Attributes:
        names: the names that Host may have besides loopback's, in one spelling.
        everywhere: whether the server listens at every address, so that the one at which a request came is its name.
        token: what a request must show; None lets everybody in whom the other rules let in.
        reports: whether /report_asset_* is on.
    """

    names: frozenset[str] = frozenset()
    everywhere: bool = False
    token: str | None = None
    reports: bool = False


@dataclass(frozen=True)
class Refusal:
    """An HTTP status, and one line that says what to do."""

    status: int
    says: str


Judge = Callable[[Facts, Rules], Refusal | None]

NO_TOKEN = Refusal(
    401,
    "A token is asked for: open this address once with ?token= and what COPILOT_QUANT_TOKEN is where Dagit was"
    " started; a script sends it as the header Authorization: Bearer.",
)


def judge_sender(facts: Facts, rules: Rules) -> Refusal | None:
    """Why whoever sends this is not let in, wherever it goes: by the name it uses, or the page it comes from."""
    host = read_host(facts.hosts[0]) if len(facts.hosts) == 1 else None
    if host is None:
        return Refusal(400, "A request says whom it asks in one Host header: a name or an address, and a port.")
    if not _is_ours(host, facts, rules):
        return Refusal(
            403,
            f"Nobody is called {host.name} here. Use 127.0.0.1 or localhost; if it is a name of this server, start it"
            f" with COPILOT_QUANT_HOSTS={host.name}.",
        )
    if not all(is_same(origin, host) for origin in facts.origins) or len(facts.origins) > 1:
        return Refusal(
            403,
            f"This comes from a page of another origin than {facts.hosts[0]}: use the page that is served here."
            " A proxy has to hand on the Host header that it was sent.",
        )
    return _judge_site(facts)


def judge_dagit(facts: Facts, rules: Rules) -> Refusal | None:
    """Why Dagit is not asked this: reading is free, changes come as Dagit's own pages make them."""
    if _REPORTS.match(_plain(facts.path)) and not rules.reports:
        return Refusal(
            403, "Reporting from outside is off: start Dagit with COPILOT_QUANT_REPORTS=on to have /report_asset_*."
        )
    if not _only_reads(documents_of_url(facts.query)):
        return Refusal(405, _BOTH)
    if facts.method in (*READING, "WEBSOCKET"):
        return None
    if facts.method != "POST" or not (facts.path == "/graphql" or _REPORTS.match(facts.path)):
        return Refusal(405, f"{facts.method} does nothing here; pages are read by GET, and GraphQL by POST /graphql.")
    is_empty_report = facts.path != "/graphql" and not facts.content_types
    return None if is_empty_report or _is_json(facts) else Refusal(415, _BOTH)


def judge_message(message: str) -> Refusal | None:
    """Why a websocket's message is not handed on: it subscribes to news, it changes nothing."""
    try:
        documents = documents_of_message(message)
    except RecursionError:
        return Refusal(400, "This message is nested too deep.")
    return None if _only_reads(documents) else Refusal(405, _BOTH)


def judge_control(facts: Facts, rules: Rules) -> Refusal | None:
    """Why a control route of the sandbox is not asked this: what it is told comes as JSON."""
    if facts.method in READING or _is_json(facts) or not facts.content_types:
        return None
    return Refusal(415, "Control routes take Content-Type: application/json only.")


def _is_ours(host: Host, facts: Facts, rules: Rules) -> bool:
    at = {one_spelling(facts.arrived_at)} if rules.everywhere and facts.arrived_at else set()
    return is_loopback(host.name) or host.name in rules.names or host.name in at


def _judge_site(facts: Facts) -> Refusal | None:
    if facts.site not in ("cross-site", "same-site"):
        return None
    follows_link = facts.mode == "navigate" and facts.destination in ("document", "") and facts.method in READING
    if follows_link:
        return None
    return Refusal(403, "This comes from a page of another origin: use the page that is served here.")


def _only_reads(documents: Iterable[str]) -> bool:
    try:
        return not any(map(changes_something, documents))
    except RecursionError:
        return False


def _is_json(facts: Facts) -> bool:
    kinds = [value.partition(";")[0].strip().lower() for value in facts.content_types]
    return kinds == ["application/json"]


def _plain(path: str) -> str:
    """A path without what only makes it look like another."""
    return re.sub(r"[/\\]+", "/", path.replace("%2f", "/").replace("%2F", "/")).lower()
