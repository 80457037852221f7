"""Buyers in processes of their own: some are killed at a given act, some race each other.

Each is forked from a server process that has the package imported already and nothing else
running, so a fresh process costs some hundredths of a second.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableConfig

from langchain_shortapi_flux import FluxJob, PollPolicy, ShortAPIError, ShortAPIFlux, SqlLedger
from langchain_shortapi_flux.ledger import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess
    from multiprocessing.synchronize import Barrier

    from langchain_shortapi_flux import Repeat
    from langchain_shortapi_flux.ledger import Bought, Ended, Entry

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "pytest",
        "psycopg",
        "langchain_shortapi_flux.purchase_flow",
        "langchain_shortapi_flux.requests_driver",
        "langchain_shortapi_flux.aiohttp_driver",
        "langchain_shortapi_flux.sql_ledger",
    ]
)
ANSWER_SECONDS_MAX = 30.0
AN_HOUR = 3600.0

forks = pytest.mark.block_network(allowed_hosts=[r"127\.0\.0\.1", r".*/pymp-"])
"""For tests that start processes: these talk over a Unix socket in a folder of this name."""


@dataclass(frozen=True)
class Errand:
    """What a buyer is sent for.

    Attributes:
        base_url: The sandbox.
        api_key: Its key.
        ledger_url: The ledger, shared with other processes.
        driver: ``requests`` or ``aiohttp``.
        keys: The request keys to buy under, all at once.
        dies: At which act, and whether ``before`` or ``after`` it; None to live on.
        lease: Seconds of a claim.
        on_unknown: As ``ShortAPIFlux.on_unknown``.
        an_hour_later: Whether the leases found in the ledger have long ended.
    """

    base_url: str
    api_key: str
    ledger_url: str
    driver: str
    keys: tuple[str, ...] = ("k",)
    dies: tuple[str, str] | None = None
    lease: float = 90.0
    on_unknown: Repeat = "raise"
    an_hour_later: bool = False


@dataclass(frozen=True)
class Report:
    """What a buyer came back with, for one key."""

    job: FluxJob | None = None
    error: ShortAPIError | None = None


class MortalLedger:
    """A ``SqlLedger`` that kills its own process before or after an act."""

    blocking = True

    def __init__(self, kept: SqlLedger, dies: tuple[str, str] | None) -> None:
        self.kept = kept
        self._dies = dies

    def claim(self, claim: Claim) -> Entry:
        self._at("claim", "before")
        found = self.kept.claim(claim)
        self._at("claim", "after")
        return found

    def bought(self, act: Bought) -> None:
        self._at("bought", "before")
        self.kept.bought(act)
        self._at("bought", "after")

    def ended(self, act: Ended) -> None:
        self._at("ended", "before")
        self.kept.ended(act)
        self._at("ended", "after")

    def _at(self, act: str, moment: str) -> None:
        if self._dies == (act, moment):
            os.kill(os.getpid(), signal.SIGKILL)


class LaterLedger(MortalLedger):
    """A ``SqlLedger`` seen an hour later: whatever lease it finds has ended long ago."""

    def claim(self, claim: Claim) -> Entry:
        found = super().claim(claim)
        if found.holder == claim.holder:
            return found
        return replace(found, lease_ends=found.lease_ends - AN_HOUR)


def run_errand(errand: Errand, answers: Connection, start: Barrier | None) -> None:
    """What a buyer's process does."""
    kept = SqlLedger(errand.ledger_url)
    kind = LaterLedger if errand.an_hour_later else MortalLedger
    flux = ShortAPIFlux(
        base_url=errand.base_url,
        api_key=errand.api_key,
        ledger=kind(kept, errand.dies),
        claim_lease=errand.lease,
        on_unknown=errand.on_unknown,
        performance="schnell",
        timeout=20.0,
        poll=PollPolicy(first_delay=0.0, gap_min=0.02, gap_max=0.05, jitter=0.0),
    )
    if start is not None:
        start.wait(ANSWER_SECONDS_MAX)
    answers.send(_reports(flux, errand))
    kept.close()


def _reports(flux: ShortAPIFlux, errand: Errand) -> list[Report]:
    inputs = [{"prompt": f"a fox, {key}", "request_key": key} for key in errand.keys]
    if errand.driver == "aiohttp":
        ends: list[Any] = asyncio.run(flux.abatch(list(inputs), return_exceptions=True))
    else:
        at_once = RunnableConfig(max_concurrency=len(inputs))
        ends = flux.batch(list(inputs), at_once, return_exceptions=True)
    return [Report(job=end) if isinstance(end, FluxJob) else Report(error=end) for end in ends]


def claim_together(urls: list[str], answers: Connection, start: Barrier) -> None:
    """For each URL, open it at the same moment as the others and claim one key."""
    held = []
    for url in urls:
        ledger = SqlLedger(url)
        start.wait(ANSWER_SECONDS_MAX)
        held.append(ledger.claim(Claim("k", "d", f"process {os.getpid()}", 0.0, 90.0)).holder)
        ledger.close()
    answers.send(held)


@contextmanager
def started(
    work: Callable[..., None], *args: object
) -> Iterator[tuple[ForkServerProcess, Connection]]:
    """A process that does ``work(args[0], answers, *args[1:])``, and the end it answers to."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=work, args=(args[0], sender, *args[1:]), daemon=True)
    process.start()
    sender.close()
    try:
        yield process, receiver
    finally:
        receiver.close()
        process.kill()
        process.join()
        process.close()


def answer_of(answers: Connection) -> Any:
    """What the process sends.

    Raises:
        EOFError: It died first.
    """
    assert answers.poll(ANSWER_SECONDS_MAX), "the process neither answers nor dies"
    return answers.recv()
