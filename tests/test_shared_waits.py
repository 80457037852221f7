"""Waits that share timers: none too short, each left by itself, no timer left behind."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING
from weakref import WeakSet

import pytest
from loop_waits import done, live_timers, settle
from pydantic import SecretStr

from langchain_shortapi_flux.aiohttp_driver import run
from langchain_shortapi_flux.connection import connect
from langchain_shortapi_flux.flow_steps import Step
from langchain_shortapi_flux.ledger import MemoryLedger
from langchain_shortapi_flux.shared_waits import SharedWaits
from langchain_shortapi_flux.surroundings import Surroundings

if TYPE_CHECKING:
    from langchain_shortapi_flux.flow_steps import JobFlow

LONG = 60.0


class LoopTime:
    """The running loop's time, which stands still until it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)


@pytest.fixture
async def time(monkeypatch: pytest.MonkeyPatch) -> LoopTime:
    """The time of this test's loop."""
    return LoopTime(monkeypatch)


async def waiting(waits: SharedWaits, *seconds: float) -> list[asyncio.Task[None]]:
    """Some who wait for so long each."""
    tasks = [asyncio.create_task(waits.sleep(one)) for one in seconds]
    await settle()
    return tasks


async def test_a_wait_is_not_shorter_than_was_asked() -> None:
    """Rounded up, never down."""
    loop, waits = asyncio.get_running_loop(), SharedWaits()
    for seconds in (0.0001, 0.0101, 0.02):
        began = loop.time()
        await waits.sleep(seconds)
        assert loop.time() - began >= seconds


async def test_waits_that_end_together_share_a_timer(time: LoopTime) -> None:
    """Within a thousandth of a second; those behind it have another one."""
    waits = SharedWaits()
    tasks = await waiting(waits, *[LONG - 0.0003] * 40, *[LONG] * 40, LONG + 0.0007)
    assert len(live_timers()) == 2
    time.now += LONG
    await settle()
    assert done(tasks) == [True] * 80 + [False]
    time.now += 0.001
    await settle()
    assert done(tasks) == [True] * 81
    assert live_timers() == []


async def test_whoever_waits_first_is_woken_first(time: LoopTime) -> None:
    """Jobs of a batch query in the order in which they were bought."""
    waits, woken = SharedWaits(), list[int]()

    async def wait(number: int) -> None:
        await waits.sleep(LONG)
        woken.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(100)]
    await settle()
    time.now += LONG + 1
    await asyncio.gather(*tasks)
    assert woken == list(range(100))


async def test_one_who_leaves_takes_nobody_along(time: LoopTime) -> None:
    """The timer stays for the others, and goes with the last of them."""
    waits = SharedWaits()
    first, second = await waiting(waits, LONG, LONG)
    first.cancel()
    await settle()
    assert (first.cancelled(), second.done(), len(live_timers())) == (True, False, 1)
    (third,) = await waiting(waits, LONG)
    second.cancel()
    await settle()
    time.now += LONG
    await settle()
    assert third.done()
    (fourth,) = await waiting(waits, LONG)
    fourth.cancel()
    await settle()
    assert live_timers() == []


async def test_one_who_leaves_when_the_wait_is_over_already(time: LoopTime) -> None:
    """Cancelled between the timer and its own next step."""
    waits = SharedWaits()
    first, second = await waiting(waits, LONG, LONG)
    time.now += LONG
    waits._endings[round(1000 * time.now)]._end()
    first.cancel()
    await settle()
    assert (first.cancelled(), second.cancelled(), second.done()) == (True, False, True)


async def test_one_who_is_told_to_leave_when_the_timer_comes(time: LoopTime) -> None:
    """It has not left yet, and nobody else is held up by it."""
    waits = SharedWaits()
    first, second = await waiting(waits, LONG, LONG)
    time.now += LONG
    first.cancel()
    waits._endings[round(1000 * time.now)]._end()
    await settle()
    assert (first.cancelled(), second.cancelled(), second.done()) == (True, False, True)


async def test_nobody_joins_those_whose_wait_has_ended(time: LoopTime) -> None:
    """They may not have gone on yet, and no timer would wake who joined them."""
    waits = SharedWaits()
    (first,) = await waiting(waits, LONG)
    ending = waits._endings[round(1000 * (time.now + LONG))]
    ending._end()
    ending._timer.cancel()  # it has gone off, so it will not again
    second = asyncio.create_task(waits.sleep(LONG))
    await settle()
    assert done([first, second]) == [True, False]
    time.now += LONG
    await settle()
    assert second.done()


def test_a_loop_that_is_closed_lets_go_of_all_who_waited_there() -> None:
    """As it does where each has a timer of its own: a job that nobody follows is left."""
    waits, left = SharedWaits(), list[str]()

    async def wait() -> None:
        try:
            await waits.sleep(LONG)
        finally:
            left.append("left")

    async def begin() -> None:
        tasks = [asyncio.ensure_future(wait()) for _ in range(3)]
        for task in tasks:
            vars(asyncio.get_running_loop()).setdefault("kept", WeakSet()).add(task)
        await settle()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    tasks: WeakSet[asyncio.Task[None]] = vars(loop)["kept"]
    loop.set_exception_handler(lambda *_: None)  # it says that tasks were thrown away
    loop.close()
    gc.collect()
    assert (len(tasks), left) == (0, ["left"] * 3)


async def test_a_wait_that_is_thrown_away_leaves_no_timer() -> None:
    """As the garbage collector does with what nobody awaits any more."""
    wait = SharedWaits().sleep(LONG)
    wait.send(None)
    assert len(live_timers()) == 1
    wait.close()
    assert live_timers() == []


async def test_jobs_of_one_loop_share_timers(time: LoopTime) -> None:
    """The driver waits so: thousands of jobs wait at a time."""

    def flow() -> JobFlow:
        yield Step(None, LONG, None)
        raise LookupError

    connection = connect("http://127.0.0.1:9", SecretStr("no-key-of-anyone"), 1)

    async def follow() -> None:
        async for _ in run(flow(), connection, Surroundings(MemoryLedger())):
            pass

    tasks = [asyncio.create_task(follow()) for _ in range(20)]
    await settle()
    assert len(live_timers()) == 1
    time.now += LONG
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in told] == [LookupError] * 20
