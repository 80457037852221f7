"""ShortAPI's spelling: request bodies out (strict), replies in (tolerant).

It knows how the service writes things and nothing of when to send them. Where the service's
behaviour is documented or recorded, the code says so; the rest is convention, read tolerantly.
No key passes through here: a driver adds it to the request and takes it out of the reply.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from langchain_shortapi_flux.envelope import (
    UNSTABLE_CODE,
    Refused,
    code_is_fine,
    code_of,
    json_object,
    read_amount,
    read_job_id,
    read_refusal,
    read_retry_after,
    redirect_text,
    salvaged_id,
    text_of,
)
from langchain_shortapi_flux.errors import InvalidRequest
from langchain_shortapi_flux.http_acts import HttpReply, HttpRequest
from langchain_shortapi_flux.job_record import Record, read_record

if TYPE_CHECKING:
    from decimal import Decimal

    from langchain_shortapi_flux.job import FluxRequest

CREATE_PATH = "/job/create"
QUERY_PATH = "/job/query"


@dataclass(frozen=True)
class Accepted:
    """Create went through: this job exists."""

    job_id: str
    cost: Decimal | None


@dataclass(frozen=True)
class Unusable:
    """A reply that answers nothing.

    ``passing``: asking again may help, for a query. For a create, False means a redirect.
    """

    text: str
    status_code: int
    passing: bool = True
    retry_after: float | None = None
    job_id: str | None = None


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def create_request(request: FluxRequest, model: str, callback_url: str | None) -> HttpRequest:
    """The create call. Options must be filled in; an unset ``callback_url`` is left out."""
    args = {
        "prompt": request.prompt,
        "aspect_ratio": request.aspect_ratio,
        "num_images": request.num_images,
        "performance": request.performance,
    }
    body: dict[str, Any] = {"model": model, "args": args}
    if callback_url is not None:
        body["callback_url"] = callback_url
    return HttpRequest("POST", CREATE_PATH, _ENCODER.encode(body).encode(), repeatable=False)


def query_request(job_id: str) -> HttpRequest:
    """The query call. The id is opaque, so it is percent-encoded."""
    return HttpRequest("GET", f"{QUERY_PATH}?id={quote(job_id, safe='')}")


def read_create(reply: HttpReply) -> Accepted | Refused | Unusable:
    """Decide what a reply to create means. ``Unusable`` means: a job may or may not exist."""
    payload = json_object(reply)
    data = payload.get("data") if payload is not None else None
    record = data if isinstance(data, dict) else {}
    said_no = payload is not None and not code_is_fine(payload)
    # Beside a refusal, a bare ``id`` may be that of the request.
    names = ("job_id",) if said_no else ("job_id", "id")
    job_id = read_job_id(names, record, payload) if payload is not None else salvaged_id(reply.body)
    if 300 <= reply.status < 400:
        return Unusable(redirect_text(reply), reply.status, passing=False, job_id=job_id)
    if job_id is not None and payload is None:
        return Unusable(text_of(reply, payload), reply.status, job_id=job_id)
    if job_id is not None and not said_no and reply.status < 300:
        return Accepted(job_id, read_amount(record.get("amount")))
    if job_id is not None:
        text = text_of(reply, payload)
        return Unusable(f"refused and yet named job {job_id}: {text}", reply.status, job_id=job_id)
    refusal = read_refusal(reply, payload)
    if refusal is not None:
        return refusal
    return Unusable(text_of(reply, payload), reply.status)


def read_query(reply: HttpReply, *, loopback: bool) -> Record | Refused | Unusable:
    """Decide what a reply to a query means.

    Args:
        reply: What came back.
        loopback: Whether the service itself runs on this machine; only then may a picture's URL
            be plain http, to this machine.
    """
    payload = json_object(reply, errors="replace")
    if 300 <= reply.status < 400:
        return Unusable(redirect_text(reply), reply.status, passing=False)
    if reply.status in (408, 429) or reply.status >= 500 or code_of(payload) == UNSTABLE_CODE:
        return Unusable(text_of(reply, payload), reply.status, retry_after=read_retry_after(reply))
    if reply.status >= 400 and reply.status != 401 and payload is None:
        # A page, not the service's word: a gate in between, which may be open again soon.
        return Unusable(text_of(reply, payload), reply.status, retry_after=read_retry_after(reply))
    if reply.status >= 400 or (payload is not None and not code_is_fine(payload)):
        return read_refusal(reply, payload) or Refused(
            text_of(reply, payload), reply.status, InvalidRequest
        )
    if payload is None:
        return Unusable(text_of(reply, payload), reply.status)
    data = payload.get("data")
    bare = "status" in payload or "result" in payload
    record = payload if data is None and bare else data
    return read_record(record if isinstance(record, dict) else {}, loopback=loopback)
