"""Knows every way in which a call can be made to go wrong, and which call is next to suffer.

It must not know how a fault is carried out.
"""

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

FaultOn: TypeAlias = Literal["create", "query", "image"]

_API_KINDS: Final = (
    "none",
    "drop_before",
    "drop_after",
    "rate_limited",
    "error",
    "html",
    "truncated",
    "empty",
    "slow",
    "stall",
    "code_3000",
    "refuse",
    "redirect",
)
_CREATE_KINDS: Final = (
    "hold",
    "no_id",
    "job_fails",
    "job_fails_unrefunded",
    "job_never_ends",
    "no_images",
    "fewer_images",
)
_IMAGE_KINDS: Final = (
    "none",
    "drop_before",
    "html",
    "error",
    "empty",
    "truncated",
    "slow",
    "stall",
    "endless",
    "redirect",
    "wrong_type",
)

KINDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "create": (*_API_KINDS, *_CREATE_KINDS),
        "query": (*_API_KINDS, "status_word"),
        "image": _IMAGE_KINDS,
    }
)
"""The kinds of fault that each call can suffer."""

_DEFAULT_STATUS: Final[Mapping[str, int]] = MappingProxyType({"error": 503, "redirect": 307})
_DEFAULT_INFO: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rate_limited": "too many requests",
        "error": "internal error",
        "code_3000": "upstream unstable, please retry",
        "refuse": "refused",
        "job_fails": "generation failed",
        "job_fails_unrefunded": "generation failed",
    }
)
_NO_EFFECT: Final = frozenset({"drop_before", "rate_limited", "code_3000", "refuse", "redirect"})
_ACCEPTED_MATTERS: Final = frozenset({"error", "html", "truncated", "empty", "stall", "no_id"})
_STATUS_MIN: Final = 200
_STATUS_MAX: Final = 599


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, for the next `times` calls of its kind of call.

    On create and query:

    - `none`: the call goes through, which puts a healthy call between two faults
    - `drop_before`: the connection is aborted before the call has any effect
    - `drop_after`: the call has its effect (job made and charged), then the connection is aborted
    - `rate_limited`: HTTP 429, with `retry_after` as the header if given; no effect
    - `error`: HTTP `status` (503 unless given) with `{code, info}`
    - `html`: a proxy's HTML page, with HTTP `status` (200 unless given)
    - `truncated`: HTTP 200 and a JSON body cut in half, its content length true to the cut
    - `empty`: HTTP 200 without a body
    - `slow`: the right answer, its body dripping over `seconds`
    - `stall`: no answer until the client gives up or the sandbox stops
    - `code_3000`: HTTP 200 with `code` 3000; no effect
    - `refuse`: HTTP `status` (200 unless given) with `{code, info}`; no effect
    - `redirect`: HTTP 307 (or `status`) to another path of the sandbox; no effect

    On create also:

    - `hold`: accepted at once, the answer held back for `seconds`
    - `no_id`: accepted, but the answer names no job
    - `job_fails`: the job ends as failed, refunded, with `info` as its error
    - `job_fails_unrefunded`: the same without the refund
    - `job_never_ends`: it stays running (until `Sandbox.finish`)
    - `no_images`, `fewer_images`: it succeeds with none, or with `count` images

    On query also: `status_word`, the record's status is the text `word` for that call.

    On image: `none`, `drop_before`, `html`, `error`, `empty`, `slow`, `stall` and `redirect` (to
    the URL in `info`) as above; `truncated` (the content length promises more than is sent),
    `endless` (a body without end, until the client leaves) and `wrong_type` (JSON in a body
    declared as PNG).

    Attributes:
        on: The call that suffers it.
        kind: What goes wrong.
        times: For how many calls.
        seconds: For `slow` and `hold`.
        status: The HTTP status of `error`, `html`, `refuse` and `redirect`.
        retry_after: The `Retry-After` header of `rate_limited`: seconds or an HTTP date.
        accepted: Whether a create that gets no proper answer was accepted, and charged, all the
            same (`error`, `html`, `truncated`, `empty`, `stall`, `no_id`).
        code: The `code` of `error` and `refuse`.
        info: The text of a refusal, the error of a failed job, the target of an image redirect.
        word: The status of `status_word`.
        count: The number of images of `fewer_images`.
    """

    on: FaultOn
    kind: str
    times: int = 1
    seconds: float = 0.0
    status: int | None = None
    retry_after: str | None = None
    accepted: bool = True
    code: int = 1
    info: str | None = None
    word: str = "processing"
    count: int = 0

    def __post_init__(self) -> None:
        """Refuse what could only be a mistake in a test's script."""
        if self.on not in KINDS:
            msg = f"on={self.on!r}: a fault is on one of {', '.join(KINDS)}"
            raise ValueError(msg)
        if self.kind not in KINDS[self.on]:
            msg = f"kind={self.kind!r}: on {self.on} it is one of {', '.join(KINDS[self.on])}"
            raise ValueError(msg)
        if self.times < 1:
            msg = f"times={self.times}: at least 1"
            raise ValueError(msg)
        if not self.seconds >= 0:
            msg = f"seconds={self.seconds}: not below 0"
            raise ValueError(msg)
        if self.status is not None and not _STATUS_MIN <= self.status <= _STATUS_MAX:
            msg = f"status={self.status}: {_STATUS_MIN} to {_STATUS_MAX}"
            raise ValueError(msg)

    @property
    def http_status(self) -> int:
        """`status`, or what this kind answers with when it is not given."""
        return self.status if self.status is not None else _DEFAULT_STATUS.get(self.kind, 200)

    @property
    def text(self) -> str:
        """`info`, or this kind's own text when it is not given."""
        return self.info if self.info is not None else _DEFAULT_INFO.get(self.kind, "")

    @property
    def takes_effect(self) -> bool:
        """Whether the call does its work: a job made and charged, a record read."""
        if self.kind in _NO_EFFECT:
            return False
        return self.accepted or self.kind not in _ACCEPTED_MATTERS


class FaultQueues:
    """The faults still to come, one queue for each kind of call; safe across threads."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        """Queue these faults, in order."""
        self._lock = threading.Lock()
        self._queues: dict[str, deque[Fault]] = {on: deque() for on in KINDS}
        self.add(*faults)

    def add(self, *faults: Fault) -> None:
        """Queue more faults behind those already waiting."""
        with self._lock:
            for fault in faults:
                self._queues[fault.on].append(fault)

    def take(self, on: FaultOn) -> Fault:
        """The next fault of that queue, `none` if it is empty."""
        with self._lock:
            queue = self._queues[on]
            if not queue:
                return _HEALTHY[on]
            fault = queue.popleft()
            if fault.times > 1:
                queue.appendleft(replace(fault, times=fault.times - 1))
            return fault


_HEALTHY: Final[Mapping[FaultOn, Fault]] = MappingProxyType(
    {
        "create": Fault("create", "none"),
        "query": Fault("query", "none"),
        "image": Fault("image", "none"),
    }
)
