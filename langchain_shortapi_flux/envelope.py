"""ShortAPI's envelope: its code, its words, its ways of saying no. Read tolerantly.

No error body of the service has been recorded; what is only convention says so. It knows nothing of
what a record holds.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux.errors import (
    AuthenticationFailed,
    ConfigurationError,
    InsufficientBalance,
    InvalidRequest,
    NotCreated,
    RateLimited,
    ServiceUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_shortapi_flux.http_acts import HttpReply

UNSTABLE_CODE = 3000
"""Seen by one public client: the upstream is unstable, no job was made, ask again."""
TEXT_LIMIT = 300
"""Characters of the service's own words that are kept."""
JOB_ID_LIMIT = 1000
"""Characters of a job id that a URL can carry anywhere. Those known have 24."""
NUMBER_DIGITS_MAX = 40
"""A number with more digits counts as not given. Python itself refuses to read or write one with
more than 4300; an amount written out with so many noughts is no help to anyone."""
AMOUNT_PLACES_MAX = 30
"""Digits of an amount before its point, and behind it."""


@dataclass(frozen=True)
class Refused:
    """The service, or a gate before it, said no. ``error`` says which no it is for a create."""

    text: str
    status_code: int
    error: type[NotCreated]
    retry_after: float | None = None


_BALANCE_WORDS = re.compile(
    r"balance|insufficient|not enough|\bcredits?\b|\bfunds\b|recharge|top[- ]?up", re.IGNORECASE
)
_KEY_WORDS = re.compile(
    r"unauthori[sz]ed|unauthenticated|authentication|api[ _-]?key|invalid (key|token)"
    r"|token (is )?(invalid|expired)|forbidden",
    re.IGNORECASE,
)


def json_object(reply: HttpReply, errors: str = "strict") -> dict[str, Any] | None:
    """The reply as a JSON object, or None. ``errors``: what to do with bytes that are no UTF-8."""
    try:
        # Decoded here: left to itself, json also reads UTF-16, in which nothing hides the key.
        # Not as "utf-8-sig", whose decoder takes eight times as long for each reply.
        payload = _DECODER.decode(reply.body.removeprefix(BOM_UTF8).decode("utf-8", errors))
    except (ValueError, RecursionError):  # ValueError: bad JSON, bad UTF-8
        return None
    return payload if isinstance(payload, dict) else None


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= NUMBER_DIGITS_MAX else None


_DECODER = json.JSONDecoder(parse_int=_integer)
# A number that nothing follows may be broken off: the id of somebody else's job.
_ID_FIELD = re.compile(
    rb'"job_id"\s{0,9}:\s{0,9}(?:"([^"\\\x00-\x1f]{1,200})"|([0-9]{1,40})[\s,}])'
)


def salvaged_id(body: bytes) -> str | None:
    """The job id in a reply that is no JSON: broken off, say, or with a byte that is no UTF-8."""
    match = _ID_FIELD.search(body)
    if match is None:
        return None
    return read_job_id(("job_id",), {"job_id": (match[1] or match[2]).decode("utf-8", "replace")})


def code_of(payload: dict[str, Any] | None) -> int | str | None:
    """The envelope's code: a number, or what stands there if it is none."""
    code = payload.get("code") if payload is not None else None
    if isinstance(code, str) and re.fullmatch(r"\s*-?\d{1,9}\s*", code):
        return int(code)
    if isinstance(code, float) and code.is_integer():
        return int(code)
    number = isinstance(code, int) and not isinstance(code, bool) and abs(code) < 10**9
    return code if code is None or number else shown_value(code)


def code_is_fine(payload: dict[str, Any]) -> bool:
    """Whether the code says yes; a missing one does not say no."""
    return code_of(payload) in (0, None)


def read_refusal(reply: HttpReply, payload: dict[str, Any] | None) -> Refused | None:
    """What kind of no this is, or None where it is none, or not surely one.

    No error body of the service has been recorded. HTTP statuses are read by convention; a non-zero
    code without a job id is an explicit no, whatever the status beside it, except a gateway's 5xx.
    """
    text, status = text_of(reply, payload), reply.status
    code = code_of(payload)
    explicit = payload is not None and not code_is_fine(payload)
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
    return Refused(text, status, error, read_retry_after(reply)) if error is not None else None


def redirect_text(reply: HttpReply) -> str:
    """What to tell a person about a redirect."""
    # Not followed: both HTTP libraries would send the create a second time on a 307.
    target = cut_text(reply.headers.get("location", "nowhere"))
    return f"HTTP {reply.status} redirects to {target}; redirects are not followed, mend base_url"


def read_job_id(names: tuple[str, ...], *places: Mapping[str, Any]) -> str | None:
    """The job id: documented in ``data.job_id``; the page's own samples read it at the top."""
    for place in places:
        for name in names:
            value = place.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                value = str(value) if abs(value) < 10**NUMBER_DIGITS_MAX else None
            value = value.strip() if isinstance(value, str) else ""
            if 0 < len(value) <= JOB_ID_LIMIT and is_text(value):
                return value
    return None


def is_text(value: str) -> bool:
    """Whether it can be sent and shown: JSON can spell lone surrogates, which are no text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_amount(value: object) -> Decimal | None:
    """A decimal string, in USD. Reported, never computed; anything odd counts as unreported."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return _amount(str(value).strip())


@lru_cache(maxsize=256)  # every query of every job says the same few prices again
def _amount(text: str) -> Decimal | None:
    try:
        amount = Decimal(text) if len(text) <= NUMBER_DIGITS_MAX else Decimal("NaN")
    except InvalidOperation:
        return None
    if not amount.is_finite() or amount < 0 or amount.adjusted() >= AMOUNT_PLACES_MAX:
        return None
    places = amount.as_tuple().exponent
    return amount if isinstance(places, int) and places >= -AMOUNT_PLACES_MAX else None


def read_retry_after(reply: HttpReply) -> float | None:
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


def read_message(value: object) -> str | None:
    """An error text: a string, or an object that holds one."""
    if isinstance(value, dict):
        value = next((value[n] for n in ("message", "info", "msg") if value.get(n)), None)
    if isinstance(value, str) and value.strip():
        return cut_text(value.strip())
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
            if text := read_message(place.get(name)):
                return text
    return read_message(payload.get("data"))


def text_of(reply: HttpReply, payload: dict[str, Any] | None) -> str:
    """What to tell a person about a reply. Never its raw record: that echoes prompt and label."""
    said = _message_of(payload)
    code = code_of(payload)
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
    return f"{head}, not JSON: {cut_text(' '.join(text.split()))}"


def shown_value(value: object) -> str:
    """A value of a reply, for a person; what is nested is told by its kind alone."""
    plain = value is None or isinstance(value, (str, int, float))
    return cut_text(repr(value)) if plain else f"of the type {type(value).__name__}"


def cut_text(text: str) -> str:
    """As much of a text as is kept."""
    text = text.encode("utf-8", "replace").decode()  # JSON can spell lone surrogates
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…"
