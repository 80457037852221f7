"""What can still be learned of a create that got no clear answer: the service's call names its job.

Nobody vouches for a call. So the job that it names is queried first, and only one that the service
knows is taken for the one that was asked for. No I/O, and no rule about sending create.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_shortapi_flux.errors import JobTimeout, UnexpectedReply
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
    from langchain_shortapi_flux.errors import CreateOutcomeUnknown
    from langchain_shortapi_flux.flow_steps import Answer
    from langchain_shortapi_flux.job import FluxJob

CALL_SECONDS_MAX = 60.0
"""How long such a call is waited for, if the job's own deadline is not before: longer than jobs are
known to take. Often there is no job, and none will come."""


def job_called_about(
    unknown: CreateOutcomeUnknown,
    order: Order,
    here: Circumstances,
    leaving: Leaving = NOTHING,
) -> JobFlow:
    """Wait for the service's call, and return the job that it names, to be followed. Never buys.

    Args:
        unknown: What is raised where no call can come, or none in time about a job that is there.
        order: What was asked for.
        here: The circumstances of that create.
        leaving: What is noted where this is left: what that create would have left.

    Raises:
        CreateOutcomeUnknown: ``unknown``.
    """
    expected = here.expected
    if expected is None:
        raise unknown
    ends = min(here.patience, here.elapsed() + CALL_SECONDS_MAX)
    here = replace(here, timeout=ends, max_wait=None, expected=None)
    while expected.told and (left := here.time_left()) > 0:
        try:
            yield Step(None, left, None, leaving.sent, expected.doorbell)
        except GeneratorExit:
            log_left(leaving)
            raise
        expected.doorbell.heard()
        named, expected.hint = expected.hint, None
        if named is None:
            continue
        job = job_to_follow(named, order, here)
        try:
            yield from _not_shown(look_at_job(job, here, leaving.sent))
        except (UnexpectedReply, JobTimeout) as error:
            logger.warning("a call named job %s, which could not be asked for: %s", named, error)
        else:
            logger.info("create got no clear answer, but the service called: job %s", named)
            return job
    raise unknown


def _not_shown(flow: JobFlow) -> JobFlow:
    """The same flow, whose steps show nothing: the job may be anybody's."""
    answer: Answer | None = None
    try:
        while True:
            answer = yield flow.send(answer)._replace(job=None)
    except StopIteration as end:
        found: FluxJob = end.value
        return found
    finally:
        flow.close()


def log_left(leaving: Leaving) -> None:
    """Say in the log that a create was left of which nobody knows what came."""
    logger.warning(
        "stopped while a job was being created; it may have been charged; key %s",
        leaving.key or "none",
    )
