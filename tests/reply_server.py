"""An HTTP server that says what a script tells it to, byte for byte, and notes what it was asked.

For replies that the sandbox is too well-behaved to give. It knows nothing of jobs.
"""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass
from http import HTTPStatus
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING, Self

from langchain_shortapi_flux.http_acts import HttpReply, Lost

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

KEY = "reply-server-key-not-a-secret"
RESET = Lost(sent=True, reason="reset")


@dataclass(frozen=True)
class Pieces:
    """Bytes sent as they are, each followed by ``gap`` seconds; then the connection is closed.

    Where the server stops, that is the end of all gaps.
    """

    pieces: tuple[bytes, ...]
    gap: float = 0.0


@dataclass(frozen=True)
class Asked:
    """One request as it arrived: header names in lower case, and over which connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


class _Connection(StreamRequestHandler):
    """One client's connection; it may bring several requests."""

    server: _Listener

    def handle(self) -> None:
        number = self.server.owner.count_connection(self.connection)
        try:
            while (asked := self._read(number)) is not None:
                if not self._say(self.server.owner.answer(asked)):
                    return
        except OSError:  # the client left first, as some tests want it to
            return

    def _read(self, number: int) -> Asked | None:
        line = self.rfile.readline().decode("latin-1").split()
        if not line:
            return None
        if len(line) != 3 or not line[0].isalpha():  # no HTTP, such as the beginning of TLS
            return Asked("", "", {}, b"", number)
        headers = {}
        while field := self.rfile.readline().decode("latin-1").strip():
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", "0")))
        return Asked(line[0], line[1], headers, body, number)

    def _say(self, answer: HttpReply | Lost | Pieces) -> bool:
        """Send that; whether the connection is of use for another request."""
        if isinstance(answer, Pieces):
            for piece in answer.pieces:
                self.wfile.write(piece)
                if self.server.owner.closing.wait(answer.gap):
                    break
            return False
        if isinstance(answer, Lost):
            if answer is RESET:
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            return False
        self.wfile.write(as_bytes(answer))
        return True


def as_bytes(reply: HttpReply) -> bytes:
    """A whole reply as it goes over the wire."""
    reason = HTTPStatus(reply.status).phrase
    fields = {**reply.headers, "content-length": str(len(reply.body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {reply.status} {reason}\r\n{head}\r\n".encode("latin-1") + reply.body


class _Listener(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    owner: ReplyServer
    tls: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True)
        return connection, address


class ReplyServer:
    """Serves a script: each request gets the next answer, and the last one repeats."""

    def __init__(
        self, *answers: HttpReply | Lost | Pieces, tls: ssl.SSLContext | None = None
    ) -> None:
        self._answers: Sequence[HttpReply | Lost | Pieces] = answers
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._listener = _Listener(("127.0.0.1", 0), _Connection)
        self._listener.owner = self
        self._listener.tls = tls
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.002,))

    @property
    def base_url(self) -> str:
        """Where it listens."""
        scheme = "http" if self._listener.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """On which port of 127.0.0.1."""
        return int(self._listener.server_address[1])

    @property
    def connections(self) -> int:
        """How many connections were made so far."""
        return len(self._open)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._listener.shutdown()
        self._thread.join()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed long ago
        self._listener.server_close()

    def count_connection(self, connection: socket.socket) -> int:
        """Note a new connection; gives its number."""
        with self._lock:
            self._open.append(connection)
            return len(self._open)

    def answer(self, asked: Asked) -> HttpReply | Lost | Pieces:
        """Note a request; gives what to say to it."""
        with self._lock:
            self.asked.append(asked)
            return self._answers[min(len(self.asked), len(self._answers)) - 1]
