"""From the cells a run asks for to what the warehouse is handed: which window, kept or fetched, settled.

Here: planning windows, taking kept responses, asking in threads, putting the pieces together.
Not here: one request (yahoo.py), one cell's fate (bars.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, TypeVar

import pyarrow as pa

from copilot_quant_pipeline.calendar import NEW_YORK, last_completed_session, previous_session, session_close
from copilot_quant_pipeline.equities.bars import SettledBars, actions_told, bars_beside, settle_span
from copilot_quant_pipeline.equities.brake import Brake
from copilot_quant_pipeline.equities.chart import BARS_AS_SENT, SpoiledAction, VendorBars
from copilot_quant_pipeline.equities.comparison import disagreements
from copilot_quant_pipeline.equities.lives import Judged, is_tail_of_another, is_whole, judge, settle_judged
from copilot_quant_pipeline.equities.yahoo import YahooClient
from copilot_quant_pipeline.errors import BeforeFirstBar, Unavailable, VendorError
from copilot_quant_pipeline.grid.cells import Span
from copilot_quant_pipeline.landing import InBackfill, Kept, Landing, is_usable, keep_refusal, read_refusal
from copilot_quant_pipeline.transport import Traffic
from copilot_quant_pipeline.warehouse.fetch_result import CELLS, WARNED, WINDOWS, Compared, Harvest, SeenAgain, Sighting
from copilot_quant_pipeline.warehouse.instruments import Life
from copilot_quant_pipeline.warehouse.tables import ACTIONS, BARS

T = TypeVar("T")
R = TypeVar("R")

# The newest sessions are within this many calendar days of today, whatever holidays and weekends lie between.
TAIL_DAYS = 7


@dataclass(frozen=True)
class ChartWindow:
    """What to ask of the venue: `start` to `end`, both included; `end` is today (see chart.VendorBars)."""

    kind: Literal["history", "tail"]
    start: date
    end: date


@dataclass(frozen=True)
class Fetching:
    """How one run fetches.

    Attributes:
        grid_start: first date of the grid, where a history begins.
        now: the instant the run works at, aware UTC.
        ttl: how long a kept response is good for.
        source: the venue's name in the rows.
        refresh: whether kept responses are ignored.
        backfill: the backfill that the run is one of many of; its runs share one kept history each symbol, or one
            refusal, whatever `refresh` says and though cells may fail by it.
        threads: how many symbols are asked at once.
        stored_beside: the symbols that have bars besides those asked for: the newest sessions of these are asked for
            alone, and what an answer brings of the stored ones, too, is handed over to be compared. Only of answers
            fetched now: a kept one was compared when it came.
        lives: by symbol what is stored of the company that it names.
        settled_empty: the symbols with sessions that are settled without a bar, of which an answer may bring one; for
            each the newest that is `not_listed`, None where none is.
    """

    grid_start: date
    now: datetime
    ttl: timedelta
    source: str
    refresh: bool = False
    backfill: InBackfill | None = None
    threads: int = 8
    stored_beside: Collection[str] = frozenset()
    lives: Mapping[str, Life] = field(default_factory=dict)
    settled_empty: Mapping[str, date | None] = field(default_factory=dict)


def plan_window(span: Span, grid_start: date, today: date, *, whole: bool) -> ChartWindow:
    """The tail where it holds all that is asked and the `whole` history is not wanted, else the history.

    The tail begins a session early: the bar before the first asked one may be provisional still, and is seen again.
    """
    tail_start = today - timedelta(days=TAIL_DAYS)
    if span.start >= tail_start and not whole:
        return ChartWindow("tail", previous_session(tail_start), today)
    return history_window(span, grid_start, today)


def history_window(span: Span, grid_start: date, today: date) -> ChartWindow:
    """The grid's start to today."""
    return ChartWindow("history", min(grid_start, span.start), today)


@dataclass(frozen=True)
class Reread:
    """Whole histories asked for again: `harvest` has no cells, only what was seen; `refused` says why of the others."""

    harvest: Harvest
    refused: Mapping[str, VendorError]


def fetch_spans(
    client: YahooClient,
    landing: Landing,
    spans: Sequence[Span],
    how: Fetching,
    on_cells: Callable[[int], None] = lambda _: None,
) -> Harvest:
    """Settle every cell of `spans`; `on_cells` hears of each symbol's as they are, in the calling thread.

    Errors of the venue become failed cells. An interrupt ends all waiting and is passed on; what was fetched
    is kept in `landing`.
    """
    started_at, before = datetime.now(UTC), client.traffic
    one = _OneSpan(
        client, landing, how, Brake([span.key for span in spans]), session_close(last_completed_session(how.now))
    )
    pieces: dict[str, _Piece] = {}
    with closing(_pieces(one, spans, how.threads)) as settled:
        for key, piece in settled:
            pieces[key] = piece
            on_cells(piece.settled.cells.num_rows)
    in_order = [pieces[span.key] for span in spans]
    return _harvest(in_order, client.traffic - before, started_at)


def reread_histories(client: YahooClient, landing: Landing, symbols: Sequence[str], how: Fetching) -> Reread:
    """Ask for the whole history of each of `symbols`, to be compared with what is stored.

    Errors of the venue are in the answer. An interrupt ends all waiting and is passed on.
    """
    started_at, before = datetime.now(UTC), client.traffic
    one = _OneSpan(client, landing, how, Brake(symbols), session_close(last_completed_session(how.now)))
    with closing(_in_threads(one.reread, {symbol: symbol for symbol in symbols}, one.brake, how.threads)) as read:
        answers = dict(read)
    pieces = [answer for answer in answers.values() if isinstance(answer, _Piece)]
    refused = {symbol: answer for symbol, answer in answers.items() if isinstance(answer, VendorError)}
    return Reread(_harvest(pieces, client.traffic - before, started_at), refused)


@dataclass(frozen=True)
class _Piece:
    """One symbol's part of a harvest; `windows` are rows of `WINDOWS`, as `beside` has those of `BARS`.

    `warned` (`WARNED`) is where the answer contradicts itself, and `compared` the rows of `WINDOWS` that it was.
    """

    settled: SettledBars
    beside: pa.Table = field(default_factory=BARS.arrow.empty_table)
    windows: Sequence[Mapping[str, Any]] = ()
    sightings: Sequence[Sighting] = ()
    warned: pa.Table = field(default_factory=WARNED.empty_table)
    compared: Sequence[Mapping[str, Any]] = ()


def _harvest(pieces: Sequence[_Piece], traffic: Traffic, started_at: datetime) -> Harvest:
    settled = [piece.settled for piece in pieces]
    windows = [window for piece in pieces for window in piece.windows]
    beside = pa.concat_tables([BARS.arrow.empty_table(), *(piece.beside for piece in pieces)]).combine_chunks()
    return Harvest(
        cells=pa.concat_tables([CELLS.empty_table(), *(piece.cells for piece in settled)]).combine_chunks(),
        rows=pa.concat_tables([BARS.arrow.empty_table(), *(piece.rows for piece in settled)]).combine_chunks(),
        actions=pa.concat_tables([ACTIONS.arrow.empty_table(), *(piece.actions for piece in settled)]),
        seen_again=SeenAgain(beside, pa.Table.from_pylist(windows, schema=WINDOWS)) if windows else None,
        sightings=tuple(sighting for piece in pieces for sighting in piece.sightings),
        compared=_compared(pieces),
        requests=traffic.requests,
        retries=traffic.retries,
        started_at=started_at,
    )


def _compared(pieces: Sequence[_Piece]) -> Compared | None:
    windows = [window for piece in pieces for window in piece.compared]
    if not windows:
        return None
    rows = pa.concat_tables([WARNED.empty_table(), *(piece.warned for piece in pieces)])
    return Compared(rows, pa.Table.from_pylist(windows, schema=WINDOWS))


def _pieces(one: _OneSpan, spans: Sequence[Span], threads: int) -> Generator[tuple[str, _Piece]]:
    """Each symbol's cells as they are settled; first what is kept, which one thread reads fastest."""
    to_ask = {}
    for span in spans:
        kept = one.settle_kept(span)
        if kept is None:
            to_ask[span.key] = span
        else:
            yield span.key, kept
    yield from _in_threads(one.settle_fetched, to_ask, one.brake, threads)


def _in_threads(ask: Callable[[T], R], of: Mapping[str, T], brake: Brake, threads: int) -> Generator[tuple[str, R]]:
    """What `ask` gives for each key, as it is there; whatever ends the caller ends all waiting."""
    with ThreadPoolExecutor(threads, thread_name_prefix="yahoo") as pool:
        futures = {pool.submit(ask, given): key for key, given in of.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            brake.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True)
class _OneSpan:
    """The steps of one symbol."""

    client: YahooClient
    landing: Landing
    how: Fetching
    brake: Brake
    last_close: datetime

    def settle_kept(self, span: Span) -> _Piece | None:
        """The cells settled from a kept response, where one is good enough.

        One by which cells fail is not, and none is for a refresh: the venue may have better by now. Only what this
        same backfill has fetched is always good enough: its runs must not each ask again.
        """
        window = self._window(span)
        asked = (span.start, span.end)
        refused = read_refusal(self.landing, _folder(window.kind), span.key, of=self.how.backfill, window=asked)
        if refused:
            return _Piece(self._refused(span, refused.error))
        # A kept history holds the tail as well.
        for kind in dict.fromkeys(("history", window.kind)):
            kept = self.landing.read(_folder(kind), span.key)
            # One kept by a program that read less of it does not hold what is asked.
            if kept and kept.payload.schema.equals(BARS_AS_SENT) and self._is_usable(kept, span):
                judged = self._judged(_vendor_bars(span.key, kept))
                settled = self._settled(span, judged)
                if self._is_of_this_backfill(kept) or not (self.how.refresh or _has_failed(settled)):
                    piece = _Piece(settled, sightings=_sightings(judged))
                    # Of the many runs of a backfill the one that fetched has compared; an interrupt may have come
                    # between any other's fetching and storing.
                    return piece if self.how.backfill else _compared_with_venue(piece, judged)
        return None

    def settle_fetched(self, span: Span) -> _Piece:
        """The cells settled from what the venue answers now, and what else it brings where that can tell of changes."""
        window = self._window(span)
        answer = self._fetched(span.key, window)
        if window.kind == "tail" and (self._is_inconclusive(span, answer) or _begins_with_split(answer)):
            answer = self._fetched(span.key, history_window(span, self.how.grid_start, window.end))
        if isinstance(answer, VendorError):
            return _Piece(self._refused(span, answer))
        judged = self._judged(answer)
        piece = _Piece(self._settled(span, judged), sightings=self._looked_at(judged))
        if judged.answer and (span.key in self.how.stored_beside or span.key in self.how.settled_empty):
            piece = self._with_beside(piece, judged.answer, span.dates)
        return _compared_with_venue(piece, judged)

    def reread(self, symbol: str) -> _Piece | VendorError:
        """The symbol's whole history as the venue tells it now; nothing is asked of any cell."""
        answer = self._fetched(symbol, ChartWindow("history", self.how.grid_start, self._today))
        if isinstance(answer, VendorError):
            return answer
        judged = self._judged(answer)
        nothing = SettledBars(CELLS.empty_table(), BARS.arrow.empty_table(), ACTIONS.arrow.empty_table())
        piece = _Piece(nothing, sightings=self._looked_at(judged))
        if judged.answer is None:
            return piece
        told = actions_told(judged.answer, source=self.how.source)
        piece = replace(piece, settled=replace(nothing, actions=told))
        return _compared_with_venue(self._with_beside(piece, judged.answer, ()), judged)

    def _judged(self, answer: VendorBars) -> Judged:
        life = self.how.lives.get(answer.symbol, Life())
        return judge(answer, life, whole=is_whole(answer, self.how.grid_start))

    def _looked_at(self, judged: Judged) -> Sequence[Sighting]:
        """What the answer says of its company, and that its prices are to be compared where it is all there is."""
        answer, found = judged.answer, _sightings(judged)
        if answer is None or judged.life.last_bar is None or not judged.whole:
            return found
        return (*found, Sighting(answer.symbol, "another_history", "same", answer.fetched_at))

    def _with_beside(self, piece: _Piece, answer: VendorBars, asked: Sequence[date]) -> _Piece:
        window = {"key": answer.symbol, "start": answer.start, "end": answer.end, "fetched_at": answer.fetched_at}
        return replace(piece, beside=bars_beside(answer, asked, source=self.how.source), windows=[window])

    def _window(self, span: Span) -> ChartWindow:
        # The history is kept, and one request then serves a Dagit backfill's other runs, too; a symbol of which nothing
        # is stored yet is about to have its history asked for, or just had it.
        whole = self.how.backfill is not None or span.key not in self.how.stored_beside
        # Whether it is of another company only the whole history tells.
        whole = whole or self.how.lives.get(span.key, Life()).is_questioned
        return plan_window(span, self.how.grid_start, self._today, whole=whole)

    @property
    def _today(self) -> date:
        return self.how.now.astimezone(NEW_YORK).date()

    def _is_usable(self, kept: Kept, span: Span) -> bool:
        how, dates = self.how, (span.start, span.end)
        return is_usable(kept, *dates, now=how.now, last_completed_close=self.last_close, ttl=how.ttl)

    def _is_of_this_backfill(self, kept: Kept) -> bool:
        backfill = self.how.backfill
        return backfill is not None and kept.fetched_at >= backfill.since

    def _fetched(self, symbol: str, window: ChartWindow) -> VendorBars | VendorError:
        try:
            names = self.how.lives.get(symbol, Life()).names
            bars = self.client.fetch_bars(symbol, window.start, window.end, brake=self.brake, names=names)
        except VendorError as error:
            self._keep_refusal(symbol, window, error)
            return error
        if window.kind == "history" and symbol in self.how.stored_beside and not _has_bars(bars):
            return Unavailable(f"{symbol}: Yahoo's history of it is empty, and there were bars before")
        self.landing.keep(_folder(window.kind), symbol, _kept_bars(bars))
        return bars

    def _keep_refusal(self, symbol: str, window: ChartWindow, error: VendorError) -> None:
        if self.how.backfill:
            asked, folder = (window.start, window.end), _folder(window.kind)
            keep_refusal(self.landing, folder, symbol, error, of=self.how.backfill, window=asked, at=self.how.now)

    def _settled(self, span: Span, judged: Judged) -> SettledBars:
        return settle_judged(span, judged, now=self.how.now, source=self.how.source)

    def _refused(self, span: Span, error: VendorError) -> SettledBars:
        return settle_span(span, error, now=self.how.now, source=self.how.source)

    def _is_inconclusive(self, span: Span, answer: VendorBars | VendorError) -> bool:
        """Whether only the history can tell.

        There is nothing in the tail, or not from its first asked session on; or it tells of a listing after the last
        bar stored, or before a session that is settled as not listed.
        """
        if isinstance(answer, VendorError):
            return isinstance(answer, BeforeFirstBar)
        dates = answer.bars.column("date")
        late = answer.first_trade_date is None and len(dates) > 0 and dates[0].as_py() > span.start
        listed, denied = answer.first_trade_date, self.how.settled_empty.get(span.key)
        sooner = listed is not None and denied is not None and listed <= denied
        return len(dates) == 0 or late or sooner or is_tail_of_another(answer, self.how.lives.get(span.key, Life()))


def _sightings(judged: Judged) -> Sequence[Sighting]:
    return (judged.sighting,) if judged.sighting else ()


def _compared_with_venue(piece: _Piece, judged: Judged) -> _Piece:
    """The piece, with what a whole history contradicts itself in; a tail is too short to tell."""
    answer = judged.answer
    if answer is None or not judged.whole:
        return piece
    warned, compared = disagreements(answer)
    if compared is None:
        return piece
    start, end = compared
    window = {"key": answer.symbol, "start": start, "end": end, "fetched_at": answer.fetched_at}
    return replace(piece, warned=warned, compared=[window])


def _has_failed(settled: SettledBars) -> bool:
    return "failed" in settled.cells.column("outcome").unique().to_pylist()


def _begins_with_split(answer: VendorBars | VendorError) -> bool:
    """Whether a split is told of which no bar can show that what was before it is divided."""
    if isinstance(answer, VendorError) or not answer.bars.num_rows:
        return False
    return bool(answer.bars.column("split_ratio")[0].as_py() != 1)


def _has_bars(bars: VendorBars) -> bool:
    close = bars.bars.column("close")
    return bool(close.null_count < len(close))


def _folder(kind: str) -> str:
    return f"YAHOO-{kind.upper()}"


def _kept_bars(bars: VendorBars) -> Kept:
    listed = bars.first_trade_date.isoformat() if bars.first_trade_date else None
    spoiled = {day.isoformat(): [why.reason, why.words, why.hides_earlier] for day, why in bars.spoiled.items()}
    facts = {"first_trade_date": listed, "spoiled": spoiled}
    return Kept(bars.bars, bars.start, bars.end, bars.fetched_at, facts)


def _vendor_bars(symbol: str, kept: Kept) -> VendorBars:
    listed, spoiled = kept.facts.get("first_trade_date"), kept.facts.get("spoiled") or {}
    return VendorBars(
        symbol,
        kept.payload,
        date.fromisoformat(listed) if listed else None,
        kept.start,
        kept.end,
        kept.fetched_at,
        {date.fromisoformat(day): SpoiledAction(*why) for day, why in spoiled.items()},
    )
