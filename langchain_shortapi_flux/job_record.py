"""What the service says of a job: its status, its pictures, its money. Read tolerantly.

Where a field is documented or recorded, the code says so. It knows nothing of the envelope's code.
"""

from __future__ import annotations

import base64
import html
import math
import re
import unicodedata
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from langchain_shortapi_flux.envelope import (
    cut_text,
    is_text,
    read_amount,
    read_job_id,
    read_message,
    shown_value,
)
from langchain_shortapi_flux.job import FluxImage, JobStatus, picture_at
from langchain_shortapi_flux.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from langchain_shortapi_flux.job import FluxJob


class Record(NamedTuple):
    """What the service says of a job."""

    status: JobStatus
    images: tuple[FluxImage, ...]
    cost: Decimal | None
    refunded: bool | None
    refunded_amount: Decimal | None
    error: str | None
    oddity: str | None
    """What in the record could not be understood, for the error that may come of it."""
    said: Mapping[str, Any]
    """The record as it came: whose it is, is read from there only where that is in doubt."""


def read_record(record: dict[str, Any], *, loopback: bool) -> Record:
    """What a record says, however much of it is there."""
    status, oddity = _status(record.get("status"))
    refunded = record.get("refunded")
    refunded = refunded if isinstance(refunded, bool) else None
    # A client that uses this very model reads it so: refunded and not ended means failed.
    if status == "pending" and refunded:
        status = "failed"
    images: tuple[FluxImage, ...] = ()
    if status == "succeeded":
        images, dropped = _images(record.get("result"), loopback=loopback)
        oddity = dropped or oddity
    return Record(
        status=status,
        images=images,
        cost=read_amount(record.get("credit")),
        refunded=refunded,
        refunded_amount=read_amount(record.get("refunded_credit")),
        error=read_message(record.get("error")),
        oddity=oddity,
        said=record,
    )


# --- whose it is --------------------------------------------------------------------------------

Whose = Literal["its", "another's", "nobody's"]


def whose(found: Record, job: FluxJob) -> Whose:
    """Whether a record is that job's, as far as it says. ``nobody's`` says nothing at all.

    One record was recorded: it has the job's id under ``id``, and the prompt as it was sent under
    ``args``. Whether every record does is not known, so that only another id or prompt speaks
    against it.
    """
    said = found.said
    ids = {read_job_id((name,), said) for name in ("id", "job_id")} - {None}
    args = said.get("args")
    told = _letters(args.get("prompt") if isinstance(args, dict) else None)
    asked = _letters(job.request.prompt if job.request is not None else None)
    if ids and job.job_id not in ids:
        return "another's"
    is_cut = len(told) >= CUT_LETTERS_MIN and asked.startswith(told)
    if told and asked and told != asked and not is_cut:
        return "another's"
    has_status = _status(said.get("status"))[1] is None
    return "its" if ids or (told and asked) or has_status else "nobody's"


CUT_LETTERS_MIN = 40
"""A prompt of fewer letters is not taken for the beginning of another that was cut short."""


def _letters(text: object) -> str:
    """What is left of a prompt however it was escaped, spaced or spelt."""
    if not isinstance(text, str):
        return ""
    with suppress(ValueError):  # a number with thousands of digits
        text = html.unescape(text)
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(filter(str.isalnum, plain)) or "".join(plain.split())


# --- status -------------------------------------------------------------------------------------

_SUCCEEDED_NUMBER = 2  # the official page; 1 runs, 3 failed: several clients; 0 waits: assumed
_WORDS: dict[str, JobStatus] = {
    "pending": "pending",
    "queued": "pending",
    "waiting": "pending",
    "created": "pending",
    "starting": "pending",
    "processing": "pending",
    "running": "pending",
    "in_progress": "pending",
    "succeeded": "succeeded",
    "success": "succeeded",
    "completed": "succeeded",
    "failed": "failed",
    "failure": "failed",
    "error": "failed",
    "cancelled": "failed",
    "canceled": "failed",
}


def _status(value: object) -> tuple[JobStatus, str | None]:
    """Read a status; the second part says what was not understood. Unknown words keep waiting."""
    if value is None:
        return "pending", "the reply has no status"
    if isinstance(value, str):
        word = value.strip().lower().replace("-", "_").replace(" ", "_")
        if word in _WORDS:
            return _WORDS[word], None
        if re.fullmatch(r"[+-]?[0-9]{1,9}(\.0{0,9})?", word):
            value = float(word)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return "pending", f"the reply has the unknown status {shown_value(value)}"
    if value == _SUCCEEDED_NUMBER:
        return "succeeded", None
    if value > _SUCCEEDED_NUMBER:
        known = value == _SUCCEEDED_NUMBER + 1
        return "failed", None if known else f"the reply has the unknown status {shown_value(value)}"
    known = value in (0, 1)
    return "pending", None if known else f"the reply has the unknown status {shown_value(value)}"


# --- pictures -----------------------------------------------------------------------------------

_DATA_URL = re.compile(r"data:(image/[\w.+-]{1,40});base64,(.*)", re.DOTALL | re.IGNORECASE)


def _images(result: object, *, loopback: bool) -> tuple[tuple[FluxImage, ...], str | None]:
    entries: object = result
    if isinstance(result, dict):
        entries = result.get("images")
        if entries is None and "url" in result:
            entries = [result]
    if isinstance(entries, (str, dict)):
        entries = [entries]
    if not isinstance(entries, list):
        return (), None
    urls = [entry.get("url") if isinstance(entry, dict) else entry for entry in entries]
    images = [_image(url, loopback=loopback) for url in urls]
    dropped = [shown_value(url) for url, image in zip(urls, images, strict=True) if image is None]
    oddity = (
        f"not usable as the URL of a picture: {cut_text(', '.join(dropped))}" if dropped else None
    )
    return tuple(image for image in images if image is not None), oddity


def _image(url: object, *, loopback: bool) -> FluxImage | None:
    if not isinstance(url, str):
        return None
    if match := _DATA_URL.fullmatch(url.strip()):
        try:
            content = base64.b64decode("".join(match[2].split()), validate=True)
        except ValueError:  # no base64, or a character that is not even ASCII
            return None
        return FluxImage.from_bytes(content, match[1].lower()) if content else None
    return picture_at(url) if is_picture_url(url, loopback=loopback) else None


_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f]")


def is_picture_url(url: str, *, loopback: bool) -> bool:
    """Whether a picture may be fetched from there: https, or http to this machine if allowed."""
    if _NOT_IN_A_URL.search(url) or not is_text(url):
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and loopback and is_loopback(host))
