"""How much importing the pack adds to a process that has langchain-core's two base classes.

Run: ``python tests/benchmarks/import_time.py``. Prints milliseconds, over processes of their own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

PROCESSES = 11
GOAL_MS = 30
PROGRAM = """
import time
started = time.perf_counter()
from langchain_core.runnables import RunnableSerializable
from langchain_core.tools import BaseTool
there = time.perf_counter()
from langchain_shortapi_flux import ShortAPIFlux, ShortAPIFluxTool
ShortAPIFlux, ShortAPIFluxTool
print((there - started) * 1000, (time.perf_counter() - there) * 1000)
"""


def main() -> None:
    """Measure and print."""
    core, pack = [], []
    for _ in range(PROCESSES + 1):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
        )
        first, second = map(float, done.stdout.split())
        core.append(first)
        pack.append(second)
    # The first process warms the disk's cache and writes bytecode.
    _print("langchain-core's base classes", core[1:])
    _print("langchain_shortapi_flux, on top", pack[1:])
    ratio = statistics.median(pack[1:]) / statistics.median(core[1:])
    print(f"ratio of the medians: {ratio:.3f}; goal for the pack: {GOAL_MS} ms at most")


def _print(name: str, values: list[float]) -> None:
    middle, low, high = statistics.median(values), min(values), max(values)
    print(f"{name:32} median {middle:7.1f} ms   min {low:7.1f}   max {high:7.1f}")


if __name__ == "__main__":
    main()
