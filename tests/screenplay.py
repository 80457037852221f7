"""Runs a job flow on paper: a clock that only waits move, fixed dice, scripted answers, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux import FluxJob, FluxRequest, PollPolicy, RetryLimits, ShortAPIError
from langchain_shortapi_flux.flow_steps import Circumstances, JobFlow, Order, Step
from langchain_shortapi_flux.http_acts import HttpRequest
from langchain_shortapi_flux.job_flow import buy_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_shortapi_flux.flow_steps import Answer

MODEL = "shortapi/flux-1.0/text-to-image"
REQUEST = FluxRequest(prompt="a fox", aspect_ratio="1:1", num_images=1, performance="schnell")
BASE_URL = "https://api.shortapi.ai"
PLAIN_POLL = PollPolicy(first_delay=2.0, gap_share=0.1, gap_min=0.4, learn=False)


class Clock:
    """Monotonic seconds that only ``pass_by`` moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Let that much time pass."""
        self.now += seconds


def here(clock: Clock, base_url: str = BASE_URL, **changes: Any) -> Circumstances:
    """Plain policies and dice that change no poll wait and lengthen each retry by an eighth."""
    return Circumstances(
        **{
            "base_url": base_url,
            "loopback": False,
            "poll": PLAIN_POLL,
            "retry": RetryLimits(),
            "clock": clock,
            "dice": lambda: 0.5,
            "timeout": 300.0,
            "started": clock(),
            **changes,
        }
    )


@dataclass
class Play:
    """What happened: each step, and the job or the error at the end."""

    steps: list[Step] = field(default_factory=list)
    job: FluxJob | None = None
    error: ShortAPIError | None = None

    @property
    def waits(self) -> list[float]:
        """The wait before each act, however many steps it was spread over."""
        waits, waited = [], 0.0
        for step in self.steps:
            waited += step.wait
            if step.act is not None:
                waits.append(round(waited, 6))
                waited = 0.0
        return waits

    @property
    def paths(self) -> list[str]:
        """Where each act went, without its query string."""
        return [act.path.partition("?")[0] for act in self.requests]

    @property
    def requests(self) -> list[HttpRequest]:
        """Every call that was to be made."""
        return [step.act for step in self.steps if isinstance(step.act, HttpRequest)]

    @property
    def creates(self) -> int:
        """How often create was sent."""
        return self.paths.count("/job/create")

    @property
    def snapshots(self) -> list[FluxJob]:
        """What a watcher is shown, as both drivers do it: each new snapshot, then the job."""
        shown: list[FluxJob] = []
        for job in [*(step.job for step in self.steps), self.job]:
            if job is not None and (not shown or job is not shown[-1] or job is self.job):
                shown.append(job)
        return shown


def perform(
    flow: JobFlow, answers: Sequence[Answer], clock: Clock, *, exchange: float = 0.0
) -> Play:
    """Run a flow against answers, the last of which repeats; each takes ``exchange`` seconds."""
    play, answer = Play(), None
    try:
        while True:
            step = flow.send(answer)
            play.steps.append(step)
            assert len(play.steps) < 2000, "the flow does not end"
            clock.pass_by(step.wait)
            answer = None
            if step.act is not None:
                answer = answers[min(len(play.paths), len(answers)) - 1]
                clock.pass_by(exchange)
    except StopIteration as end:
        play.job = end.value
    except ShortAPIError as error:
        play.error = error
    return play


def buy(answers: Sequence[Answer], *, exchange: float = 0.0, **changes: Any) -> Play:
    """Buy a job on paper, with the default policies unless told otherwise."""
    clock = Clock()
    flow = buy_job(Order(REQUEST, MODEL), here(clock, **changes))
    return perform(flow, answers, clock, exchange=exchange)
