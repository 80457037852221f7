"""What a blocking request knows of its socket: whether it was ever connected, and its time.

``requests`` tells neither: a lost connection looks alike before and after it was made, and its
timeouts hold for single waits, so that a server that drips could hold a caller for ever. It knows
nothing of jobs.
"""

from __future__ import annotations

import time
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, lru_cache
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
from urllib3.util import create_urllib3_context

from langchain_shortapi_flux.connection import file_version

if TYPE_CHECKING:
    import ssl
    from contextvars import Token


class SocketContact:
    """What is known of one request's socket; entered around the request, on the same thread.

    Within it no wait on the socket outlasts the time: after that comes ``TimeoutError``. But a host
    of several addresses that are all silent is given the time for each, and its name is looked up
    for as long as the system takes.

    Args:
        time_left: Seconds from now.

    Attributes:
        made: Whether a connection was there, proxy and TLS included, for the request to go out on.
    """

    def __init__(self, time_left: float) -> None:
        self.made = False
        self._ends_at = time.monotonic() + time_left
        self._token: Token[SocketContact | None] | None = None

    def __enter__(self) -> Self:
        self._token = _contact.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _contact.reset(self._token)

    def make(self) -> None:
        """Take note that a connection is there. From here on something may be sent."""
        self._time_left()
        self.made = True

    def limit(self, held: Any) -> None:
        """Let the next wait on this socket last no longer than there is time."""
        left = self._time_left()
        ask = getattr(held, "gettimeout", None)  # pyOpenSSL's has none
        own = None if ask is None else ask()
        if own is None or own > left:
            held.settimeout(left)

    def _time_left(self) -> float:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


_contact: ContextVar[SocketContact | None] = ContextVar("contact", default=None)


class _Limited:
    __slots__ = ()


def _limited(held: Any) -> Any:
    """The same socket, whose every wait asks the request around it for the time that is left.

    Whoever reads a reply, be it headers, chunks, a tunnel's answer or TLS within TLS, has loops of
    its own, and all of them come down to this.
    """
    try:
        if not isinstance(held, _Limited):
            kind: Any = type(held)
            with suppress(TypeError):  # of a kind that cannot: its timeout holds for each wait
                held.__class__ = _limited_kind(kind)
        if (contact := _contact.get()) is not None:
            contact.limit(held)  # also for a handshake that is next: it takes this for all of it
    except BaseException:
        held.close()
        raise
    return held


@cache
def _limited_kind(kind: Any) -> Any:
    # Of whatever kind it is: TLS makes its own, and so do gevent and others.
    def limited(name: str) -> Any:
        wait = getattr(kind, name)

        def limited_wait(self: Any, *args: Any, **options: Any) -> Any:
            if (contact := _contact.get()) is not None:
                contact.limit(self)
            return wait(self, *args, **options)

        return limited_wait

    names = ("recv", "recv_into", "send", "sendall")
    waits = {name: limited(name) for name in names if hasattr(kind, name)}
    return type(kind.__name__, (kind, _Limited), {"__slots__": (), **waits})


@lru_cache(maxsize=4)
def _tls_context(ca_path: str, _version: tuple[int, int]) -> ssl.SSLContext:
    # Kept: reading the authorities takes more CPU than a whole job.
    context = create_urllib3_context()
    context.load_verify_locations(ca_path)
    return context


class _Connection(HTTPConnection):
    def _new_conn(self) -> Any:
        return _limited(super()._new_conn())

    def connect(self) -> None:
        super().connect()
        _limited(self.sock)  # by now it may be TLS
        if (contact := _contact.get()) is not None:
            contact.make()

    def request(self, *args: Any, **options: Any) -> None:
        # One that is still open from the request before is not connected again.
        if self.sock is not None and (contact := _contact.get()) is not None:
            contact.make()
        super().request(*args, **options)


class _SecureConnection(_Connection, HTTPSConnection):
    def connect(self) -> None:
        if self.ca_certs is not None and self.ssl_context is None:
            self.ssl_context = _tls_context(self.ca_certs, file_version(self.ca_certs))
            if self.proxy_config is not None and self.proxy_config.ssl_context is None:
                self.proxy_config = self.proxy_config._replace(ssl_context=self.ssl_context)
            self.ca_certs = None  # or they would be read again
        super().connect()

    def _connect_tls_proxy(self, *args: Any, **options: Any) -> Any:
        return _limited(super()._connect_tls_proxy(*args, **options))


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
