"""What venues give page by page: when such a list ends, and whether it was read to its end.

Here: one reader for the listings and the histories of all venues.
Not here: how a page is asked for and what is in it (each venue's module), HTTP (http.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from copilot_quant_pipeline.errors import Malformed, Rejected, VendorError

# So many pages in a row that show nothing new, empty ones too, and more of them would go on for ever.
PAGES_WITHOUT_NEWS = 3
# Of one list. Polymarket gives a hundred records a page, the others up to a thousand.
MOST_PAGES = 5_000
# A venue forgets its cursors after a while.
BEGUN_ANEW = 2
# Lists change while they are read; of this share of those that a venue counts it is told.
WHOLE = 0.9
# So many lists in a row that do not even begin: the others will not either.
LISTS_IN_A_ROW = 2

R = TypeVar("R")
C = TypeVar("C", bound=Hashable)


@dataclass(frozen=True)
class Page(Generic[R, C]):
    """One page: its records, and what the next one is asked for by; None on the last.

    `total` is how many the venue says that there are in all pages, None where it does not; `has_more` that there are
    others, though it gives no way to them.
    """

    records: Sequence[R]
    after: C | None
    total: int | None = None
    has_more: bool = False

    @classmethod
    def of(cls, records: Sequence[R], after: C | None, answer: Any) -> Page[R, C]:
        """The page with what its `answer` says besides of the others, in the words that are common for it."""
        told = [part for part in (answer, *_parts(answer, "pagination", "meta")) if isinstance(part, Mapping)]
        counts = [part.get(name) for part in told for name in ("total", "total_count", "count")]
        total = max((one for one in counts if isinstance(one, int) and not isinstance(one, bool)), default=None)
        return cls(records, after, total, any(part.get("has_more") is True for part in told))


@dataclass
class Paging:
    """What a venue lists in one or more lists, and why any of them was not read to its end.

    A list that breaks off keeps what it has shown: it is incomplete, and nothing follows from who is missing in it.
    `has_more`: there are pages after the one that came last.
    """

    errors: list[VendorError] = field(default_factory=list)
    has_more: bool = False
    _begun: int = 0
    _failed_in_a_row: int = 0

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Why it is, a sentence each; empty where all of it was read."""
        return tuple(dict.fromkeys(map(str, self.errors)))

    def read(self, fetch: Callable[[C | None], Page[R, C]], key: Callable[[R], Hashable], of: str) -> Iterator[list[R]]:
        """Every record of the list `of` once, by `key`, page by page; `fetch` gives the page after a cursor.

        The first one's cursor is None.

        Raises:
            VendorError: No list has begun yet, and this one does not either.
        """
        if self._failed_in_a_row >= LISTS_IN_A_ROW:
            return
        has_begun = False
        try:
            for page in _pages(self._noting(fetch), key, of):
                self._begun, self._failed_in_a_row, has_begun = self._begun + 1, 0, True
                yield page
        except VendorError as error:
            self._failed_in_a_row += not has_begun
            self.errors.append(error)

    def _noting(self, fetch: Callable[[C | None], Page[R, C]]) -> Callable[[C | None], Page[R, C]]:
        def noted(cursor: C | None) -> Page[R, C]:
            page = fetch(cursor)
            self.has_more = page.after is not None
            return page

        return noted

    def expect_begun(self) -> None:
        """Expect that at least one page came.

        Raises:
            VendorError: None did; the first error that was met.
        """
        if self.errors and not self._begun:
            raise self.errors[0]


def read_whole(fetch: Callable[[C | None], Page[R, C]], key: Callable[[R], Hashable], of: str) -> Iterator[R]:
    """Every record of the list `of` once, as `Paging.read` does, for what is of use only as a whole.

    Raises:
        VendorError: It breaks off; Malformed where it goes in circles.
    """
    for page in _pages(fetch, key, of):
        yield from page


def _pages(fetch: Callable[[C | None], Page[R, C]], key: Callable[[R], Hashable], of: str) -> Iterator[list[R]]:
    """The new records of each page; begun anew where the venue no longer takes its own cursor.

    A page may be short or empty for reasons of the venue's own: only one without a cursor is the last.
    """
    cursor, anew, shown = None, BEGUN_ANEW, set[Hashable]()
    known, cursors, without_news = set[Hashable](), set[C](), 0
    for _ in range(MOST_PAGES):
        try:
            page = fetch(cursor)
        except Rejected:
            if cursor is None or not anew:
                raise
            cursor, anew, shown = None, anew - 1, shown | known
            known, cursors, without_news = set(), set(), 0
            continue
        new = {name: record for record in page.records if (name := key(record)) not in known}
        known |= new.keys()
        yield [record for name, record in new.items() if name not in shown]
        cursor, without_news = page.after, 0 if new else without_news + 1
        if cursor is None:
            _expect_all(page, len(known), of)
            return
        if without_news >= PAGES_WITHOUT_NEWS:
            raise Malformed(f"{of} runs in a circle: {PAGES_WITHOUT_NEWS} pages in a row show nothing new")
        if cursor in cursors:
            raise Malformed(f"{of} runs in a circle: the cursor {str(cursor)[:60]!r} came twice")
        cursors.add(cursor)
    raise Malformed(f"{of} has not ended after {MOST_PAGES:,} pages")


def _expect_all(last: Page[R, C], shown: int, of: str) -> None:
    """Expect that a list ends with as many as its venue says that there are."""
    if last.total is not None and shown < WHOLE * last.total:
        raise Malformed(f"{of} ends after {shown:,} of the {last.total:,} that it says there are")
    if last.has_more:
        raise Malformed(f"{of} says that there is more, and gives no cursor to it")


def _parts(answer: Any, *names: str) -> Iterator[Any]:
    yield from (answer.get(name) for name in names if isinstance(answer, Mapping))
