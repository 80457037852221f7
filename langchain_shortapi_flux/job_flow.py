"""The life of a job, written once, as a generator that does no I/O.

Here stand the rules of money and of waiting: when create may be repeated, what a bad query means,
when to give up. It knows no sockets and no LangChain; the clock and the dice are passed in, and a
driver performs each act and sends back the answer.

::

    flow = create_job(...)            # or follow_job(...), look_at_job(...), buy_job(...)
    step = next(flow)
    while True: step = flow.send(answer to step.act, after step.wait seconds)
"""

from __future__ import annotations

from dataclasses import replace

from langchain_shortapi_flux.envelope import Refused
from langchain_shortapi_flux.errors import (
    CreateOutcomeUnknown,
    NotCreated,
    RateLimited,
    ServiceUnavailable,
    UnexpectedReply,
)
from langchain_shortapi_flux.flow_steps import (
    Circumstances,
    JobFlow,
    Order,
    Step,
    http_reply,
    logger,
)
from langchain_shortapi_flux.follow_flow import follow_job
from langchain_shortapi_flux.http_acts import Lost
from langchain_shortapi_flux.job import FluxJob
from langchain_shortapi_flux.wire import Accepted, Unusable, create_request, read_create


def buy_job(order: Order, here: Circumstances) -> JobFlow:
    """Create a job and follow it to its end: everything that ``invoke`` and ``stream`` do."""
    job = yield from create_job(order, here)
    return (yield from follow_job(job, here))


def create_job(order: Order, here: Circumstances) -> JobFlow:
    """Buy a job and return its first snapshot. Costs money, once.

    Create is sent again only where the service provably made no job: it was never reached, it
    answered 429, or it said code 3000.

    Raises:
        NotCreated: One of its kinds; nothing was charged.
        CreateOutcomeUnknown: Create went out and no clear answer came back.
        UnexpectedReply: Create was answered with a redirect, which is not followed.
    """
    act = create_request(order.request, order.model, order.callback_url)
    refusal: NotCreated = ServiceUnavailable("create was not sent: no time was left")
    failures, wait = 0, 0.0
    while wait < here.time_left():
        # The wait comes first, so what is left then is what the exchange itself may take.
        try:
            answer = yield Step(None, wait, replace(act, time_left=here.time_left() - wait))
        except GeneratorExit:
            logger.warning("stopped while a job was being created; it may have been charged")
            raise
        if isinstance(answer, Lost):
            if answer.sent:
                raise CreateOutcomeUnknown(_unknown_outcome(f"no answer came ({answer.reason})"))
            retry_after = None
            refusal = ServiceUnavailable(f"{here.base_url} was not reached: {answer.reason}")
        else:
            found = read_create(http_reply(answer))
            if isinstance(found, Accepted):
                return FluxJob(
                    job_id=found.job_id,
                    status="pending",
                    request=order.request,
                    cost=found.cost,
                    charge="charged",
                    elapsed=here.elapsed(),
                    model=order.model,
                    base_url=here.base_url,
                )
            if isinstance(found, Unusable) and not found.passing:
                raise UnexpectedReply(
                    f"create was answered with no clear yes or no: {found.text}; whether a job was "
                    "made is not known",
                    job_id=found.job_id,
                    status_code=found.status_code,
                )
            if not isinstance(found, Refused):
                raise CreateOutcomeUnknown(
                    _unknown_outcome(found.text), job_id=found.job_id, status_code=found.status_code
                )
            refusal = found.error(
                f"the service refused to create the job: {found.text}; nothing was charged",
                status_code=found.status_code,
            )
            retry_after = found.retry_after
            if not isinstance(refusal, (RateLimited, ServiceUnavailable)):
                raise refusal
        failures += 1
        if failures >= here.retry.create_attempts:
            break
        wait = here.retry.wait(failures, retry_after, here.dice())
    raise refusal


def _unknown_outcome(what: str) -> str:
    return (
        f"create was sent, but it is not known whether a job was made: {what}. It may have been "
        "charged; look at the account before asking for the same picture again"
    )
