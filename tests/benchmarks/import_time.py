"""How much importing the pack adds to a process that has langchain-core's two base classes.

Run: ``python tests/benchmarks/import_time.py``. Prints milliseconds, over processes of their own:
with bytecode, which pip writes when it installs, and beside it with every module compiled anew.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

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
    with tempfile.TemporaryDirectory() as bytecode:
        # A folder of its own: an editable install has no bytecode where writing it is off.
        kept = _measure({"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""})
    with tempfile.TemporaryDirectory() as empty:
        compiled = _measure({"PYTHONPYCACHEPREFIX": empty, "PYTHONDONTWRITEBYTECODE": "1"})
    _print("langchain-core's base classes", [core for core, _ in kept])
    _print("langchain_shortapi_flux, on top", [pack for _, pack in kept])
    _print("the same, compiled anew", [pack for _, pack in compiled])
    ratio = statistics.median(pack for _, pack in kept) / statistics.median(
        core for core, _ in kept
    )
    print(f"ratio of the medians: {ratio:.3f}; goal for the pack: {GOAL_MS} ms at most")


def _measure(environment: dict[str, str]) -> list[tuple[float, float]]:
    """Milliseconds of langchain-core and of the pack on top, in one process each."""
    found = []
    for _ in range(PROCESSES + 1):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | environment,
        )
        core, pack = map(float, done.stdout.split())
        found.append((core, pack))
    return found[1:]  # the first warms the disk's cache, and writes bytecode where that is kept


def _print(name: str, values: list[float]) -> None:
    middle, low, high = statistics.median(values), min(values), max(values)
    print(f"{name:32} median {middle:7.1f} ms   min {low:7.1f}   max {high:7.1f}")


if __name__ == "__main__":
    main()
