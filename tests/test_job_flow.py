"""The life of a job on paper: every step sent, every wait, every ending. No I/O, no real time."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from screenplay import BASE_URL, MODEL, REQUEST, Clock, Play, buy, here, perform
from transcripts import (
    BROKE_OFF,
    CREATE_REDIRECTED,
    CREATE_REFUSED,
    CREATE_UNCLEAR,
    CREATED,
    CUT,
    ENDINGS,
    JOB_ID,
    QUERY_TROUBLES,
    RECEIVED_AT,
    RUNNING,
    SUCCEEDED,
    TOO_MANY,
    TRANSCRIPTS,
    UNREACHED,
    UNSTABLE,
    page,
    pictures,
    record,
    said,
)

from langchain_shortapi_flux import (
    AuthenticationFailed,
    Budget,
    ConfigurationError,
    CreateOutcomeUnknown,
    FluxJob,
    InsufficientBalance,
    InvalidRequest,
    JobFailed,
    JobTimeout,
    NotCreated,
    PollPolicy,
    RateLimited,
    RetryLimits,
    ServiceUnavailable,
    ShortAPIError,
    UnexpectedReply,
)
from langchain_shortapi_flux.flow_steps import Leaving, Order, leave
from langchain_shortapi_flux.follow_flow import follow_job, look_at_job
from langchain_shortapi_flux.job_flow import create_job
from langchain_shortapi_flux.ledger import Bought, Ended
from langchain_shortapi_flux.pace import Pace

if TYPE_CHECKING:
    from langchain_shortapi_flux.http_acts import HttpReply, Lost

NOT_REPEATED = {**CREATE_REFUSED, **CREATE_REDIRECTED, **CREATE_UNCLEAR}


def follow(
    answers: tuple[HttpReply | Lost, ...], *, cost: str | None = None, **changes: Any
) -> Play:
    """Follow a job bought earlier, known by its id alone."""
    clock = Clock()
    known = FluxJob(job_id=JOB_ID, status="pending", cost=Decimal(cost) if cost else None)
    return perform(follow_job(known, here(clock, **changes), bought_now=False), answers, clock)


def look(answers: tuple[HttpReply | Lost, ...], **changes: Any) -> Play:
    """Look once at a job known by its id alone."""
    clock = Clock()
    known = FluxJob(job_id=JOB_ID, status="pending")
    return perform(look_at_job(known, here(clock, **changes)), answers, clock)


def test_a_success_tells_what_of_its_pictures_could_not_be_used() -> None:
    """One look raises nothing, so the job itself must say what is wrong with it."""
    none, bad = said(record(status=2)), "javascript:alert(1)"
    some = said(record(status=2, result={"images": [*pictures(1)["images"], bad]}))
    assert look((none,)).job is not None
    assert "empty or missing" in str(getattr(look((none,)).job, "error", None))
    assert bad in str(getattr(look((some,)).job, "error", None))
    assert bad in str(getattr(buy((CREATED, some)).job, "error", None))


def test_what_was_given_back_is_what_the_service_reports() -> None:
    """Also a part of the price, and also where it says that nothing was refunded."""
    for flag, amount in ((False, "0"), (False, "0.01"), (True, "0.01"), (None, "0")):
        fields = {"refunded": flag, "refunded_credit": amount}
        job = look((said(record(status=2, result=pictures(1), **fields)),)).job
        assert job is not None
        assert job.refunded == Decimal(amount)


# --- the whole way ------------------------------------------------------------------------------


def test_each_step_of_a_job_that_takes_a_while() -> None:
    """The schedule in full: create at once, a first delay, then gaps in proportion."""
    play = buy((CREATED, *[RUNNING] * 6, SUCCEEDED))
    assert play.paths == ["/job/create", *["/job/query"] * 7]
    assert play.waits == [0.0, 2.0, *[0.4] * 5, 0.4]
    acts = play.requests
    assert acts[0].method == "POST"
    assert not acts[0].repeatable
    assert {act.path for act in acts[1:]} == {f"/job/query?id={JOB_ID}"}
    assert all(act.method == "GET" and act.repeatable and act.body is None for act in acts[1:])


def test_the_first_step_carries_the_request_and_no_job() -> None:
    """Before create is accepted there is nothing to show: a fallback may still step in."""
    play = buy((CREATED, SUCCEEDED))
    assert play.steps[0].job is None
    body = play.requests[0].body
    assert body is not None
    assert json.loads(body) == {
        "model": MODEL,
        "args": {
            "prompt": "a fox",
            "aspect_ratio": "1:1",
            "num_images": 1,
            "performance": "schnell",
        },
    }


def test_a_snapshot_says_all_that_is_known() -> None:
    """What the create reply said must not be lost when a query says less."""
    job = buy((CREATED, RUNNING, SUCCEEDED)).job
    assert job is not None
    assert job.job_id == JOB_ID
    assert (job.status, job.charge, job.cost) == ("succeeded", "charged", Decimal("0.02"))
    assert (job.queries, round(job.elapsed, 6)) == (2, 2.4)
    assert (job.request, job.model, job.base_url) == (REQUEST, MODEL, BASE_URL)
    assert job.error is None


def test_each_query_gives_a_new_snapshot() -> None:
    """Whoever streams a job sees that it is being looked after."""
    play = buy((CREATED, RUNNING, RUNNING, SUCCEEDED))
    assert [(job.status, job.queries) for job in play.snapshots] == [
        ("pending", 0),
        ("pending", 1),
        ("pending", 2),
        ("succeeded", 3),
    ]


def test_each_act_may_take_what_is_left_after_its_wait() -> None:
    """Queueing for a socket has no timeout of its own: the deadline must travel with the act."""
    play = buy((CREATED, RUNNING, SUCCEEDED), timeout=10.0)
    left = [round(act.time_left, 6) for act in play.requests]
    assert left == [10.0, 8.0, 7.6]


def test_a_query_is_given_up_soon_and_a_create_has_all_the_time_there_is() -> None:
    """A query that hangs can be made again; of a create that is cut short nobody knows the end."""
    play = buy((CREATED, RUNNING, SUCCEEDED), timeout=300.0)
    assert [act.exchange for act in play.requests] == [math.inf, 10.0, 10.0]


# --- every ending -------------------------------------------------------------------------------

_WAITED = "has not ended within 300 s"
_EXPECTED: list[tuple[str, type[ShortAPIError] | None, str, str]] = [
    ("ending: one picture, bodies of the official page", None, "charged", ""),
    ("ending: one picture, a full record", None, "charged", ""),
    ("ending: it takes a while", None, "charged", ""),
    ("ending: four pictures", None, "charged", ""),
    ("ending: one picture in place of four", None, "charged", ""),
    ("ending: statuses in words", None, "charged", ""),
    ("ending: succeeded and refunded", None, "refunded", ""),
    ("ending: succeeded without pictures", UnexpectedReply, "charged", "empty or missing"),
    ("ending: succeeded with a useless address", UnexpectedReply, "charged", "'javascript:"),
    ("ending: failed and refunded", JobFailed, "refunded", "moderated (it was refunded, 0.02 USD"),
    ("ending: failed and charged", JobFailed, "charged", "moderated (it was charged)"),
    ("ending: failed without a word", JobFailed, "unknown", "gave no reason (whether it was"),
    ("ending: an integer above 3", JobFailed, "unknown", "cancelled"),
    ("ending: refunded while running", JobFailed, "refunded", "it was refunded"),
    ("ending: it never ends", JobTimeout, "charged", _WAITED),
    ("ending: an unknown word for ever", JobTimeout, "charged", "unknown status 'meditating'"),
    ("ending: a record without status for ever", JobTimeout, "charged", "has no status"),
    ("query: every passing trouble, then success", None, "charged", ""),
    ("query: a web page for ever", JobTimeout, "charged", "HTTP 502, not JSON: oops"),
    ("query: a cut record for ever", JobTimeout, "charged", "broken off"),
    ("query: silence for ever", JobTimeout, "charged", "the connection broke off"),
    ("query: query refused with 401", UnexpectedReply, "charged", "HTTP 401: bad key"),
    ("query: query refused with 403", UnexpectedReply, "charged", "HTTP 403"),
    ("query: query refused with 404", UnexpectedReply, "charged", "HTTP 404: no such job"),
    ("query: query refused with code 1", UnexpectedReply, "charged", "code 1: job not found"),
    ("query: query redirected", UnexpectedReply, "charged", "https://login.example/"),
    ("repeated: 429, then accepted", None, "charged", ""),
    ("repeated: code 3000, then accepted", None, "charged", ""),
    ("repeated: 429 as a web page, then accepted", None, "charged", ""),
    ("repeated: 429 for ever", RateLimited, "none", "too many requests"),
    ("repeated: code 3000 for ever", ServiceUnavailable, "none", "code 3000: upstream unstable"),
    ("repeated: code 3000 under a 503 for ever", ServiceUnavailable, "none", "unstable"),
    ("refused: 400", InvalidRequest, "none", "HTTP 400: aspect_ratio is wrong"),
    ("refused: 401", AuthenticationFailed, "none", "HTTP 401"),
    ("refused: 403 as a web page", AuthenticationFailed, "none", "HTTP 403"),
    ("refused: 402", InsufficientBalance, "none", "HTTP 402: pay"),
    ("refused: 404 as a web page", ConfigurationError, "none", "no job API below this base URL"),
    ("refused: 405 without a body", ConfigurationError, "none", "an empty reply"),
    ("refused: 422", InvalidRequest, "none", "num_images"),
    ("refused: code 1", InvalidRequest, "none", "HTTP 200, code 1: refused"),
    ("refused: code 1, a key", AuthenticationFailed, "none", "Invalid API key"),
    ("refused: code 1, a balance", InsufficientBalance, "none", "insufficient balance"),
    ("refused: code 1, a model", InvalidRequest, "none", "has no access to the model"),
    ("redirected: 307", UnexpectedReply, "unknown", "https://elsewhere.example/"),
    ("redirected: 301", UnexpectedReply, "unknown", "redirects to nowhere"),
    ("redirected: 303", UnexpectedReply, "unknown", JOB_ID),
    *((f"unclear: {name}", CreateOutcomeUnknown, "unknown", "") for name in CREATE_UNCLEAR),
]


@pytest.mark.parametrize(
    ("name", "error", "charge", "text"), _EXPECTED, ids=[row[0] for row in _EXPECTED]
)
def test_how_each_script_ends(
    name: str, error: type[ShortAPIError] | None, charge: str, text: str
) -> None:
    """Whose fault, which job, was it charged: each way in which a job can end says all of it."""
    play = buy(TRANSCRIPTS[name])
    if error is None:
        assert play.error is None
        assert play.job is not None
        assert (play.job.status, play.job.charge) == ("succeeded", charge)
        return
    assert type(play.error) is error
    assert play.error.charge == charge
    assert text in str(play.error)


def test_every_script_has_a_known_ending() -> None:
    """A script that nobody states an ending for would prove nothing."""
    assert {row[0] for row in _EXPECTED} == set(TRANSCRIPTS)


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_create_is_sent_once_unless_the_service_says_that_no_job_was_made(name: str) -> None:
    """There is no idempotency key: a create that is repeated after a lost answer is paid twice."""
    expected = {
        "repeated: 429, then accepted": 2,
        "repeated: code 3000, then accepted": 3,
        "repeated: 429 as a web page, then accepted": 2,
        "repeated: 429 for ever": 4,
        "repeated: code 3000 for ever": 4,
        "repeated: code 3000 under a 503 for ever": 4,
    }
    assert buy(TRANSCRIPTS[name]).creates == expected.get(name, 1)


@pytest.mark.parametrize("name", [*ENDINGS, *QUERY_TROUBLES])
def test_errors_after_create_name_the_job_twice(name: str) -> None:
    """With the id a paid job can be picked up again; an agent reads only the text."""
    play = buy({**ENDINGS, **QUERY_TROUBLES}[name])
    if play.error is not None:
        assert play.error.job_id == JOB_ID
        assert JOB_ID in str(play.error)
        assert not isinstance(play.error, NotCreated)
        assert not play.error.is_retryable


@pytest.mark.parametrize("name", NOT_REPEATED)
def test_only_what_surely_made_no_job_counts_as_not_created(name: str) -> None:
    """``with_fallbacks`` and ``with_retry`` trust this difference with the user's money."""
    error = buy(NOT_REPEATED[name]).error
    assert isinstance(error, NotCreated) is (name in CREATE_REFUSED)
    assert error is not None
    assert not error.is_retryable


@pytest.mark.parametrize(
    "name", ["refused and yet an id", "500 and yet an id", "200 cut off after the id"]
)
def test_an_unclear_create_that_named_a_job_passes_its_id_on(name: str) -> None:
    """Then the user can look whether that job exists, rather than guess."""
    error = buy(CREATE_UNCLEAR[name]).error
    assert error is not None
    assert error.job_id == JOB_ID
    assert JOB_ID in str(error)


@pytest.mark.parametrize(
    ("name", "status_code"),
    [("refused: 402", 402), ("unclear: 409", 409), ("query: query refused with 404", 404)],
)
def test_errors_carry_the_http_status(name: str, status_code: int) -> None:
    """For whoever must tell a proxy's no from the service's."""
    error = buy(TRANSCRIPTS[name]).error
    assert error is not None
    assert error.status_code == status_code


# --- repeating create ---------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [UNREACHED, TOO_MANY, UNSTABLE])
@pytest.mark.parametrize("attempts", [1, 2, 7])
def test_create_is_repeated_up_to_create_attempts(answer: HttpReply | Lost, attempts: int) -> None:
    """The three answers after which provably no job exists, and no more often than allowed."""
    retry = RetryLimits(create_attempts=attempts)
    play = buy((answer,), retry=retry)
    assert play.creates == attempts
    assert isinstance(play.error, RateLimited | ServiceUnavailable)
    assert (play.error.charge, play.error.is_retryable) == ("none", True)


def test_the_backoff_of_create_doubles() -> None:
    """A service in trouble is asked ever less often (each wait jittered by an eighth here)."""
    play = buy((UNREACHED,), retry=RetryLimits(create_attempts=6))
    assert play.waits == [0.0, 1.125, 2.25, 4.5, 9.0, 16.875]


def test_create_succeeds_after_trouble_and_is_followed() -> None:
    """All three kinds of trouble in a row, and the job is bought once."""
    play = buy((UNREACHED, TOO_MANY, UNSTABLE, CREATED, SUCCEEDED))
    assert play.job is not None
    assert play.creates == 4


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry_After": "7"}, 7.875),
        ({"Retry_After": "2.5"}, 2.8125),
        ({"Retry_After": " 7 "}, 7.875),
        ({"Retry_After": "0"}, 1.125),  # not a busy loop
        ({"Retry_After": "86400"}, 67.5),  # capped at 60, then jittered
        ({"Retry_After": "-5"}, 1.125),
        ({"Retry_After": "soon"}, 1.125),
        ({"Retry_After": "1e9"}, 1.125),
        ({"Retry_After": formatdate(RECEIVED_AT + 20, usegmt=True)}, 22.5),
        ({"Retry_After": formatdate(RECEIVED_AT - 20, usegmt=True)}, 1.125),
        ({"Retry_After": formatdate(RECEIVED_AT + 10**8, usegmt=True)}, 67.5),
        # The service's clock is ten minutes behind ours: what counts is its own Date.
        (
            {
                "Retry_After": formatdate(RECEIVED_AT - 580, usegmt=True),
                "Date": formatdate(RECEIVED_AT - 600, usegmt=True),
            },
            22.5,
        ),
        ({"Retry_After": "Mon, 01 Jan 2024 00:00:00 +99999999999999999"}, 1.125),
        ({"Retry_After": "Mon, 99 Jan 2024 00:00:00 GMT"}, 1.125),
        ({"Retry_After": formatdate(RECEIVED_AT + 20, usegmt=True), "Date": "?"}, 22.5),
    ],
)
@pytest.mark.parametrize("call", ["create", "query"])
def test_retry_after_in_both_its_forms(call: str, headers: dict[str, str], wait: float) -> None:
    """The service's own word on when to come back, read tolerantly and within bounds."""
    busy = said({"info": "slow down"}, 429, **headers)
    script = (busy, CREATED, SUCCEEDED) if call == "create" else (CREATED, busy, SUCCEEDED)
    play = buy(script)
    assert play.job is not None
    assert play.waits[1 if call == "create" else 2] == wait


# --- the deadline -------------------------------------------------------------------------------


def test_a_create_wait_beyond_the_deadline_raises_the_refusal_at_once() -> None:
    """Waiting on would only delay the news that nothing was bought."""
    clock = Clock()
    flow = create_job(Order(REQUEST, MODEL), here(clock, timeout=20.0))
    play = perform(flow, (said({}, 429, Retry_After="30"),), clock)
    assert isinstance(play.error, RateLimited)
    assert play.waits == [0.0]
    assert clock() == 1000.0


def test_no_create_is_sent_after_the_deadline() -> None:
    """A call that begins too late must not spend money on a job that nobody waits for."""
    play = buy((CREATED, SUCCEEDED), started=0.0)
    assert isinstance(play.error, ServiceUnavailable)
    assert play.steps == []


def test_a_slow_create_leaves_no_time_for_queries() -> None:
    """The job was bought, so its id must not be lost although no query was made."""
    play = buy((CREATED, SUCCEEDED), exchange=10.0, timeout=5.0)
    assert isinstance(play.error, JobTimeout)
    assert play.paths == ["/job/create"]
    assert (play.error.job_id, play.error.charge) == (JOB_ID, "charged")


def test_the_last_look_comes_shortly_before_the_deadline() -> None:
    """A job that ends during the last gap is still brought home."""
    script = (CREATED, RUNNING, SUCCEEDED)
    play = buy(script, timeout=30.0, poll=PollPolicy.fixed(20.0))
    assert play.waits == [0.0, 20.0, 9.0]
    assert play.job is not None
    assert play.job.elapsed == 29.0


@pytest.mark.parametrize("timeout", [0.001, 0.5, 1.0, 3.0, 30.0, 300.0, 3600.0])
@pytest.mark.parametrize("answer", [RUNNING, BROKE_OFF, page(502), CUT])
def test_waiting_ends_at_the_deadline_without_a_zeno_loop(
    timeout: float, answer: HttpReply | Lost
) -> None:
    """Halving what is left for ever would never arrive, and would hammer the service."""
    clock = Clock()
    known = FluxJob(job_id=JOB_ID, status="pending")
    play = perform(follow_job(known, here(clock, timeout=timeout)), (answer,), clock)
    assert isinstance(play.error, JobTimeout)
    assert clock() <= 1000.0 + timeout
    assert clock() >= 1000.0 + timeout - 1.0
    assert all(wait >= 0.4 for wait in play.waits[:-1])
    assert play.waits[-1] > 0


def test_a_default_wait_of_300_s_makes_a_bearable_number_of_queries() -> None:
    """Clients query every one to four seconds: the schedule must not ask for more over all."""
    play = buy((CREATED, RUNNING))
    assert 40 <= play.paths.count("/job/query") <= 75


def test_a_timeout_says_how_to_go_on() -> None:
    """The job may still finish, and it is paid for: the text must say how to get it."""
    error = buy((CREATED, RUNNING), timeout=10.0).error
    assert isinstance(error, JobTimeout)
    assert str(error) == (
        f"job {JOB_ID} has not ended within 10 s; it may still finish and be charged: "
        f"follow({JOB_ID!r}) waits on without buying again"
    )


# --- queries that go wrong ----------------------------------------------------------------------


def test_unusable_queries_are_repeated_with_backoff() -> None:
    """A query is free, so trouble is waited out: backoff, Retry-After, backoff, up to the cap."""
    play = buy(QUERY_TROUBLES["every passing trouble, then success"])
    assert play.waits == [
        0.0,
        2.0,
        1.125,
        7.875,  # the 429 asked for 7
        4.5,
        9.0,
        *[16.875] * 5,
    ]
    assert play.job is not None
    assert play.job.queries == 10


def test_after_a_usable_query_the_backoff_starts_afresh() -> None:
    """One hiccup in a long job must not slow the rest of it down."""
    play = buy((CREATED, page(503), page(503), RUNNING, page(503), SUCCEEDED))
    assert play.waits == [0.0, 2.0, 1.125, 2.25, 0.5375, 1.125]


def test_trouble_that_has_passed_is_not_blamed_for_a_timeout() -> None:
    """The text must not send its reader after a 503 that was over long before."""
    error = buy((CREATED, page(503), RUNNING), timeout=20.0).error
    assert isinstance(error, JobTimeout)
    assert "503" not in str(error)


@pytest.mark.parametrize(
    "name", [name for name in QUERY_TROUBLES if "refused" in name or "redirected" in name]
)
def test_a_refused_query_ends_at_once(name: str) -> None:
    """Asking for five minutes with a revoked key helps nobody."""
    play = buy(QUERY_TROUBLES[name])
    assert play.paths == ["/job/create", "/job/query"]
    assert type(play.error) is UnexpectedReply


def test_an_unknown_word_is_waited_on() -> None:
    """The service may learn new words; a paid job must not be given up for one."""
    play = buy((CREATED, said(record(status="meditating")), SUCCEEDED))
    assert play.job is not None
    assert play.job.status == "succeeded"


@pytest.mark.parametrize("status", [3, 4, 17, 3.0, "3", "9", "FAILED", "cancelled", "error"])
def test_numbers_from_three_and_words_of_failure_end_the_job(status: object) -> None:
    """Waiting on for a job that has failed would cost the whole deadline."""
    play = buy((CREATED, said(record(status=status, refunded=True))))
    assert isinstance(play.error, JobFailed)


def test_an_unknown_number_is_named() -> None:
    """Nobody knows what 7 means; whoever reads the error must learn that it was 7."""
    error = buy((CREATED, said(record(status=7, refunded=False)))).error
    assert "unknown status 7" in str(error)


def test_a_failed_job_is_shown_before_the_error() -> None:
    """Whoever streams sees the last state as a snapshot, with the service's reason."""
    play = buy(ENDINGS["failed and refunded"])
    last = play.snapshots[-1]
    assert (last.status, last.charge, last.error) == ("failed", "refunded", "moderated")
    assert last.refunded == Decimal("0.02")
    assert play.steps[-1].act is None
    assert play.steps[-1].wait == 0.0


def test_a_success_without_pictures_is_shown_before_the_error() -> None:
    """Likewise: the snapshot says what the service says, the error that it is no use."""
    play = buy(ENDINGS["succeeded without pictures"])
    assert play.snapshots[-1].status == "succeeded"
    assert play.snapshots[-1].images == ()


def test_a_refunded_success_keeps_its_pictures_and_notes_it() -> None:
    """Status decides first, the refund second: the pictures are there."""
    job = buy(ENDINGS["succeeded and refunded"]).job
    assert job is not None
    assert len(job.images) == 1
    assert (job.charge, job.refunded) == ("refunded", Decimal("0.02"))
    assert job.error == "note: the service reports this job as refunded"


def test_fewer_pictures_than_asked_are_kept() -> None:
    """One picture that was paid for is better than an error about three that are missing."""
    clock = Clock()
    four = REQUEST.model_copy(update={"num_images": 4})
    job = FluxJob(job_id=JOB_ID, status="pending", request=four)
    play = perform(follow_job(job, here(clock)), (SUCCEEDED,), clock)
    assert play.job is not None
    assert len(play.job.images) == 1


def test_pictures_keep_their_order_and_useless_ones_are_left_out() -> None:
    """Index 2 of the request must stay before index 3, whatever lies between them."""
    images = [*pictures(1)["images"], None, "ftp://x/y.png", "https://file.shortapi.ai/last.png"]
    job = buy((CREATED, said(record(status=2, result={"images": images})))).job
    assert job is not None
    assert [image.url.rpartition("/")[2] for image in job.images] == ["picture-0.png", "last.png"]


# --- following and looking ----------------------------------------------------------------------


def test_a_job_bought_earlier_is_queried_at_once() -> None:
    """It may have ended long ago."""
    play = follow((RUNNING, RUNNING, SUCCEEDED))
    assert play.waits == [0.0, 0.4, 0.4]
    assert play.creates == 0


def test_following_a_job_of_which_nothing_is_known_claims_nothing_about_money() -> None:
    """Until a record says so, an id alone does not prove a charge."""
    error = follow((BROKE_OFF,), timeout=5.0).error
    assert isinstance(error, JobTimeout)
    assert error.charge == "unknown"
    error = follow((said({"code": 1, "info": "job not found"}),)).error
    assert isinstance(error, UnexpectedReply)
    assert (error.charge, error.job_id) == ("unknown", JOB_ID)


def test_what_was_known_of_the_cost_is_kept() -> None:
    """The official page's query sample has no ``credit``; the create reply's amount stays."""
    job = follow((SUCCEEDED,), cost="0.002").job
    assert job is not None
    assert job.cost == Decimal("0.002")


def test_one_look_is_one_query() -> None:
    """A look answers at once, whatever the job's state."""
    play = look((RUNNING,))
    assert play.waits == [0.0]
    assert play.job is not None
    assert (play.job.status, play.job.queries) == ("pending", 1)


def test_a_look_at_a_failed_job_returns_it() -> None:
    """Asking how a job is doing is no error, even where the job has failed."""
    job = look((said(record(status=3, error="moderated", refunded=True)),)).job
    assert job is not None
    assert (job.status, job.charge, job.error) == ("failed", "refunded", "moderated")


@pytest.mark.parametrize("attempts", [1, 3, 5])
def test_a_look_gives_up_after_look_attempts(attempts: int) -> None:
    """Nobody who looks once wants to wait for five minutes."""
    play = look((page(502),), retry=RetryLimits(look_attempts=attempts, jitter=0.0))
    assert play.waits == [0.0, 1.0, 2.0, 4.0, 8.0][:attempts]
    assert isinstance(play.error, UnexpectedReply)
    assert play.error.job_id == JOB_ID
    assert f"{attempts} queries got no usable answer, the last one: HTTP 502" in str(play.error)


def test_a_look_within_a_short_deadline_says_what_went_wrong() -> None:
    """Where no time is left for another attempt, the last trouble is the news."""
    play = look((page(502),), timeout=2.0)
    assert isinstance(play.error, JobTimeout)
    assert play.error.job_id == JOB_ID
    assert "HTTP 502" in str(play.error)
    assert play.waits == [0.0, 1.125]


def test_a_refused_look_ends_at_once() -> None:
    """As in following."""
    play = look((said({"info": "bad key"}, 401),))
    assert isinstance(play.error, UnexpectedReply)
    assert len(play.steps) == 1


def test_a_driver_that_answers_nonsense_is_told_so() -> None:
    """A bug in a driver must not pass for a reply of the service."""
    flow = create_job(Order(REQUEST, MODEL), here(Clock()))
    next(flow)
    with pytest.raises(TypeError, match="a driver answered an HTTP request with NoneType"):
        flow.send(None)


def test_a_create_that_took_all_the_time_is_shown_before_the_timeout() -> None:
    """Whoever watches must learn the id and the cost of what was bought, not only of the error."""
    play = buy((CREATED, RUNNING), timeout=300.0, max_wait=0.0)
    assert isinstance(play.error, JobTimeout)
    assert [job.job_id for job in play.snapshots] == [JOB_ID]
    assert play.creates == len(play.paths) == 1


# --- leaving --------------------------------------------------------------------------------------

_LEFT = Bought("key", "holder", JOB_ID)


def test_a_query_that_was_left_before_it_was_sent_is_left_like_any_other() -> None:
    """The job runs on: also where the deadline is over by now, it is noted."""
    clock = Clock()
    known = FluxJob(job_id=JOB_ID, status="pending")
    flow = follow_job(known, here(clock, timeout=5.0), bought_now=False, if_left=(_LEFT,))
    step = next(flow)
    assert step.act is not None
    clock.pass_by(10.0)
    assert leave(flow, step, sent=False) == (_LEFT,)


def test_a_create_that_an_interrupt_has_ended_is_noted_as_it_stood() -> None:
    """Ctrl-C while the flow reads an answer: nothing can be asked of it any more."""
    flow = create_job(Order(REQUEST, MODEL), here(Clock()), Leaving(sent=(_LEFT,)))
    step = next(flow)
    with pytest.raises(KeyboardInterrupt):
        flow.throw(KeyboardInterrupt)
    assert leave(flow, step, sent=False) == (_LEFT,)


@pytest.mark.parametrize("attempts", [1, 4])
@pytest.mark.parametrize("sent", [False, True])
def test_a_create_that_was_left_is_noted_as_sent_only_where_it_may_have_been(
    attempts: int, sent: bool
) -> None:
    """Whether or not it would have been tried again."""
    idle = Ended("key", "released", holder="holder")
    budget, retry = Budget(usd="1"), RetryLimits(create_attempts=attempts)
    circumstances = here(Clock(), budget=budget, retry=retry)
    flow = create_job(Order(REQUEST, MODEL), circumstances, Leaving((idle,), (_LEFT,)))
    noted = leave(flow, next(flow), sent=sent)
    assert noted == ((_LEFT,) if sent else (idle,) if attempts > 1 else ())
    assert budget.reserved == (Decimal("0.002") if sent else 0)


def test_a_flow_that_has_raised_leaves_nothing_to_note() -> None:
    """Its caller knows."""
    flow = create_job(Order(REQUEST, MODEL), here(Clock()))
    assert leave(flow, None, sent=False) == ()


def test_queries_that_are_held_back_are_not_counted() -> None:
    """A service that asked for calm until after the deadline was not asked."""
    clock, pace = Clock(), Pace()
    pace.slow_down(clock(), 300.0)
    bought = FluxJob(job_id=JOB_ID, status="pending", charge="charged")
    for flow in (
        look_at_job(bought, here(clock, pace=pace, timeout=25.0)),
        follow_job(bought, here(clock, pace=pace, timeout=25.0), bought_now=False),
    ):
        play = perform(flow, [], clock)
        assert isinstance(play.error, JobTimeout)
        assert "held back" in str(play.error)
        assert all(step.job is None or step.job.queries == 0 for step in play.steps)
