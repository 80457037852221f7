"""How fast one service is asked, by everything in this process: arithmetic under a lock.

It has no clock and does not sleep: what the clock says is passed in, seconds to wait come out. It
knows nothing of jobs and nothing of HTTP.
"""

from __future__ import annotations

import math
import threading
from functools import lru_cache

__all__ = ["QUERIES_PER_SECOND", "Pace", "pace_of"]

QUERIES_PER_SECOND = 1_000.0
"""The default cap. The service documents no limit; this one only keeps thousands of jobs apart."""
CALM_SECONDS = 0.001
"""A hold that ends sooner has ended: what is left of it may be a rounding error."""
BURST_SECONDS = 0.1
"""As many queries as the cap allows in this time may go out at once."""
SLOWER_BY = 0.5
"""What is left of the cap each time the service says that it is asked too much."""
SLOWER_EVERY_SECONDS = 1.0
"""At most so often: many calls that are under way are all told the same."""
SLOWEST_SHARE = 1 / 16
"""The cap does not fall below this share of itself."""
RECOVERY_SECONDS = 30.0
"""In this time, without another complaint, a cap that fell to nothing is back in full."""
SERVICES_KEPT = 64
CAPS_KEPT = 64


class Pace:
    """Spaces queries, and holds everything back for a while once the service complained.

    Safe across threads and event loops. All times in seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_free: dict[float, float] = {}
        self._held_until = 0.0
        self._share = 1.0
        self._slowed_at = -SLOWER_EVERY_SECONDS

    def turn(self, now: float, per_second: float, patience: float = math.inf) -> float | None:
        """Take the next turn of a query: how many seconds to wait for it, 0 if it may go now.

        Args:
            now: What the clock says.
            per_second: The cap, in queries per second, shared by all that name the same.
            patience: Seconds that can be waited. None is given, and no turn taken, where the next
                one comes later.
        """
        with self._lock:
            earliest = max(now, self._held_until)
            begin = max(self._next_free.get(per_second, 0.0), earliest - BURST_SECONDS)
            wait = max(begin, earliest) - now
            if wait >= patience:
                return None
            if per_second not in self._next_free and len(self._next_free) >= CAPS_KEPT:
                self._next_free.clear()
            self._next_free[per_second] = begin + 1 / (per_second * self._share_at(now))
            return wait

    def give_back(self, per_second: float) -> None:
        """A turn that was taken is not used."""
        with self._lock:
            if per_second in self._next_free:
                self._next_free[per_second] -= 1 / per_second

    def held(self, now: float) -> float:
        """Seconds for which nothing is to be sent at all, a create neither."""
        with self._lock:
            left = self._held_until - now
        return left if left > CALM_SECONDS else 0.0

    def slow_down(self, now: float, seconds: float) -> None:
        """The service said: too much. Hold everything for so long, and go on at half the speed."""
        with self._lock:
            if now >= max(self._held_until, self._slowed_at + SLOWER_EVERY_SECONDS):
                self._share = max(self._share_at(now) * SLOWER_BY, SLOWEST_SHARE)
                self._slowed_at = now
            self._held_until = max(self._held_until, now + seconds)

    def _share_at(self, now: float) -> float:
        if self._share == 1.0:
            return 1.0
        return min(self._share + max(now - self._slowed_at, 0.0) / RECOVERY_SECONDS, 1.0)


@lru_cache(maxsize=SERVICES_KEPT)
def pace_of(base_url: str) -> Pace:  # noqa: ARG001 - what the cache goes by
    """The one pace at which this process asks that service."""
    return Pace()
