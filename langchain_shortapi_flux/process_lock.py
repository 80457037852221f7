"""A lock that no other process can have left locked. It knows processes, and not what it guards."""

from __future__ import annotations

import os
import threading
from weakref import WeakSet


class ProcessLock:
    """A reentrant lock, of which a forked process has its own.

    One that a thread held while another forked would never be free in the child: that thread is not
    there. Reentrant, for garbage collection may close a flow, which then gives back what it held,
    in the middle of another call of the same thread.

    Attributes:
        own: This process's lock, to be asked for anew for each ``with``.
    """

    __slots__ = ("__weakref__", "own")

    def __init__(self) -> None:
        self.own = threading.RLock()
        _locks.add(self)


_locks: WeakSet[ProcessLock] = WeakSet()


def _begin_anew() -> None:
    for lock in _locks:
        lock.own = threading.RLock()


if hasattr(os, "register_at_fork"):
    # Not by asking which process this is: a call to the system, several of them for each query.
    os.register_at_fork(after_in_child=_begin_anew)
