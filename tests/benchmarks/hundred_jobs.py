"""100 jobs of 3 to 5 s at once on one event loop: wall time, lag, queries, CPU, threads.

Run: ``python tests/benchmarks/hundred_jobs.py [JOBS]``. The sandbox runs in a process of its own,
so that the figures are the client's. Beside it, in the same run, a bare aiohttp loop that makes
the same calls on the same schedule.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time

import aiohttp
from sandbox_process import LONGEST, SHORTEST, SandboxProcess

from langchain_shortapi_flux import PollPolicy, ShortAPIFlux

JOBS = 100


async def through_the_pack(server: SandboxProcess, count: int) -> list[int]:
    """Queries of each job, through ``ainvoke``."""
    flux = ShortAPIFlux(base_url=server.base_url, api_key=server.api_key)

    async def one(number: int) -> int:
        return (await flux.ainvoke(f"fox {number}")).queries

    return await asyncio.gather(*map(one, range(count)))


async def through_bare_aiohttp(server: SandboxProcess, count: int) -> list[int]:
    """The same calls on the same schedule, with nothing around them."""
    poll, headers = PollPolicy(), {"Authorization": f"Bearer {server.api_key}"}
    async with aiohttp.ClientSession(
        headers=headers, connector=aiohttp.TCPConnector(limit=64)
    ) as session:

        async def one(number: int) -> int:
            queries = 0
            args = {"prompt": f"fox {number}", "aspect_ratio": "1:1"}
            body = {"model": "shortapi/flux-1.0/text-to-image", "args": args}
            async with session.post(f"{server.base_url}/api/v1/job/create", json=body) as reply:
                job_id = (await reply.json())["data"]["job_id"]
            created = time.monotonic()
            while True:
                waited = time.monotonic() - created
                await asyncio.sleep(poll.wait(queries, waited, random.random()))
                url = f"{server.base_url}/api/v1/job/query?id={job_id}"
                async with session.get(url) as reply:
                    record = (await reply.json())["data"]
                queries += 1
                if record["status"] == 2:
                    return queries

        return await asyncio.gather(*map(one, range(count)))


def main() -> None:
    """Measure both and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    print(f"{count} jobs of {SHORTEST:g} to {LONGEST:g} s at once")
    print(
        f"{'':14}{'wall s':>8}{'slowest s':>11}{'queries/job':>13}{'CPU ms/job':>12}"
        f"{'threads':>9}{'sockets':>9}{'charges':>9}"
    )
    for name, run in (("bare aiohttp", through_bare_aiohttp), ("ainvoke", through_the_pack)):
        with SandboxProcess() as server:
            wall, cpu = time.monotonic(), time.process_time()
            jobs = asyncio.run(run(server, count))
            wall, cpu = time.monotonic() - wall, time.process_time() - cpu
            threads = threading.active_count()
        queries = sum(jobs) / count
        print(
            f"{name:14}{wall:8.2f}{server.slowest:11.2f}{queries:13.2f}{1000 * cpu / count:12.2f}"
            f"{threads:9}{server.peak_sockets:9}{server.charges:9}"
        )


if __name__ == "__main__":
    main()
