"""Breaks sockets whose time is over, so that a wait for a peer that fell silent gets an end.

For clients that know no deadline of their own. It knows nothing of what is said on a socket.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

OVERDUE_LOOK_SECONDS = 1.0
"""How often to look whether a broken socket was let go of."""


class SocketWatch:
    """One thread for all sockets, there only while there is something to watch. Thread-safe.

    Where no thread is to be had, nothing is broken until one is.
    """

    def __init__(self) -> None:
        self._ends: dict[socket.socket, float] = {}
        self._changed = threading.Condition()
        self._wakes_at: float | None = None

    @contextmanager
    def breaking(self, fileno: int, at: float) -> Iterator[None]:
        """Within this context, break that socket when ``time.monotonic()`` says ``at``."""
        theirs = socket.socket(fileno=fileno)
        try:
            # A number of its own: theirs may be closed meanwhile, and be another socket's then.
            ours = theirs.dup()
        finally:
            theirs.detach()
        try:
            with self._changed:
                self._ends[ours] = at
                if self._wakes_at is None:
                    self._start(at)
                elif at < self._wakes_at:
                    self._wakes_at = at
                    self._changed.notify()
            yield
        finally:
            with self._changed:
                self._ends.pop(ours, None)
                ours.close()

    def _start(self, at: float) -> None:
        watcher = threading.Thread(target=self._watch, name="flux-socket-watch", daemon=True)
        with suppress(RuntimeError):
            watcher.start()
            self._wakes_at = at

    def _watch(self) -> None:
        with self._changed:
            while self._ends:
                now = time.monotonic()
                for one in [one for one, at in self._ends.items() if at <= now]:
                    with suppress(OSError):  # the other side was quicker
                        one.shutdown(socket.SHUT_RDWR)
                ahead = [at for at in self._ends.values() if at > now]
                self._wakes_at = min(ahead, default=now + OVERDUE_LOOK_SECONDS)
                self._changed.wait(self._wakes_at - now)
            self._wakes_at = None
