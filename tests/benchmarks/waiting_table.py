"""Queries per job and lag of the default schedule, beside fixed 0.5 s and fixed 3 s. Simulated.

Run: ``python tests/benchmarks/waiting_table.py [SEEN]``. No sockets and no sleeping: the package's
own ``PollPolicy``, ``LearnedDelays`` and ``Pace`` are asked when to query jobs that end when the
dice say so.

The lag runs from the end of a job to the moment when the reply that says so is in our hands. A
query sees the job as it is half a round trip after it was sent, and create is accepted half a round
trip before we know it.
"""

from __future__ import annotations

import math
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_shortapi_flux import PollPolicy
from langchain_shortapi_flux.learned_delay import JobKind, LearnedDelays
from langchain_shortapi_flux.pace import QUERIES_PER_SECOND, Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RUNS = 40
"""Each run knows nothing when it begins."""
JOBS = 100
"""Jobs of each run that are measured. They start at once: none learns from another."""
SEEN = 10
"""Jobs of each run that come before, where the row is warm: in every other run one after another,
else all at once."""
ROUND_TRIPS = (0.0, 0.15)
SEED = 7
KIND = JobKind("http://simulated", "flux", "dev", 1)
SHORTEST_JOB_SECONDS = 0.05
BETWEEN_CREATES_SECONDS = 0.001
"""Of jobs that start at once."""


def three_to_five(dice: random.Random) -> float:
    """The jobs of ../shared/peers.md, section 3."""
    return 3 + dice.uniform(0, 2)


def wide(dice: random.Random) -> float:
    """Lognormal: most take about 4 s, some twice that, some half."""
    return dice.lognormvariate(math.log(4), 0.5)


def with_cold_starts(dice: random.Random) -> float:
    """One job in ten waits for a machine to start."""
    return dice.uniform(20, 40) if dice.random() < 0.1 else three_to_five(dice)


def within(middle: float, spread: float) -> Callable[[random.Random], float]:
    """One reading of "15 ± 3": never further away."""
    return lambda dice: dice.uniform(middle - spread, middle + spread)


def around(middle: float, sigma: float) -> Callable[[random.Random], float]:
    """The other reading: a third of the jobs is further away."""
    return lambda dice: max(dice.gauss(middle, sigma), SHORTEST_JOB_SECONDS)


@dataclass(frozen=True)
class Row:
    """A kind of job, whether earlier ones were seen, and what is to be reached."""

    name: str
    seconds: Callable[[random.Random], float]
    queries_goal: float
    lag_goal: float
    warm: bool = True


ROWS = (
    Row("3 + U(0, 2), 100 at once, cold", three_to_five, 6, 0.5, warm=False),
    Row("3 + U(0, 2), warm", three_to_five, 5, 0.45),
    Row("lognormal, median 4, sigma 0.5, warm", wide, 7, 1.0),
    Row("first row, 10 % at 20-40 s, warm", with_cold_starts, 8, 1.5),
    Row("1 +- 0.3 (uniform), warm", within(1, 0.3), 4, 0.4),
    Row("1 +- 0.3 (normal), warm", around(1, 0.3), 4, 0.4),
    Row("15 +- 3 (uniform), warm", within(15, 3), 8, 1.6),
    Row("15 +- 3 (normal), warm", around(15, 3), 8, 1.6),
)

POLICIES = {
    "defaults": PollPolicy(),
    "fixed 0.5 s": PollPolicy.fixed(0.5),
    "fixed 3 s": PollPolicy.fixed(3.0),
}


@dataclass(frozen=True)
class Polled:
    """What became of one job; ``pending_at`` and ``done_at`` as in ``LearnedDelays.observe``."""

    queries: int
    lag: float
    pending_at: float
    done_at: float


def poll(
    policy: PollPolicy,
    job_seconds: float,
    round_trip: float,
    dice: random.Random,
    learned: float | None,
    pace: Pace,
    started: float,
) -> Polled:
    """Follow one job to its end."""
    queries, now, took, pending_at = 0, 0.0, 0.0, 0.0
    while True:
        wait = policy.wait(queries, now, dice.random(), took=took, learned=learned)
        sent = now + pace.together(started + now, wait, QUERIES_PER_SECOND)
        queries, now, took = queries + 1, sent + round_trip, round_trip
        if sent + round_trip >= job_seconds:
            return Polled(queries, sent + 1.5 * round_trip - job_seconds, pending_at, sent)
        pending_at = sent


class Run:
    """One process: it knows nothing at first, and starts jobs in waves."""

    def __init__(self, policy: PollPolicy, row: Row, round_trip: float, seed: int) -> None:
        self.row = row
        self._policy, self._round_trip = policy, round_trip
        self._dice = random.Random(seed)
        self._learned = LearnedDelays()
        self._now = 0.0

    @property
    def first_delay(self) -> float | None:
        """What has been learned so far, in seconds."""
        return self._learned.first_delay(KIND)

    def wave(self, jobs: int) -> list[Polled]:
        """Start so many jobs at once, and learn from them in the order in which they end."""
        delay = self.first_delay
        pace = Pace()
        pace.follow(jobs)
        polled: list[tuple[float, Polled]] = []
        for _ in range(jobs):
            self._now += BETWEEN_CREATES_SECONDS
            seconds = self.row.seconds(self._dice)
            one = poll(
                self._policy,
                seconds,
                self._round_trip,
                self._dice,
                delay,
                pace,
                self._now,
            )
            polled.append((self._now, one))
        for started, one in sorted(polled, key=lambda pair: pair[1].done_at):
            self._learned.observe(
                KIND, started=started, pending_at=one.pending_at, done_at=one.done_at
            )
        self._now += max(one.done_at for _, one in polled)
        return [one for _, one in polled]


def simulate(
    policy: PollPolicy, row: Row, round_trip: float, seen: int = SEEN, runs: int = RUNS
) -> list[Polled]:
    """Run after run: the jobs that are measured."""
    measured: list[Polled] = []
    for number in range(runs):
        run = Run(policy, row, round_trip, SEED + number)
        if row.warm:
            for jobs in [1] * seen if number % 2 else [seen]:
                run.wave(jobs)
        measured += run.wave(JOBS)
    return measured


def share(of: Sequence[float], below: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(of)[math.ceil(below * len(of)) - 1]


def line(row: Row, round_trip: float, seen: int) -> str:
    """The row for each policy, and whether the defaults reach the goal."""
    cells: list[str] = []
    met = False
    for name, policy in POLICIES.items():
        polled = simulate(policy, row, round_trip, seen)
        queries = sum(one.queries for one in polled) / len(polled)
        lags = [one.lag for one in polled]
        middle, late = share(lags, 0.5), share(lags, 0.95)
        cells.append(f"{queries:7.2f} {middle:5.2f} {late:5.2f}")
        if name == "defaults":
            met = queries <= row.queries_goal and late <= row.lag_goal
    goal = f"<= {row.queries_goal:g}, <= {row.lag_goal:g}"
    return f"{row.name:38}{goal:>13} {'met' if met else 'NOT met':8}" + "  |".join(cells)


def main() -> None:
    """Print the table for each round trip."""
    seen = int(sys.argv[1]) if len(sys.argv) > 1 else SEEN
    print(
        f"SIMULATED (no service, no network, no sleeping): {RUNS} runs of {JOBS} jobs at once per "
        f"row; warm = {seen} jobs seen before, through the same policy"
    )
    print("each cell: queries per job, lag p50 and p95 in seconds; goal: queries, lag p95")
    for round_trip in ROUND_TRIPS:
        print(f"\nround trip {1000 * round_trip:g} ms")
        print(f"{'':60}" + "  |".join(f"{name:^19}" for name in POLICIES))
        for row in ROWS:
            print(line(row, round_trip, seen))


if __name__ == "__main__":
    main()
