"""What was bought under which key, and who keeps that: the acts, an entry, and memory.

A key stands for one purchase: who comes with the same key gets the same job. It knows nothing of
when to claim or what to do with what it finds; that is the flow's business. Times are Unix seconds
and are passed in.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from langchain_shortapi_flux.leave_taking import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_shortapi_flux.job import FluxRequest

logger = logging.getLogger("langchain_shortapi_flux")

ENDED_ENTRIES_KEPT = 10_000
"""How many ended entries a ledger in memory keeps; the oldest go first."""
OPEN_ENTRIES_KEPT = 50_000
"""How many entries without an end a ledger in memory keeps before it drops old ones."""
OPEN_SECONDS_KEPT = 86_400.0
"""The age, in seconds, below which it drops none: no call waits longer than this for its job."""
NOTE_SECONDS_MIN = 1.0
"""What a note of something paid for is given, in seconds, even where its call's time is over."""

State = Literal["claimed", "unknown", "bought", "ended"]
"""Somebody is buying; somebody tried and cannot tell; a job exists; its outcome is known."""


@dataclass(frozen=True)
class Entry:
    """What a ledger knows under one key.

    Attributes:
        key: What the purchase is known by.
        digest: A hash of what was asked for; never the prompt itself.
        holder: Who claimed it: a random token for each claim.
        state: How far it got.
        claimed_at: When it was claimed, in Unix seconds.
        lease_ends: Until when the holder may still be buying, in Unix seconds.
        job_id: The service's id, once a job exists; in an ``unknown`` entry, the id that an
            unclear answer named, of which no query has said yet that there is such a job.
        outcome: How the job ended, as plain JSON types; None until then. Its ``error`` and
            ``message`` are words of the service, or say that these were not stored.
        prompt: The prompt, only where the keeper was told to store it.
    """

    key: str
    digest: str
    holder: str
    state: State
    claimed_at: float
    lease_ends: float
    job_id: str | None = None
    outcome: dict[str, Any] | None = None
    prompt: str | None = None


@dataclass(frozen=True)
class Claim:
    """The act before create: take the key, unless somebody has it.

    Attributes:
        key: What the purchase is known by.
        digest: A hash of what is asked for.
        holder: Who claims it: a random token for each claim.
        now: When, in Unix seconds.
        lease: For how many seconds the holder may be believed to be alive.
        instead_of: The holder of an entry that may be replaced, for those who were told to buy
            again; if the entry is another's by then, it stays.
        prompt: The prompt, for keepers that were told to store it.
        time_left: Seconds after which the keeper must have given up.
    """

    key: str
    digest: str
    holder: str
    now: float
    lease: float
    instead_of: str | None = None
    prompt: str | None = None
    time_left: float = math.inf

    def entry(self) -> Entry:
        """The entry that this claim makes if it is granted."""
        return Entry(
            key=self.key,
            digest=self.digest,
            holder=self.holder,
            state="claimed",
            claimed_at=self.now,
            lease_ends=self.now + self.lease,
            prompt=self.prompt,
        )


@dataclass(frozen=True)
class Bought:
    """The act right after create was accepted: this job exists under the key.

    Attributes:
        key: What the purchase is known by.
        holder: Who claimed it.
        job_id: The service's id.
        time_left: Seconds after which the keeper must have given up.
    """

    key: str
    holder: str
    job_id: str
    time_left: float = math.inf


@dataclass(frozen=True)
class Ended:
    """The act at the end.

    Attributes:
        key: What the purchase is known by.
        result: ``released``: no job was made, the key is free again; ``unknown``: nobody can tell
            whether one was; ``ended``: the job has an outcome.
        holder: Who claimed it, if that is known.
        job_id: Which job has ended; with ``unknown``, which it may be, if an answer named one.
        outcome: How it ended, as plain JSON types.
        time_left: Seconds after which the keeper must have given up.
    """

    key: str
    result: Literal["released", "unknown", "ended"]
    holder: str | None = None
    job_id: str | None = None
    outcome: dict[str, Any] | None = None
    time_left: float = math.inf


LedgerAct = Claim | Bought | Ended


class Ledger(Protocol):
    """Who keeps what was bought. Each method must be atomic, also against other processes.

    ``blocking`` says whether the methods wait for disk or network; an event loop then calls them
    in a thread. They raise what they like: before create that means that nothing is bought, after
    it the failure is logged and the job goes on. No method waits longer than ``act.time_left``,
    and each has a limit of its own as well. No thread brings another act while one of its acts is
    being performed, even where the garbage collector closes an abandoned stream in there: a lock
    that lets nobody in twice will do.

    The ``error`` and ``message`` of an outcome may repeat the prompt, in whatever spelling: who
    stores no prompts stores ``without_service_words(outcome)``.
    """

    blocking: bool

    def claim(self, claim: Claim) -> Entry:
        """Put ``claim.entry()`` under the key if it is free, or replace ``claim.instead_of``.

        An entry whose job has not ended (``bought``) is never replaced.

        Returns:
            What stands under the key now: the new entry (same holder), or the one found.
        """

    def bought(self, act: Bought) -> None:
        """Note the job's id under the key, if ``act.holder`` still holds it and it has no end."""

    def ended(self, act: Ended) -> None:
        """Note the end.

        ``released`` and ``unknown`` touch only ``act.holder``'s own claim; ``unknown`` notes
        ``act.job_id`` with it, if there is one. ``ended`` touches the entry of ``act.job_id``, or
        ``act.holder``'s own claim without a job, whose id was never noted then and is noted now;
        nothing else, as by now another job may stand under the key.
        """


@dataclass(frozen=True)
class LedgerTrouble:
    """A keeper failed to perform an act."""

    reason: str


def perform_ledger_act(
    ledger: Ledger,
    act: LedgerAct,
    asked: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Entry | LedgerTrouble | None:
    """Let the keeper perform an act; a failure of its comes back as a value.

    Args:
        ledger: The keeper.
        act: What to perform.
        asked: What ``clock`` said when the act was handed over. The seconds since then, in which
            it waited for a free thread, are taken off its ``time_left``.
        clock: Monotonic seconds.
    """
    if asked is not None:
        left = act.time_left - (clock() - asked)
        act = replace(
            act, time_left=left if isinstance(act, Claim) else max(left, NOTE_SECONDS_MIN)
        )
    try:
        # A keeper's locks need not be such as let the same thread in twice.
        return undisturbed(lambda: _perform(ledger, act))
    except Exception as error:  # noqa: BLE001 - a keeper's own errors, of whatever library
        # Its text may hold a password of the database's URL, so only its kind is told.
        return LedgerTrouble(type(error).__name__)


def _perform(ledger: Ledger, act: LedgerAct) -> Entry | None:
    match act:
        case Claim():
            return ledger.claim(act)
        case Bought():
            ledger.bought(act)
        case Ended():
            ledger.ended(act)
    return None


SERVICE_WORDS = ("error", "message")
"""The fields of an outcome that hold texts of the service."""


def without_service_words(
    outcome: dict[str, Any] | None, job_id: str | None
) -> dict[str, Any] | None:
    """An outcome with a neutral text in place of what the service said, which may be the prompt."""
    if outcome is None:
        return None
    instead = (
        f"job {job_id} {outcome.get('status', 'ended')}; what the service said of it is not "
        f"stored, query({job_id!r}) tells it"
    )
    return outcome | {name: instead for name in SERVICE_WORDS if outcome.get(name) is not None}


class MemoryLedger:
    """Keeps entries in this process, for as long as it lives. Safe across threads and loops.

    It is bounded, so that it can live in a server. Of ended entries the newest ``ended_entries``
    are kept. An entry without an end (being bought, of unknown outcome, or a job that runs or was
    left at its timeout) stands for money: such entries are kept up to ``open_entries``, and beyond
    that as long as they are younger than ``open_seconds``. Each one dropped is logged as a warning
    with its key and job id; whoever comes with its key later **buys again**. Who cannot have that
    takes a ``SqlLedger``.

    No prompt is kept. The service's words on a job are, in memory, but not in a pickle.

    Args:
        ended_entries: How many ended entries to keep; those that ended first go first.
        open_entries: How many entries without an end to keep, whatever their age.
        open_seconds: The age, in seconds since the claim, below which none of those is dropped.

    Raises:
        ValueError: One of these is negative.
    """

    blocking = False

    def __init__(
        self,
        ended_entries: int = ENDED_ENTRIES_KEPT,
        open_entries: int = OPEN_ENTRIES_KEPT,
        open_seconds: float = OPEN_SECONDS_KEPT,
    ) -> None:
        bounds = {
            "ended_entries": ended_entries,
            "open_entries": open_entries,
            "open_seconds": open_seconds,
        }
        for name, bound in bounds.items():
            if not bound >= 0:
                raise ValueError(f"{name}={bound}: 0 or more")
        self._ended_entries = ended_entries
        self._open_entries = open_entries
        self._open_seconds = open_seconds
        self._open: OrderedDict[str, Entry] = OrderedDict()
        self._ended: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.RLock()

    def claim(self, claim: Claim) -> Entry:
        """See ``Ledger``."""
        with self._lock:
            found = self._open.get(claim.key) or self._ended.get(claim.key)
            if found is not None and (found.holder != claim.instead_of or found.state == "bought"):
                return found
            self._ended.pop(claim.key, None)
            self._open.pop(claim.key, None)  # so that the oldest claim is always the first
            granted = self._open[claim.key] = replace(claim.entry(), prompt=None)
            dropped = self._drop_old(claim.now)
        for entry in dropped:
            logger.warning(
                "the ledger in memory is full and has dropped the %s entry of key %s, claimed "
                "%.0f s ago; job %s",
                entry.state,
                entry.key,
                claim.now - entry.claimed_at,
                entry.job_id or "unknown",
            )
        return granted

    def bought(self, act: Bought) -> None:
        """See ``Ledger``."""
        with self._lock:
            found = self._open.get(act.key)
            if found is not None and found.holder == act.holder:
                self._open[act.key] = replace(found, state="bought", job_id=act.job_id)

    def ended(self, act: Ended) -> None:
        """See ``Ledger``."""
        with self._lock:
            found = self._open.get(act.key)
            if found is None:
                return
            mine = found.job_id is None and found.holder == act.holder
            if act.result == "ended":
                if act.job_id is None or not (mine or found.job_id == act.job_id):
                    return
                del self._open[act.key]
                self._ended[act.key] = replace(
                    found, state="ended", job_id=act.job_id, outcome=act.outcome
                )
                while len(self._ended) > self._ended_entries:
                    self._ended.popitem(last=False)
            elif mine and act.result == "released":
                del self._open[act.key]
            elif mine:
                self._open[act.key] = replace(found, state="unknown", job_id=act.job_id)

    def _drop_old(self, now: float) -> list[Entry]:
        dropped = []
        while len(self._open) > self._open_entries:
            oldest = next(iter(self._open.values()))
            if now - oldest.claimed_at < self._open_seconds:
                break
            dropped.append(self._open.pop(oldest.key))
        return dropped

    def __copy__(self) -> MemoryLedger:
        """Copies of a Runnable share what was bought."""
        return self

    def __deepcopy__(self, _: object) -> MemoryLedger:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Another process gets a copy of the entries, and goes its own way."""
        return undisturbed(self._state)

    def _state(self) -> dict[str, Any]:
        with self._lock:
            kept = {
                "_open": self._open.copy(),
                "_ended": OrderedDict(
                    (
                        key,
                        replace(entry, outcome=without_service_words(entry.outcome, entry.job_id)),
                    )
                    for key, entry in self._ended.items()
                ),
            }
            return self.__dict__ | kept | {"_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def __len__(self) -> int:
        """How many entries there are."""
        with self._lock:
            return len(self._open) + len(self._ended)

    def __repr__(self) -> str:
        return f"MemoryLedger({len(self)} entries)"


def request_digest(base_url: str, model: str, request: FluxRequest) -> str:
    """A hash of what is asked for and of whom: equal requests, equal digests."""
    canonical = json.dumps(
        [base_url, model, request.model_dump()], sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


KEY_LENGTH_MAX = 500
"""A longer key is kept as a hash."""


def purchase_key(base_url: str, request_key: str) -> str:
    """One key for a purchase. A job of one service is never taken for a job of another."""
    key = f"{base_url} {request_key}"
    if len(key) <= KEY_LENGTH_MAX:
        return key
    return f"{base_url[:100]} sha256:{hashlib.sha256(key.encode()).hexdigest()}"
