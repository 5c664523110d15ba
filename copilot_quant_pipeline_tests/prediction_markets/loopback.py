"""A real HTTP server that answers as a test says, for what no venue's simulation would send."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

# What a venue answers: status, body, headers; None drops the connection.
Answer = tuple[int, str | bytes, dict[str, str]] | None


class Loopback:
    """A real HTTP server that gives what `answers` holds for each request, the last one for ever.

    Where `routes` knows the path, what it makes of the query and the body is given instead.
    """

    def __init__(self) -> None:
        self.routes: dict[str, Callable[[dict[str, list[str]], Any], Answer]] = {}
        self.answers: list[Answer] = [(200, "{}", {})]
        self.requests: list[tuple[str, str, dict[str, list[str]], str, dict[str, str]]] = []
        self.connections = 0
        # What time it is there; it says nothing of that where None.
        self.date: datetime | None = None
        self._turn = threading.Lock()
        venue = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                venue.connections += 1

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                answer = venue.take(self.command, self.path, body, dict(self.headers))
                if answer is None:
                    self.close_connection = True
                    return
                status, text, headers = answer
                sent = text.encode() if isinstance(text, str) else text
                self.send_response_only(status)
                dated = {"Date": format_datetime(venue.date, usegmt=True)} if venue.date else {}
                for name, value in {"Content-Length": str(len(sent)), **dated, **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = _serve  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, method: str, path: str, body: str, headers: dict[str, str]) -> Answer:
        with self._turn:
            asked = urlsplit(path)
            self.requests.append((method, asked.path, parse_qs(asked.query), body, headers))
            if asked.path in self.routes:
                return self.routes[asked.path](parse_qs(asked.query), json.loads(body) if body else None)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def __enter__(self) -> Loopback:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def answer(status: int, body: Any = "", **headers: str) -> Answer:
    return status, body if isinstance(body, str | bytes) else json.dumps(body), headers
