"""One call over HTTP with ``aiohttp``: its reply, or that none came and whether it went out.

It knows how an exchange is bounded in time and size, and nothing of jobs.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from langchain_shortapi_flux.connection import (
    CONNECT_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    REPLY_LIMIT_BYTES,
    Connection,
    why_lost,
)
from langchain_shortapi_flux.http_acts import HttpReply, HttpRequest, Lost

if TYPE_CHECKING:
    from langchain_shortapi_flux.loop_session import Contact, LoopSession


@lru_cache(maxsize=4)  # nearly every query has the same time
def _limits(time_left: float) -> aiohttp.ClientTimeout:
    # Within a short time, silence needs no limit of its own: it would cost two timers more.
    silence = READ_TIMEOUT_SECONDS if time_left > READ_TIMEOUT_SECONDS else None
    return aiohttp.ClientTimeout(
        total=max(time_left, 0.001), sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=silence
    )


async def perform(
    act: HttpRequest, session: LoopSession, connection: Connection, contact: Contact
) -> HttpReply | Lost:
    """Make one call and give its reply, or say that none came and whether anything was sent.

    ``contact`` says the latter also where this is cancelled.
    """
    try:
        time_left = await session.turns.take(act.time_left)
        task = asyncio.current_task()
        session.contacts[task] = contact
        try:
            return await _exchange(
                act, session.http, connection, contact, min(time_left, act.exchange)
            )
        finally:
            session.turns.give_back()
            session.contacts.pop(task, None)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return Lost(sent=contact.made, reason=why_lost(error))


async def _exchange(
    act: HttpRequest,
    http: aiohttp.ClientSession,
    connection: Connection,
    contact: Contact,
    time_left: float,
) -> HttpReply | Lost:
    async with http.request(
        act.method,
        URL(connection.api_url + act.path, encoded=True),
        data=act.body,
        # Not the session's own headers: these go to a proxy as well, and one of them is the key.
        headers=connection.headers(has_body=act.body is not None),
        timeout=_limits(time_left),
        allow_redirects=False,
        proxy=connection.proxy_url,
    ) as response:
        content, size = response.content, 0
        pieces: list[bytes] = []
        while not content.at_eof():
            pieces.append(await content.readany())
            size += len(pieces[-1])
            if size > REPLY_LIMIT_BYTES:
                return Lost(sent=True, reason="the reply is too long")
        contact.done_at = asyncio.get_running_loop().time()
        return connection.reply(response.status, response.headers, b"".join(pieces))
