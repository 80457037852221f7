"""A blocking request ends with its time, on whatever socket, and knows whether it was connected."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar

import pytest
from pydantic import SecretStr
from reply_server import KEY, Pieces, ReplyServer
from tls_place import TlsPlace, make_tls_place
from transcripts import CREATED, RUNNING

from langchain_shortapi_flux import RetryLimits, ShortAPIFlux
from langchain_shortapi_flux.connection import connect
from langchain_shortapi_flux.errors import ServiceUnavailable
from langchain_shortapi_flux.http_acts import HttpReply, HttpRequest, Lost
from langchain_shortapi_flux.requests_call import perform
from langchain_shortapi_flux.socket_contact import ContactSession, SocketContact, _limited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from requests import Session

    from langchain_shortapi_flux import FluxJob

SOON = 0.3
A_WHILE = 20.0
DROPS = 1000
"""So many drops fall within a while, one every 0.02 s."""
TOO_LONG = "it took too long"
HOST = "localhost"

_HEAD = b"HTTP/1.1 200 OK\r\n"
_RECORD = bytes.fromhex("1603034000")
"""The beginning of a TLS record whose 16 KiB are still to come."""
_SPACES = [b" "] * DROPS
_DRIPS = {
    "silence": Pieces((b"",), gap=A_WHILE),
    "headers": Pieces((_HEAD, *[b"X-Slow: yes\r\n"] * DROPS), gap=A_WHILE / DROPS),
    "a body": Pieces((_HEAD + b"Content-Length: 9999\r\n\r\n", *_SPACES), gap=A_WHILE / DROPS),
    "a body until the end": Pieces((_HEAD + b"\r\n", *_SPACES), gap=A_WHILE / DROPS),
}
_TLS_DRIPS = {
    "silence": Pieces((b"",), gap=A_WHILE),
    "a record": Pieces((_RECORD, *_SPACES), gap=A_WHILE / DROPS),
}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsPlace:
    """TLS under the name ``localhost``."""
    return make_tls_place(tmp_path_factory.mktemp("tls"), HOST)


@pytest.fixture
def trusted(tls: TlsPlace, monkeypatch: pytest.MonkeyPatch) -> TlsPlace:
    """The same, trusted."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca_path))
    return tls


@pytest.fixture
def session() -> Iterator[Session]:
    """As the driver opens it."""
    with ContactSession() as opened:
        yield opened


def ask(
    session: Session, base_url: str, seconds: float, body: bytes | None = None
) -> HttpReply | Lost:
    """One request to that service, to be done in that time."""
    act = HttpRequest("POST" if body else "GET", "/job/query?id=1", body)
    connection = connect(base_url, SecretStr(KEY), 1)
    return perform(act.within(seconds), session, connection, SocketContact(seconds))


def over_tls(server: ReplyServer) -> str:
    """The server under the name on its certificate."""
    return f"https://{HOST}:{server.port}"


def use_proxy(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go through it, although this machine needs no proxy."""
    monkeypatch.setattr("langchain_shortapi_flux.connection.is_loopback", lambda host: False)
    monkeypatch.setenv("HTTPS_PROXY", proxy)


@contextmanager
def tunnel(then: Pieces | socket.socket, tls: TlsPlace | None = None) -> Iterator[str]:
    """A proxy for one tunnel, which it then fills itself, or joins to another socket; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            taken, _ = listener.accept()
            with taken, tls.server.wrap_socket(taken, server_side=True) if tls else taken as client:
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                if isinstance(then, Pieces):
                    _fill(client, then)
                else:
                    _join(client, then)

        thread = threading.Thread(target=serve)
        thread.start()
        scheme = "https" if tls else "http"
        yield f"{scheme}://{HOST}:{listener.getsockname()[1]}"
        thread.join()


def _fill(client: socket.socket, pieces: Pieces) -> None:
    try:
        client.recv(4096)  # who asked for the tunnel speaks first in it
        for piece in pieces.pieces:
            client.sendall(piece)
            time.sleep(pieces.gap)
    except OSError:
        return


def _join(client: socket.socket, other: socket.socket) -> None:
    def pass_on(giver: socket.socket, taker: socket.socket) -> None:
        try:
            while data := giver.recv(65536):
                taker.sendall(data)
            taker.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    back = threading.Thread(target=pass_on, args=(other, client))
    back.start()
    pass_on(client, other)
    back.join()


# --- the time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("drip", _DRIPS.values(), ids=_DRIPS)
@pytest.mark.parametrize("secure", [False, True])
def test_whatever_a_reply_drips_ends_with_the_time(
    drip: Pieces, *, secure: bool, trusted: TlsPlace, session: Session
) -> None:
    """Each byte keeps a socket's own timeout happy, under TLS as well."""
    with ReplyServer(drip, tls=trusted.server if secure else None) as server:
        base_url = over_tls(server) if secure else server.base_url
        assert ask(session, base_url, SOON) == Lost(sent=True, reason=TOO_LONG)


@pytest.mark.parametrize("drip", _TLS_DRIPS.values(), ids=_TLS_DRIPS)
def test_a_handshake_that_drips_ends_with_the_time_and_nothing_was_sent(
    drip: Pieces, session: Session
) -> None:
    """There never was a connection."""
    with ReplyServer(drip) as server:
        lost = ask(session, over_tls(server), SOON)
    assert lost == Lost(sent=False, reason=TOO_LONG)


@pytest.mark.parametrize("drip", ["silence", "headers"])
@pytest.mark.parametrize("secure", [False, True])
def test_a_proxys_answer_that_drips_ends_with_the_time_and_nothing_was_sent(
    drip: str,
    *,
    secure: bool,
    trusted: TlsPlace,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The proxy is on the way to the service; what it got is no request."""
    with ReplyServer(_DRIPS[drip], tls=trusted.server if secure else None) as proxy:
        use_proxy(over_tls(proxy) if secure else proxy.base_url, monkeypatch)
        lost = ask(session, "https://far.example", SOON)
    assert lost == Lost(sent=False, reason=TOO_LONG)


@pytest.mark.parametrize("drip", _TLS_DRIPS.values(), ids=_TLS_DRIPS)
@pytest.mark.parametrize("secure", [False, True])
def test_a_handshake_in_a_tunnel_that_drips_ends_with_the_time(
    drip: Pieces,
    *,
    secure: bool,
    trusted: TlsPlace,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TLS within a proxy's TLS is read in a loop of its own, below all timeouts."""
    with tunnel(drip, trusted if secure else None) as proxy:
        use_proxy(proxy, monkeypatch)
        lost = ask(session, "https://far.example", SOON)
    assert lost == Lost(sent=False, reason=TOO_LONG)


@pytest.mark.parametrize("secure", [False, True])
def test_a_tunnel_carries_a_reply(
    *, secure: bool, trusted: TlsPlace, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy that speaks TLS itself as well, trusted by the same authorities."""
    with ReplyServer(RUNNING, tls=trusted.server) as server:
        there = socket.create_connection(("127.0.0.1", server.port))
        with there, tunnel(there, trusted if secure else None) as proxy:
            use_proxy(proxy, monkeypatch)
            reply = ask(session, over_tls(server), A_WHILE)
            session.close()
    assert isinstance(reply, HttpReply)
    assert reply.body == RUNNING.body


@pytest.mark.parametrize("secure", [False, True])
def test_a_reply_through_a_tunnel_ends_with_the_time(
    *, secure: bool, trusted: TlsPlace, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without a proxy."""
    with ReplyServer(_DRIPS["a body"], tls=trusted.server) as server:
        there = socket.create_connection(("127.0.0.1", server.port))
        with there, tunnel(there, trusted if secure else None) as proxy:
            use_proxy(proxy, monkeypatch)
            lost = ask(session, over_tls(server), SOON)
            session.close()
    assert lost == Lost(sent=True, reason=TOO_LONG)


@pytest.mark.parametrize("secure", [False, True])
def test_a_server_that_takes_little_in_is_not_waited_for(
    *, secure: bool, trusted: TlsPlace, session: Session
) -> None:
    """Sending waits as well, once the buffers on the way are full, and can go on for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def sip() -> None:
            taken, _ = listener.accept()
            wrapped = trusted.server.wrap_socket(taken, server_side=True) if secure else taken
            with wrapped as client, suppress(OSError):
                for _ in range(60):
                    time.sleep(SOON / 20)
                    client.recv(2**20)

        thread = threading.Thread(target=sip)
        thread.start()
        scheme = "https" if secure else "http"
        base_url = f"{scheme}://{HOST}:{listener.getsockname()[1]}"
        lost = ask(session, base_url, SOON, b"x" * 64 * 2**20)
        thread.join()
    assert lost == Lost(sent=True, reason=TOO_LONG)


@pytest.mark.parametrize("secure", [False, True])
def test_a_connection_used_again_has_the_time_of_its_new_request(
    *, secure: bool, trusted: TlsPlace, session: Session
) -> None:
    """The request before may have had less."""
    late = Pieces((b"", _HEAD + b"Content-Length: 2\r\n\r\n{}"), gap=2 * SOON)
    with ReplyServer(RUNNING, late, tls=trusted.server if secure else None) as server:
        base_url = over_tls(server) if secure else server.base_url
        assert isinstance(ask(session, base_url, SOON), HttpReply)
        assert isinstance(ask(session, base_url, A_WHILE), HttpReply)
        assert server.connections == 1


@pytest.mark.parametrize("open_before", [False, True])
def test_what_has_no_time_left_is_not_sent(*, open_before: bool, session: Session) -> None:
    """Looking the service's name up may take all of it, and be no fault of the create."""
    with ReplyServer(RUNNING) as server:
        if open_before:
            ask(session, server.base_url, A_WHILE)
        asked = len(server.asked)
        assert ask(session, server.base_url, 0.0) == Lost(sent=False, reason=TOO_LONG)
        assert len(server.asked) == asked


def _receive(limited: socket.socket) -> None:
    while limited.recv(1):
        pass


def _receive_into(limited: socket.socket) -> None:
    while limited.recv_into(bytearray(1)):
        pass


def _send(limited: socket.socket) -> None:
    while limited.send(b"x" * 2**16):
        pass


def _send_all(limited: socket.socket) -> None:
    while True:
        limited.sendall(b"x" * 2**10)


@pytest.mark.parametrize("wait", [_receive, _receive_into, _send, _send_all])
def test_every_wait_on_a_socket_asks_for_the_time_that_is_left(
    wait: Callable[[socket.socket], None],
) -> None:
    """Its peer gives a little and takes a little, until it goes."""
    ours, theirs = socket.socketpair()
    ours.settimeout(A_WHILE)

    def drip() -> None:
        with theirs:
            for _ in range(60):
                time.sleep(SOON / 20)
                theirs.send(b"x")
                with suppress(BlockingIOError):
                    theirs.recv(2**12, socket.MSG_DONTWAIT)

    thread = threading.Thread(target=drip)
    with ours, SocketContact(SOON):
        thread.start()
        with pytest.raises(TimeoutError):
            wait(_limited(ours))
        thread.join()


def test_one_silent_wait_takes_no_more_than_the_time_that_is_left() -> None:
    """Whatever the socket was told to wait before, as for a handshake that follows."""
    ours, theirs = socket.socketpair()
    ours.settimeout(A_WHILE)
    with ours, theirs, SocketContact(SOON):
        assert 0 < _limited(ours).gettimeout() <= SOON
        ours.settimeout(A_WHILE)
        thread = threading.Timer(3 * SOON, theirs.send, (b"x",))
        thread.start()
        with pytest.raises(TimeoutError):
            ours.recv(1)
        thread.join()


def test_a_shorter_wait_stays_as_it_is() -> None:
    """As the silence that is allowed within one reply."""
    ours, theirs = socket.socketpair()
    ours.settimeout(SOON)
    with ours, theirs, SocketContact(A_WHILE):
        assert _limited(ours).gettimeout() == SOON


def test_no_thread_is_needed_to_keep_the_time(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each request took a quarter of its CPU, and there may be none to be had."""

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with ReplyServer(RUNNING, _DRIPS["a body"]) as server:
        ask(session, server.base_url, A_WHILE)  # the server has its thread for this one now
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", none_left)
            lost = ask(session, server.base_url, SOON)
        assert server.connections == 1
    assert lost == Lost(sent=True, reason=TOO_LONG)


# --- whom it trusts -----------------------------------------------------------------------------


def test_the_authorities_are_read_once(trusted: TlsPlace, session: Session) -> None:
    """Reading them takes several times the CPU of a whole job, for each new connection."""
    with ReplyServer(CREATED, tls=trusted.server) as server:
        assert isinstance(ask(session, over_tls(server), A_WHILE), HttpReply)
        session.close()
        known = trusted.ca_path.stat()
        away = trusted.ca_path.rename(trusted.ca_path.with_suffix(".away"))
        trusted.ca_path.write_text(" " * known.st_size)  # what is not read cannot be missed
        os.utime(trusted.ca_path, ns=(known.st_atime_ns, known.st_mtime_ns))
        try:
            assert isinstance(ask(session, over_tls(server), A_WHILE), HttpReply)
        finally:
            away.replace(trusted.ca_path)


@pytest.mark.parametrize("driver", ["requests", "aiohttp"])
def test_authorities_that_were_replaced_are_read_anew(
    driver: str, trusted: TlsPlace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file that was wrong is put right while the process goes on."""
    other = make_tls_place(tmp_path_factory.mktemp("other"), HOST)
    right = trusted.ca_path.read_bytes()
    with ReplyServer(CREATED, tls=trusted.server) as server:
        once = RetryLimits(create_attempts=1)
        flux = ShortAPIFlux(base_url=over_tls(server), api_key=KEY, retry=once)

        def create() -> FluxJob:
            return (
                flux.create("a fox") if driver == "requests" else asyncio.run(flux.acreate("a fox"))
            )

        trusted.ca_path.write_bytes(other.ca_path.read_bytes())
        try:
            with pytest.raises(ServiceUnavailable, match="certificate is not trusted"):
                create()
        finally:
            trusted.ca_path.write_bytes(right)
        assert create().job_id


def test_another_place_with_the_same_name_is_not_trusted(
    trusted: TlsPlace, session: Session, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is kept is kept for its own file."""
    other = make_tls_place(tmp_path_factory.mktemp("other"), HOST)
    with ReplyServer(CREATED, tls=trusted.server) as server:
        assert isinstance(ask(session, over_tls(server), A_WHILE), HttpReply)
    with ReplyServer(CREATED, tls=other.server) as server:
        lost = ask(session, over_tls(server), A_WHILE)
    assert lost == Lost(sent=False, reason="its certificate is not trusted")


def test_a_certificate_for_another_name_is_not_trusted(trusted: TlsPlace, session: Session) -> None:
    """The certificate names ``localhost``, and no address."""
    with ReplyServer(CREATED, tls=trusted.server) as server:
        lost = ask(session, server.base_url, A_WHILE)
    assert lost == Lost(sent=False, reason="its certificate is not trusted")


def test_the_authorities_of_a_proxy_are_the_same(
    tls: TlsPlace,
    session: Session,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A proxy that cannot be trusted is asked for nothing."""
    other = make_tls_place(tmp_path_factory.mktemp("other"), HOST)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.ca_path))
    with ReplyServer(CREATED, tls=tls.server) as proxy:
        use_proxy(over_tls(proxy), monkeypatch)
        lost = ask(session, "https://far.example", A_WHILE)
        assert proxy.asked == []
    assert isinstance(lost, Lost)
    assert not lost.sent


# --- what is asked ------------------------------------------------------------------------------


def test_a_packed_reply_is_asked_for(session: Session) -> None:
    """As a session would do by itself."""
    with ReplyServer(RUNNING) as server:
        ask(session, server.base_url, A_WHILE)
    assert "gzip" in server.asked[0].headers["accept-encoding"]


def test_a_host_name_in_other_letters_is_looked_up_in_ascii(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other spelling is known to a resolver."""
    asked: list[object] = []

    def unknown(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    lost = ask(session, "https://b\u00fccher.example", A_WHILE)
    assert lost == Lost(sent=False, reason="its host name cannot be resolved")
    assert asked == ["xn--bcher-kva.example"]


def test_a_socket_of_a_foreign_kind_is_limited_as_far_as_it_can_be() -> None:
    """pyOpenSSL's, which urllib3 takes where it is told to, lacks much of what a socket has."""

    class Foreign:
        limits: ClassVar[list[float]] = []

        def settimeout(self, seconds: float) -> None:
            self.limits.append(seconds)

        def recv_into(self, _: bytearray) -> int:
            return 0

    with SocketContact(A_WHILE):
        assert _limited(Foreign()).recv_into(bytearray(1)) == 0
    assert len(Foreign.limits) == 2
    assert max(Foreign.limits) <= A_WHILE
