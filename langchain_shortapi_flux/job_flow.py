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

from typing import TYPE_CHECKING

from langchain_shortapi_flux.envelope import Refused
from langchain_shortapi_flux.errors import (
    ConfigurationError,
    CreateOutcomeUnknown,
    NotCreated,
    RateLimited,
    ServiceUnavailable,
    UnexpectedReply,
)
from langchain_shortapi_flux.flow_steps import (
    NOTHING,
    Acquire,
    Answer,
    Circumstances,
    JobFlow,
    Leaving,
    Order,
    Step,
    Turn,
    http_reply,
)
from langchain_shortapi_flux.follow_flow import follow_job
from langchain_shortapi_flux.http_acts import Lost
from langchain_shortapi_flux.job import FluxJob
from langchain_shortapi_flux.lost_create import find_job, log_left
from langchain_shortapi_flux.wire import Accepted, Unusable, create_request, read_create

if TYPE_CHECKING:
    from collections.abc import Generator

    from langchain_shortapi_flux.spending import Reservation


NO_TIME = "create was not sent: no time was left"


def buy_job(order: Order, here: Circumstances) -> JobFlow:
    """Create a job and follow it to its end: everything that ``invoke`` and ``stream`` do."""
    job = yield from create_job(order, here)
    return (yield from follow_job(job, here, bought_now=is_new(job)))


def is_new(job: FluxJob) -> bool:
    """Whether create has just been accepted; of a job found in another way only the id is known."""
    return job.charge == "charged"


def create_job(order: Order, here: Circumstances, leaving: Leaving = NOTHING) -> JobFlow:
    """Buy a job and return its first snapshot. Costs money, once.

    Create is sent again only where the service provably made no job: it was never reached, it
    answered 429, or it said code 3000. It is not sent at all once the deadline is over. Where no
    clear answer came back and the service may call, the job is looked for.

    Raises:
        NotCreated: One of its kinds; nothing was charged.
        CreateOutcomeUnknown: Create went out, no clear answer came back, and no job was found.
        UnexpectedReply: Create was answered with a redirect, which is not followed.
    """
    if here.budget is None:
        return (yield from _create(order, here, leaving, None))
    with here.budget.reserve(order.request, order.model, here.base_url) as reservation:
        job = yield from _create(order, here, leaving, reservation)
        reservation.bought(job)
    return job


def _create(
    order: Order, here: Circumstances, leaving: Leaving, reservation: Reservation | None
) -> JobFlow:
    act = create_request(order.request, order.model, order.callback_url)
    refusal: NotCreated = ServiceUnavailable(NO_TIME)
    failures, wait = 0, 0.0
    while wait < here.time_left():
        try:
            yield from _get_ready(wait, here, leaving)
        except GeneratorExit:
            if reservation is not None:
                reservation.give_back()
            raise
        left, sent = here.time_left(), here.clock()
        if left <= 0:
            break
        here.pace.create_out(1)
        try:
            answer = yield Step(None, 0.0, act.within(left), leaving.sent)
        except GeneratorExit:
            log_left(leaving, here.expected.hint if here.expected is not None else None)
            raise
        finally:
            here.pace.create_out(-1)
        if isinstance(answer, Lost):
            if answer.sent:
                unknown = _unknown_outcome(f"no answer came ({answer.reason})")
                return (yield from find_job(unknown, order, here, leaving, reservation))
            retry_after = None
            refusal = ServiceUnavailable(f"{here.base_url} was not reached: {answer.reason}")
        else:
            found = read_create(http_reply(answer))
            too_many = isinstance(found, Refused) and found.error is RateLimited
            if not too_many:
                here.pace.create_passed(here.clock())
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
                unknown = _unknown_outcome(found.text, found.job_id, found.status_code)
                return (yield from find_job(unknown, order, here, leaving, reservation))
            refusal = found.error(
                f"the service refused to create the job: {found.text}; nothing was charged",
                status_code=found.status_code,
            )
            retry_after = found.retry_after
            if not isinstance(refusal, (RateLimited, ServiceUnavailable)):
                raise refusal
        failures += 1
        dice = here.dice()
        wait = here.retry.wait(failures, retry_after, dice)
        if isinstance(refusal, RateLimited):
            calm = here.retry.wait(1, retry_after, dice)
            here.pace.create_refused(here.clock(), calm, sent)
        if failures >= here.retry.create_attempts:
            break
    raise refusal


def _get_ready(
    wait: float, here: Circumstances, leaving: Leaving
) -> Generator[Step, Answer | None, None]:
    """Wait for what has to come before create: its back-off, the service's calm, a turn."""
    if wait:
        yield Step(None, wait, None, leaving.idle)
    if here.limited:
        yield from _take_turn(here, leaving)
    wait = here.pace.create_turn(here.clock(), here.dice())
    if not wait:
        return
    here.pace.wait_with_create(1)
    try:
        while wait and (left := here.time_left()) > 0:
            yield Step(None, min(wait, left), None, leaving.idle)
            wait = here.pace.create_turn(here.clock(), here.dice())
    finally:
        here.pace.wait_with_create(-1)


def _take_turn(here: Circumstances, leaving: Leaving) -> Generator[Step, Answer | None, None]:
    """Wait until the rate limiter gives a turn. A driver waits there, or looks now and then."""
    wait: float | None = 0.0
    while wait is not None and wait < here.time_left():
        turn = yield Step(None, wait, Acquire(here.time_left() - wait), leaving.idle)
        if not isinstance(turn, Turn):
            raise TypeError(f"a driver answered Acquire with {type(turn).__name__}")
        if turn.granted:
            return
        if turn.trouble is not None:
            raise ConfigurationError(f"rate_limiter broke ({turn.trouble}); nothing was sent")
        wait = turn.again
    raise RateLimited(f"rate_limiter gave no turn within {here.timeout:g} s; nothing was sent")


def _unknown_outcome(
    what: str, job_id: str | None = None, status_code: int | None = None
) -> CreateOutcomeUnknown:
    return CreateOutcomeUnknown(
        f"create was sent, but it is not known whether a job was made: {what}. It may have been "
        "charged; look at the account before asking for the same picture again",
        job_id=job_id,
        status_code=status_code,
    )
