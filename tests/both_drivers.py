"""Calls a ``ShortAPIFlux`` through its blocking or its async driver, in the same words.

It knows no cassette and no sandbox.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_shortapi_flux import FluxInput, FluxJob, ShortAPIFlux

DRIVERS = ("requests", "aiohttp")


@dataclass(frozen=True)
class Caller:
    """One driver's way to call: every method is that of ``ShortAPIFlux``, run to its end."""

    driver: str
    flux: ShortAPIFlux

    def with_fields(self, **fields: Any) -> Caller:
        """The same with other fields on the Runnable."""
        return Caller(self.driver, self.flux.model_copy(update=fields))

    def invoke(self, input: FluxInput) -> FluxJob:
        """Buy a job and wait for it."""
        if self.driver == "requests":
            return self.flux.invoke(input)
        return asyncio.run(self.flux.ainvoke(input))

    def stream(self, input: FluxInput) -> list[FluxJob]:
        """All snapshots of a job that is bought."""
        if self.driver == "requests":
            return list(self.flux.stream(input))
        return asyncio.run(_listed(self.flux.astream(input)))

    def create(self, input: FluxInput) -> FluxJob:
        """Buy a job."""
        if self.driver == "requests":
            return self.flux.create(input)
        return asyncio.run(self.flux.acreate(input))

    def query(self, job_id: str) -> FluxJob:
        """Look once."""
        if self.driver == "requests":
            return self.flux.query(job_id)
        return asyncio.run(self.flux.aquery(job_id))

    def follow(self, job_id: str) -> FluxJob:
        """Wait for a job bought before."""
        if self.driver == "requests":
            return self.flux.follow(job_id)
        return asyncio.run(self.flux.afollow(job_id))


async def _listed(jobs: AsyncIterator[FluxJob]) -> list[FluxJob]:
    return [job async for job in jobs]
