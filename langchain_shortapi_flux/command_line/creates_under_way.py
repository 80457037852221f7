"""Which creates of a batch are under way, and which jobs they came to.

It hears that from what passes to the ledger: each create is claimed there before it is sent, and
noted there once it is answered. It knows nothing of lines, signals and terminals.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_shortapi_flux.ledger import Bought, Claim, Ended, Entry, Ledger
    from langchain_shortapi_flux.pace import Pace

HOLD_SECONDS = 60.0
"""How long further creates are held back: longer than anybody waits for those under way."""


class CreatesUnderWay:
    """A ledger that passes every act on to another, and remembers what it hears.

    A create that is to be repeated, or waits for its turn among others after HTTP 429, is under
    way as well: the ledger is told of its end alone.

    Args:
        ledger: Who keeps what was bought. What it raises is raised.
        pace: The process's pace at the service.

    Attributes:
        jobs: The job that each key was bought as since then; None where nobody can tell whether
            there is one.
    """

    def __init__(self, ledger: Ledger, pace: Pace) -> None:
        self.blocking = ledger.blocking
        self.jobs: dict[str, str | None] = {}
        self._ledger = ledger
        self._pace = pace
        self._lock = threading.Lock()
        self._unanswered: dict[str, Future[None]] = {}

    def claim(self, claim: Claim) -> Entry:
        """See ``Ledger``."""
        found = self._ledger.claim(claim)
        if found.holder == claim.holder:
            with self._lock:
                self._unanswered.setdefault(claim.key, Future())
        return found

    def bought(self, act: Bought) -> None:
        """See ``Ledger``."""
        self.jobs[act.key] = act.job_id
        try:
            self._ledger.bought(act)
        finally:
            self._is_answered(act.key)

    def ended(self, act: Ended) -> None:
        """See ``Ledger``."""
        if act.result == "unknown":
            self.jobs[act.key] = None
        try:
            self._ledger.ended(act)
        finally:
            self._is_answered(act.key)

    def _is_answered(self, key: str) -> None:
        with self._lock:
            answered = self._unanswered.pop(key, None)
        if answered is not None:
            answered.set_result(None)

    def hold_others(self) -> int:
        """Let no further create go out; gives how many are under way."""
        # Queries wait as well: a job that is merely followed need not end before the process does.
        self._pace.slow_down(time.monotonic(), HOLD_SECONDS)
        with self._lock:
            return len(self._unanswered)

    async def answered(self, seconds: float) -> None:
        """Wait until all that are under way now are answered and noted, or for so many seconds."""
        with self._lock:
            answers = [asyncio.wrap_future(one) for one in self._unanswered.values()]
        if answers:
            await asyncio.wait(answers, timeout=seconds)
