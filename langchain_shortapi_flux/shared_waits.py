"""Waits on one event loop, many of which end with one timer.

It knows an event loop's futures and time, and nothing of jobs.
"""

from __future__ import annotations

import asyncio
import math

ENDS_PER_SECOND = 1_000
"""Waits that end in the same thousandth of a second end together. A selector rounds its own waiting
up to the next one, so that nothing is lost by it."""


class SharedWaits:
    """As ``asyncio.sleep``, for thousands at a time. For one event loop.

    A timer each, with its context and its place in the loop's heap, would be felt: thousands of
    jobs wait at a time, and end their waits in groups.
    """

    def __init__(self) -> None:
        self._ends: dict[int, tuple[asyncio.TimerHandle, list[asyncio.Future[None]]]] = {}

    async def sleep(self, seconds: float) -> None:
        """Wait for that many seconds, or up to a thousandth longer."""
        loop = asyncio.get_running_loop()
        over, end = loop.create_future(), math.ceil((loop.time() + seconds) * ENDS_PER_SECOND)
        if end not in self._ends:
            self._ends[end] = loop.call_at(end / ENDS_PER_SECOND, self._over, end), []
        self._ends[end][1].append(over)
        try:
            await over
        except BaseException:
            self._leave(end, over)
            raise

    def _over(self, end: int) -> None:
        _, waiting = self._ends.pop(end)
        for over in waiting:
            if not over.done():
                over.set_result(None)

    def _leave(self, end: int, over: asyncio.Future[None]) -> None:
        if end not in self._ends:
            return
        timer, waiting = self._ends[end]
        if over in waiting:
            waiting.remove(over)
        if not waiting:
            timer.cancel()
            del self._ends[end]
