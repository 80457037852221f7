"""One contract for every keeper: in memory, SQLite in a file, and a real PostgreSQL."""

from __future__ import annotations

import copy
import logging
import math
import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy
from postgres_server import table_dropped
from quick_flux import flux_on

from langchain_shortapi_flux import FluxJob, FluxRequest, JobFailed, MemoryLedger, SqlLedger
from langchain_shortapi_flux.ledger import (
    Bought,
    Claim,
    Ended,
    Entry,
    Ledger,
    LedgerTrouble,
    perform_ledger_act,
    purchase_key,
    request_digest,
    without_service_words,
)
from langchain_shortapi_flux.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from langchain_shortapi_flux.sandbox import Sandbox

PROMPT = "a very private fox"
PASSWORD = "horse-battery"
CLAIM = Claim(
    key="https://api.shortapi.ai k",
    digest="d" * 64,
    holder="me",
    now=1_770_000_000.123456,
    lease=90.0,
    prompt=PROMPT,
)
KEY = CLAIM.key
OUTCOME = {"job_id": "j1", "status": "succeeded", "images": [{"url": "https://x/ä🦊.png"}]}
THREADS = 64
A_DAY = 86_400.0
WORDS = "moderated: A VERY PRIVATE FO\\u0058 …"
REFUSED = {"status": "failed", "charge": "refunded", "message": WORDS}
ODD_KEYS = [
    *("k" * 500, "🦊" * 500, "é", "e\u0301", "K", "k", "k ", " k", "k\n", "%", "_", "\\"),
    *("'; drop table flux_jobs; --", ":key", "?", "日本語", "a\tb", "null", "0"),
]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database in which there is no table yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/flux-jobs.db"
    return table_dropped(request.getfixturevalue("postgres_url"))


@pytest.fixture
def kept(url: str) -> Iterator[SqlLedger]:
    """A ledger in that database."""
    ledger = SqlLedger(url)
    yield ledger
    ledger.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each kind of keeper, empty."""
    if request.param == "memory":
        yield MemoryLedger()
        return
    url = f"sqlite:///{tmp_path}/flux-jobs.db"
    if request.param == "postgres":
        url = table_dropped(request.getfixturevalue("postgres_url"))
    kept = SqlLedger(url)
    yield kept
    kept.close()


def seen(ledger: Ledger, key: str = KEY) -> Entry:
    """What stands under a key that is taken, by the eyes of somebody else."""
    return ledger.claim(replace(CLAIM, key=key, holder="an onlooker", digest="other"))


def all_at_once(work: Callable[[int], Entry], count: int = THREADS) -> list[Entry]:
    """What comes of that many threads that start together."""
    start = threading.Barrier(count)

    def one(number: int) -> Entry:
        start.wait(20)
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


# --- the contract -------------------------------------------------------------------------------


def test_a_free_key_is_granted_as_claimed(ledger: Ledger) -> None:
    """Who gets back his own holder may buy; the times come back exactly, as leases are compared."""
    granted = Entry(
        key=KEY,
        digest="d" * 64,
        holder="me",
        state="claimed",
        claimed_at=1_770_000_000.123456,
        lease_ends=1_770_000_090.123456,
    )
    assert ledger.claim(CLAIM) == granted
    assert seen(ledger) == granted


def test_a_taken_key_is_shown_as_it_stands_and_not_touched(ledger: Ledger) -> None:
    """Looking is claiming in vain: a look must leave no trace."""
    ledger.claim(CLAIM)
    found = ledger.claim(replace(CLAIM, holder="you", digest="x", now=2e9, prompt="other"))
    assert found == replace(CLAIM.entry(), prompt=None)
    assert seen(ledger) == found


def test_one_of_many_threads_gets_the_key_and_all_learn_who(ledger: Ledger) -> None:
    """Two winners would be two charges."""
    for key in ("one", "two", "three"):
        found = all_at_once(
            lambda number, key=key: ledger.claim(replace(CLAIM, key=key, holder=str(number)))  # type: ignore[misc]
        )
        assert len({entry.holder for entry in found}) == 1


@pytest.mark.parametrize(
    "acts",
    [
        (),
        (Ended(KEY, "unknown", holder="me"),),
        (Bought(KEY, "me", "j1"), Ended(KEY, "ended", job_id="j1", outcome=OUTCOME)),
    ],
    ids=["claimed", "unknown", "ended"],
)
def test_an_entry_is_replaced_only_instead_of_its_own_holder(
    ledger: Ledger, acts: tuple[Bought | Ended, ...]
) -> None:
    """Buying again replaces what was seen, not what somebody else has put there since."""
    ledger.claim(CLAIM)
    for act in acts:
        perform_ledger_act(ledger, act)
    stood = seen(ledger)
    wrong = replace(CLAIM, holder="you", instead_of="somebody")
    assert ledger.claim(wrong) == stood
    again = replace(CLAIM, holder="you", now=CLAIM.now + 100, instead_of="me")
    assert ledger.claim(again) == replace(again.entry(), prompt=None)
    assert seen(ledger) == replace(again.entry(), prompt=None)


def test_one_of_many_threads_replaces_an_entry(ledger: Ledger) -> None:
    """``on_unknown="buy"`` in many threads at once is one purchase."""
    ledger.claim(CLAIM)
    found = all_at_once(
        lambda number: ledger.claim(replace(CLAIM, holder=str(number), instead_of="me"))
    )
    winners = {entry.holder for entry in found}
    assert len(winners) == 1
    assert winners != {"me"}


def test_a_job_that_runs_is_never_replaced(ledger: Ledger) -> None:
    """Its id may have come in late, just after somebody took its claim for dead."""
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, Bought(KEY, "me", "j1"))
    found = ledger.claim(replace(CLAIM, holder="you", instead_of="me"))
    assert (found.holder, found.job_id) == ("me", "j1")
    assert seen(ledger).job_id == "j1"


def test_instead_of_takes_a_key_that_is_free_by_now(ledger: Ledger) -> None:
    """The entry that was to be replaced may have been released meanwhile."""
    assert ledger.claim(replace(CLAIM, instead_of="somebody")).holder == "me"


def test_only_the_holder_notes_what_was_bought(ledger: Ledger) -> None:
    """Whose claim was replaced must not put his job under another's purchase."""
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, Bought(KEY, "you", "j2"))
    assert (seen(ledger).state, seen(ledger).job_id) == ("claimed", None)
    perform_ledger_act(ledger, Bought(KEY, "me", "j1"))
    assert (seen(ledger).state, seen(ledger).job_id) == ("bought", "j1")


def test_the_outcome_comes_back_as_it_was(ledger: Ledger) -> None:
    """It is what the next call is answered with."""
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, Bought(KEY, "me", "j1"))
    perform_ledger_act(ledger, Ended(KEY, "ended", job_id="j1", outcome=OUTCOME))
    found = seen(ledger)
    assert (found.state, found.job_id, found.outcome) == ("ended", "j1", OUTCOME)


def test_who_follows_an_older_job_does_not_end_the_one_bought_since(ledger: Ledger) -> None:
    """Else the news of a refunded job would let a third one be bought beside a running second."""
    failed = {"status": "failed", "charge": "refunded", "message": "no"}
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, Bought(KEY, "me", "j1"))
    perform_ledger_act(ledger, Ended(KEY, "ended", job_id="j1", outcome=failed))
    ledger.claim(replace(CLAIM, holder="you", instead_of="me"))
    perform_ledger_act(ledger, Ended(KEY, "ended", job_id="j1", outcome=failed))
    assert seen(ledger).state == "claimed"
    perform_ledger_act(ledger, Bought(KEY, "you", "j2"))
    perform_ledger_act(ledger, Ended(KEY, "ended", job_id="j1", outcome=failed))
    assert (seen(ledger).state, seen(ledger).job_id) == ("bought", "j2")


def test_a_job_ends_once(ledger: Ledger) -> None:
    """Several may follow one job to its end; what was told first stays."""
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, Bought(KEY, "me", "j1"))
    perform_ledger_act(ledger, Ended(KEY, "ended", job_id="j1", outcome=OUTCOME))
    perform_ledger_act(ledger, Ended(KEY, "ended", job_id="j1", outcome={"status": "failed"}))
    assert seen(ledger).outcome == OUTCOME


@pytest.mark.parametrize("given_up", [False, True], ids=["claimed", "unknown"])
def test_the_end_of_a_job_that_was_never_noted_makes_it_known(
    ledger: Ledger, given_up: bool
) -> None:
    """The keeper was out of order just after create; the job is paid for all the same."""
    ledger.claim(CLAIM)
    if given_up:
        perform_ledger_act(ledger, Ended(KEY, "unknown", holder="me"))
    perform_ledger_act(ledger, Ended(KEY, "ended", holder="me", job_id="j1", outcome=OUTCOME))
    found = seen(ledger)
    assert (found.state, found.job_id, found.outcome) == ("ended", "j1", OUTCOME)
    assert (found.holder, found.claimed_at) == ("me", CLAIM.now)


@pytest.mark.parametrize(
    "act",
    [
        Ended(KEY, "ended", holder="you", job_id="j1", outcome=OUTCOME),
        Ended(KEY, "ended", job_id="j1", outcome=OUTCOME),
        Ended(KEY, "ended", holder="me", outcome=OUTCOME),
    ],
    ids=["another's", "nobody's", "no job"],
)
def test_an_end_says_nothing_of_another_claim(ledger: Ledger, act: Ended) -> None:
    """Under the key may stand the claim of somebody who is buying at this moment."""
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, act)
    assert seen(ledger) == replace(CLAIM.entry(), prompt=None)


def test_the_end_of_another_job_of_the_holder_says_nothing_of_a_noted_one(ledger: Ledger) -> None:
    """A job that was noted is known; only its own end is its end."""
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, Bought(KEY, "me", "j1"))
    perform_ledger_act(ledger, Ended(KEY, "ended", holder="me", job_id="j2", outcome=OUTCOME))
    assert (seen(ledger).state, seen(ledger).job_id) == ("bought", "j1")


def test_a_note_that_comes_late_does_not_open_an_ended_entry_again(ledger: Ledger) -> None:
    """It may have waited for a thread while the job ended."""
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, Ended(KEY, "ended", holder="me", job_id="j1", outcome=OUTCOME))
    perform_ledger_act(ledger, Bought(KEY, "me", "j1"))
    assert (seen(ledger).state, seen(ledger).outcome) == ("ended", OUTCOME)


def test_an_end_without_an_outcome_is_an_end(ledger: Ledger) -> None:
    """Where the pictures could not be told again; the service is asked then."""
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, Bought(KEY, "me", "j1"))
    perform_ledger_act(ledger, Ended(KEY, "ended", job_id="j1"))
    assert (seen(ledger).state, seen(ledger).job_id, seen(ledger).outcome) == ("ended", "j1", None)


def test_a_release_frees_the_key_for_anyone(ledger: Ledger) -> None:
    """After a refusal nothing was bought, so the key stands for nothing."""
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, Ended(KEY, "released", holder="me"))
    assert ledger.claim(replace(CLAIM, holder="you")).holder == "you"


def test_an_unknown_outcome_is_marked(ledger: Ledger) -> None:
    """Nobody waits for the lease of a claim whose holder has given up."""
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, Ended(KEY, "unknown", holder="me"))
    assert (seen(ledger).state, seen(ledger).claimed_at) == ("unknown", CLAIM.now)


def test_a_job_that_is_named_with_the_doubt_is_kept_until_it_is_known_or_replaced(
    ledger: Ledger,
) -> None:
    """A query tells later whether there is such a job."""
    ledger.claim(CLAIM)
    ledger.ended(Ended(KEY, "unknown", holder="me", job_id="j1"))
    assert (seen(ledger).state, seen(ledger).job_id) == ("unknown", "j1")
    ledger.bought(Bought(KEY, "me", "j1"))
    assert (seen(ledger).state, seen(ledger).job_id) == ("bought", "j1")
    other = replace(CLAIM, key="other")
    ledger.claim(other)
    ledger.ended(Ended("other", "unknown", holder="me", job_id="j2"))
    assert ledger.claim(replace(other, holder="you", instead_of="me")).holder == "you"
    assert seen(ledger, "other").job_id is None


def test_a_job_that_was_named_with_the_doubt_can_end(ledger: Ledger) -> None:
    """Also where the note of its purchase was lost."""
    ledger.claim(CLAIM)
    ledger.ended(Ended(KEY, "unknown", holder="me", job_id="j1"))
    ledger.ended(Ended(KEY, "ended", holder="you", job_id="j1", outcome=OUTCOME))
    assert (seen(ledger).state, seen(ledger).outcome) == ("ended", OUTCOME)


@pytest.mark.parametrize("result", ["released", "unknown"])
def test_only_the_holder_gives_up_a_claim_and_only_without_a_job(
    ledger: Ledger, result: Any
) -> None:
    """A paid job must not vanish from the ledger, whoever says so."""
    ledger.claim(CLAIM)
    perform_ledger_act(ledger, Ended(KEY, result, holder="you"))
    assert (seen(ledger).holder, seen(ledger).state) == ("me", "claimed")
    perform_ledger_act(ledger, Bought(KEY, "me", "j1"))
    perform_ledger_act(ledger, Ended(KEY, result, holder="me"))
    assert (seen(ledger).state, seen(ledger).job_id) == ("bought", "j1")


@pytest.mark.parametrize(
    "act",
    [
        Bought("nobody's", "me", "j1"),
        Ended("nobody's", "ended", job_id="j1", outcome=OUTCOME),
        Ended("nobody's", "released", holder="me"),
        Ended("nobody's", "unknown", holder="me"),
    ],
    ids=lambda act: f"{type(act).__name__} {getattr(act, 'result', '')}",
)
def test_notes_on_a_key_that_is_not_there_make_no_entry(
    ledger: Ledger, act: Bought | Ended
) -> None:
    """Only a claim puts something under a key."""
    assert perform_ledger_act(ledger, act) is None
    assert ledger.claim(replace(CLAIM, key="nobody's", holder="you")).holder == "you"


def test_odd_keys_stand_each_for_itself(ledger: Ledger) -> None:
    """Keys come from callers: long, in any script, full of what SQL reads as its own."""
    for number, key in enumerate(ODD_KEYS):
        assert ledger.claim(replace(CLAIM, key=key, holder=str(number))).holder == str(number)
    assert [seen(ledger, key).holder for key in ODD_KEYS] == [
        str(number) for number in range(len(ODD_KEYS))
    ]
    assert [seen(ledger, key).key for key in ODD_KEYS] == ODD_KEYS


@pytest.mark.parametrize("key", ["a\0b", "\ud800"])
def test_a_key_that_a_database_cannot_hold_is_a_trouble_not_a_crash(
    ledger: Ledger, key: str
) -> None:
    """The flow knows what to do with a keeper in trouble: buy nothing."""
    answer = perform_ledger_act(ledger, replace(CLAIM, key=key))
    assert isinstance(answer, Entry | LedgerTrouble)


class Listener(MemoryLedger):
    """Remembers how much time each act was given."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def claim(self, claim: Claim) -> Entry:
        self.times.append(claim.time_left)
        return super().claim(claim)

    def bought(self, act: Bought) -> None:
        self.times.append(act.time_left)

    def ended(self, act: Ended) -> None:
        self.times.append(act.time_left)


@pytest.mark.parametrize(
    ("given", "waited", "left"),
    [
        (5.0, 3.0, [2.0, 2.0, 2.0]),
        (5.0, 4.5, [0.5, 1.0, 1.0]),
        (5.0, 9.0, [-4.0, 1.0, 1.0]),
        (math.inf, 9.0, [math.inf] * 3),
    ],
)
def test_the_wait_for_a_thread_is_taken_off_the_time_of_an_act(
    given: float, waited: float, left: list[float]
) -> None:
    """Of many calls that queue for a locked ledger, each waits its own time, not their sum."""
    keeper = Listener()
    acts = (CLAIM, Bought(KEY, "me", "j1"), Ended(KEY, "ended", job_id="j1"))
    for act in acts:
        perform_ledger_act(keeper, replace(act, time_left=given), 100.0, lambda: 100.0 + waited)
    assert keeper.times == left


def test_an_act_that_did_not_queue_keeps_its_time() -> None:
    """Who performs at once need not say when he was asked."""
    keeper = Listener()
    perform_ledger_act(keeper, replace(CLAIM, time_left=0.25))
    assert keeper.times == [0.25]


# --- what the service said ----------------------------------------------------------------------


def test_the_services_words_are_not_stored_and_all_else_is(kept: SqlLedger) -> None:
    """They may repeat the prompt in a spelling that no search for it would find."""
    success = {**OUTCOME, "error": WORDS, "cost": "0.002", "charge": "charged"}
    for key, outcome in (("failed", REFUSED), ("succeeded", success), ("silent", OUTCOME)):
        kept.claim(replace(CLAIM, key=key))
        kept.bought(Bought(key, "me", "j1"))
        kept.ended(Ended(key, "ended", job_id="j1", outcome=outcome))
    instead = "what the service said of it is not stored, query('j1') tells it"
    assert seen(kept, "failed").outcome == {**REFUSED, "message": f"job j1 failed; {instead}"}
    assert seen(kept, "succeeded").outcome == {**success, "error": f"job j1 succeeded; {instead}"}
    assert seen(kept, "silent").outcome == OUTCOME


def test_the_services_words_are_stored_where_prompts_are(url: str) -> None:
    """Whoever says that prompts may lie there in clear wants to read why a job failed."""
    telling = SqlLedger(url, store_prompts=True)
    telling.claim(CLAIM)
    telling.ended(Ended(KEY, "ended", holder="me", job_id="j1", outcome=REFUSED))
    assert seen(telling).outcome == REFUSED
    telling.close()


def test_memory_knows_the_services_words_and_does_not_let_them_travel() -> None:
    """In the process that read them they help the next caller; a pickle may go anywhere."""
    ledger = MemoryLedger()
    ledger.claim(CLAIM)
    ledger.ended(Ended(KEY, "ended", holder="me", job_id="j1", outcome=REFUSED))
    assert seen(ledger).outcome == REFUSED
    carried = pickle.dumps(ledger)
    assert b"moderated" not in carried
    assert seen(pickle.loads(carried)).outcome == without_service_words(REFUSED, "j1")


def test_which_fields_of_a_job_may_repeat_the_prompt_is_decided_for_each() -> None:
    """Who adds a field to ``FluxJob`` decides whether a ledger may store what is in it."""
    may_be_stored = {"job_id", "status", "images", "cost", "refunded", "charge", "model"}
    not_in_an_outcome = {"request", "queries", "elapsed"}
    fields = set(FluxJob.model_fields) - may_be_stored - not_in_an_outcome - {"base_url"}
    told = without_service_words(dict.fromkeys(fields, PROMPT), "j1") or {}
    assert {name for name, value in told.items() if value == PROMPT} == set()


# --- keys and digests ---------------------------------------------------------------------------


def test_a_purchase_key_names_the_service() -> None:
    """A job of the sandbox is never followed on the live service."""
    here, there = (purchase_key(url, "k") for url in ("http://127.0.0.1:1", "https://a.example"))
    assert here == "http://127.0.0.1:1 k"
    assert here != there


def test_a_long_purchase_key_is_kept_as_a_hash_of_all_of_it() -> None:
    """An index of PostgreSQL takes no more than 2,700 bytes; the ends of keys still tell apart."""
    long = "🦊" * 998
    url = "https://a.example/" + "x" * 200
    keys = [
        purchase_key("https://a.example", long + "a"),
        purchase_key("https://a.example", long + "b"),
        purchase_key("https://b.example", long + "a"),
        purchase_key(url + "1", long),
        purchase_key(url + "2", long),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(key) <= 500 for key in keys)


def test_a_digest_tells_every_argument_apart_and_does_not_tell_the_prompt() -> None:
    """It answers whether a key comes again with other arguments."""
    fox = FluxRequest(prompt=PROMPT, aspect_ratio="1:1", num_images=1, performance="dev")
    others = [
        fox.model_copy(update=change)
        for change in (
            {},
            {"prompt": PROMPT + " "},
            {"aspect_ratio": "16:9"},
            {"num_images": 2},
            {"performance": "schnell"},
        )
    ]
    digests = [request_digest("https://a.example", "m", one) for one in others]
    digests += [
        request_digest("https://b.example", "m", fox),
        request_digest("https://a.example", "n", fox),
    ]
    assert len(set(digests)) == len(digests)
    assert digests[0] == request_digest("https://a.example", "m", fox.model_copy())
    assert all(len(digest) == 64 and "fox" not in digest for digest in digests)


# --- in memory ----------------------------------------------------------------------------------


def with_one_of_each() -> MemoryLedger:
    """Open entries in each state and three that have ended, at most two of which are kept."""
    ledger = MemoryLedger(ended_entries=2)
    for key in ("claimed", "unknown", "bought", "first", "second", "third"):
        ledger.claim(replace(CLAIM, key=key))
    ledger.ended(Ended("unknown", "unknown", holder="me"))
    ledger.bought(Bought("bought", "me", "j"))
    for key in ("first", "second", "third"):
        ledger.bought(Bought(key, "me", key))
    for key in ("second", "first", "third"):
        ledger.ended(Ended(key, "ended", job_id=key, outcome=OUTCOME))
    return ledger


def test_memory_drops_the_oldest_endings_and_nothing_that_is_open() -> None:
    """A long-lived server must not grow for ever, and must not forget a job that it pays for."""
    ledger = with_one_of_each()
    assert len(ledger) == 5
    assert [seen(ledger, key).state for key in ("claimed", "unknown", "bought")] == [
        *("claimed", "unknown", "bought"),
    ]
    assert [seen(ledger, key).state for key in ("first", "third")] == ["ended", "ended"]
    assert seen(ledger, "second").holder == "an onlooker"  # free: it ended first


def test_a_memory_without_room_keeps_open_entries_all_the_same() -> None:
    """0 says how many endings are kept, not how many jobs may run."""
    ledger = MemoryLedger(ended_entries=0)
    ledger.claim(CLAIM)
    ledger.bought(Bought(KEY, "me", "j1"))
    assert seen(ledger).job_id == "j1"
    ledger.ended(Ended(KEY, "ended", job_id="j1", outcome=OUTCOME))
    assert len(ledger) == 0


def test_memory_keeps_ten_thousand_endings_unless_told_otherwise() -> None:
    """The documented bound."""
    ledger = MemoryLedger()
    for number in range(10_001):
        key = str(number)
        ledger.claim(replace(CLAIM, key=key))
        ledger.bought(Bought(key, "me", key))
        ledger.ended(Ended(key, "ended", job_id=key, outcome=OUTCOME))
    assert len(ledger) == 10_000


@pytest.mark.parametrize("bound", ["ended_entries", "open_entries", "open_seconds"])
@pytest.mark.parametrize("value", [-1, math.nan])
def test_a_negative_bound_is_refused(bound: str, value: Any) -> None:
    """It could only be a mistake."""
    with pytest.raises(ValueError, match=f"{bound}={value}: 0 or more"):
        MemoryLedger(**{bound: value})


def with_three_open(now: float) -> MemoryLedger:
    """At most two of these are kept once they are a day old; then one more is claimed."""
    ledger = MemoryLedger(open_entries=2)
    for number, key in enumerate(("unknown", "bought", "claimed")):
        ledger.claim(replace(CLAIM, key=key, now=float(number)))
    ledger.ended(Ended("unknown", "unknown", holder="me"))
    ledger.bought(Bought("bought", "me", "j1"))
    ledger.claim(replace(CLAIM, key="new", now=now))
    return ledger


def test_memory_drops_old_open_entries_beyond_its_bound_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Jobs that were left at their timeout would pile up for ever; each stands for money."""
    with caplog.at_level(logging.WARNING, "langchain_shortapi_flux"):
        ledger = with_three_open(now=A_DAY + 1.0)
    assert (len(ledger), set(ledger._open)) == (2, {"claimed", "new"})
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            (
                "the ledger in memory is full and has dropped the unknown entry of key unknown, "
                "claimed 86401 s ago; job unknown"
            ),
        ),
        (
            "WARNING",
            (
                "the ledger in memory is full and has dropped the bought entry of key bought, "
                "claimed 86400 s ago; job j1"
            ),
        ),
    ]


def test_memory_drops_no_open_entry_that_is_younger_than_a_day(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Some call may still be waiting for its job, so the bound gives way."""
    ledger = with_three_open(now=A_DAY - 0.1)
    assert len(ledger) == 4
    assert caplog.records == []


def test_memory_drops_no_open_entry_within_its_bound() -> None:
    """However old: a graph may be resumed after a month."""
    ledger = MemoryLedger(open_entries=2)
    ledger.claim(replace(CLAIM, now=0.0))
    ledger.claim(replace(CLAIM, key="new", now=1000 * A_DAY))
    assert len(ledger) == 2


def test_the_age_of_an_open_entry_is_that_of_its_last_claim() -> None:
    """A key that was bought again is as new as that."""
    ledger = MemoryLedger(open_entries=2, open_seconds=100.0)
    for number, key in enumerate(("again", "old", "older")):
        ledger.claim(replace(CLAIM, key=key, now=float(number)))
    ledger.claim(replace(CLAIM, key="again", holder="you", now=150.0, instead_of="me"))
    assert set(ledger._open) == {"older", "again"}


def test_memory_keeps_fifty_thousand_open_entries_unless_told_otherwise() -> None:
    """The documented bounds."""
    ledger = MemoryLedger()
    for number in range(50_001):
        ledger.claim(replace(CLAIM, key=str(number), now=0.0))
    assert len(ledger) == 50_001
    ledger.claim(replace(CLAIM, now=A_DAY - 0.1))
    assert len(ledger) == 50_002
    ledger.claim(replace(CLAIM, key="a day later", now=A_DAY))
    assert len(ledger) == 50_000


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_of_a_memory_share_what_was_bought(
    duplicate: Callable[[MemoryLedger], MemoryLedger],
) -> None:
    """LangChain copies Runnables freely, and a copy that forgot would buy again."""
    ledger = MemoryLedger()
    duplicate(ledger).claim(CLAIM)
    assert seen(ledger).holder == "me"


def test_a_pickled_memory_remembers_and_goes_its_own_way() -> None:
    """Another process shares no memory; it starts from what was known."""
    ledger = with_one_of_each()
    other: MemoryLedger = pickle.loads(pickle.dumps(ledger))
    keys = ("claimed", "unknown", "bought", "first", "third")
    assert [seen(other, key) for key in keys] == [seen(ledger, key) for key in keys]
    other.claim(replace(CLAIM, key="only there"))
    assert (len(other), len(ledger)) == (6, 5)


def test_memory_keeps_no_prompt() -> None:
    """Nobody told it to, and its pickles travel."""
    ledger = MemoryLedger()
    ledger.claim(CLAIM)
    assert seen(ledger).prompt is None
    assert PROMPT.encode() not in pickle.dumps(ledger)
    assert repr(ledger) == "MemoryLedger(1 entries)"


# --- in a database ------------------------------------------------------------------------------


def test_a_database_outlives_its_ledger(url: str) -> None:
    """What it is for: the next process finds what this one bought."""
    first = SqlLedger(url)
    first.claim(CLAIM)
    first.bought(Bought(KEY, "me", "j1"))
    first.close()
    assert seen(first).job_id == "j1"  # the next use opens it again
    first.close()
    first.close()
    second = SqlLedger(url)
    assert seen(second).job_id == "j1"
    second.close()


def test_two_ledgers_on_one_url_grant_a_key_once(kept: SqlLedger, url: str) -> None:
    """As two processes would, each with its own connections."""
    other = SqlLedger(url)
    for key in ("one", "two"):
        found = all_at_once(
            lambda number, key=key: (kept, other)[number % 2].claim(  # type: ignore[misc]
                replace(CLAIM, key=key, holder=str(number))
            )
        )
        assert len({entry.holder for entry in found}) == 1
    other.close()


def test_every_entry_can_be_listed_oldest_first(kept: SqlLedger) -> None:
    """For whoever looks after what was bought."""
    for key, now in (("b", 2.0), ("c", 3.0), ("a", 1.0)):
        kept.claim(replace(CLAIM, key=key, now=now))
    assert [(entry.key, entry.claimed_at) for entry in kept.entries()] == [
        *(("a", 1.0), ("b", 2.0), ("c", 3.0)),
    ]


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda ledger: pickle.loads(pickle.dumps(ledger))]
)
def test_copies_and_pickles_of_a_sql_ledger_read_the_same_database(
    kept: SqlLedger, duplicate: Callable[[SqlLedger], SqlLedger]
) -> None:
    """A ``ShortAPIFlux`` is copied and pickled with its ledger, open connections or not."""
    kept.claim(CLAIM)
    of_an_open_one = duplicate(kept)
    assert seen(of_an_open_one) == seen(kept)
    of_an_open_one.close()
    kept.close()
    of_a_closed_one = duplicate(kept)
    assert seen(of_a_closed_one).holder == "me"
    of_a_closed_one.close()


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda ledger: pickle.loads(pickle.dumps(ledger))]
)
def test_copies_and_pickles_of_a_sql_ledger_keep_its_settings_and_its_password(
    duplicate: Callable[[SqlLedger], SqlLedger],
) -> None:
    """They have to reach the same database; that a pickle holds the password is documented."""
    url = f"postgresql+psycopg://me:{PASSWORD}@db.example/flux"
    other = duplicate(SqlLedger(url, store_prompts=True, timeout=2.5))
    assert (other.store_prompts, other.timeout) == (True, 2.5)
    assert other._database.url.password == PASSWORD
    assert "A pickle of it holds the URL with its password" in (SqlLedger.__doc__ or "")


def with_old_and_new(ledger: SqlLedger) -> SqlLedger:
    """One entry in each state claimed at second 100, and an ended one each before and after."""
    for key, now in (("older", 99.0), ("claimed", 100.0), ("unknown", 100.0), ("bought", 100.0)):
        ledger.claim(replace(CLAIM, key=key, now=now))
    for key, now in (("ended", 100.0), ("newer", 101.0)):
        ledger.claim(replace(CLAIM, key=key, now=now))
    ledger.ended(Ended("unknown", "unknown", holder="me"))
    ledger.bought(Bought("bought", "me", "j"))
    for key in ("older", "ended", "newer"):
        ledger.ended(Ended(key, "ended", holder="me", job_id=key, outcome=OUTCOME))
    return ledger


@pytest.mark.parametrize(
    ("before", "open_too", "gone"),
    [
        (99.0, False, set()),
        (100.0, False, {"older"}),
        (100.5, False, {"older", "ended"}),
        (100.5, True, {"older", "ended", "claimed", "unknown", "bought"}),
        (102.0, False, {"older", "ended", "newer"}),
    ],
)
def test_pruning_deletes_old_endings_and_open_entries_only_if_asked(
    kept: SqlLedger, before: float, open_too: bool, gone: set[str]
) -> None:
    """A table that only grows is nobody's friend; an open entry stands for money."""
    every = {"older", "claimed", "unknown", "bought", "ended", "newer"}
    with_old_and_new(kept)
    count = kept.prune(before, open_too=open_too) if open_too else kept.prune(before)
    assert count == len(gone)
    assert {entry.key for entry in kept.entries()} == every - gone


@pytest.mark.parametrize("ahead", [3600.0, 1e12, math.inf, math.nan])
def test_pruning_up_to_the_future_is_refused(kept: SqlLedger, ahead: float) -> None:
    """Milliseconds, say; every key that ended would buy again."""
    with_old_and_new(kept)
    with pytest.raises(ValueError, match=r"before=\S+: Unix seconds, at most now \(\d+\)"):
        kept.prune(time.time() + ahead)
    assert len(list(kept.entries())) == 6


def test_prompts_are_stored_only_where_that_was_asked_for(url: str) -> None:
    """They may be private; for knowing a request again a hash is enough."""
    discreet, telling = SqlLedger(url), SqlLedger(url, store_prompts=True)
    assert discreet.claim(CLAIM).prompt is None
    telling.claim(replace(CLAIM, key="told"))
    prompts = {entry.key: entry.prompt for entry in telling.entries()}
    assert prompts == {KEY: None, "told": PROMPT}
    discreet.close()
    telling.close()


@pytest.mark.parametrize("store_prompts", [False, True])
@pytest.mark.parametrize("kind", ["none", "job_fails", "drop_after"])
def test_the_files_of_a_database_hold_no_secret_and_no_prompt(
    kind: str, store_prompts: bool, tmp_path: Path, sandbox: Sandbox
) -> None:
    """Byte by byte, also in the log beside it, and where the service repeats the prompt."""
    info = f"refused: {PROMPT}, that is {PROMPT.upper()}, for key {sandbox.api_key}"
    sandbox.inject(Fault("create", kind, info=info))
    ledger = SqlLedger(f"sqlite:///{tmp_path}/flux-jobs.db", store_prompts=store_prompts)
    flux = flux_on(sandbox, ledger=ledger)
    asked = {"prompt": PROMPT, "request_key": "order 66"}
    flux.batch([asked, asked], return_exceptions=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ledger.close()
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "flux-jobs.db-wal" in before
    for files in (before, after):
        everything = b"".join(files.values())
        assert b"order 66" in everything
        assert sandbox.api_key.encode() not in everything
        assert (PROMPT.encode() in everything) is store_prompts
        assert store_prompts or PROMPT.upper().encode() not in everything


def test_a_reason_that_repeats_the_prompt_is_told_but_not_kept(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """The first caller reads the service's own words, the next one what the ledger may keep."""
    sandbox.inject(Fault("create", "job_fails", info=f"moderated: {PROMPT}"))
    flux = flux_on(sandbox, ledger=SqlLedger(f"sqlite:///{tmp_path}/flux-jobs.db"))
    asked = {"prompt": PROMPT, "request_key": "k"}
    with pytest.raises(JobFailed, match=f"moderated: {PROMPT}"):
        flux.invoke(asked)
    with pytest.raises(JobFailed, match="what the service said of it is not stored") as caught:
        flux.invoke(asked)
    assert caught.value.job_id == sandbox.jobs[0].job_id
    assert (caught.value.charge, PROMPT in str(caught.value)) == ("refunded", False)


def test_sqlite_writes_ahead_and_syncs(tmp_path: Path) -> None:
    """Readers beside a writer, and a commit that a power cut does not take back."""
    ledger = SqlLedger(f"sqlite:///{tmp_path}/flux-jobs.db")
    ledger.claim(CLAIM)
    with ledger._database.transaction(60) as connection:
        assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("pragma synchronous").scalar() == 2
    ledger.close()


def test_who_may_use_the_table_need_not_be_allowed_to_make_it(postgres_url: str) -> None:
    """An administrator may have made it, as services are run with few rights."""
    maker = SqlLedger(table_dropped(postgres_url))
    maker.claim(CLAIM)
    maker.close()
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.begin() as connection:
        for statement in (
            "drop role if exists clerk",
            "create role clerk login",
            "revoke create on schema public from public",
            "grant select, insert, update, delete on flux_jobs to clerk",
        ):
            connection.execute(sqlalchemy.text(statement))
    clerk = SqlLedger(postgres_url.replace("//postgres", "//clerk", 1))
    assert seen(clerk).holder == "me"
    clerk.close()
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("drop owned by clerk"))
        connection.execute(sqlalchemy.text("drop role clerk"))
    engine.dispose()


def test_a_password_is_not_shown() -> None:
    """Ledgers are printed in logs and notebooks."""
    ledger = SqlLedger(f"postgresql+psycopg://me:{PASSWORD}@db.example/flux")
    assert repr(ledger) == "SqlLedger('postgresql+psycopg://me:***@db.example/flux')"
    assert PASSWORD not in str(ledger)


@pytest.mark.parametrize("url", ["", PASSWORD, f"//{PASSWORD}", f"postgresql:me:{PASSWORD}@host"])
def test_what_is_no_url_is_refused_without_being_shown(url: str) -> None:
    """A mistyped URL holds its password all the same."""
    with pytest.raises(ValueError, match="no database URL such as") as caught:
        SqlLedger(url)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "kind",
    [
        *("unheard", "mysql", "mysql+pymysql", "postgres", "postgresql+asyncpg"),
        *("postgresql+pg8000", "sqlite+aiosqlite"),
    ],
)
def test_a_database_or_driver_that_is_not_known_is_refused(kind: str) -> None:
    """Its locks and limits would be anybody's guess; an asynchronous one could not be asked."""
    with pytest.raises(ValueError, match=r"allowed are sqlite://, .*, postgresql\+psycopg2://$"):
        SqlLedger(f"{kind}://me:{PASSWORD}@host/flux")


def test_a_url_object_is_a_url(tmp_path: Path) -> None:
    """It spares the escaping of passwords."""
    ledger = SqlLedger(sqlalchemy.URL.create("sqlite", database=f"{tmp_path}/flux-jobs.db"))
    assert ledger.claim(CLAIM).holder == "me"
    ledger.close()


@pytest.mark.parametrize("timeout", [0.0, -1.0, 3600.5, math.inf, math.nan])
def test_a_timeout_out_of_bounds_is_refused(timeout: float) -> None:
    """No wait without an end."""
    with pytest.raises(ValueError, match=r"timeout=\S+: above 0, at most 3600 seconds"):
        SqlLedger("sqlite:///flux-jobs.db", timeout=timeout)


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite:///:memory:"),
        *("sqlite:///file::memory:?uri=true", "sqlite:///file:x?mode=memory&cache=shared&uri=true"),
    ],
)
def test_a_database_in_memory_is_refused(url: str) -> None:
    """Each connection would have its own, and a key would be granted to each."""
    with pytest.raises(ValueError, match=r"in memory; use MemoryLedger\(\)"):
        SqlLedger(url)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:1/flux?connect_timeout=1",
        f"sqlite:////nowhere/{PASSWORD}/flux-jobs.db",
    ],
)
@pytest.mark.parametrize(
    "act", [CLAIM, Bought(KEY, "me", "j1"), Ended(KEY, "ended", job_id="j1")], ids=type
)
def test_of_a_keeper_in_trouble_only_the_kind_is_told(
    url: str, act: Claim | Bought | Ended
) -> None:
    """The error's text may hold the URL, and with it the password."""
    ledger = SqlLedger(url)
    answer = perform_ledger_act(ledger, act)
    assert isinstance(answer, LedgerTrouble)
    assert answer.reason == "OperationalError"
    ledger.close()


def test_a_table_of_another_shape_is_a_trouble(tmp_path: Path) -> None:
    """Somebody else's table must not be taken for a ledger, nor harmed."""
    url = f"sqlite:///{tmp_path}/other.db"
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table flux_jobs (shoe_size integer)"))
    engine.dispose()
    ledger = SqlLedger(url)
    assert perform_ledger_act(ledger, CLAIM) == LedgerTrouble("OperationalError")
    ledger.close()


def _claims_in_a_child(ledger: SqlLedger, rounds: int, said: Any) -> None:
    held = []
    for number in range(rounds):
        holder = f"{os.getpid()}-{number}"
        entry = ledger.claim(Claim(f"forked {number}", "d", holder, now=1.0, lease=9.0))
        held += [number] if entry.holder == holder else []
    ledger.close()
    said.send(held)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_does_not_share_the_parents_connections(postgres_url: str) -> None:
    """Servers fork workers from a warm parent; two that read each other's replies buy twice."""
    ledger = SqlLedger(table_dropped(postgres_url))
    assert list(ledger.entries()) == []  # the parent has an open connection
    fork, rounds = multiprocessing.get_context("fork"), 20
    pipes = [fork.Pipe(duplex=False) for _ in range(3)]
    children = [
        fork.Process(target=_claims_in_a_child, args=(ledger, rounds, said)) for _, said in pipes
    ]
    for child in children:
        child.start()
    held = [number for heard, _ in pipes for number in heard.recv()]
    for child in children:
        child.join()
    assert sorted(held) == list(range(rounds))
    assert len(list(ledger.entries())) == rounds
    ledger.close()
    for ends in pipes:
        for end in ends:
            end.close()


def test_repr_hides_a_password_in_the_query_too() -> None:
    """PostgreSQL's URLs may hold it there."""
    shown = repr(SqlLedger("postgresql+psycopg:///db?user=u&password=hunter2"))
    assert "hunter2" not in shown
