"""Named scripts of replies: what the service, or the network, says to one job's calls, in order.

Data only. They know nothing of the client but the two values in which an answer comes; each is
played to the bare flow and, over real sockets, to both drivers. The last answer of a script
repeats for as long as anyone asks.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux.http_acts import HttpReply, Lost

if TYPE_CHECKING:
    from collections.abc import Mapping

JOB_ID = "69a1c0de0123456789abcdef"
"""Of the form of recorded ids: 24 hex digits."""
RECEIVED_AT = 1_770_000_000.0
BROKE_OFF = Lost(sent=True, reason="the connection broke off")
UNREACHED = Lost(sent=False, reason="it refused the connection")


def said(payload: object, status: int = 200, **headers: str) -> HttpReply:
    """A reply with a JSON body; ``Retry_After="3"`` becomes the header ``retry-after``."""
    named = {name.lower().replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps(payload).encode()
    return HttpReply(status, {"content-type": "application/json", **named}, body, RECEIVED_AT)


def raw(body: bytes, status: int = 200, **headers: str) -> HttpReply:
    """A reply with any body."""
    named = {name.lower().replace("_", "-"): value for name, value in headers.items()}
    return HttpReply(status, {"content-type": "text/html", **named}, body, RECEIVED_AT)


def page(status: int) -> HttpReply:
    """What a proxy shows when the service behind it is away."""
    return raw(b"<html><head><title>oops</title></head><body>Bad Gateway</body></html>", status)


def record(**fields: object) -> dict[str, Any]:
    """A query's envelope around the fields of a record."""
    return {"code": 0, "data": fields}


def picture(number: int) -> dict[str, str]:
    """An entry of ``result.images``, of the form of recorded output."""
    return {"url": f"https://file.shortapi.ai/tmp/20260227/{JOB_ID}/picture-{number}.png"}


def pictures(count: int) -> dict[str, Any]:
    """A result with that many pictures."""
    return {"images": [picture(number) for number in range(count)]}


# The two bodies of the official page, with an id and an address filled in.
CREATED = said({"code": 0, "data": {"amount": "0.02", "job_id": JOB_ID}})
SUCCEEDED = said({"code": 0, "data": {"status": 2, "result": pictures(1)}})

# The fields of recorded output; that a running job has the same ones is an assumption.
_RECORD: dict[str, Any] = {
    "id": JOB_ID,
    "key_name": "my-label",
    "model": "shortapi/flux-1.0/text-to-image",
    "args": {"prompt": "a secret fox", "num_images": 1},
    "credit": "0.02",
    "refunded": False,
    "refunded_credit": "0",
    "created_at": "2026-02-27T16:08:30.001Z",
}
FULL_SUCCESS = said(record(**_RECORD, status=2, result=pictures(1)))
RUNNING = said({"code": 0, "data": {"status": 1}})
FULL_RUNNING = said(record(**_RECORD, status=1, result=None))
REFUNDED = {"refunded": True, "refunded_credit": "0.02"}
CUT = HttpReply(200, FULL_RUNNING.headers, FULL_RUNNING.body[:150], RECEIVED_AT)
UNSTABLE = said({"code": 3000, "info": "upstream unstable"})
TOO_MANY = said({"code": 429, "info": "too many requests"}, 429)

Answers = tuple[HttpReply | Lost, ...]

ENDINGS: Mapping[str, Answers] = MappingProxyType(
    {
        "one picture, bodies of the official page": (CREATED, SUCCEEDED),
        "one picture, a full record": (CREATED, FULL_RUNNING, FULL_SUCCESS),
        "it takes a while": (CREATED, RUNNING, RUNNING, RUNNING, SUCCEEDED),
        "four pictures": (CREATED, said(record(status=2, result=pictures(4)))),
        "one picture in place of four": (CREATED, said(record(status=2, result=pictures(1)))),
        "statuses in words": (
            CREATED,
            said(record(status="Queued")),
            said(record(status="PROCESSING")),
            said(record(status="completed", result=pictures(1))),
        ),
        "succeeded and refunded": (
            CREATED,
            said(record(status=2, result=pictures(1), **REFUNDED)),
        ),
        "succeeded without pictures": (CREATED, said(record(status=2, result={"images": []}))),
        "succeeded with a useless address": (
            CREATED,
            said(record(status=2, result={"images": ["javascript:alert(1)"]})),
        ),
        "failed and refunded": (
            CREATED,
            said(record(status=3, error="moderated", credit="0.02", **REFUNDED)),
        ),
        "failed and charged": (
            CREATED,
            said(record(status=3, error={"message": "moderated"}, refunded=False)),
        ),
        "failed without a word": (CREATED, said(record(status=3, error=""))),
        "an integer above 3": (CREATED, said(record(status=4, error="cancelled"))),
        "refunded while running": (CREATED, RUNNING, said(record(status=1, **REFUNDED))),
        "it never ends": (CREATED, RUNNING),
        "an unknown word for ever": (CREATED, said(record(status="meditating"))),
        "a record without status for ever": (CREATED, said(record(id=JOB_ID))),
    }
)
"""Create is accepted at once and every query is answered: how jobs end."""

QUERY_TROUBLES: Mapping[str, Answers] = MappingProxyType(
    {
        "every passing trouble, then success": (
            CREATED,
            page(503),
            said({"info": "slow down"}, 429, Retry_After="7"),
            CUT,
            UNSTABLE,
            BROKE_OFF,
            raw(b""),
            page(200),
            said({"info": "timeout"}, 408),
            said([1, 2]),
            SUCCEEDED,
        ),
        "a web page for ever": (CREATED, page(502)),
        "a cut record for ever": (CREATED, CUT),
        "silence for ever": (CREATED, BROKE_OFF),
        "query refused with 401": (CREATED, said({"info": "bad key"}, 401)),
        "query refused with 403": (CREATED, said({"info": "no"}, 403)),
        "query refused with 404": (CREATED, said({"info": "no such job"}, 404)),
        "query refused with code 1": (CREATED, said({"code": 1, "info": "job not found"})),
        "query redirected": (CREATED, raw(b"", 302, Location="https://login.example/")),
    }
)
"""Create is accepted at once, and then the queries go wrong."""

CREATE_REPEATED: Mapping[str, Answers] = MappingProxyType(
    {
        "429, then accepted": (
            said({"info": "too many"}, 429, Retry_After="3"),
            CREATED,
            SUCCEEDED,
        ),
        "code 3000, then accepted": (UNSTABLE, UNSTABLE, CREATED, SUCCEEDED),
        "429 as a web page, then accepted": (page(429), CREATED, SUCCEEDED),
        "429 for ever": (TOO_MANY,),
        "code 3000 for ever": (UNSTABLE,),
        "code 3000 under a 503 for ever": (said({"code": "3000", "info": "unstable"}, 503),),
    }
)
"""The service says that it made no job, and that asking again may help."""

CREATE_REFUSED: Mapping[str, Answers] = MappingProxyType(
    {
        "400": (said({"info": "aspect_ratio is wrong"}, 400),),
        "401": (said({"info": "no"}, 401),),
        "403 as a web page": (page(403),),
        "402": (said({"info": "pay"}, 402),),
        "404 as a web page": (page(404),),
        "405 without a body": (raw(b"", 405),),
        "422": (said({"message": "num_images"}, 422),),
        "code 1": (said({"code": 1, "info": "refused"}),),
        "code 1, a key": (said({"code": 1, "info": "Invalid API key"}),),
        "code 1, a balance": (said({"code": "1", "message": "insufficient balance"}),),
        "code 1, a model": (said({"code": 1, "info": "invalid model shortapi/x"}),),
    }
)
"""The service, or a gate before it, refuses create for good."""

NO_SUCH_JOB = said({"code": 1, "info": "no such job"})

CREATE_REDIRECTED: Mapping[str, Answers] = MappingProxyType(
    {
        "307": (raw(b"", 307, Location="https://elsewhere.example/api/v1/job/create"),),
        "301": (raw(b"", 301),),
        "303": (raw(CREATED.body, 303, Location="/job"),),
    }
)
"""Create is sent elsewhere, where nobody follows; a 303 says in so many words: it is done."""

CREATE_UNCLEAR: Mapping[str, Answers] = MappingProxyType(
    {
        "no answer": (BROKE_OFF,),
        "500": (said({"code": 1, "info": "internal error"}, 500),),
        "502 as a web page": (page(502),),
        "503 without a body": (raw(b"", 503),),
        "408": (said({"info": "timeout"}, 408),),
        "409": (said({"info": "conflict"}, 409),),
        "200 as a web page": (page(200),),
        "200 without a body": (raw(b""),),
        "200 cut off": (raw(CREATED.body[:30]),),
        "200 cut off after the id": (raw(b'{"data":{"job_id":"' + JOB_ID.encode() + b'","am'),),
        "200 with a list": (said([]),),
        "accepted without an id": (said({"code": 0, "data": {"amount": "0.02"}}),),
        "accepted with a blank id": (said({"code": 0, "data": {"job_id": "  "}}),),
        "refused and yet an id": (said({"code": 1, "info": "hm", "data": {"job_id": JOB_ID}}),),
        "500 and yet an id": (said({"code": 0, "data": {"job_id": JOB_ID}}, 500),),
    }
)
"""After these nobody can tell whether a job was made: create must not be sent again."""

TRANSCRIPTS: Mapping[str, Answers] = MappingProxyType(
    {
        **{f"ending: {name}": answers for name, answers in ENDINGS.items()},
        **{f"query: {name}": answers for name, answers in QUERY_TROUBLES.items()},
        **{f"repeated: {name}": answers for name, answers in CREATE_REPEATED.items()},
        **{f"refused: {name}": answers for name, answers in CREATE_REFUSED.items()},
        **{f"redirected: {name}": answers for name, answers in CREATE_REDIRECTED.items()},
        **{f"unclear: {name}": answers for name, answers in CREATE_UNCLEAR.items()},
    }
)
"""All of the above."""
