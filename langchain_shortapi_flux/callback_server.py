"""An HTTP server for callbacks: mounted, on a running event loop, or in a thread of its own.

Anybody may call it, so here stands how callers are kept short: in connections, seconds and bytes.
It knows nothing of jobs, and not what a token opens.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

CONNECTIONS_MAX = 512
"""Sockets open to the server at a time; who comes on top is cut off, and the job polls on."""
CONNECTION_SECONDS_MAX = 5.0
"""The life of a connection, which brings one call. The slow are cut off."""
LINGER_SECONDS = 0.5
"""For how long a body is still swallowed after the answer, so that its sender reads the answer."""
READ_BUFFER_BYTES = 16 * 2**10
BACKLOG = 512
HANDED_OVER_IN = 4
"""Turns of the loop after which a connection that it has accepted is known to the server, to be
closed with the others."""
STOP_SECONDS_MAX = 0.2
"""How long calls that are under way may take when the server stops."""
START_SECONDS_MAX = 30.0
JOIN_SECONDS_MAX = 10.0

# aiohttp logs each malformed call as an error, with what the caller sent: a flood at will.
_silent = logging.Logger(__name__)  # noqa: LOG001 - outside the tree, where nobody switches it on
_silent.disabled = True


class Receive(Protocol):
    """Who is told of each call."""

    async def __call__(self, body: AsyncIterable[bytes], *, token: str) -> None:
        """Take a call's body, not read yet, and the last part of the path that was called."""


def callback_app(receive: Receive) -> web.Application:
    """An application that answers every path below its own."""

    async def answer(request: web.Request) -> web.Response:
        return await _answer(request, receive)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


async def _answer(request: web.BaseRequest, receive: Receive) -> web.Response:
    """The same few words to everybody, so that nobody learns which token is one."""
    if request.method != "POST":
        return web.Response(status=405, headers={"Allow": "POST"})
    await receive(request.content.iter_any(), token=request.path.rpartition("/")[2])
    return web.Response(status=204)


class _Server(web.Server):
    """Cuts connections off where they are too many, or last too long."""

    def __init__(self, receive: Receive) -> None:
        async def answer(request: web.BaseRequest) -> web.Response:
            response = await _answer(request, receive)
            response.force_close()  # a connection kept open is one that others wait for
            return response

        super().__init__(
            answer,
            logger=_silent,
            access_log=None,  # it would write down the tokens
            keepalive_timeout=CONNECTION_SECONDS_MAX,
            lingering_time=LINGER_SECONDS,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,  # a little may inflate to a lot
        )
        self._ends: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Start its time, or end it at once."""
        seconds = CONNECTION_SECONDS_MAX if len(self._ends) < CONNECTIONS_MAX else 0.0
        self._ends[handler] = asyncio.get_running_loop().call_later(seconds, transport.abort)
        super().connection_made(handler, transport)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Stop its time."""
        self._ends.pop(handler).cancel()
        super().connection_lost(handler, exc)


@asynccontextmanager
async def serving(receive: Receive, host: str, port: int) -> AsyncIterator[int]:
    """Serve on the running event loop; gives the port.

    Raises:
        OSError: The port cannot be had.
    """
    server = _Server(receive)
    runner = web.ServerRunner(server, shutdown_timeout=STOP_SECONDS_MAX)
    await runner.setup()
    loop = asyncio.get_running_loop()
    try:
        listener = await loop.create_server(server, host, port, backlog=BACKLOG)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            # Not closed at once: asyncio would drop what it has accepted and not handed over.
            for accepting in listener.sockets:
                loop.remove_reader(accepting)
            for _ in range(HANDED_OVER_IN):
                await asyncio.sleep(0)
            listener.close()
    finally:
        await runner.cleanup()


@contextmanager
def in_thread(server: AbstractAsyncContextManager[object]) -> Iterator[None]:
    """Enter that on an event loop in a thread of its own, and leave it there.

    Raises:
        Exception: What entering it raised.
    """
    started: Future[Callable[[], object]] = Future()

    async def serve() -> None:
        loop, left = asyncio.get_running_loop(), asyncio.Event()
        async with server:
            started.set_result(lambda: loop.call_soon_threadsafe(left.set))
            await left.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    # A daemon: a program that never leaves must be able to end.
    thread = threading.Thread(target=run, name="langchain-shortapi-flux-callbacks", daemon=True)
    thread.start()
    try:
        started.result(START_SECONDS_MAX)
        yield
    finally:
        started.add_done_callback(_leave)  # also where it starts after we gave up
        thread.join(JOIN_SECONDS_MAX)


def _leave(started: Future[Callable[[], object]]) -> None:
    if started.exception() is None:
        started.result()()
