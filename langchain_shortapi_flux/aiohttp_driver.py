"""Runs a job flow with ``aiohttp``, on the running event loop. It knows nothing of jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from langchain_shortapi_flux.aiohttp_call import perform
from langchain_shortapi_flux.http_acts import HttpRequest
from langchain_shortapi_flux.ledger import perform_ledger_act
from langchain_shortapi_flux.loop_session import loop_session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from langchain_shortapi_flux.connection import Connection
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
