"""Which creates of a batch are under way, and which jobs they came to.

It hears of the jobs from what passes to the ledger, where each is noted once its create is
answered; how many creates are out, the pace knows. It knows nothing of lines, signals and
terminals.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_shortapi_flux.ledger import Bought, Claim, Ended, Entry, Ledger
    from langchain_shortapi_flux.pace import Pace

HOLD_SECONDS = 60.0
"""How long further creates are held back: longer than anybody waits for those under way."""
LOOK_SECONDS = 0.05
"""How often to look whether they are answered."""


class CreatesUnderWay:
    """A ledger that passes every act on to another, and remembers what it hears.

    Args:
        ledger: Who keeps what was bought. What it raises is raised.
        pace: The process's pace at the service.

    Attributes:
        jobs: The job that each key was bought as since then; None where nobody can tell whether
            there is one.
        holders: As whose claim each of them was noted.
    """

    def __init__(self, ledger: Ledger, pace: Pace) -> None:
        self.blocking = ledger.blocking
        self.jobs: dict[str, str | None] = {}
        self.holders: dict[str, str] = {}
        self._ledger = ledger
        self._pace = pace
        self._lock = threading.Lock()
        self._acts = 0

    def claim(self, claim: Claim) -> Entry:
        """See ``Ledger``."""
        with self._acting():
            return self._ledger.claim(claim)

    def bought(self, act: Bought) -> None:
        """See ``Ledger``."""
        self.jobs[act.key], self.holders[act.key] = act.job_id, act.holder
        with self._acting():
            self._ledger.bought(act)

    def ended(self, act: Ended) -> None:
        """See ``Ledger``."""
        if act.result == "unknown":
            self.jobs[act.key] = None
            if act.holder is not None:
                self.holders[act.key] = act.holder
        with self._acting():
            self._ledger.ended(act)

    @contextmanager
    def _acting(self) -> Iterator[None]:
        with self._lock:
            self._acts += 1
        try:
            yield
        finally:
            with self._lock:
                self._acts -= 1

    def hold_others(self) -> int:
        """Let no further create go out; gives how many are under way.

        One that waits, to be repeated or for its turn, is not: it is not sent any more.
        """
        self._pace.hold_creates(time.monotonic(), HOLD_SECONDS)
        return self._pace.creates_out

    async def answered(self, seconds: float) -> None:
        """Wait until no create is under way and nothing being noted, or for so many seconds."""
        ends = time.monotonic() + seconds
        while self._pace.creates_out or self._acts:
            left = ends - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(LOOK_SECONDS, left))
