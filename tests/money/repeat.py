"""Runs the tests that count charges again and again, and prints how often they held.

::

    python tests/money/repeat.py        # 20 rounds, ends with "20 of 20 rounds held: ..."
    python tests/money/repeat.py 3      # 3 rounds

A round kills buyers at every act of the ledger, races two processes on SQLite and on PostgreSQL,
plays every fault of the sandbox, and lets every retry layer call again. The exit status is 1 if any
round did not hold; its report is printed then.
"""

# ruff: noqa: T201 - it is a command, and prints

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent.parent
FILES = (
    "test_killed_process.py",
    "test_two_processes.py",
    "test_buying_once.py",
    "test_retry_layers.py",
)
ROUNDS = 20
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")


def run_round() -> tuple[bool, Counter[str], str]:
    """Run the files once: whether all held, how many tests ended how, and the report."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "",
        "--tb=short",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, *(str(TESTS / name) for name in FILES)],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    report = done.stdout + done.stderr
    counts: Counter[str] = Counter()
    for number, word in _COUNT.findall(report):
        counts[word] += int(number)
    # A round that left PostgreSQL out has not shown what it is run for.
    return done.returncode == 0 and not counts["skipped"], counts, report


def described(counts: Counter[str]) -> str:
    """Such as "231 passed, 0 failed, 0 skipped"."""
    bad = counts["failed"] + counts["error"]
    return f"{counts['passed']} passed, {bad} failed, {counts['skipped']} skipped"


def main(rounds: int) -> int:
    """Run that many rounds and print what came of them."""
    held, total = 0, Counter[str]()
    for number in range(1, rounds + 1):
        began = time.monotonic()
        good, counts, report = run_round()
        held += good
        total += counts
        seconds = time.monotonic() - began
        print(f"round {number}: {described(counts)}, {seconds:.0f} s", flush=True)
        if not good:
            print(report, flush=True)
    print(f"{held} of {rounds} rounds held: {described(total)}")
    return 0 if held == rounds else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
