"""Jobs that the service calls back for, from create to the last query."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from both_drivers import DRIVERS, Caller
from quick_flux import flux_on
from screenplay import MODEL, REQUEST, Clock, here
from transcripts import CREATED, RUNNING, SUCCEEDED

from langchain_shortapi_flux import CallbackReceiver, JobTimeout, PollPolicy
from langchain_shortapi_flux.flow_steps import Order, Step
from langchain_shortapi_flux.follow_flow import BACKSTOP_FACTOR
from langchain_shortapi_flux.http_acts import HttpRequest
from langchain_shortapi_flux.job_flow import buy_job
from langchain_shortapi_flux.learned_delay import LearnedDelays
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from langchain_shortapi_flux.flow_steps import Answer

NEVER_BY_ITSELF = PollPolicy.fixed(1000.0)
ORDER = Order(REQUEST, MODEL)


def queries(sandbox: Sandbox) -> int:
    return sum(call.on == "query" for call in sandbox.calls)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_call_ends_the_wait(driver: str, receiver: CallbackReceiver) -> None:
    """Polling alone would not have looked for a quarter of an hour."""
    with Sandbox(job_seconds=0.05) as sandbox:
        flux = flux_on(sandbox, callback_receiver=receiver, poll=NEVER_BY_ITSELF, timeout=3000.0)
        job = Caller(driver, flux).invoke("a fox")
        assert (job.status, job.queries, queries(sandbox)) == ("succeeded", 1, 1)
    assert receiver.waiting == 0


def test_a_batch_of_calls(receiver: CallbackReceiver) -> None:
    """One query for each job."""
    with Sandbox(job_seconds=0.05) as sandbox:
        flux = flux_on(sandbox, callback_receiver=receiver, poll=NEVER_BY_ITSELF, timeout=3000.0)
        jobs = flux.batch([f"fox {number}" for number in range(40)])
        assert {job.queries for job in jobs} == {1}
    assert receiver.waiting == 0


def test_each_job_gets_a_url_of_its_own(receiver: CallbackReceiver, sandbox: Sandbox) -> None:
    """Nobody can guess it, and it is in no snapshot."""
    flux = flux_on(sandbox, callback_receiver=receiver)
    jobs = flux.batch(["a fox", "an owl"])
    urls = {record.callback_url for record in sandbox.jobs}
    assert len(urls) == 2
    tokens = [str(url).rpartition("/")[2] for url in urls]
    assert all(len(token) >= 22 for token in tokens)
    assert not any(token in repr(job) for token in tokens for job in jobs)


async def test_forged_calls_cost_a_few_queries_at_most(receiver: CallbackReceiver) -> None:
    """Somebody who learned the URL calls it again and again; the job is not done."""
    with Sandbox(job_seconds=0.0) as sandbox:
        sandbox.inject(Fault("create", "job_never_ends"))
        flux = flux_on(sandbox, callback_receiver=receiver, poll=NEVER_BY_ITSELF, timeout=3000.0)
        waiting = asyncio.create_task(flux.ainvoke("a fox"))
        while receiver.waiting == 0 or not sandbox.jobs:  # noqa: ASYNC110 - of another thread
            await asyncio.sleep(0.005)
        async with aiohttp.ClientSession() as session:
            for _ in range(50):
                async with session.post(str(sandbox.jobs[0].callback_url), data=b"{}") as reply:
                    assert reply.status == 204
        assert queries(sandbox) <= 3
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert receiver.waiting == 0


def test_a_deadline_ends_a_wait_for_a_call(receiver: CallbackReceiver, sandbox: Sandbox) -> None:
    """Nobody calls."""
    sandbox.inject(Fault("create", "job_never_ends"))
    flux = flux_on(sandbox, callback_receiver=receiver, timeout=0.3)
    with pytest.raises(JobTimeout):
        flux.invoke("a fox")
    assert receiver.waiting == 0


def test_a_url_of_the_users_own_stays(receiver: CallbackReceiver, sandbox: Sandbox) -> None:
    """Their server takes the call, and may hand its body on to ``receiver.handle``."""
    mine = "http://127.0.0.1:9/mine"
    flux = flux_on(sandbox, callback_receiver=receiver, callback_url=mine)
    flux.invoke("a fox")
    assert [record.callback_url for record in sandbox.jobs] == [mine]


def test_a_handed_on_body_wakes_the_job_that_it_names(receiver: CallbackReceiver) -> None:
    """Without a token, by the job's id."""
    with Sandbox(job_seconds=0.0) as sandbox:
        sandbox.inject(Fault("create", "job_never_ends"))
        flux = flux_on(sandbox, callback_receiver=receiver, poll=NEVER_BY_ITSELF, timeout=3000.0)
        got: list[Any] = []
        waiting = threading.Thread(target=lambda: got.append(flux.invoke("a fox")))
        waiting.start()
        while not receiver._by_job:
            waiting.join(0.005)
        sandbox.finish()
        asyncio.run(receiver.handle({"id": sandbox.jobs[0].job_id, "status": 2}))
        waiting.join()
        assert [job.status for job in got] == ["succeeded"]


def test_a_receiver_that_stops_leaves_its_jobs_to_polling() -> None:
    """No call can come any more, so nobody waits for one."""
    with Sandbox(job_seconds=0.2) as sandbox:
        slow = PollPolicy(first_delay=0.3, gap_min=0.05, learn=False)
        with CallbackReceiver() as receiver:
            flux = flux_on(sandbox, callback_receiver=receiver, poll=slow)
            jobs = flux.stream({"prompt": "a fox"})
            next(jobs)
            (expected,) = receiver._by_token.values()
        assert not expected.told
        assert expected.doorbell.rung
        assert list(jobs)[-1].status == "succeeded"


def test_polling_is_as_quick_as_ever_where_the_url_is_the_users_own() -> None:
    """The service was told another one, and nobody may hand its calls on."""
    waits, _ = _waits(CREATED, RUNNING, SUCCEEDED, told=False)
    assert waits == [2.0, 0.4]


# --- on paper -----------------------------------------------------------------------------------


def _waits(
    *answers: Answer, calls_at: int | None = None, timeout: float = 300.0, told: bool = True
) -> tuple[list[float], list[Step]]:
    """The waits of a job that expects a call, which comes during the wait of that number."""
    receiver, clock = CallbackReceiver("https://my.host/flux"), Clock()
    expected = receiver.expect()
    assert expected is not None
    expected.told = told
    flow = buy_job(ORDER, here(clock, expected=expected, timeout=timeout))
    waits: list[float] = []
    steps: list[Step] = []
    answer: Answer | None = None
    said = iter(answers)
    try:
        while True:
            step = flow.send(answer)
            steps.append(step)
            answer = None
            if step.bell is not None:
                waits.append(round(step.wait, 3))
                if len(waits) == calls_at:
                    expected.ring()
                else:
                    clock.pass_by(step.wait)
            if isinstance(step.act, HttpRequest):
                answer = next(said)
    except StopIteration:
        return waits, steps


def test_polling_goes_on_slower_while_a_call_is_expected() -> None:
    """Calls are known not to come at times, so nobody waits for them alone."""
    waits, _ = _waits(CREATED, RUNNING, SUCCEEDED)
    assert waits == [2.0 * BACKSTOP_FACTOR, pytest.approx(0.8 * BACKSTOP_FACTOR)]


def test_after_a_call_polling_is_as_quick_as_ever() -> None:
    """It said "done" a moment before the query did."""
    waits, _ = _waits(CREATED, RUNNING, SUCCEEDED, calls_at=1)
    assert waits == [2.0 * BACKSTOP_FACTOR, 0.4]


def test_a_call_before_the_last_look_does_not_end_the_wait() -> None:
    """The deadline is as far away as before."""
    waits, _ = _waits(CREATED, RUNNING, RUNNING, SUCCEEDED, calls_at=1, timeout=4.0)
    assert waits[0] == 3.0
    assert len(waits) == 3


def test_every_wait_of_the_job_can_be_rung_and_no_other() -> None:
    """Waits before create are not cut short by a call about a job that does not exist."""
    _, steps = _waits(CREATED, RUNNING, SUCCEEDED)
    assert [step.bell is not None for step in steps if step.wait] == [True, True]


# --- the learned first delay ----------------------------------------------------------------------


def _first_wait(learned: LearnedDelays, seconds: float, clock: Clock, poll: PollPolicy) -> float:
    """When a job of that length is first queried; what it teaches is taken in."""
    began = clock()
    flow = buy_job(ORDER, here(clock, learned=learned, poll=poll))
    first: float | None = None
    answer: Answer | None = None
    try:
        while True:
            step = flow.send(answer)
            clock.pass_by(step.wait)
            answer = None
            if isinstance(step.act, HttpRequest):
                created = step.act.path.endswith("create")
                done = clock() - began >= seconds
                answer = CREATED if created else SUCCEEDED if done else RUNNING
                if not created and first is None:
                    first = clock() - began
    except StopIteration:
        pass
    assert first is not None
    return first


def test_jobs_teach_when_the_next_ones_are_first_queried() -> None:
    """Up with slow jobs, and down again with quick ones."""
    learned, clock, poll = LearnedDelays(), Clock(), PollPolicy()
    slow = [_first_wait(learned, 15.0, clock, poll) for _ in range(10)]
    assert slow[0] == poll.first_delay
    assert 9.0 < slow[-1] <= 15.0
    quick = [_first_wait(learned, 1.0, clock, poll) for _ in range(20)]
    assert quick[-1] <= 1.1


def test_a_policy_that_does_not_learn_stays_as_it_is() -> None:
    """And teaches the others nothing."""
    learned, clock, poll = LearnedDelays(), Clock(), PollPolicy.fixed(2.0)
    assert [_first_wait(learned, 15.0, clock, poll) for _ in range(10)] == [2.0] * 10
    assert learned.snapshot() == []


def test_kinds_of_jobs_learn_apart() -> None:
    """Eight pictures say nothing about one."""
    learned, clock = LearnedDelays(), Clock()
    for _ in range(10):
        _first_wait(learned, 15.0, clock, PollPolicy())
    (known,) = learned.snapshot()
    assert (known["performance"], known["num_images"], known["model"]) == ("schnell", 1, MODEL)
    assert known["jobs_seen"] == 10
