"""Knows how the service spells a job: the record of a query and of a callback.

It must not know HTTP, money or time: it spells out what it is given.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from langchain_shortapi_flux.sandbox.job_book import JobStatus, SandboxJob
from langchain_shortapi_flux.sandbox.menu import MODEL_ID

KEY_NAME: Final = "sandbox"
IMAGE_ROOT: Final = "/tmp"  # noqa: S108 - a path of the web server, as in recorded output

_STATUS: Final[Mapping[JobStatus, int]] = MappingProxyType(
    {"pending": 1, "succeeded": 2, "failed": 3}
)
# The dates in recorded image URLs run ahead of UTC, as a UTC+8 clock would.
_SERVICE_ZONE: Final = timezone(timedelta(hours=8))
_IMAGE_NAME_LENGTH: Final = 20


def record(job: SandboxJob, origin: str) -> dict[str, object]:
    """A job's record, without the envelope.

    The fields of a job that succeeded are those of recorded output. That `result` and
    `finished_at` are null before, and the whole of a failed record, are an assumption: none was
    ever seen.

    Args:
        job: The job.
        origin: Where its images are served, such as `http://127.0.0.1:8787`.
    """
    fields: dict[str, object] = {
        "id": job.job_id,
        "key_name": KEY_NAME,
        "model": MODEL_ID,
        "args": job.args,
        "result": None,
        "status": _STATUS[job.status],
        "credit": str(job.amount),
        "refunded": job.refunded,
        "refunded_credit": str(job.amount if job.refunded else Decimal(0)),
        "created_at": _timestamp(job.created_at),
        "updated_at": _timestamp(job.updated_at),
        "finished_at": None if job.finished_at is None else _timestamp(job.finished_at),
    }
    if job.status == "succeeded":
        fields["result"] = {"images": [{"url": origin + path} for path in image_paths(job)]}
    elif job.status == "failed":
        fields["error"] = job.ending.error
    return fields


def image_paths(job: SandboxJob) -> list[str]:
    """The paths of a job's images, in the form of recorded result URLs."""
    folder = f"{IMAGE_ROOT}/{job.created_at.astimezone(_SERVICE_ZONE):%Y%m%d}/{job.job_id}"
    return [f"{folder}/{_image_name(job.job_id, i)}.png" for i in range(job.image_count)]


def _image_name(job_id: str, index: int) -> str:
    digest = hashlib.sha256(f"{job_id}/{index}".encode()).digest()
    return base64.b32hexencode(digest).decode().lower()[:_IMAGE_NAME_LENGTH]


def _timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
