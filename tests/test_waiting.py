"""Delay arithmetic, as tables."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from langchain_shortapi_flux import PollPolicy, RetryLimits

MIDDLE = 0.5
"""The roll of the dice that leaves a poll wait as it is."""


@pytest.mark.parametrize(
    ("queries", "elapsed", "seconds"),
    [
        (0, 0.0, 2.0),  # first_delay
        (0, 50.0, 2.0),  # still the first, however long create took
        (1, 2.0, 0.4),  # a tenth would be 0.2: gap_min
        (2, 8.0, 0.8),  # a tenth of what has passed
        (9, 60.0, 6.0),
        (40, 500.0, 10.0),  # a tenth would be 50: gap_max
    ],
)
def test_gaps_are_a_tenth_of_the_time_elapsed(queries: int, elapsed: float, seconds: float) -> None:
    """The lag after a job's end is then a constant share of whatever the job took."""
    assert PollPolicy().wait(queries, elapsed, MIDDLE) == pytest.approx(seconds)


@pytest.mark.parametrize(("dice", "seconds"), [(0.0, 1.8), (0.5, 2.0), (0.999999, 2.2)])
def test_poll_jitter_goes_both_ways(dice: float, seconds: float) -> None:
    """Jobs that were started together must not query together."""
    assert PollPolicy().wait(0, 0.0, dice) == pytest.approx(seconds, rel=1e-5)


def test_a_gap_min_above_gap_max_wins() -> None:
    """Someone who asks for 30 s between queries must not get the default cap of 10 s."""
    assert PollPolicy(gap_min=30.0, jitter=0.0).wait(3, 5.0, MIDDLE) == 30.0


@pytest.mark.parametrize("queries", [0, 1, 100])
@pytest.mark.parametrize("dice", [0.0, 0.99])
def test_a_fixed_schedule_is_fixed(queries: int, dice: float) -> None:
    """``fixed`` promises the same wait each time, the first too, whatever the dice say."""
    assert PollPolicy.fixed(3.0).wait(queries, 77.0, dice) == 3.0


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 15.0), (10_000, 15.0)]
)
def test_backoff_doubles_up_to_its_cap(failures: int, seconds: float) -> None:
    """A service in trouble is asked ever less often; and no exponent may overflow."""
    assert RetryLimits().wait(failures, None, 0.0) == seconds


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [(0.0, 1.0), (0.2, 1.0), (7.0, 7.0), (60.0, 60.0), (86_400.0, 60.0)],
)
@pytest.mark.parametrize("failures", [1, 6])
def test_retry_after_replaces_the_backoff_within_bounds(
    failures: int, retry_after: float, seconds: float
) -> None:
    """A 0 must not make a busy loop, and a day must not stop an agent for a day."""
    assert RetryLimits().wait(failures, retry_after, 0.0) == seconds


@pytest.mark.parametrize("dice", [0.0, 0.5, 0.99])
def test_jitter_never_undercuts_what_the_service_asked_for(dice: float) -> None:
    """Coming back before ``Retry-After`` would be counted against the account."""
    assert 7.0 <= RetryLimits().wait(1, 7.0, dice) < 7.0 * 1.25


def test_backoff_never_shrinks() -> None:
    """Each further failure is a reason to wait at least as long."""
    waits = [RetryLimits().wait(failures, None, 0.3) for failures in range(1, 60)]
    assert all(first <= second for first, second in pairwise(waits))


@pytest.mark.parametrize(
    ("policy", "field", "value"),
    [
        (PollPolicy, "first_delay", -1),
        (PollPolicy, "gap_min", 0),  # a busy loop
        (PollPolicy, "gap_max", math.inf),
        (PollPolicy, "gap_share", math.nan),
        (PollPolicy, "jitter", 1.5),  # a negative wait
        (PollPolicy, "retries", 3),
        (RetryLimits, "create_attempts", 0),
        (RetryLimits, "look_attempts", 0),
        (RetryLimits, "backoff_first", 0),
        (RetryLimits, "retry_after_max", 3601),
        (RetryLimits, "jitter", -0.1),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(
    policy: type[PollPolicy | RetryLimits], field: str, value: Any
) -> None:
    """Better at construction than as a busy loop, or a wait for ever, in the middle of a job."""
    with pytest.raises(ValidationError, match=field):
        policy(**{field: value})


@pytest.mark.parametrize("policy", [PollPolicy(), RetryLimits()])
def test_policies_are_frozen(policy: PollPolicy | RetryLimits) -> None:
    """They are shared by every job of a Runnable."""
    with pytest.raises(ValidationError, match="frozen"):
        policy.jitter = 0.9  # type: ignore[misc]
