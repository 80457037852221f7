"""Many flows at once on paper: one clock that only waits move, one service that answers them all.

It knows how a driver takes turns among flows, and nothing of what they do.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from screenplay import MODEL, REQUEST, Clock, here
from transcripts import CREATED, TOO_MANY

from langchain_shortapi_flux import ShortAPIError
from langchain_shortapi_flux.flow_steps import Order, leave
from langchain_shortapi_flux.http_acts import HttpRequest
from langchain_shortapi_flux.job_flow import create_job
from langchain_shortapi_flux.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from langchain_shortapi_flux.flow_steps import Answer, JobFlow, Step
    from langchain_shortapi_flux.http_acts import HttpReply

ORDER = Order(REQUEST, MODEL)


@dataclass
class Bucket:
    """A service that allows so many creates per second, and as many at once; else it says 429."""

    per_second: float
    refusal: HttpReply = TOO_MANY
    refusals: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    _tokens: float | None = None

    def __call__(self, now: float) -> HttpReply:
        """Answer a create that arrives now."""
        tokens = self.per_second
        if self._tokens is not None:
            tokens = self._tokens + (now - self.asked[-1]) * self.per_second
        self.asked.append(now)
        self._tokens = min(tokens, self.per_second)
        if self._tokens < 1:
            self.refusals.append(now)
            return self.refusal
        self._tokens -= 1
        return CREATED


@dataclass
class Crowd:
    """Jobs that are all created from the same moment on, and what became of them."""

    service: Callable[[float], HttpReply]
    latency: float = 0.01
    pace: Pace = field(default_factory=Pace)
    clock: Clock = field(default_factory=Clock)
    ends: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    steps: int = 0
    creates: Counter[int] = field(default_factory=Counter)

    def create(self, count: int, leave_at: dict[int, float] | None = None, **changes: Any) -> None:
        """Create so many jobs; those numbers are left once they wait at or after that second."""
        dice, began = random.Random(7).random, self.clock()
        leave_at = leave_at or {}
        circumstances = here(self.clock, pace=self.pace, dice=dice, **changes)
        flows: list[JobFlow] = [create_job(ORDER, circumstances) for _ in range(count)]
        steps: list[Step | None] = [None] * count
        # When it goes on, with what: those who come first are served first.
        agenda: list[tuple[float, int, int, Answer | None]]
        agenda = [(began, number, number, None) for number in range(count)]
        turn = count
        while agenda:
            at, _, number, answer = heapq.heappop(agenda)
            self.clock.now = max(self.clock.now, at)
            waits = answer is None and steps[number] is not None
            if waits and self.clock() - began >= leave_at.get(number, float("inf")):
                leave(flows[number], steps[number], sent=False)
                self.ends["left"] += 1
                continue
            try:
                step = steps[number] = flows[number].send(answer)
            except StopIteration:
                self._ended("created", began)
                continue
            except ShortAPIError as error:
                self._ended(type(error).__name__, began)
                continue
            self.steps += 1
            turn += 1
            back = self.clock() + step.wait
            said: Answer | None = None
            if isinstance(step.act, HttpRequest):
                self.creates[number] += 1
                said = self.service(self.clock() + self.latency / 2)
                back += self.latency
            heapq.heappush(agenda, (back, turn, number, said))

    def _ended(self, how: str, began: float) -> None:
        self.ends[how] += 1
        self.seconds = self.clock() - began
