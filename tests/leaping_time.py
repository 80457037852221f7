"""The time as the calls of a ``ShortAPIFlux`` read it, which a test can make leap.

So a deadline is over when the test says so: neither after a wait, nor, on a busy machine, before
create was sent. It knows which module reads the clocks, and nothing of what is done with them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from langchain_shortapi_flux.sandbox import Sandbox

AN_HOUR_SECONDS = 3600.0
"""Longer than any deadline in these tests."""


@dataclass(frozen=True)
class LeapingTime:
    """What is used of the ``time`` module, ahead of it by ``ahead()`` seconds."""

    ahead: Callable[[], float]

    def monotonic(self) -> float:
        """As of that name."""
        return time.monotonic() + self.ahead()

    def time(self) -> float:
        """As of that name."""
        return time.time() + self.ahead()


def leap_at_each_query(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """Let an hour pass with each query that reaches the sandbox."""
    leap_at_each(monkeypatch, lambda: [call.on for call in sandbox.calls].count("query"))


def leap_at_each(monkeypatch: pytest.MonkeyPatch, count: Callable[[], int]) -> None:
    """Let an hour pass whenever ``count()`` grows by one."""
    clocks = LeapingTime(lambda: AN_HOUR_SECONDS * count())
    monkeypatch.setattr("langchain_shortapi_flux.flux_flows.time", clocks)
