"""100 jobs of 3 to 5 s at once, with a callback receiver and without: queries per job, and lag.

Run: ``python tests/benchmarks/called_back.py [JOBS]``. The sandbox runs in a process of its own
and calls the receiver in this one, over real HTTP on loopback. The lag runs from the end of a job
to the moment when ``ainvoke`` has given it to us; the goal with a receiver is 1.3 queries, lag p95
0.1 s.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

from sandbox_process import LONGEST, SHORTEST, SandboxProcess

from langchain_shortapi_flux import CallbackReceiver, ShortAPIFlux

JOBS = 100


async def run(server: SandboxProcess, count: int, *, called: bool) -> list[tuple[str, int, float]]:
    """Of each job: its id, how often it was queried, and when it was ours."""
    async with AsyncExitStack() as stack:
        fields: dict[str, Any] = {}
        if called:
            fields["callback_receiver"] = await stack.enter_async_context(CallbackReceiver())
        flux = ShortAPIFlux(base_url=server.base_url, api_key=server.api_key, **fields)

        async def one(number: int) -> tuple[str, int, float]:
            job = await flux.ainvoke(f"fox {number}")
            return job.job_id, job.queries, time.monotonic()

        return await asyncio.gather(*map(one, range(count)))


def main() -> None:
    """Measure both and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    print(f"{count} jobs of {SHORTEST:g} to {LONGEST:g} s at once")
    print(f"{'':22}{'queries/job':>12}{'lag p50 s':>11}{'p95':>7}{'most':>7}")
    for name, called in (("callback receiver", True), ("polling, the defaults", False)):
        with SandboxProcess() as server:
            jobs = asyncio.run(run(server, count, called=called))
        lags = sorted(had - server.ended[job_id] for job_id, _, had in jobs)
        middle, late = (lags[math.ceil(share * count) - 1] for share in (0.5, 0.95))
        queries = sum(asked for _, asked, _ in jobs) / count
        print(f"{name:22}{queries:12.2f}{middle:11.2f}{late:7.2f}{lags[-1]:7.2f}")


if __name__ == "__main__":
    main()
