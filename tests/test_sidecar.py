"""The JSON file beside a job's pictures: all that is asked of it, and nothing secret."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux import FluxImage, FluxJob, FluxRequest
from langchain_shortapi_flux.sidecar import sidecar_bytes

if TYPE_CHECKING:
    from pathlib import Path

SAVED_AT = 1_767_323_045.9
JOB = FluxJob(
    job_id="65f0",
    status="succeeded",
    request=FluxRequest(prompt="a füchsin\n“quoted”", aspect_ratio="16:9", num_images=2),
    images=(FluxImage(url="https://file.example/a.png?Signature=s3cret"),),
    cost=Decimal("0.020"),
    charge="charged",
    model="shortapi/flux-1.0/text-to-image",
    base_url="https://me:s3cret@api.example/prefix",
)


def _said(job: FluxJob, *paths: Path) -> dict[str, Any]:
    text = sidecar_bytes(job, paths, SAVED_AT).decode("utf-8")
    assert text.endswith("}\n")
    assert "s3cret" not in text
    said = json.loads(text)
    assert isinstance(said, dict)
    return said


def test_it_says_what_was_bought_and_where_it_is(tmp_path: Path) -> None:
    """A picture without its prompt cannot be made again, and files lose their dates."""
    png, webp = tmp_path / "65f0-1.png", tmp_path / "65f0-2.webp"
    png.write_bytes(b"one")
    webp.write_bytes(b"the other")
    assert _said(JOB, png, webp) == {
        "version": 1,
        "job_id": "65f0",
        "service": "https://api.example/prefix",
        "model": "shortapi/flux-1.0/text-to-image",
        "prompt": "a füchsin\n“quoted”",
        "arguments": {"aspect_ratio": "16:9", "num_images": 2},
        "status": "succeeded",
        "note": None,
        "cost_usd": "0.020",
        "refunded_usd": None,
        "charge": "charged",
        "saved_at": "2026-01-02T03:04:05+00:00",
        "files": [
            {
                "name": "65f0-1.png",
                "index": 1,
                "type": "image/png",
                "bytes": 3,
                "sha256": hashlib.sha256(b"one").hexdigest(),
            },
            {
                "name": "65f0-2.webp",
                "index": 2,
                "type": "image/webp",
                "bytes": 9,
                "sha256": hashlib.sha256(b"the other").hexdigest(),
            },
        ],
    }


def test_what_is_not_known_of_a_job_is_null() -> None:
    """As for one looked up by its id; the names are there all the same."""
    said = _said(FluxJob(job_id="65f0", status="succeeded"))
    names = ("service", "model", "prompt", "arguments", "note", "cost_usd", "refunded_usd")
    assert [said[name] for name in names] == [None] * len(names)
    assert said["charge"] == "unknown"
    assert said["files"] == []


def test_an_amount_is_written_in_plain_digits() -> None:
    """Scripts add it up."""
    job = JOB.model_copy(update={"cost": Decimal("2E-3"), "refunded": Decimal("1E+1")})
    assert (_said(job)["cost_usd"], _said(job)["refunded_usd"]) == ("0.002", "10")


def test_what_is_no_text_is_told_all_the_same() -> None:
    """A service may say anything, and the pictures are on disk already."""
    job = JOB.model_copy(update={"error": "lone \ud800 surrogate"})
    assert _said(job)["note"] == "lone \ud800 surrogate"
