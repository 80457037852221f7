"""What was bought under which key, and who keeps that: the acts, an entry, and memory.

A key stands for one purchase: who comes with the same key gets the same job. It knows nothing of
when to claim or what to do with what it finds; that is the flow's business. Times are Unix seconds
and are passed in.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from langchain_shortapi_flux.job import FluxRequest

ENDED_ENTRIES_KEPT = 10_000
"""How many ended entries a ledger in memory keeps; the oldest go first."""

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
        job_id: The service's id, once a job exists.
        outcome: How the job ended, as plain JSON types; None until then.
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

    ``instead_of`` names the holder of an entry that may be replaced, for those who were told to
    buy again; if the entry is another's by then, it stays.
    """

    key: str
    digest: str
    holder: str
    now: float
    lease: float
    instead_of: str | None = None
    prompt: str | None = None

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
    """The act right after create was accepted: this job exists under the key."""

    key: str
    holder: str
    job_id: str


@dataclass(frozen=True)
class Ended:
    """The act at the end.

    ``released``: no job was made, the key is free again; ``unknown``: nobody
    can tell whether one was; ``ended``: the outcome of the job with this ``job_id``.
    """

    key: str
    result: Literal["released", "unknown", "ended"]
    holder: str | None = None
    job_id: str | None = None
    outcome: dict[str, Any] | None = None


LedgerAct = Claim | Bought | Ended


class Ledger(Protocol):
    """Who keeps what was bought. Each method must be atomic, also against other processes.

    ``blocking`` says whether the methods wait for disk or network; an event loop then calls them
    in a thread. They raise what they like: before create that means that nothing is bought, after
    it the failure is logged and the job goes on.
    """

    blocking: bool

    def claim(self, claim: Claim) -> Entry:
        """Put ``claim.entry()`` under the key if it is free, or replace ``claim.instead_of``.

        An entry whose job has not ended (``bought``) is never replaced.

        Returns:
            What stands under the key now: the new entry (same holder), or the one found.
        """

    def bought(self, act: Bought) -> None:
        """Note the job's id under the key, if ``act.holder`` still holds it."""

    def ended(self, act: Ended) -> None:
        """Note the end.

        ``released`` and ``unknown`` touch only ``act.holder``'s own claim, ``ended`` only the
        entry of ``act.job_id``: by now another job may stand under the key.
        """


@dataclass(frozen=True)
class LedgerTrouble:
    """A keeper failed to perform an act."""

    reason: str


def perform_ledger_act(ledger: Ledger, act: LedgerAct) -> Entry | LedgerTrouble | None:
    """Let the keeper perform an act; a failure of its comes back as a value."""
    try:
        match act:
            case Claim():
                return ledger.claim(act)
            case Bought():
                ledger.bought(act)
            case Ended():
                ledger.ended(act)
    except Exception as error:  # noqa: BLE001 - a keeper's own errors, of whatever library
        # Its text may hold a password of the database's URL, so only its kind is told.
        return LedgerTrouble(type(error).__name__)
    return None


class MemoryLedger:
    """Keeps entries in this process, for as long as it lives. Safe across threads and loops.

    Args:
        ended_entries: How many ended entries to keep; the oldest go first. Entries of jobs that
            have not ended are never dropped.
    """

    blocking = False

    def __init__(self, ended_entries: int = ENDED_ENTRIES_KEPT) -> None:
        if ended_entries < 0:
            raise ValueError(f"ended_entries={ended_entries}: 0 or more")
        self._ended_entries = ended_entries
        self._open: dict[str, Entry] = {}
        self._ended: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, claim: Claim) -> Entry:
        """See ``Ledger``."""
        with self._lock:
            found = self._open.get(claim.key) or self._ended.get(claim.key)
            if found is not None and (found.holder != claim.instead_of or found.state == "bought"):
                return found
            self._ended.pop(claim.key, None)
            self._open[claim.key] = replace(claim.entry(), prompt=None)
            return self._open[claim.key]

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
            if act.result == "ended":
                if found.state != "bought" or found.job_id != act.job_id:
                    return
                del self._open[act.key]
                self._ended[act.key] = replace(found, state="ended", outcome=act.outcome)
                while len(self._ended) > self._ended_entries:
                    self._ended.popitem(last=False)
            elif found.holder == act.holder and found.job_id is None:
                if act.result == "released":
                    del self._open[act.key]
                else:
                    self._open[act.key] = replace(found, state="unknown")

    def __copy__(self) -> MemoryLedger:
        """Copies of a Runnable share what was bought."""
        return self

    def __deepcopy__(self, _: object) -> MemoryLedger:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Another process gets a copy of the entries, and goes its own way."""
        with self._lock:
            return (
                self.__dict__
                | {"_open": {**self._open}, "_ended": self._ended.copy()}
                | {"_lock": None}
            )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

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
