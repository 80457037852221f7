"""Creates whose answer was lost, where the service calls about the job that it made."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from both_drivers import DRIVERS, Caller
from quick_flux import flux_on
from screenplay import MODEL, REQUEST, Clock, here
from transcripts import (
    BROKE_OFF,
    CREATE_REDIRECTED,
    CREATE_REFUSED,
    CREATE_UNCLEAR,
    JOB_ID,
    NO_SUCH_JOB,
    RUNNING,
    SUCCEEDED,
    UNREACHED,
    page,
    raw,
    said,
)

from langchain_shortapi_flux import (
    Budget,
    CallbackReceiver,
    CreateOutcomeUnknown,
    FluxJob,
    MemoryLedger,
    ShortAPIError,
)
from langchain_shortapi_flux.callback import HINTS_MAX
from langchain_shortapi_flux.flow_steps import Order, Step, leave
from langchain_shortapi_flux.http_acts import HttpRequest
from langchain_shortapi_flux.job_flow import buy_job
from langchain_shortapi_flux.job_record import read_record, whose
from langchain_shortapi_flux.ledger import Claim, Ended, perform_ledger_act
from langchain_shortapi_flux.lost_create import CALL_SECONDS_MAX
from langchain_shortapi_flux.purchase import Purchase
from langchain_shortapi_flux.purchase_flow import buy_job_once, buy_job_unnamed
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from langchain_shortapi_flux.callback import Expected
    from langchain_shortapi_flux.flow_steps import Answer, JobFlow
    from langchain_shortapi_flux.http_acts import HttpReply

ORDER = Order(REQUEST, MODEL)
KEY = "https://api.shortapi.ai order 66"
OTHER_ID = "b" * 24
LOST = Fault("create", "drop_after")
CALLED = {"id": JOB_ID, "status": 2}
NAMING = CREATE_UNCLEAR["200 cut off after the id"]
"""An unclear answer that names the job."""


@dataclass
class Stage:
    """A flow on paper whose create has no clear answer, and the call that it may wait for.

    ``calls`` are the bodies of the calls that come while it waits for them: in each wait as many
    as it takes to end it.
    """

    calls: list[object] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    receiver: CallbackReceiver = field(
        default_factory=lambda: CallbackReceiver("https://my.host/flux")
    )
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        expected = self.receiver.expect()
        assert expected is not None
        self.expected: Expected = expected

    def flow(self, **changes: Any) -> JobFlow:
        """As a purchase without a name."""
        return buy_job(ORDER, here(self.clock, **{"expected": self.expected, **changes}))

    def purchase(self) -> Purchase:
        """A purchase to be told of to the ledger."""
        return Purchase(
            key=KEY,
            digest="d",
            holder="h",
            lease=90.0,
            on_unknown="raise",
            on_failed="raise",
            wall=self.clock,
            prompt="a fox",
        )

    def call(self, body: object) -> None:
        """The service calls, or somebody else does."""
        token = self.expected.url.rpartition("/")[2]
        asyncio.run(self.receiver.handle(body, token=token))  # type: ignore[arg-type]

    def hang(self, flow: JobFlow, *bodies: object) -> Step:
        """Create is sent, and has no answer yet when these calls come."""
        step = next(flow)
        self.steps.append(step)
        for body in bodies:
            self.call(body)
        return step

    def play(self, flow: JobFlow, *answers: Answer) -> FluxJob:
        """Run it to its end: each wait passes, unless a call comes first."""
        said = iter(answers)
        answer: Answer | None = None
        try:
            while True:
                step = flow.send(answer)
                self.steps.append(step)
                assert len(self.steps) < 100, "the flow does not end"
                answer = None
                if step.bell is not None:
                    while self.calls and self.expected.job_id is None and not step.bell.rung:
                        self.call(self.calls.pop(0))
                if step.bell is None or not step.bell.rung:
                    self.clock.pass_by(step.wait)
                if isinstance(step.act, HttpRequest):
                    answer = next(said)
                elif step.act is not None:
                    answer = perform_ledger_act(self.ledger, step.act)  # type: ignore[arg-type]
        except StopIteration as end:
            job: FluxJob = end.value
            return job

    def go_on(self, flow: JobFlow, *answers: Answer | None, seconds: float = 0.0) -> None:
        """Send these; so much time passes after each."""
        for answer in answers:
            flow.send(answer)
            self.clock.pass_by(seconds)

    @property
    def sent(self) -> list[str]:
        """What was asked, in order: "create", or the id of the job that was queried."""
        acts = [step.act for step in self.steps if isinstance(step.act, HttpRequest)]
        return [act.path.partition("id=")[2] or act.path.rpartition("/")[2] for act in acts]

    @property
    def shown(self) -> set[str]:
        """The ids that whoever watches was shown."""
        return {step.job.job_id for step in self.steps if step.job is not None}

    @property
    def waited(self) -> float:
        """Seconds that have passed."""
        return self.clock() - 1000.0


@pytest.mark.parametrize("name", CREATE_UNCLEAR)
def test_a_call_names_the_job_that_create_did_not(name: str) -> None:
    """It is queried, and followed like any other; nothing is bought again."""
    stage = Stage([CALLED])
    job = stage.play(stage.flow(), *CREATE_UNCLEAR[name], RUNNING, RUNNING, SUCCEEDED)
    assert (job.job_id, job.status, job.charge) == (JOB_ID, "succeeded", "charged")
    assert (job.request, job.model) == (REQUEST, MODEL)
    assert stage.sent == ["create", JOB_ID, JOB_ID, JOB_ID]


@pytest.mark.parametrize("way", ["plain", "without a key", "under a key"])
def test_a_job_that_has_ended_is_there_at_once(way: str) -> None:
    """No first delay is waited for, and none is learned from: it began nobody knows when."""
    stage = Stage([CALLED])
    around = here(stage.clock, expected=stage.expected)
    if way == "plain":
        flow = buy_job(ORDER, around)
    else:
        buy = buy_job_once if way == "under a key" else buy_job_unnamed
        flow = buy(ORDER, stage.purchase(), around)
    stage.play(flow, BROKE_OFF, SUCCEEDED, SUCCEEDED)
    assert stage.waited == 0.0


def test_a_call_that_came_before_the_answer_was_lost_counts() -> None:
    """Create hung for longer than the job took."""
    stage = Stage()
    flow = stage.flow()
    stage.hang(flow, CALLED)
    with pytest.raises(StopIteration):
        stage.go_on(flow, BROKE_OFF, SUCCEEDED, None, SUCCEEDED)
    assert stage.waited == 0.0


@pytest.mark.parametrize(
    ("circumstances", "waited"),
    [
        ({}, CALL_SECONDS_MAX),
        ({"timeout": 20.0}, 20.0),
        ({"max_wait": 15.0}, 15.0),
        ({"max_wait": 0.0}, 0.0),
    ],
)
def test_a_call_is_waited_for_within_limits(circumstances: dict[str, float], waited: float) -> None:
    """Half a minute, the deadline, or what the caller is willing to wait; then nobody knows."""
    stage = Stage()
    with pytest.raises(CreateOutcomeUnknown, match="no answer came"):
        stage.play(stage.flow(**circumstances), BROKE_OFF)
    assert stage.waited == pytest.approx(waited)
    assert stage.sent == ["create"]


@pytest.mark.parametrize("body", [None, b"", {}, {"status": 2}, b"\xff" * 99])
def test_a_call_that_names_no_job_ends_no_wait(body: object) -> None:
    """The next one may."""
    stage = Stage([body, CALLED])
    assert stage.play(stage.flow(), BROKE_OFF, SUCCEEDED, SUCCEEDED).job_id == JOB_ID
    forged = Stage([body] * 9)
    with pytest.raises(CreateOutcomeUnknown):
        forged.play(forged.flow(), BROKE_OFF)
    assert forged.waited == pytest.approx(CALL_SECONDS_MAX)


def test_a_job_that_the_service_does_not_know_is_not_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor shown to anybody; the next call may name the true one."""
    stage = Stage([{"id": OTHER_ID}, CALLED])
    job = stage.play(stage.flow(), BROKE_OFF, NO_SUCH_JOB, SUCCEEDED, SUCCEEDED)
    assert job.job_id == JOB_ID
    assert stage.sent == ["create", OTHER_ID, JOB_ID, JOB_ID]
    assert stage.shown <= {JOB_ID}
    assert OTHER_ID in caplog.text


def test_forged_calls_end_in_nothing() -> None:
    """A few look-ups at most, and then nobody knows."""
    stage = Stage([{"id": f"{number:024x}"} for number in range(50)])
    with pytest.raises(CreateOutcomeUnknown):
        stage.play(stage.flow(), BROKE_OFF, *[NO_SUCH_JOB] * 50)
    assert len(stage.sent) == 1 + HINTS_MAX
    assert stage.shown == set()
    assert stage.waited == pytest.approx(CALL_SECONDS_MAX)


def test_calls_that_name_nothing_do_not_keep_the_true_one_out() -> None:
    """However many came before it."""
    stage = Stage([b""] * 9 + [CALLED])
    assert stage.play(stage.flow(), BROKE_OFF, SUCCEEDED, SUCCEEDED).job_id == JOB_ID
    assert stage.waited == 0.0


def test_all_that_was_named_before_the_answer_was_lost_is_asked_for() -> None:
    """Somebody was quicker than the service."""
    stage = Stage()
    flow = stage.flow()
    stage.hang(flow, CALLED, {"id": OTHER_ID})
    with pytest.raises(StopIteration) as ended:
        stage.go_on(flow, BROKE_OFF, NO_SUCH_JOB, SUCCEEDED, None, SUCCEEDED)
    assert ended.value.value.job_id == JOB_ID


@pytest.mark.parametrize(
    "record",
    [
        {"id": OTHER_ID, "status": 1},
        {"status": 2, "args": {"prompt": "a cat"}, "result": {"images": ["https://a.b/c.png"]}},
    ],
)
def test_a_record_of_another_job_is_no_record_of_this_one(record: dict[str, Any]) -> None:
    """Another order's picture would be taken for this one's, and paid for twice."""
    stage = Stage([{"id": OTHER_ID} if "id" not in record else CALLED])
    with pytest.raises(CreateOutcomeUnknown):
        stage.play(stage.flow(), BROKE_OFF, said({"code": 0, "data": record}))
    assert stage.shown == set()


@pytest.mark.parametrize("prompt", ["a fox", " a  fox\n"])
def test_a_record_that_repeats_the_prompt_is_taken(prompt: str) -> None:
    """Whether the service keeps its spaces is not known."""
    record = {"id": JOB_ID, "status": 1, "args": {"prompt": prompt}}
    stage = Stage([CALLED])
    job = stage.play(stage.flow(), BROKE_OFF, said({"code": 0, "data": record}), SUCCEEDED)
    assert job.status == "succeeded"


@pytest.mark.parametrize("data", [None, {}, [], {"status": "zzz"}])
@pytest.mark.parametrize("known", [True, False])
def test_an_answer_without_a_status_says_neither_yes_nor_no(data: object, known: bool) -> None:
    """It is asked again: the id may be anybody's."""
    stage = Stage([CALLED])
    nothing = said({"code": 0, "data": data})
    if known:
        stage.play(stage.flow(), BROKE_OFF, nothing, nothing, SUCCEEDED, SUCCEEDED)
        return
    with pytest.raises(CreateOutcomeUnknown):
        stage.play(stage.flow(), BROKE_OFF, *[nothing] * 99)
    assert stage.shown == set()


@pytest.mark.parametrize(
    "answer",
    [
        said({"code": 0, "data": None}),
        page(404),
        page(200),
        said({"info": "bad key"}, 401),
        said({"info": "no access"}, 403),
        said({"code": 1, "info": "internal error"}),
    ],
)
@pytest.mark.parametrize("first", ["a forged call", "the unclear answer"])
def test_an_id_that_means_nothing_does_not_keep_the_true_one_out(
    first: str, answer: HttpReply
) -> None:
    """A gateway's own id, for one: the call that comes meanwhile is heard, and asked for next."""
    forged = first == "a forged call"
    unclear = BROKE_OFF if forged else said({"id": OTHER_ID, "message": "bad gateway"}, 502)
    stage = Stage([{"id": OTHER_ID}, CALLED] if forged else [CALLED])
    job = stage.play(stage.flow(), unclear, answer, SUCCEEDED, SUCCEEDED)
    assert (job.job_id, stage.waited) == (JOB_ID, 0.0)
    assert stage.sent == ["create", OTHER_ID, JOB_ID, JOB_ID]


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_job_that_the_service_will_not_tell_of_is_named_by_the_error(status: int) -> None:
    """It may be there: whoever may ask can."""
    stage = Stage([CALLED])
    with pytest.raises(CreateOutcomeUnknown) as caught:
        stage.play(stage.flow(), BROKE_OFF, said({"info": "no"}, status))
    assert caught.value.job_id == JOB_ID


def test_a_call_that_is_repeated_is_asked_for_again() -> None:
    """The service did not know its own job yet."""
    stage = Stage([CALLED, CALLED])
    stage.play(stage.flow(), BROKE_OFF, NO_SUCH_JOB, SUCCEEDED, SUCCEEDED)
    assert stage.sent == ["create", JOB_ID, JOB_ID, JOB_ID]


@pytest.mark.parametrize(
    "answer", [NO_SUCH_JOB, said({"code": 0, "data": {"status": 1, "args": {"prompt": "a cat"}}})]
)
def test_of_several_the_error_names_the_one_that_is_not_ruled_out(answer: HttpReply) -> None:
    """A no about one says nothing about the other, which could not be asked for."""
    stage = Stage()
    flow = stage.flow()
    stage.hang(flow, CALLED, {"id": OTHER_ID})
    stage.steps.append(flow.send(BROKE_OFF))
    stage.steps.append(flow.send(answer))
    with pytest.raises(CreateOutcomeUnknown) as caught:
        stage.go_on(flow, *[page(503), None] * 50, seconds=9.0)
    assert caught.value.job_id == JOB_ID
    assert OTHER_ID not in str(caught.value)


def test_an_error_that_names_another_job_than_the_answer_names_that_alone() -> None:
    """Its text too."""
    stage = Stage([{"id": OTHER_ID}])
    other = said({"code": 0, "data": {"status": 1, "args": {"prompt": "a cat"}}})
    with pytest.raises(CreateOutcomeUnknown, match=OTHER_ID) as caught:
        stage.play(stage.flow(), *NAMING, other, NO_SUCH_JOB)
    assert JOB_ID not in str(caught.value)


def test_an_unclear_answer_that_named_another_s_job_names_none() -> None:
    """Its refund would be taken for this one's."""
    budget, stage = Budget(usd="1"), Stage()
    other = said({"code": 0, "data": {"id": JOB_ID, "status": 2, "args": {"prompt": "a cat"}}})
    with pytest.raises(CreateOutcomeUnknown) as caught:
        stage.play(stage.flow(budget=budget), *NAMING, other)
    assert caught.value.job_id is None
    assert [one.job_id for one in budget.unknown] == [None]


def test_leaving_says_what_a_call_named_while_create_hung(caplog: pytest.LogCaptureFixture) -> None:
    """In the log at least."""
    stage = Stage()
    flow = stage.flow()
    leave(flow, stage.hang(flow, CALLED), sent=True)
    assert f"it may be job {JOB_ID}" in caplog.text


def test_a_job_of_another_call_that_waits_is_that_other_s() -> None:
    """Two calls for the same prompt: one picture each."""
    stage = Stage([CALLED])
    other = stage.receiver.expect()
    assert other is not None
    other.job_is(JOB_ID)
    with pytest.raises(CreateOutcomeUnknown):
        stage.play(stage.flow(), BROKE_OFF)
    assert stage.sent == ["create"]


def test_a_service_that_is_away_for_a_while_is_asked_again() -> None:
    """It calls once, and may be as unsteady as when the answer was lost."""
    stage = Stage([CALLED])
    job = stage.play(stage.flow(), BROKE_OFF, *[page(503)] * 4, SUCCEEDED, SUCCEEDED)
    assert job.job_id == JOB_ID


def test_a_service_says_when_it_may_be_asked_again() -> None:
    """As in following."""
    stage = Stage()
    flow = stage.flow()
    stage.hang(flow, CALLED)
    flow.send(BROKE_OFF)
    assert flow.send(raw(b"", 503, **{"Retry-After": "7"})).wait >= 7.0


def test_a_late_call_has_its_half_minute_too() -> None:
    """It came in the last second of the wait for it, and the first query goes wrong."""
    stage = Stage()
    flow = stage.flow()
    next(flow)
    flow.send(BROKE_OFF)
    stage.clock.pass_by(CALL_SECONDS_MAX - 0.5)
    stage.call(CALLED)
    query = flow.send(None).act
    assert isinstance(query, HttpRequest)
    assert query.time_left == pytest.approx(CALL_SECONDS_MAX)
    assert flow.send(page(503)).wait > 0.5


def test_those_that_were_named_are_asked_for_in_turn() -> None:
    """One that is never told of does not keep the others out."""
    stage = Stage()
    flow = stage.flow()
    stage.hang(flow, CALLED, {"id": OTHER_ID})
    stage.steps.append(flow.send(BROKE_OFF))
    stage.steps.append(flow.send(page(503)))
    assert not stage.expected.doorbell.rung
    stage.clock.pass_by(stage.steps[-1].wait)
    stage.steps.append(flow.send(None))
    assert stage.sent == ["create", OTHER_ID, JOB_ID]


def test_a_job_that_cannot_be_asked_for_in_time_is_named_by_the_error() -> None:
    """With the id its key's next call asks for it, and so can anybody."""
    stage = Stage([CALLED])
    with pytest.raises(CreateOutcomeUnknown, match=JOB_ID) as caught:
        stage.play(stage.flow(), BROKE_OFF, *[page(503)] * 50)
    assert caught.value.job_id == JOB_ID
    assert stage.waited == pytest.approx(CALL_SECONDS_MAX)
    assert stage.shown == set()


@pytest.mark.parametrize("why", ["the deadline", "max_wait", "the receiver stopped"])
def test_a_call_that_came_in_time_is_not_forgotten(why: str) -> None:
    """Create hung so long that there is no time to wait for one, or nobody who listens."""
    stage = Stage()
    flow = stage.flow(timeout=300.0, **{"max_wait": 20.0} if why == "max_wait" else {})
    stage.hang(flow, CALLED)
    stage.clock.pass_by({"the deadline": 301.0}.get(why, 30.0))
    stage.expected.told = why != "the receiver stopped"
    if why == "the receiver stopped":
        assert isinstance(flow.send(BROKE_OFF).act, HttpRequest)
        return
    with pytest.raises(CreateOutcomeUnknown) as caught:
        flow.send(BROKE_OFF)
    assert caught.value.job_id == JOB_ID


def test_what_create_took_is_not_taken_from_the_wait_for_a_call() -> None:
    """It hung for a while before the connection broke."""
    stage = Stage()
    flow = stage.flow()
    next(flow)
    stage.clock.pass_by(30.0)
    assert flow.send(BROKE_OFF).wait == CALL_SECONDS_MAX


def test_a_job_that_an_unclear_answer_named_is_asked_for_at_once() -> None:
    """No call is needed, and none says better."""
    stage = Stage([{"id": OTHER_ID}])
    job = stage.play(stage.flow(), *NAMING, SUCCEEDED, SUCCEEDED)
    assert (job.job_id, stage.waited) == (JOB_ID, 0.0)


def test_where_the_service_does_not_know_that_job_a_call_may_name_another() -> None:
    """Without one the error names the first, as before."""
    stage, silent = Stage([{"id": OTHER_ID}]), Stage()
    job = stage.play(stage.flow(), *NAMING, NO_SUCH_JOB, SUCCEEDED, SUCCEEDED)
    assert job.job_id == OTHER_ID
    with pytest.raises(CreateOutcomeUnknown, match=JOB_ID):
        silent.play(silent.flow(), *NAMING, NO_SUCH_JOB)


@pytest.mark.parametrize("why", ["nobody listens", "the URL is the user's own", "it stopped"])
def test_where_no_call_can_come_none_is_waited_for(why: str) -> None:
    """As without a receiver."""
    stage = Stage()
    flow = stage.flow(**({"expected": None} if why == "nobody listens" else {}))
    stage.expected.told = why == "it stopped"
    next(flow)
    if why == "it stopped":
        step = flow.send(BROKE_OFF)
        assert step.wait == CALL_SECONDS_MAX
        stage.expected.told = False
        stage.expected.doorbell.ring()
    with pytest.raises(CreateOutcomeUnknown):
        flow.send(None if why == "it stopped" else BROKE_OFF)


@pytest.mark.parametrize(
    "answers",
    [*CREATE_REFUSED.values(), *CREATE_REDIRECTED.values(), (UNREACHED,) * 4],
)
def test_a_clear_answer_is_not_waited_upon(answers: tuple[Answer, ...]) -> None:
    """No job was made, or the base URL is wrong: no call will tell more."""
    stage = Stage()
    with pytest.raises(ShortAPIError) as caught:
        stage.play(stage.flow(), *answers)
    assert not isinstance(caught.value, CreateOutcomeUnknown)
    assert all(step.bell is None for step in stage.steps)


# --- whose a record is ----------------------------------------------------------------------------

LONG = "a lighthouse in a storm, seen from the sea at night, by candle light & rain"
CAFE_NFD = "a cafe\u0301"


@pytest.mark.parametrize(
    ("asked", "told", "owner"),
    [
        (LONG, LONG.replace("&", "&amp;"), "its"),
        (LONG, LONG[:60], "its"),
        (LONG, LONG[:20], "another's"),
        ("a fox", "a fox in the snow", "another's"),
        ("fox 10", "fox 1", "another's"),
        (CAFE_NFD, "A Caf\u00e9 ", "its"),
        ("\U0001f98a \U0001f98a", "\U0001f98a\U0001f98a", "its"),
        ("\U0001f98a", "a cat", "another's"),
        ("a fox", "\U0001f98a", "another's"),
        ("a fox", "&#" + "9" * 5000, "another's"),
        ("&#" + "9" * 5000, "&#" + "9" * 5000, "its"),
        ("a fox", "\ud800", "another's"),
        ("a fox", " ", "nobody's"),
    ],
)
def test_prompts_are_compared_by_their_letters(asked: str, told: str, owner: str) -> None:
    """What a service may do to a prompt on its way speaks against no job."""
    found = read_record({"args": {"prompt": told}}, loopback=False)
    request = REQUEST.model_copy(update={"prompt": asked})
    assert whose(found, FluxJob(job_id=JOB_ID, status="pending", request=request)) == owner


@pytest.mark.parametrize(
    ("said_ids", "owner"),
    [
        ({"id": 123}, "its"),
        ({"id": " 123 "}, "its"),
        ({"id": 999}, "another's"),
        ({"id": "999", "job_id": "123"}, "its"),
        ({"id": ["123"]}, "nobody's"),
        ({"id": ""}, "nobody's"),
        ({"id": 10**5000}, "nobody's"),
    ],
)
def test_ids_are_read_as_those_of_a_create(said_ids: dict[str, Any], owner: str) -> None:
    """As text or as a number."""
    found = read_record(said_ids, loopback=False)
    assert whose(found, FluxJob(job_id="123", status="pending")) == owner


# --- the ledger and the budget --------------------------------------------------------------------


def test_a_claim_without_an_id_is_settled_by_a_call() -> None:
    """The next call with its key gets the picture."""
    stage = Stage([CALLED])
    flow = buy_job_once(ORDER, stage.purchase(), here(stage.clock, expected=stage.expected))
    stage.play(flow, BROKE_OFF, SUCCEEDED, SUCCEEDED)
    entry = stage.ledger._ended[KEY]
    assert (entry.state, entry.job_id) == ("ended", JOB_ID)


def test_without_a_call_a_claim_stays_in_doubt() -> None:
    """As without a receiver."""
    stage = Stage()
    flow = buy_job_once(ORDER, stage.purchase(), here(stage.clock, expected=stage.expected))
    with pytest.raises(CreateOutcomeUnknown, match=KEY):
        stage.play(flow, BROKE_OFF)
    entry = stage.ledger._open[KEY]
    assert (entry.state, entry.job_id) == ("unknown", None)


def test_the_budget_of_whoever_leaves_knows_the_job_that_was_named() -> None:
    """Whoever follows it later settles what was reserved."""
    budget, stage = Budget(usd="1"), Stage()
    flow = stage.flow(budget=budget)
    stage.hang(flow, CALLED)
    leave(flow, flow.send(BROKE_OFF), sent=True)
    assert [one.job_id for one in budget.unknown] == [JOB_ID]


def test_the_key_of_a_job_that_was_named_too_late_finds_it_the_next_time() -> None:
    """The id is kept with the doubt, and the budget settles what was reserved."""
    budget, stage = Budget(usd="1"), Stage()
    around = here(stage.clock, expected=stage.expected, timeout=20.0, budget=budget)
    flow = buy_job_once(ORDER, stage.purchase(), around)
    claim = next(flow).act
    assert isinstance(claim, Claim)
    flow.send(perform_ledger_act(stage.ledger, claim))
    stage.call(CALLED)
    stage.clock.pass_by(25.0)
    act = flow.send(BROKE_OFF).act
    assert isinstance(act, Ended)
    answer = perform_ledger_act(stage.ledger, act)
    with pytest.raises(CreateOutcomeUnknown, match=JOB_ID):
        flow.send(answer)
    again = here(stage.clock, budget=budget)
    purchase = replace(stage.purchase(), holder="later")
    job = stage.play(buy_job_once(ORDER, purchase, again), SUCCEEDED, SUCCEEDED)
    assert (job.job_id, stage.sent) == (JOB_ID, [JOB_ID, JOB_ID])
    assert budget.spent == Decimal("0.002")
    assert not budget.reserved


def test_a_call_is_not_waited_for_beyond_the_lease() -> None:
    """From then on others may take the claim for dead, and replace it."""
    stage = Stage()
    purchase = replace(stage.purchase(), lease=20.0)
    flow = buy_job_once(ORDER, purchase, here(stage.clock, expected=stage.expected))
    with pytest.raises(CreateOutcomeUnknown):
        stage.play(flow, BROKE_OFF)
    assert stage.waited <= 18.0


@pytest.mark.parametrize("where", ["waiting for the call", "asking", "waiting to ask again"])
def test_whoever_leaves_meanwhile_leaves_a_trace(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As where create itself is left: the outcome is unknown."""
    stage = Stage()
    flow = buy_job_unnamed(ORDER, stage.purchase(), here(stage.clock, expected=stage.expected))
    next(flow)
    step = flow.send(BROKE_OFF)
    if where != "waiting for the call":
        stage.call(CALLED)
        step = flow.send(None)
    if where == "waiting to ask again":
        step = flow.send(page(503))
    with caplog.at_level(logging.WARNING):
        noted = leave(flow, step, sent=True)
    assert [type(act).__name__ for act in noted] == ["Claim", "Ended"]
    assert isinstance(noted[1], Ended)
    assert noted[1].result == "unknown"
    assert noted[1].job_id == (None if where == "waiting for the call" else JOB_ID)
    assert "stopped while a job was being created" in caplog.text
    assert (f"it may be job {JOB_ID}" in caplog.text) == (where != "waiting for the call")
    assert "it goes on" not in caplog.text


def test_the_budget_learns_that_the_job_is_there() -> None:
    """It is settled like any other; without a call its price stays reserved."""
    budget = Budget(usd="1")
    stage, silent = Stage([CALLED]), Stage()
    stage.play(stage.flow(budget=budget), BROKE_OFF, SUCCEEDED, SUCCEEDED)
    assert budget.spent == Decimal("0.002")
    assert not budget.reserved
    assert not budget.unknown
    with pytest.raises(CreateOutcomeUnknown):
        silent.play(silent.flow(budget=budget), BROKE_OFF)
    assert budget.reserved == Decimal("0.002")
    assert len(budget.unknown) == 1


# --- over real HTTP -------------------------------------------------------------------------------


@pytest.mark.parametrize("request_key", [None, "order 66"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_paid_picture_is_not_lost_with_the_answer(
    driver: str, request_key: str | None, receiver: CallbackReceiver
) -> None:
    """One job, one create, one picture; the ledger and the budget know it."""
    ledger, budget = MemoryLedger(), Budget(usd="1")
    with Sandbox(job_seconds=0.05) as sandbox:
        sandbox.inject(LOST)
        flux = flux_on(sandbox, callback_receiver=receiver, ledger=ledger, budget=budget)
        asked = {"prompt": "a fox"} | ({"request_key": request_key} if request_key else {})
        job = Caller(driver, flux).invoke(asked)
        assert [record.job_id for record in sandbox.jobs] == [job.job_id]
        assert [call.on for call in sandbox.calls].count("create") == 1
        assert (job.status, len(job.images)) == ("succeeded", 1)
        if request_key:
            assert Caller(driver, flux).invoke(asked).job_id == job.job_id
            assert len(sandbox.jobs) == 1
    assert budget.spent == job.cost
    assert budget.reserved == 0
    assert receiver.waiting == 0


def test_of_a_batch_each_gets_its_own(receiver: CallbackReceiver) -> None:
    """Every other answer is lost, and each call finds the job whose answer it was."""
    prompts = [f"fox {number}" for number in range(20)]
    with Sandbox(job_seconds=0.05) as sandbox:
        sandbox.inject(*[LOST, Fault("create", "none")] * 10)
        flux = flux_on(sandbox, callback_receiver=receiver)
        jobs = flux.batch(prompts)
        made = {record.job_id: record.args["prompt"] for record in sandbox.jobs}
    assert [made[job.job_id] for job in jobs] == prompts
    assert len(made) == 20
