"""What a job waits at, and what is rung to cut that wait short. It knows no jobs and no HTTP."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Doorbell"]

WAIT_SECONDS_MAX = threading.TIMEOUT_MAX
"""A longer wait is cut to this: the platform cannot wait longer, and would raise."""


class Doorbell:
    """Ends a wait before its time. Safe across threads and event loops.

    Once rung it stays rung until it was ``heard``: rung before a wait it ends that wait at once,
    and rung again it changes nothing. Clear it after the wait and before what the wait was for, so
    that a ring in the meantime ends the next wait.
    """

    __slots__ = ("_lock", "_rung", "_wakes")

    def __init__(self) -> None:
        # Reentrant: a wait that the garbage collector throws away takes its leave at any moment.
        self._lock = threading.RLock()
        self._rung = False
        self._wakes: list[Callable[[], object]] = []

    @property
    def rung(self) -> bool:
        """Whether it was rung and not heard yet: why a wait ended, if not for its time."""
        return self._rung

    def ring(self) -> None:
        """End the wait, or the next one if nobody waits. From any thread; never blocks."""
        with self._lock:
            self._rung = True
            wakes = tuple(self._wakes)
        for wake in wakes:
            wake()

    def heard(self) -> None:
        """Take note of the ring: the next wait waits again."""
        self._rung = False

    def wait(self, seconds: float) -> None:
        """Block until it is rung, or for that many seconds."""
        over = threading.Event()
        with self._waking(over.set):
            if not self._rung:
                over.wait(min(seconds, WAIT_SECONDS_MAX))

    async def await_ring(self, seconds: float) -> None:
        """As ``wait``, on the running event loop. Leaves no task and no timer behind."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(_end, over)

        timer = loop.call_later(min(seconds, WAIT_SECONDS_MAX), _end, over)
        try:
            with self._waking(wake):
                if not self._rung:
                    await over
        finally:
            timer.cancel()

    @contextmanager
    def _waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """Call ``wake`` at each ring from now on. Whether it was rung is to be asked after this."""
        with self._lock:
            self._wakes.append(wake)
        try:
            yield
        finally:
            with self._lock:
                self._wakes.remove(wake)


def _end(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
