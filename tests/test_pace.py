"""How fast one service is asked by a process: values in, seconds to wait out."""

from __future__ import annotations

import threading

import pytest
from screenplay import Clock, here, perform
from transcripts import CREATED, SUCCEEDED, TOO_MANY

from langchain_shortapi_flux import FluxJob, FluxRequest, JobTimeout, RetryLimits
from langchain_shortapi_flux.flow_steps import Order
from langchain_shortapi_flux.follow_flow import follow_job
from langchain_shortapi_flux.job_flow import buy_job
from langchain_shortapi_flux.pace import (
    BURST_SECONDS,
    RECOVERY_SECONDS,
    SLOWEST_SHARE,
    Pace,
    pace_of,
)

CAP = 100.0
JOB = FluxJob(job_id="j1", status="pending")
ORDER = Order(
    FluxRequest(prompt="a fox", aspect_ratio="1:1", num_images=1, performance="schnell"), "model"
)


def turns(pace: Pace, now: float, count: int, cap: float = CAP) -> list[float]:
    """When each of so many queries that want to go now may go."""
    return [now + (pace.turn(now, cap) or 0.0) for _ in range(count)]


def test_few_queries_go_at_once() -> None:
    """One job, or ten, never notice the cap."""
    assert turns(Pace(), 1000.0, 10) == [1000.0] * 10


@pytest.mark.parametrize("cap", [1.0, 100.0, 500.0])
def test_many_queries_are_spaced_by_the_cap(cap: float) -> None:
    """In no second do more go than the cap and one burst allow."""
    when = turns(Pace(), 1000.0, int(cap) * 10, cap)
    for second in range(10):
        within = sum(1000.0 + second <= at < 1001.0 + second for at in when)
        assert within <= cap * (1 + BURST_SECONDS) + 1
    assert when[-1] == pytest.approx(1010.0, abs=BURST_SECONDS + 2 / cap)
    assert when == sorted(when)


def test_a_pause_is_not_saved_up() -> None:
    """After an idle hour there is one burst, no more."""
    pace = Pace()
    turns(pace, 1000.0, 5)
    waits = turns(pace, 5000.0, 100)
    assert sum(at == 5000.0 for at in waits) <= CAP * BURST_SECONDS + 1


def test_a_complaint_holds_everything_back_and_halves_the_speed() -> None:
    """For as long as the service asked for; then at half the cap."""
    pace = Pace()
    pace.slow_down(1000.0, 3.0)
    assert pace.held(1001.0) == 2.0
    assert pace.held(1003.0) == 0.0
    when = turns(pace, 1001.0, 100)
    assert when[0] == 1003.0
    assert when[-1] == pytest.approx(1003.0 + 100 / (CAP / 2), rel=0.1)


def test_many_complaints_at_once_count_once() -> None:
    """A hundred queries under way are all told the same."""
    once, often = Pace(), Pace()
    once.slow_down(1000.0, 1.0)
    for _ in range(100):
        often.slow_down(1000.0, 1.0)
    assert turns(once, 1001.0, 50) == turns(often, 1001.0, 50)


def test_complaints_after_one_another_slow_down_to_a_floor() -> None:
    """Never to a stop."""
    pace, now = Pace(), 1000.0
    for _ in range(50):
        pace.slow_down(now, 0.1)
        now += 1.0
    pace.turn(now + 10, CAP)
    assert 0 < (pace.turn(now + 10, CAP) or 0.0) + BURST_SECONDS <= 1 / (CAP * SLOWEST_SHARE)


def test_the_speed_comes_back() -> None:
    """Half a minute later nothing is left of it."""
    pace = Pace()
    for moment in range(10):
        pace.slow_down(1000.0 + moment, 1.0)
    later = 1010.0 + RECOVERY_SECONDS
    assert turns(pace, later, 50) == turns(Pace(), later, 50)


def test_a_shorter_hold_does_not_end_a_longer_one() -> None:
    """The service said ten seconds to one, and one second to another."""
    pace = Pace()
    pace.slow_down(1000.0, 10.0)
    pace.slow_down(1001.0, 1.0)
    assert pace.held(1001.0) == 9.0


def test_threads_take_different_turns() -> None:
    """No two get the same one."""
    pace, got = Pace(), []
    lock = threading.Lock()

    def take() -> None:
        mine = turns(pace, 1000.0, 200)
        with lock:
            got.extend(mine)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == pytest.approx(turns(Pace(), 1000.0, 1600))


def test_each_service_has_one_pace_in_a_process() -> None:
    """By its base URL."""
    assert pace_of("https://one.example") is pace_of("https://one.example")
    assert pace_of("https://one.example") is not pace_of("https://two.example")


def test_a_complaint_about_one_job_holds_the_create_of_another() -> None:
    """HTTP 429 is about all that this process does; the create waits, and is sent once."""
    one, other, pace = Clock(), Clock(), Pace()
    told = perform(buy_job(ORDER, here(one, pace=pace)), [CREATED, TOO_MANY, SUCCEEDED], one)
    assert told.job is not None
    played = perform(buy_job(ORDER, here(other, pace=pace)), [CREATED, SUCCEEDED], other)
    assert played.job is not None
    assert played.waits[0] > 0
    assert played.creates == 1


def test_a_hold_beyond_the_deadline_creates_nothing() -> None:
    """A deadline never starts work."""
    clock, pace = Clock(), Pace()
    pace.slow_down(clock(), 60.0)
    played = perform(buy_job(ORDER, here(clock, pace=pace, timeout=20.0)), [CREATED], clock)
    assert (played.creates, played.job) == (0, None)
    assert played.error is not None
    assert played.error.charge == "none"


def test_a_turn_that_comes_too_late_is_not_taken() -> None:
    """Who cannot wait so long leaves the turn to others."""
    pace = Pace()
    pace.slow_down(1000.0, 60.0)
    assert pace.turn(1000.0, CAP, 5.0) is None
    assert pace.turn(1000.0, CAP, 61.0) == 60.0


def test_a_turn_that_is_given_back_is_had_by_the_next() -> None:
    """Jobs that were left do not hold up those that stay."""
    pace = Pace()
    turns(pace, 1000.0, 100)
    for _ in range(100):
        pace.give_back(CAP)
    assert pace.turn(1000.0, CAP) == 0.0


def test_runnables_with_other_caps_do_not_wait_for_each_other() -> None:
    """One query in ten seconds is that Runnable's own affair."""
    pace = Pace()
    assert pace.turn(1000.0, 0.1) == 0.0
    assert turns(pace, 1000.0, 10) == [1000.0] * 10


def test_a_hold_beyond_the_deadline_ends_the_wait_at_the_deadline() -> None:
    """The service asked for a minute; the caller has four seconds."""
    clock = Clock()
    began = clock()
    retry = RetryLimits(backoff_first=12.0)
    flow = buy_job(ORDER, here(clock, timeout=4.0, retry=retry))
    played = perform(flow, [CREATED, TOO_MANY, SUCCEEDED], clock)
    assert isinstance(played.error, JobTimeout)
    assert clock() - began <= 4.0
    assert len(played.paths) == 2


def test_a_complaint_voids_the_turns_that_were_taken_before() -> None:
    """Who waits for a turn when the service complains waits for another one after the hold."""
    clock, pace = Clock(), Pace()
    pace.turn(clock(), 1.0)
    flow = follow_job(JOB, here(clock, pace=pace, queries_per_second=1.0), bought_now=False)
    step = next(flow)
    assert step.act is None
    assert step.wait == pytest.approx(1 - BURST_SECONDS)
    clock.pass_by(step.wait)
    pace.slow_down(clock(), 10.0)
    step = flow.send(None)
    assert (step.act, step.wait >= 10.0) == (None, True)
    flow.close()


def test_a_job_that_is_left_gives_its_turn_back() -> None:
    """A cancelled batch must not hold up the next one."""
    clock, pace = Clock(), Pace()
    pace.turn(clock(), 1.0)
    flow = follow_job(JOB, here(clock, pace=pace, queries_per_second=1.0), bought_now=False)
    next(flow)
    before = pace.turn(clock(), 1.0)
    pace.give_back(1.0)
    flow.close()
    assert pace.turn(clock(), 1.0) == pytest.approx((before or 0.0) - 1.0)
