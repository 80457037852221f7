"""How each job of a batch is bought: as a run of its own, which costs nothing where nobody hears.

It knows LangChain's bookkeeping of runs. How many are in flight, and what is kept of each, is
``batch``'s to know.
"""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from functools import cache
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux.batch import Batch
from langchain_shortapi_flux.job_running import abuy_to_the_end
from langchain_shortapi_flux.run_progress import is_heard
from langchain_shortapi_flux.traced_cost import traced_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from langchain_core.runnables import RunnableConfig

    from langchain_shortapi_flux.connection import Connection
    from langchain_shortapi_flux.flux_input import FluxInput
    from langchain_shortapi_flux.flux_settings import FluxSettings
    from langchain_shortapi_flux.job import FluxJob

_INPUT_AND_OPTIONS = Signature(
    [
        Parameter("input", Parameter.POSITIONAL_OR_KEYWORD),
        Parameter("options", Parameter.VAR_KEYWORD),
    ]
)
"""Told to LangChain, which works it out twice for each job otherwise, at a tenth of its CPU."""


def batch_of(
    flux: FluxSettings,
    inputs: Sequence[FluxInput],
    config: RunnableConfig | Sequence[RunnableConfig] | None,
    options: Mapping[str, Any],
) -> Batch:
    """The jobs of one call, not begun yet. The settings are what they are now."""
    heard = isinstance(config, Sequence) or is_heard(config)
    flux = flux.model_copy()  # for fields can be assigned
    connect = cache(flux.connection)  # worked out once, for thousands of jobs
    decimal.getcontext()  # made here, it is shared; else each job's task makes one of its own

    def buy_one(
        input: FluxInput, config: RunnableConfig, see: Callable[[FluxJob], None]
    ) -> Awaitable[FluxJob]:
        if heard:
            return _buy_heard(flux, input, config, options, see, connect)
        # A run that nobody hears of would cost as much as a query.
        return abuy_to_the_end(flux, input, options, see, connect, heard=False)

    return Batch(inputs, config, buy_one, heard=heard)


def _buy_heard(
    flux: FluxSettings,
    input: FluxInput,
    config: RunnableConfig,
    options: Mapping[str, Any],
    see: Callable[[FluxJob], None],
    connect: Callable[[], Connection],
) -> Awaitable[FluxJob]:
    async def bought(input: FluxInput, **options: Any) -> FluxJob:
        return await abuy_to_the_end(flux, input, options, see, connect)

    bought.__signature__ = _INPUT_AND_OPTIONS  # type: ignore[attr-defined]
    return flux._acall_with_config(  # noqa: SLF001 - LangChain's own way in
        bought, input, traced_config(config, flux.model), run_type="tool", **options
    )
