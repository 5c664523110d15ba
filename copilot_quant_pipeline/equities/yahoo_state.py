"""What yfinance keeps once for a whole process, lent to one client at a time.

Here: its time zones, cookie, crumb and session, which two homes, or a stand-in and Yahoo, must not share.
Not here: asking (yahoo.py), the session itself (yahoo_session.py). Import yfinance late: it is heavy.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_door = threading.Lock()
_left = threading.Condition()
_tenant: object | None = None
_guests = 0


@contextmanager
def yfinance_of(client: object, folder: Path) -> Iterator[None]:
    """While this lasts, yfinance's state is that of `client`, whose files lie in `folder`.

    Threads of one client are in together; another client waits until they have left, and none overtakes it.
    """
    global _tenant, _guests
    # Whoever waits for others to leave holds the door: nobody comes in before it.
    with _door, _left:
        if _tenant is not client:
            _left.wait_for(lambda: _guests == 0)
            _tenant = None
            _start_anew(folder)
            _tenant = client
        _guests += 1
    try:
        yield
    finally:
        with _left:
            _guests -= 1
            _left.notify_all()


class _TimeZones:
    """Answers without asking: yfinance spends a request on a symbol's time zone, and twelve if that fails."""

    def lookup(self, ticker: str) -> str:
        return "America/New_York"

    def store(self, ticker: str, zone: str | None) -> None:
        """Nothing is kept, so that no symbol looks known because it was once asked for."""


def _start_anew(folder: Path) -> None:
    import yfinance
    from yfinance import cache, data

    folder.mkdir(parents=True, exist_ok=True)
    # A new location has no effect on the caches that were used before: yfinance keeps their open files.
    yfinance.set_tz_cache_location(str(folder))
    cache._TzCacheManager._tz_cache = _TimeZones()
    cache._CookieCacheManager._Cookie_cache = None
    # Holds session, cookie and crumb.
    data.SingletonMeta._instances.pop(data.YfData, None)
    # Otherwise a dropped connection looks like a delisted symbol.
    yfinance.config.debug.hide_exceptions = False
    # What goes wrong is told by the errors of yahoo.py; its own log speaks of crumbs.
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)
    # It still writes pandas code that pandas 3 deprecates: three lines of warnings a symbol.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="yfinance")
