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
from langchain_shortapi_flux.leave_taking import undisturbed
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


# --- left by the garbage collector, on a thread that has what the work needs for cleaning up ------


class CleansUpUnder:
    """Work that gives one item and then waits to be cancelled; it cleans up under a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cleaned_up = threading.Event()

    async def __call__(self) -> AsyncGenerator[threading.Thread]:
        try:
            yield threading.current_thread()
            await asyncio.Event().wait()
        finally:
            with self.lock:
                self.cleaned_up.set()


def test_an_iteration_is_left_when_its_work_has_cleaned_up() -> None:
    """So ``break`` leaves no thread behind."""
    work = CleansUpUnder()
    given = iterate_in_loop_thread(work)
    thread = next(given)
    given.close()
    assert work.cleaned_up.is_set()
    assert not thread.is_alive()


def test_an_iteration_that_cannot_clean_up_is_not_waited_for_without_an_end() -> None:
    """The collector may close it under any lock there is. Its thread ends once that is free."""
    work = CleansUpUnder()
    given = iterate_in_loop_thread(work, join_seconds=0.05)
    thread = next(given)
    with work.lock:
        given.close()
        assert not work.cleaned_up.is_set()
    thread.join(10.0)
    assert not thread.is_alive()
    assert work.cleaned_up.is_set()


def test_an_iteration_left_in_the_middle_of_an_act_is_waited_for_after_it() -> None:
    """However long it may take: nobody's lock is held meanwhile."""
    work = CleansUpUnder()
    given = iterate_in_loop_thread(work, join_seconds=3600.0)
    thread = next(given)

    def act() -> None:
        with work.lock:
            given.close()
            assert thread.is_alive()

    undisturbed(act)
    assert work.cleaned_up.is_set()
    assert not thread.is_alive()
