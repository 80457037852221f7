"""The one thing that is read from a callback's body: which job it names. Read with limits.

Anybody may have sent it. The service is said to send the bare record, with the job's id under
``id`` (one recorded body); an envelope around it and ``job_id`` are read as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeAlias

from langchain_shortapi_flux import envelope
from langchain_shortapi_flux.http_acts import HttpReply

BODY_LIMIT_BYTES = 64 * 2**10
"""A longer body is not read on: a record with eight pictures has about two thousand bytes."""
BODY_SECONDS_MAX = 2.0
"""How long a body may take to arrive."""
JOB_ID_LIMIT = 200
"""Characters of a job id. Those known have 24."""

Body: TypeAlias = bytes | bytearray | str | Mapping[str, Any] | AsyncIterable[bytes] | None
"""A body as it came, as parsed JSON, or as pieces still to be read."""


async def read_job_id(body: object) -> str | None:
    """The job id that a body names; None for whatever names none. Raises nothing of its own."""
    if isinstance(body, AsyncIterable):
        body = await _read(body)
    if isinstance(body, str):
        body = body[: BODY_LIMIT_BYTES + 1].encode("utf-8", "replace")
    if isinstance(body, (bytes, bytearray)) and len(body) <= BODY_LIMIT_BYTES:
        body = envelope.json_object(HttpReply(200, {}, bytes(body), received_at=0.0))
    if not isinstance(body, Mapping):
        return None
    places = [dict(place) for place in (body.get("data"), body) if isinstance(place, Mapping)]
    job_id = envelope.read_job_id(("job_id", "id"), *places)
    if job_id is None or len(job_id) > JOB_ID_LIMIT or not job_id.isprintable():
        return None
    return job_id


async def _read(pieces: AsyncIterable[bytes]) -> bytes | None:
    """All the pieces, or None where they are too many, too slow or broken off."""
    read = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX), AsyncExitStack() as left:
            if isinstance(pieces, AsyncGenerator):
                await left.enter_async_context(aclosing(pieces))
            async for piece in pieces:
                read += piece
                if len(read) > BODY_LIMIT_BYTES:
                    return None
    except Exception:  # noqa: BLE001 - whatever a server raises where its caller breaks off
        return None
    return bytes(read)
