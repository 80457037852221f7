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
        (0, 0.0, 2.5),  # first_delay
        (0, 50.0, 2.5),  # still the first, however long create took
        (1, 0.0, 0.29),  # gap_min
        (1, 2.0, 0.339),  # and gap_rise for each second, while the share is less: 0.175
        (2, 4.0, 0.388),
        (2, 8.0, 0.7),  # a share of what has passed
        (9, 60.0, 5.25),
        (40, 500.0, 10.0),  # the share would be 44: gap_max
    ],
)
def test_gaps_are_a_share_of_the_time_elapsed(queries: int, elapsed: float, seconds: float) -> None:
    """The lag after a job's end is then a constant share of whatever the job took."""
    assert PollPolicy().wait(queries, elapsed, MIDDLE) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"gap_share": 0, "gap_min": 1}, 1.0),
        ({"gap_min": 2}, 2.0),
        ({"gap_share": 0.01}, 0.29),
        ({"gap_min": 1, "gap_rise": 0.1}, 1.8),
        ({"gap_rise": 0.1}, 1.09),
        ({"first_delay": 1, "gap_max": 5}, 0.7),
    ],
)
def test_who_names_the_gaps_gets_those(given: dict[str, Any], seconds: float) -> None:
    """A rise that nobody asked for would make of a steady second nine, in five minutes."""
    assert PollPolicy(**given).wait(3, 8.0, MIDDLE) == pytest.approx(seconds)
    assert PollPolicy.model_validate(given) == PollPolicy(**given)


def test_a_policy_comes_back_as_it_was() -> None:
    """From a dump, and from one that knew no rise."""
    for policy in (PollPolicy(), PollPolicy.fixed(0.5), PollPolicy(gap_min=2.0)):
        assert PollPolicy(**policy.model_dump()) == policy
    old = PollPolicy.fixed(0.5).model_dump(exclude={"gap_rise"})
    assert PollPolicy(**old) == PollPolicy.fixed(0.5)


@pytest.mark.parametrize(("dice", "seconds"), [(0.0, 2.375), (0.5, 2.5), (0.999999, 2.625)])
def test_poll_jitter_goes_both_ways(dice: float, seconds: float) -> None:
    """Jobs that were started together must not query together."""
    assert PollPolicy().wait(0, 0.0, dice) == pytest.approx(seconds, rel=1e-5)
    assert PollPolicy().wait(0, 0.0, dice, learned=5.0) == pytest.approx(2 * seconds, rel=1e-5)
    gap = PollPolicy(gap_share=0.5).wait(1, 5.0, dice)
    assert gap == pytest.approx(seconds, rel=1e-5)


@pytest.mark.parametrize(
    ("took", "seconds"),
    [
        (0.0, 2.0),
        (0.15, 1.85),  # a round trip
        (1.5, 0.5),  # a quarter of the gap is all that is left, and remains
        (60.0, 0.5),  # a service in trouble is not asked without a pause
    ],
)
def test_a_gap_runs_from_sending_to_sending(took: float, seconds: float) -> None:
    """A slow round trip must not be waited twice."""
    policy = PollPolicy(gap_min=2.0, jitter=0.0)
    assert policy.wait(1, 5.0, MIDDLE, took=took) == pytest.approx(seconds)
    assert PollPolicy.fixed(2.0).wait(1, 5.0, MIDDLE, took=took) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("policy", "learned", "seconds"),
    [
        (PollPolicy(jitter=0.0), None, 2.5),  # nothing known yet
        (PollPolicy(jitter=0.0), 3.3, 3.3),
        (PollPolicy(jitter=0.0), 40.0, 40.0),
        (PollPolicy(jitter=0.0), 0.01, 0.29),  # never earlier than any later gap
        (PollPolicy(first_delay=0.0, jitter=0.0), 0.01, 0.01),  # unless that was asked for
        (PollPolicy(first_delay=1.0, gap_min=30.0, jitter=0.0), 5.0, 5.0),
        (PollPolicy(first_delay=4.0, jitter=0.0), 3.3, 3.3),  # a start, not a promise
        (PollPolicy(first_delay=4.0, learn=False, jitter=0.0), 3.3, 4.0),
        (PollPolicy.fixed(3.0), 9.0, 3.0),
    ],
)
def test_the_first_delay_is_the_learned_one_where_learning_is_on(
    policy: PollPolicy, learned: float | None, seconds: float
) -> None:
    """``first_delay`` is where learning begins; ``learn=False`` makes it hold for every job."""
    assert policy.wait(0, 0.0, MIDDLE, learned=learned) == seconds


def test_what_was_learned_moves_the_first_query_alone() -> None:
    """Later gaps follow from what this job has taken already."""
    assert PollPolicy().wait(1, 8.0, MIDDLE, learned=40.0) == PollPolicy().wait(1, 8.0, MIDDLE)


def test_a_gap_min_above_gap_max_wins() -> None:
    """Someone who asks for 30 s between queries must not get the default cap of 10 s."""
    assert PollPolicy(gap_min=30.0, jitter=0.0).wait(3, 5.0, MIDDLE) == 30.0


@pytest.mark.parametrize("queries", [0, 1, 100])
@pytest.mark.parametrize("dice", [0.0, 0.99])
def test_a_fixed_schedule_is_fixed(queries: int, dice: float) -> None:
    """``fixed`` promises the same wait each time, the first too, whatever was learned."""
    assert PollPolicy.fixed(3.0).wait(queries, 77.0, dice, learned=1.0) == 3.0


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
