"""A job, or its failure, as a model reads it: short text, and an artifact of plain JSON types.

No I/O. The prompt stays out of the artifact, which is kept in checkpoints and traces.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from langchain_shortapi_flux.errors import (
    BudgetExceeded,
    Charge,
    CreateOutcomeUnknown,
    DownloadFailed,
    InvalidRequest,
    JobFailed,
    JobTimeout,
    LedgerFailed,
    NotCreated,
    ShortAPIError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_shortapi_flux.job import FluxJob

ARTIFACT_VERSION = 1
GET_JOB_TOOL_NAME = "flux_get_job"
TROUBLE_LENGTH_MAX = 400
"""Characters of why pictures could not be saved: it names their URLs once more."""
Content = str | list[str | dict[Any, Any]]
"""What a tool message can hold."""


class ImageArtifact(TypedDict):
    """One picture in an artifact."""

    url: str
    path: str | None
    """Where it was saved, with ``save_to``."""


class JobArtifact(TypedDict):
    """What the tool hands on beside the text of a job that went well. Plain JSON types."""

    type: Literal["flux_job"]
    version: int
    job_id: str
    status: str
    charge: Charge
    cost: str | None
    """USD as a decimal string, as the service reports it."""
    images: list[ImageArtifact]
    aspect_ratio: str | None
    num_images: int | None
    performance: str | None
    model: str | None
    base_url: str | None
    elapsed: float
    """Seconds."""


class FailureArtifact(TypedDict):
    """What the tool hands on beside the text of a failure. Plain JSON types."""

    type: Literal["flux_failure"]
    version: int
    error: str
    """The error's class name, from ``langchain_shortapi_flux.errors``."""
    message: str
    job_id: str | None
    charge: Charge
    status_code: int | None
    is_retryable: bool
    advice: str


@dataclass(frozen=True)
class Saved:
    """What came of saving a job's pictures.

    Attributes:
        paths: Where they were saved, in the order of the pictures; empty where they were not.
        trouble: Why they could not be saved; None where nothing went wrong, or nothing was tried.
    """

    paths: tuple[str, ...] = ()
    trouble: str | None = None


NOT_SAVED = Saved()
"""Nothing was tried."""


def job_content(
    job: FluxJob,
    kind: Literal["text", "image"] = "text",
    saved: Saved = NOT_SAVED,
    budget_left: Decimal | None = None,
) -> Content:
    """What a model reads of a job that has its pictures: text, and image blocks if it takes them.

    Args:
        job: The job.
        kind: ``text``, or ``image`` for v1 standard image blocks (by URL) as well.
        saved: Where the pictures were saved (the text then names these short paths, not the URLs),
            or why they could not be.
        budget_left: See ``with_budget``.
    """
    text = job_text(job, saved.paths)
    if saved.trouble is not None:
        text += f"\nThey could not be saved: {_cut(saved.trouble)}"
    text = with_budget(text, budget_left)
    if kind == "text":
        return text
    return [{"type": "text", "text": text}, *job.content_blocks]


def with_budget(text: str, left: Decimal | None) -> str:
    """The text, and in one sentence what is left to spend.

    Args:
        text: What a model reads.
        left: USD; what is overspent counts as nothing left. None where there is no budget: the
            text stays as it is.
    """
    if left is None:
        return text
    return f"{text}\n{max(left, Decimal(0)):f} USD of the budget are left."


def waiting_text(job: FluxJob, budget_left: Decimal | None = None) -> str:
    """What a model reads of a job that has not ended: was it charged, and where to ask for it."""
    text = (
        f"Still running after {job.elapsed:.0f} s of waiting: job {job.job_id}. "
        f"{_CHARGE_SENTENCES[job.charge]} Do not ask for the same picture again: that buys a "
        f"second job. If you have the tool {GET_JOB_TOOL_NAME}, ask {GET_JOB_TOOL_NAME} for job_id "
        f"{job.job_id}; otherwise tell the user the job id."
    )
    return with_budget(text, budget_left)


def job_text(job: FluxJob, saved: Sequence[str] = ()) -> str:
    """The text a model reads about a job that has its pictures."""
    request = job.request
    made = f"{len(job.images)} image{'s' if len(job.images) != 1 else ''}"
    if request is not None and request.num_images not in (None, len(job.images)):
        made += f" (of {request.num_images} asked for)"
    details = [f"job {job.job_id}"]
    if request is not None:
        details = [f"aspect ratio {request.aspect_ratio}", f"{request.performance}", *details]
    if job.cost is not None:
        details.append(f"cost {job.cost} USD")
    lines = [f"Made {made}: {', '.join(details)}."]
    places = saved or [image.url for image in job.images]
    lines += [f"{number}. {place}" for number, place in enumerate(places, 1)]
    if not saved:
        lines.append("The URLs are temporary: pass them on exactly as they are, and soon.")
    if job.error is not None:
        lines.append(f"({job.error})")
    return "\n".join(lines)


def job_artifact(job: FluxJob, saved: Sequence[str] = ()) -> JobArtifact:
    """The artifact of a job. The bytes of pictures that came inside the reply stay out of it."""
    request = job.request
    return {
        "type": "flux_job",
        "version": ARTIFACT_VERSION,
        "job_id": job.job_id,
        "status": job.status,
        "charge": job.charge,
        "cost": None if job.cost is None else str(job.cost),
        "images": [
            {"url": image.url, "path": path}
            for image, path in zip_longest(job.images, saved[: len(job.images)])
        ],
        "aspect_ratio": request.aspect_ratio if request is not None else None,
        "num_images": request.num_images if request is not None else None,
        "performance": request.performance if request is not None else None,
        "model": job.model,
        "base_url": job.base_url,
        "elapsed": round(job.elapsed, 3),
    }


_CHARGE_SENTENCES: dict[Charge, str] = {
    "none": "Nothing was charged.",
    "charged": "It was charged.",
    "refunded": "It was charged and refunded.",
    "unknown": "Whether it was charged is not known.",
}

_GET_JOB = "{get_job}"
_LATER = "It may be tried again in a minute."
_NO_SECOND_JOB = (
    "Do not call again with the same arguments: that buys a second job. Use {get_job}, if you have "
    "that tool, or tell the user the job id."
)
_NO_SECOND_TRY = (
    "Do not call again with the same arguments: that may be charged twice. Tell the user."
)
_ADVICE: tuple[tuple[type[ShortAPIError], str], ...] = (
    (InvalidRequest, "Correct the arguments and call again."),
    (
        BudgetExceeded,
        "Fewer pictures, or performance 'schnell', may cost less; otherwise tell the user.",
    ),
    (NotCreated, "Calling again will not help before the user has mended this. Tell the user."),
    (
        LedgerFailed,
        "Do not call again before the user has mended the ledger: it may have been bought before.",
    ),
    (CreateOutcomeUnknown, _NO_SECOND_TRY),
    (JobTimeout, f"The job may still finish. {_NO_SECOND_JOB}"),
    (JobFailed, "Calling again buys a new job; do so only with a changed prompt."),
    (DownloadFailed, "The job itself is paid for; do not buy it again. Tell the user the job id."),
    (ShortAPIError, _NO_SECOND_JOB),
)
"""By the first that fits."""


def failure_text(
    error: ShortAPIError, advice: str | None = None, budget_left: Decimal | None = None
) -> str:
    """The text a model reads about a failure: what happened, whether it was charged, what to do.

    ``advice`` stands in for what the error says to a tool that buys; ``budget_left`` as in
    ``with_budget``.
    """
    charged = _CHARGE_SENTENCES[error.charge]
    return with_budget(f"No image: {error}. {charged} {advice or _advice(error)}", budget_left)


def failure_artifact(error: ShortAPIError, advice: str | None = None) -> FailureArtifact:
    """The artifact of a failure; ``advice`` as in ``failure_text``."""
    return {
        "type": "flux_failure",
        "version": ARTIFACT_VERSION,
        "error": type(error).__name__,
        "message": str(error),
        "job_id": error.job_id,
        "charge": error.charge,
        "status_code": error.status_code,
        "is_retryable": error.is_retryable,
        "advice": advice or _advice(error),
    }


def _advice(error: ShortAPIError) -> str:
    if error.is_retryable:
        return _LATER
    advice = next(words for kind, words in _ADVICE if isinstance(error, kind))
    if error.job_id is None and _GET_JOB in advice:
        return _NO_SECOND_TRY
    return advice.replace(_GET_JOB, f"{GET_JOB_TOOL_NAME} with job_id {error.job_id}")


def _cut(text: str) -> str:
    return text if len(text) <= TROUBLE_LENGTH_MAX else text[:TROUBLE_LENGTH_MAX] + "…"
