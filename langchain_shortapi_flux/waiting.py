"""How long to wait: before the first query, between queries, and after something went wrong.

Only delay arithmetic. It has no clock, does not sleep and rolls no dice: elapsed seconds and a
random number in [0, 1) are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["PollPolicy", "RetryLimits"]

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class PollPolicy(BaseModel):
    """When to query a job that is still running. A frozen value; all times in seconds.

    The first query comes after ``first_delay``, or after what was learned from earlier jobs of the
    same kind; every later gap is ``gap_share`` of the time that has passed since create, so that
    the lag is a constant share of whatever a job takes. Early on the gap is longer than that, for
    the share would be too little: ``gap_min``, and ``gap_rise`` more for each second. The service
    documents no interval; public clients query every 1 to 4 seconds.

    Raises:
        pydantic.ValidationError: A field is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    first_delay: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 2.5
    """Seconds from the accepted create to the first query, as long as nothing is learned: with
    ``learn``, for the first jobs of each kind in a process, else for all."""
    learn: bool = True
    """Whether the first delay is learned from earlier jobs of the same base URL, model, mode and
    number of pictures. The later gaps are never learned."""
    gap_share: Share = 0.0875
    """Later gaps, as a share of the seconds elapsed since create."""
    gap_min: Seconds = 0.29
    """No gap is shorter than this many seconds (before jitter, and before it is moved by up to
    0.01 s where many jobs query together)."""
    gap_rise: Share = 0.0245
    """By so many seconds the shortest gap grows with each second since create, as long as that is
    longer than ``gap_share`` of them. 0 where ``gap_min`` or ``gap_share`` is given without it."""
    gap_max: Seconds = 10.0
    """No gap is longer than this many seconds (before jitter)."""
    jitter: Share = 0.05
    """Each wait varies by up to this share, so that jobs started together do not query together in
    one crowd. (Many jobs query in small groups all the same: their waits end at common moments.)"""

    @model_validator(mode="before")
    @classmethod
    def _gaps_are_what_was_given(cls, values: object) -> object:
        if isinstance(values, Mapping) and values.keys() & {"gap_min", "gap_share"}:
            return {"gap_rise": 0.0, **values}
        return values

    @classmethod
    def fixed(cls, seconds: float) -> PollPolicy:
        """A plain schedule: a query every ``seconds``, the first too; no jitter, no learning."""
        return cls(
            first_delay=seconds,
            learn=False,
            gap_share=0.0,
            gap_min=seconds,
            gap_max=seconds,
            jitter=0.0,
        )

    def wait(
        self,
        queries: int,
        elapsed: float,
        dice: float,
        *,
        took: float = 0.0,
        learned: float | None = None,
    ) -> float:
        """Seconds to wait before the next query.

        A gap lies between the sending of one query and the sending of the next: what the last one
        took is not waited again, but for a part of the gap (``PAUSE_SHARE``).

        Args:
            queries: How many queries have been made.
            elapsed: Seconds since create was accepted, or since following began.
            dice: A random number in [0, 1).
            took: Seconds from the sending of the last query to its answer.
            learned: The first delay in seconds that earlier jobs taught, if they did. Not used
                without ``learn``, and never undercutting both ``first_delay`` and ``gap_min``.
        """
        if queries == 0:
            plain = self.first_delay
            if self.learn and learned is not None:
                plain = max(learned, min(self.first_delay, self.gap_min))
            return _jittered(plain, self.jitter, dice)
        plain = max(self.gap_share * elapsed, self.gap_min + self.gap_rise * elapsed)
        plain = min(plain, max(self.gap_max, self.gap_min))
        gap = _jittered(plain, self.jitter, dice)
        return max(gap - took, gap * PAUSE_SHARE)


PAUSE_SHARE = 0.25
"""This share of a gap passes between an answer and the next query, however long the answer took: a
service that is slow to answer is not asked without a pause."""


class RetryLimits(BaseModel):
    """How often and how patiently something is repeated. A frozen value; all times in seconds.

    Create is repeated only where no job can have been made (it never reached the service, HTTP 429,
    or code 3000 in the reply). A query is free and is repeated until the job's deadline. No
    official page says so: code 3000 is what one public client repeats on, 429 is convention.

    Raises:
        pydantic.ValidationError: A field is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    create_attempts: Annotated[int, Field(ge=1, le=20)] = 4
    """How often create is sent at most, where repeating it is safe. HTTP 429 counts as well; after
    the first one the creates of this process take turns, so that few meet another."""
    look_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """How many unusable replies end a single look (``ShortAPIFlux.query``)."""
    backoff_first: Seconds = 1.0
    """Seconds to wait after the first failure; they double with each further one."""
    backoff_max: Seconds = 15.0
    """No backoff is longer than this many seconds (before jitter)."""
    retry_after_max: Seconds = 60.0
    """A longer ``Retry-After`` from the service is cut to this many seconds."""
    jitter: Share = 0.25
    """Each wait is lengthened by up to this share of itself."""

    def wait(self, failures: int, retry_after: float | None, dice: float) -> float:
        """Seconds to wait after ``failures`` failures in a row (1 or more).

        Args:
            failures: How many attempts in a row have failed.
            retry_after: Seconds that the service asked for, if it did: not undercut, but capped,
                and never below ``backoff_first`` (a "0" must not make a busy loop).
            dice: A random number in [0, 1).
        """
        doublings = min(failures - 1, 30)
        plain = min(self.backoff_first * 2.0**doublings, self.backoff_max)
        if retry_after is not None:
            plain = min(max(retry_after, self.backoff_first), self.retry_after_max)
        return plain * (1 + self.jitter * dice)


def _jittered(seconds: float, share: float, dice: float) -> float:
    return seconds * (1 + share * (2 * dice - 1))
