"""What a flow says to a driver, and what holds for all of it: steps, acts, answers, circumstances.

Values only: no rule about jobs stands here, and no I/O.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_shortapi_flux.http_acts import HttpReply, HttpRequest, Lost
from langchain_shortapi_flux.job import FluxJob, FluxRequest
from langchain_shortapi_flux.ledger import Entry, LedgerAct, LedgerTrouble

if TYPE_CHECKING:
    from langchain_shortapi_flux.waiting import PollPolicy, RetryLimits

logger = logging.getLogger("langchain_shortapi_flux")

Act = HttpRequest | LedgerAct
"""What a job needs from the outside world. Each driver knows how to perform each kind."""
Answer = HttpReply | Lost | Entry | LedgerTrouble
"""What comes of an act. The first ``send`` and a step without an act take None."""


@dataclass(frozen=True)
class Step:
    """What is known of the job (None before it exists), how long to wait, what to do then."""

    job: FluxJob | None
    wait: float
    act: Act | None


JobFlow = Generator[Step, Answer | None, FluxJob]


@dataclass(frozen=True)
class Circumstances:
    """What holds for every step of one job.

    Attributes:
        base_url: Which service; goes onto each snapshot.
        loopback: Whether that service runs on this machine.
        poll: When to query.
        retry: How often and how patiently to repeat.
        clock: Monotonic seconds.
        dice: Random numbers in [0, 1).
        timeout: Seconds for the whole job, from ``started``.
        started: What the clock said when the job's call began.
        max_wait: Seconds after which following stops, if before ``timeout``. Never cuts a create.
    """

    base_url: str
    loopback: bool
    poll: PollPolicy
    retry: RetryLimits
    clock: Callable[[], float]
    dice: Callable[[], float]
    timeout: float
    started: float
    max_wait: float | None = None

    def elapsed(self) -> float:
        """Seconds since the call began."""
        return self.clock() - self.started

    def time_left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.timeout - self.elapsed()


@dataclass(frozen=True)
class Order:
    """What is to be bought: the request with its options filled in, of which model."""

    request: FluxRequest
    model: str
    callback_url: str | None = None


def http_reply(answer: Answer | None) -> HttpReply:
    """The answer to an HTTP request that did get one."""
    if not isinstance(answer, HttpReply):
        raise TypeError(f"a driver answered an HTTP request with {type(answer).__name__}")
    return answer
