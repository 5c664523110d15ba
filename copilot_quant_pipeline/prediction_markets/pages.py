"""What venues give page by page: when such a list ends, and whether it was read to its end.

Here: one reader for the listings and the histories of all venues.
Not here: how a page is asked for and what is in it (each venue's module), HTTP (http.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from copilot_quant_pipeline.errors import Malformed, Rejected, VendorError

# So many pages in a row that show nothing new, empty ones too, and more of them would go on for ever.
PAGES_WITHOUT_NEWS = 3
# A venue forgets its cursors after a while.
BEGUN_ANEW = 2
# So many lists in a row that do not even begin: the others will not either.
LISTS_IN_A_ROW = 2

R = TypeVar("R")
C = TypeVar("C", bound=Hashable)


@dataclass(frozen=True)
class Page(Generic[R, C]):
    """One page: its records, and what the next one is asked for by; None on the last."""

    records: Sequence[R]
    after: C | None


@dataclass
class Paging:
    """What a venue lists in one or more lists, and why any of them was not read to its end.

    A list that breaks off keeps what it has shown: it is incomplete, and nothing follows from who is missing in it.
    """

    errors: list[VendorError] = field(default_factory=list)
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
            for page in _pages(fetch, key, of):
                self._begun, self._failed_in_a_row, has_begun = self._begun + 1, 0, True
                yield page
        except VendorError as error:
            self._failed_in_a_row += not has_begun
            self.errors.append(error)

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
    while True:
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
            return
        if without_news >= PAGES_WITHOUT_NEWS:
            raise Malformed(f"{of} runs in a circle: {PAGES_WITHOUT_NEWS} pages in a row show nothing new")
        if cursor in cursors:
            raise Malformed(f"{of} runs in a circle: the cursor {str(cursor)[:60]!r} came twice")
        cursors.add(cursor)
