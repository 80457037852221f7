"""ShortAPI's spelling: request bodies out (strict), replies in (tolerant).

It knows how the service writes things and nothing of when to send them. Where the service's
behaviour is documented or recorded, the code says so; the rest is convention, read tolerantly.
No key passes through here: a driver adds it to the request and takes it out of the reply.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from langchain_shortapi_flux.errors import (
    AuthenticationFailed,
    ConfigurationError,
    InsufficientBalance,
    InvalidRequest,
    NotCreated,
    RateLimited,
    ServiceUnavailable,
)
from langchain_shortapi_flux.job import FluxImage, FluxRequest, JobStatus
from langchain_shortapi_flux.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

CREATE_PATH = "/job/create"
QUERY_PATH = "/job/query"
UNSTABLE_CODE = 3000
"""Seen by one public client: the upstream is unstable, no job was made, ask again."""
TEXT_LIMIT = 300
"""Characters of the service's own words that are kept."""


@dataclass(frozen=True)
class HttpRequest:
    """One call to the job API. ``path`` is below ``/api/v1``; ``body`` is JSON in UTF-8."""

    method: Literal["GET", "POST"]
    path: str
    body: bytes | None = None
    repeatable: bool = True
    """False: must not ride an idle connection, whose loss would look like a lost answer."""
    time_left: float = math.inf
    """Seconds that the whole exchange may take, queueing for a socket included."""


@dataclass(frozen=True)
class HttpReply:
    """What came back. Header names are in lower case; ``received_at`` is in Unix seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_at: float


@dataclass(frozen=True)
class Lost:
    """No reply came. ``sent`` is False only if provably nothing reached the service."""

    sent: bool
    reason: str


@dataclass(frozen=True)
class Accepted:
    """Create went through: this job exists."""

    job_id: str
    cost: Decimal | None


@dataclass(frozen=True)
class Refused:
    """The service, or a gate before it, said no. ``error`` says which no it is for a create."""

    text: str
    status_code: int
    error: type[NotCreated]
    retry_after: float | None = None


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


@dataclass(frozen=True)
class Record:
    """What the service says of a job."""

    status: JobStatus
    images: tuple[FluxImage, ...]
    cost: Decimal | None
    refunded: bool | None
    refunded_amount: Decimal | None
    error: str | None
    oddity: str | None = None
    """What in the record could not be understood, for the error that may come of it."""


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
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return HttpRequest("POST", CREATE_PATH, text.encode(), repeatable=False)


def query_request(job_id: str) -> HttpRequest:
    """The query call. The id is opaque, so it is percent-encoded."""
    return HttpRequest("GET", f"{QUERY_PATH}?id={quote(job_id, safe='')}")


def read_create(reply: HttpReply) -> Accepted | Refused | Unusable:
    """Decide what a reply to create means. ``Unusable`` means: a job may or may not exist."""
    payload = _json_object(reply)
    data = payload.get("data") if payload is not None else None
    record = data if isinstance(data, dict) else {}
    said_no = payload is not None and not _code_is_fine(payload)
    # Beside a refusal, a bare ``id`` may be that of the request.
    names = ("job_id",) if said_no else ("job_id", "id")
    job_id = _job_id(names, record, payload) if payload is not None else _salvaged_id(reply.body)
    if 300 <= reply.status < 400:
        return Unusable(_redirect_text(reply), reply.status, passing=False, job_id=job_id)
    if job_id is not None and payload is None:
        return Unusable(_text_of(reply, payload), reply.status, job_id=job_id)
    if job_id is not None and not said_no and reply.status < 300:
        return Accepted(job_id, _amount(record.get("amount")))
    if job_id is not None:
        text = _text_of(reply, payload)
        return Unusable(f"refused and yet named job {job_id}: {text}", reply.status, job_id=job_id)
    refusal = _refusal(reply, payload)
    if refusal is not None:
        return refusal
    return Unusable(_text_of(reply, payload), reply.status)


def read_query(reply: HttpReply, *, loopback: bool) -> Record | Refused | Unusable:
    """Decide what a reply to a query means.

    Args:
        reply: What came back.
        loopback: Whether the service itself runs on this machine; only then may a picture's URL
            be plain http, to this machine.
    """
    payload = _json_object(reply, errors="replace")
    if 300 <= reply.status < 400:
        return Unusable(_redirect_text(reply), reply.status, passing=False)
    if reply.status in (408, 429) or reply.status >= 500 or _code(payload) == UNSTABLE_CODE:
        return Unusable(_text_of(reply, payload), reply.status, retry_after=_retry_after(reply))
    if reply.status >= 400 and reply.status != 401 and payload is None:
        # A page, not the service's word: a gate in between, which may be open again soon.
        return Unusable(_text_of(reply, payload), reply.status, retry_after=_retry_after(reply))
    if reply.status >= 400 or (payload is not None and not _code_is_fine(payload)):
        return _refusal(reply, payload) or Refused(
            _text_of(reply, payload), reply.status, InvalidRequest
        )
    if payload is None:
        return Unusable(_text_of(reply, payload), reply.status)
    data = payload.get("data")
    bare = "status" in payload or "result" in payload
    record = payload if data is None and bare else data
    return _record(record if isinstance(record, dict) else {}, loopback=loopback)


def _record(record: dict[str, Any], *, loopback: bool) -> Record:
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
        cost=_amount(record.get("credit")),
        refunded=refunded,
        refunded_amount=_amount(record.get("refunded_credit")),
        error=_message(record.get("error")),
        oddity=oddity,
    )


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
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "pending", f"the reply has the unknown status {_shown(value)}"
    if value == _SUCCEEDED_NUMBER:
        return "succeeded", None
    if value > _SUCCEEDED_NUMBER:
        known = value == _SUCCEEDED_NUMBER + 1
        return "failed", None if known else f"the reply has the unknown status {_shown(value)}"
    known = value in (0, 1)
    return "pending", None if known else f"the reply has the unknown status {_shown(value)}"


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
    dropped = [_shown(url) for url, image in zip(urls, images, strict=True) if image is None]
    oddity = f"not usable as the URL of a picture: {_cut(', '.join(dropped))}" if dropped else None
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
    return FluxImage(url=url) if is_picture_url(url, loopback=loopback) else None


def is_picture_url(url: str, *, loopback: bool) -> bool:
    """Whether a picture may be fetched from there: https, or http to this machine if allowed."""
    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        return False
    if not _is_text(url):
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and loopback and is_loopback(host))


# --- envelope -----------------------------------------------------------------------------------

_BALANCE_WORDS = re.compile(
    r"balance|insufficient|not enough|\bcredits?\b|\bfunds\b|recharge|top[- ]?up", re.IGNORECASE
)
_KEY_WORDS = re.compile(
    r"unauthori[sz]ed|unauthenticated|authentication|api[ _-]?key|invalid (key|token)"
    r"|token (is )?(invalid|expired)|forbidden",
    re.IGNORECASE,
)


def _json_object(reply: HttpReply, errors: str = "strict") -> dict[str, Any] | None:
    try:
        # Decoded here: left to itself, json also reads UTF-16, in which nothing hides the key.
        payload = json.loads(reply.body.decode("utf-8-sig", errors), parse_int=_integer)
    except (ValueError, RecursionError):  # ValueError: bad JSON, bad UTF-8
        return None
    return payload if isinstance(payload, dict) else None


def _integer(digits: str) -> int | None:
    """An absurd number counts as not given: Python itself refuses to read very long ones."""
    return int(digits) if len(digits) <= 40 else None


_ID_FIELD = re.compile(rb'"job_id"\s{0,9}:\s{0,9}(?:"([^"\\\x00-\x1f]{1,200})"|([0-9]{1,40})\b)')


def _salvaged_id(body: bytes) -> str | None:
    """The job id in a reply that is no JSON: broken off, say, or with a byte that is no UTF-8."""
    match = _ID_FIELD.search(body)
    if match is None:
        return None
    return _job_id(("job_id",), {"job_id": (match[1] or match[2]).decode("utf-8", "replace")})


def _code(payload: dict[str, Any] | None) -> int | str | None:
    """The envelope's code: a number, or what stands there if it is none."""
    code = payload.get("code") if payload is not None else None
    if isinstance(code, str) and re.fullmatch(r"\s*-?\d{1,9}\s*", code):
        return int(code)
    if isinstance(code, float) and code.is_integer():
        return int(code)
    number = isinstance(code, int) and not isinstance(code, bool) and abs(code) < 10**9
    return code if code is None or number else _shown(code)


def _code_is_fine(payload: dict[str, Any]) -> bool:
    return _code(payload) in (0, None)


def _refusal(reply: HttpReply, payload: dict[str, Any] | None) -> Refused | None:
    """What kind of no this is, or None where it is none, or not surely one.

    No error body of the service has been recorded. HTTP statuses are read by convention; a non-zero
    code without a job id is an explicit no, whatever the status beside it, except a gateway's 5xx.
    """
    text, status = _text_of(reply, payload), reply.status
    code = _code(payload)
    explicit = payload is not None and not _code_is_fine(payload)
    error: type[NotCreated] | None = None
    if code == UNSTABLE_CODE:
        error = ServiceUnavailable
    elif status == 429:
        error = RateLimited
    elif status in (401, 403):
        error = AuthenticationFailed
    elif status == 402:
        error = InsufficientBalance
    elif status in (404, 405) and payload is None:
        error = ConfigurationError
        text = f"there is no job API below this base URL: {text}"
    elif (400 <= status < 500 and status not in (408, 409)) or (explicit and status < 300):
        said = _message_of(payload) or ""
        error = InvalidRequest
        if _KEY_WORDS.search(said):
            error = AuthenticationFailed
        elif _BALANCE_WORDS.search(said):
            error = InsufficientBalance
        elif "invalid model" in said.lower():
            text += " (the service also says this when the key has no access to the model)"
    return Refused(text, status, error, _retry_after(reply)) if error is not None else None


def _redirect_text(reply: HttpReply) -> str:
    # Not followed: both HTTP libraries would send the create a second time on a 307.
    target = _cut(reply.headers.get("location", "nowhere"))
    return f"HTTP {reply.status} redirects to {target}; redirects are not followed, mend base_url"


def _job_id(names: tuple[str, ...], *places: dict[str, Any]) -> str | None:
    """The job id: documented in ``data.job_id``; the page's own samples read it at the top."""
    for place in places:
        for name in names:
            value = place.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            if isinstance(value, str) and value.strip() and _is_text(value):
                return value.strip()
    return None


def _is_text(value: str) -> bool:
    """Whether it can be sent and shown: JSON can spell lone surrogates, which are no text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _amount(value: object) -> Decimal | None:
    """A decimal string, in USD. Reported, never computed; anything odd counts as unreported."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    text = str(value).strip()
    try:
        amount = Decimal(text) if len(text) <= 40 else Decimal("NaN")
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


def _retry_after(reply: HttpReply) -> float | None:
    """``Retry-After`` in seconds, from either of its two forms."""
    value = reply.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    then = _http_date(value)
    if then is None:
        return None
    # The service's own clock, where it says it: ours may be wrong.
    now = _http_date(reply.headers.get("date", ""))
    return max(then - (now if now is not None else reply.received_at), 0.0)


def _http_date(value: str) -> float | None:
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()


def _message(value: object) -> str | None:
    """An error text: a string, or an object that holds one."""
    if isinstance(value, dict):
        value = next((value[n] for n in ("message", "info", "msg") if value.get(n)), None)
    if isinstance(value, str) and value.strip():
        return _cut(value.strip())
    return None


def _message_of(payload: dict[str, Any] | None) -> str | None:
    """The service's own words: ``info`` first (three authors' clients), then the usual names."""
    if payload is None:
        return None
    places = [payload, payload.get("data")]
    for place in places:
        if not isinstance(place, dict):
            continue
        for name in ("info", "message", "msg", "error"):
            if text := _message(place.get(name)):
                return text
    return _message(payload.get("data"))


def _text_of(reply: HttpReply, payload: dict[str, Any] | None) -> str:
    """What to tell a person about a reply. Never its raw record: that echoes prompt and label."""
    said = _message_of(payload)
    code = _code(payload)
    head = f"HTTP {reply.status}" + (f", code {code}" if code not in (0, None) else "")
    if said:
        return f"{head}: {said}"
    if payload is not None:
        return f"{head}, a reply without a message"
    if not reply.body.strip():
        return f"{head}, an empty reply"
    text = reply.body[: 4 * TEXT_LIMIT].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if text.startswith(("{", "[")):
        return f"{head}, JSON that is broken off or no object"  # perhaps a record: not shown
    if "<" in text[:200]:
        text = re.sub(r"(?s)<(script|style).*?(</\1>|$)|<[^>]*>", " ", text)
    return f"{head}, not JSON: {_cut(' '.join(text.split()))}"


def _shown(value: object) -> str:
    """A value of a reply, for a person; what is nested is told by its kind alone."""
    plain = value is None or isinstance(value, (str, int, float))
    return _cut(repr(value)) if plain else f"of the type {type(value).__name__}"


def _cut(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()  # JSON can spell lone surrogates
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…"
