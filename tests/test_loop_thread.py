"""Blocking calls over a loop in a thread: what happens where no loop is to be had."""

from __future__ import annotations

import asyncio
import gc
import resource
import threading
import time
from asyncio import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from quick_flux import flux_on

from langchain_shortapi_flux import BatchFailed
from langchain_shortapi_flux.loop_thread import (
    _LoopThread,
    iterate_in_loop_thread,
    run_in_loop_thread,
)
from langchain_shortapi_flux.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from langchain_shortapi_flux.sandbox import Sandbox


@contextmanager
def _no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _answer() -> int:
    return 42


# Python's own half-made loop complains when it is thrown away, which is done here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_cannot_be_made_is_an_error_and_no_endless_wait() -> None:
    """A server at its limit of open files must get an answer, not a thread that hangs."""
    assert run_in_loop_thread(_answer) == 42
    with _no_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
        run_in_loop_thread(_answer)
    assert run_in_loop_thread(_answer) == 42
    gc.collect()


async def _exit_in_another_task(error: BaseException) -> None:
    async def leave() -> None:
        raise error

    await asyncio.gather(leave(), asyncio.Event().wait())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_ends_the_loop_comes_out_as_itself(error: BaseException) -> None:
    """A callback that calls ``sys.exit`` means the program, not this call's cancellation."""
    with pytest.raises(type(error)) as caught:
        run_in_loop_thread(lambda: _exit_in_another_task(error))
    assert caught.value is error


def test_what_ends_the_loop_comes_out_of_an_iteration_too() -> None:
    """As above."""

    async def one_and_out() -> AsyncGenerator[int]:
        yield 1
        await _exit_in_another_task(SystemExit(3))

    given = iterate_in_loop_thread(one_and_out)
    assert next(given) == 1
    with pytest.raises(SystemExit):
        next(given)


@pytest.mark.parametrize("error", [SystemExit(3), ValueError("x"), asyncio.CancelledError()])
def test_what_the_work_raises_comes_out_as_itself(error: BaseException) -> None:
    """Cancellation that the work asked for itself included."""

    async def work() -> None:
        raise error

    with pytest.raises(type(error)):
        run_in_loop_thread(work)


class Leaver(AsyncCallbackHandler):
    """Ends the program when the first job has ended."""

    async def on_chain_end(self, outputs: Any, **_: Any) -> None:
        raise SystemExit(3)


def test_a_callback_that_ends_the_program_during_a_batch_does_so(sandbox: Sandbox) -> None:
    """And what was bought until then is its cause."""
    sandbox.inject(Fault("create", "none"), Fault("create", "job_never_ends", times=2))
    with pytest.raises(SystemExit) as caught:
        flux_on(sandbox).batch(["a fox"] * 3, {"callbacks": [Leaver()]})
    assert caught.value.code == 3
    assert isinstance(caught.value.__cause__, BatchFailed)
    assert {job.job_id for job in caught.value.__cause__.left.values()} <= {
        job.job_id for job in sandbox.jobs
    }
    while sandbox.open_connections:  # the other side notices in its own time
        time.sleep(0.005)
    gc.collect()


def test_left_on_its_own_thread_it_does_not_wait_for_itself() -> None:
    """The garbage collector may do that, on whatever thread it runs."""
    made: list[_LoopThread[None]] = []
    known = threading.Event()

    async def work() -> None:
        known.wait(10.0)
        made[0].leave()
        await asyncio.sleep(0)

    made.append(_LoopThread(work))
    known.set()
    with pytest.raises(CancelledError):
        made[0].outcome.result(10.0)
    made[0].leave()
