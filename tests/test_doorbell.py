"""A doorbell: waits that end before their time, from any thread, on any loop, leaving nothing."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from loop_waits import live_timers

from langchain_shortapi_flux.doorbell import Doorbell

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_SECONDS = 3600.0
"""A wait that only a ring can end within a test."""
GIVE_UP_SECONDS = 20.0
SHORT_SECONDS = 0.001
LOOKS_MAX = 10_000


def wait_blocking(bell: Doorbell, seconds: float) -> None:
    """Wait in a thread of its own; fails where that does not end."""
    ended = _in_thread(lambda: bell.wait(seconds))
    assert ended.wait(GIVE_UP_SECONDS), "still waiting"


def wait_async(bell: Doorbell, seconds: float) -> None:
    """Wait on a loop of its own; fails where that does not end."""
    asyncio.run(asyncio.wait_for(bell.await_ring(seconds), GIVE_UP_SECONDS))


both_ways = pytest.mark.parametrize("wait", [wait_blocking, wait_async])
Wait = Any


def _in_thread(work: Callable[[], object]) -> threading.Event:
    ended = threading.Event()

    def run() -> None:
        work()
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    return ended


def _ring_once_someone_waits(bell: Doorbell, waiters: int = 1) -> threading.Event:
    def ring() -> None:
        for _ in range(LOOKS_MAX):
            if len(bell._wakes) == waiters:
                break
            time.sleep(SHORT_SECONDS)
        bell.ring()

    return _in_thread(ring)


@both_ways
def test_a_ring_from_another_thread_ends_the_wait(wait: Wait) -> None:
    """A receiver lives on another loop than the job that waits."""
    bell = Doorbell()
    rang = _ring_once_someone_waits(bell)
    wait(bell, LONG_SECONDS)
    assert bell.rung
    assert rang.wait(GIVE_UP_SECONDS)


@both_ways
def test_a_ring_before_the_wait_ends_it_at_once(wait: Wait) -> None:
    """A quick job is done before the create's answer has been read."""
    bell = Doorbell()
    bell.ring()
    wait(bell, LONG_SECONDS)
    assert bell.rung


@both_ways
@pytest.mark.parametrize("seconds", [SHORT_SECONDS, 0.0, -1.0])
def test_a_wait_ends_when_its_time_is_over(wait: Wait, seconds: float) -> None:
    """Nobody may ever ring."""
    bell = Doorbell()
    wait(bell, seconds)
    assert not bell.rung


@both_ways
def test_what_was_heard_does_not_end_the_next_wait(wait: Wait) -> None:
    """One call from the service is one early look, not a hundred."""
    bell = Doorbell()
    bell.ring()
    bell.ring()
    bell.heard()
    assert not bell.rung
    wait(bell, SHORT_SECONDS)
    assert not bell.rung


@both_ways
def test_a_ring_after_it_was_heard_ends_the_next_wait(wait: Wait) -> None:
    """The service may call while a query is under way that still says pending."""
    bell = Doorbell()
    bell.ring()
    bell.heard()
    bell.ring()
    wait(bell, LONG_SECONDS)
    assert bell.rung


@both_ways
@pytest.mark.parametrize("seconds", [1e12, math.inf])
def test_an_absurdly_long_wait_is_a_wait_and_no_error(wait: Wait, seconds: float) -> None:
    """Platforms refuse to wait for centuries."""
    bell = Doorbell()
    _ring_once_someone_waits(bell)
    wait(bell, seconds)
    assert bell.rung


def test_one_ring_ends_all_waits() -> None:
    """Blocking and async alike: two may wait for the same job."""
    bell = Doorbell()
    ended = [_in_thread(lambda: wait_async(bell, LONG_SECONDS)) for _ in range(2)]
    ended += [_in_thread(lambda: bell.wait(LONG_SECONDS)) for _ in range(2)]
    _ring_once_someone_waits(bell, waiters=4)
    assert all(one.wait(GIVE_UP_SECONDS) for one in ended)
    assert bell._wakes == []


async def test_a_ring_on_the_waiting_loop_itself_ends_the_wait() -> None:
    """A receiver may run on the jobs' own loop."""
    bell = Doorbell()
    asyncio.get_running_loop().call_soon(bell.ring)
    await asyncio.wait_for(bell.await_ring(LONG_SECONDS), GIVE_UP_SECONDS)
    assert bell.rung


def test_a_ring_for_a_loop_that_is_closed_does_nothing() -> None:
    """The caller of a callback must not suffer from a program that has ended its loop."""
    bell = Doorbell()
    waiting = bell.await_ring(LONG_SECONDS)

    async def begin() -> None:
        waiting.send(None)

    asyncio.run(begin())
    bell.ring()
    assert bell.rung
    waiting.close()
    assert bell._wakes == []


async def test_cancellation_passes_through_and_leaves_nothing() -> None:
    """``asyncio.timeout`` around a job, or Ctrl-C, must get through at once."""
    bell = Doorbell()
    task = asyncio.create_task(bell.await_ring(LONG_SECONDS))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bell._wakes == []
    assert live_timers() == []
    bell.ring()


async def test_a_ring_at_the_very_end_of_the_time_breaks_nothing() -> None:
    """Both end the same wait; the second must find that it is over."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    for _ in range(20):
        bell = Doorbell()
        asyncio.get_running_loop().call_soon(bell.ring)
        await bell.await_ring(0)
        await asyncio.sleep(0)
    assert complaints == []


async def test_thousands_wait_at_once_and_leave_no_task_timer_or_thread() -> None:
    """A waiting job costs one future and one timer."""
    bells = [Doorbell() for _ in range(5000)]
    threads = threading.active_count()
    waits = asyncio.gather(*(bell.await_ring(LONG_SECONDS) for bell in bells))
    await asyncio.sleep(0)
    assert threading.active_count() <= threads  # those of others may end meanwhile
    assert all(len(bell._wakes) == 1 for bell in bells)

    def ring_all() -> None:
        for bell in bells:
            bell.ring()

    rang = _in_thread(ring_all)
    await asyncio.wait_for(waits, GIVE_UP_SECONDS)
    assert rang.wait(GIVE_UP_SECONDS)
    assert all(bell._wakes == [] for bell in bells)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert live_timers() == []
