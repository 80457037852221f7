"""``ShortAPIFlux``: a job as a LangChain Runnable, blocking and async.

It joins LangChain's ways of calling to the flow and picks the driver. It knows nothing of how the
service spells things.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, cast

from langchain_core.runnables import RunnableSerializable
from pydantic import ConfigDict, Field, SecretStr, SkipValidation, field_validator
from typing_extensions import override

from langchain_shortapi_flux.connection import (
    Connection,
    base_url_from_environment,
    connect,
    key_from_environment,
    read_base_url,
    read_callback_url,
    read_key,
)
from langchain_shortapi_flux.errors import ConfigurationError, NotCreated
from langchain_shortapi_flux.flux_input import FluxInput
from langchain_shortapi_flux.job import AspectRatio, FluxJob, ImageCount, Performance, Repeat
from langchain_shortapi_flux.traced_cost import TracedCost, traced_config
from langchain_shortapi_flux.waiting import PollPolicy, RetryLimits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
    from types import ModuleType

    from langchain_core.load.serializable import (
        SerializedConstructor,
        SerializedNotImplemented,
    )
    from langchain_core.runnables import Runnable, RunnableConfig
    from langchain_core.runnables.fallbacks import RunnableWithFallbacks
    from langchain_core.runnables.retry import ExponentialJitterParams
    from langchain_core.runnables.utils import AnyConfigurableField

    from langchain_shortapi_flux.flow_steps import JobFlow
    from langchain_shortapi_flux.ledger import Ledger, MemoryLedger

    LedgerField = Ledger
else:
    LedgerField = Any  # a protocol cannot be validated, and its module waits for its first use

FLUX_MODEL = "shortapi/flux-1.0/text-to-image"
"""The official page's model id."""


def may_be_repeated(error: BaseException) -> bool:
    """Whether a failed call may be made again without risking a second charge."""
    return bool(getattr(error, "is_retryable", False))


def _memory_ledger() -> MemoryLedger:
    from langchain_shortapi_flux.ledger import MemoryLedger  # noqa: PLC0415 - on first use

    return MemoryLedger()


class ShortAPIFlux(RunnableSerializable[FluxInput, FluxJob]):
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

    # Inputs stay hidden in pydantic's errors: a misspelt argument may hold the key.
    model_config = ConfigDict(
        extra="forbid",
        validate_assignment=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    api_key: SecretStr | None = Field(default_factory=key_from_environment)
    """The key. Default: ``SHORTAPI_KEY``, then ``SHORTAPI_API_KEY``. Never configurable."""
    base_url: Annotated[str, Field(validate_default=True)] = Field(
        default_factory=base_url_from_environment
    )
    """The service. Default: ``SHORTAPI_BASE_URL``, else the official host. With or without a slash,
    ``/v1`` or ``/api/v1`` at its end; plain http only to this machine."""
    model: Annotated[str, Field(min_length=1)] = FLUX_MODEL
    """The service's model id."""
    aspect_ratio: AspectRatio = "1:1"
    """For requests that leave it unset."""
    num_images: ImageCount = 1
    """For requests that leave it unset: 1, 2, 4 or 8."""
    performance: Performance = "dev"
    """For requests that leave it unset: ``schnell``, or ``dev`` at about ten times the price."""
    timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 300.0
    """Seconds for a whole job, from the call to the pictures' URLs."""
    poll: PollPolicy = PollPolicy()
    """When a running job is queried."""
    retry: RetryLimits = RetryLimits()
    """How often and how patiently calls are repeated where that is safe."""
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Sockets open to the service at a time, at most, per event loop."""
    callback_url: str | None = None
    """Where the service POSTs the finished record, if set. Configuration only, no tool argument."""

    ledger: SkipValidation[LedgerField] = Field(
        default_factory=_memory_ledger, exclude=True, repr=False
    )
    """Who keeps what was bought under which key: memory, or a ``SqlLedger`` among processes."""
    claim_lease: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 90.0
    """Seconds that a claim without a job id is believed to be alive. Create gives up before."""
    on_unknown: Repeat = "raise"
    """Where an earlier create under the key has no known outcome: say so, or buy again."""
    on_failed: Repeat = "raise"
    """Where the key's job failed and was refunded: say so again, or buy again."""

    @field_validator("api_key", mode="before")
    @classmethod
    def _read_key(cls, value: object) -> SecretStr | None:
        if value is not None and not isinstance(value, (str, SecretStr)):
            raise ValueError(f"api_key is {type(value).__name__}; allowed are str and SecretStr")
        return read_key(value) or key_from_environment()

    @field_validator("base_url")
    @classmethod
    def _read_base_url(cls, value: str) -> str:
        return read_base_url(value or base_url_from_environment())

    @field_validator("ledger")
    @classmethod
    def _check_ledger(cls, value: LedgerField) -> LedgerField:
        if not all(hasattr(value, name) for name in ("blocking", "claim", "bought", "ended")):
            raise ValueError("allowed is a Ledger: MemoryLedger(), SqlLedger(url) or the like")
        return value

    @field_validator("callback_url")
    @classmethod
    def _read_callback_url(cls, value: str | None) -> str | None:
        return read_callback_url(value)

    @override
    def __eq__(self, other: object) -> bool:
        """By settings: what two Runnables have bought so far does not make them different."""
        if not isinstance(other, ShortAPIFlux):
            return NotImplemented
        settings = [{**one.__dict__, "ledger": None} for one in (self, other)]
        return type(self) is type(other) and settings[0] == settings[1]

    __hash__ = None  # type: ignore[assignment]

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
    ) -> AsyncIterator[FluxJob]:
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
        return super().with_retry(
            retry_if_exception_type=retry_if_exception_type,
            wait_exponential_jitter=wait_exponential_jitter,
            exponential_jitter_params=exponential_jitter_params,
            stop_after_attempt=stop_after_attempt,
        )

    @override
    def with_fallbacks(
        self,
        fallbacks: Sequence[Runnable[FluxInput, FluxJob]],
        *,
        exceptions_to_handle: tuple[type[BaseException], ...] = (NotCreated,),
        exception_key: str | None = None,
    ) -> RunnableWithFallbacks[FluxInput, FluxJob]:
        """As in LangChain, but by default a fallback steps in only where no job was made."""
        return super().with_fallbacks(
            fallbacks, exceptions_to_handle=exceptions_to_handle, exception_key=exception_key
        )

    @override
    def configurable_fields(
        self, **kwargs: AnyConfigurableField
    ) -> RunnableSerializable[FluxInput, FluxJob]:
        """As in LangChain. The key cannot be one: its value would show in traces."""
        if "api_key" in kwargs:
            raise ConfigurationError(
                "api_key cannot be a configurable field: LangChain copies configurable values to "
                "traces; construct one ShortAPIFlux per key instead"
            )
        return super().configurable_fields(**kwargs)

    # --- saving and loading -----------------------------------------------------------------------

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    @override
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": "SHORTAPI_KEY"}

    @override
    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Policies go out as plain JSON, so that ``load`` needs to allow this class alone."""
        dumped = super().to_json()
        if dumped["type"] == "constructor":
            for name in ("poll", "retry"):
                if name in dumped["kwargs"]:
                    dumped["kwargs"][name] = getattr(self, name).model_dump(mode="json")
        return dumped

    @override
    def __getstate__(self) -> dict[Any, Any]:
        """Pickles leave the key out; what is unpickled reads the environment."""
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], "api_key": None}}

    @override
    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self.__dict__["api_key"] = key_from_environment()

    # --- joining flow and driver ------------------------------------------------------------------

    def _invoke(self, input: FluxInput, **options: Any) -> FluxJob:
        *_, last = self._stream(iter([input]), **options)
        return last

    async def _ainvoke(self, input: FluxInput, **options: Any) -> FluxJob:
        return await _alast(self._astream(_only(input), **options))

    def _stream(self, inputs: Iterator[FluxInput], **options: Any) -> Iterator[FluxJob]:
        cost = TracedCost()
        for job in self._run(lambda flows: flows.buy_flow(self, next(inputs), options)):
            cost.see(job)
            yield job

    async def _astream(
        self, inputs: AsyncIterator[FluxInput], **options: Any
    ) -> AsyncIterator[FluxJob]:
        cost, first = TracedCost(), await anext(inputs)
        jobs = self._arun(lambda flows: flows.buy_flow(self, first, options))
        async with aclosing(jobs):
            async for job in jobs:
                cost.see(job)
                yield job

    def _run(self, choose: Callable[[ModuleType], JobFlow]) -> Iterator[FluxJob]:
        # Imported when first used: both would double what importing this package costs.
        from langchain_shortapi_flux import flux_flows, requests_driver  # noqa: PLC0415

        return requests_driver.run(choose(flux_flows), self._connection(), self.ledger)

    def _arun(self, choose: Callable[[ModuleType], JobFlow]) -> AsyncGenerator[FluxJob]:
        from langchain_shortapi_flux import aiohttp_driver, flux_flows  # noqa: PLC0415

        return aiohttp_driver.run(choose(flux_flows), self._connection(), self.ledger)

    def _traced(self, config: RunnableConfig | None) -> RunnableConfig:
        return traced_config(config, self.model)

    def _connection(self) -> Connection:
        return connect(self.base_url, self.api_key, self.max_connections)


async def _only(input: FluxInput) -> AsyncIterator[FluxInput]:
    yield input


def _last(jobs: Iterator[FluxJob]) -> FluxJob:
    *_, last = jobs
    return last


async def _alast(jobs: AsyncIterator[FluxJob]) -> FluxJob:
    *_, last = [job async for job in jobs]
    return last
