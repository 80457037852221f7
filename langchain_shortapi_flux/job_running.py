"""Runs the flow of a job for a Runnable: picks the driver, and tells the run of every snapshot.

It joins flow, driver, progress and trace. It knows nothing of how LangChain calls.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux.run_progress import RunProgress
from langchain_shortapi_flux.traced_cost import TracedCost

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
    from types import ModuleType

    from langchain_shortapi_flux.connection import Connection
    from langchain_shortapi_flux.flow_steps import JobFlow
    from langchain_shortapi_flux.flux_input import FluxInput
    from langchain_shortapi_flux.flux_settings import FluxSettings
    from langchain_shortapi_flux.job import FluxJob
    from langchain_shortapi_flux.surroundings import Surroundings

_logger = logging.getLogger(__package__)


def run(flux: FluxSettings, choose: Callable[[ModuleType], JobFlow]) -> Iterator[FluxJob]:
    """Run the flow that ``choose`` takes from ``flux_flows``, blocking."""
    # Imported when first used: both would double what importing this package costs.
    from langchain_shortapi_flux import flux_flows, requests_driver  # noqa: PLC0415

    flow = choose(flux_flows)
    return requests_driver.run(flow, flux.connection(), _surroundings(flux))


def arun(
    flux: FluxSettings,
    choose: Callable[[ModuleType], JobFlow],
    connect: Callable[[], Connection] | None = None,
) -> AsyncGenerator[FluxJob]:
    """The async twin of ``run``. ``connect``: gives what ``flux.connection()`` would."""
    from langchain_shortapi_flux import aiohttp_driver, flux_flows  # noqa: PLC0415

    flow = choose(flux_flows)
    return aiohttp_driver.run(flow, (connect or flux.connection)(), _surroundings(flux))


def buy(flux: FluxSettings, input: FluxInput, options: Mapping[str, Any]) -> Iterator[FluxJob]:
    """Buy a job and follow it, telling the run that is going on of every snapshot."""
    cost, progress = TracedCost(), RunProgress()
    for job in run(flux, lambda flows: flows.buy_flow(flux, input, options)):
        cost.see(job)
        progress.tell(job)
        yield job


async def abuy(
    flux: FluxSettings, input: FluxInput, options: Mapping[str, Any]
) -> AsyncGenerator[FluxJob]:
    """The async twin of ``buy``."""
    cost, progress = TracedCost(), RunProgress()
    jobs = arun(flux, lambda flows: flows.buy_flow(flux, input, options))
    async with aclosing(jobs):
        async for job in jobs:
            cost.see(job)
            await progress.atell(job)
            yield job


async def abuy_to_the_end(
    flux: FluxSettings,
    input: FluxInput,
    options: Mapping[str, Any],
    see: Callable[[FluxJob], None] | None = None,
    connect: Callable[[], Connection] | None = None,
) -> FluxJob:
    """The last snapshot of ``abuy``. ``see`` is shown each, before anybody is told.

    ``connect`` is as in ``arun``.
    """
    cost, progress, job = TracedCost(), RunProgress(), None
    # Not through ``abuy``: a generator more for each of thousands of jobs is felt.
    jobs = arun(flux, lambda flows: flows.buy_flow(flux, input, options), connect)
    try:
        async with aclosing(jobs):
            async for job in jobs:
                cost.see(job)
                if see is not None:
                    see(job)
                await progress.atell(job)
    except asyncio.CancelledError:
        if job is not None and job.status != "pending":  # else the flow has logged it
            _logger.warning("left when job %s had ended", job.job_id)
        raise
    if job is None:
        raise RuntimeError("a flow ended without a job")
    return job


def last(jobs: Iterator[FluxJob]) -> FluxJob:
    """The last snapshot."""
    *_, job = jobs
    return job


async def alast(jobs: AsyncGenerator[FluxJob]) -> FluxJob:
    """The async twin of ``last``."""
    async with aclosing(jobs):
        async for job in jobs:
            latest = job
    return latest


def _surroundings(flux: FluxSettings) -> Surroundings:
    from langchain_shortapi_flux.surroundings import Surroundings  # noqa: PLC0415

    return Surroundings(flux.ledger, flux.rate_limiter)
