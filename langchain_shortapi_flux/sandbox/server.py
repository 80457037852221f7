"""Knows the job API as HTTP: paths, keys, envelope, image files.

It must not know threads nor the clock; jobs and money are the book's.

HTTP 401 for a bad key, 400 for a body that is not JSON, 404 and 405 for paths and the use of
`code` 1 for refusals are assumptions: no recorded error body was found. That refusals come as
HTTP 200 with a `code` other than 0 and a text under `info` is what several client authors report.
"""

import asyncio
import hmac
import json
import time
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from aiohttp import web

from langchain_shortapi_flux.sandbox.answers import NOTHING_DONE, Answer, refusal, send, success
from langchain_shortapi_flux.sandbox.call_log import Call, CallLog, CallOn
from langchain_shortapi_flux.sandbox.callback_post import CallbackPost
from langchain_shortapi_flux.sandbox.faults import Fault, FaultQueues
from langchain_shortapi_flux.sandbox.hidden_key import HIDDEN, without_key
from langchain_shortapi_flux.sandbox.job_book import Ending, JobBook
from langchain_shortapi_flux.sandbox.menu import Refused, check_args, check_model, mode_of
from langchain_shortapi_flux.sandbox.page_site import PICTURE_HEADERS, PageSite
from langchain_shortapi_flux.sandbox.painter import Picture, draw_png
from langchain_shortapi_flux.sandbox.record import IMAGE_ROOT, image_paths, record

CREATE_PATH: Final = "/api/v1/job/create"
QUERY_PATH: Final = "/api/v1/job/query"

_CODE_REFUSED: Final = 1
_IMAGE_PATH_PARTS: Final = 5
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


_NO_JOB_NAMED: Final = success({"amount": "0.02"})


class ShortAPIServer:
    """Answers HTTP calls from a job book, a fault queue and a painter."""

    def __init__(
        self,
        *,
        book: JobBook,
        faults: FaultQueues,
        log: CallLog,
        api_key: str,
        origin: str | None,
        callbacks: CallbackPost,
        callback_origin: str,
        page: PageSite,
    ) -> None:
        """Serve this book; to be made on the loop that serves.

        Args:
            book: The jobs and the money.
            faults: What goes wrong next.
            log: Where calls are kept.
            api_key: The key that is demanded.
            origin: The start of image URLs; None to use the Host that the client asked for.
            callbacks: Who posts the records of finished jobs.
            callback_origin: The start of image URLs in callbacks.
            page: What people look at.
        """
        self._book = book
        self._faults = faults
        self._log = log
        self._api_key = api_key
        self._origin = origin
        self._callbacks = callbacks
        self._callback_origin = callback_origin
        self._page = page
        self._loop = asyncio.get_running_loop()
        self.closing = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one call."""
        at = time.monotonic()
        on = _called(request)
        body = await request.read()
        authorized = self._authorized(request)
        # Whoever looks at the page changes nothing: no call is logged, no fault is used up.
        looking = self._page.is_look(request, on)
        if not looking:
            self._keep(request, on, at, body, authorized=authorized)
        if on == "other":
            answer = self._page.answer(request) or _nowhere(request)
            return await send(request, answer, _NO_FAULT, self.closing)
        fault = _NO_FAULT if looking else self._faults.take(on)
        if on == "image":
            headers = PICTURE_HEADERS if looking else _NO_HEADERS
            return await self._send_image(request, fault, headers)
        answer = _NO_JOB_NAMED if fault.kind == "no_id" else NOTHING_DONE
        if fault.takes_effect:
            if not authorized:
                answer = refusal(
                    HTTPStatus.UNAUTHORIZED, "invalid api key", HTTPStatus.UNAUTHORIZED
                )
            elif on == "create":
                answer = self._create(body, fault)
            else:
                answer = self._query(request, fault)
        return await send(request, answer, fault, self.closing)

    def post_callbacks(self) -> None:
        """Post the records of jobs that have ended; must be called on the loop."""
        for job in self._book.ended_with_callback():
            if job.callback_url is not None:
                self._callbacks.post(
                    job.callback_url,
                    record(job, self._callback_origin),
                    partial(self._book.note_callback, job.job_id),
                )

    def _keep(
        self, request: web.BaseRequest, on: CallOn, at: float, body: bytes, *, authorized: bool
    ) -> None:
        shown = body.replace(self._api_key.encode(), HIDDEN.encode()) if on == "create" else b""
        self._log.add(
            Call(
                on=on,
                method=request.method,
                path_qs=without_key(request.path_qs, self._api_key),
                at=at,
                header_names=tuple(request.headers),
                authorized=authorized,
                body=shown,
            )
        )

    def _authorized(self, request: web.BaseRequest) -> bool:
        given = request.headers.get("Authorization", "")
        wanted = f"Bearer {self._api_key}"
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())

    def _create(self, body: bytes, fault: Fault) -> Answer:
        try:
            order = json.loads(body)
        except (ValueError, RecursionError):
            order = None
        if not isinstance(order, dict):
            return refusal(
                HTTPStatus.BAD_REQUEST, "the body must be a JSON object", HTTPStatus.BAD_REQUEST
            )
        callback_url = order.get("callback_url")
        try:
            check_model(order.get("model"))
            check_args(order.get("args"))
            if "callback_url" in order and not isinstance(callback_url, str):
                return refusal(_CODE_REFUSED, "callback_url: must be a string")
            job = self._book.order(
                order["args"], callback_url=callback_url, ending=_ending_of(fault)
            )
        except Refused as refused:
            return refusal(_CODE_REFUSED, str(refused))
        if callback_url is not None and job.ending.by_itself:
            self._loop.call_later(max(0.0, job.ends_at - self._book.now), self.post_callbacks)
        data = {"amount": str(job.amount)}
        return success(data if fault.kind == "no_id" else {**data, "job_id": job.job_id})

    def _query(self, request: web.BaseRequest, fault: Fault) -> Answer:
        job = self._book.query(request.query.get("id", ""))
        if job is None:
            return refusal(_CODE_REFUSED, "job not found")
        data = record(job, self._origin_for(request))
        if fault.kind == "status_word":
            data["status"] = fault.word
        return success(data)

    async def _send_image(
        self, request: web.BaseRequest, fault: Fault, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        picture = self._picture_at(request.path)
        if picture is None:
            return await send(request, _nowhere(request), fault, self.closing)
        png = await self._loop.run_in_executor(None, draw_png, picture)
        answer = Answer(png, content_type="image/png", headers=headers)
        return await send(request, answer, fault, self.closing)

    def _picture_at(self, path: str) -> Picture | None:
        parts = path.split("/")
        job = self._book.find(parts[3]) if len(parts) == _IMAGE_PATH_PARTS else None
        paths = [] if job is None else image_paths(job)
        if job is None or path not in paths:
            return None
        return Picture(
            # It is written on the picture, which people show each other.
            prompt=without_key(str(job.args["prompt"]), self._api_key),
            aspect_ratio=str(job.args["aspect_ratio"]),
            mode=mode_of(job.args),
            index=paths.index(path),
            count=len(paths),
        )

    def _origin_for(self, request: web.BaseRequest) -> str:
        return self._origin or f"http://{request.host}"


_NO_FAULT: Final = Fault("query", "none")


def _called(request: web.BaseRequest) -> CallOn:
    path = request.path
    if path == CREATE_PATH and request.method == "POST":
        return "create"
    if path == QUERY_PATH and request.method == "GET":
        return "query"
    if path.startswith(f"{IMAGE_ROOT}/") and request.method in ("GET", "HEAD"):
        return "image"
    return "other"


def _nowhere(request: web.BaseRequest) -> Answer:
    known = request.path in (CREATE_PATH, QUERY_PATH)
    status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
    return refusal(status, status.phrase.lower(), status)


def _ending_of(fault: Fault) -> Ending:
    match fault.kind:
        case "job_fails":
            return Ending("failed", error=fault.text)
        case "job_fails_unrefunded":
            return Ending("failed", error=fault.text, refunded=False)
        case "job_never_ends":
            return Ending(by_itself=False)
        case "no_images":
            return Ending(images=0)
        case "fewer_images":
            return Ending(images=fault.count)
    return Ending()
