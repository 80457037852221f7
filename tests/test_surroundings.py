"""What is to be noted on leaving is noted, also where a thread leaves in the middle of an act."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from langchain_shortapi_flux.leave_taking import undisturbed
from langchain_shortapi_flux.ledger import Bought, Claim, MemoryLedger
from langchain_shortapi_flux.surroundings import PARTING_SECONDS, Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_shortapi_flux.ledger import Ended, Entry, LedgerAct

CLAIM = Claim(key="k", digest="d", holder="me", now=1.0, lease=90.0)
WAYS: dict[str, Callable[[Surroundings, LedgerAct], None]] = {
    "blocking": Surroundings.part,
    "async": Surroundings.leave,
}


class Keeper(MemoryLedger):
    """Says how much time it was given, or that it is broken."""

    def __init__(self, *, breaks: bool = False, blocking: bool = False) -> None:
        super().__init__()
        self.given: list[float] = []
        self.breaks, self.blocking = breaks, blocking

    def claim(self, claim: Claim) -> Entry:
        self._note(claim)
        return super().claim(claim)

    def bought(self, act: Bought) -> None:
        self._note(act)

    def _note(self, act: Claim | Bought | Ended) -> None:
        if self.breaks:
            raise OSError("no space")
        self.given.append(act.time_left)


@pytest.mark.parametrize("way", WAYS)
def test_who_leaves_in_the_middle_of_an_act_notes_it_after_that(way: str) -> None:
    """All of it, in its order."""
    keeper = Keeper()
    surroundings = Surroundings(keeper)

    def act() -> None:
        WAYS[way](surroundings, CLAIM)
        WAYS[way](surroundings, Bought("k", "me", "j"))
        assert keeper.given == []

    undisturbed(act)
    assert len(keeper.given) == 2


@pytest.mark.parametrize("put_off", [False, True])
def test_who_leaves_blocking_is_held_for_a_moment_at_most(put_off: bool) -> None:
    """For each thing that there is to note, counted from when it is noted."""
    keeper = Keeper()
    leave = partial(Surroundings(keeper).part, CLAIM)
    undisturbed(leave) if put_off else leave()
    assert keeper.given == [PARTING_SECONDS]


@pytest.mark.parametrize("way", WAYS)
def test_what_could_not_be_noted_after_an_act_is_told(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And does not reach whoever the act is of."""

    def act() -> str:
        WAYS[way](Surroundings(Keeper(breaks=True)), CLAIM)
        return caplog.text

    assert undisturbed(act) == ""
    assert "could not note Claim of key k (OSError) when it was left" in caplog.text


async def test_a_loop_notes_in_order_what_is_left_and_waits_for_nothing() -> None:
    """With a keeper that blocks, in a thread."""
    keeper = Keeper(blocking=True)
    surroundings = Surroundings(keeper)
    surroundings.leave(CLAIM)
    surroundings.leave(Bought("k", "me", "j", time_left=5.0))
    await asyncio.get_running_loop().shutdown_default_executor()
    assert keeper.given[0] > keeper.given[1] > 0
