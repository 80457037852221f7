"""How fast one service is asked, by everything in this process: arithmetic under a lock.

It has no clock and does not sleep: what the clock says is passed in, seconds to wait come out. It
knows nothing of HTTP, and of jobs only how many are followed.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache

from langchain_shortapi_flux.process_lock import ProcessLock

__all__ = ["QUERIES_PER_SECOND", "Pace", "pace_of"]

QUERIES_PER_SECOND = 1_000.0
"""The default cap. The service documents no limit; this one only keeps thousands of jobs apart."""
CALM_SECONDS = 0.001
"""A hold that ends sooner has ended: what is left of it may be a rounding error."""
CAP_IN_USE_SECONDS = 120.0
"""A cap that nobody asked with for so long holds no more: no policy waits longer between queries
but one whose gaps were set to more than this."""
BURST_SECONDS = 0.25
"""As many queries as the cap allows in this time may go out at once: so many are late together
where the process was busy for that long, as with collecting the garbage of thousands of jobs."""
TOGETHER_SECONDS = 0.02
"""Queries of many jobs go out together, at most once in this time. Each on its own would find the
process asleep and its caches cold, which costs as much as the query."""
MANY_JOBS = 16
"""Of more than these are there queries enough for that."""
TOGETHER_LEAST_SECONDS = 0.2
"""A shorter wait than this is left as it is."""
SLOWER_BY = 0.5
"""What is left of the cap each time the service says that it is asked too much."""
SLOWER_EVERY_SECONDS = 1.0
"""At most so often: many calls that are under way are all told the same."""
SLOWEST_SHARE = 1 / 16
"""The cap does not fall below this share of itself."""
RECOVERY_SECONDS = 30.0
"""In this time, without another complaint, a cap that fell to nothing is back in full."""
CREATES_PER_SECOND_FIRST = 2.0
"""How fast creates go out after the first complaint about one, where fewer had gone through."""
PASSED_SHARE = 0.9
"""They go out at this share of what went through in the last second."""
CREATES_PER_SECOND_MIN = 0.1
"""Creates never go out more slowly than this."""
CREATES_BURST_SECONDS = 0.1
"""As many of them as may go in this time may go out at once, where turns were fetched late."""
CREATES_ASK_WITHIN_SECONDS = 2.0
"""Creates that wait ask again within this time: they may go faster by then."""
CREATES_DOUBLE_IN_SECONDS = 10.0
"""Once a further complaint has shown how fast is too fast: in this time it is twice as fast."""
PHASES = 20
"""So many processes, one started after another, have each a moment of their own."""
BEHIND_SHARE = 0.8
"""Where queries are late all the same, fewer are planned, this share of what there is room for,
until the late ones have caught up."""
PLANNED_TOGETHER_MIN = 4
"""Where the cap has room for fewer at a time, nothing is planned: turns keep so few apart."""
PLANNED_LATER_TICKS_MAX = 100
"""A wait is made longer by so many ticks at most, two seconds. Plans are not taken back: of jobs
that were left, or of a cap that was lower for a while, no more than that stays behind."""
PLANNED_MIN = 128
"""How many moments with queries planned for them are kept before those gone by are dropped."""
ROUNDING = 1e-6
"""Of a tick: a moment that lies so little behind one is that one, and not the next."""
SERVICES_KEPT = 64
CAPS_KEPT = 64


class Pace:
    """Spaces queries, and holds everything back for a while once the service complained.

    Creates are not spaced before the service has complained about one. From then on they take
    turns, for without that all that were refused would come back together, and be refused again:
    at the speed that went through before, then faster, and slower again after each complaint. That
    is over when nobody has waited or complained for ``RECOVERY_SECONDS``.

    Safe across threads and event loops. All times in seconds of one monotonic clock.

    Args:
        phase: Seconds after the clock's whole multiples of ``TOGETHER_SECONDS`` at which queries of
            many jobs go out; another in each process, so that they do not meet.
    """

    def __init__(self, phase: float = 0.0) -> None:
        self._phase = phase
        self._lock = ProcessLock()
        self._followed = 0
        self._planned: dict[int, int] = {}  # by tick: how many waits are to end then
        self._full: dict[int, int] = {}  # ticks without room, and where to look on
        self._planned_max = PLANNED_MIN
        self._creates_waiting = 0
        self._creates_out = 0
        self._creates_held_until = 0.0
        self._creates_per_second = math.inf
        self._proven_speed = math.inf  # beyond it only little by little
        self._next_create = 0.0
        self._complained_at = -math.inf
        self._second_ends = 0.0
        self._passed = self._passed_before = 0  # creates in this second, and in the one before
        self._caps: dict[float, float] = {}  # and when each was last asked for
        self._cap = math.inf
        self._next_query = 0.0
        self._held_until = 0.0
        self._share = 1.0
        self._slowed_at = -SLOWER_EVERY_SECONDS

    def follow(self, by: int) -> None:
        """So many more jobs are followed, or fewer if negative."""
        with self._lock.own:
            self._followed += by

    def together(self, now: float, wait: float, per_second: float) -> float:
        """The wait, so changed that it ends when others do, yet not more of them than may query.

        It is changed by up to half of ``TOGETHER_SECONDS``; longer by up to two seconds where the
        cap leaves no room at that moment, for whoever came then would have to wait once more, for
        a turn. This is a plan and no turn. The wait stays as it is where few jobs are followed, or
        where it is too short to be changed by so much.

        Args:
            now: What the clock says.
            wait: Seconds to wait for the next query.
            per_second: As for ``turn``.
        """
        if self._followed <= MANY_JOBS or wait < TOGETHER_LEAST_SECONDS:
            return wait
        earliest = now + wait - TOGETHER_SECONDS / 2
        with self._lock.own:
            room = self._cap_in_use(now, per_second) * self._share_at(now) * TOGETHER_SECONDS
            tick = self._tick(earliest)
            if self._next_query > now:
                room *= BEHIND_SHARE
            if room >= PLANNED_TOGETHER_MIN:
                tick = self._plan(tick, room, self._tick(now))
        return max(self._moment(tick), earliest) - now

    def _plan(self, earliest: int, room: float, tick_now: int) -> int:
        full, passed, tick = self._full, [], earliest
        while tick in full:
            passed.append(tick)
            tick = full[tick]
        for one in passed:  # so that thousands of full ones are not gone through again
            full[one] = tick
        if tick > earliest + PLANNED_LATER_TICKS_MAX:
            return earliest
        planned = self._planned[tick] = self._planned.get(tick, 0) + 1
        if planned >= room:
            full[tick] = tick + 1
        if len(self._planned) > self._planned_max:
            self._planned = {at: many for at, many in self._planned.items() if at >= tick_now}
            self._full = {at: on for at, on in full.items() if at >= tick_now}
            self._planned_max = max(2 * len(self._planned), PLANNED_MIN)
        return tick

    def turn(self, now: float, per_second: float, patience: float = math.inf) -> float | None:
        """Take the next turn of a query: how many seconds to wait for it, 0 if it may go now.

        Args:
            now: What the clock says.
            per_second: The cap of who asks, in queries per second. It is one for the process: the
                lowest that anybody named within ``CAP_IN_USE_SECONDS`` holds for all.
            patience: Seconds that can be waited. None is given, and no turn taken, where the next
                one comes later.
        """
        with self._lock.own:
            cap = self._cap_in_use(now, per_second)
            earliest = max(now, self._held_until)
            begin = max(self._next_query, earliest - BURST_SECONDS)
            gap = 1 / (cap * self._share_at(now))
            go_at = max(begin, earliest)
            if go_at - now >= patience:
                return None
            if go_at > now and gap < TOGETHER_SECONDS:
                together = max(self._moment(self._tick(go_at)), go_at)
                go_at = together if together - now < patience else go_at
            wait = go_at - now
            self._next_query = begin + gap
            return wait

    def give_back(self) -> None:
        """A turn that was taken is not used."""
        with self._lock.own:
            self._next_query -= 1 / self._cap

    def _tick(self, earliest: float) -> int:
        return math.ceil((earliest - self._phase) / TOGETHER_SECONDS - ROUNDING)

    def _moment(self, tick: int) -> float:
        return tick * TOGETHER_SECONDS + self._phase

    def _cap_in_use(self, now: float, per_second: float) -> float:
        self._caps[per_second] = now
        self._cap = per_second if len(self._caps) == 1 else self._lowest_cap(now)
        return self._cap

    def _lowest_cap(self, now: float) -> float:
        in_use = {cap: at for cap, at in self._caps.items() if at > now - CAP_IN_USE_SECONDS}
        lowest = min(in_use)
        self._caps = in_use if len(in_use) <= CAPS_KEPT else {lowest: in_use[lowest]}
        return lowest

    def held(self, now: float) -> float:
        """Seconds for which nothing is to be sent at all, a create neither."""
        with self._lock.own:
            left = self._held_until - now
        return left if left > CALM_SECONDS else 0.0

    def create_turn(self, now: float, dice: float) -> float:
        """Take a create's turn: 0 if it may go now, else seconds after which to ask again.

        Args:
            now: What the clock says.
            dice: A random number in [0, 1), so that those who wait do not all ask at once.
        """
        with self._lock.own:
            if self._creates_per_second == math.inf or self._is_over(now):
                left = max(self._held_until, self._creates_held_until) - now
                return left if left > CALM_SECONDS else 0.0
            gap = 1 / self._creates_per_second
            begin = max(self._next_create, self._held_until, self._creates_held_until)
            if begin - now > CALM_SECONDS:
                others = max(self._creates_waiting - 1, 0)
                return begin - now + dice * min(others * gap, CREATES_ASK_WITHIN_SECONDS)
            # A turn that was fetched late is not lost, but turns are not saved up either.
            self._next_create = max(begin, now - max(CREATES_BURST_SECONDS, gap)) + gap
            return 0.0

    def wait_with_create(self, by: int) -> None:
        """So many more creates wait for their turn, or fewer if negative."""
        with self._lock.own:
            self._creates_waiting += by

    def hold_creates(self, now: float, seconds: float) -> None:
        """Let no create go out for so long, without a complaint: queries go on as before."""
        with self._lock.own:
            self._creates_held_until = max(self._creates_held_until, now + seconds)

    def create_out(self, by: int) -> None:
        """So many more creates are out and not answered yet, or fewer if negative."""
        with self._lock.own:
            self._creates_out += by

    @property
    def creates_out(self) -> int:
        """How many creates have been handed over to be sent, and are not answered yet."""
        with self._lock.own:
            return self._creates_out

    def create_passed(self, now: float) -> None:
        """The service did not complain about a create: those that wait may go faster."""
        with self._lock.own:
            if now >= self._second_ends:
                self._passed_before = self._passed if now < self._second_ends + 1.0 else 0
                self._passed, self._second_ends = 0, now + 1.0
            self._passed += 1
            if self._creates_waiting and self._creates_per_second != math.inf:
                more = 1.0  # for each that passes: so it doubles in less than a second
                if self._creates_per_second >= self._proven_speed:
                    by_and_by = self._proven_speed / CREATES_DOUBLE_IN_SECONDS
                    more = by_and_by / self._creates_per_second
                self._creates_per_second += more

    def create_refused(self, now: float, seconds: float, sent: float) -> None:
        """The service said of a create that was sent then: too many. Otherwise as ``slow_down``."""
        self.slow_down(now, seconds)
        with self._lock.own:
            if sent <= self._complained_at:
                return  # it went out at the speed of before
            self._complained_at = now
            passed = 0 if now >= self._second_ends + 1.0 else max(self._passed, self._passed_before)
            slower = passed * PASSED_SHARE
            if self._creates_per_second == math.inf:
                self._creates_per_second = max(slower, CREATES_PER_SECOND_FIRST)
            else:
                slower = min(slower, self._creates_per_second * PASSED_SHARE)
                half = self._creates_per_second * SLOWER_BY
                self._creates_per_second = max(slower, half, CREATES_PER_SECOND_MIN)
                self._proven_speed = self._creates_per_second

    def _is_over(self, now: float) -> bool:
        calm_since = max(self._complained_at, self._held_until)
        if self._creates_waiting or now < calm_since + RECOVERY_SECONDS:
            return False
        self._creates_per_second = self._proven_speed = math.inf
        return True

    def slow_down(self, now: float, seconds: float) -> None:
        """The service said: too much. Hold everything for so long, and go on at half the speed."""
        with self._lock.own:
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
    return Pace(os.getpid() % PHASES * TOGETHER_SECONDS / PHASES)


if hasattr(os, "register_at_fork"):
    # The parent's threads, which may wait for a turn, are not the child's.
    os.register_at_fork(after_in_child=pace_of.cache_clear)
