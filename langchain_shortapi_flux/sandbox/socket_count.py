"""Knows how many sockets lead to the server.

It must not know what is served.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Sockets:
    """How many sockets lead to the server: now, and at most so far."""

    now: int = 0
    peak: int = 0


class CountingServer(web.Server):
    """An aiohttp server that counts its sockets."""

    def __init__(self, handler: Handler, sockets: Sockets) -> None:
        """Serve `handler`, counting in `sockets`."""
        # Without handler_cancellation a stalled call would outlive the client that gave up on it.
        super().__init__(handler, handler_cancellation=True, access_log=None)
        self._sockets = sockets

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count one more."""
        self._sockets.now += 1
        self._sockets.peak = max(self._sockets.peak, self._sockets.now)
        super().connection_made(handler, transport)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Count one less."""
        self._sockets.now -= 1
        super().connection_lost(handler, exc)
