"""Metaculus: what a community forecasts. Nothing is traded; the "price" is its aggregated probability.

Here: its client and the pure readers of its format, posts that hold a question.
Not here: HTTP (http.py), the setting that holds the token, what is stored.

Known from Metaculus's published specification and server source: the routes and their fields, paging by `next`, the
token in each request, 1000 requests an hour. Uncertain, and only in this module:
- What an account may see. Forecasts can be kept back from it, and until a question's reveal time from everybody; both
  come as an empty history of a question that has forecasters, and are told as a refusal.
- Which aggregation is a question's own: `default_aggregation_method` where it is there, else the recency-weighted one.
- Whose the columns of a forecast are: of all options ever, or, of an older forecast, of those that were there by then
  (`options_history`). A forecast of another width fails its day.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

from copilot_quant_pipeline.errors import Malformed, NotFound, Rejected
from copilot_quant_pipeline.prediction_markets.http import HttpClient
from copilot_quant_pipeline.prediction_markets.json_fields import (
    Point,
    expect_distinct,
    gather,
    read_instant,
    spoiled_hours,
    with_faults,
)
from copilot_quant_pipeline.prediction_markets.pages import Page, Paging
from copilot_quant_pipeline.prediction_markets.shapes import (
    EARLIEST,
    Instant,
    Name,
    Shape,
    Share,
    Stamp,
    Words,
    cursor_in,
    key_of,
    named,
    parsed,
    records_in,
    shaped,
)
from copilot_quant_pipeline.prediction_markets.venue import (
    Catalog,
    Market,
    MarketQuery,
    Outcome,
    Semantics,
    Status,
)
from copilot_quant_pipeline.retry_policy import RequestRate, RetryPolicy, Wait
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline.vendor_clock import VendorClock

if TYPE_CHECKING:
    from copilot_quant_pipeline.prediction_markets.formats import Asking

SERVICE = "posts"
LISTING = "metaculus's list of posts"
URL = "https://www.metaculus.com"
# 960 an hour, below the published 1000.
POLICY = RetryPolicy(RequestRate(16, 60))
PAGE = 100
KINDS = ("binary", "multiple_choice")
STATUSES: dict[str, Status] = {"upcoming": "unopened", "open": "open", "closed": "closed", "resolved": "resolved"}
YES, NO = Outcome("Yes"), Outcome("No")
WINNERS = {"yes": YES.name, "no": NO.name}
USUAL_AGGREGATION = "recency_weighted"


class MetaculusCategory(Shape):
    """What a post is filed under."""

    slug: Name


class MetaculusProjects(Shape):
    """What a post belongs to."""

    category: list[MetaculusCategory] | None = None


class MetaculusQuestion(Shape):
    """The question of a post; its forecasts are read one by one."""

    rare = frozenset(
        {
            "actual_close_time",
            "actual_resolve_time",
            "all_options_ever",
            "options",
            "resolution",
            "scheduled_close_time",
        }
    )

    type: Words
    status: Words
    open_time: Instant | None = None
    actual_close_time: Instant | None = None
    scheduled_close_time: Instant | None = None
    actual_resolve_time: Instant | None = None
    resolution: Words | None = None
    options: list[Words] | None = None
    all_options_ever: list[Words] | None = None


class MetaculusPost(Shape):
    """A post that holds a question."""

    id: Name
    title: Words
    question: MetaculusQuestion
    projects: MetaculusProjects | list[Any] | None = None


class MetaculusForecast(Shape):
    """What the community forecast from `start_time` on (seconds since 1970): a probability an option."""

    start_time: Stamp
    centers: list[Share | None]


class _Stamped(Shape):
    start_time: Stamp


class _Filed(Shape):
    projects: MetaculusProjects | list[Any] | None = None


class Metaculus:
    """The venue at `url`, asked with an account's token.

    Its largest markets are those with the most forecasts; volumes there are none.
    """

    name: ClassVar[str] = "metaculus"
    policy: ClassVar[RetryPolicy] = POLICY
    semantics: ClassVar[Semantics] = Semantics(
        offers="changes", silence="no_trade", has_history=True, stakes="none", ends_unsaid="void"
    )

    def __init__(self, url: str = URL, *, token: str, policy: RetryPolicy = POLICY, wait: Wait | None = None) -> None:
        headers = {"Authorization": f"Token {token}"}
        witness = ("/api/posts/", {"limit": 1})
        self._http = HttpClient(self.name, url, policy, headers=headers, wait=wait, witness=witness)

    @property
    def heard(self) -> VendorClock:
        """What its answers say of the time."""
        return self._http.heard

    @property
    def traffic(self) -> Traffic:
        """Requests sent and retries so far."""
        return self._http.traffic

    def fetch_markets(self, query: MarketQuery) -> Catalog:
        """The questions that `query` asks for, categories being Metaculus's slugs of them."""
        if query.ids:
            return gather(self.name, query.ids, lambda name, attempts: parse_market(self._fetch_post(name, attempts)))
        categories = {category.lower() for category in query.categories}
        paging, wanted = Paging(), list[Any]()
        for page in self._pages(query.with_ended, paging):
            wanted += [post for post in page if _is_about(post, categories)]
            if query.limit and len(wanted) >= query.limit:
                break
        found = gather(self.name, wanted, lambda post, _: parse_market(post))
        return replace(
            found,
            markets=found.markets[: query.limit],
            incomplete=(*found.incomplete, *paging.incomplete),
            beyond=found.markets[query.limit :] if query.limit else (),
            shown=frozenset(one.id for one in found.markets if one.status == "open"),
            # Of who is missing beyond those with the most forecasts nothing is known.
            down_to=Decimal("Infinity") if paging.has_more else None,
        )

    def fetch_market(self, market_id: str) -> Market:
        """One question by the number of its post.

        Raises:
            NotFound: Metaculus does not know it.
            Rejected: It has no probabilities of outcomes: a number, a date, a group of questions, a notebook.
        """
        return parse_market(self._fetch_post(market_id))

    def fetch_prices(self, market: Market, start: datetime, end: datetime) -> pa.Table:
        """The last forecast of each hour in which it changed, at the instant of the change.

        Raises:
            Rejected: The community's forecast is not shown.
        """
        return parse_prices(market, self._fetch_post(market.id), start, end)

    def ask_each_route(self, ask: Asking) -> None:
        """Ask the list of questions, and one of them with its forecasts."""
        asked = {"forecast_type": list(KINDS), "statuses": ["open"], "order_by": "-forecasts_count", "limit": 20}
        posts = ask(
            "/api/posts/",
            lambda: self._http.get("/api/posts/", asked, attempts=1),
            MetaculusPost,
            lambda answer: records_in(answer, LISTING, "results"),
        )
        numbers = [name for post in posts if isinstance(post, dict) and (name := named(post, "id")).isdecimal()]
        if not numbers:
            ask.leave_out("/api/posts/{id}/", "no question is listed to ask it about")
            return
        read = partial(parsed, _expect_shown)
        ask("/api/posts/{id}/", lambda: self._fetch_post(numbers[0], 1), MetaculusForecast, read)

    def _fetch_post(self, number: str, attempts: int | None = None) -> Any:
        if not number.isdecimal():
            raise NotFound(f"metaculus knows no question {number!r}; its questions are numbers, like 3530")
        # Whether a post comes with its forecasts by default has changed over time.
        asked = {"with_cp": "true", "include_cp_history": "true"}
        return self._http.get(f"/api/posts/{number}/", asked, attempts=attempts)

    def _pages(self, with_ended: bool, paging: Paging) -> Iterator[list[Any]]:
        """Every post of a kind that has probabilities, those with the most forecasts first."""
        asked = {
            "forecast_type": list(KINDS),
            "statuses": ["open", "upcoming", "closed", "resolved"] if with_ended else ["open", "upcoming"],
            "order_by": "-forecasts_count",
            "limit": PAGE,
        }

        def fetch(query: str | None) -> Page[Any, str]:
            page = self._http.get("/api/posts/", asked if query is None else dict(parse_qs(query)))
            after, is_cut = _next(page)
            return Page.of(records_in(page, LISTING, "results"), after, page, has_more=is_cut)

        yield from paging.read(fetch, key_of, LISTING)
        paging.expect_begun()


def parse_market(post: Any) -> Market:
    """A market from a post.

    Raises:
        Malformed: It cannot be read.
        Rejected: It has no probabilities of outcomes.
    """
    question = post.get("question") if isinstance(post, dict) else None
    kind = question.get("type") if isinstance(question, dict) else None
    if isinstance(post, dict) and (question is None or (isinstance(kind, str) and kind not in KINDS)):
        raise Rejected(f"metaculus's {named(post)} is no question with probabilities of outcomes")
    return parsed(lambda one: _market(shaped(one, MetaculusPost)), post)


def parse_prices(market: Market, post: Any, start: datetime, end: datetime) -> pa.Table:
    """Hourly points of a post's community forecast.

    Raises:
        Malformed: It cannot be read; SpoiledDays where forecasts of some days cannot be, with the others.
        Rejected: It is not shown.
    """
    forecasts = parsed(_expect_shown, post)
    told = with_faults(
        forecasts,
        lambda forecast: parsed(
            lambda one: _points(market, post["question"], shaped(one, MetaculusForecast)), forecast
        ),
        lambda forecast: shaped(forecast, _Stamped).start_time,
    )
    points = (point for some in told.good for point in some)
    return spoiled_hours(market, points, told.faults, start, end, SERVICE)


def _market(post: MetaculusPost) -> Market:
    question = post.question
    outcomes, status = _outcomes(question), STATUSES[question.status]
    return Market(
        venue=Metaculus.name,
        id=post.id,
        slug=post.id,
        title=post.title or post.id,
        category=next(iter(_categories(post.projects)), None),
        outcomes=outcomes,
        opened_at=question.open_time,
        closes_at=question.actual_close_time or question.scheduled_close_time,
        status=status,
        result=_winner(question, outcomes) if status == "resolved" else None,
        resolved_at=question.actual_resolve_time if status == "resolved" else None,
        facts={"tags": _categories(post.projects)},
    )


def _outcomes(question: MetaculusQuestion) -> tuple[Outcome, ...]:
    if question.type == "binary":
        return YES, NO
    return expect_distinct(tuple(Outcome(name) for name in _options_ever(question)))


def _options_ever(question: MetaculusQuestion) -> list[str]:
    """Every option the question ever had, in the order of a forecast's columns; deleted ones keep theirs."""
    ever = [*(question.all_options_ever or ())]
    return [*ever, *(name for name in question.options or () if name not in ever)]


def _columns(question: dict[str, Any], at: datetime, width: int) -> list[str]:
    """Whose the columns of a forecast of that width are.

    Raises:
        Malformed: It cannot be told.
    """
    read = shaped(question, MetaculusQuestion)
    ever, now = _options_ever(read), [*(read.options or ())]
    history = sorted((read_instant(since), [str(one) for one in some]) for since, some in _history_of(question))
    until = [some for since, some in history if since <= at] or [some for _, some in history[:1]]
    by_then = [name for name in ever if any(name in some for some in until)]
    for names in (ever, *reversed(until[-1:]), by_then, now):
        if len(names) == width:
            return names
    raise Malformed(f"metaculus forecasts {width} options of {len(ever)}")


def _history_of(question: dict[str, Any]) -> list[tuple[Any, Any]]:
    """When the question got which options; nothing where it does not say."""
    told = question.get("options_history") or ()
    # Its first entry stands for always, and may carry a date that is none.
    return [(EARLIEST.isoformat() if not place else since, some) for place, (since, some) in enumerate(told)]


def _winner(question: MetaculusQuestion, outcomes: tuple[Outcome, ...]) -> str | None:
    resolution = question.resolution or ""
    name = WINNERS.get(resolution) if outcomes == (YES, NO) else resolution
    return name if name in {outcome.name for outcome in outcomes} else None


def _categories(projects: MetaculusProjects | list[Any] | None) -> list[str]:
    filed = projects.category if isinstance(projects, MetaculusProjects) else None
    return [category.slug.lower() for category in filed or ()]


def _is_about(post: Any, categories: set[str]) -> bool:
    try:
        return not categories or not categories.isdisjoint(_categories(shaped(post, _Filed).projects))
    except Malformed:
        # Kept, so that it is named as broken.
        return True


def _points(market: Market, question: dict[str, Any], forecast: MetaculusForecast) -> list[Point]:
    at, centers = forecast.start_time, forecast.centers
    if market.outcomes == (YES, NO):
        yes = centers[0]
        names, centers = [YES.name, NO.name], [yes, None if yes is None else Decimal(1) - yes]
    else:
        names = _columns(question, at, len(centers))
    told = zip(names, centers, strict=True)
    return [Point(name, at, center, "forecast") for name, center in told if center is not None]


def _expect_shown(post: dict[str, Any]) -> list[Any]:
    question = post["question"]
    aggregations = question["aggregations"]
    method = question.get("default_aggregation_method")
    shown = aggregations[method if method in aggregations else USUAL_AGGREGATION]["history"]
    if shown is None or (not shown and post.get("nr_forecasters")):
        raise Rejected(
            f"metaculus does not show the community's forecast of {named(post)} to this account "
            f"(revealed at: {question.get('cp_reveal_time') or 'not said'})"
        )
    return records_in(shown, f"metaculus's history of {named(post)}")


def _next(page: Any) -> tuple[str | None, bool]:
    """What the next page is asked for by, the query of the address that this one gives; and whether it is none."""
    address, is_cut = cursor_in(page, "next")
    with suppress(ValueError):
        return (urlsplit(address).query if address else None), is_cut
    return None, True
