"""What can still be learned of a create that got no clear answer: which job it made, if any.

The service's call to the job's own URL names it, and an unclear answer may have. Nobody vouches for
either. So the job is queried first, and taken only if the service tells of it, and of no other.
No I/O, and no rule about sending create.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_shortapi_flux.errors import CreateOutcomeUnknown, UnexpectedReply
from langchain_shortapi_flux.flow_steps import (
    NOTHING,
    Answer,
    Circumstances,
    JobFlow,
    Leaving,
    Order,
    Step,
    logger,
)
from langchain_shortapi_flux.follow_flow import NoNews, query_job
from langchain_shortapi_flux.kept_outcome import job_to_follow
from langchain_shortapi_flux.wire import query_request

if TYPE_CHECKING:
    from collections.abc import Generator

    from langchain_shortapi_flux.job import FluxJob
    from langchain_shortapi_flux.job_record import Whose
    from langchain_shortapi_flux.ledger import LedgerAct
    from langchain_shortapi_flux.spending import Reservation

CALL_SECONDS_MAX = 30.0
"""How long a call is waited for, and the job that one named is asked for: longer than most jobs
take. Often there is no job, and none will come. Each call that names one begins it anew."""


def find_job(
    unknown: CreateOutcomeUnknown,
    order: Order,
    here: Circumstances,
    leaving: Leaving = NOTHING,
    reservation: Reservation | None = None,
) -> JobFlow:
    """The job that such a create made, to be followed, where the service may call. Never buys.

    Args:
        unknown: What came of create.
        order: What was asked for.
        here: The circumstances of that create.
        leaving: What that create would have left.
        reservation: What its price is reserved by.

    Raises:
        CreateOutcomeUnknown: No call can come, or none in time about a job that is there. It names
            the last job of which nobody knows whether it is the one.
    """
    expected = here.expected
    if expected is None:
        raise unknown
    to_ask = [unknown.job_id] if unknown.job_id is not None else []  # the next one at the end
    in_doubt = list(to_ask)  # all that may be the one, the likeliest at the end
    since, failures, wait = here.elapsed(), 0, 0.0
    try:
        while True:
            expected.doorbell.heard()  # before the hints: a call that comes now ends the next wait
            while (hint := expected.take_hint()) is not None:
                to_ask.append(hint)
                in_doubt.append(hint)
                since, failures, wait = here.elapsed(), 0, 0.0
            ends = min(here.patience, since + CALL_SECONDS_MAX)
            left = ends - here.elapsed()
            if left <= 0 or not (to_ask or expected.told):
                raise _naming(unknown, _last(in_doubt))
            if wait or not to_ask:
                wait = min(wait, left) if to_ask else left
                if_left = leaving.naming(_last(in_doubt))
                yield Step(None, wait, None, if_left, expected.doorbell)
                wait = 0.0
                continue
            named = to_ask.pop()
            job = job_to_follow(named, order, here)
            calm = replace(here, timeout=ends, expected=None)
            said, retry_after = yield from _asked(job, calm, leaving.naming(named))
            if said == "its":
                logger.info("create got no clear answer, but job %s is what it made", named)
                return job
            if said == "nobody's":
                to_ask.insert(0, named)
                failures += 1
                wait = here.retry.wait(failures, retry_after, here.dice())
            else:
                others = [one for one in in_doubt if one != named]
                in_doubt = others if said == "another's" else [named, *others]
    except GeneratorExit:
        named_last = expected.hint or _last(in_doubt)
        log_left(leaving, named_last)
        if reservation is not None:
            reservation.keep(named_last)
        raise


def _last(job_ids: list[str]) -> str | None:
    return job_ids[-1] if job_ids else None


def _asked(
    job: FluxJob, here: Circumstances, if_left: tuple[LedgerAct, ...]
) -> Generator[Step, Answer | None, tuple[Whose | None, float | None]]:
    """Whose the job is, None where the service will not say, and when it may be asked again."""
    act = query_request(job.job_id)
    try:
        found, _sent = yield from query_job(act, job, 0.0, here, if_left, doubted=True)
    except UnexpectedReply as error:
        logger.warning("job %s may be what a lost create made, but: %s", job.job_id, error)
        return (None if error.status_code is not None else "another's"), None
    return ("nobody's", found.retry_after) if isinstance(found, NoNews) else ("its", None)


def _naming(unknown: CreateOutcomeUnknown, job_id: str | None) -> CreateOutcomeUnknown:
    """The same error; with the id its key's next call asks for the job, free."""
    if job_id == unknown.job_id:
        return unknown
    text = str(unknown).removesuffix(f" (job {unknown.job_id})")
    return CreateOutcomeUnknown(text, job_id=job_id, status_code=unknown.status_code)


def log_left(leaving: Leaving, named: str | None) -> None:
    """Say in the log that a create was left of which nobody knows what came, if not ``named``."""
    logger.warning(
        "stopped while a job was being created; it may have been charged; key %s%s",
        leaving.key or "none",
        f"; it may be job {named}" if named is not None else "",
    )
