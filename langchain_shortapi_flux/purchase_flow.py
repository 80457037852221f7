"""Buying once: the flow around create and follow where a purchase has a key in a ledger.

It knows what an entry found under the key means: which job is to be followed, what is answered
without asking, and when nobody can tell. No I/O: clocks are passed in, keepers perform the acts.

**An unclear answer that names a job** (a no beside an id, a 5xx, a body that is broken off) proves
no job: but no create holds an id that could be echoed, so the job that it names is taken for the
one that was asked for. Hence the id is kept with the doubt, and the key's next call makes a free
query. A job that is known there is this purchase: it is followed like any other. One that the
service does not know, or will not tell of, leaves the purchase as unknown as it was:
``CreateOutcomeUnknown`` with key, time and id, or bought anew where ``on_unknown="buy"`` allows it.
One of which it tells another id or prompt is neither taken nor bought anew. The same holds of a job
that the service's call named, and that could not be asked for in time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_shortapi_flux.claim_flow import (
    NO_CLEAR_ANSWER,
    claim_key,
    note,
    outcome_unknown,
    renewed_claim,
)
from langchain_shortapi_flux.errors import (
    CreateOutcomeUnknown,
    JobFailed,
    NotCreated,
    RateLimited,
    ShortAPIError,
    UnexpectedReply,
)
from langchain_shortapi_flux.flow_steps import Leaving
from langchain_shortapi_flux.follow_flow import follow_job, look_at_job
from langchain_shortapi_flux.job_flow import NO_TIME, create_job, is_new
from langchain_shortapi_flux.kept_outcome import (
    job_to_follow,
    kept_failure,
    kept_job,
    known_job,
)
from langchain_shortapi_flux.ledger import Bought, Ended

if TYPE_CHECKING:
    from collections.abc import Generator

    from langchain_shortapi_flux.flow_steps import Answer, Circumstances, JobFlow, Order, Step
    from langchain_shortapi_flux.ledger import Entry
    from langchain_shortapi_flux.purchase import Purchase

CREATE_SHARE_OF_LEASE = 0.9
"""Create gives up before its claim's lease ends, so that nobody takes the claim for dead."""


def buy_job_once(order: Order, purchase: Purchase, here: Circumstances) -> JobFlow:
    """As ``buy_job``, but the same key never buys twice: the job is followed, or answered."""
    job = yield from create_job_once(order, purchase, here)
    if job.status == "succeeded":
        return job
    failure: JobFailed | None = None
    try:
        job = yield from follow_job(job, here, bought_now=is_new(job))
    except JobFailed as error:
        failure = error
    outcome = kept_failure(failure) if failure else kept_job(job)
    ended = Ended(purchase.key, "ended", holder=purchase.holder, job_id=job.job_id, outcome=outcome)
    yield from note(ended)
    if failure is not None:
        raise failure
    return job


def buy_job_unnamed(order: Order, purchase: Purchase, here: Circumstances) -> JobFlow:
    """As ``buy_job``: nothing is looked up, so equal prompts are two jobs.

    Only where it is left early, the ledger is told, so that what was bought can be found there.
    """
    claim = purchase.claim()
    job = yield from create_job(order, here, Leaving(sent=(claim, purchase.unclear)))
    noted = (claim, Bought(purchase.key, purchase.holder, job.job_id))
    return (yield from follow_job(job, here, bought_now=is_new(job), if_left=noted))


def create_job_unnamed(order: Order, purchase: Purchase, here: Circumstances) -> JobFlow:
    """As ``create_job``; where it is left while create is under way, the ledger is told."""
    sent = (purchase.claim(), purchase.unclear)
    return (yield from create_job(order, here, Leaving(sent=sent)))


def create_job_once(order: Order, purchase: Purchase, here: Circumstances) -> JobFlow:
    """Claim the key and create, or give the job that the key stands for already.

    Raises:
        LedgerFailed: The ledger could not be asked; this call bought nothing.
        InvalidRequest: The key stands for other arguments.
        CreateOutcomeUnknown: An earlier create under this key has no known outcome.
        JobTimeout: A job that an unclear answer named could not be asked for in time.
        UnexpectedReply: No query for such a job got a usable answer, or it is another's.
        JobFailed: The key's job failed earlier.
        NotCreated: As ``create_job``; the key is free again.
    """
    found, purchase = yield from claim_key(purchase, here)
    while found.holder != purchase.holder:
        if found.state != "unknown" or (yield from _is_known_there(found, purchase, order, here)):
            return known_job(found, order, here)
        found, purchase = yield from claim_key(purchase, here, instead_of=found.holder)
    leaving = Leaving((purchase.released,), (purchase.unclear,), purchase.key)
    while True:
        here_for_create = _within_lease(found, purchase, here)
        in_time = here_for_create.time_left() > 0
        problem: ShortAPIError | None = None
        try:
            job = yield from create_job(order, here_for_create, leaving)
        except NotCreated as error:
            problem, act = error, purchase.released
        except (CreateOutcomeUnknown, UnexpectedReply) as error:
            problem = outcome_unknown(found, str(error), error)
            act = replace(purchase.unclear, job_id=error.job_id)
        if problem is None:
            break
        if in_time and _waits_for_its_turn(problem, here_for_create, here):
            renewed = yield from renewed_claim(purchase, here)
            if renewed is not None:
                found = renewed
                continue
        yield from note(act)
        raise problem
    # Before the job is shown to anyone: whoever leaves at the first snapshot leaves a trace.
    yield from note(Bought(purchase.key, purchase.holder, job.job_id))
    return job


def _within_lease(found: Entry, purchase: Purchase, here: Circumstances) -> Circumstances:
    """The circumstances of a create that ends before others may take its claim for dead."""
    # Less what a slow ledger took of it; a wall clock that was set back adds nothing.
    lease_left = min(found.lease_ends - purchase.wall(), purchase.lease)
    lease_left -= purchase.lease * (1 - CREATE_SHARE_OF_LEASE)
    return replace(here, timeout=min(here.timeout, here.elapsed() + lease_left))


def _waits_for_its_turn(
    problem: ShortAPIError, here_for_create: Circumstances, here: Circumstances
) -> bool:
    """Whether create was given up for want of lease alone, among others that wait after a 429."""
    waits = isinstance(problem, RateLimited) or str(problem) == NO_TIME
    short = here_for_create.time_left() <= here.retry.backoff_max
    return waits and short and here.time_left() > here.retry.backoff_max


def _is_known_there(
    found: Entry, purchase: Purchase, order: Order, here: Circumstances
) -> Generator[Step, Answer | None, bool]:
    """Whether there is the job that an unclear answer named; False where it may be bought anew."""
    named = job_to_follow(found.job_id or "", order, here)
    try:
        yield from look_at_job(named, replace(here, timeout=here.patience), doubted=True)
    except UnexpectedReply as error:
        if error.status_code is None:  # the service has not said anything yet
            raise
        if purchase.on_unknown != "buy":
            raise outcome_unknown(found, f"{NO_CLEAR_ANSWER}, and {error}", error) from None
        return False
    yield from note(Bought(found.key, found.holder, named.job_id))
    return True
