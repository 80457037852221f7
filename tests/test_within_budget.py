"""A budget around real jobs: what is reserved when, and that it holds to the cent."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from both_drivers import DRIVERS, Caller
from quick_flux import flux_on
from screenplay import Clock, here
from transcripts import CREATED

from langchain_shortapi_flux import (
    BatchFailed,
    Budget,
    BudgetExceeded,
    CreateOutcomeUnknown,
    FluxRequest,
    JobFailed,
    JobTimeout,
    MemoryLedger,
    RetryLimits,
    ShortAPIError,
    ShortAPIFlux,
)
from langchain_shortapi_flux.flow_steps import Order
from langchain_shortapi_flux.job_flow import create_job
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

SCHNELL, NONE = Decimal("0.002"), Decimal(0)
ORDER = Order(
    FluxRequest(prompt="a fox", aspect_ratio="1:1", num_images=1, performance="schnell"),
    "shortapi/flux-1.0/text-to-image",
)


def paid(sandbox: Sandbox) -> Decimal:
    """What the sandbox took and did not give back."""
    return sum((charge.usd for charge in sandbox.charges), Decimal(0))


@pytest.fixture(params=DRIVERS)
def caller(request: pytest.FixtureRequest, sandbox: Sandbox) -> Caller:
    """A Runnable of the cheap mode with a budget of three jobs."""
    budget = Budget(usd="0.006")
    return Caller(request.param, flux_on(sandbox, performance="schnell", budget=budget))


def budget_of(flux: ShortAPIFlux) -> Budget:
    assert flux.budget is not None
    return flux.budget


def test_it_starts_no_job_that_is_not_covered(caller: Caller, sandbox: Sandbox) -> None:
    """Three are; the fourth is refused with nothing sent."""
    for _ in range(3):
        caller.invoke("a fox")
    sent = len(sandbox.calls)
    with pytest.raises(BudgetExceeded) as caught:
        caller.invoke("a fox")
    assert caught.value.charge == "none"
    assert len(sandbox.calls) == sent
    assert paid(sandbox) == budget_of(caller.flux).spent == Decimal("0.006")


def test_a_job_that_runs_is_reserved_and_one_that_ended_is_spent(
    caller: Caller, sandbox: Sandbox
) -> None:
    """Also where it was created in one call and followed in another."""
    budget = budget_of(caller.flux)
    sandbox.inject(Fault("create", "job_never_ends"))
    job = caller.create("a fox")
    assert (budget.reserved, budget.spent) == (SCHNELL, NONE)
    sandbox.finish()
    caller.query(job.job_id)
    assert (budget.reserved, budget.spent) == (NONE, SCHNELL)
    caller.follow(job.job_id)
    assert (budget.reserved, budget.spent) == (NONE, SCHNELL)


def test_a_refund_and_a_refusal_give_back(caller: Caller, sandbox: Sandbox) -> None:
    """What cost nothing counts for nothing."""
    budget = budget_of(caller.flux)
    sandbox.inject(Fault("create", "job_fails"), Fault("create", "refuse", info="moderated"))
    for _ in range(2):
        with pytest.raises(ShortAPIError):
            caller.invoke("a fox")
        assert (budget.reserved, budget.spent) == (NONE, paid(sandbox)) == (NONE, NONE)


def test_an_unknown_outcome_stays_reserved(caller: Caller, sandbox: Sandbox) -> None:
    """It may have been charged, and here it was."""
    budget = budget_of(caller.flux)
    sandbox.inject(Fault("create", "drop_after"))
    with pytest.raises(CreateOutcomeUnknown):
        caller.invoke("a fox")
    assert (budget.reserved, budget.spent, paid(sandbox)) == (SCHNELL, NONE, SCHNELL)
    assert len(budget.unknown) == 1


def test_a_job_that_timed_out_stays_reserved_until_it_is_followed(
    caller: Caller, sandbox: Sandbox
) -> None:
    """The deadline ends the wait, not the job."""
    budget = budget_of(caller.flux)
    sandbox.inject(Fault("create", "job_never_ends"))
    with pytest.raises(JobTimeout) as caught:
        caller.with_fields(timeout=0.3).invoke("a fox")
    assert (budget.reserved, budget.spent) == (SCHNELL, NONE)
    sandbox.finish()
    caller.follow(caught.value.job_id or "")
    assert (budget.reserved, budget.spent) == (NONE, SCHNELL)


def test_a_failed_job_that_was_not_refunded_is_spent(caller: Caller, sandbox: Sandbox) -> None:
    """No picture, and the money is gone."""
    sandbox.inject(Fault("create", "job_fails_unrefunded"))
    with pytest.raises(JobFailed):
        caller.invoke("a fox")
    assert budget_of(caller.flux).spent == paid(sandbox) == SCHNELL


def test_the_same_key_reserves_nothing(caller: Caller, sandbox: Sandbox) -> None:
    """What the ledger knows costs nothing more."""
    budget = budget_of(caller.flux)
    for _ in range(5):
        caller.invoke({"prompt": "a fox", "request_key": "one"})
    assert (budget.reserved, budget.spent) == (NONE, SCHNELL)
    assert len(sandbox.charges) == 1


def test_a_key_that_the_budget_refused_is_free_again(sandbox: Sandbox) -> None:
    """With more money the same key buys."""
    asked = {"prompt": "a fox", "request_key": "one"}
    flux = flux_on(sandbox, performance="schnell", budget=Budget(usd="0.001"))
    with pytest.raises(BudgetExceeded):
        flux.invoke(asked)
    richer = flux_on(sandbox, performance="schnell", budget=Budget(usd="1"), ledger=flux.ledger)
    assert richer.invoke(asked).status == "succeeded"


@pytest.mark.parametrize(
    ("left_at", "reserved"),
    [("waiting to send again", Decimal(0)), ("create was sent", SCHNELL)],
)
def test_a_create_that_is_left(left_at: str, reserved: Decimal) -> None:
    """Reserved only where something was under way."""
    budget, clock = Budget(usd="1"), Clock()
    flow = create_job(ORDER, here(clock, budget=budget, retry=RetryLimits()))
    step = next(flow)
    if left_at == "waiting to send again":
        step = flow.send(CREATED_NOT)
        assert step.act is None
    flow.close()
    assert budget.reserved == reserved


CREATED_NOT = type(CREATED)(429, {}, b"", 0.0)


def test_it_is_shared_by_copies_and_by_several_runnables(sandbox: Sandbox) -> None:
    """One budget, whoever spends from it."""
    budget = Budget(usd="0.006")
    one = flux_on(sandbox, performance="schnell", budget=budget)
    two = one.model_copy(update={"aspect_ratio": "16:9"})
    three = flux_on(sandbox, performance="schnell", budget=budget)
    for flux in (one, two, three):
        flux.invoke("a fox")
    with pytest.raises(BudgetExceeded):
        one.invoke("a fox")


def test_a_batch_starts_what_is_covered(sandbox: Sandbox) -> None:
    """And says which jobs were not."""
    flux = flux_on(sandbox, performance="schnell", budget=Budget(usd="0.01"))
    with pytest.raises(BatchFailed) as caught:
        flux.batch(["a fox"] * 8)
    assert len(caught.value.jobs) == 5
    assert {type(error) for error in caught.value.failures.values()} == {BudgetExceeded}
    assert paid(sandbox) == Decimal("0.01")


def _faults(seed: int, count: int) -> list[Fault]:
    dice = random.Random(seed)
    kinds = {
        "job_fails": 4,
        "job_fails_unrefunded": 2,
        "rate_limited": 3,
        "code_3000": 3,
        "refuse": 3,
        "drop_before": 2,
        "drop_after": 2,
        "no_id": 1,
        "none": 20,
    }
    drawn = dice.choices(list(kinds), weights=list(kinds.values()), k=count)
    return [Fault("create", kind) for kind in drawn]


def _holds(flux: ShortAPIFlux, sandbox: Sandbox, outcomes: list[Any]) -> None:
    """To the cent: what was charged is spent, or reserved as unknown; nothing beyond the budget."""
    budget = budget_of(flux)
    unknown = [one for one in outcomes if isinstance(one, CreateOutcomeUnknown)]
    assert budget.spent + budget.reserved <= budget.usd
    assert paid(sandbox) <= budget.usd
    assert budget.reserved == SCHNELL * len(unknown)
    assert budget.spent <= paid(sandbox) <= budget.spent + budget.reserved
    assert any(isinstance(one, BudgetExceeded) for one in outcomes)


def test_it_holds_to_the_cent_under_64_threads() -> None:
    """With faults of every kind, and more asked for than it covers."""
    with Sandbox(job_seconds=0.0, faults=_faults(1, 400)) as sandbox:
        flux = flux_on(sandbox, performance="schnell", budget=Budget(usd="0.2"), timeout=50.0)
        outcomes: list[Any] = []

        def buy() -> None:
            for number in range(4):
                try:
                    outcomes.append(flux.invoke(f"fox {number}"))
                except ShortAPIError as error:
                    outcomes.append(error)

        _together(buy, 64)
        assert len(outcomes) == 256
        _holds(flux, sandbox, outcomes)


def test_it_holds_to_the_cent_under_500_tasks() -> None:
    """The same on one event loop."""
    with Sandbox(job_seconds=0.0, faults=_faults(2, 800)) as sandbox:
        flux = flux_on(sandbox, performance="schnell", budget=Budget(usd="0.4"), timeout=50.0)
        prompts = [f"fox {number}" for number in range(500)]
        outcomes = asyncio.run(flux.abatch(prompts, return_exceptions=True))
        _holds(flux, sandbox, outcomes)


def _together(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("ending", ["succeeded", "failed"])
def test_what_the_ledger_answers_is_settled(ending: str) -> None:
    """Reserved by a call that left, and followed to its end by somebody without the budget."""
    faults = [Fault("create", "job_fails")] if ending == "failed" else []
    with Sandbox(job_seconds=0.3, faults=faults) as sandbox:
        ledger, budget = MemoryLedger(), Budget(usd="1.00")
        one = flux_on(sandbox, ledger=ledger, budget=budget)
        two = flux_on(sandbox, ledger=ledger)
        with pytest.raises(JobTimeout):
            one.invoke("a fox", request_key="order 7", max_wait=0.1)
        assert budget.reserved > 0
        for flux in (two, one):
            with contextlib.suppress(JobFailed):
                flux.invoke("a fox", request_key="order 7")
        assert (budget.reserved, budget.spent) == (Decimal(0), paid(sandbox))
