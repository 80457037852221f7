"""What a driver performs besides HTTP: noting in the ledger, asking the rate limiter for a turn.

It knows who keeps and who limits, how each is asked from blocking and from async code, and nothing
of jobs.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_shortapi_flux.flow_steps import Acquire, Turn, logger
from langchain_shortapi_flux.leave_taking import take_leave
from langchain_shortapi_flux.ledger import LedgerTrouble, perform_ledger_act

if TYPE_CHECKING:
    from langchain_core.rate_limiters import BaseRateLimiter

    from langchain_shortapi_flux.flow_steps import Answer
    from langchain_shortapi_flux.ledger import Ledger, LedgerAct


TURN_LOOK_SECONDS = 0.1
"""How often blocking code looks for a turn, unless the limiter has a ``check_every_n_seconds``."""
TURN_LOOK_SECONDS_MIN = 0.001
PARTING_SECONDS = 1.0
"""How long one who leaves may be held by a ledger, for each thing there is to note."""


class Surroundings:
    """The ledger and the rate limiter of one run of a flow.

    Args:
        ledger: Who keeps what was bought.
        rate_limiter: Who is asked before each create; None where nobody is. On an event loop it
            is asked once, and waited for until the job's deadline. Blocking code looks for a turn
            again and again, at the limiter's own pace: a thread that waits inside of a limiter
            cannot be called back at the deadline, and would take a turn from others later.
    """

    def __init__(self, ledger: Ledger, rate_limiter: BaseRateLimiter | None = None) -> None:
        self._ledger = ledger
        self._rate_limiter = rate_limiter
        self._noted: threading.Event | None = None

    def perform(self, act: LedgerAct | Acquire) -> Answer | None:
        """Perform an act, blocking."""
        if not isinstance(act, Acquire):
            return perform_ledger_act(self._ledger, act)
        limiter = self._rate_limiter
        try:
            if limiter is None or limiter.acquire(blocking=False):
                return Turn(granted=True)
            return Turn(granted=False, again=_look_seconds(limiter))
        except Exception as error:  # noqa: BLE001 - a limiter's own errors, of whatever library
            return Turn(granted=False, trouble=type(error).__name__)

    async def aperform(self, act: LedgerAct | Acquire) -> Answer | None:
        """The async twin of ``perform``: a blocking ledger is asked in a thread."""
        if isinstance(act, Acquire):
            return await self._acquire(act)
        if not self._ledger.blocking:
            return perform_ledger_act(self._ledger, act)
        # Once begun it is carried through, also if this task is cancelled: one that waits for a
        # free thread would otherwise never be noted.
        return await asyncio.shield(self._note(act))

    def part(self, act: LedgerAct) -> None:
        """Perform an act on leaving, blocking for a moment at most.

        Where the garbage collector makes it leave in the middle of another act of this thread, it
        is performed right after that.
        """
        self._perform_on_leaving(replace(act, time_left=PARTING_SECONDS))

    def leave(self, act: LedgerAct) -> None:
        """Perform an act on leaving without holding the running event loop; wait for nothing."""
        if self._ledger.blocking:
            self._note(act).add_done_callback(lambda noted: _told(act, noted.result()))
        else:
            self._perform_on_leaving(act)

    def _perform_on_leaving(self, act: LedgerAct) -> None:
        take_leave(lambda: _told(act, perform_ledger_act(self._ledger, act)))

    def _note(self, act: LedgerAct) -> asyncio.Future[Answer | None]:
        before, done, asked = self._noted, threading.Event(), time.monotonic()
        self._noted = done

        def note() -> Answer | None:
            # One that was left while it was under way may be in another thread still.
            if before is not None:
                before.wait()
            try:
                return perform_ledger_act(self._ledger, act, asked)
            finally:
                done.set()

        return asyncio.get_running_loop().run_in_executor(None, note)

    async def _acquire(self, act: Acquire) -> Turn:
        limiter = self._rate_limiter
        try:
            async with asyncio.timeout(act.time_left) as deadline:
                return Turn(limiter is None or await limiter.aacquire(blocking=True))
        except Exception as error:  # noqa: BLE001 - as above
            over = isinstance(error, TimeoutError) and deadline.expired()
            return Turn(granted=False, trouble=None if over else type(error).__name__)


def _look_seconds(limiter: BaseRateLimiter) -> float:
    own = getattr(limiter, "check_every_n_seconds", None)
    return max(own, TURN_LOOK_SECONDS_MIN) if isinstance(own, (int, float)) else TURN_LOOK_SECONDS


def _told(act: LedgerAct, answer: Answer | None) -> None:
    if isinstance(answer, LedgerTrouble):
        logger.error(
            "the ledger could not note %s of key %s (%s) when it was left",
            type(act).__name__,
            act.key,
            answer.reason,
        )
