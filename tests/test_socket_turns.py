"""Turns at sockets: in order, no more than there are, no longer than asked, none lost."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from loop_waits import done, live_timers, settle

from langchain_shortapi_flux.socket_turns import LOOK_SECONDS, SocketTurns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LONG = 60.0


@pytest.fixture
async def taken() -> AsyncIterator[SocketTurns]:
    """Turns at one socket, which somebody has."""
    turns = SocketTurns(1)
    await turns.take(LONG)
    yield turns
    turns.close()


async def waiting(
    turns: SocketTurns, count: int, seconds: float = LONG
) -> list[asyncio.Task[float]]:
    """So many who wait, in this order."""
    tasks = [asyncio.create_task(turns.take(seconds)) for _ in range(count)]
    await settle()
    return tasks


async def test_as_many_as_there_are_sockets_have_a_turn_at_once() -> None:
    """And nothing of their time is gone."""
    turns = SocketTurns(2)
    tasks = await waiting(turns, 3)
    assert done(tasks) == [True, True, False]
    assert await tasks[0] == await tasks[1] == LONG
    turns.give_back()
    assert 0 < await tasks[2] < LONG
    turns.close()


async def test_turns_are_had_in_the_order_in_which_they_were_asked_for(taken: SocketTurns) -> None:
    """Who comes later does not come first, also where a turn is free for a moment."""
    tasks = await waiting(taken, 3)
    taken.give_back()
    late = asyncio.create_task(taken.take(LONG))
    for number in range(3):
        await settle()
        assert done([*tasks, late]) == [*(place <= number for place in range(3)), False]
        taken.give_back()
    await late


async def test_a_wait_ends_when_its_time_is_over(taken: SocketTurns) -> None:
    """The shortest first, though it came last; the others wait on, and none takes a turn along."""
    long, short, middle = [asyncio.create_task(taken.take(each)) for each in (LONG, 0.01, 0.05)]
    with pytest.raises(TimeoutError):
        await short
    with pytest.raises(TimeoutError):
        await middle
    assert not long.done()
    taken.give_back()
    await long
    taken.give_back()
    assert await taken.take(LONG) == LONG


async def test_a_turn_that_comes_after_its_time_is_not_taken(taken: SocketTurns) -> None:
    """A create would go out after its deadline, with no time to be answered."""
    loop = asyncio.get_running_loop()
    (late,) = await waiting(taken, 1, 0.1)
    (other,) = await waiting(taken, 1)
    loop.call_later(0.001, taken.give_back)
    time.sleep(0.15)  # noqa: ASYNC251 - the turn is given and the time over in one turn of the loop
    with pytest.raises(TimeoutError):
        await late
    assert 0 < await other < LONG


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_who_has_no_time_has_no_turn(seconds: float) -> None:
    """Also where one is free."""
    turns = SocketTurns(1)
    with pytest.raises(TimeoutError):
        await turns.take(seconds)
    assert await turns.take(LONG) == LONG


async def test_who_leaves_is_forgotten_at_once(taken: SocketTurns) -> None:
    """Callers that give up on a service that hangs, and come again, must not add up."""
    for task in await waiting(taken, 100):
        task.cancel()
    await settle()
    assert not taken._waiting


async def test_looks_for_what_is_over_are_few(taken: SocketTurns) -> None:
    """Each goes through all who wait, and thousands may have a deadline of their own each."""
    loop = asyncio.get_running_loop()
    looks, look = [0.0], taken._look

    def noted() -> None:
        looks.append(loop.time())
        look()

    taken._look = noted  # type: ignore[method-assign]
    tasks = [asyncio.create_task(taken.take(0.001 * number)) for number in range(1, 100)]
    await asyncio.wait(tasks)
    assert all(isinstance(task.exception(), TimeoutError) for task in tasks)
    gaps = [later - before for before, later in pairwise(looks)]
    assert min(gaps[1:]) >= LOOK_SECONDS * 0.9


@pytest.mark.parametrize("given", [False, True], ids=["before its turn", "with its turn"])
async def test_a_turn_of_one_who_leaves_goes_to_the_next(taken: SocketTurns, given: bool) -> None:
    """Cancelled while it waits, or just when the turn was given and it had not noticed yet."""
    first, second = await waiting(taken, 2)
    if given:
        taken.give_back()
    first.cancel()
    await settle()
    assert first.cancelled()
    assert second.done() == given
    if not given:
        taken.give_back()
        await second


async def test_one_who_leaves_when_its_time_was_over_gives_no_turn_away(taken: SocketTurns) -> None:
    """It never had one: two at one socket would be one too many."""
    (late,) = await waiting(taken, 1, 0.1)
    (other,) = await waiting(taken, 1)
    asyncio.get_running_loop().call_later(0.101, late.cancel)
    time.sleep(0.15)  # noqa: ASYNC251 - both come due in one turn of the loop, one after the other
    with pytest.raises(asyncio.CancelledError):
        await late
    await settle()
    assert not other.done()
    other.cancel()


async def test_one_timer_serves_all_who_wait_and_none_is_left(taken: SocketTurns) -> None:
    """Thousands of cancelled timers in the loop's heap are what this is made to avoid."""
    before = len(live_timers())
    tasks = await waiting(taken, 500)
    assert len(live_timers()) == before + 1
    for task in tasks:
        task.cancel()
    taken.close()
    assert len(live_timers()) == before
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_no_turn_is_lost_and_none_is_had_twice(seed: int) -> None:
    """Hundreds come, wait, leave and time out, all mixed."""
    dice, turns, sockets = random.Random(seed), SocketTurns(3), 3
    at_once = most = served = 0

    async def one() -> None:
        nonlocal at_once, most, served
        with suppress(TimeoutError):
            await turns.take(dice.choice([0.0, 0.001, LONG]))
            at_once += 1
            most, served = max(most, at_once), served + 1
            try:
                await asyncio.sleep(dice.choice([0, 0, 0.0005]))
            finally:
                at_once -= 1
                turns.give_back()

    tasks = [asyncio.create_task(one()) for _ in range(200)]
    for _ in range(100):
        await asyncio.sleep(0)
        dice.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (at_once, most) == (0, sockets)
    assert served > sockets
    free = [asyncio.create_task(turns.take(LONG)) for _ in range(sockets + 1)]
    await settle()
    assert done(free) == [*[True] * sockets, False]
    free[-1].cancel()
    turns.close()
