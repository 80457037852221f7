"""Many jobs at once: all in flight together, all settled, nothing paid for is lost."""

from __future__ import annotations

import asyncio
import pickle
import signal
import threading
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.prompts import PromptTemplate
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables.config import var_child_runnable_config
from quick_flux import flux_on

from langchain_shortapi_flux import (
    BatchFailed,
    ConfigurationError,
    CreateOutcomeUnknown,
    FluxJob,
    FluxJobs,
    InvalidRequest,
    JobFailed,
    MemoryLedger,
    RateLimited,
    RetryLimits,
    ShortAPIFlux,
)
from langchain_shortapi_flux.batch import STARTED_TOGETHER, Batch
from langchain_shortapi_flux.run_progress import current_batch
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.runnables import RunnableConfig

    from langchain_shortapi_flux.ledger import Entry

PROMPTS = [f"fox number {number}" for number in range(30)]
HOWS = ("batch", "abatch", "batch_as_completed", "abatch_as_completed")


def call(flux: Any, how: str, inputs: list[Any], config: Any = None, **options: Any) -> list[Any]:
    """Every outcome in input order, by whichever of the four ways."""

    async def run() -> list[Any]:
        if how == "abatch":
            return list(await flux.abatch(inputs, config, **options))
        pairs = flux.abatch_as_completed(inputs, config, **options)
        return _in_order([pair async for pair in pairs])

    if how == "batch":
        return list(flux.batch(inputs, config, **options))
    if how == "batch_as_completed":
        return _in_order(list(flux.batch_as_completed(inputs, config, **options)))
    return asyncio.run(run())


def _in_order(pairs: list[tuple[int, Any]]) -> list[Any]:
    places = [place for place, _ in pairs]
    assert sorted(places) == list(range(len(pairs)))
    return [outcome for _, outcome in sorted(pairs, key=lambda pair: pair[0])]


def creates(sandbox: Sandbox) -> int:
    return sum(call.on == "create" for call in sandbox.calls)


def held(flux: ShortAPIFlux) -> dict[str, Entry]:
    """What the ledger knows of jobs that have not ended."""
    assert isinstance(flux.ledger, MemoryLedger)
    return flux.ledger._open


class InFlight(BaseCallbackHandler):
    """Counts how many runs there are at a time."""

    run_inline = True

    def __init__(self, at: Callable[[int], None] = lambda _: None) -> None:
        self.now, self.peak, self.at = 0, 0, at
        self.lock = threading.Lock()

    def on_chain_start(self, *_: Any, **__: Any) -> None:
        with self.lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
        self.at(self.now)

    def on_chain_end(self, *_: Any, **__: Any) -> None:
        with self.lock:
            self.now -= 1


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No thread is there afterwards that was not before."""
    before = set(threading.enumerate())
    yield
    assert [thread.name for thread in set(threading.enumerate()) - before] == []


# --- together -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
def test_every_input_gets_its_job_in_its_place(
    sandbox: Sandbox, how: str, nothing_left: None
) -> None:
    """Blocking and async, at once and as they come."""
    jobs = call(flux_on(sandbox), how, PROMPTS)
    assert [job.request.prompt for job in jobs] == PROMPTS
    assert {job.status for job in jobs} == {"succeeded"}
    assert len(sandbox.charges) == len(PROMPTS)
    assert {job.job_id for job in jobs} == {job.job_id for job in sandbox.jobs}


@pytest.mark.parametrize("how", HOWS)
def test_all_jobs_are_in_flight_together(sandbox: Sandbox, how: str) -> None:
    """None ends before the last one was bought: in turns this would never end."""
    sandbox.inject(Fault("create", "job_never_ends", times=len(PROMPTS)))

    def finish_once_all_are_there() -> None:
        while len(sandbox.jobs) < len(PROMPTS):
            all_there.wait(0.005)
        sandbox.finish()

    all_there = threading.Event()
    finisher = threading.Thread(target=finish_once_all_are_there)
    finisher.start()
    try:
        jobs = call(flux_on(sandbox), how, PROMPTS)
    finally:
        finisher.join()
    assert {job.status for job in jobs} == {"succeeded"}


async def test_a_batch_leaves_nothing_in_its_callers_context(sandbox: Sandbox) -> None:
    """Runs that come after it, or between its jobs, do not belong to it."""
    async for _ in flux_on(sandbox).abatch_as_completed(PROMPTS):
        assert (current_batch.get(), var_child_runnable_config.get()) == (None, None)
    assert (current_batch.get(), var_child_runnable_config.get()) == (None, None)


class Crowd:
    """Buys jobs that end when they are let, and knows in which turn of the loop each was begun."""

    def __init__(self) -> None:
        self.turn, self.begun_in, self.may_end = 0, list[int](), asyncio.Event()

    async def buy(self, input: Any, config: Any, see: Callable[[FluxJob], None]) -> FluxJob:
        del config
        self.begun_in.append(self.turn)
        job = FluxJob(job_id=input, status="succeeded")
        see(job)
        await self.may_end.wait()
        return job

    async def begin(self, batch: Batch, turns: int) -> asyncio.Task[FluxJobs]:
        """Run the batch for so many turns."""
        running = asyncio.create_task(batch.run(return_exceptions=False))
        for self.turn in range(turns):
            await asyncio.sleep(0)
        return running


MANY = [str(number) for number in range(4 * STARTED_TOGETHER + 1)]


async def test_others_on_the_loop_have_their_turn_while_many_jobs_are_started() -> None:
    """Some in each turn, and all of them in the end, in their places."""
    crowd = Crowd()
    running = await crowd.begin(Batch(MANY, None, crowd.buy), 10)
    begun = [crowd.begun_in.count(turn) for turn in sorted(set(crowd.begun_in))]
    assert begun == [STARTED_TOGETHER] * 4 + [1]
    crowd.may_end.set()
    assert [job.job_id for job in await running] == MANY


async def test_a_batch_that_is_left_while_it_starts_starts_no_more() -> None:
    """Those that were bought are named, and the others never begin."""
    crowd = Crowd()
    running = await crowd.begin(Batch(MANY, None, crowd.buy), 3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    left = caught.value.__cause__
    assert isinstance(left, BatchFailed)
    assert [job.job_id for job in left.left.values()] == MANY[: len(crowd.begun_in)]
    assert 0 < len(crowd.begun_in) < len(MANY)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_job_that_ends_the_batch_while_it_starts_ends_the_starting() -> None:
    """What is no ``Exception``: a handler of the caller's own may raise it."""
    begun: list[str] = []

    async def buy(input: Any, config: Any, see: Any) -> FluxJob:
        del config, see
        begun.append(input)
        if input == MANY[0]:
            raise asyncio.CancelledError
        return await asyncio.Future()

    with pytest.raises(asyncio.CancelledError):
        await Batch(MANY, None, buy).run(return_exceptions=False)
    assert begun == MANY[:STARTED_TOGETHER]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_becomes_of_the_callers_list_does_not_matter() -> None:
    """It was read when the batch was asked for."""
    crowd, inputs = Crowd(), list(MANY)
    running = await crowd.begin(Batch(inputs, None, crowd.buy), 3)
    inputs.clear()
    crowd.may_end.set()
    assert [job.job_id for job in await running] == MANY


@pytest.mark.parametrize("heard", [True, False])
async def test_each_job_has_its_context_whenever_it_is_started(heard: bool) -> None:
    """The batch it belongs to; and where it is no run of its own, what a run would hand down."""
    seen: list[tuple[object, object]] = []

    async def buy(input: Any, config: Any, see: Any) -> FluxJob:
        del config, see
        seen.append((current_batch.get(), var_child_runnable_config.get()))
        return FluxJob(job_id=input, status="succeeded")

    config: RunnableConfig = {"configurable": {"request_key": "k"}, "run_id": uuid4()}
    with pytest.warns(RuntimeWarning, match="run_id"):  # LangChain says that it is the first's
        batch = Batch(MANY, config, buy, heard=heard)
    await batch.run(return_exceptions=False)
    (size,) = {size for size, _ in seen}
    assert size is not None
    assert len(seen) == len(MANY)
    for _, own in seen:
        if heard:
            assert own is None
        else:
            assert isinstance(own, dict)
            assert own["configurable"] == {"request_key": "k"}
            assert "run_id" not in own


@pytest.mark.parametrize("heard", [True, False])
async def test_a_batch_whose_tasks_cannot_be_made_leaves_none_behind(heard: bool) -> None:
    """The loop's owner may make tasks in its own way, and that way may fail."""
    crowd, loop = Crowd(), asyncio.get_running_loop()
    tasks: list[asyncio.Task[Any]] = []

    def make(loop: asyncio.AbstractEventLoop, job: Any, **options: Any) -> asyncio.Task[Any]:
        if len(tasks) == STARTED_TOGETHER + 1:
            job.close()
            raise MemoryError
        tasks.append(asyncio.Task(job, loop=loop, **options))
        return tasks[-1]

    loop.set_task_factory(make)
    try:
        with pytest.raises(MemoryError):
            await Batch(MANY, None, crowd.buy, heard=heard).run(return_exceptions=False)
    finally:
        loop.set_task_factory(None)
    assert all(task.done() for task in tasks)
    assert (current_batch.get(), var_child_runnable_config.get()) == (None, None)


@pytest.mark.parametrize("how", HOWS)
def test_max_concurrency_is_honoured(sandbox: Sandbox, how: str) -> None:
    """Three at a time, and all of them in the end."""
    handler = InFlight()
    config = {"max_concurrency": 3, "callbacks": [handler]}
    assert len(call(flux_on(sandbox), how, PROMPTS, config)) == len(PROMPTS)
    assert handler.peak == 3


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("handlers", [[], [InFlight()]])
def test_one_config_holds_for_all(sandbox: Sandbox, how: str, handlers: list[InFlight]) -> None:
    """Its key, too, whether or not anybody hears of the jobs."""
    config = {"configurable": {"request_key": "one"}, "callbacks": handlers}
    jobs = call(flux_on(sandbox), how, ["a fox"] * 3, config)
    assert len({job.job_id for job in jobs}) == len(sandbox.charges) == 1


@pytest.mark.parametrize("how", HOWS)
def test_no_input_is_no_job(sandbox: Sandbox, how: str) -> None:
    """As in LangChain."""
    assert call(flux_on(sandbox), how, []) == []
    assert creates(sandbox) == 0


async def test_the_blocking_batch_works_where_a_loop_is_running(sandbox: Sandbox) -> None:
    """As in a notebook's cell."""
    assert len(flux_on(sandbox).batch(PROMPTS[:3])) == 3


def test_each_job_has_its_own_config(sandbox: Sandbox) -> None:
    """One config for each input, and keyword options for all."""
    keys = [{"configurable": {"request_key": key}} for key in ("one", "two", "one")]
    flux = flux_on(sandbox)
    jobs = flux.batch(["a fox"] * 3, keys, aspect_ratio="16:9")  # type: ignore[arg-type]
    assert jobs[0].job_id == jobs[2].job_id != jobs[1].job_id
    assert {job.request.aspect_ratio for job in jobs if job.request} == {"16:9"}
    assert len(sandbox.charges) == 2


def test_a_chain_is_batched_through(sandbox: Sandbox) -> None:
    """``(prompt | flux).batch`` takes the same way."""
    chain = PromptTemplate.from_template("a {animal}") | flux_on(sandbox)
    jobs = chain.batch([{"animal": "fox"}, {"animal": "owl"}])
    assert [job.request.prompt for job in jobs if job.request] == ["a fox", "a owl"]


@pytest.mark.parametrize("how", ["batch", "abatch"])
async def test_what_a_batch_gives_shows_itself_as_one_gallery(sandbox: Sandbox, how: str) -> None:
    """Also where failures stand in their places, and where LangChain or a retry is around it."""
    flux = flux_on(sandbox)
    chain = PromptTemplate.from_template("a {animal}") | flux
    animals = [{"animal": "fox"}, {"animal": "owl"}]
    if how == "batch":
        galleries = [
            flux.batch(["a fox", ""], return_exceptions=True),
            flux.with_retry().batch(["a fox", "an owl"]),
            chain.batch(animals),
        ]
    else:
        galleries = [
            await flux.abatch(["a fox", ""], return_exceptions=True),
            await flux.with_retry().abatch(["a fox", "an owl"]),
            await chain.abatch(animals),
        ]
    for jobs in galleries:
        assert isinstance(jobs, FluxJobs)
        assert jobs._repr_mimebundle_()["text/plain"].startswith("2 jobs: ")
    assert "1 InvalidRequest" in FluxJobs(galleries[0])._repr_mimebundle_()["text/html"]


def test_several_loops_and_threads_at_once(sandbox: Sandbox, nothing_left: None) -> None:
    """One Runnable, used from everywhere."""
    flux, got = flux_on(sandbox), []
    threads = [
        threading.Thread(target=lambda how=how: got.extend(call(flux, how, PROMPTS)))
        for how in HOWS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.job_id for job in got}) == len(sandbox.charges) == 4 * len(PROMPTS)


# --- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
def test_one_failure_never_loses_the_others(sandbox: Sandbox, how: str) -> None:
    """All settle; the error carries every job and every failure, in input order."""
    inputs = ["a fox", "", "an owl", {"prompt": "a hare", "num_images": 3}]
    with pytest.raises(BatchFailed) as caught:
        call(flux_on(sandbox), how, inputs)
    failed = caught.value
    assert [type(outcome) for outcome in failed.outcomes] == [
        *(FluxJob, InvalidRequest, FluxJob, InvalidRequest),
    ]
    assert {place: job.request.prompt for place, job in failed.jobs.items() if job.request} == {
        0: "a fox",
        2: "an owl",
    }
    assert sorted(failed.failures) == [1, 3]
    assert "2 of 4 jobs have their pictures" in str(failed)
    assert "failed: 2 InvalidRequest" in str(failed)
    assert "[3] invalid request: num_images=3" in str(failed)
    assert (failed.charge, failed.is_retryable, failed.left) == ("charged", False, {})
    assert len(sandbox.charges) == 2


@pytest.mark.parametrize("how", HOWS)
def test_failures_come_in_their_place_where_that_is_asked_for(sandbox: Sandbox, how: str) -> None:
    """``return_exceptions``, as in LangChain."""
    sandbox.inject(Fault("create", "job_fails", info="moderated"))
    outcomes = call(flux_on(sandbox), how, ["a fox", "an owl", "a hare"], return_exceptions=True)
    failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert [type(error) for error in failed] == [JobFailed]
    assert sum(isinstance(outcome, FluxJob) for outcome in outcomes) == 2


def test_what_succeeds_is_given_before_a_failure_is_raised(sandbox: Sandbox) -> None:
    """Whoever takes jobs as they come has them, whatever becomes of the rest."""
    got: list[tuple[int, FluxJob]] = []
    with pytest.raises(BatchFailed):
        got.extend(flux_on(sandbox).batch_as_completed(["", "a fox", "an owl"]))
    assert sorted((place, job.status) for place, job in got) == [
        (1, "succeeded"),
        (2, "succeeded"),
    ]


def test_nothing_bought_is_nothing_charged(sandbox: Sandbox) -> None:
    """The error's charge is as bad as the worst of its parts."""
    flux = flux_on(sandbox)
    with pytest.raises(BatchFailed) as caught:
        flux.batch(["", " "])
    assert caught.value.charge == "none"
    sandbox.inject(Fault("create", "drop_after"))
    with pytest.raises(BatchFailed) as caught:
        flux.batch(["a fox"])
    assert caught.value.charge == "unknown"


def test_a_batch_that_failed_goes_to_another_process_whole(sandbox: Sandbox) -> None:
    """Pickled, it still carries everything."""
    with pytest.raises(BatchFailed) as caught:
        flux_on(sandbox).batch(["a fox", ""])
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.jobs == caught.value.jobs
    assert [str(error) for error in again.failures.values()] == [
        str(error) for error in caught.value.failures.values()
    ]


def test_a_batch_that_is_retried_buys_only_what_was_not_created(sandbox: Sandbox) -> None:
    """``with_retry`` asks for failures in place and repeats those that are safe to repeat."""
    sandbox.inject(Fault("create", "code_3000", times=4))
    retried = flux_on(sandbox).with_retry(wait_exponential_jitter=False)
    jobs = retried.batch(["a fox", "an owl", "a hare"], {"max_concurrency": 1})
    assert [job.status for job in jobs] == ["succeeded"] * 3
    assert len(sandbox.charges) == 3


@pytest.mark.parametrize("how", ["batch", "abatch"])
def test_a_retried_batch_judges_each_failure_by_itself(sandbox: Sandbox, how: str) -> None:
    """LangChain's own would repeat all that failed if the first of them may be repeated."""
    sandbox.inject(Fault("create", "rate_limited"), Fault("create", "drop_after"))
    once = RetryLimits(create_attempts=1, backoff_first=0.01)
    retried = flux_on(sandbox, retry=once).with_retry(wait_exponential_jitter=False)
    with pytest.raises(BatchFailed) as caught:
        call(retried, how, ["a fox", "an owl", "a hare"], {"max_concurrency": 1})
    assert [type(error) for error in caught.value.failures.values()] == [CreateOutcomeUnknown]
    assert len(caught.value.jobs) == 2
    assert len(sandbox.charges) == 3


@pytest.mark.parametrize("how", ["batch", "abatch"])
def test_a_batch_with_fallbacks_loses_nothing(sandbox: Sandbox, how: str) -> None:
    """What a fallback does not answer is told beside what has succeeded."""
    sandbox.inject(Fault("create", "drop_after"), Fault("create", "refuse"))
    flux = flux_on(sandbox)
    with pytest.raises(BatchFailed) as caught:
        call(flux.with_fallbacks([flux]), how, ["a fox", "an owl", "a hare"])
    assert [type(error) for error in caught.value.failures.values()] == [CreateOutcomeUnknown]
    assert len(caught.value.jobs) == 2


class Marks(BaseCallbackHandler):
    """Writes into what each run is told of its metadata."""

    def __init__(self) -> None:
        self.found: list[bool] = []
        self.run_ids: list[UUID] = []

    def on_chain_start(
        self, *_: Any, metadata: dict[str, Any] | None = None, run_id: UUID, **__: Any
    ) -> None:
        """The run of one job."""
        assert metadata is not None
        self.found.append("mark" in metadata)
        self.run_ids.append(run_id)
        metadata["mark"] = True


def test_runs_of_a_batch_share_nothing_that_can_be_written_to(sandbox: Sandbox) -> None:
    """However many there are, each has what it is told of to itself."""
    marks = Marks()
    config: RunnableConfig = {"callbacks": [marks], "metadata": {"own": 1}, "tags": ["mine"]}
    flux_on(sandbox).batch(["a fox"] * 5, config)
    assert marks.found == [False] * 5
    assert config == {"callbacks": [marks], "metadata": {"own": 1}, "tags": ["mine"]}


def test_a_run_id_is_the_first_jobs_alone(sandbox: Sandbox) -> None:
    """As in LangChain, which says so: two runs of one id would be one in a trace."""
    marks, run_id = Marks(), uuid4()
    with pytest.warns(RuntimeWarning, match="only for the first"):
        flux_on(sandbox).batch(["a fox"] * 3, {"callbacks": [marks], "run_id": run_id})
    assert len(set(marks.run_ids)) == 3
    assert run_id in marks.run_ids


class Breaks(BaseCallbackHandler):
    """A callback of the user's that fails once a job is done."""

    raise_error = run_inline = True

    def on_chain_end(self, *_: Any, **__: Any) -> None:
        raise ValueError("the handler broke")

    on_tool_end = on_chain_end


def test_a_callback_that_breaks_does_not_lose_the_job(sandbox: Sandbox) -> None:
    """It was paid for, and its pictures are there."""
    flux, config = flux_on(sandbox), {"callbacks": [Breaks()]}
    with pytest.raises(BatchFailed) as caught:
        call(flux, "batch", ["a fox"], config)
    assert caught.value.left[0].status == "succeeded"
    assert sandbox.jobs[0].job_id in str(caught.value)
    (error,) = call(flux, "batch", ["a fox"], config, return_exceptions=True)
    assert error.__notes__ == [f"job {sandbox.jobs[1].job_id} was bought: succeeded"]


# --- left early ---------------------------------------------------------------------------------


async def _all_bought(sandbox: Sandbox, count: int) -> None:
    while sum(call.on == "query" for call in sandbox.calls) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_batch_names_what_was_bought(sandbox: Sandbox, times: int) -> None:
    """In the error's cause, and in the ledger, though no job had a key."""
    sandbox.inject(Fault("create", "job_never_ends", times=5))
    flux = flux_on(sandbox)
    batch = asyncio.create_task(flux.abatch(PROMPTS[:5]))
    await _all_bought(sandbox, 50)
    for _ in range(times):
        batch.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError) as caught:
        await batch
    left = caught.value.__cause__
    assert isinstance(left, BatchFailed)
    ids = {job.job_id for job in sandbox.jobs}
    assert {job.job_id for job in left.left.values()} == ids
    assert all(job_id in str(left) for job_id in ids)
    assert left.charge == "unknown"
    assert {entry.job_id for entry in held(flux).values()} == ids
    assert asyncio.all_tasks() == {asyncio.current_task()}
    while sandbox.open_connections:  # noqa: ASYNC110 - the other side notices in its own time
        await asyncio.sleep(0.005)


def test_an_interrupted_batch_names_what_was_bought(sandbox: Sandbox, nothing_left: None) -> None:
    """Ctrl-C in a blocking batch: the same, on the ``KeyboardInterrupt``."""
    sandbox.inject(Fault("create", "job_never_ends", times=5))
    flux = flux_on(sandbox)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        asyncio.run(_all_bought(sandbox, 50))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    try:
        interrupter.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            flux.batch(PROMPTS[:5])
    finally:
        interrupter.join()
        signal.signal(signal.SIGINT, before)
    left = caught.value.__cause__
    assert isinstance(left, BatchFailed)
    assert {job.job_id for job in left.left.values()} == {job.job_id for job in sandbox.jobs}
    assert len(held(flux)) == 5


def test_who_takes_the_first_and_leaves_stops_the_rest(
    sandbox: Sandbox, nothing_left: None
) -> None:
    """``break`` cancels what runs and leaves no thread; the ledger has what was bought."""
    sandbox.inject(Fault("create", "job_never_ends", times=2))
    flux = flux_on(sandbox)
    for _place, job in flux.batch_as_completed(PROMPTS[:3]):
        assert job.status == "succeeded"
        break
    assert len(held(flux)) == len(sandbox.charges) - 1


# --- rate limiter and deadline --------------------------------------------------------------------


class Turns(BaseRateLimiter):
    """Gives as many turns as it has, counts how often it was asked, and never gets more."""

    def __init__(self, turns: int) -> None:
        self.turns, self.asked = turns, 0

    def acquire(self, *, blocking: bool = True) -> bool:
        assert not blocking, "a thread held by a limiter keeps no deadline"
        self.asked += 1
        self.turns -= 1
        return self.turns >= 0

    async def aacquire(self, *, blocking: bool = True) -> bool:
        assert blocking, "on an event loop it is asked once, and waited for"
        return self.acquire(blocking=False) or await asyncio.Event().wait()


@pytest.mark.parametrize("how", ["invoke", *HOWS])
def test_a_rate_limiter_is_asked_once_before_each_create(sandbox: Sandbox, how: str) -> None:
    """And never before a query."""
    sandbox.inject(Fault("query", "error", times=3))
    limiter = Turns(100)
    flux = flux_on(sandbox, rate_limiter=limiter)
    if how == "invoke":
        flux.invoke(PROMPTS[0])
    else:
        call(flux, how, PROMPTS)
    assert limiter.asked == creates(sandbox) == len(sandbox.charges)


def test_a_create_that_is_repeated_takes_another_turn(sandbox: Sandbox) -> None:
    """Each request that the limiter is there for."""
    sandbox.inject(Fault("create", "rate_limited"))
    limiter = Turns(100)
    flux_on(sandbox, rate_limiter=limiter).invoke("a fox")
    assert limiter.asked == creates(sandbox) == 2


@pytest.mark.parametrize("how", ["invoke", *HOWS])
def test_a_job_whose_turn_comes_after_the_deadline_is_not_created(
    sandbox: Sandbox, how: str
) -> None:
    """A deadline never starts work."""
    flux = flux_on(sandbox, rate_limiter=Turns(1), timeout=0.3)
    flux.invoke("a fox")
    with pytest.raises((RateLimited, BatchFailed)) as caught:
        flux.invoke("an owl") if how == "invoke" else call(flux, how, ["an owl", "a hare"])
    assert "rate_limiter gave no turn within 0.3 s; nothing was sent" in str(caught.value)
    assert caught.value.charge == "none"
    assert creates(sandbox) == 1


def test_a_key_known_already_takes_no_turn(sandbox: Sandbox) -> None:
    """Nothing is created, so nothing is asked."""
    limiter = Turns(100)
    flux = flux_on(sandbox, rate_limiter=limiter)
    jobs = [flux.invoke("a fox", request_key="one") for _ in range(3)]
    assert len({job.job_id for job in jobs}) == limiter.asked == 1


class Broken(Turns):
    """A limiter whose server is away."""

    def acquire(self, *, blocking: bool = True) -> bool:
        raise OSError("redis://:password@somewhere is away")


@pytest.mark.parametrize("how", ["invoke", "batch"])
def test_a_limiter_that_breaks_is_told_and_nothing_is_bought(sandbox: Sandbox, how: str) -> None:
    """Never somebody else's traceback, and never its text, which may hold a password."""
    flux = flux_on(sandbox, rate_limiter=Broken(1))
    with pytest.raises((ConfigurationError, BatchFailed)) as caught:
        flux.invoke("a fox") if how == "invoke" else flux.batch(["a fox"])
    assert "rate_limiter broke (OSError); nothing was sent" in str(caught.value)
    assert "password" not in str(caught.value)
    assert creates(sandbox) == 0


def test_copies_share_the_limiter(sandbox: Sandbox) -> None:
    """As they share the ledger."""
    limiter = Turns(100)
    flux: Any = ShortAPIFlux(rate_limiter=limiter, api_key="x", base_url=sandbox.base_url)
    assert flux.model_copy().rate_limiter is limiter


async def test_a_batch_runs_on_the_settings_it_began_with(sandbox: Sandbox) -> None:
    """A job bought at one service and labelled with another could not be followed."""
    with Sandbox(job_seconds=0.0) as other:
        flux = flux_on(sandbox)
        jobs = []
        async for _, job in flux.abatch_as_completed(["a fox"] * 3, {"max_concurrency": 1}):
            jobs.append(job)
            flux.base_url = other.base_url
        assert {job.base_url for job in jobs} == {sandbox.base_url}
        assert (len(sandbox.charges), len(other.charges)) == (3, 0)
