"""The sandbox as something that runs: in a thread for tests and commands, or in the foreground.

Here: sockets, threads and uvicorn.
Not here: what is answered (app.py and the venues).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.sandbox.app import Control, build_app
from copilot_quant_pipeline.sandbox.market import SimulatedEquities

HOST = "127.0.0.1"


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP with its connection in reach of the fault that drops it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["sandbox.transport"] = self.transport  # type: ignore[typeddict-unknown-key]


class Sandbox:
    """Simulated venues on a loopback port, at `url`, served by a daemon thread while the context is open.

    `recorded` serves recorded data instead of simulated ones: Yahoo frames (a Parquet file or a folder of them;
    with them Polymarket's in `../polymarket`, if there are), or Polymarket's folder. `now` pins the clock of the
    simulated market to an aware instant, None is real time; `delay` holds back every answer, in seconds; `port` 0
    takes a free one. Simulated data are a pure function of seed, symbol and session.

    `market.truth(symbol)` gives what was traded in the simulated market, for comparison.

    Raises:
        UserError: The port is taken, `recorded` holds no frame, or two frames of the same symbol.
    """

    def __init__(
        self,
        recorded: Path | None = None,
        now: datetime | None = None,
        seed: int = 7,
        delay: float = 0.0,
        port: int = 0,
    ) -> None:
        self._control = Control()
        self._control.pin(now)
        self.market = SimulatedEquities(seed)
        self._app = build_app(self._control, self.market, recorded=recorded, seed=seed, delay=delay)
        self._port = port
        self.url = ""

    def __enter__(self) -> Self:
        """Serve; the port accepts connections on return."""
        listening = _listening(self._port)
        self.url = _url(listening)
        self._server = _server(self._app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="sandbox", daemon=True
        )
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.002)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving and free the port."""
        self._server.should_exit = True
        self._thread.join()

    def requests(self) -> dict[str, int]:
        """Requests so far, by route template."""
        return dict(self._control.requests)

    def reset_requests(self) -> None:
        """Count from zero."""
        self._control.forget()

    def fault(self, kind: str, symbol: str | None = None, times: int | None = None, **options: Any) -> None:
        """Put a fault in force for one symbol or all (None), for so many requests or for ever (None).

        Of transport, at Yahoo unless `venue` names another: `rate_limit`, `server_error` (status, body json
        or html), `truncated`, `html`, `slow` (seconds), `drop`.

        Of Yahoo: `lost_session`, `null_bar`, `bad_bar` (how: negative, partial_null, inconsistent, duplicate,
        off_session), `correction` (factor; since, until: instants of the sandbox's clock) and `split_announced`
        (ratio; in force once its session has opened), each with `date` or `dates`; `delisted`; `down`.

        Of Wikipedia: `universe_short` (rows), `wikipedia_down`.

        Of Polymarket (`symbol` is a slug): `polymarket_down`, `polymarket_queue` (seconds), `polymarket_deleted`,
        `polymarket_renamed` (slug), `polymarket_broken_market` (how: cut, no_id, nan, one_token),
        `polymarket_cursor_expired`, `polymarket_cursor_loop`, `polymarket_no_history` (grain: below so many minutes),
        `polymarket_bad_point` (how: above_one, nan, milliseconds), `polymarket_no_batches` and `polymarket_no_clob`
        (status).

        Of Kalshi (`symbol` is a ticker): `kalshi_down`, `kalshi_gone`, `kalshi_broken_market` (how: status, time,
        no_ticker), `kalshi_cursor_expired`, `kalshi_cursor_loop`, `kalshi_bad_candle` (how: outside, nan,
        milliseconds) and `kalshi_cents`.

        Of Manifold, PredictIt and Metaculus: `down` with `venue`; of Metaculus `hidden`.

        Raises:
            UserError: The kind or an option is not known, or a date is missing.
        """
        self._control.fault(kind, symbol=symbol, times=times, **options)

    def clear_faults(self) -> None:
        """Take every fault back."""
        self._control.faults.clear()

    def pin_clock(self, now: datetime | None) -> None:
        """Move the market's clock to an aware instant; None lets it run."""
        self._control.pin(now)


def serve_forever(
    recorded: Path | None = None,
    now: datetime | None = None,
    seed: int = 7,
    delay: float = 0.0,
    port: int = 8787,
    announce: Callable[[str], None] | None = None,
    hosts: Sequence[str] = (),
) -> None:
    """Serve in the foreground until interrupted; `announce` (default: print) is given the URL in one line.

    The control routes answer to loopback's names and to `hosts`.

    Raises:
        UserError: As for `Sandbox`.
    """
    control = Control()
    control.pin(now)
    app = build_app(control, SimulatedEquities(seed), recorded=recorded, seed=seed, delay=delay, hosts=hosts)
    with _listening(port) as listening, contextlib.suppress(KeyboardInterrupt):
        what = f"recorded frames of {recorded}" if recorded else f"a simulated market, seed {seed}"
        (announce or _print)(f"Sandbox at {_url(listening)} ({what}). Ctrl-C ends it.")
        _server(app).run(sockets=[listening])


def _print(line: str) -> None:
    # Flushed, so that whoever started this process with a pipe can wait for the line.
    print(line, flush=True)


def _listening(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError:
        listening.close()
        raise UserError(f"port {port} is taken; choose another one, or 0 for any.") from None
    listening.listen(512)
    return listening


def _url(listening: socket.socket) -> str:
    return f"http://{HOST}:{listening.getsockname()[1]}"


def _server(app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            # It says what time it is here (app.py), which may be pinned.
            date_header=False,
            # Idle connections of a paced client stay open; closing under its feet would look like a fault.
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
        )
    )
