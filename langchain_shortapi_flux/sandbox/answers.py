"""Knows how to send an answer, and how to spoil one the way a fault says.

It must not know what is being answered: jobs, keys and money are the server's.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from aiohttp import web

from langchain_shortapi_flux.sandbox.faults import Fault

ELSEWHERE: Final = "/elsewhere"
CODE_UNSTABLE: Final = 3000

_JSON: Final = "application/json"
_DRIP_PIECES_MAX: Final = 1000
_ENDLESS_CHUNK: Final = bytes(256 * 1024)
_ENDLESS_GAP_SECONDS: Final = 0.001
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer before it is sent."""

    body: bytes
    status: int = HTTPStatus.OK
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def success(data: Mapping[str, object]) -> Answer:
    """The envelope of the official page around `data`."""
    return Answer(json.dumps({"code": 0, "data": data}).encode())


def refusal(code: int, info: str, status: int = HTTPStatus.OK) -> Answer:
    """A refusal: HTTP 200 with a code that is not 0, as client authors report it."""
    return Answer(json.dumps({"code": code, "info": info}).encode(), status)


# What a spoiled create would have said, had it been accepted.
NOTHING_DONE: Final = success({"amount": "0.02", "job_id": "0" * 24})


async def send(
    request: web.BaseRequest, answer: Answer, fault: Fault, closing: asyncio.Event
) -> web.StreamResponse:
    """Send an answer, spoiled by the fault.

    Args:
        request: What is answered.
        answer: The right answer.
        fault: What goes wrong with it.
        closing: Set when the sandbox stops, so that nobody waits any longer.
    """
    match fault.kind:
        case "drop_before" | "drop_after":
            return _abort(request)
        case "stall":
            await closing.wait()
            return _abort(request)
        case "hold":
            if await _cut_short(closing, fault.seconds):
                return _abort(request)
        case "slow":
            return await _drip(request, answer, fault.seconds, closing)
        case "truncated" if fault.on == "image":
            return await _break_promise(request, answer)
        case "endless":
            return await _never_end(request, answer, closing)
    return _whole(_spoiled(answer, fault))


def _spoiled(answer: Answer, fault: Fault) -> Answer:
    match fault.kind:
        case "rate_limited":
            status = HTTPStatus.TOO_MANY_REQUESTS
            headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            return Answer(refusal(int(status), fault.text).body, status, headers=headers)
        case "error" | "refuse":
            return refusal(fault.code, fault.text, fault.http_status)
        case "code_3000":
            return refusal(CODE_UNSTABLE, fault.text)
        case "html":
            return Answer(_html_page(fault.http_status), fault.http_status, "text/html")
        case "truncated":
            return Answer(answer.body[: len(answer.body) // 2])
        case "empty":
            return Answer(b"", content_type=answer.content_type)
        case "redirect":
            target = (fault.on == "image" and fault.info) or ELSEWHERE
            return Answer(b"", fault.http_status, headers={"Location": target})
        case "wrong_type":
            return Answer(refusal(1, "not found").body, content_type=answer.content_type)
    return answer


def _html_page(status: int) -> bytes:
    title = "Welcome to nginx!" if status == HTTPStatus.OK else _reason(status)
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    ).encode()


def _reason(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _whole(answer: Answer) -> web.Response:
    return web.Response(
        body=answer.body,
        status=answer.status,
        content_type=answer.content_type,
        headers=answer.headers,
    )


def _abort(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    # The server wants a response from every handler; this one has nowhere left to go.
    return web.Response()


async def _cut_short(closing: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await closing.wait()
    except TimeoutError:
        return False
    return True


def _stream(answer: Answer, length: int | None) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status)
    response.content_type = answer.content_type
    response.content_length = length
    return response


async def _drip(
    request: web.BaseRequest, answer: Answer, seconds: float, closing: asyncio.Event
) -> web.StreamResponse:
    total = len(answer.body)
    response = _stream(answer, total)
    await response.prepare(request)
    pieces = max(1, min(total, _DRIP_PIECES_MAX))
    loop = asyncio.get_running_loop()
    start = loop.time()
    for piece in range(pieces):
        # Paced by the clock rather than by equal sleeps, whose errors would add up.
        due = start + seconds * (piece + 1) / pieces
        if await _cut_short(closing, due - loop.time()):
            return _abort(request)
        chunk = answer.body[total * piece // pieces : total * (piece + 1) // pieces]
        await response.write(chunk)
    await response.write_eof()
    return response


async def _break_promise(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = _stream(answer, len(answer.body))
    response.force_close()
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    return response


async def _never_end(
    request: web.BaseRequest, answer: Answer, closing: asyncio.Event
) -> web.StreamResponse:
    response = _stream(answer, None)
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(_PNG_SIGNATURE)
    while not await _cut_short(closing, _ENDLESS_GAP_SECONDS):
        await response.write(_ENDLESS_CHUNK)
    return _abort(request)
