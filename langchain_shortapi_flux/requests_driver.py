"""Runs a job flow with ``requests``, blocking. It performs acts and knows nothing of jobs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from langchain_shortapi_flux.flow_steps import leave
from langchain_shortapi_flux.http_acts import HttpRequest
from langchain_shortapi_flux.requests_call import perform
from langchain_shortapi_flux.socket_contact import ContactSession, SocketContact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_shortapi_flux.connection import Connection
    from langchain_shortapi_flux.flow_steps import Answer, JobFlow, Step
    from langchain_shortapi_flux.job import FluxJob
    from langchain_shortapi_flux.surroundings import Surroundings


def run(
    flow: JobFlow,
    connection: Connection,
    surroundings: Surroundings,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[FluxJob]:
    """Yield each new snapshot of the job, the last one when it has ended."""
    shown: FluxJob | None = None
    answer: Answer | None = None
    step: Step | None = None
    contact: SocketContact | None = None
    with ContactSession() as session:
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
                    (step.bell.wait if step.bell else sleep)(step.wait)
                if isinstance(step.act, HttpRequest):
                    contact = SocketContact(min(step.act.time_left, step.act.exchange))
                    answer = perform(step.act, session, connection, contact)
                elif step.act is not None:
                    answer = surroundings.perform(step.act)
        except StopIteration as end:
            yield end.value
        finally:
            for act in leave(flow, step, sent=contact is not None and contact.made):
                surroundings.part(act)
