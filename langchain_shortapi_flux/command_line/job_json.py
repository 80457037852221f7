"""A job as one line of JSON, for scripts.

It knows the line's fields and nothing of who reads it. Never a picture's bytes: one that came
inside the reply is named by its type and size.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from langchain_shortapi_flux.errors import JobFailed, JobTimeout, NotCreated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_shortapi_flux.job import FluxJob, FluxRequest

JSON_FIELDS: dict[str, str] = {
    "line": "the line of the batch's file, from 1; null without --batch",
    "job_id": "the service's id; null where no job is known",
    "status": "succeeded, failed, pending (not ended in time), not_created, unknown",
    "charge": "none, charged, refunded, unknown",
    "cost": "USD that the service reports, as text; null where it reports none",
    "prompt": "as it was sent; null for --follow",
    "arguments": "aspect_ratio, num_images, performance, as sent; null for --follow",
    "images": "a list: url, and the path it is saved at or null",
    "elapsed": "seconds that this command waited for the job; null where it failed in a batch",
    "error": "null, or type (a class of langchain_shortapi_flux) and message",
}
"""Every field, and what it says. All are in every line."""


def json_line(
    request: FluxRequest | None,
    job: FluxJob | None,
    *,
    paths: Sequence[Path] = (),
    line: int | None = None,
    error: Exception | None = None,
    message: str | None = None,
) -> str:
    """What became of a request, on one line of ASCII.

    Args:
        request: What was asked for, options filled in, where it is known.
        job: What is known of the job, if there is one.
        paths: Its pictures on disk, in the order of its images.
        line: Where in a file the request stands.
        error: What went wrong.
        message: What to say of it, in place of its own text.
    """
    if job is not None and job.request is not None:
        request = job.request
    images = () if job is None else job.images
    saved: list[str | None] = [str(path) for path in paths]
    saved = saved or [None] * len(images)
    said = {
        "line": line,
        "job_id": getattr(error, "job_id", None) if job is None else job.job_id,
        "status": _status(job, error),
        "charge": _charge(job, error),
        "cost": None if job is None or job.cost is None else f"{job.cost:f}",
        "prompt": None if request is None else request.prompt,
        "arguments": None if request is None else request.model_dump(exclude={"prompt"}),
        "images": [
            {"url": image.url, "path": path} for image, path in zip(images, saved, strict=True)
        ],
        "elapsed": None if job is None else round(job.elapsed, 3),
        "error": None
        if error is None
        else {"type": type(error).__name__, "message": message or str(error)},
    }
    # ASCII alone: an escape that a narrow stdout put in would be none of JSON's.
    return json.dumps(said)


def _status(job: FluxJob | None, error: Exception | None) -> str:
    match error:
        case NotCreated():
            return "not_created"
        case JobTimeout():
            return "pending"
        case JobFailed():
            return "failed"
    return "unknown" if job is None else job.status


def _charge(job: FluxJob | None, error: Exception | None) -> str:
    if error is None and job is not None:
        return job.charge
    return str(getattr(error, "charge", "unknown"))
