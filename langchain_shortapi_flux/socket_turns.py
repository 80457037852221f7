"""Turns at a bounded number of sockets, in the order in which they were asked for.

It knows an event loop's futures and time; nothing of sockets, and nothing of jobs.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict

LOOK_SECONDS = 0.02
"""How long at least from one look for waits whose time is over to the next. A wait ends so much
late at most; a turn that comes after its time is not taken in any case."""


class SocketTurns:
    """As an ``asyncio.Semaphore`` with a deadline for each who waits, at a third of the cost.

    There is one timer for all of them. Thousands of creates wait here at a time, and a timer each,
    with its context, would be felt. For one event loop.

    Args:
        sockets: How many may have a turn at a time.
    """

    def __init__(self, sockets: int) -> None:
        self._free = sockets
        self._waiting: OrderedDict[asyncio.Future[None], float] = OrderedDict()  # until when
        self._timer: asyncio.TimerHandle | None = None
        self._looked_at = -math.inf

    async def take(self, seconds: float) -> float:
        """Wait for a turn; gives the seconds that are left of those. To be given back.

        Raises:
            TimeoutError: None are left.
        """
        if seconds <= 0:
            raise TimeoutError
        if self._free:
            self._free -= 1
            return seconds
        loop = asyncio.get_running_loop()
        turn, until = loop.create_future(), loop.time() + seconds
        self._waiting[turn] = until
        self._look_by(until)
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back()  # it was given, and is not wanted any more
            raise
        left = until - loop.time()
        if left <= 0:
            self.give_back()
            raise TimeoutError
        return left

    def give_back(self) -> None:
        """A turn is over: the next one who still waits has it."""
        while self._waiting:
            turn, _until = self._waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_by(self, when: float) -> None:
        when = max(when, self._looked_at + LOOK_SECONDS)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        """End the waits whose time is over, and come again for the next."""
        self._timer, now = None, asyncio.get_running_loop().time()
        self._looked_at = now
        for turn in [turn for turn, until in self._waiting.items() if until <= now]:
            del self._waiting[turn]
            if not turn.done():
                turn.set_exception(TimeoutError())
        if self._waiting:
            self._look_by(min(self._waiting.values()))
