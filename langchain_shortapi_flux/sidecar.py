"""The JSON file beside a job's pictures: what they are, how they came about, what they cost.

It holds no URL: the pictures' are temporary, may carry a signature that is as good as a key, and
the job id leads to fresh ones if there are any. No key can get into it, for a job holds none.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from langchain_shortapi_flux.picture_type import MEDIA_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from pathlib import Path

    from langchain_shortapi_flux.job import FluxJob

SIDECAR_VERSION = 1


def sidecar_bytes(job: FluxJob, paths: Sequence[Path], saved_at: float) -> bytes:
    """The JSON file of a job, as UTF-8.

    Args:
        job: What is known of it. What is not known of it is null in the file.
        paths: Its pictures on disk, in the order of its images.
        saved_at: When they were saved, in Unix seconds.

    Raises:
        OSError: A picture cannot be read back.
    """
    request = job.request
    said = {
        "version": SIDECAR_VERSION,
        "job_id": job.job_id,
        "service": _without_userinfo(job.base_url),
        "model": job.model,
        "prompt": None if request is None else request.prompt,
        "arguments": None
        if request is None
        else request.model_dump(exclude={"prompt"}, exclude_none=True),
        "status": job.status,
        "note": job.error,
        "cost_usd": _amount(job.cost),
        "refunded_usd": _amount(job.refunded),
        "charge": job.charge,
        "saved_at": datetime.fromtimestamp(saved_at, UTC).isoformat(timespec="seconds"),
        "files": [_file(path, index) for index, path in enumerate(paths, 1)],
    }
    text = json.dumps(said, indent=2, ensure_ascii=False) + "\n"
    # A lone surrogate in what the service said becomes the escape that JSON has for it.
    return text.encode("utf-8", "backslashreplace")


def _file(path: Path, index: int) -> dict[str, object]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    return {
        "name": path.name,
        "index": index,
        "type": MEDIA_TYPES.get(path.suffix.removeprefix(".")),
        "bytes": size,
        "sha256": digest,
    }


def _amount(value: Decimal | None) -> str | None:
    """As text, in plain digits: an amount of money is no binary fraction."""
    return None if value is None else f"{value:f}"


def _without_userinfo(base_url: str | None) -> str | None:
    if base_url is None:
        return None
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
