"""What each line of a batch came to, and what was paid for it: kept count of, and summed up.

It knows no words and no terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from langchain_shortapi_flux.errors import BudgetExceeded, CreateOutcomeUnknown, JobFailed
from langchain_shortapi_flux.traced_cost import net_cost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_shortapi_flux.command_line.batch_ledger import Known
    from langchain_shortapi_flux.job import FluxJob


@dataclass(frozen=True)
class Failures:
    """The lines that came to nothing, each by its place in one list.

    Attributes:
        unknown: Nobody can tell whether they were charged.
        refused: Their price did not fit into the budget.
        free: Nothing was charged.
        others: Something was, or was given back.
    """

    unknown: list[int]
    refused: list[int]
    free: list[int]
    others: list[int]


@dataclass(frozen=True)
class Unsettled:
    """What became of the lines of a batch that was broken off, those aside that had ended.

    A line that did not fit into the budget has not ended: a larger one may buy it.

    Attributes:
        bought: A job exists, and runs or is not saved.
        in_doubt: A job may exist.
        untouched: Nothing was bought.
    """

    bought: list[int]
    in_doubt: list[int]
    untouched: list[int]


class LineOutcomes:
    """Keeps count of a batch's lines, by their places.

    Args:
        count: How many lines there are.
        before: What the ledger knew at the start.

    Attributes:
        count: As above.
        saved: The lines whose pictures are on disk.
        failed: What went wrong, of each line that came to nothing.
        fewer: How many pictures came, where fewer came than were asked for.
        jobs: The job of each line, as far as known; None where nobody can tell whether there is
            one.
        paid: USD for each line that was bought now; None where that is not reported.
    """

    def __init__(self, count: int, before: Known) -> None:
        self.count = count
        self._before = before
        self.saved: set[int] = set()
        self.failed: dict[int, Exception] = {}
        self.fewer: dict[int, int] = {}
        self.jobs: dict[int, str | None] = {}
        self.paid: dict[int, Decimal | None] = {}

    def save(self, place: int, job: FluxJob, asked: int) -> None:
        """A line has its pictures on disk, of so many that it asked for."""
        self.saved.add(place)
        if len(job.images) < asked:
            self.fewer[place] = len(job.images)
        self._note_job(place, job, None)

    def fail(self, place: int, error: Exception, job: FluxJob | None) -> None:
        """A line has come to nothing, or its ``job`` could not be saved."""
        self.failed[place] = error
        self._note_job(place, job, error)

    def hear(self, jobs: Mapping[int, str | None]) -> None:
        """What else is known of the lines' jobs: of those too that have not ended."""
        self.jobs = {**jobs, **self.jobs}

    def _note_job(self, place: int, job: FluxJob | None, error: Exception | None) -> None:
        job_id = job.job_id if job is not None else getattr(error, "job_id", None)
        if isinstance(error, CreateOutcomeUnknown):
            self.jobs[place] = None
        elif job_id is not None:
            self.jobs[place] = job_id
        known = self._before.entries.get(place)
        if job_id is None or (known is not None and known.job_id == job_id):
            return
        if isinstance(error, JobFailed) and error.charge == "refunded":
            self.paid[place] = Decimal(0)
        elif job is None or job.cost is None:
            self.paid[place] = None
        else:
            self.paid[place] = net_cost(job.charge, job.cost, job.refunded)

    @property
    def ended(self) -> int:
        """How many lines have come to an end, one way or the other."""
        return len(self.saved) + len(self.failed)

    @property
    def spent(self) -> tuple[Decimal, int]:
        """USD for what was bought now, and how many jobs' costs are not in it, nor reported."""
        costs = [cost for cost in self.paid.values() if cost is not None]
        return sum(costs, Decimal(0)), len(self.paid) - len(costs)

    @property
    def failures(self) -> Failures:
        """The failed lines, by what they cost."""
        sorted_out = Failures([], [], [], [])
        for place, error in sorted(self.failed.items()):
            if isinstance(error, CreateOutcomeUnknown):
                sorted_out.unknown.append(place)
            elif isinstance(error, BudgetExceeded):
                sorted_out.refused.append(place)
            elif getattr(error, "charge", "unknown") == "none":
                sorted_out.free.append(place)
            else:
                sorted_out.others.append(place)
        return sorted_out

    def unsettled(self, after: Known | None) -> Unsettled:
        """What became of the lines that have not ended, by what is known of their jobs.

        Args:
            after: What the ledger knows of them; None where it cannot be seen.
        """
        settled = self.saved | {*self.failures.free, *self.failures.others}
        in_doubt = {place for place, job_id in self.jobs.items() if job_id is None}
        bought = set(self.jobs) - in_doubt
        if after is not None:
            bought |= {*after.ended, *after.running} - in_doubt
            in_doubt |= {*after.in_doubt, *after.being_bought} - bought
        rest = set(range(self.count)) - settled
        return Unsettled(
            bought=sorted(rest & bought),
            in_doubt=sorted(rest & in_doubt),
            untouched=sorted(rest - bought - in_doubt),
        )
