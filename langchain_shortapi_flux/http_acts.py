"""The values that go between a flow and a driver for one call over HTTP: request, reply, or lost.

Values only. They know nothing of ShortAPI and nothing of sockets. What every query makes anew is a
named tuple: a frozen dataclass takes four times as long to make.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class HttpRequest(NamedTuple):
    """One call to the job API. ``path`` is below ``/api/v1``; ``body`` is JSON in UTF-8."""

    method: Literal["GET", "POST"]
    path: str
    body: bytes | None = None
    repeatable: bool = True
    """False: must not ride an idle connection, whose loss would look like a lost answer."""
    time_left: float = math.inf
    """Seconds until it must be over, queueing for a socket included."""
    exchange: float = math.inf
    """Seconds that it may take once there is room for a socket."""

    def within(self, seconds: float, exchange: float = math.inf) -> HttpRequest:
        """The same call, to be done in that time, and so fast once there is room for a socket."""
        return self._replace(time_left=seconds, exchange=exchange)


class HttpReply(NamedTuple):
    """What came back. Header names are in lower case; ``received_at`` is in Unix seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at: float


@dataclass(frozen=True, slots=True)
class Lost:
    """No reply came. ``sent`` is False only if provably nothing reached the service."""

    sent: bool
    reason: str
