"""Runs a coroutine from blocking code, on an event loop in a thread started for the call.

So it also works where a loop is running already, as in Jupyter. It knows nothing of jobs.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Result = TypeVar("Result")


def run_in_loop_thread(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run ``work()`` to its end and give what it gives, or raise what it raises.

    Context variables are copied in. An interrupt (Ctrl-C) while waiting cancels the work, waits
    until it has cleaned up, and goes on its way.
    """
    outcome: Future[Result] = Future()
    started: Future[Callable[[], object]] = Future()

    async def watched() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is None:
            raise RuntimeError("no task runs")
        started.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            outcome.set_result(await work())
        except BaseException as error:  # noqa: BLE001 - it is handed to the caller, whole
            outcome.set_exception(error)

    def run() -> None:
        beginning = watched()
        try:
            asyncio.run(beginning)
        except BaseException as error:  # noqa: BLE001 - no loop to be had, or not to be closed
            beginning.close()
            if not outcome.done():
                outcome.set_exception(error)
        finally:
            if not started.done():
                started.set_result(lambda: None)

    context = copy_context()
    thread = threading.Thread(
        target=context.run,
        args=(run,),
        name="langchain-shortapi-flux-loop",
    )
    thread.start()
    try:
        return outcome.result()
    except BaseException:
        if not outcome.done():
            started.result()()
        raise
    finally:
        thread.join()
