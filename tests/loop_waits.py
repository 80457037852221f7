"""The running event loop, as tests of waits see it: its timers, and who waits on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def live_timers() -> list[asyncio.TimerHandle]:
    """Those that are still to go off, which asyncio does not show otherwise."""
    scheduled: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
    return [timer for timer in scheduled if not timer.cancelled()]


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


def done(tasks: Sequence[asyncio.Task[Any]]) -> list[bool]:
    """Which of those who waited wait no more."""
    return [task.done() for task in tasks]
