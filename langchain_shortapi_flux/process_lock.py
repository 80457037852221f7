"""A lock that no other process can have left locked. It knows processes, and not what it guards."""

from __future__ import annotations

import os
import threading


class ProcessLock:
    """A reentrant lock, of which a forked process has its own.

    One that a thread held while another forked would never be free in the child: that thread is not
    there. Reentrant, for garbage collection may close a flow, which then gives back what it held,
    in the middle of another call of the same thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._process = os.getpid()

    @property
    def own(self) -> threading.RLock:
        """This process's lock, for one ``with``."""
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.RLock()
        return self._lock
