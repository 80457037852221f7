"""One call over HTTP with ``aiohttp``: its reply, or that none came and whether it went out.

It knows how an exchange is bounded in time and size, and nothing of jobs.
"""

from __future__ import annotations

import asyncio
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
from langchain_shortapi_flux.loop_session import contact_of_request

if TYPE_CHECKING:
    from langchain_shortapi_flux.loop_session import Contact


async def perform(
    act: HttpRequest, session: aiohttp.ClientSession, connection: Connection, contact: Contact
) -> HttpReply | Lost:
    """Make one call and give its reply, or say that none came and whether anything was sent.

    ``contact`` says the latter also where this is cancelled.
    """
    contact_of_request.set(contact)
    # Within so short a time, silence needs no limit of its own: it would cost two timers more.
    silence = READ_TIMEOUT_SECONDS if act.time_left > READ_TIMEOUT_SECONDS else None
    try:
        async with session.request(
            act.method,
            URL(connection.api_url + act.path, encoded=True),
            data=act.body,
            headers=connection.headers(has_body=act.body is not None),
            timeout=aiohttp.ClientTimeout(
                total=max(act.time_left, 0.001),
                sock_connect=CONNECT_TIMEOUT_SECONDS,
                sock_read=silence,
            ),
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
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return Lost(sent=contact.made, reason=why_lost(error))
