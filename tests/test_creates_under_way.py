"""What is known of creates under way, and what is heard of them from what passes to a ledger."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from langchain_shortapi_flux import MemoryLedger
from langchain_shortapi_flux.command_line.command_options import ANSWER_SECONDS_MAX
from langchain_shortapi_flux.command_line.creates_under_way import LOOK_SECONDS, CreatesUnderWay
from langchain_shortapi_flux.ledger import Bought, Claim, Ended
from langchain_shortapi_flux.pace import QUERIES_PER_SECOND, Pace

if TYPE_CHECKING:
    from langchain_shortapi_flux.ledger import LedgerAct

CLAIM = Claim("k", "digest", "me", 0.0, 90.0)
BOUGHT = Bought("k", "me", "job1")
UNKNOWN = Ended("k", "unknown", holder="me")
RELEASED = Ended("k", "released", holder="me")
ENDED = Ended("k", "ended", holder="me", job_id="job1", outcome={})
AN_HOUR = 3600.0
SECONDS = 20.0


class _Broken(MemoryLedger):
    """Takes claims and no notes."""

    def bought(self, act: Bought) -> None:
        raise OSError

    def ended(self, act: Ended) -> None:
        raise OSError


class _Noting(MemoryLedger):
    """Remembers each act that it was asked to perform."""

    def __init__(self) -> None:
        super().__init__()
        self.acts: list[LedgerAct] = []

    def claim(self, claim: Claim) -> Any:
        self.acts.append(claim)
        return super().claim(claim)

    def bought(self, act: Bought) -> None:
        self.acts.append(act)
        super().bought(act)

    def ended(self, act: Ended) -> None:
        self.acts.append(act)
        super().ended(act)


def _perform(creates: CreatesUnderWay, *acts: LedgerAct) -> None:
    for act in acts:
        match act:
            case Claim():
                creates.claim(act)
            case Bought():
                creates.bought(act)
            case Ended():
                creates.ended(act)


@pytest.mark.parametrize(
    ("acts", "jobs"),
    [
        ((CLAIM,), {}),
        ((CLAIM, BOUGHT), {"k": "job1"}),
        ((CLAIM, BOUGHT, ENDED), {"k": "job1"}),
        ((CLAIM, UNKNOWN), {"k": None}),
        ((CLAIM, UNKNOWN, BOUGHT), {"k": "job1"}),
        ((CLAIM, RELEASED), {}),
        ((CLAIM, RELEASED, CLAIM), {}),
        ((ENDED,), {}),
    ],
)
def test_a_job_is_known_once_it_is_noted(
    acts: tuple[LedgerAct, ...], jobs: dict[str, str | None]
) -> None:
    """And as whose claim; and each act is performed, once, by the ledger behind it."""
    ledger = _Noting()
    creates = CreatesUnderWay(ledger, Pace())
    _perform(creates, *acts)
    assert creates.jobs == jobs
    assert creates.holders == dict.fromkeys(jobs, "me")
    assert ledger.acts == list(acts)


@pytest.mark.parametrize(("act", "job"), [(BOUGHT, "job1"), (UNKNOWN, None)])
async def test_what_a_ledger_fails_to_note_is_known_all_the_same(
    act: Bought | Ended, job: str | None
) -> None:
    """Its error is the flow's to hear, and the note is not waited for any more."""
    creates = CreatesUnderWay(_Broken(), Pace())
    creates.claim(CLAIM)
    with pytest.raises(OSError):
        _perform(creates, act)
    assert (creates.jobs, creates.holders) == ({"k": job}, {"k": "me"})
    await asyncio.wait_for(creates.answered(AN_HOUR), SECONDS)


def test_others_are_held_for_longer_than_those_under_way_are_waited_for() -> None:
    """Not even one that would have had its turn a moment later goes out; queries go on."""
    pace = Pace()
    pace.create_out(2)
    assert CreatesUnderWay(MemoryLedger(), pace).hold_others() == 2
    later = time.monotonic() + ANSWER_SECONDS_MAX
    assert pace.create_turn(later, 0.0) > ANSWER_SECONDS_MAX
    assert pace.turn(later, QUERIES_PER_SECOND) == pace.held(later) == 0.0


def test_a_claim_alone_is_no_create_under_way() -> None:
    """It may wait for its turn, and is not sent any more."""
    creates = CreatesUnderWay(MemoryLedger(), Pace())
    creates.claim(CLAIM)
    assert creates.hold_others() == 0


async def _waits(waiting: asyncio.Task[None]) -> bool:
    """Whether it goes on waiting after a look or two."""
    await asyncio.sleep(2 * LOOK_SECONDS)
    return not waiting.done()


async def test_answers_are_waited_for_until_the_last_one() -> None:
    """However many there are."""
    pace = Pace()
    pace.create_out(2)
    waiting = asyncio.create_task(CreatesUnderWay(MemoryLedger(), pace).answered(AN_HOUR))
    pace.create_out(-1)
    assert await _waits(waiting)
    pace.create_out(-1)
    await asyncio.wait_for(waiting, SECONDS)


class _Slow(_Noting):
    """Performs an act once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = threading.Event(), threading.Event()

    def bought(self, act: Bought) -> None:
        self.asked.set()
        assert self.may.wait(SECONDS)
        super().bought(act)


async def test_a_note_that_is_being_written_is_waited_for() -> None:
    """An answer alone helps nobody."""
    ledger = _Slow()
    creates = CreatesUnderWay(ledger, Pace())
    noting = asyncio.create_task(asyncio.to_thread(creates.bought, BOUGHT))
    assert await asyncio.to_thread(ledger.asked.wait, SECONDS)
    waiting = asyncio.create_task(creates.answered(AN_HOUR))
    assert await _waits(waiting)
    ledger.may.set()
    await asyncio.wait_for(waiting, SECONDS)
    await noting
    assert ledger.acts == [BOUGHT]


async def test_an_answer_that_never_comes_is_waited_for_only_so_long() -> None:
    """And where nothing is under way, not at all."""
    pace = Pace()
    creates = CreatesUnderWay(MemoryLedger(), pace)
    await asyncio.wait_for(creates.answered(AN_HOUR), SECONDS)
    pace.create_out(1)
    await asyncio.wait_for(creates.answered(0.01), SECONDS)
    assert pace.creates_out == 1
