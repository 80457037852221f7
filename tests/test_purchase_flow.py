"""Buying once, on paper: which acts come in which order, and what an entry found means. No I/O."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from screenplay import MODEL, REQUEST, Clock, here
from transcripts import (
    BROKE_OFF,
    CREATE_REDIRECTED,
    CREATE_REFUSED,
    CREATE_REPEATED,
    CREATE_UNCLEAR,
    CREATED,
    ENDINGS,
    JOB_ID,
    NO_SUCH_JOB,
    RUNNING,
    SUCCEEDED,
    TOO_MANY,
    UNREACHED,
    page,
    record,
    said,
)

from langchain_shortapi_flux import (
    CreateOutcomeUnknown,
    FluxJob,
    InvalidRequest,
    JobFailed,
    JobTimeout,
    LedgerFailed,
    MemoryLedger,
    NotCreated,
    RetryLimits,
    ServiceUnavailable,
    ShortAPIError,
    UnexpectedReply,
)
from langchain_shortapi_flux.flow_steps import Acquire, Order, Step, Turn
from langchain_shortapi_flux.http_acts import HttpReply, HttpRequest, Lost
from langchain_shortapi_flux.ledger import (
    Bought,
    Claim,
    Ended,
    Entry,
    LedgerTrouble,
    perform_ledger_act,
)
from langchain_shortapi_flux.purchase import Purchase
from langchain_shortapi_flux.purchase_flow import (
    buy_job_once,
    buy_job_unnamed,
    create_job_once,
)

if TYPE_CHECKING:
    from langchain_shortapi_flux.flow_steps import Answer, JobFlow
    from langchain_shortapi_flux.ledger import LedgerAct

KEY = "https://api.shortapi.ai order 66"
ORDER = Order(REQUEST, MODEL)
LEASE = 90.0
REFUNDED, CHARGED = ENDINGS["failed and refunded"], ENDINGS["failed and charged"]
NAMING = ("refused and yet an id", "500 and yet an id", "200 cut off after the id")
"""The unclear answers that name a job."""
INLINE = said(record(status=2, result={"images": ["data:image/png;base64,iVBORw0KGgo="]}))


class Out(MemoryLedger):
    """A keeper that fails at some acts."""

    def __init__(self, *kinds: type[LedgerAct]) -> None:
        super().__init__()
        self.kinds = kinds

    def claim(self, claim: Claim) -> Entry:
        self._fail(claim)
        return super().claim(claim)

    def bought(self, act: Bought) -> None:
        self._fail(act)
        super().bought(act)

    def ended(self, act: Ended) -> None:
        self._fail(act)
        super().ended(act)

    def _fail(self, act: LedgerAct) -> None:
        if isinstance(act, self.kinds):
            raise OSError("disk full of postgresql://me:horse-battery@host")


class Slow(MemoryLedger):
    """A keeper that takes its time over each act."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def claim(self, claim: Claim) -> Entry:
        self.clock.pass_by(self.seconds)
        return super().claim(claim)


@dataclass
class Play:
    """What happened: each step, each moment, and the job or the error at the end."""

    steps: list[Step] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    job: FluxJob | None = None
    error: ShortAPIError | None = None

    @property
    def acts(self) -> list[str]:
        """Each act by its name, in order."""
        return [_name(step) for step in self.steps]

    @property
    def sent(self) -> list[str]:
        """The calls alone."""
        return [act for act in self.acts if act in ("create", "query")]

    def act(self, name: str) -> Any:
        """The first act of that name."""
        return self.steps[self.acts.index(name)].act


def _name(step: Step) -> str:
    match step.act:
        case HttpRequest(path=path):
            return path.partition("?")[0].rpartition("/")[2]
        case Ended(result=result):
            return result
        case None:
            return "show"
        case act:
            return type(act).__name__.lower()


@dataclass
class Table:
    """One ledger, one clock, and a holder of its own for each call."""

    clock: Clock = field(default_factory=Clock)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    calls: int = 0

    def purchase(self, **changes: Any) -> Purchase:
        """A call's purchase under the key."""
        self.calls += 1
        plain = Purchase(
            key=KEY,
            digest="digest",
            holder=f"holder {self.calls}",
            lease=LEASE,
            on_unknown="raise",
            on_failed="raise",
            wall=self.clock,
            prompt=REQUEST.prompt,
        )
        return replace(plain, **changes)

    def buy(
        self,
        *answers: HttpReply | Lost,
        only_create: bool = False,
        exchange: float = 0.0,
        circumstances: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Play:
        """Run a call to its end; the last answer repeats."""
        begin = create_job_once if only_create else buy_job_once
        at = here(self.clock, **(circumstances or {}))
        return self.play(begin(ORDER, self.purchase(**changes), at), answers, exchange)

    def play(
        self, flow: JobFlow, answers: tuple[HttpReply | Lost, ...], exchange: float = 0.0
    ) -> Play:
        """Run a flow to its end."""
        play = Play()
        answer: Answer | None = None
        waited = 0.0
        try:
            while True:
                step = flow.send(answer)
                if step.act is None and step.wait:  # told as the wait of the act that follows
                    waited += step.wait
                    self.clock.pass_by(step.wait)
                    answer = None
                    continue
                play.steps.append(step._replace(wait=waited + step.wait))
                waited = 0.0
                assert len(play.steps) < 2000, "the flow does not end"
                self.clock.pass_by(step.wait)
                play.moments.append(self.clock())
                answer = self.perform(step, play, answers)
                if isinstance(step.act, HttpRequest):
                    self.clock.pass_by(exchange)
        except StopIteration as end:
            play.job = end.value
        except ShortAPIError as error:
            play.error = error
        return play

    def perform(
        self, step: Step, play: Play, answers: tuple[HttpReply | Lost, ...]
    ) -> Answer | None:
        """What comes of an act."""
        match step.act:
            case None:
                return None
            case HttpRequest():
                assert answers, f"{_name(step)} was not to be sent"
                return answers[min(len(play.sent), len(answers)) - 1]
            case Acquire():
                return Turn(granted=True)
            case act:
                return perform_ledger_act(self.ledger, act)

    def claimed(self, **changes: Any) -> Claim:
        """Somebody else's claim, from now on."""
        plain = Claim(KEY, "digest", "another", now=self.clock(), lease=LEASE)
        claim = replace(plain, **changes)
        assert self.ledger.claim(claim).holder == claim.holder
        return claim

    @property
    def entry(self) -> Entry | None:
        """What stands under the key."""
        return self.ledger._open.get(KEY) or self.ledger._ended.get(KEY)


def state(table: Table) -> str | None:
    """How far the entry got; None if the key is free."""
    return table.entry.state if table.entry is not None else None


# --- the order of acts --------------------------------------------------------------------------


def test_claim_create_bought_queries_ended() -> None:
    """Each stands before what must not happen without it."""
    table = Table()
    play = table.buy(CREATED, RUNNING, SUCCEEDED)
    assert play.acts == ["claim", "create", "bought", "query", "query", "ended"]
    assert [step.wait for step in play.steps] == [0.0, 0.0, 0.0, 2.0, 0.4, 0.0]
    assert play.act("bought") == Bought(KEY, "holder 1", JOB_ID)
    assert play.job is not None
    assert play.job.status == "succeeded"
    assert table.entry is not None
    assert (table.entry.state, table.entry.job_id) == ("ended", JOB_ID)


def test_the_claim_says_for_what_from_when_and_for_how_long() -> None:
    """Other processes judge the claim by nothing else."""
    play = Table().buy(CREATED, SUCCEEDED)
    assert play.act("claim") == Claim(
        key=KEY,
        digest="digest",
        holder="holder 1",
        now=1000.0,
        lease=LEASE,
        prompt=REQUEST.prompt,
        time_left=LEASE,
    )


def test_no_snapshot_is_shown_before_the_job_is_noted() -> None:
    """Whoever leaves at the first snapshot leaves a job that the key finds again."""
    play = Table().buy(CREATED, SUCCEEDED)
    shown = [step.job is not None for step in play.steps]
    assert shown == [False, False, False, True, False]


def test_buying_without_waiting_notes_the_job_too() -> None:
    """``create`` is half of ``invoke``, and the key stands for its job all the same."""
    table = Table()
    play = table.buy(CREATED, only_create=True)
    assert play.acts == ["claim", "create", "bought"]
    assert state(table) == "bought"
    again = table.buy(only_create=True)
    assert again.acts == ["claim"]
    assert again.job is not None
    assert again.job.job_id == JOB_ID


# --- the same key again -------------------------------------------------------------------------


def test_a_known_job_is_followed_at_once_and_not_bought() -> None:
    """It may have ended long ago, so there is no first delay."""
    table = Table()
    table.buy(CREATED, only_create=True)
    play = table.buy(RUNNING, SUCCEEDED)
    assert play.acts == ["claim", "query", "query", "ended"]
    assert [step.wait for step in play.steps] == [0.0, 0.0, 0.4, 0.0]
    assert play.job is not None
    assert (play.job.job_id, play.job.request, play.job.model) == (JOB_ID, REQUEST, MODEL)
    assert state(table) == "ended"


def test_a_job_that_ended_is_answered_with_nothing_sent() -> None:
    """The same job as before, down to the pictures and the cost."""
    table = Table()
    first = table.buy(*ENDINGS["one picture, a full record"]).job
    play = table.buy()
    assert play.acts == ["claim"]
    assert play.job is not None
    assert first is not None
    assert play.job == first.model_copy(update={"queries": 0, "elapsed": 0.0})


def test_a_refunded_failure_is_told_again() -> None:
    """An agent that retries a moderated prompt learns the same, free."""
    table = Table()
    first = table.buy(*REFUNDED).error
    play = table.buy()
    assert play.acts == ["claim"]
    assert isinstance(first, JobFailed)
    assert isinstance(play.error, JobFailed)
    assert (play.error.job_id, play.error.charge) == (JOB_ID, "refunded")
    assert str(play.error) == f"{first} (known from the ledger; nothing was bought)"


def test_a_refunded_failure_is_bought_again_where_that_was_asked_for() -> None:
    """Once: who comes after it finds the new job."""
    table = Table()
    table.buy(*REFUNDED)
    play = table.buy(CREATED, SUCCEEDED, on_failed="buy")
    assert play.acts == ["claim", "claim", "create", "bought", "query", "ended"]
    assert play.steps[1].wait == 0.0
    assert play.job is not None
    assert table.buy(on_failed="buy").job is not None


@pytest.mark.parametrize(
    "ending", [CHARGED, ENDINGS["one picture, a full record"]], ids=["charged", "succeeded"]
)
def test_what_was_not_refunded_is_never_bought_again(ending: tuple[HttpReply, ...]) -> None:
    """``on_failed`` is for failures that cost nothing."""
    table = Table()
    first = table.buy(*ending)
    play = table.buy(on_failed="buy", on_unknown="buy")
    assert play.acts == ["claim"]
    assert type(play.error) is type(first.error)


@pytest.mark.parametrize("stands", ["claimed", "unknown", "bought", "ended"])
def test_other_arguments_under_the_same_key_are_refused(stands: str) -> None:
    """A key that stands for two things would hand out the wrong picture."""
    table = Table()
    if stands == "claimed":
        table.claimed()
    else:
        answers: dict[str, tuple[HttpReply | Lost, ...]]
        answers = {"unknown": (BROKE_OFF,), "bought": (CREATED,), "ended": (CREATED, SUCCEEDED)}
        table.buy(*answers[stands], only_create=stands == "bought")
    assert state(table) == stands
    entry = table.entry
    play = table.buy(digest="other", on_unknown="buy", on_failed="buy")
    assert play.acts == ["claim"]
    assert isinstance(play.error, InvalidRequest)
    assert play.error.charge == "none"
    assert KEY in str(play.error)
    assert table.entry == entry


# --- another's claim ----------------------------------------------------------------------------


def test_another_claim_is_waited_for_until_its_lease_ends() -> None:
    """The looks come ever less often, and the last one when the lease is over."""
    table = Table()
    claim = table.claimed()
    play = table.buy()
    waits = [step.wait for step in play.steps]
    assert waits[:8] == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert set(waits[8:-1]) == {1.0}
    assert play.moments[-1] == claim.now + LEASE
    assert set(play.acts) == {"claim"}
    assert isinstance(play.error, CreateOutcomeUnknown)


def test_another_claim_is_waited_for_until_the_own_deadline() -> None:
    """The caller's patience counts as well as the lease."""
    table = Table()
    table.claimed()
    play = table.buy(circumstances={"timeout": 5.0})
    assert play.moments[-1] == 1005.0
    assert isinstance(play.error, CreateOutcomeUnknown)
    assert state(table) == "claimed"


def test_another_claim_is_followed_as_soon_as_it_has_its_job() -> None:
    """Twenty calls with one key at once are one job and twenty answers."""
    table = Table()
    table.claimed()
    flow = buy_job_once(ORDER, table.purchase(), here(table.clock))
    step = flow.send(perform_ledger_act(table.ledger, _at(flow)))
    assert (step.job, step.wait) == (None, 0.05)
    table.ledger.bought(Bought(KEY, "another", JOB_ID))
    step = flow.send(None)
    step = flow.send(perform_ledger_act(table.ledger, _ledger_act(step)))
    assert step.job is not None
    assert (_name(step), step.wait, step.job.job_id) == ("query", 0.0, JOB_ID)
    flow.close()


def _ledger_act(step: Step) -> LedgerAct:
    assert isinstance(step.act, Claim | Bought | Ended)
    return step.act


def test_another_claim_that_is_released_is_taken_over() -> None:
    """The first was refused (no balance, say); the next may try."""
    table = Table()
    table.claimed()
    purchase = table.purchase()
    flow = buy_job_once(ORDER, purchase, here(table.clock))
    step = flow.send(perform_ledger_act(table.ledger, _at(flow)))
    table.ledger.ended(Ended(KEY, "released", holder="another"))
    table.clock.pass_by(step.wait)
    step = flow.send(None)
    step = flow.send(perform_ledger_act(table.ledger, _ledger_act(step)))
    assert _name(step) == "create"
    assert table.entry is not None
    assert (table.entry.holder, table.entry.claimed_at) == (purchase.holder, 1000.05)
    flow.close()


def _at(flow: JobFlow) -> LedgerAct:
    """The act of a flow's first step."""
    return _ledger_act(next(flow))


# --- nobody can tell ----------------------------------------------------------------------------


def in_doubt(how: str) -> Table:
    """A key whose create has no known outcome, for one of two reasons."""
    table = Table()
    if how == "lease over":
        table.claimed()
        table.clock.pass_by(LEASE)
    else:
        table.buy(BROKE_OFF)
        assert state(table) == "unknown"
    return table


@pytest.mark.parametrize("how", ["lease over", "marked unknown"])
def test_an_unknown_create_is_reported_with_key_and_time(how: str) -> None:
    """Both are needed to look it up in the account."""
    table = in_doubt(how)
    play = table.buy()
    assert play.acts == ["claim"]
    error = play.error
    assert isinstance(error, CreateOutcomeUnknown)
    assert (error.key, error.claimed_at, error.job_id) == (KEY, 1000.0, None)
    assert (error.is_retryable, error.charge) == (False, "unknown")
    text = str(error)
    assert f"key {KEY}, claimed at 1970-01-01T00:16:40+00:00" in text


@pytest.mark.parametrize("how", ["lease over", "marked unknown"])
def test_an_unknown_create_is_replaced_once_where_that_was_asked_for(how: str) -> None:
    """Buying all the same makes a new claim, for which everything holds again."""
    table = in_doubt(how)
    play = table.buy(BROKE_OFF, on_unknown="buy")
    assert play.acts == ["claim", "claim", "create", "unknown"]
    again = table.buy()
    assert isinstance(again.error, CreateOutcomeUnknown)
    assert again.error.claimed_at == table.clock()
    assert table.buy(CREATED, SUCCEEDED, on_unknown="buy").job is not None
    assert table.buy(on_unknown="buy").acts == ["claim"]


def test_a_live_claim_is_not_replaced_before_its_lease_ends() -> None:
    """``on_unknown="buy"`` is for purchases that nobody is making any more."""
    table = Table()
    claim = table.claimed()
    play = table.buy(CREATED, SUCCEEDED, on_unknown="buy")
    assert play.job is not None
    assert play.moments[play.acts.index("create")] == claim.now + LEASE


def test_of_two_who_would_replace_a_claim_the_second_waits_for_the_first() -> None:
    """Both saw the same dead claim; one of them buys."""
    table = in_doubt("marked unknown")
    one = buy_job_once(ORDER, table.purchase(on_unknown="buy"), here(table.clock))
    two = buy_job_once(ORDER, table.purchase(on_unknown="buy"), here(table.clock))
    first = [flow.send(perform_ledger_act(table.ledger, _at(flow))) for flow in (one, two)]
    second = [
        flow.send(perform_ledger_act(table.ledger, _ledger_act(step)))
        for flow, step in zip((one, two), first, strict=True)
    ]
    assert _name(second[0]) == "create"
    assert (second[1].act, second[1].wait > 0) == (None, True)
    assert _name(two.send(None)) == "claim"
    one.close()
    two.close()


@pytest.mark.parametrize("name", sorted(set(CREATE_UNCLEAR) - set(NAMING)))
def test_an_unclear_answer_marks_the_claim(name: str) -> None:
    """The next call with the key is told at once, without waiting for the lease."""
    table = Table()
    play = table.buy(*CREATE_UNCLEAR[name])
    assert play.acts == ["claim", "create", "unknown"]
    assert isinstance(play.error, CreateOutcomeUnknown)
    assert (play.error.key, play.error.claimed_at) == (KEY, 1000.0)
    assert KEY in str(play.error)
    assert state(table) == "unknown"
    again = table.buy()
    assert again.acts == ["claim"]
    assert isinstance(again.error, CreateOutcomeUnknown)


@pytest.mark.parametrize("name", [*CREATE_REFUSED, "429 for ever", "code 3000 for ever"])
def test_a_refusal_frees_the_key(name: str) -> None:
    """Provably nothing was bought: the same key may try again, with any arguments."""
    table = Table()
    play = table.buy(*{**CREATE_REFUSED, **CREATE_REPEATED}[name])
    assert (play.acts[0], play.acts[-1]) == ("claim", "released")
    assert isinstance(play.error, NotCreated)
    assert state(table) is None
    assert table.buy(CREATED, SUCCEEDED, digest="other").job is not None


# --- an unclear answer that names a job -----------------------------------------------------------


def named() -> Table:
    """A key whose create was answered with no clear yes or no, and with a job's id."""
    table = Table()
    table.buy(*CREATE_UNCLEAR["500 and yet an id"])
    return table


@pytest.mark.parametrize("name", [*NAMING, "303"])
def test_a_job_that_an_unclear_answer_named_is_kept_with_the_doubt(name: str) -> None:
    """It may be all that is left of what was paid; that it exists is not said yet."""
    table = Table()
    play = table.buy(*{**CREATE_UNCLEAR, **CREATE_REDIRECTED}[name])
    assert play.acts == ["claim", "create", "unknown"]
    assert isinstance(play.error, CreateOutcomeUnknown)
    assert play.error.job_id == JOB_ID
    assert table.entry is not None
    assert (table.entry.state, table.entry.job_id) == ("unknown", JOB_ID)


@pytest.mark.parametrize("on_unknown", ["raise", "buy"])
@pytest.mark.parametrize("name", NAMING)
def test_a_named_job_that_the_service_knows_is_followed_and_not_bought(
    name: str, on_unknown: str
) -> None:
    """A query is free: buying again would pay twice for what the next query brings."""
    table = Table()
    table.buy(*CREATE_UNCLEAR[name])
    play = table.buy(RUNNING, RUNNING, SUCCEEDED, on_unknown=on_unknown)
    assert play.acts == ["claim", "query", "bought", "query", "query", "ended"]
    assert play.act("bought") == Bought(KEY, "holder 1", JOB_ID)
    assert play.job is not None
    assert (play.job.job_id, play.job.charge) == (JOB_ID, "charged")
    assert table.buy().acts == ["claim"]


def test_a_named_job_that_failed_is_a_failure_like_any_other() -> None:
    """Told once with its charge, then from the ledger, and bought again where that is allowed."""
    table = named()
    play = table.buy(*REFUNDED[1:])
    assert isinstance(play.error, JobFailed)
    assert play.error.charge == "refunded"
    assert state(table) == "ended"
    assert table.buy(CREATED, SUCCEEDED, on_failed="buy").job is not None


def test_a_named_job_that_the_service_does_not_know_stays_unknown() -> None:
    """With key, time and id, as often as it is asked for: nobody has said that none was made."""
    table = named()
    for _ in range(2):
        play = table.buy(NO_SUCH_JOB)
        assert play.acts == ["claim", "query"]
        assert isinstance(play.error, CreateOutcomeUnknown)
        assert (play.error.key, play.error.claimed_at) == (KEY, 1000.0)
        assert (play.error.job_id, play.error.charge) == (JOB_ID, "unknown")
        assert "no such job" in str(play.error)
        assert state(table) == "unknown"


def test_a_named_job_that_the_service_does_not_know_is_bought_anew_where_that_is_allowed() -> None:
    """``on_unknown="buy"`` is for this, once a query has been of no help."""
    table = named()
    play = table.buy(NO_SUCH_JOB, CREATED, SUCCEEDED, on_unknown="buy")
    assert play.acts == ["claim", "query", "claim", "create", "bought", "query", "ended"]
    assert play.job is not None
    assert table.buy().acts == ["claim"]


@pytest.mark.parametrize("on_unknown", ["raise", "buy"])
@pytest.mark.parametrize("said_of", [{"args": {"prompt": "a cat"}}, {"id": "b" * 24}])
def test_a_named_job_that_is_another_order_s_is_neither_taken_nor_bought_anew(
    said_of: dict[str, Any], on_unknown: str
) -> None:
    """Its picture shows something else; whether a job was made is as unknown as before."""
    table = named()
    other = said({"code": 0, "data": {"id": JOB_ID, "status": 1, **said_of}})
    play = table.buy(other, on_unknown=on_unknown)
    assert play.acts == ["claim", "query"]
    assert isinstance(play.error, UnexpectedReply)
    assert play.error.job_id == JOB_ID
    assert all(step.job is None for step in play.steps)
    assert state(table) == "unknown"


@pytest.mark.parametrize(
    "said_of",
    [
        {"id": JOB_ID},
        {"id": ""},
        {"id": 7, "job_id": JOB_ID},
        {"args": {"prompt": ["a fox"]}},
        {"id": "7", "job_id": JOB_ID},
        {"args": "a fox"},
        {"args": {"prompt": "  "}},
        {"args": {"prompt": "\uff21 &quot;Fox&quot;\n"}},
        {"id": JOB_ID, "status": 9},
        {"id": JOB_ID, "status": "expired"},
        {"args": {"prompt": "a fox"}, "status": "expired"},
    ],
)
def test_a_named_job_is_taken_however_oddly_its_record_is_spelt(said_of: dict[str, Any]) -> None:
    """Refused, it would be bought again, or be lost."""
    table = named()
    record = {"status": 2, "result": {"images": ["https://a.b/c.png"]}, **said_of}
    play = table.buy(said({"code": 0, "data": record}), SUCCEEDED, on_unknown="buy")
    assert play.acts[:3] == ["claim", "query", "bought"]
    assert "create" not in play.acts


def test_a_refusal_of_the_purchase_anew_leaves_the_doubt() -> None:
    """What was in doubt before is in doubt still."""
    table = named()
    refusal = said({"code": 7, "info": "no balance"})
    play = table.buy(NO_SUCH_JOB, refusal, on_unknown="buy")
    assert isinstance(play.error, NotCreated)
    assert state(table) == "unknown"


@pytest.mark.parametrize("answer", [page(502), BROKE_OFF, said({"code": 0, "data": {}})])
@pytest.mark.parametrize("on_unknown", ["raise", "buy"])
def test_a_named_job_of_which_no_word_comes_is_not_bought_anew(
    on_unknown: str, answer: HttpReply | Lost
) -> None:
    """Silence says nothing; the job may be there."""
    table = named()
    play = table.buy(answer, on_unknown=on_unknown)
    assert "create" not in play.acts
    assert isinstance(play.error, UnexpectedReply)
    assert play.error.job_id == JOB_ID
    assert (state(table), table.buy(SUCCEEDED).job is not None) == ("unknown", True)


def test_a_named_job_is_not_asked_for_beyond_the_callers_patience() -> None:
    """The tool's ``max_wait`` holds here too."""
    table = named()
    before = table.clock()
    play = table.buy(page(502), circumstances={"max_wait": 2.0})
    assert isinstance(play.error, JobTimeout)
    assert play.error.job_id == JOB_ID
    assert table.clock() - before <= 2.0


def test_an_id_that_the_ledger_did_not_take_with_the_doubt_is_offered_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And stands in the log where it is refused for good."""
    table = Table(ledger=Out(Ended))
    play = table.buy(*CREATE_UNCLEAR["500 and yet an id"])
    assert play.acts == ["claim", "create", "unknown", "unknown"]
    assert JOB_ID in caplog.text


# --- the lease ----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [UNREACHED, TOO_MANY, said({}, 429, Retry_After="20")])
@pytest.mark.parametrize("lease", [5.0, 30.0, 90.0])
def test_create_gives_up_before_its_lease_ends(answer: HttpReply | Lost, lease: float) -> None:
    """Else somebody would take the claim for dead, and perhaps buy, while this one still buys."""
    table = Table()
    retry = RetryLimits(create_attempts=20)
    play = table.buy(answer, lease=lease, circumstances={"retry": retry})
    assert isinstance(play.error, NotCreated)
    claimed = 1000.0
    for step, moment in zip(play.steps, play.moments, strict=True):
        if isinstance(step.act, Claim):
            claimed = moment
        if isinstance(step.act, HttpRequest):
            assert moment + step.act.time_left <= claimed + lease * 0.9 + 1e-6
    assert table.clock() < claimed + lease
    assert play.acts[-1] == "released"


def test_who_waits_for_a_turn_renews_the_claim_until_the_deadline() -> None:
    """A crowd that takes turns after a 429 may wait longer than any lease, and buys nothing."""
    table = Table()
    retry = RetryLimits(create_attempts=20, backoff_max=2.0)
    changes = {"retry": retry, "timeout": 60.0}
    play = table.buy(*[TOO_MANY] * 8, CREATED, SUCCEEDED, lease=5.0, circumstances=changes)
    assert play.job is not None
    claims = [step.act for step in play.steps if isinstance(step.act, Claim)]
    assert len(claims) > 1
    assert {claim.instead_of for claim in claims[1:]} == {"holder 1"}
    assert play.sent == ["create"] * 9 + ["query"]


def test_what_a_slow_ledger_took_of_the_lease_is_not_create_s() -> None:
    """The lease runs from the moment that the claim names, not from when it was granted."""
    table = Table()
    table.ledger = Slow(table.clock, 40.0)
    play = table.buy(CREATED, SUCCEEDED)
    assert play.act("create").time_left == pytest.approx(90.0 * 0.9 - 40.0)


def test_a_claim_granted_too_late_sends_nothing() -> None:
    """By now somebody else may hold it for dead."""
    table = Table()
    table.ledger = Slow(table.clock, 85.0)
    play = table.buy()
    assert play.acts == ["claim", "released"]
    assert isinstance(play.error, ServiceUnavailable)


def test_a_wall_clock_that_was_set_back_does_not_lengthen_create() -> None:
    """The wall's word counts against the lease only."""
    table = Table()
    walls = iter([5000.0, 1000.0])
    play = table.buy(CREATED, SUCCEEDED, wall=lambda: next(walls))
    assert play.act("create").time_left == pytest.approx(LEASE * 0.9)


def test_following_is_not_bound_by_the_lease() -> None:
    """The lease is create's; a job may take longer."""
    table = Table()
    play = table.buy(CREATED, RUNNING, lease=5.0, circumstances={"timeout": 60.0})
    assert isinstance(play.error, JobTimeout)
    assert table.clock() > 1050.0


# --- keepers in trouble -------------------------------------------------------------------------


def test_a_ledger_that_cannot_be_asked_means_that_nothing_is_bought() -> None:
    """Without its word nobody knows whether the key was bought before."""
    table = Table(ledger=Out(Claim))
    play = table.buy()
    assert play.acts == ["claim", "released"], "the claim may have been taken down all the same"
    assert isinstance(play.error, LedgerFailed)
    assert not isinstance(play.error, NotCreated), "a fallback could buy it a second time"
    assert (play.error.charge, play.error.is_retryable) == ("unknown", False)
    assert "horse" not in str(play.error)
    assert "OSError" in str(play.error)


@pytest.mark.parametrize("kind", [Bought, Ended])
def test_a_ledger_that_fails_after_create_is_logged_and_the_job_goes_on(
    kind: type[LedgerAct], caplog: pytest.LogCaptureFixture
) -> None:
    """The picture is paid for: the log holds its id where the ledger does not."""
    table = Table(ledger=Out(kind))
    play = table.buy(CREATED, SUCCEEDED)
    noted = ["bought"] * (2 if kind is Bought else 1)
    assert play.acts == ["claim", "create", *noted, "query", "ended"]
    assert play.job is not None
    assert [entry.levelno for entry in caplog.records] == [logging.ERROR]
    assert all(word in caplog.text for word in (kind.__name__, KEY, "OSError", JOB_ID))
    assert "horse" not in caplog.text


def test_a_job_id_that_the_ledger_did_not_take_is_offered_again() -> None:
    """A stale connection fails once; the id that is known must not be lost for so little."""

    class OnceOut(MemoryLedger):
        failures = 1

        def bought(self, act: Bought) -> None:
            if self.failures:
                self.failures -= 1
                raise OSError("stale")
            super().bought(act)

    table = Table(ledger=OnceOut())
    assert table.buy(CREATED, SUCCEEDED).job is not None
    assert state(table) == "ended"


def test_an_outcome_of_another_version_is_asked_for_anew() -> None:
    """Whoever shares a database with a newer pack must not lose the job to a field too many."""
    table = Table()
    assert table.buy(CREATED, SUCCEEDED).job is not None
    (entry,) = table.ledger._ended.values()
    table.ledger._ended[entry.key] = replace(entry, outcome={**(entry.outcome or {}), "seed": 5})
    again = table.buy(SUCCEEDED)
    assert "create" not in again.acts
    assert again.acts[:2] == ["claim", "query"]
    assert again.job is not None
    assert again.job.status == "succeeded"


@pytest.mark.parametrize("answer", [BROKE_OFF, page(403)], ids=["unknown", "refused"])
def test_a_ledger_that_cannot_note_how_create_went_does_not_hide_it(
    answer: HttpReply | Lost, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller still learns what happened; the claim's lease does the rest."""
    table = Table(ledger=Out(Ended))
    expected = Table().buy(answer).error
    play = table.buy(answer)
    assert type(play.error) is type(expected)
    assert "job none" in caplog.text
    assert state(table) == "claimed"


def test_a_failed_job_is_raised_though_the_ledger_cannot_note_it() -> None:
    """Likewise at the end."""
    play = Table(ledger=Out(Ended)).buy(*REFUNDED)
    assert isinstance(play.error, JobFailed)


def test_an_answer_that_is_no_entry_is_a_ledger_in_trouble() -> None:
    """A bug in a driver or a keeper must not lead to a purchase."""
    table = Table()
    flow = buy_job_once(ORDER, table.purchase(), here(table.clock))
    next(flow)
    assert isinstance(flow.send(None).act, Ended)
    with pytest.raises(LedgerFailed, match="no answer"):
        flow.send(None)


# --- what is kept -------------------------------------------------------------------------------


def test_pictures_that_came_inside_the_reply_are_asked_for_again() -> None:
    """Their bytes do not belong into a ledger; the service still has the job."""
    table = Table()
    play = table.buy(CREATED, INLINE)
    assert play.acts == ["claim", "create", "bought", "query", "ended"]
    assert play.act("ended").outcome is None
    again = table.buy(INLINE)
    assert again.acts == ["claim", "query", "ended"]
    assert again.job is not None
    assert again.job.images[0].inline is not None


def test_the_outcome_kept_is_plain_and_holds_no_prompt() -> None:
    """It goes into a database as JSON."""
    outcome = Table().buy(*ENDINGS["one picture, a full record"])
    kept = outcome.act("ended").outcome
    assert kept["status"] == "succeeded"
    assert "request" not in kept
    assert "fox" not in repr(kept)


@pytest.mark.parametrize("ending", ["succeeded without pictures", "it never ends"])
def test_what_has_no_clear_end_stays_to_be_followed(ending: str) -> None:
    """After a timeout, or a reply of no use, the key still leads to the job."""
    table = Table()
    play = table.buy(*ENDINGS[ending], circumstances={"timeout": 30.0})
    assert isinstance(play.error, JobTimeout | UnexpectedReply)
    assert (state(table), play.error.job_id) == ("bought", JOB_ID)
    again = table.buy(SUCCEEDED)
    assert again.acts == ["claim", "query", "ended"]
    assert again.job is not None


# --- leaving early ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "left", "said_in_log"),
    [
        (0, None, ""),
        (1, "unknown", "stopped while a job was being created"),
        (2, "bought", f"stopped while job {JOB_ID} was noted"),
        (3, "bought", f"stopped waiting for job {JOB_ID}"),
        (4, "bought", f"stopped waiting for job {JOB_ID}"),
        (5, "bought", f"stopped waiting for job {JOB_ID}"),
        (6, "bought", f"stopped waiting for job {JOB_ID}"),
        (7, "ended", f"stopped while job {JOB_ID} was noted"),
    ],
)
def test_whoever_leaves_leaves_what_is_known(
    step: int, left: str | None, said_in_log: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At each step the ledger and the log say what there is, and none buys twice."""
    table = Table()
    flow = buy_job_once(ORDER, table.purchase(), here(table.clock))
    answers = iter([CREATED, RUNNING, SUCCEEDED])
    now = next(flow)
    for _ in range(step):
        if isinstance(now.act, HttpRequest):
            now = flow.send(next(answers))
        elif now.act is None:
            now = flow.send(None)
        else:
            now = flow.send(perform_ledger_act(table.ledger, _ledger_act(now)))
    flow.close()
    for act in now.if_left:
        perform_ledger_act(table.ledger, act)
    assert state(table) == left
    assert said_in_log in caplog.text
    if step >= 2:
        assert JOB_ID in caplog.text
    if left == "bought":
        assert table.buy(SUCCEEDED).sent == ["query"]
    elif left == "unknown":
        again = table.buy()
        assert again.sent == []
        assert isinstance(again.error, CreateOutcomeUnknown)


def test_leaving_while_another_claim_is_waited_for_changes_nothing() -> None:
    """Whoever waits holds nothing."""
    table = Table()
    table.claimed()
    before = table.entry
    flow = buy_job_once(ORDER, table.purchase(), here(table.clock))
    flow.send(perform_ledger_act(table.ledger, _at(flow)))
    flow.close()
    assert table.entry == before


def test_trouble_is_a_value_without_the_keeper_s_words() -> None:
    """They may hold a URL with its password."""
    answer = perform_ledger_act(Out(Claim), Claim(KEY, "d", "h", 0.0, 1.0))
    assert answer == LedgerTrouble("OSError")


# --- what a later call must still find ------------------------------------------------------------


def test_a_refusal_does_not_make_forget_what_was_in_doubt() -> None:
    """``on_unknown="buy"`` allowed one purchase more, and that one came to nothing."""
    table = in_doubt("marked unknown")
    again = table.buy(said({"code": 7, "info": "no balance"}), on_unknown="buy")
    assert isinstance(again.error, NotCreated)
    assert state(table) == "unknown"
    after = table.buy()
    assert (after.sent, type(after.error)) == ([], CreateOutcomeUnknown)


def test_a_keeper_that_fails_after_a_claim_was_seen_does_not_hide_it() -> None:
    """The last look may come too late for a database; what stands there is known all the same."""
    table = Table()
    claim = table.claimed()
    flow = buy_job_once(ORDER, table.purchase(), here(table.clock))
    step = flow.send(perform_ledger_act(table.ledger, _at(flow)))
    assert step.wait > 0
    flow.send(None)
    with pytest.raises(CreateOutcomeUnknown) as caught:
        flow.send(LedgerTrouble("TimeoutError"))
    assert (caught.value.key, caught.value.claimed_at) == (KEY, claim.now)


def test_an_unclear_answer_keeps_its_status() -> None:
    """With a key as without one."""
    play = Table().buy(page(502))
    assert isinstance(play.error, CreateOutcomeUnknown)
    assert play.error.status_code == 502


@pytest.mark.parametrize(
    "outcome", [[1], "odd", {"status": "failed", "charge": "zzz"}, {"status": "failed"}]
)
def test_an_odd_outcome_is_asked_for_anew(outcome: Any) -> None:
    """Somebody else wrote into the table; the service still knows the job."""
    table = Table()
    table.buy(CREATED, SUCCEEDED)
    table.ledger._ended[KEY] = replace(table.ledger._ended[KEY], outcome=outcome)
    play = table.buy(SUCCEEDED, on_failed="buy")
    assert play.sent == ["query"]
    assert play.job is not None


def test_leaving_at_the_first_snapshot_of_a_slow_create_is_noted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Create took all the time there was, and who watches leaves when shown the job."""
    table = Table()
    flow = buy_job_unnamed(ORDER, table.purchase(), here(table.clock, timeout=5.0))
    next(flow)
    table.clock.pass_by(6.0)
    step = flow.send(CREATED)
    assert step.job is not None
    flow.close()
    for act in step.if_left:
        perform_ledger_act(table.ledger, act)
    assert state(table) == "bought"
    assert f"stopped waiting for job {JOB_ID}" in caplog.text


def test_memory_may_be_asked_again_by_a_finalizer() -> None:
    """The garbage collector may close an abandoned flow in the middle of a claim."""
    table = Table()
    with table.ledger._lock:
        assert table.claimed().key == KEY
