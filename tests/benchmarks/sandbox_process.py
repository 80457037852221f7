"""A sandbox in a process of its own, so that figures are the client's alone."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Self

SHORTEST, LONGEST = 3.0, 5.0
"""How long its jobs take, in seconds."""
PROGRAM = f"""
import json, random, sys, time
from langchain_shortapi_flux.sandbox import Sandbox
dice, ends, durations = random.Random(7), [], []
def seconds(mode):
    durations.append(dice.uniform({SHORTEST}, {LONGEST}))
    ends.append(time.monotonic() + durations[-1])
    return durations[-1]
with Sandbox(balance="1000", job_seconds=seconds) as sandbox:
    print(sandbox.base_url, sandbox.api_key, flush=True)
    sys.stdin.readline()
    print(json.dumps({{
        "charges": len(sandbox.charges),
        "peak_sockets": sandbox.peak_connections,
        "slowest": max(durations),
        "ended": {{job.job_id: end for job, end in zip(sandbox.jobs, ends, strict=True)}},
    }}))
"""


class SandboxProcess:
    """Started on entering; on leaving it tells its books.

    Attributes:
        base_url: Where it listens.
        api_key: What it demands as key.
        charges: How many jobs were charged.
        peak_sockets: Sockets that led to it at a time, at most.
        slowest: Seconds that the longest job took.
        ended: When each job had ended, by its id, in seconds of the machine's monotonic clock.
    """

    base_url: str
    api_key: str
    charges: int
    peak_sockets: int
    slowest: float
    ended: dict[str, float]

    def __enter__(self) -> Self:
        """Start it and read where it listens."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.base_url, self.api_key = self._process.stdout.readline().split()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it and read its books."""
        out, _err = self._process.communicate("\n")
        books: dict[str, Any] = json.loads(out)
        self.charges, self.peak_sockets = books["charges"], books["peak_sockets"]
        self.slowest, self.ended = books["slowest"], books["ended"]
