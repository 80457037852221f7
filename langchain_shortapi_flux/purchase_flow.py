"""Buying once: the flow around create and follow where a purchase has a key in a ledger.

It knows what an entry found under the key means: which job is to be followed, what is answered
without asking, and when nobody can tell. No I/O: clocks are passed in, keepers perform the acts.

**An unclear answer that names a job** (a no beside an id, a 5xx, a body that is broken off) proves
no job: but no create holds an id that could be echoed, so the job that it names is taken for the
one that was asked for. Hence the id is kept with the doubt, and the key's next call makes a free
query. A job that is known there is this purchase: it is followed like any other. One that the
service does not know, or will not tell of, leaves the purchase as unknown as it was:
``CreateOutcomeUnknown`` with key, time and id, or bought anew where ``on_unknown="buy"`` allows it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from langchain_shortapi_flux.errors import (
    Charge,
    CreateOutcomeUnknown,
    InvalidRequest,
    JobFailed,
    LedgerFailed,
    NotCreated,
    RateLimited,
    ShortAPIError,
    UnexpectedReply,
)
from langchain_shortapi_flux.flow_steps import Answer, Circumstances, JobFlow, Order, Step, logger
from langchain_shortapi_flux.follow_flow import follow_job, look_at_job
from langchain_shortapi_flux.job import FluxJob, Repeat
from langchain_shortapi_flux.job_flow import NO_TIME, Leaving, create_job
from langchain_shortapi_flux.ledger import (
    Bought,
    Claim,
    Ended,
    Entry,
    LedgerTrouble,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

CREATE_SHARE_OF_LEASE = 0.9
"""Create gives up before its claim's lease ends, so that nobody takes the claim for dead."""
CLAIM_LOOK_SECONDS = 0.05
"""The first wait for another's claim to get its job id; the next are longer."""
CLAIM_LOOK_SECONDS_MAX = 1.0
NOTE_AGAIN_SECONDS = 0.1
"""The wait before a job's id is offered again to a ledger that did not take it."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """Under which key a job is bought.

    Attributes:
        key: What the purchase is known by in the ledger.
        digest: A hash of what is asked for.
        holder: A token of this call alone.
        lease: Seconds that a claim without a job id is believed to be alive.
        on_unknown: What to do where an earlier create has no known outcome.
        on_failed: What to do where the earlier job failed and was refunded.
        wall: Unix seconds, for leases are compared among processes.
        prompt: Kept by keepers that were told to store prompts.
        in_doubt: Whether the claim took the place of a purchase whose outcome nobody knows.
    """

    key: str
    digest: str
    holder: str
    lease: float
    on_unknown: Repeat
    on_failed: Repeat
    wall: Callable[[], float]
    prompt: str
    in_doubt: bool = False

    @property
    def released(self) -> Ended:
        """What frees the key, for no job was made; what was in doubt before stays so."""
        return self.unclear if self.in_doubt else Ended(self.key, "released", holder=self.holder)

    @property
    def unclear(self) -> Ended:
        """What says that nobody can tell whether a job was made."""
        return Ended(self.key, "unknown", holder=self.holder)


def buy_job_once(order: Order, purchase: Purchase, here: Circumstances) -> JobFlow:
    """As ``buy_job``, but the same key never buys twice: the job is followed, or answered."""
    job = yield from create_job_once(order, purchase, here)
    if job.status == "succeeded":
        return job
    failure: JobFailed | None = None
    try:
        job = yield from follow_job(job, here, bought_now=job.charge == "charged")
    except JobFailed as error:
        failure = error
    outcome = _failed(failure) if failure else _outcome(job)
    ended = Ended(purchase.key, "ended", holder=purchase.holder, job_id=job.job_id, outcome=outcome)
    yield from _note(ended)
    if failure is not None:
        raise failure
    return job


def buy_job_unnamed(order: Order, purchase: Purchase, here: Circumstances) -> JobFlow:
    """As ``buy_job``: nothing is looked up, so equal prompts are two jobs.

    Only where it is left early, the ledger is told, so that what was bought can be found there.
    """
    job = yield from create_job_unnamed(order, purchase, here)
    noted = (_claim_act(purchase, None), Bought(purchase.key, purchase.holder, job.job_id))
    return (yield from follow_job(job, here, if_left=noted))


def create_job_unnamed(order: Order, purchase: Purchase, here: Circumstances) -> JobFlow:
    """As ``create_job``; where it is left while create is under way, the ledger is told."""
    sent = (_claim_act(purchase, None), purchase.unclear)
    return (yield from create_job(order, here, Leaving(sent=sent)))


def create_job_once(order: Order, purchase: Purchase, here: Circumstances) -> JobFlow:
    """Claim the key and create, or give the job that the key stands for already.

    Raises:
        LedgerFailed: The ledger could not be asked; this call bought nothing.
        InvalidRequest: The key stands for other arguments.
        CreateOutcomeUnknown: An earlier create under this key has no known outcome.
        JobTimeout: A job that an unclear answer named could not be asked for in time.
        UnexpectedReply: No query for such a job got a usable answer.
        JobFailed: The key's job failed earlier.
        NotCreated: As ``create_job``; the key is free again.
    """
    found, purchase = yield from _claim(purchase, here)
    while found.holder != purchase.holder:
        if found.state != "unknown" or (yield from _is_known_there(found, purchase, order, here)):
            return _known(found, order, here)
        found, purchase = yield from _claim(purchase, here, instead_of=found.holder)
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
            problem = _unknown(found, str(error), error)
            act = replace(purchase.unclear, job_id=error.job_id)
        if problem is None:
            break
        if in_time and _waits_for_its_turn(problem, here_for_create, here):
            renewed = yield from _renewed(purchase, here)
            if renewed is not None:
                found = renewed
                continue
        yield from _note(act)
        raise problem
    # Before the job is shown to anyone: whoever leaves at the first snapshot leaves a trace.
    yield from _note(Bought(purchase.key, purchase.holder, job.job_id))
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


def _renewed(
    purchase: Purchase, here: Circumstances
) -> Generator[Step, Answer | None, Entry | None]:
    """The claim with a fresh lease, if it is ours still: a crowd waits long for its turns."""
    found = yield from _ask(purchase, here, instead_of=purchase.holder)
    return found if isinstance(found, Entry) and found.holder == purchase.holder else None


def _is_known_there(
    found: Entry, purchase: Purchase, order: Order, here: Circumstances
) -> Generator[Step, Answer | None, bool]:
    """Whether there is the job that an unclear answer named; False where it may be bought anew."""
    named = _to_follow(found.job_id or "", order, here)
    try:
        yield from look_at_job(named, replace(here, timeout=here.patience))
    except UnexpectedReply as error:
        if error.status_code is None:  # the service has not said anything yet
            raise
        if purchase.on_unknown != "buy":
            raise _unknown(found, f"{_NO_CLEAR_ANSWER}, and {error}", error) from None
        return False
    yield from _note(Bought(found.key, found.holder, named.job_id))
    return True


def _claim(
    purchase: Purchase, here: Circumstances, instead_of: str | None = None
) -> Generator[Step, Answer | None, tuple[Entry, Purchase]]:
    """Take the key, or find what stands under it once its outcome can be told.

    ``instead_of`` names the holder of an entry that may be replaced, for nobody can tell of it.
    """
    if instead_of is not None:
        purchase = replace(purchase, in_doubt=True)
    wait, looks = 0.0, 0
    seen: Entry | None = None
    while True:
        if wait:
            yield Step(None, wait, None)
        found = yield from _ask(purchase, here, instead_of)
        if not isinstance(found, Entry) and seen is not None:
            raise _unknown(seen, _NO_CLEAR_ANSWER, None)
        if not isinstance(found, Entry):
            # The claim may have been taken down all the same; nothing was sent under it.
            release = replace(purchase.released, time_left=max(here.time_left(), 0.0))
            yield Step(None, 0.0, release, (release,))
            reason = found.reason if isinstance(found, LedgerTrouble) else "no answer"
            raise LedgerFailed(
                f"the ledger could not be asked ({reason}): this call bought nothing, but whether "
                f"{purchase.key} was bought before is not known"
            )
        if found.holder == purchase.holder:
            return found, purchase
        seen = found
        if found.digest != purchase.digest:
            raise InvalidRequest(
                f"{purchase.key} stands for a request with other arguments; use another "
                "request_key, or the same arguments; nothing was sent"
            )
        again = _may_be_replaced(found, purchase)
        if again and instead_of != found.holder:
            wait, instead_of = 0.0, found.holder
            purchase = replace(purchase, in_doubt=found.job_id is None)
            continue
        if found.job_id is not None:
            return found, purchase
        left = min(found.lease_ends - purchase.wall(), here.patience - here.elapsed())
        if found.state == "unknown" or left <= 0:
            raise _unknown(found, _NO_CLEAR_ANSWER, None)
        wait = min(CLAIM_LOOK_SECONDS * 2 ** min(looks, 10), CLAIM_LOOK_SECONDS_MAX, left)
        looks += 1


_NO_CLEAR_ANSWER = "an earlier create under the same key got no clear answer"


def _ask(
    purchase: Purchase, here: Circumstances, instead_of: str | None
) -> Generator[Step, Answer | None, Answer | None]:
    """Ask the ledger for the key; what is left before the answer frees it again."""
    claim = _claim_act(purchase, instead_of)
    claim = replace(claim, time_left=min(here.time_left(), purchase.lease))
    return (yield Step(None, 0.0, claim, (purchase.released,)))


def _claim_act(purchase: Purchase, instead_of: str | None) -> Claim:
    return Claim(
        key=purchase.key,
        digest=purchase.digest,
        holder=purchase.holder,
        now=purchase.wall(),
        lease=purchase.lease,
        instead_of=instead_of,
        prompt=purchase.prompt,
    )


def _may_be_replaced(found: Entry, purchase: Purchase) -> bool:
    """Whether the caller asked to buy again in just this case, and may."""
    if found.job_id is None:
        over = found.state == "unknown" or found.lease_ends <= purchase.wall()
        return over and purchase.on_unknown == "buy"
    outcome = found.outcome if isinstance(found.outcome, dict) else {}
    refunded = outcome.get("status") == "failed" and outcome.get("charge") == "refunded"
    return refunded and purchase.on_failed == "buy"


def _known(found: Entry, order: Order, here: Circumstances) -> FluxJob:
    """The job that an entry stands for: as it ended, or to be followed."""
    job_id = found.job_id or ""
    if not isinstance(found.outcome, dict):
        return _to_follow(job_id, order, here)
    charge = found.outcome.get("charge")
    if found.outcome.get("status") == "failed" and charge in get_args(Charge):
        ended = FluxJob(job_id=job_id, status="failed", charge=charge, base_url=here.base_url)
        _settled(ended, here)
        raise JobFailed(
            f"{found.outcome.get('message')} (known from the ledger; nothing was bought)",
            job_id=job_id,
            charge=charge,
        )
    try:
        return _settled(FluxJob.model_validate({**found.outcome, "request": order.request}), here)
    except ValidationError:  # written by another version of this package: ask the service instead
        return _to_follow(job_id, order, here)


def _settled(job: FluxJob, here: Circumstances) -> FluxJob:
    """The job, known to the budget as well: a call before this one may have reserved for it."""
    if here.budget is not None:
        here.budget.settle(job)
    return job


def _to_follow(job_id: str, order: Order, here: Circumstances) -> FluxJob:
    return FluxJob(
        job_id=job_id,
        status="pending",
        request=order.request,
        model=order.model,
        base_url=here.base_url,
        elapsed=here.elapsed(),
    )


def _outcome(job: FluxJob) -> dict[str, Any] | None:
    """What is kept of a job that went well; None where its pictures could not be told again."""
    if any(image.inline is not None for image in job.images):
        return None
    return job.model_dump(mode="json", exclude={"request", "queries", "elapsed"})


def _failed(error: JobFailed) -> dict[str, Any]:
    return {"status": "failed", "charge": error.charge, "message": str(error)}


def _unknown(found: Entry, what: str, cause: ShortAPIError | None) -> CreateOutcomeUnknown:
    when = datetime.fromtimestamp(found.claimed_at, UTC).isoformat(timespec="seconds")
    error = CreateOutcomeUnknown(
        f"{what}: key {found.key}, claimed at {when}. A job may exist and may have been charged",
        job_id=cause.job_id if cause is not None else None,
        status_code=cause.status_code if cause is not None else None,
    )
    error.key, error.claimed_at = found.key, found.claimed_at
    return error


def _note(act: Bought | Ended) -> Generator[Step, Answer | None, None]:
    """Let the ledger note something. Once a job is paid for, its failure must not lose the job."""
    known_first_now = isinstance(act, Bought) or act.result == "unknown"
    try:
        # Left while this is under way, it is done all the same: noting it twice does no harm.
        answer = yield Step(None, 0.0, act, (act,))
        if isinstance(answer, LedgerTrouble) and known_first_now:
            # A stale connection fails once; the job's id must not be lost for so little.
            answer = yield Step(None, NOTE_AGAIN_SECONDS, act, (act,))
    except GeneratorExit:
        if act.job_id is not None:
            logger.warning(
                "stopped while job %s was noted in the ledger; follow(%r) picks it up",
                act.job_id,
                act.job_id,
            )
        raise
    if isinstance(answer, LedgerTrouble):
        logger.error(
            "the ledger could not note %s of key %s (%s); job %s",
            type(act).__name__,
            act.key,
            answer.reason,
            act.job_id or "none",
        )
