"""The budget: what may be started, what each job comes to, and that no cent counts twice."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from decimal import Decimal, Inexact, InvalidOperation, localcontext
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from langchain_shortapi_flux import (
    FluxImage,
    FluxJob,
    FluxRequest,
    ShortAPIFlux,
    budget_books,
    spending,
)
from langchain_shortapi_flux.errors import (
    BudgetExceeded,
    ConfigurationError,
    CreateOutcomeUnknown,
    InsufficientBalance,
    JobFailed,
    NotCreated,
    RateLimited,
    UnexpectedReply,
)
from langchain_shortapi_flux.job import FLUX_MODEL
from langchain_shortapi_flux.spending import Budget, Reservation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from langchain_shortapi_flux.job import Performance

T = TypeVar("T")
SERVICE = "https://api.shortapi.ai"
PICTURE = FluxImage(url="https://file.shortapi.ai/tmp/20260227/1.png")
DEV = FluxRequest(prompt="a fox", performance="dev", num_images=1)
DEV_PRICE = Decimal("0.02")
THREADS = 64
TASKS = 500


def usd(text: str | None) -> Decimal | None:
    """That amount."""
    return None if text is None else Decimal(text)


def seen(status: str = "pending", job_id: str = "j1", **fields: Any) -> FluxJob:
    """A snapshot as the flow makes it: charged unless said otherwise."""
    for name in ("cost", "refunded"):
        fields[name] = usd(fields.get(name))
    fields = {"charge": "charged", "base_url": SERVICE, "model": FLUX_MODEL, **fields}
    if status == "succeeded":
        fields.setdefault("images", (PICTURE,))
    return FluxJob.model_validate({"job_id": job_id, "status": status, **fields})


def asked(count: int = 1, performance: Performance = "dev") -> FluxRequest:
    """A request with its options filled in."""
    return FluxRequest(prompt="a fox", performance=performance, num_images=count)


def reserved(budget: Budget, count: int = 1) -> Reservation:
    """A reservation of 0.02 USD for each picture."""
    return budget.reserve(asked(count), FLUX_MODEL, SERVICE)


def bought(budget: Budget, count: int = 1, **fields: Any) -> Reservation:
    """A reservation whose create was accepted."""
    reservation = reserved(budget, count)
    reservation.bought(seen(**fields))
    return reservation


def stands_at(budget: Budget, *, reserved: str = "0", spent: str = "0") -> bool:
    """Whether the budget has exactly these amounts, and the rest left."""
    amounts = budget.amounts
    assert amounts.left == amounts.usd - amounts.reserved - amounts.spent
    return (amounts.reserved, amounts.spent) == (Decimal(reserved), Decimal(spent))


def left_by(reservation: Reservation, error: BaseException | None) -> Reservation:
    """The reservation, after its ``with`` was left by that error, or went to its end."""
    with pytest.raises(type(error)) if error is not None else nullcontext(), reservation:
        if error is not None:
            raise error
    return reservation


# --- how much -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("5.00", "5.00"),
        (" 5 ", "5.00"),
        (5, "5.00"),
        (Decimal("0.005"), "0.005"),
        ("1e2", "100.00"),
        ("0", "0.00"),
        ("0.000000000001", "0.000000000001"),
        (1_000_000_000, "1000000000.00"),
    ],
)
def test_a_budget_is_given_in_exact_usd(given: Any, shown: str) -> None:
    """In text, Decimal or int; nothing is rounded, and small amounts are no riddle of exponents."""
    budget = Budget(given)
    assert budget.usd == budget.left == Decimal(shown)
    assert repr(budget) == f"Budget(usd={shown}, spent=0.00, reserved=0.00, left={shown})"


@pytest.mark.parametrize("given", [5.0, 0.1, True, None, b"5", [5], "5.00 USD"])
@pytest.mark.parametrize("field", ["usd", "price", "mapping"])
def test_what_is_no_exact_amount_is_refused(given: Any, field: str) -> None:
    """0.1 as a float is more than a tenth; ``True`` is no dollar."""
    if field == "price" and given is None:
        return  # left out
    amounts = {"usd": (given, None), "price": ("5", given), "mapping": ("5", {"m": given})}
    amount, price = amounts[field]
    with pytest.raises((TypeError, ValueError), match=r"(usd|price|price\['m'\])=.*allowed is USD"):
        Budget(amount, price=price)


@pytest.mark.parametrize(
    "given",
    [
        "-0.01",
        "NaN",
        "sNaN",
        "inf",
        "-inf",
        "1e10",
        "1e-13",
        "",
        "$5",
        "0.0000000000001",
        -1,
        10**30,
    ],
)
def test_an_amount_out_of_bounds_is_refused(given: Any) -> None:
    """A NaN compares with nothing, so it would let every job pass; finer ones could not be kept."""
    with pytest.raises(ValueError, match=r"usd=.*: allowed is USD from 0 to 1,000,000,000 with"):
        Budget(given)
    with pytest.raises(ValueError, match=r"price=.*: allowed is USD from 0"):
        Budget("5", price=given)


# --- what a job may cost --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("performance", "count", "price"),
    [
        ("schnell", 1, "0.002"),
        ("dev", 1, "0.02"),
        ("schnell", 8, "0.016"),
        ("dev", 4, "0.08"),
        ("dev", None, "0.02"),
        (None, 2, "0.04"),  # the official page: dev when left out
        (None, None, "0.02"),
    ],
)
def test_the_price_is_the_pages_times_the_number_of_pictures(
    performance: Any, count: Any, price: str
) -> None:
    """The page says "per request" and nothing of several pictures: the worst case is reserved."""
    request = FluxRequest(prompt="a fox", performance=performance, num_images=count)
    budget = Budget("1")
    assert budget.price_of(request, FLUX_MODEL) == Decimal(price)
    reservation = budget.reserve(request, FLUX_MODEL, SERVICE)
    assert reservation.price == Decimal(price)
    assert stands_at(budget, reserved=price)


def test_the_priced_model_is_the_runnables_default() -> None:
    """A renamed default would find no price, and no job would start."""
    assert ShortAPIFlux.model_fields["model"].default == FLUX_MODEL


def test_a_model_without_a_price_is_refused_before_anything_is_sent() -> None:
    """A guess could be a hundredth of what it costs."""
    budget = Budget("5", price={"a": "0.05"})
    for call in (lambda: budget.reserve(DEV, "b", SERVICE), lambda: budget.price_of(DEV, "b")):
        with pytest.raises(ConfigurationError, match=r"budget: .*model 'b'.*price=.*nothing was"):
            call()
    assert stands_at(budget)


@pytest.mark.parametrize(
    ("price", "model", "expected"),
    [
        ("0.05", "other", "0.10"),
        ("0.05", FLUX_MODEL, "0.10"),  # who says a price knows better than the page
        (Decimal("0.5"), "other", "1"),
        (1, "other", "2"),
        (0, "other", "0"),
        ({"other": "0.05"}, "other", "0.10"),
        ({"other": "0.05"}, FLUX_MODEL, "0.004"),
        ({FLUX_MODEL: "0.03"}, FLUX_MODEL, "0.06"),
    ],
)
def test_a_price_given_wins_over_the_page(price: Any, model: str, expected: str) -> None:
    """One price whatever the model, or one for each; those not named keep the page's."""
    budget = Budget("5", price=price)
    assert budget.price_of(asked(2, "schnell"), model) == Decimal(expected)


# --- what may be started --------------------------------------------------------------------------


def test_a_job_is_started_down_to_the_last_cent_and_not_beyond() -> None:
    """Exactly what is left may be spent."""
    budget = Budget("0.10")
    for _ in range(5):
        reserved(budget)
    assert budget.left == 0
    with pytest.raises(BudgetExceeded):
        budget.reserve(asked(1, "schnell"), FLUX_MODEL, SERVICE)
    assert stands_at(budget, reserved="0.10")


def test_the_error_says_the_price_and_what_is_left() -> None:
    """A model or a person can then ask for fewer pictures, or for ``schnell``."""
    budget = Budget("0.10")
    bought(budget)
    budget.settle(seen("succeeded", cost="0.02"))
    reserved(budget)
    with pytest.raises(BudgetExceeded) as caught:
        reserved(budget, 4)
    assert str(caught.value) == (
        "the job may cost 0.08 USD (4 pictures at 0.02), and 0.06 of the budget's 0.10 USD are "
        "left (0.02 spent, 0.02 reserved for jobs that have not ended); nothing was sent"
    )
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.price, again.left, again.usd) == tuple(map(Decimal, ("0.08", "0.06", "0.10")))
    assert (again.charge, again.is_retryable) == ("none", False)


def test_what_was_given_back_can_be_spent_again() -> None:
    """A refusal costs nothing, however many there are."""
    budget = Budget("0.02")
    for _ in range(100):
        reserved(budget).give_back()
    bought(budget)
    budget.settle(seen("failed", charge="refunded"))
    assert stands_at(budget)
    reserved(budget)


def test_more_than_was_expected_counts_and_nothing_more_is_started() -> None:
    """The service's word is the bill; a budget that hid it would be spent twice."""
    budget = Budget("0.05", price={FLUX_MODEL: "0.02", "free": 0})
    bought(budget)
    budget.settle(seen("succeeded", cost="0.50"))
    assert (budget.spent, budget.left) == (Decimal("0.50"), Decimal("-0.45"))
    assert "left=-0.45" in repr(budget)
    with pytest.raises(BudgetExceeded, match=r"-0\.45 of the budget's 0\.05 USD"):
        budget.reserve(DEV, "free", SERVICE)


# --- how a job ends -------------------------------------------------------------------------------

FOUR_PICTURES = 4  # 0.08 USD are reserved
ENDINGS: dict[str, tuple[list[FluxJob], str, str]] = {
    "create accepted, no amount": ([seen()], "0.08", "0"),
    # A running job's amount makes no room for others: it may yet grow.
    "create accepted for less": ([seen(cost="0.02")], "0.08", "0"),
    "create accepted for more": ([seen(cost="0.10")], "0.10", "0"),
    "running, nothing charged yet": ([seen(), seen(cost="0")], "0.08", "0"),
    "running, charged more, then unsaid": ([seen(cost="0.10"), seen()], "0.10", "0"),
    "succeeded, the amount of create": ([seen(cost="0.02"), seen("succeeded")], "0", "0.02"),
    "succeeded, a credit": ([seen(cost="0.02"), seen("succeeded", cost="0.03")], "0", "0.03"),
    "succeeded, more than reserved": ([seen(), seen("succeeded", cost="0.09")], "0", "0.09"),
    "succeeded, for nothing": ([seen(), seen("succeeded", cost="0")], "0", "0"),
    "succeeded, nobody said a cost": ([seen(), seen("succeeded")], "0", "0.08"),
    "succeeded, charge not known": ([seen(), seen("succeeded", charge="unknown")], "0", "0.08"),
    "succeeded and refunded": (
        [seen(), seen("succeeded", cost="0.03", charge="refunded", refunded="0.03")],
        *("0", "0"),
    ),
    "succeeded and refunded in part": (
        [seen(), seen("succeeded", cost="0.03", charge="refunded", refunded="0.01")],
        *("0", "0.02"),
    ),
    "succeeded, a part given back without a word": (
        [seen(), seen("succeeded", cost="0.03", refunded="0.01")],
        *("0", "0.02"),
    ),
    "succeeded without pictures": (
        [seen(), seen("succeeded", cost="0.03", images=())],
        "0",
        "0.03",
    ),
    "succeeded without pictures, charge not known": (
        [seen(), seen("succeeded", cost="0.03", images=(), charge="unknown")],
        *("0", "0.03"),
    ),
    "failed and refunded": (
        [seen(cost="0.03"), seen("failed", charge="refunded", refunded="0.03")],
        *("0", "0"),
    ),
    "failed and refunded, no amounts": ([seen(), seen("failed", charge="refunded")], "0", "0"),
    "failed and refunded, of 0": (
        [seen(), seen("failed", cost="0.03", charge="refunded", refunded="0")],
        *("0", "0"),
    ),
    "failed and refunded more than it cost": (
        [seen(), seen("failed", cost="0.03", charge="refunded", refunded="0.30")],
        *("0", "0"),
    ),
    "failed and refunded, cost not said": (
        [seen(), seen("failed", charge="refunded", refunded="0.02")],
        *("0", "0.06"),
    ),
    "failed and charged": ([seen(), seen("failed", cost="0.03")], "0", "0.03"),
    "failed and never charged": ([seen(), seen("failed", cost="0.03", charge="none")], "0", "0"),
    "failed, charge not known": ([seen(), seen("failed", charge="unknown")], "0.08", "0"),
    "failed, charge not known, cost known": (
        [seen(), seen("failed", cost="0.03", charge="unknown")],
        *("0.03", "0"),
    ),
    "failed, charge not known, then refunded": (
        [seen(), seen("failed", charge="unknown"), seen("failed", charge="refunded")],
        *("0", "0"),
    ),
    "failed, charge not known, then charged": (
        [seen(), seen("failed", charge="unknown"), seen("failed", cost="0.03")],
        *("0", "0.03"),
    ),
    "failed and charged, refunded later": (
        [seen(), seen("failed", cost="0.03"), seen("failed", cost="0.03", charge="refunded")],
        *("0", "0"),
    ),
    "failed and charged, by an older snapshot not known": (
        [seen(), seen("failed", cost="0.03"), seen("failed", charge="unknown")],
        *("0", "0.03"),
    ),
    "failed and charged, by an older snapshot running": (
        [seen(), seen("failed", cost="0.03"), seen(cost="0.05")],
        *("0", "0.03"),
    ),
    "succeeded, by an older snapshot running": (
        [seen(), seen("succeeded", cost="0.03"), seen(cost="0.05")],
        *("0", "0.03"),
    ),
    "the amount is odd": ([seen(cost="0.02"), seen("succeeded", cost="-1")], "0", "0.02"),
}


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("times", [1, 3])
def test_what_a_job_comes_to(name: str, times: int) -> None:
    """By its snapshots, each as often as one likes: a job may be followed by several calls."""
    (first, *others), reserved_usd, spent_usd = ENDINGS[name]
    budget = Budget("5")
    reservation = reserved(budget, FOUR_PICTURES)
    for _ in range(times):
        reservation.bought(first)
    for job in others:
        for _ in range(times):
            budget.settle(job)
    assert stands_at(budget, reserved=reserved_usd, spent=spent_usd)
    for job in (first, *others):
        reservation.bought(job)
    assert stands_at(budget, reserved=reserved_usd, spent=spent_usd)


@pytest.mark.parametrize("name", ENDINGS)
def test_nothing_that_the_service_said_is_given_back_by_hand(name: str) -> None:
    """Only what nobody knows: whatever comes late, or twice, does not make money."""
    (first, *others), reserved_usd, spent_usd = ENDINGS[name]
    budget = Budget("5")
    reservation = reserved(budget, FOUR_PICTURES)
    reservation.bought(first)
    for job in others:
        budget.settle(job)
    unclear = bool(budget.unknown)
    assert unclear == (others != [] and others[-1].charge == "unknown" and Decimal(spent_usd) == 0)
    reservation.keep()
    reservation.keep("j2")
    assert bool(budget.unknown) == unclear
    reservation.give_back()
    assert stands_at(budget, reserved="0" if unclear else reserved_usd, spent=spent_usd)
    reservation.spend("1")
    assert stands_at(budget, reserved="0" if unclear else reserved_usd, spent=spent_usd)


def test_a_job_followed_by_its_id_alone_settles_what_create_reserved() -> None:
    """``acreate`` now, ``afollow(job_id)`` in another call, which knows no request and no cost."""
    budget = Budget("5")
    bought(budget, 8, cost="0.05")
    budget.settle(FluxJob(job_id="j1", status="pending", base_url=SERVICE))
    assert stands_at(budget, reserved="0.16")
    budget.settle(seen("succeeded", model=None))
    assert stands_at(budget, spent="0.05")


def test_a_job_that_was_not_bought_from_the_budget_is_ignored() -> None:
    """One found in the ledger, of another budget, or of another service with ids like ours."""
    budget = Budget("5")
    bought(budget)
    for other in (
        seen("succeeded", "j2", cost="1"),
        seen("succeeded", cost="1", base_url="http://127.0.0.1:8000"),
        seen("succeeded", cost="1", base_url=None),
    ):
        budget.settle(other)
    assert stands_at(budget, reserved="0.02")


def test_equal_ids_of_two_services_are_two_jobs() -> None:
    """A sandbox may count its jobs from one."""
    budget = Budget("5")
    local = "http://127.0.0.1:8000"
    bought(budget)
    budget.reserve(DEV, FLUX_MODEL, local).bought(seen(base_url=local))
    budget.settle(seen("succeeded", cost="0.01", base_url=local))
    assert stands_at(budget, reserved="0.02", spent="0.01")
    budget.settle(seen("succeeded", cost="0.03"))
    assert stands_at(budget, spent="0.04")


def test_a_snapshot_that_names_no_service_is_of_the_one_that_was_asked() -> None:
    """A job made by hand, or dumped by another version."""
    budget = Budget("5")
    bought(budget, base_url=None)
    budget.settle(seen("succeeded", cost="0.03"))
    assert stands_at(budget, spent="0.03")


def test_two_creates_answered_with_one_id_stay_two_reservations() -> None:
    """The second may have been charged too, and no query will ever tell."""
    budget = Budget("5")
    bought(budget)
    second = bought(budget)
    assert stands_at(budget, reserved="0.04")
    budget.settle(seen("succeeded", cost="0.03"))
    assert stands_at(budget, reserved="0.02", spent="0.03")
    assert [one.price for one in budget.unknown] == [DEV_PRICE]
    second.give_back()
    assert stands_at(budget, spent="0.03")


def test_nothing_is_remembered_of_jobs_that_are_over() -> None:
    """A long-lived process must not grow by a line for each picture it ever made."""
    budget = Budget("5")
    for number in range(1000):
        reservation, job_id = reserved(budget), f"j{number}"
        match number % 4:
            case 0:
                reservation.give_back()
            case 1:
                reservation.keep(job_id)
                reservation.give_back()
            case 2:
                reservation.bought(seen(job_id=job_id))
                budget.settle(seen("succeeded", job_id, cost="0.001"))
            case 3:
                reservation.bought(seen("failed", job_id, charge="refunded"))
    assert stands_at(budget, spent="0.25")
    assert (budget._books.jobs, budget._books.unknown) == ({}, {})


# --- how create ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reserved_usd"),
    [
        (InsufficientBalance("no"), "0"),
        (RateLimited("no"), "0"),
        (NotCreated("no"), "0"),
        (CreateOutcomeUnknown("?"), "0.02"),
        (UnexpectedReply("?"), "0.02"),
        (GeneratorExit(), "0.02"),
        (KeyboardInterrupt(), "0.02"),
        (TypeError("a defect of ours"), "0.02"),
        (None, "0.02"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_create_is_read_by_how_it_is_left(error: BaseException | None, reserved_usd: str) -> None:
    """Only where provably no job was made does the money come back by itself."""
    budget = Budget("5")
    reservation = left_by(reserved(budget), error)
    assert stands_at(budget, reserved=reserved_usd)
    assert [one.job_id for one in budget.unknown] == ([] if reserved_usd == "0" else [None])
    reservation.give_back()
    assert stands_at(budget)
    assert budget.unknown == ()


def test_create_that_was_accepted_is_not_in_doubt() -> None:
    """What goes wrong afterwards is the job's own business."""
    budget = Budget("5")
    reservation = left_by(bought(budget), JobFailed("moderated", job_id="j1"))
    assert budget.unknown == ()
    assert reservation.job_id == "j1"
    assert stands_at(budget, reserved="0.02")


def test_a_create_left_before_it_was_sent_gives_back() -> None:
    """A job that waits for the rate limiter when its batch is cancelled was never paid for."""
    budget = Budget("5")
    reservation = reserved(budget)
    reservation.give_back()
    left_by(reservation, GeneratorExit())
    assert stands_at(budget)
    assert budget.unknown == ()


def test_an_unclear_create_that_named_a_job_is_settled_by_a_query() -> None:
    """``refused and yet named job j1``: whoever follows that job finds out."""
    budget = Budget("5")
    left_by(reserved(budget), CreateOutcomeUnknown("refused and yet named a job", job_id="j1"))
    assert [one.job_id for one in budget.unknown] == ["j1"]
    budget.settle(seen())
    assert budget.unknown == ()
    assert stands_at(budget, reserved="0.02")
    budget.settle(seen("succeeded", cost="0.01"))
    assert stands_at(budget, spent="0.01")


# --- by hand --------------------------------------------------------------------------------------


def test_what_nobody_knows_is_settled_by_hand() -> None:
    """After a look at the account: it was free, it cost so much, or here is the job."""
    budget = Budget("5")
    for count in (1, 2, 4):
        reserved(budget, count).keep()
    bought(budget, 8)
    budget.settle(seen("failed", charge="unknown"))
    assert [str(one.price) for one in budget.unknown] == ["0.02", "0.04", "0.08", "0.16"]
    assert repr(budget.unknown[0]) == (
        f"Reservation(0.02 USD, {FLUX_MODEL}, {SERVICE}, no job known)"
    )
    assert repr(budget.unknown[3]).endswith(f"{SERVICE}, job j1)")
    free, charged, found, failed = budget.unknown
    free.give_back()
    charged.spend("0.03")
    found.bought(seen("pending", "j2"))
    failed.spend(0)
    assert budget.unknown == ()
    assert stands_at(budget, reserved="0.08", spent="0.03")
    budget.settle(seen("succeeded", "j2", cost="0.05"))
    assert stands_at(budget, spent="0.08")
    with pytest.raises(TypeError, match=r"usd=0\.1: allowed is USD as text"):
        charged.spend(0.1)  # type: ignore[arg-type]


def test_by_hand_counts_once() -> None:
    """The first word stands, so that a script may run over the list again."""
    budget = Budget("5")
    one, two = reserved(budget), reserved(budget)
    one.keep()
    one.spend("0.01")
    one.give_back()
    one.keep()
    two.give_back()
    two.spend("0.02")
    two.keep("j9")
    assert stands_at(budget, spent="0.01")
    assert budget.unknown == ()


@pytest.mark.parametrize("before", ["give_back", "keep", "spend"])
def test_a_job_that_turns_up_counts_whatever_was_thought(before: str) -> None:
    """The answer to a create may come in after somebody gave it up."""
    budget = Budget("0.02")
    reservation = reserved(budget)
    getattr(reservation, before)(*(["0.01"] if before == "spend" else []))
    reservation.bought(seen())
    reservation.bought(seen("succeeded", "another", cost="9"))
    assert stands_at(budget, reserved="0.02")
    assert budget.unknown == ()
    budget.settle(seen("succeeded", cost="0.03"))
    assert stands_at(budget, spent="0.03")


@pytest.mark.parametrize("end", ["create unclear", "charge not known"])
def test_the_service_has_the_last_word_over_what_was_settled_by_hand(end: str) -> None:
    """Somebody gives back too early, and then finds the job after all."""
    budget = Budget("5")
    reservation = reserved(budget)
    if end == "create unclear":
        reservation.keep("j1")
    else:
        reservation.bought(seen("failed", charge="unknown"))
    (listed,) = budget.unknown
    listed.give_back()
    assert stands_at(budget)
    listed.bought(seen("failed", cost="0.03"))
    assert stands_at(budget, spent="0.03")


# --- exact ----------------------------------------------------------------------------------------


def test_a_threads_decimal_context_does_not_reach_the_books() -> None:
    """``decimal.getcontext().prec = 3`` in a notebook must not round a budget."""
    with localcontext() as context:
        context.prec = 2
        context.traps[Inexact] = True
        context.traps[InvalidOperation] = False
        budget = Budget("123456.789")
        bought(budget, 8)
        budget.settle(seen("succeeded", cost="0.123456789"))
        amounts = budget.amounts
        with pytest.raises(ValueError, match="usd='five'"):
            Budget("five")
    assert tuple(map(str, amounts)) == ("123456.789", "0.123456789", "0.00", "123456.665543211")


@pytest.mark.parametrize(
    ("cost", "spent"),
    [
        ("0.0000000000015", "0.000000000002"),  # finer than is counted: rounded up
        ("1e-999999", "0.000000000001"),
        ("1e999999", "1000000000"),
        ("9" * 200, "1000000000"),
        ("0." + "9" * 200, "1"),
    ],
)
def test_an_absurd_cost_is_counted_within_bounds(cost: str, spent: str) -> None:
    """It must neither break the books nor slip through them, and still be shown in one line."""
    budget = Budget("5")
    bought(budget)
    budget.settle(seen("succeeded").model_copy(update={"cost": Decimal(cost)}))
    assert stands_at(budget, spent=spent)
    assert len(repr(budget)) < 120


@pytest.mark.parametrize("cost", ["NaN", "sNaN", "Infinity", "-Infinity", "-0.01"])
def test_an_odd_cost_counts_as_unreported(cost: str) -> None:
    """As the wire reads it."""
    budget = Budget("5")
    bought(budget)
    odd = {"cost": Decimal(cost), "refunded": Decimal(cost)}
    budget.settle(seen("succeeded").model_copy(update=odd))
    assert stands_at(budget, spent="0.02")


# --- copies, processes ----------------------------------------------------------------------------


def test_a_copy_is_the_same_budget() -> None:
    """``flux.bind(...)``, ``with_config`` and pydantic copy; the money is there once."""
    budget = Budget("5")
    assert copy.copy(budget) is budget
    assert copy.deepcopy({"budget": budget})["budget"] is budget


def test_a_pickle_can_be_read_and_starts_nothing() -> None:
    """A Runnable goes to a worker process with it, which must not spend the same money again."""
    budget = Budget("5", price={"other": "0.05"})
    bought(budget)
    reserved(budget)
    budget.settle(seen("succeeded", cost="0.03"))
    again = pickle.loads(pickle.dumps(budget))
    assert again.amounts == budget.amounts
    assert repr(again) == (
        "Budget(usd=5.00, spent=0.03, reserved=0.02, left=4.95, of another process)"
    )
    assert again.price_of(DEV, "other") == Decimal("0.05")
    for budget_of_another in (again, pickle.loads(pickle.dumps(again))):
        with pytest.raises(ConfigurationError, match="belongs to another process"):
            reserved(budget_of_another)
    reserved(budget)
    assert stands_at(again, reserved="0.02", spent="0.03")


FORKED = """
import os, sys, threading
from langchain_shortapi_flux import FluxRequest
from langchain_shortapi_flux.errors import ConfigurationError
from langchain_shortapi_flux.spending import FLUX_MODEL, Budget

budget, request = Budget("5"), FluxRequest(prompt="a fox")
with budget.reserve(request, FLUX_MODEL, "https://x") as ours:
    held, done = threading.Event(), threading.Event()

    def hold():
        with budget._books.lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    child = os.fork()
    if child == 0:
        try:
            budget.reserve(request, FLUX_MODEL, "https://x")
        except ConfigurationError:
            ours.keep()
            os._exit(0 if "left=4.98, of another process" in repr(budget) else 2)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
budget.reserve(request, FLUX_MODEL, "https://x")
print(os.waitstatus_to_exitcode(status), budget)
"""


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="there is no fork")
def test_a_forked_process_starts_nothing_and_waits_for_no_lock() -> None:
    """The thread that held the lock is not there any more; nor is the money twice."""
    ended = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=False, timeout=30
    )
    assert ended.stdout == "0 Budget(usd=5.00, spent=0.00, reserved=0.04, left=4.96)\n", (
        ended.stderr
    )


# --- many at once ---------------------------------------------------------------------------------


@dataclass
class Life:
    """What one job comes to by the rules, told again in the plainest way, and the jobs it took."""

    reserved: Decimal = Decimal(0)
    spent: Decimal = Decimal(0)

    def now(self, *, reserved: Decimal = Decimal(0), spent: Decimal = Decimal(0)) -> None:
        """From now on it comes to that."""
        self.reserved, self.spent = reserved, spent


@dataclass
class Crowd:
    """Lives that share a budget.

    ``greedy``: the service may charge more than its page says; ``alone``: in one thread.
    """

    budget: Budget
    greedy: bool
    alone: bool
    lives: list[Life] = field(default_factory=list)
    refused: int = 0
    rightly_refused: int = 0
    over: deque[FluxJob] = field(default_factory=lambda: deque(maxlen=100))

    def check(self) -> None:
        """At any moment, from any thread: what is promised is never more than there is."""
        amounts = self.budget.amounts
        assert amounts.left == amounts.usd - amounts.reserved - amounts.spent
        assert amounts.spent >= 0
        assert amounts.reserved >= 0
        if not self.greedy:
            assert amounts.left >= 0

    def check_totals(self) -> None:
        """While nobody is in the middle of something: to the last fraction of a cent."""
        amounts = self.budget.amounts
        assert self.rightly_refused == self.refused
        assert amounts.reserved == sum((life.reserved for life in self.lives), Decimal(0))
        assert amounts.spent == sum((life.spent for life in self.lives), Decimal(0))

    def live(self, job_id: str, dice: Random) -> Iterator[None]:
        """One job, from before create to whatever end the dice find; others may come between."""
        request = asked(dice.choice((1, 2, 4, 8)), dice.choice(("schnell", "dev")))
        each = Decimal("0.02") if request.performance == "dev" else Decimal("0.002")
        price = each * (request.num_images or 1)
        life = Life()
        try:
            reservation = self.budget.reserve(request, FLUX_MODEL, SERVICE)
        except BudgetExceeded as error:
            self.refused += 1
            self.rightly_refused += error.price == price > (error.left or 0)
            return
        if self.alone:
            assert self.budget.left >= 0
        self.lives.append(life)
        life.now(reserved=price)
        yield
        ways: dict[str, BaseException] = {
            "refused": RateLimited("no"),
            "lost": CreateOutcomeUnknown("?"),
            "left": GeneratorExit(),
        }
        way = dice.choice((*ways, *["bought"] * 7))
        if way in ways:
            left_by(reservation, ways[way])
            life.now(reserved=Decimal(0) if way == "refused" else price)
            return
        yield from self._followed(job_id, price, reservation, life, dice)

    def _followed(
        self, job_id: str, price: Decimal, reservation: Reservation, life: Life, dice: Random
    ) -> Iterator[None]:
        cost = self._a_cost(price, dice)
        held = max(price, cost or Decimal(0))
        life.now(reserved=held)
        with reservation:
            reservation.bought(seen(job_id=job_id, cost=cost))
        yield
        for _ in range(dice.randrange(3)):
            said = self._a_cost(price, dice)
            cost, held = cost if said is None else said, max(held, said or Decimal(0))
            life.now(reserved=held)
            self.budget.settle(seen(job_id=job_id, cost=said))
            yield
        said = self._a_cost(price, dice)
        cost = said if said is not None else cost if cost is not None else price
        back = (cost * dice.choice((0, 1, 2)) / 2).normalize()
        end = dice.choice(("never", "succeeded", "in part", "charged", "unknown", "refunded"))
        if end == "never":
            return
        job = {
            "succeeded": seen("succeeded", job_id, cost=said),
            "in part": seen("succeeded", job_id, cost=said, charge="refunded", refunded=back),
            "charged": seen("failed", job_id, cost=said),
            "unknown": seen("failed", job_id, cost=said, charge="unknown"),
            "refunded": seen("failed", job_id, cost=said, charge="refunded"),
        }[end]
        spent = {"succeeded": cost, "in part": cost - back if back else Decimal(0), "charged": cost}
        life.now(
            reserved=cost if end == "unknown" else Decimal(0), spent=spent.get(end, Decimal(0))
        )
        self.over.append(job)
        self.budget.settle(job)
        yield
        # Others follow the same jobs.
        for job in list(self.over)[-3:]:
            self.budget.settle(job)

    def _a_cost(self, price: Decimal, dice: Random) -> Decimal | None:
        most = 3 if self.greedy else 1
        return dice.choice(
            (None, price, price / 2, Decimal(0), price * most, Decimal("0.0017") * most)
        )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("greedy", [False, True])
def test_the_books_are_right_after_each_step(seed: int, greedy: bool) -> None:
    """Sixty lives mixed at random, against the rules told again, after every single step."""
    dice = Random(seed)
    crowd = Crowd(Budget("1.00"), greedy, alone=True)
    lives = [crowd.live(f"j{number}", Random(f"{seed} {number}")) for number in range(60)]
    while lives:
        life = dice.choice(lives)
        if next(life, "over") == "over":
            lives.remove(life)
        crowd.check()
        crowd.check_totals()
    assert crowd.refused
    assert len(crowd.lives) > 10


def restless(work: Callable[[], T]) -> T:
    """Do that work so that another thread may come in at every line of the books."""

    def at_each_line(frame: FrameType, *_: object) -> Any:
        if frame.f_code.co_filename in (budget_books.__file__, spending.__file__):
            time.sleep(0)  # which lets others run
            return at_each_line
        return None

    before = sys.gettrace()
    sys.settrace(at_each_line)
    try:
        return work()
    finally:
        sys.settrace(before)


def all_at_once(work: Callable[[int], T], count: int = THREADS) -> list[T]:
    """What comes of that many restless threads that start together."""
    start = threading.Barrier(count)

    def one(number: int) -> T:
        start.wait(20)
        return restless(lambda: work(number))

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


@pytest.mark.thorough
@pytest.mark.parametrize("greedy", [False, True])
async def test_it_holds_to_the_cent_under_64_threads_and_500_tasks(greedy: bool) -> None:
    """All at once on one budget, with every way a job can end; and nobody waits for ever."""
    crowd = Crowd(Budget("30"), greedy, alone=False)

    def in_a_thread(number: int) -> None:
        dice = Random(f"thread {number}")
        for turn in range(5):
            for _ in crowd.live(f"t{number}-{turn}", dice):
                crowd.check()

    async def in_a_task(number: int) -> None:
        dice = Random(f"task {number}")
        for turn in range(4):
            for _ in crowd.live(f"a{number}-{turn}", dice):
                crowd.check()
                await asyncio.sleep(0)

    threads = asyncio.create_task(asyncio.to_thread(all_at_once, in_a_thread))
    await asyncio.gather(threads, *(in_a_task(number) for number in range(TASKS)))
    crowd.check_totals()
    assert crowd.refused > 100
    assert len(crowd.lives) > 500


def test_a_last_cent_is_spent_once_by_64_threads() -> None:
    """Two that both see 0.02 left, and both start, are the defect that a budget is for."""
    budget = Budget("0.20")

    def started(_: int) -> bool:
        try:
            reserved(budget)
        except BudgetExceeded:
            return False
        return True

    assert sum(all_at_once(started)) == 10
    assert stands_at(budget, reserved="0.20")


@pytest.mark.thorough
def test_a_job_that_64_threads_follow_is_settled_once() -> None:
    """Each of them brings the same news."""
    budget = Budget("5")
    reservations = [bought(budget, job_id=f"j{number}") for number in range(3)]

    def follow(_: int) -> None:
        for number, reservation in enumerate(reservations):
            reservation.bought(seen("failed", f"j{number}", cost="0.03"))
            budget.settle(
                seen("failed", f"j{number}", cost="0.03", charge="refunded", refunded="0.01")
            )

    all_at_once(follow)
    assert stands_at(budget, spent="0.06")


def test_amounts_are_of_one_moment() -> None:
    """While what is reserved turns into what is spent, nothing seems left, or overspent."""
    budget = Budget("0.64")
    for number in range(32):
        bought(budget, job_id=f"j{number}")

    def settle_or_read(number: int) -> Decimal:
        if number % 2:
            budget.settle(seen("succeeded", f"j{number // 2}", cost="0.02"))
        return max((budget.left for _ in range(5)), key=abs)

    assert set(all_at_once(settle_or_read)) == {Decimal(0)}
    assert stands_at(budget, spent="0.64")


@pytest.mark.parametrize("way", ["bought", "give_back", "keep"])
def test_a_reservation_that_64_threads_end_is_ended_once(way: str) -> None:
    """Whoever comes second must find it done."""
    budget = Budget("5")
    reservations = [reserved(budget) for _ in range(3)]

    def end(_: int) -> None:
        for number, reservation in enumerate(reservations):
            if way == "bought":
                reservation.bought(seen("succeeded", f"j{number}", cost="0.03"))
            else:
                getattr(reservation, way)()
            budget.unknown  # noqa: B018 - read while others write

    all_at_once(end)
    ends = {"bought": {"spent": "0.09"}, "give_back": {}, "keep": {"reserved": "0.06"}}
    assert stands_at(budget, **ends[way])
    assert len(budget.unknown) == (3 if way == "keep" else 0)


def test_a_flow_that_garbage_collection_closes_in_the_middle_of_a_call_is_counted() -> None:
    """It closes generators wherever it runs, also in a thread that has the lock: never wait."""
    budget = Budget("1000")
    kept = given_back = 0

    def flow(*, sent: bool) -> Iterator[None]:
        with reserved(budget) as reservation:
            try:
                yield
            except GeneratorExit:
                if not sent:
                    reservation.give_back()
                raise

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(2000):
            sent = number % 3 == 0
            kept, given_back = kept + sent, given_back + (not sent)
            cycle: list[Any] = [flow(sent=sent)]
            next(cycle[0])
            cycle.append(cycle)
            del cycle
            bought(budget, job_id=f"j{number}")
            budget.settle(seen("succeeded", f"j{number}", cost="0.01"))
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert given_back > kept
    assert budget.spent == Decimal("0.01") * 2000
    assert budget.reserved == DEV_PRICE * kept
    assert len(budget.unknown) == kept


def test_the_thread_that_has_the_lock_does_not_wait_for_itself() -> None:
    """As above, and a signal's handler that shows the budget: said plainly, with a time limit."""
    budget = Budget("1")
    one, two = reserved(budget), reserved(budget)
    left: list[Decimal] = []

    def within() -> None:
        with budget._books.lock:
            one.give_back()
            two.keep()
            left.append(budget.left)

    thread = threading.Thread(target=within, daemon=True)
    thread.start()
    thread.join(10)
    assert left == [Decimal("0.98")]
