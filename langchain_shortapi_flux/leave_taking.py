"""Keeps who takes his leave from disturbing a thread that is in the middle of something.

The garbage collector closes abandoned generators on any thread, at any moment: also where that
thread holds a lock or a transaction that the generator's own leave needs. That could wait for
ever, so it comes right after. This module knows nothing of locks, jobs or ledgers.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class _Doings:
    """What one thread is about."""

    def __init__(self) -> None:
        self.busy = False
        self.later: deque[Callable[[], object]] = deque()


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.doings = _Doings()


_here = _OfThread()


def undisturbed(work: Callable[[], Result]) -> Result:
    """Do this; who takes his leave on this thread meanwhile is put off until the end of it."""
    # No context manager: Ctrl-C within its ``__enter__`` or ``__exit__`` would leave a thread busy.
    mine = _here.doings
    if mine.busy:
        return work()
    mine.busy = True
    try:
        return work()
    finally:
        mine.busy = False
        # Looked at only now: whoever came until then is in there, whoever comes now goes at once.
        _let_go(mine)


def _let_go(mine: _Doings) -> None:
    """All who were put off, in their order, also where one is interrupted."""
    while mine.later:
        mine.busy = True
        try:
            mine.later.popleft()()
        except BaseException:
            mine.busy = False
            _let_go(mine)
            raise
        mine.busy = False


def take_leave(work: Callable[[], object]) -> None:
    """Do this at once; on a thread that is to be ``undisturbed``, as soon as it no longer is.

    ``work`` should raise nothing: whom it would reach then is anybody's guess.
    """
    if _here.doings.busy:
        _here.doings.later.append(work)
    else:
        work()
