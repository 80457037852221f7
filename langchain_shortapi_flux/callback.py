"""Wakes a waiting job when the service calls: which calls are expected, and whom each one wakes.

Nobody vouches for a call: the service documents no signature. So a call means "query this job now",
a few times per job at most, and nothing that it says is believed. It knows no sockets.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from langchain_shortapi_flux.callback_body import read_job_id
from langchain_shortapi_flux.doorbell import Doorbell
from langchain_shortapi_flux.loopback import is_loopback

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import TracebackType

    from aiohttp import web

    from langchain_shortapi_flux.callback_body import Body

__all__ = ["CallbackReceiver", "Expected"]

TOKEN_BYTES = 24
"""Random bytes in each URL: 192 bits."""
EARLY_LOOKS_MAX = 3
"""How often calls may wake one job. More are forged or repeated; the job polls on."""
HINTS_MAX = 3
"""How many calls may name a job to one URL before its job is known."""
EXPECTED_MAX = 100_000
"""Calls expected at a time. Jobs on top of that poll as usual."""
PUBLIC_URL_LIMIT = 1000
"""Characters of ``public_url``: longer URLs get lost on the way."""

_logger = logging.getLogger("langchain_shortapi_flux")


class Expected:
    """A call that may come for one job. To be closed when the job's wait ends, however it ends.

    Attributes:
        url: The job's ``callback_url``: a secret between the service and this process.
        doorbell: Where the job waits; a call rings it.
        job_id: Which job it is, once that was told.
        told: Whether a call may come to the URL: the service was given it, and somebody listens.
    """

    __slots__ = (
        "_hints",
        "_hints_left",
        "_looks_left",
        "_receiver",
        "doorbell",
        "job_id",
        "told",
        "url",
    )

    def __init__(self, receiver: CallbackReceiver, url: str) -> None:
        self.url = url
        self.doorbell = Doorbell()
        self.job_id: str | None = None
        self.told = True
        self._hints: list[str] = []
        self._hints_left = HINTS_MAX
        self._looks_left = EARLY_LOOKS_MAX
        self._receiver = receiver

    @property
    def called(self) -> bool:
        """Whether a call came, true or forged: from then on nobody needs to wait for it."""
        return self._looks_left < EARLY_LOOKS_MAX

    @property
    def hint(self) -> str | None:
        """A job id that a call to this URL named while ``job_id`` was not known, if one did.

        It is not to be believed before a query says the same.
        """
        return self._hints[0] if self._hints else None

    def take_hint(self) -> str | None:
        """The ``hint``, once; the next one may follow."""
        return self._hints.pop(0) if self._hints else None

    def is_named(self, job_id: str) -> None:
        """Keep the ``job_id`` that a call named, and wake the job, however often it was before."""
        if self._hints_left and job_id not in self._hints:
            self._hints_left -= 1
            self._hints.append(job_id)
            self._looks_left = max(self._looks_left - 1, 0)
            self.doorbell.ring()

    def job_is(self, job_id: str) -> None:
        """Tell its ``job_id``, which alone finds it then, so that no body is read any more."""
        self._receiver._announce(self, job_id)  # noqa: SLF001 - two halves of one thing

    def ring(self) -> None:
        """Wake the job, unless it is awake already or was woken often enough."""
        if self._looks_left and not self.doorbell.rung:
            self._looks_left -= 1
            self.doorbell.ring()

    def close(self) -> None:
        """Forget the URL: calls to it wake nobody any more."""
        self._receiver._forget(self)  # noqa: SLF001 - two halves of one thing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Expected(job_id={self.job_id!r}, rung={self.doorbell.rung})"


class CallbackReceiver:
    """Takes the service's calls, so that a job is queried when it has ended and not much before.

    On its own, on this event loop or (``with``) in a thread, behind what serves ``public_url``::

        async with CallbackReceiver("https://my.host/flux", port=8700) as receiver:
            ...

    Mounted in an ``aiohttp.web`` application, which is then what serves ``public_url``::

        receiver = CallbackReceiver("https://my.host/flux")
        app.add_subapp("/flux", receiver.app)

    In any other server, FastAPI for one::

        receiver = CallbackReceiver("https://my.host/flux")


        @app.post("/flux/{token}", status_code=204)
        async def flux_callback(token: str, request: Request) -> None:
            await receiver.handle(request.stream(), token=token)

    The official pages document ``callback_url`` and no signature, no retries; public clients report
    calls that never came. Polling goes on beside it, so such a call costs time alone. Where create
    got no clear answer, the call to its URL names the job that was made, which is queried, and
    followed if it is the one that was asked for. ``ShortAPIFlux.create`` gives out no URL: it does
    not wait for the job.

    The jobs that wait and the server must live in one process: a call that reaches another worker
    wakes nobody there. Of a server that is not this one's own the access log shows the tokens,
    which are of no use once the job has ended.

    Args:
        public_url: Where the service reaches this receiver: an https URL. What is called is this,
            a slash and a token; a reverse proxy may cut the path's beginning off. Default, for
            trying it out against the sandbox: where it listens on this machine.
        host: The address to listen on, where it runs on its own.
        port: The port to listen on; 0 takes a free one.
        allow_http: Allow plain http to other machines than this one. Prompts, pictures' URLs and
            tokens then travel in clear.

    Raises:
        ValueError: An argument cannot be used.
    """

    def __init__(
        self,
        public_url: str | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_http: bool = False,
    ) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"port={port!r}; allowed are 0 to 65535, 0 for a free one")
        if public_url is None and not is_loopback(host):
            raise ValueError(
                f"public_url=None with host={host!r}: without a URL it can only listen on this "
                "machine, such as on 127.0.0.1; give a URL such as https://my.host/flux"
            )
        if public_url is not None:
            public_url = _read_public_url(public_url, allow_http=allow_http)
        self.public_url = public_url
        self._settings = {"host": host, "port": port, "allow_http": allow_http}
        self._host = "127.0.0.1" if host.lower() == "localhost" else host
        self._port = port
        self._url = public_url
        self._server: AbstractAsyncContextManager[int] | None = None
        self._thread: AbstractContextManager[None] | None = None
        self._app: web.Application | None = None
        # Reentrant: a flow that the garbage collector throws away closes what it expected.
        self._lock = threading.RLock()
        self._by_token: dict[str, Expected] = {}
        self._by_job: dict[str, set[Expected]] = {}

    @property
    def waiting(self) -> int:
        """How many jobs wait for a call now: as many URLs are known."""
        return len(self._by_token)

    @property
    def port(self) -> int:
        """The port that it listens on, where it runs on its own."""
        return self._port

    @property
    def app(self) -> web.Application:
        """The application to mount. It answers every path below its own.

        Raises:
            ValueError: There is no ``public_url``.
        """
        from langchain_shortapi_flux.callback_server import callback_app  # noqa: PLC0415

        if self.public_url is None:
            raise ValueError(
                "public_url=None: a receiver that is mounted cannot know where; give a URL such as "
                "https://my.host/flux"
            )
        if self._app is None:
            self._app = callback_app(self.handle)
        return self._app

    def expect(self) -> Expected | None:
        """A URL to give to the service, and a doorbell for the job to wait at.

        None where no call could come or be kept account of: the receiver does not run, or expects
        too many calls already. The job then polls as usual.
        """
        with self._lock:
            if self._url is None or len(self._by_token) >= EXPECTED_MAX:
                return None
            token = secrets.token_urlsafe(TOKEN_BYTES)
            expected = self._by_token[token] = Expected(self, f"{self._url}/{token}")
        return expected

    async def handle(self, body: Body = None, *, token: str | None = None) -> None:
        """Take a call. Whatever it holds, this returns soon, raises nothing and tells nothing.

        Args:
            body: The call's body. Not read where ``token`` says it all; an async iterator of its
                pieces saves your server from reading what nobody needs.
            token: The last part of the path that was called. Where it is None, the job id in the
                body is looked up among the jobs that wait.
        """
        if token is None:
            named = await read_job_id(body) if self._by_job else None
            with self._lock:
                for expected in tuple(self._by_job.get(named or "", ())):
                    expected.ring()
            return
        found = self._by_token.get(token)
        if found is None:
            _logger.debug("a callback came that nobody waits for")
            return
        named = await read_job_id(body) if found.job_id is None else None
        with self._lock:
            if token in self._by_token:
                # One that another waits for is that other's.
                if named is not None and found.job_id is None and named not in self._by_job:
                    found.is_named(named)
                # Who waits for the same job was given another URL, which nobody calls.
                for expected in self._by_job.get(found.job_id or "", set()) | {found}:
                    expected.ring()
        _logger.debug("a callback came for job %s", found.job_id)

    def _announce(self, expected: Expected, job_id: str) -> None:
        with self._lock:
            self._take_back(expected)
            expected.job_id = job_id
            if _token(expected) in self._by_token:
                self._by_job.setdefault(job_id, set()).add(expected)

    def _take_back(self, expected: Expected) -> None:
        same_job = self._by_job.get(expected.job_id or "", set())
        same_job.discard(expected)
        if not same_job:
            self._by_job.pop(expected.job_id or "", None)

    def _forget(self, expected: Expected) -> None:
        with self._lock:
            self._by_token.pop(_token(expected), None)
            self._take_back(expected)

    async def __aenter__(self) -> Self:
        """Serve on the running event loop.

        Raises:
            OSError: The port cannot be had.
            RuntimeError: It runs already.
        """
        from langchain_shortapi_flux.callback_server import serving  # noqa: PLC0415

        if self._server is not None:
            raise RuntimeError("this receiver runs already")
        self._server = serving(self.handle, self._host, self._port)
        try:
            self._port = await self._server.__aenter__()
        except BaseException:
            self._server = None
            raise
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._url = self.public_url or f"http://{host}:{self._port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop serving. Jobs that wait poll on; new ones are given no URL."""
        self._url = None
        with self._lock:
            for expected in self._by_token.values():  # no call will come: poll as usual, from now
                expected.told = False
                expected.doorbell.ring()
        server, self._server = self._server, None
        if server is not None:
            await server.__aexit__(kind, error, traceback)

    def __enter__(self) -> Self:
        """Serve in a thread of its own; raises as ``async with`` does."""
        from langchain_shortapi_flux.callback_server import in_thread  # noqa: PLC0415

        thread = in_thread(self)
        thread.__enter__()
        self._thread = thread
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop serving and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.__exit__(kind, error, traceback)

    def __copy__(self) -> Self:
        """Copies of a Runnable share their receiver."""
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Another process gets the settings alone: no call would reach it there."""
        return {"public_url": self.public_url, **self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
        self._url = None

    def __repr__(self) -> str:
        return f"CallbackReceiver({self._url!r}, waiting={self.waiting})"


def _token(expected: Expected) -> str:
    return expected.url.rpartition("/")[2]


def _read_public_url(value: object, *, allow_http: bool) -> str:
    text = value.strip() if isinstance(value, str) else ""
    allowed = (
        f"allowed is an https URL of at most {PUBLIC_URL_LIMIT} plain characters, without user "
        "name, query and fragment, such as https://my.host/flux"
    )
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if "@" in parts.netloc:  # not shown: it may hold a password
        raise ValueError(f"public_url holds a user name; {allowed}")
    plain = re.fullmatch(r"[\x21-\x7e]+", text) and not re.search(r"[?#\\<>\"`{}|^]", text)
    fits = plain and len(text) <= PUBLIC_URL_LIMIT
    if not host or parts.scheme not in ("http", "https") or not fits:
        raise ValueError(f"public_url={str(value)[:PUBLIC_URL_LIMIT]!r}; {allowed}")
    if parts.scheme == "http" and not is_loopback(host) and not allow_http:
        raise ValueError(
            f"public_url={text!r} would be called in clear; {allowed} (http is for this machine, "
            "or with allow_http=True)"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
