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


def arun(flux: FluxSettings, choose: Callable[[ModuleType], JobFlow]) -> AsyncGenerator[FluxJob]:
    """The async twin of ``run``."""
    from langchain_shortapi_flux import aiohttp_driver, flux_flows  # noqa: PLC0415

    return aiohttp_driver.run(choose(flux_flows), flux.connection(), _surroundings(flux))


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
    *,
    heard: bool = True,
) -> FluxJob:
    """The last snapshot of ``abuy``.

    Args:
        flux: The settings.
        input: As for ``abuy``.
        options: As for ``abuy``.
        see: Is shown each snapshot, before anybody is told.
        connect: Gives what ``flux.connection()`` would.
        heard: Whether there may be anybody to tell.
    """
    from langchain_shortapi_flux import aiohttp_driver, flux_flows  # noqa: PLC0415

    # Not through ``abuy`` and ``aclosing``: what each of thousands of jobs holds is felt.
    flow = flux_flows.buy_flow(flux, input, options)
    jobs = aiohttp_driver.run(flow, (connect or flux.connection)(), _surroundings(flux))
    cost, progress = (TracedCost(), RunProgress()) if heard else (None, None)
    job: FluxJob | None = None
    try:
        async for job in jobs:
            if see is not None:
                see(job)
            if cost is not None:
                cost.see(job)
            if progress is not None:
                await progress.atell(job)
    except BaseException as left:
        await jobs.aclose()
        if isinstance(left, asyncio.CancelledError) and job is not None and job.status != "pending":
            _logger.warning("left when job %s had ended", job.job_id)  # else the flow has logged it
        raise
    return _found(job)


def last(jobs: Iterator[FluxJob]) -> FluxJob:
    """The last snapshot."""
    latest: FluxJob | None = None
    try:
        for job in jobs:
            latest = job
    except BaseException as left:
        _log_left(latest, left)
        raise
    return _found(latest)


async def alast(jobs: AsyncGenerator[FluxJob]) -> FluxJob:
    """The async twin of ``last``."""
    latest: FluxJob | None = None
    try:
        async with aclosing(jobs):
            async for job in jobs:
                latest = job
    except BaseException as left:
        _log_left(latest, left)
        raise
    return _found(latest)


def _log_left(job: FluxJob | None, left: BaseException) -> None:
    # While it runs the flow logs it; but one may be left when all is done but closing a socket.
    if job is not None and not isinstance(left, Exception):
        _logger.warning("left when job %s was known: %s", job.job_id, job.status)


def _found(job: FluxJob | None) -> FluxJob:
    if job is None:
        raise RuntimeError("a flow ended without a job")
    return job


def _surroundings(flux: FluxSettings) -> Surroundings:
    from langchain_shortapi_flux.surroundings import Surroundings  # noqa: PLC0415

    return Surroundings(flux.ledger, flux.rate_limiter)
