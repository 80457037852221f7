"""What a flow says to a driver, and what holds for all of it: steps, acts, answers, circumstances.

Values only: no rule about jobs stands here, and no I/O.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from langchain_shortapi_flux.http_acts import HttpReply, HttpRequest, Lost
from langchain_shortapi_flux.job import FluxJob, FluxRequest
from langchain_shortapi_flux.ledger import Ended, Entry, LedgerAct, LedgerTrouble
from langchain_shortapi_flux.pace import QUERIES_PER_SECOND, Pace

if TYPE_CHECKING:
    from langchain_shortapi_flux.callback import Expected
    from langchain_shortapi_flux.doorbell import Doorbell
    from langchain_shortapi_flux.learned_delay import LearnedDelays
    from langchain_shortapi_flux.spending import Budget
    from langchain_shortapi_flux.waiting import PollPolicy, RetryLimits

logger = logging.getLogger("langchain_shortapi_flux")


@dataclass(frozen=True, slots=True)
class Acquire:
    """The act before each create where there is a rate limiter: ask it for a turn.

    ``time_left``: seconds after which a turn is of no use any more.
    """

    time_left: float


@dataclass(frozen=True, slots=True)
class Turn:
    """What the rate limiter said.

    Attributes:
        granted: Whether create may go.
        trouble: The error's class where the limiter broke.
        again: Seconds after which it can be asked again, where it was only looked at.
    """

    granted: bool
    trouble: str | None = None
    again: float | None = None


Act = HttpRequest | LedgerAct | Acquire
"""What a job needs from the outside world. Each driver knows how to perform each kind."""
Answer = HttpReply | Lost | Entry | LedgerTrouble | Turn
"""What comes of an act. The first ``send`` and a step without an act take None."""


class Step(NamedTuple):
    """What is known of the job (None before it exists), how long to wait, what to do then.

    Attributes:
        job: The newest snapshot.
        wait: Seconds to wait, less if ``bell`` rings before.
        act: What to do after the wait.
        if_left: What is to be noted where the driver leaves the flow at this step for good.
        bell: What may cut the wait short.
    """

    job: FluxJob | None
    wait: float
    act: Act | None
    if_left: tuple[LedgerAct, ...] = ()
    bell: Doorbell | None = None


JobFlow = Generator[Step, Answer | None, FluxJob]


@dataclass(frozen=True, slots=True)
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
        limited: Whether a rate limiter is to be asked before each create.
        pace: How fast this process may ask this service.
        queries_per_second: The cap on that.
        learned: What earlier jobs taught about first delays; None where nothing is to be learned.
        budget: What the job's price is reserved from; None where nothing bounds it.
        expected: The service's call that may come for the job; None where none can.
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
    limited: bool = False
    pace: Pace = field(default_factory=Pace)
    queries_per_second: float = QUERIES_PER_SECOND
    learned: LearnedDelays | None = None
    budget: Budget | None = None
    expected: Expected | None = None

    def elapsed(self) -> float:
        """Seconds since the call began."""
        return self.clock() - self.started

    def time_left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.timeout - self.elapsed()

    @property
    def patience(self) -> float:
        """Seconds from ``started`` after which whatever costs nothing is waited for no more."""
        return self.timeout if self.max_wait is None else min(self.timeout, self.max_wait)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be bought: the request with its options filled in, of which model."""

    request: FluxRequest
    model: str
    callback_url: str | None = field(default=None, repr=False)  # it may hold a token


@dataclass(frozen=True)
class Leaving:
    """What to note where a create is left for good.

    Attributes:
        idle: While nothing was under way: no job can have been made.
        sent: While create was under way.
        key: Under which key that is found in the ledger; None where nobody named one.
    """

    idle: tuple[LedgerAct, ...] = ()
    sent: tuple[LedgerAct, ...] = ()
    key: str | None = None

    def naming(self, job_id: str | None) -> tuple[LedgerAct, ...]:
        """What ``sent`` says, with the job that may be the one that was made."""
        return tuple(
            replace(act, job_id=job_id) if isinstance(act, Ended) else act for act in self.sent
        )


NOTHING = Leaving()


def leave(flow: JobFlow, step: Step | None, *, sent: bool) -> tuple[LedgerAct, ...]:
    """Leave a flow for good, and give what is to be noted then.

    A call that must not be repeated and never went out is not under way any more: the flow is told
    so first, and gives back what it held for it.

    Args:
        flow: The flow, waiting at a step or ended.
        step: The step it was left at; None where nothing is to be noted.
        sent: False only where provably nothing of the step's call reached the service.
    """
    if step is not None and not sent and _goes_out_once(step.act):
        try:
            step = flow.send(Lost(sent=False, reason="it was left before it was sent"))
        except StopIteration:  # an interrupt has ended it
            return step.if_left
        except Exception:  # noqa: BLE001 - what it would have raised to its caller, who has left
            return ()
    flow.close()
    return step.if_left if step is not None else ()


def _goes_out_once(act: Act | None) -> bool:
    return isinstance(act, HttpRequest) and not act.repeatable


def http_reply(answer: Answer | None) -> HttpReply:
    """The answer to an HTTP request that did get one."""
    if not isinstance(answer, HttpReply):
        raise TypeError(f"a driver answered an HTTP request with {type(answer).__name__}")
    return answer
