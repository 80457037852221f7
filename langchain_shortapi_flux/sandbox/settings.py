"""Knows what the sandbox's balance and durations may be, and what they are by default.

It must not know what is done with them.
"""

import math
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Final

DEFAULT_JOB_SECONDS: Final[Mapping[str, float]] = MappingProxyType({"schnell": 1.0, "dev": 3.0})
"""How long a job takes, by mode: an assumption, no duration of this model was ever recorded."""


def balance_usd(amount: Decimal | str | float) -> Decimal:
    """The balance in USD.

    Raises:
        ValueError: It is no amount, or below 0.
    """
    try:
        usd = Decimal(str(amount))
    except InvalidOperation:
        usd = Decimal("NaN")
    if not usd.is_finite() or usd < 0:
        msg = f"balance={amount!r}: an amount in USD, not below 0"
        raise ValueError(msg)
    return usd


def job_duration(job_seconds: float | Callable[[str], float] | None) -> Callable[[str], float]:
    """How long a job of a mode takes, in seconds.

    Raises:
        ValueError: It is no number, or below 0.
    """
    if job_seconds is None:
        return lambda mode: DEFAULT_JOB_SECONDS[mode]
    if callable(job_seconds):
        return job_seconds
    if math.isnan(job_seconds) or job_seconds < 0:
        msg = f"job_seconds={job_seconds}: not below 0"
        raise ValueError(msg)
    return lambda mode: job_seconds  # noqa: ARG005 - the same for every mode
