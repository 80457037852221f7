"""Many jobs at once, on one event loop: everything settles, and nothing that was paid for is lost.

It knows LangChain's way with batches and what is to be kept of each job. How a job is bought is
passed in; it knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from langchain_core.runnables.config import get_config_list, var_child_runnable_config

from langchain_shortapi_flux.errors import Charge, ShortAPIError
from langchain_shortapi_flux.flux_jobs import FluxJobs
from langchain_shortapi_flux.loop_thread import iterate_in_loop_thread, run_in_loop_thread
from langchain_shortapi_flux.run_progress import BatchSize, current_batch

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Generator,
        Iterator,
        Mapping,
        Sequence,
    )

    from langchain_core.runnables import RunnableConfig

    from langchain_shortapi_flux.flux_input import FluxInput
    from langchain_shortapi_flux.job import FluxJob


IDS_TOLD = 50
FAILURES_TOLD = 5
"""How many failures of a batch are told in its error's text; all are in ``failures``."""
STARTED_TOGETHER = 250
"""Of thousands of jobs so many are started in one turn of the event loop, which takes 0.03 s where
nobody hears of them: starting 5,000 at once takes half a second, and whatever else runs on that
loop would have to wait for so long. Fewer at a time would cost more in all."""
OF_ONE_RUN = ("run_id", "run_name")
"""What a config says of one run alone; LangChain does not hand it down either."""


class BatchFailed(ShortAPIError):
    """Some jobs of a batch failed, or it was left early. Nothing that was paid for is lost.

    Args:
        outcomes: In input order: each finished job, each failure, None for one that was left
            before it ended.
        left: The last snapshot of each job that was bought and is no outcome, nor told of by one:
            it was left before it ended, or a callback broke. By its place in the inputs.

    Attributes:
        outcomes: As above.
        jobs: The finished jobs, by place.
        failures: The failures, by place.
        left: As above. ``ShortAPIFlux.follow`` picks each of them up, free.
    """

    def __init__(
        self,
        outcomes: Sequence[FluxJob | Exception | None],
        left: Mapping[int, FluxJob] | None = None,
    ) -> None:
        self.outcomes = list(outcomes)
        self.left = dict(left or {})
        self.failures: dict[int, Exception] = {}
        self.jobs: dict[int, FluxJob] = {}
        for place, outcome in enumerate(self.outcomes):
            if isinstance(outcome, Exception):
                self.failures[place] = outcome
            elif outcome is not None:
                self.jobs[place] = outcome
        super().__init__(self._text(), charge=self._charge())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by what it carries."""
        return (type(self), (self.outcomes, self.left))

    def _text(self) -> str:
        kinds = Counter(type(error).__name__ for error in self.failures.values())
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"
        text = (
            f"{len(self.jobs)} of {len(self.outcomes)} jobs have their pictures (in .jobs); "
            f"failed: {named} (in .failures)"
        )
        if unended := len(self.outcomes) - len(self.jobs) - len(self.failures):
            text += f"; {unended} were left before they ended"
        if self.left:
            ids = [job.job_id for job in self.left.values()]
            more = f" and {len(ids) - IDS_TOLD} more" if len(ids) > IDS_TOLD else ""
            text += f"; bought all the same (in .left): {', '.join(ids[:IDS_TOLD])}{more}"
        told = [f"[{place}] {error}" for place, error in self.failures.items()][:FAILURES_TOLD]
        return "; ".join([text, *told])

    def _charge(self) -> Charge:
        charges = {getattr(error, "charge", "unknown") for error in self.failures.values()}
        if "unknown" in charges or len(self.jobs) + len(self.failures) < len(self.outcomes):
            return "unknown"
        return "charged" if self.jobs or self.left or charges - {"none"} else "none"


class Buy(Protocol):
    """How one job is bought and followed, telling ``see`` of every snapshot."""

    def __call__(
        self, input: FluxInput, config: RunnableConfig, see: Callable[[FluxJob], None]
    ) -> Awaitable[FluxJob]:
        """Give the finished job."""


class Batch:
    """The jobs of one call of ``abatch`` or ``abatch_as_completed``.

    Args:
        inputs: One for each job.
        config: One for all, or one for each. Its ``max_concurrency`` bounds how many jobs are in
            flight at a time; a job's own ``timeout`` begins when its turn comes.
        buy: How one is bought.
        heard: Whether anybody may hear of the jobs, each of them a run of its own. Else one config
            for all of them, the first, stands for a run's in their context.
    """

    def __init__(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        buy: Buy,
        *,
        heard: bool = True,
    ) -> None:
        self._inputs = list(inputs)  # the caller's own may change while these are started
        self._configs = get_config_list(config, len(inputs))
        self._buy = buy
        self._config_of_all = None if heard or not inputs else _handed_down(self._configs[0])
        at_once = self._configs[0].get("max_concurrency") if inputs else None
        self._gate = asyncio.Semaphore(at_once) if at_once else None
        self._size = BatchSize(len(inputs))
        self._seen: dict[int, FluxJob] = {}
        self._note = self._seen.__setitem__  # one for all: it is held for each job
        self._outcomes: dict[int, FluxJob | Exception] = {}
        self._is_over = False

    async def run(self, *, return_exceptions: bool) -> FluxJobs:
        """Every outcome in input order, once all have settled.

        Raises:
            BatchFailed: One or more failed, and ``return_exceptions`` is off.
        """
        async for _ in self.as_completed(return_exceptions=return_exceptions):
            pass
        outcomes: list[Any] = [self._outcomes[index] for index in range(len(self._inputs))]
        return FluxJobs(outcomes)

    def run_blocking(self, *, return_exceptions: bool) -> FluxJobs:
        """As ``run``, on an event loop in a thread of its own.

        An interrupt (Ctrl-C) carries what was bought so far as its ``__cause__``.
        """
        with self._explaining():
            return run_in_loop_thread(lambda: self.run(return_exceptions=return_exceptions))

    def as_completed_blocking(
        self, *, return_exceptions: bool
    ) -> Generator[tuple[int, FluxJob | Exception]]:
        """As ``as_completed``, otherwise as ``run_blocking``."""
        with self._explaining():
            yield from iterate_in_loop_thread(
                lambda: self.as_completed(return_exceptions=return_exceptions)
            )

    async def as_completed(
        self, *, return_exceptions: bool
    ) -> AsyncGenerator[tuple[int, FluxJob | Exception]]:
        """Each outcome as it comes, with its place in the inputs.

        Raises:
            BatchFailed: At the end, where one or more failed and ``return_exceptions`` is off.
        """
        settled: asyncio.Queue[int] = asyncio.Queue()
        tasks: list[asyncio.Task[None]] = []
        with self._explaining():
            try:
                # Not as outcomes are fetched: who takes his time with one would hold up the rest.
                while len(tasks) < len(self._inputs) and not self._is_over:
                    self._start_some(tasks, settled)
                    if len(tasks) < len(self._inputs):
                        await asyncio.sleep(0)
                for _ in tasks:
                    index = await settled.get()
                    await tasks[index]  # raises only what is no Exception: the batch is to be left
                    outcome = self._outcomes[index]
                    if return_exceptions or not isinstance(outcome, Exception):
                        yield index, outcome
            except BaseException:
                await self._stop(tasks)
                raise
        if not return_exceptions and (failed := self.report()).failures:
            raise failed

    def _start_some(self, tasks: list[asyncio.Task[None]], settled: asyncio.Queue[int]) -> None:
        """Start those whose turn it is to be started; each joins the tasks as soon as it is."""
        # Each task takes these over as it is made; set in each of them, they would be objects more.
        within = current_batch.set(self._size)
        of_all = self._config_of_all
        run = None if of_all is None else var_child_runnable_config.set(of_all)
        try:
            begin, end = len(tasks), min(len(tasks) + STARTED_TOGETHER, len(self._inputs))
            tasks.extend(
                asyncio.create_task(self._settle(index, settled)) for index in range(begin, end)
            )
        finally:
            current_batch.reset(within)
            if run is not None:
                var_child_runnable_config.reset(run)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Give what ends the batch early a cause that names what was bought until then."""
        try:
            yield
        except BaseException as left:
            if left.__cause__ is None and self._seen and not isinstance(left, BatchFailed):
                left.__cause__ = self.report()
            raise

    def report(self) -> BatchFailed:
        """What there is to say of the jobs so far: finished, failed, and left while they ran."""
        return BatchFailed(
            [self._outcomes.get(index) for index in range(len(self._inputs))],
            {
                index: job
                for index, job in self._seen.items()
                if getattr(self._outcomes.get(index), "job_id", None) is None
            },
        )

    async def _settle(self, index: int, settled: asyncio.Queue[int]) -> None:
        see = partial(self._note, index)
        try:
            # Said twice: a method for both would be one object more for each job that waits.
            if self._gate is None:
                job = await self._buy(self._inputs[index], self._configs[index], see)
            else:
                async with self._gate:
                    job = await self._buy(self._inputs[index], self._configs[index], see)
            self._outcomes[index] = job
        except Exception as error:  # noqa: BLE001 - it is the caller's, in its place
            if (bought := self._seen.get(index)) and getattr(error, "job_id", None) is None:
                error.add_note(f"job {bought.job_id} was bought: {bought.status}")
            self._outcomes[index] = error
        except BaseException:
            self._is_over = True  # the batch is to be left: no more are started
            raise
        finally:
            settled.put_nowait(index)

    async def _stop(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        # Cancelled again, it still waits until they have left: they do so at once.
        while not all(task.done() for task in left):
            with suppress(asyncio.CancelledError):
                await asyncio.wait(left)


def _handed_down(config: RunnableConfig) -> RunnableConfig:
    kept = {name: value for name, value in config.items() if name not in OF_ONE_RUN}
    return cast("RunnableConfig", kept)
