"""Waits on one event loop, many of which end with one timer.

It knows an event loop's futures and time, and nothing of jobs.
"""

from __future__ import annotations

import asyncio
import math
from weakref import WeakValueDictionary

ENDS_PER_SECOND = 1_000
"""Waits that end in the same thousandth of a second end together. A selector rounds its own waiting
up to the next one, so that nothing is lost by it."""


class _Ending:
    """Those whose waits end at one moment. Its timer holds it, and whoever waits.

    So a loop that is closed, which lets go of its timers, lets go of all who waited there.
    """

    __slots__ = ("__weakref__", "_timer", "_waiting", "is_over")

    def __init__(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        self.is_over = False
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._timer = loop.call_at(at, self._end)

    def join(self, over: asyncio.Future[None]) -> None:
        self._waiting[over] = None

    def leave(self, over: asyncio.Future[None]) -> None:
        self._waiting.pop(over, None)
        if not self._waiting:
            self.is_over = True
            self._timer.cancel()

    def _end(self) -> None:
        self.is_over = True
        for over in self._waiting:
            if not over.done():
                over.set_result(None)


class SharedWaits:
    """As ``asyncio.sleep``, for thousands at a time. For one event loop.

    A timer each, with its context and its place in the loop's heap, would be felt: thousands of
    jobs wait at a time, and end their waits in groups.
    """

    def __init__(self) -> None:
        self._endings: WeakValueDictionary[int, _Ending] = WeakValueDictionary()

    async def sleep(self, seconds: float) -> None:
        """Wait for that many seconds, or up to a thousandth longer."""
        loop = asyncio.get_running_loop()
        over, end = loop.create_future(), math.ceil((loop.time() + seconds) * ENDS_PER_SECOND)
        ending = self._endings.get(end)
        if ending is None or ending.is_over:
            ending = self._endings[end] = _Ending(loop, end / ENDS_PER_SECOND)
        ending.join(over)
        try:
            await over
        except BaseException:
            ending.leave(over)
            raise
