"""``ShortAPIFlux``: a job as a LangChain Runnable, blocking and async.

It joins LangChain's ways of calling to the flow and picks the driver. It knows nothing of how the
service spells things.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from typing_extensions import override

from langchain_shortapi_flux.errors import NotCreated
from langchain_shortapi_flux.flux_settings import FluxSettings
from langchain_shortapi_flux.loop_thread import iterate_in_loop_thread, run_in_loop_thread
from langchain_shortapi_flux.run_progress import RunProgress
from langchain_shortapi_flux.traced_cost import TracedCost, traced_config

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Iterator,
        Mapping,
        Sequence,
    )
    from types import ModuleType

    from langchain_core.runnables import Runnable, RunnableConfig
    from langchain_core.runnables.fallbacks import RunnableWithFallbacks
    from langchain_core.runnables.retry import ExponentialJitterParams

    from langchain_shortapi_flux.batch import Batch
    from langchain_shortapi_flux.flow_steps import JobFlow
    from langchain_shortapi_flux.flux_input import FluxInput
    from langchain_shortapi_flux.job import FluxJob
    from langchain_shortapi_flux.surroundings import Surroundings


_logger = logging.getLogger(__package__)


def may_be_repeated(error: BaseException) -> bool:
    """Whether a failed call may be made again without risking a second charge."""
    return bool(getattr(error, "is_retryable", False))


class ShortAPIFlux(FluxSettings):
    """Pictures from Flux on ShortAPI, as a Runnable: prompt in, finished job out.

    Setup: set ``SHORTAPI_KEY`` (or run the sandbox and set ``SHORTAPI_BASE_URL`` too)::

        flux = ShortAPIFlux(performance="schnell")
        job = flux.invoke("a red fox in the snow")
        job.images[0].url, job.cost, job.save("images/")

    In a chain, the text of the last message is the prompt: ``prompt | llm | flux``. ``stream``
    gives a snapshot after create was accepted and after every query; ``invoke`` the last of them.

    Every call that creates a job costs money (the official page names 0.002 USD for ``schnell`` and
    0.02 USD for ``dev``, per request); ``query`` and ``follow`` are free.

    Raises:
        ShortAPIError: All calls; its subclasses in ``langchain_shortapi_flux.errors`` say whether
            anything was charged, and carry the job id where there is a job.
    """

    # --- calling --------------------------------------------------------------------------------

    @override
    def invoke(
        self, input: FluxInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> FluxJob:
        """Create a job and wait for its end.

        ``kwargs`` are request options and win over the input's own. With a ``request_key`` (among
        them, in an input dict, or in ``config["configurable"]``) the same key never buys twice.
        """
        return self._call_with_config(
            self._invoke, input, self._traced(config), run_type="tool", **kwargs
        )

    @override
    async def ainvoke(
        self, input: FluxInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> FluxJob:
        """The async twin of ``invoke``: no thread, one shared session per event loop."""
        return await self._acall_with_config(
            self._ainvoke, input, self._traced(config), run_type="tool", **kwargs
        )

    @override
    def stream(
        self, input: FluxInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[FluxJob]:
        """Yield cumulative snapshots: one once create was accepted, then one for each query."""
        yield from self._transform_stream_with_config(
            iter([input]), self._stream, self._traced(config), run_type="tool", **kwargs
        )

    @override
    async def astream(
        self, input: FluxInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[FluxJob]:
        """The async twin of ``stream``."""
        jobs = self._atransform_stream_with_config(
            _only(input), self._astream, self._traced(config), run_type="tool", **kwargs
        )
        # Closed here: left to the event loop, a job that is left early would go on for a while.
        async with aclosing(cast("AsyncGenerator[FluxJob]", jobs)):
            async for job in jobs:
                yield job

    @override
    def batch(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[FluxJob]:
        """``abatch`` on an event loop in a thread of its own: all jobs are in flight together.

        An interrupt (Ctrl-C) carries what was bought so far as its ``__cause__``.
        """
        batch = self._batch(inputs, config, kwargs)
        try:
            return run_in_loop_thread(lambda: batch.run(return_exceptions=return_exceptions))
        except BaseException as left:
            batch.explain(left)
            raise

    @override
    async def abatch(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[FluxJob]:
        """Create a job for every input, all in flight together, and wait for all of them.

        ``config["max_concurrency"]`` bounds how many are in flight; a job's ``timeout`` begins when
        its turn comes. Left early (cancelled), the ``CancelledError`` carries what was bought so
        far as its ``__cause__``, a ``BatchFailed``.

        Raises:
            BatchFailed: One or more failed: after all have settled, with every finished job and
                every failure in input order. With ``return_exceptions`` they are in the list.
        """
        return await self._batch(inputs, config, kwargs).run(return_exceptions=return_exceptions)

    @overload
    def batch_as_completed(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = ...,
        *,
        return_exceptions: Literal[False] = ...,
        **kwargs: Any,
    ) -> Iterator[tuple[int, FluxJob]]: ...

    @overload
    def batch_as_completed(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = ...,
        *,
        return_exceptions: Literal[True],
        **kwargs: Any,
    ) -> Iterator[tuple[int, FluxJob | Exception]]: ...

    @override
    def batch_as_completed(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> Iterator[tuple[int, FluxJob | Exception]]:
        """As ``abatch_as_completed``, on an event loop in a thread of its own."""
        batch = self._batch(inputs, config, kwargs)
        try:
            yield from iterate_in_loop_thread(
                lambda: batch.as_completed(return_exceptions=return_exceptions)
            )
        except BaseException as left:
            batch.explain(left)
            raise

    @overload
    def abatch_as_completed(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = ...,
        *,
        return_exceptions: Literal[False] = ...,
        **kwargs: Any | None,
    ) -> AsyncIterator[tuple[int, FluxJob]]: ...

    @overload
    def abatch_as_completed(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = ...,
        *,
        return_exceptions: Literal[True],
        **kwargs: Any | None,
    ) -> AsyncIterator[tuple[int, FluxJob | Exception]]: ...

    @override
    async def abatch_as_completed(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> AsyncIterator[tuple[int, FluxJob | Exception]]:
        """As ``abatch``, but each job comes with its place in the inputs as soon as it is done.

        Raises:
            BatchFailed: At the end, where one or more failed and ``return_exceptions`` is off.
        """
        batch = self._batch(inputs, config, kwargs)
        async with aclosing(batch.as_completed(return_exceptions=return_exceptions)) as settled:
            async for index, outcome in settled:
                yield index, outcome

    def create(self, input: FluxInput, **options: Any) -> FluxJob:
        """Buy a job and return at once, without waiting for it. ``follow(job_id)`` waits."""
        return _last(self._run(lambda flows: flows.create_flow(self, input, options)))

    async def acreate(self, input: FluxInput, **options: Any) -> FluxJob:
        """The async twin of ``create``."""
        return await _alast(self._arun(lambda flows: flows.create_flow(self, input, options)))

    def query(self, job_id: str | FluxJob) -> FluxJob:
        """One free look at a job, whatever its state; a failed job is returned, not raised."""
        return _last(self._run(lambda flows: flows.look_flow(self, job_id)))

    async def aquery(self, job_id: str | FluxJob) -> FluxJob:
        """The async twin of ``query``."""
        return await _alast(self._arun(lambda flows: flows.look_flow(self, job_id)))

    def follow(self, job_id: str | FluxJob, *, max_wait: float | None = None) -> FluxJob:
        """Wait for a job bought earlier. Never buys.

        Args:
            job_id: The job, or its id.
            max_wait: Seconds to wait, if less than ``timeout``.
        """
        return _last(self.stream_job(job_id, max_wait=max_wait))

    async def afollow(self, job_id: str | FluxJob, *, max_wait: float | None = None) -> FluxJob:
        """The async twin of ``follow``."""
        return await _alast(self.astream_job(job_id, max_wait=max_wait))

    def stream_job(
        self, job_id: str | FluxJob, *, max_wait: float | None = None
    ) -> Iterator[FluxJob]:
        """As ``follow``, giving a snapshot for every query, as ``stream`` does."""
        return self._run(lambda flows: flows.follow_flow(self, job_id, max_wait))

    def astream_job(
        self, job_id: str | FluxJob, *, max_wait: float | None = None
    ) -> AsyncGenerator[FluxJob]:
        """The async twin of ``stream_job``."""
        return self._arun(lambda flows: flows.follow_flow(self, job_id, max_wait))

    # --- LangChain's ways of wrapping -------------------------------------------------------------

    @override
    def with_retry(
        self,
        *,
        retry_if_exception_type: tuple[type[BaseException], ...]
        | Callable[[BaseException], bool] = may_be_repeated,
        wait_exponential_jitter: bool = True,
        exponential_jitter_params: ExponentialJitterParams | None = None,
        stop_after_attempt: int = 3,
    ) -> Runnable[FluxInput, FluxJob]:
        """As in LangChain, but by default only what is ``is_retryable`` is repeated."""
        from langchain_shortapi_flux.flux_wrapping import FluxRetry, fields_of  # noqa: PLC0415

        made = super().with_retry(
            retry_if_exception_type=retry_if_exception_type,
            wait_exponential_jitter=wait_exponential_jitter,
            exponential_jitter_params=exponential_jitter_params,
            stop_after_attempt=stop_after_attempt,
        )
        return FluxRetry(**fields_of(made))

    @override
    def with_fallbacks(
        self,
        fallbacks: Sequence[Runnable[FluxInput, FluxJob]],
        *,
        exceptions_to_handle: tuple[type[BaseException], ...] = (NotCreated,),
        exception_key: str | None = None,
    ) -> RunnableWithFallbacks[FluxInput, FluxJob]:
        """As in LangChain, but by default a fallback steps in only where no job was made."""
        from langchain_shortapi_flux.flux_wrapping import FluxFallbacks, fields_of  # noqa: PLC0415

        made = super().with_fallbacks(
            fallbacks, exceptions_to_handle=exceptions_to_handle, exception_key=exception_key
        )
        return FluxFallbacks(**fields_of(made))

    # --- joining flow and driver ------------------------------------------------------------------

    def _invoke(self, input: FluxInput, **options: Any) -> FluxJob:
        *_, last = self._stream(iter([input]), **options)
        return last

    async def _ainvoke(self, input: FluxInput, **options: Any) -> FluxJob:
        return await self._abought(input, options)

    def _batch(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        options: Mapping[str, Any],
    ) -> Batch:
        from langchain_shortapi_flux.batch import Batch  # noqa: PLC0415 - on first use

        async def buy(
            input: FluxInput, config: RunnableConfig, see: Callable[[FluxJob], None]
        ) -> FluxJob:
            async def bought(input: FluxInput, **options: Any) -> FluxJob:
                return await self._abought(input, options, see)

            bought.__signature__ = _INPUT_AND_OPTIONS  # type: ignore[attr-defined]
            return await self._acall_with_config(
                bought, input, self._traced(config), run_type="tool", **options
            )

        return Batch(inputs, config, buy)

    def _stream(self, inputs: Iterator[FluxInput], **options: Any) -> Iterator[FluxJob]:
        cost, progress = TracedCost(), RunProgress()
        for job in self._run(lambda flows: flows.buy_flow(self, next(inputs), options)):
            cost.see(job)
            progress.tell(job)
            yield job

    async def _astream(
        self, inputs: AsyncIterator[FluxInput], **options: Any
    ) -> AsyncIterator[FluxJob]:
        cost, progress, first = TracedCost(), RunProgress(), await anext(inputs)
        jobs = self._arun(lambda flows: flows.buy_flow(self, first, options))
        async with aclosing(jobs):
            async for job in jobs:
                cost.see(job)
                await progress.atell(job)
                yield job

    async def _abought(
        self,
        input: FluxInput,
        options: Mapping[str, Any],
        see: Callable[[FluxJob], None] | None = None,
    ) -> FluxJob:
        cost, progress, job = TracedCost(), RunProgress(), None
        jobs = self._arun(lambda flows: flows.buy_flow(self, input, options))
        try:
            async with aclosing(jobs):
                async for job in jobs:
                    cost.see(job)
                    if see is not None:
                        see(job)
                    await progress.atell(job)
        except asyncio.CancelledError:
            if job is not None and job.status != "pending":  # else the flow has logged it
                _logger.warning("left when job %s had ended", job.job_id)
            raise
        if job is None:
            raise RuntimeError("a flow ended without a job")
        return job

    def _run(self, choose: Callable[[ModuleType], JobFlow]) -> Iterator[FluxJob]:
        # Imported when first used: both would double what importing this package costs.
        from langchain_shortapi_flux import flux_flows, requests_driver  # noqa: PLC0415

        flow = choose(flux_flows)
        return requests_driver.run(flow, self.connection(), self._surroundings())

    def _arun(self, choose: Callable[[ModuleType], JobFlow]) -> AsyncGenerator[FluxJob]:
        from langchain_shortapi_flux import aiohttp_driver, flux_flows  # noqa: PLC0415

        flow = choose(flux_flows)
        return aiohttp_driver.run(flow, self.connection(), self._surroundings())

    def _surroundings(self) -> Surroundings:
        from langchain_shortapi_flux.surroundings import Surroundings  # noqa: PLC0415

        return Surroundings(self.ledger, self.rate_limiter)

    def _traced(self, config: RunnableConfig | None) -> RunnableConfig:
        return traced_config(config, self.model)


_INPUT_AND_OPTIONS = Signature(
    [
        Parameter("input", Parameter.POSITIONAL_OR_KEYWORD),
        Parameter("options", Parameter.VAR_KEYWORD),
    ]
)
"""Told to LangChain, which works it out twice for each job otherwise, at a tenth of its CPU."""


async def _only(input: FluxInput) -> AsyncIterator[FluxInput]:
    yield input


def _last(jobs: Iterator[FluxJob]) -> FluxJob:
    *_, last = jobs
    return last


async def _alast(jobs: AsyncGenerator[FluxJob]) -> FluxJob:
    async with aclosing(jobs):
        async for job in jobs:
            last = job
    return last
