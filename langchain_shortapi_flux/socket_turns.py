"""Turns at a bounded number of sockets, in the order in which they were asked for.

It knows an event loop's futures and time; nothing of sockets, and nothing of jobs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple


class _Waiting(NamedTuple):
    turn: asyncio.Future[None]
    until: float


NOW_SECONDS = 0.001
"""A time that is no further away than this has come: a loop's timers are not more exact."""


class SocketTurns:
    """As an ``asyncio.Semaphore`` with a deadline for each who waits, at a third of the cost.

    There is one timer for all of them. Thousands of creates wait here at a time, and a timer each,
    with its context, would be felt. For one event loop.

    Args:
        sockets: How many may have a turn at a time.
    """

    def __init__(self, sockets: int) -> None:
        self._free = sockets
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, seconds: float) -> float:
        """Wait for a turn; gives the seconds that are left of those. To be given back.

        Raises:
            TimeoutError: None are left.
        """
        if self._free:
            self._free -= 1
            return seconds
        loop = asyncio.get_running_loop()
        asked = loop.time()
        waiting = _Waiting(loop.create_future(), asked + seconds)
        self._waiting.append(waiting)
        self._look_by(waiting.until)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if not waiting.turn.cancelled():  # it was given, and is not wanted any more
                self._pass_on(waiting.turn)
            raise
        return seconds - (loop.time() - asked)

    def give_back(self) -> None:
        """A turn is over: the next one who still waits has it."""
        while self._waiting:
            turn = self._waiting.popleft().turn
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass_on(self, turn: asyncio.Future[None]) -> None:
        if turn.done() and turn.exception() is None:
            self.give_back()

    def _look_by(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        """End the waits whose time is over, and come again for the next."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        for turn, until in self._waiting:
            if until - now <= NOW_SECONDS and not turn.done():
                turn.set_exception(TimeoutError())
        self._waiting = deque(one for one in self._waiting if not one.turn.done())
        if self._waiting:
            self._look_by(min(one.until for one in self._waiting))
