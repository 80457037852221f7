"""What is heard of creates under way from what passes to a ledger."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from langchain_shortapi_flux import MemoryLedger
from langchain_shortapi_flux.command_line.command_options import ANSWER_SECONDS_MAX
from langchain_shortapi_flux.command_line.creates_under_way import CreatesUnderWay
from langchain_shortapi_flux.ledger import Bought, Claim, Ended
from langchain_shortapi_flux.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_shortapi_flux.ledger import LedgerAct

CLAIM = Claim("k", "digest", "me", 0.0, 90.0)
BOUGHT = Bought("k", "me", "job1")
UNKNOWN = Ended("k", "unknown", holder="me")
RELEASED = Ended("k", "released", holder="me")
ENDED = Ended("k", "ended", holder="me", job_id="job1", outcome={})
AN_HOUR = 3600.0


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
    ("acts", "under_way", "jobs"),
    [
        ((CLAIM,), 1, {}),
        ((CLAIM, CLAIM), 1, {}),
        ((CLAIM, BOUGHT), 0, {"k": "job1"}),
        ((CLAIM, BOUGHT, ENDED), 0, {"k": "job1"}),
        ((CLAIM, UNKNOWN), 0, {"k": None}),
        ((CLAIM, UNKNOWN, BOUGHT), 0, {"k": "job1"}),
        ((CLAIM, RELEASED), 0, {}),
        ((CLAIM, RELEASED, CLAIM), 1, {}),
        ((ENDED,), 0, {}),
    ],
)
def test_a_create_is_under_way_from_its_claim_until_its_answer_is_noted(
    acts: tuple[LedgerAct, ...], under_way: int, jobs: dict[str, str | None]
) -> None:
    """And each act is performed, once, by the ledger behind it."""
    ledger = _Noting()
    creates = CreatesUnderWay(ledger, Pace())
    _perform(creates, *acts)
    assert creates.hold_others() == under_way
    assert creates.jobs == jobs
    assert ledger.acts == list(acts)


def test_what_another_has_claimed_is_not_under_way_here() -> None:
    """Nobody waits for another run's create."""
    ledger = MemoryLedger()
    ledger.claim(Claim("k", "digest", "another", 0.0, 90.0))
    creates = CreatesUnderWay(ledger, Pace())
    assert creates.claim(CLAIM).holder == "another"
    assert creates.hold_others() == 0


@pytest.mark.parametrize(("act", "job"), [(BOUGHT, "job1"), (UNKNOWN, None)])
def test_what_a_ledger_fails_to_note_is_known_all_the_same(
    act: Bought | Ended, job: str | None
) -> None:
    """Its error is the flow's to hear, and the create is not waited for any more."""
    creates = CreatesUnderWay(_Broken(), Pace())
    creates.claim(CLAIM)
    with pytest.raises(OSError):
        _perform(creates, act)
    assert (creates.hold_others(), creates.jobs) == (0, {"k": job})


def test_others_are_held_for_longer_than_those_under_way_are_waited_for() -> None:
    """Not even one that would have had its turn a moment later goes out."""
    pace = Pace()
    CreatesUnderWay(MemoryLedger(), pace).hold_others()
    assert pace.create_turn(time.monotonic() + ANSWER_SECONDS_MAX, 0.0) > ANSWER_SECONDS_MAX


async def _wait_while(creates: CreatesUnderWay, act: Callable[[], None], seconds: float) -> None:
    """Wait for the answers, doing something in another thread meanwhile."""
    waiting = asyncio.create_task(creates.answered(seconds))
    await asyncio.sleep(0)  # it has begun to wait
    await asyncio.to_thread(act)
    await waiting


async def test_answers_are_waited_for_until_the_last_one() -> None:
    """Not for those that were claimed after: these are held back."""
    ledger = _Noting()
    creates = CreatesUnderWay(ledger, Pace())
    others = [Claim(key, "digest", "me", 0.0, 90.0) for key in ("k2", "later")]
    _perform(creates, CLAIM, others[0])

    def answer() -> None:
        _perform(creates, others[1], BOUGHT, Ended("k2", "released", holder="me"))

    await _wait_while(creates, answer, AN_HOUR)
    assert len(ledger.acts) == 5
    assert creates.hold_others() == 1  # the later one


async def test_an_answer_that_never_comes_is_waited_for_only_so_long() -> None:
    """And where nothing is under way, not at all."""
    creates = CreatesUnderWay(MemoryLedger(), Pace())
    await creates.answered(AN_HOUR)
    creates.claim(CLAIM)
    await creates.answered(0.01)
    assert creates.hold_others() == 1
    creates.bought(BOUGHT)  # after all, and nobody minds
