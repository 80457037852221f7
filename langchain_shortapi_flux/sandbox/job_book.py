"""Knows the jobs and the money: what was ordered, when it ends, what is left of the balance.

It must not know HTTP, threads other than by its lock, nor what time it is: the clock is passed in.
"""

import heapq
import math
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Final, Literal, TypeAlias

from langchain_shortapi_flux.sandbox.menu import PRICES_USD, Refused, image_count_of, mode_of

JobStatus: TypeAlias = Literal["pending", "succeeded", "failed"]
Clock: TypeAlias = Callable[[], float]

ID_RANDOM_BYTES: Final = 8
DEFAULT_ERROR: Final = "generation failed"


@dataclass(frozen=True, slots=True)
class Ending:
    """What will become of a job.

    Attributes:
        status: How it ends.
        refunded: Whether a failed job gets its price back.
        error: The text of a failed job.
        images: How many images a job that succeeds has; None for as many as asked.
        by_itself: False for a job that runs until `JobBook.finish`.
    """

    status: Literal["succeeded", "failed"] = "succeeded"
    refunded: bool = True
    error: str = DEFAULT_ERROR
    images: int | None = None
    by_itself: bool = True


@dataclass(frozen=True, slots=True)
class SandboxJob:
    """A job as it was at one moment.

    Attributes:
        job_id: 24 hex digits; the first 8 are the second of its creation, as in recorded output.
        args: The arguments as they were sent.
        status: `pending`, `succeeded` or `failed`.
        amount: What it was charged, in USD.
        refunded: Whether that was given back.
        queries: How many queries have read it.
        callback_url: Where its record is posted when it ends.
        callback_outcome: What became of that post, in words; None before.
        created_at: When create accepted it (UTC).
        updated_at: When its status last changed (UTC).
        finished_at: When it ended (UTC), None while it runs.
        ending: What will become, or became, of it.
        ends_at: On the book's clock, in seconds; infinite if it does not end by itself.
    """

    job_id: str
    args: dict[str, object]
    status: JobStatus
    amount: Decimal
    refunded: bool
    queries: int
    callback_url: str | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    ending: Ending
    ends_at: float
    callback_outcome: str | None = None

    @property
    def image_count(self) -> int:
        """How many images it has now."""
        if self.status != "succeeded":
            return 0
        return image_count_of(self.args) if self.ending.images is None else self.ending.images


@dataclass(frozen=True, slots=True)
class Charge:
    """What one job has cost, in USD; refunded jobs have none."""

    job_id: str
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Glance:
    """The book at one moment: its newest jobs, and the sums of all.

    Attributes:
        jobs: The newest, newest first.
        counts: How many there are of each status.
        balance: What is left, in USD.
        spent: What was paid and not given back, in USD.
        refunded: What was given back, in USD.
        at: When this was, in seconds on the book's clock.
    """

    jobs: tuple[SandboxJob, ...]
    counts: Mapping[JobStatus, int]
    balance: Decimal
    spent: Decimal
    refunded: Decimal
    at: float


class JobBook:
    """All jobs of one sandbox and its balance; safe across threads.

    Nothing happens by itself: each look at the book first settles what has come due on the clock.
    """

    def __init__(
        self, *, balance: Decimal, clock: Clock, job_seconds: Callable[[str], float]
    ) -> None:
        """Open an empty book.

        Args:
            balance: In USD.
            clock: The time in seconds since 1970.
            job_seconds: How long a job of a mode takes, in seconds.
        """
        self._balance = balance
        self._clock = clock
        self._job_seconds = job_seconds
        self._jobs: dict[str, SandboxJob] = {}
        # Kept as they change, so that a glance costs the same however many jobs there are.
        self._counts: dict[JobStatus, int] = {"pending": 0, "succeeded": 0, "failed": 0}
        self._charged = self._refunded = Decimal(0)
        self._due: list[tuple[float, str]] = []
        self._outbox: deque[str] = deque()
        self._lock = threading.RLock()

    def order(
        self, args: Mapping[str, object], *, callback_url: str | None, ending: Ending
    ) -> SandboxJob:
        """Make a job of checked arguments and charge it.

        Raises:
            Refused: The balance does not cover it. The wording is an assumption.
        """
        mode = mode_of(args)
        price = PRICES_USD[mode]
        seconds = self._job_seconds(mode)
        with self._lock:
            now = self._settle()
            if price > self._balance:
                msg = f"insufficient balance: {price} USD needed, {self._balance} USD left"
                raise Refused(msg)
            self._balance -= price
            self._charged += price
            self._counts["pending"] += 1
            created_at = datetime.fromtimestamp(now, UTC)
            job = SandboxJob(
                job_id=f"{int(now):08x}{secrets.token_hex(ID_RANDOM_BYTES)}",
                args=dict(args),
                status="pending",
                amount=price,
                refunded=False,
                queries=0,
                callback_url=callback_url,
                created_at=created_at,
                updated_at=created_at,
                finished_at=None,
                ending=ending,
                ends_at=now + seconds if ending.by_itself else math.inf,
            )
            self._jobs[job.job_id] = job
            if math.isfinite(job.ends_at):
                heapq.heappush(self._due, (job.ends_at, job.job_id))
            return job

    def query(self, job_id: str) -> SandboxJob | None:
        """The job now, this query counted; None if there is none of that id."""
        with self._lock:
            self._settle()
            job = self._jobs.get(job_id)
            if job is not None:
                job = self._jobs[job_id] = replace(job, queries=job.queries + 1)
            return job

    def find(self, job_id: str) -> SandboxJob | None:
        """The job now; None if there is none of that id."""
        with self._lock:
            self._settle()
            return self._jobs.get(job_id)

    def finish(self, job_id: str | None = None) -> None:
        """End that job now, or all that are pending; one that has ended stays as it is.

        Raises:
            KeyError: There is no such job.
        """
        with self._lock:
            now = self._settle()
            for job in list(self._jobs.values()) if job_id is None else [self._jobs[job_id]]:
                if job.status == "pending":
                    self._end(job, now)

    def ended_with_callback(self) -> list[SandboxJob]:
        """The jobs with a callback that ended since this was last asked."""
        with self._lock:
            self._settle()
            ended = [self._jobs[job_id] for job_id in self._outbox]
            self._outbox.clear()
            return ended

    def note_callback(self, job_id: str, outcome: str) -> None:
        """Keep what became of a job's callback, in words."""
        with self._lock:
            self._jobs[job_id] = replace(self._jobs[job_id], callback_outcome=outcome)

    def glance(self, newest: int) -> Glance:
        """The newest jobs, at most that many, and the sums of all, of one moment."""
        with self._lock:
            at = self._settle()
            return Glance(
                jobs=tuple(islice(reversed(self._jobs.values()), newest)),
                counts=dict(self._counts),
                balance=self._balance,
                spent=self._charged - self._refunded,
                refunded=self._refunded,
                at=at,
            )

    @property
    def now(self) -> float:
        """The time on the book's clock, in seconds."""
        return self._clock()

    @property
    def balance(self) -> Decimal:
        """What is left, in USD."""
        with self._lock:
            self._settle()
            return self._balance

    @property
    def jobs(self) -> tuple[SandboxJob, ...]:
        """All jobs, oldest first."""
        with self._lock:
            self._settle()
            return tuple(replace(job, args=dict(job.args)) for job in self._jobs.values())

    @property
    def charges(self) -> tuple[Charge, ...]:
        """What was paid and not given back, oldest first."""
        with self._lock:
            self._settle()
            return tuple(
                Charge(job.job_id, job.amount) for job in self._jobs.values() if not job.refunded
            )

    def _settle(self) -> float:
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            ends_at, job_id = heapq.heappop(self._due)
            job = self._jobs[job_id]
            if job.status == "pending":
                self._end(job, ends_at)
        return now

    def _end(self, job: SandboxJob, at: float) -> None:
        refunded = job.ending.status == "failed" and job.ending.refunded
        if refunded:
            self._balance += job.amount
            self._refunded += job.amount
        self._counts["pending"] -= 1
        self._counts[job.ending.status] += 1
        finished_at = datetime.fromtimestamp(at, UTC)
        self._jobs[job.job_id] = replace(
            job,
            status=job.ending.status,
            refunded=refunded,
            updated_at=finished_at,
            finished_at=finished_at,
            ends_at=at,
        )
        if job.callback_url is not None:
            self._outbox.append(job.job_id)
