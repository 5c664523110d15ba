"""A server of raw bytes on loopback, for answers that no well-behaved one can be brought to give."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# Gets the connection once a request's head is read, to send what it likes; the connection is then closed.
Send = Callable[[socket.socket, str], None]
# How long a trickle lasts where nobody hangs up, in tenths of a second.
_TRICKLE = 600


@contextmanager
def hostile_server(send: Send) -> Iterator[str]:
    """The address of a server that answers every request as `send` does."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = self.rfile.readline()
                if not line:
                    return
                head += line
            with suppress(OSError):
                send(self.request, head.split(b" ")[1].decode())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:  # else its thread goes on accepting at a socket that by then is somebody else's
            server.shutdown()


def trickle(connection: socket.socket, start: bytes, drop: bytes) -> None:
    """Send `start` at once and then a `drop` every tenth of a second, each in time for whoever waits for a byte."""
    connection.sendall(start)
    gone = threading.Event()
    for _ in range(_TRICKLE):
        connection.sendall(drop)
        gone.wait(0.1)


def trickling(where: str) -> Send:
    """A server that never ends its status line, its headers, its body, a chunk, or the line before a chunk."""
    starts = {
        "status": (b"HTTP/1.1 200 ", b"O"),
        "headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        "one header": (b"HTTP/1.1 200 OK\r\nX-A: ", b"b"),
        "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
        "endless body": (b"HTTP/1.1 200 OK\r\n\r\n[", b" "),
        "chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        "chunk line": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
        "redirect": (b"HTTP/1.1 302 Found\r\nLocation: /again\r\n", b"X-A: b\r\n"),
    }
    return lambda connection, _: trickle(connection, *starts[where])


TRICKLES = ("status", "headers", "one header", "interim", "body", "endless body", "chunk", "chunk line", "redirect")
