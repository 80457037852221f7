"""Asking a ledger for a key, and telling it what came: what stands around a create.

It knows how another's claim is waited for, and what a ledger that fails means. No I/O: clocks are
passed in, keepers perform the acts. It knows nothing of create and query.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from langchain_shortapi_flux.errors import (
    CreateOutcomeUnknown,
    InvalidRequest,
    LedgerFailed,
    ShortAPIError,
)
from langchain_shortapi_flux.flow_steps import Answer, Circumstances, Step, logger
from langchain_shortapi_flux.ledger import Bought, Ended, Entry, LedgerTrouble

if TYPE_CHECKING:
    from collections.abc import Generator

    from langchain_shortapi_flux.purchase import Purchase

CLAIM_LOOK_SECONDS = 0.05
"""The first wait for another's claim to get its job id; the next are longer."""
CLAIM_LOOK_SECONDS_MAX = 1.0
NOTE_AGAIN_SECONDS = 0.1
"""The wait before a job's id is offered again to a ledger that did not take it."""
NO_CLEAR_ANSWER = "an earlier create under the same key got no clear answer"


def claim_key(
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
            raise outcome_unknown(seen, NO_CLEAR_ANSWER, None)
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
        again = purchase.may_replace(found)
        if again and instead_of != found.holder:
            wait, instead_of = 0.0, found.holder
            purchase = replace(purchase, in_doubt=found.job_id is None)
            continue
        if found.job_id is not None:
            return found, purchase
        left = min(found.lease_ends - purchase.wall(), here.patience - here.elapsed())
        if found.state == "unknown" or left <= 0:
            raise outcome_unknown(found, NO_CLEAR_ANSWER, None)
        wait = min(CLAIM_LOOK_SECONDS * 2 ** min(looks, 10), CLAIM_LOOK_SECONDS_MAX, left)
        looks += 1


def renewed_claim(
    purchase: Purchase, here: Circumstances
) -> Generator[Step, Answer | None, Entry | None]:
    """The claim with a fresh lease, if it is ours still: a crowd waits long for its turns."""
    found = yield from _ask(purchase, here, instead_of=purchase.holder)
    return found if isinstance(found, Entry) and found.holder == purchase.holder else None


def note(act: Bought | Ended) -> Generator[Step, Answer | None, None]:
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


def outcome_unknown(found: Entry, what: str, cause: ShortAPIError | None) -> CreateOutcomeUnknown:
    """The error that names the key, its time, and the job that the ``cause`` may have named."""
    when = datetime.fromtimestamp(found.claimed_at, UTC).isoformat(timespec="seconds")
    error = CreateOutcomeUnknown(
        f"{what}: key {found.key}, claimed at {when}. A job may exist and may have been charged",
        job_id=cause.job_id if cause is not None else None,
        status_code=cause.status_code if cause is not None else None,
    )
    error.key, error.claimed_at = found.key, found.claimed_at
    return error


def _ask(
    purchase: Purchase, here: Circumstances, instead_of: str | None
) -> Generator[Step, Answer | None, Answer | None]:
    """Ask the ledger for the key; what is left before the answer frees it again."""
    claim = purchase.claim(instead_of)
    claim = replace(claim, time_left=min(here.time_left(), purchase.lease))
    return (yield Step(None, 0.0, claim, (purchase.released,)))
