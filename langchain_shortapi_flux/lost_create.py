"""What can still be learned of a create that got no clear answer: which job it made, if any.

The service's call to the job's own URL names it, and an unclear answer may have. Nobody vouches for
either. So the job is queried first, and taken only if the service knows it and tells of no other.
No I/O, and no rule about sending create.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_shortapi_flux.errors import CreateOutcomeUnknown, JobTimeout, UnexpectedReply
from langchain_shortapi_flux.flow_steps import (
    NOTHING,
    Circumstances,
    JobFlow,
    Leaving,
    Order,
    Step,
    logger,
)
from langchain_shortapi_flux.follow_flow import look_at_job
from langchain_shortapi_flux.kept_outcome import job_to_follow

if TYPE_CHECKING:
    from langchain_shortapi_flux.callback import Expected

CALL_SECONDS_MAX = 30.0
"""How long a call is waited for: longer than most jobs take. Often there is no job, and none will
come."""


def find_job(
    unknown: CreateOutcomeUnknown, order: Order, here: Circumstances, leaving: Leaving = NOTHING
) -> JobFlow:
    """The job that such a create made, to be followed, where the service may call. Never buys.

    Args:
        unknown: What came of create.
        order: What was asked for.
        here: The circumstances of that create.
        leaving: What that create would have left.

    Raises:
        CreateOutcomeUnknown: ``unknown``, where nobody may call, or no call in time named a job
            that is there. It carries the id of one that could not be asked for any more.
    """
    expected = here.expected
    if expected is None:
        raise unknown
    try:
        return (yield from _found(unknown, order, here, expected, leaving))
    except GeneratorExit:
        log_left(leaving)
        raise


def _found(
    unknown: CreateOutcomeUnknown,
    order: Order,
    here: Circumstances,
    expected: Expected,
    leaving: Leaving,
) -> JobFlow:
    calm = replace(here, timeout=here.patience, expected=None)
    ends = min(here.patience, here.elapsed() + CALL_SECONDS_MAX)
    named = unknown.job_id or expected.take_hint()
    while True:
        while named is None:
            left = ends - here.elapsed()
            if not expected.told or left <= 0:
                raise unknown
            yield Step(None, left, None, leaving.sent, expected.doorbell)
            expected.doorbell.heard()
            named = expected.take_hint()
        job = job_to_follow(named, order, here)
        try:
            # Only the service's own no is taken for one: it calls once, and money is at stake.
            look = look_at_job(job, calm, leaving.naming(named), doubted=True, attempts=math.inf)
            yield from look
        except UnexpectedReply as error:
            logger.warning("job %s is not the one that was asked for: %s", named, error)
            named = expected.take_hint()
        except JobTimeout:
            raise _naming(unknown, named) from None
        else:
            logger.info("create got no clear answer, but job %s is what it made", named)
            return job


def _naming(unknown: CreateOutcomeUnknown, job_id: str) -> CreateOutcomeUnknown:
    """The same error; with the id its key's next call asks for the job, free."""
    return CreateOutcomeUnknown(str(unknown), job_id=job_id, status_code=unknown.status_code)


def log_left(leaving: Leaving) -> None:
    """Say in the log that a create was left of which nobody knows what came."""
    logger.warning(
        "stopped while a job was being created; it may have been charged; key %s",
        leaving.key or "none",
    )
