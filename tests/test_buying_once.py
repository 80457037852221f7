"""Buying once through LangChain: the other side's books say what was paid, whatever goes wrong."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

import pytest
from both_drivers import DRIVERS, Caller
from langchain_core.runnables import ConfigurableField, RunnableConfig
from leaping_time import leap_at_each_query
from quick_flux import QUICK_POLL, flux_on
from reply_server import ReplyServer
from test_faults import SHORT, label, of_every_kind
from transcripts import CREATE_UNCLEAR, JOB_ID, RUNNING, SUCCEEDED

from langchain_shortapi_flux import (
    CreateOutcomeUnknown,
    FluxJob,
    InvalidRequest,
    JobFailed,
    LedgerFailed,
    MemoryLedger,
    NotCreated,
    RetryLimits,
    ShortAPIError,
    ShortAPIFlux,
    SqlLedger,
)
from langchain_shortapi_flux.pace import pace_of
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langchain_shortapi_flux import FluxInput
    from langchain_shortapi_flux.ledger import Claim, Entry

KEY = "order 66"
ASKED: dict[str, Any] = {"prompt": "a fox", "request_key": KEY}


def creates(sandbox: Sandbox) -> int:
    """How often create was called."""
    return [call.on for call in sandbox.calls].count("create")


def configured(**values: Any) -> RunnableConfig:
    """A config with these configurable values."""
    return RunnableConfig(configurable=values)


def end_of(call: Callable[[FluxInput], FluxJob]) -> FluxJob | ShortAPIError:
    """What becomes of a call with the key."""
    try:
        return call(dict(ASKED))
    except ShortAPIError as error:
        return error


# --- where the key may stand --------------------------------------------------------------------

WAYS: dict[str, Callable[[ShortAPIFlux], tuple[Any, FluxInput, Any, dict[str, Any]]]] = {
    "in the input": lambda flux: (flux, dict(ASKED), None, {}),
    "as a keyword": lambda flux: (flux, "a fox", None, {"request_key": KEY}),
    "bound": lambda flux: (flux.bind(request_key=KEY), "a fox", None, {}),
    "in the config": lambda flux: (flux, "a fox", configured(request_key=KEY), {}),
    "in a bound config": lambda flux: (
        flux.with_config(configured(request_key=KEY)),
        "a fox",
        None,
        {},
    ),
    "for a whole chain": lambda flux: (
        (lambda prompt: prompt) | flux,
        "a fox",
        configured(request_key=KEY),
        {},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_key_buys_once_wherever_it_stands(way: str, sandbox: Sandbox) -> None:
    """Blocking, async and streaming: the key is the caller's name for one purchase."""
    runnable, given, config, options = WAYS[way](flux_on(sandbox))

    async def later() -> list[FluxJob]:
        last = await runnable.ainvoke(given, config, **options)
        return [last, *[job async for job in runnable.astream(given, config, **options)]]

    jobs = [
        runnable.invoke(given, config, **options),
        *runnable.stream(given, config, **options),
        *asyncio.run(later()),
    ]
    assert len(jobs) == 4
    assert {(job.job_id, job.status) for job in jobs} == {(sandbox.jobs[0].job_id, "succeeded")}
    assert [job.images for job in jobs] == [jobs[0].images] * 4
    assert (len(sandbox.charges), creates(sandbox)) == (1, 1)


@pytest.mark.parametrize("way", WAYS)
def test_the_key_is_never_sent(way: str, sandbox: Sandbox) -> None:
    """It is between the caller and the ledger; the service knows no such field."""
    runnable, given, config, options = WAYS[way](flux_on(sandbox))
    runnable.invoke(given, config, **options)
    asyncio.run(runnable.ainvoke(given, config, **options))
    for call in sandbox.calls:
        assert KEY.encode() not in call.body
        assert b"request_key" not in call.body
        assert KEY not in call.path_qs.replace("+", " ").replace("%20", " ")


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_same_key_with_other_arguments_is_refused(driver: str, sandbox: Sandbox) -> None:
    """Whether the caller changed them or a field of the Runnable did."""
    caller = Caller(driver, flux_on(sandbox))
    caller.invoke(ASKED)
    for other in ({"prompt": "a wolf"}, {"num_images": 2}, {"performance": "schnell"}):
        with pytest.raises(InvalidRequest, match="other arguments"):
            caller.invoke({**ASKED, **other})
    with pytest.raises(InvalidRequest, match="other arguments"):
        caller.with_fields(aspect_ratio="16:9").invoke(ASKED)
    assert creates(sandbox) == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_without_a_key_nothing_is_looked_up(driver: str, sandbox: Sandbox) -> None:
    """Two equal prompts are two jobs, and neither needs a ledger."""
    caller = Caller(driver, flux_on(sandbox))
    ids = {caller.invoke("a fox").job_id for _ in range(2)}
    assert len(ids) == len(sandbox.charges) == 2
    assert len(caller.flux.ledger) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", "  ", "k" * 1001, 7, "\ud800"])
def test_what_is_no_key_is_refused(key: Any, sandbox: Sandbox) -> None:
    """A blank key would make one purchase of all that forgot to fill theirs in."""
    with pytest.raises(InvalidRequest, match="request_key"):
        flux_on(sandbox).invoke({"prompt": "a fox", "request_key": key})
    assert sandbox.calls == ()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_job_bought_without_waiting_is_found_by_its_key(driver: str, sandbox: Sandbox) -> None:
    """``create`` and ``invoke`` are one purchase under one key."""
    caller = Caller(driver, flux_on(sandbox))
    created = [caller.create(ASKED).job_id for _ in range(2)]
    assert caller.invoke(ASKED).job_id == created[0] == created[1]
    assert creates(sandbox) == 1


# --- who shares a ledger ------------------------------------------------------------------------


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_job_of_one_service_is_never_followed_on_another(driver: str, sandbox: Sandbox) -> None:
    """What was tried on the sandbox is still to be bought on the live service."""
    ledger = MemoryLedger()
    with Sandbox(job_seconds=0.0) as elsewhere:
        jobs = [
            Caller(driver, flux_on(service, ledger=ledger)).invoke(ASKED)
            for service in (sandbox, elsewhere)
        ]
        assert [job.job_id for job in jobs] == [
            sandbox.jobs[0].job_id,
            elsewhere.jobs[0].job_id,
        ]
        assert len(sandbox.charges) == len(elsewhere.charges) == 1


def test_copies_that_configurable_fields_makes_share_what_was_bought(sandbox: Sandbox) -> None:
    """LangChain makes a new Runnable for each call with a configured field."""
    field = ConfigurableField(id="shape")
    flux = flux_on(sandbox).configurable_fields(aspect_ratio=field)
    wide = configured(shape="16:9")
    assert flux.invoke(ASKED, wide).job_id == flux.invoke(ASKED, wide).job_id
    assert asyncio.run(flux.ainvoke(ASKED, wide)).job_id == sandbox.jobs[0].job_id
    with pytest.raises(InvalidRequest, match="other arguments"):
        flux.invoke(ASKED, configured(shape="1:1"))
    assert creates(sandbox) == 1


def test_copies_of_a_runnable_share_what_was_bought(sandbox: Sandbox) -> None:
    """``model_copy``, shallow and deep, is how LangChain and its users vary a Runnable."""
    flux = flux_on(sandbox)
    flux.invoke(ASKED)
    for copied in (flux.model_copy(), flux.model_copy(deep=True)):
        copied.invoke(ASKED)
    assert creates(sandbox) == 1


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_one_key_twenty_times_at_once_is_one_charge_and_twenty_answers(
    kind: str, tmp_path: Path, sandbox: Sandbox
) -> None:
    """Those who come second wait for the first one's job id, and follow that job."""
    kept = SqlLedger(f"sqlite:///{tmp_path}/flux-jobs.db")
    flux = flux_on(sandbox, ledger=MemoryLedger() if kind == "memory" else kept)
    sandbox.inject(Fault("create", "hold", seconds=0.3, times=20))
    jobs = await flux.abatch([ASKED] * 20)
    assert {(job.job_id, job.images) for job in jobs} == {(jobs[0].job_id, jobs[0].images)}
    assert (len(jobs), len(sandbox.charges), creates(sandbox)) == (20, 1, 1)
    kept.close()


def test_one_key_in_many_threads_is_one_charge(sandbox: Sandbox) -> None:
    """The blocking twin."""
    sandbox.inject(Fault("create", "hold", seconds=0.3, times=20))
    flux = flux_on(sandbox)
    jobs = flux.batch([ASKED] * 20, RunnableConfig(max_concurrency=20))
    assert {job.job_id for job in jobs} == {sandbox.jobs[0].job_id}
    assert (len(sandbox.charges), creates(sandbox)) == (1, 1)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_ledger_out_of_reach_buys_nothing(driver: str, tmp_path: Path, sandbox: Sandbox) -> None:
    """Nobody knows whether the key was bought before."""
    ledger = SqlLedger(f"sqlite:///{tmp_path}/missing/flux-jobs.db")
    caller = Caller(driver, flux_on(sandbox, ledger=ledger))
    with pytest.raises(LedgerFailed, match="OperationalError"):
        caller.invoke(ASKED)
    assert sandbox.calls == ()
    assert caller.invoke("a fox, without a key").images
    ledger.close()


# --- each way in which a call can fail ----------------------------------------------------------

FEW_STATUSES = (None, 404, 503)
"""One of each kind: no HTTP status of its own, a no, trouble."""
FAULTS = [
    *(
        fault if fault.status in FEW_STATUSES else pytest.param(fault, marks=pytest.mark.thorough)
        for fault in of_every_kind("create")
    ),
    *(fault for fault in of_every_kind("query") if fault.status in FEW_STATUSES),
]


@pytest.mark.usefixtures("quick_turns")
@pytest.mark.parametrize("fault", FAULTS, ids=label)
@pytest.mark.parametrize(
    "driver", [pytest.param("requests", marks=pytest.mark.thorough), "aiohttp"]
)
def test_calling_again_after_any_fault_is_one_charge(
    driver: str, fault: Fault, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What retries, resumed graphs and second thoughts do, for everything that can go wrong."""
    sandbox.inject(fault)
    if fault.kind == "job_never_ends":
        leap_at_each_query(monkeypatch, sandbox)
    timeout = SHORT if fault.kind == "stall" else 10.0
    caller = Caller(driver, flux_on(sandbox, timeout=timeout))
    first, second = end_of(caller.invoke), end_of(caller.invoke)
    assert len(sandbox.charges) <= 1
    assert len(sandbox.jobs) <= 1
    if not isinstance(second, (FluxJob, CreateOutcomeUnknown)):
        assert type(second) is type(first)
        assert not isinstance(second, NotCreated)
    if isinstance(second, CreateOutcomeUnknown):
        assert isinstance(first, CreateOutcomeUnknown)
        for error in (first, second):
            assert error.key == f"{sandbox.base_url} {KEY}"
            assert error.claimed_at is not None
            assert error.key in str(error)
        assert creates(sandbox) == 1
    elif sandbox.jobs:
        assert second.job_id == sandbox.jobs[0].job_id
    if fault.on == "query" and fault.kind != "none":
        assert isinstance(second, FluxJob)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_refunded_failure_is_bought_again_only_on_request(driver: str, sandbox: Sandbox) -> None:
    """Net of refunds, that is still one charge."""
    sandbox.inject(Fault("create", "job_fails"))
    caller = Caller(driver, flux_on(sandbox))
    for _ in range(2):
        with pytest.raises(JobFailed, match=r"generation failed \(it was refunded"):
            caller.invoke(ASKED)
    assert creates(sandbox) == 1
    jobs = [caller.invoke({**ASKED, "on_failed": "buy"}) for _ in range(2)]
    assert jobs[0].job_id == jobs[1].job_id == sandbox.jobs[1].job_id
    assert (len(sandbox.charges), creates(sandbox)) == (1, 2)


@pytest.mark.parametrize("where", ["input", "field"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_an_unknown_create_is_bought_again_only_on_request(
    driver: str, where: str, sandbox: Sandbox
) -> None:
    """Whoever has looked at the account may say so, in the call or for all calls."""
    sandbox.inject(Fault("create", "drop_after"))
    caller = Caller(driver, flux_on(sandbox))
    for _ in range(2):
        with pytest.raises(CreateOutcomeUnknown):
            caller.invoke(ASKED)
    assert creates(sandbox) == 1
    asked = ASKED
    if where == "field":
        caller = caller.with_fields(on_unknown="buy")
    else:
        asked = {**ASKED, "on_unknown": "buy"}
    jobs = [caller.invoke(asked) for _ in range(2)]
    assert jobs[0].job_id == jobs[1].job_id == sandbox.jobs[1].job_id
    assert creates(sandbox) == 2


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("name", ["500 and yet an id", "200 cut off after the id"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_job_that_an_unclear_answer_named_is_brought_home_by_its_key(
    driver: str, name: str, kind: str, tmp_path: Path
) -> None:
    """Two creates would be two charges: the second call asks for the job that the first named."""
    ledger = MemoryLedger() if kind == "memory" else SqlLedger(f"sqlite:///{tmp_path}/jobs.db")
    with ReplyServer(*CREATE_UNCLEAR[name], RUNNING, SUCCEEDED) as server:
        flux = ShortAPIFlux(base_url=server.base_url, api_key="x", poll=QUICK_POLL, ledger=ledger)
        caller = Caller(driver, flux)
        first, second, third = (end_of(caller.invoke) for _ in range(3))
        asked = [one.path.partition("?")[0].rpartition("/")[2] for one in server.asked]
    assert isinstance(first, CreateOutcomeUnknown)
    assert isinstance(second, FluxJob)
    assert isinstance(third, FluxJob)
    assert first.job_id == second.job_id == third.job_id == JOB_ID
    assert second.images == third.images
    assert asked == ["create", "query", "query"]
    if isinstance(ledger, SqlLedger):
        ledger.close()


# --- leaving early ------------------------------------------------------------------------------


async def until(condition: Callable[[], object]) -> None:
    """Return once that holds, of another thread's doings."""
    while not condition():  # noqa: ASYNC110 - what happens there sets no event here
        await asyncio.sleep(0.005)


async def test_a_create_that_was_cancelled_is_reported_and_not_bought_again(
    sandbox: Sandbox,
) -> None:
    """Nobody read the answer: the next call learns at once that there may be a job."""
    sandbox.inject(Fault("create", "hold", seconds=30.0))
    flux = flux_on(sandbox)
    buying = asyncio.create_task(flux.ainvoke(ASKED))
    await until(lambda: sandbox.jobs)
    buying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await buying
    with pytest.raises(CreateOutcomeUnknown) as caught:
        await flux.ainvoke(ASKED)
    assert caught.value.claimed_at is not None
    assert (len(sandbox.charges), creates(sandbox)) == (1, 1)


async def test_a_back_off_that_was_cancelled_leaves_the_key_free(sandbox: Sandbox) -> None:
    """Nothing was under way, so the next call may buy, and at once."""
    sandbox.inject(Fault("create", "rate_limited"))
    patient = RetryLimits(backoff_first=30.0, backoff_max=30.0)
    flux = flux_on(sandbox, retry=patient, timeout=60.0)
    buying = asyncio.create_task(flux.ainvoke(ASKED))
    await until(lambda: sandbox.calls)
    await until(lambda: pace_of(flux.base_url).held(time.monotonic()))
    buying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await buying
    pace_of.cache_clear()
    assert (await flux.ainvoke(ASKED)).status == "succeeded"
    assert (len(sandbox.charges), creates(sandbox)) == (1, 2)


async def test_a_wait_that_was_cancelled_is_taken_up_again(sandbox: Sandbox) -> None:
    """The job id is in the ledger from the moment that create was accepted."""
    sandbox.inject(Fault("create", "job_never_ends"))
    flux = flux_on(sandbox)
    waiting = asyncio.create_task(flux.ainvoke(ASKED))
    await until(lambda: any(call.on == "query" for call in sandbox.calls))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    sandbox.finish()
    assert (await flux.ainvoke(ASKED)).job_id == sandbox.jobs[0].job_id
    assert creates(sandbox) == 1


class Busy(MemoryLedger):
    """A keeper that blocks, and is held up for as long as ``others`` have their turn."""

    blocking = True

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.held_up = threading.Event()

    def claim(self, claim: Claim) -> Entry:
        if claim.key.endswith("others"):
            self.held_up.set()
            assert self.free.wait(20)
        return super().claim(claim)


async def test_a_purchase_cancelled_while_the_ledger_is_busy_is_noted_all_the_same(
    sandbox: Sandbox,
) -> None:
    """A loop has few threads for ledgers; a note that waits for one must not be dropped."""
    threads = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(threads)
    sandbox.inject(Fault("create", "hold", seconds=0.2))
    flux = flux_on(sandbox, ledger=Busy())
    ledger = flux.ledger
    assert isinstance(ledger, Busy)
    buying = asyncio.create_task(flux.ainvoke(ASKED))
    await until(lambda: sandbox.jobs)
    other = asyncio.create_task(flux.ainvoke({**ASKED, "request_key": "others"}))
    await until(lambda: ledger.held_up.is_set() and threads._work_queue.qsize())
    buying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await buying
    ledger.free.set()
    await other
    assert (await flux.ainvoke(ASKED)).job_id == sandbox.jobs[0].job_id
    assert (len(sandbox.charges), creates(sandbox)) == (2, 2)


def test_a_stream_that_was_left_leads_to_the_same_job(sandbox: Sandbox) -> None:
    """``break`` after the first snapshot, and the same key again."""
    sandbox.inject(Fault("create", "job_never_ends"))
    flux = flux_on(sandbox)
    with closing(flux.stream(ASKED)) as jobs:  # type: ignore[type-var]
        first = next(jobs)
    assert first.status == "pending"
    sandbox.finish()
    again = list(flux.stream(ASKED))
    assert {job.job_id for job in again} == {first.job_id}
    assert again[-1].status == "succeeded"
    assert (len(sandbox.charges), creates(sandbox)) == (1, 1)


async def test_an_async_stream_that_was_left_leads_to_the_same_job(sandbox: Sandbox) -> None:
    """The async twin."""
    sandbox.inject(Fault("create", "job_never_ends"))
    flux = flux_on(sandbox)
    async with aclosing(flux.astream(ASKED)) as jobs:  # type: ignore[type-var]
        first = await anext(jobs)
    sandbox.finish()
    again = [job async for job in flux.astream(ASKED)]
    assert {job.job_id for job in again} == {first.job_id}
    assert (len(sandbox.charges), creates(sandbox)) == (1, 1)
