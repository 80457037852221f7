"""A ``ShortAPIFlux`` that does not dawdle, for tests on the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_shortapi_flux import PollPolicy, RetryLimits, ShortAPIFlux

if TYPE_CHECKING:
    from langchain_shortapi_flux.sandbox import Sandbox

QUICK_POLL = PollPolicy(first_delay=0.0, gap_min=0.02, gap_max=0.05, jitter=0.0)
QUICK_RETRY = RetryLimits(backoff_first=0.01, backoff_max=0.02, retry_after_max=0.05, jitter=0.0)


def flux_on(sandbox: Sandbox, **fields: Any) -> ShortAPIFlux:
    """A Runnable on that sandbox with short waits; ``fields`` are set over them."""
    quick = {"poll": QUICK_POLL, "retry": QUICK_RETRY, "timeout": 10.0}
    where = {"base_url": sandbox.base_url, "api_key": sandbox.api_key}
    return ShortAPIFlux(**{**where, **quick, **fields})
