"""The second half of a job's life: following it to its end, or looking once. Free, never buys.

Here stands what a bad query means, when to give up, and what an ended job comes to. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from langchain_shortapi_flux.envelope import Refused
from langchain_shortapi_flux.errors import UnexpectedReply
from langchain_shortapi_flux.flow_steps import (
    Answer,
    Circumstances,
    JobFlow,
    Step,
    http_reply,
    logger,
)
from langchain_shortapi_flux.http_acts import HttpRequest, Lost
from langchain_shortapi_flux.job_outcome import ended, queried, timed_out, updated
from langchain_shortapi_flux.job_record import Record, whose
from langchain_shortapi_flux.learned_delay import JobKind, LearnedDelays
from langchain_shortapi_flux.wire import query_request, read_query

if TYPE_CHECKING:
    from collections.abc import Generator

    from langchain_shortapi_flux.job import FluxJob
    from langchain_shortapi_flux.ledger import LedgerAct


def follow_job(
    job: FluxJob,
    here: Circumstances,
    *,
    bought_now: bool = True,
    if_left: tuple[LedgerAct, ...] = (),
) -> JobFlow:
    """Query a job until it ends, and return it. Never buys.

    A query that fails, or answers nothing, is made again until the deadline. A job that was
    bought earlier (not ``bought_now``) may have ended long ago, so it is queried at once. Where
    the job is left while it runs, ``if_left`` is noted.

    Raises:
        JobFailed: The service says that it failed.
        JobTimeout: It has not ended by the deadline.
        UnexpectedReply: The service refuses to answer, or the job ended without pictures.
    """
    if here.max_wait is not None:
        here = replace(here, timeout=here.patience)
    if here.expected is not None:
        here.expected.job_is(job.job_id)
    learned = here.learned if bought_now and here.expected is None and here.poll.learn else None
    lesson = _Lesson(job, here, learned) if learned is not None else None
    asked_from, failures, retry_after = here.clock(), 0, None
    trouble: str | None = None
    last_look, took, act = False, 0.0, query_request(job.job_id)
    here.pace.follow(1)
    try:
        while True:
            if failures:
                wait = here.retry.wait(failures, retry_after, here.dice())
            elif job.queries or bought_now:
                wait = _gap(job, here, here.clock() - asked_from, took, lesson)
                if bought_now and _will_be_called(here):
                    wait *= BACKSTOP_FACTOR
                wait = here.pace.together(here.clock(), wait, here.queries_per_second)
            else:
                wait = 0.0
            left = here.time_left()
            if last_look or left <= 0:
                if job.queries == 0:
                    # Create took all the time there was: who watches still learns what was bought.
                    yield from _shown(job, if_left)
                raise timed_out(job, here, trouble)
            if wait >= left:
                # The deadline comes first: look once more shortly before it, with time to answer.
                last_look, wait = True, max(0.0, left - min(LAST_LOOK_SECONDS, left / 2))
            planned = here.clock() + wait
            found, sent = yield from query_job(act, job, wait, here, if_left)
            took = here.clock() - sent
            last_look = last_look and sent >= planned  # a call may have cut the wait short
            if isinstance(found, Record):
                failures, trouble = 0, found.oddity
                job = updated(job, found, here)
                if here.budget is not None:
                    here.budget.settle(job)
                if lesson is not None:
                    lesson.take(job, sent - asked_from)
                if job.status != "pending":
                    # One more step for those who watch; nothing to do but to show it.
                    if job.status == "failed" or not job.images:
                        yield Step(job, 0.0, None)
                    return ended(job, found)
            else:
                job = queried(job, here) if found.sent else job
                failures, trouble = failures + 1, found.text
                retry_after = found.retry_after
    finally:
        here.pace.follow(-1)


def _gap(
    job: FluxJob, here: Circumstances, waited: float, took: float, lesson: _Lesson | None
) -> float:
    """Seconds to wait by the schedule, ``waited`` after create; the last query took ``took``."""
    first = lesson.first_delay() if lesson is not None and not job.queries else None
    return here.poll.wait(job.queries, waited, here.dice(), took=took, learned=first)


def _will_be_called(here: Circumstances) -> bool:
    expected = here.expected
    return expected is not None and expected.told and not expected.called


class _Lesson:
    """What one job teaches about the first delay of jobs of its kind."""

    def __init__(self, job: FluxJob, here: Circumstances, learned: LearnedDelays) -> None:
        self._learned = learned
        self._started, self._pending_at = here.clock(), 0.0
        request = job.request
        self._kind = JobKind(
            here.base_url,
            job.model or "",
            str(request.performance if request else None),
            (request.num_images if request else None) or 1,
        )

    def first_delay(self) -> float | None:
        """Seconds from create to the first query, if earlier jobs taught that."""
        return self._learned.first_delay(self._kind)

    def take(self, job: FluxJob, asked_at: float) -> None:
        """Take note of what a query said that was sent so many seconds after create."""
        if job.status == "pending":
            self._pending_at = asked_at
        elif job.status == "succeeded":
            self._learned.observe(
                self._kind, started=self._started, pending_at=self._pending_at, done_at=asked_at
            )


def look_at_job(job: FluxJob, here: Circumstances, *, doubted: bool = False) -> JobFlow:
    """Query a job once and return what is known of it, failed or not. Free.

    Raises:
        JobTimeout: No usable answer by the deadline.
        UnexpectedReply: As ``query_job``, which says what ``doubted`` means; or (without a
            ``status_code``) there was no usable answer ``RetryLimits.look_attempts`` times.
    """
    failures, wait, act = 0, 0.0, query_request(job.job_id)
    trouble: str | None = None
    while True:
        if wait >= here.time_left():
            raise timed_out(job, here, trouble)
        found, _sent = yield from query_job(act, job, wait, here, doubted=doubted)
        if isinstance(found, Record):
            job = updated(job, found, here)
            if here.budget is not None:
                here.budget.settle(job)
            return job
        failures, trouble = failures + 1, found.text
        if not found.sent:
            raise timed_out(job, here, trouble)
        job = queried(job, here)
        if failures >= here.retry.look_attempts:
            raise UnexpectedReply(
                f"{failures} queries got no usable answer, the last one: {trouble}",
                job_id=job.job_id,
                charge=job.charge,
            )
        wait = here.retry.wait(failures, found.retry_after, here.dice())


BACKSTOP_FACTOR = 4.0
"""How much longer the waits are while the service is expected to call when the job has ended."""
QUERY_SECONDS_MAX = 10.0
"""What one query may take once it is its turn: a reply is small, and another query is free."""
LAST_LOOK_SECONDS = 1.0
"""How long before the deadline the last query is made, where the schedule would overshoot it."""


def _shown(job: FluxJob, if_left: tuple[LedgerAct, ...]) -> Generator[Step, Answer | None, None]:
    """Let who watches see a job that has not ended."""
    try:
        yield Step(job, 0.0, None, if_left)
    except GeneratorExit:
        _log_left(job)
        raise


def _log_left(job: FluxJob) -> None:
    logger.warning(
        "stopped waiting for job %s; it goes on, and follow(%r) picks it up",
        job.job_id,
        job.job_id,
    )


def _log_doubted(job: FluxJob) -> None:
    logger.warning("stopped before it was known whether job %s is the one asked for", job.job_id)


def _turn(
    job: FluxJob | None, here: Circumstances, if_left: tuple[LedgerAct, ...]
) -> Generator[Step, Answer | None, bool]:
    """Wait until the next query may go; False where that is not before the deadline."""
    cap = here.queries_per_second
    while True:
        wait = here.pace.turn(here.clock(), cap, here.time_left())
        if wait is None:
            return False
        if not wait:
            return True
        try:
            yield Step(job, wait, None, if_left)
        except GeneratorExit:
            here.pace.give_back()
            raise
        if not here.pace.held(here.clock()):
            return True
        here.pace.give_back()  # the service complained meanwhile: this turn is void


@dataclass(frozen=True, slots=True)
class NoNews:
    """A query that brought no news, and may be made again."""

    text: str
    retry_after: float | None = None
    sent: bool = True


def query_job(
    act: HttpRequest,
    job: FluxJob,
    wait: float,
    here: Circumstances,
    if_left: tuple[LedgerAct, ...] = (),
    *,
    doubted: bool = False,
) -> Generator[Step, Answer | None, tuple[Record | NoNews, float]]:
    """What came of the next query, and when it was sent.

    Where it is ``doubted`` whether there is such a job, and whether it is the one that was asked
    for, it is shown to nobody, and a record that says nothing is no news.

    Raises:
        UnexpectedReply: The service refuses to answer, or redirects. Or (without a
            ``status_code``) it tells of another job than the one that is doubted.
    """
    seen = None if doubted else job
    try:
        if here.expected is not None:
            yield Step(seen, wait, None, if_left, here.expected.doorbell)
            here.expected.doorbell.heard()
        elif wait:
            yield Step(seen, wait, None, if_left)
        if not (yield from _turn(seen, here, if_left)):
            held = NoNews("queries were held back until the deadline", sent=False)
            return held, here.clock()
        sent = here.clock()
        answer = yield Step(seen, 0.0, act.within(here.time_left(), QUERY_SECONDS_MAX), if_left)
    except GeneratorExit:
        (_log_doubted if doubted else _log_left)(job)
        raise
    if isinstance(answer, Lost):
        return NoNews(answer.reason), sent
    found = read_query(http_reply(answer), loopback=here.loopback)
    if isinstance(found, Record):
        return (_undoubted(found, job) if doubted else found), sent
    if found.status_code == 429:
        here.pace.slow_down(here.clock(), here.retry.wait(1, found.retry_after, here.dice()))
    if isinstance(found, Refused) or not found.passing:
        raise UnexpectedReply(
            f"the service would not answer for job {job.job_id}: {found.text}",
            job_id=job.job_id,
            charge=job.charge,
            status_code=found.status_code,
        )
    return NoNews(found.text, found.retry_after), sent


def _undoubted(found: Record, job: FluxJob) -> Record | NoNews:
    owner = whose(found, job)
    if owner == "another's":
        raise UnexpectedReply(
            f"asked for job {job.job_id}, the service told of another",
            job_id=job.job_id,
            charge=job.charge,
        )
    return found if owner == "its" else NoNews(found.oddity or "a record that says nothing")
