"""What a progress display counts: runs that go on, jobs that ended, money spent. Pure arithmetic.

It knows what an event says of money. It knows nothing of LangChain, of bars and of locks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux.job_words import plain
from langchain_shortapi_flux.traced_cost import net_cost

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from langchain_shortapi_flux.run_progress import BatchSize

WORD_LENGTH_MAX = 32
_LEFT: tuple[tuple[type[BaseException], str], ...] = (
    (GeneratorExit, "left"),
    (asyncio.CancelledError, "cancelled"),
    (KeyboardInterrupt, "interrupted"),
)


@dataclass(eq=False)
class Run:
    """A job's run that has not ended.

    Attributes:
        label: The prompt's first words, if they are known and to be shown.
        parent: The run around it.
        told: What is known of the job, in words.
        job_id: Its id, once it has one.
        snapshots: How many were told so far.
    """

    label: str
    parent: UUID | None = None
    told: str = "creating"
    job_id: str | None = None
    snapshots: int = 0

    def tell(self, event: Mapping[str, Any]) -> None:
        """Take over a snapshot."""
        queries = event["queries"]
        words = [event["status"], f"{event['elapsed']:.1f} s"]
        words.append("1 query" if queries == 1 else f"{queries} queries")
        words += [f"{event['cost']} USD"] if event["cost"] is not None else []
        words += [event["charge"]] if event["charge"] != "charged" else []
        self.told = " · ".join(plain(str(word), WORD_LENGTH_MAX) for word in words)
        self.job_id = event["job_id"]
        self.snapshots += 1

    def end(self, error: BaseException | None) -> None:
        """Say how it ended, where the last snapshot does not."""
        if error is not None:
            words = [word for kind, word in _LEFT if isinstance(error, kind)]
            self.told += f" · {(*words, type(error).__name__)[0]}"

    @property
    def words(self) -> str:
        """The run on one line."""
        return f"{self.label or plain(self.job_id or 'flux', WORD_LENGTH_MAX)} · {self.told}"


class Spent:
    """What jobs have cost, each counted once, however many runs tell of it.

    Attributes:
        usd: Of all jobs bought, less refunds, as far as their cost is reported.
        unclear: How many creates may have been charged without anybody knowing.
    """

    def __init__(self) -> None:
        self.usd = Decimal(0)
        self.unclear = 0
        self._unreported = 0
        self._by_job: dict[str, Decimal | None] = {}

    def see(self, event: Mapping[str, Any]) -> None:
        """Take note of a snapshot. A job that was not bought by who tells of it costs nothing."""
        job_id, charge = event["job_id"], event["charge"]
        # As create answers it: one found in a ledger, or looked at, comes otherwise.
        bought_now = (event["status"], charge, event["queries"]) == ("pending", "charged", 0)
        if not bought_now and job_id not in self._by_job:
            return
        cost, refunded = event["cost"], event["refunded"]
        usd = None
        if cost is not None:
            usd = net_cost(charge, Decimal(cost), None if refunded is None else Decimal(refunded))
        if job_id in self._by_job:
            before = self._by_job[job_id]
            self._unreported -= before is None
            self.usd -= before or 0
        self._by_job[job_id] = usd
        self._unreported += usd is None
        self.usd += usd or 0

    @property
    def words(self) -> str:
        """The money in words."""
        words = [f"{self.usd:f} USD"]
        words += [f"cost of {self._unreported} not reported"] if self._unreported else []
        words += [f"{self.unclear} may have been charged"] if self.unclear else []
        return ", ".join(words)


@dataclass
class Count:
    """The runs that go on together, and those before them that belong to the same lot.

    Attributes:
        total: How many were announced by the user.
        batches: The batches they belong to; each announces its own number.
        runs: Those that go on, by their ids.
        started: How many there were, those that go on included.
        ended: How many have ended, the failed included, those left not.
        failed: How many failed.
        left: How many were cancelled or interrupted: their jobs, if there are any, go on.
    """

    total: int | None = None
    batches: set[BatchSize] = field(default_factory=set)
    runs: dict[UUID, Run] = field(default_factory=dict)
    started: int = 0
    ended: int = 0
    failed: int = 0
    left: int = 0
    _may_come_again: set[UUID] = field(default_factory=set)

    @property
    def expected(self) -> int | None:
        """How many there will be, if anybody said so."""
        told = self.total or sum(batch.jobs for batch in self.batches)
        return max(told, self.started) if told else None

    @property
    def more_to_come(self) -> bool:
        """Whether some have not even started, as far as anybody said."""
        return self.expected is not None and self.started < self.expected

    def goes_on_with(self, run: Run, batch: BatchSize | None, *, again: bool) -> bool:
        """Whether a run that starts now belongs to these."""
        if self.runs or batch in self.batches or self._takes_a_place(run, again=again):
            return True
        return self.total is not None and self.more_to_come

    def start(self, run_id: UUID, run: Run, batch: BatchSize | None, *, again: bool) -> None:
        """Count a run that starts; one that is tried ``again`` takes the failed one's place."""
        self.runs[run_id] = run
        if self._takes_a_place(run, again=again):
            self._may_come_again.discard(run.parent)
            self.failed -= 1
            self.ended -= 1
            return
        self.started += 1
        if batch is not None and not again:
            self.batches.add(batch)

    def _takes_a_place(self, run: Run, *, again: bool) -> bool:
        return again and run.parent in self._may_come_again

    def run_of(self, run_id: UUID) -> Run | None:
        """The run that an event is about: a tool tells on its own run, around its one job's."""
        if run_id in self.runs:
            return self.runs[run_id]
        return next((run for run in self.runs.values() if run.parent == run_id), None)

    def end(self, run_id: UUID, error: BaseException | None) -> Run | None:
        """Count a run that has ended or was left, if it is one of these."""
        run = self.runs.pop(run_id, None)
        if run is None:
            return None
        run.end(error)
        if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
            self.left += 1
            return run
        self.ended += 1
        if error is not None and not isinstance(error, GeneratorExit):
            self.failed += 1
            if run.parent is not None and getattr(error, "is_retryable", False):
                self._may_come_again.add(run.parent)
        return run

    def words(self, spent: Spent) -> str:
        """How many go on, failed or were left, and the money."""
        words = [f"{len(self.runs)} running"] if self.runs else []
        words += [f"{self.failed} failed"] if self.failed else []
        words += [f"{self.left} left"] if self.left else []
        return ", ".join([*words, spent.words])
