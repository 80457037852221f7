"""What an answered query makes of a job: the next snapshot, or the error that it ends in.

Here stands how a record's words become a charge, an error and a text. No I/O, and no waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux.errors import Charge, JobFailed, JobTimeout, UnexpectedReply
from langchain_shortapi_flux.job import next_snapshot

if TYPE_CHECKING:
    from langchain_shortapi_flux.flow_steps import Circumstances
    from langchain_shortapi_flux.job import FluxJob
    from langchain_shortapi_flux.job_record import Record


def queried(job: FluxJob, here: Circumstances, **news: Any) -> FluxJob:
    """The next snapshot: one more query, and what it brought."""
    news |= {"queries": job.queries + 1, "elapsed": here.elapsed()}
    return next_snapshot(job, news)


def updated(job: FluxJob, found: Record, here: Circumstances) -> FluxJob:
    """The snapshot after a query that brought a record."""
    charge: Charge = "charged"
    if found.refunded:
        charge = "refunded"
    elif found.status == "failed" and found.refunded is None:
        charge = "unknown"
    error = found.error if found.status == "failed" else None
    if found.status == "failed" and error is None:
        error = "the service gave no reason" + (f"; {found.oddity}" if found.oddity else "")
    if found.status == "succeeded":
        error = _notes_on_success(found)
    return queried(
        job,
        here,
        status=found.status,
        images=found.images,
        cost=found.cost if found.cost is not None else job.cost,
        refunded=job.refunded if found.refunded_amount is None else found.refunded_amount,
        charge=charge,
        error=error,
    )


def _notes_on_success(found: Record) -> str | None:
    notes = ["note: the service reports this job as refunded"] if found.refunded else []
    if not found.images:
        notes.append(f"no picture: {found.oddity or _NO_PICTURES}")
    elif found.oddity:
        notes.append(f"note: {found.oddity}")
    return "; ".join(notes) or None


_NO_PICTURES = "its list of pictures is empty or missing"


def ended(job: FluxJob, found: Record) -> FluxJob:
    """The job, which has ended.

    Raises:
        JobFailed: The service says that it failed.
        UnexpectedReply: It has no pictures.
    """
    if job.status == "failed":
        back = f", {job.refunded} USD given back" if job.refunded else ""
        raise JobFailed(
            f"job {job.job_id} failed: {job.error} ({_charge_text(job.charge)}{back})",
            job_id=job.job_id,
            charge=job.charge,
        )
    if not job.images:
        why = found.oddity or _NO_PICTURES
        raise UnexpectedReply(
            f"the service says that job {job.job_id} succeeded, but gave no picture: {why}",
            job_id=job.job_id,
            charge=job.charge,
        )
    return job


def timed_out(job: FluxJob, here: Circumstances, trouble: str | None) -> JobTimeout:
    """The error of a job that has not ended by the deadline; ``trouble`` is what queries met."""
    said = f" (last: {trouble})" if trouble else ""
    return JobTimeout(
        f"job {job.job_id} has not ended within {here.timeout:g} s{said}; it may still finish and "
        f"be charged: follow({job.job_id!r}) waits on without buying again",
        job_id=job.job_id,
        charge=job.charge,
    )


_CHARGE_TEXTS: dict[Charge, str] = {
    "none": "nothing was charged",
    "charged": "it was charged",
    "refunded": "it was refunded",
    "unknown": "whether it was charged is not known",
}


def _charge_text(charge: Charge) -> str:
    return _CHARGE_TEXTS[charge]
