"""Money over a bad line: every fault that the sandbox can play, through both drivers.

For every scripted fault of the sandbox, sync and async alike: at most one charge; the outcome is a
job or a ShortAPIError that says whether it was charged; after create it carries the job id.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from both_drivers import DRIVERS, Caller
from crowd import Bucket
from leaping_time import leap_at_each_query
from quick_flux import QUICK_POLL, QUICK_RETRY, flux_on
from reply_server import ReplyServer
from transcripts import SUCCEEDED

from langchain_shortapi_flux import (
    CreateOutcomeUnknown,
    FluxJob,
    JobFailed,
    JobTimeout,
    NotCreated,
    RateLimited,
    RetryLimits,
    ServiceUnavailable,
    ShortAPIError,
    ShortAPIFlux,
    UnexpectedReply,
)
from langchain_shortapi_flux.sandbox import Fault
from langchain_shortapi_flux.sandbox.faults import KINDS

if TYPE_CHECKING:
    from reply_server import Asked, Pieces

    from langchain_shortapi_flux.http_acts import HttpReply, Lost
    from langchain_shortapi_flux.sandbox import Sandbox

SHORT = 0.5
"""Seconds for a whole job whose call is left without an answer."""
STATUSES = (400, 401, 404, 408, 409, 429, 500, 503)
NO_JOB_STATUSES = (400, 401, 404, 429)
"""By these a service says that it made no job; one that lies about it cannot be seen through."""


def label(fault: Fault) -> str:
    """What a test is called in the report."""
    took = "" if fault.accepted else ", not accepted"
    status = "" if fault.status is None else f" {fault.status}"
    return f"{fault.on} {fault.kind}{status}{took}"


def of_every_kind(on: str) -> list[Fault]:
    """Each kind, with every status where it has one, and either outcome where that is open."""
    faults = []
    for kind in KINDS[on]:
        fault = Fault(on, kind, seconds=0.05, word="meditating")  # type: ignore[arg-type]
        for status in STATUSES if kind in ("error", "html", "refuse") else (None,):
            accepted = replace(fault, status=status)
            refused = replace(accepted, accepted=False)
            if on == "query" or status not in NO_JOB_STATUSES:
                faults.append(accepted)
            # no_id without a job would name one after all, which is a lie of another kind.
            differs = refused.takes_effect != accepted.takes_effect
            if on == "create" and differs and kind != "no_id":
                faults.append(refused)
    return faults


@dataclass(frozen=True)
class Outcome:
    """What became of a purchase: a job or an error, and what the sandbox's books say."""

    end: FluxJob | ShortAPIError
    jobs: int
    charges: int
    creates: int


def buy(driver: str, sandbox: Sandbox, fault: Fault) -> Outcome:
    """Buy one job while that goes wrong once."""
    sandbox.inject(fault)
    timeout = SHORT if fault.kind == "stall" else 10.0
    caller = Caller(driver, flux_on(sandbox, timeout=timeout))
    end: FluxJob | ShortAPIError
    with pytest.MonkeyPatch.context() as patch:
        if fault.kind == "job_never_ends":
            leap_at_each_query(patch, sandbox)
        try:
            end = caller.invoke("a fox")
        except ShortAPIError as error:
            end = error
    creates = [call.on for call in sandbox.calls].count("create")
    return Outcome(end, len(sandbox.jobs), len(sandbox.charges), creates)


@pytest.mark.usefixtures("quick_turns")
@pytest.mark.parametrize("fault", of_every_kind("create"), ids=label)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_create_that_goes_wrong_is_paid_at_most_once(
    driver: str, fault: Fault, sandbox: Sandbox
) -> None:
    """No idempotency key: what the books of the other side say is the only proof."""
    outcome = buy(driver, sandbox, fault)
    assert outcome.jobs <= 1
    assert outcome.charges <= outcome.jobs
    if isinstance(outcome.end, FluxJob):
        assert (outcome.end.status, outcome.end.charge) == ("succeeded", "charged")
        assert outcome.charges == 1
        return
    error = outcome.end
    expected = {"none": (0, 0), "charged": (1, 1), "refunded": (1, 0)}
    if error.charge in expected:
        assert (outcome.jobs, outcome.charges) == expected[error.charge]
    assert (error.charge == "none") is isinstance(error, NotCreated)
    if fault.kind == "redirect":  # nobody can tell, and no job is named
        assert isinstance(error, UnexpectedReply)
        assert error.charge == "unknown"
    elif isinstance(error, JobFailed | JobTimeout | UnexpectedReply):
        assert error.job_id == sandbox.jobs[0].job_id
        assert error.job_id in str(error)
        assert error.charge != "none"
    else:
        assert isinstance(error, NotCreated | CreateOutcomeUnknown)
    if error.is_retryable:
        assert outcome.jobs == 0


@pytest.mark.usefixtures("quick_turns")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("none", FluxJob),
        ("drop_before", CreateOutcomeUnknown),  # it looks like a lost answer from here
        ("drop_after", CreateOutcomeUnknown),
        ("rate_limited", FluxJob),
        ("error", CreateOutcomeUnknown),
        ("html", CreateOutcomeUnknown),
        ("truncated", CreateOutcomeUnknown),
        ("empty", CreateOutcomeUnknown),
        ("slow", FluxJob),
        ("stall", CreateOutcomeUnknown),
        ("code_3000", FluxJob),
        ("refuse", NotCreated),
        ("redirect", UnexpectedReply),
        ("hold", FluxJob),
        ("no_id", CreateOutcomeUnknown),
        ("job_fails", JobFailed),
        ("job_fails_unrefunded", JobFailed),
        ("job_never_ends", JobTimeout),
        ("no_images", UnexpectedReply),
        ("fewer_images", UnexpectedReply),  # none of one
    ],
)
def test_how_each_kind_of_create_fault_ends(
    driver: str, kind: str, end: type[FluxJob | ShortAPIError], sandbox: Sandbox
) -> None:
    """The rule of money alone would also hold for a client that fails at everything."""
    outcome = buy(driver, sandbox, Fault("create", kind, seconds=0.05))
    assert isinstance(outcome.end, end)
    assert outcome.creates == (2 if kind in ("rate_limited", "code_3000") else 1)


def test_the_endings_above_are_of_every_kind() -> None:
    """A new kind of fault must be given an ending here."""
    marks = test_how_each_kind_of_create_fault_ends.pytestmark  # type: ignore[attr-defined]
    rows = next(mark.args[1] for mark in marks if mark.args[0] == ("kind", "end"))
    assert [row[0] for row in rows] == list(KINDS["create"])


@pytest.mark.usefixtures("quick_turns")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("kind", "error"), [("rate_limited", RateLimited), ("code_3000", ServiceUnavailable)]
)
def test_a_service_that_keeps_refusing_is_not_asked_for_ever(
    driver: str, kind: str, error: type[ShortAPIError], sandbox: Sandbox
) -> None:
    """After ``create_attempts`` the caller decides, and knows that nothing was bought."""
    sandbox.inject(Fault("create", kind, times=99))
    retry = RetryLimits(create_attempts=3, backoff_first=0.01, backoff_max=0.01)
    with pytest.raises(error) as caught:
        Caller(driver, flux_on(sandbox, retry=retry)).invoke("a fox")
    assert (caught.value.charge, caught.value.is_retryable) == ("none", True)
    assert len(sandbox.calls) == 3
    assert sandbox.jobs == ()


class Popular(ReplyServer):
    """Creates so many jobs a second; more are refused."""

    def __init__(self, per_second: float) -> None:
        super().__init__(SUCCEEDED)
        self._bucket = Bucket(per_second)

    def answer(self, asked: Asked) -> HttpReply | Lost | Pieces:
        """Note a request; gives what to say to it."""
        found = super().answer(asked)
        if asked.method != "POST":
            return found
        with self._lock:
            return self._bucket(time.monotonic())


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_crowd_of_creates_gets_through_a_service_that_limits_them(driver: str) -> None:
    """Coming back all at once, most would use up their attempts within a tenth of a second."""
    with Popular(50.0) as server:
        flux = ShortAPIFlux(
            base_url=server.base_url, api_key="x", poll=QUICK_POLL, retry=QUICK_RETRY, timeout=40.0
        )
        prompts = ["a fox"] * 100
        if driver == "aiohttp":
            jobs = list(flux.batch(prompts))
        else:
            with ThreadPoolExecutor(len(prompts)) as threads:
                jobs = list(threads.map(flux.invoke, prompts))
        assert [job.status for job in jobs] == ["succeeded"] * len(prompts)


def passes(fault: Fault) -> bool:
    """Whether a query that suffers this may be made again."""
    if fault.kind in ("refuse", "error"):
        # ``error`` at 200 to 4xx and ``refuse`` come with an explicit no.
        status = fault.http_status
        return status in (408, 429) or status >= 500
    if fault.kind == "html":
        return fault.http_status != 401  # a gate's page, not the service's word
    return fault.kind != "redirect"


@pytest.mark.parametrize("fault", of_every_kind("query"), ids=label)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_query_that_goes_wrong_never_buys_again(
    driver: str, fault: Fault, sandbox: Sandbox
) -> None:
    """A query is free: passing trouble is waited out, and a refusal names the job."""
    outcome = buy(driver, sandbox, fault)
    assert (outcome.jobs, outcome.charges, outcome.creates) == (1, 1, 1)
    job_id = sandbox.jobs[0].job_id
    if fault.kind == "stall":
        assert isinstance(outcome.end, JobTimeout)
    elif not passes(fault):
        assert isinstance(outcome.end, UnexpectedReply)
    if isinstance(outcome.end, ShortAPIError):
        assert outcome.end.job_id == job_id
        assert job_id in str(outcome.end)
        assert outcome.end.charge == "charged"
        assert not passes(fault) or fault.kind == "stall"
    else:
        assert passes(fault)
        assert (outcome.end.job_id, outcome.end.status) == (job_id, "succeeded")


@pytest.mark.parametrize("fault", of_every_kind("query"), ids=label)
@pytest.mark.parametrize(
    "driver", ["requests", pytest.param("aiohttp", marks=pytest.mark.thorough)]
)
def test_a_look_at_a_job_never_buys(driver: str, fault: Fault, sandbox: Sandbox) -> None:
    """``query`` is documented as free, whatever goes wrong with it."""
    job_id = flux_on(sandbox).create("a fox").job_id
    sandbox.inject(fault)
    timeout = SHORT if fault.kind == "stall" else 10.0
    caller = Caller(driver, flux_on(sandbox, timeout=timeout))
    if passes(fault) and fault.kind != "stall":
        assert caller.query(job_id).job_id == job_id
    else:
        with pytest.raises((JobTimeout, UnexpectedReply), match=job_id) as caught:
            caller.query(job_id)
        assert caught.value.job_id == job_id
    assert len(sandbox.jobs) == 1
