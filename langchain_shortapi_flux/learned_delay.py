"""How soon jobs of one kind are worth a first query, learned from those that went before.

Arithmetic under a lock: it has no clock and no I/O, and does not know how queries are made. What is
learned lives in this process alone, and is only ever a hint: a wrong one costs a query or some lag.

Learned from brackets, never from the moment a job was found done. That moment is late by what was
waited, so learning from it makes the next first query later, which finds the next job later still.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Bracket", "JobKind", "LearnedDelays", "delay_from", "learned_delays", "sample"]

KINDS_KEPT = 32
"""How many kinds of job are kept; the one that was not used for longest goes first."""
BRACKETS_KEPT = 1024
"""How many brackets are kept of each kind: those of the jobs that were started last."""
SAMPLE_SIZE = 16
"""How many brackets a delay follows from once they are there; up to twice as many."""
SPAN_LENGTHS = 4
"""Over so many usual lengths of a job the sample is spread, where many jobs run at a time."""
JOBS_TO_LEARN = 4
"""Fewer brackets than this teach nothing: the first two may both have been cold starts."""
EARLIER_BY = 0.84
"""The first query is made at this share of the way that the brackets point to."""
FOUND_DONE_SHARE_MIN = 0.3
"""A job found done at its first query is not taken to have needed less than this share of it."""
FALL = 0.6
"""What is left of the delay for each further job, one after another, found done at first."""
FALLS_MAX = 3
"""So often at most, from where the last of them was found done."""
FALLS_TO_FORGET = 2
"""After so many falls in a row, what went before holds no more."""


class JobKind(NamedTuple):
    """Jobs that may be expected to take about as long as each other."""

    base_url: str
    model: str
    performance: str
    num_images: int


class Bracket(NamedTuple):
    """Between what a job ended. Seconds from its accepted create to the sending of a query.

    Attributes:
        started: When its create was accepted, in seconds of one clock.
        pending_at: The last query that was answered "pending"; 0.0 if none was.
        done_at: The first that was answered "done".
    """

    started: float
    pending_at: float
    done_at: float


@dataclass
class _Seen:
    brackets: list[Bracket] = field(default_factory=list)
    sample: list[Bracket] = field(default_factory=list)
    jobs: int = 0
    delay: float | None = None


class LearnedDelays:
    """The brackets of recent jobs by kind, and the first delay that follows from them.

    Safe across threads and event loops, and bounded: ``KINDS_KEPT`` kinds with ``BRACKETS_KEPT``
    brackets each. Feed it what was polled for: jobs that a callback woke, jobs that were followed
    later than from their create on, and jobs that failed say nothing about a first delay.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[JobKind, _Seen] = OrderedDict()

    def observe(self, kind: JobKind, *, started: float, pending_at: float, done_at: float) -> None:
        """Learn from a job that was polled from its create to its end.

        A bracket that makes no sense is passed over: the job has been paid for, and what it
        teaches is not worth losing it.

        Args:
            kind: What kind of job it was.
            started: When its create was accepted, in seconds of one monotonic clock.
            pending_at: Seconds from then to the sending of the last query that was answered
                "pending"; 0.0 if none was.
            done_at: Likewise in seconds, of the first that was answered "done".
        """
        bracket = Bracket(started, pending_at, done_at)
        if not (all(map(math.isfinite, bracket)) and 0 <= pending_at <= done_at):
            return
        with self._lock:
            seen = self._seen.setdefault(kind, _Seen())
            self._seen.move_to_end(kind)
            if len(self._seen) > KINDS_KEPT:
                self._seen.popitem(last=False)
            seen.jobs += 1
            # To the left of its equals: where all seem to have started at once, the quick ones stay
            # and the delay errs towards the early side.
            seen.brackets.insert(bisect_left(seen.brackets, (started,)), bracket)
            del seen.brackets[:-BRACKETS_KEPT]
            seen.sample = sample(seen.brackets)
            late, falls = _found_done_in_a_row(seen.sample)
            if falls >= FALLS_TO_FORGET:
                del seen.brackets[: bisect_left(seen.brackets, late[0])]
                seen.sample = late
            seen.delay = delay_from(seen.sample)

    def first_delay(self, kind: JobKind) -> float | None:
        """Seconds from create to the first query of a job of that ``kind``; None if not known."""
        with self._lock:
            seen = self._seen.get(kind)
            if seen is None:
                return None
            self._seen.move_to_end(kind)
            return seen.delay

    def snapshot(self) -> list[dict[str, Any]]:
        """What is known, as plain JSON types, the kind that was used last at the end.

        Each entry has the fields of ``JobKind``, ``first_delay`` in seconds (None while too little
        is known), ``jobs_seen``, and ``brackets``: pairs of ``pending_at`` and ``done_at``, of
        those jobs from which the delay follows.
        """
        with self._lock:
            return [
                {
                    **kind._asdict(),
                    "first_delay": seen.delay,
                    "jobs_seen": seen.jobs,
                    "brackets": [[one.pending_at, one.done_at] for one in seen.sample],
                }
                for kind, seen in self._seen.items()
            ]

    def forget(self) -> None:
        """Start anew, as a new process does."""
        with self._lock:
            self._seen.clear()


def sample(brackets: Sequence[Bracket]) -> list[Bracket]:
    """Those from which a delay is to follow: recent, and a fair choice of long and short jobs.

    The last to end are not one: of jobs started together they are the longest. Nor are the last
    to start, where jobs are started all the time: of those only the shortest have ended. So the
    choice is made by the start, and over a time in which jobs of every length have ended.

    Args:
        brackets: At least one, in the order in which the jobs were started.
    """
    usual = _median(sorted(one.done_at for one in brackets[-SAMPLE_SIZE:]))
    earliest = bisect_left(brackets, (brackets[-1].started - SPAN_LENGTHS * usual,))
    recent = brackets[min(earliest, max(len(brackets) - SAMPLE_SIZE, 0)) :]
    return list(recent[:: -max(len(recent) // SAMPLE_SIZE, 1)])[::-1]


def delay_from(brackets: Sequence[Bracket]) -> float | None:
    """The first delay, in seconds, that these brackets teach; None if they are too few.

    It lies below halfway between the quickest job and the median one. The quickest alone would
    jump about with each job, the median alone would come too late for half of them; and neither
    moves much for one job in ten that takes ten times as long. Of a job that was seen pending
    counts how long it certainly took; of one that was found done at first, less than that, the
    less the more of them there are. Where such jobs follow one after another, the delay falls
    geometrically at least, whatever earlier ones say.

    Args:
        brackets: In the order in which the jobs were started.
    """
    late, falls = _found_done_in_a_row(brackets)
    fallen = math.inf
    if falls:
        fallen = min(one.done_at for one in late) * FALL ** min(falls, FALLS_MAX)
    if len(brackets) < JOBS_TO_LEARN:
        return fallen if falls else None
    pending = sorted(one.pending_at for one in brackets if one.pending_at)
    # A first query that came far too late must not be taken for a slow job.
    usual = _median(pending) if pending else math.inf
    share = max(len(pending) / len(brackets), FOUND_DONE_SHARE_MIN)
    lengths = sorted(one.pending_at or min(one.done_at * share, usual) for one in brackets)
    return min(EARLIER_BY * (lengths[0] + _median(lengths)) / 2, fallen)


def _found_done_in_a_row(brackets: Sequence[Bracket]) -> tuple[list[Bracket], int]:
    """The newest jobs as long as each was found done at first, and how often that was news.

    It is news of a job that was started after the one before it was found done, so with a delay
    that had taken it into account. Many that run at the same time all say the same.
    """
    late: list[Bracket] = []
    rounds, next_started = 0, math.inf
    for one in reversed(brackets):
        if one.pending_at:
            break
        late.insert(0, one)
        if one.started + one.done_at <= next_started:
            rounds, next_started = rounds + 1, one.started
    return late, max(rounds - 1, 0)


def _median(ordered: Sequence[float]) -> float:
    return ordered[(len(ordered) - 1) // 2]


learned_delays = LearnedDelays()
"""What this process has learned."""
