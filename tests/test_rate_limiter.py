"""LangChain's rate limiters: one turn before each create, none before a query, none too late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from both_drivers import DRIVERS, Caller
from langchain_core.rate_limiters import BaseRateLimiter
from quick_flux import flux_on
from screenplay import MODEL, REQUEST, Clock, here
from transcripts import CREATED, TOO_MANY

from langchain_shortapi_flux import ConfigurationError, MemoryLedger, RateLimited
from langchain_shortapi_flux.flow_steps import Acquire, Order, Turn
from langchain_shortapi_flux.http_acts import HttpRequest
from langchain_shortapi_flux.job_flow import create_job
from langchain_shortapi_flux.sandbox import Fault
from langchain_shortapi_flux.surroundings import TURN_LOOK_SECONDS, Surroundings

if TYPE_CHECKING:
    from langchain_shortapi_flux.flow_steps import Answer, Step
    from langchain_shortapi_flux.sandbox import Sandbox

ORDER = Order(REQUEST, MODEL)


class Turns(BaseRateLimiter):
    """Has so many turns to give, and notes how it was asked; who waits for more waits for ever."""

    def __init__(self, turns: int, *, looks_before: int = 0) -> None:
        self.turns, self.looks_before = turns, looks_before
        self.asked: list[str] = []

    def acquire(self, *, blocking: bool = True) -> bool:
        assert not blocking, "a thread must not be held beyond a deadline"
        self.asked.append("look")
        if self.looks_before:
            self.looks_before -= 1
            return False
        self.turns -= 1
        return self.turns >= 0

    async def aacquire(self, *, blocking: bool = True) -> bool:
        self.asked.append("wait" if blocking else "look")
        self.turns -= 1
        if self.turns < 0:
            await asyncio.Event().wait()
        return True


def creates(sandbox: Sandbox) -> int:
    """How often create was called."""
    return [call.on for call in sandbox.calls].count("create")


# --- through both drivers -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["batch", "abatch", "ainvoke", "astream"])
def test_on_an_event_loop_a_limiter_is_asked_once_for_each_create(
    how: str, sandbox: Sandbox
) -> None:
    """One that counts its calls, or bills them, sees as many as there are creates."""
    sandbox.inject(Fault("create", "rate_limited"), Fault("query", "error", times=3))
    limiter = Turns(100)
    flux = flux_on(sandbox, rate_limiter=limiter)

    async def streamed() -> None:
        async for _ in flux.astream("a fox"):
            pass

    if how == "batch":
        flux.batch(["a fox"] * 5)
    elif how == "abatch":
        asyncio.run(flux.abatch(["a fox"] * 5))
    else:
        asyncio.run(streamed() if how == "astream" else flux.ainvoke("a fox"))
    assert limiter.asked == ["wait"] * creates(sandbox)
    assert creates(sandbox) == len(sandbox.charges) + 1


def test_blocking_code_looks_until_it_is_given_a_turn(sandbox: Sandbox) -> None:
    """It is not held inside of the limiter, where nothing could call it back."""
    limiter = Turns(100, looks_before=2)
    limiter.check_every_n_seconds = 0.01  # type: ignore[attr-defined]
    flux_on(sandbox, rate_limiter=limiter).invoke("a fox")
    assert limiter.asked == ["look"] * 3
    assert creates(sandbox) == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_turn_that_does_not_come_in_time_creates_nothing(driver: str, sandbox: Sandbox) -> None:
    """A deadline never starts work; nothing is left that would take the turn later."""
    limiter = Turns(0)
    caller = Caller(driver, flux_on(sandbox, rate_limiter=limiter, timeout=0.25))
    with pytest.raises(
        RateLimited, match=r"gave no turn within 0.25 s; nothing was sent"
    ) as caught:
        caller.invoke("a fox")
    assert (caught.value.charge, caught.value.is_retryable) == ("none", True)
    assert sandbox.calls == ()


async def test_a_job_that_is_cancelled_at_the_limiter_leaves_its_key_free(
    sandbox: Sandbox,
) -> None:
    """Cancellation passes through, and nothing was under way."""
    limiter = Turns(0)
    flux = flux_on(sandbox, rate_limiter=limiter)
    waiting = asyncio.create_task(flux.ainvoke("a fox", request_key="one"))
    while not limiter.asked:  # noqa: ASYNC110 - a limiter sets no event
        await asyncio.sleep(0.005)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert isinstance(flux.ledger, MemoryLedger)
    assert len(flux.ledger) == 0
    limiter.turns = 1
    assert (await flux.ainvoke("a fox", request_key="one")).status == "succeeded"


class Broken(Turns):
    """Raises instead."""

    def __init__(self, error: Exception) -> None:
        super().__init__(0)
        self.error = error

    def acquire(self, *, blocking: bool = True) -> bool:
        raise self.error

    async def aacquire(self, *, blocking: bool = True) -> bool:
        raise self.error


@pytest.mark.parametrize("error", [OSError("redis://me:horse@host"), TimeoutError("its own")])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_limiter_that_breaks_is_no_turn(driver: str, error: Exception, sandbox: Sandbox) -> None:
    """Its own time-out is its own affair, and its words may hold a password."""
    caller = Caller(driver, flux_on(sandbox, rate_limiter=Broken(error)))
    with pytest.raises(ConfigurationError, match=type(error).__name__) as caught:
        caller.invoke("a fox")
    assert "horse" not in str(caught.value)
    assert sandbox.calls == ()


# --- on paper -------------------------------------------------------------------------------------


def steps_of(turns: list[Turn], timeout: float = 60.0) -> tuple[list[Step], BaseException | None]:
    """The steps of a create with a limiter that says so; the create itself is refused at first."""
    clock = Clock()
    flow = create_job(ORDER, here(clock, limited=True, timeout=timeout))
    steps: list[Step] = []
    answer: Answer | None = None
    said, replies = iter(turns), iter([TOO_MANY, CREATED])
    try:
        while True:
            steps.append(step := flow.send(answer))
            clock.pass_by(step.wait)
            answer = None
            if isinstance(step.act, Acquire):
                answer = next(said)
            elif isinstance(step.act, HttpRequest):
                answer = next(replies)
    except StopIteration:
        return steps, None
    except Exception as error:  # noqa: BLE001 - what it was is what the test asks
        return steps, error


def test_each_create_that_is_sent_has_asked_once() -> None:
    """The second try as well."""
    steps, error = steps_of([Turn(granted=True)] * 2)
    assert error is None
    asked = [step.act for step in steps if isinstance(step.act, Acquire)]
    assert [act.time_left for act in asked] == [60.0, 60.0 - 1.125]


def test_a_limiter_that_can_be_asked_again_is_asked_after_its_own_pause() -> None:
    """As long as there is time for it."""
    steps, error = steps_of([Turn(granted=False, again=0.25)] * 9, timeout=1.1)
    assert isinstance(error, RateLimited)
    assert [step.wait for step in steps] == [0.0, 0.25, 0.25, 0.25, 0.25]
    left = [step.act.time_left for step in steps if isinstance(step.act, Acquire)]
    assert left == pytest.approx([1.1, 0.85, 0.6, 0.35, 0.1])


def test_a_limiter_that_gives_up_is_not_asked_again() -> None:
    """It was waited for already, or has a limit of its own."""
    steps, error = steps_of([Turn(granted=False)])
    assert isinstance(error, RateLimited)
    assert len(steps) == 1


def test_a_driver_that_answers_nonsense_for_a_turn_is_told_so() -> None:
    """A bug in a driver must not pass for a turn."""
    flow = create_job(ORDER, here(Clock(), limited=True))
    next(flow)
    with pytest.raises(TypeError, match="a driver answered Acquire with NoneType"):
        flow.send(None)


@pytest.mark.parametrize(
    ("own", "seconds"),
    [(None, TURN_LOOK_SECONDS), (0.02, 0.02), (5, 5), (0, 0.001), (-1, 0.001), ("x", 0.1)],
)
def test_how_often_blocking_code_looks(own: Any, seconds: float) -> None:
    """As often as the limiter itself would; never without a pause."""
    limiter = Turns(0)
    if own is not None:
        limiter.check_every_n_seconds = own  # type: ignore[attr-defined]
    turn = Surroundings(MemoryLedger(), limiter).perform(Acquire(10.0))
    assert turn == Turn(granted=False, again=seconds)


async def test_a_limiter_is_waited_for_no_longer_than_there_is_time() -> None:
    """It says nothing of itself."""
    surroundings = Surroundings(MemoryLedger(), Turns(0))
    turn = await asyncio.wait_for(surroundings.aperform(Acquire(0.01)), 3.0)
    assert turn == Turn(granted=False)


def test_without_a_limiter_there_is_always_a_turn() -> None:
    """In both worlds."""
    nobody = Surroundings(MemoryLedger())
    assert nobody.perform(Acquire(1.0)) == Turn(granted=True)
    assert asyncio.run(nobody.aperform(Acquire(1.0))) == Turn(granted=True)
