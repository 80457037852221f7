"""``ShortAPIFlux``: a job as a LangChain Runnable, blocking and async.

It knows LangChain's ways of calling and wrapping. How a job is run is ``job_running``'s to know,
and how the service spells things ``wire``'s.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from typing_extensions import override

from langchain_shortapi_flux.errors import NotCreated
from langchain_shortapi_flux.flux_settings import FluxSettings
from langchain_shortapi_flux.job_running import (
    abuy,
    abuy_to_the_end,
    alast,
    arun,
    buy,
    last,
    run,
)
from langchain_shortapi_flux.traced_cost import traced_config

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Iterator,
        Mapping,
        Sequence,
    )

    from langchain_core.runnables import Runnable, RunnableConfig
    from langchain_core.runnables.fallbacks import RunnableWithFallbacks
    from langchain_core.runnables.retry import ExponentialJitterParams

    from langchain_shortapi_flux.batch import Batch
    from langchain_shortapi_flux.flux_input import FluxInput
    from langchain_shortapi_flux.flux_jobs import FluxJobs
    from langchain_shortapi_flux.job import FluxJob


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
        pydantic.ValidationError: A field is unknown, or its value is not allowed.
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

        Raises:
            NotCreated: One of its kinds. No job was made and nothing was charged.
            CreateOutcomeUnknown: Create, this one or an earlier one under the key, got no clear
                answer.
            LedgerFailed: Whether the key was bought before cannot be said.
            JobFailed: The job ended without pictures.
            JobTimeout: It has not ended within ``timeout`` seconds (or ``max_wait``, an option).
            UnexpectedReply: The service's reply cannot be used.
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
        """Yield cumulative snapshots: one once create was accepted, then one for each query.

        Raises:
            ShortAPIError: As ``invoke``; where no job was made, before the first snapshot.
        """
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
    ) -> FluxJobs:
        """As ``abatch``, on an event loop in a thread of its own: all jobs are in flight together.

        An interrupt (Ctrl-C) carries what was bought so far as its ``__cause__``.
        """
        batch = self._batch(inputs, config, kwargs)
        return batch.run_blocking(return_exceptions=return_exceptions)

    @override
    async def abatch(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> FluxJobs:
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
        yield from batch.as_completed_blocking(return_exceptions=return_exceptions)

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
        """Buy a job and return at once, without waiting for it. ``follow(job_id)`` waits.

        Args:
            input: As for ``invoke``.
            options: Request options, which win over the input's own; also a ``request_key``.

        Raises:
            NotCreated: One of its kinds. No job was made and nothing was charged.
            CreateOutcomeUnknown: Create, this one or an earlier one under the key, got no clear
                answer.
            LedgerFailed: Whether the key was bought before cannot be said.
            JobFailed: The key's job failed earlier.
            UnexpectedReply: The service's reply cannot be used.
        """
        return last(run(self, lambda flows: flows.create_flow(self, input, options)))

    async def acreate(self, input: FluxInput, **options: Any) -> FluxJob:
        """The async twin of ``create``."""
        return await alast(arun(self, lambda flows: flows.create_flow(self, input, options)))

    def query(self, job_id: str | FluxJob) -> FluxJob:
        """One free look at a job, whatever its state; a failed job is returned, not raised.

        Args:
            job_id: The job, or its id.

        Raises:
            ConfigurationError: There is no key, or the service cannot be asked with what is set.
            InvalidRequest: It is no job id, or a job of another service.
            JobTimeout: No usable answer within ``timeout`` seconds.
            UnexpectedReply: The service refuses to answer, or gave no usable answer
                ``RetryLimits.look_attempts`` times.
        """
        return last(run(self, lambda flows: flows.look_flow(self, job_id)))

    async def aquery(self, job_id: str | FluxJob) -> FluxJob:
        """The async twin of ``query``."""
        return await alast(arun(self, lambda flows: flows.look_flow(self, job_id)))

    def follow(self, job_id: str | FluxJob, *, max_wait: float | None = None) -> FluxJob:
        """Wait for a job bought earlier. Never buys.

        Args:
            job_id: The job, or its id.
            max_wait: Seconds to wait, if less than ``timeout``.

        Raises:
            ConfigurationError: There is no key, or the service cannot be asked with what is set.
            InvalidRequest: It is no job id, or a job of another service.
            JobFailed: The job ended without pictures.
            JobTimeout: It has not ended in that time. It goes on, and can be followed again.
            UnexpectedReply: The service refuses to answer, or says of a job that succeeded
                nothing that can be used.
        """
        return last(self.stream_job(job_id, max_wait=max_wait))

    async def afollow(self, job_id: str | FluxJob, *, max_wait: float | None = None) -> FluxJob:
        """The async twin of ``follow``."""
        return await alast(self.astream_job(job_id, max_wait=max_wait))

    def stream_job(
        self, job_id: str | FluxJob, *, max_wait: float | None = None
    ) -> Iterator[FluxJob]:
        """As ``follow``, giving a snapshot for every query, as ``stream`` does."""
        return run(self, lambda flows: flows.follow_flow(self, job_id, max_wait))

    def astream_job(
        self, job_id: str | FluxJob, *, max_wait: float | None = None
    ) -> AsyncGenerator[FluxJob]:
        """The async twin of ``stream_job``."""
        return arun(self, lambda flows: flows.follow_flow(self, job_id, max_wait))

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

    # --- what is run under LangChain's own bookkeeping --------------------------------------------

    def _invoke(self, input: FluxInput, **options: Any) -> FluxJob:
        return last(buy(self, input, options))

    async def _ainvoke(self, input: FluxInput, **options: Any) -> FluxJob:
        return await abuy_to_the_end(self, input, options)

    def _stream(self, inputs: Iterator[FluxInput], **options: Any) -> Iterator[FluxJob]:
        return buy(self, next(inputs), options)

    async def _astream(
        self, inputs: AsyncIterator[FluxInput], **options: Any
    ) -> AsyncIterator[FluxJob]:
        async with aclosing(abuy(self, await anext(inputs), options)) as jobs:
            async for job in jobs:
                yield job

    def _batch(
        self,
        inputs: Sequence[FluxInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None,
        options: Mapping[str, Any],
    ) -> Batch:
        from langchain_shortapi_flux.batch_buying import batch_of  # noqa: PLC0415 - on first use

        return batch_of(self, inputs, config, options)

    def _traced(self, config: RunnableConfig | None) -> RunnableConfig:
        return traced_config(config, self.model)


async def _only(input: FluxInput) -> AsyncIterator[FluxInput]:
    yield input
