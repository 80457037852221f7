"""A socket whose time is over is broken; one that was let go of in time is not touched."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from langchain_shortapi_flux.socket_watch import SocketWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON = 0.02
AN_HOUR = 3600.0

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Sockets whose other side says nothing."""
    made = [socket.socketpair() for _ in range(3)]
    yield made
    for pair in made:
        for one in pair:
            one.close()


def after(seconds: float) -> float:
    """That many seconds from now."""
    return time.monotonic() + seconds


@pytest.fixture
def watched_to_the_end() -> Callable[[], None]:
    """What waits until the watching threads of this test have nothing left to do."""
    others = set(threading.enumerate())

    def wait() -> None:
        for thread in set(threading.enumerate()) - others:
            thread.join()

    return wait


def test_a_silent_peer_is_not_waited_for_beyond_the_time(pairs: list[Pair]) -> None:
    """Without the watch this would wait for ever."""
    (silent, _), *_ = pairs
    with SocketWatch().breaking(silent.fileno(), after(SOON)):
        assert silent.recv(1) == b""


def test_a_time_that_is_over_already_breaks_at_once(pairs: list[Pair]) -> None:
    """The connection itself may have taken all of it."""
    (silent, _), *_ = pairs
    with SocketWatch().breaking(silent.fileno(), after(-1.0)):
        assert silent.recv(1) == b""


def test_a_socket_let_go_of_in_time_is_not_broken(
    pairs: list[Pair], watched_to_the_end: Callable[[], None]
) -> None:
    """Connections are used again."""
    (one, other), *_ = pairs
    with SocketWatch().breaking(one.fileno(), after(10 * SOON)):
        pass
    watched_to_the_end()
    other.send(b"x")
    assert one.recv(1) == b"x"


def test_an_earlier_end_is_kept_beside_a_later_one(pairs: list[Pair]) -> None:
    """The watching thread sleeps until the later one, and has to be told."""
    (patient, other), (first, _), (silent, _) = pairs
    watch = SocketWatch()
    with watch.breaking(patient.fileno(), after(AN_HOUR)):
        with watch.breaking(first.fileno(), after(-1.0)):
            assert first.recv(1) == b""
        # Its thread has run by now, so it sleeps until the later end.
        with watch.breaking(silent.fileno(), after(SOON)):
            assert silent.recv(1) == b""
        other.send(b"x")
        assert patient.recv(1) == b"x"


def test_one_that_is_not_let_go_of_holds_up_no_other(pairs: list[Pair]) -> None:
    """Nor does one that cannot be broken, as its peer was quicker."""
    (silent, _), (next_silent, _), _ = pairs
    watch = SocketWatch()
    with (
        socket.socket() as unconnected,
        watch.breaking(unconnected.fileno(), after(-1.0)),
        watch.breaking(silent.fileno(), after(SOON)),
    ):
        assert silent.recv(1) == b""
        with watch.breaking(next_silent.fileno(), after(SOON)):
            assert next_silent.recv(1) == b""


def test_who_gets_the_number_of_a_closed_socket_is_not_broken(pairs: list[Pair]) -> None:
    """A client may close its connection and another thread open one, all in one moment."""
    (one, _), *_ = pairs
    number = one.fileno()
    with SocketWatch().breaking(number, after(SOON)):
        one.close()
        stranger, other = socket.socketpair()
        assert stranger.fileno() == number
        stranger.settimeout(5 * SOON)
        with pytest.raises(TimeoutError):
            stranger.recv(1)
        other.send(b"x")
        assert stranger.recv(1) == b"x"
    stranger.close()
    other.close()


def test_the_thread_ends_with_its_work_and_starts_again(
    pairs: list[Pair], watched_to_the_end: Callable[[], None]
) -> None:
    """A long-lived server keeps no thread for what it did once."""
    (one, _), (two, _), _ = pairs
    watch = SocketWatch()
    with watch.breaking(one.fileno(), after(SOON)):
        assert one.recv(1) == b""
    watched_to_the_end()
    with watch.breaking(two.fileno(), after(SOON)):
        assert two.recv(1) == b""


def test_where_no_thread_is_to_be_had_the_next_one_watches(
    pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work goes on without the watch; it must not be believed to be there ever after."""
    (one, other), (silent, _), _ = pairs
    watch = SocketWatch()

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", none_left)
        with watch.breaking(one.fileno(), after(-1.0)):
            other.send(b"x")
            assert one.recv(1) == b"x"
    with watch.breaking(silent.fileno(), after(SOON)):
        assert silent.recv(1) == b""
