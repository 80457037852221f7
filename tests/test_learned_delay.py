"""What brackets teach: as tables, and as properties over many simulated jobs. Nobody sleeps."""

from __future__ import annotations

import json
import math
import random
import sys
import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from benchmarks.waiting_table import (
    KIND,
    ROUND_TRIPS,
    ROWS,
    Row,
    Run,
    around,
    poll,
    share,
    simulate,
    three_to_five,
    wide,
    with_cold_starts,
    within,
)

from langchain_shortapi_flux import PollPolicy
from langchain_shortapi_flux.learned_delay import (
    BRACKETS_KEPT,
    KINDS_KEPT,
    SAMPLE_SIZE,
    Bracket,
    JobKind,
    LearnedDelays,
    delay_from,
    sample,
)
from langchain_shortapi_flux.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = [
    *range(3),
    *(pytest.param(seed, marks=pytest.mark.thorough) for seed in range(3, 12)),
]
COLD = (26.0, 28.0)
LATE = (0.0, 10.0)
"""Found done by a first query at 10 s."""


def spaced(*ends: tuple[float, float]) -> list[Bracket]:
    """Brackets of jobs that were made one after another."""
    return [Bracket(100.0 * number, *end) for number, end in enumerate(ends)]


def at_once(*ends: tuple[float, float]) -> list[Bracket]:
    """Brackets of jobs that were started together."""
    return [Bracket(number / 1000, *end) for number, end in enumerate(ends)]


@pytest.mark.parametrize(
    ("brackets", "delay"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param(spaced((4.0, 4.4), (4.0, 4.4), (4.0, 4.4)), None, id="too few"),
        pytest.param(spaced(*[(4.0, 4.4)] * 4), 3.36, id="a narrow kind: 0.84 of what was certain"),
        pytest.param(
            spaced((2.0, 2.4), (4.0, 4.4), (4.0, 4.4), (9.0, 9.9)),
            0.84 * 3.0,
            id="halfway between the quickest and the median",
        ),
        pytest.param(
            spaced(COLD, COLD, (4.0, 4.4), (4.0, 4.4)), 3.36, id="two cold starts in four"
        ),
        pytest.param(
            spaced(*[(4.0, 4.4)] * 9, COLD, (4.0, 4.4)), 3.36, id="a cold start moves nothing"
        ),
        pytest.param(
            spaced((0.0, 4.0), *[(4.0, 4.4)] * 9),
            0.84 * (0.9 * 4.0 + 4.0) / 2,
            id="one of ten was found done at first: it may have been a little shorter",
        ),
        pytest.param(
            spaced(LATE, (4.0, 4.4), LATE, (4.0, 4.4)),
            3.36,
            id="a first query that came far too late is not a slow job",
        ),
        pytest.param(
            at_once(*[LATE] * 40), 0.84 * 3.0, id="all of many at once found done: 0.3 of that"
        ),
        pytest.param(spaced(LATE, LATE), 6.0, id="one fall, and two jobs suffice"),
        pytest.param(
            spaced(*[(14.0, 15.0)] * 9, (0.0, 10.0), (0.0, 9.0), (0.0, 6.0)),
            6.0 * 0.6**2,
            id="the second fall, whatever earlier ones say",
        ),
        pytest.param(spaced(*[LATE] * 12), 10 * 0.6**3, id="three falls at most"),
        pytest.param(spaced(LATE, LATE, (4.0, 4.4), (4.0, 4.4)), 3.36, id="a job ends the fall"),
        pytest.param(spaced(LATE, (4.0, 4.4), LATE), None, id="one is no row"),
        pytest.param(
            [Bracket(0.0, *LATE), Bracket(9.9, *LATE)],
            None,
            id="the second was started before the first was found done",
        ),
    ],
)
def test_a_delay_follows_from_brackets(brackets: list[Bracket], delay: float | None) -> None:
    """The whole of the arithmetic, one row a rule."""
    assert delay_from(brackets) == (None if delay is None else pytest.approx(delay))


def test_the_moment_a_job_was_found_done_teaches_nothing_by_itself() -> None:
    """Or each late detection would teach the next one to be later."""
    soon = delay_from(spaced(*[(4.0, 4.1)] * 8))
    assert delay_from(spaced(*[(4.0, 400.0)] * 8)) == soon


def test_a_sample_of_jobs_made_one_by_one_is_the_last_of_them() -> None:
    """What was a hundred jobs ago does not count."""
    brackets = spaced(*[(float(number), number + 0.4) for number in range(1, 101)])
    assert sample(brackets) == brackets[-SAMPLE_SIZE:]
    assert sample(brackets[:3]) == brackets[:3]


def test_a_sample_of_many_jobs_at_a_time_is_spread_over_a_few_lengths() -> None:
    """Among the last to start, only the quickest have ended."""
    brackets = [Bracket(number * 0.1, 4.0, 5.0) for number in range(1000)]  # ten a second
    chosen = sample(brackets)
    assert SAMPLE_SIZE <= len(chosen) < 2 * SAMPLE_SIZE
    assert chosen[-1] is brackets[-1]
    gaps = {round(b.started - a.started, 3) for a, b in pairwise(chosen)}
    assert len(gaps) == 1
    assert chosen[-1].started - chosen[0].started == pytest.approx(20.0, abs=2.0)


# --- properties, over simulated jobs -----------------------------------------------------------


class OneByOne:
    """A process that makes one job after another, through the default policy."""

    def __init__(self, seed: int) -> None:
        self.learned = LearnedDelays()
        self._dice, self._now = random.Random(seed), 0.0

    def make(self, jobs: int, seconds: Callable[[random.Random], float]) -> list[float | None]:
        """The first delays that these jobs were given."""
        delays: list[float | None] = []
        for _ in range(jobs):
            delays.append(self.learned.first_delay(KIND))
            job_seconds = seconds(self._dice)
            one = poll(PollPolicy(), job_seconds, 0.0, self._dice, delays[-1], Pace(), self._now)
            self.learned.observe(
                KIND, started=self._now, pending_at=one.pending_at, done_at=one.done_at
            )
            self._now += one.done_at
        return delays


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize(
    "round_trip",
    [
        *(pytest.param(each, marks=pytest.mark.thorough) for each in ROUND_TRIPS[:-1]),
        ROUND_TRIPS[-1],
    ],
)
def test_the_defaults_reach_their_goals_on_paper(row: Row, round_trip: float) -> None:
    """One set of defaults for every row, on loopback and with round trips of 150 ms."""
    polled = simulate(PollPolicy(), row, round_trip)
    assert sum(one.queries for one in polled) / len(polled) <= row.queries_goal
    assert share([one.lag for one in polled], 0.95) <= row.lag_goal


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("seconds", "earliest", "latest"),
    [
        (three_to_five, 2.0, 4.0),
        (wide, 0.3, 4.5),
        (with_cold_starts, 1.5, 4.0),
        (within(1, 0.3), 0.25, 1.0),
        (around(15, 3), 4.0, 15.0),
    ],
)
def test_a_learned_delay_does_not_run_away(
    seed: int, seconds: Callable[[random.Random], float], earliest: float, latest: float
) -> None:
    """It stays near the quicker ones of the jobs, through hundreds of them."""
    delays = OneByOne(seed).make(300, seconds)[20:]
    assert all(delay is not None and earliest < delay < latest for delay in delays)


@pytest.mark.parametrize("seed", SEEDS)
def test_jobs_started_at_once_teach_no_more_than_others(seed: int) -> None:
    """The last of them to end are the longest: they must not push the next wave back."""
    run = Run(PollPolicy(), ROWS[1], 0.0, seed)
    for _ in range(8):
        run.wave(100)
        assert 2.0 < (run.first_delay or 0) < 4.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("before", "after"), [(15.0, 1.0), (60.0, 4.0), (4.0, 0.6)])
def test_it_comes_down_when_jobs_get_quicker(seed: int, before: float, after: float) -> None:
    """Within a handful of jobs, and it does not jump back up for what was true before."""
    process = OneByOne(seed)
    process.make(30, within(before, 0.1 * before))
    assert (process.learned.first_delay(KIND) or 0) > 0.6 * before
    delays = process.make(40, within(after, 0.1 * after))
    assert all(delay is not None and delay < after for delay in delays[5:])


@pytest.mark.parametrize("seed", SEEDS)
def test_it_comes_down_for_jobs_started_at_once(seed: int) -> None:
    """A hundred found done at the first query say that it came too late, and by much."""
    run = Run(PollPolicy(), ROWS[6], 0.0, seed)
    run.wave(100)
    assert (run.first_delay or 0) > 8.0
    run.row = ROWS[4]
    for latest in (6.0, 1.5, 1.0):
        run.wave(100)
        assert (run.first_delay or math.inf) < latest


@pytest.mark.parametrize("seed", SEEDS)
def test_it_goes_up_when_jobs_get_slower(seed: int) -> None:
    """Within as many jobs as a sample holds."""
    process = OneByOne(seed)
    process.make(30, within(1, 0.2))
    process.make(SAMPLE_SIZE + 1, within(15, 2))
    assert (process.learned.first_delay(KIND) or 0) > 8.0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_process_that_begins_with_cold_starts_recovers(seed: int) -> None:
    """Three in a row are all it knows at first, and are soon outweighed."""
    process = OneByOne(seed)
    process.make(3, within(30, 5))
    delays = process.make(40, three_to_five)
    assert all(delay is None or delay < 4.5 for delay in delays[8:])


# --- keeping them -----------------------------------------------------------------------------


def fed(*brackets: Bracket, kind: JobKind = KIND) -> LearnedDelays:
    """Delays learned from these, in this order of ending."""
    learned = LearnedDelays()
    for one in brackets:
        learned.observe(kind, **one._asdict())
    return learned


def test_nothing_is_learned_of_other_kinds() -> None:
    """Four pictures take longer than one, ``dev`` longer than ``schnell``."""
    learned = fed(*spaced(*[(4.0, 4.4)] * 8))
    assert learned.first_delay(KIND) == pytest.approx(3.36)
    for change in ({"num_images": 4}, {"performance": "schnell"}, {"model": "x"}, {"base_url": ""}):
        assert learned.first_delay(KIND._replace(**change)) is None


def test_the_order_of_ending_does_not_matter() -> None:
    """Of jobs that run together, the slow ones end last."""
    brackets = [Bracket(n / 10, 3 + n % 7, 3.4 + n % 7) for n in range(3 * SAMPLE_SIZE)]
    by_end = sorted(brackets, key=lambda one: one.started + one.done_at)
    assert fed(*brackets).snapshot() == fed(*by_end).snapshot()


def test_of_jobs_that_all_seem_to_start_at_once_the_quick_ones_count() -> None:
    """A clock with coarse steps must not make it err towards the late side."""
    quick, slow = [(3.0, 3.4)] * BRACKETS_KEPT, [(9.0, 9.9)] * BRACKETS_KEPT
    learned = fed(*[Bracket(7.0, *end) for end in (*quick, *slow)])
    assert learned.first_delay(KIND) == pytest.approx(0.84 * 3.0)


@pytest.mark.parametrize(
    ("started", "pending_at", "done_at"),
    [
        (0.0, 5.0, 4.0),  # pending after it was done
        (0.0, -1.0, 4.0),
        (0.0, math.nan, 4.0),
        (0.0, 1.0, math.nan),
        (0.0, 1.0, math.inf),
        (math.nan, 1.0, 2.0),
    ],
)
def test_a_bracket_that_makes_no_sense_is_passed_over(
    started: float, pending_at: float, done_at: float
) -> None:
    """The job has been paid for; and one such number would spoil every later delay."""
    learned = fed(Bracket(started, pending_at, done_at))
    assert learned.snapshot() == []


def test_a_job_that_was_done_at_once_teaches_a_delay_of_nothing() -> None:
    """Who sets ``first_delay=0`` may find it done then."""
    assert fed(*spaced(*[(0.0, 0.0)] * 4)).first_delay(KIND) == 0.0


def test_brackets_are_bounded() -> None:
    """A process that runs for a year makes many jobs."""
    jobs = 3 * BRACKETS_KEPT
    learned = fed(*[Bracket(n * 1e-3, 4.0, 4.4) for n in range(jobs)])
    (seen,) = learned._seen.values()
    assert len(seen.brackets) == BRACKETS_KEPT
    assert seen.brackets[-1].started == pytest.approx((jobs - 1) * 1e-3)
    (entry,) = learned.snapshot()
    assert entry["jobs_seen"] == jobs
    assert len(entry["brackets"]) < 2 * SAMPLE_SIZE


def test_kinds_are_bounded_and_the_one_used_longest_ago_goes_first() -> None:
    """A server that is given a base URL per customer sees many; asking is a use as well."""
    learned = LearnedDelays()
    kinds = [KIND._replace(model=str(number)) for number in range(KINDS_KEPT + 2)]
    for kind in kinds[:KINDS_KEPT]:
        learned.observe(kind, started=0.0, pending_at=1.0, done_at=2.0)
    learned.first_delay(kinds[0])
    learned.observe(kinds[1], started=1.0, pending_at=1.0, done_at=2.0)
    for kind in kinds[KINDS_KEPT:]:
        learned.observe(kind, started=0.0, pending_at=1.0, done_at=2.0)
    kept = [entry["model"] for entry in learned.snapshot()]
    assert kept == [kind.model for kind in (*kinds[4:KINDS_KEPT], *kinds[:2], *kinds[KINDS_KEPT:])]
    assert learned.first_delay(KIND._replace(model="never seen")) is None
    assert len(learned.snapshot()) == KINDS_KEPT


def test_a_snapshot_is_plain_json_and_a_copy() -> None:
    """It is for logs and for the curious; what is done to it changes nothing."""
    learned = fed(*spaced((0.0, 2.5), (4.0, 4.4)))
    taken = learned.snapshot()
    assert json.loads(json.dumps(taken)) == [
        {
            **KIND._asdict(),
            "first_delay": None,
            "jobs_seen": 2,
            "brackets": [[0.0, 2.5], [4.0, 4.4]],
        }
    ]
    taken[0]["brackets"].clear()
    taken.clear()
    assert learned.snapshot()[0]["brackets"] == [[0.0, 2.5], [4.0, 4.4]]


def test_what_no_longer_holds_is_not_shown_as_a_reason() -> None:
    """After two falls in a row, the delay follows from the jobs that fell alone."""
    learned = fed(*spaced(*[(14.0, 15.0)] * 9, (0.0, 10.0), (0.0, 9.0), (0.0, 6.0)))
    (entry,) = learned.snapshot()
    assert entry["first_delay"] == pytest.approx(6.0 * 0.6**2)
    assert entry["brackets"] == [[0.0, 10.0], [0.0, 9.0], [0.0, 6.0]]


def test_it_forgets_when_told() -> None:
    """As if the process had just begun."""
    learned = fed(*spaced(*[(4.0, 4.4)] * 8))
    learned.forget()
    assert learned.snapshot() == []
    assert learned.first_delay(KIND) is None


def test_threads_lose_nothing() -> None:
    """Blocking calls from many threads share what this process has learned."""
    learned, jobs, threads = LearnedDelays(), 300, 8
    broke: list[BaseException] = []

    def work(number: int) -> None:
        dice = random.Random(number)
        try:
            for step in range(jobs):
                kind = KIND._replace(num_images=step % 2)
                passing = KIND._replace(model=f"{number} {dice.randrange(2 * KINDS_KEPT)}")
                for one in (kind, passing):
                    learned.observe(one, started=float(step), pending_at=3.0, done_at=3.4)
                learned.first_delay(passing)
                learned.snapshot()
        except BaseException as error:  # noqa: BLE001 - shown below, in the test's own thread
            broke.append(error)

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(switching)
    assert broke == []
    seen = {entry["num_images"]: entry for entry in learned.snapshot() if entry["model"] == "flux"}
    assert seen[0]["jobs_seen"] + seen[1]["jobs_seen"] >= jobs * threads
