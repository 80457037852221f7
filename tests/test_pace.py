"""How fast one service is asked by a process: values in, seconds to wait out."""

from __future__ import annotations

import os
import signal
import threading
from email.utils import formatdate

import pytest
from crowd import Bucket, Crowd
from screenplay import Clock, here, perform
from transcripts import CREATED, RECEIVED_AT, RUNNING, SUCCEEDED, TOO_MANY, UNSTABLE, said

from langchain_shortapi_flux import FluxJob, FluxRequest, JobTimeout, RetryLimits
from langchain_shortapi_flux.flow_steps import Order
from langchain_shortapi_flux.follow_flow import follow_job
from langchain_shortapi_flux.http_acts import HttpRequest
from langchain_shortapi_flux.job_flow import buy_job, create_job
from langchain_shortapi_flux.pace import (
    BURST_SECONDS,
    CAP_IN_USE_SECONDS,
    CAPS_KEPT,
    CREATES_PER_SECOND_MIN,
    MANY_JOBS,
    PLANNED_LATER_TICKS_MAX,
    PLANNED_MIN,
    PLANNED_TOGETHER_MIN,
    QUERIES_PER_SECOND,
    RECOVERY_SECONDS,
    SLOWEST_SHARE,
    TOGETHER_SECONDS,
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
    *_, before, last = turns(pace, now + 10, 20)
    assert 0 < last - before <= 1 / (CAP * SLOWEST_SHARE)


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
        pace.give_back()
    assert pace.turn(1000.0, CAP) == 0.0


@pytest.mark.parametrize("order", [(5.0, 100.0), (100.0, 5.0)])
def test_the_lowest_cap_holds_for_the_whole_process(order: tuple[float, float]) -> None:
    """Whoever set it meant the service, which counts what everything here sends."""
    pace = Pace()
    when = sorted(1000.0 + (pace.turn(1000.0, order[number % 2]) or 0.0) for number in range(50))
    assert when[-1] == pytest.approx(1010.0, abs=BURST_SECONDS + 2 / 5.0)
    pace.give_back()
    assert 1000.0 + (pace.turn(1000.0, 5.0) or 0.0) == pytest.approx(when[-1])


def test_a_cap_that_nobody_asks_with_any_more_holds_no_more() -> None:
    """A Runnable that is gone must not slow down the rest for ever."""
    pace = Pace()
    pace.turn(1000.0, 0.1)
    assert (pace.turn(1001.0, CAP) or 0.0) > 1.0
    later = 1000.0 + CAP_IN_USE_SECONDS
    assert turns(pace, later, 10) == [later] * 10


def test_many_caps_are_not_all_remembered_but_the_lowest_is() -> None:
    """A server that makes up a number for each user must not fill the memory."""
    pace = Pace()
    for number in range(1000):
        pace.turn(1000.0, 1000.0 + number)
    assert len(pace._caps) <= CAPS_KEPT + 1
    assert min(pace._caps) == 1000.0


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
    pace.give_back()
    flow.close()
    assert pace.turn(clock(), 1.0) == pytest.approx((before or 0.0) - 1.0)


# --- together -----------------------------------------------------------------------------------


def in_ticks(moment: float) -> float:
    """How many times ``TOGETHER_SECONDS`` a moment is."""
    return moment / TOGETHER_SECONDS


def test_waits_of_many_jobs_end_together() -> None:
    """Each is moved by half a tick at most, and on the whole by nothing."""
    pace, plain = Pace(), [1.0 + number * 0.00317 for number in range(1000)]
    pace.follow(MANY_JOBS + 1)
    moved = [pace.together(1000.0, wait, QUERIES_PER_SECOND) for wait in plain]
    for wait, before in zip(moved, plain, strict=True):
        assert abs(wait - before) <= TOGETHER_SECONDS / 2 + 1e-9
        assert in_ticks(1000.0 + wait) == pytest.approx(round(in_ticks(1000.0 + wait)), abs=1e-6)
    assert sum(moved) == pytest.approx(sum(plain), rel=1e-4)


@pytest.mark.parametrize("now", [0.0, 12.34, 3e7, 4e9])
@pytest.mark.parametrize("phase", [0.0, 0.007])
def test_processes_have_moments_of_their_own(now: float, phase: float) -> None:
    """The clock is one for a machine: without that, all its workers would ask at once."""
    pace = Pace(phase)
    pace.follow(MANY_JOBS + 1)
    wait = pace.together(now, 1.2345, QUERIES_PER_SECOND)
    ends = in_ticks(now + wait - phase)
    assert abs(wait - 1.2345) <= TOGETHER_SECONDS / 2 + 1e-6
    assert ends == pytest.approx(round(ends), abs=1e-3 if now > 1e9 else 1e-6)


def test_a_moment_that_has_just_come_is_not_waited_for_once_more() -> None:
    """A hold that ends at one would last a fiftieth of a second longer, for some clocks."""
    for number in range(50_000, 52_000):
        pace, moment = Pace(), number * TOGETHER_SECONDS
        pace.slow_down(moment - 1.0, 1.0)
        assert pace.turn(moment - 1.0, 1000.0) == pytest.approx(1.0, abs=1e-6)


def test_a_turn_is_not_refused_for_the_sake_of_company() -> None:
    """It comes in 5 ms, and there are 15; the next common moment is in 20."""
    pace = Pace()
    pace.slow_down(1000.0, 0.005)
    assert pace.turn(1000.0, 1000.0, 0.015) == pytest.approx(0.005)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_is_held_by_no_thread_of_its_parent() -> None:
    """A flow that is closed there says that it follows no more."""
    pace, held, over = Pace(), threading.Event(), threading.Event()

    def hold() -> None:
        with pace._lock.own:
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:  # pragma: no cover - another process
        signal.alarm(20)
        pace.follow(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    over.set()
    thread.join()
    assert status == 0


@pytest.mark.parametrize("jobs", [0, 1, MANY_JOBS])
def test_waits_of_a_few_jobs_stay_as_they_are(jobs: int) -> None:
    """There is nothing to be gained."""
    pace = Pace()
    pace.follow(jobs)
    assert pace.together(1000.0, 1.2345, QUERIES_PER_SECOND) == 1.2345


def test_short_waits_stay_as_they_are() -> None:
    """A user who wants a query every 0.05 s gets it."""
    pace = Pace()
    pace.follow(MANY_JOBS + 1)
    assert pace.together(1000.0, 0.05, QUERIES_PER_SECOND) == 0.05


EIGHT_AT_A_TIME = 8 / TOGETHER_SECONDS


def planned(pace: Pace, count: int, wait: float = 1.0, now: float = 1000.0) -> list[int]:
    """How many ticks late each of so many waits ends that are to end at the same moment."""
    ends = [now + pace.together(now, wait, EIGHT_AT_A_TIME) for _ in range(count)]
    return [round(in_ticks(end - (now + wait))) for end in ends]


def test_no_more_waits_end_together_than_may_query() -> None:
    """Eight in a fiftieth of a second, at 400 a second: none of them has to wait again."""
    pace = Pace()
    pace.follow(MANY_JOBS + 1)
    late = planned(pace, 200)
    assert late == [number // 8 for number in range(200)]
    assert turns(Pace(), 1001.0, 200, EIGHT_AT_A_TIME)[-1] > 1001.0
    for number in late:
        assert pace.turn(1001.0 + number * TOGETHER_SECONDS, EIGHT_AT_A_TIME) == 0.0


def test_a_wait_ends_where_there_is_room_next() -> None:
    """Behind what is full already, and before it as well."""
    pace = Pace()
    pace.follow(MANY_JOBS + 1)
    assert planned(pace, 24) == [0] * 8 + [1] * 8 + [2] * 8
    assert planned(pace, 12, wait=1.0 + TOGETHER_SECONDS) == [2] * 8 + [3] * 4
    assert planned(pace, 12, wait=1.0 - TOGETHER_SECONDS) == [0] * 8 + [5] * 4
    assert planned(pace, 9) == [5] * 8 + [6]


def test_after_a_complaint_fewer_waits_end_together() -> None:
    """The cap is half of itself then."""
    pace = Pace()
    pace.follow(MANY_JOBS + 1)
    pace.slow_down(1000.0, 0.5)
    assert planned(pace, 8) == [0] * 4 + [1] * 4


def test_while_queries_are_late_fewer_waits_end_together() -> None:
    """A process that was busy for long has to catch up."""
    pace = Pace()
    pace.follow(MANY_JOBS + 1)
    turns(pace, 1000.0, 600, cap=1000.0)
    for now, together in ((1000.0, 16), (1001.0, 20)):
        ends = [now + pace.together(now, 1.0, 1000.0) for _ in range(2 * together)]
        assert [ends.count(end) for end in sorted(set(ends))] == [together, together]


@pytest.mark.parametrize("cap", [1.0, 20.0, PLANNED_TOGETHER_MIN / TOGETHER_SECONDS - 1])
def test_at_a_low_cap_nothing_is_planned(cap: float) -> None:
    """Few at a time: turns keep those apart, to the query."""
    pace = Pace()
    pace.follow(MANY_JOBS + 1)
    ends = {pace.together(1000.0, 1.0, cap) for _ in range(50)}
    assert len(ends) == 1


def test_what_has_no_room_within_two_seconds_is_not_planned() -> None:
    """It waits for its turn when its own time has come."""
    pace = Pace()
    pace.follow(MANY_JOBS + 1)
    late = planned(pace, 1000)
    assert max(late) == PLANNED_LATER_TICKS_MAX
    assert late[-100:] == [0] * 100


def test_jobs_that_were_left_hold_up_others_for_two_seconds_at_most() -> None:
    """Their plans are not taken back, and a new job does not pay for it with its deadline."""
    pace = Pace()
    pace.follow(10_000)
    planned(pace, 10_000)
    pace.follow(-10_000)
    pace.follow(MANY_JOBS + 1)
    (late,) = planned(pace, 1, now=1000.5)
    assert late <= PLANNED_LATER_TICKS_MAX
    assert pace.turn(1000.5, EIGHT_AT_A_TIME) == 0.0
    assert planned(pace, 1, now=1003.0) == [0]


def test_what_was_planned_is_forgotten_when_it_is_over() -> None:
    """A process that runs for days plans without end."""
    pace = Pace()
    pace.follow(MANY_JOBS + 1)
    for number in range(10_000):
        planned(pace, 1, now=1000.0 + number)
        assert len(pace._planned) <= PLANNED_MIN + 1
    for number in range(2_000):
        planned(pace, 8, now=50_000.0 + number)
        assert len(pace._full) <= PLANNED_MIN + 1


def test_full_moments_are_not_gone_through_for_each_wait() -> None:
    """Or thousands of jobs would take long to plan."""
    pace = Pace()
    pace.follow(MANY_JOBS + 1)
    planned(pace, 2_000)
    first = min(pace._full)
    assert pace._full[first] - first >= PLANNED_LATER_TICKS_MAX


def test_no_job_waits_twice_for_its_query() -> None:
    """The flow itself asks for the plan: of 600 jobs begun at once each queries when it wakes."""
    clock, pace = Clock(), Pace()
    flows = [follow_job(JOB, here(clock, pace=pace)) for _ in range(600)]
    asleep = [(clock() + next(flow).wait, flow) for flow in flows][MANY_JOBS:]
    for end, flow in sorted(asleep, key=lambda one: one[0]):
        clock.pass_by(end - clock())
        assert isinstance(flow.send(None).act, HttpRequest)
    for flow in flows:
        flow.close()


def test_turns_at_a_high_cap_come_together() -> None:
    """At 1,000 a second twenty go at a time, and none before it may."""
    when = turns(Pace(), 1000.0, 1000 + round(1000 * BURST_SECONDS), 1000.0)
    later = [at for at in when if at > 1000.0]
    assert len(later) == pytest.approx(1000, abs=2)
    assert len(set(later)) == pytest.approx(1 / TOGETHER_SECONDS, abs=1)
    for number, at in enumerate(later):
        assert 1000.0 + number / 1000 <= at <= 1000.0 + (number + 2) / 1000 + TOGETHER_SECONDS


def test_turns_at_a_low_cap_come_one_by_one() -> None:
    """Less than one in a tick: to wait for another would be a wait for nothing."""
    when = turns(Pace(), 1000.003, 20, 10.0)
    due = [1000.003 - BURST_SECONDS + number * 0.1 for number in range(20)]
    assert when == pytest.approx([max(at, 1000.003) for at in due])


@pytest.mark.parametrize("end", ["its end", "an error", "being left", "no first step"])
def test_a_job_counts_as_followed_only_while_it_is(end: str) -> None:
    """However it ends, or the process would believe in a crowd for ever."""
    clock, pace = Clock(), Pace()
    others = [follow_job(JOB, here(clock, pace=pace)) for _ in range(MANY_JOBS)]
    for other in others:
        next(other)
    last = follow_job(JOB, here(clock, pace=pace, timeout=0.0 if end == "an error" else 9.0))
    if end != "no first step":
        next(last)
        assert pace.together(clock(), 1.2345, QUERIES_PER_SECOND) != 1.2345
    if end == "its end":
        assert perform(last, [RUNNING, SUCCEEDED], clock).job is not None
    elif end == "an error":
        with pytest.raises(JobTimeout):
            last.send(None)
    last.close()
    assert pace.together(clock(), 1.2345, QUERIES_PER_SECOND) == 1.2345
    for other in others:
        other.close()


def test_many_jobs_wake_together() -> None:
    """The flow itself asks for it: forty jobs, begun at forty moments, wake at few."""
    clock, pace = Clock(), Pace()
    woken = []
    for _ in range(MANY_JOBS + 40):
        step = next(follow := follow_job(JOB, here(clock, pace=pace)))
        woken.append((follow, clock() + step.wait))
        clock.pass_by(0.001)
    assert len({round(at, 6) for _, at in woken[MANY_JOBS:]}) <= 4


# --- creates after a complaint --------------------------------------------------------------------


@pytest.mark.parametrize("latency", [0.005, 0.3])
def test_two_hundred_creates_at_once_against_twenty_a_second_are_all_made(latency: float) -> None:
    """All that were refused at first do not come back together, so four attempts are enough."""
    service = Bucket(20.0)
    crowd = Crowd(service, latency)
    crowd.create(200, timeout=60.0)
    assert crowd.ends == {"created": 200}
    assert crowd.seconds <= 2 * 200 / 20.0
    assert len(service.refusals) <= 180 + 40
    assert max(crowd.creates.values()) <= RetryLimits().create_attempts
    assert crowd.steps <= 15 * 200, "they all ask at once, again and again"


@pytest.mark.parametrize("per_second", [1.0, 5.0, 100.0])
def test_the_pace_of_creates_finds_what_the_service_allows(per_second: float) -> None:
    """Whatever that is: nobody has documented it."""
    crowd = Crowd(Bucket(per_second))
    crowd.create(int(per_second * 10), timeout=60.0)
    assert crowd.ends == {"created": int(per_second * 10)}
    assert crowd.seconds <= 30.0


def test_creates_do_not_wait_where_the_service_never_complained() -> None:
    """One step each: five hundred jobs cost what they cost before."""
    crowd = Crowd(Bucket(500.0))
    crowd.create(500)
    assert (crowd.ends, crowd.steps) == ({"created": 500}, 500)
    assert crowd.seconds == pytest.approx(crowd.latency)


@pytest.mark.parametrize(
    "retry_after", ["7", formatdate(RECEIVED_AT + 7, usegmt=True)], ids=["seconds", "date"]
)
def test_no_create_goes_out_while_the_service_wants_to_be_left_alone(retry_after: str) -> None:
    """But for those that were under way when it said so."""
    service = Bucket(20.0, said({}, 429, Retry_After=retry_after))
    crowd = Crowd(service)
    crowd.create(100, timeout=100.0)
    assert crowd.ends == {"created": 100}
    for complaint in service.refusals:
        heard = complaint + crowd.latency / 2
        assert not [at for at in service.asked if heard < at - crowd.latency / 2 < heard + 7.0]


def test_creates_that_are_left_while_they_wait_do_not_hold_up_the_rest() -> None:
    """Nor do they take a turn with them: thirty that stay need no longer than thirty alone."""
    alone, crowd = Crowd(Bucket(20.0)), Crowd(Bucket(20.0))
    alone.create(50, timeout=60.0)
    crowd.create(200, dict.fromkeys(range(50, 200), 1.3), timeout=60.0)
    assert crowd.ends["left"] >= 140
    assert crowd.ends["created"] + crowd.ends["left"] == 200
    assert crowd.seconds <= alone.seconds + 2.0
    assert crowd.pace._creates_waiting == 0


def test_creates_wait_for_their_turn_to_their_deadline_and_not_beyond() -> None:
    """A deadline never starts work; the refusal that is raised says that nothing was bought."""
    service = Bucket(20.0)
    crowd = Crowd(service)
    crowd.create(1000, timeout=10.0)
    assert set(crowd.ends) == {"created", "RateLimited"}
    assert crowd.ends["created"] > 100
    assert crowd.seconds <= 10.0 + crowd.latency + 1e-6
    assert max(service.asked) <= 1010.0 + crowd.latency
    assert crowd.pace._creates_waiting == 0


def test_a_single_create_that_is_refused_waits_no_longer_than_its_back_off() -> None:
    """There is nobody to take turns with."""
    clock = Clock()
    played = perform(buy_job(ORDER, here(clock)), [TOO_MANY, TOO_MANY, CREATED, SUCCEEDED], clock)
    assert played.waits[:3] == [0.0, 1.125, 2.25]


def test_creates_go_at_once_again_when_the_complaints_are_long_over() -> None:
    """As if there had been none."""
    service = Bucket(20.0)
    crowd = Crowd(service)
    crowd.create(100)
    crowd.clock.pass_by(RECOVERY_SECONDS + 10.0)
    crowd.service, crowd.steps = Bucket(500.0), 0
    crowd.create(500)
    assert crowd.steps == 500


def test_creates_take_turns_for_as_long_as_the_service_may_still_be_sore() -> None:
    """A long hold is no recovery: those that it held would all come back together."""
    pace = Pace()
    pace.create_refused(1000.0, 60.0, sent=999.9)
    assert pace.create_turn(1060.0, 0.5) == 0.0
    assert pace.create_turn(1060.0, 0.5) > 0.0


def test_complaints_about_creates_sent_before_the_first_one_count_once() -> None:
    """A hundred that were under way are all told the same."""
    once, often = Pace(), Pace()
    for pace, count in ((once, 1), (often, 100)):
        for _ in range(count):
            pace.create_refused(1000.0, 1.0, sent=999.0)
        pace.create_refused(1005.0, 1.0, sent=1004.0)
        pace.create_turn(1006.0, 0.5)
    assert once.create_turn(1006.0, 0.5) == often.create_turn(1006.0, 0.5) == pytest.approx(1.0)


def gap_of(pace: Pace, now: float) -> float:
    """Seconds between one create and the next, once the burst is over; 0 if they all may go."""
    for _ in range(100):
        if wait := pace.create_turn(now, 0.5):
            assert pace.create_turn(now + wait, 0.5) == 0.0
            return pace.create_turn(now + wait, 0.5)
    return 0.0


def test_creates_go_on_at_nearly_the_speed_that_went_through() -> None:
    """The first time, later on, and again after a recovery."""
    pace = Pace()
    for began in (1000.0, 2000.0):
        for number in range(100):
            assert pace.create_turn(began + number / 1000, 0.5) == 0.0
            pace.create_passed(began + number / 1000)
        pace.create_refused(began + 0.5, 0.1, sent=began + 0.4)
        assert gap_of(pace, began + 2.0) == pytest.approx(1 / 90)
        for _ in range(80):
            pace.create_passed(began + 3.0)
        pace.create_refused(began + 3.5, 0.1, sent=began + 3.4)
        assert gap_of(pace, began + 5.0) == pytest.approx(1 / 72)


def test_creates_are_halved_at_most_and_never_stop() -> None:
    """Where nothing has gone through for a while."""
    pace, gaps = Pace(), []
    for number in range(20):
        now = 1000.0 + 25.0 * number
        pace.create_refused(now, 0.1, sent=now - 0.1)
        gaps.append(gap_of(pace, now + 20.0))
    assert gaps[:5] == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0])
    assert max(gaps) == gaps[-1] == pytest.approx(1 / CREATES_PER_SECOND_MIN)


def test_turns_of_creates_are_not_saved_up() -> None:
    """After ten seconds in which nobody wanted one, they come one by one all the same."""
    pace = Pace()
    pace.create_refused(1000.0, 1.0, sent=999.0)
    assert [pace.create_turn(1011.0, 0.5) == 0.0 for _ in range(4)] == [True, True, False, False]


def test_creates_take_turns_for_as_long_as_any_of_them_waits() -> None:
    """However long ago the last complaint was: else a thousand would go at once."""
    pace = Pace()
    pace.create_refused(1000.0, 1.0, sent=999.0)
    pace.wait_with_create(1)
    assert gap_of(pace, 1001.0 + 2 * RECOVERY_SECONDS) > 0.0
    pace.wait_with_create(-1)
    assert gap_of(pace, 1001.0 + 2 * RECOVERY_SECONDS) == 0.0


def test_threads_take_different_turns_of_creates() -> None:
    """Of many that ask at one moment, one goes."""
    pace: Pace = Pace()
    waits: list[float] = []
    pace.create_refused(1000.0, 1.0, sent=999.0)

    def ask() -> None:
        waits.extend(pace.create_turn(1001.0, 0.5) for _ in range(100))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waits.count(0.0) == 1


# --- creates held back by whoever leaves --------------------------------------------------------


def test_creates_are_held_back_and_queries_are_not() -> None:
    """Nobody complained, so nothing else goes slower, then or later."""
    pace, free = Pace(), Pace()
    pace.hold_creates(1000.0, 60.0)
    pace.hold_creates(1000.0, 1.0)
    assert pace.create_turn(1010.0, 0.5) == 50.0
    assert pace.held(1010.0) == 0.0
    assert turns(pace, 1010.0, 50) == turns(free, 1010.0, 50)
    assert pace.create_turn(1060.0, 0.5) == 0.0


def test_creates_that_take_turns_are_held_back_as_well() -> None:
    """After a complaint they have their turns once the hold is over."""
    pace = Pace()
    pace.create_refused(1000.0, 1.0, 999.0)
    pace.hold_creates(1002.0, 60.0)
    assert pace.create_turn(1010.0, 0.0) == 52.0
    assert pace.create_turn(1062.0, 0.0) == 0.0


@pytest.mark.parametrize("left", [False, True])
def test_a_create_is_out_from_its_turn_until_its_answer(left: bool) -> None:
    """While it waits to be sent, or again, it is not; nor once it is left."""
    clock, pace = Clock(), Pace()
    pace.hold_creates(clock(), 5.0)
    flow = create_job(ORDER, here(clock, pace=pace))
    out, step, answer = [], next(flow), None
    for answer in (None, UNSTABLE, None):
        out.append((step.act is not None, pace.creates_out))
        clock.pass_by(step.wait)
        step = flow.send(answer)
    assert out == [(False, 0), (True, 1), (False, 0)]
    assert pace.creates_out == 1
    if left:
        flow.close()
    else:
        with pytest.raises(StopIteration):
            flow.send(CREATED)
    assert pace.creates_out == 0
