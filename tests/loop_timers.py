"""The timers of the running event loop, which asyncio does not show otherwise."""

from __future__ import annotations

import asyncio


def live_timers() -> list[asyncio.TimerHandle]:
    """Those that are still to go off."""
    scheduled: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
    return [timer for timer in scheduled if not timer.cancelled()]
