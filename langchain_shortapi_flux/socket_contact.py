"""What a blocking request knows of its socket: whether it was ever connected, and how to cut it.

``requests`` tells neither: a lost connection looks alike before and after it was made, and its
timeouts hold for single reads, so that a server that drips could hold a caller for ever. It knows
nothing of jobs.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

import requests
from requests.adapters import HTTPAdapter

# From here: vcrpy replaces the names in ``urllib3.connection``, and this may be imported later.
from urllib3.connectionpool import (  # type: ignore[attr-defined]
    HTTPConnection,
    HTTPConnectionPool,
    HTTPSConnection,
    HTTPSConnectionPool,
)

if TYPE_CHECKING:
    from contextvars import Token


class SocketContact:
    """What is known of one request's socket; entered around the request, on the same thread.

    Attributes:
        made: Whether a connection was there, proxy and TLS included, for the request to go out on.
        expired: Whether the time was over before the reply had come; then the socket was cut.
    """

    def __init__(self, time_left: float) -> None:
        self.made = False
        self.expired = False
        self._lock = threading.Lock()
        self._plug: socket.socket | None = None
        self._timer = threading.Timer(min(max(time_left, 0.0), threading.TIMEOUT_MAX), self._cut)
        self._timer.daemon = True
        self._token: Token[SocketContact | None] | None = None

    def __enter__(self) -> Self:
        self._token = _contact.set(self)
        with suppress(RuntimeError):  # no thread to be had: the timeouts of single reads still hold
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._token is not None:
            _contact.reset(self._token)
        with self._lock:
            self._pull()

    def hold(self, held: Any) -> None:
        """Take this socket for the request's own, to be cut when the time is over."""
        with self._lock:
            if self.expired:
                raise TimeoutError
            self._pull()
            # A duplicate: TLS takes the first descriptor over, and a reply closes it early.
            self._plug = socket.fromfd(held.fileno(), socket.AF_INET, socket.SOCK_STREAM)

    def _cut(self) -> None:
        with self._lock:
            self.expired = True
            if self._plug is not None:
                with suppress(OSError):  # the other side was faster
                    self._plug.shutdown(socket.SHUT_RDWR)

    def _pull(self) -> None:
        if self._plug is not None:
            self._plug.close()
            self._plug = None


_contact: ContextVar[SocketContact | None] = ContextVar("contact", default=None)


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        made, contact = super()._new_conn(), _contact.get()
        if contact is not None:
            try:
                contact.hold(made)
            except BaseException:
                made.close()
                raise
        return made

    def _tunnel(self) -> None:
        super()._tunnel()
        # A proxy's answer that was cut looks complete, and TLS over a cut socket leaks it.
        if (contact := _contact.get()) is not None and contact.expired:
            raise TimeoutError

    def connect(self) -> None:
        super().connect()
        if (contact := _contact.get()) is not None:
            contact.made = True

    def request(self, *args: Any, **options: Any) -> None:
        # One that is still open from the request before is not connected again.
        if self.sock is not None and (contact := _contact.get()) is not None:
            contact.made = True
            contact.hold(self.sock)
        super().request(*args, **options)


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Others put classes of their own in their place, as vcrpy does; theirs are left alone.
        if self.ConnectionCls is HTTPConnection:
            self.ConnectionCls = _Connection
        elif self.ConnectionCls is HTTPSConnection:
            self.ConnectionCls = _SecureConnection

    def _get_conn(self, timeout: float | None = None) -> Any:
        given, contact = super()._get_conn(timeout), _contact.get()
        if contact is not None and not isinstance(given, _Connection):
            contact.made = True  # it will not tell, so nothing is provably unsent
        return given


class _SecurePool(_Pool, HTTPSConnectionPool):
    pass


_POOLS = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class ContactSession(requests.Session):
    """A session whose requests tell the ``SocketContact`` around them of their socket."""

    def __init__(self) -> None:
        super().__init__()
        adapter = _Adapter()
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, _: object) -> None:
        """Nowhere. Even where told not to follow, it would read a redirect's body without limit."""
