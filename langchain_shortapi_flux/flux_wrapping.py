"""``with_retry`` and ``with_fallbacks`` around a ``ShortAPIFlux``, for batches as for single calls.

LangChain's own judge a whole batch by its first failure: they would repeat what may have been
charged, and drop what others of the batch have paid for. These settle each input by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable
from langchain_core.runnables.fallbacks import RunnableWithFallbacks
from langchain_core.runnables.retry import RunnableRetry
from typing_extensions import override

from langchain_shortapi_flux.flux_input import FluxInput
from langchain_shortapi_flux.job import FluxJob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.runnables import RunnableConfig

    from langchain_shortapi_flux.batch import Batch


class _EachByItself(Runnable[FluxInput, FluxJob]):
    """Batches whose inputs settle one by one, through ``ainvoke``."""

    def batch(
        self,
        inputs: list[FluxInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[FluxJob]:
        """As ``ShortAPIFlux.batch``."""
        batch = _batch(self, inputs, config, kwargs)
        return batch.run_blocking(return_exceptions=return_exceptions)

    async def abatch(
        self,
        inputs: list[FluxInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[FluxJob]:
        """As ``ShortAPIFlux.abatch``."""
        return await _batch(self, inputs, config, kwargs).run(return_exceptions=return_exceptions)


class FluxRetry(_EachByItself, RunnableRetry[FluxInput, FluxJob]):  # type: ignore[no-redef] # its field `kwargs`
    """Each input of a batch is repeated by itself, if it may be."""

    @classmethod
    @override
    def lc_id(cls) -> list[str]:
        """Saved as LangChain's own."""
        return RunnableRetry.lc_id()


class FluxFallbacks(_EachByItself, RunnableWithFallbacks[FluxInput, FluxJob]):
    """Each input of a batch falls back by itself."""

    @classmethod
    @override
    def lc_id(cls) -> list[str]:
        """Saved as LangChain's own."""
        return RunnableWithFallbacks.lc_id()


def fields_of(made: Any) -> dict[str, Any]:
    """The fields of what LangChain has made, to make another class of the same."""
    return {name: getattr(made, name) for name in type(made).model_fields}


def _batch(
    around: Runnable[FluxInput, FluxJob],
    inputs: Sequence[FluxInput],
    config: RunnableConfig | Sequence[RunnableConfig] | None,
    options: dict[str, Any],
) -> Batch:
    from langchain_shortapi_flux.batch import Batch  # noqa: PLC0415 - on first use

    async def buy(
        input: FluxInput, config: RunnableConfig, see: Callable[[FluxJob], None]
    ) -> FluxJob:
        job = await around.ainvoke(input, config, **options)
        see(job)
        return job

    return Batch(inputs, config, buy)
