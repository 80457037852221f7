"""Knows which calls came in.

It must not know the key: what it keeps is shown to tests, notebooks and people.
"""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

CallOn: TypeAlias = Literal["create", "query", "image", "other"]

CALLS_KEPT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call as it arrived.

    Attributes:
        on: Which call it was.
        method: Its HTTP method.
        path_qs: Its path and query string.
        at: When it arrived, on `time.monotonic`, in seconds.
        header_names: The names of its headers; never a value.
        authorized: Whether it brought the right key.
        body: What create sent; empty for every other call.
    """

    on: CallOn
    method: str
    path_qs: str
    at: float
    header_names: tuple[str, ...]
    authorized: bool
    body: bytes


class CallLog:
    """The latest calls; safe across threads."""

    def __init__(self, limit: int = CALLS_KEPT) -> None:
        """Keep the last `limit` calls."""
        self._calls: deque[Call] = deque(maxlen=limit)
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        """Keep one more call, dropping the oldest if need be."""
        with self._lock:
            self._calls.append(call)

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls kept, oldest first."""
        with self._lock:
            return tuple(self._calls)
