"""Runs coroutines from blocking code, on an event loop in a thread started for the call.

So it also works where a loop is running already, as in Jupyter. It knows nothing of jobs.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import aclosing
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from langchain_shortapi_flux.leave_taking import take_leave

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

Result = TypeVar("Result")
Item = TypeVar("Item")

JOIN_SECONDS_MAX = 10.0
"""How long an iteration that is left waits for its thread, which ends by itself if need be.

The garbage collector may leave it on a thread that holds what the work needs for cleaning up.
"""


def run_in_loop_thread(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run ``work()`` to its end and give what it gives, or raise what it raises.

    Context variables are copied in. An interrupt (Ctrl-C) while waiting cancels the work, waits
    until it has cleaned up, and goes on its way.
    """
    running = _LoopThread(work)
    try:
        return running.outcome.result()
    finally:
        running.leave()


def iterate_in_loop_thread(
    work: Callable[[], AsyncGenerator[Item]], *, join_seconds: float = JOIN_SECONDS_MAX
) -> Generator[Item]:
    """Yield what ``work()`` yields, as it comes; otherwise as ``run_in_loop_thread``.

    Who leaves early (``break``, Ctrl-C) cancels the work and waits until it has cleaned up, for
    ``join_seconds`` at most. Where the garbage collector leaves it in the middle of an act of the
    ledger, it is waited for right after that.
    """
    items: SimpleQueue[tuple[Item] | None] = SimpleQueue()

    async def pump() -> None:
        async with aclosing(work()) as given:
            async for item in given:
                items.put((item,))

    running = _LoopThread(pump)
    running.outcome.add_done_callback(lambda _: items.put(None))
    try:
        while (item := items.get()) is not None:
            yield item[0]
        running.outcome.result()
    finally:
        running.leave(join_seconds)


class _LoopThread(Generic[Result]):
    """A thread with an event loop that does one piece of work.

    Attributes:
        outcome: What comes of it.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self.outcome: Future[Result] = Future()
        self._work = work
        self._cancel: Future[Callable[[], object]] = Future()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name="langchain-shortapi-flux-loop"
        )
        self._thread.start()

    def leave(self, join_seconds: float | None = None) -> None:
        """Cancel the work unless it is done, and wait until the thread has ended, or so long."""
        try:
            if not self.outcome.done():
                self._cancel.result()()
        finally:
            # The garbage collector may close this on the very thread that it waits for.
            if threading.current_thread() is not self._thread:
                take_leave(lambda: self._thread.join(join_seconds))

    def _run(self) -> None:
        beginning = self._watched()
        try:
            asyncio.run(beginning)
        except BaseException as error:  # noqa: BLE001 - no loop to be had, or not to be closed
            beginning.close()
            if not self.outcome.done():
                self.outcome.set_exception(error)
        finally:
            if not self._cancel.done():
                self._cancel.set_result(lambda: None)

    async def _watched(self) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is None:
            raise RuntimeError("no task runs")
        self._cancel.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            self.outcome.set_result(await self._work())
        except asyncio.CancelledError:
            raise  # what ended the loop, such as a SystemExit of another task, comes out of it
        except BaseException as error:  # noqa: BLE001 - it is handed to the caller, whole
            self.outcome.set_exception(error)
