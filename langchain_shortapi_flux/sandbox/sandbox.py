"""Knows how to run the server: its socket, its thread, its life.

It must not know what is served.
"""

import asyncio
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from langchain_shortapi_flux.sandbox.call_log import Call, CallLog
from langchain_shortapi_flux.sandbox.callback_post import CallbackPost, is_loopback
from langchain_shortapi_flux.sandbox.faults import Fault, FaultQueues
from langchain_shortapi_flux.sandbox.job_book import Charge, JobBook, SandboxJob
from langchain_shortapi_flux.sandbox.page_site import PageSite
from langchain_shortapi_flux.sandbox.painter import require_pillow
from langchain_shortapi_flux.sandbox.server import ShortAPIServer
from langchain_shortapi_flux.sandbox.settings import balance_usd, job_duration
from langchain_shortapi_flux.sandbox.socket_count import CountingServer, Sockets

SANDBOX_KEY: Final = "sandbox-key-not-a-secret"
DEFAULT_BALANCE_USD: Final = "10.00"

START_SECONDS_MAX: Final = 30.0
_SHUTDOWN_SECONDS: Final = 0.2
_HANDED_OVER_IN: Final = 4
"""Turns of the loop after which a connection that it has accepted is known to the server, to be
closed with the others."""
_BACKLOG: Final = 1024
_PAINTERS: Final = 2
_PORT_MAX: Final = 65535


class Sandbox:
    """A local stand-in for ShortAPI: a real HTTP server, no key, no money, no Flux.

    Opened in a browser, `base_url` shows the jobs as they run, for reading only: looking is no
    call in `calls` and uses up no fault.

    Use it as a context manager, or with `start` and `stop`. It runs in a thread of its own, so it
    also works inside a running event loop. Started again after `stop` it keeps its port, its jobs
    and its balance, as a service does after an outage.

    Example:
        >>> with Sandbox(job_seconds=0) as sandbox:
        ...     sandbox.balance
        Decimal('10.00')
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = SANDBOX_KEY,
        balance: Decimal | str | float = DEFAULT_BALANCE_USD,
        job_seconds: float | Callable[[str], float] | None = None,
        faults: Iterable[Fault] = (),
        allow_remote: bool = False,
    ) -> None:
        """Set up a sandbox; nothing runs before `start`.

        Args:
            host: The address to listen on.
            port: The port to listen on; 0 takes a free one.
            api_key: What it demands as Bearer key.
            balance: What jobs are paid from, in USD.
            job_seconds: How long a job takes from its acceptance: seconds, or a function of the
                mode; None for 1 s in schnell mode and 3 s in dev mode.
            faults: What goes wrong, in order; see `inject`.
            allow_remote: Listen on, and post callbacks to, other addresses than this machine's.
                Whoever can reach the sandbox then sees its page, which asks for no key: all
                prompts, callback URLs and pictures.

        Raises:
            ValueError: A setting makes no sense, or `host` is not this machine and
                `allow_remote` is not set.
        """
        if not allow_remote and not is_loopback(host):
            msg = f"host={host!r} can be reached from other machines: pass allow_remote=True"
            raise ValueError(msg)
        if not 0 <= port <= _PORT_MAX:
            msg = f"port={port}: 0 to {_PORT_MAX}"
            raise ValueError(msg)
        if not api_key:
            msg = "api_key: must not be empty"
            raise ValueError(msg)
        self._host = "127.0.0.1" if host == "localhost" else host
        self._port = port
        self._api_key = api_key
        self._allow_remote = allow_remote
        self._faults = FaultQueues(faults)
        self._log = CallLog()
        self._sockets = Sockets()
        self._book = JobBook(
            balance=balance_usd(balance),
            clock=_steady_clock(),
            job_seconds=job_duration(job_seconds),
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: ShortAPIServer | None = None

    def start(self) -> None:
        """Listen, and serve in a thread of its own.

        Raises:
            ImportError: Pillow is missing.
            OSError: The port cannot be had.
            RuntimeError: It is running already.
        """
        if self._thread is not None:
            msg = "this sandbox is running already"
            raise RuntimeError(msg)
        require_pillow()
        listener = self._listen()
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(listener, ready), name="shortapi-sandbox", daemon=True
        )
        self._thread.start()
        try:
            ready.result(timeout=START_SECONDS_MAX)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close every connection and end the thread; without effect when it is not running."""
        if self._thread is None:
            return
        if self._loop is not None and self._server is not None:
            self._loop.call_soon_threadsafe(self._server.closing.set)
        self._thread.join()
        self._thread = self._loop = self._server = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def inject(self, *faults: Fault) -> None:
        """Queue faults: each call takes the next one of its kind of call; from any thread."""
        self._faults.add(*faults)

    def finish(self, job_id: str | None = None) -> None:
        """End that job now, or all that are pending; one that has ended stays as it is.

        Raises:
            KeyError: There is no such job.
        """
        self._book.finish(job_id)
        if self._loop is not None and self._server is not None:
            self._loop.call_soon_threadsafe(self._server.post_callbacks)

    @property
    def base_url(self) -> str:
        """Where it listens, such as `http://127.0.0.1:54321`; kept after `stop`.

        Raises:
            RuntimeError: It takes a free port and was never started.
        """
        if not self._port:
            msg = "the port is known once the sandbox was started"
            raise RuntimeError(msg)
        host = "127.0.0.1" if self._wildcard else self._host
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def api_key(self) -> str:
        """The key that it demands."""
        return self._api_key

    @property
    def jobs(self) -> tuple[SandboxJob, ...]:
        """All jobs as they are now, oldest first."""
        return self._book.jobs

    @property
    def charges(self) -> tuple[Charge, ...]:
        """What was paid and not given back, oldest first."""
        return self._book.charges

    @property
    def balance(self) -> Decimal:
        """What is left, in USD."""
        return self._book.balance

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls that came in, oldest first; the latest 100,000 are kept."""
        return self._log.calls

    @property
    def open_connections(self) -> int:
        """How many sockets lead to the server now."""
        return self._sockets.now

    @property
    def peak_connections(self) -> int:
        """How many sockets led to the server at most."""
        return self._sockets.peak

    @property
    def _wildcard(self) -> bool:
        try:
            return ip_address(self._host).is_unspecified
        except ValueError:
            return not self._host

    def _listen(self) -> socket.socket:
        family, _, _, _, address = socket.getaddrinfo(
            self._host or None, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # So that a sandbox can come back to its port at once.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            reason = os.strerror(error.errno or 0)
            if error.errno == errno.EADDRINUSE:
                reason = "it is in use; choose another, or 0 for a free one"
            msg = f"cannot listen on port {self._port} of {self._host}: {reason}"
            raise OSError(error.errno, msg) from error
        self._port = int(listener.getsockname()[1])
        return listener

    def _run(self, listener: socket.socket, ready: Future[None]) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve(listener, ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            listener.close()

    async def _serve(self, listener: socket.socket, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(
            ThreadPoolExecutor(_PAINTERS, thread_name_prefix="shortapi-sandbox-painter")
        )
        callbacks = CallbackPost(allow_remote=self._allow_remote)
        server = self._server = ShortAPIServer(
            book=self._book,
            faults=self._faults,
            log=self._log,
            api_key=self._api_key,
            origin=None if self._wildcard else self.base_url,
            callbacks=callbacks,
            callback_origin=self.base_url,
            page=PageSite(book=self._book, api_key=self._api_key, any_host=self._allow_remote),
        )
        runner = web.ServerRunner(
            CountingServer(server.handle, self._sockets), shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await runner.setup()
        try:
            await web.SockSite(runner, listener, backlog=_BACKLOG).start()
            ready.set_result(None)
            await server.closing.wait()
            # Not closed at once: asyncio would drop what it has accepted and not handed over.
            self._loop.remove_reader(listener)
            for _ in range(_HANDED_OVER_IN):
                await asyncio.sleep(0)
        finally:
            await callbacks.close()
            await runner.cleanup()


def _steady_clock() -> Callable[[], float]:
    # Seconds since 1970 that never jump, even when the computer's clock is set.
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()
