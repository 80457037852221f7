"""A job API as quick as can be, in a process of its own, so that figures are the client's alone.

It answers create and query as the service's page shows them, after a round trip's delay, and counts
what it was asked. It checks nothing: for what is right and wrong there is the sandbox.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Self

KEY = "benchmark-key"


@dataclass
class Books:
    """What the server was asked."""

    durations: dict[str, list[float]] = field(default_factory=dict)
    done_at: dict[str, float] = field(default_factory=dict)
    slowest: float = 0.0
    queries: int = 0
    sockets: int = 0
    peak_sockets: int = 0


class _Connection(asyncio.Protocol):
    def __init__(self, books: Books, seconds: list[float], round_trip: float) -> None:
        self._books, self._seconds, self._round_trip = books, seconds, round_trip
        self._heard = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._books.sockets += 1
        self._books.peak_sockets = max(self._books.peak_sockets, self._books.sockets)

    def connection_lost(self, _error: Exception | None) -> None:
        self._books.sockets -= 1

    def data_received(self, data: bytes) -> None:
        self._heard += data
        head, end, body = self._heard.partition(b"\r\n\r\n")
        if not end:
            return
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        if len(body) < length:
            return
        self._heard = body[length:]
        # Half a round trip on the way here, half on the way back.
        self._later(self._answer, head.split(b" ", 2)[1].decode())

    def _later(self, act: object, *values: object) -> None:
        if self._round_trip:
            self._loop.call_later(self._round_trip / 2, act, *values)  # type: ignore[arg-type]
        else:
            act(*values)  # type: ignore[operator]

    def _answer(self, path: str) -> None:
        if path.endswith("/create"):
            number = len(self._books.done_at)
            job_id = f"{number:024x}"
            seconds = self._seconds[number]
            self._books.done_at[job_id] = time.monotonic() + seconds
            self._books.slowest = max(self._books.slowest, seconds)
            answer: dict[str, object] = {"job_id": job_id, "amount": "0.02"}
        else:
            self._books.queries += 1
            job_id = path.rpartition("=")[2]
            answer = {"id": job_id, "status": 1, "credit": "0.02", "refunded": False}
            if time.monotonic() >= self._books.done_at[job_id]:
                url = f"https://file.shortapi.ai/tmp/20260227/{job_id}/picture.png"
                answer |= {"status": 2, "result": {"images": [{"url": url}]}}
        text = json.dumps({"code": 0, "data": answer}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
        self._later(self._transport.write, f"{head}\r\n\r\n".encode() + text)


class JobServer:
    """Starts the server in a process; ``base_url`` is known inside the block, the books after it.

    Args:
        count: Of how many jobs to draw the durations, the same ones in each run.
        distribution: What a job takes: an expression in ``dice``, in seconds.
        round_trip: Seconds from a question to its answer.
    """

    def __init__(
        self, count: int, distribution: str = "dice.uniform(3, 5)", round_trip: float = 0.0
    ) -> None:
        self._arguments = [str(count), distribution, str(round_trip)]

    def __enter__(self) -> Self:
        """Start it and read where it listens."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.base_url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it and read its books."""
        out, _err = self._process.communicate("\n")
        said = json.loads(out)
        self.done_at: dict[str, float] = said["done_at"]
        self.slowest: float = said["slowest"]
        self.queries: int = said["queries"]
        self.peak_sockets: int = said["peak_sockets"]


async def _serve(count: int, distribution: str, round_trip: float) -> None:
    dice = random.Random(7)
    seconds = [0.0, *(eval(distribution, {"dice": dice}) for _ in range(count - 1))]
    books, loop = Books(), asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(books, seconds, round_trip), "127.0.0.1", 0, backlog=1024
    )
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    print(
        json.dumps(
            {
                "done_at": books.done_at,
                "slowest": books.slowest,
                "queries": books.queries,
                "peak_sockets": books.peak_sockets,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
