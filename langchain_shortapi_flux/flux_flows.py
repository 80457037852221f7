"""Which flow a call of ``ShortAPIFlux`` runs, and under which circumstances.

It joins what LangChain hands over, the Runnable's settings and the flows. No I/O.
"""

from __future__ import annotations

import math
import os
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.runnables.config import var_child_runnable_config

from langchain_shortapi_flux.account import runs_here
from langchain_shortapi_flux.errors import InvalidRequest
from langchain_shortapi_flux.flow_steps import Circumstances, JobFlow, Order
from langchain_shortapi_flux.follow_flow import follow_job, look_at_job
from langchain_shortapi_flux.input_reading import read_input
from langchain_shortapi_flux.invalid_values import shown
from langchain_shortapi_flux.job import FluxJob, Repeat
from langchain_shortapi_flux.learned_delay import learned_delays
from langchain_shortapi_flux.ledger import purchase_key, request_digest
from langchain_shortapi_flux.pace import pace_of
from langchain_shortapi_flux.purchase import Purchase
from langchain_shortapi_flux.purchase_flow import (
    buy_job_once,
    buy_job_unnamed,
    create_job_once,
    create_job_unnamed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_shortapi_flux.callback import CallbackReceiver
    from langchain_shortapi_flux.flux_input import FluxInput
    from langchain_shortapi_flux.spending import Budget
    from langchain_shortapi_flux.waiting import PollPolicy, RetryLimits


HOLDER_BYTES = 16
"""A claim's token is random, so that no two are alike, in whatever process."""


class Settings(Protocol):
    """The fields of ``ShortAPIFlux`` that a flow depends on."""

    base_url: str
    model: str
    aspect_ratio: Any
    num_images: Any
    performance: Any
    callback_url: str | None
    timeout: float
    poll: PollPolicy
    retry: RetryLimits
    max_queries_per_second: float
    budget: Budget | None
    callback_receiver: CallbackReceiver | None
    claim_lease: float
    on_unknown: Repeat
    on_failed: Repeat

    @property
    def rate_limiter(self) -> object | None:
        """Whether one is asked is all that a flow knows of it."""


def buy_flow(flux: Settings, input: FluxInput, options: Mapping[str, Any]) -> JobFlow:
    """Create a job and follow it; once, if the purchase has a key."""
    order, purchase, named, here = _order(flux, input, options)
    buy = buy_job_once if named else buy_job_unnamed
    if flux.callback_receiver is None:
        return buy(order, purchase, here)
    return _expecting_a_call(flux.callback_receiver, buy, order, purchase, here)


def _expecting_a_call(
    receiver: CallbackReceiver,
    buy: Callable[[Order, Purchase, Circumstances], JobFlow],
    order: Order,
    purchase: Purchase,
    here: Circumstances,
) -> JobFlow:
    """The flow, woken when the service calls. The URL is known for as long as the flow runs."""
    expected = receiver.expect()
    if expected is None:
        return (yield from buy(order, purchase, here))
    with expected:
        expected.told = order.callback_url is None
        order = replace(order, callback_url=order.callback_url or expected.url)
        return (yield from buy(order, purchase, replace(here, expected=expected)))


def create_flow(flux: Settings, input: FluxInput, options: Mapping[str, Any]) -> JobFlow:
    """Create a job; once, if the purchase has a key."""
    order, purchase, named, here = _order(flux, input, options)
    create = create_job_once if named else create_job_unnamed
    return create(order, purchase, here)


def look_flow(flux: Settings, job: str | FluxJob) -> JobFlow:
    """One look at a job bought earlier."""
    return look_at_job(_known(flux, job), _circumstances(flux))


def follow_flow(flux: Settings, job: str | FluxJob, max_wait: float | None) -> JobFlow:
    """Follow a job bought earlier.

    Raises:
        InvalidRequest: ``job`` or ``max_wait`` is none.
    """
    if max_wait is not None and not _is_time(max_wait):
        raise InvalidRequest(f"max_wait={shown(max_wait)}: allowed are seconds above 0, and None")
    return follow_job(_known(flux, job), _circumstances(flux, max_wait), bought_now=False)


def _order(
    flux: Settings, input: FluxInput, options: Mapping[str, Any]
) -> tuple[Order, Purchase, bool, Circumstances]:
    """What is to be bought, under which key, and whether the caller named that key."""
    asked = read_input(input, options, var_child_runnable_config.get())
    here = _circumstances(flux, asked.max_wait)
    order = Order(asked.filled_from(flux), flux.model, flux.callback_url)
    holder, named = os.urandom(HOLDER_BYTES).hex(), asked.request_key is not None
    purchase = Purchase(
        key=purchase_key(flux.base_url, asked.request_key or f"unnamed {holder}"),
        # Nobody comes again with a key that nobody named, so there is nothing to compare.
        digest=request_digest(flux.base_url, flux.model, order.request) if named else "",
        holder=holder,
        # Waiting for a rate limiter's turn may take as long as the whole job may.
        lease=flux.claim_lease + (flux.timeout if here.limited else 0.0),
        on_unknown=asked.on_unknown or flux.on_unknown,
        on_failed=asked.on_failed or flux.on_failed,
        wall=time.time,
        prompt=order.request.prompt,
    )
    return order, purchase, named, here


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and value is not True and 0 < value < math.inf


def _known(flux: Settings, job: object) -> FluxJob:
    """What is known of a job bought earlier, before this call has asked."""
    if isinstance(job, FluxJob):
        if job.base_url not in (None, flux.base_url):
            raise InvalidRequest(
                f"job {job.job_id} lives on {job.base_url}, not on {flux.base_url}",
                job_id=job.job_id,
            )
        return job.model_copy(update={"queries": 0, "elapsed": 0.0, "base_url": flux.base_url})
    job_id = job.strip() if isinstance(job, str) else ""
    if not job_id or not job_id.isprintable():
        raise InvalidRequest("job_id: allowed is a job id, as text that is not blank")
    return FluxJob(job_id=job_id, status="pending", base_url=flux.base_url)


def _circumstances(flux: Settings, max_wait: float | None = None) -> Circumstances:
    return Circumstances(
        base_url=flux.base_url,
        loopback=runs_here(flux.base_url),
        poll=flux.poll,
        retry=flux.retry,
        clock=time.monotonic,
        dice=random.random,
        timeout=flux.timeout,
        started=time.monotonic(),
        max_wait=max_wait,
        limited=flux.rate_limiter is not None,
        pace=pace_of(flux.base_url),
        queries_per_second=flux.max_queries_per_second,
        learned=learned_delays,
        budget=flux.budget,
    )
