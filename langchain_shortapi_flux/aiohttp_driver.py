"""Runs a job flow with ``aiohttp``, on the running event loop. It knows nothing of jobs."""

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
from langchain_shortapi_flux.ledger import perform_ledger_act
from langchain_shortapi_flux.loop_session import Contact, loop_session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from langchain_shortapi_flux.flow_steps import Answer, JobFlow
    from langchain_shortapi_flux.job import FluxJob
    from langchain_shortapi_flux.ledger import Ledger


async def run(
    flow: JobFlow,
    connection: Connection,
    ledger: Ledger,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[FluxJob]:
    """Yield each new snapshot of the job, the last one when it has ended."""
    shown: FluxJob | None = None
    answer: Answer | None = None
    async with loop_session(connection) as session:
        try:
            while True:
                step = flow.send(answer)
                if step.job is not None and step.job is not shown:
                    yield (shown := step.job)
                if step.wait:
                    await sleep(step.wait)
                match step.act:
                    case None:
                        answer = None
                    case HttpRequest():
                        answer = await perform(step.act, session, connection)
                    case act if ledger.blocking:
                        # Once begun it is carried through, also if this task is cancelled: one
                        # that waits for a free thread would otherwise never be noted.
                        loop = asyncio.get_running_loop()
                        noted = loop.run_in_executor(None, perform_ledger_act, ledger, act)
                        answer = await asyncio.shield(noted)
                    case act:
                        answer = perform_ledger_act(ledger, act)
        except StopIteration as end:
            yield end.value
        finally:
            flow.close()


async def perform(
    act: HttpRequest, session: aiohttp.ClientSession, connection: Connection
) -> HttpReply | Lost:
    """Make one call and give its reply, or say that none came and whether anything was sent."""
    contact = Contact()
    try:
        async with session.request(
            act.method,
            URL(connection.api_url + act.path, encoded=True),
            data=act.body,
            headers=connection.headers(has_body=act.body is not None),
            timeout=aiohttp.ClientTimeout(
                total=max(act.time_left, 0.001),
                sock_connect=CONNECT_TIMEOUT_SECONDS,
                sock_read=READ_TIMEOUT_SECONDS,
            ),
            allow_redirects=False,
            proxy=connection.proxy_url,
            trace_request_ctx=contact,
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > REPLY_LIMIT_BYTES:
                    return Lost(sent=True, reason="the reply is too long")
            return connection.reply(response.status, response.headers, bytes(body))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return Lost(sent=contact.made, reason=why_lost(error))
