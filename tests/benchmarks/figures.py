"""Thousands of jobs on one event loop, beside bare aiohttp and requests in threads: the figures.

Run::

    python tests/benchmarks/figures.py            # medians of three, about 15 minutes
    python tests/benchmarks/figures.py --quick    # one run of each, without the 5,000

Every measurement is a process of its own, and so is the server; jobs take 3 to 5 s. Each way in is
warmed up with one job, and the garbage of that and of importing is collected before it is measured.
"Bare" does the same calls on the same schedule, and nothing else. That schedule makes a query every
0.35 s from 2.5 s on; a row of its own shows the schedule as it comes, on which longer jobs take
fewer queries. Far from the server the sockets that come bound how fast jobs are created and queried
(64 calls in each round trip), so there are rows with more of them, up to one for each of 500 jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import requests
from job_server import KEY, JobServer
from langchain_core.callbacks import BaseCallbackHandler

from langchain_shortapi_flux import PollPolicy, ShortAPIFlux, ShortAPIFluxTool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

POLL = PollPolicy(first_delay=2.5, gap_min=0.35, gap_share=0.0, learn=False)
"""What all rows run with but those named after the defaults: five queries at most, spent on lag."""
DEFAULTS = PollPolicy(learn=False)
"""The schedule as it comes. Nothing is learned, for the bare ways do not learn either."""


@dataclass(frozen=True)
class Way:
    """Who makes the calls of a row, over how many sockets at most, and on which schedule."""

    by: str
    sockets: int = ShortAPIFlux.model_fields["max_connections"].default
    poll: PollPolicy = POLL


WAYS = {
    "bare aiohttp": Way("bare aiohttp"),
    "abatch": Way("abatch"),
    "batch": Way("batch"),
    "requests in threads": Way("requests in threads"),
    "abatch, 16 sockets": Way("abatch", sockets=16),
    "abatch, defaults": Way("abatch", poll=DEFAULTS),
    "bare, 512 sockets": Way("bare aiohttp", sockets=512),
    "abatch, 512 sockets": Way("abatch", sockets=512),
    "batch, 512 sockets": Way("batch", sockets=512),
    "bare, 1024 sockets": Way("bare aiohttp", sockets=1024),
    "abatch, 1024 sockets": Way("abatch", sockets=1024),
}
"""What each row measures, by its name."""
NEAR, FAR = 0.0, 0.15
"""Round trips in seconds."""
ROWS = {
    (NEAR, 500): (
        "bare aiohttp",
        "abatch",
        "batch",
        "requests in threads",
        "abatch, 16 sockets",
        "abatch, defaults",
    ),
    (NEAR, 5_000): ("bare aiohttp", "abatch"),
    (FAR, 500): (
        "bare aiohttp",
        "abatch",
        "batch",
        "requests in threads",
        "bare, 512 sockets",
        "abatch, 512 sockets",
        "batch, 512 sockets",
    ),
    (FAR, 5_000): ("bare aiohttp", "abatch", "bare, 1024 sockets", "abatch, 1024 sockets"),
}
"""By round trip and number of jobs: the rows of each table."""
PROMPT = "a red fox in the snow"
BODY = {"model": "shortapi/flux-1.0/text-to-image", "args": {"prompt": PROMPT}}
HEADERS = {"Authorization": f"Bearer {KEY}"}
CAP_500, CAP_5000 = 1_000.0, 2_500.0
"""Queries per second: the default, and what 5,000 jobs were run with."""
ONE_JOB_RUNS = 30
ONE_JOB_POLL = PollPolicy.fixed(0.05)
TRACED_JOBS = 100


async def bare_aiohttp(base_url: str, count: int, sockets: int) -> list[int]:
    """How often each job was queried."""
    api = f"{base_url}/api/v1/job"
    connector = aiohttp.TCPConnector(limit=sockets)
    async with aiohttp.ClientSession(headers=HEADERS, connector=connector) as session:

        async def one() -> int:
            async with session.post(f"{api}/create", json=BODY) as reply:
                job_id = (await reply.json())["data"]["job_id"]
            created, queries, took = time.monotonic(), 0, 0.0
            while True:
                waited = time.monotonic() - created
                await asyncio.sleep(POLL.wait(queries, waited, random.random(), took=took))
                sent = time.monotonic()
                async with session.get(f"{api}/query?id={job_id}") as reply:
                    record = (await reply.json())["data"]
                took, queries = time.monotonic() - sent, queries + 1
                if record["status"] == 2:
                    return queries

        return await asyncio.gather(*(one() for _ in range(count)))


def bare_requests(base_url: str, poll: PollPolicy = POLL) -> int:
    """How often one job was queried."""
    api = f"{base_url}/api/v1/job"
    with requests.Session() as session:
        session.headers.update(HEADERS)
        session.trust_env = False
        job_id = session.post(f"{api}/create", json=BODY).json()["data"]["job_id"]
        created, queries, took = time.monotonic(), 0, 0.0
        while True:
            waited = time.monotonic() - created
            time.sleep(poll.wait(queries, waited, random.random(), took=took))
            sent = time.monotonic()
            record = session.get(f"{api}/query?id={job_id}").json()["data"]
            took, queries = time.monotonic() - sent, queries + 1
            if record["status"] == 2:
                return queries


def flux_at(base_url: str, **fields: Any) -> ShortAPIFlux:
    """The pack, as it comes, on that server."""
    return ShortAPIFlux(**{"base_url": base_url, "api_key": KEY, "poll": POLL, **fields})


def resident(field: str) -> float:
    """Memory of this process in MiB, now (``VmRSS``) or at its peak (``VmHWM``)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024


class Meter:
    """Time, CPU and memory that this process takes from now on. Its garbage is collected first."""

    def __init__(self) -> None:
        gc.collect()
        self._before, self._wall = resident("VmRSS"), time.monotonic()
        self._cpu = time.process_time()

    def found(self, queries: list[int]) -> dict[str, float]:
        """What was taken until now by jobs of which each was queried so often."""
        wall, cpu = time.monotonic() - self._wall, time.process_time() - self._cpu
        return {
            "wall": wall,
            "cpu": 1000 * cpu / len(queries),
            "queries": statistics.mean(queries),
            "growth": resident("VmHWM") - self._before,
            "ok": len(queries),
        }


async def _async(way: Callable[[int], Awaitable[list[int]]], count: int) -> dict[str, float]:
    await way(1)
    meter = Meter()
    return meter.found(await way(count))


def run_one(name: str, count: int, round_trip: float, cap: float) -> dict[str, Any]:
    """One measurement, in this process."""
    row = WAYS[name]
    with JobServer(count + 1, round_trip=round_trip) as server:
        flux = flux_at(
            server.base_url,
            poll=row.poll,
            max_connections=row.sockets,
            max_queries_per_second=cap,
        )

        async def through_abatch(jobs: int) -> list[int]:
            return [job.queries for job in await flux.abatch([PROMPT] * jobs)]

        async def through_aiohttp(jobs: int) -> list[int]:
            return await bare_aiohttp(server.base_url, jobs, row.sockets)

        if row.by in ("abatch", "bare aiohttp"):
            way = through_aiohttp if row.by == "bare aiohttp" else through_abatch
            found = asyncio.run(_async(way, count))
        elif row.by == "batch":
            flux.batch([PROMPT])
            meter = Meter()
            found = meter.found([job.queries for job in flux.batch([PROMPT] * count)])
        else:
            bare_requests(server.base_url)
            meter = Meter()
            with ThreadPoolExecutor(count) as pool:
                queries = list(pool.map(bare_requests, [server.base_url] * count))
            found = meter.found(queries)
        found["threads"] = threading.active_count()
    return found | {"slowest": server.slowest, "sockets": server.peak_sockets}


def one_job() -> dict[str, float]:
    """CPU of one ``invoke`` and of a bare ``requests`` loop, in ms, on the same schedule."""
    took: dict[str, list[float]] = {"invoke": [], "requests": []}
    with JobServer(2 * ONE_JOB_RUNS + 3, "0.3") as server:
        flux = flux_at(server.base_url, poll=ONE_JOB_POLL)
        ways: dict[str, Callable[[], object]] = {
            "invoke": lambda: flux.invoke(PROMPT),
            "requests": lambda: bare_requests(server.base_url, ONE_JOB_POLL),
        }
        for way in ways.values():
            way()
        for _ in range(ONE_JOB_RUNS):
            for name, way in ways.items():
                cpu = time.process_time()
                way()
                took[name].append(1000 * (time.process_time() - cpu))
    return {name: statistics.median(each) for name, each in took.items()}


class _Listener(BaseCallbackHandler):
    run_inline = True

    def __init__(self) -> None:
        self.events = 0

    def on_custom_event(self, *_: Any, **__: Any) -> None:
        self.events += 1


def traced() -> dict[str, float]:
    """What a snapshot costs on its way to a listener, in ms of CPU."""
    with JobServer(3 * TRACED_JOBS + 1) as server:
        tool, listener = ShortAPIFluxTool(flux=flux_at(server.base_url)), _Listener()
        ask = {"type": "tool_call", "id": "1", "name": tool.name, "args": {"prompt": PROMPT}}

        async def calls(count: int, **config: Any) -> float:
            cpu = time.process_time()
            await asyncio.gather(*(tool.ainvoke(ask, config or None) for _ in range(count)))  # type: ignore[arg-type]
            return 1000 * (time.process_time() - cpu)

        async def both() -> tuple[float, float]:
            await calls(1)
            plain = await calls(TRACED_JOBS)
            return plain, await calls(TRACED_JOBS, callbacks=[listener])

        plain, listened = asyncio.run(both())
    return {"ms": (listened - plain) / listener.events, "snapshots": listener.events}


def measure(name: str, runs: int, *arguments: float) -> dict[str, Any]:
    """Medians over processes."""
    found = []
    for _ in range(runs):
        command = [sys.executable, __file__, "--one", name, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def line(name: str, found: dict[str, Any]) -> str:
    """One row."""
    return (
        f"{name:24}{found['ok']:6.0f}{found['wall']:8.2f}{found['wall'] - found['slowest']:9.2f}"
        f"{found['queries']:10.2f}{found['cpu']:9.2f}{found['growth']:12.1f}{found['sockets']:9.0f}"
    )


def table(round_trip: float, count: int, runs: int, cap: float) -> None:
    """All ways with that many jobs, and how ours compare with the bare one."""
    print(
        f"\n{count:,} jobs of 3 to 5 s, round trip {1000 * round_trip:.0f} ms, at most "
        f"{cap:,.0f} queries/s\n"
        f"{'':24}{'ok':>6}{'wall s':>8}{'over s':>9}{'queries':>10}{'CPU ms':>9}{'growth MiB':>12}"
        f"{'sockets':>9}",
        flush=True,
    )
    bare: dict[int, float] = {}
    for name in ROWS[round_trip, count]:
        found, row = measure(name, runs, count, round_trip, cap), WAYS[name]
        print(line(name, found), flush=True)
        if row.by == "bare aiohttp":
            bare[row.sockets] = found["cpu"]
        elif row.by in ("abatch", "batch") and row.poll is POLL and row.sockets in bare:
            print(
                f"{'':24}CPU over bare aiohttp: {found['cpu'] / bare[row.sockets]:.2f}", flush=True
            )


def main() -> None:
    """Print all tables, or run one measurement and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        name, *numbers = asked.one
        if name == "one job":
            print(json.dumps(one_job()))
        elif name == "traced":
            print(json.dumps(traced()))
        else:
            count, round_trip, cap = numbers
            print(json.dumps(run_one(name, int(count), float(round_trip), float(cap))))
        return
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, aiohttp {aiohttp.__version__}"
    )
    _soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a socket is an open file
    runs = 1 if asked.quick else 3
    for round_trip in (NEAR, FAR):
        table(round_trip, 500, runs, CAP_500)
        if not asked.quick:
            table(round_trip, 5_000, runs, CAP_5000)
    single = measure("one job", runs)
    print(
        f"\none job: invoke {single['invoke']:.2f} ms of CPU, bare requests "
        f"{single['requests']:.2f} ms: {single['invoke'] - single['requests']:.2f} ms more"
    )
    snapshot = measure("traced", runs)
    print(f"a snapshot on its way to a callback handler: {snapshot['ms']:.2f} ms of CPU")


if __name__ == "__main__":
    main()
