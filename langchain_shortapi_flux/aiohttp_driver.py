"""Runs a job flow with ``aiohttp``, on the running event loop. It knows nothing of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_shortapi_flux.aiohttp_call import perform
from langchain_shortapi_flux.flow_steps import leave
from langchain_shortapi_flux.http_acts import HttpRequest
from langchain_shortapi_flux.loop_session import Contact, loop_session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from langchain_shortapi_flux.connection import Connection
    from langchain_shortapi_flux.flow_steps import Answer, JobFlow, Step
    from langchain_shortapi_flux.job import FluxJob
    from langchain_shortapi_flux.surroundings import Surroundings


async def run(
    flow: JobFlow,
    connection: Connection,
    surroundings: Surroundings,
    sleep: Callable[[float], Awaitable[None]] | None = None,
) -> AsyncGenerator[FluxJob]:
    """Yield each new snapshot of the job, the last one when it has ended."""
    shown: FluxJob | None = None
    answer: Answer | None = None
    step: Step | None = None
    contact: Contact | None = None
    session = loop_session(connection)
    session.enter()
    try:
        while True:
            try:
                step, answer, contact = flow.send(answer), None, None
            except Exception:
                step = None
                raise
            if step.job is not None and step.job is not shown:
                yield (shown := step.job)
            if step.wait:
                # Three ways, and no method for them: a waiting job would hold it.
                if step.bell is not None:
                    await step.bell.await_ring(step.wait)
                elif sleep is not None:
                    await sleep(step.wait)
                else:
                    await session.waits.sleep(step.wait)
            if isinstance(step.act, HttpRequest):
                contact = Contact(step.act.repeatable)
                answer = await perform(step.act, session, connection, contact)
            elif step.act is not None:
                answer = await surroundings.aperform(step.act)
    except StopIteration as end:
        yield end.value
    finally:
        try:
            for act in leave(flow, step, sent=contact is not None and contact.made):
                surroundings.leave(act)
        finally:
            await session.leave()
