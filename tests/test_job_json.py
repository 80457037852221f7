"""A job as one line of JSON: every field in every line, and never a picture's bytes."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_shortapi_flux import (
    CreateOutcomeUnknown,
    DownloadFailed,
    FluxImage,
    FluxJob,
    FluxRequest,
    JobFailed,
    JobTimeout,
    RateLimited,
)
from langchain_shortapi_flux.command_line.job_json import JSON_FIELDS, json_line

REQUEST = FluxRequest(prompt="ein Bär \u2028", aspect_ratio="1:1", num_images=1, performance="dev")
URL = "https://pictures.example/1.png"
JOB = FluxJob(
    job_id="65f0",
    status="succeeded",
    request=REQUEST,
    images=(FluxImage(url=URL), FluxImage.from_bytes(b"PNG" * 1000, "image/png")),
    cost=Decimal("2E+1"),
    charge="charged",
    elapsed=3.14159,
)


def _read(line: str) -> dict[str, Any]:
    assert line.isascii()
    assert "\n" not in line
    said: dict[str, Any] = json.loads(line)
    assert list(said) == list(JSON_FIELDS)
    return said


def test_a_job_with_its_pictures() -> None:
    """Money as text, for it is no binary fraction; bytes inside the reply stay out."""
    line = json_line(None, JOB, paths=[Path("images/a.png"), Path("images/b.png")], line=7)
    assert len(line) < 700
    inside = "data:image/png (3,000 bytes, inside the reply)"
    assert _read(line) == {
        "line": 7,
        "job_id": "65f0",
        "status": "succeeded",
        "charge": "charged",
        "cost": "20",
        "prompt": "ein Bär \u2028",
        "arguments": {"aspect_ratio": "1:1", "num_images": 1, "performance": "dev"},
        "images": [
            {"url": URL, "path": str(Path("images/a.png"))},
            {"url": inside, "path": str(Path("images/b.png"))},
        ],
        "elapsed": 3.142,
        "error": None,
    }


@pytest.mark.parametrize(
    ("error", "status", "charge"),
    [
        (RateLimited("slow down"), "not_created", "none"),
        (CreateOutcomeUnknown("lost"), "unknown", "unknown"),
        (JobFailed("no", job_id="65f0", charge="refunded"), "failed", "refunded"),
        (JobTimeout("late", job_id="65f0"), "pending", "charged"),
        (ZeroDivisionError("odd"), "unknown", "unknown"),
    ],
)
def test_a_failure_says_what_it_was_and_what_was_charged(
    error: Exception, status: str, charge: str
) -> None:
    """What a script decides by: is there a job, was it paid for, what kind of error."""
    said = _read(json_line(REQUEST, None, error=error))
    assert (said["status"], said["charge"]) == (status, charge)
    assert said["job_id"] == getattr(error, "job_id", None)
    assert said["error"] == {"type": type(error).__name__, "message": str(error)}
    assert said["prompt"] == REQUEST.prompt
    assert (said["cost"], said["elapsed"], said["images"], said["line"]) == (None, None, [], None)


def test_a_job_that_could_not_be_saved_keeps_its_urls() -> None:
    """They are what is left to fetch it by."""
    said = _read(json_line(None, JOB, error=DownloadFailed("gone", job_id="65f0"), message="dead"))
    assert said["status"] == "succeeded"
    assert [image["path"] for image in said["images"]] == [None, None]
    assert said["images"][0]["url"] == URL
    assert said["error"] == {"type": "DownloadFailed", "message": "dead"}


def test_a_job_looked_up_by_its_id_has_no_arguments() -> None:
    """Nothing is made up of what was asked for."""
    said = _read(json_line(None, FluxJob(job_id="65f0", status="pending")))
    assert (said["prompt"], said["arguments"], said["cost"]) == (None, None, None)
