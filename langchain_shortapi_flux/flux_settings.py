"""What a ``ShortAPIFlux`` is set to: its fields, how they are read, compared, saved and loaded.

It knows LangChain's and pydantic's ways with fields, and nothing of calling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import RunnableSerializable
from pydantic import ConfigDict, Field, SecretStr, SkipValidation, field_validator
from typing_extensions import override

from langchain_shortapi_flux.account import (
    base_url_from_environment,
    key_from_environment,
    read_base_url,
    read_callback_url,
    read_key,
)
from langchain_shortapi_flux.errors import ConfigurationError
from langchain_shortapi_flux.flux_input import FluxInput
from langchain_shortapi_flux.job import (
    FLUX_MODEL,
    AspectRatio,
    FluxJob,
    ImageCount,
    Performance,
    Repeat,
)
from langchain_shortapi_flux.pace import QUERIES_PER_SECOND
from langchain_shortapi_flux.waiting import PollPolicy, RetryLimits

if TYPE_CHECKING:
    from langchain_core.load.serializable import (
        SerializedConstructor,
        SerializedNotImplemented,
    )
    from langchain_core.runnables.utils import AnyConfigurableField

    from langchain_shortapi_flux.callback import CallbackReceiver
    from langchain_shortapi_flux.connection import Connection
    from langchain_shortapi_flux.ledger import Ledger, MemoryLedger
    from langchain_shortapi_flux.spending import Budget

    LedgerField = Ledger
    BudgetField = Budget
    ReceiverField = CallbackReceiver
else:
    # Their modules wait for their first use.
    LedgerField = BudgetField = ReceiverField = Any


def _memory_ledger() -> MemoryLedger:
    from langchain_shortapi_flux.ledger import MemoryLedger  # noqa: PLC0415 - on first use

    return MemoryLedger()


class FluxSettings(RunnableSerializable[FluxInput, FluxJob]):
    """The fields of ``ShortAPIFlux``, which says what they are for."""

    # Inputs stay hidden in pydantic's errors: a misspelt argument may hold the key.
    model_config = ConfigDict(
        extra="forbid",
        validate_assignment=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        # Once, when a ShortAPIFlux is first made, and not for this class and that one on import.
        defer_build=True,
    )

    api_key: SecretStr | None = Field(default_factory=key_from_environment)
    """The key. Default: ``SHORTAPI_KEY``, then ``SHORTAPI_API_KEY``. Never configurable."""
    base_url: Annotated[str, Field(validate_default=True)] = Field(
        default_factory=base_url_from_environment
    )
    """The service. Default: ``SHORTAPI_BASE_URL``, else the official host. With or without a slash,
    ``/v1`` or ``/api/v1`` at its end; plain http only to this machine."""
    model: Annotated[str, Field(min_length=1)] = FLUX_MODEL
    """The service's model id, as on the official page."""
    aspect_ratio: AspectRatio = "1:1"
    """For requests that leave it unset."""
    num_images: ImageCount = 1
    """For requests that leave it unset: 1, 2, 4 or 8."""
    performance: Performance = "dev"
    """For requests that leave it unset: ``schnell``, or ``dev`` at about ten times the price."""
    timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 300.0
    """Seconds for a whole job, from the call to the pictures' URLs."""
    poll: PollPolicy = Field(default_factory=PollPolicy)
    """When a running job is queried."""
    retry: RetryLimits = Field(default_factory=RetryLimits)
    """How often and how patiently calls are repeated where that is safe."""
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Sockets open to the service at a time, at most, per event loop."""
    max_queries_per_second: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = (
        QUERIES_PER_SECOND
    )
    """Queries to the service per second, at most, by everything in this process: of several numbers
    for one base URL the lowest in use holds. HTTP 429 holds all of it back for a while and halves
    the speed, which recovers within half a minute."""
    rate_limiter: BaseRateLimiter | None = Field(default=None, exclude=True, repr=False)
    """One of langchain-core's, asked once before each create is sent, never before a query, and
    waited for until the deadline; blocking code looks for a turn at the limiter's own pace."""
    budget: SkipValidation[BudgetField | None] = Field(default=None, exclude=True)
    """What jobs may cost together, shared with whoever has the same ``Budget``; None: no bound."""
    callback_receiver: SkipValidation[ReceiverField | None] = Field(
        default=None, exclude=True, repr=False
    )
    """Who is called by the service when a job has ended, so that it is queried at once. The call
    also names a job whose create got no clear answer: it is waited for, half a minute at most."""
    callback_url: str | None = None
    """Where the service POSTs the finished record (so the official pages), if set. Configuration
    only, no tool argument."""

    ledger: SkipValidation[LedgerField] = Field(
        default_factory=_memory_ledger, exclude=True, repr=False
    )
    """Who keeps what was bought under which key: memory, or a ``SqlLedger`` among processes."""
    claim_lease: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 90.0
    """Seconds that a claim without a job id is believed to be alive. Create gives up before; who
    waits for a turn, after HTTP 429, renews it."""
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

    @field_validator("budget")
    @classmethod
    def _check_budget(cls, value: BudgetField | None) -> BudgetField | None:
        if value is not None and not all(hasattr(value, name) for name in ("reserve", "settle")):
            raise ValueError('allowed is a Budget, such as Budget(usd="5.00"), or None')
        return value

    @field_validator("callback_receiver")
    @classmethod
    def _check_receiver(cls, value: ReceiverField | None) -> ReceiverField | None:
        if value is not None and not hasattr(value, "expect"):
            raise ValueError("allowed is a CallbackReceiver, or None")
        return value

    @field_validator("callback_url")
    @classmethod
    def _read_callback_url(cls, value: str | None) -> str | None:
        return read_callback_url(value)

    @override
    def __eq__(self, other: object) -> bool:
        """By settings: what two Runnables have bought so far does not make them different."""
        if not isinstance(other, FluxSettings):
            return NotImplemented
        settings = [{**one.__dict__, "ledger": None} for one in (self, other)]
        return type(self) is type(other) and settings[0] == settings[1]

    __hash__ = None  # type: ignore[assignment]

    def connection(self) -> Connection:
        """How to reach the service with these settings.

        Raises:
            ConfigurationError: There is no key, or the key or the environment's proxy or CA bundle
                cannot be used.
        """
        from langchain_shortapi_flux.connection import connect  # noqa: PLC0415 - on first use

        return connect(self.base_url, self.api_key, self.max_connections)

    @override
    def configurable_fields(
        self, **kwargs: AnyConfigurableField
    ) -> RunnableSerializable[FluxInput, FluxJob]:
        """As in LangChain. The key cannot be one: its value would show in traces.

        Raises:
            ConfigurationError: ``api_key`` is among them.
        """
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
        """Yes: ``dumpd`` and ``load`` round-trip."""
        return True

    @property
    @override
    def lc_secrets(self) -> dict[str, str]:
        """The key is dumped as the name of the variable that holds it."""
        return {"api_key": "SHORTAPI_KEY"}

    @override
    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Policies go out as plain JSON, so that ``load`` needs to allow this class alone.

        What bounds purchases, a budget and a ledger beyond memory, goes out as not implemented:
        ``load`` then raises ``NotImplementedError``, where it would give one that spends unbound.
        """
        from langchain_shortapi_flux.ledger import MemoryLedger  # noqa: PLC0415 - on first use

        dumped = super().to_json()
        if dumped["type"] == "constructor":
            for name in ("poll", "retry"):
                if name in dumped["kwargs"]:
                    dumped["kwargs"][name] = getattr(self, name).model_dump(mode="json")
            for name in ("budget", "ledger"):
                bound = getattr(self, name)
                if bound is not None and not isinstance(bound, MemoryLedger):
                    # By its class alone, for the dump shows its repr: it may say what is in it.
                    dumped["kwargs"][name] = type(bound)
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
