"""How a job's end is kept in a ledger, and told again from there without asking the service.

No I/O, and nothing of keys and claims.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from langchain_shortapi_flux.errors import Charge, JobFailed
from langchain_shortapi_flux.job import FluxJob

if TYPE_CHECKING:
    from langchain_shortapi_flux.flow_steps import Circumstances, Order
    from langchain_shortapi_flux.ledger import Entry


def known_job(found: Entry, order: Order, here: Circumstances) -> FluxJob:
    """The job that an entry stands for: as it ended, or to be followed."""
    job_id = found.job_id or ""
    if not isinstance(found.outcome, dict):
        return job_to_follow(job_id, order, here)
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
        return job_to_follow(job_id, order, here)


def job_to_follow(job_id: str, order: Order, here: Circumstances) -> FluxJob:
    """What is known of a job of which only the id was kept."""
    return FluxJob(
        job_id=job_id,
        status="pending",
        request=order.request,
        model=order.model,
        base_url=here.base_url,
        elapsed=here.elapsed(),
    )


def kept_job(job: FluxJob) -> dict[str, Any] | None:
    """What is kept of a job that went well; None where its pictures could not be told again."""
    if any(image.inline is not None for image in job.images):
        return None
    return job.model_dump(mode="json", exclude={"request", "queries", "elapsed"})


def kept_failure(error: JobFailed) -> dict[str, Any]:
    """What is kept of a job that failed."""
    return {"status": "failed", "charge": error.charge, "message": str(error)}


def _settled(job: FluxJob, here: Circumstances) -> FluxJob:
    """The job, known to the budget as well: a call before this one may have reserved for it."""
    if here.budget is not None:
        here.budget.settle(job)
    return job
