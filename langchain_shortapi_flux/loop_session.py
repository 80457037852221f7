"""One ``aiohttp`` session per event loop and connection: shared by jobs, closed after the last.

It knows how sockets are shared and whether one was there for a request; nothing of jobs.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import aiohttp

from langchain_shortapi_flux.connection import (
    IDLE_SECONDS_FOR_CREATE,
    IDLE_SECONDS_MAX,
    Connection,
    ssl_context,
)
from langchain_shortapi_flux.shared_waits import SharedWaits
from langchain_shortapi_flux.socket_turns import SocketTurns

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection as OpenConnection
    from aiohttp.tracing import Trace

HEADER_LIMIT_BYTES = 64 * 2**10
"""The longest header that is read, as in the standard library's client."""


@dataclass(slots=True)
class Contact:
    """What is known of one request's connection.

    Attributes:
        repeatable: Whether it may ride a connection that was idle for long.
        made: Whether a connection was there for the request to go out on.
        done_at: When its reply had come, in seconds of the event loop.
    """

    repeatable: bool = True
    made: bool = False
    done_at: float = -math.inf


Contacts = dict["asyncio.Task[Any] | None", Contact]
"""The contact of the request that a task makes."""


class _Connector(aiohttp.TCPConnector):
    def __init__(self, contacts: Contacts, **options: Any) -> None:
        super().__init__(**options)
        self._contacts = contacts
        self._used_by: dict[ResponseHandler, Contact] = {}

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - as aiohttp has it
    ) -> OpenConnection:
        """Give a connection, new or idle before, and note that it is there.

        Not by aiohttp's trace hooks, which cost more than all else that is done for a request here.
        """
        given = await super().connect(req, traces, timeout)
        contact = self._contacts.get(asyncio.current_task())
        if contact is not None:
            while self._is_unfit(given, contact):
                given.close()
                given = await super().connect(req, traces, timeout)
            if given.protocol is not None:
                self._used_by[given.protocol] = contact
                if len(self._used_by) > 2 * self.limit:
                    self._forget_closed()
            contact.made = True
        return given

    def _forget_closed(self) -> None:
        # Not by weak references: to look one up would cost more than all else here.
        used_by = self._used_by.items()
        self._used_by = {one: contact for one, contact in used_by if one.is_connected()}

    def _is_unfit(self, given: OpenConnection, contact: Contact) -> bool:
        before = self._used_by.get(given.protocol) if given.protocol is not None else None
        if given.protocol is None or before is None:  # a new one
            return False
        if given.protocol.should_close:  # the other side has spoken out of turn since
            return True
        idle = asyncio.get_running_loop().time() - before.done_at
        return not contact.repeatable and idle > IDLE_SECONDS_FOR_CREATE


class LoopSession:
    """What the jobs of one event loop share, as long as any of them is inside.

    No ``async with``: each job would hold a method of it for as long as it is inside.

    Attributes:
        http: aiohttp's session; closed when the last job has left.
        turns: As many as there may be sockets. aiohttp would wait for one as well, but with a whole
            request built up for each who waits.
        jobs: How many jobs are inside.
    """

    def __init__(self, connection: Connection, of_this_loop: dict[Connection, LoopSession]) -> None:
        self.contacts: Contacts = {}
        self.http = _open(connection, self.contacts)
        self.turns = SocketTurns(connection.max_connections)
        self.waits = SharedWaits()
        self._connection, self._of_this_loop = connection, of_this_loop
        self.jobs = 0

    def enter(self) -> None:
        """One job more is inside."""
        self.jobs += 1

    async def leave(self) -> None:
        """One fewer; to be called once for each that has entered."""
        self.jobs -= 1
        if self.jobs == 0:
            del self._of_this_loop[self._connection]
            self.turns.close()
            await self.http.close()


_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Connection, LoopSession]] = (
    WeakKeyDictionary()
)


def loop_session(connection: Connection) -> LoopSession:
    """The running loop's session for this connection. To be entered at once."""
    of_this_loop = _sessions.setdefault(asyncio.get_running_loop(), {})
    session = of_this_loop.get(connection)
    if session is None:
        session = of_this_loop[connection] = LoopSession(connection, of_this_loop)
    return session


def _open(connection: Connection, contacts: Contacts) -> aiohttp.ClientSession:
    https = connection.base_url.startswith("https")
    connector = _Connector(
        contacts,
        limit=connection.max_connections,
        keepalive_timeout=IDLE_SECONDS_MAX,
        ssl=ssl_context(connection.ca_bundle) if https else True,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=True,
        # Its own 8190 would lose a reply that requests reads.
        max_line_size=HEADER_LIMIT_BYTES,
        max_field_size=HEADER_LIMIT_BYTES,
    )
    # It would send each lost query twice, behind the flow's back, and has no public switch for it:
    # https://github.com/aio-libs/aiohttp/issues/10790
    session._retry_connection = False  # noqa: SLF001
    return session
